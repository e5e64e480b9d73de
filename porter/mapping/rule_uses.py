"""The uses of one rule: sources that belong together by their captures, the targets they make, and the program between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass, replace
from porter.dtypes import DType
from porter.errors import MapError
from porter.mapping.chains import applied_after, applied_to
from porter.mapping.computation import Applied, Program
from porter.mapping.ops.base import Operand
from porter.mapping.rule import CompiledRule
from porter.mapping.steps import Action, Bindings, Described, Step, renamed
from porter.mapping.syntax import Axes, Side, Term
from porter.mapping.way_back import refuse_unsolvable
from porter.tensor import TensorSpec

if TYPE_CHECKING:
    from porter.mapping import layout

Key = tuple[int | str, ...]

MOST = 10_000
"""Tensors that one use of a rule makes at most."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A source or target of one use: its term, its place in a stack, its name."""

    term: int
    at: dict[str, int]
    name: str


class RuleUses:
    """What the source patterns of a rule match, put together to uses of it.

    `specs` are the tensors at hand; `wanted` those that should come out, or None where that is not known.
    """

    def __init__(self, compiled: CompiledRule, specs: Mapping[str, TensorSpec], wanted: Mapping[str, Described] | None) -> None:
        self.statement = compiled.rule
        self.patterns = compiled.sources
        self._compiled = compiled
        self._specs = specs
        self._wanted = wanted
        self._bindings: dict[Key, dict[str, int | str]] = {}
        self._found: list[dict[Key, list[_Member]]] = [{} for _ in compiled.sources]
        self._moves: dict[object, Program] = {}

    def take(self, term: int, name: str, bound: Bindings) -> Step | None:
        """Note that `name` matches the pattern of `term`; the step, where that is all that goes into it.

        Raises:
            MapError: the target has no name for it, or its shape does not fit.
        """
        compiled = self._compiled
        if compiled.simple:
            return self._moved(name, compiled.targets[0].render(bound), bound)
        shared = {k: v for k, v in bound.items() if k not in compiled.gathered}
        key = tuple([shared[k] for k in sorted(shared)])
        self._bindings.setdefault(key, shared)
        place = {k: v for k, v in bound.items() if k in compiled.gathered and isinstance(v, int)}
        self._found[term].setdefault(key, []).append(_Member(term, place, name))
        return None

    def steps(self) -> Iterator[Step | MapError]:
        """A step for each use of what was noted, or what is wrong with that use."""
        for key, bound in self._bindings.items():
            try:
                yield self._step([members.get(key, []) for members in self._found], bound)
            except MapError as error:
                yield error

    def _moved(self, name: str, target: str, bound: Bindings) -> Step:
        """The step of a rule that changes the layout of one tensor. Those of one shape share the program."""
        from porter.mapping import layout

        compiled, spec = self._compiled, self._specs[name]
        goal = _wanted_shape(compiled, target, self._wanted)
        program = self._moves.get((spec.shape, goal))
        if program is None:
            source = layout.Operand(name, spec.shape, compiled.source_axes[0])
            made = layout.Operand(target, goal, compiled.target_axes[0])
            solved = layout.solve([source], [made], compiled.sizes, compiled.rule.span)
            refuse_unsolvable(compiled, [source], [made], solved)
            program = self._moves[spec.shape, goal] = Program((), solved, ((),), ())
        assert program.layout is not None
        return Step("layout", compiled.rule, (name,), (TensorSpec(target, spec.dtype, program.layout.target_shapes[0]),), bound, program)

    def _step(self, found: Sequence[Sequence[_Member]], bound: Bindings) -> Step:
        compiled, specs = self._compiled, self._specs
        rule = compiled.rule
        members = _complete(compiled, found, bound)
        given = [Operand(m.name, specs[m.name].dtype, specs[m.name].shape, rule.source.terms[m.term].label) for m in members]
        before = applied_to(rule.source, compiled.source_operations, given, rule.arrow == "<->")
        middle = [o for a in before[-1] for o in a.outputs] if before else given
        arriving = members if len(middle) == len(members) else None
        targets = _targets(compiled, bound, middle, arriving, found)
        if not targets:
            raise rule.target.span.error("M222", f"nothing is made of '{members[0].name}': its optional targets have no source")
        moved, order, operands = _laid_out(compiled, middle, arriving, targets, self._wanted)
        after = [applied_after(rule.target, compiled.target_operations, o, rule.arrow == "<->") for o in operands]
        program = _program(before, moved, after, order)
        results = [chain[-1].outputs[0] if chain else o for chain, o in zip(after, operands, strict=True)]
        action: Action = "compute" if program.computes else "layout" if moved is not None else "rename"
        if action == "rename":
            made = tuple([renamed(specs[members[i].name], m.name) for i, m in zip(order, targets, strict=True)])
        else:
            made = tuple([TensorSpec(m.name, o.dtype, o.shape) for m, o in zip(targets, results, strict=True)])
        return Step(action, rule, tuple([m.name for m in members]), made, bound, program)


