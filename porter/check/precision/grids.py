"""Scaled types: numbers of a block through integers, or another grid, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.check.precision.rounding import Rounder
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
    """One way into one scaled type. Scales are kept in float32 (float64 for float64 tensors)."""

    def __init__(self, target: Target, scheme: Scheme, low: NDArray[np.float64], high: NDArray[np.float64], kind: Any) -> None:
        """`low` and `high`: the range of the tensor, shape (1,), or of each channel; of groups the blocks tell."""
        self._target = target
        self._scheme = scheme
        self._kind = kind
        self._rounder = Rounder(target.layout, kind(0).itemsize == 8) if target.layout is not None else None
        if scheme.granularity != "group":
            self._scale, self._zero = self._parameters(low, high)

    def _parameters(self, low: NDArray[Any], high: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Scale and zero point for ranges, which are made to hold zero. A range of nothing but zero has the scale 1."""
        import numpy as np

        low, high = np.minimum(np.nan_to_num(low), 0), np.maximum(np.nan_to_num(high), 0)
        top = self._target.top
        width = np.maximum(-low, high) / top if self._scheme.symmetric else (high - low) / (2 * top + 1)
        scale = width.astype(self._kind)
        scale[scale == 0] = 1
        zero = np.zeros_like(scale) if self._scheme.symmetric else np.rint(-top - 1 - low / scale).astype(self._kind)
        return scale, zero

    def rounded(self, rows: NDArray[Any], channel: Any) -> tuple[NDArray[Any], int]:
        """`rows` (rows, numbers of one channel each) through the grid, and how many numbers the range cut off."""
        if self._scheme.granularity != "group":
            which: Any = channel if self._scale.size > 1 else slice(0, 1)
            return self._through(rows, self._scale[which, None], self._zero[which, None])
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
        scale, zero = self._parameters(parts.min(1), parts.max(1))
        through, clipped = self._through(parts, scale[:, None], zero[:, None])
        return np.ascontiguousarray(through.reshape(rows.shape[0], -1)[:, : rows.shape[1]]), clipped

    def _through(self, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any]) -> tuple[NDArray[Any], int]:
        import numpy as np

        y = np.divide(x, scale)
        if self._rounder is not None:
            flat = np.ascontiguousarray(y).reshape(-1)
            y = self._rounder.rounded(flat, np.empty_like(flat)).reshape(y.shape)
            np.clip(y, -self._target.top, self._target.top, out=y)
            return np.multiply(y, scale, out=y), 0
        if self._target.grid is not None:
            y = _on_grid(y, self._target.grid)
            return np.multiply(y, scale, out=y), 0
        most = self._target.most
        np.rint(y, out=y)
        clipped = 0
        if not self._scheme.symmetric:
            y += zero
        least = -most if self._scheme.symmetric else -most - 1
        if self._scheme.range != "minmax" or not self._scheme.symmetric:
            clipped = int(np.count_nonzero((y < least) | (y > most)))
            np.clip(y, least, most, out=y)
        if not self._scheme.symmetric:
            y -= zero
        return np.multiply(y, scale, out=y), clipped


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
