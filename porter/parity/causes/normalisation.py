"""Normalisation: eps, statistics and their scale factor in BatchNorm; region, size and constant in LRN.

Source: BVLC/caffe batch_norm_layer.cpp and lrn_layer.cpp at 9b891540183d; ONNX operators BatchNormalization and LRN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial, samples

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

_EPS = (1e-5, 1e-3, 1e-4, 2e-5, 1e-6, 1e-2, 1e-9, 1e-10, 1e-12, 0.0, 1.001e-5)
"""What frameworks take: Caffe, PyTorch and ONNX 1e-5; Keras 1e-3; MXNet 1e-3 and 2e-5; Caffe2 and others 1e-4, 1e-6."""

_BLOBS = ("scale", "bias", "mean", "variance")


def eps(trial: Trial) -> Iterator[Change]:
    """Another number added to the variance."""
    theirs = [] if trial.other is None else [_eps(trial.other, n) for n in fragment.numbers(trial.other, "BatchNormalization")]
    theirs += [trial.settings[name] for name in ("eps", "epsilon") if name in trial.settings]
    for number in fragment.numbers(trial.model, "BatchNormalization"):
        now = _eps(trial.model, number)
        for new in dict.fromkeys([*theirs, *_EPS]):
            if abs(new - now) > 1e-12:
                yield Change(f"eps {now:g}", f"eps {new:g}", fragment.edited(trial.model, number, attributes={"epsilon": new}))


def _eps(model: ir.Model, number: int) -> float:
    # An attribute of ONNX is float32, and its shortest decimal form is what somebody wrote.
    import numpy as np

    return float(str(np.float32(fragment.attribute(model, number, "epsilon", 1e-5))))


def factor(trial: Trial) -> Iterator[Change]:
    """Stored statistics over one number, as Caffe's scale factor is: which, follows from what is wanted."""
    for number, blobs in _batch_norms(trial):
        found = _factor(trial, number, blobs)
        if found is None or abs(found - 1) < 1e-3:
            continue
        mean, variance = blobs[2], blobs[3]
        for what, arrays in (
            ("mean and variance", {3: mean / found, 4: variance / found}),
            ("the variance", {4: variance / found}),
            ("the mean", {3: mean / found}),
        ):
            said = f"divided by {found:.6g}" if found > 1 else f"times {1 / found:.6g}"
            rounded = {k: v.astype(mean.dtype) for k, v in arrays.items()}
            yield Change(f"{what} as they are stored", f"{what} {said}", fragment.edited(trial.model, number, arrays=rounded))


def _factor(trial: Trial, number: int, blobs: Sequence[NDArray[Any]]) -> float | None:
    """The number that makes the slopes of what is wanted, or its means, those of this BatchNorm: the median over its channels."""
    import numpy as np

    known = samples(trial)
    name = trial.model.graph[number].inputs[0]
    x = trial.feeds.get(name.name or "") if name is not None else None
    if known is None or x is None or trial.made is None or x.shape != trial.made.shape or x.ndim < 2:
        return None
    where, _, wanted = known
    channel = np.unravel_index(where, x.shape)[1]
    at = x.reshape(-1)[where].astype(np.float64)
    scale, bias, mean, variance = (b.astype(np.float64) for b in blobs)
    slope, offset = _lines(channel, at, wanted, len(mean))
    with np.errstate(all="ignore"):
        found = variance / ((scale / slope) ** 2 - _eps(trial.model, number))
        found = found[np.isfinite(found) & (found > 0)]
        if found.size and abs(float(np.median(found)) - 1) > 1e-3:
            return float(np.median(found))
        # The slopes are right; the mean alone may be divided.
        centre = (bias - offset) / slope
        ratio = mean / centre
    ratio = ratio[np.isfinite(ratio) & (np.abs(mean) > 1e-3 * np.abs(mean).max(initial=0))]
    return float(np.median(ratio)) if ratio.size and float(np.median(ratio)) > 0 else None


