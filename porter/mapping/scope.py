"""What stands behind the words of a map: the values of its parameters and the rows of its tables, for each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from porter.dataclass import dataclass
from porter.errors import UsageError, did_you_mean
from porter.mapping.names import Scope
from porter.mapping.syntax import Map, Param, Table

ParamValue = int | float | bool | str

Rows = tuple[tuple[str, str], ...]

Provider = Callable[[Table], Rows]
"""Computes the rows of a table from the file at hand; raises `PorterError` where the file does not tell."""


@dataclass(frozen=True, slots=True)
class StageScope:
    """What one stage's statements can refer to: parameters by name, and for names of tensors the tables and the integers."""

    values: Mapping[str, ParamValue]
    names: Scope


def declared_params(map: Map) -> dict[str, Param]:
    """Every parameter that a stage declares, by name.

    Raises:
        MapError: two stages declare one of the same name differently.
    """
    found: dict[str, Param] = {}
    for stage in map.stages:
        for statement in stage.statements:
            if isinstance(statement, Param) and (first := found.setdefault(statement.name, statement)) != statement:
                there = first.span.seen_from(statement.span)
                message = f"the parameter '{statement.name}' is {_declared(statement)} here, and {_declared(first)} on {there}"
                hint = "a parameter has one value for the whole map: give one of them another name, or declare both alike"
                raise statement.span.error("M252", message, hint=hint)
    return found


def param_values(map: Map, given: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    """A value for every parameter of the map: what is `given` (texts are read as the declared type), or its default.

    Raises:
        UsageError: a parameter is given that the map does not have, or a value is not of its type.
        MapError: a parameter has no value, or is declared in two ways.
    """
    declared = declared_params(map)
    for name in given:
        if name not in declared:
            raise UsageError("U920", f"the map has no parameter '{name}'", hint=_known(name, list(declared)))
    values: dict[str, ParamValue] = {}
    for name, param in declared.items():
        if name in given:
            values[name] = _typed(param, given[name])
        elif param.default is not None:
            values[name] = param.default
        else:
            raise param.span.error("M251", f"the parameter '{name}' has no value", hint=f"say '--param {name}=…'")
    return values


def _declared(param: Param) -> str:
    return param.type + (f" = {param.default}" if param.default is not None else " without a default")


def _known(name: str, declared: Sequence[str]) -> str:
    if not declared:
        return "it declares none; 'param heads : int' in the map would"
    return did_you_mean(name, declared) or f"it has {', '.join(declared)}"


def _typed(param: Param, value: ParamValue) -> ParamValue:
    typed = _parsed(param, value) if isinstance(value, str) else value
    kinds = {"int": int, "float": int | float, "bool": bool, "str": str}[param.type]
    if not isinstance(typed, kinds) or (isinstance(typed, bool) and param.type != "bool"):
        given = {"int": "4", "float": "1e-5", "bool": "true", "str": "text"}[param.type]
        message = f"the parameter '{param.name}' is of type {param.type}, and {value!r:.60} is not"
        raise UsageError("U921", message, hint=f"it is given like '--param {param.name}={given}'")
    return typed


def _parsed(param: Param, text: str) -> ParamValue | None:
    """The value that a text stands for, or None where it stands for none."""
    if "_" in text and param.type in ("int", "float"):
        return None
    try:
        if param.type == "int":
            return int(text) if len(text) <= 18 else None
        if param.type == "float":
            return float(text)
    except ValueError:
        return None
    words = {"true": True, "1": True, "false": False, "0": False}
    return words.get(text.lower()) if param.type == "bool" else text


def stage_scopes(map: Map, values: Mapping[str, ParamValue], provider: Provider | None) -> list[StageScope]:
    """The scope of every stage. A table is seen by the stages from its own on, until one declares another of its name.

    Raises:
        PorterError: a provider has no rows for this file.
    """
    tables: dict[str, Table] = {}
    scopes = []
    for stage in map.stages:
        tables = tables | {t.name: with_rows(t, provider) for t in stage.statements if isinstance(t, Table)}
        scopes.append(StageScope(values, Scope(tables, values)))
    return scopes


def with_rows(table: Table, provider: Provider | None) -> Table:
    """`table` with its rows, computed where the map names a provider.

    Raises:
        MapError: nothing is at hand to compute them from.
    """
    if table.provider is None:
        return table
    if provider is None:
        message = f"the rows of table '{table.name}' come from a file ({table.provider}), and none is at hand"
        raise table.span.error("M250", message, hint="give the weight file itself; 'porter map show MAP FILE -o OUT' writes the rows down")
    return Table(table.name, provider(table), table.provider, table.span)
