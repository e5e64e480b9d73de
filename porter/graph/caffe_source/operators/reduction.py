"""Sums, means and maxima over axes, and where the largest value is.

Means and maxima become Pooling, which more tools read than Reduction; sums become a Reduction where the axes are the last ones.
"""

from __future__ import annotations

import math

from porter.graph.caffe_source.net import Blob
from porter.graph.caffe_source.op import Op, Refused
from porter.graph.caffe_source.operators.pooling import column, everything
from porter.graph.caffe_source.operators.shape import transposed

_SUMS = {"ReduceSum": "SUM", "ReduceL1": "ASUM", "ReduceSumSquare": "SUMSQ", "ReduceL2": "SUMSQ"}


def reduction(op: Op) -> None:
    """A sum, mean or extreme over axes."""
    x, kind = op.blob(0), op.node.op_type
    axes = sorted(a % x.rank for a in op.integers(1, "axes") or ())
    if not axes and op.attribute("noop_with_empty_axes", 0):
        if kind in ("ReduceL1", "ReduceSumSquare", "ReduceL2"):
            raise Refused("it has no axes")
        op.put(x)
        return
    axes = [a for a in axes or range(x.rank) if x.shape[a] != 1] or [x.rank - 1]
    if kind in _SUMS:
        made = _sum(op, x, axes, _SUMS[kind])
        made = op.power(made, power=0.5) if kind == "ReduceL2" else made
    elif kind == "ReduceMin":
        made = op.power(_pooled(op, op.power(x, scale=-1.0), axes, "MAX"), scale=-1.0)
    else:
        made = _pooled(op, x, axes, "AVE" if kind == "ReduceMean" else "MAX")
    op.put(op.reshape(made, op.shape()))


def argmax(op: Op) -> None:
    """Caffe gives places as floats, and the last of equal values."""
    x = op.blob(0)
    axis = op.attribute("axis", 0) % x.rank
    if not op.attribute("select_last_index", 0):
        raise Refused("of equal values it takes the first, and Caffe the last")
    following = op.next()
    if following is not None and following.op_type == "Cast" and following.attributes.get("to") == 1:
        op.absorb(following)
    elif op.node.outputs[0] not in op.context.outputs:
        raise Refused("its integers are computed with, and Caffe's places are floats")
    else:
        op.context.net.notes.append(f"the output '{op.node.outputs[0]}' has float32 for int64: Caffe has no integers")
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    made = op.layer("ArgMax", [x], shape, {"argmax_param": {"axis": axis}}, main=True)
    op.put(op.reshape(made, op.shape()))


def _sum(op: Op, x: Blob, axes: list[int], operation: str) -> Blob:
    if _trailing(x, axes):
        start = axes[0]
        said = ({"operation": operation} if operation != "SUM" else {}) | ({"axis": start} if start else {})
        return op.layer("Reduction", [x], x.shape[:start], {"reduction_param": said} if said else {}, main=True)
    if operation == "ASUM":
        x = op.layer("AbsVal", [x], x.shape)
    elif operation == "SUMSQ":
        x = op.power(x, power=2.0)
    return op.power(_pooled(op, x, axes, "AVE"), scale=float(math.prod([x.shape[a] for a in axes])))


def _pooled(op: Op, x: Blob, axes: list[int], method: str) -> Blob:
    if x.rank == 4 and axes in ([2, 3], [2], [3]) and _trailing(x, axes) and x.shape[2 : axes[0]] in ((), (1,)):
        return everything(op, x, method)
    run = [a for a in range(axes[0], axes[-1] + 1) if x.shape[a] != 1]
    if run != axes:
        rest = [a for a in range(x.rank) if a not in axes]
        x = transposed(op, x, [*rest, *axes])
        axes = list(range(len(rest), x.rank))
    lead, size = math.prod(x.shape[: axes[0]]), math.prod([x.shape[a] for a in axes])
    return column(op, op.reshape(x, (lead, 1, size, math.prod(x.shape[axes[-1] + 1 :]))), method)


def _trailing(x: Blob, axes: list[int]) -> bool:
    return all(x.shape[a] == 1 or a in axes for a in range(axes[0], x.rank))
