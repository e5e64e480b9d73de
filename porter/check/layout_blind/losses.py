"""What rounding and scaling lose: numbers that become infinite are no equality, nor is a tensor of which nothing but zeros is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from porter.check.layout_blind.records import Relation, Step
from porter.dataclass import dataclass, replace
from porter.mapping.inference.entries import Entry, codes
from porter.mapping.inference.state import State


def with_losses(state: State, relations: Iterable[Relation]) -> list[Relation]:
    """The relations, with what is lost in their roundings and scales. Reads these tensors once more."""
    return [_told(state, r) for r in relations]


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many elements there are, of which kinds. beyond: infinite or NaN."""

    size: int
    zero: int
    infinite: int
    beyond: int


def _told(state: State, relation: Relation) -> Relation:
    step = next((s for s in relation.steps if s.kind in ("rounding", "scale")), None)
    if step is None or not relation.equal:
        return relation
    sides = ([state.a[n] for n in relation.a], [state.b[n] for n in relation.b])
    wide, narrow = sides if step.detail["of"] == "a" else sides[::-1]
    after = _counted(narrow)
    if not after.beyond and not after.zero:
        return relation
    before = _counted(wide)
    # What was computed of several tensors may be zero for its own reasons.
    zero = max(0, after.zero - before.zero) if len(wide) == len(narrow) == 1 else 0
    beyond = max(0, after.beyond - before.beyond)
    steps = [replace(s, detail={**s.detail, "zero": zero, "infinite": beyond}) if s is step else s for s in relation.steps]
    if beyond:
        kind = "infinite" if after.infinite > before.infinite else "NaN"
        steps.append(Step("lost", f"{beyond:,} of {after.size:,} become{'s' if beyond == 1 else ''} {kind}"))
    elif zero and zero == before.size - before.zero:
        steps.append(Step("lost", f"all {zero:,} that are not zero become zero" if before.zero else f"all {zero:,} become zero"))
    return replace(relation, steps=tuple(steps))


def _counted(entries: Sequence[Entry]) -> _Counts:
    import numpy as np

    size = zero = infinite = beyond = 0
    for entry in entries:
        values = entry.array()
        size += values.size
        # Bits but that of the sign: faster than to compare numbers of 16 bits.
        zero += values.size - int(np.count_nonzero(codes(values) & ((1 << entry.dtype.bits - 1) - 1)))
        finite = int(np.count_nonzero(np.isfinite(values)))
        beyond += values.size - finite
        infinite += int(np.count_nonzero(np.isinf(values))) if finite < values.size else 0
    return _Counts(size, zero, infinite, beyond)
