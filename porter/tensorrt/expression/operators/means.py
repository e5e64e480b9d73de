"""Layers that take sums or means over axes: LRN, Softmax, Reduce, Normalization, Cumulative.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (ILRNLayer, ISoftMaxLayer, IReduceLayer, INormalizationLayer, addNormalization,
ICumulativeLayer); docs.nvidia.com TensorRT operators, LRN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.tensorrt.expression.graph import Op, dtype_of
from porter.tensorrt.layers import CumulativeSum, Lrn, Normalization, Reduce, Softmax

if TYPE_CHECKING:
    import onnx_ir as ir


def lrn(op: Op) -> Sequence[ir.Value]:
    """x / (k + alpha / window * sum of squares) ** beta, over a window of channels.

    The formula on NVIDIA's page leaves the division out; the numbers of its example have it.
    """
    operation = op.layer.operation
    assert isinstance(operation, Lrn)
    attributes = {"size": operation.window, "alpha": operation.alpha, "beta": operation.beta, "bias": operation.k}
    return [op.add("LRN", [op.real()], attributes)]


def softmax(op: Op) -> Sequence[ir.Value]:
    """Along one axis."""
    operation = op.layer.operation
    assert isinstance(operation, Softmax)
    return [op.add("Softmax", [op.real()], {"axis": operation.axis})]


_REDUCTIONS = {"SUM": "ReduceSum", "PROD": "ReduceProd", "MAX": "ReduceMax", "MIN": "ReduceMin", "AVG": "ReduceMean"}


def reduce(op: Op) -> Sequence[ir.Value]:
    """Of `ReduceOperation`, over all of `axes` at once."""
    operation = op.layer.operation
    assert isinstance(operation, Reduce)
    if operation.kind not in _REDUCTIONS:
        op.refuse(f"a reduction {operation.kind}")
    # How the mean of integers is rounded is written nowhere.
    x = op.real() if operation.kind == "AVG" else op.number()
    if not operation.axes:
        op.refuse("it reduces no axis")
    return [op.add(_REDUCTIONS[operation.kind], [x, op.constant(list(operation.axes))], {"keepdims": int(operation.keep)})]


def normalization(op: Op) -> Sequence[ir.Value]:
    """(x - mean) / sqrt(mean of (x - mean) ** 2 + epsilon) * scale + bias, means over `axes`.

    With groups the channels, axis 1, are cut into so many, and the means are over a group's channels and all axes after them. Scale and
    bias then have one value for each group, or one for each channel, whatever their shape says.
    """
    operation = op.layer.operation
    assert isinstance(operation, Normalization)
    x, scale, bias = op.real(0), op.real(1), op.real(2)
    if operation.groups == 1:
        scaled = op.add("Mul", [_normal(op, x, operation.axes, operation.epsilon), scale])
        return [op.add("Add", [scaled, bias])]
    shape = op.shape()
    if operation.axes != tuple(range(2, len(shape))):
        op.refuse(f"groups of channels with means over {list(operation.axes)}")
    normal = _normal(op, op.reshape(x, (0, operation.groups, -1)), (2,), operation.epsilon)
    by_group = op.shape(1)[1] == operation.groups
    if not by_group:
        normal = op.add("Reshape", [normal, op.add("Shape", [x], dtype="int64")])
    coefficients = [op.reshape(c, (1, -1, *[1] * (1 if by_group else len(shape) - 2))) for c in (scale, bias)]
    scaled = op.add("Add", [op.add("Mul", [normal, coefficients[0]]), coefficients[1]])
    return [op.add("Reshape", [scaled, op.add("Shape", [x], dtype="int64")])]


def _normal(op: Op, x: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    over = op.constant(list(axes))
    less = op.add("Sub", [x, op.add("ReduceMean", [x, over], {"keepdims": 1})])
    variance = op.add("ReduceMean", [op.add("Mul", [less, less]), over], {"keepdims": 1})
    return op.add("Div", [less, op.add("Sqrt", [op.add("Add", [variance, op.constant(epsilon, "float32")])])])


def cumulative_sum(op: Op) -> Sequence[ir.Value]:
    """Sums up to each position, with it or without it, from either end; the axis is a scalar input."""
    operation = op.layer.operation
    assert isinstance(operation, CumulativeSum)
    x = op.number()
    attributes = {"exclusive": int(operation.exclusive), "reverse": int(operation.reverse)}
    return [op.add("CumSum", [x, op.integers(1)], attributes, dtype_of(x))]
