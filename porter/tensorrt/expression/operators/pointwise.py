"""Layers that work element by element: Activation, ParametricReLU, Scale, ElementWise, Unary, Select, Cast, Identity.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (ActivationType, IScaleLayer, ElementWiseOperation, UnaryOperation, ISelectLayer,
IIdentityLayer).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from porter.tensorrt.expression.graph import Op, dtype_of
from porter.tensorrt.layers import Activation, Cast, Elementwise, Scale, Unary, Weights

if TYPE_CHECKING:
    import onnx_ir as ir


def _clip(op: Op, x: ir.Value, a: float, b: float) -> ir.Value:
    """max(alpha, min(beta, x)), in that order, which matters where alpha is above beta."""
    return op.add("Max", [op.add("Min", [x, op.constant(b, "float32")]), op.constant(a, "float32")])


def _softplus(op: Op, x: ir.Value, a: float, b: float) -> ir.Value:
    """alpha * log(exp(beta * x) + 1)."""
    inner = op.add("Softplus", [op.add("Mul", [x, op.constant(b, "float32")])])
    return op.add("Mul", [inner, op.constant(a, "float32")])


def _scaled_tanh(op: Op, x: ir.Value, a: float, b: float) -> ir.Value:
    """alpha * tanh(beta * x)."""
    return op.add("Mul", [op.add("Tanh", [op.add("Mul", [x, op.constant(b, "float32")])]), op.constant(a, "float32")])


_ACTIVATIONS: Mapping[str, Callable[[Op, ir.Value, float, float], ir.Value]] = MappingProxyType(
    {
        "RELU": lambda op, x, a, b: op.add("Relu", [x]),
        "SIGMOID": lambda op, x, a, b: op.add("Sigmoid", [x]),
        "TANH": lambda op, x, a, b: op.add("Tanh", [x]),
        "LEAKY_RELU": lambda op, x, a, b: op.add("LeakyRelu", [x], {"alpha": a}),
        "ELU": lambda op, x, a, b: op.add("Elu", [x], {"alpha": a}),
        # beta * (x if x > 0 else alpha * exp(x) - alpha)
        "SELU": lambda op, x, a, b: op.add("Selu", [x], {"alpha": a, "gamma": b}),
        "SOFTSIGN": lambda op, x, a, b: op.add("Softsign", [x]),
        "SOFTPLUS": _softplus,
        "CLIP": _clip,
        "HARD_SIGMOID": lambda op, x, a, b: op.add("HardSigmoid", [x], {"alpha": a, "beta": b}),
        "SCALED_TANH": _scaled_tanh,
        "THRESHOLDED_RELU": lambda op, x, a, b: op.add("ThresholdedRelu", [x], {"alpha": a}),
        "GELU_ERF": lambda op, x, a, b: op.add("Gelu", [x], {"approximate": "none"}),
        "GELU_TANH": lambda op, x, a, b: op.add("Gelu", [x], {"approximate": "tanh"}),
    }
)


def activation(op: Op) -> Sequence[ir.Value]:
    """Of `ActivationType`, with alpha and beta as that type takes them."""
    operation = op.layer.operation
    assert isinstance(operation, Activation)
    make = _ACTIVATIONS.get(operation.kind)
    if make is None:
        op.refuse(f"an activation of the type {operation.kind}")
    return [make(op, op.real(), operation.alpha, operation.beta)]


def parametric_relu(op: Op) -> Sequence[ir.Value]:
    """x where it is not negative, else x times its slope; slopes broadcast to the values."""
    return [op.add("PRelu", [op.real(0), op.real(1)])]


def scale(op: Op) -> Sequence[ir.Value]:
    """(x * scale + shift) ** power; what is not given changes nothing.

    Coefficients are one for all, one for each position along the channel axis, or one for each position in that axis and those after it.
    """
    operation = op.layer.operation
    assert isinstance(operation, Scale)
    x = op.real()
    for op_type, weights in (("Mul", operation.scale), ("Add", operation.shift), ("Pow", operation.power)):
        if weights is not None and weights.tensor.size:
            x = op.add(op_type, [x, op.weights(weights, _coefficients(op, operation, weights))])
    return [x]


def _coefficients(op: Op, operation: Scale, weights: Weights) -> tuple[int, ...]:
    """The shape in which a layer's coefficients meet its input."""
    if operation.mode == "UNIFORM":
        return ()
    shape = op.shape()
    if operation.mode == "CHANNEL":
        if shape[operation.axis] not in (-1, weights.tensor.size):
            op.refuse(f"'{weights.tensor.name}' has {weights.tensor.size} values for {shape[operation.axis]} channels")
        return (weights.tensor.size, *[1] * (len(shape) - operation.axis - 1))
    if operation.mode != "ELEMENTWISE" or -1 in shape[operation.axis :]:
        op.refuse(f"coefficients by {operation.mode} for the shape {list(shape)}")
    return tuple(shape[operation.axis :])


