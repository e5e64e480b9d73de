"""Layers that move values about without changing them: joined, cut, reshaped, reordered, repeated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from porter.graph.builder import Batch, GraphBuilder, Named, merged
from porter.graph.caffe.layer import Layer


def concat(layer: Layer) -> None:
    """All bottoms one after the other; a single one is its top's memory. Source: BVLC concat_layer.cpp."""
    layer.need_bottoms(1, len(layer.bottoms) or 1)
    axis = _axis(layer, "concat_param.axis", "concat_param.concat_dim")
    first, *others = layer.bottoms
    if not others:
        layer.share(0, first.shape)
        return
    for i, other in enumerate(others, 1):
        fits = other.rank == first.rank and all(a == b for j, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if j != axis)
        if not fits:
            message = f"its bottom {i} is {list(other.shape)}, and its first {list(first.shape)}: they may differ in axis {axis} only"
            raise layer.error("G001", message)
    total = _joined(layer, [b.shape[axis] for b in layer.bottoms])
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    layer.put(layer.builder.op("Concat", layer.bottoms, shape, {"axis": axis}))


def slice_(layer: Layer) -> None:
    """The bottom cut along an axis, at the points stated or into equal parts. Source: BVLC slice_layer.cpp."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    axis = _axis(layer, "slice_param.axis", "slice_param.slice_dim")
    points = layer.parameters.integers("slice_param.slice_point")
    count, size = len(layer.top_names), x.shape[axis]
    if count == 1 and not points:
        layer.share(0, x.shape)
        return
    layer.need_fixed(x, axis, "it cuts that dimension into parts")
    if points:
        bounds = [0, *points, size]
        sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
        if len(sizes) != count or min(sizes) <= 0:
            raise layer.error("G010", f"slice_point {points} does not cut {size} positions into {count} tops")
    elif size % count:
        raise layer.error("G010", f"{size} positions cannot be cut into {count} equal tops")
    else:
        sizes = [size // count] * count
    for part in split_in(layer.builder, x, axis, sizes):
        layer.put(part)


def split(layer: Layer) -> None:
    """Each top is the bottom's memory. Source: BVLC split_layer.cpp."""
    layer.need_bottoms(1)
    for _ in layer.top_names:
        layer.share(0, layer.bottoms[0].shape)


def flatten(layer: Layer) -> None:
    """Axes from `axis` to `end_axis` merged into one, in the bottom's memory. Source: BVLC flatten_layer.cpp."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    start = layer.axis(layer.parameters.integer("flatten_param.axis", 1))
    end = layer.axis(layer.parameters.integer("flatten_param.end_axis", -1))
    if end < start:
        raise layer.error("G011", f"it flattens the axes from {start} to {end}")
    layer.share(0, (*x.shape[:start], merged(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def reshape(layer: Layer) -> None:
    """Another shape for the bottom's memory: 0 copies a dimension, -1 works one out, and `axis` and `num_axes` say which axes are
    replaced. `axis` -1 means behind the last one. Source: BVLC reshape_layer.cpp.
    """
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    dims = layer.parameters.integers("reshape_param.shape.dim")
    start = layer.parameters.integer("reshape_param.axis", 0)
    start = start if start >= 0 else x.rank + start + 1
    count = layer.parameters.integer("reshape_param.num_axes", -1)
    end = x.rank if count == -1 else start + count
    if not 0 <= start <= end <= x.rank:
        raise layer.error("G011", f"it replaces the axes from {start} to {end - 1} of a blob of {x.rank} dimensions")
    if dims.count(-1) > 1 or any(d < -1 for d in dims):
        raise layer.error("G010", f"reshape_param.shape is {dims}, and takes sizes, 0 to copy one, and one -1 at most")
    if any(d == 0 and start + i >= x.rank for i, d in enumerate(dims)):
        raise layer.error("G011", "its shape has a 0 where the bottom has no dimension to copy")
    new = [x.shape[start + i] if d == 0 else d for i, d in enumerate(dims)]
    shape = [*x.shape[:start], *new, *x.shape[end:]]
    if -1 in dims:
        place = start + dims.index(-1)
        shape[place] = _worked_out(layer, x, [*shape[:place], *shape[place + 1 :]])
    if math.prod(shape) != math.prod(x.shape):
        raise layer.error("G001", f"its bottom is {list(x.shape)}, and cannot become {shape}")
    if any(isinstance(n, Batch) for n in x.shape) and not any(isinstance(n, Batch) for n in shape):
        raise layer.error("G002", f"it states the shape {shape}, which holds for one size of the batch only")
    layer.share(0, tuple(shape))


def permute(layer: Layer) -> None:
    """Axes in the order stated, those not named behind them; the order that they have leaves them in the bottom's memory.

    Source: weiliu89/caffe (ssd) permute_layer.cpp.
    """
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    order = layer.parameters.integers("permute_param.order")
    if len(set(order)) != len(order) or any(not 0 <= axis < x.rank for axis in order):
        raise layer.error("G011", f"the order {order} does not name each axis of {x.rank} once at most")
    order += [axis for axis in range(x.rank) if axis not in order]
    if order == list(range(x.rank)):
        layer.share(0, x.shape)
    else:
        layer.put(layer.builder.transpose(x, order, hint=None))


def tile(layer: Layer) -> None:
    """The bottom repeated along an axis. Source: BVLC tile_layer.cpp."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    axis = layer.axis(layer.parameters.integer("tile_param.axis", 1))
    tiles = layer.parameters.optional_integer("tile_param.tiles")
    if tiles is None or tiles < 1:
        raise layer.error("G010", "tile_param.tiles has to be stated, and at least 1")
    repeats = [tiles if i == axis else 1 for i in range(x.rank)]
    shape = (*x.shape[:axis], merged((x.shape[axis], tiles)), *x.shape[axis + 1 :])
    layer.put(layer.builder.op("Tile", [x, layer.builder.constant(repeats, "repeats")], shape))


