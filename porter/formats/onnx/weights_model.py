"""Writing an ONNX model that holds weights and nothing else: a graph of initialisers without nodes.

Values lie in raw_data of the one file, or, where that would reach the 2 GB at which protobuf ends, in `NAME.onnx.data`
beside it. What ONNX has no place for (ties, axes, roles, attributes, attachments) is described in metadata_props.

Source: onnx/onnx, `onnx/onnx.proto` (IR versions that introduced element types), `docs/ExternalData.md`, `onnx/checker.cc`.
"""

from __future__ import annotations

import os

import porter
from porter import manifest
from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.errors import LossError
from porter.formats.base import Capabilities, Loss, WriteOptions, WriteReport, refuse_dtypes, refuse_overwrite, undescribed
from porter.formats.onnx.contents import NODES, PRODUCER
from porter.formats.onnx.structure import DATA_LOCATION, EXTERNAL_DATA, RAW_DATA
from porter.io.atomic import OutputGroup
from porter.io.protobuf_wire import delimited, encode_tag, encode_varint
from porter.store import TensorStore
from porter.tensor import Json, Payload, Tensor

LIMIT = (1 << 31) - 1
"""Bytes that a protobuf message may have."""
_SMALLEST_OUTSIDE = 1024
"""Smaller tensors stay in the model, where shape inference finds them."""
_PAGE, _LINE = 4096, 64

_VERSIONS = {
    "float8_e4m3fn": (9, 19),
    "float8_e4m3fnuz": (9, 19),
    "float8_e5m2": (9, 19),
    "float8_e5m2fnuz": (9, 19),
    "int4": (10, 21),
    "uint4": (10, 21),
    "float4_e2m1fn": (11, 23),
    "float8_e8m0fnu": (12, 24),
    "int2": (13, 25),
    "uint2": (13, 25),
    "float6_e2m3fn": (14, 28),
    "float6_e3m2fn": (14, 28),
}
"""IR version and operator set that know an element type, where later than the oldest that porter writes."""
_OLDEST = (8, 17)


