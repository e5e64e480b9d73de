"""Two maps one after the other, as one."""

from __future__ import annotations

from porter.mapping.syntax import Map


def compose(first: Map, second: Map) -> Map:
    """The map that does `first`, and `second` on what comes out: its stages are theirs, with `then` between them.

    Parameters and tables of one name are each stage's own; a parameter that both declare has one value for both.
    """
    return Map((*first.stages, *second.stages))
