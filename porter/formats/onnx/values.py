"""A TensorProto as a tensor: its element type, its shape, and the payload its values come from, wherever the file keeps them.

Source: onnx/onnx, `onnx/onnx.proto`, message TensorProto and its comments (IR version 14).
"""

from __future__ import annotations

import math
import struct
from typing import Any

from porter.dataclass import dataclass
from porter.dtypes import BY_ONNX, DTYPES, DType
from porter.errors import FormatError
from porter.formats.onnx.external import ExternalFiles, Range
from porter.formats.onnx.structure import (
    ATTRIBUTE_F,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_I,
    ATTRIBUTE_INTS,
    DOUBLE_DATA,
    FLOAT_DATA,
    INT32_DATA,
    INT64_DATA,
    RAW_DATA,
    UINT64_DATA,
)
from porter.io.protobuf_wire import encode_varint
from porter.io.source import FileSource
from porter.tensor import BytesPayload, Payload

STRING, EXTERNAL = 8, 1
"""TensorProto.DataType of strings, TensorProto.DataLocation of values in another file."""

_FIELDS = {
    FLOAT_DATA: "float_data",
    INT32_DATA: "int32_data",
    INT64_DATA: "int64_data",
    DOUBLE_DATA: "double_data",
    UINT64_DATA: "uint64_data",
}
_FIELD_OF = {
    **dict.fromkeys(("float32", "complex64"), FLOAT_DATA),
    **dict.fromkeys(("float64", "complex128"), DOUBLE_DATA),
    **dict.fromkeys(("uint32", "uint64"), UINT64_DATA),
    "int64": INT64_DATA,
}
_WIDTHS = {FLOAT_DATA: 4, DOUBLE_DATA: 8}
_MASK = (1 << 64) - 1
_MOST_DIMENSIONS = 64

NUMBERS = {
    b"value_float": (ATTRIBUTE_F, "float32", 1),
    b"value_floats": (ATTRIBUTE_FLOATS, "float32", 6),
    b"value_int": (ATTRIBUTE_I, "int64", 2),
    b"value_ints": (ATTRIBUTE_INTS, "int64", 7),
}
"""Attributes of Constant nodes that hold plain numbers: the field, the element type of the constant, AttributeProto.type."""


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """What a tensor holds and where: `field` is the proto's field with the values, None where `external` has them or none are."""

    dtype: DType
    shape: tuple[int, ...]
    payload: Payload
    field: int | None
    external: Range | None = None


def typed_field(dtype: DType) -> int:
    """The field of TensorProto that holds `dtype` where `raw_data` does not."""
    return _FIELD_OF.get(dtype.name, INT32_DATA)


def tensor_values(proto: Any, name: str, source: FileSource, files: ExternalFiles, shape: tuple[int, ...] | None = None) -> Values:
    """The values of TensorProto `proto`, which is no STRING tensor; `shape` overrides its own. Reads nothing of them.

    Raises:
        FormatError: type, shape and values do not fit each other, or the values are there twice, or not at all.
    """
    dtype = element_type(proto, name, source)
    if shape is None:
        shape = dimensions(proto.dims, name, source)
    size = math.prod(shape)
    nbytes = dtype.nbytes(size)
    fields = _present_fields(proto)
    if proto.data_location == EXTERNAL:
        if fields:
            raise FormatError("F302", "its values are said to lie in another file, and are here too", path=source.path, tensor=name)
        found = files.range(proto, nbytes, name)
        return Values(dtype, shape, found.payload, None, found)
    if not fields:
        if nbytes:
            raise FormatError(
                "F302", f"{dtype} {list(shape)} takes {nbytes} bytes, the file holds no values for it", path=source.path, tensor=name
            )
        return Values(dtype, shape, BytesPayload.of(b""), None)
    if len(fields) > 1:
        raise FormatError("F302", "its values are there twice, in two fields", path=source.path, tensor=name)
    field = fields[0]
    if field == RAW_DATA:
        return Values(dtype, shape, _raw(proto, name, source), field)
    if field != typed_field(dtype):
        raise FormatError("F302", f"the values of {dtype} do not belong into {_FIELDS[field]}", path=source.path, tensor=name)
    width = _WIDTHS.get(field, 0)
    pieces = _pieces(proto, field, getattr(proto, _FIELDS[field]), width, name, source)
    if width:
        return Values(dtype, shape, pieces, field)
    return Values(dtype, shape, _varints(pieces, dtype, size, name, source), field)


