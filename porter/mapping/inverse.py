"""A map turned around: what makes the sources of the targets again, bit for bit, or why that cannot be."""

from __future__ import annotations

from collections.abc import Mapping

from porter.dataclass import replace
from porter.errors import MapError
from porter.mapping.ledger import SHOWN
from porter.mapping.ops.base import Irreversible, OperationError
from porter.mapping.plan import with_more
from porter.mapping.references import captures_of, names_of, tables_of, values_of, words_of
from porter.mapping.scope import ParamValue, declared_params, param_values
from porter.mapping.syntax import (
    Call,
    Capture,
    CaptureType,
    Drop,
    Expect,
    Fill,
    Int,
    InTable,
    Keep,
    Map,
    Param,
    Pattern,
    Ranges,
    Remaining,
    Rule,
    Side,
    Stage,
    Statement,
    Table,
    Tie,
    Variable,
)


def invert(map: Map, *, params: Mapping[str, ParamValue] | None = None) -> Map:
    """The map that undoes `map`. Its stages stand in the opposite order, each with the tables and parameters it refers to.

    `params` are needed only where an operation's arguments refer to parameters without a default. Operations of the inverse
    have their values written out; for what else refers to a parameter, its value becomes the default.

    Raises:
        MapError: a statement goes one way only; the error says which and why, and which others there are.
        UsageError: a parameter that the map does not have.
    """
    values = {name: p.default for name, p in declared_params(map).items() if p.default is not None} | _given(map, params or {})
    turning = _Turning(map, values)
    stages = [turning.stage(stage) for stage in map.stages]
    if turning.problems:
        first, *others = turning.problems
        raise with_more(first, f"{_places(others)} cannot be undone either") if others else first
    return Map(tuple(reversed(stages)))


