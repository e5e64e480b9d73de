"""Operators that put the same values into another shape or order: one Shuffle where TensorRT says them so.

Source: onnx/onnx docs/Operators.md and docs/Changelog.md; NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (IShuffleLayer, ISliceLayer).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.dataclass import replace
from porter.graph.analysis.values import Element, Size, Value
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.types import Shape, TensorType

# ---- sizes that may be open ------------------------------------------------------------------------------------------------


def sizes_of(op: Op, tensor: str) -> list[Element]:
    """The sizes of a tensor: integers, and `Size` for those that are open."""
    # `Size` finds a tensor by a value's name, and a step on the way is no value.
    op.assembly.tensors.setdefault(tensor, tensor)
    return [n if n >= 0 else Size(tensor, i, _symbol(op, tensor, i)) for i, n in enumerate(op.type_of(tensor).shape)]


def _symbol(op: Op, tensor: str, axis: int) -> str | None:
    value = op.assembly.network.values.get(tensor)
    found = value.shape[axis] if value is not None and value.shape is not None and axis < len(value.shape) else None
    return found if isinstance(found, str) else None


def same(op: Op, a: Element, b: Element) -> bool:
    """Whether two sizes are known to be equal."""
    if isinstance(a, int) or isinstance(b, int) or a.op or b.op:
        return a == b
    if a.symbol is not None and a.symbol == b.symbol:
        return True
    return (op.assembly.tensor(a.value), a.axis) == (op.assembly.tensor(b.value), b.axis)


def vector(op: Op, elements: Sequence[Element], part: str) -> str:
    """Sizes as a tensor of int64."""
    return op.assembly.sizes(list(elements), Value("", "int64", (len(elements),)), f"{op.name}/{part}")


def open_shape(elements: Sequence[Element]) -> Shape:
    """Sizes with -1 for those that are open."""
    return tuple([n if isinstance(n, int) else -1 for n in elements])


def typed(op: Op, tensor: str, shape: Shape) -> str:
    """The tensor, whose sizes are known to be `shape` although a tensor says them."""
    op.assembly.types[tensor] = TensorType(shape, op.type_of(tensor).dtype)
    return tensor


# ---- operators -------------------------------------------------------------------------------------------------------------


def reshape(op: Op) -> None:
    """To a shape that is known, or whose open sizes are those of other values."""
    x = op.tensor(0)
    wanted: list[Element] | None = [int(n) for n in op.attribute("shape")] if op.version < 5 else op.elements(1)
    if wanted is None:
        op.put(layers.Shuffle(zero_copies=not op.attribute("allowzero", 0)), [x, op.tensor(1)])
        return
    _put_shuffle(op, x, _resolved(op, wanted, sizes_of(op, x)))


def _put_shuffle(op: Op, x: str, sizes: Sequence[Element]) -> None:
    """The output in the shape `sizes`, in which 0 is no elements and -1 what is left."""
    have = sizes_of(op, x)
    if len(sizes) == len(have) and all(same(op, a, b) for a, b in zip(sizes, have, strict=True)):
        op.alias(x)
        return
    operation, inputs = shuffle_to(op, x, sizes, "sizes")
    op.put(operation, inputs)


def shuffle_to(op: Op, x: str, sizes: Sequence[Element], part: str) -> tuple[layers.Shuffle, list[str]]:
    """The layer that reshapes a tensor, and its inputs: sizes as settings where these say them, else as a tensor. 0 is no elements."""
    have = sizes_of(op, x)
    stated = [0 if i < len(have) and isinstance(n, Size) and same(op, n, have[i]) else n for i, n in enumerate(sizes)]
    opened = [i for i, n in enumerate(stated) if isinstance(n, Size)]
    if len(opened) == 1 and -1 not in stated and 0 not in sizes:
        # What the only open size is follows from all the others.
        stated[opened[0]] = -1
    known = [n for n in stated if isinstance(n, int)]
    if len(known) == len(stated) and (0 not in sizes or stated == sizes):
        return layers.Shuffle(shape=tuple(known), zero_copies=0 not in sizes), [x]
    return layers.Shuffle(zero_copies=False), [x, vector(op, sizes, part)]


def _resolved(op: Op, wanted: Sequence[Element], have: Sequence[Element]) -> list[Element]:
    """The sizes with all put in that follows: 0 only for an axis that has no elements."""
    sizes = list(wanted)
    if not op.attribute("allowzero", 0):
        sizes = [have[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(sizes)]
    known = op.out().shape
    if known is not None and len(known) == len(sizes):
        sizes = [k if isinstance(k, int) else n for k, n in zip(known, sizes, strict=True)]
    if sizes.count(-1) == 1:
        others = [n for n in sizes if n != -1]
        left = _left(op, others, have)
        sizes = [left if n == -1 and left is not None else n for n in sizes]
    return sizes


def _left(op: Op, others: Sequence[Element], have: Sequence[Element]) -> Element | None:
    """The size that is left for a -1: a number, or one open size of the input; None where it is neither."""
    rest = list(have)
    product = 1
    for n in others:
        match = next((h for h in rest if isinstance(h, Size) and same(op, h, n)), None) if isinstance(n, Size) else None
        if match is not None:
            rest.remove(match)
        elif isinstance(n, int):
            product *= n
        else:
            return None
    whole = math.prod(n for n in rest if isinstance(n, int))
    opened = [n for n in rest if isinstance(n, Size)]
    if not opened and product:
        return whole // product
    return opened[0] if len(opened) == 1 and whole == product and product else None


def flatten(op: Op) -> None:
    """Two axes: those before one, and those from it on."""
    x, rank = op.tensor(0), op.rank(0)
    axis = int(op.attribute("axis", 1))
    axis = axis + rank if axis < 0 else axis
    have = sizes_of(op, x)
    _put_shuffle(op, x, [_product(have[:axis]), _product(have[axis:])])


def _product(sizes: Sequence[Element]) -> Element:
    """How many elements there are along axes of these sizes."""
    total: Element = math.prod(n for n in sizes if isinstance(n, int))
    for n in sizes:
        total = multiplied(total, n) if isinstance(n, Size) else total
    return total


def transpose(op: Op) -> None:
    """The axes in another order."""
    rank = op.rank(0)
    order = tuple(op.axes(op.attribute("perm") or list(range(rank))[::-1]))
    if order == tuple(range(rank)):
        op.alias(op.tensor(0))
    else:
        op.put(layers.Shuffle(first=order), [op.tensor(0)])


def squeeze(op: Op) -> None:
    """Without axes of size one."""
    given = op.integers(1, "axes")
    axes = op.axes(given) if given is not None else [i for i, n in enumerate(op.shape(0)) if n == 1]
    _to(op, [n for i, n in enumerate(op.shape(0)) if i not in axes])


def unsqueeze(op: Op) -> None:
    """With more axes of size one."""
    given = op.integers(1, "axes") or []
    rank = op.rank(0) + len(given)
    new = {a + rank if a < 0 else a for a in given}
    sizes = iter(op.shape(0))
    _to(op, [1 if i in new else next(sizes) for i in range(rank)])


def _to(op: Op, shape: Sequence[int]) -> None:
    x = op.tensor(0)
    if op.type_of(x).shape == tuple(shape):
        op.alias(x)
    else:
        operation, inputs = op.shuffle(x, shape, "sizes")
        op.put(operation, inputs)


def identity(op: Op) -> None:
    """The same tensor."""
    op.alias(op.tensor(0))


def concat(op: Op) -> None:
    """One after the other along an axis."""
    names = [op.tensor(i) for i in range(len(op.node.inputs)) if op.has(i)]
    if len(names) == 1:
        op.alias(names[0])
    else:
        op.put(layers.Concatenation(op.axis("axis", 1)), names)


def expand(op: Op) -> None:
    """To a larger shape, as numpy broadcasts: a Slice that stays where it is along axes of size one."""
    wanted = op.elements(1)
    if wanted is None:
        raise op.refuse("its shape is known only when the network runs")
    rank = max(op.rank(0), len(wanted))
    x = op.tensor(0, rank)
    target: list[Element] = [*([1] * (rank - len(wanted))), *wanted]
    sizes, stride = [], []
    for axis, (a, b) in enumerate(zip(sizes_of(op, x), target, strict=True)):
        if a == 1 and b != 1:
            sizes.append(b)
            stride.append(0)
        elif b == 1 or same(op, a, b) or (isinstance(a, int) and isinstance(b, Size)):
            sizes.append(a)
            stride.append(1)
        else:
            raise op.refuse(f"whether axis {axis} is repeated is known only when the network runs")
    if 0 not in stride:
        op.alias(x)
    else:
        put_slice(op, x, [0] * rank, sizes, stride)


def tile(op: Op) -> None:
    """Repeated along its axes: a Slice that goes round."""
    repeats = op.elements(1) if op.version >= 6 else None
    if repeats is None or not all(isinstance(n, int) for n in repeats):
        raise op.refuse("its repeats are known only when the network runs")
    x = op.tensor(0)
    sizes = [multiplied(n, r) for n, r in zip(sizes_of(op, x), repeats, strict=True)]
    if all(r == 1 for r in repeats):
        op.alias(x)
    else:
        put_slice(op, x, [0] * len(sizes), sizes, [1] * len(sizes), "WRAP")


def multiplied(a: Element, b: Element) -> Element:
    """The product of two sizes."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return a if b == 1 else b if a == 1 else Size(op="*", left=a, right=b)


