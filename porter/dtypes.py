"""The one table of element types: names, widths, and every format's code for them.

The canonical bytes of a tensor are little-endian, C order; types narrower than a byte are packed, first element in the
low bits. Nothing here imports numpy until an array is asked for.

Source: safetensors dtype strings: huggingface/safetensors `safetensors/src/tensor.rs` (v0.7, enum Dtype);
ONNX codes: onnx/onnx `onnx/onnx.proto` (TensorProto.DataType, IR version 14);
torch storage names: pytorch `torch/storage.py` and `torch/_utils.py` (2.x).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from porter.dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["float", "int", "uint", "bool", "complex"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    `name` is numpy's or ml_dtypes' name; `bits` the width of an element; `numpy_str` numpy's own spelling, or None
    where the type comes from ml_dtypes or has no array form. `torch_storage` is the legacy storage class that a
    pickle names, `torch` the attribute of the torch module. `safetensors` and `onnx` are those formats' codes.
    """

    name: str
    short: str
    bits: int
    kind: Kind
    numpy_str: str | None = None
    safetensors: str | None = None
    torch: str | None = None
    torch_storage: str | None = None
    onnx: int | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of one element in an array (not in packed canonical bytes): at least 1."""
        return (self.bits + 7) // 8

    @property
    def packed(self) -> bool:
        """Whether canonical bytes hold more than one element a byte."""
        return self.bits < 8

    def nbytes(self, elements: int) -> int:
        """Canonical bytes of `elements` elements."""
        return (elements * self.bits + 7) // 8

    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype of arrays of this type, little-endian.

        Types narrower than a byte have one element a byte in arrays, as in ml_dtypes. `complex32`, which numpy lacks,
        is a record of two float16, `real` and `imag`.
        """
        import numpy as np

        if self.numpy_str is not None:
            return np.dtype(self.numpy_str)
        if self.name == "complex32":
            return np.dtype([("real", "<f2"), ("imag", "<f2")])
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, self.name))
        return dtype

    def __str__(self) -> str:
        return self.name


def _d(name: str, short: str, bits: int, kind: Kind, *codes: Any) -> DType:
    return DType(name, short, bits, kind, *codes)


_ALL = (
    #   name           short   bits kind     numpy   safetensors torch            torch_storage           onnx
    _d("float32", "f32", 32, "float", "<f4", "F32", "float32", "FloatStorage", 1),
    _d("float64", "f64", 64, "float", "<f8", "F64", "float64", "DoubleStorage", 11),
    _d("float16", "f16", 16, "float", "<f2", "F16", "float16", "HalfStorage", 10),
    _d("bfloat16", "bf16", 16, "float", None, "BF16", "bfloat16", "BFloat16Storage", 16),
    _d("float8_e4m3fn", "f8e4m3", 8, "float", None, "F8_E4M3", "float8_e4m3fn", None, 17),
    _d("float8_e4m3fnuz", "f8e4m3fnuz", 8, "float", None, "F8_E4M3FNUZ", "float8_e4m3fnuz", None, 18),
    _d("float8_e5m2", "f8e5m2", 8, "float", None, "F8_E5M2", "float8_e5m2", None, 19),
    _d("float8_e5m2fnuz", "f8e5m2fnuz", 8, "float", None, "F8_E5M2FNUZ", "float8_e5m2fnuz", None, 20),
    _d("float8_e8m0fnu", "f8e8m0", 8, "float", None, "F8_E8M0", "float8_e8m0fnu", None, 24),
    _d("float6_e2m3fn", "f6e2m3", 6, "float", None, "F6_E2M3", None, None, 27),
    _d("float6_e3m2fn", "f6e3m2", 6, "float", None, "F6_E3M2", None, None, 28),
    _d("float4_e2m1fn", "f4e2m1", 4, "float", None, "F4", None, None, 23),
    _d("int64", "i64", 64, "int", "<i8", "I64", "int64", "LongStorage", 7),
    _d("int32", "i32", 32, "int", "<i4", "I32", "int32", "IntStorage", 6),
    _d("int16", "i16", 16, "int", "<i2", "I16", "int16", "ShortStorage", 5),
    _d("int8", "i8", 8, "int", "|i1", "I8", "int8", "CharStorage", 3),
    _d("int4", "i4", 4, "int", None, None, None, None, 22),
    _d("int2", "i2", 2, "int", None, None, None, None, 26),
    _d("uint64", "u64", 64, "uint", "<u8", "U64", "uint64", None, 13),
    _d("uint32", "u32", 32, "uint", "<u4", "U32", "uint32", None, 12),
    _d("uint16", "u16", 16, "uint", "<u2", "U16", "uint16", None, 4),
    _d("uint8", "u8", 8, "uint", "|u1", "U8", "uint8", "ByteStorage", 2),
    _d("uint4", "u4", 4, "uint", None, None, None, None, 21),
    _d("uint2", "u2", 2, "uint", None, None, None, None, 25),
    _d("bool", "bool", 8, "bool", "|b1", "BOOL", "bool", "BoolStorage", 9),
    _d("complex32", "c32", 32, "complex", None, None, "complex32", None, None),
    _d("complex64", "c64", 64, "complex", "<c8", "C64", "complex64", "ComplexFloatStorage", 14),
    _d("complex128", "c128", 128, "complex", "<c16", None, "complex128", "ComplexDoubleStorage", 15),
)

DTYPES = MappingProxyType({d.name: d for d in _ALL})
BY_SAFETENSORS = MappingProxyType({d.safetensors: d for d in _ALL if d.safetensors})
BY_TORCH = MappingProxyType({d.torch: d for d in _ALL if d.torch})
BY_TORCH_STORAGE = MappingProxyType({d.torch_storage: d for d in _ALL if d.torch_storage})
BY_ONNX = MappingProxyType({d.onnx: d for d in _ALL if d.onnx})

FLOAT32 = DTYPES["float32"]


def from_numpy(dtype: np.dtype[Any]) -> DType | None:
    """The `DType` of a numpy or ml_dtypes dtype of either byte order, or None where porter has no such type."""
    if dtype.names == ("real", "imag") and all(dtype[i].newbyteorder("<") == "<f2" for i in range(2)):
        return DTYPES["complex32"]
    if dtype.kind in "OSUMm" or dtype.names is not None:
        return None
    return DTYPES.get(dtype.name)
