"""Weights themselves: none where there should be some, those of another layer, rounded ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial, samples

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def bias(trial: Trial) -> Iterator[Change]:
    """A bias that is missing or is one too many. Which, follows from the other side, or from what is wanted."""
    import numpy as np

    for number in fragment.numbers(trial.model, *WEIGHED[:3]):
        now = fragment.array(trial.model, number, 2)
        none = now is None or not now.any()
        if now is not None and not none:
            changed = fragment.edited(trial.model, number, arrays={2: np.zeros_like(now)})
            yield Change("a bias", "no bias", changed)
        elif none and trial.other is not None:
            for their in fragment.numbers(trial.other, trial.model.graph[number].op_type):
                bias = fragment.array(trial.other, their, 2)
                if bias is not None and bias.any():
                    yield Change("no bias", "the other side's bias", fragment.edited(trial.model, number, arrays={2: bias}))
    if _has_bias(trial.model):
        return
    constant = _constant(trial)
    if constant is not None:
        yield Change("no bias", f"a bias, {constant.min():.4g} to {constant.max():.4g}", after=lambda made: made + constant)


def _has_bias(model: ir.Model) -> bool:
    arrays = [fragment.array(model, number, 2) for number in fragment.numbers(model, *WEIGHED[:3])]
    return not fragment.numbers(model, *WEIGHED) or any(a is not None and a.any() for a in arrays)


def _constant(trial: Trial) -> NDArray[Any] | None:
    """What each channel of the result lacks, on the average, ready to be added."""
    import numpy as np

    known = samples(trial)
    if known is None or trial.made is None or trial.made.ndim < 2:
        return None
    where, made, wanted = known
    shape = trial.made.shape
    channel = np.unravel_index(where, shape)[1]
    count = np.bincount(channel, None, shape[1])
    missing = np.bincount(channel, wanted - made, shape[1]) / np.maximum(count, 1)
    # Where a channel has a value or two, a number that fits says nothing.
    if int(count.min()) < 4:
        return None
    return missing.astype(trial.made.dtype).reshape(1, -1, *[1] * (len(shape) - 2))


def swapped(trial: Trial) -> Iterator[Change]:
    """Weights of another layer whose shapes are the same."""
    nodes = _weighing(trial.model)
    for layer, other in trial.alike() if nodes else ():
        theirs = _weighing(other)
        if [k for k, _ in nodes.values()] != [k for k, _ in theirs.values()]:
            continue
        for only_first, said in ((False, "the weights"), (True, "the weights but for the bias")):
            made = trial.model
            for number, (_, arrays) in zip(nodes, theirs.values(), strict=True):
                made = fragment.edited(made, number, arrays={p: a for p, a in arrays.items() if p == 1 or not only_first})
            yield Change("its own weights", f"{said} of '{layer}'", made)


def others(trial: Trial) -> Iterator[Change]:
    """The other side's own weights, where they are in the same place and have the same shape."""
    import numpy as np

    made, said = trial.model, []
    for weight in trial.weights:
        for number in range(len(made.graph)):
            for position in range(len(made.graph[number].inputs)):
                held = fragment.array(made, number, position)
                if held is not None and held.shape == weight.values.shape and np.array_equal(held, weight.values, equal_nan=True):
                    made = fragment.edited(made, number, arrays={position: weight.theirs})
                    said.append(weight)
    if said:
        own, theirs = (
            ", ".join(dict.fromkeys(f"'{n}'" for n in names)) for names in ([w.name for w in said], [w.their_name for w in said])
        )
        far = max(apart(w.values, w.theirs) for w in said)
        yield Change(own, f"{theirs}, max |Δ| {far:.2g}", made)


def apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest |Δ|; infinite where one alone is not finite."""
    import numpy as np

    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        far = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    return float(np.where(np.isnan(far), np.inf, far).max(initial=0.0))


def _weighing(model: ir.Model) -> dict[int, tuple[str, dict[int, NDArray[Any]]]]:
    """The nodes with weights: the operator, and the arrays by position."""
    found = {}
    for number in fragment.numbers(model, *WEIGHED, "BatchNormalization", "PRelu"):
        arrays = {p: a for p in range(1, len(model.graph[number].inputs)) if (a := fragment.array(model, number, p)) is not None}
        if arrays:
            found[number] = (model.graph[number].op_type, arrays)
    return found


def rounded(trial: Trial) -> Iterator[Change]:
    """Weights as a narrower type holds them. Only the side that has them whole can be tried."""
    nodes = _weighing(trial.model)
    for dtype in ("float16", "bfloat16", "tf32", "int8 for each tensor", "int8 for each channel"):
        # Biases are often kept as they are.
        for least, said in ((1, "its weights"), (2, "its weights but for biases")):
            made = trial.model
            for number, (kind, arrays) in nodes.items():
                axis = 1 if kind == "ConvTranspose" else 0
                narrow = {p: narrowed(a, dtype, axis) for p, a in arrays.items() if a.ndim >= least}
                made = fragment.edited(made, number, arrays=narrow)
            if nodes:
                yield Change("its weights whole", f"{said} rounded to {dtype}", made)


def narrowed(array: NDArray[Any], dtype: str, axis: int = 0) -> NDArray[Any]:
    """The array's values as that type holds them. Of int8, only weights are rounded: symmetric, by the largest magnitude."""
    import ml_dtypes
    import numpy as np

    if array.dtype != np.float32:
        return array
    if dtype == "tf32":
        # Ten bits of mantissa, to nearest, ties to even.
        bits = array.view(np.uint32).astype(np.uint64)
        return ((bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)
    if dtype.startswith("int8"):
        if array.ndim < 2:
            return array
        axes = tuple(n for n in range(array.ndim) if n != axis) if "channel" in dtype else None
        scale = np.abs(array).max(axis=axes, keepdims=True) / 127
        safe = np.where(scale > 0, scale, np.float32(1))
        return np.clip(np.rint(array / safe), -127, 127).astype(np.float32) * safe
    with np.errstate(over="ignore"):
        return array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16).astype(np.float32)
