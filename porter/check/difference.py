"""How far two tensors are apart, streamed block by block: the numbers behind `porter diff`.

Formulas, with every value taken to float64 first (integers are subtracted exactly):

- Δ is `|a − b|`, for complex types the magnitude of the difference.
- An element passes `atol` and `rtol` when `Δ <= atol + rtol · |b|`, one not given counting as 0.
- An element passes `ulp` when the distance of the two on the line of the type's representable values is at most `ulp`; for
  integers that is Δ, for complex types the larger distance of the two components. Both zeros are one place on that line.
- An element passes when its bits are equal, or when it passes either of the two that were given.
- NaN and Inf pass only where the bits are equal, and take no part in the largest Δ, the largest distance and the cosine.
- The cosine is `Σ ab / √(Σ a² · Σ b²)`, over both components of complex types; None where one side is all zeros.

Types that differ are compared as `encodings.common_type` of both, which holds the values of either. There NaN equals NaN,
since payloads of two types cannot be compared, and −0 still differs from +0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from porter.check.encodings import codes, common_type, distance, keys, lane_type, recode, values
from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from porter.check.encodings import Codes

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

BLOCK = 1 << 16
"""Elements of one block: a few MiB of temporaries, whatever the tensor's size."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far elements may be apart; all None asks for equal bits. The formulas are `porter.check.difference`'s."""

    rtol: float | None = None
    atol: float | None = None
    ulp: int | None = None

    @property
    def exact(self) -> bool:
        """Whether only equal bits pass."""
        return self.rtol is None and self.atol is None and self.ulp is None


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its value in the fewest digits that give it back, and its bits in hex (both parts of complex types)."""

    value: str
    bits: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What lies between two tensors of equal size.

    differing: elements whose bits differ; `beyond` those of them that the tolerance does not allow.
    max_abs: the largest Δ of finite elements, an int where both types are integers.
    max_ulp: the largest distance of finite elements, in units in the last place.
    needs_atol, needs_rtol, needs_ulp: the smallest `atol` (with `rtol` 0), `rtol` (with `atol` 0) and `ulp` under which all
        elements would pass; None where none would do. Rounded to fewer digits they must be rounded up.
    one_nan: elements that are NaN on one side. nan_bits: NaN on both, with other bits (payload or sign).
    infinite: elements of which one or both are infinite, and differ. signed_zeros: −0 on one side, +0 on the other.
    first: flat index of the first element that is beyond the tolerance or, where none is, the first that differs.
    """

    differing: int
    beyond: int
    max_abs: float | int
    max_ulp: int
    cosine: float | None
    needs_atol: float | None
    needs_rtol: float | None
    needs_ulp: int | None
    one_nan: int
    nan_bits: int
    infinite: int
    signed_zeros: int
    first: int
    first_a: Element
    first_b: Element


def measure(a: Tensor, b: Tensor, tolerance: Tolerance, advance: Callable[[int], None] | None = None) -> Difference | None:
    """What lies between `a` and `b`, of equal size; None if every element is equal. Streams both.

    `advance` is told the bytes read from both sides.
    """
    total = _Total(tolerance, a.dtype, b.dtype)
    left, right = _Blocks(a), _Blocks(b)
    for start in range(0, a.size, BLOCK):
        count = min(BLOCK, a.size - start)
        raw_a, raw_b = left.take(count), right.take(count)
        total.add(start, count, raw_a, raw_b)
        if advance is not None:
            advance(len(raw_a) + len(raw_b))
    return total.result()


class _Blocks:
    """The canonical bytes of a tensor, a given number of elements at a time."""

    def __init__(self, tensor: Tensor) -> None:
        self._dtype = tensor.dtype
        self._chunks: Iterator[memoryview] = tensor.chunks()
        self._rest = memoryview(b"")

    def take(self, count: int) -> bytearray:
        wanted = self._dtype.nbytes(count)
        out = bytearray()
        while len(out) < wanted:
            if not self._rest.nbytes:
                self._rest = next(self._chunks)
            part = self._rest[: wanted - len(out)]
            out += part
            self._rest = self._rest[part.nbytes :]
        return out


class _Total:
    """Sums and maxima over the blocks."""

    def __init__(self, tolerance: Tolerance, a: DType, b: DType) -> None:
        self.tolerance = tolerance
        self.types = a, b
        self.common = a if a == b else common_type(a, b)
        self.integers = all(t.kind in ("int", "uint", "bool") for t in (a, b))
        self.cosine = _Cosine(any(lane_type(t).bits == 64 and t.kind in ("float", "complex") for t in (a, b)))
        self.differing = self.beyond = self.max_ulp = 0
        self.one_nan = self.nan_bits = self.infinite = self.signed_zeros = 0
        self.max_abs: float | int = 0 if self.integers else 0.0
        self.needs_atol = 0.0
        self.needs_rtol: float | None = 0.0
        self.first: tuple[int, Element, Element] | None = None
        self.first_beyond: tuple[int, Element, Element] | None = None

    def add(self, start: int, count: int, raw_a: bytearray, raw_b: bytearray) -> None:
        import numpy as np

        same_type = self.types[0] == self.types[1]
        codes_a = codes(raw_a, self.types[0], count)
        values_a = values(codes_a, lane_type(self.types[0]))
        if same_type and raw_a == raw_b:
            self.cosine.add(values_a, values_a)
            return
        codes_b = codes(raw_b, self.types[1], count)
        values_b = values(codes_b, lane_type(self.types[1]))
        if values_a.ndim != values_b.ndim:
            values_a, values_b = _with_lanes(values_a), _with_lanes(values_b)
        self.cosine.add(values_a, values_b)
        if same_type:
            unequal = codes_a != codes_b
        elif self.integers:
            unequal = distance(keys(codes_a, self.types[0]), keys(codes_b, self.types[1])) != 0
        else:
            same = _all_lanes(_same_value(values_a, values_b))
            unequal = ~same | _inexact(codes_a, self.types[0]) | _inexact(codes_b, self.types[1])
        at = np.flatnonzero(_any_lane(unequal))
        if at.size:
            here = slice(None) if at.size == count else at
            self._differences(start, at, codes_a[here], codes_b[here], values_a[here], values_b[here])

    def _differences(self, start: int, at: NDArray[np.intp], ca: Codes, cb: Codes, va: Floats, vb: Floats) -> None:
        import numpy as np

        nan_a, nan_b = _any_lane(np.isnan(va)), _any_lane(np.isnan(vb))
        finite = _all_lanes(np.isfinite(va) & np.isfinite(vb))
        steps = self._steps(ca, cb, va, vb)
        delta = _magnitude(va, vb)
        if self.integers:
            delta = _upwards(steps)
            self.max_abs = max(self.max_abs, int(steps.max()))
        else:
            # An integer that float64 cannot hold is at least this far from what a float beside it can be.
            doubt = _inexact(ca, self.types[0]) | _inexact(cb, self.types[1])
            if doubt.any():
                delta = np.where(doubt, np.maximum(delta, np.spacing(np.maximum(_size(va), _size(vb)))), delta)
                steps = np.where(doubt, np.maximum(steps, np.uint64(1)), steps)
            self.max_abs = max(self.max_abs, float(delta[finite].max(initial=0.0)))
        passes = self._passes(finite, delta, steps, _size(vb))
        self.differing += at.size
        self.beyond += int(np.count_nonzero(~passes))
        self.max_ulp = max(self.max_ulp, int(steps[finite].max(initial=np.uint64(0))))
        self.one_nan += int(np.count_nonzero(nan_a != nan_b))
        self.nan_bits += int(np.count_nonzero(nan_a & nan_b))
        self.infinite += int(np.count_nonzero(~finite & ~nan_a & ~nan_b))
        self.signed_zeros += int(np.count_nonzero(finite & (delta == 0)))
        self.needs_atol = max(self.needs_atol, float(delta[finite].max(initial=0.0)))
        self._relative(delta[finite], _size(vb)[finite])
        self._remember(start, at, ca, cb, passes)

    def _steps(self, ca: Codes, cb: Codes, va: Floats, vb: Floats) -> NDArray[np.uint64]:
        """Distances of the keys; of the larger component for complex types."""
        a, b = self.types
        if a != b and not self.integers:
            assert self.common is not None  # only a pair of integer types has none
            a = b = self.common
            ca, cb = recode(va, lane_type(a)), recode(vb, lane_type(a))
        steps = distance(keys(ca, lane_type(a)), keys(cb, lane_type(b)))
        return steps if steps.ndim == 1 else steps.max(axis=1)

    def _passes(self, finite: Mask, delta: Floats, steps: NDArray[np.uint64], size_b: Floats) -> Mask:
        import numpy as np

        passes: Mask = np.zeros(finite.shape, np.bool_)
        t = self.tolerance
        if t.atol is not None or t.rtol is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                passes |= delta <= (t.atol or 0.0) + (t.rtol or 0.0) * size_b
        if t.ulp is not None:
            passes |= steps <= np.uint64(min(t.ulp, 2**64 - 1))
        return passes & finite

    def _relative(self, delta: Floats, size_b: Floats) -> None:
        import numpy as np

        if self.needs_rtol is None or not delta.size:
            return
        with np.errstate(all="ignore"):
            ratio = delta / size_b
            most = max(self.needs_rtol, float(np.nanmax(ratio, initial=0.0)))  # 0/0: two zeros, which need nothing
            for _ in range(4):  # rounding of quotient and product may leave it an instant too small
                if not math.isfinite(most) or (most * size_b >= delta).all():
                    break
                most = math.nextafter(most, math.inf)
            else:  # products that vanish below the smallest float64
                most = math.inf
        self.needs_rtol = most if math.isfinite(most) else None

    def _remember(self, start: int, at: NDArray[np.intp], ca: Codes, cb: Codes, passes: Mask) -> None:
        def found(i: int) -> tuple[int, Element, Element]:
            return start + int(at[i]), element(ca[i : i + 1], self.types[0]), element(cb[i : i + 1], self.types[1])

        if self.first is None:
            self.first = found(0)
        if self.first_beyond is None and not passes.all():
            self.first_beyond = found(int(passes.argmin()))

    def result(self) -> Difference | None:
        first = self.first_beyond or self.first
        if first is None:
            return None
        possible = not (self.one_nan or self.nan_bits or self.infinite)
        return Difference(
            differing=self.differing,
            beyond=self.beyond,
            max_abs=self.max_abs,
            max_ulp=self.max_ulp,
            cosine=self.cosine.result(),
            needs_atol=self.needs_atol if possible and math.isfinite(self.needs_atol) else None,
            needs_rtol=self.needs_rtol if possible else None,
            needs_ulp=self.max_ulp if possible else None,
            one_nan=self.one_nan,
            nan_bits=self.nan_bits,
            infinite=self.infinite,
            signed_zeros=self.signed_zeros,
            first=first[0],
            first_a=first[1],
            first_b=first[2],
        )


class _Cosine:
    """The three sums, each kept with a power of two so that float64 values of any size neither overflow nor vanish."""

    def __init__(self, scaled: bool) -> None:
        self.scaled = scaled
        self.exponents = [0, 0]
        self.ab = self.aa = self.bb = 0.0

    def add(self, a: Floats, b: Floats) -> None:
        import numpy as np

        same, a, b = a is b, a.reshape(-1), b.reshape(-1)
        finite = np.isfinite(a) if same else np.isfinite(a) & np.isfinite(b)
        if not finite.all():
            a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        if self.scaled:
            a, b = self._scale(0, a), self._scale(1, b)
        aa = _dot(a, a)
        self.aa += aa
        self.bb += aa if same else _dot(b, b)
        self.ab += aa if same and self.exponents[0] == self.exponents[1] else _dot(a, b)

    def _scale(self, side: int, x: Floats) -> Floats:
        """`x` over the side's power of two, which grows to the largest value seen; what was summed is brought along."""
        import numpy as np

        top = float(np.abs(x).max(initial=0.0))
        if not top:
            return x
        exponent = math.frexp(top)[1]
        empty = not (self.bb if side else self.aa)
        if empty or exponent > self.exponents[side]:
            shift = 0 if empty else self.exponents[side] - exponent
            self.ab = math.ldexp(self.ab, shift)
            if side:
                self.bb = math.ldexp(self.bb, 2 * shift)
            else:
                self.aa = math.ldexp(self.aa, 2 * shift)
            self.exponents[side] = exponent
        return np.ldexp(x, -self.exponents[side])

    def result(self) -> float | None:
        if not self.aa or not self.bb:
            return None
        return max(-1.0, min(1.0, self.ab / math.sqrt(self.aa) / math.sqrt(self.bb)))


