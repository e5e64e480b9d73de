"""Operators that move, cut and join without computing.

Source: onnx/onnx docs/Operators.md and docs/Changelog.md.
"""

from __future__ import annotations

import math

from porter.graph.analysis.values import Dimension, Element, Size
from porter.graph.python_layout import tuple_literal
from porter.graph.torch_source.op import Op
from porter.graph.torch_source.source import scalar_text

_END = (1 << 31) - 1
"""Bounds of a Slice from here on mean the end of the axis."""


def reshape(op: Op) -> None:
    """To a shape that is known, or whose open sizes are those of other values."""
    x = op.text(0)
    wanted: list[Element] | None = [int(n) for n in op.attribute("shape")] if op.version < 5 else op.elements(1)
    if wanted is None:
        listed = f"{op.text(1)}.tolist()"
        if not op.attribute("allowzero", 0):
            listed = op.let(f"[n or {x}.shape[i] for i, n in enumerate({listed})]", "sizes")
        op.put(f"{x}.reshape({listed})")
        return
    shape = op.value(0).shape
    sizes = list(wanted)
    if not op.attribute("allowzero", 0):
        for i, n in enumerate(sizes):
            if isinstance(n, int) and n == 0:
                known = shape[i] if shape is not None and i < len(shape) else None
                sizes[i] = known if isinstance(known, int) else Size(op.node.inputs[0], i, known)
    out = op.out().static
    if out is not None and len(out) == len(sizes):
        sizes = list(out)
    _reshaped(op, x, sizes, shape)


def _reshaped(op: Op, x: str, sizes: list[Element], shape: tuple[Dimension, ...] | None) -> None:
    """The shortest of the ways to say it."""
    if shape is not None and len(sizes) == 2 and len(shape) > 2 and _is_first(op, sizes[0], shape[0]):
        op.put(f"{x}.flatten(1)")
        return
    unknown = [i for i, n in enumerate(sizes) if isinstance(n, Size)]
    if len(unknown) == 1 and -1 not in sizes:
        # What the only open size is follows from all the others.
        sizes[unknown[0]] = -1
    op.put(f"{x}.reshape({', '.join(op.size(n) for n in sizes) or '()'})")


def _is_first(op: Op, size: Element, first: Dimension) -> bool:
    if isinstance(size, Size):
        return (not size.op and size.axis == 0 and size.value == op.node.inputs[0]) or (size.symbol is not None and size.symbol == first)
    return size == first


def flatten(op: Op) -> None:
    """Two axes: those before one, and those from it on."""
    x, axis, rank = op.text(0), int(op.attribute("axis", 1)), op.rank(0)
    axis = axis + rank if axis < 0 else axis
    if axis == 1 and rank > 1:
        op.put(x if rank == 2 else f"{x}.flatten(1)")
    elif axis == 0:
        op.put(f"{x}.reshape(1, -1)")
    else:
        inner = op.shape(0)[axis:]
        known = [n for n in inner if isinstance(n, int)]
        if len(known) == len(inner):
            op.put(f"{x}.reshape(-1, {math.prod(known)})")
        else:
            lead = f"{x}.flatten(0, {axis - 1})" if axis > 1 else x
            op.put(f"{lead}.flatten(1)")


def transpose(op: Op) -> None:
    """The axes in another order."""
    perm = op.attribute("perm") or list(range(op.rank(0)))[::-1]
    op.put(f"{op.text(0)}.permute({', '.join(map(str, perm))})")


def squeeze(op: Op) -> None:
    """Without axes of size one."""
    axes = op.integers(1, "axes")
    if axes is None:
        axes = [i for i, n in enumerate(op.shape(0)) if n == 1]
    rank = op.rank(0)
    axes = sorted(a + rank if a < 0 else a for a in axes)
    op.put(f"{op.text(0)}.squeeze({axes[0] if len(axes) == 1 else tuple_literal(axes)})" if axes else op.text(0))


def unsqueeze(op: Op) -> None:
    """With more axes of size one."""
    axes = op.integers(1, "axes")
    assert axes is not None
    rank = op.rank(0) + len(axes)
    new = sorted(a + rank if a < 0 else a for a in axes)
    if len(new) == 1:
        op.put(f"{op.text(0)}.unsqueeze({new[0]})")
    else:
        op.put(f"{op.text(0)}[{', '.join('None' if a in new else ':' for a in range(max(new, default=0) + 1))}]" if new else op.text(0))


def concat(op: Op) -> None:
    """One after the other along an axis."""
    names = [op.text(i) for i in range(len(op.node.inputs))]
    if len(names) == 1:
        op.put(names[0])
    else:
        op.put(f"torch.cat({tuple_literal(names)}, {op.axis('axis', 1)})")


