"""An experiment: a piece of one side's network is changed as a hypothesis says, and run on the same values as before.

The hypothesis holds if what comes out is then what the other side's network makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.errors import PorterError
from porter.graph.runtime import Runnable

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from porter.parity.side import Observed

BETTER = 8.0
"""How many times smaller the difference has to become, besides coming below the tolerance."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A piece whose result is wrong, or right, depending on who is asked.

    model: the piece; its one output. feeds: what its inputs are given. made: what comes out, None where it cannot be run as it is.
    wanted: what the other side makes of the same. other: the other side's piece, where it is known.
    entry: inputs of the piece that are inputs of the network. planes: the shape that the piece's input had before it was flattened.
    settings: numbers among the other side's parameters, by name.
    weights: of this side and of the other, with their names, those that are not the same bits and have one shape.
    alike: pieces of other layers of the same side, of the same kind and shapes of weights, by the names of the layers.
    """

    model: ir.Model
    feeds: Mapping[str, NDArray[Any]]
    made: NDArray[Any] | None
    wanted: Observed
    other: ir.Model | None = None
    entry: frozenset[str] = frozenset()
    planes: tuple[int, ...] | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    weights: Sequence[Weight] = ()
    alike: Callable[[], Iterator[tuple[str, ir.Model]]] = lambda: iter(())


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the piece, and the one of the other side in its place, which is another."""

    name: str
    values: NDArray[Any]
    their_name: str
    theirs: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to the piece. has: what it has now. acts: what it has then, and so what the other side acts as if it had.

    model: the piece changed. feeds: inputs that are given something else. after: what is done to the result.
    """

    has: str
    acts: str
    model: ir.Model | None = None
    feeds: Mapping[str, NDArray[Any]] | None = None
    after: Callable[[NDArray[Any]], NDArray[Any]] | None = None


def run(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """What a piece makes of these; None where it cannot be run."""
    output = model.graph.outputs[0].name or ""
    try:
        return Runnable(model, "the piece").run(feeds, [output])[output]
    except PorterError:
        return None


def tried(trial: Trial, change: Change) -> float:
    """How far the changed piece is from what is wanted: see `distance`."""
    made = trial.made
    if change.model is not None or change.feeds is not None:
        made = run(change.model or trial.model, {**trial.feeds, **(change.feeds or {})})
    if made is None:
        return math.inf
    if change.after is not None:
        made = change.after(made)
    return distance(made, trial.wanted)


def distance(made: NDArray[Any], wanted: Observed) -> float:
    """The largest difference, relative to the largest magnitude wanted. Infinite where shapes differ, or one alone is NaN or infinite."""
    import numpy as np

    if tuple(made.shape) != tuple(wanted.shape):
        return math.inf
    a = wanted.array.reshape(-1)
    b = made.reshape(-1) if wanted.indices is None else made.reshape(-1)[wanted.indices]
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return 0.0 if bool((a == b).all()) else math.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        delta = np.abs(a - b)
    delta[same] = 0
    if not np.isfinite(delta).all():
        return math.inf
    scale = wanted.scale if wanted.scale is not None else float(np.abs(a[np.isfinite(a)]).max(initial=0))
    return float(delta.max(initial=0)) / (scale or 1.0)


def samples(trial: Trial) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """What is known of both results, flat: the positions, what the piece makes there, and what is wanted, in float64.

    None where the shapes differ, or the piece makes nothing. What is not finite on either side is left out.
    """
    import numpy as np

    if trial.made is None or tuple(trial.made.shape) != tuple(trial.wanted.shape):
        return None
    where = np.arange(trial.made.size) if trial.wanted.indices is None else trial.wanted.indices
    made = trial.made.reshape(-1)[where].astype(np.float64)
    wanted = trial.wanted.array.reshape(-1).astype(np.float64)
    good = np.isfinite(made) & np.isfinite(wanted)
    return where[good], made[good], wanted[good]
