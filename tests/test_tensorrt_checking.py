"""What TensorRT holds against the files that it came from: bit for bit, through a map, a formula, and a manifest."""

from __future__ import annotations

import copy
import json
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runner import ROOT, validate
from onnx import TensorProto, helper, numpy_helper
from tensorrt_nets import EXAMPLES, network, weights

import porter
from porter.dataclass import replace
from porter.errors import TensorRTError
from porter.graph.porting import PortOptions, open_network
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor
from porter.tensorrt import layers as l
from porter.tensorrt.building import BuildOptions, Built, build_engine
from porter.tensorrt.checking import net_manifest
from porter.tensorrt.checking.origin import origin
from porter.tensorrt.checking.weights import Report, check
from porter.tensorrt.layers import Layer, Network, Weights, stored, weights_of
from porter.tensorrt.live.live import build
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.package import find
from porter.tensorrt.substitution import with_values
from porter.tensorrt.walk.walk import read

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform"
)

DIGITS = ROOT / "examples/digits/digits.prototxt", ROOT / "examples/digits/digits.caffemodel"
RNG = np.random.default_rng(5)


def built(source: Path, file: Path | None, **options: Any) -> Built:
    """A network that was built and checked; nothing is written."""
    return build_engine(str(source), str(file) if file else None, None, BuildOptions(**options))


def against(report: Report | None) -> dict[str, int]:
    assert report is not None
    return dict(Counter([str(c.against) for c in report.weights]))


# ---- a model of ONNX with every way that weights go ------------------------------------------------------------------

