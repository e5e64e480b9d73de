"""Into float64 and back: `widened` is exact, `rounded` rounds once, to nearest, ties to even.

Both keep NaNs: the payload's upper bits stay in place, as in `porter.io.widening`, so that what is widened and rounded back
has its bits again, signalling NaNs included.

What lies beyond the largest value of a type, after rounding, becomes an infinity where the type has one, else NaN where it
has one (`float8_e4m3fn`, the `fnuz` types, `float8_e8m0fnu`), else the largest value with its sign (the types of 6 and 4
bits). Types without −0 (`fnuz`) take 0 for it. `float8_e8m0fnu` has neither zero nor sign: what is nearer to 0 than its
smallest value becomes that, and negative values NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.dtypes import FLOAT32, DType
from porter.io.float_layouts import FLOAT_LAYOUTS, FloatLayout
from porter.io.widening import small_floats
from porter.mapping.ops.base import OperationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 1 << 15
"""Elements that are rounded together: their intermediate results stay in cache."""

_SIGN = -(1 << 63)
_INFINITY = 0x7FF << 52
_FRACTION = (1 << 52) - 1


@dataclass(frozen=True, slots=True)
class Rounding:
    """How many values rounding changed.

    overflowed: beyond the type's largest value, or NaN in a type that has none. underflowed: not zero, and now zero (or the
    smallest value of a type without zero). inexact: of other bits than before, these included; a NaN whose payload was cut is one.
    """

    overflowed: int = 0
    underflowed: int = 0
    inexact: int = 0

    def __add__(self, other: Rounding) -> Rounding:
        return Rounding(self.overflowed + other.overflowed, self.underflowed + other.underflowed, self.inexact + other.inexact)


def widened(array: NDArray[Any], dtype: DType) -> NDArray[np.float64]:
    """The elements of `array`, which are of type `dtype`, as float64 of the same shape; exact. float64 is given back as it is.

    Raises:
        OperationError: the type is complex, an integer has more than 53 bits, a boolean's byte is neither 0 nor 1.
    """
    import numpy as np

    if dtype.name == "float64":
        return array
    if dtype.kind == "float":
        narrow = array if dtype.name == "float32" else small_floats(array, dtype)
        with np.errstate(invalid="ignore"):  # signalling NaNs, which are put right below
            wide = np.asarray(narrow.astype(np.float64))
        nan = np.isnan(wide)
        if nan.any():
            bits = np.asarray(narrow).view("<u4")[nan].astype(np.uint64)
            sign, payload = bits >> np.uint64(31) << np.uint64(63), (bits & np.uint64(0x7FFFFF)) << np.uint64(29)
            wide.view(np.uint64)[nan] = sign | np.uint64(_INFINITY) | payload
        return wide
    if dtype.kind == "complex":
        raise OperationError("M405", f"there is no arithmetic on {dtype}")
    values = array.view(np.uint8) if dtype.kind == "bool" else array
    if dtype.kind == "bool" and values.size and values.max() > 1:
        raise OperationError("M405", "a boolean is neither 0 nor 1")
    if dtype.bits == 64 and values.size and max(abs(int(values.min())), abs(int(values.max()))) > 1 << 53:
        raise OperationError("M410", f"this holds {dtype} values beyond 2^53, which arithmetic in float64 would round")
    return np.asarray(values.astype(np.float64))


def rounded(values: NDArray[np.float64], dtype: DType) -> tuple[NDArray[Any], Rounding]:
    """`values` as elements of `dtype`, an array of `dtype.numpy()` and the same shape, and what that changed.

    Integers and booleans are for exact values: others are cut to the nearest and counted, NaN becomes 0.

    Raises:
        OperationError: the type is complex.
    """
    import numpy as np

    if dtype.name == "float64":
        return values, Rounding()
    if dtype.kind == "complex":
        raise OperationError("M405", f"there is no arithmetic on {dtype}")
    result = np.empty(values.shape, dtype.numpy())
    flat, out = np.ascontiguousarray(values).reshape(-1), result.reshape(-1)
    total = Rounding()
    for start in range(0, flat.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        if dtype.name == "float32":
            out[block], part = _float32(flat[block])
        elif dtype.kind == "float":
            out[block], part = _small(flat[block], dtype)
        else:
            whole, part = _integers(flat[block], dtype)
            out[block] = whole.view(out.dtype)
        total += part
    return result, total


def _float32(values: NDArray[np.float64]) -> tuple[NDArray[np.float32], Rounding]:
    """By the processor's conversion, which rounds once; NaNs by their bits."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = values.astype("<f4")
        back = result.astype(np.float64)
    if np.array_equal(back, values):
        return result, Rounding()
    nan = np.isnan(values)
    if nan.any():
        bits = values[nan].view(np.int64)
        codes = _nan_codes(bits & ~_SIGN, FLOAT_LAYOUTS["float32"]) | (bits >> 63 & 1) << 31
        result.view("<u4")[nan] = codes.astype("<u4")
        back = widened(result, FLOAT32)
    infinite = np.count_nonzero(np.isinf(back))
    overflowed = infinite and infinite - np.count_nonzero(np.isinf(values))
    return result, Rounding(int(overflowed), int(np.count_nonzero(values) - np.count_nonzero(back)), _changed(back, values))


