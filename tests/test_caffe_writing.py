"""Writing binary Caffe files: into the structure they came with, into a prototxt's, or from names alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_oracle import blob, conv, legacy_blob, net_file, parsed, plain, values
from conftest import shared_folder

import porter
from porter.dtypes import DTYPES
from porter.errors import FormatError, LossError, UsageError
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

_folder = shared_folder()
REAL = sorted(str(p.relative_to(_folder / "real")) for p in (_folder / "real").rglob("*.caffemodel")) if _folder else []


def array(name: str, *shape: int, dtype: str = "<f4", **spec: Any) -> Tensor:
    return Tensor.from_array(name, np.arange(1, int(np.prod(shape)) + 1).astype(dtype).reshape(shape), **spec)


def text_net(folder: Path, text: str) -> Path:
    path = folder / "deploy.prototxt"
    path.write_text(text)
    return path


def described(store: TensorStore) -> list[tuple[Any, ...]]:
    return [(t.name, t.dtype, t.shape, t.axes, t.role, dict(t.attributes)) for t in store.values()]


@pytest.mark.parametrize("name", REAL or ["(none)"])
def test_real_files_come_back_byte_for_byte(shared: Path, name: str, tmp_path: Path) -> None:
    """In the generation that they were in, also by way of safetensors."""
    path = shared / "real" / name
    store = porter.open(path)
    assert store.source is not None
    generation = f"caffe:{store.source.dialect}"
    report = porter.save(store, tmp_path / "a.caffemodel", generation)
    assert (tmp_path / "a.caffemodel").read_bytes() == path.read_bytes()
    assert not report.losses
    assert not report.notices
    porter.save(store, tmp_path / "b.safetensors")
    porter.save(porter.open(tmp_path / "b.safetensors"), tmp_path / "b.caffemodel", generation)
    assert (tmp_path / "b.caffemodel").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "message",
    [
        lambda: blob((3,)),
        lambda: blob(()),
        lambda: legacy_blob((1, 3, 1, 1)),
        lambda: plain()["BlobProto"](data=[1.0, 2.0]),
        lambda: plain()["BlobProto"](double_data=[1.0, 2.0, 3.0], shape={"dim": [3]}),
        lambda: plain()["BlobProto"](raw_data=b"\0\x3c\0\x40", raw_data_type=2, shape={"dim": [2]}),
        lambda: plain()["BlobProto"](raw_data=b"\1\0\0\0\2\0\0\0", raw_data_type=3, shape={"dim": [2]}),
        lambda: plain()["BlobProto"](shape={"dim": [0, 3]}),
        lambda: plain()["BlobProto"](shape={"dim": [5]}),
    ],
    ids=["plain", "scalar", "legacy", "shapeless", "double", "half", "int", "empty", "no-values"],
)
def test_blobs_come_back_as_they_were(tmp_path: Path, message: Any) -> None:
    layer = plain()["LayerParameter"](name="x", type="MyFork", blobs=[message(), blob((1,)), message()], fork="ours")
    path = net_file(tmp_path, layer=[conv("c", blob((1, 1, 1, 1)), param=[{"lr_mult": 2}]), layer])
    porter.save(porter.open(path), tmp_path / "b.safetensors")
    porter.save(porter.open(tmp_path / "b.safetensors"), tmp_path / "b.caffemodel")
    assert (tmp_path / "b.caffemodel").read_bytes() == path.read_bytes()


def test_unpacked_values_come_back_unpacked(tmp_path: Path) -> None:
    message = plain()["UnpackedBlob"](data=np.arange(3000, dtype=np.float32), shape={"dim": [3000]})
    layer = plain()["LayerParameter"](name="x", type="Bias").SerializeToString() + b"\x3a" + _size(message) + message.SerializeToString()
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"\xa2\x06" + _varint(len(layer)) + layer)
    porter.save(porter.open(path), tmp_path / "b.caffemodel")
    assert (tmp_path / "b.caffemodel").read_bytes() == path.read_bytes()


def _size(message: Any) -> bytes:
    return _varint(message.ByteSize())


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


GOLDEN = (
    b"\xa2\x06\x1c"  # layer
    b"\x0a\x02fc"  # name
    b"\x3a\x16"  # blobs
    b"\x2a\x0c\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40"  # data: 1, 2, 3
    b"\x3a\x06\x0a\x04\x01\x03\x01\x01"  # shape: 1, 3, 1, 1
)


def test_golden_bytes(tmp_path: Path) -> None:
    attributes = {"caffe.layer": "fc", "caffe.blob": 0}
    store = TensorStore([array("fc.blob0", 1, 3, 1, 1, role="blob0", attributes=attributes)])
    porter.save(store, tmp_path / "a.caffemodel")
    assert (tmp_path / "a.caffemodel").read_bytes() == GOLDEN


def test_names_alone(tmp_path: Path) -> None:
    """Layers by what stands before the last dot, weights first; porter's own field gives back the names."""
    store = TensorStore(
        [array("a.bias", 2), array("b.0.running_mean", 3), array("a.weight", 2, 2), array("b.0.weight", 3), array("lone", 1)]
    )
    report = porter.save(store, tmp_path / "a.caffemodel")
    assert [(layer.name, layer.type, [values(b).size for b in layer.blobs]) for layer in parsed(tmp_path / "a.caffemodel").layer] == [
        ("a", "", [4, 2]),
        ("b.0", "", [3, 3]),
        ("lone", "", [1]),
    ]
    assert "3 layers ('a', 'b.0', 'lone') have no known type" in report.notices[0].message
    back = porter.open(tmp_path / "a.caffemodel")
    assert described(back) == described(store)
    assert not back.notices
    assert not report.losses


