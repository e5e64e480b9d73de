"""What becomes of each tensor, from the source to the last stage of a map, as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from porter.dataclass import dataclass, replace
from porter.mapping.steps import Plan, StagePlan, Step
from porter.mapping.syntax import Remaining
from porter.tensor import TensorSpec

_MOST = ("keep", "rename", "layout", "compute", "fill")
"""Actions, what changes more after what changes less."""


@dataclass(frozen=True, slots=True)
class Way:
    """Tensors that go in together, and what comes of them.

    action: the most that is done to them, as `Step.action` has it, or "left out". lines: of the map, 0 where it has no text;
    those of `rest` only where nothing else is said of them (`by_rest`).
    """

    sources: tuple[str, ...]
    targets: tuple[TensorSpec, ...]
    action: str
    lines: tuple[int, ...]
    by_rest: bool = True


def ways_of_stage(stage: StagePlan) -> list[Way]:
    """What one stage does: a way for each step."""
    found = [Way(s.sources, s.targets, _said(s.action, s.sources, s.targets), (s.line,)) for s in stage.steps]
    return found + [Way((name,), (), "left out", ()) for name in stage.left]


def ways(plan: Plan, names: Iterable[str]) -> list[Way]:
    """What the whole map does to the tensors `names`, in their order; what is filled in comes last."""
    position = {name: number for number, name in enumerate(names)}
    traces = {name: Way((name,), (), "keep", ()) for name in position}
    gone: list[Way] = []
    for stage in plan.stages:
        made: dict[str, Way] = {}
        for step in stage.steps:
            trace = _followed(step, [(made if step.action == "tie" else traces)[n] for n in step.sources])
            if step.action == "drop":
                gone.append(trace)
            made.update((target.name, trace) for target in step.targets)
        gone += [replace(traces[name], action="left out", lines=()) for name in stage.left]
        traces = {name: made[name] for name in stage.result}
    found = [*_together([(plan.result[name], trace) for name, trace in traces.items()]), *gone]
    return sorted(found, key=lambda way: min([position[n] for n in way.sources], default=len(position)))


def _followed(step: Step, before: Sequence[Way]) -> Way:
    """The way through one more step."""
    sources = tuple(dict.fromkeys(name for way in before for name in way.sources))
    by_rest = isinstance(step.statement, Remaining) and all(way.by_rest for way in before)
    lines = [line for way in before if way.by_rest is by_rest for line in way.lines]
    lines += [step.line] if isinstance(step.statement, Remaining) is by_rest else []
    action: str = step.action
    if action not in ("tie", "drop"):
        action = max([action, *(way.action for way in before if way.action in _MOST)], key=_MOST.index)
    return Way(sources, (), action, tuple(dict.fromkeys(lines)), by_rest)


def _together(ends: Iterable[tuple[TensorSpec, Way]]) -> Iterator[Way]:
    """One way for all that is made of the same tensors."""
    groups: dict[tuple[object, ...], list[tuple[TensorSpec, Way]]] = {}
    for spec, way in ends:
        key = (way.sources, way.action == "tie") if way.sources else (spec.name,)
        groups.setdefault(key, []).append((spec, way))
    for found in groups.values():
        first = found[0][1]
        targets = tuple([spec for spec, _ in found])
        most = first.action if first.action == "tie" else max((way.action for _, way in found), key=_MOST.index)
        lines = sorted({line for _, way in found for line in way.lines if way.by_rest is all(w.by_rest for _, w in found)})
        yield Way(first.sources, targets, _said(most, first.sources, targets), tuple(lines))


def _said(action: str, sources: Sequence[str], targets: Sequence[TensorSpec]) -> str:
    """`action`, with names that did not change called kept and others renamed."""
    if action not in ("keep", "rename"):
        return action
    return "keep" if [t.name for t in targets] == list(sources) else "rename"
