"""A map checked against tensors: what it would make of them, or everything that is wrong, before a byte is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from porter.errors import MapError
from porter.mapping.ledger import SHOWN, Ledger
from porter.mapping.scope import ParamValue, Provider, param_values, stage_scopes
from porter.mapping.steps import Described, Plan, StagePlan
from porter.mapping.syntax import NOWHERE, Expect, Map, Span
from porter.tensor import Tensor, TensorSpec


def examine(
    map: Map,
    source: Iterable[Tensor | TensorSpec],
    *,
    params: Mapping[str, ParamValue] | None = None,
    targets: Iterable[Tensor | TensorSpec | Described] | None = None,
    provider: Provider | None = None,
) -> Plan:
    """What `map` makes of `source`, with everything that is wrong with that as `problems`. Reads no values.

    Args:
        map: the map.
        source: the tensors at hand; only names, dtypes and shapes are looked at.
        params: values of parameters; texts are read as the declared types.
        targets: the tensors that should come out, or None where that is not known. A shape or dtype that is None is not checked.
        provider: computes the rows of tables that the map takes from a file.

    Raises:
        UsageError: a parameter that the map does not have.
        MapError: a parameter without a value, or a table that has no rows here.
    """
    values = param_values(map, params or {})
    specs = {s.name: s for s in (t.spec if isinstance(t, Tensor) else t for t in source)}
    wanted = _described(targets) if targets is not None else None
    scopes = stage_scopes(map, values, provider)
    stages: list[StagePlan] = []
    problems: list[MapError] = []
    for number, (stage, scope) in enumerate(zip(map.stages, scopes, strict=True)):
        last = number == len(map.stages) - 1
        ledger = Ledger(stage, scope, specs, wanted if last else None)
        stages.append(ledger.balance())
        problems += ledger.problems
        if ledger.problems:
            # What the next stage would say of a broken result helps nobody.
            return Plan(map, tuple(stages), tuple(problems))
        specs = dict(stages[-1].result)
    missing: tuple[str, ...] = ()
    if wanted is not None:
        expect = _last_expect(map)
        missing = tuple([name for name in wanted if name not in specs])
        problems += _against(specs, wanted, missing if expect.targets != "any" else (), _place(map, expect), map, stages)
    return Plan(map, tuple(stages), tuple(problems), missing)


def plan(
    map: Map,
    source: Iterable[Tensor | TensorSpec],
    *,
    params: Mapping[str, ParamValue] | None = None,
    targets: Iterable[Tensor | TensorSpec | Described] | None = None,
    provider: Provider | None = None,
) -> Plan:
    """As `examine`, but what is wrong is raised.

    Raises:
        MapError: the first problem; its hint says how many more there are.
    """
    examined = examine(map, source, params=params, targets=targets, provider=provider)
    if examined.problems:
        raise first_problem(examined)
    return examined


def first_problem(examined: Plan) -> MapError:
    """The first problem of a plan that has some, with a word about the others."""
    first, *others = examined.problems
    if not others:
        return first
    return with_more(first, f"{len(others):,} more problem{'s' if len(others) > 1 else ''}: 'porter map check' lists all")


def with_more(first: MapError, more: str) -> MapError:
    """`first` with `more` at the end of its hint."""
    error = MapError(
        first.code, first.message, hint=f"{first.hint}; {more}" if first.hint else more, excerpt=first.excerpt, width=first.width
    )
    error.where = first.where
    return error


def _described(targets: Iterable[Tensor | TensorSpec | Described]) -> dict[str, Described]:
    return {t.name: t if isinstance(t, Described) else Described(t.name, t.shape, t.dtype) for t in targets}


def _last_expect(map: Map) -> Expect:
    statements = map.stages[-1].statements if map.stages else ()
    return next((s for s in statements if isinstance(s, Expect)), Expect())


def _place(map: Map, expect: Expect) -> Span:
    """Where errors about the result as a whole point: the `expect` statement, or the map's last statement."""
    if expect.span.line:
        return expect.span
    return next((stage.statements[-1].span for stage in reversed(map.stages) if stage.statements), NOWHERE)


def _against(
    made: Mapping[str, TensorSpec],
    wanted: Mapping[str, Described],
    missing: tuple[str, ...],
    place: Span,
    map: Map,
    stages: list[StagePlan],
) -> list[MapError]:
    """What is wrong with the result, given what it should be."""
    problems = []
    extra = [name for name in made if name not in wanted]
    if missing:
        count = "a tensor" if len(missing) == 1 else f"{len(missing):,} tensors"
        near = _nearest(missing[0], extra)
        hint = f"the map makes '{near}'; is that it?" if near else "write a rule that makes it, 'fill' it, or say 'expect targets=any'"
        problems.append(place.error("M230", f"nothing makes {count} of the target: {_few(missing)}", tensor=missing[0], hint=hint))
    if extra:
        near = _nearest(extra[0], list(missing))
        hint = f"the target has '{near}', which nothing makes" if near else "'… -> drop' leaves a source out"
        span = _maker_span(stages, extra[0]) or place
        count = "a tensor" if len(extra) == 1 else f"{len(extra):,} tensors"
        problems.append(
            span.error("M231", f"the target has no place for {count} that the map makes: {_few(extra)}", tensor=extra[0], hint=hint)
        )
    for name, spec in made.items():
        goal = wanted.get(name)
        if goal is None:
            continue
        span = _maker_span(stages, name) or place
        if goal.shape is not None and goal.shape != spec.shape:
            problems.append(
                span.error(
                    "M232",
                    f"'{name}' would have the shape {list(spec.shape)}, and the target's is {list(goal.shape)}",
                    tensor=name,
                    hint=_turn(spec, goal),
                )
            )
        elif goal.dtype is not None and goal.dtype != spec.dtype:
            problems.append(
                span.error(
                    "M233",
                    f"'{name}' would be {spec.dtype}, and the target's is {goal.dtype}",
                    tensor=name,
                    hint=f"'| cast({goal.dtype.short})' at the end of the rule casts it",
                )
            )
    return problems


def _turn(spec: TensorSpec, goal: Described) -> str | None:
    """A way from one shape to the other, where one is near at hand."""
    assert goal.shape is not None
    if sorted(spec.shape) == sorted(goal.shape) and len(spec.shape) > 1:
        letters = "abcdefgh"[: len(spec.shape)]
        left, turned = list(spec.shape), []
        for size in goal.shape:
            position = left.index(size)
            left[position] = -1
            turned.append(letters[position])
        return f"the axes stand in another order; perhaps ': {' '.join(letters)}' on the left and ': {' '.join(turned)}' on the right"
    if spec.size == _product(goal.shape):
        return "the elements are as many; an axis pattern on each side says how one shape becomes the other"
    return None


def _product(shape: tuple[int, ...]) -> int:
    import math

    return math.prod(shape)


def _maker_span(stages: list[StagePlan], name: str) -> Span | None:
    stage = stages[-1] if stages else None
    number = stage.maker.get(name) if stage is not None else None
    if stage is None or number is None:
        return None
    statement = stage.steps[number].statement
    return statement.target.terms[0].span if hasattr(statement, "target") else statement.span


def _nearest(name: str, others: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, others, 1, 0.7)
    return close[0] if close else None


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(f"'{n}'" for n in listed[:SHOWN])
    return shown if len(listed) <= SHOWN else f"{shown} and {len(listed) - SHOWN:,} more"
