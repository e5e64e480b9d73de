"""What the statements of a map refer to by name, and statements with other names in these places.

Captures, axes and sizes of a rule are one set of names; those that are parameters' mean the parameter's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from porter.dataclass import replace
from porter.mapping.expressions import variables
from porter.mapping.syntax import (
    Arithmetic,
    Axis,
    AxisElement,
    Call,
    Capture,
    Drop,
    Expression,
    Fill,
    Group,
    InTable,
    Keep,
    Pattern,
    Ranges,
    Rule,
    Side,
    Statement,
    Term,
    Tie,
    Variable,
)

Renaming = Callable[[str], str]
"""Another name for a name, or the same."""


# ---- what there is -----------------------------------------------------------------------------------------------------


def captures_of(pattern: Pattern) -> list[Capture]:
    """The captures of a pattern, wildcards included."""
    return [part for part in pattern.parts if isinstance(part, Capture)]


def axis_names(term: Term) -> Iterator[str]:
    """The axes of a term by name, `[e]` among them."""
    if term.stack is not None:
        yield term.stack.name
    stack: list[AxisElement] = list(term.axes.elements) if term.axes is not None else []
    while stack:
        element = stack.pop()
        if isinstance(element, Axis):
            yield element.name
        elif isinstance(element, Group):
            stack += [e for block in element.terms for e in block]


def patterns_of(statement: Statement) -> list[Pattern]:
    """Every name in a statement."""
    match statement:
        case Rule(source, target):
            return [term.pattern for term in (*source.terms, *target.terms)]
        case Drop(pattern, same_as):
            return [pattern, same_as] if isinstance(same_as, Pattern) else [pattern]
        case Keep(pattern):
            return [pattern]
        case Tie(alias, tensor):
            return [alias, tensor]
        case Fill(_, pattern, _, for_each):
            return [pattern] if for_each is None else [pattern, for_each]
    return []


def calls_of(statement: Statement) -> list[Call]:
    """Every operation in a statement."""
    match statement:
        case Rule(source, target):
            return [*source.calls, *target.calls]
        case Drop(_, Call() as call) | Fill(call):
            return [call]
    return []


def tables_of(statement: Statement) -> set[str]:
    """The tables that a statement's names refer to."""
    captures = [c for pattern in patterns_of(statement) for c in captures_of(pattern)]
    return {c.type.table for c in captures if isinstance(c.type, InTable)}


def values_of(statement: Statement) -> set[str]:
    """All that could be the name of a parameter in a statement: its captures, axes, sizes and words."""
    found = names_of(statement)
    for call in calls_of(statement):
        found |= words_of(call)
    for capture in [c for pattern in patterns_of(statement) for c in captures_of(pattern)]:
        if isinstance(capture.type, Ranges):
            found |= {v.name for bounds in capture.type.ranges for bound in bounds for v in variables(bound)}
    if isinstance(statement, Rule):
        found |= {v.name for _, size in statement.where for v in variables(size)}
    return found


def names_of(statement: Statement) -> set[str]:
    """The captures, axes and sizes that a statement names."""
    captures = [c.expression for pattern in patterns_of(statement) for c in captures_of(pattern)]
    found = {v.name for expression in captures if expression is not None for v in variables(expression)}
    if isinstance(statement, Rule):
        found |= {name for term in (*statement.source.terms, *statement.target.terms) for name in axis_names(term)}
        found |= {name for name, _ in statement.where}
    return found


def words_of(call: Call) -> set[str]:
    """The words in an operation's arguments: parameters, where there are such."""
    found = set[str]()
    stack: list[object] = [argument.value for argument in call.arguments]
    while stack:
        value = stack.pop()
        if isinstance(value, Variable | Arithmetic):
            found |= {v.name for v in variables(value)}
        elif isinstance(value, tuple):
            stack += value
    return found


# ---- other names in their places ---------------------------------------------------------------------------------------


def with_tables(statement: Statement, other: Renaming) -> Statement:
    """The statement with other names for tables."""

    def capture(given: Capture) -> Capture:
        return replace(given, type=InTable(other(given.type.table))) if isinstance(given.type, InTable) else given

    return _with_patterns(statement, lambda pattern: _with_captures(pattern, capture))


def with_names(statement: Statement, other: Renaming) -> Statement:
    """The statement with other names for its captures, axes and sizes; what its operations and sizes are computed from stays."""
    renamed = _with_patterns(statement, lambda pattern: with_captures(pattern, other))
    if not isinstance(renamed, Rule):
        return renamed
    where = tuple([(other(name), size) for name, size in renamed.where])
    return replace(renamed, source=_with_axes(renamed.source, other), target=_with_axes(renamed.target, other), where=where)


def with_captures(pattern: Pattern, other: Renaming) -> Pattern:
    """The pattern with other names for its captures."""

    def capture(given: Capture) -> Capture:
        return given if given.expression is None else replace(given, expression=_expression(given.expression, other))

    return _with_captures(pattern, capture)


def _with_captures(pattern: Pattern, change: Callable[[Capture], Capture]) -> Pattern:
    return replace(pattern, parts=tuple([part if isinstance(part, str) else change(part) for part in pattern.parts]))


def _expression(expression: Expression, other: Renaming) -> Expression:
    if isinstance(expression, Variable):
        return replace(expression, name=other(expression.name))
    if isinstance(expression, Arithmetic):
        return replace(expression, left=_expression(expression.left, other), right=_expression(expression.right, other))
    return expression


def _with_patterns(statement: Statement, change: Callable[[Pattern], Pattern]) -> Statement:
    match statement:
        case Rule(source, target):
            sides = [replace(s, terms=tuple([replace(t, pattern=change(t.pattern)) for t in s.terms])) for s in (source, target)]
            return replace(statement, source=sides[0], target=sides[1])
        case Drop(pattern, Pattern() as same_as):
            return replace(statement, pattern=change(pattern), same_as=change(same_as))
        case Drop(pattern) | Keep(pattern):
            return replace(statement, pattern=change(pattern))
        case Tie(alias, tensor):
            return replace(statement, alias=change(alias), tensor=change(tensor))
        case Fill(_, pattern, _, for_each):
            return replace(statement, pattern=change(pattern), for_each=None if for_each is None else change(for_each))
    return statement


def _with_axes(side: Side, other: Renaming) -> Side:
    terms = []
    for term in side.terms:
        stack = None if term.stack is None else replace(term.stack, name=other(term.stack.name))
        axes = None if term.axes is None else replace(term.axes, elements=_elements(term.axes.elements, other))
        terms.append(replace(term, stack=stack, axes=axes))
    return replace(side, terms=tuple(terms))


def _elements(elements: tuple[AxisElement, ...], other: Renaming) -> tuple[AxisElement, ...]:
    done: list[AxisElement] = []
    for element in elements:
        if isinstance(element, Axis):
            element = replace(element, name=other(element.name))
        elif isinstance(element, Group):
            element = replace(element, terms=tuple([_elements(block, other) for block in element.terms]))
        done.append(element)
    return tuple(done)
