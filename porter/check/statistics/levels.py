"""How often each value occurs, as counts of the upper 16 bits of every number: histograms and quantiles come from them.

Types of at most 16 bits are counted value by value. float32 is counted by the upper half of its bits, which is a bfloat16;
float64, and integers of 32 and 64 bits as float64, by sign, exponent and 4 bits of the mantissa. A *level* is one such code: the
numbers from its edge up to the next, away from zero. Infinities and NaNs are no levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.encodings import lane_type, values
from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]


_FINEST = {64: -1026, 32: -133} | dict.fromkeys(range(17), -1074)
"""The exponent of 2 of the width of the levels at zero, by the carrier's bits; any for types whose levels are single numbers."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Finite numbers by level, in ascending order of value; levels that nothing is in are left out.

    code: the levels' codes. edge: the number of each nearest to zero, float64, −0.0 for the negative level at zero. count: how many
    numbers there are. exact: whether a level is a single number. finest: the exponent of 2 of the width of the levels at zero.
    """

    code: NDArray[np.int64]
    edge: Floats
    count: Counts
    exact: bool
    finest: int

    @property
    def total(self) -> int:
        """How many numbers there are in all levels."""
        return int(self.count.sum())


class LevelCounts:
    """Counts the levels of the blocks of one tensor."""

    def __init__(self, dtype: DType) -> None:

        self._carrier = carrier(dtype)
        self._levels = 1 << min(self._carrier.bits, 16)
        self._only: tuple[NDArray[Any], Counts] | None = None
        self._counts: Counts | None = None

    def add(self, block: NDArray[Any]) -> None:
        """Count a block as `reading.blocks` gives it."""
        import numpy as np

        upper = upper_bits(block, self._carrier)
        if upper.size >= self._levels >> 3:
            counts = self._all()
            counts += np.bincount(upper.astype(np.intp), minlength=self._levels)
            return
        few = np.unique(upper, return_counts=True)
        if self._only is None and self._counts is None:
            # A small tensor is one block: to look through all levels would take longer than to count it.
            self._only = few
        else:
            self._all()[few[0]] += few[1]

    def _all(self) -> Counts:
        """The counts of all levels."""
        import numpy as np

        if self._counts is None:
            self._counts = np.zeros(self._levels, np.int64)
            if self._only is not None:
                self._counts[self._only[0]] = self._only[1]
                self._only = None
        return self._counts

    def add_levels(self, levels: Levels) -> None:
        """Count what was counted elsewhere, by the edges of its levels; magnitudes beyond this type's take its largest level."""
        import numpy as np

        largest = np.float64(np.finfo(np.float32).max)
        with np.errstate(under="ignore"):
            edge = np.clip(levels.edge, -largest, largest)
            nearer = edge.astype(np.float32)
            nearer = np.where(np.abs(nearer) > np.abs(edge), np.nextafter(nearer, np.float32(0)), nearer)
        np.add.at(self._all(), upper_bits(nearer, self._carrier), levels.count)

    def result(self) -> Levels:
        """What was counted."""
        import numpy as np

        if self._only is not None:
            return levels_of(*self._only, self._carrier)
        counts = self._all()
        code = np.flatnonzero(counts)
        return levels_of(code, counts[code], self._carrier)


def carrier(dtype: DType) -> DType:
    """The type whose codes are counted for numbers of `dtype`."""
    lane = lane_type(dtype)
    return lane if lane.bits <= 16 or lane.name == "float32" else DTYPES["float64"]


def levels_of(code: NDArray[Any], count: Counts, kind: DType) -> Levels:
    """The levels of these codes of the carrier `kind`, and how many numbers each has."""
    import numpy as np

    edge = edges(code, kind)
    finite = np.isfinite(edge)
    code, edge, count = code[finite], edge[finite], count[finite]
    # Of two zeros the negative one comes first.
    order = np.lexsort((~np.signbit(edge), edge))
    return Levels(code[order].astype(np.int64), edge[order], count[order], kind.bits <= 16, _FINEST[kind.bits])


def edges(code: NDArray[Any], kind: DType) -> Floats:
    """The number nearest to zero of each level."""
    import numpy as np

    if kind.bits <= 16:
        return values(code.astype(np.uint8 if kind.bits <= 8 else np.uint16), kind)
    whole = code.astype(np.uint64) << np.uint64(kind.bits - 16)
    with np.errstate(invalid="ignore"):  # NaNs, which are left out
        return whole.astype(f"<u{kind.itemsize}").view(kind.numpy()).astype(np.float64)


def carried(block: NDArray[Any], kind: DType) -> NDArray[Any]:
    """The bits of a block's numbers in the carrier's type, unsigned."""
    import numpy as np

    if kind.kind == "float" and kind.bits <= 16:
        # Exact: the block holds numbers of this type, widened.
        with np.errstate(invalid="ignore"):
            narrow = np.asarray(block.astype(kind.numpy()))
        return narrow.view(np.uint8 if kind.bits <= 8 else np.uint16)
    if kind.name == "float64" and block.dtype.kind != "f":
        block = block.astype(np.float64)
    return block.view(f"<u{kind.itemsize}")


