"""Reading binary Caffe files: every generation, every way of storing a blob, against protobuf's own parse."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_oracle import blob, blobs_by_layer, conv, legacy_blob, net_file, parsed, plain, values
from conftest import shared_folder

import porter
from porter.errors import FormatError, UnsafeFileError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.store import TensorStore

_folder = shared_folder()
REAL = sorted(str(p.relative_to(_folder / "real")) for p in (_folder / "real").rglob("*.caffemodel")) if _folder else []


def messages(store: TensorStore) -> str:
    return " | ".join(f"{n.kind}: {n.message}" for n in store.notices)


def raw_net(folder: Path, data: bytes, name: str = "net.caffemodel") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def field(number: int, body: bytes) -> bytes:
    """A delimited field, as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@pytest.mark.parametrize("name", REAL or ["(none)"])
def test_real_files_hold_what_protobuf_finds_in_them(shared: Path, name: str) -> None:
    path = shared / "real" / name
    store = porter.open(path)
    found: dict[str, list[Any]] = {}
    for tensor in store.values():
        found.setdefault(tensor.attributes["caffe.layer"], []).append(tensor)
    expected = blobs_by_layer(parsed(path))
    assert [layer for layer, _ in expected] == list(found)
    for layer, blobs in expected:
        assert [t.attributes["caffe.blob"] for t in found[layer]] == list(range(len(blobs)))
        for tensor, message in zip(found[layer], blobs, strict=True):
            np.testing.assert_array_equal(tensor.numpy().reshape(-1), values(message))
            stated = tuple(message.shape.dim) or (message.num, message.channels, message.height, message.width)
            assert tuple(tensor.attributes.get("caffe.shape", tensor.shape)) == stated
            assert tensor.size == np.prod(stated)


def test_names_roles_axes_and_attributes(tmp_path: Path) -> None:
    path = net_file(tmp_path, layer=[conv("conv1", blob((4, 3, 2, 2)), blob((4,)), bottom=["data"], top=["conv1"])])
    store = porter.open(path)
    assert [(t.name, t.shape, t.axes, t.role) for t in store.values()] == [
        ("conv1.weight", (4, 3, 2, 2), "OIHW", "weight"),
        ("conv1.bias", (4,), "O", "bias"),
    ]
    assert store["conv1.bias"].attributes == {"caffe.layer": "conv1", "caffe.type": "Convolution", "caffe.blob": 1}
    assert store["conv1.weight"].numpy().reshape(-1).tolist() == list(range(1, 49))
    assert store.source is not None
    assert store.source.dialect == "v2"
    assert not store.notices


def test_values_stay_in_the_file(tmp_path: Path) -> None:
    path = net_file(tmp_path, layer=[conv("c", blob((2, 1, 1, 1)))])
    location = porter.open(path)["c.weight"].location
    assert location is not None
    assert path.read_bytes()[location.offset : location.offset + location.nbytes] == struct.pack("<2f", 1, 2)


def test_v1(tmp_path: Path) -> None:
    layer = plain()["V1LayerParameter"](
        name="fc", type=14, bottom=["a"], top=["b"], blobs=[legacy_blob((1, 1, 3, 2)), legacy_blob((1, 1, 1, 3))]
    )
    store = porter.open(net_file(tmp_path, layers=[layer]))
    assert [(t.name, t.shape, t.axes) for t in store.values()] == [("fc.weight", (3, 2), "OI"), ("fc.bias", (3,), "O")]
    assert store["fc.weight"].attributes["caffe.type"] == "InnerProduct"
    assert store["fc.weight"].attributes["caffe.shape"] == [1, 1, 3, 2]
    assert store.source is not None
    assert store.source.dialect == "v1"


def test_v0(tmp_path: Path) -> None:
    inner = plain()["V0LayerParameter"](name="conv", type="conv", blobs=[legacy_blob((2, 1, 3, 3)), legacy_blob((1, 1, 1, 2))])
    layer = plain()["V1LayerParameter"](layer=inner, bottom=["data"], top=["conv"])
    store = porter.open(net_file(tmp_path, layers=[layer]))
    assert [(t.name, t.shape, t.axes) for t in store.values()] == [("conv.weight", (2, 1, 3, 3), "OIHW"), ("conv.bias", (2,), "O")]
    assert store.source is not None
    assert store.source.dialect == "v0"


