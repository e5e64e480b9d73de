"""Weights as quantised tensors: which of a store's, with what scales, and what that costs. Codes are computed when they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.precision.ranges import cuts
from porter.check.precision.scales import scale_of, zero_of
from porter.check.statistics.channels import channel_axis
from porter.check.statistics.kinds import kind_of
from porter.check.statistics.reading import Advance
from porter.dataclass import dataclass
from porter.dtypes import FLOAT32
from porter.errors import UsageError, did_you_mean
from porter.mapping.ops.rounding import widened
from porter.quantisation.arithmetic import FLOATS, decoded, encoded
from porter.quantisation.description import ATTRIBUTE
from porter.quantisation.layout import Layout
from porter.quantisation.ways import Way
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What quantisation changed.

    snr: of the numbers to the errors, in dB; None where nothing changed, or all is zero. worst: the largest error, in steps of the scale
    that it belongs to (in parts of the largest number for grids that are not even). clipped: numbers beyond the range. zeros: numbers
    that were not zero, and are now.
    """

    snr: float | None
    worst: float
    clipped: int
    zeros: int


class Quantised:
    """A tensor with its scales; codes are computed by `slabs`, and what they cost is known after.

    Attributes:
        tensor: of numbers, as it was.
        way: how it is quantised.
        layout: how scales lie.
        scale: float32 of the layout's shape.
        zero: int64 of the same, None for symmetric ranges.
        assumed: the file does not say which axis counts channels.
    """

    def __init__(
        self, tensor: Tensor, way: Way, layout: Layout, scale: NDArray[np.float32], zero: NDArray[np.int64] | None, assumed: bool
    ) -> None:
        self.tensor = tensor
        self.way = way
        self.layout = layout
        self.scale = scale
        self.zero = zero
        self.assumed = assumed
        self._fidelity: Fidelity | None = None

    def slabs(self) -> Iterator[NDArray[Any]]:
        """The codes in C order, flat, piece by piece. Reads the tensor."""
        sums = _Sums(self.way)
        kind, wide = self.way.type, self.tensor.dtype.bits > 32
        for rows, x in _numbers(self.tensor, self.layout):
            scale = self.layout.spread(self.scale, rows)
            zero = self.layout.spread(self.zero, rows) if self.zero is not None else None
            codes = encoded(x, kind, scale, zero, wide=wide)
            sums.add(x, codes, scale, zero)
            yield self.layout.flat(codes, rows)
        self._fidelity = sums.result()

    @property
    def fidelity(self) -> Fidelity:
        """What it costs. Reads the tensor, unless its codes were read before."""
        if self._fidelity is None:
            for _ in self.slabs():
                pass
        assert self._fidelity is not None
        return self._fidelity

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points, these of a byte each."""
        return self.way.type.dtype.nbytes(self.tensor.size) + self.scale.nbytes + (self.zero.size if self.zero is not None else 0)


class _Sums:
    """Adds up what quantisation changes."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._signal = self._noise = self._worst = 0.0
        self._clipped = self._zeros = 0

    def add(self, x: NDArray[np.float64], codes: NDArray[Any], scale: NDArray[np.float32], zero: NDArray[np.int64] | None) -> None:
        import numpy as np

        kind = self._way.type
        back = decoded(codes, kind.dtype, scale, zero, kind.name == "nf4").astype(np.float64)
        error = np.abs(x - back)
        step = scale.astype(np.float64) * (1 if kind.integers else kind.top)
        with np.errstate(over="ignore"):
            self._signal += float(np.vdot(x, x))
            self._noise += float(np.vdot(error, error))
        self._worst = max(self._worst, float((error / step).max(initial=0)))
        self._zeros += int(np.count_nonzero((back == 0) & (x != 0)))
        if self._way.scheme.range != "minmax":
            low, high = (-kind.top, kind.top) if zero is None else (-kind.top - 1 - zero, kind.top - zero)
            self._clipped += int(np.count_nonzero((x < (low - 0.5) * step) | (x > (high + 0.5) * step)))

    def result(self) -> Fidelity:
        snr = 10 * math.log10(self._signal / self._noise) if self._signal and self._noise else None
        return Fidelity(snr, self._worst, self._clipped, self._zeros)


def _numbers(tensor: Tensor, layout: Layout) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Slabs of `tensor` as float64, shaped as the layout has them."""
    flat = tensor.numpy().reshape(-1)
    for rows, where in layout.slabs():
        yield rows, layout.shaped(widened(flat[where], tensor.dtype))


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor that stays as it is, and why."""

    spec: TensorSpec
    reason: str


