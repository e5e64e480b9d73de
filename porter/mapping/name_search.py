"""The thorough way to take a name apart: every way in which it matches, for patterns that leave a choice.

First, from the end to the start, for each field all positions are found where it can begin so that the rest still matches. These
sets are integers with a bit for each position, so a name of ten thousand characters costs milliseconds whatever the pattern.
Then the ways are walked through from the start, without dead ends; whoever asks stops after the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from porter.mapping.captures import Field
from porter.mapping.name_scan import TooManyWays

STEPS = 10_000
"""Places that are tried for one name at most."""

_DIGITS = "0123456789"


class NameSearch:
    """Finds the ways in which names match the pattern with these parts (as from `parts_of`)."""

    def __init__(self, literals: Sequence[str], fields: Sequence[Field]) -> None:
        self._literals = literals
        self._fields = fields
        self._words = [tuple(field.words or ()) for field in fields]
        self._earlier = [_earlier(fields, i) for i in range(len(fields))]
        self._wild = [field.kind == "text" and field.variable is None for field in fields]

    def ways(self, name: str) -> Iterator[list[str]]:
        """The texts of the fields, for each way in which `name` matches. Ways that differ in `*` alone come once.

        Raises:
            TooManyWays: there was too much to try.
        """
        if not name.startswith(self._literals[0]):
            return
        ends = self._ends(name)
        if ends is None:
            return
        steps = STEPS
        seen = set[tuple[tuple[int, int] | None, ...]]()
        spans: list[tuple[int, int]] = []
        stack = [self._reached(name, 0, len(self._literals[0]), spans, ends[0])]
        while stack:
            index = len(stack) - 1
            del spans[index:]
            end = next(stack[-1], None)
            if end is None:
                stack.pop()
                continue
            steps -= 1
            if steps < 0:
                raise TooManyWays
            start = spans[-1][1] + len(self._literals[index]) if spans else len(self._literals[0])
            spans.append((start, end))
            if self._wild[index]:
                state = (*[None if wild else span for wild, span in zip(self._wild, spans, strict=False)], (index, end))
                if state in seen:
                    continue
                seen.add(state)
            if index + 1 < len(self._fields):
                stack.append(self._reached(name, index + 1, end + len(self._literals[index + 1]), spans, ends[index + 1]))
            else:
                yield [name[first:last] for first, last in spans]

    def _ends(self, name: str) -> list[int] | None:
        """For each field the positions where it can end so that what follows matches, or None where there is none for some."""
        last = self._literals[-1]
        at_end = len(name) - len(last)
        if at_end < 0 or not name.endswith(last):
            return None
        ends = [1 << at_end]
        for index in range(len(self._fields) - 1, 0, -1):
            literal = self._literals[index]
            starts = self._starts(name, index, ends[-1])
            ends.append(_occurrences(name, literal) & (starts >> len(literal)) if literal else starts)
            if not ends[-1]:
                return None
        return ends[::-1]

    def _starts(self, name: str, index: int, ends: int) -> int:
        """The positions where a field can begin that has to end in one of `ends`."""
        match self._fields[index].kind:
            case "text":
                return (1 << (ends.bit_length() - 1)) - 1
            case "segment":
                starts = 0
                for first, end in _runs(name, "[^./]"):
                    within = (ends >> (first + 1)) & ((1 << (end - first)) - 1)
                    starts |= ((1 << within.bit_length()) - 1) << first
                return starts
            case "digits":
                return _mask([first for first, end in _runs(name, "[0-9]") if ends >> end & 1], len(name))
        starts = 0
        for word in self._words[index]:
            starts |= _occurrences(name, word) & (ends >> len(word)) if word else ends
        return starts

    def _reached(self, name: str, index: int, start: int, spans: Sequence[tuple[int, int]], ends: int) -> Iterator[int]:
        """Where a field that begins at `start` can end, the nearest first."""
        kind, earlier = self._fields[index].kind, self._earlier[index]
        if earlier is not None:
            first, last = spans[earlier]
            end = start + last - first
            if name.startswith(name[first:last], start) and ends >> end & 1:
                yield end
        elif kind == "words":
            yield from [start + len(w) for w in self._words[index] if name.startswith(w, start) and ends >> (start + len(w)) & 1]
        elif kind == "digits":
            end = start
            while end < len(name) and name[end] in _DIGITS:
                end += 1
            if end > start and not (start and name[start - 1] in _DIGITS) and ends >> end & 1:
                yield end
        else:
            left, at = ends >> (start + 1), start
            if kind == "segment":
                separators = [p for p in (name.find(".", start), name.find("/", start)) if p >= 0]
                left &= (1 << (min([*separators, len(name)]) - start)) - 1
            while left:
                skip = (left & -left).bit_length()
                at += skip
                left >>= skip
                yield at


def _earlier(fields: Sequence[Field], index: int) -> int | None:
    """An earlier field that has the same text because it is the same capture."""
    field = fields[index]
    if field.variable is None or field.kind not in ("text", "segment"):
        return None
    return next((i for i in range(index) if fields[i].variable == field.variable), None)


def _occurrences(name: str, text: str) -> int:
    """The positions where `text` is in `name`."""
    positions = []
    at = name.find(text)
    while at >= 0:
        positions.append(at)
        at = name.find(text, at + 1)
    return _mask(positions, len(name))


def _mask(positions: Sequence[int], size: int) -> int:
    if size < 256 or len(positions) < 8:
        mask = 0
        for p in positions:
            mask |= 1 << p
        return mask
    bits = bytearray(b"0") * (size + 1)
    for p in positions:
        bits[size - p] = 49
    return int(bits, 2)


def _runs(name: str, characters: str) -> list[tuple[int, int]]:
    """The longest stretches, start and end, of `characters`, a set as in regular expressions."""
    return [found.span() for found in re.finditer(f"{characters}+", name)]
