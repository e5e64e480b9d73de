"""Maps as they stand for one file: tables that come from it written out, and lines that do nothing for it left out."""

from __future__ import annotations

from collections.abc import Mapping

from porter.mapping.references import tables_of, values_of
from porter.mapping.scope import ParamValue, Provider, StageScope, stage_scopes
from porter.mapping.steps import Plan, StagePlan
from porter.mapping.syntax import Drop, Fill, Keep, Map, Param, Remaining, Rule, Stage, Statement, Table, Tie


def settled(map: Map, values: Mapping[str, ParamValue], provider: Provider | None) -> Map:
    """The map with computed tables written out and its parameters' values as defaults, so that its text can be kept and used
    without the file.

    Raises:
        PorterError: a table's rows come from a file, and none is at hand or it does not tell.
    """
    scopes = stage_scopes(map, values, provider)
    stages = [Stage(tuple([_settled(s, scope) for s in stage.statements])) for stage, scope in zip(map.stages, scopes, strict=True)]
    return Map(tuple(stages), map.name)


def pruned(plan: Plan) -> Map:
    """The planned map, settled, without what did nothing: statements that matched no tensor, though they might have, fills of
    what was not absent, tables and parameters that nothing refers to.

    On the tensors that the plan is for it does the same.
    """
    lasting = [_lasting(s, done) for s, done in zip(plan.map.stages, plan.stages, strict=True)]
    needed = set[tuple[type, str]]()
    for statements in lasting:
        for s in statements:
            needed |= {(Table, name) for name in tables_of(s)} | {(Param, name) for name in values_of(s)}
    stages = []
    for statements, scope in zip(lasting, plan.scopes, strict=True):
        wanted = [s for s in statements if not isinstance(s, Table | Param) or (type(s), s.name) in needed]
        stages.append(Stage(tuple([_settled(s, scope) for s in wanted])))
    return Map(tuple(stages), plan.map.name)


def _lasting(stage: Stage, done: StagePlan) -> list[Statement]:
    """The statements that did something, and those that say something of the others."""
    used = {id(step.statement) for step in done.steps}
    return [s for s in stage.statements if id(s) in used or not isinstance(s, Rule | Drop | Keep | Remaining | Tie | Fill)]


def _settled(statement: Statement, scope: StageScope) -> Statement:
    if isinstance(statement, Table):
        return Table(statement.name, scope.names.tables[statement.name].rows, None, statement.span)
    if isinstance(statement, Param):
        return Param(statement.name, statement.type, scope.values.get(statement.name, statement.default), statement.span)
    return statement
