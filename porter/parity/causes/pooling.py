"""Pooling: how its output's size is rounded, and what an average is divided by.

Source: BVLC/caffe pooling_layer.cpp at 9b891540183d; ONNX operators MaxPool and AveragePool; PyTorch's AvgPool2d.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial, run

if TYPE_CHECKING:
    import onnx_ir as ir

_DIVISORS = {"padding": "what lies in the padding", "inside": "what lies inside the input", "kernel": "the whole window"}
"""What an average is divided by: how many of its window's values are counted."""


@dataclass(frozen=True, slots=True)
class _Windows:
    """Along one axis. size: of what is pooled. begin: padding before it, and behind it, as far as that is no matter of rounding."""

    size: int
    kernel: int
    stride: int
    begin: int

    def count(self, rule: str) -> int:
        """How many there are: `floor`, or `ceil`, whose last window does not start in the padding."""
        room = self.size + 2 * self.begin - self.kernel
        if rule == "floor":
            return room // self.stride + 1
        windows = -(-room // self.stride) + 1
        return windows - ((windows - 1) * self.stride >= self.size + self.begin)

    def end(self, rule: str) -> int:
        """What the last window covers behind the input."""
        return max(0, (self.count(rule) - 1) * self.stride + self.kernel - self.size - self.begin)


def rounding(trial: Trial) -> Iterator[Change]:
    """The other rule for the size of the output."""
    now = None if trial.made is None else trial.made.shape[2:]
    for windows, divisor, rule, model in _ways(trial):
        shape = tuple([w.count(rule) for w in windows])
        if shape == tuple(trial.wanted.shape[2:]) and shape != now:
            has = "a window too many or too few" if now is None else f"{_by(now)} windows"
            counted = "" if divisor is None else f", its averages over {_DIVISORS[divisor]}"
            yield Change(has, f"the number of windows rounded {'up' if rule == 'ceil' else 'down'}: {_by(shape)}{counted}", model)


def divisor(trial: Trial) -> Iterator[Change]:
    """An average over another count of the window's values."""
    now = None if trial.made is None else tuple(trial.made.shape[2:])
    for windows, counted, rule, model in _ways(trial):
        if counted is not None and tuple([w.count(rule) for w in windows]) == now:
            yield Change("averages over another count", f"averages over {_DIVISORS[counted]}", model)


def kind(trial: Trial) -> Iterator[Change]:
    """The maximum instead of the average, or the other way round."""
    others = {
        "MaxPool": "AveragePool",
        "AveragePool": "MaxPool",
        "GlobalMaxPool": "GlobalAveragePool",
        "GlobalAveragePool": "GlobalMaxPool",
    }
    for number in fragment.numbers(trial.model, *others):
        old = trial.model.graph[number].op_type
        attributes: dict[str, Any] = {"storage_order": None, "dilations": None, "count_include_pad": None}
        for include in (1, 0) if others[old] == "AveragePool" else (None,):
            changed = fragment.edited(trial.model, number, kind=others[old], attributes=attributes | {"count_include_pad": include})
            yield Change(_kind(old), _kind(others[old]), changed)


def _kind(operator: str) -> str:
    return "the maximum" if "Max" in operator else "the average"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _ways(trial: Trial) -> Iterator[tuple[list[_Windows], str | None, str, ir.Model]]:
    """Every way to pool with these windows: what averages count (None for maxima), the rule for the size, and the piece so changed."""
    for number in fragment.numbers(trial.model, "MaxPool", "AveragePool"):
        windows = _read(trial, number)
        if windows is None:
            continue
        average = trial.model.graph[number].op_type == "AveragePool"
        for rule in ("floor", "ceil"):
            for counted in _DIVISORS if average else (None,):
                yield (
                    windows,
                    counted,
                    rule,
                    fragment.rebuilt(trial.model, number, _pool(windows, rule, counted, _padded(trial.model, number))),
                )


def _read(trial: Trial, number: int) -> list[_Windows] | None:
    """The windows of a pooling node along height and width. A Pad right before it counts as its padding."""
    node = trial.model.graph[number]
    kernel = fragment.attribute(trial.model, number, "kernel_shape", ())
    pads = list(fragment.attribute(trial.model, number, "pads", [0, 0, 0, 0]))
    strides = fragment.attribute(trial.model, number, "strides", [1, 1])
    if len(kernel) != 2 or any(d != 1 for d in fragment.attribute(trial.model, number, "dilations", [1, 1])):
        return None
    source = node.inputs[0]
    before = _padded(trial.model, number)
    if before is not None:
        said = fragment.array(trial.model, before, 1)
        if said is None or len(said) != 8:
            return None
        pads = [p + int(n) for p, n in zip(pads, (*said[2:4], *said[6:8]), strict=True)]
        source = trial.model.graph[before].inputs[0]
    size = _size(trial, source.name or "" if source is not None else "")
    if size is None:
        return None
    # What rounding up added at the end is not padding that somebody asked for; begin and end are asked for alike.
    return [_Windows(n, k, s, b) for n, k, s, b in zip(size, kernel, strides, pads[:2], strict=True)]


def _padded(model: ir.Model, number: int) -> int | None:
    """The Pad node that a pooling node reads from."""
    value = model.graph[number].inputs[0]
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "Pad":
        return None
    return next(n for n, node in enumerate(model.graph) if node is producer)


def _size(trial: Trial, name: str) -> tuple[int, int] | None:
    """Height and width of a value in the piece."""
    if name in trial.feeds:
        shape = trial.feeds[name].shape
    else:
        inner = fragment.joined([_showing(trial.model, name)], list(trial.feeds), name)
        made = None if inner is None else run(inner, trial.feeds)
        shape = () if made is None else made.shape
    return (int(shape[2]), int(shape[3])) if len(shape) == 4 else None


def _showing(model: ir.Model, name: str) -> ir.Model:
    made = model.clone()
    made.graph.outputs[:] = [next(v for node in made.graph for v in node.outputs if v.name == name)]
    return made


def _pool(windows: Sequence[_Windows], rule: str, counted: str | None, before: int | None) -> fragment.Build:
    """The nodes that pool so; averages with what they count stated by a Pad of zeros where ONNX cannot say it."""

    def build(model: ir.Model, inputs: Sequence[Any]) -> list[Any]:
        import numpy as np
        import onnx_ir as ir

        x = inputs[0] if before is None else inputs[0].producer().inputs[0]
        begin, end = [w.begin for w in windows], [w.end(rule) for w in windows]
        shared = {"kernel_shape": [w.kernel for w in windows], "strides": [w.stride for w in windows]}
        if counted is None:
            return [ir.node("MaxPool", [x], {**shared, "pads": [*begin, *end]})]
        if counted == "inside":
            return [ir.node("AveragePool", [x], {**shared, "pads": [*begin, *end]})]
        # The padding that is counted, and what lies behind it and is not.
        inside = end if counted == "kernel" else [min(e, w.begin) for e, w in zip(end, windows, strict=True)]
        pads = fragment.held(model, np.array([0, 0, *begin, 0, 0, *inside], np.int64))
        padded = ir.node("Pad", [x, pads, fragment.held(model, np.zeros((), np.float32))])
        behind = [e - i for e, i in zip(end, inside, strict=True)]
        return [padded, ir.node("AveragePool", [padded.outputs[0]], {**shared, "pads": [0, 0, *behind]})]

    return build
