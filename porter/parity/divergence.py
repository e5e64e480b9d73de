"""The first divergence of two networks, by teacher forcing: which layer computes something else by itself, and which only inherits.

Each layer of B whose value is off is run again on A's own inputs. What it then makes differs from A's value by its own error; the rest
of the difference came in with its inputs. The first layer whose own error is beyond the tolerance is the guilty one.

What is run again is a *piece*: the steps between one matched value and those before it, since what is one layer here may be several there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from porter.check.measures import Measured, measured
from porter.dataclass import dataclass, replace
from porter.errors import PorterError
from porter.parity.causes.experiment import Trial
from porter.parity.causes.table import Explained, explain
from porter.parity.comparison import Advance, Compared, Comparison
from porter.parity.matching import Pair
from porter.parity.pieces import Piece, SideOf, related_weights, sides_of, trial
from porter.parity.side import BUDGET, Observed, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from porter.parity.comparison import Fed

SUSPECT = 0.1
"""Of the tolerance: from there on a value is looked at."""

Verdict = Literal["same", "guilty", "accumulated", "unknown"]


@dataclass(frozen=True, slots=True)
class Examined:
    """One pair of values that was looked at.

    piece: what makes it on the side that is run again. total: how far the networks are apart there (None: the shapes differ).
    own: how far apart they are if the piece is given the other side's inputs; None where that could not be found out, or the shapes
    differ even so. forced: whether it was run again; else its inputs were taken to be the same, since they agree within the tolerance.
    problem: why `own` is None.
    """

    pair: Pair
    piece: Piece | None
    total: Measured | None
    own: Measured | None
    forced: bool
    problem: str | None = None
    misshapen: bool = False

    @property
    def inherited(self) -> float | None:
        """The part of the difference that came in, relative to the value's scale; None where it is not known."""
        if self.total is None or self.own is None:
            return None
        return max(0.0, self.total.relative - self.own.relative)

    def is_wrong(self) -> bool:
        """Whether the layer is off by itself."""
        return self.misshapen or (self.own is not None and not self.own.same)


@dataclass(frozen=True, slots=True)
class Guilty:
    """The first layer that is off by itself, as both sides have it. causes: those that an experiment bears out, the best first.

    tried: whether there could be experiments: a layer has to be known as ONNX on one side, and both have to be seen at work. weights: for
    each weight of B's piece the one of A's nearest to it, and what it is to that: see `related`.
    """

    examined: Examined
    a: Piece | None
    b: Piece | None
    causes: tuple[Explained, ...]
    tried: bool
    weights: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """What was found.

    verdict: `same`; `guilty`: one layer is off by itself; `accumulated`: none is, and their small errors add up; `unknown`: what is off
    could not be run again. examined: the pairs that were looked at, in the order of the layers. others: more that are off by
    themselves. replayed: the side whose layers were run again.
    """

    verdict: Verdict
    guilty: Guilty | None
    others: tuple[Examined, ...]
    examined: tuple[Examined, ...]
    replayed: Literal["a", "b"]


def find(
    a: Side,
    b: Side,
    fed: Fed,
    comparison: Comparison,
    *,
    everything: bool = True,
    advance: Advance | None = None,
) -> Divergence:
    """Where `b` goes wrong against `a`. B's layers are run again; A's, where B is a recording.

    fed, comparison: as for and of `porter.parity.comparison.compare`; where `b` does not run as a whole, one of which all pairs are
    missing. everything: go on behind the first guilty layer.
    advance: is called for each of `suspects` that was looked at.
    """
    sides = sides_of(a, b, fed, comparison.matching)
    backwards = b.kind == "golden" and a.kind != "golden"
    search = _Search(sides[1], sides[0], comparison) if backwards else _Search(sides[0], sides[1], comparison)
    examined: list[Examined] = []
    guilty: Guilty | None = None
    for entry, found in search.examined(everything):
        examined.append(entry)
        guilty = guilty or found
        if advance is not None:
            advance()
        if guilty is not None and not everything:
            break
    others = [e for e in examined if e.is_wrong() and guilty is not None and e is not guilty.examined]
    return Divergence(_verdict(comparison, examined, guilty), guilty, tuple(others), tuple(examined), search.replayed.letter)