def upper_bits(block: NDArray[Any], kind: DType) -> NDArray[Any]:
    """The codes that are counted."""
    import numpy as np

    if kind.bits > 16:
        whole = carried(block, kind)
        return whole.view(np.uint16)[kind.bits // 16 - 1 :: kind.bits // 16]
    bits = carried(block, kind)
    return bits & np.uint8((1 << kind.bits) - 1) if kind.packed else bits


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Values below which certain parts of the finite numbers lie, as numpy's "linear" method has them.

    probability: the parts, ascending. value: float64, or one of the tensor's integers as it is. error: how far, as a part of itself, a
    value may be too near to zero; 0 where they are exact.
    """

    probability: tuple[float, ...]
    value: tuple[float, ...]
    error: float


def ranks(total: int, probability: Sequence[float]) -> list[tuple[int, int, float]]:
    """For each part the places of the two numbers, from 0, that its quantile lies between, and how far on the way."""
    found = []
    for part in probability:
        at = part * (total - 1)
        low = min(math.floor(at), total - 1)
        found.append((low, min(low + 1, total - 1), at - low))
    return found


def quantiles(levels: Levels, probability: Sequence[float], refine: Refine | None = None) -> Quantiles | None:
    """The quantiles of what is counted; `refine` tells the numbers at given places where levels hold more than one each."""
    total = levels.total
    if not total:
        return None
    places = ranks(total, probability)
    wanted = sorted({place for low, high, _ in places for place in (low, high)})
    error = 0.0
    if levels.exact or refine is None:
        found: Sequence[float] = _at(levels, wanted)
        error = 0.0 if levels.exact else 2.0**-7
    else:
        found, error = refine(wanted)
    at = dict(zip(wanted, found, strict=True))
    return Quantiles(tuple(probability), tuple([between(at[low], at[high], way) for low, high, way in places]), error)


Refine = Callable[[Sequence[int]], tuple[Sequence[float], float]]


def between(a: float, b: float, way: float) -> float:
    """The point between `a` and `b`; from the nearer end, as numpy computes it, and never beyond one."""
    if a == b or not way:
        return a
    return max(a, min(b, b - (b - a) * (1 - way) if way >= 0.5 else a + (b - a) * way))


def _at(levels: Levels, places: Sequence[int]) -> list[float]:
    import numpy as np

    which = np.searchsorted(levels.count.cumsum(), places, "right")
    return [float(x) for x in levels.edge[which]]


def refined(levels: Levels, kind: DType, blocks: Iterable[NDArray[Any]], places: Sequence[int]) -> tuple[list[float], float]:
    """The numbers at `places` among all finite ones in order, from a second look at the blocks: by the next 16 bits of the levels
    that they lie in. Exact for float32; of float64 the 32 bits of the mantissa that are left are taken as zeros.
    """
    import numpy as np

    ends = levels.count.cumsum()
    which = np.searchsorted(ends, places, "right")
    chosen = sorted(set(which.tolist()))
    wanted, slot = np.zeros(1 << 16, np.bool_), np.zeros(1 << 16, np.intp)
    wanted[levels.code[chosen]] = True
    slot[levels.code[chosen]] = np.arange(len(chosen))
    counts = np.zeros((len(chosen), 1 << 16), np.int64)
    parts = kind.bits // 16
    for block in blocks:
        halves = carried(block, kind).view(np.uint16)
        upper = halves[parts - 1 :: parts]
        here = np.flatnonzero(wanted.take(upper, mode="clip"))
        pair = slot[upper[here]] << 16 | halves[parts - 2 :: parts][here]
        if pair.size < counts.size >> 4:
            found, count = np.unique(pair, return_counts=True)
            counts.reshape(-1)[found] += count
        else:
            counts += np.bincount(pair, minlength=counts.size).reshape(counts.shape)
    out = []
    for place, level in zip(places, which.tolist(), strict=True):
        row_counts = counts[chosen.index(level)]
        code = int(levels.code[level])
        negative = code >> 15
        within = place - int(ends[level] - levels.count[level])
        # Larger codes are farther from zero: the first of negative numbers.
        at = int(np.searchsorted((row_counts[::-1] if negative else row_counts).cumsum(), within, "right"))
        low = 0xFFFF - at if negative else at
        whole = (code << 16 | low) << (kind.bits - 32)
        out.append(float(np.array([whole], f"<u{kind.itemsize}").view(kind.numpy())[0]))
    return out, 0.0 if kind.bits == 32 else 2.0**-20


def sorted_at(block: NDArray[Any], places: Sequence[int]) -> list[float]:
    """The numbers at `places` among the finite ones of a whole tensor in order; of integers as they are."""
    import numpy as np

    finite = block[np.isfinite(block)] if block.dtype.kind == "f" else block
    return list(np.partition(finite, places)[np.asarray(places)].tolist())
