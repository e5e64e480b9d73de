"""Two networks fed the same values, and what they make compared, layer by layer.

Values are made in batches of bounded size: A's of a batch are held while B's come one by one. Both networks run again for the next batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.measures import TOLERANCE, Measured, measured, scale_of
from porter.dataclass import dataclass
from porter.errors import GraphError
from porter.parity.matching import Matching, Pair
from porter.parity.side import Observed, Side, Step
from porter.parity.sides.model import batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Fed = tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]

Advance = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair of values. a, b: the layers that make them, None for one that is recorded or fed. shapes: of both. sampled: whether only
    some elements were compared. problem: in a line, None where they agree within the tolerance; measured: None where the shapes differ.
    """

    pair: Pair
    a: Step | None
    b: Step | None
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    sampled: bool
    measured: Measured | None
    problem: str | None

    @property
    def relative(self) -> float:
        """The tolerance that would have passed; infinite where none would."""
        return self.measured.relative if self.measured is not None else math.inf


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing two networks. compared: in the order of A's layers. missing: pairs of which one side observed nothing."""

    matching: Matching
    compared: tuple[Compared, ...]
    missing: tuple[Pair, ...]
    tolerance: float

    @property
    def lost(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Outputs of A, and of B, that were compared with nothing."""
        (of_a, of_b), missing = self.matching.outputs, self.missing
        lost_a, lost_b = ({*self.matching.lost[0], *(p.a for p in missing)}, {*self.matching.lost[1], *(p.b for p in missing)})
        return tuple([v for v in of_a if v in lost_a]), tuple([w for w in of_b if w in lost_b])

    @property
    def outputs(self) -> tuple[Compared, ...]:
        """Those of the values that an output of either side is."""
        of_a, of_b = self.matching.outputs
        return tuple([c for c in self.compared if c.pair.a in of_a or c.pair.b in of_b])

    @property
    def same(self) -> bool:
        """Whether something was compared, and everything that was agrees within the tolerance."""
        return bool(self.compared) and self.first is None

    @property
    def first(self) -> Compared | None:
        """The first value, in the order of A's layers, that is beyond the tolerance."""
        return next((c for c in self.compared if c.problem is not None), None)

    @property
    def worst(self) -> Compared | None:
        """The value that is furthest off."""
        return max(self.compared, key=lambda c: c.relative, default=None)


def compare(
    a: Side,
    b: Side,
    fed: Fed,
    matching: Matching,
    *,
    tolerance: float = TOLERANCE,
    advance: Advance | None = None,
) -> Comparison:
    """Run both networks on what is `fed` to each, and compare the values of `matching`.

    advance: is called for each value that was compared.

    Raises:
        GraphError: the networks have no value in common.
    """
    if not matching.pairs:
        hint = "call the layers alike, or say '--layers layers.json', which 'porter port' writes"
        raise GraphError("G092", f"no value of '{a.label}' can be matched with one of '{b.label}'", hint=hint)
    found: dict[str, Compared] = {}
    makers = [{v: step for step in side.steps for v in step.outputs} for side in (a, b)]
    for pair, x, y in observed_pairs(a, b, fed, matching.pairs):
        found[pair.a] = _compared(pair, makers[0].get(pair.a), makers[1].get(pair.b), x, y, tolerance)
        if advance is not None:
            advance()
    compared = tuple([found[pair.a] for pair in matching.pairs if pair.a in found])
    return Comparison(matching, compared, tuple([p for p in matching.pairs if p.a not in found]), tolerance)


def observed_pairs(a: Side, b: Side, fed: Fed, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Observed, Observed]]:
    """Both sides' values of `pairs`, a bounded number of bytes at a time; pairs that one side does not observe are left out."""
    theirs = {p.b: b.shapes[p.b] for p in pairs if p.b in b.shapes}
    shapes = {p.a: shape for p in pairs if (shape := a.shapes.get(p.a) or theirs.get(p.b)) is not None}
    by_a = {p.a: p for p in pairs}
    for names in batches([p.a for p in pairs], shapes, fed[0]):
        # Layers that work in place overwrite what was observed: what is held is a copy.
        held = {o.name: Observed(o.name, o.array.copy(), o.shape, o.indices, o.scale) for o in a.run(fed[0], names)}
        by_b = {by_a[name].b: by_a[name] for name in names if name in held}
        for y in b.run(fed[1], list(by_b)):
            pair = by_b[y.name]
            yield pair, held.pop(pair.a), y


def _compared(pair: Pair, a: Step | None, b: Step | None, x: Observed, y: Observed, tolerance: float) -> Compared:
    shapes = (x.shape, y.shape)
    sampled = x.indices is not None or y.indices is not None
    if [n for n in x.shape if n != 1] != [n for n in y.shape if n != 1]:
        return Compared(pair, a, b, shapes, sampled, None, "the shapes differ")
    left, right, scale = _aligned(x, y)
    found = measured(left, right, tolerance, scale)
    return Compared(pair, a, b, shapes, sampled, found, None if found.same else f"{found.beyond:,} of {found.count:,} values differ")


def _aligned(x: Observed, y: Observed) -> tuple[NDArray[Any], NDArray[Any], float | None]:
    """The elements that both have, and the scale of the first where it is known better than from them."""
    import numpy as np

    a, b = x.array.reshape(-1), y.array.reshape(-1)
    if x.indices is not None and y.indices is not None:
        _, left, right = np.intersect1d(x.indices, y.indices, return_indices=True)
        return a[left], b[right], x.scale
    if x.indices is not None:
        # What was recorded in part cannot show how large the whole was: no larger than either side has it.
        known = max(scale_of(a), scale_of(b))
        return a, b[x.indices], min(x.scale, known) if x.scale is not None else known
    if y.indices is not None:
        return a[y.indices], b, scale_of(a)
    return a, b, x.scale
