"""The statistics of a store, tensor by tensor and as a whole: what `porter stats` prints.

Each tensor is read once for its summary and its levels, a second time for the quantiles of large ones. NaNs and infinities are
counted and take no part in anything else. Of complex types the real and imaginary parts are numbers on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.encodings import lane_type
from porter.check.statistics import levels as level
from porter.check.statistics.histograms import Linear, Octaves, linear, octaves, step_for
from porter.check.statistics.kinds import KINDS, Kind, kind_of
from porter.check.statistics.levels import LevelCounts, Levels, Quantiles
from porter.check.statistics.moments import Moments
from porter.check.statistics.reading import Advance, blocks, numbers_of
from porter.check.statistics.summary import Counts, Extreme, Number, Summary, SummaryOf
from porter.dataclass import dataclass, replace
from porter.dtypes import FLOAT32
from porter.errors import UsageError, did_you_mean
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBABILITIES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Parts of the numbers below the quantiles that are told."""

SORTED = 1 << 20
"""Numbers up to which a tensor's quantiles are found by sorting it in memory."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a tensor's finite numbers are spread. `levels` are what the histograms and quantiles were made of."""

    levels: Levels
    negative_zeros: int
    largest: float
    quantiles: Quantiles | None
    linear: Linear | None
    octaves: Octaves | None

    def on(self, step: float) -> Linear | None:
        """The linear histogram with bins of another width, a power of two at least as large."""
        return linear(self.levels, self.negative_zeros, step)


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """One tensor. `distribution` is None where it was not asked for."""

    spec: TensorSpec
    kind: Kind
    summary: Summary
    distribution: Distribution | None = None

    def index(self, at: Extreme) -> list[int]:
        """Where an extreme stands, in the tensor's own dimensions (for complex types, of the element whose part it is)."""
        flat = at.index // 2 if self.spec.dtype.kind == "complex" else at.index
        index = []
        for n in reversed(self.spec.shape):
            flat, here = divmod(flat, n)
            index.append(here)
        return index[::-1]


@dataclass(frozen=True, slots=True)
class EqualTensors:
    """Tensors of the same dtype, shape and bytes. `tied`: the file itself says so. `constant`: every number is the same."""

    names: tuple[str, ...]
    tied: bool
    constant: bool


@dataclass(frozen=True, slots=True)
class Place:
    """An extreme of the whole: its value and the tensor it is in."""

    value: Number
    tensor: str


@dataclass(frozen=True, slots=True)
class Group:
    """All tensors of one kind together; tied ones are counted once. Quantiles are told to 2^-7 of themselves."""

    kind: Kind
    tensors: int
    elements: int
    nbytes: int
    counts: Counts
    mean: float | None
    std: float | None
    minimum: Place | None
    maximum: Place | None
    smallest: Number | None
    distribution: Distribution | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """A store measured: its tensors in order, what they are together by kind, and which of them are equal."""

    tensors: tuple[TensorStatistics, ...]
    groups: tuple[Group, ...]
    equal: tuple[EqualTensors, ...]


def chosen(store: TensorStore, pattern: str | None) -> list[Tensor]:
    """The tensors whose names match `pattern`, in which `*` stands for any text, `?` for a character; all without one.

    Raises:
        UsageError: none does.
    """
    from fnmatch import fnmatchcase

    found = [t for t in store.values() if pattern is None or fnmatchcase(t.name, pattern)]
    if not found and pattern is not None:
        hint = did_you_mean(pattern, store) or "'*' stands for any text: '*.weight'"
        path = store.source.path if store.source is not None else None
        raise UsageError("U802", f"no tensor is called '{pattern}'", path=path, hint=hint)
    return found


def measure(
    store: TensorStore,
    pattern: str | None = None,
    *,
    distribution: bool = True,
    equal: bool = True,
    advance: Advance | None = None,
    take: Callable[[TensorStatistics], None] | None = None,
) -> Statistics:
    """The statistics of the tensors that `pattern` chooses. `distribution`: histograms and quantiles too. `equal`: find equal tensors.

    `take` is given each tensor's as it comes; what is known of its distribution is then not kept, which bounds the memory.

    Reads every tensor once, large ones twice for their quantiles, and those once more that may be equal.

    Raises:
        UsageError: no tensor matches.
        PorterError: a file cannot be read.
    """
    tensors = chosen(store, pattern)
    groups = {kind: _GroupOf(kind, distribution) for kind in KINDS}
    found: dict[str, TensorStatistics] = {}
    for tensor in tensors:
        one = measure_tensor(tensor, distribution=distribution, advance=advance)
        if store.ties.get(tensor.name) not in found:
            groups[one.kind].add(one)
        if take is not None:
            take(one)
            one = replace(one, distribution=None)
        found[tensor.name] = one
    same = tuple(_equal(store, tensors, list(found.values()))) if equal else ()
    return Statistics(tuple(found.values()), tuple([g.result() for g in groups.values() if g.tensors]), same)


