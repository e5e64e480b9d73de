"""A map checked against tensors: what it would make of them, or everything that is wrong, before a byte is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from porter.errors import MapError
from porter.mapping.ledger import Ledger
from porter.mapping.scope import ParamValue, Provider, param_values, stage_scopes
from porter.mapping.steps import Described, Plan, StagePlan
from porter.mapping.syntax import NOWHERE, Expect, Map, Span, Stage
from porter.tensor import Tensor, TensorSpec

STAGES = 100
"""Stages that a map has at most: tensors are computed through all of them when the last one is read."""


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
        MapError: a parameter without a value, a table that has no rows here, or too many stages.
    """
    # A map without stages says nothing of any tensor, and that is wrong unless there is none.
    map = map if map.stages else Map((Stage(()),), map.name)
    _refuse_many_stages(map)
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
            return Plan(map, tuple(stages), tuple(scopes), tuple(problems))
        specs = dict(stages[-1].result)
    missing: tuple[str, ...] = ()
    if wanted is not None:
        from porter.mapping.target_fit import misfits

        expect = _last_expect(map)
        missing = tuple([name for name in wanted if name not in specs])
        problems += misfits(stages[-1], wanted, missing if expect.targets != "any" else (), _place(map, expect))
    return Plan(map, tuple(stages), tuple(scopes), tuple(problems), missing)


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
        raise first_problem(examined.problems)
    return examined


def first_problem(problems: Sequence[MapError]) -> MapError:
    """The first of some problems, with a word about the others."""
    first, *others = problems
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


def _refuse_many_stages(map: Map) -> None:
    if len(map.stages) > STAGES:
        place = next((s.span for s in map.stages[STAGES].statements), NOWHERE)
        raise place.error("M253", f"the map has {len(map.stages):,} stages; {STAGES} is the most", hint="write the result of one to a file")


def _described(targets: Iterable[Tensor | TensorSpec | Described]) -> dict[str, Described]:
    return {t.name: t if isinstance(t, Described) else Described(t.name, t.shape, t.dtype) for t in targets}


def _last_expect(map: Map) -> Expect:
    return next((s for s in map.stages[-1].statements if isinstance(s, Expect)), Expect())


def _place(map: Map, expect: Expect) -> Span:
    """Where errors about the result as a whole point: the `expect` statement, or the map's last statement."""
    if expect.span.line:
        return expect.span
    return next((stage.statements[-1].span for stage in reversed(map.stages) if stage.statements), NOWHERE)
