"""What each cast or quantisation would cost the tensors of a store: what `porter audit` prints.

Each tensor is read twice: for its ranges, then for what each type makes of its numbers, once more where ranges are cut. NaNs
and infinities are counted and take no part. What is no floats is passed over: integers have nothing to lose here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from porter.check.precision.costs import CastCost, Cost, ScaledCost, Squares
from porter.check.precision.grids import ScaledGrid
from porter.check.precision.ranges import cuts
from porter.check.precision.targets import Scheme, Target, all_schemes
from porter.check.precision.verdicts import SNR, Judged, judge, watched
from porter.check.statistics.channels import ChannelAxis, channel_axis
from porter.check.statistics.kinds import Kind, kind_of
from porter.check.statistics.measure import chosen
from porter.check.statistics.reading import BLOCK, Advance, blocks
from porter.check.statistics.summary import Summary, SummaryOf
from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_PART = 1 << 17
"""Numbers that are cast together: they and what comes of them stay in cache."""


@dataclass(frozen=True, slots=True)
class TensorAudit:
    """One tensor: why it is watched (None where it is not), and a verdict for each type, in the order asked for.

    signal: the sum of squares of the finite numbers. The summary has no mean and no deviation.
    """

    spec: TensorSpec
    kind: Kind
    watch: str | None
    summary: Summary
    verdicts: tuple[Judged, ...]
    signal: float


@dataclass(frozen=True, slots=True)
class Total:
    """All tensors under one type. snr: of all of them by their best ways, in dB, None where nothing is lost or there is nothing.

    verdicts: how many tensors got which. nbytes: what the tensors that are not kept, and those that are, would take, without scales.
    """

    target: str
    overflow: int
    underflow: int
    subnormal: int
    snr: float | None
    ok: int
    per_channel: int
    keep: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A tensor that is no floats, and what it is of."""

    name: str
    what: Literal["integers", "booleans", "complex numbers"]


@dataclass(frozen=True, slots=True)
class Audit:
    """A store audited."""

    targets: tuple[Target, ...]
    tensors: tuple[TensorAudit, ...]
    totals: tuple[Total, ...]
    passed_over: tuple[PassedOver, ...]
    least_snr: float


def audit(
    store: TensorStore,
    targets: Sequence[Target],
    pattern: str | None = None,
    *,
    every_scheme: bool = False,
    least_snr: float = SNR,
    summaries: Mapping[str, Summary] | None = None,
    advance: Advance | None = None,
) -> Audit:
    """Audit the floats that `pattern` chooses. `every_scheme`: every way into scaled types, not only the usual ones.

    summaries: those of tensors that were measured already, by name.

    Raises:
        UsageError: no tensor matches.
        PorterError: a file cannot be read.
    """
    tensors = chosen(store, pattern)
    floats = [t for t in tensors if t.dtype.kind == "float"]
    known = summaries or {}
    found = tuple(
        [
            audit_tensor(t, targets, every_scheme=every_scheme, least_snr=least_snr, summary=known.get(t.name), advance=advance)
            for t in floats
        ]
    )
    totals = tuple([_total(target, found, i) for i, target in enumerate(targets)])
    return Audit(tuple(targets), found, totals, tuple([_passed_over(t) for t in tensors if t.dtype.kind != "float"]), least_snr)


def _passed_over(tensor: Tensor) -> PassedOver:
    kind = tensor.dtype.kind
    return PassedOver(tensor.name, "complex numbers" if kind == "complex" else "booleans" if kind == "bool" else "integers")


def audit_tensor(
    tensor: Tensor,
    targets: Sequence[Target],
    *,
    every_scheme: bool = False,
    least_snr: float = SNR,
    summary: Summary | None = None,
    advance: Advance | None = None,
) -> TensorAudit:
    """Audit one tensor of floats. Reads it two or three times; once less where its `summary` is known."""
    if summary is None:
        summary_of = SummaryOf(tensor.spec, moments=False)
        for start, block in blocks(tensor, summary_of.unit, advance):
            summary_of.add(start, block)
        summary = summary_of.result()
    kind, watch = kind_of(tensor.spec), watched(tensor.spec)
    costs, signal = _costs(tensor, summary, targets, every_scheme, kind, advance)
    verdicts = tuple([judge(t, c, summary.counts, watch, least_snr) for t, c in zip(targets, costs, strict=True)])
    return TensorAudit(tensor.spec, kind, watch, summary, verdicts, signal)