def measure_tensor(tensor: Tensor, *, distribution: bool = True, advance: Advance | None = None) -> TensorStatistics:
    """The statistics of one tensor. Reads it once, or twice where it is large and quantiles are asked for."""
    summary_of = SummaryOf(tensor.spec)
    counts = LevelCounts(tensor.dtype) if distribution else None
    small = None
    for start, block in blocks(tensor, summary_of.unit, advance):
        summary_of.add(start, block)
        if counts is not None:
            counts.add(block)
        if numbers_of(tensor) == block.size:
            small = block
    summary = summary_of.result()
    spread = _distribution(tensor, summary, counts.result(), small) if counts is not None else None
    return TensorStatistics(tensor.spec, kind_of(tensor.spec), summary, spread)


def _distribution(tensor: Tensor, summary: Summary, levels: Levels, small: NDArray[Any] | None) -> Distribution:
    kind = level.carrier(tensor.dtype)

    def refine(places: Sequence[int]) -> tuple[list[float], float]:
        if small is not None:
            return level.sorted_at(small, places), 0.0
        if kind.bits == 64 and numbers_of(tensor) <= SORTED:
            return level.sorted_at(_whole(tensor), places), 0.0
        return level.refined(levels, kind, (block for _, block in blocks(tensor)), places)

    largest = float(summary.largest)
    return Distribution(
        levels,
        summary.counts.negative_zeros,
        largest,
        level.quantiles(levels, PROBABILITIES, refine),
        linear(levels, summary.counts.negative_zeros, step_for(largest, levels)),
        octaves(levels, summary.counts.zeros),
    )


def _whole(tensor: Tensor) -> NDArray[Any]:
    import numpy as np

    whole = np.empty(numbers_of(tensor), lane_type(tensor.dtype).numpy())
    for start, block in blocks(tensor):
        whole[start : start + block.size] = block
    return whole


class _GroupOf:
    """Sums over the tensors of one kind."""

    def __init__(self, kind: Kind, distribution: bool) -> None:
        self.kind = kind
        self.tensors = self._elements = self._nbytes = 0
        self._counts = Counts()
        self._moments = Moments()
        self._low: Place | None = None
        self._high: Place | None = None
        self._smallest: Number | None = None
        self._levels: LevelCounts | None = LevelCounts(FLOAT32) if distribution else None

    def add(self, one: TensorStatistics) -> None:
        summary = one.summary
        self.tensors += 1
        self._elements += one.spec.size
        self._nbytes += one.spec.nbytes
        self._counts += summary.counts
        self._moments.merge(summary.moments)
        if summary.minimum is not None and (self._low is None or summary.minimum.value < self._low.value):
            self._low = Place(summary.minimum.value, one.spec.name)
        if summary.maximum is not None and (self._high is None or summary.maximum.value > self._high.value):
            self._high = Place(summary.maximum.value, one.spec.name)
        if summary.smallest is not None and (self._smallest is None or summary.smallest < self._smallest):
            self._smallest = summary.smallest
        if self._levels is not None and one.distribution is not None:
            self._levels.add_levels(one.distribution.levels)

    def result(self) -> Group:
        m = self._moments
        spread = None
        if self._levels is not None:
            levels = self._levels.result()
            largest = max((abs(float(p.value)) for p in (self._low, self._high) if p is not None), default=0.0)
            zeros = self._counts.negative_zeros
            spread = Distribution(
                levels,
                zeros,
                largest,
                level.quantiles(levels, PROBABILITIES),
                linear(levels, zeros, step_for(largest, levels)),
                octaves(levels, self._counts.zeros),
            )
        return Group(
            self.kind,
            self.tensors,
            self._elements,
            self._nbytes,
            self._counts,
            m.mean if m.count else None,
            m.std,
            self._low,
            self._high,
            self._smallest,
            spread,
        )


def _equal(store: TensorStore, tensors: Iterable[Tensor], found: Sequence[TensorStatistics]) -> Iterator[EqualTensors]:
    """Groups of equal tensors; only those whose statistics are equal are read once more."""
    alike: dict[object, list[tuple[Tensor, TensorStatistics]]] = {}
    for tensor, one in zip(tensors, found, strict=True):
        s = one.summary
        key = (tensor.dtype.name, tensor.shape, s.counts, s.mean, s.std, s.minimum, s.maximum, s.smallest)
        if tensor.size:
            alike.setdefault(key, []).append((tensor, one))
    for pairs in alike.values():
        if len(pairs) < 2:
            continue
        same: dict[str, list[str]] = {}
        digests: dict[str, str] = {}
        for tensor, _ in pairs:
            target = store.ties.get(tensor.name, tensor.name)
            if target not in digests:
                digests[target] = tensor.digest()
            same.setdefault(digests[target], []).append(tensor.name)
        s = pairs[0][1].summary
        constant = s.minimum is not None and s.maximum is not None and s.minimum.value == s.maximum.value
        for names in same.values():
            if len(names) > 1:
                tied = len({store.ties.get(n, n) for n in names}) == 1
                yield EqualTensors(tuple(names), tied, constant)
