"""A map turned around: what makes the sources of the targets again, bit for bit, or why that cannot be."""

from __future__ import annotations

from collections.abc import Mapping

from porter.dataclass import replace
from porter.errors import MapError
from porter.mapping.ops.base import Irreversible
from porter.mapping.ledger import SHOWN
from porter.mapping.plan import with_more
from porter.mapping.scope import ParamValue, declared_params
from porter.mapping.syntax import Call, Drop, Expect, Fill, Keep, Map, Param, Pattern, Remaining, Rule, Side, Stage, Statement, Table, Tie


def invert(map: Map, *, params: Mapping[str, ParamValue] | None = None) -> Map:
    """The map that undoes `map`. Its stages stand in the opposite order, each with the tables and parameters it refers to.

    `params` are needed only where an operation's arguments refer to parameters without a default.

    Raises:
        MapError: a statement goes one way only; the error says which and why, and how many others there are.
    """
    values = {name: p.default for name, p in declared_params(map).items() if p.default is not None} | dict(params or {})
    problems: list[MapError] = []
    stages = []
    declared: dict[tuple[type, str], Statement] = {}
    for stage in map.stages:
        declared |= {(type(s), s.name): s for s in stage.statements if isinstance(s, Table | Param)}
        stages.append(_inverted(stage, list(declared.values()) if len(map.stages) > 1 else None, values, problems))
    if problems:
        first, *others = problems
        raise with_more(first, f"{_places(others)} cannot be undone either") if others else first
    return Map(tuple(reversed(stages)))


def _places(errors: list[MapError]) -> str:
    """`lines 3, 4 and 2 more`: where the others are, or how many there are where no text holds them."""
    lines = list(dict.fromkeys(e.where.line for e in errors if e.where.line))
    if not lines:
        return f"{len(errors):,} more statements"
    shown = ", ".join(map(str, lines[:SHOWN]))
    return f"line{'s' if len(lines) > 1 else ''} {shown}" + (f" and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else "")


def _inverted(stage: Stage, declared: list[Statement] | None, values: Mapping[str, ParamValue], problems: list[MapError]) -> Stage:
    """`stage` turned around, with `declared` in front in place of its own tables and parameters where given."""
    done: list[Statement] = list(declared or ())
    for statement in stage.statements:
        if isinstance(statement, Table | Param):
            if declared is None:
                done.append(statement)
            continue
        try:
            done.append(_undone(statement, values))
        except MapError as error:
            problems.append(error)
    return Stage(tuple(done))


def _undone(statement: Statement, values: Mapping[str, ParamValue]) -> Statement:
    if isinstance(statement, Rule):
        return _rule(statement, values)
    if isinstance(statement, Drop):
        return _drop(statement)
    if isinstance(statement, Tie):
        return Drop(statement.alias, statement.tensor, statement.optional, statement.span)
    if isinstance(statement, Fill):
        return _fill(statement)
    if isinstance(statement, Remaining) and statement.action == "drop":
        raise statement.span.error("M501", "what is dropped cannot be made again", hint="map it, or keep it")
    if isinstance(statement, Expect):
        return Expect(statement.targets, statement.sources, statement.span)
    assert isinstance(statement, Keep | Remaining)
    return statement


def _rule(rule: Rule, values: Mapping[str, ParamValue]) -> Rule:
    if rule.arrow == "->":
        raise rule.span.error("M502", _why_one_way(rule, values), hint="a rule with '<->' is checked to go both ways")
    return replace(rule, source=_side(rule.target, values), target=_side(rule.source, values))


def _why_one_way(rule: Rule, values: Mapping[str, ParamValue]) -> str:
    for call in (*rule.source.calls, *rule.target.calls):
        try:
            _undo(call, values)
        except MapError as error:
            return f"this rule goes one way: {error.message}"
    return "this rule goes one way: it is written with '->'"


def _side(side: Side, values: Mapping[str, ParamValue]) -> Side:
    """A side as it stands on the other side of the arrow: its operations undone, the last one first."""
    return replace(side, calls=tuple([_undo(call, values) for call in reversed(side.calls)]))


def _undo(call: Call, values: Mapping[str, ParamValue]) -> Call:
    from porter.mapping.ops.registry import bind, call_of

    inverse = bind(call, values).inverse(None)
    if isinstance(inverse, Irreversible):
        raise call.span.error("M503", f"'{call.name}' cannot be undone: {inverse.reason}")
    return call_of(inverse, values)


def _drop(drop: Drop) -> Statement:
    if drop.same_as is None:
        raise drop.span.error(
            "M501", "what is dropped cannot be made again", hint="'-> drop if = other' or '-> drop if = fill(0, …)' can be undone"
        )
    if isinstance(drop.same_as, Pattern):
        return Tie(drop.pattern, drop.same_as, drop.optional, drop.span)
    if any(not isinstance(part, str) for part in drop.pattern.parts):
        raise drop.span.error(
            "M504", "nothing says for which tensors it would have to be filled in again", hint="write one such statement for each name"
        )
    return Fill(drop.same_as, drop.pattern, False, None, drop.span)


def _fill(fill: Fill) -> Statement:
    if fill.if_absent:
        raise fill.span.error(
            "M505", "it is not known afterwards which tensors were absent", hint="leave 'if absent' out where they always are"
        )
    return Drop(fill.pattern, fill.call, fill.for_each is not None, fill.span)