def _dot(a: Floats, b: Floats) -> float:
    """Σ ab, without BLAS: its threads wait for each other where others compute as well."""
    import numpy as np

    return float(np.einsum("i,i->", a, b))


def element(code: Codes, dtype: DType) -> Element:
    """The one element whose code is `code`, shape `(1,)` or `(1, 2)`."""
    lane = lane_type(dtype)
    digits = (lane.bits + 3) // 4
    parts = [_text(code.reshape(-1)[i : i + 1], lane) for i in range(code.size)]
    bits = " ".join(f"0x{int(c):0{digits}x}" for c in code.reshape(-1))
    if len(parts) == 1:
        return Element(parts[0], bits)
    imaginary = parts[1] if parts[1][0] == "-" else "+" + parts[1]
    return Element(f"{parts[0]}{imaginary}j", bits)


def _text(code: Codes, lane: DType) -> str:
    import numpy as np

    if lane.name == "bool":
        return {0: "false", 1: "true"}.get(int(code[0]), str(int(code[0])))
    if lane.kind != "float":
        return str(int(keys(code, lane)[0]))
    with np.errstate(all="ignore"):
        return str(code.view(lane.numpy())[0])


def _same_value(a: Floats, b: Floats) -> Mask:
    import numpy as np

    same: Mask = (a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))
    return same


