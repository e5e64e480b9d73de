"""Layers that put values together: the order of a Concat, what an elementwise layer does, a factor on everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial, samples

_BINARY = ("Add", "Mul", "Sub", "Max", "Min", "Div")
_MOST = 4
"""Values whose orders are all tried; of more, neighbours are swapped, and the whole turned round."""


def concatenation(trial: Trial) -> Iterator[Change]:
    """Its inputs in another order, or along another axis."""
    for number in fragment.numbers(trial.model, "Concat"):
        count = len(trial.model.graph[number].inputs)
        for order in _orders(count):
            said = ", ".join(str(n + 1) for n in order)
            changed = fragment.rebuilt(trial.model, number, _ordered(order, trial.model.graph[number].attributes["axis"].value))
            yield Change("its inputs in this order", f"its inputs in the order {said}", changed)


def _orders(count: int) -> list[tuple[int, ...]]:
    if count <= _MOST:
        return list(permutations(range(count)))[1:]
    plain = list(range(count))
    swaps = [(*plain[:i], i + 1, i, *plain[i + 2 :]) for i in range(count - 1)]
    return [tuple(plain[::-1]), *swaps]


def _ordered(order: Sequence[int], axis: int) -> fragment.Build:
    def build(model: Any, inputs: Sequence[Any]) -> list[Any]:
        import onnx_ir as ir

        return [ir.node("Concat", [inputs[n] for n in order], {"axis": axis})]

    return build


def operation(trial: Trial) -> Iterator[Change]:
    """A sum instead of a product or a maximum, or the operands the other way round."""
    for number in fragment.numbers(trial.model, *_BINARY):
        node = trial.model.graph[number]
        if len(node.inputs) != 2 or len(trial.feeds) < 2:
            continue
        for kind in _BINARY:
            for turned in (False, True) if kind in ("Sub", "Div") else (False,):
                if (kind, turned) != (node.op_type, False):
                    changed = fragment.rebuilt(trial.model, number, _combined(kind, turned))
                    yield Change(node.op_type, kind + (" with its operands the other way round" if turned else ""), changed)


def _combined(kind: str, turned: bool) -> fragment.Build:
    def build(model: Any, inputs: Sequence[Any]) -> list[Any]:
        import onnx_ir as ir

        return [ir.node(kind, list(inputs)[:: -1 if turned else 1])]

    return build


def factor(trial: Trial) -> Iterator[Change]:
    """Everything times one number, as of a dropout that still scales."""
    import numpy as np

    known = samples(trial)
    if known is None:
        return
    _, made, wanted = known
    squares = float(made @ made)
    number = float(made @ wanted) / squares if squares else 1.0
    if abs(number - 1) > 1e-4 and number != 0:
        near = float(f"{number:.3g}")
        number = near if abs(near - number) < 1e-5 * abs(number) else number
        dtype = trial.made.dtype if trial.made is not None else np.float32
        yield Change("its result as it is", f"its result times {number:.6g}", after=lambda array: (array * number).astype(dtype))