def test_written_again_and_again(tmp_path: Path) -> None:
    """The names that porter's field keeps survive a second round, in which the net is there already."""
    store = TensorStore([array("a.bias", 2), array("b.running_mean", 3), array("a.weight", 2, 2), array("a.b.c", 1)])
    porter.save(store, tmp_path / "a.caffemodel")
    porter.save(porter.open(tmp_path / "a.caffemodel"), tmp_path / "b.caffemodel")
    assert (tmp_path / "b.caffemodel").read_bytes() == (tmp_path / "a.caffemodel").read_bytes()
    assert described(porter.open(tmp_path / "b.caffemodel")) == described(store)


NET = """
name: "given"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 4 } }
"""


def test_a_prototxt_gives_structure(tmp_path: Path) -> None:
    store = TensorStore(
        [
            array("bn.scale_factor", 1),
            array("c.bias", 2),
            array("c.weight", 2, 2, 1, 1),
            array("bn.variance", 2),
            array("bn.mean", 2),
            array("head.weight", 5),
        ]
    )
    report = porter.save(store, tmp_path / "a.caffemodel", net=str(text_net(tmp_path, NET)))
    net = parsed(tmp_path / "a.caffemodel")
    assert [(layer.name, layer.type) for layer in net.layer] == [
        ("data", "Input"),
        ("c", "Convolution"),
        ("bn", "BatchNorm"),
        ("relu", "ReLU"),
        ("fc", "InnerProduct"),
        ("head", ""),
    ]
    assert net.layer[1].convolution_param.num_output == 2
    assert [list(b.shape.dim) for b in net.layer[1].blobs] == [[2, 2, 1, 1], [2]]
    assert [list(b.shape.dim) for b in net.layer[2].blobs] == [[2], [2], [1]]
    said = " | ".join(n.message for n in report.notices)
    assert "layer 'head' has no place in the net" in said
    assert "layer 'fc' has no weights among the tensors" in said
    assert described(porter.open(tmp_path / "a.caffemodel")) == described(store)


@pytest.mark.parametrize("role", ["running_mean", "kernel", "weight2"])
def test_a_role_that_the_layer_lacks_is_refused(tmp_path: Path, role: str) -> None:
    store = TensorStore([array("c.weight", 2, 2, 1, 1), array(f"c.{role}", 2)])
    with pytest.raises(LossError, match="is a Convolution, whose blobs are weight, bias") as caught:
        porter.save(store, tmp_path / "a.caffemodel", net=str(text_net(tmp_path, NET)))
    assert caught.value.code == "L103"
    assert caught.value.where.tensor == f"c.{role}"
    assert "--net" in (caught.value.hint or "")
    assert not (tmp_path / "a.caffemodel").exists()


def test_a_role_that_the_own_net_lacks_is_refused(tmp_path: Path) -> None:
    source = porter.open(net_file(tmp_path, layer=[conv("c", blob((2, 1, 1, 1)), blob((2,)))]))
    source.add(array("c.scale", 2))
    with pytest.raises(LossError, match="'scale' has no place") as caught:
        porter.save(source, tmp_path / "a.caffemodel")
    assert caught.value.where.tensor == "c.scale"


