"""Tensors that are another, multiplied by one number: 1/255, 0.017, -1, or whatever it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.check.layout_blind.movement import Moved, between, layout_steps
from porter.check.layout_blind.records import Step
from porter.mapping.inference.digits import merged, moved
from porter.mapping.inference.entries import Entry, codes
from porter.mapping.inference.layouts import SAME, USUAL
from porter.mapping.ops.rounding import rounded, widened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 8
"""Elements below which one factor is no evidence."""

ULP = 2
"""How far B may be from a multiple of A, in units of the last place: a product that was rounded, by a factor that was."""

_ALIKE, _ALIKE_NARROW = 1e-5, 1e-2
"""How far profiles may be apart, in float32 and in narrower types."""


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


def alike(one: NDArray[np.float64], other: NDArray[np.float64], bits: int) -> bool:
    """Whether two profiles may be of multiples of each other; `bits` of the narrower type."""
    import numpy as np

    limit = _ALIKE if bits >= 32 else _ALIKE_NARROW
    return bool((np.abs(one[:-1] - other[:-1]) <= limit * np.maximum(1, np.abs(other[:-1]))).all())


def scaled(a: Entry, b: Entry, size: float, channels: frozenset[int]) -> tuple[Moved, Step] | None:
    """How A's elements, multiplied by about plus or minus `size`, stand in B, and the factor; None where they do not."""
    import numpy as np

    source, target = widened(a.array().reshape(-1), a.dtype), codes(b.array())
    for factor, text in (pair for sign in (1, -1) for pair in _simple(sign * size, min(a.dtype.bits, b.dtype.bits))):
        # What is divided is not what is multiplied by the reciprocal.
        ways = [source * factor, source * float(np.float32(factor)), *([source / (1 / factor)] if abs(factor) < 1 else [])]
        for made in ways:
            values = codes(rounded(made, b.dtype)[0])
            found = between(values, target, a, b, channels) if _same_numbers(values, target) else None
            if found is not None:
                return found, Step("scale", f"× {text}", {"factor": factor, "ulp": 0})
    return _near(source, a, b)


def _same_numbers(one: NDArray[Any], other: NDArray[Any]) -> bool:
    import numpy as np

    return np.array_equal(np.sort(one), np.sort(other))


def _simple(factor: float, bits: int) -> Iterator[tuple[float, str]]:
    """Numbers of few digits near `factor`, or whose reciprocals are."""
    near = 1e-6 if bits >= 32 else 1e-3
    seen = set[float]()
    for digits in range(1, 6):
        for value, text in ((float(f"{factor:.{digits}g}"), "{:g}"), (float(f"{1 / factor:.{digits}g}"), "1/{:g}")):
            exact = value if text == "{:g}" else 1 / value
            if abs(exact - factor) <= near * abs(factor) and exact not in seen:
                seen.add(exact)
                yield exact, text.format(value)


def _near(source: NDArray[np.float64], a: Entry, b: Entry) -> tuple[Moved, Step] | None:
    """Within some units of the last place, in a layout that frameworks use."""
    import numpy as np

    target = widened(b.array().reshape(-1), b.dtype)
    plain = [SAME] if a.shape == b.shape else []
    unit = _units(target, b)
    for layout in (*plain, *USUAL):
        digits = merged(((a.size, 1),)) if layout == SAME else layout.digits(a.shape, b.shape)
        if digits is None:
            continue
        laid = moved(source, digits).reshape(-1)
        factor = float(np.dot(laid, target) / np.dot(laid, laid))
        apart = float((np.abs(laid * factor - target) / unit).max())
        if apart <= ULP:
            text = f"× {factor:.7g}, within {max(1, math.ceil(apart))} ULP"
            return Moved(layout_steps(layout, a.shape, b.shape)), Step("scale", text, {"factor": factor, "ulp": math.ceil(apart)})
    return None


def _units(target: NDArray[np.float64], b: Entry) -> NDArray[np.float64]:
    """A unit in the last place of each element of B."""
    import numpy as np

    return np.asarray(np.spacing(np.maximum(np.abs(target), np.finfo(np.float32).tiny).astype(b.dtype.numpy())).astype(np.float64))


def divided(a: Entry, by: float, b: Entry) -> float | None:
    """How many units in the last place B is from A divided by `by`, if it is at most `ULP`."""
    import numpy as np

    source, target = (widened(e.array().reshape(-1), e.dtype) for e in (a, b))
    apart = float(np.max(np.abs(source / by - target) / _units(target, b), initial=0.0))
    return apart if apart <= ULP else None