def _small(values: NDArray[np.float64], dtype: DType) -> tuple[NDArray[Any], Rounding]:
    """A float type of up to 16 bits, by integer arithmetic on the bits of float64: one rounding whatever the type."""
    import numpy as np

    layout = FLOAT_LAYOUTS[dtype.name]
    bits = values.view(np.int64)
    magnitude, negative = bits & ~_SIGN, bits < 0
    code = _nearest(magnitude, layout)
    nan = magnitude > _INFINITY
    beyond = (code > layout.top) & ~nan
    if layout.special == "scale":
        beyond |= negative & (magnitude != 0) & ~nan
        underflowed = (code < 0) & ~beyond
        negative = np.zeros_like(negative)
        code = np.maximum(code, 0)
    else:
        underflowed = (code == 0) & (magnitude != 0)
    code[beyond] = _beyond(layout)
    code[nan] = _nan_codes(magnitude[nan], layout)
    if layout.special == "fnuz":
        negative &= code != 0
    code |= negative.astype(np.int64) << (dtype.bits - 1)
    result = code.astype("<u2" if dtype.bits > 8 else np.uint8).view(dtype.numpy())
    overflowed = beyond & (magnitude != _INFINITY) if layout.special == "ieee" else beyond | nan if layout.special == "finite" else beyond
    changed = _changed(widened(result, dtype), values)
    return result, Rounding(int(np.count_nonzero(overflowed)), int(np.count_nonzero(underflowed)), changed)


def _nearest(magnitude: NDArray[np.int64], layout: FloatLayout) -> NDArray[np.int64]:
    """The codes without sign of the nearest values, as if there were more exponents than the type has: codes above `layout.top`
    are too large. Negative ones, in a type without zero, are too small. `magnitude` are bits of float64 without sign.
    """
    import numpy as np

    stored = magnitude >> 52
    significand = (magnitude & _FRACTION) | (stored > 0).astype(np.int64) << 52
    exponent = stored - 1023 + layout.bias  # as the type stores it
    shift = np.int64(52 - layout.mantissa_bits)
    base = exponent - 1  # the significand's own leading bit adds the one
    if layout.special != "scale":
        # Below the smallest normal value the significand is cut further; beyond 60 bits nothing of it is left.
        shift = np.minimum(shift + np.maximum(1 - exponent, 0), 60)
        base = np.maximum(base, 0)
    code: NDArray[np.int64] = (base << layout.mantissa_bits) + (significand >> shift)
    rest = significand & ((np.int64(1) << shift) - 1)
    half = np.int64(1) << (shift - 1)
    code += (rest > half) | ((rest == half) & (code & 1 == 1))
    return code


def _nan_codes(magnitude: NDArray[np.int64], layout: FloatLayout) -> NDArray[np.int64]:
    """The codes without sign for NaNs: the payload's upper bits where the type has them, else its NaN, or 0 where it has none."""
    import numpy as np

    if layout.special != "ieee":
        return np.full_like(magnitude, 0 if layout.special == "finite" else _beyond(layout))
    payload = (magnitude & _FRACTION) >> (52 - layout.mantissa_bits)
    quiet = 1 << (layout.mantissa_bits - 1)
    return np.where(payload == 0, quiet, payload) | _beyond(layout)


def _beyond(layout: FloatLayout) -> int:
    """The code without sign for what is too large: the infinity, the NaN, or the largest value."""
    return layout.top if layout.special == "finite" else layout.top + 1


def _integers(values: NDArray[np.float64], dtype: DType) -> tuple[NDArray[Any], Rounding]:
    import numpy as np

    bits = 1 if dtype.kind == "bool" else dtype.bits
    low, end = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) if dtype.kind == "int" else (0.0, 2.0**bits)
    largest = np.nextafter(end, 0) if bits > 53 else end - 1
    with np.errstate(invalid="ignore"):  # signalling NaNs
        nearest = np.rint(values)
        inside = (nearest >= low) & (nearest < end)
        cut = np.nan_to_num(np.clip(nearest, low, largest))
    whole = cut.astype(f"<{'i' if dtype.kind == 'int' else 'u'}{dtype.itemsize}")
    underflowed = (whole == 0) & (values != 0) & inside
    return whole, Rounding(int(np.count_nonzero(~inside)), int(np.count_nonzero(underflowed)), int(np.count_nonzero(cut != values)))


def _changed(back: NDArray[np.float64], values: NDArray[np.float64]) -> int:
    """How many of `values` have other bits than what rounding made of them, widened again."""
    import numpy as np

    return int(np.count_nonzero(back.view(np.uint64) != values.view(np.uint64)))
