"""Matching by values: tensors whose elements are the same, in the same order, in another, or after a cast."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import replace
from porter.dtypes import DType
from porter.mapping.inference.assignment import Pairing, paired
from porter.mapping.inference.digits import agrees, solve
from porter.mapping.inference.entries import Entry, Fingerprint, cast, castable, codes, fingerprint
from porter.mapping.inference.layouts import SAME, USUAL, Layout, layout_of
from porter.mapping.inference.state import PLAIN, Form, Match, State
from porter.mapping.syntax import Argument, Call, Variable

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 4
"""A tensor with fewer elements may have another's values by chance."""


def match_equal(state: State) -> None:
    """Match what holds the same elements.

    Tensors whose elements are all alike are left: their values say nothing. Reads each tensor of A that has a counterpart of
    its size and dtype in B, and the other way round, twice at most.
    """
    both = {(e.dtype, e.size) for e in state.left_a.values()} & {(e.dtype, e.size) for e in state.left_b.values()}
    a, b = (
        {e.name: fingerprint(e) for e in side.values() if (e.dtype, e.size) in both and e.size} for side in (state.left_a, state.left_b)
    )
    _match_groups(state, a, b, None)


def match_cast(state: State) -> None:
    """Match what holds the same elements once floats are cast to B's dtype, or B's to A's, where A is the narrower."""
    for side, other in ((state.left_a, state.left_b), (state.left_b, state.left_a)):
        wanted = {(e.dtype, e.size) for e in other.values()}
        for dtype in {e.dtype for e in other.values()}:
            able = [e for e in side.values() if castable(e.dtype, dtype) and e.size and (dtype, e.size) in wanted]
            if side is state.left_b:
                able = [e for e in able if e.dtype.bits > dtype.bits]
            ones = {e.name: fingerprint(e, dtype) for e in able}
            if ones:
                sizes = {f.size for f in ones.values()}
                others = {e.name: fingerprint(e) for e in other.values() if e.dtype == dtype and e.size in sizes}
                _match_groups(state, *((ones, others) if side is state.left_a else (others, ones)), dtype)


def _match_groups(state: State, a: dict[str, Fingerprint], b: dict[str, Fingerprint], dtype: DType | None) -> None:
    """Match tensors with one fingerprint, alone first: what they show of names and order decides among several."""
    groups = defaultdict[Fingerprint, tuple[list[Entry], list[Entry]]](lambda: ([], []))
    for name, key in a.items():
        groups[key][0].append(state.a[name])
    for name, key in b.items():
        groups[key][1].append(state.b[name])
    several = []
    for key, (ours, theirs) in groups.items():
        if not ours or not theirs or key.constant:
            continue
        if len(ours) == len(theirs) == 1:
            _verified(state, Pairing(ours[0], theirs[0], 1.0, "", ()), dtype)
        else:
            several.append((ours, theirs))
    for ours, theirs in several:
        for pairing in paired(state, ours, theirs):
            _verified(state, pairing, dtype)


def _verified(state: State, pairing: Pairing, dtype: DType | None) -> None:
    """Match a pair if its elements are really the same as `dtype`, and an axis pattern says how they move."""
    a, b = pairing.a, pairing.b
    source, target = (codes(cast(e.array(), e.dtype, dtype or e.dtype)) for e in (a, b))
    flips: tuple[int, ...] = ()
    layout = layout_between(source, target, a, b, state.channels)
    if layout is None:
        layout, flips = flipped(source, target, a, b, state.channels)
    if layout is None:
        return
    if dtype is None:
        what = "equal bytes" if layout is SAME else f"equal values, {'moved' if layout.moves_elements(a.shape, b.shape) else 'reshaped'}"
    else:
        what = f"equal values {'as' if dtype == b.dtype else 'only as'} {dtype.short}" + ("" if layout is SAME else ", moved")
    if flips:
        what = what.replace("equal bytes", "equal values").removesuffix(", moved") + ", turned round"
    confidence = (0.9 if a.size < FEW else 1.0) * pairing.confidence * (1.0 if dtype in (None, b.dtype) else 0.8)
    reason = what + (f", one of several alike: {pairing.reason}" if pairing.reason else "")
    form = form_of(layout, a.dtype, b.dtype if dtype else None)
    calls = tuple(Call("flip", (Argument(None, axis),)) for axis in flips)
    state.add(Match((a.name,), (b.name,), replace(form, calls=calls + form.calls), confidence, reason, pairing.rivals))


def flipped(
    source: NDArray[Any], target: NDArray[Any], a: Entry, b: Entry, channels: frozenset[int]
) -> tuple[Layout | None, tuple[int, ...]]:
    """The layout once one dimension of A is turned round (blue, green, red), or two (a kernel for convolution), and which."""
    import numpy as np

    long = [axis for axis, n in enumerate(a.shape) if n > 1]
    for axes in (*((axis,) for axis in long), *itertools.combinations(long, 2)):
        turned = np.ascontiguousarray(np.flip(source.reshape(a.shape), axes)).reshape(-1)
        layout = layout_between(turned, target, a, b, channels)
        if layout is not None:
            return layout, axes
    return None, ()


def layout_between(source: NDArray[Any], target: NDArray[Any], a: Entry, b: Entry, channels: frozenset[int]) -> Layout | None:
    """The pattern by which the flat `source`, of A's shape, makes the flat `target`, of B's; None where no pattern says it."""
    digits = solve(source, target)
    layout = layout_of(digits, a.shape, b.shape, channels) if digits is not None else None
    if layout is not None:
        return layout
    # Values that repeat may have led to a movement that no pattern says, where a usual one does as well.
    for usual in USUAL:
        moves = usual.digits(a.shape, b.shape)
        if moves is not None and agrees(source, target, moves or ((1, 1),)):
            return usual
    return None


def form_of(layout: Layout, source: DType, target: DType | None) -> Form:
    """A rule's form for one tensor: with a cast to `target` where that is another dtype."""
    if target is None or target == source:
        return replace(PLAIN, layout=layout)
    from porter.mapping.ops.base import Irreversible
    from porter.mapping.ops.elementwise import Cast

    to = Argument(None, Variable(target.short))
    if isinstance(Cast(target.short, source.short).inverse(None), Irreversible):
        return Form(layout, (Call("cast", (to,)),), "->")
    return Form(layout, (Call("cast", (to, Argument("was", Variable(source.short)))),))


def duplicates(state: State, names: Sequence[Entry], others: Sequence[str], side: str) -> list[tuple[str, str]]:
    """For those of `names` that equal, byte for byte and in shape, one of `others` of the same side: the two names.

    side: "a" or "b". Constant tensors are left out: that they are equal is no reason to say that they are one.
    """
    entries = state.a if side == "a" else state.b
    by_size = defaultdict[tuple[str, tuple[int, ...]], list[str]](list)
    for name in others:
        by_size[entries[name].dtype.name, entries[name].shape].append(name)
    seen = dict[str, Fingerprint]()
    found = []
    for entry in names:
        alike = by_size.get((entry.dtype.name, entry.shape), [])
        if not alike or entry.size < FEW:
            continue
        for name in (entry.name, *alike):
            if name not in seen:
                seen[name] = fingerprint(entries[name])
        mine = seen[entry.name]
        twins = (n for n in alike if seen[n] == mine and not mine.constant)
        twin = next((n for n in twins if entries[n].array().tobytes() == entry.array().tobytes()), None)
        if twin is not None:
            found.append((entry.name, twin))
    return found
