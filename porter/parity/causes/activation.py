"""Activations: the slope below zero, another function altogether, the axis of a softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial, samples

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

SLOPED = ("Relu", "LeakyRelu", "PRelu")

_PLAIN = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "Elu": {"alpha": 1.0},
    "Softplus": {},
    "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5},
    "HardSwish": {},
    "Selu": {},
    "Identity": {},
}
"""Functions of ONNX that one may be taken for."""


def slope(trial: Trial) -> Iterator[Change]:
    """What values below zero are multiplied by, as it follows from what is wanted: one number, or one for each channel."""
    for number in fragment.numbers(trial.model, *SLOPED):
        found = _slopes(trial, number)
        if found is None:
            continue
        x, slopes = found
        now = _slope(trial.model, number)
        shared = float(slopes[slopes == slopes].mean()) if (slopes == slopes).any() else None
        if shared is None:
            continue
        shared = _known(shared)
        import numpy as np

        spread = np.where(slopes == slopes, slopes, shared).astype(np.float32)
        # Few significant digits are what somebody wrote; more are what was learnt.
        yield Change(now, f"slope {shared:g} for all", fragment.rebuilt(trial.model, number, _sloped(np.array(shared, np.float32))))
        if len(spread) > 1:
            aligned = spread.reshape(-1, *[1] * (x - 2))
            said = f"a slope for each channel, {spread.min():.4g} to {spread.max():.4g}"
            yield Change(now, said, fragment.rebuilt(trial.model, number, _sloped(aligned)))


def _slopes(trial: Trial, number: int) -> tuple[int, NDArray[Any]] | None:
    """The rank of what comes in, and for each channel the slope below zero (NaN: nothing is there)."""
    import numpy as np

    known = samples(trial)
    value = trial.model.graph[number].inputs[0]
    x = trial.feeds.get(value.name or "") if value is not None else None
    if known is None or x is None or trial.made is None or x.shape != trial.made.shape or x.ndim < 2:
        return None
    where, _, wanted = known
    at = x.reshape(-1)[where].astype(np.float64)
    below = at < 0
    channel = np.unravel_index(where[below], x.shape)[1]
    with np.errstate(all="ignore"):
        squares = np.bincount(channel, at[below] ** 2, x.shape[1])
        return x.ndim, np.where(squares > 0, np.bincount(channel, at[below] * wanted[below], x.shape[1]) / squares, np.nan)


def _known(slope: float) -> float:
    """The number of two digits that it is nearest to, if it is near."""
    near = float(f"{slope:.2g}")
    return near if abs(near - slope) < 1e-5 else slope


def _slope(model: ir.Model, number: int) -> str:
    kind = model.graph[number].op_type
    if kind == "Relu":
        return "slope 0"
    if kind == "LeakyRelu":
        return f"slope {fragment.attribute(model, number, 'alpha', 0.01):g}"
    slopes = fragment.array(model, number, 1)
    if slopes is None:
        return "slopes that are computed"
    low, high = float(slopes.min(initial=0 if not slopes.size else slopes.flat[0])), float(slopes.max())
    return f"slope {low:g} for all" if slopes.size == 1 else f"a slope for each channel, {low:.4g} to {high:.4g}"


def _sloped(slopes: NDArray[Any]) -> fragment.Build:
    def build(model: ir.Model, inputs: Sequence[Any]) -> list[Any]:
        import onnx_ir as ir

        return [ir.node("PRelu", [inputs[0], fragment.held(model, slopes)])]

    return build


def function(trial: Trial) -> Iterator[Change]:
    """Another function of each value."""
    kinds = {*_PLAIN, *SLOPED, "Clip", "Gelu", "Erf"} - {"Identity"}
    for number in fragment.numbers(trial.model, *kinds):
        old = trial.model.graph[number].op_type
        for kind, attributes in _PLAIN.items():
            # From one slope to another is a cause of its own.
            if kind != old and not {kind, old} <= {*SLOPED}:
                yield Change(_said(old), _said(kind), fragment.rebuilt(trial.model, number, _plain(kind, attributes)))
        for low, high in ((0.0, 6.0), (-1.0, 1.0), (0.0, 1.0), (0.0, 20.0)):
            said = f"limits {low:g} and {high:g}"
            yield Change(_said(old), said, fragment.rebuilt(trial.model, number, _clipped(low, high)))
        yield Change(_said(old), "x · sigmoid(x)", fragment.rebuilt(trial.model, number, _swish))


def _said(operator: str) -> str:
    return "nothing" if operator == "Identity" else operator


def _plain(kind: str, attributes: dict[str, float]) -> fragment.Build:
    def build(model: ir.Model, inputs: Sequence[Any]) -> list[Any]:
        import onnx_ir as ir

        return [ir.node(kind, [inputs[0]], attributes)]

    return build


def _clipped(low: float, high: float) -> fragment.Build:
    def build(model: ir.Model, inputs: Sequence[Any]) -> list[Any]:
        import numpy as np
        import onnx_ir as ir

        return [ir.node("Clip", [inputs[0], *(fragment.held(model, np.array(n, np.float32)) for n in (low, high))])]

    return build


def _swish(model: ir.Model, inputs: Sequence[Any]) -> list[Any]:
    import onnx_ir as ir

    gate = ir.node("Sigmoid", [inputs[0]])
    return [gate, ir.node("Mul", [inputs[0], gate.outputs[0]])]


def axis(trial: Trial) -> Iterator[Change]:
    """A softmax along another axis, or its logarithm."""
    others = {"Softmax": "LogSoftmax", "LogSoftmax": "Softmax"}
    for number in fragment.numbers(trial.model, *others):
        kind, now = trial.model.graph[number].op_type, fragment.attribute(trial.model, number, "axis", -1)
        rank = trial.made.ndim if trial.made is not None else 0
        for new in range(rank):
            if new != now % rank:
                yield Change(f"axis {now}", f"axis {new}", fragment.edited(trial.model, number, attributes={"axis": new}))
        yield Change(kind, others[kind], fragment.edited(trial.model, number, kind=others[kind]))
