"""What TensorRT holds, compared with the original: recorded networks from end to end, and networks with one thing wrong, which is found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import tensorrt_rtx as trt
from caffe_runs import cases
from cli_runner import Porter
from tensorrt_runs import Run, model_with_values, run

from porter.errors import GraphError, TensorRTError
from porter.graph import recording
from porter.tensorrt import package
from porter.tensorrt.checking.values import Compared, Verification, compare, verify
from porter.tensorrt.layers import Layer, Network, Softmax
from porter.tensorrt.live import engine_run, live
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.walk import walk

MODEL = """
<ir_version: 9, opset_import: ["" : 17]>
small (float[2, 3, 9, 8] data) => (float[2, 4] prob, float[2, 6, 2, 3] sum)
<float[6, 3, 3, 2] conv_weight, float[6] conv_bias, float[6] bn_weight, float[6] bn_bias, float[6] bn_mean, float[6] bn_var,
 float[4, 36] fc_weight, float[4] fc_bias>
{
    conv = Conv <pads = [1, 0, 0, 1], strides = [2, 1]> (data, conv_weight, conv_bias)
    bn = BatchNormalization <epsilon = 0.001> (conv, bn_weight, bn_bias, bn_mean, bn_var)
    leaky = LeakyRelu <alpha = 0.25> (bn)
    most = MaxPool <kernel_shape = [2, 2], strides = [2, 3], pads = [1, 0, 0, 0]> (leaky)
    mean = AveragePool <kernel_shape = [2, 2], strides = [2, 3], pads = [1, 0, 0, 0], count_include_pad = 1> (leaky)
    sum = Add (most, mean)
    flat = Flatten (sum)
    fc = Gemm <transB = 1> (flat, fc_weight, fc_bias)
    prob = Softmax <axis = 1> (fc)
}
"""


MODEL_PROTO = model_with_values(MODEL)
FEED = np.random.default_rng(5).standard_normal((2, 3, 9, 8)).astype(np.float32)


def held(change: Callable[[Any, list[Any]], None] | None = None) -> tuple[Network, Network, list[Any]]:
    """The small model's layers, and what TensorRT has of them after `change(layers by name, kept)`."""
    lowered = lower(ir.from_proto(MODEL_PROTO))
    made = live.build(lowered, package.find())
    kept: list[Any] = [made]
    if change is not None:
        layers = [made.network.get_layer(i) for i in range(made.network.num_layers)]
        change({layer.name: layer for layer in layers}, kept)
    return lowered, walk.read(made.network, made.package), kept


def verified(change: Callable[[Any, list[Any]], None] | None = None, **options: Any) -> Verification:
    lowered, network, _ = held(change)
    return verify(ir.from_proto(MODEL_PROTO), network, {"data": FEED}, values=lowered.values, **options)


# ---- recorded networks -------------------------------------------------------------------------------------------------


def test_recorded_networks_agree_at_every_layer_with_the_graph_and_with_caffe(shared: Path) -> None:
    """All 21: built, read back, said as ONNX, and within 1e-4 of the largest magnitude everywhere; in fact within 1e-5."""
    for folder in cases(shared / "oracle"):
        start = time.perf_counter()
        found = run(folder)
        print(f"{folder.name:32} {_said(found)}, {time.perf_counter() - start:.1f} s")
        assert found.verification.same, (folder.name, found.verification.first)
        assert found.worst("original") < 1e-5
        assert found.worst("record") < 1e-5
        assert {c.tensor for c in found.verification.compared} >= set(found.held.outputs)


def _said(found: Run) -> str:
    counts = [sum(c.against == kind for c in found.verification.compared) for kind in ("original", "record")]
    return f"{counts[0]} values {found.worst('original'):.1e}, {counts[1]} recorded {found.worst('record'):.1e}"


REFUSED = ("ROIPooling_", "Upsample_after", "Upsample_pad", "Upsample_scale2", "Upsample_segnet", "Upsample_upsample", "Pooling_max_mask")
"""What TensorRT has no layers for: the maximum of regions, and the places of maxima."""


def test_recorded_layers_agree(shared: Path) -> None:
    """All 275 networks of one layer, but for those that TensorRT lacks."""
    refused, same = [], 0
    for folder in cases(shared / "oracle" / "zoo"):
        try:
            found = run(folder)
        except TensorRTError as error:
            assert error.code == "T001", (folder.name, str(error))
            refused.append(folder.name)
            continue
        assert found.verification.same, (folder.name, found.verification.first)
        same += 1
    print(f"{same} agree, refused: {', '.join(refused)}")
    assert all(name.startswith(REFUSED) for name in refused)
    assert (same, len(refused)) == (265, 10)


