"""Mean and standard deviation in float64, block by block.

Where the mean is far from zero, the numbers are shifted by it before they are squared, and blocks are merged by their means, so
that a large mean costs no digits. Numbers whose squares float64 cannot hold are taken in units of a power of two; 64-bit integers are
added exactly, and shifted by their mean before they become float64.

Source: Chan, Golub, LeVeque: "Algorithms for Computing the Sample Variance", The American Statistician 37(3), 1983, (1.5b) and (2.1a).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAFE = 2.0**300
"""Up to this, and down to its reciprocal, sums of squares are far from what float64 cannot hold."""


class Moments:
    """Count, mean, and sum of squared deviations from it, of finite numbers."""

    __slots__ = ("_exponent", "_mean", "_room", "_squares", "_total", "count")

    def __init__(self, count: int = 0, mean: float = 0.0, squares: float = 0.0, exponent: int = 0, total: int | None = None) -> None:
        """The mean is in units of 2^exponent, the squares in units of its square. total: the sum of integers."""
        self.count = count
        self._mean = mean
        self._squares = squares
        self._exponent = exponent
        self._total = total
        self._room: NDArray[Any] | None = None

    @property
    def mean(self) -> float:
        """The mean, 0 where there are no numbers."""
        return self._total / self.count if self._total is not None and self.count else math.ldexp(self._mean, self._exponent)

    @property
    def std(self) -> float | None:
        """The standard deviation of the numbers themselves (divided by the count), or None where there are none."""
        return math.ldexp(math.sqrt(self._squares / self.count), self._exponent) if self.count else None

    @property
    def sum_of_squares(self) -> float:
        """That of the numbers themselves; infinite where float64 does not reach."""
        total = self._squares + self._mean * self._mean * self.count
        try:
            return math.ldexp(total, 2 * self._exponent)
        except OverflowError:
            return math.inf

    def add(self, values: NDArray[Any]) -> None:
        """Take in a flat block of finite numbers of any real type."""
        import numpy as np

        if not values.size:
            return
        if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            self.merge(_of_integers(values))
            return
        if self._room is None or self._room.size < values.size:
            self._room = np.empty(values.size)
        room = self._room[: values.size]
        # A mean nearer to zero than the numbers are to it costs less than a digit, so that nothing needs to be taken away.
        far = not self._exponent and self._mean * self._mean * self.count > self._squares
        with np.errstate(over="ignore", invalid="ignore"):
            found = _of_floats(values, self._mean if far else 0.0, room)
            if values.dtype.itemsize == 8 and not 1 / _SAFE < found.sum_of_squares < _SAFE:
                largest = max(abs(float(values.min())), abs(float(values.max())))
                exponent = math.frexp(largest)[1]
                found = _of_floats(np.ldexp(values, -exponent), 0.0, room)
                found._exponent = exponent
        self.merge(found)

    def release(self) -> None:
        """Give back the room of blocks: results of many tensors are kept."""
        self._room = None

    def merge(self, other: Moments) -> None:
        """Take in the numbers of `other`."""
        if not other.count:
            return
        if not self.count:
            self.count, self._mean, self._squares = other.count, other._mean, other._squares
            self._exponent, self._total = other._exponent, other._total
            return
        # What lies so far below the larger unit that nothing is left of it adds nothing.
        exponent = max(self._exponent, other._exponent)
        mean, squares = self._in_units_of(exponent)
        mean_of_other, squares_of_other = other._in_units_of(exponent)
        count = self.count + other.count
        delta = mean_of_other - mean
        if self._total is not None and other._total is not None:
            # Means of integers may be closer than float64 tells them apart.
            delta = (other._total * self.count - self._total * other.count) / (self.count * other.count)
            self._total += other._total
        else:
            self._total = None
        self._mean = mean + delta * (other.count / count)
        self._squares = squares + squares_of_other + delta * delta * (self.count * (other.count / count))
        self._exponent = exponent
        self.count = count

    def _in_units_of(self, exponent: int) -> tuple[float, float]:
        down = self._exponent - exponent
        return (math.ldexp(self._mean, down), math.ldexp(self._squares, 2 * down)) if down else (self._mean, self._squares)


def _of_floats(values: NDArray[Any], shift: float, room: NDArray[np.float64]) -> Moments:
    total, squares = _sums(values, shift, room)
    if total * total > 0.5 * values.size * squares:
        shift += total / values.size
        total, squares = _sums(values, shift, room)
    offset = total / values.size
    return Moments(values.size, shift + offset, max(squares - total * offset, 0.0))


def _sums(values: NDArray[Any], shift: float, room: NDArray[np.float64]) -> tuple[float, float]:
    """The sum and the sum of squares of `values - shift`."""
    import numpy as np

    np.copyto(room, values)
    if shift:
        room -= shift
    return float(np.add.reduce(room)), _squares(room)


_RUN = 1024
"""Numbers that are multiplied and added at a time: too few for threads, which cost more than they save, and change the result."""


def _squares(x: NDArray[Any]) -> float:
    """The sum of squares of a flat array of float64."""
    import numpy as np

    end = x.size // _RUN * _RUN
    runs, rest = x[:end].reshape(-1, _RUN), x[end:]
    return float(np.add.reduce(np.matmul(runs[:, None, :], runs[:, :, None]).reshape(-1))) + float(np.dot(rest, rest))


def _of_integers(values: NDArray[Any]) -> Moments:
    """Of at most 2^31 integers of 64 bits, by their halves."""
    import numpy as np

    upper, lower = (values >> 32).astype(np.int64), (values & 0xFFFFFFFF).astype(np.int64)
    total = (int(upper.sum()) << 32) + int(lower.sum())
    shift = total // values.size
    away = (upper - (shift >> 32)) * 2.0**32 + (lower - (shift & 0xFFFFFFFF))
    offset = (total - shift * values.size) / values.size
    squares = _squares(away)
    return Moments(values.size, float(shift) + offset, max(squares - values.size * offset * offset, 0.0), total=total)
