"""A rule made ready: captures typed, names compiled, operations bound, and what can be said of it without tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import did_you_mean
from porter.mapping.expressions import variables
from porter.mapping.names import NameMatcher, capture_types, evaluate
from porter.mapping.references import axis_names, captures_of
from porter.mapping.scope import ParamValue, StageScope
from porter.mapping.syntax import Axes, Axis, Capture, CaptureType, Expression, Int, Ranges, Rest, Rule, Side, Term

if TYPE_CHECKING:
    from porter.mapping.ops.base import Operation


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with everything bound that does not depend on tensors.

    sources, targets: a matcher for each term. gathered: captures of the sources that a target has as an axis, so that the
    tensors which differ in them become one. spread: captures of the targets that a source has as an axis: one becomes many.
    source_axes, target_axes: the axis patterns of the terms, `[e]` written out as an axis. sizes: what `where` and parameters say.
    simple: whether each tensor becomes one by a change of name and layout alone; plain: of the name alone.
    """

    rule: Rule
    sources: tuple[NameMatcher, ...]
    targets: tuple[NameMatcher, ...]
    gathered: frozenset[str]
    spread: frozenset[str]
    source_axes: tuple[Axes | None, ...]
    target_axes: tuple[Axes | None, ...]
    source_operations: tuple[Operation, ...]
    target_operations: tuple[Operation, ...]
    sizes: Mapping[str, int]
    simple: bool
    plain: bool

    @property
    def laid_out(self) -> bool:
        """Whether the rule says anything about layouts."""
        return any(a is not None for a in (*self.source_axes, *self.target_axes))


def compile_rule(rule: Rule, scope: StageScope) -> CompiledRule:
    """Bind `rule`.

    Raises:
        MapError: it is wrong whatever the tensors are.
    """
    source, target = rule.source, rule.target
    types = capture_types([t.pattern for t in (*source.terms, *target.terms)], scope.names)
    sources = tuple([NameMatcher(t.pattern, types, scope.names) for t in source.terms])
    targets = tuple([NameMatcher(t.pattern, types, scope.names, render_only=rule.arrow == "->") for t in target.terms])
    of_sources, of_targets = _union(sources), _union(targets)
    gathered, spread = of_sources - of_targets, of_targets - of_sources
    if gathered or spread:
        _refuse_one_sided(source, gathered, target, "left", "right")
        _refuse_one_sided(target, spread, source, "right", "left")
        _refuse_words(rule, {name: types[name] for name in gathered | spread})
    if len(sources) > 1:
        _same_captures(source, sources, gathered)
    if len(targets) > 1 and rule.arrow == "<->":
        _same_captures(target, targets, spread)
    source_operations, target_operations = _operations(source, scope), _operations(target, scope)
    source_axes, target_axes = _written_out(source, target)
    simple = not gathered and not spread and all(_simple(side) for side in (source, target))
    return CompiledRule(
        rule,
        sources,
        targets,
        gathered,
        spread,
        source_axes,
        target_axes,
        source_operations,
        target_operations,
        _sizes(rule, scope),
        simple,
        simple and source_axes == target_axes == (None,),
    )


def _union(matchers: Sequence[NameMatcher]) -> frozenset[str]:
    return frozenset().union(*[m.captures for m in matchers])


def _simple(side: Side) -> bool:
    return not side.listed and not side.calls and side.terms[0].stack is None


def _refuse_one_sided(side: Side, names: frozenset[str], other: Side, here: str, there: str) -> None:
    """Refuse captures that one side alone has, unless they are axes of the other."""
    axes = {name for term in other.terms for name in axis_names(term)}
    for name in sorted(names - axes):
        capture = next(c for t in side.terms for c in captures_of(t.pattern) if name in _names(c))
        way = f"write '{{{name}}}' there too, or make '{name}' an axis of that tensor to stack over it"
        raise capture.span.error("M210", f"the capture '{name}' is on the {here} only; the {there} does not say where it goes", hint=way)


def _refuse_words(rule: Rule, stacked: Mapping[str, CaptureType]) -> None:
    """Refuse to stack by anything but numbers."""
    for name, kind in sorted(stacked.items()):
        if not isinstance(kind, Int | Ranges):
            capture = next(c for t in (*rule.source.terms, *rule.target.terms) for c in captures_of(t.pattern) if name in _names(c))
            message = f"'{name}' is the place in a stack, so it has to be a number"
            raise capture.span.error("M213", message, hint=f"write '{{{name}:int}}', or a range such as '{{{name}:0..7}}'")


def _names(capture: Capture) -> set[str]:
    return {v.name for v in variables(capture.expression)} if capture.expression is not None else set()


def _same_captures(side: Side, matchers: Sequence[NameMatcher], stacked: frozenset[str]) -> None:
    """Refuse lists whose members could not be told which belong together."""
    every = _union(matchers) - stacked
    for term, matcher in zip(side.terms, matchers, strict=True):
        missing = sorted(every - matcher.captures)
        if missing:
            raise term.pattern.span.error(
                "M211",
                f"this name lacks the capture '{missing[0]}' of the others, so it could not be told which tensors belong together",
                hint=f"write '{{{missing[0]}}}' in every name of the list",
            )


def _operations(side: Side, scope: StageScope) -> tuple[Operation, ...]:
    if not side.calls:
        return ()
    from porter.mapping.ops.registry import bind

    return tuple([bind(call, scope.values) for call in side.calls])


def _sizes(rule: Rule, scope: StageScope) -> dict[str, int]:
    """What `where` and parameters say, by axis.

    Raises:
        MapError: `where` gives a size to what is no axis, or one below zero.
    """
    axes = [name for t in (*rule.source.terms, *rule.target.terms) for name in axis_names(t)] if rule.where else []
    for name, expression in rule.where:
        if name not in axes:
            there = f"the axes are {', '.join(sorted(set(axes)))}" if axes else "name the axes: 'a : o i <-> b : i o'"
            hint = did_you_mean(name, axes) or there
            raise expression.span.error("M314", f"'{name}' gets a size here, and is no axis of this rule", hint=hint)
    sizes = {name: value for name, value in scope.values.items() if isinstance(value, int) and not isinstance(value, bool)}
    for name, expression in rule.where:
        sizes[name] = _size(name, expression, scope.values)
    return sizes


def _size(name: str, expression: Expression, values: Mapping[str, ParamValue]) -> int:
    size = evaluate(expression, values)
    if size < 0:
        raise expression.span.error("M212", f"the size of '{name}' would be {size}")
    return size


def _written_out(source: Side, target: Side) -> tuple[tuple[Axes | None, ...], tuple[Axes | None, ...]]:
    """The axis patterns of all terms, with `[e]` as a first axis, and `...` where the other side's pattern needs something said."""
    if all(t.stack is None for t in (*source.terms, *target.terms)):
        return tuple([t.axes for t in source.terms]), tuple([t.axes for t in target.terms])
    return tuple([_stacked(t, target.terms) for t in source.terms]), tuple([_stacked(t, source.terms) for t in target.terms])


def _stacked(term: Term, others: Sequence[Term]) -> Axes:
    axes = term.axes or next((o.axes for o in others if o.axes is not None), None)
    elements = axes.elements if axes is not None else (Rest(term.span),)
    if term.stack is None:
        return Axes(elements, axes.span if axes is not None else term.span)
    return Axes((Axis(term.stack.name, term.stack.span), *elements), axes.span if axes is not None else term.span)
