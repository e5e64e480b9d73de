"""Matching by what is known without values: shapes, names, neighbours, order. For constants, and for sides that are only specs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable

from porter.dataclass import replace
from porter.mapping.inference.assignment import Pairing, paired
from porter.mapping.inference.digits import Digits, merged
from porter.mapping.inference.entries import Entry, castable, fingerprint
from porter.mapping.inference.equal_values import form_of
from porter.mapping.inference.layouts import SAME, USUAL, Layout, layout_of
from porter.mapping.inference.roles import family_of, role_of
from porter.mapping.inference.state import Form, Match, State

Groups = list[tuple[list[Entry], list[Entry]]]


def match_constants(state: State) -> None:
    """Match tensors whose elements are all the same, and empty ones, with such of the same value. Reads them once more."""
    for guess in (False, True):
        for ours, theirs in _groups(state, _constant_key(state)):
            for pairing in paired(state, ours, theirs, guess=guess):
                layout = _layout_of_shapes(pairing.a, pairing.b)
                if layout is not None:
                    reason = f"equal but all elements alike: {pairing.reason}"
                    form = Form(layout)
                    state.add(Match((pairing.a.name,), (pairing.b.name,), form, pairing.confidence, reason, pairing.rivals, weak=True))


def _constant_key(state: State) -> Callable[[Entry], Hashable]:
    """Groups constants by their value. What counts steps of training never stands for anything else."""
    sides = ({(e.dtype, e.size) for e in side.values()} for side in (state.left_a, state.left_b))
    both = set.intersection(*sides)
    seen = dict[tuple[bool, str], Hashable]()

    def key(entry: Entry) -> Hashable:
        if (entry.dtype, entry.size) not in both:
            return None
        at = (entry.name in state.a and state.a[entry.name] is entry, entry.name)
        if at not in seen:
            value = fingerprint(entry)
            seen[at] = (value, role_of(entry.spec) == "count", entry.size or entry.shape) if value.constant else None
        return seen[at]

    return key


def match_described(state: State, note: str, *, least: float = 0.0) -> None:
    """Match by shapes, names and order alone, as far as confidence in these is at least `least`. `note` says in the reasons why
    values do not speak.

    Tensors that have their shape and role to themselves are matched first: they show which layers belong together.
    """
    pairings: list[Pairing] = []
    for key in (_role_and_dimensions, _role_and_size, _dimensions):
        for guess in (False, True):
            for ours, theirs in sorted(_groups(state, key), key=lambda g: len(g[0]) + len(g[1])):
                for pairing in paired(state, ours, theirs, guess=guess):
                    if pairing.confidence >= least and _described_layouts(pairing.a, pairing.b):
                        pairings.append(pairing)
                        reason = f"{pairing.reason}; shapes agree, {note}"
                        target = pairing.b.dtype if castable(pairing.a.dtype, pairing.b.dtype) else None
                        form = form_of(SAME, pairing.a.dtype, target)
                        names = (pairing.a.name,), (pairing.b.name,)
                        state.add(Match(*names, form, 0.8 * pairing.confidence, reason, pairing.rivals))
    _lay_out(state, pairings)


def _lay_out(state: State, pairings: Iterable[Pairing]) -> None:
    """Give described matches the layout that most shapes of their ranks ask for, where their own shapes allow it."""
    options = {p.a.name: (_described_layouts(p.a, p.b), len(p.a.shape), len(p.b.shape)) for p in pairings}
    votes = defaultdict[tuple[int, int], Counter[Layout]](Counter)
    for layouts, rank_a, rank_b in options.values():
        if SAME not in layouts:
            votes[rank_a, rank_b].update(layouts)
    for place, match in enumerate(state.matches):
        if match.sources[0] in options:
            layouts, rank_a, rank_b = options[match.sources[0]]
            best = next((x for x, _ in votes[rank_a, rank_b].most_common() if x in layouts), layouts[0])
            state.matches[place] = replace(match, form=replace(match.form, layout=best))


def _groups(state: State, key: Callable[[Entry], Hashable]) -> Groups:
    """What is left, by key, where both sides have some. None is no key."""
    found = defaultdict[Hashable, tuple[list[Entry], list[Entry]]](lambda: ([], []))
    for side, left in enumerate((state.left_a, state.left_b)):
        for entry in left.values():
            k = key(entry)
            if k is not None:
                found[k][side].append(entry)
    return [(ours, theirs) for ours, theirs in found.values() if ours and theirs]


def _role_and_dimensions(entry: Entry) -> Hashable:
    return family_of(entry.spec), _dimensions(entry)


def _role_and_size(entry: Entry) -> Hashable:
    return family_of(entry.spec), entry.size


def _dimensions(entry: Entry) -> Hashable:
    return tuple(sorted(n for n in entry.shape if n != 1)), entry.dtype.kind


def _described_layouts(a: Entry, b: Entry) -> list[Layout]:
    """The layouts that fit two tensors, the likeliest first; none where no cast leads from one dtype to the other."""
    if a.dtype != b.dtype and not castable(a.dtype, b.dtype):
        return []
    if len(a.shape) < 2 and a.shape == b.shape:
        return [SAME]
    usual = [layout for layout in USUAL if layout.digits(a.shape, b.shape) is not None]
    same = [SAME] if a.shape == b.shape else []
    other = layout_of(_unmoved(a), a.shape, b.shape) if not usual and not same and a.size == b.size else None
    return same + usual + ([other] if other is not None else [])


def _layout_of_shapes(a: Entry, b: Entry) -> Layout | None:
    return SAME if a.shape == b.shape else next(iter(_described_layouts(a, b)), None)


def _unmoved(entry: Entry) -> Digits:
    return merged(((math.prod(entry.shape), 1),))


def settle_layouts(state: State) -> None:
    """Give matches of the same ranks the same layout wherever their values allow: a 1×1 kernel fits many."""
    buckets = defaultdict[Hashable, list[int]](list)
    for place, match in enumerate(state.matches):
        if len(match.sources) == len(match.targets) == 1:
            a, b = state.a[match.sources[0]], state.b[match.targets[0]]
            buckets[len(a.shape), len(b.shape), match.form.calls].append(place)
    for places in buckets.values():
        layouts = list(dict.fromkeys(state.matches[p].form.layout for p in places))
        if len(layouts) < 2:
            continue
        fitting = {layout: [p for p in places if _fits(state, state.matches[p], layout)] for layout in layouts}
        open_places = set(places)
        while open_places:
            layout = max(layouts, key=lambda x: sum(p in open_places for p in fitting[x]))
            taken = open_places.intersection(fitting[layout])
            if not taken:
                break
            for p in taken:
                state.matches[p] = replace(state.matches[p], form=replace(state.matches[p].form, layout=layout))
            open_places -= taken


def _fits(state: State, match: Match, layout: Layout) -> bool:
    """Whether a match is as true in another layout."""
    own = match.form.layout
    if layout == own:
        return True
    a, b = state.a[match.sources[0]].shape, state.b[match.targets[0]].shape
    moves = [merged(((math.prod(a), 1),)) if x == SAME and a == b else x.digits(a, b) for x in (layout, own)]
    return moves[0] is not None and (match.weak or moves[0] == moves[1])
