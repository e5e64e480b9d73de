"""Networks of TensorRT's layers in memory: for every operation the smallest that has it, all settings other than the usual ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from porter.dataclass import field_names
from porter.dtypes import DTYPES
from porter.tensor import BytesPayload, Tensor, TensorSpec
from porter.tensorrt import layers as l
from porter.tensorrt.layers import Input, Layer, Network, Operation, Weights


def weights(name: str, *shape: int, dtype: str = "float32", values: Any = None) -> Weights:
    """Weights of a shape; without values, floats that no power of two divides."""
    if values is None:
        values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    array = np.asarray(values)
    high_half = dtype == "bfloat16"
    array = (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) if high_half else array.astype(dtype)
    spec = TensorSpec(name, DTYPES[dtype], shape)
    return Weights(Tensor(spec, BytesPayload.of(np.ascontiguousarray(array).tobytes())), (name,))


def constant(name: str, values: Any, dtype: str = "float32") -> Layer:
    """A layer `name` that makes a tensor of the same name."""
    array = np.asarray(values)
    return Layer(name, l.Constant(weights(f"{name}.weights", *array.shape, dtype=dtype, values=array)), (), (name,))


def network(
    operation: Operation,
    shapes: Mapping[str, Sequence[int]],
    *,
    constants: Sequence[Layer] = (),
    inputs: Sequence[str] | None = None,
    outputs: int = 1,
    dtypes: Mapping[str, str] | None = None,
) -> Network:
    """One layer `layer`, after the constants that it reads; `inputs` are shapes' and constants' unless said otherwise."""
    given = tuple([Input(name, (dtypes or {}).get(name, "float32"), tuple(shape)) for name, shape in shapes.items()])
    read = tuple(inputs) if inputs is not None else (*shapes, *(c.name for c in constants))
    made = tuple([f"out{i}" for i in range(outputs)])
    return Network(given, (*constants, Layer("layer", operation, read, made)), made)


def _examples() -> dict[str, Network]:
    x = {"x": (2, 6, 8, 9)}
    found: dict[str, Network] = {
        "convolution": network(l.Convolution(weights("c.kernel", 4, 3, 3, 2), weights("c.bias", 4), (2, 1), (1, 2), (1, 0), (2, 1), 2), x),
        "convolution without bias": network(l.Convolution(weights("c.kernel", 4, 6, 1, 1), None, (1, 1), (1, 1), (0, 0), (0, 0)), x),
        "convolution in 3-D": network(
            l.Convolution(weights("c.kernel", 4, 2, 1, 2, 3), None, (1, 2, 1), (1, 1, 1), (0, 0, 1), (0, 1, 0)), {"x": (1, 2, 4, 5, 6)}
        ),
        "deconvolution": network(
            l.Deconvolution(weights("d.kernel", 6, 2, 4, 3), weights("d.bias", 4), (2, 3), (1, 1), (1, 0), (0, 1), 2), x
        ),
        "convolution with a kernel of another layer": network(
            l.Convolution(l.KernelInput((4, 3, 3, 2)), weights("c.bias", 4), (2, 1), (1, 2), (1, 0), (2, 1), 2),
            x,
            constants=[constant("k", np.ones((4, 3, 3, 2)))],
        ),
        "deconvolution with a kernel of another layer": network(
            l.Deconvolution(l.KernelInput((6, 2, 4, 3)), None, (2, 3), (1, 1), (1, 0), (0, 1), 2),
            x,
            constants=[constant("k", np.ones((6, 2, 4, 3)))],
        ),
        "max pooling": network(l.Pooling("MAX", (3, 2), (2, 1), (1, 0), (2, 1)), x),
        "average pooling": network(l.Pooling("AVERAGE", (3, 2), (2, 2), (1, 0), (1, 1), False), x),
        "scale": network(l.Scale("CHANNEL", weights("s.shift", 6), weights("s.scale", 6)), x),
        "scale with a power": network(l.Scale("UNIFORM", None, weights("s.scale", 1), weights("s.power", 1, values=[2.0])), x),
        "scale of every element": network(l.Scale("ELEMENTWISE", weights("s.shift", 6, 8, 9), None), x),
        "lrn": network(l.Lrn(5, 0.5, 0.75, 2.0), x),
        "softmax": network(l.Softmax(2), x),
        "concatenation": network(l.Concatenation(1), x | {"y": (2, 3, 8, 9)}),
        "matrix product": network(l.MatrixMultiply("NONE", "TRANSPOSE"), {"a": (2, 3, 4), "b": (2, 5, 4)}),
        "vector product": network(l.MatrixMultiply("VECTOR", "NONE"), {"a": (4,), "b": (4, 5)}),
        "select": network(l.Select(), {"c": (2, 3), "a": (2, 3), "b": (2, 1)}, dtypes={"c": "bool"}),
        "identity": network(l.Identity(), x),
        "shape": network(l.Shape(), x),
        "non-zero": network(l.NonZero(), x),
        "einsum": network(l.Einsum("bij,bjk->bik"), {"a": (2, 3, 4), "b": (2, 4, 5)}),
        "prelu": network(l.ParametricRelu(), x, constants=[constant("slopes", np.arange(6.0).reshape(1, 6, 1, 1))]),
        "reduce": network(l.Reduce("AVG", (1, 3), True), x),
        "reduce away": network(l.Reduce("MAX", (0, 2), False), x),
        "top k": network(l.TopK("MIN", 3, 1), x, outputs=2),
        "cast": network(l.Cast("float16"), x),
        "grid sample": network(l.GridSample("NEAREST", True, "CLAMP"), x | {"grid": (2, 3, 4, 2)}),
        "half precision": network(
            l.Convolution(weights("c.kernel", 4, 6, 1, 1, dtype="float16"), None, (1, 1), (1, 1), (0, 0), (0, 0)),
            x,
            dtypes={"x": "float16"},
        ),
        "bfloat16": network(
            l.Convolution(
                weights("c.kernel", 4, 6, 1, 1, dtype="bfloat16"), weights("c.bias", 4, dtype="bfloat16"), (1, 1), (1, 1), (0, 0), (0, 0)
            ),
            x,
            dtypes={"x": "bfloat16"},
        ),
        "open batch": network(l.Softmax(1), {"x": (-1, 6)}),
    }
    return found | _indexed(x) | _moved(x) | _typed(x) | _kinds(x)


def _indexed(x: Mapping[str, Sequence[int]]) -> dict[str, Network]:
    two = constant("indices", [[1, 0], [2, 2]], "int32")
    whole = constant("where", np.zeros((2, 6, 8, 2)), "int64")
    return {
        "gather": network(l.Gather("DEFAULT", 2), x, constants=[two]),
        "gather with a batch": network(l.Gather("DEFAULT", 2, 1), x, constants=[two]),
        "gather elements": network(l.Gather("ELEMENT", 3), x, constants=[whole]),
        "gather nd": network(l.Gather("ND"), x, constants=[two]),
        "scatter elements": network(l.Scatter("ELEMENT", 3), x | {"u": (2, 6, 8, 2)}, constants=[whole], inputs=["x", "where", "u"]),
        "scatter nd": network(l.Scatter("ND"), {"x": (3, 4), "u": (2,)}, constants=[two], inputs=["x", "indices", "u"]),
        "one hot": network(
            l.OneHot(1), {}, constants=[constant("i", [1, 2], "int32"), constant("v", [0.0, 2.0]), constant("depth", np.array(4), "int32")]
        ),
        "nms": network(
            l.NonMaximumSuppression("CENTER_SIZES", 100),
            {"boxes": (1, 6, 4), "scores": (1, 6, 3)},
            constants=[constant("most", np.array(2), "int32"), constant("iou", np.array(0.5)), constant("score", np.array(0.25))],
            outputs=2,
        ),
        "cumulative sum": network(l.CumulativeSum(True, False), x, constants=[constant("axis", np.array(1), "int32")]),
    }


def _moved(x: Mapping[str, Sequence[int]]) -> dict[str, Network]:
    sizes = constant("sizes", [2, 3, 4, 5], "int64")
    return {
        "shuffle": network(l.Shuffle((0, 2, 3, 1), (0, -1, 6), (0, 2, 1)), x),
        "transpose": network(l.Shuffle((0, 2, 3, 1)), x),
        "reshape": network(l.Shuffle(None, (2, 432), zero_copies=False), x),
        "reshape to an input": network(l.Shuffle(zero_copies=False), x, constants=[constant("shape", [12, 72], "int64")]),
        "slice": network(l.Slice((0, 1, 2, 3), (2, 2, 3, 2), (1, 2, 1, 3)), x),
        "slice to an input": network(l.Slice((0, 1, 2, 3), None, (1, 1, 1, 1)), x, constants=[sizes], inputs=["x", "", "sizes"]),
        "slice with a fill": network(
            l.Slice((0, -1, 0, 0), (2, 8, 8, 9), (1, 1, 1, 1), "FILL"),
            x,
            constants=[constant("fill", np.array(1.5))],
            inputs=["x", "", "", "", "fill"],
        ),
        "resize to a size": network(l.Resize("LINEAR", (2, 6, 16, 18), None, "HALF_PIXEL"), x),
        "resize by scales": network(l.Resize("NEAREST", None, (1.0, 1.0, 2.0, 0.5), "ASYMMETRIC", "CEIL", "UPPER"), x),
        "resize in cubes": network(l.Resize("CUBIC", None, (1.0, 1.0, 2.0, 2.0), "ALIGN_CORNERS", "FLOOR", "FORMULA", -0.5, True), x),
        "resize to an input": network(l.Resize("NEAREST", None, None), x, constants=[constant("size", [2, 6, 16, 18], "int64")]),
    }


def _typed(x: Mapping[str, Sequence[int]]) -> dict[str, Network]:
    scale, scales = constant("scale", np.array(0.5)), constant("scales", np.full(6, 0.5))
    one = [constant("scale", np.ones((1, 6, 1, 1))), constant("bias", np.zeros((1, 6, 1, 1)))]
    groups = [constant("scale", np.ones((1, 3, 1, 1))), constant("bias", np.zeros((1, 3, 1, 1)))]
    return {
        "quantize": network(l.Quantize(None), x, constants=[scale]),
        "quantize channels": network(l.Quantize(1), x, constants=[scales, constant("zero", np.zeros(6), "int8")]),
        "dequantize": network(l.Dequantize(1), x, constants=[scales], dtypes={"x": "int8"}),
        "instance norm": network(l.Normalization((2, 3), 0.125, 1), x, constants=one),
        "group norm": network(l.Normalization((2, 3), 0.125, 3), x, constants=one),
        "group norm of old": network(l.Normalization((2, 3), 0.125, 3), x, constants=groups),
    }


def _kinds(x: Mapping[str, Sequence[int]]) -> dict[str, Network]:
    """A layer for each kind of activation, of elementwise operation and of unary operation."""
    activations = (
        *("RELU", "SIGMOID", "TANH", "LEAKY_RELU", "ELU", "SELU", "SOFTSIGN", "SOFTPLUS", "CLIP", "HARD_SIGMOID"),
        *("SCALED_TANH", "THRESHOLDED_RELU", "GELU_ERF", "GELU_TANH"),
    )
    numbers = ("SUM", "PROD", "MAX", "MIN", "SUB", "DIV", "POW", "FLOOR_DIV", "EQUAL", "GREATER", "LESS")
    unary = (
        *("EXP", "LOG", "SQRT", "RECIP", "ABS", "NEG", "SIN", "COS", "TAN", "SINH", "COSH", "ASIN", "ACOS", "ATAN", "ASINH", "ACOSH"),
        *("ATANH", "CEIL", "FLOOR", "ERF", "SIGN", "ROUND", "ISINF"),
    )
    flags = {"a": "bool", "b": "bool"}
    found = {f"activation {kind}": network(l.Activation(kind, 0.25, 1.5), x) for kind in activations}
    found |= {f"elementwise {kind}": network(l.Elementwise(kind), x | {"y": (2, 1, 8, 1)}) for kind in numbers}
    found |= {
        f"elementwise {kind}": network(l.Elementwise(kind), {"a": (2, 3), "b": (1, 3)}, dtypes=flags) for kind in ("AND", "OR", "XOR")
    }
    found |= {f"unary {kind}": network(l.Unary(kind), x) for kind in unary}
    return found | {"unary NOT": network(l.Unary("NOT"), {"a": (2, 3)}, dtypes=flags)}


EXAMPLES = _examples()


def plain(network: Network) -> tuple[Any, ...]:
    """A network without the names and sources of its weights, to be compared by value."""
    layers = [(layer.name, type(layer.operation), _settings(layer.operation), layer.inputs, layer.outputs) for layer in network.layers]
    return network.inputs, layers, network.outputs


def _settings(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in field_names(operation):
        value = getattr(operation, name)
        held = value.tensor if isinstance(value, Weights) else None
        found[name] = value if held is None else (held.dtype.name, held.shape, held.tobytes())
    return found
