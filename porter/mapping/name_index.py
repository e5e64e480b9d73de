"""Many patterns at once: which of them a name matches, without trying each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

from porter.mapping.name_matcher import NameMatcher

T = TypeVar("T")

SHAPES = 100_000
"""Shapes of names that are remembered at most."""

_ZEROS = {ord(digit): "0" for digit in "123456789"}


class NameIndex(Generic[T]):
    """Patterns, each with what it stands for.

    Names that differ in their digits alone come to the same few patterns, so these are looked up once for all of them: by what a
    name begins or ends with, whichever fewer patterns share. Digits count as 0 in all of that.
    """

    def __init__(self, items: Iterable[tuple[T, NameMatcher]]) -> None:
        self._literals: dict[str, list[int]] = {}
        self._items = list(items)
        self._between: dict[int, list[str]] = {}
        self._starting, self._ending = _Table(False), _Table(True)
        self._candidates: dict[str, list[int]] = {}
        starts: dict[int, list[str]] = {}
        ends: dict[int, list[str]] = {}
        for i, (_, matcher) in enumerate(self._items):
            if matcher.literal is not None:
                self._literals.setdefault(matcher.literal, []).append(i)
            else:
                starts[i], ends[i] = _shapes(matcher.starts()), _shapes(matcher.ends())
                self._between[i] = [literal.translate(_ZEROS) for literal in matcher.between()]
        shared_starts, shared_ends = (Counter([e for edges in side.values() for e in edges if e]) for side in (starts, ends))
        for i in starts:
            if _shared(starts[i], shared_starts) < _shared(ends[i], shared_ends):
                self._starting.add(i, starts[i])
            else:
                self._ending.add(i, ends[i])

    def matches(self, name: str) -> list[tuple[T, dict[str, int | str]]]:
        """The items whose pattern `name` matches, in the order they were given, each with the values of its captures.

        Raises:
            MapError: it matches one of them in several ways.
        """
        shape = name.translate(_ZEROS)
        candidates = self._candidates.get(shape)
        if candidates is None:
            candidates = self._possible(shape)
            if len(self._candidates) >= SHAPES:
                self._candidates.clear()
            self._candidates[shape] = candidates
        literal = self._literals.get(name)
        if literal is not None:
            candidates = sorted([*candidates, *literal])
        found = []
        for i in candidates:
            item, matcher = self._items[i]
            bound = matcher.match(name)
            if bound is not None:
                found.append((item, bound))
        return found

    def _possible(self, shape: str) -> list[int]:
        """The patterns that names of this shape may match."""
        found = []
        for i in {*self._starting.of(shape), *self._ending.of(shape)}:
            at = 0
            for literal in self._between[i]:
                at = shape.find(literal, at)
                if at < 0:
                    break
                at += len(literal)
            else:
                found.append(i)
        return sorted(found)


class _Table:
    """Patterns by what names have to begin with, or `from_end` end with."""

    def __init__(self, from_end: bool) -> None:
        self._from_end = from_end
        self._by_length: dict[int, dict[str, list[int]]] = {}

    def add(self, item: int, edges: Iterable[str]) -> None:
        for edge in edges:
            self._by_length.setdefault(len(edge), {}).setdefault(edge, []).append(item)

    def of(self, shape: str) -> list[int]:
        found: list[int] = []
        for length, by_edge in self._by_length.items():
            edge = shape[len(shape) - length :] if self._from_end and length <= len(shape) else shape[:length]
            found += by_edge.get(edge, ())
        return found


def _shapes(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([text.translate(_ZEROS) for text in texts]))


def _shared(edges: Iterable[str], counts: Counter[str]) -> float:
    """How many patterns a lookup by `edges` comes to at most."""
    return max([counts[edge] if edge else float("inf") for edge in edges], default=0)