def choose(store: TensorStore, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> dict[str, str | None]:
    """For each tensor None where it is to be quantised, else why not. Patterns are of whole names: `*` any text, `?` a character.

    Raises:
        UsageError: a pattern matches nothing.
    """
    from fnmatch import fnmatchcase

    for pattern in (*only, *exclude):
        if not any(fnmatchcase(name, pattern) for name in store):
            hint = did_you_mean(pattern, store) or "'*' stands for any text: '*.weight'"
            raise UsageError("U823", f"no tensor is called '{pattern}'", hint=hint)
    found: dict[str, str | None] = {}
    parts = _parts(store)
    for name, tensor in store.items():
        reason = parts.get(name) or _unfit(tensor.spec)
        if reason is None and only and not any(fnmatchcase(name, p) for p in only):
            reason = "not asked for"
        if reason is None and any(fnmatchcase(name, p) for p in exclude):
            reason = "excluded"
        found[name] = reason
    return found


def _parts(store: TensorStore) -> dict[str, str]:
    """What is part of a tensor that is quantised already."""
    found: dict[str, str] = {}
    for name, tensor in store.items():
        said = tensor.attributes.get(ATTRIBUTE)
        if said is not None:
            found[name] = "quantised already"
        if isinstance(said, dict):
            found |= {
                part: "scales of what is quantised already" for key in ("scale", "zero_point") if isinstance(part := said.get(key), str)
            }
    return found


def _unfit(spec: TensorSpec) -> str | None:
    kind = kind_of(spec)
    if spec.dtype.name not in FLOATS:
        return f"{spec.dtype}, no floats of at least 16 bits" if spec.dtype.kind == "float" else f"{spec.dtype}"
    if kind != "parameter":
        return kind
    if len(spec.shape) < 2:
        return "fewer than two axes"
    if not spec.size:
        return "empty"
    last = spec.name.replace("/", ".").rpartition(".")[2]
    return "bias" if "bias" in (spec.role, last) else None


def quantise(tensor: Tensor, way: Way, *, axis: int | None = None, advance: Advance | None = None) -> Quantised | Kept:
    """`tensor`, which is of floats and not empty, with scales, or why it cannot be quantised. Reads it once or twice.

    axis: of its channels, where that is known better than by the tensor itself.
    """
    import numpy as np

    at = channel_axis(tensor.spec)
    assumed = axis is None and (at is None or at.assumed)
    where = axis if axis is not None else (at.axis if at is not None else 0)
    scheme = way.scheme
    if scheme.granularity == "group" and where and len(tensor.shape) != 2:
        return Kept(tensor.spec, "groups run within a channel, and channels do not come first")
    layout = Layout(tensor.shape, scheme.granularity, where if scheme.granularity != "tensor" else 0, scheme.group)
    found = _ranges(tensor, layout, advance)
    if found is None:
        return Kept(tensor.spec, "NaN or infinity among its values")
    low, high = found
    if scheme.range != "minmax":
        cut = _cuts(tensor, layout, np.maximum(-low, high), way)
        low, high = np.maximum(low, -cut), np.minimum(high, cut)
    scale = scale_of(low, high, way.type.top, scheme.symmetric)
    if not np.isfinite(scale).all():
        return Kept(tensor.spec, "too large for scales of float32")
    zero = None if scheme.symmetric else zero_of(low, scale, way.type.top)
    if _overflows(tensor, way, (low, high), scale, zero):
        return Kept(tensor.spec, "its largest numbers would come back as infinity")
    return Quantised(tensor, way, layout, scale, zero, assumed and scheme.granularity != "tensor")


def _ranges(tensor: Tensor, layout: Layout, advance: Advance | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The smallest and largest number for each scale, zero among them; None where some are not finite."""
    import numpy as np

    low, high = np.zeros(layout.scales), np.zeros(layout.scales)
    for rows, x in _numbers(tensor, layout):
        with np.errstate(invalid="ignore"):
            least, most = x.min(axis=layout.over(), initial=0), x.max(axis=layout.over(), initial=0)
        if not (np.isfinite(least).all() and np.isfinite(most).all()):
            return None
        where = _places(layout, rows)
        low[where], high[where] = np.minimum(low[where], least), np.maximum(high[where], most)
        if advance is not None:
            advance(tensor.dtype.nbytes(x.size))
    return low, high


def _overflows(
    tensor: Tensor, way: Way, ends: tuple[NDArray[np.float64], ...], scale: NDArray[np.float32], zero: NDArray[np.int64] | None
) -> bool:
    """Whether an end of a range, up to half a step further out than it was, is beyond float32, or beyond the type of the numbers."""
    import numpy as np

    kind = way.type
    codes = [encoded(end, kind, scale, zero) for end in ends]
    back = [decoded(each, kind.dtype, scale, zero, kind.name == "nf4", to) for each in codes for to in {FLOAT32, tensor.dtype}]
    return not all(np.isfinite(each).all() for each in back)


def _places(layout: Layout, rows: slice) -> Any:
    """Which scales are those of a slab."""
    if layout.granularity == "tensor" or (layout.granularity == "channel" and layout.axis):
        return ...
    if layout.granularity == "group" and layout.axis:
        return slice(rows.start // layout.group, -(-rows.stop // layout.group))
    return rows


def _cuts(tensor: Tensor, layout: Layout, largest: NDArray[np.float64], way: Way) -> NDArray[np.float64]:
    """The magnitude to cut at, for each scale of a tensor or of its channels."""
    import numpy as np

    def look() -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        for rows, x in _numbers(tensor, layout):
            if layout.granularity == "tensor":
                yield x.reshape(1, -1), np.zeros(1, np.intp)
            else:
                channels = np.moveaxis(x, layout.axis, 0).reshape(x.shape[layout.axis], -1)
                yield channels, np.arange(channels.shape[0]) + (rows.start if layout.axis == 0 else 0)

    (cut,) = cuts(look, largest.reshape(-1), [(way.scheme.range, int(way.type.top))])
    return cut.reshape(largest.shape)