def _inexact(code: Codes, dtype: DType) -> Mask:
    """Where a 64-bit integer is none that float64 holds; nowhere for other types. Shape `(n,)`."""
    import numpy as np

    if dtype.name not in ("int64", "uint64"):
        return np.zeros(len(code), np.bool_)
    grain = np.spacing(np.abs(values(code, dtype)))
    fraction: Mask = (code & (np.maximum(grain, 1.0).astype(np.uint64) - np.uint64(1))) != 0
    return fraction


def _with_lanes(x: Floats) -> Floats:
    """Real values as complex ones."""
    import numpy as np

    return x if x.ndim == 2 else np.stack((x, np.zeros_like(x)), axis=1)


def _magnitude(a: Floats, b: Floats) -> Floats:
    import numpy as np

    with np.errstate(all="ignore"):
        return _size(np.subtract(a, b))


def _size(x: Floats) -> Floats:
    import numpy as np

    with np.errstate(all="ignore"):
        size: Floats = np.abs(x) if x.ndim == 1 else np.hypot(x[:, 0], x[:, 1])
    return size


def _upwards(steps: NDArray[np.uint64]) -> Floats:
    """Integers as float64, rounded up where they do not fit."""
    import numpy as np

    rounded = steps.astype(np.float64)
    return np.where(steps > np.uint64(1 << 53), np.nextafter(rounded, np.inf), rounded)


def _any_lane(mask: Any) -> Mask:
    flat: Mask = mask if mask.ndim == 1 else mask.any(axis=1)
    return flat


def _all_lanes(mask: Any) -> Mask:
    flat: Mask = mask if mask.ndim == 1 else mask.all(axis=1)
    return flat