ARRAYS = {
    "conv.weight": RNG.standard_normal((3, 3, 2, 4)).astype(np.float32),  # as TensorFlow has it: HWIO
    "conv.bias": np.array([np.nan, -0.0, 1e-40, -np.inf], np.float32),
    "bn.weight": RNG.standard_normal(4).astype(np.float32),
    "bn.bias": RNG.standard_normal(4).astype(np.float32),
    "bn.mean": RNG.standard_normal(4).astype(np.float32),
    "bn.var": RNG.random(4).astype(np.float32),
    "prelu.slope": RNG.standard_normal((4, 1, 1)).astype(np.float32),
    "fc.weight": RNG.standard_normal((5, 4 * 6 * 6)).astype(np.float32),
    "fc.bias": RNG.standard_normal(5).astype(np.float32),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Transpose", ["conv.weight"], ["w"], perm=[3, 2, 0, 1], name="turn"),
        helper.make_node("Conv", ["x", "w", "conv.bias"], ["a"], name="conv"),
        helper.make_node("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["b"], name="bn", epsilon=0.003),
        helper.make_node("PRelu", ["b", "prelu.slope"], ["c"], name="prelu"),
        helper.make_node("Flatten", ["c"], ["d"], name="flatten"),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@contextmanager
def lowered(path: Path) -> Iterator[tuple[Network, Any]]:
    with open_network(str(path), None, PortOptions()) as graph:
        yield lower(graph.model), graph


def scale_and_shift(dtype: Any) -> tuple[bytes, bytes]:
    gamma, beta, mean, variance = (ARRAYS[f"bn.{n}"].astype(np.float64) for n in ("weight", "bias", "mean", "var"))
    scale = gamma / np.sqrt(variance + np.float64(np.float32(0.003)))
    return scale.astype(dtype).tobytes(), (beta - mean * scale).astype(dtype).tobytes()


def holds(path: Path) -> dict[tuple[str, str], Tensor]:
    """What TensorRT holds, read by the walk alone."""
    with lowered(path) as (made, _):
        found = read(build(made, find()).network, find())
        return {(layer.name, role): w.tensor for layer in found.layers for role, w in weights_of(layer.operation).items()}


def test_what_tensorrt_holds(model: Path) -> None:
    """The oracle is numpy: the arrays that the file was written from, turned and computed here."""
    found = holds(model)
    assert found["conv", "kernel"].tobytes() == np.ascontiguousarray(ARRAYS["conv.weight"].transpose(3, 2, 0, 1)).tobytes()
    assert found["conv", "bias"].tobytes() == ARRAYS["conv.bias"].tobytes()
    assert (found["bn", "scale"].tobytes(), found["bn", "shift"].tobytes()) == scale_and_shift(np.float32)
    values = {tensor.tobytes() for tensor in found.values()}
    assert {ARRAYS[name].tobytes() for name in ("prelu.slope", "fc.weight", "fc.bias")} <= values


def test_the_way_from_the_file_is_proven(model: Path) -> None:
    made = built(model, None)
    assert made.report is not None
    assert made.report.equal
    assert against(made.report) == {"file": 5, "formula": 2}
    assert made.map is not None
    rules = made.map.splitlines()
    assert any(line.replace(" ", "").startswith("conv.weight:abcd<->") and "dcab" in line.replace(" ", "") for line in rules), made.map
    assert sum("bn." in line for line in rules) == 4


@pytest.mark.parametrize(("dtype", "numpy_type"), [("float16", np.dtype(np.float16)), ("bfloat16", None)])
def test_half_precision_is_rounded_once(model: Path, dtype: str, numpy_type: Any) -> None:
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16) if numpy_type is None else numpy_type
    made = built(model, None, dtype=dtype)
    assert made.report is not None
    assert made.report.equal
    found = {(c.layer, c.role): c.weights.tensor for c in made.report.weights}
    assert found["fc/weight", "weights"].tobytes() == ARRAYS["fc.weight"].astype(kind).tobytes()
    assert found["bn", "scale"].dtype.name == dtype
    if numpy_type is not None:  # ml_dtypes rounds float64 by way of float32
        assert (found["bn", "scale"].tobytes(), found["bn", "shift"].tobytes()) == scale_and_shift(kind)
    assert made.map is not None
    assert f"cast({'f16' if dtype == 'float16' else 'bf16'})" in made.map


# ---- what must not pass ----------------------------------------------------------------------------------------------


def changed(made: Network, name: str, change: Any) -> Network:
    """The network with the bytes of one weight changed by a function."""

    def new(weights: Weights | None) -> Weights | None:
        if weights is None or weights.tensor.name != name:
            return weights
        data = bytearray(weights.tensor.tobytes())
        change(data)
        return replace(weights, tensor=Tensor(weights.tensor.spec, BytesPayload.of(bytes(data))))

    def layer(old: Layer) -> Layer:
        return replace(old, operation=replace(old.operation, **{role: new(w) for role, w in weights_of(old.operation).items()}))

    return replace(made, layers=tuple(map(layer, made.layers)))


def flip(data: bytearray) -> None:
    data[4 * 7] ^= 1


def verdict(path: Path, change: Any) -> Report:
    """What the check says of a live network that was built from other records than the right ones."""
    with lowered(path) as (made, graph):
        live = build(change(made), find())
        return check(made, read(live.network, find(), copy=False), origin(made, graph.model, graph.store))


def test_one_bit(model: Path) -> None:
    report = verdict(model, lambda made: changed(made, "fc.weight", flip))
    assert not report.equal
    (problem,) = report.problems
    old = ARRAYS["fc.weight"].reshape(-1)[7]
    new = (old.view(np.uint32) ^ np.uint32(1)).view(np.float32)
    assert problem == (
        "weights of 'fc/weight', which is 'fc.weight': 1 of 720 values differ, by 1 ULP at most; "
        f"[0, 7] is {old!s} (0x{old.view(np.uint32):08x}) in the file, {new!s} (0x{new.view(np.uint32):08x}) in TensorRT"
    )


@pytest.mark.parametrize(("at", "byte"), [(1, 0x02), (7, 0x00), (8, 0x00)], ids=["payload of a NaN", "sign of zero", "subnormal"])
def test_bits_that_comparing_numbers_does_not_see(model: Path, at: int, byte: int) -> None:
    def change(data: bytearray) -> None:
        assert data[at] != byte
        data[at] = byte

    assert not verdict(model, lambda made: changed(made, "conv.bias", change)).equal


def test_a_scale_computed_in_float32(model: Path) -> None:
    """As most loaders compute it: other bits somewhere, and the check says where."""
    gamma, variance = ARRAYS["bn.weight"], ARRAYS["bn.var"]
    wrong = gamma / np.sqrt(variance + np.float32(0.003), dtype=np.float32)
    assert wrong.tobytes() != scale_and_shift(np.float32)[0]

    def change(data: bytearray) -> None:
        data[:] = wrong.tobytes()

    report = verdict(model, lambda made: changed(made, "bn.scale", change))
    assert [(c.role, c.against, c.equal) for c in report.weights if c.layer == "bn"] == [
        ("shift", "formula", True),
        ("scale", "formula", False),
    ]


def test_a_wrong_record_does_not_prove_itself(model: Path) -> None:
    """Where the network was lowered wrongly, what TensorRT holds agrees with the records, and not with the file."""
    with lowered(model) as (made, graph):
        wrong = changed(made, "conv.bias", flip_first)
        live = build(wrong, find())
        report = check(wrong, read(live.network, find(), copy=False), origin(wrong, graph.model, graph.store))
    assert not report.equal
    assert report.problems == ("'conv.bias' is not what the file makes of it",)


def flip_first(data: bytearray) -> None:
    data[0] ^= 1


def test_weights_that_are_not_there_and_weights_that_are_too_many(model: Path) -> None:
    def without_bias(made: Network) -> Network:
        layers = [replace(x, operation=replace(x.operation, bias=None)) if x.name == "conv" else x for x in made.layers]
        return replace(made, layers=tuple(layers))

    report = verdict(model, without_bias)
    assert report.problems == ("bias of 'conv', which is 'conv.bias': TensorRT holds none",)
    with lowered(model) as (made, _):
        held = read(build(made, find()).network, find())
        surplus = check(without_bias(made), held, None)
    assert surplus.problems == ("TensorRT holds a bias for 'conv', which the network has not",)


def test_another_number_of_values_or_another_type(model: Path) -> None:
    with lowered(model) as (made, _):
        held = read(build(made, find()).network, find())
    short = {"bias": Weights(weights("b", 3).tensor)}
    other = {"bias": Weights(weights("b", 4, dtype="float16").tensor)}
    for given, text in ((short, "float32 [3] in TensorRT"), (other, "float16 [4] in TensorRT")):
        layers = [replace(x, operation=replace(x.operation, **given)) if x.name == "conv" else x for x in held.layers]
        (problem,) = check(made, replace(held, layers=tuple(layers)), None).problems
        assert problem == f"bias of 'conv', which is 'conv.bias': float32 [4] in the graph, {text}"


# ---- Caffe -----------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    made = built(*DIGITS)
    assert made.report is not None
    assert made.report.equal
    assert "file" in against(made.report)
    assert (made.files, made.package) == ({}, find())


def test_weights_that_layers_share(tmp_path: Path) -> None:
    """One tensor of the file is two of TensorRT's."""
    names = {"gamma", "beta", "mean1", "var1", "mean2", "var2"}
    nodes = [
        helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean1", "var1"], ["a"], name="one"),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean2", "var2"], ["y"], name="two"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 2, 2]) for name in "xy"]
    arrays = [numpy_helper.from_array(RNG.random(4).astype(np.float32), name) for name in sorted(names)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], arrays), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "model.onnx")
    made = built(tmp_path / "model.onnx", None)
    assert made.report is not None
    assert made.report.equal
    assert against(made.report) == {"formula": 4}
    assert made.map is not None
    first, again = made.map.split("# What is taken once more.")
    assert [sum(line.startswith("gamma") for line in part.splitlines()) for part in (first, again)] == [1, 1]