def _given(map: Map, params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    """The values that are given, read as their declared types; nothing has to be given."""
    declared = declared_params(map)
    known = Map((Stage(tuple([p for name, p in declared.items() if name in params])),))
    return param_values(known if params.keys() <= declared.keys() else map, params)


def _places(errors: list[MapError]) -> str:
    """`lines 3, 4 and 2 more`: where the others are, or how many there are where no text holds them."""
    lines = list(dict.fromkeys(e.where.line for e in errors if e.where.line))
    if not lines:
        return f"{len(errors):,} more statements"
    shown = ", ".join(map(str, lines[:SHOWN]))
    return f"line{'s' if len(lines) > 1 else ''} {shown}" + (f" and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else "")


class _Turning:
    """Turns the stages of one map around, first to last."""

    def __init__(self, map: Map, values: Mapping[str, ParamValue]) -> None:
        self.problems: list[MapError] = []
        self._values = values
        self._params = declared_params(map)
        self._tables: dict[str, Table] = {}

    def stage(self, stage: Stage) -> Stage:
        """`stage` turned around, with the tables and parameters it refers to in front."""
        self._tables |= {s.name: s for s in stage.statements if isinstance(s, Table)}
        done: list[Statement] = []
        written: dict[str, Call] = {}
        for statement in stage.statements:
            if isinstance(statement, Table | Param):
                continue
            try:
                done.append(self._undone(statement, written))
            except MapError as error:
                self.problems.append(error)
        tables = set[str]().union(*[tables_of(s) for s in done])
        params = set[str]().union(*[values_of(s) for s in done])
        for name in sorted(written.keys() & params):
            self.problems.append(
                written[name].span.error(
                    "M506",
                    f"the parameter '{name}' is an argument here, where the inverse needs its value, and stands elsewhere too",
                    hint="write the number here, or use a parameter of its own",
                )
            )
        declared: list[Statement] = [t for name, t in self._tables.items() if name in tables]
        declared += [replace(p, default=self._values.get(name)) for name, p in self._params.items() if name in params]
        return Stage((*declared, *_ties_in_order(done)))

    def _undone(self, statement: Statement, written: dict[str, Call]) -> Statement:
        if isinstance(statement, Rule):
            return self._rule(statement, written)
        if isinstance(statement, Drop):
            return self._drop(statement)
        if isinstance(statement, Tie):
            return self._tie(statement)
        if isinstance(statement, Fill):
            return _fill(statement)
        if isinstance(statement, Remaining) and statement.action == "drop":
            raise statement.span.error("M501", "what is dropped cannot be made again", hint="map it, or keep it")
        if isinstance(statement, Expect):
            return Expect(statement.targets, statement.sources, statement.span)
        assert isinstance(statement, Keep | Remaining)
        return statement

    # ---- rules and operations ------------------------------------------------------------------------------------------

    def _rule(self, rule: Rule, written: dict[str, Call]) -> Rule:
        if rule.arrow == "->":
            raise rule.span.error("M502", self._why_one_way(rule), hint="a rule with '<->' is checked to go both ways")
        return replace(rule, source=self._side(rule.target, written), target=self._side(rule.source, written))

    def _why_one_way(self, rule: Rule) -> str:
        for call in (*rule.source.calls, *rule.target.calls):
            try:
                self._undo(call, {})
            except MapError as error:
                return f"this rule goes one way: {error.message}"
        return "this rule goes one way: it is written with '->'"

    def _side(self, side: Side, written: dict[str, Call]) -> Side:
        """A side as it stands on the other side of the arrow: its operations undone, the last one first."""
        return replace(side, calls=tuple([self._undo(call, written) for call in reversed(side.calls)]))

    def _undo(self, call: Call, written: dict[str, Call]) -> Call:
        """The call that undoes `call`. Parameters whose values stand in it as numbers are noted in `written`."""
        from porter.mapping.ops.registry import bind, call_of

        params = words_of(call) & self._params.keys()
        for name in sorted(params - self._values.keys()):
            raise call.span.error("M251", f"the parameter '{name}' has no value", hint=f"say '--param {name}=…'")
        operation = bind(call, self._values)
        inverse = operation.inverse(None)
        if isinstance(inverse, Irreversible):
            raise call.span.error("M503", f"'{call.name}' cannot be undone: {inverse.reason}")
        if inverse == operation:
            return call
        written |= dict.fromkeys(params, call)
        return call_of(inverse, self._params)

    # ---- drops, ties and fills -----------------------------------------------------------------------------------------

    def _drop(self, drop: Drop) -> Statement:
        if drop.same_as is None:
            hint = "'-> drop if = other' or '-> drop if = fill(0, …)' can be undone"
            raise drop.span.error("M501", "what is dropped cannot be made again", hint=hint)
        named = self._open(drop.same_as) if isinstance(drop.same_as, Pattern) else set()
        if drop.optional or self._open(drop.pattern) != named or any(c.expression is None for c in captures_of(drop.pattern)):
            hint = "write one such statement for each name, without 'optional'"
            raise drop.span.error("M504", "it is not known afterwards which tensors were there and dropped", hint=hint)
        if isinstance(drop.same_as, Pattern):
            return Tie(drop.pattern, drop.same_as, False, drop.span)
        from porter.mapping.ops.registry import bind

        try:
            bind(drop.same_as, self._values).outputs(())
        except OperationError as error:
            hint = "say them: 'drop if = fill(0, shape=[64], dtype=f32)'"
            raise drop.same_as.span.error("M504", "the type and shape of what is dropped are not known afterwards", hint=hint) from error
        return Fill(drop.same_as, drop.pattern, False, None, drop.span)

    def _tie(self, tie: Tie) -> Drop:
        lost = sorted(self._open(tie.tensor) - self._open(tie.alias))
        if lost:
            message = f"it is not known afterwards which '{lost[0]}' this is another name of"
            raise tie.alias.span.error("M504", message, hint="write one tie for each name")
        return Drop(tie.alias, tie.tensor, tie.optional, tie.span)

    def _open(self, pattern: Pattern) -> set[str]:
        """The captures of a name that are no parameters."""
        return names_of(Keep(pattern)) - self._params.keys()


def _ties_in_order(statements: list[Statement]) -> list[Statement]:
    """The statements with ties to ties after those."""
    tensors = {s.alias: s.tensor for s in statements if isinstance(s, Tie)}

    def depth(tie: Tie) -> int:
        count, tensor = 0, tie.tensor
        while tensor in tensors and count < len(tensors):
            count, tensor = count + 1, tensors[tensor]
        return count

    ties = iter(sorted([s for s in statements if isinstance(s, Tie)], key=depth))
    return [next(ties) if isinstance(s, Tie) else s for s in statements]


def _fill(fill: Fill) -> Statement:
    if fill.if_absent:
        raise fill.span.error(
            "M505", "it is not known afterwards which tensors were absent", hint="leave 'if absent' out where they always are"
        )
    return Drop(_filled_name(fill), fill.call, fill.for_each is not None, fill.span)


def _filled_name(fill: Fill) -> Pattern:
    """The name of what is filled in, with the types that the name after `for` states: backwards it has to match nothing else.

    Raises:
        MapError: a type cannot be stated there.
    """
    stated: dict[str, CaptureType] = {}
    for capture in captures_of(fill.for_each) if fill.for_each is not None else ():
        if (
            isinstance(capture.expression, Variable)
            and capture.type is not None
            and not isinstance(stated.get(capture.expression.name), Ranges)
        ):
            stated[capture.expression.name] = capture.type
    parts: list[str | Capture] = []
    for part in fill.pattern.parts:
        if isinstance(part, Capture) and isinstance(part.expression, Variable) and part.expression.name in stated:
            given = stated.pop(part.expression.name)
            if isinstance(given, InTable) and part.type != given:
                raise _not_known(fill, part.expression.name)
            width = part.type.width if isinstance(part.type, Int | Ranges) else 0
            part = replace(part, type=replace(given, width=width) if isinstance(given, Int | Ranges) else given)
        parts.append(part)
    for name in sorted(names_of(Keep(fill.pattern)) & stated.keys()):
        if isinstance(stated[name], Ranges):
            raise _not_known(fill, name)
    return replace(fill.pattern, parts=tuple(parts))


def _not_known(fill: Fill, capture: str) -> MapError:
    message = f"it is not known afterwards which tensors were filled in: this name does not say what '{capture}' can be"
    return fill.pattern.span.error("M504", message, hint="write one such statement for each name")
