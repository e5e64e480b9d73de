"""Whether what `rest <-> keep` passes on would be passed on backwards, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from porter.errors import MapError
from porter.mapping.names import NameIndex, NameMatcher, capture_types
from porter.mapping.references import patterns_of
from porter.mapping.scope import StageScope
from porter.mapping.syntax import Drop, Fill, Pattern, Remaining, Rule, Stage, Tie


def confused(stage: Stage, scope: StageScope, kept: Sequence[str]) -> list[MapError]:
    """What is wrong where tensors that `rest` keeps look like some that another statement makes: the map turned around would take
    them for those, and give them another name or drop them. Nothing, where the stage goes one way anyhow.

    Other overlaps of what statements make need no such look: backwards two statements would take the same tensor, and say so.
    """
    if not _goes_both_ways(stage):
        return []
    index = NameIndex(_made(stage, scope))
    errors: dict[int, MapError] = {}
    for name in kept:
        try:
            hits = index.matches(name)
        except MapError as error:
            errors.setdefault(id(error), error)
            continue
        for pattern, _ in hits:
            if id(pattern) not in errors:
                errors[id(pattern)] = pattern.span.error(
                    "M225",
                    f"'{name}' is kept by 'rest' and has a name like this, so that backwards it would be taken for what is made here",
                    tensor=name,
                    hint="write '->' in place of '<->' if the way back is not needed, or a narrower pattern",
                )
    return list(errors.values())


def _goes_both_ways(stage: Stage) -> bool:
    for s in stage.statements:
        one_way = isinstance(s, Rule) and s.arrow == "->"
        lost = (isinstance(s, Drop) and s.same_as is None) or (isinstance(s, Remaining) and s.action == "drop")
        if one_way or lost or (isinstance(s, Fill) and s.if_absent):
            return False
    return True


def _made(stage: Stage, scope: StageScope) -> Iterator[tuple[Pattern, NameMatcher]]:
    """The names that statements make. Those of statements that are wrong are left out; what is wrong is said elsewhere."""
    for s in stage.statements:
        made: list[Pattern] = []
        if isinstance(s, Rule):
            made = [term.pattern for term in s.target.terms]
        elif isinstance(s, Tie):
            made = [s.alias]
        elif isinstance(s, Fill):
            made = [s.pattern]
        if made:
            try:
                types = capture_types(patterns_of(s), scope.names)
                matchers = [NameMatcher(pattern, types, scope.names) for pattern in made]
            except MapError:
                continue
            yield from zip(made, matchers, strict=True)
