"""Whether channels that are permuted are permuted everywhere: an order that a layer has and the next has not makes another network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.layout_blind.movement import letters_of
from porter.check.layout_blind.records import Permutation, Relation
from porter.dataclass import replace
from porter.mapping.inference.roles import layer_of
from porter.mapping.inference.state import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

Order = tuple[int, ...]


def with_strays(state: State, relations: Sequence[Relation], permutations: Sequence[Permutation]) -> tuple[Permutation, ...]:
    """The permutations, each with the tensors of B that would have to be in its order and are not."""
    if not permutations:
        return ()
    work = _Following(state, [r for r in relations if r.equal and len(r.a) == len(r.b) == 1], permutations)
    return tuple([replace(p, stray=tuple(dict.fromkeys([*work.beside(p), *work.beyond(p)]))) for p in permutations])


class _Following:
    """The pairs of tensors by name in B, and by layer."""

    def __init__(self, state: State, relations: Sequence[Relation], permutations: Sequence[Permutation]) -> None:
        self._state = state
        self._pairs = {r.b[0]: r for r in relations}
        self._layers: dict[str, list[Relation]] = {}
        for r in relations:
            self._layers.setdefault(layer_of(r.b[0]), []).append(r)
        # Orders that outputs alone have, or inputs alone.
        self._one_sided = {(u.tensor, u.axis) for p in permutations if len(self._sides(p)) == 1 for u in p.uses}

    def _sides(self, permutation: Permutation) -> set[str]:
        return {side for u in permutation.uses if (side := self._side(self._pairs[u.tensor], u.axis)) is not None}

    def beside(self, permutation: Permutation) -> Iterator[str]:
        """Vectors of a layer and its weights that are in another order than each other, where their values tell."""
        n = len(permutation.order)
        for use in permutation.uses:
            one = self._pairs[use.tensor]
            layer = layer_of(use.tensor)
            for other in self._layers[layer] if layer else ():
                vector, whole = (other, one) if _is_vector(other) else (one, other)
                if _is_vector(vector) and math.prod(vector.shape_b) == n and not self._agree(vector, whole):
                    yield other.b[0]

    def _agree(self, vector: Relation, whole: Relation) -> bool:
        """Whether some axis of `whole` may be in the order that `vector` is in."""
        n = math.prod(vector.shape_b)
        axes = [axis for axis, size in enumerate(whole.shape_b) if size == n]
        mine = _order(vector, None, n)
        return not axes or any(self._fits(vector, whole, axis, mine, _order(whole, axis, n)) for axis in axes)

    def _fits(self, vector: Relation, whole: Relation, axis: int, mine: Order, its: Order) -> bool:
        """Whether the two orders are the same, or one tensor's values cannot tell them apart."""
        import numpy as np

        if mine == its:
            return True
        # In B's values, taken back to A's order, the other order changes nothing.
        values = self._values(vector).reshape(-1)
        if np.array_equal(values[np.argsort(mine)][list(its)], values):
            return True
        rows = np.moveaxis(self._values(whole), axis, 0)
        return np.array_equal(rows[np.argsort(its)][list(mine)], rows)

    def _values(self, relation: Relation) -> NDArray[Any]:
        array = self._state.b[relation.b[0]].array()
        return array.view(f"u{array.dtype.itemsize}") if array.dtype.itemsize <= 8 else array

    def beyond(self, permutation: Permutation) -> Iterator[str]:
        """Where only outputs of weights have it, or only inputs, those weights whose inputs, or outputs, could have it; none has."""
        n = len(permutation.order)
        sides = self._sides(permutation)
        if len(sides) > 1:
            return
        wanted = {"o": "i", "i": "o"}[sides.pop()] if sides else "o"
        found: dict[bool, list[str]] = {True: [], False: []}
        for name, relation in self._pairs.items():
            for axis, size in enumerate(relation.shape_b):
                if self._side(relation, axis) != wanted or size % n:
                    continue
                order = _order(relation, axis, size)
                # Branches that are joined are the parts of a longer order.
                if size > n and _holds(order, permutation.order):
                    return
                if order == tuple(range(size)) or (name, axis) in self._one_sided:
                    found[size == n].append(name)
        # Where flattened channels only could have it, it is these.
        yield from found[True] or found[False]

    def _side(self, relation: Relation, axis: int) -> str | None:
        """`o` for the axis of a weight's outputs, `i` for that of its inputs; None for any other, and for vectors."""
        if _is_vector(relation):
            return None
        letters = next((str(s.detail["to"]).lower() for s in relation.steps if s.kind == "layout"), "")
        if len(letters) != len(relation.shape_b) or not letters.isalpha():
            letters = letters_of(relation.shape_b)
            sizes = {math.prod(r.shape_b) for r in self._layers[layer_of(relation.b[0])] if _is_vector(r)}
            if len(relation.shape_b) == 2 and relation.shape_b[1] in sizes and relation.shape_b[0] not in sizes:
                letters = "io"
        return letters[axis] if letters[axis] in "oi" and relation.shape_b[axis] > 1 else None


def _is_vector(relation: Relation) -> bool:
    return max(relation.shape_b, default=1) == math.prod(relation.shape_b)


def _order(relation: Relation, axis: int | None, size: int) -> Order:
    """The order of an axis, or of a vector's only one."""
    return next((order for at, order in relation.permuted if axis is None or at == axis), tuple(range(size)))


def _holds(order: Order, part: Order) -> bool:
    """Whether `part` stands in `order` as a whole, counted on from some place."""
    n = len(part)
    for start in range(len(order) - n + 1):
        first = order[start] - part[0]
        if first >= 0 and order[start : start + n] == tuple([i + first for i in part]):
            return True
    return False
