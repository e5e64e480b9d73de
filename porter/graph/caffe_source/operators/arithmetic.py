"""Operators on several values: of one shape, of shapes that are broadcast, or with a constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.graph.caffe_source.net import Blob
from porter.graph.caffe_source.op import Op, Refused, covered, laid_over, uniform
from porter.graph.caffe_source.operators.activation import clipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]


def add(op: Op) -> None:
    """The sum of two values."""
    left, right = (op.constant(i) is not None for i in (0, 1))
    if left == right:
        op.put(added(op, op.blob(0), op.blob(1), op.shape()))
    else:
        op.put(plus(op, op.blob(int(left)), op.array(int(right))))


def sub(op: Op) -> None:
    """The difference of two values."""
    if op.constant(1) is not None and op.constant(0) is None:
        op.put(plus(op, op.blob(0), -op.array(1)))
    elif op.constant(0) is not None and op.constant(1) is None:
        op.put(_affine_of(op, op.blob(1), -1.0, op.array(0)))
    else:
        a, b, shape = op.blob(0), op.blob(1), op.shape()
        if a.shape == b.shape == shape:
            op.put(_eltwise(op, [a, b], "SUM", [1.0, -1.0]))
        else:
            op.put(added(op, a, op.power(b, scale=-1.0), shape))


def mul(op: Op) -> None:
    """The product of two values; a square is a Power."""
    left, right = (op.constant(i) is not None for i in (0, 1))
    if left != right:
        op.put(times(op, op.blob(int(left)), op.array(int(right))))
    elif not left and op.node.inputs[0] == op.node.inputs[1]:
        op.put(op.power(op.blob(0), power=2.0))
    else:
        op.put(_product(op, op.blob(0), op.blob(1), op.shape()))


def div(op: Op) -> None:
    """Times the reciprocal, rounded once where it is a constant's."""
    import numpy as np

    if op.constant(1) is not None and op.constant(0) is None:
        with np.errstate(divide="ignore"):
            op.put(times(op, op.blob(0), 1.0 / np.asarray(op.array(1), np.float64)))
        return
    inverse = op.power(op.blob(1), power=-1.0)
    if op.constant(0) is not None:
        op.put(times(op, inverse, op.array(0)))
    else:
        op.put(_product(op, op.blob(0), inverse, op.shape()))


def power(op: Op) -> None:
    """One exponent for all elements, or one base."""
    exponent, base = op.number_at(1), op.number_at(0)
    if exponent is not None:
        op.put(op.power(_grown(op, op.blob(0), op.shape()), power=exponent))
    elif base is not None and base > 0 and op.constant(1) is None:
        x = _grown(op, op.blob(1), op.shape())
        op.put(op.layer("Exp", [x], x.shape, {"exp_param": {"base": base}}))
    else:
        raise Refused("Caffe takes one constant exponent for all elements, or one constant base")


def sum_(op: Op) -> None:
    """The sum of any number of values."""
    op.put(_all(op, "SUM", None))


def mean(op: Op) -> None:
    """The mean of any number of values."""
    count = len(op.node.inputs)
    op.put(_all(op, "SUM", [1.0 / count] * count) if count > 1 else op.blob(0))


def maximum(op: Op) -> None:
    """The largest of any number of values, or of values and a number."""
    number, x = _bound(op)
    op.put(clipped(op, x, number, math.inf) if x is not None else _all(op, "MAX", None))


def minimum(op: Op) -> None:
    """The negative of the largest negative, since Eltwise has no minimum."""
    number, x = _bound(op)
    if x is not None:
        op.put(clipped(op, x, -math.inf, number))
        return
    parts = [op.power(op.expand(op.blob(i), op.shape()), scale=-1.0) for i in range(len(op.node.inputs))]
    op.put(op.power(_eltwise(op, parts, "MAX"), scale=-1.0))


def plus(op: Op, x: Blob, array: NDArray[Any]) -> Blob:
    """`x` plus a constant. A Scale with factors of one where it is not one number: more tools read that than the layer Bias."""
    import numpy as np

    x = _grown(op, x, op.shape())
    number = uniform(array)
    if number is not None:
        return op.power(x, shift=number)
    axis, addend = laid_over(array, x.shape)
    return op.scale(x, axis, np.ones_like(addend), addend)


