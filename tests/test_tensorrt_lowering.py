"""ONNX graphs as layers of TensorRT: what the layers are, that the real builder takes them, and that they compute the same.

A network is lowered, built by TensorRT (which checks every shape and type), said as ONNX again by code that knows nothing of the
lowering, and run in onnxruntime beside the original.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import caffe_runs
import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import as_array

from porter.errors import TensorRTError
from porter.graph.runtime import Runnable
from porter.tensorrt import layers
from porter.tensorrt.expression.express import express
from porter.tensorrt.layers import Network, stored, weights_of
from porter.tensorrt.live.live import build
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.lowering.naming import Names, WeightNames
from porter.tensorrt.lowering.table import SUPPORTED, lowering
from porter.tensorrt.package import find

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform"
)

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
node = helper.make_node
RNG = np.random.default_rng(7)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    kinds: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of float inputs (unless `kinds` says otherwise) whose outputs' shapes nobody states."""
    taken = [helper.make_tensor_value_info(n, (kinds or {}).get(n, TensorProto.FLOAT), shape) for n, shape in inputs.items()]
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", taken, [onnx.ValueInfoProto(name=n) for n in outputs], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def lowered(made: onnx.ModelProto, **options: Any) -> Network:
    """Lowered, sound, and taken by TensorRT."""
    network = lower(ir.from_proto(made), **options)
    sound(network)
    build(network, find())
    return network


def sound(network: Network) -> None:
    """Every tensor is made once and before it is read, and is of a known type; names of layers and of weights are unique."""
    known = {i.name for i in network.inputs}
    held: dict[str, layers.Weights] = {}
    for layer in network.layers:
        assert all(i in known for i in layer.inputs if i), layer
        assert known.isdisjoint(layer.outputs), layer
        known.update(layer.outputs)
        for weights in weights_of(layer.operation).values():
            assert held.setdefault(weights.tensor.name, weights) is weights
            assert not any(c.isspace() for c in weights.tensor.name)
    assert len({layer.name for layer in network.layers}) == len(network.layers)
    assert set(network.shapes) == set(network.dtypes) == known
    assert set(network.values.values()) <= known
    assert set(network.outputs) <= known - {i.name for i in network.inputs}


def original(made: onnx.ModelProto, inputs: Arrays) -> list[Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, dict(inputs))
    return found


def said(network: Network, inputs: Arrays) -> list[Array]:
    """What the layers compute."""
    values = Runnable(express(network), "the layers").run({i.name: inputs[i.name] for i in network.inputs}, list(network.outputs))
    # Half precision is computed in a wider type.
    return [values[n].astype(network.dtypes[n]) if network.dtypes[n] == "float16" else values[n] for n in network.outputs]


def same(made: onnx.ModelProto, inputs: Arrays, tolerance: float = 1e-5) -> Network:
    """The lowered network, which computes what the model does."""
    network = lowered(made)
    for ours, theirs in zip(said(network, inputs), original(made, inputs), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    return network


def refused(made: onnx.ModelProto) -> str:
    with pytest.raises(TensorRTError) as caught:
        lower(ir.from_proto(made))
    assert caught.value.code == "T001"
    return caught.value.message


def kinds_of(network: Network) -> list[str]:
    return [type(layer.operation).__name__ for layer in network.layers]


# ---- what a network becomes ------------------------------------------------------------------------------------------------

NORM = ("weight", "bias", "running_mean", "running_var")

SMALL_NET = {
    "conv.weight": floats(4, 3, 3, 3),
    "conv.bias": floats(4),
    "norm.weight": floats(4),
    "norm.bias": floats(4),
    "norm.running_mean": floats(4),
    "norm.running_var": np.abs(floats(4)),
    "act.weight": floats(4, 1, 1),
    "fc.weight": floats(5, 144),
    "fc.bias": floats(5),
}


def small_net(batch: int | str = 2) -> onnx.ModelProto:
    norm = [f"norm.{role}" for role in NORM]
    nodes = [
        node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], "conv", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", *norm], ["n"], "norm", epsilon=1e-3),
        node("PRelu", ["n", "act.weight"], ["a"], "act"),
        node("Flatten", ["a"], ["f"], "flat"),
        node("Gemm", ["f", "fc.weight", "fc.bias"], ["g"], "fc", transB=1),
        node("Softmax", ["g"], ["y"], "prob"),
    ]
    return model(nodes, {"x": (batch, 3, 6, 6)}, SMALL_NET)


def test_a_network_is_what_one_would_write_by_hand() -> None:
    network = same(small_net(), {"x": floats(2, 3, 6, 6)})
    assert [(layer.name, type(layer.operation).__name__) for layer in network.layers] == [
        ("conv", "Convolution"),
        ("norm", "Scale"),
        ("act/slope", "Constant"),
        ("act", "ParametricRelu"),
        ("flat", "Shuffle"),
        ("fc/weight", "Constant"),
        ("fc/bias", "Constant"),
        ("fc/product", "MatrixMultiply"),
        ("fc", "Elementwise"),
        ("prob", "Softmax"),
    ]
    held = stored(network)
    assert {n: w.sources for n, w in held.items()} == {
        **{n: (n,) for n in SMALL_NET if n != "act.weight"},
        "act.weight": ("act.weight",),
    }
    assert all(w.formula is None and w.tensor.tobytes() == SMALL_NET[n].tobytes() for n, w in held.items())


def test_the_batch_may_stay_open() -> None:
    network = same(small_net("N"), {"x": floats(3, 3, 6, 6)})
    assert network.inputs == (layers.Input("x", "float32", (-1, 3, 6, 6)),)
    assert network.shapes["y"] == (-1, 5)


