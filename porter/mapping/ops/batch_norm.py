"""Batch normalisation with fixed statistics: `bn_stats`, and what folding it into a layer computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, replace
from porter.mapping.ops.base import FloatOperation, Irreversible, Operand, OperationError
from porter.mapping.ops.channels import check_vector
from porter.mapping.ops.checks import floating, number
from porter.mapping.ops.labels import by_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATISTICS = ("mean", "variance")
PARAMETERS = ("gamma", "beta", "scale_factor")
"""Inputs that may be missing: 1, 0 and 1 take their place."""


@dataclass(frozen=True, slots=True)
class BnStats(FloatOperation):
    """Caffe's running statistics as other frameworks hold them.

    `[{n}.0, {n}.1, {n}.2] | bn_stats -> [mean={n}.running_mean, variance={n}.running_var]`

    Caffe's BatchNorm holds sums that decay, and how much they weigh as a third blob of one element; what it normalises with
    is the sums divided by it, or 0 where it is 0. Without labels the inputs are in the order of the blobs.

    Exactness: one division in float64, so tensors of 32 bits or fewer get the nearest value to the true quotient (at most
    0.5 ULP; 53 bits are more than twice 24 and two, so rounding twice is rounding once), float64 too. Where the factor is
    exactly 1, every element keeps its bits. Caffe itself multiplies by the reciprocal in float32, at most 1.5 ULP away.

    Source: BVLC/caffe src/caffe/layers/batch_norm_layer.cpp (1.0).
    """

    name = "bn_stats"
    takes = "mean, variance, scale_factor"
    undone = "never: the scale factor is lost"

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        mean, variance, factor = self._order(inputs)
        floating(self.name, inputs)
        statistics = [replace(inputs[mean], label="mean"), replace(inputs[variance], label="variance")]
        if inputs[mean].shape != inputs[variance].shape:
            message = f"mean has the shape {list(inputs[mean].shape)}, variance {list(inputs[variance].shape)}"
            raise OperationError("M455", message, input=variance)
        check_vector(replace(inputs[factor], label="scale_factor"), factor, 1, "layers")
        return tuple(statistics)

    def _order(self, inputs: Sequence[Operand]) -> tuple[int, int, int]:
        if len(inputs) == 3 and all(o.label is None for o in inputs):
            return 0, 1, 2
        found = by_label(self.name, inputs, (*STATISTICS, "scale_factor"))
        return found["mean"], found["variance"], found["scale_factor"]

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the scale factor is not kept, and the quotients are rounded")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        mean, variance, factor = (inputs[i] for i in self._order(operands))
        return [divided(mean, factor), divided(variance, factor)]


def divided(statistic: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """`statistic` divided by the one element of `factor`; 0 where that is 0, the same array where it is 1."""
    import numpy as np

    by = factor.reshape(-1)[0]
    if by == 1:
        return statistic
    with np.errstate(all="ignore"):
        return np.zeros_like(statistic) if by == 0 else statistic / by


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """y = (x - mean) · scale + beta with one element for each channel, scale = gamma / sqrt(variance + eps).

    The arrays are vectors, all float64 or all float32; arithmetic is in that type.
    """

    mean: NDArray[Any]
    scale: NDArray[Any]
    beta: NDArray[Any] | None

    def bias(self, bias: NDArray[Any] | None) -> NDArray[Any]:
        """The bias of a layer followed by this: (bias - mean) · scale + beta."""
        shifted: NDArray[Any] = (0 - self.mean if bias is None else bias.reshape(-1) - self.mean) * self.scale
        if self.beta is not None:
            shifted = shifted + self.beta
        return shifted


def batch_norm(values: Mapping[str, NDArray[Any]], eps: float, index: int | None = None) -> BatchNorm:
    """The normalisation that the arrays by label say, in their own dtype. `index`: the variance's input, for the error.

    Raises:
        OperationError: variance + eps is not positive somewhere, so that nothing finite comes of it. (NaN stays NaN.)
    """
    import numpy as np

    mean, variance = (values[label].reshape(-1) for label in STATISTICS)
    if "scale_factor" in values:
        mean, variance = divided(mean, values["scale_factor"]), divided(variance, values["scale_factor"])
    under_root = variance + variance.dtype.type(eps)
    bad = np.flatnonzero(under_root <= 0)
    if bad.size:
        first = int(bad[0])
        which = f"{bad.size} of {variance.size} channels, first in channel {first}: {float(variance[first])!r} + {eps!r}"
        message = f"variance + eps is not positive in {which}"
        raise OperationError("M458", message, input=index)
    deviation = np.sqrt(under_root)
    scale = values["gamma"].reshape(-1) / deviation if "gamma" in values else 1 / deviation
    beta = values["beta"].reshape(-1) if "beta" in values else None
    return BatchNorm(mean, scale, beta)


def check_batch_norm(inputs: Sequence[Operand], found: Mapping[str, int], size: int) -> None:
    """Refuse parameters and statistics that are not those of `size` channels. `found`: the inputs' indices by part."""
    for part in (*STATISTICS, *PARAMETERS):
        if part in found:
            index = found[part]
            whose = "layers" if part == "scale_factor" else "output channels"
            check_vector(inputs[index], index, 1 if part == "scale_factor" else size, whose)


def check_eps(eps: object) -> None:
    """Refuse what cannot be added to a variance."""
    if number(eps, "eps") < 0:
        raise OperationError("M403", f"'eps' is 0 or more, not {eps!r:.40}", argument="eps")
