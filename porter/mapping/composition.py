"""Two maps one after the other, as one: rules that only hand a name on become one rule, where that is certainly the same."""

from __future__ import annotations

from collections.abc import Callable

from porter.dataclass import replace
from porter.mapping.fusion import fused
from porter.mapping.references import names_of, tables_of, values_of, with_names, with_tables
from porter.mapping.scope import declared_params
from porter.mapping.syntax import Map, Param, Stage, Statement, Table


def compose(first: Map, second: Map) -> Map:
    """The map that does `first`, and `second` on what comes out.

    The stages are theirs, with `then` between them; the last of `first` and the first of `second` become one where each rule of
    one goes on with what one rule of the other makes. Tables of `second` that are called like others of `first` get another
    name, and so do captures and axes that are called like parameters of the other map. A parameter that both have is one.

    Raises:
        MapError: both have a parameter of one name, and it differs in type or default.
    """
    declared_params(Map((*first.stages, *second.stages)))
    mine, theirs = _without_clashes(first, second), _without_clashes(second, first)
    theirs = _with_tables_apart(mine, theirs)
    if mine.stages and theirs.stages:
        joined = fused(mine.stages[-1], theirs.stages[0], frozenset(declared_params(Map((*mine.stages, *theirs.stages)))))
        if joined is not None:
            return Map((*mine.stages[:-1], joined, *theirs.stages[1:]))
    return Map((*mine.stages, *theirs.stages))


def _without_clashes(map: Map, other: Map) -> Map:
    """`map` with other names for what would become parameters of `other`."""
    foreign = declared_params(other).keys() - declared_params(map).keys()
    if not foreign:
        return map
    taken = {name for s in _statements(map) for name in values_of(s)} | {*declared_params(map), *declared_params(other)}
    names = {name: _free(name, taken) for name in sorted(foreign & {n for s in _statements(map) for n in names_of(s)})}
    return _changed(map, lambda s: with_names(s, lambda name: names.get(name, name)))


def _with_tables_apart(first: Map, second: Map) -> Map:
    """`second` with other names for its tables where `first` has different ones of these names."""
    before = {s.name: s for s in _statements(first) if isinstance(s, Table)}
    own = [s for s in _statements(second) if isinstance(s, Table)]
    taken = {*before, *(t.name for t in own), *(name for s in _statements(second) for name in tables_of(s))}
    names = {t.name: _free(t.name, taken) for t in own if t.name in before and before[t.name] != t}

    def changed(s: Statement) -> Statement:
        if isinstance(s, Table):
            return replace(s, name=names.get(s.name, s.name))
        return with_tables(s, lambda name: names.get(name, name))

    return _changed(second, changed)


def _statements(map: Map) -> list[Statement]:
    return [s for stage in map.stages for s in stage.statements]


def _changed(map: Map, change: Callable[[Statement], Statement]) -> Map:
    stages = [Stage(tuple([s if isinstance(s, Param) else change(s) for s in stage.statements])) for stage in map.stages]
    return Map(tuple(stages), map.name)


def _free(name: str, taken: set[str]) -> str:
    """A name like this one that is not `taken`, which it is then."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"
