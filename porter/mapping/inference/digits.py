"""How the elements of one array have to be moved to make another: solved from the values, without guessing a layout.

A change of layout (transpose, reshape, any axis pattern) reads the source at `sum(digit_k * stride_k)`, where the digits are
those of the target's flat index in some mixed radix. `solve` finds radices and strides; a pattern is checked by computing
the same from its axes (`porter.mapping.inference.layouts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

Digits = tuple[tuple[int, int], ...]
"""`(radix, stride)` of each digit of the target's index, the fastest first; strides count elements of the source. Digits of
one are left out, and two that run on are one, so that equal movements are equal tuples."""

_ATTEMPTS = 4000
"""Digits tried before giving up: values that repeat a great deal leave many ways open."""


def merged(digits: Sequence[tuple[int, int]]) -> Digits:
    """The same movement in the one form that `Digits` describes."""
    result: list[tuple[int, int]] = []
    for radix, stride in digits:
        if radix == 1:
            continue
        if result and stride == result[-1][0] * result[-1][1]:
            result[-1] = (result[-1][0] * radix, result[-1][1])
        else:
            result.append((radix, stride))
    return tuple(result)


def moved(source: NDArray[Any], digits: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """A view of the flat `source`, read by `digits`; dimensions slowest first."""
    from numpy.lib.stride_tricks import as_strided

    shape = [radix for radix, _ in reversed(digits)]
    return as_strided(source, shape, [stride * source.itemsize for _, stride in reversed(digits)], writeable=False)


def agrees(source: NDArray[Any], target: NDArray[Any], digits: Sequence[tuple[int, int]]) -> bool:
    """Whether `digits` make the flat `target` of the flat `source`, element for element."""
    import numpy as np

    seen = moved(source, digits)
    want = target.reshape(seen.shape)
    # The first slice is looked at alone: where arrays differ they nearly always differ there.
    if want.ndim > 1 and not np.array_equal(seen[0], want[0]):
        return False
    step = max(1, (1 << 20) * len(want) // max(1, want.size)) if want.ndim else 1
    if not want.ndim:
        return bool(seen == want)
    return all(np.array_equal(seen[i : i + step], want[i : i + step]) for i in range(0, len(want), step))


def solve(source: NDArray[Any], target: NDArray[Any]) -> Digits | None:
    """The movement that makes `target` of `source`, both flat codes of one length; None where there is none.

    The identity wins where it is one of several. Needs no memory beside the arrays but a bit map of a chunk.
    """
    import numpy as np

    size = source.size
    if size != target.size:
        return None
    if agrees(source, target, ((size, 1),)):
        return merged(((size, 1),))
    search = _Search(np.ascontiguousarray(source), np.ascontiguousarray(target))
    return search.run(1, ())


class _Search:
    """Digits are found from the fastest on. Each new one has to explain the next `radix` times as many elements of the target."""

    def __init__(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        self.source = source
        self.target = target
        self.divisors = _divisors(source.size)
        self.attempts = 0

    def run(self, done: int, digits: tuple[tuple[int, int], ...]) -> Digits | None:
        """Complete `digits`, which explain the first `done` elements."""
        import numpy as np

        size = self.source.size
        if done == size:
            return merged(digits)
        for stride in self.divisors[:-1]:
            if self.source[stride] != self.target[done]:
                continue
            most = min(_room(size, stride, digits), size // done)
            if most < 2:
                continue
            line = self.source[::stride][:most] == self.target[::done][:most]
            run = most if line.all() else int(np.argmin(line))
            for radix in reversed(self.divisors):
                if not 2 <= radix <= run or (size // done) % radix or not _fits(size, stride, radix, digits):
                    continue
                self.attempts += 1
                if self.attempts > _ATTEMPTS:
                    return None
                longer = (*digits, (radix, stride))
                if agrees(self.source, self.target[: done * radix], longer):
                    found = self.run(done * radix, longer)
                    if found is not None:
                        return found
        return None


def _room(size: int, stride: int, digits: Sequence[tuple[int, int]]) -> int:
    """The largest radix a digit of this stride can have beside the others; 0 where the stride lies inside another digit."""
    above = size
    for radix, other in digits:
        if other <= stride:
            if stride % (radix * other):
                return 0
        else:
            above = min(above, other)
    return above // stride


def _fits(size: int, stride: int, radix: int, digits: Sequence[tuple[int, int]]) -> bool:
    return size % (stride * radix) == 0 and all(other <= stride or other % (stride * radix) == 0 for _, other in digits)


def _divisors(size: int) -> list[int]:
    """All divisors, ascending."""
    small = [d for d in range(1, math.isqrt(size) + 1) if size % d == 0]
    return small + [size // d for d in reversed(small) if d * d != size]


def split(digits: Digits, source: Sequence[int], target: Sequence[int]) -> list[tuple[int, int]] | None:
    """`digits`, not merged but cut where a dimension of either shape ends; None where cuts do not divide evenly, so that no
    axis pattern says it.
    """
    result: list[tuple[int, int]] = []
    done = 1
    for radix, stride in digits:
        cuts = {end // done for end in _ends(target) if done < end < done * radix and end % done == 0}
        wrong = any(done < end < done * radix and end % done for end in _ends(target))
        cuts |= {end // stride for end in _ends(source) if stride < end < stride * radix and end % stride == 0}
        wrong = wrong or any(stride < end < stride * radix and end % stride for end in _ends(source))
        low = 1
        for high in [*sorted(cuts), radix]:
            if high % low or wrong:
                return None
            result.append((high // low, stride * low))
            low = high
        done *= radix
    return result


def _ends(shape: Sequence[int]) -> set[int]:
    """Elements that the last 1, 2 … dimensions hold."""
    return {math.prod(shape[k:]) for k in range(len(shape))}
