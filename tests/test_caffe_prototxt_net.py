"""Nets from text: layers of three generations in one form, the bytes of a NetParameter, and weights written as text."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

import porter
from porter.errors import FormatError, PorterError
from porter.formats.caffe.layer_types import upgrade_type
from porter.formats.caffe.message_tree import render
from porter.formats.caffe.net import CaffeNet, NetInput, ParamSpec, net_from_prototxt, net_from_tree
from porter.formats.caffe.net_bytes import serialise
from porter.formats.caffe.prototxt import parse
from porter.formats.caffe.text_blobs import TEXT, read_prototxt
from porter.io.protobuf_messages import message_classes


def net(text: str) -> CaffeNet:
    return net_from_tree(parse(text))


def plain(data: bytes = b"") -> Any:
    return message_classes("caffe.binpb")["caffe.NetParameter"].FromString(data)


def store_of(tmp_path: Path, text: str | bytes) -> porter.TensorStore:
    path = tmp_path / "net.prototxt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_prototxt(str(path))


# Layers


def test_a_layer_says_what_it_is() -> None:
    (layer,) = net("""
        layer {
          name: "fc" type: "InnerProduct" bottom: "a" bottom: "b" top: "c"
          param { name: "w" lr_mult: 2 } param { decay_mult: 0 share_mode: PERMISSIVE }
          include { phase: TEST stage: "s" } exclude { min_level: 2 }
          inner_product_param { num_output: 10 transpose: true weight_filler { type: "xavier" } }
          somebodys_param { x: 1.5 y: ENUM z: 1 z: 2 }
        }""").layers
    assert (layer.name, layer.type, layer.generation, layer.bottoms, layer.tops) == ("fc", "InnerProduct", "v2", ("a", "b"), ("c",))
    assert layer.params == (ParamSpec("w", 2.0), ParamSpec("", None, 0.0, "PERMISSIVE"))
    assert layer.parameter("inner_product_param.transpose") is True
    assert layer.parameter("inner_product_param.num_output") == 10
    assert layer.parameter("inner_product_param.weight_filler.type") == "xavier"
    assert layer.parameter("inner_product_param.bias_term") is None
    assert layer.parameter("no.such.thing") is None
    assert (layer.parameter("somebodys_param.x"), layer.parameter("somebodys_param.y")) == (1.5, "ENUM")
    assert layer.parameters("somebodys_param.z") == [1, 2]
    assert layer.parameters("no.such.thing") == []
    assert (layer.include[0].phase, layer.include[0].stages, layer.exclude[0].min_level) == ("TEST", ("s",), 2)
    assert (layer.line, layer.column) == (2, 9)


@pytest.mark.parametrize(
    ("rules", "state", "runs"),
    [
        ("", {}, True),
        ("include { phase: TRAIN }", {}, False),
        ("include { phase: TRAIN }", {"phase": "TRAIN"}, True),
        ("include { phase: 1 }", {}, True),
        ("include { phase: TRAIN } include { phase: TEST }", {}, True),
        ("exclude { phase: TEST }", {}, False),
        ("include { min_level: 1 }", {}, False),
        ("include { min_level: 1 max_level: 3 }", {"level": 2}, True),
        ("include { max_level: 3 }", {"level": 4}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["a"]}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["a", "b", "c"]}, True),
        ("include { not_stage: 'a' }", {"stages": ["a"]}, False),
        ("exclude { stage: 'deploy' }", {"stages": ["deploy"]}, False),
        ("exclude { stage: 'deploy' }", {}, True),
    ],
)
def test_rules_say_when_a_layer_runs(rules: str, state: dict[str, Any], runs: bool) -> None:
    (layer,) = net(f"layer {{ name: 'x' {rules} }}").layers
    assert layer.runs_in(**state) is runs


def test_of_two_layers_of_a_name_the_tested_one_is_found() -> None:
    found = net("layer { name: 'd' type: 'Data' include { phase: TRAIN } } layer { name: 'd' type: 'HDF5Data' include { phase: TEST } }")
    assert found.by_name()["d"].type == "HDF5Data"


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("input: 'a' input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5", [NetInput("a", (1, 3, 4, 5))]),
        ("input: 'a' input: 'b' input_dim: [1, 2, 3, 4, 5, 6, 7, 8]", [NetInput("a", (1, 2, 3, 4)), NetInput("b", (5, 6, 7, 8))]),
        ("input: 'a' input_shape { dim: 1 dim: 3 } input: 'b'", [NetInput("a", (1, 3)), NetInput("b")]),
        (
            "layer { name: 'i' type: 'Input' top: 'a' top: 'b' input_param { shape { dim: 2 } } }",
            [NetInput("a", (2,), "i"), NetInput("b", (2,), "i")],
        ),
        ("layer { name: 'i' type: 'Input' top: 'a' }", [NetInput("a", None, "i")]),
    ],
)
def test_inputs(text: str, inputs: list[NetInput]) -> None:
    assert list(net(text).inputs) == inputs


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("net: 'train.prototxt' base_lr: 0.1", "the net is in 'train.prototxt'"),
        ("item { name: 'x' }", "a net has 'layer' or 'layers'"),
        ("# nothing", "a net has 'layer' or 'layers'"),
    ],
)
def test_other_texts_are_no_nets(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(FormatError) as caught:
        store_of(tmp_path, text)
    assert caught.value.code == "F154"
    assert caught.value.hint == hint
    assert caught.value.where.path is not None


# Older generations


def test_v1_becomes_v2() -> None:
    found = net("""
        layers {
          name: "c" type: CONVOLUTION bottom: "d" top: "c" param: "w" param: "b" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
          blob_share_mode: PERMISSIVE convolution_param { num_output: 3 kernel_size: 5 } loss_weight: 2
        }
        layers { name: "d" type: 5 data_param { source: "x" scale: 0.5 mirror: true } transform_param { crop_size: 3 } }
        layers { name: "p" type: PRELU }
        layers { name: "?" type: 77 }""")
    conv, data, prelu, unknown = found.layers
    assert [layer.generation for layer in found.layers] == ["v1"] * 4
    assert (conv.type, conv.parameter("convolution_param.kernel_size"), conv.parameter("loss_weight")) == ("Convolution", 5, 2)
    assert conv.params == (ParamSpec("w", 1.0, 1.0, "PERMISSIVE"), ParamSpec("b", 2.0))
    assert data.message.lookup("data_param.source") == "x"
    assert data.message.lookup("data_param.scale") is None
    assert [data.parameter(f"transform_param.{k}") for k in ("scale", "mirror", "crop_size")] == [0.5, True, 3]
    assert prelu.type == "PReLU"
    assert unknown.type is None
    assert found.notices == ("line 8: the layer type number 77 is not one of Caffe's; the type is left out",)


def test_v0_becomes_v2() -> None:
    found = net("""
        layers { layer { name: "p" type: "padding" pad: 2 } bottom: "d" top: "p" }
        layers {
          layer {
            name: "c" type: "conv" num_output: 8 kernelsize: 5 stride: 2 group: 2 biasterm: false
            weight_filler { type: "gaussian" } blobs_lr: 1. weight_decay: 0. nonsense: 3
          }
          bottom: "p" top: "c"
        }
        layers { layer { name: "m" type: "pool" kernelsize: 3 pool: AVE } bottom: "c" top: "m" }
        layers { layer { name: "f" type: "innerproduct" num_output: 10 } bottom: "m" top: "f" }
        layers { layer { name: "n" type: "lrn" alpha: 0.1 beta: 0.75 local_size: 5 } bottom: "f" top: "n" }
        layers { layer { name: "i" type: "images" source: "s" batchsize: 3 meanfile: "m" cropsize: 4 shuffle_images: true } top: "i" }""")
    conv, pool, fc, lrn, images = found.layers
    assert {layer.generation for layer in found.layers} == {"v0"}
    assert [layer.type for layer in found.layers] == ["Convolution", "Pooling", "InnerProduct", "LRN", "ImageData"]
    assert (conv.bottoms, conv.tops) == (("d",), ("c",))
    values = {k: conv.parameter(f"convolution_param.{k}") for k in ("num_output", "kernel_size", "stride", "group", "bias_term", "pad")}
    assert values == {"num_output": 8, "kernel_size": 5, "stride": 2, "group": 2, "bias_term": False, "pad": 2}
    assert conv.parameter("convolution_param.weight_filler.type") == "gaussian"
    assert conv.params == (ParamSpec("", 1.0, 0.0),)
    assert (pool.parameter("pooling_param.pool"), pool.parameter("pooling_param.kernel_size")) == ("AVE", 3)
    assert fc.parameter("inner_product_param.num_output") == 10
    assert lrn.parameter("lrn_param.local_size") == 5
    assert (images.parameter("image_data_param.batch_size"), images.parameter("image_data_param.shuffle")) == (3, True)
    assert (images.parameter("transform_param.mean_file"), images.parameter("transform_param.crop_size")) == ("m", 4)
    assert conv.parameter("nonsense") == 3
    assert found.notices == ("line 6: 'nonsense' means nothing in a V0 layer of type 'conv'; kept as it is",)


def test_generations_may_mix() -> None:
    found = net(
        "layers { name: 'a' type: RELU } layer { name: 'b' type: 'ReLU' } layer { name: 'c' type: RELU } layers { layer { type: 'relu' } }"
    )
    assert [(layer.name, layer.type, layer.generation) for layer in found.layers] == [
        ("a", "ReLU", "v1"),
        ("b", "ReLU", "v2"),
        ("c", "ReLU", "v2"),
        ("", "ReLU", "v0"),
    ]
    assert found.notices == ("the net mixes layers of v0 and v1 and v2; all are read, in the order of the text",)


def test_a_layer_that_is_no_message_is_only_a_field() -> None:
    assert [layer.name for layer in net("layer: 3 layer { name: 'a' } layers: 'x'").layers] == ["a"]


def test_layers_of_every_real_net_are_those_of_the_index(shared: Path) -> None:
    seen = 0
    for line in (shared / "real" / "INDEX.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 6 or not cells[1].endswith(".prototxt"):
            continue
        want: Counter[str | None] = Counter()
        for entry in cells[5].split(","):
            kind, count = entry.split(":")
            if kind != "padding":  # those are folded into the layers that they pad
                want[upgrade_type(kind)] += int(count)
        found = net_from_prototxt(str(shared / "real" / cells[1]))
        assert Counter(layer.type for layer in found.layers) == want, cells[1]
        assert found.notices == ()
        assert {layer.generation for layer in found.layers} == {cells[4].lower()}
        seen += 1
    assert seen > 30


# Bytes


def test_bytes_are_those_of_the_official_parser(shared: Path) -> None:
    """Wherever the official parser, which needs a schema, takes the text at all."""
    fits = 0
    for path in [*(shared / "real").rglob("*.prototxt"), *(shared / "oracle").rglob("deploy.prototxt")]:
        found, skipped = net_from_prototxt(str(path)), list[str]()
        data = serialise(found, skipped)
        try:
            official = text_format.Parse(path.read_text(), plain())
        except text_format.ParseError:
            assert skipped, path
            continue
        assert not skipped, path
        assert [m.name for m in plain(data).layer] == [layer.name for layer in found.layers]
        if not official.layers:
            assert data == official.SerializeToString(deterministic=True), path
            fits += 1
    assert fits > 250


def test_v0_and_v1_give_the_bytes_of_the_v2_net(shared: Path) -> None:
    """AlexNet's reference in its V1 and V2 form: the layers in common agree in every parameter."""
    folder = shared / "real" / "prototxt"
    old = plain(serialise(net_from_prototxt(str(folder / "legacy_300f770ac_examples_imagenet_alexnet_deploy.prototxt"))))
    new = plain(serialise(net_from_prototxt(str(folder / "bvlc_alexnet_deploy.prototxt"))))
    by_name = {layer.name: layer for layer in new.layer}
    compared = 0
    for layer in old.layer:
        other = by_name[layer.name]
        for message in (layer, other):
            del message.param[:]  # learning rates are not in every deploy file
            for name in ("convolution_param", "inner_product_param"):
                for filler in ("weight_filler", "bias_filler"):
                    if message.HasField(name):
                        getattr(message, name).ClearField(filler)
        assert layer == other
        compared += 1
    assert compared == 23


