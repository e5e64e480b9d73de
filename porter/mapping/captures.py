"""Captures: what type each one of a rule has, and what text each occurrence of it may be.

The number of zeros that an integer is padded with is not part of its type: `{L:03}` pads where it stands and nowhere else, so
`blk{L:03}.w <-> layers.{L}.w` takes the zeros away. A name that is a parameter stands for that parameter's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from porter.dataclass import dataclass
from porter.errors import did_you_mean
from porter.mapping.expressions import DIGITS, Values, evaluate, variables
from porter.mapping.syntax import (
    Arithmetic,
    Capture,
    CaptureType,
    Choice,
    Expression,
    Int,
    InTable,
    Name,
    Path,
    Pattern,
    Ranges,
    Table,
    Variable,
)

CAPTURES = 64
"""Captures that a name has at most."""

Domain = tuple[tuple[int, int], ...]
"""The integers that a capture may be: ranges, ends included."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What names can refer to: tables, their rows computed, and values of parameters (integers and texts can stand in names)."""

    tables: Mapping[str, Table]
    values: Values


@dataclass(frozen=True, slots=True)
class Field:
    """One occurrence of a capture in a name, and the text it may be.

    kind: "text": any but none; "segment": any but none without `.` and `/`; "digits": an integer, padded with zeros to `width`
        digits; "words": one of `words`, which maps each to the value that it binds.
    variable: the capture whose value the text is; None for a `*` and where `expression` has more to it.
    expression: for "digits", what the integer is.
    """

    kind: Literal["text", "segment", "digits", "words"]
    capture: Capture
    variable: str | None = None
    expression: Expression | None = None
    width: int = 1
    words: Mapping[str, str] | None = None


# ---- types of a rule's captures ----------------------------------------------------------------------------------------


def capture_types(patterns: Iterable[Pattern], scope: Scope) -> dict[str, CaptureType]:
    """The type of every capture of a rule, whose `patterns` these are. What no occurrence states is a `Path`, and an `Int` where
    the capture is calculated with. An `Int` beside `Ranges` says no more than the `Ranges`. Widths are 0.

    Raises:
        MapError: two occurrences contradict each other, a table is not known, a range is none, a text is calculated with.
    """
    stated: dict[str, CaptureType] = {}
    calculated: dict[str, Variable] = {}
    names: dict[str, None] = {}
    for pattern in patterns:
        captures = [part for part in pattern.parts if isinstance(part, Capture) and part.expression is not None]
        for capture in captures:
            _note(capture, scope, names, stated, calculated)
    types: dict[str, CaptureType] = {name: stated.get(name, Int() if name in calculated else Path()) for name in names}
    for name, where in calculated.items():
        if not isinstance(types[name], Int | Ranges):
            hint = f"write '{{{name}:int}}', or a range such as '{{{name}:0..3}}', where its type is stated"
            raise where.span.error("M103", f"the capture '{name}' is calculated with, and {_described(types[name])}", hint=hint)
    return types


def _note(capture: Capture, scope: Scope, names: dict[str, None], stated: dict[str, CaptureType], calculated: dict[str, Variable]) -> None:
    expression, given = capture.expression, capture.type
    assert expression is not None
    if isinstance(expression, Variable) and expression.name not in scope.values:
        name = expression.name
        names[name] = None
        if given is not None:
            normal = _checked(capture, given, scope)
            stated[name] = _merged(capture, name, stated[name], normal, scope) if name in stated else normal
        return
    if isinstance(expression, Variable) and given is not None:
        hint = f"call the capture something else, or write '{{{expression.name}}}' for the parameter's value"
        raise capture.span.error("M102", f"'{expression.name}' is a parameter, and cannot be a capture too", hint=hint)
    if not isinstance(given, Int | None):
        raise capture.span.error(
            "M103", f"a calculated index is an integer, and {_described(given)}", hint="state it where the capture stands alone"
        )
    if given is not None:
        _checked(capture, given, scope)
    if isinstance(expression, Arithmetic):
        for variable in variables(expression):
            if variable.name not in scope.values:
                names[variable.name] = None
                calculated.setdefault(variable.name, variable)


def _checked(capture: Capture, given: CaptureType, scope: Scope) -> CaptureType:
    """`given` without its width, once it is found to make sense."""
    if isinstance(given, InTable) and given.table not in scope.tables:
        near = did_you_mean(given.table, [*scope.tables, "int", "path", "name"])
        hint = near or f"'table {given.table} {{ … }}' declares one; other types are int, path, name"
        raise capture.span.error("M101", f"'{given.table}' is no type of a capture, and there is no table of this name", hint=hint)
    if isinstance(given, Int | Ranges) and given.width > DIGITS:
        raise capture.span.error("M111", f"an integer padded to {given.width} digits; {DIGITS} is the most")
    if isinstance(given, Ranges):
        domain_of(given, capture, scope)
        return Ranges(given.ranges)
    return Int() if isinstance(given, Int) else given


