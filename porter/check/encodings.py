"""Element types as numbers that can be compared: bit codes, float64 values, and places on the line of representable values.

A *code* is an element's bits as an unsigned integer. A *key* is its place on that line, an integer: neighbouring values
of a type have neighbouring keys, both zeros have key 0, and the distance between two keys is the distance in ULP
(units in the last place). Integers are their own keys. Complex elements are two lanes, real and imaginary.

Source: bit layouts of the float types: IEEE 754-2019, 3.4; OCP Microscaling Formats (MX) v1.0, 5.3 (E4M3, E5M2, E3M2, E2M3,
E2M1, E8M0); the `fnuz` types: jax-ml/ml_dtypes README (one NaN at the code of −0, no infinities).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES, DType
from porter.io.float_layouts import holds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.unsignedinteger[Any]]
    Keys = NDArray[np.int64] | NDArray[np.uint64]

COMPONENTS = {"complex32": DTYPES["float16"], "complex64": DTYPES["float32"], "complex128": DTYPES["float64"]}
"""The type of each of the two lanes of a complex type."""


def lane_type(dtype: DType) -> DType:
    """The type of one lane: the component of a complex type, `dtype` itself otherwise."""
    return COMPONENTS.get(dtype.name, dtype)


def codes(data: bytearray | memoryview, dtype: DType, size: int) -> Codes:
    """The codes of `size` elements in canonical bytes: `(size,)`, or `(size, 2)` for complex types."""
    import numpy as np

    if dtype.packed:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: size * dtype.bits]
        return np.packbits(bits.reshape(size, dtype.bits), axis=1, bitorder="little").reshape(size)
    lane = lane_type(dtype)
    flat: Codes = np.frombuffer(data, f"<u{lane.itemsize}", count=size * (dtype.itemsize // lane.itemsize))
    return flat.reshape(size, 2) if lane is not dtype else flat


def values(code: Codes, lane: DType) -> NDArray[np.float64]:
    """The values of `code` as float64: exact for every type but 64-bit integers, which are rounded to nearest."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # signalling NaNs become quiet here; their codes are compared elsewhere
        if lane.name == "bfloat16":
            return (code.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
        if lane.bits <= 8:
            return _small_values(lane)[code]
        return code.view(lane.numpy()).astype(np.float64)


@cache
def _small_values(lane: DType) -> NDArray[np.float64]:
    """The value of every code of a type of at most 8 bits."""
    import numpy as np

    every = np.arange(1 << lane.bits, dtype=np.uint8)
    if lane.kind in ("uint", "bool"):  # a bool's byte may hold more than 0 and 1
        return every.astype(np.float64)
    if lane.kind == "int":
        return _signed(every, lane).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return every.view(lane.numpy()).astype(np.float64)


def keys(code: Codes, lane: DType) -> Keys:
    """The keys of `code`: int64, or uint64 for `uint64`. Meaningless for NaN."""
    import numpy as np

    if lane.name == "uint64":
        return code.astype(np.uint64, copy=False)
    if lane.kind in ("uint", "bool") or lane.name == "float8_e8m0fnu":  # e8m0 has neither sign nor zero
        return code.astype(np.int64)
    if lane.kind == "int":
        return _signed(code, lane).astype(np.int64)
    if lane.bits % 8:
        negative = code & np.uint8(1 << lane.bits - 1) != 0
        magnitude = (code & np.uint8((1 << lane.bits - 1) - 1)).astype(np.int64)
        return np.where(negative, -magnitude, magnitude)
    bits = code.view(f"<i{lane.itemsize}")
    minus = bits >> (lane.bits - 1)  # all ones where the sign is set
    signed: NDArray[np.signedinteger[Any]] = ((bits & np.iinfo(bits.dtype).max) ^ minus) - minus
    return signed.astype(np.int64, copy=False)


def recode(value: NDArray[np.float64], lane: DType) -> Codes:
    """The codes of float type `lane` for values that it holds; every NaN gets the same one."""
    import numpy as np

    exact = np.where(np.isnan(value), np.nan, value).astype(lane.numpy())
    recoded: Codes = exact.view(f"<u{lane.itemsize}")
    return recoded


def _signed(code: Codes, lane: DType) -> NDArray[np.signedinteger[Any]]:

    signed: NDArray[np.signedinteger[Any]] = code.view(f"<i{lane.itemsize}")
    gap = 8 * lane.itemsize - lane.bits
    return signed << gap >> gap if gap else signed


def distance(a: Keys, b: Keys) -> NDArray[np.uint64]:
    """`|a − b|`, exact below 2⁶⁴ and 2⁶⁴−1 above."""
    import numpy as np

    if a.dtype == b.dtype:
        high, low = np.maximum(a, b), np.minimum(a, b)
        return high.view(np.uint64) - low.view(np.uint64)  # wraps to the true distance
    signed, unsigned = (a, b) if a.dtype == np.int64 else (b, a)
    high = unsigned.view(np.uint64)
    up = np.maximum(signed, 0).view(np.uint64)
    down = np.maximum(up, high) - np.minimum(up, high)
    below = high + (-np.minimum(signed, 0)).view(np.uint64)
    below[below < high] = np.uint64(2**64 - 1)
    return np.where(signed < 0, below, down)


def common_type(a: DType, b: DType) -> DType | None:
    """The narrowest type that holds every value of both, float64 for 64-bit integers beside floats; None if neither does.

    `int64` beside `uint64` has none, and needs none: their keys compare as they are.
    """
    if "complex" in (a.kind, b.kind):
        part = common_type(lane_type(a), lane_type(b))
        wide = next((c for c, lane in COMPONENTS.items() if part is not None and lane.name == part.name), "complex128")
        return DTYPES[wide]
    if a.kind != "float" and b.kind != "float":
        return next((DTYPES[n] for n in _INTEGERS if _holds_integer(DTYPES[n], a) and _holds_integer(DTYPES[n], b)), None)
    return next((d for d in (*(x for x in (a, b) if x.kind == "float"), *_FLOATS) if holds(d, a) and holds(d, b)), DTYPES["float64"])


_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_FLOATS = (DTYPES["float32"], DTYPES["float64"])


def _holds_integer(wide: DType, narrow: DType) -> bool:
    if wide.kind == "int":
        return narrow.bits < wide.bits or (narrow.kind == "int" and narrow.bits == wide.bits)
    return narrow.kind != "int" and narrow.bits <= wide.bits
