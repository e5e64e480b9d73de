"""The range of every output channel of a weight: whether one scale for the whole tensor would do, and which channels do nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.check.statistics.kinds import kind_of
from porter.check.statistics.reading import BLOCK
from porter.dataclass import dataclass
from porter.tensor import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEAD = 2.0**-24
"""A channel whose largest magnitude is at most this part of the tensor's is dead: added to the others in float32, nothing of it is left."""


@dataclass(frozen=True, slots=True)
class ChannelAxis:
    """Which axis counts output channels. `assumed`: the file does not say so, and the first axis is taken, as PyTorch has it."""

    axis: int
    assumed: bool


def channel_axis(spec: TensorSpec) -> ChannelAxis | None:
    """The axis of output channels of a weight of at least two dimensions; None where there is none to speak of."""
    if len(spec.shape) < 2 or not spec.size or spec.dtype.kind == "complex":
        return None
    if spec.axes is not None and "O" in spec.axes:
        return ChannelAxis(spec.axes.index("O"), False)
    if kind_of(spec) != "parameter":
        return None
    last = spec.name.replace("/", ".").rpartition(".")[2].partition(":")[0]
    # Keras keeps output channels last and calls its weights kernels.
    return ChannelAxis(len(spec.shape) - 1 if "kernel" in (spec.role, last) else 0, True)


@dataclass(frozen=True, slots=True)
class ChannelRanges:
    """Smallest and largest finite value of every channel, float64, and what they say.

    minimum, maximum: of shape (channels,), NaN where a channel has no finite value. spread: the largest of the channels' largest
    magnitudes over their median, without such channels and dead ones; None where there are no others. widest: the channel of that
    largest magnitude. dead: indices of dead channels.
    """

    axis: int
    assumed: bool
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    spread: float | None
    widest: int
    dead: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many channels there are."""
        return int(self.minimum.size)


class ChannelRangesOf:
    """Minimum and maximum along one axis, from blocks of the flat tensor."""

    def __init__(self, shape: tuple[int, ...], at: ChannelAxis) -> None:
        import numpy as np

        self._at = at
        self._channels = shape[at.axis]
        self._inner = math.prod(shape[at.axis + 1 :])
        self._low = np.full(self._channels, np.inf)
        self._high = np.full(self._channels, -np.inf)

    @property
    def unit(self) -> int:
        """What the blocks' lengths must be multiples of, see `reading.blocks`."""
        period = self._channels * self._inner
        return period if period <= BLOCK else self._inner

    def add(self, start: int, block: NDArray[Any]) -> tuple[float, float]:
        """Take in a block of finite numbers, or of NaN for what is to be left out; its minimum and maximum.

        A block with an infinity is not taken in.
        """
        import numpy as np

        if self._inner > BLOCK:
            low, high = np.fmin.reduce(block), np.fmax.reduce(block)
            first = start // self._inner % self._channels
            which: Any = slice(first, first + 1)
        else:
            rows = block.reshape(-1, self._inner)
            low, high = (rows[:, 0], rows[:, 0]) if self._inner == 1 else (np.fmin.reduce(rows, 1), np.fmax.reduce(rows, 1))
            if self.unit == self._inner and self._channels * self._inner > BLOCK:
                which = (start // self._inner + np.arange(low.size)) % self._channels
            else:
                which = slice(None)
                if low.size > self._channels:
                    low = np.fmin.reduce(low.reshape(-1, self._channels), 0)
                    high = np.fmax.reduce(high.reshape(-1, self._channels), 0)
        least, most = float(np.min(low)), float(np.max(high))
        if not (math.isinf(least) or math.isinf(most)):
            self._low[which] = np.fmin(self._low[which], low)
            self._high[which] = np.fmax(self._high[which], high)
        return least, most

    def result(self) -> ChannelRanges:
        """The ranges of all channels."""
        import numpy as np

        none = self._low > self._high
        largest = np.where(none, 0.0, np.maximum(np.abs(self._low), np.abs(self._high)))
        top = float(largest.max(initial=0.0))
        dead = (largest <= DEAD * top) & ~none
        # Of parts of the largest: the sum of two may be more than float64 holds.
        spread = 1 / float(np.median(largest[~dead & ~none] / top)) if top else None
        return ChannelRanges(
            self._at.axis,
            self._at.assumed,
            np.where(none, np.nan, self._low),
            np.where(none, np.nan, self._high),
            spread,
            int(largest.argmax()),
            tuple(np.flatnonzero(dead).tolist()),
        )
