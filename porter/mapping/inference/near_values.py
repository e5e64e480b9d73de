"""Matching by values that are near: another state of the same training, or roundings that cannot be undone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from porter.mapping.inference.digits import merged, moved
from porter.mapping.inference.entries import Entry, castable
from porter.mapping.inference.equal_values import form_of
from porter.mapping.inference.layouts import SAME, USUAL, Layout
from porter.mapping.inference.state import Match, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 0.05
"""How far apart tensors are at most to be taken for the same: the root mean square of the difference, as a share of that of B."""

NOT_EQUAL = "values near, not equal"

FEWEST = 8
"""Elements below which being near is no evidence."""


def match_near(state: State) -> None:
    """Match what is left of float tensors with what is nearest to it, where both are each other's nearest.

    Reads each of them once, and pairs of candidates once for each layout that their shapes allow.
    """
    sides = [defaultdict[int, list[Entry]](list), defaultdict[int, list[Entry]](list)]
    for side, left in zip(sides, (state.left_a, state.left_b), strict=True):
        for entry in left.values():
            if entry.dtype.kind == "float" and entry.size >= FEWEST:
                side[entry.size].append(entry)
    for size, ours in sides[0].items():
        theirs = sides[1].get(size, [])
        for a, b in _nearest(ours, theirs) if theirs else []:
            layout = _layout(a, b) if b.name in state.left_b else None
            if layout is None:
                continue
            target = b.dtype if castable(a.dtype, b.dtype) else None
            state.add(Match((a.name,), (b.name,), form_of(layout, a.dtype, target), 0.8, NOT_EQUAL))


def _nearest(ours: list[Entry], theirs: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Pairs whose values are spread alike, each the other's nearest."""
    import numpy as np

    one, other = (np.stack([_spread(e) for e in side]) for side in (ours, theirs))
    nearest = list[tuple[int, float]]()
    closest = np.full(len(theirs), np.inf)
    for row in one:
        apart = np.nan_to_num(np.abs(other - row).max(1), nan=np.inf)
        nearest.append((int(apart.argmin()), float(apart.min())))
        closest = np.minimum(closest, apart)
    return [(a, theirs[j]) for a, (j, apart) in zip(ours, nearest, strict=True) if apart < 2 * NEAR and apart == closest[j]]


def _spread(entry: Entry) -> NDArray[Any]:
    """Where the values lie, whatever their order, as shares of their size: mean and quantiles; NaN where they are all alike, which
    says nothing.
    """
    import numpy as np

    values = np.asarray(entry.array().reshape(-1), np.float64)
    size = np.sqrt((values * values).mean())
    if not np.isfinite(size) or values.min() == values.max():
        return np.full(10, np.nan)
    spread: NDArray[Any] = np.array([values.mean() / size, *(np.quantile(values, np.linspace(0.02, 0.98, 8)) / size), np.log(size)])
    return spread


def _layout(a: Entry, b: Entry) -> Layout | None:
    """The layout in which the values are nearest, if that is near enough."""
    import numpy as np

    source, target = (np.asarray(e.array().reshape(-1), np.float64) for e in (a, b))
    size = np.sqrt((target * target).mean())
    best: Layout | None = None
    least = NEAR
    for layout in ([SAME] if a.shape == b.shape else []) + [x for x in USUAL if x.digits(a.shape, b.shape) is not None]:
        digits = merged(((a.size, 1),)) if layout is SAME else layout.digits(a.shape, b.shape)
        assert digits is not None
        difference = moved(source, digits) - target.reshape([n for n, _ in reversed(digits)])
        apart = float(np.sqrt((difference * difference).mean()) / size) if size else np.inf
        if apart < least:
            best, least = layout, apart
    return best
