"""Tensors that are another, multiplied by one number and rounded: 1/255, 0.017, -1, or whatever it is.

Products keep the order of the numbers. So both sides are put in order, and each pair says between which two numbers the factor must
lie for the product to be rounded to what is there; a factor that lies between them all is then tried bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.check.layout_blind.movement import Moved, between
from porter.check.layout_blind.records import Step
from porter.check.layout_blind.roundings import Narrowing, candidates, spare_bits
from porter.check.layout_blind.translation import type_steps
from porter.dataclass import dataclass
from porter.io.float_layouts import FLOAT_LAYOUTS
from porter.mapping.inference.entries import Entry, codes
from porter.mapping.ops.rounding import rounded, widened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 8
"""Elements below which one factor is no evidence."""

ULP = 2
"""How far statistics may be from a multiple of A, in units of the last place: Caffe divides by the reciprocal, in float32."""

_ALIKE, _ALIKE_NARROW = 1e-5, 1e-2
"""How far profiles may be apart, in float32 and in narrower types."""

_TWICE = 1 + 2.0**-9
"""What half a unit in the last place grows to where a product is rounded twice: to A's type, then to B's."""

_ONE = 4
"""Units in the last place within which a factor is taken for 1: what differs in last bits alone is no multiple."""


def profile(entry: Entry) -> NDArray[np.float64] | None:
    """Numbers that neither the order of the elements nor a factor changes, then the root of the mean square; None where there are none."""
    import numpy as np

    x = widened(entry.array().reshape(-1), entry.dtype)
    magnitude = np.abs(x)
    largest = float(magnitude.max(initial=0.0))
    if not math.isfinite(largest) or not largest or x.min() == x.max():
        return None
    unit = x / largest
    square = float(np.dot(unit, unit)) / x.size
    cubes = float(np.dot(unit * unit, unit)) / x.size
    size = math.sqrt(square)
    return np.array([np.abs(unit).mean() / size, abs(unit.mean()) / size, size, abs(cubes) / size**3, size * largest])


def alike(one: NDArray[np.float64], others: NDArray[np.float64], narrow: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each row of `others` whether it may be the profile of a multiple; `narrow`: where either has fewer bits than float32."""
    import numpy as np

    limit = np.where(narrow, _ALIKE_NARROW, _ALIKE)[:, None]
    near = np.abs(others[:, :-1] - one[:-1]) <= limit * np.maximum(1, np.abs(others[:, :-1]))
    return np.asarray(near.all(1))


def narrow(entry: Entry) -> bool:
    """Whether its elements have fewer bits than float32's, or have spare ones."""
    return entry.dtype.bits < 32 or spare_bits(entry) > 0


@dataclass(frozen=True, slots=True)
class Scaled:
    """A multiple that was found: how its elements moved, the number, and how products were rounded."""

    moved: Moved
    factor: float
    text: str
    rounding: tuple[Step, ...]

    def steps(self, *, swapped: bool) -> list[Step]:
        """What was multiplied, and rounded. swapped: it is A that is made of B."""
        if swapped:
            return [Step("scale", f"A is B × {self.text}", {"factor": self.factor, "of": "b"}), *self.rounding]
        return [Step("scale", f"× {self.text}", {"factor": self.factor, "of": "a"}), *self.rounding]


def scaled(a: Entry, b: Entry, channels: frozenset[int], *, swapped: bool = False) -> Scaled | None:
    """How A's elements, multiplied by a number and rounded, stand in B; None where they do not. swapped: it is A that is made of B."""
    import numpy as np

    source, target = widened(a.array().reshape(-1), a.dtype), codes(b.array())
    there, spare = widened(b.array().reshape(-1), b.dtype), spare_bits(b)
    ordered = np.sort(there)
    for sign in (1, -1):
        ends = _ends(np.sort(sign * source), ordered, b, spare)
        for factor, text in _factors(*ends, sign, _precision(b, spare)) if ends is not None else ():
            for values, steps in _products(source, factor, a, b, spare):
                made = codes(values)
                found = _placed(made, target, a, b, channels, swapped) if np.array_equal(np.sort(made), np.sort(target)) else None
                if found is not None:
                    return Scaled(found, factor, text, steps)
    return None


