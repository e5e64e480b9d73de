"""Numbers of a block to the nearest of a float type, quickly: as numbers of the block's own type, without the type's codes.

A number x of exponent e is rounded by adding and taking away 1.5 · 2^(p - 1) · step, where p is the significand's bits of the block's
type and step the distance of the target's numbers at e: the processor's addition rounds to nearest, ties to even, as the cast does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.io.float_layouts import FloatLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a cast does something to a magnitude. All are float64 that hold exactly.

    overflow: what is above overflows, and so does what is equal if `overflow_at`. zero: what is not above becomes zero.
    subnormal: what is below, and above `zero`, becomes a subnormal number (or, where it was one, stays one). normal: the smallest
    normal number. largest: the largest number.
    """

    overflow: float
    overflow_at: bool
    zero: float
    subnormal: float
    normal: float
    largest: float


def limits(layout: FloatLayout) -> Limits:
    """The limits of casts to this type, rounding to nearest, ties to even."""
    bits = layout.mantissa_bits
    top = layout.top
    exponent, mantissa = (top >> bits) - layout.bias, top & ((1 << bits) - 1)
    largest = math.ldexp(1 + mantissa / (1 << bits), exponent)
    step = math.ldexp(1.0, exponent - bits)
    least = math.ldexp(1.0, layout.smallest)
    normal = math.ldexp(1.0, 1 - layout.bias)
    # Half-way beyond the largest number, ties go to the even code: away from an odd one.
    return Limits(largest + step / 2, bool(top & 1), least / 2, normal - least / 2, normal, largest)


class Rounder:
    """Rounds blocks of float32 or float64 to one type; keeps room for the work."""

    def __init__(self, layout: FloatLayout, wide: bool) -> None:
        import numpy as np

        self._bits = np.uint64 if wide else np.uint32
        self._float = np.float64 if wide else np.float32
        precision = 53 if wide else 24
        self._mask = self._bits(0x7FF << 52 if wide else 0xFF << 23)
        self._normal = math.ldexp(1.0, 1 - layout.bias)
        self._least = self._float(self._normal).view(self._bits)
        self._factor = self._float(1.5 * 2.0 ** (precision - 1 - layout.mantissa_bits))
        self._room: NDArray[Any] | None = None

    @staticmethod
    def reach(layout: FloatLayout) -> float:
        """Magnitudes below which float32 is enough to round in."""
        return math.ldexp(1.0, 103 + layout.mantissa_bits)

    def rounded(self, block: NDArray[Any], out: NDArray[Any], least: float = 0.0) -> NDArray[Any]:
        """`block` to the nearest, as if the type had no largest number; NaN for what is not finite. No magnitude is below `least`."""
        import numpy as np

        if self._room is None or self._room.size < block.size:
            self._room = np.empty(block.size, self._float)
        room = self._room[: block.size]
        bits = room.view(self._bits)
        np.bitwise_and(block.view(self._bits), self._mask, out=bits)
        if least < self._normal:
            np.maximum(bits, self._least, out=bits)
        np.multiply(room, self._factor, out=room)
        np.add(block, room, out=out)
        np.subtract(out, room, out=out)
        return out
