"""The uses of one rule: sources that belong together by their captures, the targets they make, and the program between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass, field, replace
from porter.dtypes import DType
from porter.mapping.computation import Applied, Program
from porter.mapping.ops.base import Irreversible, Operand, Operation, OperationError
from porter.mapping.rule import CompiledRule
from porter.mapping.steps import Action, Described, Step
from porter.mapping.syntax import Axes, Call, Side, Term
from porter.tensor import TensorSpec

if TYPE_CHECKING:
    from porter.mapping import layout

Bindings = dict[str, int | str]
Key = tuple[int | str, ...]

FORMAT_ATTRIBUTES = ("caffe.", "keras.", "onnx.", "pytorch.", "ncnn.", "darknet.")
"""Attributes that say where in its file a tensor was; under another name they would say something wrong."""


@dataclass(slots=True)
class Matches:
    """What the source patterns of a rule matched: for each term, by the values of the captures that tell uses apart, the
    members (several only where they are stacked) with their place in the stack.
    """

    terms: list[dict[Key, list[tuple[dict[str, int], str]]]]
    bindings: dict[Key, Bindings] = field(default_factory=dict)

    def add(self, compiled: CompiledRule, term: int, name: str, bound: Bindings) -> None:
        """Note that `name` matched the pattern of `term`."""
        shared = {k: v for k, v in bound.items() if k not in compiled.gathered}
        key = tuple([shared[k] for k in sorted(shared)])
        self.bindings.setdefault(key, shared)
        place = {k: _index(compiled, k, v) for k, v in bound.items() if k in compiled.gathered}
        self.terms[term].setdefault(key, []).append((place, name))


def _index(compiled: CompiledRule, capture: str, value: int | str) -> int:
    if isinstance(value, int):
        return value
    message = f"'{capture}' is stacked, so it has to be a number, and '{value}' is none"
    raise compiled.rule.span.error("M213", message, hint=f"{{{capture}:int}}")


def steps_of(
    compiled: CompiledRule, matches: Matches, specs: Mapping[str, TensorSpec], wanted: Mapping[str, Described] | None
) -> Iterator[tuple[Step | None, Exception | None]]:
    """A step for each use of the rule, or what is wrong with that use."""
    for key, bound in matches.bindings.items():
        try:
            yield _step(compiled, [term.get(key, []) for term in matches.terms], bound, specs, wanted), None
        except ValueError as error:
            yield None, error


def plain_step(compiled: CompiledRule, name: str, bound: Bindings, spec: TensorSpec) -> Step:
    """The step of a rule that only renames."""
    target = compiled.targets[0].render(bound)
    return Step("rename", compiled.rule, (name,), (renamed(spec, target),), bound)


def renamed(spec: TensorSpec, name: str) -> TensorSpec:
    """`spec` under another name, without what its attributes said of the file it was in."""
    if not spec.attributes:
        return replace(spec, name=name)
    kept = {k: v for k, v in spec.attributes.items() if not k.startswith(FORMAT_ATTRIBUTES)}
    return replace(spec, name=name, attributes=kept)


@dataclass(frozen=True, slots=True)
class _Member:
    """A source or target of one use: its term, its place in a stack, its name."""

    term: int
    at: dict[str, int]
    name: str


def _step(
    compiled: CompiledRule,
    found: list[list[tuple[dict[str, int], str]]],
    bound: Bindings,
    specs: Mapping[str, TensorSpec],
    wanted: Mapping[str, Described] | None,
) -> Step:
    rule = compiled.rule
    members = []
    for index, (term, hits) in enumerate(zip(rule.source.terms, found, strict=True)):
        if not hits and not term.optional:
            _incomplete(compiled, index, found, bound)
        members += [_Member(index, at, name) for at, name in sorted(hits, key=lambda hit: tuple(hit[0].values()))]
    given = [Operand(m.name, specs[m.name].dtype, specs[m.name].shape, rule.source.terms[m.term].label) for m in members]
    before = _applied(rule.source, compiled.source_operations, given, rule.arrow == "<->")
    middle = [o for a in before[-1] for o in a.outputs] if before else given
    one_to_one = len(middle) == len(members)
    targets = _targets(compiled, bound, middle, members if one_to_one else None, found)
    step_layout, order, moved = _laid_out(compiled, middle, members if one_to_one else None, targets, wanted)
    after = [_after(rule.target, compiled.target_operations, o, rule.arrow == "<->") for o in moved]
    results = [chain[-1].outputs[0] if chain else o for chain, o in zip(after, moved, strict=True)]
    program = Program(tuple(before), step_layout, tuple(after), order)
    made = tuple([_spec(m.name, o, members, specs, program) for m, o in zip(targets, results, strict=True)])
    action: Action = "compute" if program.computes else "layout" if step_layout is not None else "rename"
    return Step(action, rule, tuple([m.name for m in members]), made, bound, program)


def _spec(name: str, made: Operand, members: Sequence[_Member], specs: Mapping[str, TensorSpec], program: Program) -> TensorSpec:
    if program.layout is None and not program.computes and len(members) == 1:
        return renamed(specs[members[0].name], name)
    return TensorSpec(name, made.dtype, made.shape)


def _incomplete(compiled: CompiledRule, index: int, found: Sequence[Sequence[tuple[dict[str, int], str]]], bound: Bindings) -> None:
    term = compiled.rule.source.terms[index]
    others = [name for hits in found for _, name in hits]
    try:
        missing = compiled.sources[index].render(bound)
    except ValueError:
        missing = None
    what = f"'{missing}'" if missing is not None else "a member of the list"
    raise term.span.error(
        "M214", f"{what} is missing, which goes together with '{others[0]}'", hint="a '?' after its name says that it may be missing"
    )


# ---- operations --------------------------------------------------------------------------------------------------------


def _applied(side: Side, operations: Sequence[Operation], operands: Sequence[Operand], invertible: bool) -> list[tuple[Applied, ...]]:
    """The operations of a side on its tensors. One that takes a single tensor stands once for each of several."""
    stages = []
    for operation, call in zip(operations, side.calls, strict=True):
        stage = _each(operation, call, operands) if len(operands) > 1 else None
        stage = stage or (_one(operation, call, tuple(operands)),)
        for applied in stage if invertible else ():
            _refuse_irreversible(applied)
        stages.append(stage)
        operands = [o for applied in stage for o in applied.outputs]
    return stages


def _each(operation: Operation, call: Call, operands: Sequence[Operand]) -> tuple[Applied, ...] | None:
    """`operation` once for each operand, or None where it takes them together."""
    try:
        outputs = operation.outputs(tuple(operands))
    except OperationError:
        try:
            stage = tuple([Applied(operation, call, (o,), operation.outputs((o,))) for o in operands])
        except OperationError:
            return None
        return stage if all(len(a.outputs) == 1 for a in stage) else None
    return (Applied(operation, call, tuple(operands), outputs),)


def _one(operation: Operation, call: Call, operands: tuple[Operand, ...]) -> Applied:
    try:
        return Applied(operation, call, operands, operation.outputs(operands))
    except OperationError as error:
        name = operands[error.input].name if error.input is not None and error.input < len(operands) else None
        tensor = name if name is not None else operands[0].name if operands else None
        raise call.span.error(error.code, error.message, hint=error.hint, tensor=tensor) from error


def _refuse_irreversible(applied: Applied) -> None:
    inverse = applied.operation.inverse(applied.inputs)
    if isinstance(inverse, Irreversible):
        raise applied.call.span.error(
            "M215",
            f"'{applied.operation.name}' cannot be undone here: {inverse.reason}",
            tensor=applied.inputs[0].name if applied.inputs else None,
            hint="write '->' instead of '<->' for a rule that goes one way",
        )


def _after(side: Side, operations: Sequence[Operation], operand: Operand, invertible: bool) -> tuple[Applied, ...]:
    chain = []
    for operation, call in zip(operations, side.calls, strict=True):
        applied = _one(operation, call, (operand,))
        if len(applied.outputs) != 1:
            raise call.span.error(
                "M216", f"'{operation.name}' gives {len(applied.outputs)} tensors; after the arrow an operation takes one and gives one"
            )
        if invertible:
            _refuse_irreversible(applied)
        chain.append(applied)
        operand = applied.outputs[0]
    return tuple(chain)


# ---- targets and layout ------------------------------------------------------------------------------------------------


def _targets(
    compiled: CompiledRule,
    bound: Bindings,
    middle: Sequence[Operand],
    members: Sequence[_Member] | None,
    found: Sequence[Sequence[tuple[dict[str, int], str]]],
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
    from porter.mapping import layout

    sizes = dict(compiled.sizes)
    for position, operand in enumerate(middle):
        axes = compiled.source_axes[members[position].term] if members is not None else None
        if axes is not None:
            sizes |= layout.axis_sizes(layout.Operand(operand.name, operand.shape, axes), sizes)
    for name in spread:
        if name not in sizes:
            raise compiled.rule.span.error(
                "M217", f"the size of '{name}' is not known, so neither is how many tensors there are", hint=f"say 'where {name}=…'"
            )
        if sizes[name] > 1_000_000:
            raise compiled.rule.span.error("M218", f"'{name}' has {sizes[name]:,} members: no network has so many tensors")
    return {name: sizes[name] for name in spread}


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
    if not compiled.laid_out and (alone or (rule.source.listed == rule.target.listed and compiled.source_operations)):
        order = _paired(rule.target, middle, targets)
        return None, order, [replace(middle[i], name=m.name, label=None) for i, m in zip(order, targets, strict=True)]
    from porter.mapping import layout

    source_listed, target_listed = rule.source.listed, rule.target.listed
    if members is None:
        if any(axes is not None for axes in compiled.source_axes):
            raise rule.source.span.error("M219", "an axis pattern stands with a tensor that an operation puts together with others")
        members = [_Member(i, {}, o.name) for i, o in enumerate(middle)]
        source_axes: Sequence[Axes | None] = [None] * len(middle)
        source_listed = source_listed and len(middle) > 1
    else:
        source_axes = compiled.source_axes
    sources = [
        layout.Operand(o.name, o.shape, source_axes[m.term], m.at, m.term if source_listed else None)
        for m, o in zip(members, middle, strict=True)
    ]
    goals = [
        layout.Operand(
            m.name, _wanted_shape(compiled, m.name, wanted), compiled.target_axes[m.term], m.at, m.term if target_listed else None
        )
        for m in targets
    ]
    solved = layout.solve(sources, goals, compiled.sizes, rule.span)
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
    if any(labels):
        known = {o.label: i for i, o in enumerate(middle)}
        for m, label in zip(targets, labels, strict=True):
            if label not in known:
                has = ", ".join(str(k) for k in known)
                raise side.terms[m.term].span.error("M221", f"there is no output '{label}'", tensor=m.name, hint=f"the outputs are {has}")
    if len(middle) != len(targets):
        given = ", ".join(o.label or o.name for o in middle)
        raise side.span.error("M222", f"{len(middle)} tensors come in ({given}), and {len(targets)} names are given to them")
    return tuple([known[label] for label in labels]) if any(labels) else tuple(range(len(targets)))
