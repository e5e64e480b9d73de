"""Scaled types: numbers of a block through integers, or another grid, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.check.precision.rounding import Rounder
from porter.check.precision.scales import scale_of, zero_of
from porter.check.precision.targets import Scheme, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Source: arXiv 2305.14314, appendix E.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)

STEPS = 126
"""Steps below the largest that the grids of 8 bits have besides zero, a sign and 7 bits: octaves of `pow2`, half-octaves of `log`."""


class ScaledGrid:
    """One way into one scaled type, with scales as `quantize` writes them; numbers are computed with in float32, float64 ones in that."""

    def __init__(self, target: Target, scheme: Scheme, low: NDArray[np.float64], high: NDArray[np.float64], kind: Any) -> None:
        """`low` and `high`: the range of the tensor, shape (1,), or of each channel; of groups the blocks tell."""
        self._target = target
        self._scheme = scheme
        self._kind = kind
        self._rounder = Rounder(target.layout, kind(0).itemsize == 8) if target.layout is not None else None
        if scheme.granularity != "group":
            self._scale, self._zero, self._short = self._parameters(low, high)

    def _parameters(self, low: NDArray[Any], high: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], bool]:
        """Scale and zero point for ranges, which are made to hold zero, and whether a float32 is too small a scale for one."""
        import numpy as np

        low, high = np.fmin(low, 0).astype(np.float64), np.fmax(high, 0).astype(np.float64)
        top, symmetric = self._target.top, self._scheme.symmetric
        largest = np.finfo(np.float32).max
        found = scale_of(low, high, top, symmetric)
        scale = np.minimum(found, largest)
        lowest = np.maximum(low, -(2 * top + 1) * scale.astype(np.float64))
        zero = np.zeros_like(scale) if symmetric else zero_of(lowest, scale, top)
        return scale.astype(self._kind), zero.astype(self._kind), bool((found > largest / top).any())

    def rounded(self, rows: NDArray[Any], channel: Any) -> tuple[NDArray[Any], int]:
        """`rows` (rows, numbers of one channel each) through the grid, and how many numbers the range cut off."""
        if self._scheme.granularity != "group":
            which: Any = channel if self._scale.size > 1 else slice(0, 1)
            return self._through(rows, self._scale[which, None], self._zero[which, None], self._short)
        return self._groups(rows)

    def _groups(self, rows: NDArray[Any]) -> tuple[NDArray[Any], int]:
        import numpy as np

        group = self._scheme.group
        count = -(-rows.shape[1] // group)
        padded = rows
        if rows.shape[1] % group:
            padded = np.zeros((rows.shape[0], count * group), rows.dtype)
            padded[:, : rows.shape[1]] = rows
        parts = padded.reshape(-1, group)
        scale, zero, short = self._parameters(parts.min(1), parts.max(1))
        through, clipped = self._through(parts, scale[:, None], zero[:, None], short)
        return np.ascontiguousarray(through.reshape(rows.shape[0], -1)[:, : rows.shape[1]]), clipped

    def _through(self, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], short: bool) -> tuple[NDArray[Any], int]:
        """short: scales are so large that numbers may be beyond the range, or become infinite."""
        import numpy as np

        y = np.divide(x, scale)
        clipped = 0
        if self._rounder is not None:
            flat = np.ascontiguousarray(y).reshape(-1)
            y = self._rounder.rounded(flat, np.empty_like(flat)).reshape(y.shape)
            np.clip(y, -self._target.top, self._target.top, out=y)
        elif self._target.grid is not None:
            y = _on_grid(np.clip(y, -1, 1) if short else y, self._target.grid)
        else:
            clipped = self._into_integers(y, zero, short)
        np.multiply(y, scale, out=y)
        if short:
            np.clip(y, np.finfo(y.dtype).min, np.finfo(y.dtype).max, out=y)
        return y, clipped

    def _into_integers(self, y: NDArray[Any], zero: NDArray[Any], short: bool) -> int:
        """`y` rounded and clipped in place; how many were clipped."""
        import numpy as np

        symmetric, most = self._scheme.symmetric, self._target.most
        np.rint(y, out=y)
        if symmetric and self._scheme.range == "minmax" and not short:
            return 0
        least = -most if symmetric else -most - 1
        if not symmetric:
            y += zero
        clipped = int(np.count_nonzero((y < least) | (y > most)))
        np.clip(y, least, most, out=y)
        if not symmetric:
            y -= zero
        return clipped


def _on_grid(y: NDArray[Any], grid: str) -> NDArray[Any]:
    """Numbers of [-1, 1] to the nearest of the grid, for steps of even ratio nearest by ratio."""
    import numpy as np

    if grid == "nf4":
        values = np.array(NF4, y.dtype)
        return np.asarray(values[np.searchsorted((values[1:] + values[:-1]) / 2, y)])
    magnitude = np.abs(y)
    each = 1.0 if grid == "pow2" else 2.0
    with np.errstate(divide="ignore"):
        step = np.rint(np.log2(magnitude) * each)
    q = np.where(step < -STEPS, 0, np.exp2(np.maximum(step, -STEPS) / each))
    return np.asarray(np.copysign(q, y).astype(y.dtype, copy=False))
