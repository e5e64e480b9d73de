"""Layers that TensorRT holds, said as ONNX and run: each is added by hand through TensorRT's own API, read back, expressed, and
compared with what numpy or torch compute from NVIDIA's description of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import tensorrt_rtx as trt
import torch
from torch.nn import functional

from porter.errors import TensorRTError
from porter.graph.runtime import Runnable
from porter.tensorrt import layers, package
from porter.tensorrt.expression.express import express
from porter.tensorrt.expression.table import TABLE
from porter.tensorrt.layers import Layer, Network
from porter.tensorrt.walk import walk

Array = np.ndarray[Any, Any]
_TYPES = {
    "float32": trt.float32,
    "float16": trt.float16,
    "bfloat16": trt.bfloat16,
    "int32": trt.int32,
    "int64": trt.int64,
    "int8": trt.int8,
    "bool": trt.bool,
}


class Bench:
    """A network under construction, with what is fed to it."""

    def __init__(self) -> None:
        self.package = package.find()
        self.builder = trt.Builder(self.package.logger)
        self.net = self.builder.create_network(self.package.creation_flags)
        self.feeds: dict[str, Array] = {}
        self.held: list[Any] = []
        self.random = np.random.default_rng(7)

    def input(self, *shape: int, values: Any = None, dtype: str = "float32", open_batch: bool = False) -> Any:
        array = self.random.standard_normal(shape) * 2 if values is None else np.asarray(values)
        name = f"in{len(self.feeds)}"
        self.feeds[name] = array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        shape = self.feeds[name].shape
        return self.net.add_input(name, _TYPES[dtype], (-1, *shape[1:]) if open_batch else shape)

    def weights(self, values: Any, dtype: str = "float32") -> Any:
        array = np.ascontiguousarray(np.asarray(values).astype(dtype))
        self.held.append(array)
        return trt.Weights(array)

    def random_weights(self, *shape: int) -> tuple[Any, Array]:
        array = self.random.standard_normal(shape).astype(np.float32)
        return self.weights(array), array

    def constant(self, values: Any, dtype: str = "float32") -> Any:
        array = np.ascontiguousarray(np.asarray(values, dtype)).reshape(np.shape(values))
        return self.net.add_constant(array.shape, self.weights(array, dtype)).get_output(0)

    def records(self, layer: Any) -> Network:
        for i in range(layer.num_outputs):
            layer.get_output(i).name = f"out{i}"
            self.net.mark_output(layer.get_output(i))
        errors = self.package.log.errors()
        assert not errors, errors
        return walk.read(self.net, self.package)

    def run(self, layer: Any) -> list[Array]:
        network = self.records(layer)
        model = express(network)
        onnx.checker.check_model(ir.to_proto(model))
        values = Runnable(model, "the network").run(self.feeds, list(network.outputs))
        found = [values[name] for name in network.outputs]
        for name, value in zip(network.outputs, found, strict=True):
            said = network.shapes[name]
            assert all(a in (-1, b) for a, b in zip(said, value.shape, strict=True)), (name, said, value.shape)
        return found

    def check(self, layer: Any, *expected: Any, tolerance: float = 1e-5) -> None:
        found = self.run(layer)
        assert len(found) == len(expected)
        for got, want in zip(found, expected, strict=True):
            want = want.numpy() if isinstance(want, torch.Tensor) else np.asarray(want)
            assert got.shape == want.shape
            if want.dtype.kind in "biu":
                np.testing.assert_array_equal(got, want)
            else:
                scale = np.abs(want[np.isfinite(want)]).max(initial=1e-30)
                np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * float(scale))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _t(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


# ---- windows -----------------------------------------------------------------------------------------------------------


def test_convolution(bench: Bench) -> None:
    (kernel, k), (bias, b) = bench.random_weights(6, 2, 3, 2), bench.random_weights(6)
    layer = bench.net.add_convolution_nd(bench.input(2, 4, 9, 8), 6, (3, 2), kernel, bias)
    layer.stride_nd, layer.dilation_nd, layer.num_groups, layer.pre_padding, layer.post_padding = (2, 1), (1, 2), 2, (1, 0), (0, 2)
    x = functional.pad(_t(bench.feeds["in0"]), (0, 2, 1, 0))
    bench.check(layer, functional.conv2d(x, _t(k), _t(b), (2, 1), 0, (1, 2), 2))


def test_convolution_of_volumes_without_bias(bench: Bench) -> None:
    kernel, k = bench.random_weights(3, 2, 2, 3, 1)
    layer = bench.net.add_convolution_nd(bench.input(1, 2, 4, 5, 6), 3, (2, 3, 1), kernel)
    bench.check(layer, functional.conv3d(_t(bench.feeds["in0"]), _t(k)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_convolution_in_half_precision_rounds_its_result_once(bench: Bench, dtype: str) -> None:
    kernel = bench.random.standard_normal((3, 2, 1, 1)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16)
    bench.held.append(kernel)
    weights = trt.Weights(_TYPES[dtype], kernel.ctypes.data, kernel.size)
    layer = bench.net.add_convolution_nd(bench.input(2, 2, 4, 4, dtype=dtype), 3, (1, 1), weights)
    exact = functional.conv2d(_t(bench.feeds["in0"].astype(np.float32)), _t(kernel.astype(np.float32))).numpy()
    bench.check(layer, exact.astype(kernel.dtype).astype(np.float32), tolerance=1e-7)


@pytest.mark.parametrize("dilation", [1, 2])
def test_deconvolution_cuts_its_padding(bench: Bench, dilation: int) -> None:
    (kernel, k), (bias, b) = bench.random_weights(4, 3, 3, 2), bench.random_weights(6)
    layer = bench.net.add_deconvolution_nd(bench.input(2, 4, 5, 4), 6, (3, 2), kernel, bias)
    layer.stride_nd, layer.num_groups, layer.pre_padding, layer.post_padding, layer.dilation_nd = (2, 3), 2, (1, 0), (0, 1), (dilation, 1)
    whole = functional.conv_transpose2d(_t(bench.feeds["in0"]), _t(k), _t(b), (2, 3), groups=2, dilation=(dilation, 1))
    bench.check(layer, whole[:, :, 1:, :-1].contiguous())


def _pooled(
    x: Array, kind: str, window: Sequence[int], stride: Sequence[int], pre: Sequence[int], post: Sequence[int], excludes: bool
) -> Array:
    pads = ((0, 0), (0, 0), *zip(pre, post, strict=True))
    wide = np.pad(x, pads, constant_values=-np.inf if kind == "MAX" else 0)
    ones = np.pad(np.ones_like(x), pads, constant_values=0 if excludes else 1)
    size = [(n - w) // s + 1 for n, w, s in zip(wide.shape[2:], window, stride, strict=True)]
    out = np.empty((*x.shape[:2], *size), np.float32)
    for at in itertools.product(*map(range, size)):
        cut: Any = (slice(None), slice(None), *[slice(i * s, i * s + w) for i, s, w in zip(at, stride, window, strict=True)])
        part, count = wide[cut].reshape(*x.shape[:2], -1), ones[cut].reshape(*x.shape[:2], -1).sum(-1)
        out[:, :, *at] = part.max(-1) if kind == "MAX" else part.sum(-1) / count
    return out


@pytest.mark.parametrize(
    ("kind", "excludes", "window", "pre", "post"),
    [
        ("MAX", True, (3, 2), (1, 0), (2, 1)),
        ("MAX", True, (2, 2), (0, 1), (2, 0)),
        ("AVERAGE", True, (3, 2), (1, 0), (2, 1)),
        ("AVERAGE", False, (3, 2), (1, 0), (2, 1)),
        ("AVERAGE", False, (2, 2), (1, 1), (2, 3)),
        ("AVERAGE", True, (2, 2), (0, 0), (0, 0)),
    ],
)
def test_pooling(bench: Bench, kind: str, excludes: bool, window: tuple[int, int], pre: tuple[int, int], post: tuple[int, int]) -> None:
    layer = bench.net.add_pooling_nd(bench.input(2, 3, 8, 7), getattr(trt.PoolingType, kind), window)
    layer.stride_nd, layer.pre_padding, layer.post_padding, layer.average_count_excludes_padding = (3, 2), pre, post, excludes
    bench.check(layer, _pooled(bench.feeds["in0"], kind, window, (3, 2), pre, post, excludes))


def test_the_maximum_of_padding_alone_is_written_nowhere(bench: Bench) -> None:
    layer = bench.net.add_pooling_nd(bench.input(1, 1, 4, 4), trt.PoolingType.MAX, (2, 2))
    layer.stride_nd, layer.post_padding = (2, 2), (2, 0)
    with pytest.raises(TensorRTError, match="padding alone"):
        express(bench.records(layer))


def test_pooling_of_volumes(bench: Bench) -> None:
    layer = bench.net.add_pooling_nd(bench.input(1, 2, 4, 5, 6), trt.PoolingType.AVERAGE, (2, 3, 2))
    layer.stride_nd = (2, 1, 2)
    bench.check(layer, functional.avg_pool3d(_t(bench.feeds["in0"]), (2, 3, 2), (2, 1, 2)))


# ---- element by element ------------------------------------------------------------------------------------------------

_A, _B = 0.75, 1.5
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "RELU": lambda x: x.clamp(min=0),
    "SIGMOID": lambda x: 1 / (1 + (-x).exp()),
    "TANH": torch.tanh,
    "LEAKY_RELU": lambda x: torch.where(x >= 0, x, _A * x),
    "ELU": lambda x: torch.where(x >= 0, x, _A * (x.exp() - 1)),
    "SELU": lambda x: torch.where(x > 0, _B * x, _B * (_A * x.exp() - _A)),
    "SOFTSIGN": lambda x: x / (1 + x.abs()),
    "SOFTPLUS": lambda x: _A * ((_B * x).exp() + 1).log(),
    "CLIP": lambda x: torch.maximum(torch.tensor(_A), torch.minimum(torch.tensor(_B), x)),
    "HARD_SIGMOID": lambda x: (_A * x + _B).clamp(0, 1),
    "SCALED_TANH": lambda x: _A * torch.tanh(_B * x),
    "THRESHOLDED_RELU": lambda x: torch.where(x > _A, x, 0.0),
    "GELU_ERF": lambda x: 0.5 * x * (1 + torch.erf(np.sqrt(0.5) * x)),
    "GELU_TANH": lambda x: 0.5 * x * (1 + torch.tanh(np.sqrt(2 / np.pi) * (0.044715 * x**3 + x))),
}


def test_all_activations_are_known() -> None:
    assert set(ACTIVATIONS) == set(trt.ActivationType.__members__)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation(bench: Bench, kind: str) -> None:
    layer = bench.net.add_activation(bench.input(values=[*np.linspace(-4, 4, 61), _A, _B, 0.0, -0.0]), getattr(trt.ActivationType, kind))
    layer.alpha, layer.beta = _A, _B
    bench.check(layer, ACTIVATIONS[kind](_t(bench.feeds["in0"])))


def test_clip_with_bounds_in_the_wrong_order_gives_the_lower_bound(bench: Bench) -> None:
    layer = bench.net.add_activation(bench.input(5), trt.ActivationType.CLIP)
    layer.alpha, layer.beta = 2.0, 1.0
    bench.check(layer, np.full(5, 2, np.float32))


def test_parametric_relu(bench: Bench) -> None:
    slopes = np.array([[[[0.5]], [[-2.0]], [[0.0]]]], np.float32)
    layer = bench.net.add_parametric_relu(bench.input(2, 3, 2, 2), bench.constant(slopes))
    x = bench.feeds["in0"]
    bench.check(layer, np.where(x < 0, x * slopes, x))


@pytest.mark.parametrize(
    ("mode", "shape", "axis"), [("UNIFORM", (1,), 1), ("CHANNEL", (3,), 1), ("CHANNEL", (4,), 2), ("ELEMENTWISE", (3, 4, 2), 1)]
)
def test_scale_multiplies_then_adds_then_takes_the_power(bench: Bench, mode: str, shape: tuple[int, ...], axis: int) -> None:
    values = [np.abs(bench.random.standard_normal(shape)).astype(np.float32) + 0.5 for _ in range(3)]
    shift, scale, power = values
    given = [bench.weights(v.reshape(-1)) for v in values]
    x = bench.input(values=np.abs(bench.random.standard_normal((2, 3, 4, 2))))
    layer = bench.net.add_scale_nd(x, getattr(trt.ScaleMode, mode), *given, axis)
    wide = (-1, *[1] * (3 - axis)) if mode == "CHANNEL" else shape
    shift, scale, power = (v.reshape(wide) for v in values)
    bench.check(layer, (bench.feeds["in0"] * scale + shift) ** power)


def test_scale_without_coefficients_changes_nothing(bench: Bench) -> None:
    empty = trt.Weights(trt.float32)
    bench.check(bench.net.add_scale(bench.input(1, 2, 2, 2), trt.ScaleMode.CHANNEL, empty, empty, empty), bench.feeds["in0"])


ELEMENTWISE: dict[str, Callable[[Array, Array], Array]] = {
    "SUM": np.add,
    "PROD": np.multiply,
    "MAX": np.maximum,
    "MIN": np.minimum,
    "SUB": np.subtract,
    "DIV": np.divide,
    "POW": lambda a, b: np.power(a, b),
    "FLOOR_DIV": np.floor_divide,
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "LESS": np.less,
    "AND": np.logical_and,
    "OR": np.logical_or,
    "XOR": np.logical_xor,
}


def test_all_elementwise_operations_are_known() -> None:
    assert set(ELEMENTWISE) == set(trt.ElementWiseOperation.__members__)


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise(bench: Bench, kind: str) -> None:
    dtype = "bool" if kind in ("AND", "OR", "XOR") else "float32"
    a: Array = bench.random.integers(0, 2, (2, 3, 4))
    b: Array = bench.random.integers(0, 2, (2, 1, 4))
    if dtype == "float32":
        a, b = a * 1.25 + 0.5, b * 1.25 + 0.5
    layer = bench.net.add_elementwise(
        bench.input(values=a, dtype=dtype), bench.input(values=b, dtype=dtype), getattr(trt.ElementWiseOperation, kind)
    )
    bench.check(layer, ELEMENTWISE[kind](bench.feeds["in0"], bench.feeds["in1"]))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("kind", ["SUM", "SUB", "PROD", "MAX", "DIV", "FLOOR_DIV", "GREATER"])
def test_elementwise_on_integers(bench: Bench, kind: str, dtype: str) -> None:
    a, b = (n.reshape(-1) for n in np.meshgrid([-7, -6, -1, 0, 1, 6, 7], [-3, -1, 2, 3]))
    layer = bench.net.add_elementwise(
        bench.input(values=a, dtype=dtype), bench.input(values=b, dtype=dtype), getattr(trt.ElementWiseOperation, kind)
    )
    bench.check(layer, np.trunc(a / b).astype(dtype) if kind == "DIV" else ELEMENTWISE[kind](a.astype(dtype), b.astype(dtype)))


UNARY: dict[str, Callable[[Array], Any]] = {
    "EXP": np.exp,
    "LOG": np.log,
    "SQRT": np.sqrt,
    "RECIP": np.reciprocal,
    "ABS": np.abs,
    "NEG": np.negative,
    "SIN": np.sin,
    "COS": np.cos,
    "TAN": np.tan,
    "SINH": np.sinh,
    "COSH": np.cosh,
    "ASIN": np.arcsin,
    "ACOS": np.arccos,
    "ATAN": np.arctan,
    "ASINH": np.arcsinh,
    "ACOSH": lambda x: np.arccosh(x + 1),
    "ATANH": lambda x: np.arctanh(x * 0.9),
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "ERF": lambda x: torch.erf(_t(x)),
    "NOT": np.logical_not,
    "SIGN": np.sign,
    # Half to even.
    "ROUND": np.rint,
    "ISINF": np.isinf,
    "ISNAN": np.isnan,
}


def test_all_unary_operations_are_known() -> None:
    assert set(UNARY) == set(trt.UnaryOperation.__members__)


@pytest.mark.parametrize("kind", UNARY)
def test_unary(bench: Bench, kind: str) -> None:
    values: Any = np.linspace(0.05, 1, 20).astype(np.float32)
    if kind in ("SIGN", "ABS", "NEG", "ROUND", "FLOOR", "CEIL", "ATAN", "ERF", "SIN"):
        values = np.array([-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, 3.49], np.float32)
    if kind in ("ISINF", "ISNAN"):
        values = np.array([np.inf, -np.inf, np.nan, 0, 1], np.float32)
    shifted = {"ACOSH": values + 1, "ATANH": values * np.float32(0.9)}.get(kind, values)
    given = bench.input(values=values > 0.5, dtype="bool") if kind == "NOT" else bench.input(values=shifted)
    bench.check(bench.net.add_unary(given, getattr(trt.UnaryOperation, kind)), UNARY[kind](bench.feeds["in0"] if kind == "NOT" else values))


def test_select_broadcasts(bench: Bench) -> None:
    chosen = bench.input(values=[[[True], [False]]], dtype="bool")
    layer = bench.net.add_select(chosen, bench.input(2, 2, 3), bench.input(1, 1, 3))
    bench.check(layer, np.where(bench.feeds["in0"], bench.feeds["in1"], bench.feeds["in2"]))


def test_cast_rounds_once(bench: Bench) -> None:
    values = np.array([1.0009766, 1.0004883, 65519.0, 1e-8, -2.75], np.float32)
    bench.check(bench.net.add_cast(bench.input(values=values), trt.float16), values.astype(np.float16), tolerance=0)


def test_cast_to_integers_goes_towards_zero(bench: Bench) -> None:
    bench.check(bench.net.add_cast(bench.input(values=[-2.75, 2.75, 0.5]), trt.int32), np.array([-2, 2, 0], np.int32))


def test_identity(bench: Bench) -> None:
    bench.check(bench.net.add_identity(bench.input(2, 3)), bench.feeds["in0"])


def test_arithmetic_in_half_precision_rounds_each_result(bench: Bench) -> None:
    a, b = bench.input(50, dtype="float16"), bench.input(50, dtype="float16")
    product = bench.net.add_elementwise(a, b, trt.ElementWiseOperation.PROD)
    layer = bench.net.add_elementwise(product.get_output(0), b, trt.ElementWiseOperation.SUM)
    x, y = bench.feeds["in0"], bench.feeds["in1"]
    bench.check(layer, (x * y + y).astype(np.float32), tolerance=0)


# ---- sums and means ----------------------------------------------------------------------------------------------------


def test_lrn_divides_alpha_by_the_window(bench: Bench) -> None:
    # The example of TensorRT's own page of operators, LRN, which was run on a GPU.
    x = bench.input(values=np.broadcast_to(np.arange(5.0).reshape(1, 5, 1, 1), (1, 5, 2, 2)))
    want = np.array([0.0, 0.56603765, 0.4195804, 0.3071672, 0.47430828], np.float32).reshape(1, 5, 1, 1)
    bench.check(bench.net.add_lrn(x, window=3, alpha=1, beta=1, k=0.1), np.broadcast_to(want, (1, 5, 2, 2)), tolerance=1e-6)


def test_softmax(bench: Bench) -> None:
    layer = bench.net.add_softmax(bench.input(2, 3, 4, 5))
    layer.axes = 1 << 2
    bench.check(layer, torch.softmax(_t(bench.feeds["in0"]), 2))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("kind", "reduction"), [("SUM", np.sum), ("PROD", np.prod), ("MAX", np.max), ("MIN", np.min), ("AVG", np.mean)])
def test_reduce(bench: Bench, kind: str, reduction: Callable[..., Array], keep: bool) -> None:
    layer = bench.net.add_reduce(bench.input(2, 3, 4, 5), getattr(trt.ReduceOperation, kind), (1 << 1) | (1 << 3), keep)
    bench.check(layer, reduction(bench.feeds["in0"], axis=(1, 3), keepdims=keep))


def test_sum_of_integers(bench: Bench) -> None:
    layer = bench.net.add_reduce(bench.input(values=np.arange(12).reshape(3, 4), dtype="int32"), trt.ReduceOperation.SUM, 1, False)
    bench.check(layer, np.arange(12).reshape(3, 4).sum(0).astype(np.int32))


def test_layer_norm(bench: Bench) -> None:
    (_, s), (_, b) = bench.random_weights(1, 1, 6), bench.random_weights(1, 1, 6)
    layer = bench.net.add_normalization(bench.input(2, 4, 6), bench.constant(s), bench.constant(b), 1 << 2)
    layer.epsilon = 0.25
    bench.check(layer, functional.layer_norm(_t(bench.feeds["in0"]), (6,), _t(s[0, 0]), _t(b[0, 0]), 0.25))


def test_instance_norm(bench: Bench) -> None:
    (_, s), (_, b) = bench.random_weights(1, 3, 1, 1), bench.random_weights(1, 3, 1, 1)
    layer = bench.net.add_normalization(bench.input(2, 3, 4, 5), bench.constant(s), bench.constant(b), 0b1100)
    bench.check(layer, functional.instance_norm(_t(bench.feeds["in0"]), weight=_t(s.reshape(-1)), bias=_t(b.reshape(-1))))


@pytest.mark.parametrize("by_channel", [True, False])
def test_group_norm_has_coefficients_for_groups_in_its_first_version_and_for_channels_in_its_second(bench: Bench, by_channel: bool) -> None:
    count = 6 if by_channel else 3
    (_, s), (_, b) = bench.random_weights(1, count, 1, 1), bench.random_weights(1, count, 1, 1)
    add = bench.net.add_normalization_v2 if by_channel else bench.net.add_normalization
    layer = add(bench.input(2, 6, 4, 5), bench.constant(s), bench.constant(b), 0b1100)
    layer.num_groups, layer.epsilon = 3, 0.125
    weight, bias = (_t(v.reshape(-1) if by_channel else np.repeat(v.reshape(-1), 2)) for v in (s, b))
    bench.check(layer, functional.group_norm(_t(bench.feeds["in0"]), 3, weight, bias, 0.125))


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("exclusive", [True, False])
def test_cumulative_sum(bench: Bench, exclusive: bool, reverse: bool) -> None:
    axis = bench.constant(np.array(1), "int32")
    layer = bench.net.add_cumulative(bench.input(2, 5), axis, trt.CumulativeOperation.SUM, exclusive, reverse)
    x = bench.feeds["in0"]
    summed = np.cumsum(x[:, ::-1], 1)[:, ::-1] if reverse else np.cumsum(x, 1)
    bench.check(layer, summed - x if exclusive else summed)


# ---- moves -------------------------------------------------------------------------------------------------------------


def test_concatenation(bench: Bench) -> None:
    layer = bench.net.add_concatenation([bench.input(2, 3, 4), bench.input(2, 1, 4)])
    layer.axis = 1
    bench.check(layer, np.concatenate([bench.feeds["in0"], bench.feeds["in1"]], 1))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "bool"])
def test_shuffle_transposes_reshapes_and_transposes(bench: Bench, dtype: str) -> None:
    layer = bench.net.add_shuffle(bench.input(2, 3, 4, 5, dtype=dtype))
    layer.first_transpose, layer.reshape_dims, layer.second_transpose = (0, 2, 3, 1), (0, -1, 3), (2, 0, 1)
    want = bench.feeds["in0"].transpose(0, 2, 3, 1).reshape(2, 20, 3).transpose(2, 0, 1)
    bench.check(layer, want.astype(np.float32) if "float" in dtype else want, tolerance=0)


def test_shuffle_of_an_empty_tensor_where_zero_is_a_size(bench: Bench) -> None:
    layer = bench.net.add_shuffle(bench.input(values=np.zeros((3, 0))))
    layer.zero_is_placeholder, layer.reshape_dims = False, (0, 5)
    bench.check(layer, np.zeros((0, 5), np.float32))


def test_shuffle_to_a_shape_that_is_a_tensor(bench: Bench) -> None:
    layer = bench.net.add_shuffle(bench.input(2, 6))
    layer.set_input(1, bench.constant([3, -1], "int32"))
    bench.check(layer, bench.feeds["in0"].reshape(3, 4))


def _sliced(x: Array, start: Sequence[int], size: Sequence[int], stride: Sequence[int], mode: str, fill: float = 0) -> Array:
    """Position by position, after NVIDIA's page of the operator."""
    out = np.empty(size, x.dtype)
    for at in itertools.product(*map(range, size)):
        place, inside = [], True
        for i, s, t, d in zip(at, start, stride, x.shape, strict=True):
            n = i * t + s
            if mode == "REFLECT":
                c = abs(n) % (2 * d - 2) if d > 1 else 0
                n = 2 * d - 2 - c if c >= d else c
            elif mode == "WRAP":
                n %= d
            elif mode == "CLAMP":
                n = min(max(n, 0), d - 1)
            inside &= 0 <= n < d
            place.append(n)
        out[at] = x[tuple(place)] if inside else fill
    return out


