"""Cross-layer equalisation, as advice: which pairs of weights would have more even channels if one gave its range to the next.

Where a layer's output goes through nothing, ReLU or PReLU into the next layer, channel i of the first may be divided by s_i and the
next layer's input channel i multiplied by it: the network computes the same. s_i = sqrt(r1_i · r2_i) / r2_i makes both ranges equal.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, section 4.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
class Advice:
    """Two weights that follow each other in the file, and the spread of the output channels of the first, before and after."""

    first: str
    second: str
    before: float
    after: float


def advise(tensors: Sequence[Tensor]) -> Iterator[Advice]:
    """Advice for weights in the order of the file; whether they follow each other in the network is for the reader to know.

    Reads the weights of convolutions and products whose channels fit.
    """
    import numpy as np

    weights = [t for t in tensors if t.dtype.kind == "float" and channel_axis(t.spec) is not None]
    for first, second in itertools.pairwise(weights):
        out = channel_axis(first.spec)
        into = _input_axis(second)
        if out is None or into is None or first.shape[out.axis] != second.shape[into]:
            continue
        r1, r2 = _largest(first, out), _largest(second, ChannelAxis(into, True))
        alive = (r1 > 0) & (r2 > 0)
        if not alive.any():
            continue
        before = float(r1[alive].max() / np.median(r1[alive]))
        even = np.sqrt(r1[alive] * r2[alive])
        after = float(even.max() / np.median(even))
        if before >= WORTH * after:
            yield Advice(first.name, second.name, before, after)


def _input_axis(tensor: Tensor) -> int | None:
    """The axis of input channels; for a depthwise convolution, whose axis holds one, the channels themselves."""
    axis = channel_axis(tensor.spec)
    if axis is None:
        return None
    usual = 1 if axis.axis == 0 else len(tensor.shape) - 2
    into = tensor.axes.index("I") if tensor.axes is not None and "I" in tensor.axes else usual
    return axis.axis if tensor.shape[into] == 1 else into


def _largest(tensor: Tensor, axis: ChannelAxis) -> NDArray[np.float64]:
    import numpy as np

    ranges = ChannelRangesOf(tensor.shape, axis)
    with np.errstate(all="ignore"):
        for start, block in blocks(tensor, ranges.unit):
            ranges.add(start, np.where(np.isfinite(block), block, np.nan))
    found: ChannelRanges = ranges.result()
    return np.nan_to_num(np.maximum(np.abs(found.minimum), np.abs(found.maximum)))