def number_values(proto: Any, name: str, source: FileSource) -> Values:
    """The values of AttributeProto `proto`, whose name is in `NUMBERS`: a 0-dim or 1-d tensor. Reads lists of integers to count them.

    Encoders may leave out a number that is 0 and a list that is empty; then the attribute's type vouches for it.

    Raises:
        FormatError: the attribute holds something else.
    """
    field, dtype_name, kind = NUMBERS[proto.name]
    dtype = DTYPES[dtype_name]
    if proto.type not in (0, kind) or (proto.type == 0 and not _holds(proto, field)):
        raise FormatError(
            "F302", f"the attribute {proto.name.decode()} of this constant holds something else", path=source.path, tensor=name
        )
    if field == ATTRIBUTE_F:
        return Values(dtype, (), BytesPayload.of(proto.f.to_bytes(4, "little")), field)
    if field == ATTRIBUTE_I:
        return Values(dtype, (), BytesPayload.of(proto.i.to_bytes(8, "little", signed=True)), field)
    if not _holds(proto, field):
        return Values(dtype, (0,), BytesPayload.of(b""), field)
    if field == ATTRIBUTE_FLOATS:
        floats = _pieces(proto, field, proto.floats, 4, name, source)
        return Values(dtype, (floats.nbytes // 4,), floats, field)
    from porter.formats.onnx.varints import count

    ints = _pieces(proto, field, proto.ints, 0, name, source)
    size = count(ints)
    return Values(dtype, (size,), _varints(ints, dtype, size, name, source), field)


def _holds(proto: Any, field: int) -> bool:
    singular = {ATTRIBUTE_F: "f", ATTRIBUTE_I: "i"}.get(field)
    if singular is not None:
        return bool(proto.HasField(singular))
    return bool(proto.floats if field == ATTRIBUTE_FLOATS else proto.ints) or any(cut.field == field for cut in proto.cut)


def element_type(proto: Any, name: str, source: FileSource) -> DType:
    """The element type of TensorProto `proto`, which is no STRING tensor."""
    dtype = BY_ONNX.get(proto.data_type)
    if dtype is None:
        what = "no element type" if proto.data_type == 0 else f"the unknown element type {proto.data_type}"
        hint = None if proto.data_type == 0 else "a later version of ONNX may define it; porter knows those of IR version 14"
        raise FormatError("F305", f"the tensor has {what}", path=source.path, tensor=name, hint=hint)
    return dtype


def dimensions(dims: Any, name: str, source: FileSource) -> tuple[int, ...]:
    """`dims` as a shape."""
    if len(dims) > _MOST_DIMENSIONS:
        raise FormatError("F002", f"{len(dims)} dimensions; at most {_MOST_DIMENSIONS} make sense", path=source.path, tensor=name)
    shape = tuple(dims)
    if any(n < 0 for n in shape):
        raise FormatError("F002", f"negative dimension in shape {list(shape)}", path=source.path, tensor=name)
    return shape


def _present_fields(proto: Any) -> list[int]:
    """Fields with values in them. An empty one says no more than an absent one."""
    fields = {cut.field for cut in proto.cut if cut.nbytes and cut.field}
    if proto.raw_data:
        fields.add(RAW_DATA)
    fields.update(number for number, attribute in _FIELDS.items() if getattr(proto, attribute))
    return sorted(fields)


def _raw(proto: Any, name: str, source: FileSource) -> Payload:
    cuts = [cut for cut in proto.cut if cut.field == RAW_DATA]
    if len(cuts) > 1:
        raise FormatError("F302", "its raw_data is there twice", path=source.path, tensor=name)
    return source.payload(cuts[0].offset, cuts[0].nbytes) if cuts else BytesPayload.of(proto.raw_data)


def _pieces(proto: Any, field: int, inline: Any, width: int, name: str, source: FileSource) -> Payload:
    """The bytes of a repeated field in file order: elements of `width` bytes without their tags, or varints where it is 0."""
    cuts = [cut for cut in proto.cut if cut.field == field and cut.nbytes]
    if cuts and inline:
        raise FormatError("F302", "its values are partly packed and partly not, so their order is lost", path=source.path, tensor=name)
    if inline:
        return BytesPayload.of(_encoded(inline, width))
    parts = tuple(_piece(cut, width, source) for cut in cuts)
    from porter.io.payloads import ConcatPayload

    return parts[0] if len(parts) == 1 else ConcatPayload(parts)


def _piece(cut: Any, width: int, source: FileSource) -> Payload:
    run = source.payload(cut.offset, cut.nbytes)
    if not cut.stride:
        return run
    import numpy as np

    from porter.io.payloads import StridedPayload

    return StridedPayload(run, np.dtype(f"<u{width}"), cut.stride - width, (cut.nbytes // cut.stride,), (cut.stride,))


def _encoded(values: Any, width: int) -> bytes:
    """Values that were parsed with their message, as they lie in a file: the bits of floats, or varints."""
    if width:
        return struct.pack(f"<{len(values)}{'I' if width == 4 else 'Q'}", *values)
    return b"".join(encode_varint(value & _MASK) for value in values)


def _varints(encoded: Payload, dtype: DType, size: int, name: str, source: FileSource) -> Payload:
    from porter.formats.onnx.varints import VarintPayload, values_in_field

    values = values_in_field(dtype, size)
    if not values <= encoded.nbytes <= 10 * values:
        raise FormatError("F303", f"its shape needs {values} numbers, the field has {encoded.nbytes} bytes", path=source.path, tensor=name)
    return VarintPayload(encoded, dtype, size, source.path)