def crop(layer: Layer) -> None:
    """The first bottom cut to the second's size from `axis` on. Source: BVLC crop_layer.cpp."""
    layer.need_bottoms(2)
    x, like = layer.bottoms
    axis = layer.axis(layer.parameters.integer("crop_param.axis", 2))
    offsets = layer.parameters.integers("crop_param.offset")
    if len(offsets) > 1 and axis + len(offsets) != x.rank:
        raise layer.error("G010", f"it has {len(offsets)} offsets for {x.rank - axis} axes")
    if like.rank < x.rank:
        raise layer.error("G001", f"it cuts {list(x.shape)} to the size of {list(like.shape)}, which has fewer dimensions")
    offsets = offsets * (x.rank - axis) if len(offsets) == 1 else offsets or [0] * (x.rank - axis)
    bounds = {}
    for i, offset in zip(range(axis, x.rank), offsets, strict=True):
        here, wanted = x.shape[i], like.shape[i]
        if isinstance(here, Batch) and here.is_as(wanted) and offset == 0:
            continue
        layer.need_fixed(x, i, "it is cut")
        layer.need_fixed(like, i, "another blob is cut to it")
        if offset < 0 or offset + wanted > here:
            raise layer.error("G001", f"{wanted} positions from {offset} on are more than the {here} of axis {i}")
        bounds[i] = (offset, offset + wanted)
    layer.put(cut_out(layer.builder, x, bounds))


def crop_center(layer: Layer) -> None:
    """As many positions as `crop_size` says cut off at both ends of each axis. Source: nagadomi/caffe crop_center_layer, as run."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    sizes = layer.parameters.integers("crop_center_param.crop_size")
    if len(sizes) != x.rank:
        raise layer.error("G010", f"it has {len(sizes)} values of crop_size for {x.rank} axes")
    bounds = {}
    for i, size in enumerate(sizes):
        if size < 0 or 2 * size >= x.shape[i]:
            raise layer.error("G001", f"{size} positions cannot be cut off both ends of the {x.shape[i]} of axis {i}")
        if size:
            layer.need_fixed(x, i, "it is cut")
            bounds[i] = (size, x.shape[i] - size)
    layer.put(cut_out(layer.builder, x, bounds))


def flip(layer: Layer) -> None:
    """Width, height or both the other way round. Source: happynear/caffe-windows flip_layer.cpp."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    if x.rank != 4:
        raise layer.error("G011", f"it takes a blob of 4 dimensions, and its bottom has {x.rank}")
    width = layer.parameters.flag("flip_param.flip_width", True)
    height = layer.parameters.flag("flip_param.flip_height", False)
    axes = [axis for axis, flipped in ((2, height), (3, width)) if flipped]
    layer.put(reversed_along(layer.builder, x, axes, hint=None))


