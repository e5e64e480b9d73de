"""Which scale goes with which number: how a tensor is walked, a slab of its first axis at a time, beside its scales.

tensor   scales of shape ()
channel  scales of shape (channels,) along `axis`
group    of neighbours within a channel; scales of shape (channels, groups) where channels come first, whatever is behind them taken
         as one axis; of shape (groups, channels) where a matrix has its channels last. The last group may be shorter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.check.precision.targets import Granularity
from porter.check.statistics.reading import BLOCK
from porter.dataclass import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Layout:
    """How the scales of a tensor of `shape` lie. `axis`: of channels; 0 where there is one scale."""

    shape: tuple[int, ...]
    granularity: Granularity
    axis: int = 0
    group: int = 0

    @property
    def scales(self) -> tuple[int, ...]:
        """The shape of scales and zero points."""
        if self.granularity == "tensor":
            return ()
        if self.granularity == "channel":
            return (self.shape[self.axis],)
        channels, row = self.shape[self.axis], math.prod(self.shape) // max(self.shape[self.axis], 1)
        groups = -(-row // self.group)
        return (channels, groups) if self.axis == 0 else (groups, channels)

    @property
    def blocked_axis(self) -> int:
        """The axis that groups run along, of the matrix that the tensor is taken for."""
        return 1 if self.axis == 0 else 0

    def slabs(self) -> Iterator[tuple[slice, slice]]:
        """Ranges of the first axis, and of the flat elements, that are worked on together: whole groups, about `BLOCK` numbers."""
        if not self.shape:
            yield slice(0, 1), slice(0, 1)
            return
        inner = math.prod(self.shape[1:])
        step = max(BLOCK // max(inner, 1), 1)
        if self.granularity == "group" and self.axis:
            step = max(step // self.group, 1) * self.group
        for start in range(0, self.shape[0], step):
            stop = min(start + step, self.shape[0])
            yield slice(start, stop), slice(start * inner, stop * inner)

    def spread(self, scales: NDArray[Any], rows: slice) -> NDArray[Any]:
        """The scales of a slab, or its zero points, in a shape that goes over what `shaped` gives."""
        if self.granularity == "tensor":
            return scales.reshape(1)
        if self.granularity == "channel":
            mine = scales[rows] if self.axis == 0 else scales
            over = [1] * len(self.shape)
            over[self.axis] = mine.size
            return mine.reshape(over)
        if self.axis == 0:
            return scales[rows, :, None]
        return scales[rows.start // self.group : -(-rows.stop // self.group), None, :]

    def shaped(self, flat: NDArray[Any]) -> NDArray[Any]:
        """The elements of a slab; groups on an axis of their own, filled up with zeros."""
        import numpy as np

        inner = self.shape[1:]
        if self.granularity != "group":
            return flat.reshape(-1, *inner) if self.shape else flat
        if self.axis == 0:
            rows = flat.reshape(-1, math.prod(inner))
            wanted = self.scales[1] * self.group
            filled = rows if rows.shape[1] == wanted else np.pad(rows, ((0, 0), (0, wanted - rows.shape[1])))
            return filled.reshape(rows.shape[0], -1, self.group)
        rows = flat.reshape(-1, *inner)
        missing = -rows.shape[0] % self.group
        filled = np.pad(rows, ((0, missing), (0, 0))) if missing else rows
        return filled.reshape(-1, self.group, *inner)

    def flat(self, shaped: NDArray[Any], rows: slice) -> NDArray[Any]:
        """`shaped` undone, without what it filled up."""
        if self.granularity != "group":
            return shaped.reshape(-1)
        count = rows.stop - rows.start
        if self.axis == 0:
            return shaped.reshape(count, -1)[:, : math.prod(self.shape[1:])].reshape(-1)
        return shaped.reshape(-1, *self.shape[1:])[:count].reshape(-1)

    def over(self) -> tuple[int, ...] | None:
        """The axes of a shaped slab that share a scale; None for all."""
        if self.granularity == "tensor":
            return None
        if self.granularity == "channel":
            return tuple(i for i in range(len(self.shape)) if i != self.axis)
        return (2,) if self.axis == 0 else (1,)