def test_types_in_attributes_give_structure(tmp_path: Path) -> None:
    """As after formats that keep attributes and no attachments."""
    source = porter.open(net_file(tmp_path, layer=[conv("c", blob((2, 1, 1, 1)), blob((2,)))]))
    source.attachments.clear()
    porter.save(source, tmp_path / "a.caffemodel")
    (layer,) = parsed(tmp_path / "a.caffemodel").layer
    assert (layer.name, layer.type, len(layer.blobs)) == ("c", "Convolution", 2)


def test_renamed_tensors_go_where_their_names_say(tmp_path: Path) -> None:
    source = porter.open(net_file(tmp_path, layer=[conv("a", blob((2, 1, 1, 1))), conv("b", blob((3, 1, 1, 1)))]))
    swapped = TensorStore([source["a.weight"].with_spec(name="b.weight"), source["b.weight"].with_spec(name="a.weight")])
    swapped.attachments.update(source.attachments)
    porter.save(swapped, tmp_path / "out.caffemodel")
    net = parsed(tmp_path / "out.caffemodel")
    assert [(layer.name, len(values(layer.blobs[0]))) for layer in net.layer] == [("a", 3), ("b", 2)]


def bn_net(folder: Path) -> TensorStore:
    return porter.open(
        net_file(
            folder,
            layer=[
                plain()["LayerParameter"](
                    name="c", type="Convolution", convolution_param={"num_output": 2}, blobs=[blob((2, 1, 1, 1)), blob((2,))]
                ),
                plain()["LayerParameter"](name="bn", type="BatchNorm", blobs=[blob((2,)), blob((2,)), blob((1,))]),
            ],
        )
    )


def changed(source: TensorStore, change: Callable[[Tensor], Tensor | None]) -> TensorStore:
    """The store that a user makes of `source` in Python, who keeps what came with it."""
    store = TensorStore(t for old in source.values() if (t := change(old)) is not None)
    store.attachments.update(source.attachments)
    return store


def test_what_was_read_is_written_without_remarks(tmp_path: Path) -> None:
    assert porter.save(bn_net(tmp_path), tmp_path / "out.caffemodel").notices == ()


@pytest.mark.parametrize("name", ["c.weight", "c.bias", "bn.mean", "bn.variance", "bn.scale_factor"])
def test_a_tensor_with_nothing_but_a_name_takes_the_place_of_the_old_one(name: str, tmp_path: Path) -> None:
    source = bn_net(tmp_path)
    new = Tensor.from_array(name, source[name].numpy() + 40)
    source.replace(new)
    assert porter.save(source, tmp_path / "out.caffemodel").notices == ()
    back = porter.open(tmp_path / "out.caffemodel")
    assert list(back) == list(source)
    assert back[name].tobytes() == new.tobytes()
    blobs = [values(b).tolist() for layer in parsed(tmp_path / "out.caffemodel").layer for b in layer.blobs]
    assert blobs == [t.numpy().reshape(-1).tolist() for t in source.values()]


def test_a_renamed_layer_keeps_its_type_and_order(tmp_path: Path) -> None:
    source = bn_net(tmp_path)
    renamed = changed(source, lambda t: t.with_spec(name=t.name.replace("bn.", "norm.")))
    mixed = TensorStore(reversed(list(renamed.values())))
    mixed.attachments.update(source.attachments)
    report = porter.save(mixed, tmp_path / "out.caffemodel")
    layers = parsed(tmp_path / "out.caffemodel").layer
    assert [(layer.name, layer.type, len(layer.blobs)) for layer in layers] == [
        ("c", "Convolution", 2),
        ("bn", "BatchNorm", 0),
        ("norm", "BatchNorm", 3),
    ]
    assert [values(b).size for b in layers[2].blobs] == [2, 2, 1]
    assert [n.message.split(" has ")[0] for n in report.notices] == ["layer 'norm'", "layer 'bn'"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: None if t.name == "c.weight" else t, "layer 'c' has an empty blob where a tensor is missing"),
        (lambda t: None if t.name == "c.bias" else t, "layer 'c' has no bias and no 'bias_term: false'"),
        (lambda t: None if t.name[0] == "c" else t, "layer 'c' has no weights among the tensors"),
        (
            lambda t: array("c.weight", 3, 1, 1, 1) if t.name == "c.weight" else t,
            "layer 'c' has num_output 2 and a weight of shape [3, 1, 1, 1]",
        ),
        (
            lambda t: t.with_spec(shape=(2,), axes=None) if t.name == "c.weight" else t,
            "layer 'c' has num_output 2 and a weight of shape [2]",
        ),
        (lambda t: t.with_spec(name="c2" + t.name[1:]) if t.name[0] == "c" else t, "layer 'c2' has no place in the net that the weights"),
    ],
)
def test_what_no_longer_fits_the_net_that_came_along_is_said(change: Any, said: str, tmp_path: Path) -> None:
    store = changed(bn_net(tmp_path), change)
    report = porter.save(store, tmp_path / "out.caffemodel")
    assert said in " | ".join(n.message for n in report.notices)
    back = porter.open(tmp_path / "out.caffemodel")
    assert {t.name: (t.shape, t.tobytes()) for t in back.values()} == {t.name: (t.shape, t.tobytes()) for t in store.values()}


