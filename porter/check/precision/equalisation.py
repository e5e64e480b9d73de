"""Cross-layer equalisation, as advice: which pairs of weights would have more even channels if one gave its range to the next.

Where a layer's output goes through nothing, ReLU, PReLU or a pooling into the next layer, channel i of the first may be divided by s_i
and the next layer's input channel i multiplied by it: the network computes the same.
s_i = sqrt(r1_i · r2_i) / r2_i makes both ranges equal.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, section 4.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from porter.check.statistics.channels import ChannelAxis, ChannelRanges, ChannelRangesOf, channel_axis
from porter.check.statistics.reading import blocks
from porter.dataclass import dataclass
from porter.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORTH = 1.5
"""What the spread of a weight's channels must fall by to be worth saying."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two weights that follow each other, with the axes of the channels between them."""

    first: Tensor
    out_axis: int
    second: Tensor
    in_axis: int


@dataclass(frozen=True, slots=True)
class Advice:
    """Two weights that follow each other, and the spread of the output channels of the first, before and after."""

    first: str
    second: str
    before: float
    after: float


def by_order(tensors: Sequence[Tensor]) -> Iterator[Neighbours]:
    """Weights that follow each other in the file; whether they do in the network is for the reader to know."""
    weights = [t for t in tensors if t.dtype.kind == "float" and channel_axis(t.spec) is not None]
    for first, second in itertools.pairwise(weights):
        out, into = channel_axis(first.spec), _input_axis(second)
        if out is not None and into is not None:
            yield Neighbours(first, out.axis, second, into)


def advise(pairs: Iterable[Neighbours]) -> Iterator[Advice]:
    """Advice for weights that follow each other. Reads those whose channels fit."""
    import numpy as np

    for pair in pairs:
        if pair.first.shape[pair.out_axis] != pair.second.shape[pair.in_axis]:
            continue
        r1, r2 = _largest(pair.first, pair.out_axis), _largest(pair.second, pair.in_axis)
        alive = (r1 > 0) & (r2 > 0)
        if not alive.any():
            continue
        before = float(r1[alive].max() / np.median(r1[alive]))
        even = np.sqrt(r1[alive] * r2[alive])
        after = float(even.max() / np.median(even))
        if before >= WORTH * after:
            yield Advice(pair.first.name, pair.second.name, before, after)


def _input_axis(tensor: Tensor) -> int | None:
    """The axis of input channels; for a depthwise convolution, whose axis holds one, the channels themselves."""
    axis = channel_axis(tensor.spec)
    if axis is None:
        return None
    usual = 1 if axis.axis == 0 else len(tensor.shape) - 2
    into = tensor.axes.index("I") if tensor.axes is not None and "I" in tensor.axes else usual
    return axis.axis if tensor.shape[into] == 1 else into


def _largest(tensor: Tensor, axis: int) -> NDArray[np.float64]:
    """The largest finite magnitude of each channel."""
    import numpy as np

    ranges = ChannelRangesOf(tensor.shape, ChannelAxis(axis, True))
    with np.errstate(all="ignore"):
        for start, block in blocks(tensor, ranges.unit):
            ranges.add(start, np.where(np.isfinite(block), block, np.nan))
    found: ChannelRanges = ranges.result()
    return np.nan_to_num(np.maximum(np.abs(found.minimum), np.abs(found.maximum)))