def test_weights_keep_their_bits() -> None:
    bits = np.array([0x7FC00001, 0x7F800001, 0x80000000, 0xFFFFFFFF], np.uint32).view(np.float32)
    made = model([node("Conv", ["x", "w", "b"], ["y"], "conv")], {"x": (1, 1, 2, 2)}, {"w": bits.reshape(4, 1, 1, 1), "b": bits[::-1]})
    (layer,) = lowered(made).layers
    assert {role: (w.tensor.name, w.sources, w.tensor.tobytes()) for role, w in weights_of(layer.operation).items()} == {
        "kernel": ("conv.weight", ("w",), bits.tobytes()),
        "bias": ("conv.bias", ("b",), bits[::-1].tobytes()),
    }


def test_a_batch_norm_is_computed_in_float64_and_rounded_once() -> None:
    (layer,) = [la for la in lowered(small_net()).layers if la.name == "norm"]
    assert isinstance(layer.operation, layers.Scale)
    assert layer.operation.batch_norm is not None
    weight, bias, mean, variance = (SMALL_NET[f"norm.{role}"].astype(np.float64) for role in NORM)
    scale = weight / np.sqrt(variance + layer.operation.batch_norm.epsilon)
    held = weights_of(layer.operation)
    assert held["scale"].tensor.tobytes() == scale.astype(np.float32).tobytes()
    assert held["shift"].tensor.tobytes() == (bias - mean * scale).astype(np.float32).tobytes()
    assert (held["scale"].formula, held["shift"].formula) == ("batch_norm.scale", "batch_norm.shift")
    assert held["scale"].sources == ("norm.weight", "norm.running_var")
    assert layer.operation.batch_norm.epsilon == float(np.float32(1e-3))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5), (2, 4, 5, 3, 2)])
def test_a_batch_norm_of_any_rank_is_a_scale(shape: tuple[int, ...]) -> None:
    norm = [f"norm.{role}" for role in NORM]
    made = model([node("BatchNormalization", ["x", *norm], ["y"])], {"x": shape}, {n: SMALL_NET[n] for n in norm})
    network = same(made, {"x": floats(*shape)})
    assert kinds_of(network) == (["Scale"] if len(shape) > 3 else ["Shuffle", "Scale", "Shuffle"])


def test_a_scale_and_a_bias_of_channels_are_one_layer() -> None:
    constants = {"s.weight": floats(3, 1, 1), "s.bias": floats(1, 3, 1, 1)}
    nodes = [node("Mul", ["x", "s.weight"], ["m"], "scale"), node("Add", ["s.bias", "m"], ["y"], "shift")]
    network = same(model(nodes, {"x": (2, 3, 4, 5)}, constants), {"x": floats(2, 3, 4, 5)})
    assert [(layer.name, layer.outputs) for layer in network.layers] == [("scale", ("y",))]
    assert set(stored(network)) == set(constants)
    assert "m" not in network.values
    read_twice = model([*nodes, node("Relu", ["m"], ["z"])], {"x": (2, 3, 4, 5)}, constants, outputs=("y", "z"))
    assert kinds_of(same(read_twice, {"x": floats(2, 3, 4, 5)})) == ["Scale", "Scale", "Activation"]


def test_outputs_are_called_as_the_graph_calls_them() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Identity", ["r"], ["a"]),
        node("Dropout", ["r"], ["b"]),
        node("Identity", ["x"], ["same"]),
        node("Identity", ["k"], ["held"]),
    ]
    made = model(nodes, {"x": (2, 3)}, {"k": floats(2)}, outputs=("a", "b", "r", "same", "held"))
    network = same(made, {"x": floats(2, 3)})
    assert network.outputs == ("a", "b", "r", "same", "held")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))
    direct = lowered(helper.make_model(helper.make_graph([], "graph", [x], [x])))
    assert (direct.outputs, direct.values["x"]) == (("x/output",), "x/output")


def test_what_layers_share_is_held_once() -> None:
    shared = {"w.weight": floats(4, 4, 1, 1), "w.bias": floats(4)}
    nodes = [node("Conv", ["x", "w.weight", "w.bias"], ["a"], "one"), node("Conv", ["a", "w.weight", "w.bias"], ["y"], "two")]
    assert set(stored(same(model(nodes, {"x": (1, 4, 2, 2)}, shared), {"x": floats(1, 4, 2, 2)}))) == set(shared)
    # Of two normalisations with one scale, each has its own names, by which a loader asks for all four.
    norms = {f"{n}/{s}": np.abs(floats(4)) for n in "ab" for s in ("mean", "var")} | {"g": floats(4), "h": floats(4)}
    nodes = [node("BatchNormalization", [i, "g", "h", f"{n}/mean", f"{n}/var"], [o], n) for n, i, o in (("a", "x", "m"), ("b", "m", "y"))]
    network = same(model(nodes, {"x": (1, 4, 2, 2)}, norms), {"x": floats(1, 4, 2, 2)})
    assert set(stored(network)) == {f"{n}.{role}" for n in "ab" for role in NORM}


def test_names_are_given_once() -> None:
    names = Names()
    names.reserve("a")
    assert [names.take("a"), names.take("a"), names.take("b")] == ["a_2", "a_3", "b"]
    weights = WeightNames({"conv.weight", "conv.bias"})
    assert weights.prefix({"weight": "other", "bias": None}, "conv") == "conv_2"
    assert weights.prefix({"weight": "conv.weight", "bias": "conv.bias"}, "node") == "conv"
    assert weights.prefix({"weight": "conv.weight", "bias": "b"}, "node") == "node"


