"""Activations.

Source: onnx/onnx docs/Operators.md; NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (ActivationType).
"""

from __future__ import annotations

import math

from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op

_PLAIN = {"Relu": "RELU", "Sigmoid": "SIGMOID", "Tanh": "TANH", "Softsign": "SOFTSIGN"}


def activation(op: Op) -> None:
    """One layer, or a few where TensorRT has none."""
    x, kind = op.tensor(0), op.node.op_type
    if not op.is_float(0) and not (kind == "Relu" and op.dtype(0) in ("int32", "int64")):
        raise op.refuse(f"TensorRT has no such activation of {op.dtype(0)}")
    if kind in ("HardSwish", "Mish", "Celu"):
        _composed(op, x)
        return
    op.put(_single(op), [x])


def _single(op: Op) -> layers.Activation:
    kind = op.node.op_type
    alpha, beta = op.attribute("alpha"), op.attribute("beta")

    def number(value: float | None, default: float) -> float:
        return float(default if value is None else value)

    if kind == "LeakyRelu":
        return layers.Activation("LEAKY_RELU", number(alpha, 0.01))
    if kind == "Elu":
        return layers.Activation("ELU", number(alpha, 1.0))
    if kind == "Selu":
        return layers.Activation("SELU", number(alpha, 1.6732632423543772), number(op.attribute("gamma"), 1.0507009873554805))
    if kind == "Softplus":
        return layers.Activation("SOFTPLUS", 1.0, 1.0)
    if kind == "HardSigmoid":
        return layers.Activation("HARD_SIGMOID", number(alpha, 0.2), number(beta, 0.5))
    if kind == "ThresholdedRelu":
        return layers.Activation("THRESHOLDED_RELU", number(alpha, 1.0))
    if kind == "Gelu":
        return layers.Activation("GELU_TANH" if op.attribute("approximate", "none") == "tanh" else "GELU_ERF")
    return layers.Activation(_PLAIN[kind])


def _composed(op: Op, x: str) -> None:
    kind = op.node.op_type
    if kind == "HardSwish":
        gate = op.add(layers.Activation("HARD_SIGMOID", 1 / 6, 0.5), [x], "gate")
        op.put(layers.Elementwise("PROD"), [x, gate])
    elif kind == "Mish":
        soft = op.add(layers.Activation("SOFTPLUS", 1.0, 1.0), [x], "softplus")
        gate = op.add(layers.Activation("TANH"), [soft], "tanh")
        op.put(layers.Elementwise("PROD"), [x, gate])
    else:
        alpha = float(op.attribute("alpha", 1.0))
        if alpha == 1.0:
            op.put(layers.Activation("ELU", 1.0), [x])
            return
        number = op.scalar(alpha, x, "alpha")
        ratio = op.add(layers.Elementwise("DIV"), [x, number], "ratio")
        elu = op.add(layers.Activation("ELU", 1.0), [ratio], "elu")
        op.put(layers.Elementwise("PROD"), [elu, number])


def clip(op: Op) -> None:
    """Between two bounds, or on one side of one."""
    if op.dtype(0) not in ("float32", "float16", "bfloat16", "int32", "int64"):
        raise op.refuse(f"TensorRT has no such activation of {op.dtype(0)}")
    low, high = _bound(op, 1, "min"), _bound(op, 2, "max")
    x = op.tensor(0)
    if not any(op.has(i) for i in (1, 2)) and low is None and high is None:
        op.alias(x)
    elif op.is_float(0) and low is not None and high is not None and low <= high:
        op.put(layers.Activation("CLIP", low, high), [x])
    elif op.is_float(0) and low == 0 and high is None and not op.has(2):
        op.put(layers.Activation("RELU"), [x])
    else:
        # max first: where the bounds are the wrong way round, the upper one counts.
        sides = [("MAX", 1, "min", low), ("MIN", 2, "max", high)]
        there = [side for side in sides if side[3] is not None or op.has(side[1])]
        for number, (kind, index, part, bound) in enumerate(there):
            limit = op.scalar(bound, x, part) if bound is not None else op.tensor(index, op.rank(0))
            x = op.put_or_add(layers.Elementwise(kind), [x, limit], kind.lower(), number == len(there) - 1)