def test_generated_weights_are_said_to_be_so() -> None:
    made = built(DIGITS[0], None)
    assert made.report is not None
    assert made.report.equal
    assert made.map is None
    assert "file" not in against(made.report)
    assert made.notices[0].startswith("no weights were given")


def test_folded_weights_are_the_graphs() -> None:
    made = built(*DIGITS, graph=PortOptions(fold_bn=True))
    assert made.report is not None
    assert made.report.equal
    assert "graph" in against(made.report)


# ---- values out of a .wts --------------------------------------------------------------------------------------------


def written(model: Path, path: Path, change: Any = None) -> Path:
    with lowered(model) as (made, _):
        tensors = [w.tensor for w in stored(made).values()]
        porter.save(TensorStore(change(tensors) if change else tensors), path)
    return path


def test_values_of_a_wts(model: Path, tmp_path: Path) -> None:
    """The values are the file's: another batch normalisation comes to another scale."""

    def double(tensors: list[Tensor]) -> list[Tensor]:
        return [Tensor.from_array(t.name, np.asarray(t.numpy()) * np.float32(2)) for t in tensors]

    path = written(model, tmp_path / "model.wts", double)
    made = built(model, None, wts=str(path))
    assert made.report is not None
    assert made.report.equal
    assert against(made.report) == {"file": 5, "formula": 2}
    found = {(layer["name"], w["role"]): w["sha256"] for layer in made.manifest["layers"] for w in layer["weights"]}
    assert found["fc/weight", "weights"] == Tensor.from_array("", ARRAYS["fc.weight"] * 2).digest()
    gamma, variance = ARRAYS["bn.weight"].astype(np.float64) * 2, ARRAYS["bn.var"].astype(np.float64) * 2
    scale = gamma / np.sqrt(variance + np.float64(np.float32(0.003)))
    assert found["bn", "scale"] == Tensor.from_array("", scale.astype(np.float32)).digest()


