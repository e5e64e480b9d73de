"""What `<->` promises beyond inverse operations: sizes that are known backwards, and tensors that are not mistaken for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import replace
from porter.errors import MapError
from porter.mapping.names import NameIndex, NameMatcher, capture_types
from porter.mapping.references import patterns_of
from porter.mapping.rule import CompiledRule
from porter.mapping.scope import StageScope
from porter.mapping.syntax import Drop, Fill, Pattern, Remaining, Rule, Stage, Tie

if TYPE_CHECKING:
    from porter.mapping import layout


def refuse_unsolvable(
    compiled: CompiledRule, sources: Sequence[layout.Operand], targets: Sequence[layout.Operand], solved: layout.Layout
) -> None:
    """Refuse a change of layout whose sizes do not follow backwards, from the targets' shapes alone.

    Raises:
        MapError: they do not, and the rule has `<->`.
    """
    from porter.mapping import layout

    if compiled.rule.arrow == "->":
        return
    given = [replace(t, shape=shape) for t, shape in zip(targets, solved.target_shapes, strict=True)]
    try:
        known = dict(compiled.sizes)
        for operand in given if compiled.gathered else ():
            known |= layout.axis_sizes(operand, known)
        open_axes = sorted(compiled.gathered - known.keys())
        if open_axes:
            raise compiled.rule.span.error("M217", f"the size of '{open_axes[0]}' is not known")
        layout.solve(given, [replace(s, shape=None) for s in sources], compiled.sizes, compiled.rule.span)
    except MapError as error:
        hint = "say the sizes after 'where', or write '->' for a rule that goes one way"
        raise compiled.rule.span.error("M226", f"backwards, {error.message}", tensor=sources[0].name, hint=hint) from error


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
                    hint="map it under another name, make this pattern narrower, or write '->' where the way back is not needed",
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