def test_a_dropped_tensor_leaves_an_empty_blob(tmp_path: Path) -> None:
    source = porter.open(net_file(tmp_path, layer=[conv("c", blob((2, 1, 1, 1)), blob((2,)))]))
    kept = TensorStore([source["c.bias"]])
    kept.attachments.update(source.attachments)
    porter.save(kept, tmp_path / "out.caffemodel")
    (layer,) = parsed(tmp_path / "out.caffemodel").layer
    assert [values(b).size for b in layer.blobs] == [0, 2]
    assert list(porter.open(tmp_path / "out.caffemodel")) == ["c.bias"]


def test_layers_of_one_name_keep_their_places(tmp_path: Path) -> None:
    path = net_file(tmp_path, layer=[conv("c", blob((1, 1, 1, 1))), conv("c"), conv("c", blob((2, 1, 1, 1)))])
    porter.save(porter.open(path), tmp_path / "b.caffemodel")
    assert (tmp_path / "b.caffemodel").read_bytes() == path.read_bytes()


def v1_file(folder: Path) -> Path:
    layers = [
        plain()["V1LayerParameter"](name="data", type=5, top=["data"]),
        plain()["V1LayerParameter"](
            name="c",
            type=4,
            bottom=["data"],
            top=["c"],
            blobs=[legacy_blob((2, 1, 1, 1)), legacy_blob((1, 1, 1, 2))],
            blobs_lr=[1, 2],
            weight_decay=[1, 0],
            param=["w"],
            convolution_param={"num_output": 2, "kernel_size": [1]},
        ),
    ]
    return net_file(folder, layers=layers)


def test_v1_becomes_v2(tmp_path: Path) -> None:
    report = porter.save(porter.open(v1_file(tmp_path)), tmp_path / "b.caffemodel")
    net = parsed(tmp_path / "b.caffemodel")
    assert not net.layers
    layer = net.layer[1]
    assert (layer.name, layer.type, list(layer.bottom), list(layer.top)) == ("c", "Convolution", ["data"], ["c"])
    assert [(p.name, p.lr_mult, p.decay_mult) for p in layer.param] == [("w", 1, 1), ("", 2, 0)]
    assert (layer.convolution_param.num_output, list(layer.convolution_param.kernel_size)) == (2, [1])
    assert [(b.num, b.width) for b in layer.blobs] == [(2, 1), (1, 2)]
    assert [loss.kind for loss in report.losses] == ["attachment"]
    assert described(porter.open(tmp_path / "b.caffemodel")) == described(porter.open(v1_file(tmp_path)))


def test_v2_becomes_v1_and_back(tmp_path: Path) -> None:
    source = porter.open(v1_file(tmp_path))
    porter.save(source, tmp_path / "two.caffemodel")
    porter.save(porter.open(tmp_path / "two.caffemodel"), tmp_path / "one.caffemodel", "caffe:v1")
    assert (tmp_path / "one.caffemodel").read_bytes() == v1_file(tmp_path).read_bytes()


def test_v1_lacks_newer_layers(tmp_path: Path) -> None:
    layer = plain()["LayerParameter"](name="p", type="PReLU", blobs=[blob((2,))])
    with pytest.raises(LossError, match="'p' is a PReLU, which V1 does not have"):
        porter.save(porter.open(net_file(tmp_path, layer=[layer])), tmp_path / "b.caffemodel", "caffe:v1")