def _placed(made: NDArray[Any], target: NDArray[Any], a: Entry, b: Entry, channels: frozenset[int], swapped: bool) -> Moved | None:
    return between(target, made, b, a, channels) if swapped else between(made, target, a, b, channels)


def _precision(entry: Entry, spare: int) -> int:
    """How many bits the fractions of its elements have."""
    return FLOAT_LAYOUTS[entry.dtype.name].mantissa_bits - spare


def _ends(source: NDArray[np.float64], target: NDArray[np.float64], b: Entry, spare: int) -> tuple[float, float] | None:
    """Between which factors the one must lie that makes `target` of `source`, both in order; None where no factor does."""
    import numpy as np

    if np.any((source == 0) & (target != 0)):
        return None
    layout = FLOAT_LAYOUTS[b.dtype.name]
    used = (source != 0) & np.isfinite(target)
    x, y = source[used], target[used]
    exponent = np.maximum(np.frexp(y)[1] - 1, 1 - layout.bias)
    half = np.ldexp(0.5 * _TWICE, exponent - (layout.mantissa_bits - spare))
    one, other = (y - half) / x, (y + half) / x
    low, high = float(np.minimum(one, other).max(initial=-math.inf)), float(np.maximum(one, other).min(initial=math.inf))
    return (low, high) if 0 < high < math.inf and low <= high else None


def _factors(low: float, high: float, sign: int, bits: int) -> Iterator[tuple[float, str]]:
    """Numbers between `low` and `high`, those that people write first: of few digits, or whose reciprocals are."""
    import numpy as np

    middle = (max(low, 0.0) + high) / 2
    if abs(middle - 1) <= _ONE * 2.0**-bits:
        if sign < 0:
            yield -1.0, "-1"
        return
    for digits in range(1, 7):
        value, below = float(f"{middle:.{digits}g}"), float(f"{1 / middle:.{digits}g}")
        if low <= value <= high:
            yield sign * value, f"{sign * value:g}"
            break
        if below and low <= 1 / below <= high:
            yield sign / below, f"1/{sign * below:g}"
            break
    for value in (float(np.float32(middle)), middle):
        if low <= value <= high:
            yield sign * value, f"{sign * value:.7g}"


def _products(
    source: NDArray[np.float64], factor: float, a: Entry, b: Entry, spare: int
) -> Iterator[tuple[NDArray[Any], tuple[Step, ...]]]:
    """What multiplying makes, in B's type, and how it is rounded: to that type alone, or to fewer bits."""
    import numpy as np

    ways: list[Narrowing | None] = [None, *(candidates(a, b, spare) if spare else ())]
    # What is divided is not what is multiplied by the reciprocal.
    wide = [source * factor, source * float(np.float32(factor)), *([source / (1 / factor)] if abs(factor) < 1 else [])]
    if a.dtype.bits < 64:
        wide += [widened(rounded(x, a.dtype)[0], a.dtype) for x in wide]
    for way in ways:
        steps = tuple(type_steps(a.dtype, b.dtype)) if way is None else (way.step(),)
        for values in wide:
            yield rounded(values if way is None else way.values(values), b.dtype)[0], steps


def divided(a: Entry, by: float, b: Entry) -> float | None:
    """How many units in the last place B is from A divided by `by`, if it is at most `ULP`."""
    import numpy as np

    source, target = (widened(e.array().reshape(-1), e.dtype) for e in (a, b))
    unit = np.spacing(np.maximum(np.abs(target), np.finfo(np.float32).tiny).astype(b.dtype.numpy())).astype(np.float64)
    apart = float(np.max(np.abs(source / by - target) / unit, initial=0.0))
    return apart if apart <= ULP else None