_ARITHMETIC = {"SUM": "Add", "PROD": "Mul", "MAX": "Max", "MIN": "Min", "SUB": "Sub", "DIV": "Div", "POW": "Pow"}
_LOGIC = {"AND": "And", "OR": "Or", "XOR": "Xor"}
_COMPARISON = {"EQUAL": "Equal", "GREATER": "Greater", "LESS": "Less"}


def elementwise(op: Op) -> Sequence[ir.Value]:
    """Of `ElementWiseOperation`, on two tensors of one rank; sizes of 1 broadcast."""
    operation = op.layer.operation
    assert isinstance(operation, Elementwise)
    kind = operation.kind
    if kind in _LOGIC:
        return [op.add(_LOGIC[kind], [op.input(0), op.input(1)])]
    if kind == "EQUAL" and op.dtype() == "bool":
        return [op.add("Equal", [op.input(0), op.input(1)])]
    a, b = op.number(0), op.number(1)
    if kind in _COMPARISON:
        return [op.add(_COMPARISON[kind], [a, b], dtype="bool")]
    if kind in _ARITHMETIC:
        return [op.add(_ARITHMETIC[kind], [a, b])]
    if kind != "FLOOR_DIV":
        op.refuse(f"an operation {kind}")
    return [_floor_div(op, a, b)]


def _floor_div(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """floor(a / b). ONNX cuts the quotient of integers towards zero, so one is taken away where the signs differ and a rest is left."""
    if dtype_of(a) == "float32":
        return op.add("Floor", [op.add("Div", [a, b])])
    zero = op.constant(0, dtype_of(a))
    quotient = op.add("Div", [a, b])
    rest = op.add("Sub", [a, op.add("Mul", [quotient, b])])
    signs = op.add("Xor", [op.add("Less", [rest, zero], dtype="bool"), op.add("Less", [b, zero], dtype="bool")])
    uneven = op.add("And", [op.add("Not", [op.add("Equal", [rest, zero], dtype="bool")]), signs])
    return op.add("Sub", [quotient, op.cast(uneven, dtype_of(a))])


_UNARY = {
    "EXP": "Exp",
    "LOG": "Log",
    "SQRT": "Sqrt",
    "RECIP": "Reciprocal",
    "ABS": "Abs",
    "NEG": "Neg",
    "SIN": "Sin",
    "COS": "Cos",
    "TAN": "Tan",
    "SINH": "Sinh",
    "COSH": "Cosh",
    "ASIN": "Asin",
    "ACOS": "Acos",
    "ATAN": "Atan",
    "ASINH": "Asinh",
    "ACOSH": "Acosh",
    "ATANH": "Atanh",
    "CEIL": "Ceil",
    "FLOOR": "Floor",
    "ERF": "Erf",
    "SIGN": "Sign",
    # Half to even in both.
    "ROUND": "Round",
}
_OF_INTEGERS = ("ABS", "NEG", "SIGN")


def unary(op: Op) -> Sequence[ir.Value]:
    """Of `UnaryOperation`."""
    operation = op.layer.operation
    assert isinstance(operation, Unary)
    kind = operation.kind
    if kind == "NOT":
        return [op.add("Not", [op.input()])]
    if kind in ("ISINF", "ISNAN"):
        return [op.add("IsInf" if kind == "ISINF" else "IsNaN", [op.real()], dtype="bool")]
    if kind not in _UNARY:
        op.refuse(f"an operation {kind}")
    return [op.add(_UNARY[kind], [op.number() if kind in _OF_INTEGERS else op.real()])]


def select(op: Op) -> Sequence[ir.Value]:
    """The second input where the first holds, else the third."""
    return [op.add("Where", [op.input(0), op.input(1), op.input(2)], dtype=dtype_of(op.input(1)))]


def cast(op: Op) -> Sequence[ir.Value]:
    """To another type: from floating point to integers towards zero, to narrower floating point to nearest even."""
    operation = op.layer.operation
    assert isinstance(operation, Cast)
    # Rounded once: not from what was widened before.
    return [op.add("Identity", [op.cast(op.graph.values[op.layer.inputs[0]], operation.dtype)])]


def identity(op: Op) -> Sequence[ir.Value]:
    """The input, in the type that was set for the output where one was: the way to convert types before there was Cast."""
    value = op.graph.values[op.layer.inputs[0]]
    wanted = op.graph.network.dtypes.get(op.layer.outputs[0]) or dtype_of(value)
    return [op.add("Identity", [op.cast(value, wanted)])]
