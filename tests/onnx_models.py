"""Small ONNX models made by the onnx package, and wire-level pieces that it would never write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from porter.dtypes import BY_ONNX, DType

ELEMENT_TYPES = tuple(sorted(number for number in TensorProto.DataType.values() if number in BY_ONNX))


def bits(dtype: DType, size: int, seed: int = 0) -> bytes:
    """Canonical bytes of `size` elements of random bits, NaN payloads included; booleans are 0 or 1."""
    data = np.random.default_rng(seed).integers(0, 256, dtype.nbytes(size), dtype=np.uint8)
    if dtype.name == "bool":
        data &= 1
    if data.size and size * dtype.bits % 8:
        data[-1] &= (1 << size * dtype.bits % 8) - 1
    return data.tobytes()


def raw(name: str, element_type: int, shape: Sequence[int], seed: int = 0) -> TensorProto:
    """A tensor of random bits in raw_data."""
    proto = TensorProto(name=name, data_type=element_type, dims=shape)
    proto.raw_data = bits(BY_ONNX[element_type], int(np.prod(shape)), seed)
    return proto


def typed(name: str, element_type: int, shape: Sequence[int], seed: int = 0) -> TensorProto:
    """The same values as `raw` in the typed field, laid out by the onnx package's own rules and not by porter's."""
    proto = raw(name, element_type, shape, seed)
    dtype, data = BY_ONNX[element_type], proto.raw_data
    proto.ClearField("raw_data")
    values: Any
    if element_type in (TensorProto.FLOAT, TensorProto.COMPLEX64):
        # Parsed rather than assigned: a signalling NaN would not survive a Python float.
        proto.MergeFromString(field(4, data))
    elif element_type in (TensorProto.DOUBLE, TensorProto.COMPLEX128):
        proto.MergeFromString(field(10, data))
    elif dtype.bits == 6:
        values = numpy_helper.to_array(raw(name, element_type, shape, seed)).reshape(-1).view(np.uint8)
        proto.int32_data.extend((values & 0x3F).tolist())
    else:
        code = {"int64": "<i8", "uint64": "<u8", "uint32": "<u4", "int32": "<i4", "int16": "<i2", "int8": "i1"}.get(dtype.name)
        values = np.frombuffer(data, code or {2: "<u2", 1: "u1"}[dtype.itemsize]).tolist()
        getattr(proto, helper.tensor_dtype_to_field(element_type)).extend(values)
    return proto


def model(*initializers: TensorProto, nodes: Sequence[Any] = (), **more: Any) -> onnx.ModelProto:
    """A model with these initialisers."""
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializers), **more)
    return helper.make_model(graph, producer_name="somebody")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def unpacked(number: int, wire: int, *elements: bytes) -> bytes:
    """A repeated field with a tag before each element."""
    return b"".join(varint(number << 3 | wire) + element for element in elements)


def wire_model(*tensors: bytes) -> bytes:
    """A model around serialised initialisers, written by hand: IR version 8, a graph, operator set 17."""
    return b"\x08\x08" + field(7, b"\x12\x01g" + b"".join(field(5, t) for t in tensors)) + b"\x42\x02\x10\x11"


def header(name: str, element_type: int, *dims: int) -> bytes:
    """The fields of a TensorProto before its values."""
    return b"".join(b"\x08" + varint(n) for n in dims) + b"\x10" + varint(element_type) + field(8, name.encode())