def test_generations_mixed(tmp_path: Path) -> None:
    inner = plain()["V0LayerParameter"](name="a", type="conv", blobs=[legacy_blob((1, 1, 1, 1))])
    layers = [plain()["V1LayerParameter"](layer=inner), plain()["V1LayerParameter"](name="b", type=4, blobs=[legacy_blob((1, 1, 1, 1))])]
    store = porter.open(net_file(tmp_path, layers=layers, layer=[conv("c", blob((1, 1, 1, 1)))]))
    assert list(store) == ["a.weight", "b.weight", "c.weight"]
    assert store.source is not None
    assert store.source.dialect == "mixed"


@pytest.mark.parametrize("name", ["net", "net.bin", "net.pb", "net.dat"])
def test_detected_by_content(tmp_path: Path, name: str) -> None:
    path = net_file(tmp_path, name=name, layer=[conv("c", blob((1, 1, 1, 1)))])
    store = open_store(path)
    assert store.source is not None
    assert store.source.format == "caffe"


GOLDEN = bytes.fromhex(
    "0a 03 6e 65 74"  # name: "net"
    "a2 06 27"  # layer, 39 bytes
    "   0a 02 66 63"  # name: "fc"
    "   12 0c 49 6e 6e 65 72 50 72 6f 64 75 63 74"  # type: "InnerProduct"
    "   3a 13"  # blobs, 19 bytes
    "      2a 08 00 00 80 3f 00 00 c0 7f"  # data: 1, NaN
    "      3a 04 0a 02 01 02"  # shape: 1, 2
)


def test_golden_bytes(tmp_path: Path) -> None:
    data = bytearray(GOLDEN)
    data[7] = len(GOLDEN) - 8
    data[27] = len(GOLDEN) - 28
    store = porter.open(raw_net(tmp_path, bytes(data)))
    assert store["fc.weight"].shape == (1, 2)
    assert store["fc.weight"].tobytes() == bytes.fromhex("0000803f 0000c07f")
    location = store["fc.weight"].location
    assert location is not None
    assert location.offset == 30


def unpacked(*floats: float) -> bytes:
    return b"".join(b"\x2d" + struct.pack("<f", v) for v in floats)


def packed(*floats: float) -> bytes:
    return field(5, struct.pack(f"<{len(floats)}f", *floats))


SHAPE_4 = field(7, field(1, bytes([4])))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (packed(1, 2, 3, 4) + SHAPE_4, None),
        (SHAPE_4 + packed(1, 2, 3, 4), None),
        (unpacked(1, 2, 3, 4) + SHAPE_4, "unpacked"),
        (packed(1, 2) + packed(3) + packed() + packed(4) + SHAPE_4, None),
        (packed(1, 2) + SHAPE_4 + unpacked(3, 4), None),
        (unpacked(1, 2) + field(6, b"") + unpacked(3) + packed(4) + SHAPE_4, None),
        (field(8, struct.pack("<4d", 1, 2, 3, 4)) + SHAPE_4, "double"),
        (b"".join(b"\x41" + struct.pack("<d", v) for v in (1, 2, 3, 4)) + SHAPE_4, "double"),
        (SHAPE_4 + b"\x50\x00" + field(12, struct.pack("<4d", 1, 2, 3, 4)), "raw"),
        (SHAPE_4 + b"\x50\x01" + field(12, struct.pack("<4f", 1, 2, 3, 4)), "raw"),
        (SHAPE_4 + b"\x50\x02" + field(12, struct.pack("<4e", 1, 2, 3, 4)), "raw"),
        (SHAPE_4 + b"\x50\x03" + field(12, struct.pack("<4i", 1, 2, 3, 4)), "raw"),
        (field(7, b"\x08\x02\x08\x02") + packed(1, 2, 3, 4), None),
        (field(7, b"\x08\x02") + packed(1, 2, 3, 4) + field(7, b"\x08\x02"), None),
    ],
    ids=[
        "packed",
        "shape-first",
        "unpacked",
        "pieces",
        "packed-then-unpacked",
        "torn",
        "double",
        "double-unpacked",
        "raw-double",
        "raw-float",
        "raw-half",
        "raw-int",
        "unpacked-dims",
        "dims-in-two-parts",
    ],
)
def test_encodings(tmp_path: Path, body: bytes, encoding: str | None) -> None:
    layer = field(1, b"x") + field(2, b"Bias") + field(7, body)
    path = raw_net(tmp_path, field(100, layer))
    (tensor,) = porter.open(path).values()
    assert tensor.numpy().reshape(-1).tolist() == [1, 2, 3, 4]
    chunks = [bytes(c) for c in tensor.chunks(3)]
    assert b"".join(chunks) == tensor.tobytes()
    assert max(map(len, chunks)) <= 3
    assert tensor.attributes.get("caffe.encoding") == encoding
    (found,) = parsed(path).layer[0].blobs
    if "raw" not in (encoding or ""):
        assert values(found).tolist() == [1, 2, 3, 4]