def _complete(compiled: CompiledRule, found: Sequence[Sequence[_Member]], bound: Bindings) -> list[_Member]:
    """The sources of one use, in order."""
    members: list[_Member] = []
    for index, (term, hits) in enumerate(zip(compiled.rule.source.terms, found, strict=True)):
        if not hits and not term.optional:
            raise _incomplete(compiled, index, found, bound)
        ordered = sorted(hits, key=lambda member: tuple(member.at.values()))
        for one, other in itertools.pairwise(ordered):
            if one.at == other.at:
                raise term.span.error(
                    "M224",
                    f"'{one.name}' and '{other.name}' would both be this tensor of one use of the rule",
                    tensor=other.name,
                    hint="a capture in place of '*', also on the right, tells them apart",
                )
        members += ordered
    return members


def _incomplete(compiled: CompiledRule, index: int, found: Sequence[Sequence[_Member]], bound: Bindings) -> MapError:
    term = compiled.rule.source.terms[index]
    other = next(member.name for members in found for member in members)
    try:
        missing = f"'{compiled.sources[index].render(bound)}'"
    except MapError:
        missing = "a member of the list"
    return term.span.error(
        "M214",
        f"{missing} is missing, which goes together with '{other}'",
        tensor=other,
        hint="a '?' after its name says that it may be missing; a narrower pattern would leave that one alone",
    )


def _program(
    before: list[tuple[Applied, ...]], moved: layout.Layout | None, after: list[tuple[Applied, ...]], order: tuple[int, ...]
) -> Program:
    """The program of a use. Operations after the arrow join those before it where nothing, or only places, change in between: then
    nothing is rounded there.
    """
    single = len(after) == 1 and moved is not None and len(moved.source_shapes) == 1
    if before and (moved is None or (single and all(a.operation.elementwise for a in after[0]))):
        places = sorted(range(len(after)), key=lambda target: order[target]) if moved is None else [0]
        joined = [tuple([after[target][i] for target in places]) for i in range(len(after[0]))]
        return Program((*before, *joined), moved, ((),) * len(after), order)
    return Program(tuple(before), moved, tuple(after), order)


# ---- targets and layout ------------------------------------------------------------------------------------------------


def _targets(
    compiled: CompiledRule,
    bound: Bindings,
    middle: Sequence[Operand],
    members: Sequence[_Member] | None,
    found: Sequence[Sequence[_Member]],
) -> list[_Member]:
    """The targets of one use, by name; those that are the slices of one source for every index."""
    rule = compiled.rule
    lasting = [t for t, hits in zip(rule.source.terms, found, strict=True) if hits]
    made = []
    for index, (term, matcher) in enumerate(zip(rule.target.terms, compiled.targets, strict=True)):
        if term.optional and not _has_partner(index, rule.source.terms, lasting):
            continue
        spread = sorted(matcher.captures & compiled.spread)
        if not spread:
            made.append(_Member(index, {}, matcher.render(bound)))
            continue
        sizes = _spread_sizes(compiled, spread, middle, members)
        for place in itertools.product(*[range(sizes[name]) for name in spread]):
            at = dict(zip(spread, place, strict=True))
            made.append(_Member(index, at, matcher.render({**bound, **at})))
    return made


def _has_partner(index: int, terms: Sequence[Term], lasting: Sequence[Term]) -> bool:
    """Whether an optional target has its source: the one at its place, where both sides are lists of the same length."""
    return index >= len(terms) or terms[index] in lasting


def _spread_sizes(
    compiled: CompiledRule, spread: Sequence[str], middle: Sequence[Operand], members: Sequence[_Member] | None
) -> dict[str, int]:
    """How many tensors a target is, for each axis that is taken apart."""
    from porter.mapping import layout

    sizes = dict(compiled.sizes)
    for position, operand in enumerate(middle):
        axes = compiled.source_axes[members[position].term] if members is not None else None
        if axes is not None:
            sizes |= layout.axis_sizes(layout.Operand(operand.name, operand.shape, axes), sizes)
    span, name = compiled.rule.span, middle[0].name
    for axis in spread:
        if axis not in sizes:
            message = f"the size of '{axis}' is not known, so neither is how many tensors there are"
            raise span.error("M217", message, tensor=name, hint=f"say 'where {axis}=…'")
        if not sizes[axis]:
            message = f"'{axis}' has the size 0, so that nothing would be left of '{name}'"
            raise span.error("M223", message, tensor=name, hint="'-> drop' leaves a tensor out")
    count = math.prod([sizes[axis] for axis in spread])
    if count > MOST:
        message = f"'{name}' would become {count:,} tensors; {MOST:,} is the most"
        raise span.error("M218", message, tensor=name, hint="perhaps another axis is meant")
    return {axis: sizes[axis] for axis in spread}


