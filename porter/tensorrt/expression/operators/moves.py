"""Layers that move values about: Concatenation, Shuffle, Slice, Shape.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (IShuffleLayer, Permutation, ISliceLayer, SampleMode, IShapeLayer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.tensorrt.expression.graph import Op, dtype_of
from porter.tensorrt.layers import Concatenation, Constant, Shuffle, Slice

if TYPE_CHECKING:
    import onnx_ir as ir

_NOWHERE = 1 << 40


def concatenation(op: Op) -> Sequence[ir.Value]:
    """One after the other along an axis."""
    operation = op.layer.operation
    assert isinstance(operation, Concatenation)
    return [op.add("Concat", [op.input(i) for i in range(len(op.layer.inputs))], {"axis": operation.axis})]


def shuffle(op: Op) -> Sequence[ir.Value]:
    """Transpose, reshape, transpose. A permutation says of each axis of the result which axis it was: (1, 2, 0) makes HWC of CHW."""
    operation = op.layer.operation
    assert isinstance(operation, Shuffle)
    x = op.input()
    if operation.first is not None:
        x = op.add("Transpose", [x], {"perm": list(operation.first)})
    if operation.shape is not None or op.has(1):
        if operation.shape is not None and not operation.zero_copies and 0 in operation.shape and -1 in operation.shape:
            op.refuse(f"{list(operation.shape)} has a size of zero, and one that is left open")
        shape = op.integers(1) if op.has(1) else op.constant(list(operation.shape or ()))
        x = op.add("Reshape", [x, shape], {"allowzero": int(not operation.zero_copies)})
    if operation.second is not None:
        x = op.add("Transpose", [x], {"perm": list(operation.second)})
    return [x]


def shape(op: Op) -> Sequence[ir.Value]:
    """The shape of the input, int64."""
    return [op.add("Shape", [op.input()], dtype="int64")]


def slice_(op: Op) -> Sequence[ir.Value]:
    """Positions start, start + stride, … along every axis, `size` of them; what lies outside is as the mode says."""
    operation = op.layer.operation
    assert isinstance(operation, Slice)
    if operation.mode not in ("STRICT_BOUNDS", "WRAP", "CLAMP", "FILL", "REFLECT"):
        op.refuse(f"a mode {operation.mode}")
    x, shape = op.input(), op.shape()
    inside: ir.Value | None = None
    for number, axis in enumerate(_axes(op, len(shape))):
        start, size, stride = (
            _setting(op, number, given, i + 1) for i, given in enumerate((operation.start, operation.size, operation.stride))
        )
        if (start, stride) == (0, 1) and isinstance(size, int) and size == shape[axis]:
            continue
        length = _length(op, axis)
        places = _places(op, start, size, stride)
        if operation.mode == "FILL":
            holds = _spread(op, _between(op, places, length), axis, len(shape))
            inside = holds if inside is None else op.add("And", [inside, holds])
        x = op.add("Gather", [x, _bounded(op, places, length, operation.mode)], {"axis": axis})
    if inside is None:
        return [x]
    filler = op.input(4) if op.has(4) else op.constant(0, dtype_of(x))
    return [op.add("Where", [inside, x, op.cast(filler, dtype_of(x))], dtype=dtype_of(x))]


def _axes(op: Op, rank: int) -> list[int]:
    if not op.has(5):
        return list(range(rank))
    made = next((layer for layer in op.graph.network.layers if op.layer.inputs[5] in layer.outputs), None)
    if made is None or not isinstance(made.operation, Constant):
        op.refuse("its axes are no constant")
    return [int(n) % rank for n in made.operation.weights.tensor.numpy().reshape(-1)]


def _setting(op: Op, number: int, given: tuple[int, ...] | None, index: int) -> int | ir.Value:
    """Start, size or stride of the axis at `number`: a number, or a scalar of the graph."""
    if op.has(index):
        return op.add("Gather", [op.integers(index), op.constant(number)], {"axis": 0})
    if given is None:
        op.refuse(f"neither a setting nor input {index} says where it cuts")
    return given[number]


def _places(op: Op, start: int | ir.Value, size: int | ir.Value, stride: int | ir.Value) -> ir.Value:
    if isinstance(start, int) and isinstance(size, int) and isinstance(stride, int):
        return op.constant([start + stride * i for i in range(size)])
    begin, count, step = (op.constant(n) if isinstance(n, int) else n for n in (start, size, stride))
    numbers = op.add("Range", [op.constant(0), count, op.constant(1)])
    return op.add("Add", [op.add("Mul", [numbers, step]), begin])


def _length(op: Op, axis: int) -> ir.Value:
    """The size of an axis of the layer's input, as a scalar."""
    return op.add("Gather", [op.add("Shape", [op.input()], dtype="int64"), op.constant(axis)], {"axis": 0})


def _between(op: Op, places: ir.Value, length: ir.Value) -> ir.Value:
    low = op.add("GreaterOrEqual", [places, op.constant(0)], dtype="bool")
    return op.add("And", [low, op.add("Less", [places, length], dtype="bool")])


def _bounded(op: Op, places: ir.Value, length: ir.Value, mode: str) -> ir.Value:
    """`places` where the mode says that the values are. In strict bounds there are none outside, and onnxruntime refuses to run."""
    if mode == "STRICT_BOUNDS":
        return op.add("Where", [_between(op, places, length), places, op.constant(_NOWHERE)], dtype="int64")
    if mode == "WRAP":
        return op.add("Mod", [places, length])
    last = op.add("Sub", [length, op.constant(1)])
    if mode == "REFLECT":
        # To and fro between the middles of the first and the last: the way back is as long, and a single one stays.
        period = op.add("Max", [op.add("Mul", [last, op.constant(2)]), op.constant(1)])
        there = op.add("Mod", [places, period])
        return op.add("Min", [there, op.add("Sub", [period, there])])
    return op.add("Max", [op.add("Min", [places, last]), op.constant(0)])


def _spread(op: Op, holds: ir.Value, axis: int, rank: int) -> ir.Value:
    return op.reshape(holds, [-1 if i == axis else 1 for i in range(rank)])
