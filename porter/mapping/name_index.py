"""Many patterns at once: which of them a name matches, without trying each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from porter.dataclass import dataclass
from porter.mapping.name_matcher import NameMatcher

T = TypeVar("T")

SHAPES = 100_000
"""Shapes of names that are remembered at most."""

_ZEROS = bytes.maketrans(b"123456789", b"000000000")


class NameIndex(Generic[T]):
    """Patterns, each with what it stands for.

    Names that differ in their digits alone come to the same few patterns, so those are looked up once for all of them, with every
    digit a 0; then, for each name, once more among these with its digits as they are.
    """

    def __init__(self, items: Iterable[tuple[T, NameMatcher]]) -> None:
        self._items = list(items)
        self._literals: dict[str, list[int]] = {}
        self._exact: dict[int, _Literals] = {}
        for i, (_, matcher) in enumerate(self._items):
            if matcher.literal is not None:
                self._literals.setdefault(matcher.literal, []).append(i)
            else:
                self._exact[i] = _Literals(i, matcher.starts(), matcher.ends(), matcher.between())
        self._by_shape = _Lookup([_shape_of(literals) for literals in self._exact.values()])
        self._of_shape: dict[bytes, _Lookup] = {}
        self._of_candidates: dict[tuple[int, ...], _Lookup] = {}

    def matches(self, name: str) -> list[tuple[T, dict[str, int | str]]]:
        """The items whose pattern `name` matches, in the order they were given, each with the values of its captures.

        Raises:
            MapError: it matches one of them in several ways.
        """
        shape = _zeroed(name)
        lookup = self._of_shape.get(shape)
        if lookup is None:
            lookup = self._remembered(shape)
        candidates = lookup.possible(name)
        if name in self._literals:
            candidates = sorted([*candidates, *self._literals[name]])
        found = []
        for i in candidates:
            item, matcher = self._items[i]
            bound = matcher.match(name)
            if bound is not None:
                found.append((item, bound))
        return found

    def _remembered(self, shape: bytes) -> _Lookup:
        candidates = tuple(self._by_shape.possible(shape.decode("utf-8", "surrogatepass")))
        lookup = self._of_candidates.get(candidates)
        if lookup is None:
            lookup = self._of_candidates[candidates] = _Lookup([self._exact[i] for i in candidates])
        if len(self._of_shape) >= SHAPES:
            self._of_shape.clear()
        self._of_shape[shape] = lookup
        return lookup


@dataclass(frozen=True, slots=True)
class _Literals:
    """What the names of pattern `item` have: one of `starts`, one of `ends`, and all of `between`."""

    item: int
    starts: Sequence[str]
    ends: Sequence[str]
    between: Sequence[str]


def _shape_of(literals: _Literals) -> _Literals:
    starts, ends, between = (
        [_zeroed(text).decode("utf-8", "surrogatepass") for text in texts] for texts in (literals.starts, literals.ends, literals.between)
    )
    return _Literals(literals.item, list(dict.fromkeys(starts)), list(dict.fromkeys(ends)), between)


def _zeroed(text: str) -> bytes:
    # Bytes are translated several times as fast.
    return text.encode("utf-8", "surrogatepass").translate(_ZEROS)


_Edges = dict[int, dict[str, list[tuple[str, int]]]]
"""By length and text of an edge, the patterns that have it, each with the longest literal between its edges."""


class _Lookup:
    """Finds patterns by what names begin or end with: each by whichever fewer others share. Where there are few, all are possible."""

    def __init__(self, patterns: Sequence[_Literals]) -> None:
        self._few = [p.item for p in patterns] if len(patterns) <= 2 else None
        if self._few is not None:
            return
        self._starting: _Edges = {}
        self._ending: _Edges = {}
        by_start, by_end = Counter([s for p in patterns for s in p.starts]), Counter([e for p in patterns for e in p.ends])
        for p in patterns:
            if _shared(p.starts, by_start) < _shared(p.ends, by_end):
                _add(self._starting, p, p.starts)
            else:
                _add(self._ending, p, p.ends)

    def possible(self, name: str) -> list[int]:
        """The patterns that `name` may match."""
        if self._few is not None:
            return self._few
        found: list[tuple[str, int]] = []
        for length, items in self._starting.items():
            found += items.get(name[:length], ())
        for length, items in self._ending.items():
            found += items.get(name[max(0, len(name) - length) :], ())
        return sorted({i for longest, i in found if longest in name})


def _add(table: _Edges, pattern: _Literals, edges: Iterable[str]) -> None:
    longest = max(pattern.between, key=len, default="")
    for edge in edges:
        table.setdefault(len(edge), {}).setdefault(edge, []).append((longest, pattern.item))


def _shared(edges: Iterable[str], counts: Counter[str]) -> float:
    """How many patterns a lookup by `edges` comes to at most."""
    return max([counts[edge] if edge else float("inf") for edge in edges], default=0)