def test_box_searches_in_half_precision_find_other_boxes_and_values_beyond_its_range_are_told(shared: Path) -> None:
    boxes = run(shared / "oracle" / "yufacedetectnet_v1", precision="float16", tolerance=2e-2).verification
    assert not boxes.same
    far = run(shared / "oracle" / "rand_ResNet-50", precision="float16", tolerance=2e-2).verification
    assert far.first is not None
    assert far.first.found == float("inf")


@pytest.mark.parametrize(("name", "precision"), [("mtcnn_det3", "float16"), ("rand_squeezenet_v1.1", "bfloat16")])
def test_recorded_networks_agree_in_half_precision_as_far_as_that_goes(shared: Path, name: str, precision: str) -> None:
    found = run(shared / "oracle" / name, precision=precision, tolerance={"float16": 2e-2, "bfloat16": 1e-1}[precision])
    assert found.verification.same
    # It does compute in that type.
    assert found.worst("original") > {"float16": 1e-4, "bfloat16": 1e-3}[precision]
    assert not run(shared / "oracle" / name, precision=precision).verification.same


# ---- one thing wrong ---------------------------------------------------------------------------------------------------


def test_a_network_as_it_should_be() -> None:
    found = verified()
    assert found.same
    assert found.first is None
    assert {c.value for c in found.compared} == {"conv", "bn", "leaky", "most", "mean", "sum", "flat", "fc", "prob"} - set(found.left)
    assert found.worst is not None
    assert found.worst.relative < 1e-6


def _as(layer: Any, kind: Any) -> Any:
    layer.__class__ = kind
    return layer


def _padding(layers: Any, kept: list[Any]) -> None:
    conv = _as(layers["conv"], trt.IConvolutionLayer)
    conv.pre_padding, conv.post_padding = conv.post_padding, conv.pre_padding


def _one_weight(layers: Any, kept: list[Any]) -> None:
    conv = _as(layers["conv"], trt.IConvolutionLayer)
    values = conv.kernel.copy().reshape(-1)
    values[7] += 0.5
    kept.append(values)
    conv.kernel = trt.Weights(values)


def _scale_for_shift(layers: Any, kept: list[Any]) -> None:
    bn = _as(layers["bn"], trt.IScaleLayer)
    values = bn.scale.copy(), bn.shift.copy()
    kept.append(values)
    bn.shift, bn.scale = (trt.Weights(v) for v in values)


def _slope(layers: Any, kept: list[Any]) -> None:
    _as(layers["leaky"], trt.IActivationLayer).alpha = 0.26


def _kind(layers: Any, kept: list[Any]) -> None:
    _as(layers["most"], trt.IPoolingLayer).type = trt.PoolingType.AVERAGE


def _count(layers: Any, kept: list[Any]) -> None:
    _as(layers["mean"], trt.IPoolingLayer).average_count_excludes_padding = True


def _difference(layers: Any, kept: list[Any]) -> None:
    _as(layers["sum"], trt.IElementWiseLayer).op = trt.ElementWiseOperation.SUB


def _same_branch(layers: Any, kept: list[Any]) -> None:
    layers["sum"].set_input(1, layers["most"].get_output(0))


def _axis(layers: Any, kept: list[Any]) -> None:
    _as(layers["prob"], trt.ISoftMaxLayer).axes = 1


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (_padding, "conv"),
        (_one_weight, "conv"),
        (_scale_for_shift, "bn"),
        (_slope, "leaky"),
        (_kind, "most"),
        (_count, "mean"),
        (_difference, "sum"),
        (_same_branch, "sum"),
        (_axis, "prob"),
    ],
)
def test_one_wrong_setting_is_found_at_its_layer(change: Callable[[Any, list[Any]], None], layer: str) -> None:
    found = verified(change)
    assert not found.same
    assert found.first is not None
    assert found.first.layer is not None
    assert found.first.layer.name == layer
    assert found.first.place is not None
    assert found.first.problem is not None
    assert "values differ" in found.first.problem


def test_what_a_mistake_entails_is_told_from_the_mistake() -> None:
    found = verified(_slope)
    wrong = [c.value for c in found.compared if c.problem is not None and not c.follows]
    assert wrong == ["leaky"]
    assert {"most", "mean", "sum"} <= {c.value for c in found.drifted}
    assert all(c.itself is not None and c.itself < 1e-6 for c in found.drifted)


