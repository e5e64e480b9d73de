"""The weights of two networks, laid beside each other: outputs may agree within a tolerance though weights are not the same bits.

Weights are looked for among those of the layers that make the same value. What a converter computed anew, such as the weights of a
convolution into which a batch normalisation was folded, has no partner, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.check.difference import BLOCK
from porter.check.measures import measured, scale_of
from porter.dataclass import dataclass
from porter.parity.kinds import kind_of
from porter.parity.matching import Pair
from porter.parity.pieces import SideOf
from porter.tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING = 1e-6
"""Of the largest magnitude: one rounding of float32, of what was multiplied by a number."""


@dataclass(frozen=True, slots=True)
class Apart:
    """A tensor of B that is not A's. relative: the largest |Δ| as a part of A's largest magnitude."""

    a: str
    b: str
    relative: float


@dataclass(frozen=True, slots=True)
class Beside:
    """How many tensors of B are what to those of A.

    equal: bit for bit. moved: the same values in another order, as a transpose makes it. scaled: a number times them, as Caffe's scale
    factor of statistics is. apart: others, beside the tensor of A that is in the same place. alone: tensors of B that have no like in A.
    """

    equal: int
    moved: int
    scaled: int
    apart: tuple[Apart, ...]
    alone: tuple[str, ...]

    @property
    def count(self) -> int:
        """The tensors of B that have a partner."""
        return self.equal + self.moved + self.scaled + len(self.apart)

    @property
    def worst(self) -> Apart | None:
        """The one that is furthest off."""
        return max(self.apart, key=lambda apart: apart.relative, default=None)


def beside(a: SideOf, b: SideOf, pairs: Sequence[Pair]) -> Beside | None:
    """The weights of the layers that make the values of `pairs`; None where one side has none. Reads them all."""
    counts = {"equal": 0, "moved": 0, "scaled": 0}
    apart: list[Apart] = []
    alone: list[str] = []
    seen = False
    for pair in pairs:
        ours, theirs = _tensors(a, pair.a), _tensors(b, pair.b)
        seen = seen or bool(ours and theirs)
        for name, tensor in list(theirs.items()):
            found = next(((how, n) for how in counts for n, mine in ours.items() if _is(how, mine, tensor)), None)
            if found is not None:
                counts[found[0]] += 1
                del ours[found[1]], theirs[name]
        alike = [kind_of(s) for s in a.weighed(pair.a)] == [kind_of(s) for s in b.weighed(pair.b)]
        for name, tensor in theirs.items():
            near = next((n for n, mine in ours.items() if mine.size == tensor.size), None) if alike else None
            if near is None:
                alone.append(name)
            else:
                apart.append(Apart(near, name, measured(ours.pop(near).numpy(), tensor.numpy(), 0.0).relative))
    return Beside(**counts, apart=tuple(apart), alone=tuple(alone)) if seen else None


def _tensors(side: SideOf, value: str) -> dict[str, Tensor]:
    names = (name for step in side.weighed(value) for name in step.weights)
    found = {name: side.side.weight(name) for name in names}
    return {name: tensor for name, tensor in found.items() if tensor is not None and tensor.dtype.kind == "float"}


def _is(how: str, a: Tensor, b: Tensor) -> bool:
    """Whether `b` is `a` in that way."""
    import numpy as np

    if a.size != b.size or a.dtype != b.dtype:
        return False
    if how == "equal":
        return a.digest() == b.digest()
    x, y = a.numpy().reshape(-1), b.numpy().reshape(-1)
    if how == "scaled":
        return _is_scaled(x, y)
    # Sums tell most of those apart that are not, in a fraction of the time.
    sums = [float(v.sum(dtype=np.float64)) for v in (x, y)]
    return math.isclose(*sums, rel_tol=1e-6, abs_tol=1e-9 * a.size) and np.array_equal(np.sort(x), np.sort(y))


def _is_scaled(x: NDArray[Any], y: NDArray[Any]) -> bool:
    import numpy as np

    largest = scale_of(x)
    top = int(np.abs(x).argmax()) if x.size else 0
    # One number is always another one times something.
    if x.size < 2 or not largest or not math.isfinite(factor := float(y[top]) / float(x[top])) or abs(factor - 1) < 1e-3:
        return False
    blocks = range(0, x.size, BLOCK)
    with np.errstate(invalid="ignore", over="ignore"):
        far = max(float(np.abs(x[n : n + BLOCK].astype(np.float64) * factor - y[n : n + BLOCK]).max()) for n in blocks)
    return far <= _ROUNDING * abs(factor) * largest
