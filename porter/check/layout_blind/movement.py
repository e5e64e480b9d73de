"""How the elements of one tensor stand in another: as steps that people know, and as orders of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.check.layout_blind.permutations import permuted
from porter.check.layout_blind.records import Step
from porter.dataclass import dataclass
from porter.mapping.inference.entries import Entry
from porter.mapping.inference.equal_values import flipped, layout_between
from porter.mapping.inference.layouts import SAME, Layout
from porter.mapping.render import axes_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPATIAL = frozenset("dhw")

_RGB = (2, 1, 0)

Orders = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """The steps that move A's elements to B's places; orders: by axis of B, those of channels."""

    steps: tuple[Step, ...] = ()
    orders: Orders = ()


def between(source: NDArray[Any], target: NDArray[Any], a: Entry, b: Entry, channels: frozenset[int]) -> Moved | None:
    """How the flat codes `source`, of A's shape, become the flat codes `target`, of B's shape; None where nothing known explains it."""
    vectors = _rank(a.shape) < 2 and _rank(b.shape) < 2
    layout = None if vectors and not _same(source, target) else layout_between(source, target, a, b, channels)
    if layout is not None:
        return Moved(layout_steps(layout, a.shape, b.shape))
    found = _reordered(source, target, a.shape, b.shape) if vectors or _rank(a.shape) == _rank(b.shape) else None
    if found is None and not vectors:
        # Also where a reshape hides the axes.
        layout, axes = flipped(source, target, a, b, channels)
        found = turned(layout, axes, a.shape, b.shape) if layout is not None else None
    return found or _reordered(source, target, a.shape, b.shape)


def _same(source: NDArray[Any], target: NDArray[Any]) -> bool:
    import numpy as np

    return np.array_equal(source, target)


def _rank(shape: Sequence[int]) -> int:
    return sum(n != 1 for n in shape)


def layout_steps(layout: Layout, a: Sequence[int], b: Sequence[int]) -> tuple[Step, ...]:
    """What a layout does between these shapes."""
    if layout == SAME:
        return () if tuple(a) == tuple(b) else (_reshape(a, b),)
    if not layout.moves_elements(a, b):
        return (_reshape(a, b),) if tuple(a) != tuple(b) else ()
    source, target = (_pattern(axes_text(axes)) for axes in layout.axes())
    detail = {"from": source, "to": target, **({"where": dict(layout.where)} if layout.where else {})}
    where = f" where {', '.join(f'{k}={v}' for k, v in layout.where)}" if layout.where else ""
    return (Step("layout", f"{source} -> {target}{where}", detail),)


def _pattern(text: str) -> str:
    """`OIHW` where every dimension is one axis, else as maps write it."""
    words = text.split()
    return "".join(words).upper() if all(len(w) == 1 for w in words) else text


def _reshape(a: Sequence[int], b: Sequence[int]) -> Step:
    one, other = ("×".join(map(str, shape)) or "scalar" for shape in (a, b))
    return Step("reshape", f"{one} -> {other}", {"from": list(a), "to": list(b)})


def turned(layout: Layout, axes: Sequence[int], a: Sequence[int], b: Sequence[int]) -> Moved:
    """A layout of what is turned round along `axes` of A: kernels are flipped, channels permuted."""
    letters = _letters(layout, a)
    kernel = [axis for axis in axes if letters[axis] in SPATIAL]
    steps = list(layout_steps(layout, a, b))
    if kernel:
        name = "".join(letters[axis] for axis in kernel).upper()
        steps.insert(0, Step("flip", f"kernel flipped along {name}", {"axes": list(kernel)}))
    orders = []
    for axis in axes:
        if axis in kernel:
            continue
        place = _place(layout, axis, a, b)
        order = tuple(range(a[axis]))[::-1]
        if letters[axis] == "i" and len(order) == 3:
            steps.append(channel_order(axis))
        elif place is None:
            steps.insert(0, Step("flip", f"axis {axis} turned round", {"axes": [axis]}))
        else:
            orders.append((place, order))
    return Moved(tuple(steps), tuple(orders))


def channel_order(axis: int) -> Step:
    """Three input channels in the other order."""
    return Step("channel order", "RGB <-> BGR on the inputs", {"axis": axis})


def _letters(layout: Layout, shape: Sequence[int]) -> list[str]:
    """A letter for each dimension of A: the layout's, or those that its shape suggests."""
    if layout != SAME and all(len(axes) < 2 for axes in layout.source):
        return [axes[0] if axes else "1" for axes in layout.source]
    return list(letters_of(shape))


def letters_of(shape: Sequence[int]) -> str:
    """The axes of a kernel of this shape, by which sizes are alike: a window comes first (Keras) or last (Caffe, PyTorch).

    Where both may be, it comes last.
    """
    window = "hw" if len(shape) == 4 else "dhw" if len(shape) == 5 else "w" if len(shape) == 3 else ""
    first = len(set(shape[: len(window)])) == 1 and len(set(shape[2:])) > 1
    if not window or len(shape) < 3:
        return "oi"[: len(shape)] + "x" * (len(shape) - 2)
    return window + "io" if first else "oi" + window


def _place(layout: Layout, axis: int, a: Sequence[int], b: Sequence[int]) -> int | None:
    """The dimension of B that one of A has become, None where it is none of its own."""
    if layout == SAME:
        return axis
    held = layout.source[axis]
    return next((i for i, axes in enumerate(layout.target) if axes == held and b[i] == a[axis]), None)


def _reordered(source: NDArray[Any], target: NDArray[Any], a: Sequence[int], b: Sequence[int]) -> Moved | None:
    """Channels permuted, dimensions of one left out."""
    ours, theirs = [n for n in a if n != 1], [n for n in b if n != 1]
    shaped = source.reshape(ours if sorted(ours) == sorted(theirs) else theirs)
    found = permuted(shaped, target.reshape(theirs))
    if found is None:
        return None
    places = [i for i, n in enumerate(b) if n != 1]
    letters = letters_of(b)
    steps = []
    if list(found.axes) != sorted(found.axes):
        names = "".join(letters_of(shaped.shape)).upper()
        to = "".join(names[axis] for axis in found.axes)
        steps.append(Step("layout", f"{names} -> {to}", {"from": names, "to": to}))
        letters = to.lower() if len(places) == len(b) else letters
    elif tuple(a) != tuple(b):
        steps.append(_reshape(a, b))
    orders, flips = [], []
    for place, order in zip(places, found.orders, strict=True):
        if order is None:
            continue
        if letters[place] in SPATIAL and order == tuple(reversed(range(len(order)))):
            flips.append(place)
        elif order == _RGB and letters[place] == "i":
            steps.append(channel_order(place))
        else:
            orders.append((place, order))
    if flips:
        steps.append(Step("flip", f"kernel flipped along {''.join(letters[p] for p in flips).upper()}", {"axes": list(flips)}))
    return Moved(tuple(steps), tuple(orders))