def _bound(op: Op, index: int, name: str) -> float | None:
    """A bound that is known: an attribute in earlier opsets, an input in later ones."""
    if op.version < 11:
        value = op.attribute(name)
        # Opset 6 has the largest float32 as a default, which bounds nothing.
        return None if value is None or abs(value) >= 3.4028234e38 else float(value)
    array = op.array(index)
    if array is None:
        return None
    number = array.reshape(-1)[0]
    return int(number) if array.dtype.kind in "iu" else float(number)


def prelu(op: Op) -> None:
    """The slopes are a constant, of the input's rank."""
    slope = op.constant(1)
    if not op.is_float(0):
        raise op.refuse(f"TensorRT has no such activation of {op.dtype(0)}")
    shape = slope.shape if slope is not None else ()
    if slope is not None and op.version < 7 and slope.size > 1 and len(shape) == 1:
        # Before opset 7 one slope for each channel is a vector.
        slope = slope.reshaped((*shape, *([1] * (op.rank(0) - 2))))
    if slope is None:
        op.put(layers.ParametricRelu(), [op.tensor(0), op.tensor(1, op.rank(0))])
        return
    slope = slope.reshaped((1,) * (op.rank(0) - len(slope.shape)) + slope.shape)
    op.put(layers.ParametricRelu(), [op.tensor(0), op.constant_tensor(slope, "slope")])


def softmax(op: Op) -> None:
    """Along one axis; before opset 13 along all axes from it on."""
    x, shape, axis = _flattened(op)
    if shape == op.shape(0):
        op.put(layers.Softmax(axis), [x])
        return
    made = op.add(layers.Softmax(axis), [x], "softmax")
    operation, inputs = op.shuffle(made, op.shape(0), "shape")
    op.put(operation, inputs)


def _flattened(op: Op) -> tuple[str, tuple[int, ...], int]:
    """What a softmax is taken of: the tensor, its shape, and the axis."""
    shape, x = op.shape(0), op.tensor(0)
    axis = op.axis("axis", -1 if op.version >= 13 else 1)
    if op.version < 13 and any(n != 1 for n in shape[axis + 1 :]):
        if -1 in shape[axis:] or shape[:axis].count(-1) > 1:
            raise op.refuse("before opset 13 it is along several axes at once, and their sizes are not known")
        before = -1 if -1 in shape[:axis] else math.prod(shape[:axis])
        if before < 0 and math.prod(shape[:axis]) != -1:
            raise op.refuse("before opset 13 it is along several axes at once, with an open one before them")
        shape, axis = (before, math.prod(shape[axis:])), 1
    elif len(shape) == 1:
        # TensorRT wants two axes.
        shape, axis = (1, *shape), 1
    return op.reshaped(x, shape, "flat"), shape, axis


def log_softmax(op: Op) -> None:
    """x - max - log of the sum of exp(x - max): a softmax, once it has rounded to zero, has no logarithm."""
    x, shape, axis = _flattened(op)
    largest = op.add(layers.Reduce("MAX", (axis,), True), [x], "max")
    centred = op.add(layers.Elementwise("SUB"), [x, largest], "centred")
    powers = op.add(layers.Unary("EXP"), [centred], "exp")
    total = op.add(layers.Reduce("SUM", (axis,), True), [powers], "sum")
    log = op.add(layers.Unary("LOG"), [total], "log")
    same = shape == op.shape(0)
    made = op.put_or_add(layers.Elementwise("SUB"), [centred, log], "flat", same)
    if not same:
        operation, inputs = op.shuffle(made, op.shape(0), "shape")
        op.put(operation, inputs)
