"""Where elements go: runs of axes with a step in the source and one in the target, cut into pieces that follow each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from porter.dataclass import dataclass

Steps = tuple[int, int, int]
"""An axis of a move: its length, and the distance of neighbours in the target and in the source, in elements."""


@dataclass(frozen=True, slots=True)
class Move:
    """Elements of one source that go into one target. All moves of a target together fill it, each place once.

    source: which. source_start, target_start: where the first element is. axes: by falling step in the target, none of length 1.
    """

    source: int
    source_start: int
    target_start: int
    axes: tuple[Steps, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod([n for n, _, _ in self.axes])

    @property
    def end(self) -> int:
        """One past the last place in the target."""
        return self.target_start + sum([(n - 1) * step for n, step, _ in self.axes]) + 1

    def merged(self) -> Self:
        """The same move in as few axes as can be."""
        axes = list[Steps]()
        for n, target, source in self.axes:
            if axes and axes[-1][1] == n * target and axes[-1][2] == n * source:
                axes[-1] = axes[-1][0] * n, target, source
            else:
                axes.append((n, target, source))
        return type(self)(self.source, self.source_start, self.target_start, tuple(axes))

    def rows(self, first: int, count: int) -> Self:
        """The part with `count` indices of the first axis from `first` on."""
        (_, target, source), *rest = self.axes
        axes = tuple(rest) if count == 1 else ((count, target, source), *rest)
        return type(self)(self.source, self.source_start + first * source, self.target_start + first * target, axes)

    def moved(self, start: int) -> Self:
        """The move with the target's beginning at `start`."""
        return type(self)(self.source, self.source_start, self.target_start - start, self.axes)

    def in_units(self, unit: int) -> Self | None:
        """The move in units of so many elements that stay together, or None where elements do not."""
        axes = self.merged().axes
        if not axes or axes[-1][1:] != (1, 1) or axes[-1][0] % unit:
            return None
        outer, inner = axes[:-1], axes[-1][0] // unit
        if any(x % unit for _, target, source in outer for x in (target, source)) or self.source_start % unit or self.target_start % unit:
            return None
        scaled = [(n, target // unit, source // unit) for n, target, source in outer]
        return type(self)(self.source, self.source_start // unit, self.target_start // unit, in_steps([*scaled, (inner, 1, 1)]))


def in_steps(axes: Sequence[Steps]) -> tuple[Steps, ...]:
    """The axes of a move, given in any order."""
    if any(n == 0 for n, _, _ in axes):
        return ((0, 1, 1),)
    return tuple(sorted([axis for axis in axes if axis[0] != 1], key=lambda axis: -axis[1]))


def is_run(move: Move) -> bool:
    """Whether the elements lie side by side in the source and in the target, in the same order."""
    axes = move.merged().axes
    return not axes or (len(axes) == 1 and axes[0][1:] == (1, 1))


def whole_source(moves: Sequence[Move], source_shapes: Mapping[int, tuple[int, ...]]) -> int | None:
    """The source that a target of these moves is bit for bit, or None."""
    (move, *more) = moves
    if more or not is_run(move) or math.prod(source_shapes[move.source]) != move.size:
        return None
    return move.source


def in_order(moves: Sequence[Move]) -> list[list[Move]]:
    """The moves by where they go, those in one list whose places alternate in the target."""
    found, end = list[list[Move]](), 0
    for move in sorted(moves, key=lambda m: m.target_start):
        if not found or move.target_start >= end:
            found.append([])
        found[-1].append(move)
        end = max(end, move.end)
    return found


def pieces(moves: Sequence[Move], start: int, size: int, room: int) -> Iterator[tuple[int, int, list[Move]]]:
    """The `size` elements of the target from `start` on, in order, at most `room` at a time: where, how many, and what fills them."""
    if size <= room:
        yield start, size, list(moves)
        return
    parts = in_order(moves)
    if len(parts) > 1:
        ends = [part[0].target_start for part in parts[1:]] + [start + size]
        for part, end in zip(parts, ends, strict=True):
            yield from pieces(part, part[0].target_start, end - part[0].target_start, room)
        return
    # Moves that alternate have their outer axes in common.
    n, step, _ = moves[0].axes[0]
    at_once = max(1, room // step)
    for first in range(0, n, at_once):
        count = min(at_once, n - first)
        yield from pieces([m.rows(first, count) for m in moves], start + first * step, count * step, room)


def fast_step(moves: Sequence[Move]) -> tuple[int, int]:
    """Length, and step in the target, of the axis along which a source runs fastest; of all moves', the one with the largest step."""
    axes = [min(move.axes, key=lambda axis: axis[2]) for move in moves if move.axes]
    return max([(n, step) for n, step, _ in axes], key=lambda axis: axis[1], default=(1, 1))


def tiles(axes: Sequence[Steps], width: int) -> list[Any]:
    """The parts to copy one after the other, as indices: of the last axis so many that the next row finds the source in the cache."""
    if not axes:
        return [...]
    n, _, source = axes[-1]
    rows = math.prod([n for n, _, _ in axes[:-1]])
    if rows < 8 or n <= width or source == min([step for _, _, step in axes]):
        return [...]
    return [(..., slice(at, at + width)) for at in range(0, n, width)]