def _merged(capture: Capture, name: str, one: CaptureType, other: CaptureType, scope: Scope) -> CaptureType:
    """What two statements of a capture's type come to."""
    if one == other or (isinstance(one, Ranges) and isinstance(other, Int)):
        return one
    if isinstance(one, Int) and isinstance(other, Ranges):
        return other
    if isinstance(one, Choice) and isinstance(other, Choice) and set(one.words) == set(other.words):
        return one
    if isinstance(one, Ranges) and isinstance(other, Ranges) and domain_of(one, capture, scope) == domain_of(other, capture, scope):
        return one
    raise capture.span.error(
        "M100",
        f"the capture '{name}' has two types: {_described(one)}, {_described(other)}",
        hint=f"state it once; elsewhere '{{{name}}}' is enough",
    )


def _described(given: CaptureType) -> str:
    match given:
        case Int():
            return "'int' is an integer"
        case Ranges():
            return "a range is an integer"
        case Choice():
            return f"'{'|'.join(given.words):.60}' is a choice of words"
        case InTable():
            return f"'{given.table}' is a table of words"
        case Name():
            return "'name' is text"
    return "'path' is text"


def domain_of(given: Ranges, capture: Capture, scope: Scope) -> Domain:
    """The integers of `given`: ranges in ascending order that do not touch.

    Raises:
        MapError: a range ends before it starts, or starts below 0; a name in it is no parameter.
    """
    found: list[tuple[int, int]] = []
    for first, last in given.ranges:
        low, high = evaluate(first, scope.values), evaluate(last, scope.values)
        if low < 0 or high < low:
            what = "an index is never negative" if low < 0 else "a range ends where it starts, or later"
            raise capture.span.error("M116", f"{low}..{high} is no range", hint=what)
        found.append((low, high))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def allowed(value: int, domain: Domain | None) -> bool:
    """Whether a capture of this domain can have this value."""
    return value >= 0 if domain is None else any(low <= value <= high for low, high in domain)


# ---- the parts of a name -----------------------------------------------------------------------------------------------


def parts_of(pattern: Pattern, types: Mapping[str, CaptureType], scope: Scope) -> tuple[list[str], list[Field]]:
    """The literals and the fields of `pattern`: a literal before each field and one after the last, each possibly empty.
    Parameters are written out into the literals.

    Raises:
        MapError: a parameter is no text for a name, a table has a word twice, there are too many captures.
    """
    literals, fields = [""], list[Field]()
    for part in pattern.parts:
        made = part if isinstance(part, str) else _constant(part, scope)
        if made is not None:
            literals[-1] += made
        elif isinstance(part, Capture):
            fields.append(_field(part, types, scope))
            literals.append("")
    if len(fields) > CAPTURES:
        raise pattern.span.error("M117", f"{len(fields)} captures in one name; {CAPTURES} is the most")
    return literals, fields


def _constant(capture: Capture, scope: Scope) -> str | None:
    """The text of a capture that only refers to parameters; None for others."""
    expression = capture.expression
    if expression is None or any(v.name not in scope.values for v in variables(expression)):
        return None
    if isinstance(expression, Variable):
        value = scope.values[expression.name]
        if isinstance(value, str):
            return value
    number = evaluate(expression, scope.values)
    if number < 0:
        raise capture.span.error("M112", f"the index would be {number}", hint="an index in a name is 0 or more")
    return str(number).zfill(_width(capture))


def _width(capture: Capture) -> int:
    """How many digits an integer has at least where `capture` stands."""
    return max(1, capture.type.width) if isinstance(capture.type, Int | Ranges) else 1


def _field(capture: Capture, types: Mapping[str, CaptureType], scope: Scope) -> Field:
    expression = capture.expression
    if expression is None:
        return Field("text", capture)
    if not isinstance(expression, Variable):
        return Field("digits", capture, None, expression, _width(capture))
    name, kind = expression.name, types[expression.name]
    match kind:
        case Int() | Ranges():
            return Field("digits", capture, name, expression, _width(capture))
        case Choice():
            return Field("words", capture, name, words={word: word for word in kind.words})
        case InTable():
            return Field("words", capture, name, words=_column(capture, scope.tables[kind.table]))
    return Field("segment" if isinstance(kind, Name) else "text", capture, name)


def _column(capture: Capture, table: Table) -> dict[str, str]:
    """The words that this occurrence can be, each with the word of the left column that it stands for."""
    typed = isinstance(capture.type, InTable)
    column = {(left if typed else right): left for left, right in table.rows}
    if len(column) != len(table.rows):
        twice = _first_repeated([left if typed else right for left, right in table.rows])
        side = "left" if typed else "right"
        raise table.span.error(
            "M118", f"the table '{table.name}' has '{twice}' twice in its {side} column", hint="it could not be used both ways"
        )
    return column


def _first_repeated(words: Sequence[str]) -> str:
    seen = set[str]()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return ""
