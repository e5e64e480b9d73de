"""The known causes, and the search among them. The more a cause explains with few numbers of its own, the earlier it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from porter.dataclass import dataclass
from porter.parity.causes import activation, arrangement, entry, linear, normalisation, pooling, resize, weights, windows
from porter.parity.causes.experiment import BETTER, Change, Trial, tried

ROUNDING = 3e-6
"""Of a value's largest magnitude: below that, one explanation is as good as another."""

EXACT = 3e-7
"""Of a value's largest magnitude: below that, there is nothing better."""


EXACTLY = 0.1
"""Of the tolerance: what a layer that was changed as the other side has it may be away from it, which is what rounding is, and no more."""

_WEIGHTS = "weights"
"""The cause that explains everything in which nothing but weights is another. Those that say how they are others come first."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one layer computes something else. id: for programs. name: for readers. fix: what to look at. changes: the experiments.

    fitted: whether these have numbers that are chosen so that they fit.
    """

    id: str
    name: str
    fix: str
    changes: Callable[[Trial], Iterator[Change]]
    fitted: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """A cause that an experiment bears out.

    changed: the side whose piece was changed, `a` or `b`. a, b: what each side does. before, after: how far the two were apart, and are
    then, relative to the value's scale.
    """

    cause: Cause
    changed: Literal["a", "b"]
    a: str
    b: str
    before: float
    after: float


TABLE = (
    Cause(
        "rgb-bgr",
        "RGB and BGR",
        "turn the colours of the input round, or the first layer's weights along their input channels",
        entry.colours,
    ),
    Cause(
        "ceil-pooling",
        "ceil pooling",
        "count the windows by the same rule, with padding behind the input where it rounds up",
        pooling.rounding,
    ),
    Cause("average-divisor", "average divisor", "count padding in averages as the other side does (count_include_pad)", pooling.divisor),
    Cause("pooling-kind", "maximum or average", "pool with the same function", pooling.kind),
    Cause("lrn-region", "LRN region", "normalise over the same region (norm_region)", normalisation.region),
    Cause(
        "lrn-alpha",
        "LRN alpha over the size",
        "divide alpha by the size of the window once: ONNX, Caffe and PyTorch do that themselves",
        normalisation.alpha,
    ),
    Cause("lrn-constant", "LRN parameters", "take the same k, size and beta", normalisation.constant),
    Cause("batch-norm-eps", "BatchNorm eps", "state the same eps; frameworks differ in their default", normalisation.eps),
    Cause(
        "batch-norm-factor",
        "BatchNorm scale factor",
        "divide Caffe's stored mean and variance by its third blob, once",
        normalisation.factor,
    ),
    Cause(
        "batch-norm-order", "BatchNorm blobs in another order", "give scale, bias, mean and variance their own places", normalisation.order
    ),
    Cause(
        "batch-norm-batch", "BatchNorm in training mode", "use the stored statistics: model.eval(), use_global_stats", normalisation.batch
    ),
    Cause("kernel-flipped", "kernel flipped", "turn the kernels round: a convolution is taken for a correlation", windows.flipped),
    Cause("kernel-transposed", "kernel transposed", "bring the weights' axes into the order that the layer takes", windows.transposed),
    Cause(
        "padding-side",
        "padding on another side",
        "state the padding before and behind as the other side has it; TensorFlow's SAME puts the odd one behind",
        windows.padding,
    ),
    Cause("dilation", "dilation", "state the same dilation", windows.dilation),
    Cause("stride", "stride", "state the same stride", windows.stride),
    Cause("groups", "channels in another order of groups", "shuffle the channels by the same number of groups", windows.groups),
    Cause(
        "flatten-order", "flatten order", "permute the weights' inputs, or the volume before it is flattened (CHW, HWC)", linear.flattening
    ),
    Cause("linear-transposed", "fully connected weights transposed", "transpose the weights (transB, transpose)", linear.transposed),
    Cause("activation-slope", "activation slope", "give the values below zero the same slope", activation.slope),
    Cause("activation", "another activation", "use the same function", activation.function),
    Cause("softmax-axis", "softmax axis", "take the softmax along the same axis", activation.axis),
    Cause("align-corners", "align corners", "state the same positions (align_corners, half_pixel)", resize.positions),
    Cause("resize-mode", "mode of resizing", "interpolate in the same way", resize.mode),
    Cause("input-scale", "input scale", "multiply the input of both by the same number", entry.scale, fitted=True),
    Cause("mean", "mean not subtracted", "subtract the same mean from the input of both", entry.mean, fitted=True),
    Cause("mean-and-scale", "mean and input scale", "prepare the input of both in the same way", entry.mean_and_scale, fitted=True),
    Cause("weights-swapped", "weights of another layer", "give each of the two layers its own weights", weights.swapped),
    Cause("weights-rounded", "weights rounded", "keep the weights as they were, or compare with a larger tolerance", weights.rounded),
    Cause("concat-order", "order of a concatenation", "put the inputs together in the same order", arrangement.concatenation),
    Cause("operation", "another operation", "combine the inputs in the same way", arrangement.operation),
    Cause(
        "factor",
        "a factor on everything",
        "look for a dropout that still scales, or a scale that is applied twice or never",
        arrangement.factor,
        fitted=True,
    ),
    Cause(_WEIGHTS, "the weights differ", "take the weights of both from the same file: the rest of the layer is the same", weights.others),
    Cause("bias", "bias missing", "give the layer the bias", weights.bias),
)


def explain(trials: Sequence[tuple[Literal["a", "b"], Trial]], before: float, tolerance: float) -> tuple[Explained, ...]:
    """The causes that experiments bear out, the best first. before: how far the sides are apart.

    A later trial is made only where no earlier one names a cause. All are tried: what brings the sides equally near explains the fault
    equally well, and is given in the order of the table.
    """
    weights = next(cause for cause in TABLE if cause.id == _WEIGHTS)
    plain = next((e for changed, trial in trials if (e := _best(weights, changed, trial, before, tolerance)) is not None), None)
    # Where other weights explain everything, no number is fitted.
    causes = [cause for cause in TABLE if cause is not weights and not (plain is not None and cause.fitted)]
    for changed, trial in trials:
        found = [e for cause in causes if (e := _best(cause, changed, trial, before, tolerance)) is not None]
        if found:
            nearest = min(e.after for e in found)
            return tuple([e for e in found if e.after <= max(ROUNDING, 4 * nearest)])
    return (plain,) if plain is not None else ()


def _best(cause: Cause, changed: Literal["a", "b"], trial: Trial, before: float, tolerance: float) -> Explained | None:
    best: Explained | None = None
    for change in cause.changes(trial):
        after = tried(trial, change)
        if after > EXACTLY * tolerance or after * BETTER > before or (best is not None and after >= best.after):
            continue
        a, b = (change.acts, change.has) if changed == "b" else (change.has, change.acts)
        best = Explained(cause, changed, a, b, before, after)
        if after <= EXACT:
            break
    return best
