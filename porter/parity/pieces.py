"""Pieces of a network: the steps between one matched value and those before it, to be run alone and to be changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from porter.dataclass import dataclass
from porter.errors import PorterError
from porter.parity.causes import fragment
from porter.parity.causes.equality import related
from porter.parity.causes.experiment import Trial, Weight
from porter.parity.matching import Matching, Pair
from porter.parity.side import Observed, Side, Step

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from porter.parity.comparison import Fed

_CLOSENESS = ("bit-equal", "equal", "the same values", "of another size", "different")


@dataclass(frozen=True, slots=True)
class Piece:
    """Steps in the order in which they run, the values they read from before, and the one that they make."""

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    output: str

    @property
    def name(self) -> str:
        """The layer that a reader looks for: the one with weights, else the last."""
        return next((s.name for s in self.steps if s.weights), self.steps[-1].name)


class SideOf:
    """A side in a search. letter: which. fed: what its inputs are given. known: its values that are matched."""

    def __init__(self, letter: Literal["a", "b"], side: Side, fed: Mapping[str, NDArray[Any]], known: frozenset[str]) -> None:
        self.letter = letter
        self.side = side
        self.fed = fed
        self._known = known

    def name(self, pair: Pair) -> str:
        """The pair's value on this side."""
        return pair.a if self.letter == "a" else pair.b

    @cached_property
    def _makers(self) -> dict[str, Step]:
        return {v: step for step in self.side.steps for v in step.outputs}

    @cached_property
    def _order(self) -> dict[str, int]:
        return {v: number for number, step in enumerate(self.side.steps) for v in step.outputs}

    def piece(self, output: str) -> Piece | None:
        """What makes `output` of matched values and inputs; None where that is not known."""
        if output not in self._makers or output in self.side.inputs:
            return None
        steps: dict[int, Step] = {}
        inputs: dict[str, None] = {}
        todo = [output]
        while todo:
            name = todo.pop()
            step = self._makers.get(name)
            if name != output and (name in self._known or name in self.side.inputs):
                inputs[name] = None
            elif step is None or (name == output and not step.inputs):
                return None
            elif self._order[name] not in steps:
                steps[self._order[name]] = step
                todo += step.inputs
        return Piece(tuple([steps[n] for n in sorted(steps)]), tuple(inputs), output)

    def weighed(self, output: str) -> tuple[Step, ...]:
        """The steps with weights among those that make `output`."""
        piece, maker = self.piece(output), self._makers.get(output)
        steps = piece.steps if piece is not None else (maker,) if maker is not None else ()
        return tuple([step for step in steps if step.weights])

    def values(self, names: Sequence[str]) -> dict[str, Observed]:
        """Copies of those of the values that can be observed."""
        found = self.side.run(self.fed, names)
        return {o.name: Observed(o.name, o.array.copy(), o.shape, o.indices, o.scale) for o in found}

    def replay(self, piece: Piece, given: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """What the piece makes of `given`; None where one of its steps cannot be run alone."""
        values = dict(given)
        for step in piece.steps:
            made = self.side.replay(step, {name: values[name] for name in step.inputs})
            if made is None:
                return None
            values.update(made)
        return values[piece.output]

    def model(self, piece: Piece) -> ir.Model | None:
        """The piece as an ONNX model."""
        found = []
        for step in piece.steps:
            model = self._fragment(step)
            if model is None:
                return None
            found.append(model)
        return fragment.joined(found, piece.inputs, piece.output)

    def _fragment(self, step: Step) -> ir.Model | None:
        try:
            return self.side.fragment(step)
        except PorterError:
            return None

    def alike(self, piece: Piece) -> Iterator[tuple[str, ir.Model]]:
        """Other layers with weights of the same shapes as the piece's only layer that has some."""
        own = [step for step in piece.steps if step.weights]
        if len(own) != 1:
            return
        shapes = self._shapes(own[0])
        for step in self.side.steps:
            if step.name != own[0].name and step.type == own[0].type and self._shapes(step) == shapes:
                model = self._fragment(step)
                if model is not None:
                    yield step.name, model

    def _shapes(self, step: Step) -> list[tuple[int, ...]]:
        found = [self.side.weight(name) for name in step.weights]
        return [tuple(t.shape) for t in found if t is not None]

    def planes(self, piece: Piece) -> tuple[int, ...] | None:
        """The shape of four axes that a flat input of the piece had before, if it had one."""
        for name in piece.inputs:
            count = self._count(name)
            step = self._makers.get(name)
            while count is not None and step is not None and len(step.inputs) == 1 and self._count(step.inputs[0]) == count:
                shape = self.side.shapes.get(step.inputs[0])
                if shape is not None and len(shape) == 4:
                    return tuple([n or 1 for n in shape])
                step = self._makers.get(step.inputs[0])
        return None

    def _count(self, name: str) -> int | None:
        shape = self.side.shapes.get(name)
        return None if shape is None else math.prod(n or 1 for n in shape)


def sides_of(a: Side, b: Side, fed: Fed, matching: Matching) -> tuple[SideOf, SideOf]:
    """Both sides with what they are fed, and which of their values are matched."""
    return (
        SideOf("a", a, fed[0], frozenset(pair.a for pair in matching.pairs)),
        SideOf("b", b, fed[1], frozenset(pair.b for pair in matching.pairs)),
    )


def trial(
    changed: SideOf, other: SideOf, pair: Pair, given: Mapping[str, NDArray[Any]], made: NDArray[Any] | None, wanted: Observed
) -> Trial | None:
    """The piece of `changed` that makes a value, ready for experiments; None where it is not known as a model.

    given: what it reads. made: what it makes of that. wanted: what `other` makes of the same.
    """
    piece, theirs = changed.piece(changed.name(pair)), other.piece(other.name(pair))
    model = None if piece is None else changed.model(piece)
    if piece is None or model is None:
        return None
    if made is not None and [n for n in wanted.shape if n != 1] == [n for n in made.shape if n != 1]:
        wanted = Observed(wanted.name, wanted.array, made.shape, wanted.indices, wanted.scale)
    planes = changed.planes(piece) or (other.planes(theirs) if theirs is not None else None)
    return Trial(
        model,
        given,
        made,
        wanted,
        other.model(theirs) if theirs is not None else None,
        frozenset(name for name in piece.inputs if name in changed.side.inputs),
        planes,
        _numbers(theirs),
        _others(changed, other, pair),
        lambda: changed.alike(piece),
    )


def _others(changed: SideOf, other: SideOf, pair: Pair) -> list[Weight]:
    """The weights of a layer that are not the other side's, beside these."""
    found = []
    for x, y, relation in related_weights(other, changed, pair):
        theirs, own = other.side.weight(x), changed.side.weight(y)
        if relation != "bit-equal" and own is not None and theirs is not None and own.shape == theirs.shape and own.dtype == theirs.dtype:
            found.append(Weight(y, own.numpy(), x, theirs.numpy()))
    return found


def _numbers(piece: Piece | None) -> dict[str, float]:
    found = {name: value for step in (piece.steps if piece is not None else ()) for name, value in step.settings.items()}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def related_weights(a: SideOf, b: SideOf, pair: Pair) -> tuple[tuple[str, str, str], ...]:
    """Each weight of B's piece with the one of A's nearest to it, and what it is to that; each of A's once, the nearest first."""
    of_a, of_b = ({n: t for step in s.weighed(s.name(pair)) for n in step.weights if (t := s.side.weight(n)) is not None} for s in (a, b))
    said = {(x, y): related(t.numpy(), u.numpy()) for y, u in of_b.items() for x, t in of_a.items() if t.size == u.size}
    found: dict[str, tuple[str, str, str]] = {}
    for x, y in sorted(said, key=lambda names: _rank(said[names])):
        if y not in found and x not in {a for a, _, _ in found.values()}:
            found[y] = (x, y, said[x, y])
    return tuple([found[y] for y in of_b if y in found])


def _rank(relation: str) -> int:
    return next((n for n, beginning in enumerate(_CLOSENESS) if relation.startswith(beginning)), 2)
