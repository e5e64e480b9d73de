"""Which of several tensors that are alike belong together: by names, layers, neighbours, and, last, by order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from porter.dataclass import dataclass
from porter.mapping.inference.entries import Entry
from porter.mapping.inference.roles import canonical, family_of, layer_of, words
from porter.mapping.inference.state import State

RIVALS = 4
"""Rivals that are listed by name."""

_ORDERED = 0.9
"""The share of neighbours in the same order from which on the order of the files is the better evidence."""

_SIMILAR = 300
"""Tensors on each side up to which all names are compared with all."""

Key = Callable[[Entry], Hashable]


@dataclass(frozen=True, slots=True)
class Pairing:
    """A tensor of A and one of B that may belong together, how sure that is, why, and which others of B could be meant."""

    a: Entry
    b: Entry
    confidence: float
    reason: str
    rivals: tuple[str, ...]


def paired(state: State, ours: Sequence[Entry], theirs: Sequence[Entry], *, guess: bool = True) -> list[Pairing]:
    """Pairs among tensors that are otherwise alike, each tensor in one pair at most.

    guess: whether what neither names nor neighbours tell apart is paired by order.
    """
    work = _Work(ours, theirs)
    alone = len(ours) == len(theirs) == 1
    work.by_key(lambda e: e.name, lambda e: e.name, 0.98, "same name")
    work.by_key(lambda e: _partner(state, e), lambda e: (layer_of(e.name), family_of(e.spec)), 0.95, "same layer")
    work.by_key(lambda e: _block_partner(state, e), _in_block, 0.92, "same layer of a block")
    work.by_key(lambda e: canonical(e.spec), lambda e: canonical(e.spec), 0.9, "same words in the name")
    if alone:
        work.by_key(lambda e: 0, lambda e: 0, 0.85, "the only ones alike")
    work.by_key(lambda e: _next_partner(state, e, -1), lambda e: e.order, 0.8, "next to each other in both files")
    work.by_key(lambda e: _next_partner(state, e, 1), lambda e: e.order, 0.8, "next to each other in both files")
    trust = state.order_agrees()
    work.by_likeness(with_numbers=trust < _ORDERED)
    if guess:
        work.by_order(trust)
    return work.pairs


def _partner(state: State, entry: Entry) -> Hashable:
    """The layer of B that most tensors of this layer went to, with this tensor's role there."""
    layer = state.partner(layer_of(entry.name))
    return None if layer is None else (layer, family_of(entry.spec))


def _block_partner(state: State, entry: Entry) -> Hashable:
    """The block of B that most tensors of this block went to, with the layer's own name and this tensor's role there."""
    layer = layer_of(entry.name)
    block = state.partner(layer_of(layer))
    return None if block is None else (block, words(layer[len(layer_of(layer)) :]), family_of(entry.spec))


def _in_block(entry: Entry) -> Hashable:
    layer = layer_of(entry.name)
    return layer_of(layer), words(layer[len(layer_of(layer)) :]), family_of(entry.spec)


def _next_partner(state: State, entry: Entry, step: int) -> Hashable:
    """The place beside the tensor of B that the neighbour of `entry` became."""
    beside = state.neighbour(entry, step)
    return None if beside is None else beside - step


class _Work:
    def __init__(self, ours: Sequence[Entry], theirs: Sequence[Entry]) -> None:
        self.ours = {e.name: e for e in ours}
        self.theirs = {e.name: e for e in theirs}
        self.names = [e.name for e in theirs]
        self.pairs: list[Pairing] = []

    def by_key(self, of_a: Key, of_b: Key, confidence: float, reason: str) -> None:
        """Pair what one tensor on either side alone has as its key."""
        if not self.ours or not self.theirs:
            return
        a, b = _unique(self.ours.values(), of_a), _unique(self.theirs.values(), of_b)
        for key, one in a.items():
            other = b.get(key)
            if one is not None and other is not None and key is not None:
                self._pair(one, other, confidence, reason)

    def by_likeness(self, *, with_numbers: bool) -> None:
        """Pair names that are more like each other than like any other. Where order speaks, numbers do not: one side may count from 1."""
        import numpy as np

        if not 0 < len(self.ours) <= _SIMILAR or not 0 < len(self.theirs) <= _SIMILAR:
            return
        a, b = list(self.ours.values()), list(self.theirs.values())
        said = {e.name: [w for w in words(e.name) if with_numbers or not w.isdigit()] for e in (*a, *b)}
        vocabulary = {w: i for i, w in enumerate(sorted({w for found in said.values() for w in found}))}
        if not vocabulary:
            return
        sides = [np.zeros((len(side), len(vocabulary)), np.float32) for side in (a, b)]
        for side, rows in zip((a, b), sides, strict=True):
            for row, entry in zip(rows, side, strict=True):
                row[[vocabulary[w] for w in said[entry.name]]] = 1
        common = sides[0] @ sides[1].T
        alike = common / np.maximum(sides[0].sum(1)[:, None] + sides[1].sum(1)[None, :] - common, 1)
        for i, entry in enumerate(a):
            j = int(alike[i].argmax())
            best = alike[i, j]
            if best >= 0.5 and (alike[i] == best).sum() == 1 and (alike[:, j] >= best).sum() == 1:
                self._pair(entry, b[j], 0.6 + 0.2 * float(best), "names most alike")

    def by_order(self, trust: float) -> None:
        """Pair the rest in the order of the files, if both have as many; of more on one side, the first."""
        a, b = list(self.ours.values()), list(self.theirs.values())
        even = len(a) == len(b)
        reason = "order in the file" if even else f"order in the file, {len(a)} against {len(b)}"
        for one, other in zip(a, b, strict=False):
            self._pair(one, other, (0.6 if even else 0.3) * trust + (0.2 if len(a) == len(b) == 1 else 0), reason)

    def _pair(self, a: Entry, b: Entry, confidence: float, reason: str) -> None:
        del self.ours[a.name]
        del self.theirs[b.name]
        rivals = tuple([n for n in self.names if n != b.name][:RIVALS]) if confidence < 0.9 else ()
        self.pairs.append(Pairing(a, b, confidence, reason, rivals))


def _unique(entries: Iterable[Entry], key: Key) -> dict[Hashable, Entry | None]:
    """Entries by key; None for keys that several have."""
    found = dict[Hashable, Entry | None]()
    for entry in entries:
        k = key(entry)
        found[k] = None if k in found else entry
    return found
