"""Rules with a table of layers, for names that no number or common part leads from one to the other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from porter.dataclass import replace
from porter.mapping.inference.slots import Names, Use
from porter.mapping.syntax import Capture, InTable, Pattern, Table, Variable

FEWEST, MOST = 4, 400
"""Rows that are worth a table, and that one may have."""

_NUMBER_AT_END = re.compile(r"(.*?)(\d+)", re.DOTALL)
_WORD = re.compile(r'[^\s{}=#"]+')

_Frame = tuple[tuple[str, str], ...]
"""What stands before and after a word of the table, in each name."""


def tabled(uses: Sequence[Use]) -> list[Names]:
    """Rules with a table, each for uses whose names are alike but for one part of the sources and one of the targets."""
    found = defaultdict[tuple[_Frame, _Frame], list[tuple[Use, str, str]]](list)
    for use in uses:
        for left, before in _splits(use.sources):
            for right, after in _splits(use.targets):
                found[before, after].append((use, left, right))
    rules = []
    for (before, after), members in found.items():
        rows = tuple(dict.fromkeys((left, right) for _, left, right in members))
        one_to_one = len({left for left, _ in rows}) == len({right for _, right in rows}) == len(rows) == len(members)
        if FEWEST <= len(rows) <= MOST and one_to_one and all(_WORD.fullmatch(w) for row in rows for w in row):
            rules.append(_rule(before, after, [use for use, _, _ in members], rows))
    return rules


def _splits(names: Sequence[str]) -> Iterator[tuple[str, _Frame]]:
    """Ways to take the layer out of names: all that they begin with, up to a separator, or the number at the end of that."""
    shared = next((i for i, c in enumerate(zip(*names, strict=False)) if len(set(c)) > 1), min(map(len, names)))
    common = names[0][:shared]
    cuts = [i for i, c in enumerate(common) if c in "./"][-2:]
    for end in cuts or [len(common)]:
        layer = common[:end]
        if not layer:
            continue
        # The number alone comes first: it is what tables of several rules have in common.
        number = _NUMBER_AT_END.fullmatch(layer)
        if number is not None and number[1]:
            yield number[2], tuple((number[1], name[end:]) for name in names)
        yield layer, tuple(("", name[end:]) for name in names)


def _rule(before: _Frame, after: _Frame, uses: Sequence[Use], rows: tuple[tuple[str, str], ...]) -> Names:
    table = Table("layers", rows)
    left, right = Capture(Variable("l"), InTable(table.name)), Capture(Variable("l"))
    sources, targets = (
        tuple(Pattern(tuple(part for part in (start, capture, end) if part != "")) for start, end in frame)
        for frame, capture in ((before, left), (after, right))
    )
    return Names(sources, targets, tuple(uses), (table,))


def joined(tables: Sequence[Table], table: Table) -> Table | None:
    """One of `tables` that can hold the rows of `table` as well, with them; None where each contradicts it."""
    for other in tables:
        rows = tuple(dict.fromkeys((*other.rows, *table.rows)))
        if set(other.rows) & set(table.rows) and len({a for a, _ in rows}) == len({b for _, b in rows}) == len(rows):
            return replace(other, rows=rows)
    return None
