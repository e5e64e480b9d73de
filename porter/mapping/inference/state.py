"""What inference has found so far: matches, and what is left on either side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from porter.dataclass import dataclass
from porter.mapping.inference.entries import Entry
from porter.mapping.inference.layouts import SAME, Layout
from porter.mapping.inference.roles import layer_of
from porter.mapping.syntax import Arrow, Call


@dataclass(frozen=True, slots=True)
class Form:
    """What a rule says beside the names: labels of both sides' members (None: a single tensor without), layout, operations.

    cast_after: the dtype, by its short name, to which the first target alone is cast in a stage of its own; None for no such cast.
    """

    layout: Layout = SAME
    calls: tuple[Call, ...] = ()
    arrow: Arrow = "<->"
    source_labels: tuple[str | None, ...] = (None,)
    target_labels: tuple[str | None, ...] = (None,)
    cast_after: str | None = None


PLAIN = Form()
"""A rename."""


@dataclass(frozen=True, slots=True)
class Match:
    """Tensors of A that make tensors of B, and what speaks for it.

    confidence: from 0 to 1. reason: the evidence in a few words. rivals: targets that the same evidence fits as well.
    weak: the values say little or nothing, so that the layout may be any that the shapes allow.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    form: Form
    confidence: float
    reason: str
    rivals: tuple[str, ...] = ()
    weak: bool = False


class State:
    """Entries of both sides by name, the matches, and the names that none has yet, in the order of their files.

    values: whether both sides have values. channels: the lengths of A's vectors, which are how many channels its layers have.
    """

    def __init__(self, a: Sequence[Entry], b: Sequence[Entry]) -> None:
        self.a = {e.name: e for e in a}
        self.b = {e.name: e for e in b}
        self.left_a = dict(self.a)
        self.left_b = dict(self.b)
        self.matches: list[Match] = []
        self.values = all(e.tensor is not None for e in (*a, *b))
        self.channels = frozenset(e.size for e in a if len(e.shape) == 1)
        self._order_a = list(a)
        self._made = dict[str, str]()
        self._votes = dict[str, Counter[str]]()

    def add(self, match: Match) -> None:
        """Note a match; its tensors are no longer left."""
        for name in match.sources:
            del self.left_a[name]
            self._made[name] = match.targets[0]
            for layers in zip(_layers(name), _layers(match.targets[0]), strict=True):
                self._votes.setdefault(layers[0], Counter())[layers[1]] += 1
        for name in match.targets:
            del self.left_b[name]
        self.matches.append(match)

    def take_back(self, match: Match) -> None:
        """Undo `add`, but for what the match has shown of layers and order."""
        self.matches.remove(match)
        self.left_a.update((name, self.a[name]) for name in match.sources)
        self.left_b.update((name, self.b[name]) for name in match.targets)

    def partner(self, layer: str) -> str | None:
        """The layer of B, or block of layers, that most tensors of one of A went to."""
        votes = self._votes.get(layer) if layer else None
        return votes.most_common(1)[0][0] if votes else None

    def neighbour(self, entry: Entry, step: int) -> int | None:
        """The place in B's file of what the tensor `step` places on in A's file became."""
        place = entry.order + step
        if not 0 <= place < len(self._order_a):
            return None
        made = self._made.get(self._order_a[place].name)
        return self.b[made].order if made is not None else None

    def order_agrees(self) -> float:
        """How far the order of the files speaks: the share of matches that stand in the same order in both, of pairs that are a
        quarter of all apart. Within a layer the order is the framework's and says nothing.
        """
        places = [self.b[self._made[e.name]].order for e in self._order_a if e.name in self._made]
        apart = max(1, len(places) // 4)
        ordered = [x <= y for x, y in zip(places, places[apart:], strict=False)]
        return sum(ordered) / len(ordered) if ordered else 1.0


def _layers(name: str) -> tuple[str, str]:
    """The layer of a tensor, and the block that this is in; each empty where names say nothing of it."""
    layer = layer_of(name)
    return layer, layer_of(layer)