def _laid_out(
    compiled: CompiledRule,
    middle: Sequence[Operand],
    members: Sequence[_Member] | None,
    targets: Sequence[_Member],
    wanted: Mapping[str, Described] | None,
) -> tuple[layout.Layout | None, tuple[int, ...], list[Operand]]:
    """The change of layout, or None with the index of what each target is, and what stands there before the target's operations."""
    rule = compiled.rule
    alone = len(middle) == len(targets) == 1
    if not compiled.laid_out and (alone or compiled.source_operations):
        order = _paired(rule.target, middle, targets)
        return None, order, [replace(middle[i], name=m.name, label=None) for i, m in zip(order, targets, strict=True)]
    from porter.mapping import layout

    source_axes: Sequence[Axes | None] = compiled.source_axes
    blocks, target_blocks = rule.source.listed, rule.target.listed
    if members is None:
        if any(axes is not None for axes in compiled.source_axes):
            raise rule.source.span.error("M219", "an axis pattern stands with a tensor that an operation puts together with others")
        members = [_Member(i, {}, o.name) for i, o in enumerate(middle)]
        source_axes = [None] * len(middle)
        blocks = blocks and len(middle) > 1
    sources = [
        layout.Operand(o.name, o.shape, source_axes[m.term], m.at, m.term if blocks else None) for m, o in zip(members, middle, strict=True)
    ]
    goals = [
        layout.Operand(
            m.name, _wanted_shape(compiled, m.name, wanted), compiled.target_axes[m.term], m.at, m.term if target_blocks else None
        )
        for m in targets
    ]
    solved = layout.solve(sources, goals, compiled.sizes, rule.span)
    refuse_unsolvable(compiled, sources, goals, solved)
    dtype = _common_dtype(compiled, middle) if len(middle) != len(targets) else None
    moved = [
        Operand(m.name, dtype or middle[i].dtype, shape) for i, (m, shape) in enumerate(zip(targets, solved.target_shapes, strict=True))
    ]
    return solved, (), moved


def _wanted_shape(compiled: CompiledRule, name: str, wanted: Mapping[str, Described] | None) -> tuple[int, ...] | None:
    """The shape that a target has to have at the arrow, where that is known."""
    if wanted is None or compiled.target_operations or name not in wanted:
        return None
    return wanted[name].shape


def _common_dtype(compiled: CompiledRule, operands: Sequence[Operand]) -> DType:
    first = operands[0]
    for other in operands[1:]:
        if other.dtype != first.dtype:
            raise compiled.rule.source.span.error(
                "M220",
                f"'{first.name}' is {first.dtype} and '{other.name}' is {other.dtype}; one tensor cannot hold both",
                tensor=other.name,
                hint="bring them to one type first, in a map of its own: '… -> … | cast(f32)' and 'then'",
            )
    return first.dtype


def _paired(side: Side, middle: Sequence[Operand], targets: Sequence[_Member]) -> tuple[int, ...]:
    """For each target the index of the operand that it is: by labels where the map has them, otherwise in order."""
    labels = [side.terms[m.term].label for m in targets]
    known = {o.label: i for i, o in enumerate(middle) if o.label is not None}
    given = ", ".join([o.label or o.name for o in middle])
    if len(middle) != len(targets):
        arrives = "one tensor arrives here" if len(middle) == 1 else f"{len(middle)} tensors arrive here ({given})"
        hint = "write as many names, or '-> drop' tensors that are not wanted in a statement of their own"
        raise side.span.error("M222", f"{arrives}, and {len(targets)} names are given", tensor=middle[0].name, hint=hint)
    if not any(labels):
        return tuple(range(len(targets)))
    for m, label in zip(targets, labels, strict=True):
        if label not in known:
            what = f"there is no output '{label}'" if label is not None else "this name has no label, and others have"
            raise side.terms[m.term].span.error("M221", what, tensor=m.name, hint=f"the outputs are {given}")
    if len(set(labels)) < len(labels):
        raise side.span.error("M221", "two names are given to one output", hint=f"the outputs are {given}")
    return tuple([known[label] for label in labels if label is not None])