# ---- operators -------------------------------------------------------------------------------------------------------------

UNARY = (
    *("Abs", "Exp", "Neg", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Atan", "Asinh", "Ceil", "Floor", "Erf", "Sign", "Round", "Reciprocal"),
    *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid", "ThresholdedRelu", "Celu"),
    *("HardSwish", "Mish", "IsNaN", "IsInf", "Softmax", "LogSoftmax", "LpNormalization", "GlobalAveragePool", "GlobalMaxPool"),
    *("ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd", "ReduceMax", "ReduceMin"),
    "MeanVarianceNormalization",
)

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "LeakyRelu": [{"alpha": 0.25}],
    "Elu": [{"alpha": 0.5}],
    "Celu": [{"alpha": 0.5}, {"alpha": 1.0}],
    "Selu": [{"alpha": 1.5, "gamma": 2.0}],
    "HardSigmoid": [{"alpha": 0.3, "beta": 0.4}],
    "ThresholdedRelu": [{"alpha": 0.25}],
    "Softmax": [{"axis": 1}],
    "LogSoftmax": [{"axis": -2}],
    "LpNormalization": [{"p": 1, "axis": 1}, {"p": 2, "axis": -1}],
    "IsInf": [{"detect_negative": 0}, {"detect_positive": 0}],
    "ReduceMean": [{"axes": [1, -1], "keepdims": 0}],
    "ReduceL2": [{"axes": [2]}],
    "ReduceLogSumExp": [{"axes": [1, 3], "keepdims": 0}, {"axes": [0]}],
    "ReduceMax": [{"axes": [-1]}],
}


@pytest.mark.parametrize("kind", UNARY)
def test_operators_of_one_input(kind: str) -> None:
    x = floats(2, 3, 4, 5)
    x[0, 0, 0, :3] = [0.0, -0.0, 2.5]
    if kind in ("IsNaN", "IsInf"):
        x[0, 1, 0, :3] = [np.nan, np.inf, -np.inf]
    for given_settings in [{}, *SETTINGS.get(kind, [])]:
        same(model([node(kind, ["x"], ["y"], **given_settings)], {"x": x.shape}, opset=17 if kind != "Mish" else 18), {"x": x})


@pytest.mark.parametrize("kind", ["Log", "Sqrt", "Acos", "Asin", "Atanh", "Acosh", "ReduceLogSum"])
def test_operators_of_one_positive_input(kind: str) -> None:
    x = RNG.uniform(0.1, 0.9, (2, 3, 4)).astype(np.float32) + (1 if kind == "Acosh" else 0)
    same(model([node(kind, ["x"], ["y"])], {"x": x.shape}), {"x": x})


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Greater", "Less", "Equal"])
@pytest.mark.parametrize("shapes", [((2, 3, 4, 5), (3, 1, 1)), ((4, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), ()), ((2, 3, 4, 5), (5,))])
def test_operators_of_two_inputs(kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = np.abs(floats(*shapes[0])), np.asarray(np.abs(floats(*shapes[1])))
    nodes = [node(kind, ["a", "b"], ["y"])]
    same(model(nodes, {"a": a.shape, "b": b.shape}), {"a": a, "b": b}, 1e-4)
    same(model(nodes, {"a": a.shape}, {"b": b}), {"a": a}, 1e-4)
    same(model(nodes, {"b": b.shape}, {"a": a}), {"b": b}, 1e-4)


@pytest.mark.parametrize("kind", ["GreaterOrEqual", "LessOrEqual"])
def test_nans_are_neither_greater_nor_less(kind: str) -> None:
    a, b = np.array([1, 2, np.nan, 3], np.float32), np.array([2, 2, 0, np.nan], np.float32)
    same(model([node(kind, ["a", "b"], ["y"])], {"a": (4,), "b": (4,)}), {"a": a, "b": b})


@pytest.mark.parametrize(("kind", "given_settings"), [("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1}), ("Pow", {})])
def test_integers_are_divided_as_onnx_does_it(kind: str, given_settings: dict[str, Any]) -> None:
    a, b = np.array([7, -7, 7, -7, 6], np.int64), np.array([2, 2, -2, -2, 3], np.int64)
    b = np.abs(b) if kind == "Pow" else b
    made = model([node(kind, ["a", "b"], ["y"], **given_settings)], {"a": (5,), "b": (5,)}, kinds={"a": 7, "b": 7})
    same(made, {"a": a, "b": b})


@pytest.mark.parametrize("exponent", [2, 3, 1, 0.5, -1, np.int64(2), np.int64(3), np.int64(4)])
def test_powers(exponent: Any) -> None:
    x = floats(2, 3, 4) if exponent in (1, 2, 3, 4) else np.abs(floats(2, 3, 4))
    held = np.asarray(exponent) if isinstance(exponent, np.int64) else np.float32(exponent)
    same(model([node("Pow", ["x", "e"], ["y"])], {"x": x.shape}, {"e": held}), {"x": x})


def test_booleans() -> None:
    nodes = [
        node("And", ["a", "b"], ["c"]),
        node("Or", ["c", "a"], ["d"]),
        node("Not", ["d"], ["e"]),
        node("Xor", ["e", "b"], ["f"]),
        node("Cast", ["f"], ["y"], to=TensorProto.FLOAT),
    ]
    flags = np.array([True, False, True, False]), np.array([True, True, False, False])
    same(model(nodes, {"a": (4,), "b": (4,)}, kinds={"a": 9, "b": 9}), {"a": flags[0], "b": flags[1]})


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_, np.float16, np.float32])
def test_casts(dtype: type) -> None:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    network = same(model([node("Cast", ["x"], ["y"], to=to)], {"x": (5,)}), {"x": np.array([0.0, 1.5, -2.5, 100.0, 0.25], np.float32)})
    assert kinds_of(network) == (["Identity"] if dtype is np.float32 else ["Cast"])


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (0.0, None), (None, 0.25), (-0.25, None), (0.5, -0.5), (None, None)])
def test_clip(bounds: tuple[float | None, float | None]) -> None:
    held = {name: np.float32(b) for name, b in zip(("low", "high"), bounds, strict=True) if b is not None}
    made = model([node("Clip", ["x", *(n if n in held else "" for n in ("low", "high"))], ["y"])], {"x": (3, 4)}, held)
    same(made, {"x": floats(3, 4)})
    if bounds == (0.5, -0.5):
        return  # onnxruntime refuses such an attribute
    old: dict[str, Any] = {n: float(b) for n, b in zip(("min", "max"), bounds, strict=True) if b is not None}
    same(model([node("Clip", ["x"], ["y"], **old)], {"x": (3, 4)}, opset=9), {"x": floats(3, 4)})