def test_what_the_schema_lacks_is_named_and_kept_as_text(tmp_path: Path) -> None:
    text = """
        name: 5
        layer { name: "a" type: "X" x_param { k: 1 } x_param { k: 2 } pooling_param { pool: WEIRD kernel_size: -1 stride: 2 pad: 1.5 } }
        layer { name: "b" name: "c" relu_param: 3 top { } propagate_down: MAYBE lrn_param { alpha: x k: -inf } }"""
    store = store_of(tmp_path, text)
    assert [n.message.removesuffix(f" (not in 'caffe.net'; '{TEXT}' keeps the text)") for n in store.notices if n.kind == "skipped"] == [
        "fields that porter's schema of Caffe lacks: layer.x_param (2 times)",
        "line 2: 'name' is a string, not 5",
        "line 3: 'pooling_param.pool' has no value WEIRD in porter's schema of Caffe; left out",
        "line 3: 'pooling_param.kernel_size' is an integer from 0 to 4294967295, not -1",
        "line 3: 'pooling_param.pad' is an integer from 0 to 4294967295, not 1.5",
        "line 4: 'layer.name' is there twice; the last one is taken",
        "line 4: 'layer.relu_param' is a message, not '3'",
        "line 4: 'layer.top' is a value, not a message",
        "line 4: 'layer.propagate_down' is true or false, not MAYBE",
        "line 4: 'lrn_param.alpha' is a number, not x",
    ]
    written = plain(store.attachments["caffe.net"])
    assert [(m.name, m.type) for m in written.layer] == [("a", "X"), ("c", "")]
    assert written.layer[0].pooling_param.stride == 2
    assert written.layer[1].lrn_param.k == -np.inf
    assert parse(store.attachments[TEXT].decode()) == parse(text)