def test_long_runs_of_unpacked_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 500_000, dtype=np.uint32)
    message = plain()["UnpackedBlob"](data=bits.view(np.float32)[:0])
    rows = np.empty((bits.size, 5), np.uint8)
    rows[:, 0] = 0x2D
    rows[:, 1:] = bits.view(np.uint8).reshape(-1, 4)
    message.shape.dim.append(bits.size)
    body = message.SerializeToString() + rows.tobytes()
    path = raw_net(tmp_path, field(100, field(1, b"x") + field(2, b"Bias") + field(7, body)))
    (tensor,) = porter.open(path).values()
    assert tensor.tobytes() == bits.tobytes()
    assert b"".join(bytes(c) for c in tensor.chunks(1000)) == bits.tobytes()


def test_gradients_are_left_out_and_said(tmp_path: Path) -> None:
    message = blob((2,), diff=[9.0, 9.0])
    only = plain()["BlobProto"](diff=[1.0])
    only.shape.dim.append(1)
    store = porter.open(net_file(tmp_path, layer=[conv("c", blob((1, 1, 1, 1)), message), conv("d", only)]))
    assert list(store) == ["c.weight", "c.bias"]
    assert "gradients (diff) of 2 blobs" in messages(store)
    assert "blob 0 of layer 'd' has no values" in messages(store)


def test_a_blob_without_values_keeps_the_place_of_the_others(tmp_path: Path) -> None:
    empty = plain()["BlobProto"]()
    empty.shape.dim.extend((4, 3, 1, 1))
    store = porter.open(net_file(tmp_path, layer=[conv("c", empty, blob((4,)))]))
    assert list(store) == ["c.bias"]
    assert store["c.bias"].attributes["caffe.blob"] == 1
    back = plain()["NetParameter"].FromString(store.attachments["caffe.net"])
    assert [list(b.shape.dim) for b in back.layer[0].blobs] == [[4, 3, 1, 1]]


def test_shapeless_and_scalar_blobs(tmp_path: Path) -> None:
    shapeless = plain()["BlobProto"](data=[1.0, 2.0])
    layer = plain()["LayerParameter"](name="x", type="Parameter", blobs=[shapeless])
    scalar = plain()["LayerParameter"](name="y", type="Parameter", blobs=[blob(())])
    store = porter.open(net_file(tmp_path, layer=[layer, scalar]))
    assert store["x.param"].shape == (2,)
    assert store["x.param"].attributes["caffe.shape"] == []
    assert store["y.param"].shape == ()


def test_empty_blobs(tmp_path: Path) -> None:
    message = plain()["BlobProto"]()
    message.shape.dim.extend((0, 3))
    layer = plain()["LayerParameter"](name="x", type="Parameter", blobs=[message])
    store = porter.open(net_file(tmp_path, layer=[layer, conv("c", blob((1, 1, 1, 1)))]))
    assert store["x.param"].shape == (0, 3)
    assert store["x.param"].tobytes() == b""


def test_layers_of_one_name(tmp_path: Path) -> None:
    """The train and the test phase have layers of one name; the second matters only where it has weights."""
    data = plain()["LayerParameter"](name="data", type="Data", top=["data"])
    layers = [data, data, conv("c", blob((1, 1, 1, 1))), conv("c"), conv("c", blob((2, 1, 1, 1))), conv("c#2", blob((3, 1, 1, 1)))]
    store = porter.open(net_file(tmp_path, layer=layers))
    assert [(t.name, t.shape[0]) for t in store.values()] == [("c.weight", 1), ("c#3.weight", 2), ("c#2.weight", 3)]
    assert store["c#3.weight"].attributes["caffe.layer"] == "c"
    assert store["c#3.weight"].attributes["caffe.occurrence"] == 3
    assert "several layers are called 'c'" in messages(store)
    assert "'data'" not in messages(store)