def _lines(channel: NDArray[Any], x: NDArray[Any], y: NDArray[Any], channels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Slope and offset of the line through the points of each channel, least squares; NaN where there are too few."""
    import numpy as np

    count, sum_x, sum_y = (np.bincount(channel, w, channels) for w in (None, x, y))
    with np.errstate(all="ignore"):
        mean_x, mean_y = sum_x / count, sum_y / count
        dx, dy = x - mean_x[channel], y - mean_y[channel]
        slope = np.bincount(channel, dx * dy, channels) / np.bincount(channel, dx * dx, channels)
        return slope, mean_y - slope * mean_x


def order(trial: Trial) -> Iterator[Change]:
    """Scale, bias, mean and variance taken for one another."""
    for number, blobs in _batch_norms(trial):
        for places in list(permutations(range(4)))[1:]:
            said = ", ".join(_BLOBS[p] for p in places)
            arrays: dict[int, Any] = {i + 1: blobs[p] for i, p in enumerate(places)}
            yield Change("its blobs in this order", f"its blobs as {said}", fragment.edited(trial.model, number, arrays=arrays))


def batch(trial: Trial) -> Iterator[Change]:
    """Statistics of the values at hand instead of the stored ones, as in training."""
    for number, _ in _batch_norms(trial):
        name = trial.model.graph[number].inputs[0]
        x = trial.feeds.get(name.name or "") if name is not None else None
        if x is not None and x.ndim > 1:
            axes = (0, *range(2, x.ndim))
            arrays: dict[int, Any] = {3: x.mean(axes, dtype="f8").astype(x.dtype), 4: x.var(axes, dtype="f8").astype(x.dtype)}
            yield Change("the stored statistics", "statistics of this batch", fragment.edited(trial.model, number, arrays=arrays))


def _batch_norms(trial: Trial) -> Iterator[tuple[int, list[NDArray[Any]]]]:
    for number in fragment.numbers(trial.model, "BatchNormalization"):
        blobs = [fragment.array(trial.model, number, position) for position in range(1, 5)]
        found = [b for b in blobs if b is not None]
        if len(found) == 4:
            yield number, found


def region(trial: Trial) -> Iterator[Change]:
    """LRN within channels instead of across them, or the other way round."""
    for number, size, alpha, beta, constant in _across(trial.model):
        changed = fragment.rebuilt(trial.model, number, _within(size, alpha, beta, constant))
        yield Change("LRN across channels", f"LRN within channels over {size} x {size}", changed)


def alpha(trial: Trial) -> Iterator[Change]:
    """LRN whose alpha is divided by the size of its window, or is not; over the plane, or along the channels."""
    for number, size, factor, _, _ in _across(trial.model):
        for new, said in ((factor * size, "alpha not divided by the size"), (factor / size, "alpha divided by the size twice")):
            yield Change(f"alpha {factor:g} over {size}", said, fragment.edited(trial.model, number, attributes={"alpha": new}))
        wide = factor / size
        yield Change(f"alpha {factor:g} over {size}", "alpha over the size squared", _set(trial, number, alpha=wide))


def _set(trial: Trial, number: int, **attributes: float) -> ir.Model:
    return fragment.edited(trial.model, number, attributes=attributes)


def constant(trial: Trial) -> Iterator[Change]:
    """LRN with another of its numbers: what is added before the power, the power, the window."""
    for number, size, _, power, k in _across(trial.model):
        for new in (1.0, 2.0):
            if new != k:
                yield Change(f"k {k:g}", f"k {new:g}", _set(trial, number, bias=new))
        for other in (3, 5, 7, 9):
            if other != size:
                yield Change(f"local_size {size}", f"local_size {other}", _set(trial, number, size=other))
        for new in (0.5, 0.75, 1.0):
            if abs(new - power) > 1e-6:
                yield Change(f"beta {power:g}", f"beta {new:g}", _set(trial, number, beta=new))


def _across(model: ir.Model) -> Iterator[tuple[int, int, float, float, float]]:
    """Where an LRN is, with its size, alpha, beta and constant."""
    for number in fragment.numbers(model, "LRN"):
        get = fragment.attribute
        size = int(get(model, number, "size", 1))
        yield number, size, get(model, number, "alpha", 1e-4), get(model, number, "beta", 0.75), get(model, number, "bias", 1.0)


def _within(size: int, alpha: float, beta: float, constant: float) -> fragment.Build:
    def build(model: ir.Model, inputs: Sequence[Any]) -> list[Any]:
        import numpy as np
        import onnx_ir as ir

        def number(value: float) -> ir.Value:
            return fragment.held(model, np.array(value, np.float32))

        (x,) = inputs
        square = ir.node("Mul", [x, x])
        window: dict[str, Any] = {"kernel_shape": [size, size], "strides": [1, 1], "pads": [size // 2] * 4, "count_include_pad": 1}
        mean = ir.node("AveragePool", [square.outputs[0]], window)
        times = ir.node("Mul", [mean.outputs[0], number(alpha)])
        base = ir.node("Add", [times.outputs[0], number(constant)])
        power = ir.node("Pow", [base.outputs[0], number(beta)])
        return [square, mean, times, base, power, ir.node("Div", [x, power.outputs[0]])]

    return build
