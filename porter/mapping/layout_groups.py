"""Which tensors of the two sides belong together: one tensor, and those that are its slices or the members of its list."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from porter.dataclass import dataclass
from porter.errors import MapError, nearest_word
from porter.mapping.layout_patterns import LIST, REST, Form, Operand, expanded, fault, form_of, rest_only, with_first, without
from porter.mapping.layout_sizes import rest_length
from porter.mapping.syntax import Span


@dataclass(frozen=True, slots=True)
class Member:
    """A tensor that is a part of the other side's: where it stands on its side, its place in the list, and its pattern."""

    position: int
    operand: Operand
    block: int
    form: Form


@dataclass(frozen=True, slots=True)
class Group:
    """One tensor, `single`, at `position` of its side, and the tensors of the other side that it is made of or split into.

    blocks: members of the list. at: the axes that count slices. joined: whether `single` is the target.
    """

    position: int
    single: Operand
    form: Form
    members: tuple[Member, ...]
    blocks: int
    at: tuple[str, ...]
    joined: bool

    def described(self) -> list[tuple[Operand, Form]]:
        """The tensors with their patterns, sources first."""
        single, members = [(self.single, self.form)], [(m.operand, m.form) for m in self.members]
        return members + single if self.joined else single + members


def groups_of(sources: Sequence[Operand], targets: Sequence[Operand], span: Span) -> list[Group]:
    """The groups of a rule, patterns filled in for both sides and `...` written out.

    Raises:
        MapError: it cannot be told which tensor goes where, or axes stand on one side only.
    """
    left, right = _by_block(list(enumerate(sources))), _by_block(list(enumerate(targets)))
    if not left or not right:
        raise _unpaired(len(sources), len(targets), span)
    if len(left) == 1 or len(right) == 1:
        pairs = [(list(enumerate(sources)), list(enumerate(targets)))]
    elif len(left) == len(right):
        pairs = list(zip(left, right, strict=True))
    else:
        raise _unpaired(len(sources), len(targets), span)
    found = []
    for number, (ours, theirs) in enumerate(pairs):
        joined = len(theirs) == 1 and not theirs[0][1].at
        if not joined and (len(ours) != 1 or ours[0][1].at):
            raise _unpaired(len(ours), len(theirs), span)
        single, members = (theirs[0], ours) if joined else (ours[0], theirs)
        found.append(_group(single, members, joined, number, span))
    return found


def check_complete(group: Group, sizes: Mapping[str, int], span: Span) -> None:
    """Raise a `MapError` unless there is a member for each place in the list and each index of the slices, and one only."""
    there = dict[tuple[int, ...], Operand]()
    for member in group.members:
        place = (member.block, *[member.operand.at[name] for name in group.at])
        for name, index in zip(group.at, place[1:], strict=True):
            if not 0 <= index < sizes[name]:
                message = f"'{member.operand.name}' is slice {index} of '{name}', which has {sizes[name]}"
                raise fault("M308", message, span, group.single, group.form, sizes)
        other = there.setdefault(place, member.operand)
        if other is not member.operand:
            message = f"'{other.name}' and '{member.operand.name}' are both {_place_text(group, place)} of '{group.single.name}'"
            raise fault("M308", message, span, group.single, group.form, sizes)
    wanted = [group.blocks, *[sizes[name] for name in group.at]]
    if len(there) < math.prod(wanted):
        missing = (place for place in _places(wanted) if place not in there)
        shown = [_place_text(group, place) for place in itertools.islice(missing, 4)]
        text = ", ".join(shown[:3]) + (" and more" if len(shown) > 3 else "")
        message = f"'{group.single.name}' is not complete: there is no tensor for {text}"
        hint = f"{len(there)} are there, such as '{group.members[0].operand.name}'"
        hint += "; a stack counts from 0 without gaps" if group.at else ""
        raise fault("M308", message, span, group.single, group.form, sizes, hint=hint)