def test_v0_becomes_v2(tmp_path: Path) -> None:
    def layer(kind: str, name: str, bottom: str, top: str, **more: Any) -> Any:
        return plain()["V1LayerParameter"](layer=plain()["V0LayerParameter"](name=name, type=kind, **more), bottom=[bottom], top=[top])

    path = net_file(
        tmp_path,
        layers=[
            layer("conv", "c", "data", "c", num_output=2, kernelsize=1, blobs=[legacy_blob((2, 1, 1, 1)), legacy_blob((1, 1, 1, 2))]),
            layer("innerproduct", "fc", "c", "fc", num_output=3, blobs=[legacy_blob((1, 1, 3, 2))]),
        ],
    )
    source = porter.open(path)
    report = porter.save(source, tmp_path / "b.caffemodel")
    net = parsed(tmp_path / "b.caffemodel")
    assert [(n.name, n.type, list(n.bottom), len(n.blobs)) for n in net.layer] == [
        ("c", "Convolution", ["data"], 2),
        ("fc", "InnerProduct", ["c"], 1),
    ]
    assert (net.layer[0].convolution_param.num_output, list(net.layer[0].convolution_param.kernel_size)) == (2, [1])
    assert [loss.kind for loss in report.losses] == ["attachment"]
    assert described(porter.open(tmp_path / "b.caffemodel")) == described(source)


@pytest.mark.parametrize("dialect", ["v0", "mixed", "prototxt"])
def test_dialects_that_are_only_read(tmp_path: Path, dialect: str) -> None:
    with pytest.raises(UsageError, match="does not write"):
        porter.save(TensorStore([array("a.weight", 1)]), tmp_path / "x", f"caffe:{dialect}")


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e5m2", "float8_e4m3fn", "float4_e2m1fn"])
def test_small_floats_widen(tmp_path: Path, name: str) -> None:
    dtype = DTYPES[name]
    codes = np.arange(1 << min(dtype.bits, 12), dtype=np.uint16 if dtype.bits == 16 else np.uint8)
    tensor = Tensor.from_array("a.weight", codes.view(dtype.numpy()))
    report = porter.save(TensorStore([tensor]), tmp_path / "a.caffemodel")
    with np.errstate(all="ignore"):
        expected = codes.view(dtype.numpy()).astype(np.float32)
    np.testing.assert_array_equal(porter.open(tmp_path / "a.caffemodel")["a.weight"].numpy(), expected)
    assert [(loss.kind, loss.tensors) for loss in report.losses] == [("dtype", ("a.weight",))]


def test_integers_cast(tmp_path: Path) -> None:
    store = TensorStore([array("a.weight", 3), array("a.num_batches_tracked", 1, dtype="<i8"), array("a.mask", 2, dtype="?")])
    report = porter.save(store, tmp_path / "a.caffemodel")
    back = porter.open(tmp_path / "a.caffemodel")
    assert back["a.num_batches_tracked"].numpy().tolist() == [1.0]
    assert {t.dtype.name for t in back.values()} == {"float32"}
    assert {name for loss in report.losses for name in loss.tensors} == {"a.num_batches_tracked", "a.mask"}


def test_integers_drop(tmp_path: Path) -> None:
    store = TensorStore([array("a.weight", 3), array("a.count", 1, dtype="<i8")])
    store.tie(store["a.count"].with_spec(name="b.count"), "a.count")
    report = porter.save(store, tmp_path / "a.caffemodel", ints="drop")
    assert list(porter.open(tmp_path / "a.caffemodel")) == ["a.weight"]
    assert [(loss.kind, loss.tensors) for loss in report.losses] == [("tensor", ("a.count", "b.count"))]


def test_integers_error(tmp_path: Path) -> None:
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([array("a.count", 1, dtype="<i8")]), tmp_path / "a.caffemodel", ints="error")
    assert caught.value.code == "L101"


@pytest.mark.parametrize(
    ("value", "dtype"),
    [((1 << 24) + 1, "<i8"), ((1 << 63) - 1, "<i8"), ((1 << 64) - 1, "<u8"), (-(1 << 24) - 1, "<i4"), ((1 << 32) - 1, "<u4")],
)
def test_integers_that_would_be_rounded(tmp_path: Path, value: int, dtype: str) -> None:
    store = TensorStore([Tensor.from_array("a.count", np.array([1, value], dtype))])
    with pytest.raises(LossError, match="element 1 is a") as caught:
        porter.save(store, tmp_path / "a.caffemodel")
    assert caught.value.code == "L102"
    assert not (tmp_path / "a.caffemodel").exists()
    report = porter.save(store, tmp_path / "a.caffemodel", allow_lossy=True)
    assert {loss.kind for loss in report.losses} == {"dtype", "value"}