def test_a_name_that_is_no_utf8_is_escaped_alike_in_names_and_bytes(tmp_path: Path) -> None:
    text = b'layer { name: "\xbe\xed" type: "PReLU" blobs { data: 1 data: 2 shape { dim: 2 } } }'
    store = store_of(tmp_path, text)
    assert list(store) == ["\\xbe\\xed.slope"]
    assert plain(store.attachments["caffe.net"]).layer[0].name == "\\xbe\\xed"


# Weights as text

TWO = """
name: "two"
layer { name: "fc" type: "InnerProduct" bottom: "d" param { name: "w" }
  blobs { num: 1 channels: 1 height: 2 width: 3 data: 1 data: -2.5 data: 1e-3 data: nan data: -inf data: 7 diff: 3 }
  blobs { shape { dim: 2 } double_data: 0.1 double_data: -1e300 } inner_product_param { num_output: 2 } }
layers { name: "shared" type: INNER_PRODUCT param: "w" blobs { shape { dim: 2 dim: 3 } data: [1, -2.5, 1e-3, nan, -inf, 7] } }
layer { name: "slope" type: "PReLU" blobs { data: 0.25 } prelu_param { channel_shared: true } }
layer { name: "half" type: "Bias" blobs { shape { dim: 2 } raw_data_type: FLOAT16 raw_data: "\\000\\074\\000\\300" } }
layer { name: "odd" type: "SomebodysLayer" blobs { data: 1 data: 2 } blobs { } }
"""


