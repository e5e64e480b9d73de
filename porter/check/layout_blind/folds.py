"""Batch normalisation that is folded on one side, where the two also have other layouts.

Folding multiplies output channels, and inference looks for them on the first axis. So kernels that have them last are turned first: those
of A, of B, or of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from porter.check.layout_blind.records import Relation, Step
from porter.check.layout_blind.translation import relation
from porter.dataclass import replace
from porter.io.payloads import LoadedPayload
from porter.mapping.inference.batch_norm import match_folds, match_statistics
from porter.mapping.inference.entries import Entry
from porter.mapping.inference.state import State
from porter.tensor import Tensor, TensorSpec, canonical_bytes

_FIRST = {2: "OI", 3: "OIW", 4: "OIHW", 5: "OIDHW"}
_LAST = {2: "IO", 3: "WIO", 4: "HWIO", 5: "DHWIO"}

_TURNS = ((False, False), (False, True), (True, False), (True, True))
"""Which sides are turned."""


def folded(state: State) -> Iterator[Relation]:
    """Folds that are found once one side or both are turned, and those of A into B; tensors that are taken must be left no more."""
    for swapped in (False, True):
        for turns in _TURNS:
            if swapped or turns != (False, False):
                yield from _folded(state, swapped, turns)


def _folded(state: State, swapped: bool, turns: tuple[bool, bool]) -> Iterator[Relation]:
    lefts = zip((state.left_a, state.left_b), turns, strict=True)
    ours, theirs = ([_turned(e) if turn else e for e in left.values()] for left, turn in lefts)
    view = State(theirs, ours) if swapped else State(ours, theirs)
    if not view.a or not view.b:
        return
    if swapped and turns == (False, False):
        match_statistics(view)
    match_folds(view, casts=True)
    for match in view.matches:
        found = relation(view, match, swapped=swapped)
        a, b = state.a[found.a[0]], state.b[found.b[0]]
        yield replace(found, shape_a=a.shape, shape_b=b.shape, steps=(*_layout(a, b, turns), *found.steps))


def _layout(a: Entry, b: Entry, turns: tuple[bool, bool]) -> Iterator[Step]:
    one, other = ((_last(e) if turn else _FIRST.get(len(e.shape), "")) for e, turn in zip((a, b), turns, strict=True))
    if turns[0] != turns[1] and one != other:
        yield Step("layout", f"{one} -> {other}", {"from": one, "to": other})


def _last(entry: Entry) -> str:
    """The axes of a kernel with channels last; a depthwise one has its output channels before the multiplier, of 1."""
    return "HWOI" if len(entry.shape) == 4 and entry.shape[3] == 1 else _LAST.get(len(entry.shape), "")


def _turned(entry: Entry) -> Entry:
    """A kernel with channels last, with them first; anything else as it is."""
    last = _last(entry)
    if not last or entry.tensor is None or entry.dtype.kind != "float" or entry.dtype.packed:
        return entry
    axes = tuple([last.index(axis) for axis in _FIRST[len(last)]])
    spec = TensorSpec(entry.name, entry.dtype, tuple([entry.shape[k] for k in axes]), role=entry.spec.role)
    return Entry(spec, entry.order, Tensor(spec, LoadedPayload(spec.nbytes, partial(_transposed, entry.tensor, axes))))


def _transposed(tensor: Tensor, axes: Sequence[int]) -> memoryview:
    return canonical_bytes(tensor.numpy().transpose(axes), tensor.dtype)
