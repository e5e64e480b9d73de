"""How far two values are apart: the numbers of one row of a comparison. Streamed block by block, in float64.

- The scale is the largest finite magnitude of A's value; what is relative is a part of it (of 1 where it is 0).
- A NaN agrees with a NaN, whatever its bits, and an infinity with itself; no tolerance helps where one side alone has them.
- The SNR is 10 · log10(Σ a² / Σ (a − b)²), over elements that are finite on both sides.
- Integers and booleans have to be equal, and so does text.
- ULP, the cosine and the largest |Δ| are `porter.check.difference`'s.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.check.difference import BLOCK, Tolerance, measure
from porter.dataclass import dataclass
from porter.tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Of a value's largest magnitude: float32 in another order of sums stays well below."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What lies between two values of the same number of elements.

    count: how many were compared. max_abs: the largest |Δ| of finite elements. scale: see above. max_ulp: in float32's units for float32.
    cosine: None where one side is all zeros. snr: in dB, infinite where they are equal. apart: elements that are NaN or infinite on one
    side alone. beyond: elements outside the tolerance. first: flat index among the compared of the first of these, None where none is;
    first_a, first_b: what is there. hollow: whether A has no finite element, so that being equal says nothing.
    """

    count: int
    max_abs: float
    scale: float
    max_ulp: int
    cosine: float | None
    snr: float
    apart: int
    beyond: int
    first: int | None = None
    first_a: float | None = None
    first_b: float | None = None
    hollow: bool = False

    @property
    def relative(self) -> float:
        """The largest |Δ| as a part of the scale: the smallest tolerance that passes, infinite where none does."""
        return math.inf if self.apart else self.max_abs / (self.scale or 1.0)

    @property
    def same(self) -> bool:
        """Whether all elements are within the tolerance."""
        return self.beyond == 0


def measured(a: NDArray[Any], b: NDArray[Any], tolerance: float, scale: float | None = None) -> Measured:
    """Lay `b` beside `a`, which has as many elements. scale: of the whole value, where `a` is only a part of it."""
    import numpy as np

    a, b = np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)
    if any(v.dtype.kind in "OSU" for v in (a, b)):
        return _text(a, b)
    real = a.dtype.kind not in "biu" and b.dtype.kind not in "biu"
    if real:
        b = _with_equal_nans(a, b)
    largest = scale_of(a) if scale is None else scale
    hollow = not largest and not np.isfinite(a).any()
    found = measure(Tensor.from_array("a", a), Tensor.from_array("b", b), Tolerance(atol=tolerance * (largest or 1.0) if real else 0.0))
    if found is None:
        return Measured(a.size, 0.0, largest, 0, 1.0 if largest else None, math.inf, 0, 0, hollow=hollow)
    first = found.first if found.beyond else None
    first_a, first_b = (None, None) if first is None else (_number(a[first]), _number(b[first]))
    apart = found.one_nan + found.infinite
    far = float(found.max_abs)
    snr = _snr(a, b, far)
    return Measured(a.size, far, largest, found.max_ulp, found.cosine, snr, apart, found.beyond, first, first_a, first_b, hollow)


def _text(a: NDArray[Any], b: NDArray[Any]) -> Measured:
    """Strings are equal or not."""
    import numpy as np

    differ = np.flatnonzero(a.astype(object) != b.astype(object))
    first, count = (int(differ[0]) if differ.size else None), int(differ.size)
    return Measured(a.size, 0.0, 0.0, 0, None, -math.inf if count else math.inf, count, count, first, hollow=not a.size)


def _number(value: Any) -> float:
    """Large integers are no floats."""
    found: float = value.item() if value.dtype.kind in "iu" else float(value)
    return found


def scale_of(array: NDArray[Any]) -> float:
    """The largest finite magnitude; 0 for no elements."""
    import numpy as np

    flat, largest = array.reshape(-1), 0.0
    for start in range(0, flat.size, BLOCK):
        block = np.abs(flat[start : start + BLOCK].astype(np.float64))
        largest = max(largest, float(block.max(initial=0.0, where=np.isfinite(block))))
    return largest


def _with_equal_nans(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """`b`, its NaNs those of `a` where both have one."""
    import numpy as np

    both = np.isnan(a)
    both &= np.isnan(b)
    if not both.any():
        return b
    return np.where(both, a, b).astype(b.dtype) if a.dtype != b.dtype else np.where(both, a, b)


def _snr(a: NDArray[Any], b: NDArray[Any], largest: float) -> float:
    """largest: |Δ|. Squares of float64 may leave its range: signal and noise have units of their own there."""
    import numpy as np

    wide = a.dtype.itemsize > 4 or b.dtype.itemsize > 4
    units = [_unit(scale_of(a)), _unit(largest)] if wide else [1.0, 1.0]
    signal = noise = 0.0
    for start in range(0, a.size, BLOCK):
        x, y = (v[start : start + BLOCK].astype(np.float64) for v in (a, b))
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(finite, x, 0.0), np.where(finite, y, 0.0)
        # Not by BLAS, whose threads get in the way of those that run the networks.
        signal += float(np.square(x / units[0]).sum())
        noise += float(np.square((x - y) / units[1]).sum())
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) + 20 * math.log10(units[0] / units[1]) if signal else -math.inf


def _unit(largest: float) -> float:
    """A power of two near `largest`, by which nothing is rounded."""
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if 0 < largest < math.inf else 1.0