def test_text_blobs_are_tensors(tmp_path: Path) -> None:
    store = store_of(tmp_path, TWO)
    described = {t.name: (t.dtype.name, t.shape, t.axes) for t in store.values()}
    assert described == {
        "fc.weight": ("float32", (2, 3), "OI"),
        "fc.bias": ("float64", (2,), "O"),
        "shared.weight": ("float32", (2, 3), "OI"),
        "slope.slope": ("float32", (), ""),
        "half.bias": ("float16", (2,), "C"),
        "odd.blob0": ("float32", (2,), None),
    }
    assert store["fc.weight"].tobytes() == np.array([1, -2.5, 1e-3, np.nan, -np.inf, 7], "<f4").tobytes()
    assert store["fc.bias"].numpy().tolist() == [0.1, -1e300]
    assert store["half.bias"].numpy().tolist() == [1.0, -2.0]
    assert store["slope.slope"].numpy() == np.float32(0.25)
    assert store.ties == {"shared.weight": "fc.weight"}
    assert store["fc.weight"].attributes["caffe.shape"] == [1, 1, 2, 3]
    assert store["fc.bias"].attributes["caffe.encoding"] == "double"
    assert store["half.bias"].attributes["caffe.encoding"] == "raw"
    assert store["odd.blob0"].attributes["caffe.type"] == "SomebodysLayer"
    notes = " | ".join(n.message for n in store.notices)
    for part in ("layer type 'SomebodysLayer' is not known", "gradients", "mixes layers", "blob 1 of 'odd' has no values"):
        assert part in notes
    assert plain(store.attachments["caffe.net"]).layer[0].blobs == []
    assert store.source is not None
    assert (store.source.format, store.source.dialect) == ("caffe", "prototxt")


