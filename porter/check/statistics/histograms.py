"""Histograms whose bins have exact edges and exact counts, on a linear and on a logarithmic scale, from `levels`.

A linear bin's edges are multiples of a power of two, at most 32 on each side of zero: every level lies in one bin whole. A bin
holds its edge nearer to zero, and not the other; zeros of either sign are in the bin from 0 up.

A logarithmic bin is an octave, 2^e up to 2^(e+1), for negative and for positive numbers.
"""

from __future__ import annotations

import math

from porter.check.statistics.levels import Levels
from porter.dataclass import dataclass
from porter.tensor import Json

SIDE = 32
"""Linear bins on each side of zero at most: as many as float64's levels have edges for."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Bins of one width: bin i goes from (first + i) · step to (first + i + 1) · step."""

    step: float
    first: int
    count: tuple[int, ...]

    @property
    def edges(self) -> list[float]:
        """All edges, one more than there are bins."""
        return [(self.first + i) * self.step for i in range(len(self.count) + 1)]

    def to_json(self) -> dict[str, Json]:
        """This histogram as JSON values."""
        return {"step": self.step, "first": self.first, "count": list(self.count)}


@dataclass(frozen=True, slots=True)
class Octaves:
    """Octaves: number i of each side counts magnitudes from 2^(first + i) up to 2^(first + i + 1). `zeros` are in none.

    below: numbers that are not zero, nearer to it than the lowest octave that levels tell apart.
    """

    first: int
    negative: tuple[int, ...]
    positive: tuple[int, ...]
    zeros: int
    below: int = 0

    def to_json(self) -> dict[str, Json]:
        """This histogram as JSON values."""
        return {
            "first": self.first,
            "negative": list(self.negative),
            "positive": list(self.positive),
            "zeros": self.zeros,
            "below": self.below,
        }


def step_for(largest: float, *levels: Levels) -> float:
    """The width of the bins for numbers of at most this magnitude, no finer than the levels are at zero."""
    finest = max(each.finest for each in levels)
    exponent = math.frexp(largest)[1] if largest else 1
    return math.ldexp(1.0, max(exponent - (SIDE.bit_length() - 1), finest))


def linear(levels: Levels, negative_zeros: int, step: float) -> Linear | None:
    """The numbers of `levels`, of which `negative_zeros` are −0, in bins of the width `step`; None where there are none."""
    import numpy as np

    if not levels.total:
        return None
    negative = np.signbit(levels.edge)
    bins = np.floor(np.abs(levels.edge) / step).astype(np.int64)
    count = levels.count - np.where(negative & (levels.edge == 0), negative_zeros, 0)
    bins, count = np.append(np.where(negative, -1 - bins, bins), 0), np.append(count, negative_zeros)
    bins, count = bins[count > 0], count[count > 0]
    first = int(bins.min())
    return Linear(step, first, tuple([int(n) for n in np.bincount(bins - first, weights=count)]))


def octaves(levels: Levels, zeros: int) -> Octaves | None:
    """The numbers of `levels`, of which `zeros` are zero, by powers of two; None where there are none."""
    import numpy as np

    if not levels.total:
        return None
    count = levels.count.copy()
    at_zero = levels.edge == 0
    below = int(count[at_zero].sum()) - zeros
    magnitude, count = levels.edge[~at_zero], count[~at_zero]
    if not count.size:
        return Octaves(0, (), (), zeros, below)
    exponent = np.frexp(magnitude)[1].astype(np.int64) - 1
    first, last = int(exponent.min()), int(exponent.max())
    sides = []
    for side in (np.signbit(magnitude), ~np.signbit(magnitude)):
        filled = np.bincount(exponent[side] - first, weights=count[side], minlength=last - first + 1)
        sides.append(tuple([int(n) for n in filled]))
    return Octaves(first, sides[0], sides[1], zeros, below)