def test_two_mistakes_are_both_found() -> None:
    def both(layers: Any, kept: list[Any]) -> None:
        _slope(layers, kept)
        _axis(layers, kept)

    assert [c.value for c in verified(both).compared if c.problem is not None and not c.follows] == ["leaky", "prob"]


def test_rounding_that_adds_up_is_no_mistake() -> None:
    """A chain of layers that each doubles how far apart the values are: the first is in half precision, and all are right."""
    found = verified(tolerance=1e-9)
    assert not found.same  # no layer sums in the same order
    text = """<ir_version: 9, opset_import: ["" : 17]> chain (float[4] x) => (float[4] z)
    { y = Reciprocal (x)  s = Sum (x, y, x)  d = Sub (s, y)  z = Sub (d, x) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    lowered = lower(model)
    made = live.build(lowered, package.find())
    feeds = {"x": np.array([1e-3, 3e-4, 7e-5, 2e-6], np.float32)}
    found = verify(model, walk.read(made.network, made.package), feeds, values=lowered.values, tolerance=1e-7)
    assert found.same
    assert all(c.follows for c in found.compared if c.problem is not None)


def test_shapes_that_tensorrt_and_its_layers_disagree_about_are_found() -> None:
    lowered, network, _ = held()
    shapes = dict(network.shapes) | {"leaky": (2, 6, 5, 9)}
    found = verify(ir.from_proto(MODEL_PROTO), _with(network, shapes=shapes), {"data": FEED}, values=lowered.values)
    assert found.first is not None
    assert found.first.value == "leaky"
    assert "TensorRT says that it has the shape [2, 6, 5, 9]" in str(found.first.problem)


def _with(network: Network, **changes: Any) -> Network:
    from porter.dataclass import replace

    return replace(network, **changes)


def test_a_value_of_another_shape_is_no_crash_and_what_reads_it_is_compared_by_what_it_is_made_of() -> None:
    _, network, _ = held(_slope)
    values = {"conv": "conv", "bn": "most", "leaky": "leaky", "most": "most", "prob": "prob"}
    found = verify(ir.from_proto(MODEL_PROTO), network, {"data": FEED}, values=values)
    wrong = {c.value: c.problem for c in found.compared if c.problem is not None and not c.follows}
    assert set(wrong) == {"leaky", "bn"}
    assert wrong["bn"] == "its shape is [2, 6, 2, 3], and the original's [2, 6, 4, 8]"


def test_values_are_fetched_in_batches_that_fit_the_memory() -> None:
    whole, parts = verified(), verified(budget=4000)
    assert whole.batches == 1
    assert parts.batches > 3
    assert parts.compared == whole.compared


def test_networks_that_have_nothing_in_common_are_not_the_same() -> None:
    _, network, _ = held()
    found = verify(ir.from_proto(MODEL_PROTO), network, {"data": FEED}, values={})
    assert not found.same
    assert found.first is None


# ---- numbers -----------------------------------------------------------------------------------------------------------


def _numbers(wanted: Any, found: Any, tolerance: float = 1e-4) -> Compared:
    a, b = np.asarray(wanted), np.asarray(found)
    return compare(Compared("v", "v", None, "original", b.shape), a, b, tolerance)


def test_differences_are_measured_by_the_largest_magnitude() -> None:
    found = _numbers(np.array([100, 1, 0], np.float32), np.array([100, 1.005, 0], np.float32))
    assert found.problem is None
    assert math.isclose(found.relative, 5e-5, rel_tol=1e-3)
    found = _numbers(np.array([[1, 1], [0, 1]], np.float32), np.array([[1, 1], [0.001, 1.1]], np.float32))
    assert (found.place, found.problem) == ((1, 0), "2 of 4 values differ")
    assert found.wanted == 0
    assert math.isclose(found.found or 0, 0.001, rel_tol=1e-6)


def test_nan_is_nan_and_infinity_is_infinity() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert _numbers(odd, odd.copy()).problem is None
    assert _numbers(odd, odd.copy()).scale == 1
    for place, value in ((0, 0.0), (1, -np.inf), (2, np.nan), (3, np.nan), (3, np.inf)):
        other = odd.copy()
        other[place] = value
        assert _numbers(odd, other).place == (place,)
        assert _numbers(odd, other).problem == "1 of 4 values differ"


def test_integers_have_to_be_equal() -> None:
    assert _numbers(np.array([10**6, 3]), np.array([10**6, 3])).problem is None
    assert _numbers(np.array([10**6, 3]), np.array([10**6 + 1, 3])).place == (0,)
    assert _numbers(np.array([True, False]), np.array([True, True])).place == (1,)
    assert "its shape is [1], and the original's [2]" in str(_numbers(np.array([1, 2]), np.array([1])).problem)


# ---- recorded runs -----------------------------------------------------------------------------------------------------


def test_a_record_gives_inputs_layers_and_outputs(tmp_path: Path) -> None:
    from porter.graph.caffe.importer import LayerRecord

    key = "layer/0001/a/b/top"
    np.savez(
        tmp_path / "g.npz",
        **{
            "input/data": np.ones((1, 2), np.float32),
            "layer_keys": np.array(["layer/0000/loader/image", key]),
            "layer/0000/loader/image": np.arange(4, dtype=np.float32),
            "layer/0000/loader/image@shape": np.array([2, 2]),
            "layer/0000/loader/image@absmax": np.float32(3),
            key: np.array([5, 6], np.float32),
            f"{key}@idx": np.array([7, 2]),
            f"{key}@shape": np.array([2, 4]),
            f"{key}@absmax": np.float32(9),
            "output/prob": np.array([[1, -2, np.inf]], np.float32),
        },
    )
    record = recording.read(str(tmp_path / "g.npz"))
    assert {name: array.shape for name, array in recording.inputs(record).items()} == {"data": (1, 2), "image": (2, 2)}
    prob, top = recording.recorded(record, [LayerRecord("a/b", "ReLU", {"top": "value"})], ["prob", "other"])
    assert (top.value, top.shape, top.scale, list(top.data)) == ("value", (2, 4), 9.0, [5, 6])
    assert top.index is not None
    assert (prob.value, prob.index, prob.scale) == ("prob", None, 2.0)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(1)}, "has no 'input/…'"),
        ({"layer_keys": np.array(["layer/0000/a/b"]), "layer/0000/a/b": np.zeros(1)}, "lacks what belongs to 'layer/0000/a/b'"),
    ],
)
def test_files_that_are_no_record_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(GraphError, match=said):
        recording.read(str(tmp_path / "g.npz"))


# ---- the command -------------------------------------------------------------------------------------------------------

BY_HAND = """
import numpy as np
import tensorrt_rtx as trt