def parameter(layer: Layer) -> None:
    """A learned blob as a top. Source: BVLC parameter_layer.hpp."""
    layer.need_bottoms(0)
    layer.put(layer.weight(0, tuple(layer.parameters.integers("parameter_param.shape.dim"))))


def noop(layer: Layer) -> None:
    """Each bottom as it is."""
    for bottom in layer.bottoms[: len(layer.top_names)]:
        layer.put(bottom)


# ---- what other families need, too --------------------------------------------------------------------------------------


def cut_out(builder: GraphBuilder, x: Named, bounds: Mapping[int, tuple[int, int]], hint: str | None = None) -> Named:
    """Positions from start to stop - 1 along each axis of `bounds`, in one node; `x` itself where nothing is cut off."""
    kept = {axis: b for axis, b in bounds.items() if b != (0, x.shape[axis])}
    if not kept:
        return x
    shape = tuple([kept[i][1] - kept[i][0] if i in kept else n for i, n in enumerate(x.shape)])
    columns = ([b[0] for b in kept.values()], [b[1] for b in kept.values()], list(kept))
    parts = [builder.constant(column, what) for column, what in zip(columns, ("starts", "ends", "axes"), strict=True)]
    return builder.op("Slice", [x, *parts], shape, dtype=x.dtype, hint=hint)


def reversed_along(builder: GraphBuilder, x: Named, axes: Sequence[int], hint: str | None) -> Named:
    """`x` with the positions of these axes the other way round."""
    if not axes:
        return x
    columns = ([-1] * len(axes), [-x.shape[a] - 1 for a in axes], list(axes), [-1] * len(axes))
    parts = [builder.constant(column, what) for column, what in zip(columns, ("starts", "ends", "axes", "steps"), strict=True)]
    return builder.op("Slice", [x, *parts], x.shape, dtype=x.dtype, hint=hint)


def split_in(builder: GraphBuilder, x: Named, axis: int, sizes: Sequence[int], hint: str | None = None) -> list[Named]:
    """`x` cut along `axis` into parts of these sizes; one part is `x` itself."""
    if len(sizes) == 1:
        return [x]
    shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
    return builder.ops(
        "Split", [x, builder.constant(list(sizes), "sizes")], shapes, {"axis": axis}, dtypes=[x.dtype] * len(sizes), hint=hint
    )


def _axis(layer: Layer, path: str, old: str) -> int:
    """The axis of Concat and Slice: `axis`, or by its old name; 1 where neither is stated."""
    if layer.parameters.stated(path) and layer.parameters.stated(old):
        raise layer.error("G010", f"{path} and {old} are both stated, and mean the same")
    return layer.axis(layer.parameters.integer(old if layer.parameters.stated(old) else path, 1))


def _joined(layer: Layer, sizes: Sequence[int]) -> int:
    """The size of parts one after the other; open where all of them are as many for each image."""
    first = sizes[0]
    if not any(isinstance(n, Batch) for n in sizes):
        return sum(sizes)
    times = [n.times for n in sizes if isinstance(n, Batch) and isinstance(first, Batch) and n.symbol == first.symbol]
    if len(times) != len(sizes) or not isinstance(first, Batch):
        raise layer.error("G002", "it joins along the batch what depends on its size and what does not")
    return Batch(sum(sizes), sum(times), first.symbol)


def _worked_out(layer: Layer, x: Named, others: Sequence[int]) -> int:
    """The dimension that -1 stands for, where `others` are the rest; open where the batch is in it."""
    total, known = merged(x.shape), math.prod(others)
    if known == 0 or total % known:
        raise layer.error("G001", f"the {int(total)} values of {list(x.shape)} are no multiple of the {known} that its shape states")
    if not isinstance(total, Batch) or any(isinstance(n, Batch) for n in others):
        return int(total) // known
    if total.times % known:
        raise layer.error("G002", f"the size that it works out, {int(total) // known}, is no multiple of the batch")
    return Batch(int(total) // known, total.times // known, total.symbol)
