"""What one way into one type costs a tensor, block by block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.check.precision.grids import ScaledGrid
from porter.check.precision.rounding import Rounder, limits
from porter.check.precision.targets import Scheme, Target
from porter.check.statistics.channels import DEAD
from porter.dataclass import dataclass
from porter.tensor import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Cost:
    """What becomes of a tensor's finite numbers x, q being what they are then.

    overflow: too large for a type that is cast to; clipped by the range of a scaled one. underflow: not zero, and zero then.
    subnormal: a subnormal number then, of a type that is cast to. max_relative: the largest |x - q| / |x| of numbers that are not
    zero and do not overflow, None for scaled types. relative: the root of sum (x - q)^2 over sum x^2, overflows left out of the errors;
    None where all are zero. worst_channel: the lowest SNR of a channel that is not dead, in dB, for scaled types of weights with
    channels; infinite where none loses anything, None where there are none.
    """

    target: str
    scheme: Scheme | None
    overflow: int
    underflow: int
    subnormal: int
    max_relative: float | None
    relative: float | None
    worst_channel: float | None = None

    @property
    def snr(self) -> float | None:
        """The signal-to-noise ratio in dB, infinite where nothing changes; None where all numbers are zero.

        None too where numbers overflow in a cast: the largest are gone then, and what is left of the others says nothing.
        """
        if self.relative is None or (self.overflow and self.scheme is None):
            return None
        return 0.0 - 20 * math.log10(self.relative) if self.relative else math.inf

    def to_json(self) -> dict[str, Json]:
        """This cost as JSON values."""
        snr = self.snr
        return {
            "to": self.target,
            "scheme": str(self.scheme) if self.scheme is not None else None,
            "overflow": self.overflow,
            "underflow": self.underflow,
            "subnormal": self.subnormal,
            "max_relative": self.max_relative,
            "relative": self.relative,
            "snr": _finite(snr),
            "worst_channel": _finite(self.worst_channel),
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


_RUN = 4096
"""Numbers whose squares are summed in float32 before they are summed in float64: their sum is right to some 2^-20."""


class Squares:
    """Sums of squares of blocks of one tensor, in units of a power of two that keeps them from overflow and from vanishing."""

    def __init__(self, largest: float, wide: bool) -> None:
        self._quick = not wide and 2.0**-40 < largest < 2.0**40
        self._exponent = 0 if self._quick or not largest else -math.frexp(largest)[1]

    def whole(self, block: NDArray[Any]) -> float:
        """The sum over a flat block, NaNs left out."""
        import numpy as np

        if self._quick:
            end = block.size // _RUN * _RUN
            runs, rest = block[:end].reshape(-1, _RUN), block[end:]
            total = float(np.matmul(runs[:, None, :], runs[:, :, None]).sum(dtype=np.float64)) + float(np.dot(rest, rest))
            if total == total:
                return total
        wide = np.ldexp(block.astype(np.float64), self._exponent)
        return float(np.nansum(np.multiply(wide, wide, out=wide)))

    def rows(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """The sum over each row."""
        import numpy as np

        if not self._quick:
            rows = np.ldexp(rows.astype(np.float64), self._exponent)
        if rows.shape[1] == 1:
            column = rows[:, 0].astype(np.float64)
            return column * column
        return np.asarray(np.matmul(rows[:, None, :], rows[:, :, None])[:, 0, 0].astype(np.float64))

    def in_ones(self, total: float) -> float:
        """A sum in units of 1; infinite where float64 does not reach."""
        try:
            return math.ldexp(total, -2 * self._exponent)
        except OverflowError:
            return math.inf


class CastCost:
    """Accumulates the cost of casts to a float type."""

    def __init__(self, target: Target, largest: float, wide: bool, squares: Squares) -> None:
        import numpy as np

        assert target.layout is not None
        self.target = target
        self._limits = limits(target.layout)
        self._wide = wide or largest >= Rounder.reach(target.layout)
        self._rounder = Rounder(target.layout, self._wide)
        self._float = np.float64 if self._wide else np.float32
        self._squares = squares
        self._room: NDArray[Any] | None = None
        self._overflow = self._underflow = self._subnormal = 0
        self._relative = self._noise = 0.0
        # No normal number is farther away than one half-way to the next above a power of two.
        half = self._float(2.0 ** -(target.layout.mantissa_bits + 1))
        self._farthest = float(half / (1 + half))

    def add(self, block: NDArray[Any], magnitude: NDArray[Any], least: float, most: float) -> None:
        """Take in a block without NaNs and infinities; `magnitude` is its absolute value, `least` and `most` are its extremes."""
        import numpy as np

        x = block.astype(self._float, copy=False)
        if self._room is None or self._room.size < x.size:
            self._room = np.empty(x.size, self._float)
        q = self._room[: x.size]
        low = magnitude < magnitude.dtype.type(self._limits.normal) if least < self._limits.normal else None
        # A few small numbers are rounded on their own.
        few = low is not None and 4 * np.count_nonzero(low) < x.size
        small = np.flatnonzero(low) if low is not None and few else None
        self._rounder.rounded(x, q, self._limits.normal if low is None or few else 0.0)
        if small is not None:
            q[small] = self._rounder.rounded(x[small], np.empty(small.size, self._float))
        if low is not None:
            self._count_small(magnitude if small is None else magnitude[small])
        beyond = self._beyond(magnitude, most)
        if most > self._limits.largest:
            np.clip(q, -self._limits.largest, self._limits.largest, out=q)
        np.subtract(x, q, out=q)
        if beyond is not None:
            q[beyond] = np.nan
        self._look_for_farthest(x, q, small, low is not None)
        self._noise += self._squares.whole(q)

    def _count_small(self, magnitude: NDArray[Any]) -> None:
        import numpy as np

        typed, at = magnitude.dtype.type, self._limits
        gone = int(np.count_nonzero(magnitude <= typed(at.zero)))
        self._subnormal += int(np.count_nonzero(magnitude < typed(at.subnormal))) - gone
        self._underflow += gone - int(np.count_nonzero(magnitude == 0))

    def _beyond(self, magnitude: NDArray[Any], most: float) -> NDArray[Any] | None:
        """Where numbers overflow; None where none does."""
        import numpy as np

        at = self._limits
        if most < at.overflow:
            return None
        beyond = np.asarray(magnitude >= at.overflow if at.overflow_at else magnitude > at.overflow)
        self._overflow += int(np.count_nonzero(beyond))
        return beyond

    def _look_for_farthest(self, x: NDArray[Any], error: NDArray[Any], small: NDArray[Any] | None, low: bool) -> None:
        """The largest relative error, looked for only where it may be larger than what is known: it is never more than 1.

        `small`: where the numbers are that are nearer to zero than normal ones, None where there are too many, or, but for `low`, none.
        """
        import numpy as np

        if self._relative >= 1 or (self._relative >= self._farthest and not low):
            return
        if self._relative >= self._farthest and small is not None:
            x, error = x[small], error[small]
        ratio = np.divide(error, x)
        self._relative = max(self._relative, float(np.fmax.reduce(ratio, initial=0)), -float(np.fmin.reduce(ratio, initial=0)))

    def result(self, signal: float) -> Cost:
        """The cost; `signal` is the sum of squares of all numbers."""
        relative = math.sqrt(self._noise / signal) if signal else None
        return Cost(self.target.name, None, self._overflow, self._underflow, self._subnormal, self._relative, relative)


class ScaledCost:
    """Accumulates the cost of one way into a scaled type."""

    def __init__(self, target: Target, scheme: Scheme, grid: ScaledGrid, squares: Squares, channels: int) -> None:
        import numpy as np

        self.target = target
        self.scheme = scheme
        self._grid = grid
        self._squares = squares
        self._clipped = self._zeros = 0
        self._noise = np.zeros(channels)

    def add(self, rows: NDArray[Any], channel: NDArray[np.intp], zeros: int) -> None:
        """Take in the rows of a block, whose channels are `channel`, and of whose numbers `zeros` are zero."""
        import numpy as np

        q, clipped = self._grid.rounded(rows, channel)
        self._clipped += clipped
        self._zeros += int(np.count_nonzero(q == 0)) - zeros
        np.subtract(rows, q, out=q)
        np.add.at(self._noise, channel, self._squares.rows(q))

    def result(self, signals: NDArray[np.float64]) -> Cost:
        """The cost; `signals` are the sums of squares of each channel's numbers."""
        import numpy as np

        signal, noise = float(signals.sum()), float(self._noise.sum())
        relative = math.sqrt(noise / signal) if signal else None
        worst = None
        # What lies below the noise of any arithmetic, dead channels, says nothing.
        alive = signals > signal * DEAD**2
        if alive.any():
            most = float(np.max(self._noise[alive] / signals[alive]))
            worst = -10 * math.log10(most) if most else math.inf
        return Cost(self.target.name, self.scheme, self._clipped, self._zeros, 0, None, relative, worst)