PADDING = ((1, 0), (0, 1))


def build(network, weights):
    kept = []

    def held(array):
        kept.append(np.ascontiguousarray(array))
        return trt.Weights(kept[-1])

    x = network.add_input("{input}", trt.float32, (2, 3, 9, 8))
    conv = network.add_convolution_nd(x, 6, (3, 2), held(weights["conv_weight"]), held(weights["conv_bias"]))
    conv.name = "conv"
    conv.get_output(0).name = "conv"
    conv.pre_padding, conv.post_padding, conv.stride_nd = *PADDING, (2, 1)
    scale = weights["bn_weight"] / np.sqrt(weights["bn_var"] + np.float32(1e-3))
    shift = weights["bn_bias"] - weights["bn_mean"] * scale
    bn = network.add_scale(conv.get_output(0), trt.ScaleMode.CHANNEL, held(shift), held(scale), held(np.ones(6, np.float32)))
    bn.name = "bn"
    leaky = network.add_activation(bn.get_output(0), trt.ActivationType.LEAKY_RELU)
    leaky.alpha = {slope}
    leaky.get_output(0).name = "leaky"
    pools = []
    for kind in (trt.PoolingType.MAX, trt.PoolingType.AVERAGE):
        pool = network.add_pooling_nd(leaky.get_output(0), kind, (2, 2))
        pool.stride_nd, pool.pre_padding, pool.average_count_excludes_padding = (2, 3), (1, 0), False
        pools.append(pool.get_output(0))
    total = network.add_elementwise(*pools, trt.ElementWiseOperation.SUM)
    flat = network.add_shuffle(total.get_output(0))
    flat.reshape_dims = (2, 36)
    matrix = network.add_constant((4, 36), held(weights["fc_weight"]))
    product = network.add_matrix_multiply(
        flat.get_output(0), trt.MatrixOperation.NONE, matrix.get_output(0), trt.MatrixOperation.TRANSPOSE
    )
    bias = network.add_constant((1, 4), held(weights["fc_bias"]))
    fc = network.add_elementwise(product.get_output(0), bias.get_output(0), trt.ElementWiseOperation.SUM)
    prob = network.add_softmax(fc.get_output(0))
    prob.axes = 2
    prob.get_output(0).name = "{output}"
    total.get_output(0).name = "{sum}"
    for tensor in (prob.get_output(0), total.get_output(0)):
        network.mark_output(tensor)
    return kept


