"""The bytes of weights that TensorRT holds."""

from __future__ import annotations

import ctypes
from typing import Any

from porter.dtypes import DTYPES
from porter.errors import TensorRTError
from porter.tensorrt.package import Package


class _Weights(ctypes.Structure):
    """`nvinfer1::Weights`. Source: NvInferRuntime.h, tag v11.1."""

    _fields_ = (("type", ctypes.c_int32), ("values", ctypes.c_void_p), ("count", ctypes.c_int64))


def bytes_of(package: Package, held: Any, copy: bool) -> tuple[str, int, memoryview]:
    """Of what a layer's attribute gives: porter's name of the type, how many values, and their bytes, copied or as a view.

    Types that numpy knows come as an array, the others as TensorRT's own `Weights`. Source: python/include/utils.h, tag v11.1.

    Raises:
        TensorRTError: the package keeps the values where porter does not find them.
    """
    import numpy as np

    if isinstance(held, np.ndarray):
        data = held.reshape(-1).view(np.uint8).data if held.size else memoryview(b"")
        dtype, count = held.dtype.name, held.size
    else:
        dtype, count = package.dtype_name(held.dtype), int(held.size)
        data = _pointed(held, dtype, count) if count else memoryview(b"")
    return dtype, count, memoryview(bytes(data)) if copy else data.toreadonly()


def _pointed(held: Any, dtype: str, count: int) -> memoryview:
    """The values of `Weights`, whose class gives no way to them: an object of pybind11 has the pointer to its own right after its head.

    Source: pybind11, include/pybind11/detail/common.h, `struct instance`, version 3.0. What is there is checked against what the class
    says of itself.
    """
    address = ctypes.c_void_p.from_address(id(held) + object.__basicsize__).value
    weights = _Weights.from_address(address) if address else None
    if weights is None or (weights.type, weights.count) != (int(held.dtype), count) or not weights.values:
        raise TensorRTError("T107", f"weights of type {dtype} cannot be read through this version of TensorRT's Python package")
    size = DTYPES[dtype].nbytes(count) if dtype in DTYPES else held.nbytes
    return memoryview((ctypes.c_char * size).from_address(weights.values)).cast("B")
