"""Values that were rounded to a narrower type, whatever type holds them: `float32` tensors may hold nothing but numbers of bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.check.layout_blind.records import Step
from porter.check.precision.rounding import Rounder, limits
from porter.check.precision.targets import TARGETS, Target
from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.mapping.inference.entries import Entry, codes
from porter.mapping.ops.rounding import rounded, widened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TYPES = ("f16", "tf32", "bf16", "f8_e4m3", "f8_e5m2")
"""The types that are tried, those of most bits first."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A way to round. cut: towards zero, as some converters do, not to nearest."""

    target: Target
    cut: bool = False

    @property
    def text(self) -> str:
        return f"{'cut' if self.cut else 'rounded'} to {self.target.name}"

    def step(self, *, swapped: bool = False) -> Step:
        """What lies between A and B. swapped: it is B that is rounded."""
        text = f"A is B {self.text}" if swapped else self.text
        return Step("rounding", text, {"to": self.target.name, "of": "b" if swapped else "a", "cut": self.cut})

    def values(self, wide: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 values, which hold float32's or less, rounded; exact in float64."""
        import numpy as np

        if self.target.dtype is None:
            result = _tf32(wide, self.target)
        else:
            dtype = DTYPES[self.target.dtype]
            result = widened(rounded(wide, dtype)[0], dtype)
        if not self.cut:
            return result
        beyond = np.abs(result) > np.abs(wide)
        if not beyond.any():
            return result
        assert self.target.layout is not None
        return np.where(beyond, _towards_zero(result, self.target), result)


def _tf32(wide: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    import numpy as np

    assert target.layout is not None
    with np.errstate(all="ignore"):
        result = Rounder(target.layout, True).rounded(wide, np.empty_like(wide))
        result = np.where(np.abs(result) > limits(target.layout).largest, np.copysign(np.inf, wide), result)
        # Zeros keep their sign, and what is not finite stays as it is.
        return np.where(np.isfinite(wide) & (wide != 0), np.copysign(result, wide), wide)


def _towards_zero(result: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    """The next numbers of the type that are nearer to zero."""
    import numpy as np

    assert target.layout is not None
    exponent = np.maximum(np.frexp(result)[1] - 1, 1 - target.layout.bias)
    power = np.abs(result) == np.ldexp(1.0, exponent)
    below = np.where(power & (exponent > 1 - target.layout.bias), exponent - 1, exponent)
    with np.errstate(all="ignore"):
        near = np.abs(result) - np.ldexp(1.0, below - target.layout.mantissa_bits)
        return np.where(np.isfinite(result), np.copysign(near, result), np.copysign(limits(target.layout).largest, result))


def candidates(a: Entry, b: Entry, spare: int) -> Iterator[Narrowing]:
    """The types that all values of `b` may be of, narrower than its own and than that of `a`, or of which only cutting is open.

    spare: the `spare_bits` of `b`.
    """
    for name in TYPES:
        target = TARGETS[name]
        assert target.layout is not None
        if target.dtype == b.dtype.name:
            if a.dtype.bits > b.dtype.bits:
                yield Narrowing(target, cut=True)
        elif b.dtype.name == "float32" and a.dtype.name in ("float32", "float64") and spare >= 23 - target.layout.mantissa_bits:
            yield Narrowing(target)
            yield Narrowing(target, cut=True)


def spare_bits(entry: Entry) -> int:
    """How many of the last bits of a float32's fraction are zero in every element, 23 where all are; of other types none is looked for."""
    import numpy as np

    if entry.dtype.name != "float32":
        return 0
    used = int(np.bitwise_or.reduce(codes(entry.array()).astype(np.uint32, copy=False), initial=0)) & 0x7FFFFF
    return (used & -used).bit_length() - 1 if used else 23


def applied(entry: Entry, narrowing: Narrowing, dtype: DType) -> NDArray[Any]:
    """The codes, as elements of `dtype`, of the values of `entry` rounded; flat."""
    wide = widened(entry.array().reshape(-1), entry.dtype)
    return codes(rounded(narrowing.values(wide), dtype)[0])
