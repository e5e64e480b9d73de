"""Where to cut a tensor's range so that its many small numbers get finer steps: percentile, least squares, least divergence.

All three look at the magnitudes in 2048 even bins up to the largest, and cut at the edge of a bin. The result is a magnitude.

Source: Szymon Migacz, "8-bit Inference with TensorRT", GTC 2017, for the divergence: bins beyond the cut count in the last one, the
others are taken together to as many as the type has steps, and spread again over what was not empty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.check.precision.targets import Range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

BINS = 2048
PERCENTILE = 0.9999
"""The part of the numbers that the percentile's range holds."""


class Magnitudes:
    """Counts magnitudes of blocks in even bins up to `largest`."""

    def __init__(self, largest: float) -> None:
        import numpy as np

        self.largest = largest
        self.count: Counts = np.zeros(BINS, np.int64)

    def add(self, magnitude: NDArray[Any]) -> None:
        """Count a block of finite magnitudes; zeros count too."""
        import numpy as np

        place = (magnitude * (BINS / self.largest)).astype(np.intp)
        self.count += np.bincount(np.minimum(place, BINS - 1), minlength=BINS)

    def cut(self, range: Range, most: int) -> float:
        """The magnitude to cut at for a grid of `most` steps on each side."""
        edge = {"percentile": _percentile, "mse": _least_squares, "kl": _least_divergence}[range](self.count, most)
        return self.largest * edge / BINS


def _percentile(count: Counts, most: int) -> int:
    import numpy as np

    total = count.cumsum()
    return int(np.searchsorted(total, math.ceil(PERCENTILE * total[-1]))) + 1


def _least_squares(count: Counts, most: int) -> int:
    import numpy as np

    middle = np.arange(BINS) + 0.5
    best, found = math.inf, BINS
    for edge in range(BINS // 16, BINS + 1, 8):
        step = edge / most
        error = middle - np.minimum(np.rint(middle / step), most) * step
        # Within a bin the numbers lie on both sides of its middle.
        cost = float(np.dot(count, error * error))
        if cost <= best:
            best, found = cost, edge
    return found


def _least_divergence(count: Counts, most: int) -> int:
    import numpy as np

    best, found = math.inf, BINS
    weights = count.astype(np.float64)
    weights[0] = 0  # zeros are exact on any grid
    steps = most + 1
    for edge in range(max(steps, BINS // 16), BINS + 1, 8):
        p = weights[:edge].copy()
        used = p > 0
        p[-1] += weights[edge:].sum()
        start = np.arange(steps) * edge // steps
        sums, filled = np.add.reduceat(weights[:edge], start), np.add.reduceat(used.astype(np.float64), start)
        lengths = np.diff(np.append(start, edge))
        with np.errstate(all="ignore"):
            q = np.where(used, np.repeat(sums / filled, lengths), 0)
            # A little for what lies beyond the cut where nothing lies before it: infinite divergence is no measure.
            q = np.where((p > 0) & (q == 0), 1e-9 * p.sum(), q)
            p, q = p / p.sum(), q / q.sum()
            divergence = float(np.nansum(np.where(p > 0, p * np.log(p / q), 0)))
        if divergence <= best:
            best, found = divergence, edge
    return found