def lone(network):
    network.mark_output(network.add_identity(network.add_input("data", trt.float32, (2, 3, 9, 8))).get_output(0))


def nothing(network):
    pass


def failing(network):
    raise KeyError("conv9.weight")
"""


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Path]:
    """`files(slope=…)`: the folder with the model and the network by hand."""
    onnx.save(MODEL_PROTO, tmp_path / "small.onnx")

    def write(slope: str = "0.25", names: tuple[str, str, str] = ("data", "prob", "sum")) -> Path:
        text = BY_HAND.replace("{slope}", slope)
        for place, name in zip(("{input}", "{output}", "{sum}"), names, strict=True):
            text = text.replace(place, name)
        (tmp_path / "my_net.py").write_text(text)
        return tmp_path

    return write


def test_verify_says_what_was_compared_and_what_nobody_knows_without_a_gpu(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files()
    found = porter_cli("tensorrt", "verify", "small.onnx")
    assert found.code == 0
    assert "weights: " in found.out
    assert "same: " in found.out
    assert "1 CONVOLUTION" in found.out
    if engine_run.device() is None:
        assert "not known without a GPU: which kernels" in found.err
    lines = [line.split() for line in found.out.splitlines() if "CONVOLUTION" in line and "original" in line]
    assert lines[0][:5] == ["conv", "conv", "CONVOLUTION", "2×6×4×8", "original"]
    quiet = porter_cli("tensorrt", "verify", "small.onnx", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_verify_as_json(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files()
    found = porter_cli("tensorrt", "verify", "small.onnx", "--json", "--seed", "4")
    assert found.code == 0
    assert found.json["same"]
    assert found.json["fed"] == {"input": None, "golden": None, "seed": 4}
    assert found.json["covered"]["POOLING"] == 2
    assert found.json["held"]["weights"] == found.json["held"]["equal"] > 0


def test_a_network_built_by_hand_is_verified(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files()
    found = porter_cli("tensorrt", "verify", "small.onnx", "--network", "my_net.py:build", "--json")
    assert found.code == 0
    assert {c["value"] for c in found.json["compared"]} == {"conv", "leaky", "prob", "sum"}
    # Scale and shift were computed in float32 there, and the third weight of the layer is one more than porter gives it.
    assert found.json["held"]["weights"] == 7
    assert any(text.startswith(("scale of 'bn'", "shift of 'bn'", "power of 'bn'")) for text in found.json["held"]["others"])


def test_a_mistake_in_a_network_built_by_hand_is_found(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files(slope="0.1")
    found = porter_cli("tensorrt", "verify", "small.onnx", "--network", "my_net.py:build")
    assert found.code == 1
    assert "different: 'leaky', against the original" in found.out
    assert "kind LEAKY_RELU, alpha 0.1" in found.out
    assert "2 values more follow from what comes before" in found.out
    document = porter_cli("tensorrt", "verify", "small.onnx", "--network", "my_net.py:build", "--json").json
    assert document["first"]["value"] == "leaky"
    assert document["first"]["type"] == "ACTIVATION"
    assert document["first"]["settings"]["kind"] == "LEAKY_RELU"


def test_outputs_with_other_names_are_matched_in_their_order(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files(names=("image", "classes", "both"))
    found = porter_cli("tensorrt", "verify", "small.onnx", "--network", "my_net.py:build")
    assert found.code == 0
    assert "matched by their order: 'data' as 'image', 'prob' as 'classes', 'sum' as 'both'" in found.err


def test_weights_for_a_network_by_hand_may_come_from_a_file_of_their_own(porter_cli: Porter, files: Callable[..., Path]) -> None:
    folder = files()
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in MODEL_PROTO.graph.initializer}
    np.savez(folder / "weights.npz", **arrays)
    arguments = ("tensorrt", "verify", "small.onnx", "--network", "my_net.py:build", "--wts", "weights.npz")
    assert porter_cli(*arguments).code == 0
    np.savez(folder / "weights.npz", **{**arrays, "fc_bias": arrays["fc_bias"] * np.float32(1 + 1e-6)})
    found = porter_cli(*arguments)
    assert found.code == 0
    assert "tensors of 'weights.npz' are not the original's bit for bit: by" in found.err
    np.savez(folder / "weights.npz", **{**arrays, "fc_bias": arrays["fc_bias"] * 2})
    found = porter_cli(*arguments)
    assert found.code == 1
    assert "'prob'" in found.out


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("my_net.py:lone", "T342", "the original has 2 outputs"),
        ("my_net.py:nothing", "T343", "built no network"),
        ("my_net.py:failing", "T343", "KeyError: 'conv9.weight'"),
        ("my_net.py:other", "T343", "no function or class 'other'"),
        ("my_net.py", "T343", "names no function"),
        ("none.py:build", "I001", "no such file"),
        ("small.onnx:build", "T343", "'.py'"),
        ("broken.py:build", "T343", "SyntaxError"),
    ],
)
def test_functions_that_build_no_network(porter_cli: Porter, files: Callable[..., Path], function: str, code: str, said: str) -> None:
    (files() / "broken.py").write_text("def build(network:\n")
    found = porter_cli("tensorrt", "verify", "small.onnx", "--network", function)
    assert found.code == 2
    assert f"error[{code}]" in found.err
    assert said in found.err


def test_values_to_feed_may_come_from_a_file(porter_cli: Porter, files: Callable[..., Path]) -> None:
    folder = files()
    np.savez(folder / "x.npz", data=FEED)
    assert porter_cli("tensorrt", "verify", "small.onnx", "--input", "x.npz").code == 0
    for arrays, said in (
        ({"image": FEED, "other": FEED}, "no array is called 'data'"),
        ({"data": FEED[:1]}, "has the shape [1, 3, 9, 8], and the input is 2×3×9×8"),
        ({"data": FEED.astype(np.int64)}, "is int64, and the input is float32"),
    ):
        np.savez(folder / "x.npz", **arrays)
        found = porter_cli("tensorrt", "verify", "small.onnx", "--input", "x.npz")
        assert found.code == 2
        assert "error[U953]" in found.err
        assert said in found.err


def test_options_that_contradict_each_other(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files()
    for options in (("--input", "x.npz", "--golden", "g.npz"), ("--network", "my_net.py:build", "--dtype", "f16")):
        found = porter_cli("tensorrt", "verify", "small.onnx", *options)
        assert found.code == 2
        assert "error[U942]" in found.err


def test_half_precision_has_a_tolerance_of_its_own(porter_cli: Porter, files: Callable[..., Path]) -> None:
    files()
    found = porter_cli("tensorrt", "verify", "small.onnx", "--dtype", "f16", "--json")
    assert found.code == 0
    assert found.json["tolerance"] == 2e-2
    assert max(c["relative"] for c in found.json["compared"]) > 1e-5
    assert porter_cli("tensorrt", "verify", "small.onnx", "--dtype", "f16", "--tolerance", "1e-6").code == 1


def test_an_open_batch(porter_cli: Porter, shared: Path) -> None:
    folder = shared / "oracle" / "lenet_v2"
    files = (folder / "deploy.prototxt", folder / "model.caffemodel")
    np.savez("x.npz", data=np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32))
    found = porter_cli("tensorrt", "verify", *files, "--dynamic-batch", "--input", "x.npz", "--json")
    assert found.code == 0
    assert {c["shape"][0] for c in found.json["compared"]} == {3}


def test_a_recorded_run_is_compared_as_well(porter_cli: Porter, shared: Path) -> None:
    folder = shared / "oracle" / "mtcnn_det1"
    files = (folder / "deploy.prototxt", folder / "model.caffemodel")
    found = porter_cli("tensorrt", "verify", *files, "--golden", folder / "golden.npz", "--json")
    assert found.code == 0
    assert sum(c["against"] == "record" for c in found.json["compared"]) >= 10


def test_list_layers(porter_cli: Porter) -> None:
    found = porter_cli("tensorrt", "verify", "--list-layers")
    assert found.code == 0
    assert "CONVOLUTION" in found.out
    assert "UNSQUEEZE" in found.out
    kinds = [row["type"] for row in porter_cli("tensorrt", "verify", "--list-layers", "--json").json["layers"]]
    assert kinds == sorted(kinds)
    assert set(kinds) <= set(trt.LayerType.__members__)


def test_an_input_that_the_network_cannot_take_is_no_crash() -> None:
    network = Network((), (Layer("s", Softmax(0), ("x",), ("y",)),), ("y",))
    with pytest.raises(TensorRTError, match="no layer makes"):
        verify(ir.from_proto(MODEL_PROTO), network, {"data": FEED})
