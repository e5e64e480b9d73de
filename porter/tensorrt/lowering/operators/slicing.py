"""Operators that take parts of a tensor, or put more around it: Slice layers, whose mode says what lies outside.

Source: onnx/onnx docs/Operators.md (Slice, Split, Pad); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (ISliceLayer, SampleMode).
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.graph.analysis.values import Element, Size
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.shape import open_shape, put_slice, same, sizes_of, slice_layer, typed

_END = (1 << 31) - 1
"""Bounds of a Slice from here on mean the end of the axis."""

_MODES = {"edge": "CLAMP", "reflect": "REFLECT", "wrap": "WRAP"}


def slice_(op: Op) -> None:
    """Positions along some axes."""
    x = op.tensor(0)
    have = sizes_of(op, x)
    start: list[Element] = [0] * len(have)
    size, stride = list(have), [1] * len(have)
    for axis, first, last, step in _bounds(op):
        start[axis], size[axis] = _range(op, axis, have[axis], first, last, step)
        stride[axis] = step
    # Where nothing is taken it is all the same from where.
    start = [0 if n == 0 else s for s, n in zip(start, size, strict=True)]
    put_slice(op, x, start, size, [1 if n == 0 else s for s, n in zip(stride, size, strict=True)])


def _bounds(op: Op) -> list[tuple[int, Element, Element, int]]:
    """Axis, start, end and step of each axis that is cut."""
    if op.version < 10:
        starts: list[Element] | None = list(op.attribute("starts"))
        ends: list[Element] | None = list(op.attribute("ends"))
        axes, steps = op.attribute("axes"), None
    else:
        starts, ends = op.elements(1), op.elements(2)
        axes, steps = op.integers(3, "axes"), op.integers(4, "steps")
    if starts is None or ends is None:
        raise op.refuse("its bounds are known only when the network runs")
    places = op.axes(axes if axes is not None else list(range(len(starts))))
    return list(zip(places, starts, ends, steps or [1] * len(starts), strict=True))


def _range(op: Op, axis: int, have: Element, first: Element, last: Element, step: int) -> tuple[Element, Element]:
    """Where a Slice starts along an axis, and how many it takes."""
    if isinstance(have, int) and isinstance(first, int) and isinstance(last, int):
        places = range(*slice(first, last, step).indices(have))
        return places.start, len(places)
    if step < 1:
        raise op.refuse(f"it goes backwards along axis {axis}, of a size that is known only when the network runs")
    first = plus(have, first) if isinstance(first, int) and first < 0 else first
    if isinstance(last, int) and last >= _END:
        last = have
    elif isinstance(last, int) and last < 0:
        last = plus(have, last)
    elif isinstance(last, int) and isinstance(have, Size):
        op.notice(f"axis {axis} has to have {last} positions or more: of fewer ONNX takes what there is, and TensorRT stops with an error")
    count = _difference(op, last, first)
    if isinstance(count, int):
        return first, -(-count // step)
    return first, count if step == 1 else Size(op="//", left=plus(count, step - 1), right=step)


def plus(a: Element, b: int) -> Element:
    """A size and a number more."""
    if isinstance(a, int):
        return a + b
    return Size(op="+", left=a, right=b) if b else a


def _difference(op: Op, last: Element, first: Element) -> Element:
    if isinstance(first, int):
        return plus(last, -first)
    (a, m), (b, n) = _parts(last), _parts(first)
    return m - n if same(op, a, b) else Size(op="-", left=last, right=first)


def _parts(size: Element) -> tuple[Element, int]:
    """A size as another and a number more."""
    if isinstance(size, Size) and size.op == "+" and isinstance(size.right, int):
        return size.left, size.right
    return size, 0


def split(op: Op) -> None:
    """Parts along an axis: a Slice for each that something reads."""
    axis, x = op.axis("axis", 0), op.tensor(0)
    sizes = op.integers(1, "split")
    count = len(op.node.outputs)
    have = sizes_of(op, x)
    if sizes is None:
        total = op.known(op.shape(0)[axis], f"axis {axis} of '{op.node.inputs[0]}'")
        part = -(-total // count)
        sizes = [min(part, total - part * i) for i in range(count)]
    start = 0
    for index, n in enumerate(sizes):
        if op.used(index):
            begin: list[Element] = [start if a == axis else 0 for a in range(len(have))]
            put_slice(op, x, begin, [n if a == axis else h for a, h in enumerate(have)], [1] * len(have), index=index)
        start += n


def pad(op: Op) -> None:
    """More at the ends of axes, a number or what is there already; less where a pad is negative."""
    x = op.tensor(0)
    before, after = _pads(op)
    mode = op.attribute("mode", "constant")
    if mode != "constant" and min((*before, *after), default=0) < 0:
        # What is cut off is no part of what is reflected.
        x = _cut(op, x, [max(-n, 0) for n in before], [max(-n, 0) for n in after])
        before, after = [max(n, 0) for n in before], [max(n, 0) for n in after]
    have = sizes_of(op, x)
    start: list[Element] = [-n for n in before]
    size = [plus(h, b + a) for h, b, a in zip(have, before, after, strict=True)]
    if max((*before, *after), default=0) <= 0:
        put_slice(op, x, start, size, [1] * len(have))
    elif mode == "constant":
        put_slice(op, x, start, size, [1] * len(have), "FILL", _fill(op, x))
    else:
        put_slice(op, x, start, size, [1] * len(have), _MODES[mode])


def _pads(op: Op) -> tuple[list[int], list[int]]:
    """What is put before and behind each axis."""
    rank = op.rank(0)
    given = op.integers(1, "pads" if op.version > 1 else "paddings")
    axes = op.axes(op.integers(3, "axes", list(range(rank))) or []) if op.version >= 18 else list(range(rank))
    assert given is not None
    before, after = [0] * rank, [0] * rank
    for i, a in enumerate(axes):
        before[a], after[a] = given[i], given[i + len(axes)]
    return before, after


def _cut(op: Op, x: str, before: Sequence[int], after: Sequence[int]) -> str:
    size = [plus(h, -b - a) for h, b, a in zip(sizes_of(op, x), before, after, strict=True)]
    operation, inputs = slice_layer(op, x, list(before), size, [1] * len(size), "STRICT_BOUNDS", "", "cut/")
    return typed(op, op.add(operation, inputs, "cut"), open_shape(size))


def _fill(op: Op, x: str) -> str:
    """The number that is put outside, as a tensor without axes."""
    import numpy as np

    from porter.dtypes import DTYPES

    if op.version >= 11 and op.has(2):
        constant = op.constant(2)
        if constant is not None:
            return op.constant_tensor(constant.reshaped(()), "fill")
        value = op.tensor(2)
        return value if op.type_of(value).shape == () else op.add(layers.Shuffle(shape=()), [value], "fill")
    number = op.attribute("value", 0.0) if op.version < 11 else 0
    return op.constant_tensor(np.full((), number).astype(DTYPES[op.type_of(x).dtype].numpy()), "fill")
