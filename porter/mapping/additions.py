"""What a stage adds to what its rules make: tensors filled with a constant, and second names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from porter.mapping.computation import Applied, Program
from porter.mapping.names import NameMatcher, capture_types
from porter.mapping.nearest import way_to_match
from porter.mapping.ops.base import Operand, OperationError
from porter.mapping.references import captures_of
from porter.mapping.scope import StageScope
from porter.mapping.steps import Step, renamed
from porter.mapping.syntax import Call, Fill, Pattern, Tie
from porter.tensor import TensorSpec

_NONE = "such tensors are looked for in the result, among the names that the map makes; 'if absent' allows that there are none"


def filling(call: Call, scope: StageScope) -> Callable[[TensorSpec | None], Program]:
    """Makes the program of a constant, for the tensor that it takes shape and type from where `call` does not say them.

    Raises:
        MapError: the call is wrong; or, when a program is made, what it says does not go with that tensor.
    """
    from porter.mapping.ops.registry import bind

    operation = bind(call, scope.values)

    def program(like: TensorSpec | None) -> Program:
        given = (Operand(like.name, like.dtype, like.shape),) if like is not None else ()
        try:
            applied = Applied(operation, call, given, operation.outputs(given))
        except OperationError as error:
            raise call.span.error(error.code, error.message, hint=error.hint, tensor=like.name if like is not None else None) from error
        return Program(((applied,),), None, ((),), (0,))

    return program


def fill_steps(statement: Fill, scope: StageScope, result: Mapping[str, TensorSpec]) -> list[Step]:
    """The tensors that a fill adds to `result`.

    Raises:
        MapError: the statement is wrong, or what it is `for` is not there.
    """
    types = capture_types([p for p in (statement.pattern, statement.for_each) if p is not None], scope.names)
    target = NameMatcher(statement.pattern, types, scope.names)
    steps: dict[str, Step] = {}
    fill = filling(statement.call, scope)
    for bound, like in _partners(statement, target, scope, result):
        name = target.render(bound)
        if statement.if_absent and (name in result or name in steps):
            continue
        if name in steps:
            raise statement.pattern.span.error(
                "M205", f"'{name}' is made twice", tensor=name, hint="the name lacks a capture of those after 'for', or say 'if absent'"
            )
        program = fill(like)
        made = program.before[0][0].outputs[0]
        steps[name] = Step("fill", statement, (), (TensorSpec(name, made.dtype, made.shape),), bound, program)
    return list(steps.values())


def _partners(
    statement: Fill, target: NameMatcher, scope: StageScope, result: Mapping[str, TensorSpec]
) -> list[tuple[Mapping[str, int | str], TensorSpec | None]]:
    """What a fill is made for: captures, and the tensor that has them; once without any where it is for no other."""
    if statement.for_each is None:
        _refuse_unbound(statement.pattern, target.captures, "'for pattern' binds them")
        return [({}, None)]
    partner = NameMatcher(statement.for_each, capture_types([statement.pattern, statement.for_each], scope.names), scope.names)
    _refuse_unbound(statement.pattern, target.captures - partner.captures, "they have to be in the pattern after 'for'")
    found = [(bound, spec) for name, spec in result.items() if (bound := partner.match(name)) is not None]
    if not found and not statement.if_absent:
        raise statement.for_each.span.error(
            "M206", "no tensor of the result has a name like this", hint=way_to_match(statement.for_each, result, scope.names) or _NONE
        )
    return list(found)


def tie_steps(statement: Tie, scope: StageScope, result: Mapping[str, TensorSpec]) -> list[Step]:
    """The second names that a tie adds to `result`.

    Raises:
        MapError: the statement is wrong, or matches nothing though it is not optional.
    """
    types = capture_types([statement.alias, statement.tensor], scope.names)
    alias, tensor = (NameMatcher(p, types, scope.names) for p in (statement.alias, statement.tensor))
    _refuse_unbound(statement.alias, alias.captures - tensor.captures, "they have to be in the other name")
    steps = []
    for name, spec in result.items():
        bound = tensor.match(name)
        if bound is not None:
            steps.append(Step("tie", statement, (name,), (renamed(spec, alias.render(bound)),), bound))
    if not steps and not statement.optional:
        hint = way_to_match(statement.tensor, result, scope.names) or "both names of a tie are names of the result"
        raise statement.tensor.span.error("M206", "no tensor of the result has a name like this", hint=hint)
    return steps


def _refuse_unbound(pattern: Pattern, names: Iterable[str], way: str) -> None:
    unbound = sorted(names)
    if unbound:
        span = next((c.span for c in captures_of(pattern)), pattern.span)
        raise span.error("M208", f"nothing says what '{unbound[0]}' is", hint=way)
