"""Layers that take or give positions: Gather, Scatter, TopK, NonZero, OneHot.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (GatherMode, IGatherLayer, IScatterLayer, ITopKLayer, INonZeroLayer, IOneHotLayer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.tensorrt.expression.graph import Op, dtype_of
from porter.tensorrt.layers import Gather, OneHot, Scatter, TopK

if TYPE_CHECKING:
    import onnx_ir as ir


def gather(op: Op) -> Sequence[ir.Value]:
    """As ONNX's Gather, GatherElements and GatherND. TensorRT stores zero for a position out of bounds, and onnxruntime refuses it."""
    operation = op.layer.operation
    assert isinstance(operation, Gather)
    x, places = op.input(0), op.integers(1)
    if operation.mode == "ELEMENT":
        return [op.add("GatherElements", [x, places], {"axis": operation.axis})]
    if operation.mode == "ND":
        return [op.add("GatherND", [x, places], {"batch_dims": operation.batch_axes})]
    if operation.mode != "DEFAULT" or operation.batch_axes > 1:
        op.refuse(f"a mode {operation.mode} with {operation.batch_axes} axes of the batch")
    if operation.batch_axes == 0:
        return [op.add("Gather", [x, places], {"axis": operation.axis})]
    return [_batched(op, operation.axis, x, places)]


def _batched(op: Op, axis: int, x: ir.Value, places: ir.Value) -> ir.Value:
    """Row by row of the first axis: `axis` is brought behind it, and the places that were gathered are brought back to where it was."""
    rank, count = len(op.shape(0)), len(op.shape(1)) - 1
    if axis < 1:
        op.refuse("it gathers along the axis of the batch")
    moved = op.add("Transpose", [x], {"perm": [0, axis, *(i for i in range(1, rank) if i != axis)]})
    found = op.add("GatherND", [moved, op.add("Unsqueeze", [places, op.constant([-1])])], {"batch_dims": 1})
    # Now: the batch, the axes of the places, those before `axis`, those after it.
    before = range(1 + count, count + axis)
    return op.add("Transpose", [found], {"perm": [0, *before, *range(1, 1 + count), *range(count + axis, count + rank - 1)]})


def scatter(op: Op) -> Sequence[ir.Value]:
    """As ONNX's ScatterElements and ScatterND."""
    operation = op.layer.operation
    assert isinstance(operation, Scatter)
    inputs = [op.input(0), op.integers(1), op.input(2)]
    if operation.mode == "ELEMENT":
        return [op.add("ScatterElements", inputs, {"axis": operation.axis})]
    if operation.mode != "ND":
        op.refuse(f"a mode {operation.mode}")
    return [op.add("ScatterND", inputs)]


def topk(op: Op) -> Sequence[ir.Value]:
    """The largest or smallest along an axis, in order, and where they are."""
    operation = op.layer.operation
    assert isinstance(operation, TopK)
    if operation.kind not in ("MAX", "MIN"):
        op.refuse(f"an operation {operation.kind}")
    x = op.number()
    count = op.constant([operation.k])
    attributes = {"axis": operation.axis, "largest": int(operation.kind == "MAX"), "sorted": 1}
    values, places = op.add_all("TopK", [x, count], attributes, [dtype_of(x), "int64"])
    return [values, op.cast(places, "int32")]


def non_zero(op: Op) -> Sequence[ir.Value]:
    """Positions of what is not zero, a column each."""
    return [op.cast(op.add("NonZero", [op.input()], dtype="int64"), "int32")]


def one_hot(op: Op) -> Sequence[ir.Value]:
    """A new axis with the second value at the position that an index names, and the first one elsewhere."""
    operation = op.layer.operation
    assert isinstance(operation, OneHot)
    values = op.input(1)
    made = dtype_of(values)
    # onnxruntime has no kernel for every type.
    kernel = "float32" if made == "float32" else "int64"
    inputs = [op.integers(0), op.integers(2), op.cast(values, kernel)]
    return [op.cast(op.add("OneHot", inputs, {"axis": operation.axis}, kernel), made)]