def test_a_wts_without_shapes(model: Path, tmp_path: Path) -> None:
    path = written(model, tmp_path / "model.wts")
    Path(f"{path}.json").unlink()
    made = built(model, None, wts=str(path), dtype="bfloat16")
    assert made.report is not None
    assert made.report.equal
    assert made.map is not None
    assert "cast(bf16)" in made.map


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda tensors: tensors[1:], "T203", "no values for 'conv.weight'"),
        (lambda tensors: [*tensors, weights("more.weight", 2).tensor], "T204", "called 'more.weight'"),
        (lambda tensors: [weights(tensors[0].name, 5).tensor, *tensors[1:]], "T205", "5 values of float32 in the file, and 72 of float32"),
    ],
)
def test_a_wts_of_another_network(model: Path, tmp_path: Path, change: Any, code: str, words: str) -> None:
    path = written(model, tmp_path / "model.wts", change)
    with pytest.raises(TensorRTError) as caught:
        built(model, None, wts=str(path))
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message
    assert caught.value.where.path == str(path)


def test_every_kind_of_layer_takes_new_values() -> None:
    for name in ("convolution", "deconvolution", "scale", "scale with a power", "prelu"):
        made = EXAMPLES[name]
        file = TensorStore([Tensor.from_array(n, -np.asarray(w.tensor.numpy())) for n, w in stored(made).items()])
        new = stored(with_values(made, file))
        assert {n: w.tensor.tobytes() for n, w in new.items()} == {n: t.tobytes() for n, t in file.items()}


# ---- the manifest ----------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Path:
    build_engine(str(model), None, str(tmp_path / "net.engine"), BuildOptions(optimization_level=0))
    return tmp_path / "net.json"


def test_the_manifest(model: Path, engine: Path) -> None:
    document = json.loads(engine.read_text())
    validate(document, "tensorrt_net")
    assert document["package"]["name"] == find().name
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 2, 8, 8]}]
    assert document["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 5]}]
    (bias,) = [w for layer in document["layers"] for w in layer["weights"] if w["tensor"] == "conv.bias"]
    assert (bias["role"], bias["sources"], bias["count"], bias["shape"]) == ("bias", ["conv.bias"], 4, [4])
    assert bias["sha256"] == Tensor.from_array("b", ARRAYS["conv.bias"]).digest()
    kernel = next(w for layer in document["layers"] for w in layer["weights"] if w["tensor"] == "conv.weight")
    assert kernel.get("formula") == "transpose(3, 2, 0, 1)"
    with lowered(model) as (made, _):
        live = build(made, find())
        held = read(live.network, find(), copy=False)
        assert net_manifest.verify(net_manifest.read(str(engine)), held) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: changed(made, "fc.weight", flip), "'fc/weight', weights: other values: CRC-32"),
        (lambda made: renamed(made, "conv", "conv9"), "there is no layer 'conv'"),
        (lambda made: renamed(made, "conv", "conv9"), "the layer 'conv9' is not in the manifest"),
        (lambda made: renamed(made, "flatten", "bn", "flatten"), "the layer 'flatten' is Scale, the manifest says Shuffle"),
        (lambda made: renamed(made, "flatten", "bn", "flatten"), "'flatten' holds a scale, which the manifest has not"),
        (lambda made: renamed(made, "flatten", "bn", "flatten"), "'bn', shift: it is not there"),
    ],
)
def test_a_manifest_of_another_network(model: Path, engine: Path, change: Any, words: str) -> None:
    with lowered(model) as (made, _):
        held = read(build(change(made), find()).network, find())
    found = net_manifest.verify(net_manifest.read(str(engine)), held)
    assert any(line.startswith(words) for line in found), found