class _Rows:
    """How blocks fall into channels."""

    def __init__(self, spec: TensorSpec, axis: ChannelAxis | None) -> None:
        self.whole = axis is None or axis.axis == 0
        self.channels = spec.shape[axis.axis] if axis is not None else 1
        self._inner = math.prod(spec.shape[axis.axis + 1 :]) if axis is not None else 0

    def of(self, start: int, block: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """The rows of a block, each of one channel, and their channels."""
        import numpy as np

        if not self._inner:
            return block.reshape(1, -1), np.zeros(1, np.intp)
        first = start // self._inner
        if self._inner > BLOCK:
            return block.reshape(1, -1), np.array([first % self.channels])
        rows = block.reshape(-1, self._inner)
        return rows, (first + np.arange(rows.shape[0])) % self.channels


def _costs(
    tensor: Tensor, summary: Summary, targets: Sequence[Target], every_scheme: bool, kind: Kind, advance: Advance | None
) -> tuple[list[list[Cost]], float]:
    """For each target its costs, none for scaled types of what is no weight; and the sum of squares of the numbers."""
    import numpy as np

    axis = channel_axis(tensor.spec)
    rows_of = _Rows(tensor.spec, axis)
    largest, wide = float(summary.largest), tensor.dtype.name == "float64"
    squares = Squares(largest, wide)
    plain = kind == "parameter" and len(tensor.shape) >= 2
    wanted = [_schemes(t, every_scheme, rows_of.whole, axis is not None) if plain else () for t in targets]
    cut = _cuts(tensor, summary, targets, wanted, rows_of, advance)
    casts = [CastCost(t, largest, wide, squares) if not t.scaled else None for t in targets]
    scaled = [
        [ScaledCost(t, s, _grid(t, s, summary, cut.get((t.name, s)), wide), squares, rows_of.channels) for s in schemes]
        for t, schemes in zip(targets, wanted, strict=True)
    ]
    signals = np.zeros(rows_of.channels)
    if summary.counts.finite:
        ways = [s for each in scaled for s in each]
        _look(tensor, summary, SummaryOf(tensor.spec).unit, rows_of, [c for c in casts if c], ways, signals, squares, advance)
    signal = float(signals.sum())
    ways_of = zip(casts, scaled, strict=True)
    costs = [[*([c.result(signal)] if c is not None else []), *(s.result(signals) for s in each)] for c, each in ways_of]
    return costs, squares.in_ones(signal)


def _schemes(target: Target, every: bool, grouped: bool, channels: bool) -> tuple[Scheme, ...]:
    """The ways to be computed. Groups are of neighbours within a channel: only where channels come first."""
    found = all_schemes(target) if every else target.schemes
    return tuple([s for s in found if (grouped or not s.group) and (channels or s.granularity != "channel")])


def _cuts(
    tensor: Tensor, summary: Summary, targets: Sequence[Target], wanted: Sequence[Sequence[Scheme]], rows_of: _Rows, advance: Advance | None
) -> dict[tuple[str, Scheme], NDArray[np.float64]]:
    """The magnitudes to cut at, of ways that cut: one more look at the tensor for those with one scale, and for those of channels."""
    import numpy as np

    unit = SummaryOf(tensor.spec).unit

    def whole() -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        for _, block in blocks(tensor, advance=advance):
            yield block.reshape(1, -1), np.zeros(1, np.intp)

    def channels() -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        for start, block in blocks(tensor, unit, advance):
            yield rows_of.of(start, block)

    found: dict[tuple[str, Scheme], NDArray[np.float64]] = {}
    for granularity, look in (("tensor", whole), ("channel", channels)):
        ways = [(t, s) for t, schemes in zip(targets, wanted, strict=True) for s in schemes if s.range != "minmax"]
        ways = [(t, s) for t, s in ways if s.granularity == granularity]
        if ways and summary.largest:
            low, high = _ends(granularity, summary)
            at = cuts(look, np.maximum(-low, high), [(s.range, t.most) for t, s in ways])
            found |= {(t.name, s): cut for (t, s), cut in zip(ways, at, strict=True)}
    return found


def _ends(granularity: str, summary: Summary) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ranges for the scales of a tensor, or of its channels; they hold zero."""
    import numpy as np

    low, high = (np.array([float(x.value) if x is not None else 0.0]) for x in (summary.minimum, summary.maximum))
    if granularity == "channel":
        assert summary.channels is not None
        low, high = summary.channels.minimum, summary.channels.maximum
    return np.fmin(low, 0), np.fmax(high, 0)


def _grid(target: Target, scheme: Scheme, summary: Summary, cut: NDArray[np.float64] | None, wide: bool) -> ScaledGrid:
    import numpy as np

    low, high = _ends(scheme.granularity, summary)
    if cut is not None:
        low, high = np.maximum(low, -cut), np.minimum(high, cut)
    return ScaledGrid(target, scheme, low, high, np.float64 if wide else np.float32)


def _look(
    tensor: Tensor,
    summary: Summary,
    unit: int,
    rows_of: _Rows,
    casts: Sequence[CastCost],
    scaled: Sequence[ScaledCost],
    signals: NDArray[np.float64],
    squares: Squares,
    advance: Advance | None,
) -> None:
    """The look that the costs need; adds up the squares of each channel in `signals`."""
    import numpy as np

    strange = summary.counts.finite < summary.counts.numbers
    with np.errstate(all="ignore"):
        for start, block in blocks(tensor, unit, advance):
            whole = np.where(np.isfinite(block), block, block.dtype.type(0)) if strange else block
            rows, channel = rows_of.of(start, whole)
            if scaled:
                np.add.at(signals, channel, squares.rows(rows))
                zeros = int(np.count_nonzero(whole == 0)) if strange or summary.counts.zeros else 0
                for each in scaled:
                    each.add(rows, channel, zeros)
            else:
                # Channels are told apart for scaled types alone.
                signals[0] += squares.whole(whole)
            if casts:
                finite = block[np.isfinite(block)] if strange else block
                for begin in range(0, finite.size, _PART):
                    _cast(finite[begin : begin + _PART], casts)


def _cast(part: NDArray[Any], casts: Sequence[CastCost]) -> None:
    magnitude = abs(part)
    least, most = float(magnitude.min()), float(magnitude.max())
    for cast in casts:
        cast.add(part, magnitude, least, most)


def _total(target: Target, tensors: Sequence[TensorAudit], at: int) -> Total:
    noise = signal = 0.0
    nbytes = 0
    counts = {"ok": 0, "per-channel": 0, "keep f32": 0}
    overflow = underflow = subnormal = 0
    for one in tensors:
        judged = one.verdicts[at]
        counts[judged.verdict] += 1
        kept = judged.verdict == "keep f32"
        nbytes += one.spec.nbytes if kept else -(-one.spec.size * target.bits // 8)
        best = judged.best
        if best is not None:
            overflow, underflow, subnormal = overflow + best.overflow, underflow + best.underflow, subnormal + best.subnormal
            if best.snr is not None and best.relative is not None and math.isfinite(one.signal):
                signal += one.signal
                noise += best.relative**2 * one.signal
    snr = 10 * math.log10(signal / noise) if signal and noise else None
    return Total(target.name, overflow, underflow, subnormal, snr, counts["ok"], counts["per-channel"], counts["keep f32"], nbytes)


def dtype_of(target: Target) -> str | None:
    """The name of the element type that a plan gives for a target; None where porter has none."""
    return DTYPES[target.dtype].name if target.dtype is not None and not target.scaled else None
