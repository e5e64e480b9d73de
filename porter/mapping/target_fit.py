"""What a map makes, held against the tensors that should come out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from porter.errors import MapError, nearest_word
from porter.mapping.ledger import SHOWN, listed
from porter.mapping.steps import Described, StagePlan
from porter.mapping.syntax import Rule, Span
from porter.tensor import TensorSpec

NEAR = 0.7
"""How near a name has to be to another to be taken for a slip of the pen: names of one network are alike anyhow."""


def misfits(stage: StagePlan, wanted: Mapping[str, Described], missing: Sequence[str], place: Span) -> list[MapError]:
    """What is wrong with what the last stage makes, given what it should be.

    `missing` is what nothing makes and something should; `place` is where errors about the result as a whole point.
    """
    extra = [name for name in stage.result if name not in wanted]
    problems = _uneven(stage, wanted, missing, extra, place)
    for name, spec in stage.result.items():
        goal = wanted.get(name)
        if goal is not None and goal.shape not in (None, spec.shape):
            message = f"'{name}' would have the shape {list(spec.shape)}, and the target's is {list(goal.shape or ())}"
            problems.append((_maker(stage, name) or place).error("M232", message, tensor=name, hint=_turn(spec, goal)))
        elif goal is not None and goal.dtype not in (None, spec.dtype):
            message = f"'{name}' would be {spec.dtype}, and the target's is {goal.dtype}"
            hint = f"'| cast({goal.dtype.short})' at the end of the rule casts it" if goal.dtype is not None else None
            problems.append((_maker(stage, name) or place).error("M233", message, tensor=name, hint=hint))
    return problems


def _uneven(stage: StagePlan, wanted: Mapping[str, Described], missing: Sequence[str], extra: Sequence[str], place: Span) -> list[MapError]:
    """What is wrong with the names that come out."""
    problems = []
    if missing:
        count = "a tensor" if len(missing) == 1 else f"{len(missing):,} tensors"
        near = nearest_word(missing[0], extra, NEAR)
        hint = f"the map makes '{near}'; is that it?" if near else "write a rule that makes it, 'fill' it, or say 'expect targets=any'"
        shown = ", ".join([f"'{name}'{_known(wanted[name])}" for name in missing[:SHOWN]])
        shown += f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        problems.append(place.error("M230", f"nothing makes {count} of the target: {shown}", tensor=missing[0], hint=hint))
    if extra:
        near = nearest_word(extra[0], missing, NEAR)
        hint = f"the target has '{near}', which nothing makes" if near else "'… -> drop' leaves a source out"
        span = _maker(stage, extra[0]) or place
        count = "a tensor" if len(extra) == 1 else f"{len(extra):,} tensors"
        problems.append(
            span.error("M231", f"the target has no place for {count} that the map makes: {listed(extra)}", tensor=extra[0], hint=hint)
        )
    return problems


def _known(goal: Described) -> str:
    dtype = f" {goal.dtype}" if goal.dtype is not None else ""
    return dtype + (f" {list(goal.shape)}" if goal.shape is not None else "")


def _turn(spec: TensorSpec, goal: Described) -> str | None:
    """A way from one shape to the other, where one is near at hand."""
    assert goal.shape is not None
    if sorted(spec.shape) == sorted(goal.shape) and len(spec.shape) > 1:
        letters = "abcdefgh"[: len(spec.shape)]
        left, turned = list(spec.shape), []
        for size in goal.shape:
            position = left.index(size)
            left[position] = -1
            turned.append(letters[position])
        return f"the axes stand in another order; perhaps ': {' '.join(letters)}' on the left and ': {' '.join(turned)}' on the right"
    if spec.size == math.prod(goal.shape):
        return "the elements are as many; an axis pattern on each side says how one shape becomes the other"
    return None


def _maker(stage: StagePlan, name: str) -> Span | None:
    """Where the statement stands that makes a tensor."""
    statement = stage.steps[stage.maker[name]].statement
    span = statement.target.terms[0].span if isinstance(statement, Rule) else statement.span
    return span if span.line else None