def times(op: Op, x: Blob, array: NDArray[Any]) -> Blob:
    """`x` times a constant, and plus another where an Add of one follows that lies over the same axes."""
    x = _grown(op, x, op.shape())
    number = uniform(array)
    if number is not None and not (array.size > 1 and _addend(op, *laid_over(array, x.shape)) is not None):
        return op.power(x, scale=number)
    axis, factor = laid_over(array, x.shape)
    addend = _addend(op, axis, factor)
    following = op.next()
    if addend is not None and following is not None:
        op.absorb(following)
    return op.scale(x, axis, factor, addend)


def _addend(op: Op, axis: int, factor: NDArray[Any]) -> NDArray[Any] | None:
    """What an Add that follows adds, if it can be the bias of a Scale by `factor`."""
    import numpy as np

    found = following_addend(op)
    if found is None:
        return None
    start, addend = laid_over(found, op.shape())
    if addend.ndim == 0:
        return np.broadcast_to(addend, factor.shape).copy()
    return addend if start == axis and addend.shape == factor.shape else None


def following_addend(op: Op) -> NDArray[Any] | None:
    """The constant that the only reader of the result adds to it, where that does not change its shape."""
    following = op.next()
    if following is None or following.op_type != "Add" or following.domain:
        return None
    values = [op.context.values[n] for n in following.inputs]
    constants = [v.constant for v in values if v.constant is not None]
    if len(constants) != 1 or op.context.values[following.outputs[0]].static != op.shape():
        return None
    return constants[0].array()


def _affine_of(op: Op, x: Blob, factor: float, array: NDArray[Any]) -> Blob:
    """factor · x plus a constant."""
    import numpy as np

    x = _grown(op, x, op.shape())
    number = uniform(array)
    if number is not None:
        return op.power(x, scale=factor, shift=number)
    axis, addend = laid_over(array, x.shape)
    return op.scale(x, axis, np.full_like(addend, factor), addend)


def added(op: Op, a: Blob, b: Blob, shape: Shape) -> Blob:
    """The sum of two blobs, broadcast to `shape`."""
    if a.shape == b.shape == shape:
        return _eltwise(op, [a, b], "SUM")
    large, small = (a, b) if a.shape == shape else (b, a)
    laid = _laid(op, large, small, shape)
    if laid is None:
        return _eltwise(op, [op.expand(a, shape), op.expand(b, shape)], "SUM")
    return op.layer("Bias", [large, laid[1]], shape, {"bias_param": {"axis": laid[0]}} if laid[0] != 1 else {})


def _product(op: Op, a: Blob, b: Blob, shape: Shape) -> Blob:
    if a.shape == b.shape == shape:
        return _eltwise(op, [a, b], "PROD")
    large, small = (a, b) if a.shape == shape else (b, a)
    laid = _laid(op, large, small, shape)
    if laid is None:
        return _eltwise(op, [op.expand(a, shape), op.expand(b, shape)], "PROD")
    return op.layer("Scale", [large, laid[1]], shape, {"scale_param": {"axis": laid[0]}} if laid[0] != 1 else {})


def _laid(op: Op, large: Blob, small: Blob, shape: Shape) -> tuple[int, Blob] | None:
    """`small` as the second bottom of a Scale or Bias, and the axis; None where it would have to be repeated inside."""
    axis, over = covered(shape, small.shape)
    if not over and 1 in shape:
        # Blobs without axes are not read by all tools.
        axis, over = shape.index(1), (1,)
    if large.shape != shape or math.prod(over) != math.prod(small.shape):
        return None
    return axis, op.reshape(small, over)


def _grown(op: Op, x: Blob, shape: Shape) -> Blob:
    """`x` in the shape that broadcasting against a constant gives."""
    return x if x.shape == shape else op.expand(x, shape)


def _all(op: Op, operation: str, coefficients: Sequence[float] | None) -> Blob:
    parts = [op.expand(op.blob(i), op.shape()) for i in range(len(op.node.inputs))]
    return parts[0] if len(parts) == 1 else _eltwise(op, parts, operation, coefficients)


def _bound(op: Op) -> tuple[float, Blob | None]:
    """The number that values are compared with, and the values, where it is one."""
    if len(op.node.inputs) == 2:
        for i in (0, 1):
            number = op.number_at(i)
            if number is not None and op.constant(1 - i) is None and op.context.values[op.node.inputs[1 - i]].static == op.shape():
                return number, op.blob(1 - i)
    return 0.0, None


def _eltwise(op: Op, parts: Sequence[Blob], operation: str, coefficients: Sequence[float] | None = None) -> Blob:
    said: dict[str, Any] = {"operation": operation} if operation != "SUM" else {}
    if coefficients is not None:
        said["coeff"] = list(coefficients)
    return op.layer("Eltwise", parts, parts[0].shape, {"eltwise_param": said} if said else {})
