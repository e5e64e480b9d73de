"""Operators that move values about: joined, cut, reshaped, reordered, repeated, or left as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.graph.analysis.values import Node
from porter.graph.caffe_source.net import Blob
from porter.graph.caffe_source.op import Op, Refused

_FLOAT, _INT64 = 1, 7
"""ONNX's numbers of these types."""

MOST_PARTS = 64
"""Into how many parts a blob is cut at most, to put them together in another order."""


def same(op: Op) -> None:
    """What changes nothing: Identity, Dropout, a Cast to float32."""
    if op.used(1):
        raise Refused("its mask is used")
    op.put(op.blob(0))


def cast(op: Op) -> None:
    """To float32 nothing changes. Integers are good for picking rows: Caffe's Embed and BatchReindex take them as floats."""
    following = op.next()
    if op.attribute("to") == _FLOAT:
        op.put(op.blob(0))
    elif op.attribute("to") == _INT64 and following is not None and following.op_type == "Gather" and not following.attributes.get("axis"):
        _rows(op, op.blob(0), following)
    else:
        raise Refused("it makes another type than float32, the only one that Caffe has")


def _rows(op: Op, indices: Blob, gather: Node) -> None:
    """Rows of a constant matrix, or items of a batch."""
    name = gather.inputs[0]
    table = op.context.values[name].constant
    if name == op.node.outputs[0] or (table is not None and len(table.shape) != 2) or (table is None and indices.rank != 1):
        raise Refused("what it picks are no rows of a constant matrix and no items of a batch")
    op.absorb(gather)
    if table is None:
        op.put(op.layer("BatchReindex", [op.context.blob(name), indices], op.shape()))
        return
    rows, outputs = table.shape
    said = {"input_dim": rows, "num_output": outputs, "bias_term": False}
    op.put(op.layer("Embed", [indices], op.shape(), {"embed_param": said}, [op.weight("weight", table, table.shape)]))


def reshape(op: Op) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: the sizes are known."""
    op.put(op.reshape(op.blob(0), op.shape()))


def concat(op: Op) -> None:
    """All inputs one after the other."""
    parts = [op.context.blob(name) for name in op.node.inputs]
    op.put(op.concat(parts, op.attribute("axis", 1) % parts[0].rank))


def split(op: Op) -> None:
    """Parts one after the other."""
    x = op.blob(0)
    axis = op.attribute("axis", 0) % x.rank
    sizes = [op.shape(i)[axis] for i in range(len(op.node.outputs))]
    for i, part in enumerate(op.parts(x, axis, sizes)):
        op.put(part, i)


def slice_(op: Op) -> None:
    """One Slice layer for each axis that is cut."""
    x = op.blob(0)
    starts, ends = op.integers(1, "starts") or [], op.integers(2, "ends") or []
    axes = op.integers(3, "axes") or list(range(len(starts)))
    steps = op.integers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step != 1:
            raise Refused(f"it takes every position in steps of {step}, and Caffe's Slice cuts runs")
        size = x.shape[axis]
        first, stop, _ = slice(start, end).indices(size)
        if stop <= first:
            raise Refused("nothing is left, and Caffe has no empty blobs")
        x = op.cut(x, axis % x.rank, first, stop)
    op.put(x)


def gather(op: Op) -> None:
    """Positions that are known: cut out, and put together in their order."""
    x = op.blob(0)
    axis = op.attribute("axis", 0) % x.rank
    indices = [int(i) % x.shape[axis] for i in op.array(1, "indices").reshape(-1)]
    runs: list[list[int]] = []
    for i in indices:
        if runs and runs[-1][1] == i:
            runs[-1][1] = i + 1
        else:
            runs.append([i, i + 1])
    if not 1 <= len(runs) <= MOST_PARTS:
        raise Refused(f"it picks {len(indices)} positions in {len(runs)} runs; porter cuts out {MOST_PARTS} at most")
    op.put(op.reshape(op.concat([op.cut(x, axis, start, stop) for start, stop in runs], axis), op.shape()))


def tile(op: Op) -> None:
    """One Tile layer for each axis that is repeated."""
    x = op.blob(0)
    for axis, count in enumerate(op.integers(1, "repeats") or []):
        if count < 1:
            raise Refused("nothing is left, and Caffe has no empty blobs")
        if count != 1:
            shape = (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :])
            x = op.layer("Tile", [x], shape, {"tile_param": {"axis": axis, "tiles": count}})
    op.put(x)


def expand(op: Op) -> None:
    """One Tile layer for each axis that broadcasting repeats."""
    op.put(op.expand(op.blob(0), op.shape()))


def transpose(op: Op) -> None:
    """Axes in another order."""
    x = op.blob(0)
    op.put(transposed(op, x, op.attribute("perm") or list(range(x.rank))[::-1]))


def transposed(op: Op, x: Blob, perm: Sequence[int]) -> Blob:
    """A Reshape where only axes of size one move, the fork's Permute, or few parts cut and joined in the other order."""
    shape = tuple([x.shape[p] for p in perm])
    moved = [p for p in perm if x.shape[p] != 1]
    if moved == sorted(moved):
        return op.reshape(x, shape)
    if "Permute" in op.context.extra:
        return op.layer("Permute", [x], shape, {"permute_param": {"order": list(perm)}}, main=True)
    swap = _swapped(x, moved)
    if swap is None or min(swap[1:3]) > MOST_PARTS:
        raise Refused("Caffe has no layer that reorders axes (SSD's has: '--to caffe:ssd')")
    return op.reshape(_swap(op, x, *swap), shape)


def _swapped(x: Blob, moved: Sequence[int]) -> tuple[int, int, int, int] | None:
    """Sizes (a, b, c, d), where the order of axes `moved` swaps b and c, runs of axes; None where it does more than that."""
    ordered = sorted(moved)
    start = next(i for i, (m, n) in enumerate(zip(moved, ordered, strict=True)) if m != n)
    stop = len(moved) - next(i for i, (m, n) in enumerate(zip(reversed(moved), reversed(ordered), strict=True)) if m != n)
    middle = list(moved[start:stop])
    cut = middle.index(min(middle))
    if middle[cut:] + middle[:cut] != sorted(middle):
        return None
    runs = (moved[:start], middle[cut:], middle[:cut], moved[stop:])
    a, b, c, d = (math.prod([x.shape[axis] for axis in run]) for run in runs)
    return a, b, c, d


def _swap(op: Op, x: Blob, a: int, b: int, c: int, d: int) -> Blob:
    """(a, b, c, d) as (a, c, b, d): parts of the smaller of b and c, joined along an axis on the other side of the other."""
    tail = (d,) if d != 1 else ()
    if b <= c:
        parts = op.parts(op.reshape(x, (a, b, c, 1, *tail)), 1, [1] * b)
        return op.concat(parts, 3)
    parts = op.parts(op.reshape(x, (a, 1, b, c, *tail)), 3, [1] * c)
    return op.concat(parts, 1)
