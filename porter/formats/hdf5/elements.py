"""Which of porter's element types an HDF5 datatype is, by its bit layout.

Source: HDF5 File Format Specification Version 3.0, IV.A.2.d; how NumPy's bool and complex are put into HDF5: h5py
documentation, "FAQ: What datatypes are supported?" (3.x); Keras' bfloat16: keras-team/keras `saving/saving_lib.py` (3.x),
`H5Entry`: two opaque bytes and an attribute `dtype`.
"""

from __future__ import annotations

from porter.dataclass import dataclass, replace
from porter.dtypes import DTYPES, DType
from porter.formats.hdf5.messages import ARRAY, BITFIELD, COMPLEX, COMPOUND, ENUM, FIXED, FLOAT, OPAQUE, Type

NAMES = ("porter_dtype", "dtype")
"""Attributes that say which element type opaque bytes are: porter's, Keras'."""

# Exponent bits, mantissa bits, bias, with the sign on top, the exponent below it and an implied leading one.
_FLOATS = {
    2: {(5, 10, 15): "float16", (8, 7, 127): "bfloat16"},
    4: {(8, 23, 127): "float32"},
    8: {(11, 52, 1023): "float64"},
    1: {(5, 2, 15): "float8_e5m2", (4, 3, 7): "float8_e4m3fn"},
}
_INTEGERS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}
_COMPLEX = {"float16": "complex32", "float32": "complex64", "float64": "complex128"}
_PARTS = ({"r", "re", "real"}, {"i", "im", "imag"})


@dataclass(frozen=True, slots=True)
class Element:
    """An element type as it lies in a file: porter's type, the dimensions of an array type, and the width in bytes of
    what has to be reversed to become little-endian (0: nothing). `notice` says what was assumed.
    """

    dtype: DType
    dims: tuple[int, ...] = ()
    swap: int = 0
    notice: str | None = None


def element_of(kind: Type, named: str | None = None) -> Element | None:
    """The element type that `kind` is, or None where porter has none; `named` is what an attribute says of opaque bytes."""
    swap = kind.size if kind.big_endian and kind.size > 1 else 0
    if kind.kind == FLOAT:
        return _float(kind, swap)
    if kind.kind in (FIXED, BITFIELD):
        offset, precision, signed = kind.fields
        if kind.size not in _INTEGERS or offset or precision != 8 * kind.size:
            return None
        name = _INTEGERS[kind.size] if signed else "u" + _INTEGERS[kind.size]
        return Element(DTYPES[name], swap=swap)
    if kind.kind == ENUM and kind.base is not None:
        return _enum(kind, kind.base)
    if kind.kind == OPAQUE:
        dtype = DTYPES.get(named or "")
        return Element(dtype) if dtype is not None and dtype.itemsize == kind.size else None
    if kind.kind == COMPOUND:
        return _pair(kind)
    if kind.kind == COMPLEX and kind.base is not None and kind.size == 2 * kind.base.size:
        return _complex(element_of(kind.base))
    if kind.kind == ARRAY and kind.base is not None:
        inner = element_of(kind.base, named)
        return None if inner is None or inner.dtype.packed else replace(inner, dims=kind.dims + inner.dims)
    return None


def _float(kind: Type, swap: int) -> Element | None:
    offset, precision, sign, exponent_at, exponent, mantissa_at, mantissa, bias, normalisation, vax = kind.fields
    name = _FLOATS.get(kind.size, {}).get((exponent, mantissa, bias))
    regular = not offset and not vax and not mantissa_at and exponent_at == mantissa and sign == precision - 1 == 8 * kind.size - 1
    if name is None or not regular or normalisation != 2:
        return None
    notice = None
    if name == "float8_e4m3fn":
        notice = "an 8-bit float of 4 and 3 bits is taken as float8_e4m3fn; HDF5 does not say what its largest exponent means"
    return Element(DTYPES[name], swap=swap, notice=notice)


def _enum(kind: Type, base: Type) -> Element | None:
    inner = element_of(base)
    if inner is None or inner.dtype.kind not in ("int", "uint"):
        return None
    values = {name.upper(): int.from_bytes(value, "big" if base.big_endian else "little") for name, value in kind.names}
    if values == {"FALSE": 0, "TRUE": 1} and base.size == 1:
        return Element(DTYPES["bool"])
    return replace(inner, notice=f"an enumeration ({', '.join(n for n, _ in kind.names[:4])}) is read as its numbers")


def _pair(kind: Type) -> Element | None:
    """Two floats side by side, the real part first, are a complex number."""
    if len(kind.members) != 2:
        return None
    real, imaginary = kind.members
    named = real.name.lower() in _PARTS[0] and imaginary.name.lower() in _PARTS[1]
    size = real.type.size
    if not named or real.type != imaginary.type or (real.offset, imaginary.offset, kind.size) != (0, size, 2 * size):
        return None
    return _complex(element_of(real.type))


def _complex(part: Element | None) -> Element | None:
    name = _COMPLEX.get(part.dtype.name) if part is not None and not part.dims else None
    return Element(DTYPES[name], swap=part.swap) if name is not None and part is not None else None