def test_clip_of_integers_and_by_inputs() -> None:
    made = model([node("Clip", ["x", "low", "high"], ["y"])], {"x": (3, 4)}, {"low": np.int64(-1), "high": np.int64(2)}, kinds={"x": 7})
    same(made, {"x": np.arange(-6, 6).reshape(3, 4)})
    made = model([node("Clip", ["x", "low"], ["y"])], {"x": (3, 4), "low": ()})
    same(made, {"x": floats(3, 4), "low": np.array(0.25, np.float32)})


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4, 5), 1), ((2, 3, 4), 2), ((2, 3), 1), ((5,), 0), ((2, 3, 4), 0), ((2, 3, 1, 1), 1)])
def test_softmax_before_and_after_opset_13(kind: str, shape: tuple[int, ...], axis: int) -> None:
    x = 50 * floats(*shape)
    for opset in (11, 13):
        same(model([node(kind, ["x"], ["y"], axis=axis)], {"x": shape}, opset=opset), {"x": x})
    if len(shape) == 4 and axis == 1:
        same(model([node(kind, ["x"], ["y"], axis=axis)], {"x": ("N", *shape[1:])}, opset=11), {"x": x})


@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, 2.0), (0.5, 0.0)])
@pytest.mark.parametrize("bias", [(5,), (3, 1), (), None])
def test_gemm(trans: tuple[int, int], alpha: float, beta: float, bias: tuple[int, ...] | None) -> None:
    a, b = floats(*((4, 3) if trans[0] else (3, 4))), floats(*((5, 4) if trans[1] else (4, 5)))
    held = {"w": b} | ({} if bias is None else {"c": np.asarray(floats(*bias))})
    made = model([node("Gemm", ["x", *held], ["y"], transA=trans[0], transB=trans[1], alpha=alpha, beta=beta)], {"x": a.shape}, held)
    same(made, {"x": a})


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 5)),
        ((6, 1, 3, 4), (2, 4, 5)),
    ],
)
def test_matmul(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = floats(*shapes[0]), floats(*shapes[1])
    nodes = [node("MatMul", ["a", "b"], ["y"])]
    same(model(nodes, {"a": a.shape, "b": b.shape}), {"a": a, "b": b})
    same(model(nodes, {"a": a.shape}, {"b": b}), {"a": a})
    same(model(nodes, {"b": b.shape}, {"a": a}), {"b": b})


def test_matmul_with_its_bias() -> None:
    nodes = [node("MatMul", ["x", "fc.weight"], ["m"], "fc"), node("Add", ["m", "fc.bias"], ["y"])]
    network = same(model(nodes, {"x": ("N", 3, 4)}, {"fc.weight": floats(4, 5), "fc.bias": floats(5)}), {"x": floats(2, 3, 4)})
    assert kinds_of(network) == ["Constant", "Constant", "MatrixMultiply", "Elementwise"]
    assert set(stored(network)) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bij, bjk -> bk", "BIJ,BJK->BKI", "bij,bjk"])
def test_einsum(equation: str) -> None:
    made = model([node("Einsum", ["a", "b"], ["y"], equation=equation)], {"a": (2, 3, 4), "b": (2, 4, 5)})
    same(made, {"a": floats(2, 3, 4), "b": floats(2, 4, 5)})


NORMALISATIONS: dict[str, tuple[list[Array], dict[str, Any], int]] = {
    "InstanceNormalization": ([floats(6), floats(6)], {"epsilon": 1e-2}, 17),
    "LayerNormalization": ([floats(4, 5), floats(4, 5)], {"axis": -2}, 17),
    "LayerNormalization without bias": ([floats(5)], {}, 17),
    "GroupNormalization": ([floats(6), floats(6)], {"num_groups": 3}, 21),
    "LRN": ([], {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, 17),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisations(name: str) -> None:
    held, given_settings, opset = NORMALISATIONS[name]
    constants = {f"w{i}": a for i, a in enumerate(held)}
    kind = name.split()[0]
    made = model([node(kind, ["x", *constants], ["y"], **given_settings)], {"x": ("N", 6, 4, 5)}, constants, opset=opset)
    same(made, {"x": floats(2, 6, 4, 5)}, 1e-4)


def test_norms_of_zero_are_no_division() -> None:
    x = floats(2, 3)
    x[0] = 0
    for p in (1, 2):
        same(model([node("LpNormalization", ["x"], ["y"], p=p)], {"x": x.shape}), {"x": x})


@pytest.mark.parametrize("given_settings", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
def test_cumulative_sums(given_settings: dict[str, Any]) -> None:
    made = model([node("CumSum", ["x", "axis"], ["y"], **given_settings)], {"x": (2, 3, 4)}, {"axis": np.int64(-2)})
    same(made, {"x": floats(2, 3, 4)})


def test_axes_as_inputs_and_attributes() -> None:
    x = {"x": floats(2, 3, 4)}
    same(model([node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)], {"x": (2, 3, 4)}, {"axes": np.array([-1, 0])}), x)
    same(model([node("ReduceSum", ["x"], ["y"], noop_with_empty_axes=1)], {"x": (2, 3, 4)}), x)
    same(model([node("ReduceSum", ["x"], ["y"])], {"x": (2, 3, 4)}), x)


def test_second_inputs_lie_where_old_opsets_say() -> None:
    made = model([node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)], {"x": (2, 3, 4)}, {"b": floats(3)}, opset=6)
    network = lowered(made)
    x = floats(2, 3, 4)
    b = numpy_helper.to_array(made.graph.initializer[0])
    np.testing.assert_array_equal(said(network, {"x": x})[0], x + b[:, None])


OPEN: dict[str, tuple[onnx.ModelProto, list[tuple[int, ...]]]] = {
    "ranks of open sizes": (
        model([node("Add", ["a", "b"], ["y"])], {"a": ("N", "M", 4), "b": (2, "N", "M", 4)}),
        [(3, 5, 4), (2, 3, 5, 4)],
    ),
    "sizes as an output": (
        model(
            [node("Shape", ["x"], ["s"]), node("Gather", ["s", "i"], ["g"]), node("Mul", ["g", "g"], ["y"])],
            {"x": ("N", "M", 4)},
            {"i": [0, 2]},
        ),
        [(3, 5, 4)],
    ),
    "a size as a scalar": (
        model([node("Shape", ["x"], ["s"]), node("Gather", ["s", "i"], ["y"])], {"x": ("N", "M", 4)}, {"i": np.int64(1)}),
        [(3, 5, 4)],
    ),
    "sizes as int32": (model([node("Shape", ["x"], ["s"]), node("Cast", ["s"], ["y"], to=TensorProto.INT32)], {"x": ("N", 4)}), [(3, 4)]),
    "arithmetic of sizes": (
        model(
            [node("Shape", ["x"], ["s"]), node("Div", ["s", "k"], ["d"]), node("Sub", ["d", "k"], ["e"]), node("Add", ["e", "s"], ["y"])],
            {"x": ("N", "M", 4)},
            {"k": [2]},
        ),
        [(3, 5, 4)],
    ),
    "a softmax of one axis": (model([node("Softmax", ["x"], ["y"], axis=0)], {"x": ("N",)}), [(3,)]),
    "a convolution along a line": (model([node("Conv", ["x", "w"], ["y"])], {"x": ("N", 3, "L")}, {"w": floats(2, 3, 3)}), [(2, 3, 9)]),
    "slopes from the network": (model([node("PRelu", ["x", "s"], ["y"])], {"x": (2, 4, 3, 3), "s": (4, 1, 1)}), [(2, 4, 3, 3), (4, 1, 1)]),
    "scalars": (model([node("Relu", ["x"], ["r"]), node("Add", ["r", "x"], ["y"])], {"x": ()}), [()]),
    "a constant wider than the input": (
        model([node("Add", ["x", "k"], ["y"])], {"x": (1, 1, 4, 4)}, {"k": floats(3, 1, 1)}),
        [(1, 1, 4, 4)],
    ),
    "a constant of more axes": (model([node("Add", ["x", "k"], ["y"])], {"x": (1, 3, 4, 4)}, {"k": floats(1, 1, 1, 1, 1)}), [(1, 3, 4, 4)]),
    "channels that are open": (model([node("Add", ["x", "k"], ["y"])], {"x": (1, "C", 4, 4)}, {"k": floats(3, 1, 1)}), [(1, 3, 4, 4)]),
    "numbers": (
        model(
            [node("Mul", ["x", "k"], ["a"]), node("Add", ["a", "k"], ["b"]), node("Sub", ["k", "b"], ["y"])],
            {"x": ("N", 3, 4, 4)},
            {"k": np.float32(2.5)},
        ),
        [(2, 3, 4, 4)],
    ),
    "names that are taken": (
        model(
            [node("Gemm", ["x", "w"], ["y"], "y", alpha=2.0), node("Relu", ["x"], ["y/product"], "y/product")],
            {"x": (2, 3)},
            {"w": floats(3, 4)},
            outputs=("y", "y/product"),
        ),
        [(2, 3)],
    ),
    "names with spaces": (
        model([node("Conv", ["in put", "my w.weight"], ["y"], "a conv")], {"in put": ("N", 3, 4, 4)}, {"my w.weight": floats(2, 3, 1, 1)}),
        [(2, 3, 4, 4)],
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_sizes_and_odd_shapes(name: str) -> None:
    made, shapes = OPEN[name]
    same(made, {i.name: np.asarray(floats(*shape)) for i, shape in zip(made.graph.input, shapes, strict=True)})


def test_nodes_of_one_name_and_outputs_said_twice() -> None:
    network = lowered(model([node("Relu", ["x"], ["a"], "n"), node("Tanh", ["a"], ["y"], "n")], {"x": (2,)}, outputs=("y", "y")))
    assert [layer.name for layer in network.layers] == ["n", "n_2", "y/output"]
    assert network.outputs == ("y", "y/output")
    unnamed = lowered(model([node("Relu", ["x"], ["a"]), node("Softplus", ["a"], ["y"])], {"x": (2,)}))
    assert [layer.name for layer in unnamed.layers] == ["a", "y"]


# ---- windows ---------------------------------------------------------------------------------------------------------------

WINDOW = st.fixed_dictionaries(
    {
        "size": st.integers(4, 9),
        "kernel": st.integers(1, 4),
        "stride": st.integers(1, 4),
        "begin": st.integers(0, 3),
        "end": st.integers(0, 3),
        "dilation": st.integers(1, 2),
    }
)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def window_settings(axes: list[dict[str, int]], *, dilated: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"strides": [a["stride"] for a in axes], "pads": [a["begin"] for a in axes] + [a["end"] for a in axes]}
    return found | ({"dilations": [a["dilation"] for a in axes]} if dilated else {})


@QUICK
@given(axes=st.lists(WINDOW, min_size=1, max_size=3), kind=st.sampled_from(["Conv", "ConvTranspose"]), groups=st.sampled_from([1, 2]))
def test_convolutions(axes: list[dict[str, int]], kind: str, groups: int) -> None:
    kernel = [a["kernel"] for a in axes]
    shape = (2, 4, *(a["size"] + 4 for a in axes))
    weight = floats(6, 4 // groups, *kernel) if kind == "Conv" else floats(4, 6 // groups, *kernel)
    stated = window_settings(axes, dilated=True)
    made = model([node(kind, ["x", "w", "b"], ["y"], group=groups, **stated)], {"x": shape}, {"w": weight, "b": floats(6)})
    same(made, {"x": floats(*shape)}, 1e-4)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_padding_worked_out(auto: str, kind: str) -> None:
    made = model([node(kind, ["x", "w"], ["y"], auto_pad=auto, strides=[2, 1])], {"x": (1, 3, 7, 8)}, {"w": floats(3, 3, 4, 3)})
    same(made, {"x": floats(1, 3, 7, 8)}, 1e-4)


def test_transposed_convolutions_with_output_padding() -> None:
    stated: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}
    made = model([node("ConvTranspose", ["x", "w"], ["y"], **stated)], {"x": ("N", 3, 4, 4)}, {"w": floats(3, 2, 3, 3)})
    assert same(made, {"x": floats(2, 3, 4, 4)}, 1e-4).shapes["y"] == (-1, 2, 8, 7)
    wanted = model(
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=[8, 8])], {"x": (1, 3, 4, 4)}, {"w": floats(3, 2, 3, 3)}
    )
    same(wanted, {"x": floats(1, 3, 4, 4)}, 1e-4)


def pooled(axes: list[dict[str, int]], kind: str, ceil: int, **more: Any) -> tuple[onnx.ModelProto, Arrays] | None:
    """A pooling that ONNX allows: padding less than the window."""
    if any(max(a["begin"], a["end"]) >= a["kernel"] for a in axes):
        return None
    shape = (2, 3, *(a["size"] for a in axes))
    stated = window_settings(axes) | {"kernel_shape": [a["kernel"] for a in axes]}
    made = model([node(kind, ["x"], ["y"], ceil_mode=ceil, **stated, **more)], {"x": shape}, opset=22)
    return made, {"x": -np.abs(floats(*shape))}


@QUICK
@given(axes=st.lists(WINDOW, min_size=1, max_size=3), ceil=st.integers(0, 1))
def test_max_pooling_never_takes_padding(axes: list[dict[str, int]], ceil: int) -> None:
    found = pooled(axes, "MaxPool", ceil)
    if found is not None:
        same(*found)


def averages(x: Array, axes: list[dict[str, int]], shape: Sequence[int], includes: int) -> Array:
    """The means as ONNX defines them: what rounding up adds behind the padding never counts."""
    begin, end = [a["begin"] for a in axes], [a["end"] for a in axes]
    inside = np.pad(np.ones_like(x, np.float64), [(0, 0), (0, 0), *zip(begin, end, strict=True)], constant_values=includes)
    values = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(begin, end, strict=True)])
    result = np.zeros(shape)
    for place in np.ndindex(*shape[2:]):
        window = tuple(slice(p * a["stride"], p * a["stride"] + a["kernel"]) for p, a in zip(place, axes, strict=True))
        part = (slice(None), slice(None), *window)
        over = tuple(range(2, x.ndim))
        result[(slice(None), slice(None), *place)] = values[part].sum(over) / inside[part].sum(over)
    return result


