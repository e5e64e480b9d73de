"""The map from the names of a graph's initialisers to those of a network's state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.graph.analysis.values import Constant
from porter.graph.python_layout import float_literal
from porter.mapping.syntax import (
    Argument,
    Axes,
    Axis,
    AxisElement,
    Call,
    Capture,
    Count,
    Expect,
    Fill,
    Group,
    Keep,
    Map,
    Number,
    Pattern,
    Remaining,
    Rule,
    Side,
    Stage,
    Statement,
    Term,
    Variable,
)

if TYPE_CHECKING:
    import onnx_ir as ir

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

AxisPatterns = tuple["Axes | None", "Axes | None", "tuple[tuple[str, Number], ...]"]
"""The patterns on both sides, and sizes of axes that only the target has."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the state: where its values come from, and the node whose layer it belongs to ("" for none)."""

    constant: Constant
    node: str = ""
    role: str = ""


def map_of(model: ir.Model, stored: Mapping[str, Stored]) -> Map:
    """One rule for each tensor of the state; what became a number in the source is dropped."""
    rules: list[Statement] = []
    used: set[str] = set()
    complete = True
    for name, item in stored.items():
        made = _rule(name, item.constant, used)
        complete &= made is not None
        if made is not None:
            rules.append(made)
    if any(name not in used for name in _sources(model)):
        rules.append(Remaining("drop"))
    if any(item.role == "running_var" for item in stored.values()):
        rules.append(_counter())
    if not complete:
        rules.append(Expect("all", "any"))
    return Map((Stage(tuple(rules)),))


def _rule(name: str, constant: Constant, used: set[str]) -> Statement | None:
    """How one tensor of the state comes from an initialiser. None where it was computed."""
    target = Pattern((name,))
    if constant.fill is not None:
        return Fill(_filled(constant), target)
    source = constant.source
    if source is None:
        return None
    same = constant.perm is None and constant.shape == constant.source_shape
    axes = (None, None, ()) if same else axes_of(constant.source_shape, constant.perm, constant.shape)
    if axes is None:
        return None
    again = source in used
    used.add(source)
    if same and name == source and not again:
        return Keep(target)
    left, right, sizes = axes
    return Rule(Side((Term(Pattern((source,)), left),)), Side((Term(target, right),)), "->" if again else "<->", where=sizes)


def _counter() -> Fill:
    """`fill(0, dtype=i64, shape=[]) -> {p}.num_batches_tracked if absent for {p}.running_mean`."""
    path = Capture(Variable("p"))
    call = Call("fill", (Argument(None, 0), Argument("dtype", Variable("i64")), Argument("shape", ())))
    return Fill(call, Pattern((path, ".num_batches_tracked")), if_absent=True, for_each=Pattern((path, ".running_mean")))


def _filled(constant: Constant) -> Call:
    assert constant.fill is not None
    if not constant.dtype.startswith(("float", "bfloat")):
        value: float = int(constant.fill)
    elif math.isfinite(constant.fill):
        value = float(float_literal(constant.fill, 32 if constant.dtype == "float32" else 64))
    else:
        value = constant.fill
    dtype = Argument("dtype", Variable(DTYPES[constant.dtype].short))
    return Call("fill", (Argument(None, value), dtype, Argument("shape", constant.shape)))


def _sources(model: ir.Model) -> list[str]:
    """Names of what the model's file holds as tensors."""
    constants = [o.name for n in model.graph if n.op_type in ("Constant", "ConstantOfShape") for o in n.outputs]
    return [name for name in (*model.graph.initializers, *constants) if name]


# ---- layouts -----------------------------------------------------------------------------------------------------------


def axes_of(old: Sequence[int], perm: Sequence[int] | None, new: Sequence[int]) -> AxisPatterns | None:
    """Axis patterns for `old` transposed by `perm` and reshaped to `new`, and the sizes of axes that are cut."""
    turned = [old[p] for p in perm] if perm is not None else list(old)
    groups = _groups(turned, new)
    if groups is None:
        return None
    letters = iter(_LETTERS)
    before: list[AxisElement] = [Count(1)] * len(turned)
    after: list[AxisElement] = [Count(1)] * len(new)
    sizes: list[tuple[str, Number]] = []
    for left, right in groups:
        if len(left) > 1 and len(right) > 1:
            return None
        whole, parts = (left, right) if len(left) == 1 else (right, left)
        many, one = (after, before) if len(left) == 1 else (before, after)
        counts = new if len(left) == 1 else turned
        names = [Axis(next(letters)) for _ in parts]
        for place, axis in zip(parts, names, strict=True):
            many[place] = axis
        one[whole[0]] = names[0] if len(names) == 1 else Group((tuple(names),))
        if len(parts) > 1:
            sizes += [(axis.name, Number(counts[place])) for place, axis in zip(parts, names, strict=True)]
    source: list[AxisElement] = [Count(1)] * len(old)
    for place, element in enumerate(before):
        source[perm[place] if perm is not None else place] = element
    return _in_order(source, after, sizes)


def _in_order(source: Sequence[AxisElement], target: Sequence[AxisElement], sizes: Sequence[tuple[str, Number]]) -> AxisPatterns:
    """The same patterns with the names in the order of the source."""
    names: dict[str, str] = {}

    def renamed(element: AxisElement) -> AxisElement:
        if isinstance(element, Axis):
            return Axis(names.setdefault(element.name, _LETTERS[len(names)]))
        if isinstance(element, Group):
            return Group(tuple([tuple([renamed(e) for e in term]) for term in element.terms]))
        return element

    left, right = (Axes(tuple([renamed(e) for e in side])) for side in (source, target))
    return left, right, tuple(sorted([(names[name], size) for name, size in sizes]))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Runs of axes longer than one that hold the same elements."""
    left, right = ([i for i, n in enumerate(shape) if n != 1] for shape in (old, new))
    groups: list[tuple[list[int], list[int]]] = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        while (m := math.prod(old[i] for i in a)) != (n := math.prod(new[i] for i in b)):
            rest, taken = (left, a) if m < n else (right, b)
            if not rest:
                return None
            taken.append(rest.pop(0))
        groups.append((a, b))
    return groups if not left and not right else None