def suspects(comparison: Comparison) -> list[Compared]:
    """The values that are worth a look, in the order of A's layers."""
    if not comparison.compared:
        # The network does not run as a whole; its layers may, one by one.
        return [Compared(pair, None, None, ((), ()), False, None, "the network cannot be run") for pair in comparison.missing]
    bound = SUSPECT * comparison.tolerance
    return [c for c in comparison.compared if c.problem is not None or c.relative > bound]


def _verdict(comparison: Comparison, examined: Sequence[Examined], guilty: Guilty | None) -> Verdict:
    if guilty is not None:
        return "guilty"
    if comparison.same:
        return "same"
    open_ = any(e.own is None and (e.total is None or not e.total.same) for e in examined)
    return "unknown" if open_ or not comparison.compared else "accumulated"


class _Search:
    """One search. reference: the side whose values are given. replayed: the side whose layers are run again on them."""

    def __init__(self, reference: SideOf, replayed: SideOf, comparison: Comparison) -> None:
        self.reference = reference
        self.replayed = replayed
        self.comparison = comparison
        self.pairs = {replayed.name(p): p for p in comparison.matching.pairs}
        self.compared = {replayed.name(c.pair): c for c in comparison.compared}
        self.partners = {reference.name(p): replayed.name(p) for p in comparison.matching.pairs}

    def examined(self, everything: bool) -> Iterator[tuple[Examined, Guilty | None]]:
        """What becomes of each suspect, in the order of the layers; with the first guilty one all that is known of it."""
        first = True
        for batch in self._batches():
            values = self._reference_values(batch)
            for compared in batch:
                entry, made = self._examine(compared, values)
                if first and entry.is_wrong():
                    first = False
                    yield entry, self._guilty(entry, values, made)
                else:
                    yield entry, None
                if not first and not everything:
                    return

    def _batches(self) -> Iterator[list[Compared]]:
        """Suspects in groups, the values for which take about `BUDGET` bytes."""
        batch: list[Compared] = []
        room = BUDGET
        order = {v: number for number, step in enumerate(self.replayed.side.steps) for v in step.outputs}
        for compared in sorted(suspects(self.comparison), key=lambda c: order.get(self.replayed.name(c.pair), len(order))):
            size = 4 * sum(self._size(name) for name in self._needed(compared))
            if batch and size > room:
                yield batch
                batch, room = [], BUDGET
            batch.append(compared)
            room -= size
        if batch:
            yield batch

    def _size(self, name: str) -> int:
        import math

        return math.prod(n or 1 for n in self.reference.side.shapes.get(name) or ())

    def _needed(self, compared: Compared) -> list[str]:
        """Names of the reference's values with which this pair is looked at."""
        pair = compared.pair
        piece, own = self.replayed.piece(self.replayed.name(pair)), self.reference.piece(self.reference.name(pair))
        inputs = [self.reference.name(self.pairs[name]) for name in (piece.inputs if piece is not None else ()) if name in self.pairs]
        return list(dict.fromkeys([self.reference.name(pair), *inputs, *(own.inputs if own is not None else ())]))

    def _reference_values(self, batch: Sequence[Compared]) -> dict[str, Observed]:
        wanted = list(dict.fromkeys(name for compared in batch for name in self._needed(compared)))
        return self.reference.values(wanted)

    def _examine(self, compared: Compared, values: Mapping[str, Observed]) -> tuple[Examined, NDArray[Any] | None]:
        pair = compared.pair
        piece = self.replayed.piece(self.replayed.name(pair))
        like = Examined(pair, piece, compared.measured, None, False)
        if self.reference.name(pair) not in values:
            return replace(like, problem="the other side's value cannot be observed"), None
        if piece is None:
            return self._by_inputs(like, compared, "nothing says how it is made"), None
        given, missing = self._given(piece, values)
        if missing:
            return self._by_inputs(like, compared, f"'{missing[0]}' is not known whole, or not matched"), None
        try:
            made = self.replayed.replay(piece, given)
        except PorterError as error:
            return replace(like, problem=f"it cannot be run on the other side's values: {error.message}"), None
        if made is None:
            return self._by_inputs(like, compared, "it cannot be run alone"), None
        return self._measured(like, values[self.reference.name(pair)], made), made

    def _measured(self, like: Examined, wanted: Observed, made: NDArray[Any]) -> Examined:
        if [n for n in wanted.shape if n != 1] != [n for n in made.shape if n != 1]:
            said = f"its shape is {list(made.shape)}, and the other side's {list(wanted.shape)}"
            return replace(like, forced=True, misshapen=True, problem=said)
        flat = made.reshape(-1)
        own = measured(wanted.array, flat if wanted.indices is None else flat[wanted.indices], self.comparison.tolerance, wanted.scale)
        return replace(like, own=own, forced=True)

    def _given(self, piece: Piece, values: Mapping[str, Observed]) -> tuple[dict[str, NDArray[Any]], list[str]]:
        """The reference's values for the inputs of a piece, by the piece's names; and the inputs for which there are none."""
        given, missing = {}, []
        for name in piece.inputs:
            pair = self.pairs.get(name)
            observed = values.get(self.reference.name(pair)) if pair is not None else None
            if name in self.replayed.fed:
                given[name] = self.replayed.fed[name]
            elif observed is not None and observed.indices is None:
                given[name] = self._shaped(name, observed.array)
            elif observed is not None and self._agrees(name):
                # Known in part, and there as the replayed side has it: that side's own value is as good.
                given.update({n: o.array for n, o in self.replayed.values([name]).items()})
            if name not in given:
                missing.append(name)
        return given, missing

    def _shaped(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """`array` in the shape that the replayed side has it in, where that is another writing of the same."""
        compared = self.compared.get(name)
        known = compared.shapes[0 if self.replayed.letter == "a" else 1] if compared is not None else None
        shape = known or self.replayed.side.shapes.get(name) or ()
        plain = None not in shape and [n for n in shape if n != 1] == [n for n in array.shape if n != 1]
        return array.reshape([n or 1 for n in shape]) if plain else array

    def _agrees(self, name: str) -> bool:
        compared = self.compared.get(name)
        return name in self.replayed.fed or (compared is not None and compared.problem is None)

    def _by_inputs(self, like: Examined, compared: Compared, why: str) -> Examined:
        """A piece that cannot be run again is off by itself if its inputs are not; which these are, either side may know."""
        theirs = self.reference.piece(self.reference.name(compared.pair))
        if like.piece is not None:
            agree = [self._agrees(name) for name in like.piece.inputs]
        else:
            agree = [name in self.reference.fed or self._agrees(self.partners.get(name, "")) for name in (theirs.inputs if theirs else ())]
        if not agree or not all(agree) or compared.problem is None:
            return replace(like, problem=why)
        return replace(like, own=compared.measured, misshapen=compared.measured is None)

    def _guilty(self, entry: Examined, values: Mapping[str, Observed], made: NDArray[Any] | None) -> Guilty:
        a, b = (side.piece(side.name(entry.pair)) for side in sorted((self.reference, self.replayed), key=lambda s: s.letter))
        trials = self._trials(entry, values, made)
        before = entry.own.relative if entry.own is not None else float("inf")
        causes = explain(trials, before, self.comparison.tolerance)
        return Guilty(entry, a, b, causes, bool(trials), related_weights(*self._by_letter(), entry.pair))

    def _by_letter(self) -> tuple[SideOf, SideOf]:
        return (self.reference, self.replayed) if self.reference.letter == "a" else (self.replayed, self.reference)

    def _trials(self, entry: Examined, values: Mapping[str, Observed], made: NDArray[Any] | None) -> list[tuple[Literal["a", "b"], Trial]]:
        """The layer as each side has it, where that is known as ONNX, with what it is given and what is wanted of it."""
        name, wanted = self.replayed.name(entry.pair), values[self.reference.name(entry.pair)]
        trials = []
        if entry.piece is not None:
            given, missing = self._given(entry.piece, values)
            if not missing:
                trials.append((self.replayed.letter, trial(self.replayed, self.reference, entry.pair, given, made, wanted)))
        if made is None and not entry.forced:
            # It could not be run again, on inputs that are the same: what it made of them counts.
            made = next((o.array for o in self.replayed.values([name]).values() if o.indices is None), None)
        theirs = self.reference.piece(self.reference.name(entry.pair))
        inputs = {} if theirs is None else {n: values[n].array for n in theirs.inputs if n in values and values[n].indices is None}
        if theirs is not None and made is not None and wanted.indices is None and {*theirs.inputs} <= {*inputs, *self.reference.fed}:
            inputs |= {n: self.reference.fed[n] for n in theirs.inputs if n in self.reference.fed}
            other = Observed(name, made, made.shape)
            trials.append((self.reference.letter, trial(self.reference, self.replayed, entry.pair, inputs, wanted.array, other)))
        return [(letter, t) for letter, t in trials if t is not None]