@QUICK
@given(axes=st.lists(WINDOW, min_size=1, max_size=3), ceil=st.integers(0, 1), includes=st.integers(0, 1))
def test_average_pooling_counts_as_onnx_does(axes: list[dict[str, int]], ceil: int, includes: int) -> None:
    found = pooled(axes, "AveragePool", ceil, count_include_pad=includes)
    if found is not None:
        made, inputs = found
        network = lowered(made)
        (ours,) = said(network, inputs)
        np.testing.assert_allclose(ours, averages(inputs["x"], axes, network.shapes["y"], includes), rtol=1e-5, atol=1e-6)


def test_padding_that_counts_is_made_for_an_open_batch() -> None:
    stated: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1}
    made = model([node("AveragePool", ["x"], ["y"], **stated)], {"x": ("N", 2, 6, 6)}, opset=22)
    network = lowered(made)
    assert "Slice" in kinds_of(network)
    axes = [{"begin": 1, "end": 1, "stride": 2, "kernel": 3}] * 2
    x = floats(3, 2, 6, 6)
    np.testing.assert_allclose(said(network, {"x": x})[0], averages(x, axes, (3, 2, 4, 4), 1), rtol=1e-5, atol=1e-6)


# ---- refusals --------------------------------------------------------------------------------------------------------------


