"""The tensors of one side as inference sees them, and evidence from values that does not depend on their order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.errors import UsageError
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Named = TypeVar("_Named", TensorSpec, Tensor)

_RUNS = re.compile(r"[0-9]{1,18}|[^0-9]+")

_SORTED = 0.95
"""The share of neighbours in the order of the alphabet from which on a file is taken for sorted."""

_BLOCK = 1 << 15
"""Elements that are mixed at a time: their 64-bit copies stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor, or only its spec where no values are at hand. `order` is its place in the file."""

    spec: TensorSpec
    order: int
    tensor: Tensor | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        return self.spec.dtype

    @property
    def size(self) -> int:
        return self.spec.size

    def array(self) -> NDArray[Any]:
        """The values. Reads the file."""
        assert self.tensor is not None
        return self.tensor.numpy()


def entries(tensors: TensorStore | Sequence[TensorSpec]) -> list[Entry]:
    """The tensors of a store, with values, or of a list of specs, without.

    Raises:
        UsageError: two specs have one name.
    """
    if isinstance(tensors, TensorStore):
        return [Entry(t.spec, i, t) for i, t in enumerate(_in_order(list(tensors.values())))]
    seen = set[str]()
    for spec in tensors:
        if spec.name in seen:
            raise UsageError("U012", "two tensors of the list have this name", tensor=spec.name, hint="names have to be unique")
        seen.add(spec.name)
    return [Entry(spec, i) for i, spec in enumerate(_in_order(tensors))]


def _in_order(tensors: Sequence[_Named]) -> Sequence[_Named]:
    """Tensors in the order of their file, which says how layers follow each other; where a program has sorted them by name, with
    numbers in their own order: `layer.2` before `layer.10`.
    """
    names = [t.name for t in tensors]
    ascending = sum(x <= y for x, y in itertools.pairwise(names))
    if ascending < _SORTED * (len(names) - 1):
        return tensors
    return sorted(tensors, key=lambda t: [_natural(run) for run in _RUNS.findall(t.name)])


def _natural(run: str) -> tuple[bool, int, str]:
    number = run.isascii() and run.isdigit()
    return number, int(run) if number else 0, run


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What does not change when elements change places: a sum of mixed codes, and whether all elements are the same."""

    dtype: str
    size: int
    mixed: int
    constant: bool


def codes(values: NDArray[Any]) -> NDArray[Any]:
    """The bits of every element of a C-order array as an unsigned integer, flat. 16-byte elements are mixed into 8."""
    import numpy as np

    flat = values.reshape(-1)
    width = flat.dtype.itemsize
    if width == 16:
        halves = flat.view(np.uint64).reshape(-1, 2)
        first: NDArray[Any] = mixed(halves[:, 0].copy())
        return first ^ halves[:, 1]
    return flat.view(f"u{width}")


def fingerprint(entry: Entry, dtype: DType | None = None) -> Fingerprint:
    """The fingerprint of a tensor, or of its values cast to `dtype`. Streams the file."""
    import numpy as np

    total, first, constant = 0, None, True
    for block in _blocks(entry, dtype):
        if first is None and block.size:
            first = block[0]
        constant = constant and bool((block == first).all())
        wide = block.astype(np.uint64)
        total += int(mixed(wide).sum(dtype=np.uint64))
    return Fingerprint((dtype or entry.dtype).name, entry.size, total & 0xFFFFFFFFFFFFFFFF, constant)


def mixed(wide: NDArray[Any]) -> NDArray[Any]:
    """Codes spread over 64 bits, so that sums of different ones differ. Overwrites `wide`.

    Source: the constants and shifts are those of the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    import numpy as np

    wide += np.uint64(0x9E3779B97F4A7C15)
    wide *= np.uint64(0xBF58476D1CE4E5B9)
    wide ^= wide >> np.uint64(27)
    wide *= np.uint64(0x94D049BB133111EB)
    wide ^= wide >> np.uint64(31)
    return wide


def _blocks(entry: Entry, dtype: DType | None) -> Iterator[NDArray[Any]]:
    """Codes of the elements, `_BLOCK` at a time."""
    import numpy as np

    assert entry.tensor is not None
    own = entry.dtype
    if own.packed:
        yield codes(cast(entry.array(), own, dtype or own))
        return
    rest = b""
    for chunk in entry.tensor.chunks(_BLOCK * 8):
        data: bytes | memoryview = rest + bytes(chunk) if rest else chunk
        whole = len(data) - len(data) % own.itemsize
        rest = bytes(data[whole:])
        values = np.frombuffer(data[:whole], own.numpy())
        for start in range(0, len(values), _BLOCK):
            yield codes(cast(values[start : start + _BLOCK], own, dtype or own))


def cast(values: NDArray[Any], source: DType, target: DType) -> NDArray[Any]:
    """`values` of `source` as `target`: rounded once, to nearest even, where it is narrower."""
    if source == target:
        return values
    import numpy as np

    from porter.mapping.ops.rounding import rounded, widened

    if source.name == "float32" and target.name in ("float16", "bfloat16") and not np.isnan(values).any():
        # But for NaNs these conversions are the same, and many times as fast.
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(target.numpy())
    return rounded(widened(values, source), target)[0]


def castable(source: DType, target: DType) -> bool:
    """Whether inference looks for a cast between these: floats of another width."""
    return source != target and source.kind == target.kind == "float"
