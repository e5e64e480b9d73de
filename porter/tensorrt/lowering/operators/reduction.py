"""Operators that reduce axes, and sums along one.

Source: onnx/onnx docs/Operators.md and docs/Changelog.md; NVIDIA/TensorRT, include/NvInfer.h, tag v11.1
(ReduceOperation, ICumulativeLayer).
"""

from __future__ import annotations

from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op

_KINDS = {"ReduceSum": "SUM", "ReduceMean": "AVG", "ReduceMax": "MAX", "ReduceMin": "MIN", "ReduceProd": "PROD"}


def reduce(op: Op) -> None:
    """Over some axes, or all."""
    kind = op.node.op_type
    axes = op.integers(1, "axes", [])
    assert axes is not None
    x = op.tensor(0)
    if not axes and (op.attribute("noop_with_empty_axes", 0) or op.rank(0) == 0):
        if kind not in _KINDS:
            raise op.refuse("it has no axes")
        op.alias(x)
        return
    if op.dtype(0) not in ("float32", "float16", "bfloat16", "int32", "int64"):
        raise op.refuse(f"TensorRT has no reduction of {op.dtype(0)}")
    if kind not in (*_KINDS, "ReduceL1", "ReduceSumSquare") and not op.is_float(0):
        raise op.refuse(f"TensorRT has no such function of {op.dtype(0)}")
    over = tuple(sorted(op.axes(axes or list(range(op.rank(0))))))
    keep = bool(op.attribute("keepdims", 1))
    if kind in _KINDS:
        op.put(layers.Reduce(_KINDS[kind], over, keep), [x])
    elif kind == "ReduceLogSumExp":
        _log_sum_exp(op, x, over, keep)
    else:
        _composed(op, x, layers.Reduce("SUM", over, keep))


def _composed(op: Op, x: str, total: layers.Reduce) -> None:
    kind = op.node.op_type
    if kind == "ReduceL1":
        x = op.add(layers.Unary("ABS"), [x], "abs")
    elif kind in ("ReduceL2", "ReduceSumSquare"):
        x = op.add(layers.Elementwise("PROD"), [x, x], "squares")
    last = {"ReduceL2": "SQRT", "ReduceLogSum": "LOG"}.get(kind)
    made = op.put_or_add(total, [x], "sum", last is None)
    if last is not None:
        op.put(layers.Unary(last), [made])


def _log_sum_exp(op: Op, x: str, axes: tuple[int, ...], keep: bool) -> None:
    """max + log of the sum of exp(x - max), which does not overflow."""
    largest = op.add(layers.Reduce("MAX", axes, True), [x], "max")
    centred = op.add(layers.Elementwise("SUB"), [x, largest], "centred")
    powers = op.add(layers.Unary("EXP"), [centred], "exp")
    log = op.add(layers.Unary("LOG"), [op.add(layers.Reduce("SUM", axes, keep), [powers], "sum")], "log")
    if not keep:
        largest = op.add(layers.Reduce("MAX", axes, False), [x], "largest")
    op.put(layers.Elementwise("SUM"), [log, largest])


def cumulative_sum(op: Op) -> None:
    """Sums of all before, along one axis."""
    import numpy as np

    axis = op.array(1)
    if axis is None:
        raise op.refuse("its axis is known only when the network runs")
    (number,) = op.axes([int(axis.reshape(-1)[0])])
    scalar = op.constant_tensor(np.asarray(number, np.int32), "axis")
    op.put(layers.CumulativeSum(bool(op.attribute("exclusive", 0)), bool(op.attribute("reverse", 0))), [op.tensor(0), scalar])