def test_all_that_is_refused_is_named_at_once() -> None:
    nodes = [
        node("Det", ["x"], ["a"], "determinant"),
        node("LSTM", ["s", "w", "r"], ["h"], "memory", hidden_size=2),
        node("Mod", ["x", "x"], ["b"], "rest", fmod=1),
        node("Add", ["a", "b"], ["y"]),
    ]
    constants = {"w": floats(1, 8, 3), "r": floats(1, 8, 2)}
    message = refused(model(nodes, {"x": (2, 2), "s": (4, 1, 3)}, constants, outputs=("y", "h")))
    assert message.startswith("TensorRT has no form of 3 parts of the network: ")
    assert "Det 'determinant': porter knows no layers of TensorRT that do it; a plugin would be needed" in message
    assert "LSTM 'memory': TensorRT says it by loops" in message
    assert "Mod 'rest': TensorRT has no remainder of floating-point numbers" in message


REFUSED = {
    "the places of the maxima": model([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])], {"x": (1, 1, 4, 4)}, outputs=("y", "i")),
    "no pooling with dilation": model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2])], {"x": (1, 1, 6, 6)}),
    "its padding is as large as its window": model(
        [node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], pads=[2, 2, 0, 0])], {"x": (1, 1, 6, 6)}
    ),
    "its padding depends on sizes": model(
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {"x": (1, 1, "H", "W")}
    ),
    "its last window begins behind": model([node("MaxPool", ["x"], ["y"], kernel_shape=[1], strides=[2], ceil_mode=1)], {"x": (1, 1, 4)}),
    "auto_pad SAME_UPPER depends": model(
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])], {"x": (1, 1, "H", 4)}, {"w": floats(1, 1, 3, 3)}
    ),
    "its weights are computed": model([node("Conv", ["x", "w"], ["y"])], {"x": (1, 1, 4, 4), "w": (1, 1, 2, 2)}),
    "its output_padding is larger": model(
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_padding=[1, 1])], {"x": (1, 1, 4, 4)}, {"w": floats(1, 1, 2, 2)}
    ),
    "its window is 4": model([node("LRN", ["x"], ["y"], size=4)], {"x": (1, 8, 4, 4)}),
    "outside TensorRT's limits": model([node("LRN", ["x"], ["y"], size=3, bias=0.0)], {"x": (1, 8, 4, 4)}),
    "an ellipsis": model([node("Einsum", ["x"], ["y"], equation="...i->...")], {"x": (2, 3)}),
    "input 'x': TensorRT has no float64": model([node("Relu", ["x"], ["y"])], {"x": (2,)}, kinds={"x": TensorProto.DOUBLE}),
    "input 'x': TensorRT has no int16": model([node("Identity", ["x"], ["y"])], {"x": (2,)}, kinds={"x": TensorProto.INT16}),
    "no arithmetic of int8": model([node("Add", ["x", "x"], ["y"])], {"x": (2,)}, kinds={"x": TensorProto.INT8}),
    "TensorRT has no float64": model([node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)], {"x": (2,)}),
    "along several axes at once": model([node("Softmax", ["x"], ["y"], axis=1)], {"x": (2, "H", 3)}, opset=11),
    "statistics of the batch": model(
        [node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], training_mode=1)], {"x": (1, 2, 3, 3)}, {n: floats(2) for n in "abcd"}
    ),
    "'x': it is no tensor": onnx.helper.make_model(
        onnx.helper.make_graph(
            [node("Identity", ["x"], ["y"])],
            "g",
            [helper.make_value_info("x", helper.make_optional_type_proto(helper.make_tensor_type_proto(1, (5,))))],
            [onnx.ValueInfoProto(name="y")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    ),
    "its mask is read": model([node("Dropout", ["x"], ["y", "m"])], {"x": (2,)}, outputs=("y", "m")),
    "its shape is not known": onnx.helper.make_model(
        onnx.helper.make_graph(
            [node("Relu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", 1, None)], [onnx.ValueInfoProto(name="y")]
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_exact_form_is_refused(reason: str) -> None:
    assert reason in refused(REFUSED[reason])


def test_weights_of_types_that_tensorrt_lacks_are_refused() -> None:
    nodes = [node("Cast", ["w"], ["c"], to=TensorProto.FLOAT), node("Gather", ["x", "i"], ["y"])]
    made = model(nodes, {"x": (4, 2)}, {"w": floats(2).astype(np.float64), "i": np.array([1], np.int32)}, outputs=("y", "w"))
    with pytest.raises(TensorRTError, match="float64 values") as caught:
        lower(ir.from_proto(made))
    assert caught.value.code == "T002"


def test_models_and_requests_that_make_no_sense() -> None:
    with pytest.raises(TensorRTError, match="no network computes in int8") as caught:
        lower(ir.from_proto(small_net()), precision="int8")
    assert caught.value.code == "T004"
    made = ir.from_proto(small_net())
    function = ir.Function("local", "F", graph=ir.Graph([], [], nodes=[], opset_imports={"": 17}), attributes=[])
    made.functions[function.identifier()] = function
    with pytest.raises(TensorRTError, match="functions of its own") as caught:
        lower(made)
    assert caught.value.code == "T003"


def test_every_operator_of_the_table_is_written() -> None:
    assert all(callable(lowering(op_type)) for op_type in SUPPORTED)


# ---- precision -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_narrower_network_has_weights_rounded_once(dtype: str) -> None:
    wide, narrow = lowered(small_net()), lowered(small_net(), precision=dtype)
    kind = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    casts = [layer for layer in narrow.layers if isinstance(layer.operation, layers.Cast)]
    assert [(c.inputs, c.outputs) for c in casts] == [(("x",), (f"x/{dtype}",)), ((f"y/{dtype}",), ("y",))]
    assert (narrow.inputs, narrow.outputs, narrow.dtypes["y"]) == (wide.inputs, wide.outputs, "float32")
    assert {narrow.dtypes[t] for t in narrow.dtypes if t not in ("x", "y")} == {dtype}
    held = {w.tensor.name: w for la in narrow.layers for w in weights_of(la.operation).values()}
    for name in ("conv.weight", "conv.bias", "act.weight", "fc.weight", "fc.bias"):
        assert held[name].formula == "cast"
        assert held[name].tensor.tobytes() == SMALL_NET[name].astype(kind).tobytes()
    norm = {role: SMALL_NET[f"norm.{role}"].astype(np.float64) for role in ("weight", "running_var")}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + float(np.float32(1e-3)))
    assert held["norm.scale"].tensor.tobytes() == scale.astype(kind).tobytes()
    # What the file holds of the normalisation is what the model has.
    assert stored(narrow)["norm.running_var"].tensor.tobytes() == SMALL_NET["norm.running_var"].tobytes()
    assert narrow.notices[0].startswith(f"the network computes in {dtype}: ")


def test_what_is_too_large_or_too_small_is_counted() -> None:
    weight = np.array([1e6, -1e6, 1e-9, 0.5, np.inf, np.nan], np.float32).reshape(6, 1, 1, 1)
    made = model([node("Conv", ["x", "c.weight"], ["y"], "c")], {"x": (1, 1, 2, 2)}, {"c.weight": weight})
    assert lowered(made, precision="float16").notices == (
        "the network computes in float16: 3 values of its weights were rounded",
        "c.weight: 2 values are too large for float16 and became infinite",
        "c.weight: 1 values are too small for float16 and became zero",
    )


def test_a_narrower_network_computes_nearly_the_same() -> None:
    x = {"x": floats(2, 3, 6, 6)}
    (narrow,), (wide,) = said(lowered(small_net(), precision="float16"), x), original(small_net(), x)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, rtol=3e-2, atol=3e-3)


# ---- cases and networks of others --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_cases_of_the_onnx_project(onnx_cases: list[Any]) -> None:
    checked = 0
    for case in onnx_cases:
        if any(n.op_type not in SUPPORTED and n.op_type != "Constant" for n in case.model.graph.node):
            continue
        given_inputs, outputs = ([as_array(a) for a in side] for side in case.data_sets[0])
        if any(a.dtype.kind not in "fib" for a in (*given_inputs, *outputs)):
            continue
        inputs = dict(zip([i.name for i in case.model.graph.input], given_inputs, strict=False))
        network = lowered_or_fixed(case.model, inputs)
        if network is None:
            continue
        for ours, theirs in zip(said(network, inputs), outputs, strict=True):
            # Some cases state their results to four digits.
            tolerance = 3e-3 if theirs.dtype == np.float16 else 4e-4
            assert ours.dtype == theirs.dtype, case.name
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-4, err_msg=case.name)
        checked += 1
    assert checked >= 400


def lowered_or_fixed(made: onnx.ModelProto, inputs: Arrays) -> Network | None:
    """The network; all inputs but the first as constants where the operator needs to know them. None where it is refused."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(made)
    kept = {made.graph.input[0].name} if made.graph.input else set()
    del fixed.graph.input[:]
    fixed.graph.input.extend([i for i in made.graph.input if i.name in kept])
    fixed.graph.initializer.extend([numpy_helper.from_array(a, n) for n, a in inputs.items() if n not in kept])
    for attempt in (made, fixed):
        try:
            return lowered(attempt)
        except TensorRTError as error:
            assert error.code in ("T001", "T002"), error
    return None


LACKING = {
    "Pooling_max_mask": "MaxPool",
    **dict.fromkeys(("ROIPooling_basic", "ROIPooling_inverted", "ROIPooling_outside", "ROIPooling_scale16"), "MaxRoiPool"),
    **dict.fromkeys(
        ("Upsample_after_conv", "Upsample_pad_out_w", "Upsample_scale2", "Upsample_segnet_codec", "Upsample_upsample_hw"), "MaxPool"
    ),
}
"""Recorded networks with an operator that TensorRT lacks."""


@pytest.mark.timeout(300)
def test_recorded_and_real_networks_are_lowered(shared: Path) -> None:
    folders = [*caffe_runs.cases(shared / "oracle"), *caffe_runs.cases(shared / "oracle" / "zoo")]
    for folder in folders:
        graph = caffe_runs.imported(folder).model
        if folder.name in LACKING:
            with pytest.raises(TensorRTError, match=LACKING[folder.name]):
                lower(graph)
        else:
            sound(lower(graph))
    files = sorted((shared / "real").rglob("*.onnx"))
    for file in files:
        sound(lower(ir.load(file)))
    assert len(folders) >= 290
    assert len(files) >= 7