def test_a_net_without_weights_says_where_they_are(shared: Path) -> None:
    store = read_prototxt(str(shared / "real" / "lenet" / "ethereon_lenet.prototxt"))
    assert list(store) == []
    assert [n.message for n in store.notices] == ["a net of 9 layers without weights; they are in the .caffemodel that goes with it"]
    assert plain(store.attachments["caffe.net"]).name == "LeNet"


@pytest.mark.parametrize(
    ("blob", "code", "place"),
    [
        ("shape { dim: 3 } data: 1", "F155", (1, 29)),
        ("shape { dim: -3 } data: 1", "F155", (1, 29)),
        ("shape { dim: 1.5 } data: 1", "F155", (1, 29)),
        ("num: 1 channels: 2 height: 2 data: 1", "F155", (1, 29)),
        ("shape { dim: 99999999999999999999 } data: 1", "F155", (1, 29)),
        ("shape { dim: 4611686018427387904 dim: 4611686018427387904 } data: 1", "F155", (1, 29)),
        ("raw_data_type: FLOAT raw_data: '123'", "F155", (1, 29)),
        ("raw_data_type: TRILLION raw_data: '1234'", "F155", (1, 29)),
        ("data: 0x10", "F153", (1, 37)),
        ("data: 010", "F153", (1, 37)),
        ("data: 'x'", "F153", (1, 37)),
        ("data: x", "F153", (1, 37)),
        ("data { }", "F153", (1, 37)),
        ("shape { " + "dim: 1 " * 33 + "} data: 1", "F101", (None, None)),
    ],
)
def test_blobs_that_are_wrong(tmp_path: Path, blob: str, code: str, place: tuple[int | None, int | None]) -> None:
    with pytest.raises(FormatError) as caught:
        store_of(tmp_path, f"layer {{ name: 'a' type: 'B' blobs {{ {blob} }} }}")
    assert (caught.value.code, caught.value.where.line, caught.value.where.column) == (code, *place)


def test_empty_blobs(tmp_path: Path) -> None:
    store = store_of(tmp_path, "layer { name: 'a' type: 'Bias' blobs { shape { dim: 0 dim: 5 } } }")
    assert store["a.bias"].shape == (0, 5)
    assert store["a.bias"].tobytes() == b""


def values_of(tmp_path: Path, words: list[str], double: bool = False) -> np.ndarray:
    name = "double_data" if double else "data"
    store = store_of(tmp_path, "layer { name: 'a' type: 'B' blobs { " + "".join(f"{name}: {w}\n" for w in words) + "} }")
    return store["a.blob0"].numpy().reshape(-1)


def test_every_float32_survives_its_decimal(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 30_000, dtype=np.uint64).astype("<u4")
    edges = [0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x80000000, 0x80000001, 0xFF7FFFFF, 0xFF800000]
    values = np.concatenate([bits, np.array(edges, "<u4")]).view("<f4")
    values = values[~np.isnan(values)]
    assert values_of(tmp_path, [f"{v:.9g}" for v in values.tolist()]).tobytes() == values.tobytes()
    assert values_of(tmp_path, [repr(float(v)) for v in values]).tobytes() == values.tobytes()