def split(op: Op) -> None:
    """Parts along an axis."""
    axis = op.axis("axis", 0)
    sizes = op.integers(1, "split")
    count = len(op.node.outputs)
    x = op.text(0)
    if sizes is None:
        total = op.known(op.shape(0)[axis], f"axis {axis}")
        part = -(-total // count)
        sizes = [min(part, total - part * i) for i in range(count)]
    used = [i for i in range(count) if op.used(i)]
    if len(used) == 1:
        op.put(f"{x}.narrow({axis}, {sum(sizes[: used[0]])}, {sizes[used[0]]})", used[0])
    elif len(set(sizes)) == 1 and sizes[0]:
        op.put_all(f"torch.split({x}, {sizes[0]}, {axis})")
    else:
        op.put_all(f"torch.split({x}, {tuple_literal(sizes)}, {axis})")


def slice_(op: Op) -> None:
    """Positions along some axes."""
    if op.version < 10:
        starts, ends = op.attribute("starts"), op.attribute("ends")
        axes, steps = op.attribute("axes") or list(range(len(starts))), [1] * len(starts)
        bounds = [*zip(axes, starts, ends, steps, strict=True)]
    else:
        found = [op.elements(i) if op.has(i) else None for i in (1, 2)]
        if found[0] is None or found[1] is None:
            raise op.refuse("its bounds are known only when the network runs")
        count = len(found[0])
        axes = op.integers(3, "axes", list(range(count))) or []
        steps = op.integers(4, "steps", [1] * count) or []
        bounds = [*zip(axes, found[0], found[1], steps, strict=True)]
    rank = op.rank(0)
    x = op.text(0)
    parts = {(a + rank if a < 0 else a): (s, e, step) for a, s, e, step in bounds}
    backwards = [a for a, (_, _, step) in parts.items() if step < 0]
    for axis in backwards:
        x = op.let(f"torch.index_select({x}, {axis}, {_places(op, axis, parts.pop(axis))})", "backwards")
    texts = [_bounds(op, parts[a]) if a in parts else ":" for a in range(rank)]
    while texts and texts[-1] == ":":
        texts.pop()
    op.put(f"{x}[{', '.join(texts)}]" if texts else x)


def _bounds(op: Op, part: tuple[Element, Element, int]) -> str:
    start, end, step = part
    first = "" if isinstance(start, int) and start == 0 else op.size(start)
    last = "" if isinstance(end, int) and end >= _END else op.size(end)
    text = f"{first}:{last}" if not any(isinstance(n, Size) and n.op for n in (start, end)) else f"{first} : {last}"
    return text + (f":{step}" if step != 1 else "")


def _places(op: Op, axis: int, part: tuple[Element, Element, int]) -> str:
    """Where a Slice that goes backwards takes its elements from."""
    import numpy as np

    start, end, step = part
    size = op.known(op.shape(0)[axis], f"axis {axis}")
    if not isinstance(start, int) or not isinstance(end, int):
        raise op.refuse("it goes backwards, from a place known only when the network runs")
    return op.buffer(np.arange(*slice(start, end, step).indices(size), dtype=np.int64), "places")


def expand(op: Op) -> None:
    """To a larger shape, as numpy broadcasts."""
    out = op.out().static
    if out is not None:
        op.put(f"{op.text(0)}.expand({', '.join(map(str, out))})")
        return
    sizes = op.elements(1)
    if sizes is None:
        op.put(f"torch.broadcast_to({op.text(0)}, torch.broadcast_shapes({op.text(0)}.shape, {op.text(1)}.tolist()))")
        return
    shape, texts = op.shape(0), [op.size(n) for n in sizes]
    # From the right; what is longer than one stays where a size is one.
    texts = ["-1"] * (len(shape) - len(sizes)) + texts
    lead = len(texts) - len(shape)
    texts = ["-1" if text == "1" and i >= lead else text for i, text in enumerate(texts)]
    op.put(f"{op.text(0)}.expand({', '.join(texts)})")


def tile(op: Op) -> None:
    """Repeated along its axes."""
    repeats = op.elements(1)
    if op.version < 6 or repeats is None:
        raise op.refuse("its repeats are known only when the network runs")
    op.put(f"{op.text(0)}.repeat({', '.join(op.size(n) for n in repeats)})")


def pad(op: Op) -> None:
    """More at the ends of axes: a number, or what is there already."""
    rank = op.rank(0)
    if op.version < 11:
        pads: list[int] | None = [int(n) for n in op.attribute("pads" if op.version > 1 else "paddings")]
        value = scalar_text(op.attribute("value", 0.0), op.dtype(0))
    else:
        pads = op.integers(1, "pads")
        value = (op.scalar(2) or f"{op.text(2)}.item()") if op.has(2) else scalar_text(0, op.dtype(0))
    axes = op.integers(3, "axes", list(range(rank))) if op.version >= 18 else list(range(rank))
    assert pads is not None
    assert axes is not None
    ends = {(a + rank if a < 0 else a): (pads[i], pads[i + len(axes)]) for i, a in enumerate(axes)}
    sides = [ends.get(a, (0, 0)) for a in range(rank)]
    mode = op.attribute("mode", "constant")
    first = next((a for a, side in enumerate(sides) if any(side)), rank)
    given = tuple_literal([n for side in sides[first:][::-1] for n in side])
    if first == rank:
        op.put(op.text(0))
    elif mode == "constant":
        extra = "" if value in ("0.0", "0", "False") else f", value={value}"
        op.put(f"F.pad({op.text(0)}, {given}{extra})")
    elif rank - 2 <= first and rank in (3, 4, 5) and min(n for side in sides for n in side) >= 0:
        # PyTorch pads so only the axes behind batch and channels, all of them.
        whole = tuple_literal([n for side in sides[2:][::-1] for n in side])
        name = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode]
        op.put(f'F.pad({op.text(0)}, {whole}, mode="{name}")')
    else:
        raise op.refuse(f"PyTorch does not pad so in mode '{mode}' along the first axes")