def shape_of(op: Op) -> None:
    """The shape as a tensor."""
    sizes = sizes_of(op, op.tensor(0))
    wanted = sizes[op.attribute("start", 0) : op.attribute("end", len(sizes))]
    op.alias(op.assembly.sizes(wanted, op.out(), op.name))


def size_of(op: Op) -> None:
    """How many elements there are."""
    whole = op.assembly.sizes([_product(sizes_of(op, op.tensor(0)))], Value("", "int64", (1,)), f"{op.name}/product")
    op.put(layers.Shuffle(shape=()), [whole])


def constant_of_shape(op: Op) -> None:
    """One number everywhere: a Slice that stays where it is."""
    import numpy as np

    sizes, stated = op.elements(0), op.attribute("value")
    if sizes is None:
        raise op.refuse("its shape is known only when the network runs")
    number = stated.numpy().reshape(-1)[:1] if stated is not None else np.zeros(1, np.float32)
    x = op.constant_tensor(number.reshape([1] * len(sizes)), "value")
    put_slice(op, x, [0] * len(sizes), sizes, [0] * len(sizes))


def depth_to_space(op: Op) -> None:
    """Channels moved into height and width, in one of two orders: two Shuffles."""
    x, block = op.tensor(0), int(op.attribute("blocksize"))
    batch, _, height, width = sizes_of(op, x)
    inner = op.static(0, [1])[0] // (block * block)
    if op.attribute("mode", "DCR") == "CRD":
        blocks, order = [batch, inner, block, block, height, width], (0, 1, 4, 2, 5, 3)
    else:
        blocks, order = [batch, block, block, inner, height, width], (0, 3, 4, 1, 5, 2)
    moved = _blocks(op, x, blocks, order)
    _put_shuffle(op, moved, [batch, inner, multiplied(height, block), multiplied(width, block)])