def test_words_for_numbers(tmp_path: Path) -> None:
    words = [
        "inf",
        "-inf",
        "infinity",
        "-Infinity",
        "nan",
        "-nan",
        "1.5f",
        "-2F",
        "inff",
        "nanf",
        ".5",
        "-0",
        "-0.0",
        "1.",
        "+1",
        "1e400",
        "-1e-400",
    ]
    expected = "7f800000 ff800000 7f800000 ff800000 7fc00000 ffc00000 3fc00000 c0000000 7f800000 7fc00000 3f000000 80000000 80000000"
    expected += " 3f800000 3f800000 7f800000 80000000"
    assert [f"{v:08x}" for v in values_of(tmp_path, words).view("<u4").tolist()] == expected.split()
    assert values_of(tmp_path, words * 9).tobytes() == values_of(tmp_path, words).tobytes() * 9


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 0x7F7FFFFF), st.sampled_from([-1, 0, 1]), st.integers(1, 60), st.booleans())
def test_decimals_near_halfway_are_rounded_once(
    tmp_path_factory: pytest.TempPathFactory, bits: int, side: int, digits: int, minus: bool
) -> None:
    """Between two neighbours, a decimal that is closer to the middle than float64 can tell still goes to the right one."""
    low = Decimal(float(np.uint32(bits).view(np.float32)))
    above = np.uint32(bits + 1).view(np.float32)
    with localcontext() as context:
        context.prec = 400
        high = Decimal(float(above)) if np.isfinite(above) else Decimal(2) ** 128
        middle = (low + high) / 2
        decimal = middle + side * middle * Decimal(10) ** -(digits + 17)
    want = bits + (side > 0 or (side == 0 and bits % 2))
    word = ("-" if minus else "") + format(decimal, "e")
    folder = tmp_path_factory.getbasetemp()
    found = values_of(folder, [word] * 12).view("<u4")
    assert set(found.tolist()) == {want | (0x80000000 if minus else 0)}


def test_a_text_caffemodel_is_the_binary_one(shared: Path, tmp_path: Path) -> None:
    """A real net printed by the official library, values and all, reads to the same bits as its binary file."""
    source = shared / "real" / "mtcnn" / "caffe" / "det1.caffemodel"
    message = plain(source.read_bytes())
    path = tmp_path / "det1.prototxt"
    path.write_text(text_format.MessageToString(message))
    text = read_prototxt(str(path))
    binary = porter.open(source)
    assert list(text) == list(binary)
    for name, tensor in binary.items():
        assert (text[name].dtype, text[name].shape, text[name].axes) == (tensor.dtype, tensor.shape, tensor.axes)
        assert text[name].tobytes() == tensor.tobytes(), name
        assert dict(text[name].attributes) == dict(tensor.attributes)
    message = text_format.Parse(path.read_text(), plain())  # without the unknown fields of the binary file
    for layer in message.layer:
        del layer.blobs[:]
    assert plain(text.attachments["caffe.net"]) == message


def test_damaged_text_weights_read_or_are_refused(tmp_path: Path) -> None:
    data = TWO.encode()
    refused = 0
    for n in range(0, len(data), 3):
        for variant in (data[:n], data[:n] + bytes([data[n] ^ 0x11]) + data[n + 1 :]):
            try:
                for tensor in store_of(tmp_path, variant).values():
                    tensor.tobytes()
            except PorterError as error:
                refused += 1
                assert error.where.path
    assert refused > 100


def test_rendered_nets_of_any_generation_are_the_same_net(shared: Path) -> None:
    for name in ("legacy_2ec698b2b_models_imagenet", "legacy_300f770ac_examples_mnist_lenet", "SE-ResNet-50"):
        found = net_from_prototxt(str(shared / "real" / "prototxt" / f"{name}.prototxt"))
        again = net_from_tree(parse(render(found.message)))
        assert serialise(again) == serialise(found)
        assert [layer.type for layer in again.layers] == [layer.type for layer in found.layers]