def test_layers_without_a_name(tmp_path: Path) -> None:
    store = porter.open(net_file(tmp_path, layer=[conv("a", blob((1, 1, 1, 1))), conv("", blob((2, 1, 1, 1)))]))
    assert list(store) == ["a.weight", "layer1.weight"]
    assert "a layer without a name is called 'layer1'" in messages(store)


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = "卷积".encode("gbk")
    layer = field(1, name) + field(2, b"Convolution") + field(7, blob((1, 1, 1, 1)).SerializeToString())
    path = raw_net(tmp_path, field(100, layer))
    (tensor,) = porter.open(path).values()
    assert tensor.name == "\\xbe\\xed\\xbb\\xfd.weight"
    porter.save(porter.open(path), tmp_path / "back.caffemodel")
    assert (tmp_path / "back.caffemodel").read_bytes() == path.read_bytes()


def test_unknown_types(tmp_path: Path) -> None:
    layers = [plain()["LayerParameter"](name=n, type="MyFork", blobs=[blob((2,)), blob((3,))]) for n in "ab"]
    store = porter.open(net_file(tmp_path, layer=layers))
    assert list(store) == ["a.blob0", "a.blob1", "b.blob0", "b.blob1"]
    assert messages(store) == "assumed: layer type 'MyFork' is not known (2 layers); its blobs are called blob0, blob1, …"


def test_unknown_v1_types(tmp_path: Path) -> None:
    layer = plain()["V1LayerParameter"](name="x", type=77, blobs=[legacy_blob((1, 1, 1, 2))])
    store = porter.open(net_file(tmp_path, layers=[layer]))
    assert store["x.blob0"].shape == (1, 1, 1, 2)
    assert "type number 77" in messages(store)


def test_shared_parameters_are_ties(tmp_path: Path) -> None:
    param = plain()["ParamSpec"]
    layers = [
        conv("a", blob((1, 1, 2, 2)), blob((1,)), param=[param(name="w"), param(lr_mult=2)]),
        conv("b", blob((1, 1, 2, 2)), blob((1,)), param=[param(name="w"), param(name="")]),
        conv("c", blob((1, 1, 4, 4)), param=[param(name="w")]),
    ]
    store = porter.open(net_file(tmp_path, layer=layers))
    assert store.ties == {"b.weight": "a.weight"}
    assert "shares the parameter 'w' with 'a.weight', which has another size" in messages(store)


def test_shared_parameters_of_v1(tmp_path: Path) -> None:
    layers = [
        plain()["V1LayerParameter"](name=n, type=4, param=["", "b"], blobs=[legacy_blob((1, 1, 1, 1)), legacy_blob((1, 1, 1, 1))])
        for n in "xy"
    ]
    assert porter.open(net_file(tmp_path, layers=layers)).ties == {"y.bias": "x.bias"}


def test_the_net_without_weights_is_an_attachment(tmp_path: Path) -> None:
    layer = conv("c", blob((1, 1, 1, 1)), bottom=["data"], top=["c"], fork="ours", convolution_param={"num_output": 1})
    net = plain()["NetParameter"].FromString(porter.open(net_file(tmp_path, layer=[layer])).attachments["caffe.net"])
    assert (net.name, net.layer[0].fork, net.layer[0].convolution_param.num_output) == ("net", "ours", 1)
    assert not net.layer[0].blobs


def test_transposed_inner_products(tmp_path: Path) -> None:
    """`transpose` is a parameter of the layer, field 6 of inner_product_param (117)."""
    layer = plain()["LayerParameter"](name="fc", type="InnerProduct", blobs=[blob((3, 2))]).SerializeToString() + field(117, b"\x30\x01")
    assert porter.open(raw_net(tmp_path, field(100, layer)))["fc.weight"].axes == "IO"


def test_parameters_of_a_fork_that_do_not_parse_do_no_harm(tmp_path: Path) -> None:
    layer = plain()["LayerParameter"](name="fc", type="InnerProduct", blobs=[blob((3, 2))]).SerializeToString()
    layer += field(117, b"\xff\xff") + field(146, b"\x12\x03abc")
    path = raw_net(tmp_path, field(100, layer))
    store = porter.open(path)
    assert store["fc.weight"].axes == "OI"
    porter.save(store, tmp_path / "back.caffemodel")
    back = plain()["NetParameter"].FromString((tmp_path / "back.caffemodel").read_bytes())
    assert b"\x12\x03abc" in back.layer[0].SerializeToString()


