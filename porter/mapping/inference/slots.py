"""Names taken apart into words and numbers, and what the numbers and words of targets are, given those of sources."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from porter.dataclass import dataclass, field
from porter.mapping.syntax import (
    Arithmetic,
    Capture,
    CaptureType,
    Choice,
    Expression,
    Int,
    InTable,
    Number,
    Pattern,
    Ranges,
    Table,
    Variable,
)

_TOKENS = re.compile(r"[0-9]+|[A-Za-z]+|.", re.DOTALL)

_NUMBERS = "ijklmn"
_WORDS = "abcdefgh"

MOST_ROWS = 26
"""Words of a choice, and rows of a table, at most."""

Column = tuple[str, ...]
"""What one place of a name holds, for each use of the rule."""


@dataclass(frozen=True, slots=True)
class Use:
    """Names that one use of a rule takes and makes."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """Patterns for several uses at once."""

    sources: tuple[Pattern, ...]
    targets: tuple[Pattern, ...]
    uses: tuple[Use, ...]
    tables: tuple[Table, ...] = ()


def tokens(name: str) -> list[str]:
    """Numbers, words and single other characters."""
    return _TOKENS.findall(name)


def skeleton(use: Use) -> tuple[tuple[str, ...], ...]:
    """What uses that one pattern may stand for have in common: the characters between words and numbers."""
    return tuple(tuple(_kind(t) for t in tokens(name)) for name in (*use.sources, *use.targets))


def _kind(token: str) -> str:
    return "0" if token.isascii() and token.isdigit() else "a" if token.isascii() and token.isalpha() else token


@dataclass(slots=True)
class _Capture:
    """A capture and what it holds for each use. `written`: its type is stated already."""

    name: str
    column: Column
    type: CaptureType
    numbers: tuple[int, ...] = ()
    used: bool = False
    written: bool = False


@dataclass(slots=True)
class _Fit:
    captures: list[_Capture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    ranged: bool = False


def fit(uses: Sequence[Use], *, ranged: bool = False) -> Names | None:
    """One rule's names for uses with one skeleton, or None where the places do not depend on each other in a way a map can say.

    ranged: state which numbers there are, instead of any.
    """
    rows = [[tokens(name) for name in (*use.sources, *use.targets)] for use in uses]
    columns = [[tuple(row[k][place] for row in rows) for place in range(len(rows[0][k]))] for k in range(len(rows[0]))]
    state = _Fit(ranged=ranged)
    several = len(uses[0].sources)
    sources = [[_source_part(state, c) for c in name] for name in columns[:several]]
    if any(part is None for name in sources for part in name):
        return None
    targets = [[_target_part(state, c, len(uses)) for c in name] for name in columns[several:]]
    if any(part is None for name in targets for part in name):
        return None
    if targets and not all(c.used for c in state.captures):
        return None
    made = [_pattern(state, [part for part in name if part is not None]) for name in (*sources, *targets)]
    return Names(tuple(made[:several]), tuple(made[several:]), tuple(uses), tuple(state.tables))


_Part = str | tuple[_Capture, int, int, int] | tuple[_Capture, Table]
"""A literal; a capture times a factor plus an offset, of a width; or the other column of a table."""


def _constant(column: Column) -> bool:
    return all(text == column[0] for text in column)


def _source_part(state: _Fit, column: Column) -> _Part | None:
    """A place of a source: a literal, what an earlier place says already, or a new capture."""
    if _constant(column):
        return column[0]
    known = _known(state, column)
    if known is not None:
        return known
    width = _width(column)
    if width is not None:
        numbers = tuple(int(text) for text in column)
        kind: CaptureType = _ranges(numbers, width) if state.ranged else Int(width)
        taken = sum(1 for c in state.captures if c.numbers)
        new = _Capture(_NUMBERS[taken], column, kind, numbers) if taken < len(_NUMBERS) else None
    else:
        words = tuple(dict.fromkeys(column))
        taken = sum(1 for c in state.captures if not c.numbers)
        usable = all(w.isalpha() for w in words) and taken < len(_WORDS) and len(words) <= MOST_ROWS
        new = _Capture(_WORDS[taken], column, Choice(words)) if usable else None
    if new is None:
        return None
    state.captures.append(new)
    return new, 1, 0, width or 0


def _target_part(state: _Fit, column: Column, uses: int) -> _Part | None:
    """A place of a target: a literal, what a capture says, or a table of it."""
    if _constant(column):
        return column[0]
    known = _known(state, column)
    if known is not None:
        known[0].used = True
        return known
    return _by_table(state, column, uses)


def _known(state: _Fit, column: Column) -> tuple[_Capture, int, int, int] | None:
    """A capture that says what this place holds: itself, or times a factor plus an offset."""
    same = next((c for c in state.captures if c.column == column), None)
    if same is not None:
        return same, 1, 0, _width(column) or 0
    width = _width(column)
    if width is None:
        return None
    numbers = [int(text) for text in column]
    for capture in state.captures:
        if capture.numbers:
            factor_offset = affine(capture.numbers, numbers)
            if factor_offset is not None:
                return (capture, *factor_offset, width)
    return None


def affine(given: Sequence[int], wanted: Sequence[int]) -> tuple[int, int] | None:
    """Factor (1 or more) and offset that make every number of `wanted` of that of `given`."""
    first = next((k for k in range(len(given)) if given[k] != given[0]), None)
    if first is None:
        return None
    factor, rest = divmod(wanted[first] - wanted[0], given[first] - given[0])
    offset = wanted[0] - factor * given[0]
    if rest or factor < 1 or any(factor * x + offset != y for x, y in zip(given, wanted, strict=True)):
        return None
    return factor, offset


def _by_table(state: _Fit, column: Column, uses: int) -> _Part | None:
    """The right column of a table whose left column a capture holds, where words and rows are fewer than uses."""
    for capture in state.captures:
        rows = tuple(dict.fromkeys(zip(capture.column, column, strict=True)))
        left, right = ({row[side] for row in rows} for side in (0, 1))
        if not len(rows) == len(left) == len(right) < uses or len(rows) > MOST_ROWS:
            continue
        table = next((t for t in state.tables if isinstance(capture.type, InTable) and t.name == capture.type.table), None)
        if table is not None and table.rows != rows:
            continue
        if table is None:
            table = Table(f"of_{capture.name}", rows)
            state.tables.append(table)
            capture.type = InTable(table.name)
        capture.used = True
        return capture, table
    return None


def _width(column: Column) -> int | None:
    """How many digits numbers are padded to, 0 for none; None where these are no numbers, or padded in several ways."""
    if not all(text.isascii() and text.isdigit() and len(text) < 18 for text in column):
        return None
    if not any(len(text) > 1 and text[0] == "0" for text in column):
        return 0
    return len(column[0]) if len({len(text) for text in column}) == 1 else None


def _ranges(numbers: Sequence[int], width: int) -> Ranges:
    """The numbers as runs."""
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return Ranges(tuple((Number(low), Number(high)) for low, high in runs), width)


def _pattern(state: _Fit, parts: Sequence[_Part]) -> Pattern:
    """A pattern of these parts, literals joined; the first place of a capture states its type."""
    found: list[str | Capture] = []
    for part in parts:
        if isinstance(part, str):
            if found and isinstance(found[-1], str):
                found[-1] += part
            else:
                found.append(part)
        elif len(part) == 2:
            found.append(Capture(Variable(part[0].name)))
        else:
            found.append(_capture(*part))
    return Pattern(tuple(found))


def _capture(capture: _Capture, factor: int, offset: int, width: int) -> Capture:
    plain = factor == 1 and offset == 0
    if plain:
        stated = not capture.written or isinstance(capture.type, InTable)
        capture.written = True
        return Capture(Variable(capture.name), capture.type if stated else Int(width) if width else None)
    expression: Expression = Variable(capture.name)
    if factor != 1:
        expression = Arithmetic("*", Number(factor), expression)
    if offset:
        expression = Arithmetic("+" if offset > 0 else "-", expression, Number(abs(offset)))
    return Capture(expression, Int(width) if width else None)


def parts_by(uses: Sequence[Use], key: Callable[[Use], object]) -> list[list[Use]]:
    """Uses with one key together, in the order of the first."""
    found: dict[object, list[Use]] = {}
    for use in uses:
        found.setdefault(key(use), []).append(use)
    return list(found.values())


def cuts(uses: Sequence[Use]) -> list[list[list[Use]]]:
    """Ways to take uses with one skeleton apart: by what a place holds, words and few values first, or by a line of numbers."""
    rows = [list(itertools.chain.from_iterable(tokens(n) for n in (*u.sources, *u.targets))) for u in uses]
    at = {id(use): row for use, row in zip(uses, rows, strict=True)}
    places = [(len({row[k] for row in rows}), _kind(rows[0][k]) == "0", k) for k in range(len(rows[0]))]
    few = sorted((not_word, count, k) for count, not_word, k in places if 1 < count < len(uses))
    seen, found = set[tuple[int, ...]](), list[list[list[Use]]]()
    for _, _, k in few:
        parts = parts_by(uses, lambda use, k=k: at[id(use)][k])  # type: ignore[misc]
        shape = tuple(len(p) for p in parts)
        if shape not in seen:
            seen.add(shape)
            found.append(parts)
    outliers = _outliers(uses, rows, [k for _, is_number, k in places if is_number])
    return found[:3] + ([outliers] if outliers else [])


def _outliers(uses: Sequence[Use], rows: Sequence[list[str]], places: Sequence[int]) -> list[list[Use]] | None:
    """The uses that follow the line most neighbours lie on, and the others."""
    split = sum(len(tokens(n)) for n in uses[0].sources)
    best: list[bool] = []
    for x in (k for k in places if k < split):
        for y in (k for k in places if k >= split):
            points = sorted((int(row[x]), int(row[y])) for row in rows)
            lines = [affine((p[0], q[0]), (p[1], q[1])) for p, q in itertools.pairwise(points) if p[0] != q[0]]
            for line in set(lines) - {None}:
                assert line is not None
                inside = [line[0] * int(row[x]) + line[1] == int(row[y]) for row in rows]
                if sum(inside) > max(2, sum(best)) and not all(inside):
                    best = inside
    if not best:
        return None
    return [[u for u, yes in zip(uses, best, strict=True) if yes is keep] for keep in (True, False)]
