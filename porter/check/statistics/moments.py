"""Mean and standard deviation in float64, block by block.

Where the mean is far from zero, the numbers are shifted by it before they are squared, and blocks are merged by their means, so
that a large mean costs no digits.

Source: Chan, Golub, LeVeque: "Algorithms for Computing the Sample Variance", The American Statistician 37(3), 1983, (1.5b) and (2.1a).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Moments:
    """Count, mean, and sum of squared deviations from it, of finite numbers."""

    __slots__ = ("_room", "count", "mean", "squares")

    def __init__(self, count: int = 0, mean: float = 0.0, squares: float = 0.0) -> None:
        self.count = count
        self.mean = mean
        self.squares = squares
        self._room: NDArray[Any] | None = None

    def add(self, values: NDArray[Any]) -> None:
        """Take in a flat block of finite numbers of any real type."""
        import numpy as np

        if not values.size:
            return
        if self._room is None or self._room.size < values.size:
            self._room = np.empty(values.size)
        room = self._room[: values.size]
        # A mean nearer to zero than the numbers are to it costs less than a digit, so that nothing needs to be taken away.
        shift = self.mean if self.mean * self.mean * self.count > self.squares else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            total, squares = _sums(values, shift, room)
            if total * total > 0.5 * values.size * squares:
                shift += total / values.size
                total, squares = _sums(values, shift, room)
            offset = total / values.size
            self.merge(Moments(values.size, shift + offset, max(squares - total * offset, 0.0)))

    def merge(self, other: Moments) -> None:
        """Take in the numbers of `other`."""
        if not other.count:
            return
        count = self.count + other.count
        delta = other.mean - self.mean
        self.mean += delta * (other.count / count)
        self.squares += other.squares + delta * delta * (self.count * (other.count / count))
        self.count = count

    @property
    def std(self) -> float | None:
        """The standard deviation of the numbers themselves (divided by the count), or None where there are none."""
        return math.sqrt(self.squares / self.count) if self.count else None


def _sums(values: NDArray[Any], shift: float, room: NDArray[np.float64]) -> tuple[float, float]:
    """The sum and the sum of squares of `values - shift`."""
    import numpy as np

    np.copyto(room, values)
    if shift:
        room -= shift
    total = float(np.add.reduce(room))
    # Not `dot`: its threads cost more than they save, and its result depends on their number.
    np.multiply(room, room, out=room)
    return total, float(np.add.reduce(room))
