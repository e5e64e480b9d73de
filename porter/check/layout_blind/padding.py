"""Tensors that are another with zeros around it: channels filled up to a multiple of 4, 8 or 32."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.check.layout_blind.movement import Moved, between
from porter.check.layout_blind.records import Step
from porter.dataclass import replace
from porter.mapping.inference.entries import Entry, codes, mixed
from porter.tensor import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 4
"""Elements that are not zero below which being padded is no evidence."""


def digest(entry: Entry) -> tuple[str, int, int] | None:
    """What neither order nor zeros change: the type, how many elements are not zero, and their mixed sum; None where they are few."""
    import numpy as np

    found = codes(entry.array())
    some = found[found != 0]
    if some.size < FEWEST or (some == some[0]).all():
        return None
    return entry.dtype.name, int(some.size), int(mixed(some.astype(np.uint64)).sum(dtype=np.uint64))


def padded(a: Entry, b: Entry, channels: frozenset[int]) -> tuple[Moved, Step] | None:
    """How A stands in the larger B, where all else is zero; None where it does not."""
    import numpy as np

    if len(a.shape) != len(b.shape):
        return None
    source, target = codes(a.array()), codes(b.array()).reshape(b.shape)
    for axes in itertools.permutations(range(len(a.shape))):
        shape = tuple(a.shape[axis] for axis in axes)
        start = _corner(target, shape)
        if start is None:
            continue
        region = np.ascontiguousarray(target[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))])
        part = replace(b, spec=TensorSpec(b.name, b.dtype, shape))
        found = between(source, region.reshape(-1), a, part, channels)
        if found is not None:
            return found, _step(start, shape, b.shape)
    return None


def _corner(target: NDArray[Any], shape: Sequence[int]) -> tuple[int, ...] | None:
    """Where a part of this shape begins that holds all that is not zero; None where there is none."""
    import numpy as np

    start = []
    for axis, (n, whole) in enumerate(zip(shape, target.shape, strict=True)):
        used = np.flatnonzero(target.any(axis=tuple(k for k in range(target.ndim) if k != axis)))
        first, last = (int(used[0]), int(used[-1])) if used.size else (0, 0)
        if n > whole or last - first >= n:
            return None
        start.append(0 if last < n else min(first, whole - n))
    return tuple(start)


def _step(start: Sequence[int], shape: Sequence[int], whole: Sequence[int]) -> Step:
    before, after = list(start), [w - n - s for s, n, w in zip(start, shape, whole, strict=True)]
    sides = [f"axis {k}: {n} -> {w}" for k, (n, w) in enumerate(zip(shape, whole, strict=True)) if n != w]
    where = "" if not any(before) else " on both sides" if any(after) else " in front"
    return Step("padding", f"padded with zeros{where} ({', '.join(sides)})", {"before": before, "after": after})