@pytest.mark.parametrize("mode", ["STRICT_BOUNDS", "WRAP", "CLAMP", "FILL", "REFLECT"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_slice(bench: Bench, mode: str, dynamic: bool) -> None:
    outside = mode != "STRICT_BOUNDS"
    start, size, stride = ((-3, 5, -9), (7, 4, 20), (1, -2, 1)) if outside else ((1, 5, 0), (2, 3, 2), (1, -2, 3))
    layer = bench.net.add_slice(bench.input(4, 6, 5), start, size, stride)
    layer.mode = getattr(trt.SampleMode, mode)
    if dynamic:
        for i, values in enumerate((start, size, stride)):
            layer.set_input(i + 1, bench.constant(values, "int64"))
    if mode == "FILL":
        layer.set_input(4, bench.constant(np.array(7.5)))
    bench.check(layer, _sliced(bench.feeds["in0"], start, size, stride, mode, 7.5), tolerance=0)


def test_slice_of_some_axes_and_of_an_axis_of_one(bench: Bench) -> None:
    x = bench.input(3, 1, 5)
    layer = bench.net.add_slice(x, (0,), (0,), (0,))
    for i, values in ((1, [-1, -2]), (2, [3, 6]), (3, [1, 1]), (5, [1, -1])):
        layer.set_input(i, bench.constant(values, "int32"))
    layer.mode = trt.SampleMode.REFLECT
    bench.check(layer, _sliced(bench.feeds["in0"], (0, -1, -2), (3, 3, 6), (1, 1, 1), "REFLECT"), tolerance=0)


def test_shape(bench: Bench) -> None:
    bench.check(bench.net.add_shape(bench.input(2, 3, 5)), np.array([2, 3, 5]))


# ---- products ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "first", "b", "second", "equation"),
    [
        ((2, 3, 4), "NONE", (1, 4, 5), "NONE", "bij,cjk->bik"),
        ((2, 4, 3), "TRANSPOSE", (2, 5, 4), "TRANSPOSE", "bji,bkj->bik"),
        ((2, 4), "VECTOR", (2, 4, 5), "NONE", "bj,bjk->bk"),
        ((2, 3, 4), "NONE", (2, 4), "VECTOR", "bij,bj->bi"),
        ((4,), "VECTOR", (4,), "VECTOR", "j,j->"),
    ],
)
def test_matrix_multiply(bench: Bench, a: tuple[int, ...], first: str, b: tuple[int, ...], second: str, equation: str) -> None:
    kinds = [getattr(trt.MatrixOperation, kind) for kind in (first, second)]
    layer = bench.net.add_matrix_multiply(bench.input(*a), kinds[0], bench.input(*b), kinds[1])
    bench.check(layer, np.einsum(equation, bench.feeds["in0"], bench.feeds["in1"]))


def test_einsum(bench: Bench) -> None:
    layer = bench.net.add_einsum([bench.input(2, 3, 4), bench.input(2, 5, 4)], "bij,bkj->bik")
    bench.check(layer, np.einsum("bij,bkj->bik", bench.feeds["in0"], bench.feeds["in1"]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64"])
def test_constant(bench: Bench, dtype: str) -> None:
    values = np.array([[1, -2, 3]], dtype)
    bench.check(bench.net.add_constant((1, 3), bench.weights(values, dtype)), values, tolerance=0)


# ---- samples -----------------------------------------------------------------------------------------------------------


def _coordinates(size: int, made: int, how: str, upper: bool) -> Array:
    at = np.arange(made, dtype=np.float64)
    if how == "ALIGN_CORNERS":
        return at * (size - 1) / (made - 1) if made > 1 else at * 0
    if how == "ASYMMETRIC":
        return at * size / made
    return at * 0 if upper and made == 1 else (at + 0.5) * size / made - 0.5


def _resized(x: Array, size: Sequence[int], mode: str, how: str, rounding: str, upper: bool = False) -> Array:
    rounded: Callable[[Array], Array] = {
        "FLOOR": np.floor,
        "CEIL": np.ceil,
        "HALF_UP": lambda n: np.floor(n + 0.5),
        "HALF_DOWN": lambda n: np.ceil(n - 0.5),
    }[rounding]
    out = x.astype(np.float64)
    for axis, made in enumerate(size):
        n = x.shape[axis]
        if made == n:
            continue
        at = _coordinates(n, made, how, upper)
        if mode == "NEAREST":
            out = np.take(out, np.clip(rounded(at), 0, n - 1).astype(int), axis)
            continue
        at = np.clip(at, 0, n - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        out = np.take(out, low, axis) * (1 - part) + np.take(out, np.minimum(low + 1, n - 1), axis) * part
    return out.astype(np.float32)


@pytest.mark.parametrize("how", ["ALIGN_CORNERS", "ASYMMETRIC", "HALF_PIXEL"])
@pytest.mark.parametrize("rounding", ["FLOOR", "CEIL", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize("size", [(1, 2, 7, 13), (1, 2, 3, 4)])
def test_resize_to_the_nearest(bench: Bench, how: str, rounding: str, size: tuple[int, ...]) -> None:
    layer = bench.net.add_resize(bench.input(1, 2, 6, 8))
    layer.resize_mode, layer.shape = trt.InterpolationMode.NEAREST, size
    layer.coordinate_transformation = getattr(trt.ResizeCoordinateTransformation, how)
    layer.nearest_rounding = getattr(trt.ResizeRoundMode, rounding)
    bench.check(layer, _resized(bench.feeds["in0"], size, "NEAREST", how, rounding))


@pytest.mark.parametrize("how", ["ALIGN_CORNERS", "ASYMMETRIC", "HALF_PIXEL"])
@pytest.mark.parametrize("size", [(2, 3, 9, 13), (2, 3, 3, 5)])
def test_resize_linearly(bench: Bench, how: str, size: tuple[int, ...]) -> None:
    layer = bench.net.add_resize(bench.input(2, 3, 6, 8))
    layer.resize_mode, layer.shape = trt.InterpolationMode.LINEAR, size
    layer.coordinate_transformation = getattr(trt.ResizeCoordinateTransformation, how)
    bench.check(layer, _resized(bench.feeds["in0"], size, "LINEAR", how, "FLOOR"))


@pytest.mark.parametrize("upper", [True, False])
def test_resize_to_one_pixel(bench: Bench, upper: bool) -> None:
    layer = bench.net.add_resize(bench.input(1, 2, 6, 8))
    layer.resize_mode, layer.shape = trt.InterpolationMode.LINEAR, (1, 2, 1, 1)
    layer.coordinate_transformation = trt.ResizeCoordinateTransformation.HALF_PIXEL
    layer.selector_for_single_pixel = trt.ResizeSelector.UPPER if upper else trt.ResizeSelector.FORMULA
    bench.check(layer, _resized(bench.feeds["in0"], (1, 2, 1, 1), "LINEAR", "HALF_PIXEL", "FLOOR", upper))


@pytest.mark.parametrize("open_batch", [True, False])
def test_resize_by_scales_rounds_the_size_down_and_goes_by_the_sizes(bench: Bench, open_batch: bool) -> None:
    layer = bench.net.add_resize(bench.input(2, 1, 5, 7, open_batch=open_batch))
    layer.resize_mode, layer.scales = trt.InterpolationMode.LINEAR, [1.0, 1.0, 1.5, 0.5]
    layer.coordinate_transformation = trt.ResizeCoordinateTransformation.HALF_PIXEL
    bench.check(layer, _resized(bench.feeds["in0"], (2, 1, 7, 3), "LINEAR", "HALF_PIXEL", "FLOOR"))


def test_resize_with_cubes(bench: Bench) -> None:
    layer = bench.net.add_resize(bench.input(1, 2, 6, 8))
    layer.resize_mode, layer.shape = trt.InterpolationMode.CUBIC, (1, 2, 9, 11)
    layer.coordinate_transformation = trt.ResizeCoordinateTransformation.HALF_PIXEL
    bench.check(layer, functional.interpolate(_t(bench.feeds["in0"]), (9, 11), mode="bicubic"))


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize(("mode", "padding"), [("FILL", "zeros"), ("CLAMP", "border"), ("REFLECT", "reflection")])
@pytest.mark.parametrize(("interpolation", "word"), [("NEAREST", "nearest"), ("LINEAR", "bilinear"), ("CUBIC", "bicubic")])
def test_grid_sample(bench: Bench, corners: bool, mode: str, padding: str, interpolation: str, word: str) -> None:
    grid = bench.random.uniform(-1.4, 1.4, (2, 4, 3, 2))
    layer = bench.net.add_grid_sample(bench.input(2, 3, 6, 5), bench.input(values=grid))
    layer.interpolation_mode, layer.align_corners = getattr(trt.InterpolationMode, interpolation), corners
    layer.sample_mode = getattr(trt.SampleMode, mode)
    x, at = (_t(bench.feeds[name]) for name in ("in0", "in1"))
    bench.check(layer, functional.grid_sample(x, at, word, padding, corners), tolerance=1e-4)


# ---- positions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_gather(bench: Bench, dtype: str) -> None:
    at = np.array([[2, 0], [1, 1]])
    layer = bench.net.add_gather(bench.input(2, 3, 4), bench.input(values=at, dtype=dtype), 1)
    bench.check(layer, np.take(bench.feeds["in0"], at, 1), tolerance=0)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("at", [(2,), (2, 5), (2, 2, 3)])
def test_gather_row_by_row(bench: Bench, axis: int, at: tuple[int, ...]) -> None:
    places = bench.random.integers(0, 3, at)
    layer = bench.net.add_gather(bench.input(2, 3, 4, 5), bench.input(values=places, dtype="int32"), axis)
    layer.num_elementwise_dims = 1
    want = np.stack([np.take(x, p, axis - 1) for x, p in zip(bench.feeds["in0"], places, strict=True)])
    bench.check(layer, want, tolerance=0)


def test_gather_elements(bench: Bench) -> None:
    at = bench.random.integers(0, 3, (2, 5, 4))
    layer = bench.net.add_gather_v2(bench.input(2, 3, 4), bench.input(values=at, dtype="int32"), trt.GatherMode.ELEMENT)
    layer.axis = 1
    bench.check(layer, np.take_along_axis(bench.feeds["in0"], at, 1), tolerance=0)


@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd(bench: Bench, batch: int) -> None:
    at = bench.random.integers(0, 2, (2, 5, 2))
    layer = bench.net.add_gather_v2(bench.input(2, 3, 4), bench.input(values=at, dtype="int32"), trt.GatherMode.ND)
    layer.num_elementwise_dims = batch
    x = bench.feeds["in0"]
    want = np.stack([x[i][at[i, :, 0], at[i, :, 1]] for i in range(2)]) if batch else x[at[..., 0], at[..., 1]]
    bench.check(layer, want, tolerance=0)


def test_scatter_elements(bench: Bench) -> None:
    at = np.argsort(bench.random.standard_normal((2, 3, 4)), 1)[:, :2]
    layer = bench.net.add_scatter(
        bench.input(2, 3, 4), bench.input(values=at, dtype="int32"), bench.input(2, 2, 4), trt.ScatterMode.ELEMENT
    )
    layer.axis = 1
    bench.check(layer, _t(bench.feeds["in0"]).scatter(1, _t(at), _t(bench.feeds["in2"])), tolerance=0)


def test_scatter_nd(bench: Bench) -> None:
    layer = bench.net.add_scatter(
        bench.input(3, 4, 2), bench.input(values=[[2, 0], [0, 3]], dtype="int32"), bench.input(2, 2), trt.ScatterMode.ND
    )
    want = bench.feeds["in0"].copy()
    want[[2, 0], [0, 3]] = bench.feeds["in2"]
    bench.check(layer, want, tolerance=0)


@pytest.mark.parametrize("kind", ["MAX", "MIN"])
def test_top_k_gives_int32(bench: Bench, kind: str) -> None:
    layer = bench.net.add_topk(bench.input(2, 7, 3), getattr(trt.TopKOperation, kind), 3, 1 << 1)
    values, at = torch.topk(_t(bench.feeds["in0"]), 3, 1, kind == "MAX")
    bench.check(layer, values, at.int(), tolerance=0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_non_zero_gives_int32(bench: Bench, dtype: str) -> None:
    layer = bench.net.add_non_zero(bench.input(values=[[0, 1, 0], [1, 0, 1]], dtype=dtype))
    bench.check(layer, np.array(np.nonzero(bench.feeds["in0"]), np.int32))


@pytest.mark.parametrize(("dtype", "axis"), [("float32", -1), ("float32", 1), ("int32", 0)])
def test_one_hot(bench: Bench, dtype: str, axis: int) -> None:
    places = np.array([[0, 2, 1], [3, 3, 0]])
    values, depth = bench.constant([-1, 5], dtype), bench.constant(np.array(4), "int32")
    layer = bench.net.add_one_hot(bench.input(values=places, dtype="int32"), values, depth, axis)
    made = np.where(np.arange(4) == places[..., None], 5, -1).astype(dtype)
    bench.check(layer, np.moveaxis(made, -1, axis))


# ---- boxes -------------------------------------------------------------------------------------------------------------


def _overlap(a: Array, b: Array) -> float:
    width, height = (min(max(a[i], a[i + 2]), max(b[i], b[i + 2])) - max(min(a[i], a[i + 2]), min(b[i], b[i + 2])) for i in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    areas = [abs((c[2] - c[0]) * (c[3] - c[1])) for c in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def _suppressed(boxes: Array, scores: Array, most: int, overlap: float, least: float, limit: int) -> Array:
    """As INMSLayer is described: image by image from the best score on, comparing boxes of one class."""
    found = []
    for image in range(len(scores)):
        number, classes = scores.shape[1:]
        order = sorted(itertools.product(range(number), range(classes)), key=lambda bc: -scores[image][bc])[:limit]
        kept: list[tuple[int, int]] = []
        for box, kind in order:
            mine = [b for b, k in kept if k == kind]
            each = boxes[image] if boxes.ndim == 3 else boxes[image, :, kind]
            if scores[image, box, kind] > least and len(mine) < most and all(_overlap(each[box], each[b]) <= overlap for b in mine):
                kept.append((box, kind))
        found += [(image, kind, box) for box, kind in kept]
    return np.array(found, np.int32).reshape(-1, 3)


@pytest.mark.parametrize("limit", [5000, 30])
@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("centers", [True, False])
def test_non_maximum_suppression(bench: Bench, centers: bool, by_class: bool, limit: int) -> None:
    shape = (2, 40, 3, 2) if by_class else (2, 40, 2)
    corner, size = bench.random.uniform(0, 4, shape), bench.random.uniform(0.5, 2, shape)
    boxes = np.concatenate([corner, corner + size], -1).astype(np.float32)
    given = np.concatenate([corner + size / 2, size], -1) if centers else boxes
    scores = bench.random.permutation(240).reshape(2, 40, 3) / 240
    inputs = [bench.input(values=given), bench.input(values=scores), bench.constant(np.array(7), "int32")]
    layer = bench.net.add_nms(*inputs)
    layer.set_input(3, bench.constant(np.array(0.3)))
    layer.set_input(4, bench.constant(np.array(0.25)))
    layer.bounding_box_format = trt.BoundingBoxFormat.CENTER_SIZES if centers else trt.BoundingBoxFormat.CORNER_PAIRS
    layer.topk_box_limit = limit
    want = _suppressed(boxes, bench.feeds["in1"], 7, 0.3, 0.25, limit)
    assert 10 < len(want) < 200
    bench.check(layer, want, np.array(len(want), np.int32))


def test_non_maximum_suppression_without_thresholds_takes_scores_above_zero(bench: Bench) -> None:
    boxes = np.array([[[0, 0, 1, 1], [5, 5, 6, 6], [0.9, 0.9, 2, 2]]])
    layer = bench.net.add_nms(
        bench.input(values=boxes), bench.input(values=[[[0.5], [-1.0], [0.25]]]), bench.constant(np.array(3), "int32")
    )
    bench.check(layer, np.array([[0, 0, 0]], np.int32), np.array(1, np.int32))


# ---- quantised values --------------------------------------------------------------------------------------------------


def test_quantize_and_dequantize(bench: Bench) -> None:
    values = np.array([[0.25, 0.75, 1.25, -0.25, 63.4, 70, -70]], np.float32)
    quantised = bench.net.add_quantize(bench.input(values=values), bench.constant(np.array(0.5)), trt.int8)
    quantised.get_output(0).name = "quantised"
    layer = bench.net.add_dequantize(quantised.get_output(0), bench.constant(np.array(0.5)), trt.float32)
    bench.check(layer, np.clip(np.rint(values / 0.5), -128, 127) * np.float32(0.5), tolerance=0)


def test_quantize_by_channel(bench: Bench) -> None:
    scales = np.array([0.5, 0.125, 2], np.float32)
    layer = bench.net.add_quantize(bench.input(2, 3, 4), bench.constant(scales), trt.int8)
    layer.axis = 1
    layer.set_input(2, bench.constant(np.zeros(3), "int8"))
    bench.check(layer, np.clip(np.rint(bench.feeds["in0"] / scales[:, None]), -128, 127).astype(np.int8))


# ---- the whole ---------------------------------------------------------------------------------------------------------


def test_every_record_but_unknown_can_be_expressed() -> None:
    records = {kind for kind in layers.Operation.__args__ if kind is not layers.Unknown}
    assert set(TABLE) == records
    for entry in TABLE.values():
        assert callable(entry.load())
        assert entry.type in trt.LayerType.__members__


def test_tensors_keep_their_names_and_an_open_batch_stays_open(bench: Bench) -> None:
    x = bench.input(2, 3, open_batch=True)
    first = bench.net.add_activation(x, trt.ActivationType.RELU)
    first.get_output(0).name = "between"
    network = bench.records(bench.net.add_unary(first.get_output(0), trt.UnaryOperation.NEG))
    model = express(network)
    assert [v.name for v in model.graph.inputs] == ["in0"]
    assert model.graph.inputs[0].shape is not None
    assert model.graph.inputs[0].shape[1] == 3
    for batch in (1, 5):
        x = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3) - 4
        found = Runnable(model, "the network").run({"in0": x}, ["between", "out0", "in0"])
        np.testing.assert_array_equal(found["between"], np.maximum(x, 0))
        np.testing.assert_array_equal(found["out0"], -np.maximum(x, 0))
        np.testing.assert_array_equal(found["in0"], x)


def test_what_cannot_be_read_is_refused_by_name(bench: Bench) -> None:
    x = bench.input(2, 3, 4, 4)
    first = bench.net.add_pooling_nd(x, trt.PoolingType.MAX_AVERAGE_BLEND, (2, 2))
    first.name = "blend"
    second = bench.net.add_fill((3,), trt.FillOperation.LINSPACE, trt.float32)
    second.name = "numbers"
    network = walk.read(bench.net, bench.package)
    with pytest.raises(TensorRTError) as error:
        express(network)
    assert error.value.code == "T320"
    assert "'blend' (POOLING" in error.value.message
    assert "'numbers' (FILL" in error.value.message


def test_a_layer_without_an_expression_is_refused_by_name(bench: Bench) -> None:
    x = bench.input(values=[1, 2], dtype="int32")
    layer = bench.net.add_reduce(x, trt.ReduceOperation.AVG, 1, True)
    layer.name = "mean of integers"
    with pytest.raises(TensorRTError, match=r"mean of integers.*floating point") as error:
        express(bench.records(layer))
    assert error.value.code == "T321"


def test_records_that_contradict_themselves_are_refused() -> None:
    given = (layers.Input("x", "float32", (2,)),)
    relu = layers.Activation("RELU")
    with pytest.raises(TensorRTError, match="'y', which no layer makes"):
        express(Network(given, (Layer("a", relu, ("y",), ("z",)),), ("z",)))
    with pytest.raises(TensorRTError, match="two tensors are called 'z'"):
        express(Network(given, (Layer("a", relu, ("x",), ("z",)), Layer("b", relu, ("x",), ("z",))), ("z",)))
    with pytest.raises(TensorRTError, match="output 'y' is no tensor"):
        express(Network(given, (Layer("a", relu, ("x",), ("z",)),), ("y",)))
    with pytest.raises(TensorRTError, match="has 'z' as int8"):
        express(Network(given, (Layer("a", relu, ("x",), ("z",)),), ("z",), dtypes={"z": "int8"}))
