"""Axis patterns: sizes solved from shapes, and the movement of elements they stand for.

Every layout change is undone exactly by the one with its sides swapped: elements are moved, never changed, and none is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from porter.dataclass import dataclass
from porter.errors import MapError
from porter.mapping.layout_groups import Group, Member, check_complete, groups_of
from porter.mapping.layout_moves import Move, Steps, in_steps, whole_source
from porter.mapping.layout_patterns import LIST, REST, Form, Operand, expanded, form_of
from porter.mapping.layout_payloads import payload_of, shared
from porter.mapping.layout_sizes import Sizes, rest_length
from porter.mapping.syntax import Axes, Span
from porter.tensor import Payload, Tensor

__all__ = ["Layout", "Operand", "axis_sizes", "solve"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The answer of `solve`: shapes of all sources and targets, sizes of all axes, and the moves.

    sources_of: for each target the indices of the sources that it is made of.
    whole: for each target the index of the source whose bytes it has, unmoved, or None.
    moves: for each target what goes where; nothing where it is empty or `whole`.
    """

    source_shapes: tuple[tuple[int, ...], ...]
    target_shapes: tuple[tuple[int, ...], ...]
    sizes: Mapping[str, int]
    sources_of: tuple[tuple[int, ...], ...]
    whole: tuple[int | None, ...]
    moves: tuple[tuple[Move, ...], ...]

    def payloads(self, sources: Sequence[Tensor]) -> tuple[Payload, ...]:
        """The targets' bytes, lazily, from the sources' in the order given to `solve`.

        The source's own payload where nothing moves, a part of it where that lies in one run. What has to be rearranged is
        put together about 1 MiB at a time (8 MiB where rows are very long) when it is read, from the sources' `buffer`: mapped for files.

        Raises:
            MapError: sources of different dtypes are to be one tensor.
        """
        users = Counter([i for origin in self.sources_of for i in origin])
        given = {i: shared(sources[i].payload, many) for i, many in users.items()}
        found = list[Payload]()
        for shape, origin, whole, moves in zip(self.target_shapes, self.sources_of, self.whole, self.moves, strict=True):
            dtypes = {sources[i].dtype: i for i in origin}
            if len(dtypes) > 1:
                text = " and ".join(f"'{sources[i].name}' ({dtype})" for dtype, i in dtypes.items())
                raise MapError("M313", f"{text} cannot be parts of one tensor", tensor=sources[origin[0]].name)
            found.append(sources[whole].payload if whole is not None else payload_of(moves, math.prod(shape), given, next(iter(dtypes))))
        return tuple(found)


def solve(
    sources: Sequence[Operand],
    targets: Sequence[Operand],
    sizes: Mapping[str, int],
    span: Span,
) -> Layout:
    """Work out every axis and every shape.

    One tensor on a side and any number on the other: they are its slices (`at`), the members of its list (a number or a sum
    in its pattern), or both. Slices are along a new first axis where the pattern does not name it. Lists of the same length
    on both sides are taken pairwise. Shapes of sources are known; those of targets are checked where they are, and help.

    sizes: what `where` and parameters say; names that are no axes are ignored. span: the rule, for errors that no axis is to
    blame for.

    Answers are remembered: tensors of the same shapes under the same patterns cost a look-up.

    Raises:
        MapError: patterns and shapes do not go together, or leave something open (M3…).
    """
    if len(sources) == len(targets) == 1 and sources[0].axes is targets[0].axes is None and not sources[0].at and not targets[0].at:
        return _same(sources[0], targets[0], span)
    key = (
        tuple([(id(o.axes), o.shape, tuple(o.at.items()), o.block) for o in sources]),
        tuple([(id(o.axes), o.shape, tuple(o.at.items()), o.block) for o in targets]),
        frozenset(sizes.items()),
    )
    known = _SOLVED.get(key)
    if known is None:
        if len(_SOLVED) >= _MOST:
            _SOLVED.clear()
        # The patterns are kept so that no other takes their ids.
        known = _SOLVED[key] = _solved(sources, targets, sizes, span), tuple([o.axes for o in (*sources, *targets)])
    return known[0]


_SOLVED: dict[object, tuple[Layout, tuple[Axes | None, ...]]] = {}
_MOST = 4096