def renamed(made: Network, *names: str) -> Network:
    """Layers with the names of each other: the last of `names` is given to the one before it, and so on, the first to the last."""
    new = dict(pairwise(names))
    return replace(made, layers=tuple([replace(x, name=new.get(x.name, x.name)) for x in made.layers]))


def test_another_type_than_the_manifests(engine: Path) -> None:
    manifest = net_manifest.read(str(engine))
    entry = replace(manifest.weights[0], dtype="float16")
    made = network(l.Convolution(weights("k", 4, 2, 3, 3), None, (1, 1), (1, 1), (0, 0), (0, 0)), {"x": (1, 2, 8, 8)})
    made = renamed(made, "layer", "conv")
    one = replace(manifest, layers={"conv": "Convolution"}, weights=(entry,))
    assert net_manifest.verify(one, made) == ("'conv', kernel: 72 values of float32, the manifest says 72 of float16",)


BROKEN: dict[str, Any] = {
    "no object": lambda d: [],
    "another kind": lambda d: d | {"kind": "wts-sidecar"},
    "a later version": lambda d: d | {"porter": 2},
    "no layers": lambda d: {k: v for k, v in d.items() if k != "layers"},
    "a layer without a name": lambda d: put(d, ["layers", 0], "name", None),
    "a layer twice": lambda d: d | {"layers": d["layers"] * 2},
    "a role twice": lambda d: put(d, ["layers", 0], "weights", d["layers"][0]["weights"] * 2),
    "a count that is not the shape's": lambda d: put(d, ["layers", 0, "weights", 0], "count", 5),
    "a negative size": lambda d: put(d, ["layers", 0, "weights", 0], "shape", [-1]),
    "a shape that is none": lambda d: put(d, ["layers", 0, "weights", 0], "shape", 4),
    "an unknown type": lambda d: put(d, ["layers", 0, "weights", 0], "dtype", "float33"),
    "a digest that is none": lambda d: put(d, ["layers", 0, "weights", 0], "sha256", "00"),
}


def put(document: Any, path: list[Any], key: str, value: Any) -> Any:
    made = copy.deepcopy(document)
    place = made
    for step in path:
        place = place[step]
    place[key] = value
    return made


@pytest.mark.parametrize("name", BROKEN)
def test_manifests_that_are_none(tmp_path: Path, name: str) -> None:
    document = net_manifest.document(EXAMPLES["convolution"], None)
    validate(json.loads(net_manifest.dumps(document)), "tensorrt_net")
    path = tmp_path / "net.json"
    path.write_text(json.dumps(BROKEN[name](document)))
    with pytest.raises(TensorRTError) as caught:
        net_manifest.read(str(path))
    assert (caught.value.code, caught.value.where.path) == ("T201", str(path))


def test_a_manifest_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(TensorRTError, match="no JSON"):
        net_manifest.read(str(tmp_path / "net.json"))
    with pytest.raises(porter.errors.FileAccessError):
        net_manifest.read(str(tmp_path / "none.json"))


# ---- recorded networks -----------------------------------------------------------------------------------------------

RECORDED = (
    *("cifar10_full_v1", "cifar10_quick_h5", "hyperlpr_finemapping", "lenet_v1", "lenet_v2", "mtcnn_det1", "mtcnn_det2", "mtcnn_det3"),
    *("rand_MobileNetSSD_voc", "rand_ResNet-50", "rand_bvlc_alexnet", "rand_bvlc_caffenet_full_conv", "rand_bvlc_googlenet", "rand_fcn8s"),
    *("rand_legacy_caffenet_v1", "rand_mobilenet_v1", "rand_soeaver_inception-v3", "rand_squeezenet_v1.1", "ultraface_slim"),
    *("waifu2x_upconv7", "yufacedetectnet_v1"),
)


@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in RECORDED), *((name, "float16") for name in RECORDED[::5])])
def test_recorded_networks_hold_what_their_files_say(shared: Path, name: str, dtype: str) -> None:
    folder = shared / "oracle" / name
    (file,) = folder.glob("model.*")
    made = built(folder / "deploy.prototxt", file, dtype=dtype)
    assert made.report is not None
    assert made.report.equal, made.report.problems
    assert "file" in against(made.report)
