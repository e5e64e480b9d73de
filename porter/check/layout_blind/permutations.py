"""Tensors whose channels are permuted: which axes, and in which order, found from values alone.

A slice of an axis has a digest that does not depend on the order of its elements: a sum of mixed codes. Slices of equal digest belong
together. In a second round each element is mixed with the digests of the slices that it lies in, which tells apart what only the other
axes tell apart. What comes out is confirmed element by element.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.mapping.inference.entries import mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 18
"""Elements that are mixed at a time."""

_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Movement:
    """B is A with its axes in the order `axes`, and then, along each axis of B, A's indices in `orders`; None for an axis in place."""

    axes: tuple[int, ...]
    orders: tuple[tuple[int, ...] | None, ...]


def permuted(source: NDArray[Any], target: NDArray[Any]) -> Movement | None:
    """How the channels of `source` are permuted, and its axes, to make `target`; None where that does not explain all elements.

    Both are codes of elements, of the same rank. Of equal slices the first comes first.
    """
    if source.ndim != target.ndim or sorted(source.shape) != sorted(target.shape) or not source.size:
        return None
    ours, theirs = _digests(source, [None] * source.ndim), _digests(target, [None] * target.ndim)
    for axes in itertools.permutations(range(source.ndim)):
        if not all(_alike(ours[axis], theirs[place]) for place, axis in enumerate(axes)):
            continue
        found = _orders(source.transpose(axes), target, [ours[axis] for axis in axes], theirs)
        if found is not None:
            return Movement(axes, found)
    return None


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    import numpy as np

    return one.size == other.size and np.array_equal(np.sort(one), np.sort(other))


def _orders(
    source: NDArray[Any], target: NDArray[Any], ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]
) -> tuple[tuple[int, ...] | None, ...] | None:
    """The order of each axis, by digests that are refined where they are not all different."""
    for round_ in range(_ROUNDS + 1):
        orders = [_order(a, b) for a, b in zip(ours, theirs, strict=True)]
        if agrees(source, target, orders):
            return tuple([None if _in_place(o) else tuple(o.tolist()) for o in orders])
        if round_ < _ROUNDS:
            ours, theirs = _digests(source, ours), _digests(target, theirs)
            if not all(map(_alike, ours, theirs)):
                return None
    return None


def _order(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
    """For each slice of the target the source's slice of equal digest."""
    import numpy as np

    if np.array_equal(ours, theirs):
        return np.arange(ours.size)
    order = np.empty(ours.size, np.int64)
    order[np.argsort(theirs, kind="stable")] = np.argsort(ours, kind="stable")
    return order


def _in_place(order: NDArray[Any]) -> bool:
    import numpy as np

    return np.array_equal(order, np.arange(order.size))


def agrees(source: NDArray[Any], target: NDArray[Any], orders: Sequence[NDArray[Any]]) -> bool:
    """Whether `target` is `source` in these orders, element for element; the first rows that differ end it."""
    import numpy as np

    if not source.ndim:
        return bool(source == target)
    step = max(1, _BLOCK * len(source) // source.size)
    for start in range(0, len(source), step):
        rows = source[orders[0][start : start + step]]
        for axis, order in enumerate(orders[1:], 1):
            if not _in_place(order):
                rows = np.take(rows, order, axis)
        if not np.array_equal(rows, target[start : start + step]):
            return False
    return True


def _digests(array: NDArray[Any], colours: Sequence[NDArray[Any] | None]) -> list[NDArray[Any]]:
    """The digest of every slice of every axis; `colours` are numbers of slices that elements are mixed with."""
    import numpy as np

    found = [np.zeros(n, np.uint64) for n in array.shape]
    step = max(1, _BLOCK * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        rows = array[start : start + step].astype(np.uint64)
        for axis, colour in enumerate(colours):
            if colour is not None:
                part = colour[start : start + step] if axis == 0 else colour
                rows += part.reshape([-1 if k == axis else 1 for k in range(array.ndim)])
        codes = mixed(rows)
        for axis, sums in enumerate(_sums(codes)):
            if axis:
                found[axis] += sums
            else:
                found[0][start : start + step] = sums
    return found


def _sums(codes: NDArray[Any]) -> list[NDArray[Any]]:
    """The sum of every slice of every axis. Halves are summed out first: the elements themselves are gone through but twice."""
    if codes.ndim == 1:
        return [codes]
    half = codes.ndim // 2
    first, second = tuple(range(half)), tuple(range(half, codes.ndim))
    return [*_sums(codes.sum(axis=second)), *_sums(codes.sum(axis=first))]