def axis_sizes(operand: Operand, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes of the axes of one tensor as far as its own shape and `sizes` say them; those left open are not in the answer.

    Raises:
        MapError: shape, pattern and sizes do not go together.
    """
    if operand.axes is None:
        return {}
    form = form_of(operand.axes, operand)
    if REST in form.spans:
        known = operand.shape is not None and form.run is not None
        form = expanded(form, [f"{REST}{i}" for i in range(rest_length([(operand, form)]) if known else 1)])
    found = Sizes(sizes)
    if form.count:
        found.put(LIST, form.count, "by its pattern")
    found.expect([name for name in form.spans if name[0] not in ".#"], form)
    found.measure(operand, form)
    found.work_out()
    return _named(found)


def _named(sizes: Sizes) -> dict[str, int]:
    return {name: size for name, size in sizes.found.items() if name[0] not in ".#"}


def _same(source: Operand, target: Operand, span: Span) -> Layout:
    """A tensor passed on as it is."""
    shape = source.shape if source.shape is not None else target.shape
    assert shape is not None, "the shapes of sources are known"
    if target.shape is not None and target.shape != shape:
        message = f"'{source.name}' is {list(shape)}, and '{target.name}' has to be {list(target.shape)}"
        raise span.error("M303", message, tensor=target.name, hint="write an axis pattern on both sides that says how its elements move")
    return Layout((shape,), (shape,), {}, ((0,),), (0,), ((),))


def _solved(sources: Sequence[Operand], targets: Sequence[Operand], given: Mapping[str, int], span: Span) -> Layout:
    groups = groups_of(sources, targets, span)
    sizes = _sizes(groups, given)
    source_shapes, target_shapes = dict[int, tuple[int, ...]](), dict[int, tuple[int, ...]]()
    moves = dict[int, list[Move]]()
    for group in groups:
        check_complete(group, sizes.found, span)
        single, parts = (target_shapes, source_shapes) if group.joined else (source_shapes, target_shapes)
        single[group.position] = sizes.shape(group.form)
        for member, shape, move in _moves(group, sizes):
            parts[member.position] = shape
            moves.setdefault(group.position if group.joined else member.position, []).append(move)
    order = range(len(targets))
    return Layout(
        tuple([source_shapes[i] for i in range(len(sources))]),
        tuple([target_shapes[i] for i in order]),
        _named(sizes),
        tuple([tuple([m.source for m in moves[i]]) for i in order]),
        tuple([whole_source(moves[i], source_shapes) for i in order]),
        tuple([tuple([m for m in moves[i] if m.size]) for i in order]),
    )


def _sizes(groups: Sequence[Group], given: Mapping[str, int]) -> Sizes:
    """All sizes."""
    sizes = Sizes(given)
    for group in groups:
        if group.form.count:
            sizes.put(LIST, group.form.count, "by its pattern")
        seen = set[tuple[int, tuple[int, ...] | None]]()
        for operand, form in group.described():
            if (id(form), operand.shape) not in seen:
                seen.add((id(form), operand.shape))
                sizes.expect([name for name in form.spans if name[0] not in ".#"], form)
                sizes.measure(operand, form)
    sizes.work_out()
    for group in groups:
        for name in group.at:
            if name not in sizes.found:
                sizes.put(name, max([m.operand.at[name] for m in group.members]) + 1, "by the tensors there are")
    sizes.work_out()
    for group in groups:
        for operand, form in group.described():
            if not form.spans.keys() <= sizes.found.keys():
                sizes.need([name for name in form.spans if name != LIST], operand, form)
    return sizes


def _steps(form: Form, block: int, sizes: Sizes) -> tuple[int, dict[str, int]]:
    """Where the `block`-th member of the list begins in a tensor, and how far apart neighbours along each axis are, in elements."""
    start, step, steps = 0, 1, dict[str, int]()
    for dim in reversed(form.dims):
        for item in reversed(dim):
            if isinstance(item, str):
                steps[item] = step
                step *= sizes.found[item]
                continue
            lengths = [sizes.total(term) for term in item]
            start += step * sum(lengths[:block])
            inner = step
            for name in reversed(item[block]):
                steps[name] = inner
                inner *= sizes.found[name]
            step *= sum(lengths)
    if LIST in steps:
        start += block * steps[LIST]
    return start, steps


def _moves(group: Group, sizes: Sizes) -> Iterator[tuple[Member, tuple[int, ...], Move]]:
    """Every member with its shape, and what goes from or to it."""
    found = dict[tuple[int, int], tuple[tuple[int, ...], int, dict[str, int], tuple[Steps, ...]]]()
    for member in group.members:
        key = id(member.form), member.block
        known = found.get(key)
        if known is None:
            begin, outer = _steps(group.form, member.block, sizes)
            axes = [(sizes.found[name], outer[name], inner) for name, inner in _steps(member.form, 0, sizes)[1].items()]
            ordered = in_steps(axes if group.joined else [(n, inner, outer) for n, outer, inner in axes])
            known = found[key] = sizes.shape(member.form), begin, outer, ordered
        shape, start, strides, axes_of = known
        for name, index in member.operand.at.items():
            start += index * strides[name]
        if group.joined:
            yield member, shape, Move(member.position, 0, start, axes_of)
        else:
            yield member, shape, Move(group.position, start, 0, axes_of)
