"""What inference has matched, in the words of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from porter.check.layout_blind.movement import Moved, between, layout_steps, turned
from porter.check.layout_blind.records import Relation, Step
from porter.dataclass import replace
from porter.dtypes import DType
from porter.io.float_layouts import holds
from porter.mapping.inference.batch_norm import ULP
from porter.mapping.inference.entries import Entry, cast, codes
from porter.mapping.inference.near_values import NOT_EQUAL
from porter.mapping.inference.state import Match, State
from porter.mapping.syntax import Call, Variable


def relation(state: State, match: Match, *, swapped: bool = False) -> Relation:
    """A match as a relation. swapped: the state's A is the comparison's B."""
    a, b = [state.a[n] for n in match.sources], [state.b[n] for n in match.targets]
    moved = _movement(match, a[0], b[0], state.channels) if len(a) == len(b) == 1 else Moved()
    steps = [*moved.steps]
    if match.reason.endswith(NOT_EQUAL):
        steps.append(Step("near", NOT_EQUAL))
    steps += _computed(match, swapped, ULP if b[0].dtype.bits >= a[0].dtype.bits else 1)
    if len(a) == len(b) == 1:
        steps += type_steps(a[0].dtype, b[0].dtype, only="only as" in match.reason)
    elif match.form.cast_after is not None:
        steps += _cast(a[0].dtype, b[0].dtype, swapped)
    why = match.reason if match.rivals or match.weak else ""
    sides = (match.sources, match.targets, a[0].shape, b[0].shape)
    if swapped:
        sides = (sides[1], sides[0], sides[3], sides[2])
    return named(Relation(*sides, tuple(steps), moved.orders, () if swapped else match.rivals, why))


def named(relation: Relation) -> Relation:
    """With a step for names, where they differ; labels of what is computed are not names."""
    if relation.a == relation.b or len(relation.a) != 1 or len(relation.b) != 1:
        return relation
    step = Step("name", f"{relation.a[0]} -> {relation.b[0]}")
    return replace(relation, steps=(step, *relation.steps))


def _movement(match: Match, a: Entry, b: Entry, channels: frozenset[int]) -> Moved:
    flips = [int(_values(c)[0]) for c in match.form.calls if c.name == "flip"]
    moves = match.form.layout.moves_elements(a.shape, b.shape)
    if (flips or moves) and max(len(a.shape), len(b.shape)) == 1 and not match.weak:
        # A vector has no axes to change: its channels are in another order.
        to = b.dtype if "only as" not in match.reason else a.dtype
        source, target = (codes(cast(e.array(), e.dtype, to)) for e in (a, b))
        found = between(source, target, a, b, channels)
        if found is not None:
            return found
    if flips:
        return turned(match.form.layout, flips, a.shape, b.shape)
    return Moved(layout_steps(match.form.layout, a.shape, b.shape))


def type_steps(a: DType, b: DType, *, only: bool = False) -> list[Step]:
    """What lies between values of these types. only: it is B that, rounded, gives A."""
    if a == b:
        return []
    detail = {"from": a.name, "to": b.name}
    if only:
        return [Step("rounding", f"A is B rounded to {a.short}", {"to": a.name, "of": "b"})]
    if a.kind == b.kind == "float" and not holds(b, a):
        return [Step("rounding", f"rounded to {b.short}", {"to": b.name, "of": "a"})]
    return [Step("type", f"{a.short} -> {b.short}, no value changed", detail)]


def _cast(a: DType, b: DType, swapped: bool) -> list[Step]:
    """What follows folding. swapped: it is A that is folded."""
    steps = type_steps(a, b)
    if not swapped or steps[0].kind == "rounding":
        return type_steps(b, a, only=True) if swapped else steps
    return [Step("type", f"{b.short} -> {a.short}, no value changed", {"from": b.name, "to": a.name})]


def _computed(match: Match, swapped: bool, ulp: int) -> list[Step]:
    """What operations of the match made B of A. ulp: how far from exact a fold may be that is told to be one."""
    steps = list[Step]()
    of = " in A" if swapped else ""
    for call in match.form.calls:
        if call.name == "fold_bn":
            given = _arguments(call)
            eps = given.get("eps", 1e-5)
            exact = match.reason == "equal once batch normalisation is folded"
            how = "bit for bit" if exact else "near" if match.reason.endswith(NOT_EQUAL) else f"within {ulp} ULP"
            text = f"batch norm folded{of} (eps {eps:g}), {how}"
            steps.append(
                Step(
                    "batch norm folded",
                    text,
                    {"eps": eps, "exact": exact, "ulp": 0 if exact else ulp, **{k: v for k, v in given.items() if k != "eps"}},
                )
            )
        elif call.name == "bn_stats":
            steps.append(Step("batch norm scale factor", f"divided by the scale factor{of}", {"ulp": 0}))
        elif call.name == "add":
            eps = _values(call)[0]
            steps.append(Step("batch norm epsilon", f"{eps:g} added{of}", {"eps": eps}))
    return steps


def folded_alike(relations: Sequence[Relation]) -> list[Relation]:
    """The relations, where most folds are exact: one program has folded them all, so that one that is not has other values."""
    exact = [bool(s.detail["exact"]) for r in relations for s in r.steps if s.kind == "batch norm folded" and r.equal]
    if 2 * sum(exact) <= len(exact):
        return list(relations)
    near = Step("near", f"{NOT_EQUAL}: {sum(exact)} others are folded bit for bit")
    apart = {r.b for r in relations if any(s.kind == "batch norm folded" and not s.detail["exact"] for s in r.steps) and r.equal}
    return [replace(r, steps=(near, *r.steps)) if r.b in apart else r for r in relations]


def _arguments(call: Call) -> dict[str, float | str]:
    return {a.name: a.value.name if isinstance(a.value, Variable) else a.value for a in call.arguments if a.name is not None}  # type: ignore[misc]


def _values(call: Call) -> Sequence[float]:
    return [float(a.value) for a in call.arguments]  # type: ignore[arg-type]