def _places(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All indices, in order; `itertools.product` would first write down every size's."""
    if not sizes:
        yield ()
        return
    for first in range(sizes[0]):
        for rest in _places(sizes[1:]):
            yield (first, *rest)


def _place_text(group: Group, place: tuple[int, ...]) -> str:
    words = [f"{name}={index}" for name, index in zip(group.at, place[1:], strict=True)]
    return " ".join(([f"member {place[0] + 1}"] if group.blocks > 1 else []) + words)


def _by_block(operands: Sequence[tuple[int, Operand]]) -> list[list[tuple[int, Operand]]]:
    """Tensors of a side, with their positions, by their place in the list; one that is neither in a list nor a slice has its own."""
    found = dict[int, list[tuple[int, Operand]]]()
    for position, operand in operands:
        place = operand.block if operand.block is not None else 0 if operand.at else position
        found.setdefault(place, []).append((position, operand))
    return [found[place] for place in sorted(found)]


def _unpaired(sources: int, targets: int, span: Span) -> MapError:
    return span.error(
        "M309",
        f"{sources} tensor{'s' * (sources != 1)} would become {targets}, and nothing says which becomes which",
        hint="write a rule for each tensor of one side; lists of the same length on both sides are taken in order",
    )


def _group(single: tuple[int, Operand], members: Sequence[tuple[int, Operand]], joined: bool, number: int, span: Span) -> Group:
    position, whole = single
    at = tuple(members[0][1].at)
    blocks = _by_block(members)
    form = _single_form(whole, members[0][1], at, len(blocks), span)
    parts = []
    for block, slices in enumerate(blocks):
        derived = without(form, at, block) if any(m.axes is None for _, m in slices) else None
        for index, operand in slices:
            if set(operand.at) != set(at):
                message = f"'{operand.name}' and '{members[0][1].name}' are slices along different axes"
                raise span.error("M308", message, tensor=operand.name)
            own = derived if operand.axes is None else form_of(operand.axes, operand)
            assert own is not None
            if own.count or own.terms:
                raise _no_list(operand, own, 1)
            parts.append(Member(index, operand, block, own))
    return _written_out(Group(position, whole, form, tuple(parts), len(blocks), at, joined), number)


def _single_form(single: Operand, member: Operand, at: tuple[str, ...], blocks: int, span: Span) -> Form:
    """The pattern of the tensor that the members are part of: slices are counted by a new first axis where it names none."""
    lost = f"nothing says where the {blocks} tensors of the list go in '{single.name}'"
    if single.axes is not None:
        form = form_of(single.axes, single)
        places = max(form.count, form.terms)
        if places and places != blocks:
            raise _no_list(single, form, blocks)
        if blocks > 1 and not places:
            raise fault("M306", lost, form.span, single, form, {}, hint=_WHERE)
    elif blocks > 1:
        raise fault("M306", lost, span, single, None, {}, hint=_WHERE)
    else:
        form = form_of(member.axes, member) if member.axes is not None else rest_only(span)
        if form.count or form.terms:
            raise _no_list(member, form, 1)
    part = form_of(member.axes, member) if member.axes is not None else None
    for name in at:
        if part is not None and name in part.spans:
            raise fault("M300", f"axis '{name}' counts the tensors, so that none of them can have it", part.spans[name], member, part, {})
    return with_first(form, [name for name in at if name not in form.spans])


_WHERE = "write '(3 o) i' for three equal parts in axis o, '(a + b + c) i' for uneven ones"


def _no_list(operand: Operand, form: Form, blocks: int) -> MapError:
    """The error for a number or a sum that counts other than what stands on the other side."""
    other = f"{blocks} tensors stand" if blocks > 1 else "one tensor stands"
    if form.terms:
        return fault("M307", f"the sum has {form.terms} terms, and {other} on the other side", form.spans[LIST], operand, form, {})
    hint = f"a number counts the members of a list; give this axis a name, and say 'where name={form.count}'"
    return fault("M305", f"{form.count} parts, and {other} on the other side", form.spans[LIST], operand, form, {}, hint=hint)


def _written_out(group: Group, number: int) -> Group:
    """The group with `...` as axes of its own, and every axis found on both sides."""
    for member in _distinct(group):
        _check_names(group, member)
    if REST not in group.form.spans:
        return group
    rest = [f"{REST}{number}.{i}" for i in range(rest_length(group.described()))]
    memo = dict[int, Form]()
    members = []
    for m in group.members:
        form = memo.get(id(m.form))
        if form is None:
            form = memo[id(m.form)] = expanded(m.form, rest)
        members.append(Member(m.position, m.operand, m.block, form))
    return Group(group.position, group.single, expanded(group.form, rest), tuple(members), group.blocks, group.at, group.joined)


def _distinct(group: Group) -> Iterator[Member]:
    """One member for each pattern and place in the list."""
    seen = set[tuple[int, int]]()
    for member in group.members:
        key = id(member.form), member.block
        if key not in seen:
            seen.add(key)
            yield member


def _check_names(group: Group, member: Member) -> None:
    whole = {name for name in group.form.path(member.block) if name != LIST} - set(group.at)
    part = set(member.form.path(0))
    for name in member.form.path(0):
        if name not in whole:
            raise _one_sided(name, member.operand, member.form, group.single, group)
    for name in group.form.path(member.block):
        if name in whole and name not in part:
            raise _one_sided(name, group.single, group.form, member.operand, group)


def _one_sided(name: str, operand: Operand, form: Form, other: Operand, group: Group) -> MapError:
    what = "'...'" if name == REST else f"axis '{name}'"
    elsewhere = any(name in group.form.path(block) for block in range(group.blocks)) and operand is not group.single
    hint = "it is an axis of another term of the sum, and the terms stand for the members of the list in their order" if elsewhere else None
    hint = hint or _alike(name, other, group) or "every axis is on both sides; an axis of size 1 that is on one side only is written '1'"
    return fault("M300", f"{what} of '{operand.name}' is not an axis of '{other.name}'", form.spans[name], operand, form, {}, hint=hint)


def _alike(name: str, other: Operand, group: Group) -> str | None:
    """An axis of the other side that is written nearly like this one and is not on this side."""
    mine = {n for m in group.members for n in m.form.path(0)} if other is group.single else {*group.form.spans}
    theirs = {*group.form.spans} if other is group.single else {n for m in group.members for n in m.form.path(0)}
    near = nearest_word(name, sorted(theirs - mine)) if name != REST else None
    return f"did you mean '{near}', which is on the other side only?" if near is not None else None
