"""Two maps one after the other, as one."""

from __future__ import annotations

from porter.mapping.scope import declared_params
from porter.mapping.syntax import Map, Param


def compose(first: Map, second: Map) -> Map:
    """The map that does `first`, and `second` on what comes out: its stages are theirs, with `then` between them.

    Each stage goes by the tables of its own map; a parameter that both maps declare has one value for both.

    Raises:
        MapError: both declare a parameter, and not alike.
    """
    theirs = declared_params(second)
    for name, mine in declared_params(first).items():
        if name in theirs and theirs[name] != mine:
            raise theirs[name].span.error(
                "M506",
                f"both maps have a parameter '{name}', in the first {_said(mine)}, in the second {_said(theirs[name])}",
                hint="a parameter has one value for the whole map: give one of them another name, or both the same type and default",
            )
    return Map((*first.stages, *second.stages))


def _said(param: Param) -> str:
    return param.type + (f" = {param.default}" if param.default is not None else " without a default")
