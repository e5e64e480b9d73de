"""Fully connected layers: the order in which a volume was flattened, and weights that lie the other way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

KINDS = ("Gemm", "MatMul")


def flattening(trial: Trial) -> Iterator[Change]:
    """What comes in is a volume that was flattened in another order than the weights (or whoever reads it) take it to be."""
    volumes = [tuple(a.shape[1:]) for a in trial.feeds.values() if a.ndim == 4]
    if trial.planes is not None and len(trial.planes) == 4:
        volumes.append(tuple(trial.planes[1:]))
    for shape in dict.fromkeys(v for v in volumes if sum(n > 1 for n in v) > 1):
        for order, said in _orders(shape):
            for number, weight, axis in _weights(trial.model):
                if weight.shape[axis] == math.prod(shape):
                    changed = fragment.edited(trial.model, number, arrays={1: weight.take(order, axis)})
                    yield Change(*said, changed)
            if not _weights(trial.model) and trial.made is not None and trial.made.ndim == 2 and trial.made.shape[1] == len(order):
                yield Change(*said, after=_picked(order))


def _orders(shape: Sequence[int]) -> Iterator[tuple[NDArray[Any], tuple[str, str]]]:
    """Other orders of a volume's values: what is read at each place, and how it is said."""
    import numpy as np

    names = ("channels", "height", "width")
    places = np.arange(math.prod(shape))
    for axes in list(permutations(range(3)))[1:]:
        # Whether the volume or the weights are in that order is the same to the result.
        said = f"in another: channels, height, width are taken for {', '.join(names[a] for a in axes)}, or these for them"
        moved = places.reshape(shape).transpose(axes).reshape(-1)
        for order in (moved, np.argsort(moved)):
            if not (order == places).all():
                yield order, ("its volume flattened in one order", said)


def _picked(order: NDArray[Any]) -> Any:
    return lambda made: made[:, order]


def transposed(trial: Trial) -> Iterator[Change]:
    """Weights of which rows are columns, or whose memory was read so."""
    for number, weight, _ in _weights(trial.model):
        if weight.ndim != 2:
            continue
        rows, columns = weight.shape
        if rows == columns:
            changed = fragment.edited(trial.model, number, arrays={1: weight.T})
            yield Change("its weights as they are", "its weights transposed", changed)
            continue
        for again, said in ((weight.reshape(columns, rows).T, "read as"), (weight.T.reshape(rows, columns), "moved to")):
            changed = fragment.edited(trial.model, number, arrays={1: again})
            yield Change(f"weights of {rows} x {columns}", f"weights {said} {columns} x {rows}", changed)


def _weights(model: ir.Model) -> list[tuple[int, NDArray[Any], int]]:
    """Where a matrix of weights is read, the matrix, and its axis that runs over what comes in."""
    found = []
    for number in fragment.numbers(model, *KINDS):
        weight = fragment.array(model, number, 1)
        if weight is not None:
            found.append((number, weight, 1 if fragment.attribute(model, number, "transB", 0) else weight.ndim - 2))
    return found
