"""One look at a tensor: how many numbers of which kind, their moments, extremes and channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.check.encodings import lane_type
from porter.check.statistics.channels import ChannelRanges, ChannelRangesOf, channel_axis
from porter.check.statistics.moments import Moments
from porter.dataclass import dataclass
from porter.io.float_layouts import FLOAT_LAYOUTS
from porter.tensor import Json, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Number = float | int


@dataclass(frozen=True, slots=True)
class Extreme:
    """A value and the flat index of the first number that has it."""

    value: Number
    index: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many numbers are what. `zeros` counts both signs, `negative_zeros` −0 alone. `subnormal`: not zero, nearer to it than the
    type's smallest normal value. The rest up to `numbers` is finite, normal and not zero.
    """

    numbers: int = 0
    zeros: int = 0
    negative_zeros: int = 0
    subnormal: int = 0
    nan: int = 0
    positive_infinite: int = 0
    negative_infinite: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*[getattr(self, name) + getattr(other, name) for name in self.__match_args__])

    @property
    def infinite(self) -> int:
        """Infinities of both signs."""
        return self.positive_infinite + self.negative_infinite

    @property
    def finite(self) -> int:
        """What is neither NaN nor infinite."""
        return self.numbers - self.nan - self.infinite

    def to_json(self) -> dict[str, Json]:
        """The counts by name."""
        return {name: getattr(self, name) for name in self.__match_args__}


@dataclass(frozen=True, slots=True)
class Summary:
    """What one look tells. Mean, deviation and extremes are those of the finite numbers, None where there are none.

    std: divided by the count. smallest: the smallest magnitude that is not zero.
    """

    counts: Counts
    mean: float | None
    std: float | None
    minimum: Extreme | None
    maximum: Extreme | None
    smallest: Number | None
    moments: Moments
    channels: ChannelRanges | None

    @property
    def largest(self) -> Number:
        """The largest magnitude, 0 where there is no finite number."""
        return max(abs(x.value) for x in (self.minimum, self.maximum) if x is not None) if self.minimum is not None else 0


class SummaryOf:
    """Takes in the blocks of one tensor. Without `moments`, mean and deviation are not told."""

    def __init__(self, spec: TensorSpec, *, moments: bool = True) -> None:
        lane = lane_type(spec.dtype)
        layout = FLOAT_LAYOUTS.get(lane.name)
        self._tiny = math.ldexp(1.0, 1 - layout.bias) if layout is not None and layout.special != "scale" else 0.0
        axis = channel_axis(spec)
        self._channels = ChannelRangesOf(spec.shape, axis) if axis is not None else None
        self._counts = Counts()
        self._moments = Moments()
        self._wants_moments = moments
        self._low: Extreme | None = None
        self._high: Extreme | None = None
        self._smallest: Number = math.inf
        self._room: NDArray[Any] | None = None

    @property
    def unit(self) -> int:
        """What the blocks' lengths must be multiples of, see `reading.blocks`."""
        return self._channels.unit if self._channels is not None else 8

    def add(self, start: int, block: NDArray[Any]) -> None:
        """Take in a block, whose first number has the flat index `start`."""
        import numpy as np

        with np.errstate(all="ignore"):
            magnitude = self._magnitude(block)
            least = magnitude.min()
            if block.dtype.kind == "f" and least > 0 and least >= self._tiny:
                self._plain(start, block, float(least))
            else:
                self._particular(start, block, magnitude)

    def _magnitude(self, block: NDArray[Any]) -> NDArray[Any]:
        """`|block|` for floats, valid until the next call."""
        import numpy as np

        if block.dtype.kind != "f":
            return block
        if self._room is None or self._room.size < block.size:
            self._room = np.empty(block.size, block.dtype)
        room = self._room[: block.size]
        np.abs(block, out=room)
        return room

    def _plain(self, start: int, block: NDArray[Any], least: float) -> None:
        """A block without zeros, subnormals or NaNs; infinities show in its extremes, and it is looked at again without them."""
        low, high = self._range(start, block)
        if not (math.isfinite(low) and math.isfinite(high)):
            self._particular(start, block, self._magnitude(block))
            return
        self._counts += Counts(block.size)
        self._smallest = min(self._smallest, least)
        self._extremes(start, block, low, high)
        self._average(block)

    def _average(self, finite: NDArray[Any]) -> None:
        if self._wants_moments:
            self._moments.add(finite)

    def _particular(self, start: int, block: NDArray[Any], magnitude: NDArray[Any]) -> None:
        import numpy as np

        if block.dtype.kind != "f":
            self._integers(start, block)
            return
        count = np.count_nonzero
        zero = block == 0
        subnormal = (magnitude < self._tiny) & ~zero
        finite = np.isfinite(block)
        whole = bool(finite.all())
        self._counts += Counts(
            block.size,
            int(count(zero)),
            int(count(zero & np.signbit(block))) if zero.any() else 0,
            int(count(subnormal)),
            0 if whole else int(count(np.isnan(block))),
            0 if whole else int(count(block == np.inf)),
            0 if whole else int(count(block == -np.inf)),
        )
        used = block if whole else np.where(finite, block, np.nan)
        low, high = self._range(start, used)
        if math.isnan(low) or math.isnan(high):
            low, high = float(np.fmin.reduce(used)), float(np.fmax.reduce(used))
        if not math.isnan(low):
            self._extremes(start, used, low, high)
        self._smallest = min(self._smallest, float(np.min(magnitude, where=finite & ~zero, initial=np.inf)))
        self._average(block if whole else block[finite])

    def _integers(self, start: int, block: NDArray[Any]) -> None:
        import numpy as np

        self._counts += Counts(block.size, int(block.size - np.count_nonzero(block)))
        if self._channels is not None:
            self._channels.add(start, block.astype(np.float64))
        self._extremes(start, block, int(block.min()), int(block.max()))
        for part, sign in ((block[block > 0], 1), (block[block < 0], -1)):
            if part.size:
                self._smallest = min(self._smallest, sign * int(part.min() if sign > 0 else part.max()))
        self._average(block)

    def _range(self, start: int, block: NDArray[Any]) -> tuple[float, float]:
        if self._channels is not None:
            return self._channels.add(start, block)
        return float(block.min()), float(block.max())

    def _extremes(self, start: int, block: NDArray[Any], low: Number, high: Number) -> None:
        import numpy as np

        if self._low is None or low < self._low.value:
            self._low = Extreme(low, start + int(np.argmax(block == low)))
        if self._high is None or high > self._high.value:
            self._high = Extreme(high, start + int(np.argmax(block == high)))

    def result(self) -> Summary:
        """What was seen."""
        m = self._moments
        m.release()
        return Summary(
            counts=self._counts,
            mean=m.mean if m.count else None,
            std=m.std,
            minimum=self._low,
            maximum=self._high,
            smallest=self._smallest if self._smallest != math.inf else None,
            moments=m,
            channels=self._channels.result() if self._channels is not None else None,
        )