def test_a_prototxt_gives_types_that_the_binary_lacks(tmp_path: Path) -> None:
    layer = plain()["LayerParameter"](name="c", blobs=[blob((1, 1, 1, 1)), blob((1,))])
    path = net_file(tmp_path, layer=[layer])
    text = tmp_path / "net.prototxt"
    text.write_text('layer { name: "c" type: "Convolution" bottom: "data" top: "c" }')
    assert list(porter.open(path)) == ["c.blob0", "c.blob1"]
    assert list(open_store(path, options=ReadOptions(net=str(text)))) == ["c.weight", "c.bias"]


def test_the_real_fp16_file(shared: Path) -> None:
    half = porter.open(shared / "real/hyperlpr/lpr_HorizonalFinemapping.caffemodel")
    single = porter.open(shared / "real/hyperlpr/HorizonalFinemapping.caffemodel")
    assert list(half) == list(single)
    assert {t.dtype.name for t in half.values()} == {"float16"}
    for name, tensor in half.items():
        np.testing.assert_array_equal(tensor.numpy(), single[name].numpy().astype(np.float16))


def solver_file(folder: Path) -> Path:
    state = plain()["SolverState"](
        iter=5000, learned_net="net_5000.caffemodel", current_step=2, history=[blob((2, 3)), legacy_blob((1, 1, 1, 3))], minimum_loss=0.5
    )
    path = folder / "net.solverstate"
    path.write_bytes(state.SerializeToString())
    return path


def test_solver_states(tmp_path: Path) -> None:
    store = porter.open(solver_file(tmp_path))
    assert store.source is not None
    assert (store.source.format, store.source.dialect) == ("caffe", "solverstate")
    assert store.metadata == {"iter": 5000, "learned_net": "net_5000.caffemodel", "current_step": 2, "minimum_loss": 0.5}
    assert [(t.name, t.shape) for t in store.values()] == [("history.0", (2, 3)), ("history.1", (1, 1, 1, 3))]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (packed(1, 2, 3) + SHAPE_4, "F003"),
        (field(5, b"\0" * 15) + SHAPE_4, "F012"),
        (field(7, field(1, b"\xff" * 9 + b"\x01")) + packed(1), "F002"),
        (field(7, field(1, b"\x01" * 33)) + packed(1), "F101"),
        (b"\x08\x01\x10\x01\x18\x01" + packed(1), "F003"),
        (b"\x50\x02" + field(12, b"\0" * 3), "F103"),
        (field(12, b"\0" * 3), "F103"),
        (field(7, field(1, b"\xff" * 8 + b"\x7f")) + packed(1), "F003"),
        (field(7, b"\x0a\x7f\x01") + packed(1), "F012"),
    ],
    ids=["short", "torn-float", "negative", "33-axes", "legacy-lacks-width", "torn-half", "raw-of-no-type", "huge", "broken-shape"],
)
def test_refused(tmp_path: Path, body: bytes, code: str) -> None:
    path = raw_net(tmp_path, field(100, field(1, b"x") + field(2, b"Convolution") + field(7, body)))
    with pytest.raises(FormatError) as caught:
        porter.open(path)
    assert caught.value.code == code
    assert caught.value.where.path == str(path)


def test_the_private_field_is_refused(tmp_path: Path) -> None:
    forged = varint(536_870_911 << 3 | 2) + b"\x08\x08\x05\x10\x00\x18\x80\x80\x40"
    path = raw_net(tmp_path, field(100, field(1, b"x") + field(2, b"Convolution") + field(7, forged)))
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path)
    assert caught.value.code == "S005"


def test_something_else_read_as_caffe(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [weight]))
    path = raw_net(tmp_path, model.SerializeToString())
    for dialect in ("caffe", "caffe:solverstate"):
        with pytest.raises(FormatError) as caught:
            open_store(path, dialect)
        assert caught.value.code == "F100"


def test_a_net_without_layers(tmp_path: Path) -> None:
    store = open_store(net_file(tmp_path), "caffe")
    assert not len(store)
    assert messages(store) == "note: the net has no layers"
