"""Tensors that only one side has, and that are no reason to call two networks different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from porter.check.layout_blind.records import Excused
from porter.mapping.inference.entries import Entry
from porter.mapping.inference.equal_values import duplicates
from porter.mapping.inference.roles import role_of
from porter.mapping.inference.state import State

FEW = 16
"""Integers up to which a vector of them is taken for a shape or an index of the graph."""

_INTEGERS = {"int", "uint", "bool"}
_INDICES = {"int32", "int64"}
_ZERO = {"bias", "beta", "mean"}
_ONE = {"gamma", "variance", "scale_factor"}


def excused(state: State, used: Mapping[str, str], graphs: Set[str]) -> Iterator[Excused]:
    """Those of the tensors left on either side. used: tensors of A that other tensors were computed with, and how. graphs: the sides
    that hold a graph's constants beside its weights.
    """
    for side, left, other, whole in (("a", state.left_a, state.left_b, state.a), ("b", state.left_b, state.left_a, state.b)):
        rivals = {e.size for e in other.values() if e.dtype.kind in _INTEGERS or len(e.shape) < 2}
        is_lone = not any(e.size == 1 and e.dtype.kind == "float" for e in other.values())
        held = [n for n in whole if n not in left]
        twins = dict(duplicates(state, list(left.values()), held, side))
        for name, entry in left.items():
            if name in twins:
                yield Excused(side, name, "tied", f"the same bytes as '{twins[name]}'")
            elif side == "a" and name in used:
                yield Excused(side, name, "neutral", used[name])
            else:
                yield from _by_itself(side, entry, rivals, side in graphs, is_lone)


def _by_itself(side: str, entry: Entry, rivals: Set[int], graph: bool, is_lone: bool) -> Iterator[Excused]:
    """What is no difference by what it is. rivals: sizes of what the other side alone has, and what may stand for it. graph: it comes
    with a graph. is_lone: the other side has no single float that may stand for one of this side's.
    """
    role, vector = role_of(entry.spec), len(entry.shape) < 2
    if not entry.size:
        yield Excused(side, entry.name, "neutral", "no elements")
    elif role == "count":
        yield Excused(side, entry.name, "counter", "counts steps of training")
    elif entry.dtype.kind in _INTEGERS:
        # Narrower integers are quantised weights and zero points.
        if vector and entry.size <= FEW and entry.dtype.name in _INDICES and entry.size not in rivals:
            yield Excused(side, entry.name, "constant", "a few integers: a shape or an index, no weight")
    elif graph and role is None and vector and 1 < entry.size <= FEW and entry.size not in rivals and _whole(entry):
        yield Excused(side, entry.name, "constant", "a few whole numbers beside the graph: such as the scales of a resize, no weight")
    elif is_lone and entry.size == 1 and entry.spec.attributes.get("onnx.origin") == "constant":
        yield Excused(side, entry.name, "constant", "a number that a node of the graph states, no weight")
    elif role in _ZERO and max(entry.shape, default=1) == entry.size and _all(entry, 0):
        yield Excused(side, entry.name, "neutral", f"a {role} of zeros")
    elif (role in _ONE or (role == "weight" and vector)) and _all(entry, 1):
        yield Excused(side, entry.name, "neutral", f"{'a weight' if role == 'weight' else role.replace('_', ' ')} of ones")


def _whole(entry: Entry) -> bool:
    """Whether its values are whole numbers above 0, not all of them 1."""
    values = entry.array().astype("f8") if entry.dtype.kind == "float" else None
    return values is not None and bool((values > 0).all() and (values % 1 == 0).all() and (values > 1).any())


def _all(entry: Entry, value: int) -> bool:
    return entry.dtype.kind == "float" and bool((entry.array().astype("f8") == value).all())