@pytest.mark.parametrize(
    ("value", "dtype"), [(1 << 24, "<i8"), (-(1 << 63), "<i8"), (1 << 63, "<u8"), (-(1 << 31), "<i4"), (0xFFFFFF00, "<u4")]
)
def test_integers_that_float32_holds(tmp_path: Path, value: int, dtype: str) -> None:
    porter.save(TensorStore([Tensor.from_array("a.count", np.array([value], dtype))]), tmp_path / "a.caffemodel")
    assert int(porter.open(tmp_path / "a.caffemodel")["a.count"].numpy()[0]) == value


def test_signalling_nans_survive(tmp_path: Path) -> None:
    bits = np.array([0x7F800001, 0xFFA00000, 0x80000000, 1], "<u4")
    store = TensorStore([Tensor(TensorSpec("a.weight", DTYPES["float32"], (4,)), BytesPayload.of(bits.tobytes()))])
    store.add(Tensor(TensorSpec("b.weight", DTYPES["float16"], (2,)), BytesPayload.of(b"\x01\x7c\x00\xfe")))
    porter.save(store, tmp_path / "a.caffemodel")
    back = porter.open(tmp_path / "a.caffemodel")
    assert back["a.weight"].tobytes() == bits.tobytes()
    assert back["b.weight"].tobytes() == np.array([0x7F802000, 0xFFC00000], "<u4").tobytes()


def test_more_axes_than_caffe_has(tmp_path: Path) -> None:
    store = TensorStore([array("a.weight", *([1] * 33))])
    with pytest.raises(LossError) as caught:
        porter.save(store, tmp_path / "a.caffemodel")
    assert caught.value.code == "L105"


def test_attachments_that_are_no_net(tmp_path: Path) -> None:
    store = TensorStore([array("a.weight", 1)])
    store.attachments["caffe.net"] = b"\xff\xff not a net"
    with pytest.raises(FormatError, match=r"'caffe\.net' is no Caffe net") as caught:
        porter.save(store, tmp_path / "a.caffemodel")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("document", ['{"porter":1,"names":["x"]}', '{"porter":1,"names":["x","x"]}', '{"porter":1,"names":{"a":1}}'])
def test_a_document_that_does_not_fit(tmp_path: Path, document: str) -> None:
    path = net_file(tmp_path, layer=[conv("c", blob((1, 1, 1, 1)), blob((1,)))])
    tag = _varint(535_000_001 << 3 | 2)
    path.write_bytes(path.read_bytes() + tag + _varint(len(document)) + document.encode())
    store = porter.open(path)
    assert list(store) == ["c.weight", "c.bias"]
    assert "names other tensors than the file has" in store.notices[-1].message


def test_solver_states(tmp_path: Path) -> None:
    state = plain()["SolverState"](iter=7, learned_net="a.caffemodel", history=[blob((2, 3)), legacy_blob((1, 1, 1, 3))], current_step=1)
    path = tmp_path / "a.solverstate"
    path.write_bytes(state.SerializeToString())
    report = porter.save(porter.open(path), tmp_path / "b.solverstate")
    assert (tmp_path / "b.solverstate").read_bytes() == path.read_bytes()
    assert not report.losses
    porter.save(porter.open(path), tmp_path / "c.safetensors")
    porter.save(porter.open(tmp_path / "c.safetensors"), tmp_path / "c.solverstate")
    assert (tmp_path / "c.solverstate").read_bytes() == path.read_bytes()


def test_any_store_as_a_solver_state(tmp_path: Path) -> None:
    store = TensorStore([array("b.weight", 2), array("history.1", 2), array("history.0", 3)])
    store.metadata.update({"iter": 3, "note": "ours", "minimum_loss": 0.1, "current_step": "two"})
    porter.save(store, tmp_path / "a.solverstate")
    state = plain()["SolverState"].FromString((tmp_path / "a.solverstate").read_bytes())
    assert state.iter == 3
    assert [len(h.data) for h in state.history] == [3, 2, 2]
    back = porter.open(tmp_path / "a.solverstate")
    assert described(back) == described(store)
    assert back.metadata == store.metadata


def test_an_empty_solver_state(tmp_path: Path) -> None:
    porter.save(TensorStore(), tmp_path / "a.solverstate")
    back = porter.open(tmp_path / "a.solverstate")
    assert back.source is not None
    assert back.source.dialect == "solverstate"
    assert not len(back)
