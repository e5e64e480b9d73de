"""Exact ways from a tensor's own type to the type that a `.wts` file stores, and back.

Floats are widened bit by bit, so that NaN payloads survive both ways; integers go by value. Nothing here rounds unless
it says so: `inexact` counts what `store` would change.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.formats.wts.encode import whole_elements
from porter.tensor import Tensor, canonical_bytes, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

_QUIET = np.uint32(0x7FC00000)


@dataclass(frozen=True, slots=True)
class Cast:
    """From canonical bytes of `source` to those of `stored` (float32 or int32), and back."""

    source: DType
    stored: DType

    def stored_chunks(self, tensor: Tensor) -> Iterator[memoryview]:
        """The stored bytes of all of `tensor`."""
        left = self.stored.nbytes(tensor.size)
        for chunk in whole_elements(tensor.chunks(), self.unit):
            stored = self.store(chunk)[:left]  # the last byte of packed elements may have room for more
            left -= stored.nbytes
            yield stored

    @property
    def unit(self) -> int:
        """Bytes that whole elements take: three for four elements of six bits, one for narrower ones."""
        return 3 if self.source.bits == 6 else self.source.itemsize

    def store(self, data: memoryview) -> memoryview:
        """The stored bytes of whole elements; values that do not fit are rounded."""
        if self.source == self.stored:
            return data
        values = self._values(data)
        if self.stored.kind != "float":
            return canonical_bytes(values.astype(self.stored.numpy()), self.stored)
        if self.source.kind == "float":
            return _bytes(_widen(values, self.source))
        return canonical_bytes(values.astype("<f4"), self.stored)

    def inexact(self, data: memoryview) -> tuple[int, float]:
        """How many of these elements `store` changes, and by how much at most."""
        values = self._values(data)
        stored = np.frombuffer(self.store(data), self.stored.numpy())
        if self.source.name == "float64":
            changed = _float64_bits(stored) != values.view("<u8")
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.abs(stored.astype("<f8") - values)[changed]
            error = error[~np.isnan(error)]
        else:
            whole = stored.astype("<f8")
            # Converting a float beyond the type's range back is undefined; no such value is exact.
            low, high = _range(self.source)
            inside = (whole >= low) & (whole < high)
            back = np.where(inside, whole, 0).astype(self.source.numpy())
            changed = ~inside | (back != values)
            error = np.abs(whole[changed] - values[changed].astype("<f8"))
        return int(np.count_nonzero(changed)), float(error.max(initial=0.0))

    def restore(self, data: memoryview) -> memoryview | None:
        """The source's bytes of these stored bytes, or None if a value is none of the source's."""
        stored = np.frombuffer(data, self.stored.numpy())
        if self.source.kind == "float":
            return _narrow(stored, self.source)
        values = stored.astype("<f8")
        low, high = _range(self.source)
        with np.errstate(invalid="ignore"):
            if not np.all((values >= low) & (values < high) & (np.floor(values) == values)):
                return None
        if self.source.name == "bool":
            return _bytes(values.astype(np.uint8))
        return canonical_bytes(values.astype(self.source.numpy()), self.source)

    def _values(self, data: memoryview) -> NDArray[Any]:
        if self.source.packed:
            return unpack(data, self.source, data.nbytes * 8 // self.source.bits)
        # A boolean is a byte, and stays the byte it is even where that is neither 0 nor 1.
        return np.frombuffer(data, np.uint8 if self.source.name == "bool" else self.source.numpy())


def _bytes(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _range(dtype: DType) -> tuple[float, float]:
    if dtype.name == "bool":
        return 0.0, 256.0
    if dtype.kind == "int":
        return -(2.0 ** (dtype.bits - 1)), 2.0 ** (dtype.bits - 1)
    return 0.0, 2.0**dtype.bits


def _widen(values: NDArray[Any], dtype: DType) -> NDArray[np.uint32]:
    """float32 bits of floats of another type; float64 is rounded."""
    if dtype.name == "bfloat16":
        return values.view("<u2").astype("<u4") << np.uint32(16)
    if dtype.name == "float64":
        return _round_float64(values)
    if dtype.name == "float16":
        codes = values.view("<u2")
        widened = values.astype("<f4").view("<u4")
        # The processor's own conversion sets the quiet bit of NaNs.
        nan = (codes & np.uint16(0x7FFF)) > 0x7C00
        if nan.any():
            odd = codes[nan].astype("<u4")
            widened[nan] = (odd & np.uint32(0x8000)) << np.uint32(16) | np.uint32(0x7F800000) | (odd & np.uint32(0x3FF)) << np.uint32(13)
        return widened
    bits: NDArray[np.uint32] = _table(dtype)[values.view(np.uint8) & np.uint8((1 << dtype.bits) - 1)]
    return bits


def _narrow(stored: NDArray[np.float32], dtype: DType) -> memoryview | None:
    bits = stored.view("<u4")
    if dtype.name == "bfloat16":
        return None if np.any(bits & np.uint32(0xFFFF)) else _bytes((bits >> np.uint32(16)).astype("<u2"))
    if dtype.name == "float64":
        return _bytes(_float64_bits(stored))
    if dtype.name == "float16":
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            codes = stored.astype("<f2").view("<u2")
        nan = (bits & np.uint32(0x7FFFFFFF)) > 0x7F800000
        odd = bits[nan]
        codes[nan] = odd >> np.uint32(16) & np.uint32(0x8000) | np.uint32(0x7C00) | odd >> np.uint32(13) & np.uint32(0x3FF)
        return _bytes(codes) if np.array_equal(_widen(codes.view("<f2"), dtype), bits) else None
    table = _table(dtype)
    order = np.argsort(table)
    found = order[np.minimum(np.searchsorted(table, bits, sorter=order), table.size - 1)].astype(np.uint8)
    if not np.array_equal(table[found], bits):
        return None
    return canonical_bytes(found.view(dtype.numpy()), dtype)


@cache
def _table(dtype: DType) -> NDArray[np.uint32]:
    """float32 bits of every code of a float of 8 bits or fewer; NaNs keep their sign and mantissa, so all differ."""
    codes = np.arange(1 << dtype.bits, dtype=np.uint8)
    values = codes.view(dtype.numpy()).astype("<f4")
    bits = values.view("<u4").copy()
    for code in np.flatnonzero(np.isnan(values)):
        mantissa = int(code) & {"float8_e4m3fn": 7, "float8_e5m2": 3}.get(dtype.name, 0)
        sign = int(code) >> 7 if mantissa else 0
        shift = 20 if dtype.name == "float8_e4m3fn" else 21
        bits[code] = sign << 31 | 0x7F800000 | mantissa << shift if mantissa else _QUIET
    return bits


def _round_float64(values: NDArray[np.float64]) -> NDArray[np.uint32]:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        bits = values.astype("<f4").view("<u4")
    nan = np.isnan(values)
    if nan.any():
        wide = values[nan].view("<u8")
        upper = (wide >> np.uint64(29) & np.uint64(0x7FFFFF)).astype("<u4")
        sign = (wide >> np.uint64(63)).astype("<u4") << np.uint32(31)
        # A payload that lies in the lower bits alone would leave an infinity.
        bits[nan] = sign | np.where(upper, np.uint32(0x7F800000) | upper, _QUIET)
    return bits


def _float64_bits(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    with np.errstate(invalid="ignore"):
        wide = values.astype("<f8").view("<u8")
    nan = np.isnan(values)
    if nan.any():
        bits = values.view("<u4")[nan].astype("<u8")
        exponent = np.uint64(0x7FF0000000000000)
        wide[nan] = (bits >> np.uint64(31)) << np.uint64(63) | exponent | (bits & np.uint64(0x7FFFFF)) << np.uint64(29)
    return wide
