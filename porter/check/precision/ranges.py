"""Where to cut ranges so that the many small numbers get finer steps: percentile, least squares, least divergence.

All three look at the magnitudes that share a scale in 2048 even bins up to the largest, and cut at the edge of a bin. The result is a
magnitude. Channels are looked at side by side.

Source: Szymon Migacz, "8-bit Inference with TensorRT", GTC 2017, for the divergence: bins beyond the cut count in the last one, the
others are taken together to as many as the type has steps, and spread again over what was not empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from porter.check.precision.targets import Range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.integer[Any]]
    Floats = NDArray[np.float64]
    Look = Iterable[tuple[NDArray[Any], NDArray[np.intp]]]

BINS = 2048
PERCENTILE = 0.9999
"""The part of the numbers that the percentile's range holds."""

AT_ONCE = 512
"""Scales whose magnitudes are counted in one look: what is computed of them takes some 50 MiB."""

_LITTLE = 1e-9
"""What lies beyond the cut counts so much where nothing lies before it: infinite divergence is no measure."""


def cuts(look: Callable[[], Look], largest: Floats, wanted: Sequence[tuple[Range, int]]) -> list[Floats]:
    """The magnitudes to cut at, one for each scale, by each way, for grids of so many steps on each side.

    look: the numbers once more: rows of one scale each, and the numbers of their scales. largest: the largest magnitudes.
    """
    import numpy as np

    found = {way: np.zeros(largest.size) for way in wanted}
    for first in range(0, largest.size, AT_ONCE):
        here = slice(first, first + AT_ONCE)
        magnitudes = Magnitudes(largest[here])
        for rows, scale in look():
            inside = (scale >= first) & (scale < first + AT_ONCE)
            if inside.all():
                magnitudes.add(rows, scale - first)
            elif inside.any():
                magnitudes.add(rows[inside], scale[inside] - first)
        for (range_, most), cut in found.items():
            cut[here] = magnitudes.cut(range_, most)
    return [found[way] for way in wanted]


class Magnitudes:
    """Counts magnitudes in even bins up to the `largest` of each scale."""

    def __init__(self, largest: Floats) -> None:
        import numpy as np

        self._largest = largest
        self._divisor = np.where(largest > 0, largest, 1)
        self.count: Counts = np.zeros((largest.size, BINS), np.int64 if largest.size == 1 else np.int32)

    def add(self, rows: NDArray[Any], scale: NDArray[np.intp]) -> None:
        """Count rows of numbers, each of one scale; zeros count too, NaNs and infinities do not."""
        import numpy as np

        place = np.abs(rows) / self._divisor[scale, None]
        finite = np.isfinite(rows)
        with np.errstate(invalid="ignore"):
            bins = np.minimum(place * BINS, BINS - 1).astype(np.intp)
        bins += scale[:, None] * BINS
        flat = bins.reshape(-1) if finite.all() else bins[finite]
        if self.count.size == BINS:
            self.count += np.bincount(flat, minlength=BINS)
        else:
            np.add.at(self.count.reshape(-1), flat, 1)

    def cut(self, range_: Range, most: int) -> Floats:
        """The magnitude to cut at for a grid of `most` steps on each side, for each scale."""
        edge = {"percentile": _percentile, "mse": _least_squares, "kl": _least_divergence}[range_](self.count, most)
        return self._largest * (edge / BINS)


def _percentile(count: Counts, most: int) -> NDArray[np.intp]:
    import numpy as np

    total = count.cumsum(1, dtype=np.int64)
    enough = np.ceil(PERCENTILE * total[:, -1:])
    return np.asarray(np.count_nonzero(total < enough, axis=1) + 1)


def _edges(least: int) -> NDArray[np.intp]:
    import numpy as np

    return np.arange(max(least, BINS // 16), BINS + 1, 8)


def _widest(edges: NDArray[np.intp], cost: Floats) -> NDArray[np.intp]:
    """For each scale the widest range of those that cost least."""
    import numpy as np

    cost = np.where(np.isnan(cost), np.inf, cost)
    good = cost <= cost.min(1, keepdims=True) + 1e-12 * np.abs(cost[:, -1:])
    return np.asarray(edges[edges.size - 1 - good[:, ::-1].argmax(1)])


def _least_squares(count: Counts, most: int) -> NDArray[np.intp]:
    import numpy as np

    return _widest(_edges(0), count.astype(np.float64) @ _squared_errors(most))


@cache
def _squared_errors(most: int) -> Floats:
    """Of a number in each bin, by each edge. Within a bin numbers lie on both sides of its middle."""
    import numpy as np

    middle = np.arange(BINS)[:, None] + 0.5
    step = _edges(0) / most
    error = middle - np.minimum(np.rint(middle / step), most) * step
    return np.asarray(error * error)


def _least_divergence(count: Counts, most: int) -> NDArray[np.intp]:
    """Of the numbers' distribution p from what is left of it, q, by sums over bins: in each of the steps q is even."""
    import numpy as np

    weight = count.astype(np.float64)
    weight[:, 0] = 0  # zeros are exact on any grid
    total, used, entropy = (_sums(x) for x in (weight, weight > 0, _times_log(weight, weight)))
    edges = _edges(most + 1)
    cost = np.empty((len(weight), edges.size))
    everything = total[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, edge in enumerate(edges.tolist()):
            bounds = np.arange(most + 2) * edge // (most + 1)
            part = np.diff(total[:, bounds])
            height = part / np.diff(used[:, bounds])
            last = weight[:, edge - 1]
            beyond = everything - total[:, edge]
            bare = (last == 0) & (beyond > 0)
            p = entropy[:, edge] - _times_log(last, last) + _times_log(last + beyond, last + beyond)
            q = _times_log(part, height).sum(1) + _times_log(beyond, np.where(bare, _LITTLE * everything, height[:, -1]))
            kept = total[:, edge] + np.where(bare, _LITTLE * everything, 0)
            cost[:, i] = (p - q) / everything + np.log(kept / everything)
    return _widest(edges, cost)


def _sums(x: NDArray[Any]) -> Floats:
    """The sums of the first 0, 1, 2… of each row."""
    import numpy as np

    sums = np.zeros((x.shape[0], x.shape[1] + 1))
    np.cumsum(x, 1, out=sums[:, 1:], dtype=np.float64)
    return sums


def _times_log(x: Floats, y: Floats) -> Floats:
    """x · log y, 0 where x is."""
    import numpy as np

    return np.asarray(x * np.log(np.where(x > 0, y, 1)))