def space_to_depth(op: Op) -> None:
    """Blocks of height and width moved into the channels: two Shuffles."""
    x, block = op.tensor(0), int(op.attribute("blocksize"))
    batch = sizes_of(op, x)[0]
    channels, height, width = op.static(0, [1, 2, 3])
    h, w = height // block, width // block
    order = (0, 1, 3, 5, 2, 4) if op.attribute("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    moved = _blocks(op, x, [batch, channels, h, block, w, block], order)
    _put_shuffle(op, moved, [batch, channels * block * block, h, w])


def _blocks(op: Op, x: str, sizes: Sequence[Element], order: tuple[int, ...]) -> str:
    """Cut into blocks, and the axes brought into an order."""
    operation, inputs = shuffle_to(op, x, sizes, "blocks/sizes")
    moved = op.add(replace(operation, second=order), inputs, "blocks")
    return typed(op, moved, tuple([open_shape(sizes)[p] for p in order]))


# ---- Slice, which several operators become ---------------------------------------------------------------------------------


def slice_layer(
    op: Op, tensor: str, start: Sequence[Element], size: Sequence[Element], stride: Sequence[int], mode: str, fill: str, part: str
) -> tuple[layers.Slice, list[str]]:
    """The layer, and its inputs: what is open of start and size is a tensor. fill: the tensor of what is put outside, or "".

    part: a name for the parts of the operator that the tensors of sizes are.
    """
    settings: list[tuple[int, ...] | None] = []
    given = []
    for what, elements in (("start", start), ("size", size)):
        known = tuple([n for n in elements if isinstance(n, int)])
        settings.append(known if len(known) == len(elements) else None)
        given.append("" if settings[-1] is not None else vector(op, elements, f"{part}{what}"))
    inputs = [tensor, *given, "", fill]
    while not inputs[-1]:
        inputs.pop()
    return layers.Slice(settings[0], settings[1], tuple(stride), mode), inputs


def put_slice(
    op: Op,
    tensor: str,
    start: Sequence[Element],
    size: Sequence[Element],
    stride: Sequence[int],
    mode: str = "STRICT_BOUNDS",
    fill: str = "",
    index: int = 0,
) -> None:
    """An output of the operator that is a Slice, or `tensor` itself where all of it is taken as it is."""
    have = sizes_of(op, tensor)
    if set(start) <= {0} and set(stride) <= {1} and all(same(op, a, b) for a, b in zip(size, have, strict=True)):
        op.alias(tensor, index)
        return
    operation, inputs = slice_layer(op, tensor, start, size, stride, mode, fill, f"{op.node.outputs[index]}/" if index else "")
    output = op.node.outputs[index]
    op.put(operation, inputs, index)
    typed(op, output, tuple([max(a, b) for a, b in zip(op.type_of(output).shape, open_shape(size), strict=True)]))