def write_weights(store: TensorStore, path: str, options: WriteOptions, capabilities: Capabilities) -> WriteReport:
    """Write the tensors of `store` as the initialisers of a model without nodes, in order.

    Raises:
        LossError: a tensor's type or name has no place in ONNX.
    """
    refuse_dtypes(store, "onnx", capabilities)
    names = [_name(tensor) for tensor in store.values()]
    head, tail = _around(store)
    tensors = list(store.values())
    paths: tuple[str, ...] = (path,)
    inside = [_inside(name, tensor) for name, tensor in zip(names, tensors, strict=True)]
    body = _model(head, inside, tail)
    outside: list[_Placed] = []
    if _size(body) > LIMIT:
        outside = _place_outside(tensors)
        location = os.path.basename(path) + ".data"
        paths = (path, os.path.join(os.path.dirname(path), location))
        placed = {p.tensor.name: p for p in outside}
        parts = [
            _outside(name, placed[t.name], _utf8(location, None)) if t.name in placed else part
            for name, t, part in zip(names, tensors, inside, strict=True)
        ]
        body = _model(head, parts, tail)
        if _size(body) > LIMIT:
            raise LossError("L303", f"{len(tensors)} tensors make a model of over 2 GB without their values", hint="write safetensors")
        refuse_overwrite(paths[1], options)
    with OutputGroup(progress=options.progress) as group:
        if outside:
            data = group.create(paths[1])
            data.reserve(outside[-1].offset + outside[-1].tensor.nbytes)
            for item in outside:
                data.pad_to(item.alignment)
                data.write_payload(item.tensor.payload)
        file = group.create(path)
        file.reserve(_size(body))
        for payload in body:
            file.write_payload(payload)
    return WriteReport("onnx", "model", paths, len(store), tuple(_losses(store, capabilities)))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A tensor and where in the data file it goes."""

    tensor: Tensor
    offset: int
    alignment: int


def alignment_of(nbytes: int) -> int:
    """What the offset of `nbytes` bytes in a data file is a multiple of: a page, so that it can be mapped alone; less for little."""
    return _PAGE if nbytes >= _PAGE else _LINE


def external_entries(location: bytes, offset: int, nbytes: int) -> bytes:
    """The fields of a TensorProto whose values lie in the file `location`."""
    fields = [(b"location", location), (b"offset", str(offset).encode()), (b"length", str(nbytes).encode())]
    entries = b"".join(_bytes(EXTERNAL_DATA, _bytes(1, key) + _bytes(2, value)) for key, value in fields)
    return entries + encode_tag(DATA_LOCATION, 0) + b"\x01"


def _place_outside(tensors: list[Tensor]) -> list[_Placed]:
    placed, at = [], 0
    for tensor in tensors:
        if tensor.nbytes >= _SMALLEST_OUTSIDE:
            alignment = alignment_of(tensor.nbytes)
            at += -at % alignment
            placed.append(_Placed(tensor, at, alignment))
            at += tensor.nbytes
    return placed


def _model(head: bytes, tensors: list[list[Payload]], tail: bytes) -> list[Payload]:
    parts = [payload for tensor in tensors for payload in tensor]
    return [*delimited_bytes(head), *delimited(7, _bytes(2, b"weights"), *parts), *delimited_bytes(tail)]


def delimited_bytes(data: bytes) -> list[Payload]:
    """`data` as payloads to be written."""
    from porter.tensor import BytesPayload

    return [BytesPayload.of(data)] if data else []


def _inside(name: bytes, tensor: Tensor) -> list[Payload]:
    return delimited(5, _spec(name, tensor), *delimited(RAW_DATA, tensor.payload))


def _outside(name: bytes, placed: _Placed, location: bytes) -> list[Payload]:
    return delimited(5, _spec(name, placed.tensor) + external_entries(location, placed.offset, placed.tensor.nbytes))


def _spec(name: bytes, tensor: Tensor) -> bytes:
    dims = b"".join(b"\x08" + encode_varint(n) for n in tensor.shape)
    return dims + b"\x10" + encode_varint(tensor.dtype.onnx or 0) + _bytes(8, name)


def _around(store: TensorStore) -> tuple[bytes, bytes]:
    """The fields of the model before and behind its graph."""
    ir_version, opset = max((_versions(t.dtype) for t in store.values()), default=_OLDEST)
    head = b"\x08" + encode_varint(ir_version) + _bytes(2, PRODUCER.encode()) + _bytes(3, porter.__version__.encode())
    tail = _bytes(8, _bytes(1, b"") + b"\x10" + encode_varint(opset))
    for key, value in _metadata(store).items():
        tail += _bytes(14, _bytes(1, _utf8(key, None)) + _bytes(2, _utf8(value, None)))
    return head, tail


def _versions(dtype: DType) -> tuple[int, int]:
    return _VERSIONS.get(dtype.name, _OLDEST)


def _metadata(store: TensorStore) -> dict[str, str]:
    """String metadata as they are; everything else in porter's own description. The size of a graph that stays behind is no fact here."""
    said = {k: v for k, v in store.metadata.items() if k != NODES}
    plain = {k: v for k, v in said.items() if isinstance(v, str) and k != manifest.KEY}
    odd: dict[str, Json] = {k: v for k, v in said.items() if k not in plain}
    document = manifest.describe(store, omit=("metadata",))
    if odd:
        document = {"porter": manifest.VERSION, **(document or {}), "metadata": odd}
    return {**plain, manifest.KEY: manifest.dumps(document)} if document else plain


def _name(tensor: Tensor) -> bytes:
    if not tensor.name:
        raise LossError("L301", "ONNX has no tensors without a name", tensor=tensor.name, hint="rename the tensor")
    return _utf8(tensor.name, tensor.name)


def _utf8(text: str, tensor: str | None) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = error.object[error.start : error.end]
        raise LossError("L302", f"{broken!r} is not valid Unicode", tensor=tensor, hint="rename it; ONNX holds UTF-8") from error


def _bytes(number: int, data: bytes) -> bytes:
    return encode_tag(number, 2) + encode_varint(len(data)) + data


def _size(payloads: list[Payload]) -> int:
    return sum(p.nbytes for p in payloads)


def _losses(store: TensorStore, capabilities: Capabilities) -> list[Loss]:
    losses = [loss for loss in undescribed(store, capabilities) if loss.kind != "tie"]
    if store.ties:
        losses.append(Loss("tie", "tied tensors are stored once each", tuple(store.ties), saved_in="metadata_props.porter"))
    if store.metadata.get(NODES):
        detail = f"the graph (nodes: {store.metadata[NODES]}); the model written holds weights only, --into MODEL keeps a graph"
        losses.append(Loss("metadata", detail))
    return losses
