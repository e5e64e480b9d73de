"""The nearest pattern for a name that matches none, and the nearest name for a pattern that matches none: `did you mean …?`.

What counts is how many characters are to be inserted, deleted or replaced in the literals of the pattern; a capture is any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from porter.mapping.names import NameMatcher, Scope, capture_types
from porter.mapping.references import captures_of
from porter.mapping.syntax import InTable, Pattern, Table

TOLERANCE = 1 / 3
"""How much of what a pattern writes out may be different."""

COMPARED = 12
"""Patterns or names that are compared character by character, those with most words in common first."""

LONGEST = 200
"""Characters of a name, and of a pattern's literals, that are compared at most."""

_Any = None
"""In a list of characters: a capture."""


def nearest_pattern(name: str, patterns: Iterable[Pattern]) -> str | None:
    """The text of the pattern that `name` nearly matches, or None where none is near."""
    words = _words(name)
    ranked = [(_common(words, _pattern_words(pattern)), -i, pattern) for i, pattern in enumerate(patterns)]
    ranked.sort(key=lambda entry: entry[:2], reverse=True)
    best = min([(_distance(name, p), -i, p) for _, i, p in ranked[:COMPARED]], key=lambda entry: entry[:2], default=None)
    if best is None or best[0] > TOLERANCE:
        return None
    from porter.mapping.render import pattern_text

    return pattern_text(best[2])


def nearest_name(pattern: Pattern, names: Iterable[str]) -> str | None:
    """The name that nearly matches `pattern`, or None where none is near."""
    words = _pattern_words(pattern)
    ranked = [(_common(words, _words(name)), -i, name) for i, name in enumerate(names)]
    ranked.sort(reverse=True)
    best = min([(_distance(name, pattern), -i, name) for _, i, name in ranked[:COMPARED]], default=None)
    return best[2] if best is not None and best[0] <= TOLERANCE else None


def way_to_match(pattern: Pattern, names: Iterable[str], scope: Scope) -> str | None:
    """A hint that says what `pattern`, which matches none of `names`, could be instead; None where nothing is near."""
    known = list(names)
    for name in [c.type.table for c in captures_of(pattern) if isinstance(c.type, InTable)]:
        rows = tuple([(right, left) for left, right in scope.tables[name].rows])
        turned = Scope({**scope.tables, name: Table(name, rows)}, scope.values)
        matcher = NameMatcher(pattern, capture_types([pattern], turned), turned)
        if any(matcher.match(n) is not None for n in known):
            return f"the names have right words of table '{name}', and '{{…:{name}}}' reads left ones: turn the table's rows around"
    near = nearest_name(pattern, known)
    if near is None:
        return None
    return f"the nearest name is '{near}'" if pattern.literal is None else f"did you mean '{near}'?"


def _words(text: str) -> frozenset[str]:
    """Words of letters, and each without its last letters, so that a slip of the pen leaves something in common."""
    words = re.findall(r"[^\W\d_]+", text[:LONGEST].lower())
    return frozenset([*words, *[word[:3] for word in words]])


def _pattern_words(pattern: Pattern) -> frozenset[str]:
    return _words(" ".join([part for part in pattern.parts if isinstance(part, str)]))


def _common(one: frozenset[str], other: frozenset[str]) -> float:
    """How much of the words two texts share, from 0 to 1."""
    return len(one & other) / (len(one | other) or 1)


def _distance(name: str, pattern: Pattern) -> float:
    """How much of the literals of `pattern` has to change so that `name` matches; without end where it has none."""
    characters: list[str | None] = []
    for part in pattern.parts:
        characters += part if isinstance(part, str) else [_Any]
    written = sum([character is not _Any for character in characters[:LONGEST]])
    return _edits(name[:LONGEST], characters[:LONGEST]) / written if written else float("inf")


def _edits(name: str, characters: Sequence[str | None]) -> int:
    row = list(range(len(name) + 1))
    for character in characters:
        if character is _Any:
            # One character of the name or more, at no cost; a capture that would be empty costs one.
            least, made = row[0] + 1, [row[0] + 1]
            for before, skipped in pairwise(row):
                least = min(least, before)
                made.append(min(least, skipped + 1))
        else:
            made = [row[0] + 1]
            for at, letter in enumerate(name):
                made.append(min(row[at + 1] + 1, made[at] + 1, row[at] + (letter != character)))
        row = made
    return row[-1]