def shape_of(op: Op) -> None:
    """The shape as a tensor."""
    start, end = op.attribute("start", 0), op.attribute("end")
    cut = f"[{start or ''}:{'' if end is None else end}]" if start or end is not None else ""
    op.put(f"torch.tensor({op.text(0)}.shape{cut})")


def size_of(op: Op) -> None:
    """How many elements there are."""
    op.put(f"torch.tensor({op.text(0)}.numel())")


def constant_of_shape(op: Op) -> None:
    """One number everywhere."""
    stated = op.attribute("value")
    number, dtype = (0.0, "float32") if stated is None else (stated.numpy().reshape(-1)[0], op.out().dtype or "float32")
    sizes = op.elements(0)
    shape = tuple_literal([op.size(n) for n in sizes]) if sizes is not None else f"{op.text(0)}.tolist()"
    last = "" if dtype in ("float32", "int64", "bool") else f", dtype=torch.{dtype}"
    op.put(f"torch.full({shape}, {scalar_text(number, dtype)}{last})")


def range_(op: Op) -> None:
    """Numbers from one to another in equal steps."""
    parts = []
    for i in range(3):
        known = op.elements(i)
        parts.append(op.scalar(i) or (op.size(known[0]) if known else f"{op.text(i)}.item()"))
    op.put(f"torch.arange({', '.join(parts)}, dtype=torch.{op.out().dtype or 'int64'})")


def depth_to_space(op: Op) -> None:
    """Channels moved into height and width, in one of two orders."""
    block = int(op.attribute("blocksize"))
    x = op.text(0)
    if op.attribute("mode", "DCR") == "CRD":
        op.put(f"F.pixel_shuffle({x}, {block})")
        return
    channels, height, width = op.static(0, [1, 2, 3])
    inner = channels // (block * block)
    parts = op.let(f"{x}.reshape(-1, {block}, {block}, {inner}, {height}, {width})", "blocks")
    moved = op.let(f"{parts}.permute(0, 3, 4, 1, 5, 2)", "moved")
    op.put(f"{moved}.reshape(-1, {inner}, {height * block}, {width * block})")


def space_to_depth(op: Op) -> None:
    """Blocks of height and width moved into the channels."""
    block = int(op.attribute("blocksize"))
    if op.attribute("mode", "DCR") == "CRD":
        op.put(f"F.pixel_unshuffle({op.text(0)}, {block})")
        return
    channels, height, width = op.static(0, [1, 2, 3])
    h, w = height // block, width // block
    parts = op.let(f"{op.text(0)}.reshape(-1, {channels}, {h}, {block}, {w}, {block})", "blocks")
    moved = op.let(f"{parts}.permute(0, 3, 5, 1, 2, 4)", "moved")
    op.put(f"{moved}.reshape(-1, {channels * block * block}, {h}, {w})")


def trilu(op: Op) -> None:
    """The upper or the lower triangle."""
    diagonal = op.scalar(1) if op.has(1) else "0"
    if diagonal is None:
        raise op.refuse("its diagonal is known only when the network runs")
    op.put(f"torch.{'triu' if op.attribute('upper', 1) else 'tril'}({op.text(0)}, {diagonal})")
