"""Blobs in binary files: where their values lie, and how they are written.

A BlobProto has its values in one of four places: `data` (packed, in several pieces, or one tag each), `double_data`, or
`raw_data` of a stated type (NVCaffe). Its dimensions are `shape`, or in files from before 2015 `num`, `channels`,
`height` and `width`. `diff` fields hold gradients, which are no weights.

Source: BVLC/caffe `src/caffe/blob.cpp` at 9b891540183d (FromProto: legacy dimensions go first, then `double_data`);
NVIDIA/caffe 0.17 `src/caffe/blob.cpp` (raw_data goes before both) and `caffe.proto` (Type).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from porter.dataclass import dataclass
from porter.dtypes import DTYPES, FLOAT32, DType
from porter.errors import FormatError
from porter.formats.caffe.fields import Values, fields, message_field, number_field, varint
from porter.formats.caffe.layers import ENCODING, MAX_AXES, SHAPE, Blob, check_axes
from porter.io.payloads import ConcatPayload
from porter.io.protobuf_wire import CUT_FIELD, FIXED32, Rule, delimited, encode_tag, encode_varint
from porter.io.source import FileSource
from porter.io.widening import whole_elements
from porter.store import TensorStore
from porter.tensor import BytesPayload, Payload, Tensor

DATA, DIFF, SHAPE_FIELD, DOUBLE_DATA, DOUBLE_DIFF, RAW_TYPE, RAW_DIFF_TYPE, RAW_DATA, RAW_DIFF = 5, 6, 7, 8, 9, 10, 11, 12, 13

BLOB_RULE = Rule(cut={DATA: 4, DIFF: 4, DOUBLE_DATA: 8, DOUBLE_DIFF: 8, RAW_DATA: 0, RAW_DIFF: 0})

RAW_TYPES = ("float64", "float32", "float16", "int32", "uint32", "bool")
"""NVCaffe's Type by number: DOUBLE, FLOAT, FLOAT16, INT, UINT, BOOL."""

_LEGACY = (1, 2, 3, 4)
"""num, channels, height, width"""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where values lie in the file; see `porter.io.protobuf_wire.scan`."""

    field: int
    offset: int
    nbytes: int
    stride: int

    @classmethod
    def parse(cls, data: bytes) -> Cut:
        found = {f.number: varint(data, f.body, "a cut")[0] for f in fields(data)}
        return cls(found.get(1, 0), found.get(2, 0), found.get(3, 0), found.get(4, 0))


@dataclass(frozen=True, slots=True)
class UnpackedPayload:
    """Values that lie in a file with their tag before each: every `stride` bytes, `width` bytes at the end of those."""

    source: FileSource
    offset: int
    count: int
    stride: int
    width: int

    @property
    def nbytes(self) -> int:
        return self.count * self.width

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        import numpy as np

        step = max(limit // self.stride, 1)
        for first in range(0, self.count, step):
            rows = min(step, self.count - first)
            data = self.source.read(self.offset + first * self.stride, rows * self.stride, "unpacked values")
            values = np.frombuffer(data, np.uint8).reshape(rows, self.stride)[:, -self.width :]
            yield from BytesPayload.of(np.ascontiguousarray(values).reshape(-1).data).chunks(max(limit, 1))

    def buffer(self) -> memoryview:
        return memoryview(b"".join(bytes(chunk) for chunk in self.chunks(1 << 20)))


class BlobReader:
    """Blobs of one file, from BlobProto messages whose values were cut out; keeps account of what it leaves."""

    def __init__(self, source: FileSource, store: TensorStore) -> None:
        self.source = source
        self.store = store
        self.gradients = 0
        self.without_values: list[str] = []

    def read(self, data: bytes, where: str) -> Blob | None:
        """The blob in the message `data`, or None where it has no values; `where` says whose it is, for messages.

        Raises:
            FormatError: the values are no whole number of elements, or a dimension is negative.
        """
        message = Values(data, where)
        cuts: dict[int, list[Cut]] = {}
        for cut in map(Cut.parse, message.messages(CUT_FIELD)):
            cuts.setdefault(cut.field, []).append(cut)
        if any(number in cuts for number in (DIFF, DOUBLE_DIFF, RAW_DIFF)):
            self.gradients += 1
        found = [number for number in (RAW_DATA, DOUBLE_DATA, DATA) if number in cuts]
        if not found:
            return self._empty(message, where)
        if len(found) > 1:
            self.store.note("skipped", f"{where} has its values more than once; the first of raw_data, double_data and data is read")
        shape, legacy = self._shape(message, where)
        if found[0] == RAW_DATA:
            return self._raw(message, cuts[RAW_DATA][-1], shape, legacy, where)
        width, dtype = (8, DTYPES["float64"]) if found[0] == DOUBLE_DATA else (4, FLOAT32)
        payload, unpacked = self._values(cuts[found[0]], width, where)
        encoding = "double" if width == 8 else "unpacked" if unpacked else None
        return _blob(dtype, shape, payload, legacy, encoding)

    def report(self) -> None:
        """Say which blobs have no values, and how many gradients were left where they are."""
        if self.without_values:
            more = len(self.without_values) - 1
            others = f", and so have {more} other blobs" if more > 1 else f", and so has {self.without_values[1]}" if more else ""
            self.store.note("skipped", f"{self.without_values[0]} has no values{others}")
        if self.gradients:
            plural = "s" if self.gradients > 1 else ""
            self.store.note("skipped", f"the gradients (diff) of {self.gradients} blob{plural} are no weights and were left out")

    def _empty(self, message: Values, where: str) -> Blob | None:
        """A blob without values: one of no elements is complete, of any other a shape is all that there is."""
        shape, legacy = self._shape(message, where)
        if shape is not None and 0 in shape:
            return Blob(FLOAT32, shape, BytesPayload.of(b""), legacy)
        self.without_values.append(where)
        return None

    def _shape(self, message: Values, where: str) -> tuple[tuple[int, ...] | None, bool]:
        """The dimensions, None where there are none, and whether they are legacy ones."""
        old = [message.int32(number) for number in _LEGACY]
        legacy = any(n is not None for n in old)
        dims = self._dims(message, where)
        shape = tuple(n or 0 for n in old) if legacy else dims
        if shape is None:
            return None, False
        if any(n < 0 for n in shape):
            raise FormatError("F002", f"{where} has a negative dimension: {list(shape)}", path=self.source.path)
        if legacy and dims is not None and _squeezed(shape) != _squeezed(dims):
            self.store.note("assumed", f"{where} has two shapes that differ; num, channels, height and width are taken, as Caffe does")
        return shape, legacy

    def _dims(self, message: Values, where: str) -> tuple[int, ...] | None:
        """The dimensions in `shape`, None where there is none."""
        parts = message.messages(SHAPE_FIELD)
        if not parts:
            return None
        dims = Values(b"".join(parts), where).integers(1, most=MAX_AXES)
        check_axes(len(dims), where)
        return tuple(dims)

    def _values(self, cuts: Sequence[Cut], width: int, where: str) -> tuple[Payload, bool]:
        parts: list[Payload] = []
        for cut in cuts:
            if cut.stride:
                parts.append(UnpackedPayload(self.source, cut.offset, cut.nbytes // cut.stride, cut.stride, width))
            elif cut.nbytes % width:
                raise FormatError(
                    "F012", f"{where} has {cut.nbytes} bytes of values of {width} bytes each", path=self.source.path, offset=cut.offset
                )
            else:
                parts.append(self.source.payload(cut.offset, cut.nbytes, where))
        unpacked = len(parts) == 1 and bool(cuts[0].stride)
        return parts[0] if len(parts) == 1 else ConcatPayload(tuple(parts)), unpacked

    def _raw(self, message: Values, cut: Cut, shape: tuple[int, ...] | None, legacy: bool, where: str) -> Blob:
        kind = message.int32(RAW_TYPE)
        known = kind is not None and 0 <= kind < len(RAW_TYPES)
        dtype = DTYPES[RAW_TYPES[kind or 0] if known else self._guessed_type(cut.nbytes, shape, where)]
        if cut.nbytes % dtype.itemsize:
            raise FormatError("F103", f"{where} has {cut.nbytes} bytes of raw {dtype}", path=self.source.path, offset=cut.offset)
        return _blob(dtype, shape, self.source.payload(cut.offset, cut.nbytes, where), legacy, "raw")

    def _guessed_type(self, nbytes: int, shape: tuple[int, ...] | None, where: str) -> str:
        """The element type of raw data of no known type: the one whose width fits, since there is one float of each."""
        widths = {8: "float64", 4: "float32", 2: "float16"}
        size = math.prod(shape) if shape is not None else 0
        for width, name in widths.items():
            if size and nbytes == size * width:
                self.store.note("assumed", f"{where} has raw data of no known type; taken as {name}, which fits its shape")
                return name
        raise FormatError("F103", f"{where} has {nbytes} bytes of raw data and no known type", path=self.source.path)


def _blob(dtype: DType, shape: tuple[int, ...] | None, payload: Payload, legacy: bool, encoding: str | None) -> Blob:
    if shape is not None:
        return Blob(dtype, shape, payload, legacy, encoding=encoding)
    count = payload.nbytes // dtype.itemsize
    # Caffe writes no shape for a blob without dimensions, which has one value (a shared slope), and reads it back as such.
    return Blob(dtype, (count,) if count != 1 else (), payload, shapeless=True, encoding=encoding)


def _squeezed(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def stored_as(tensor: Tensor) -> str | None:
    """How the attributes of `tensor` say that its values were stored, where a writer can do it again; else None."""
    encoding, name = tensor.attributes.get(ENCODING), tensor.dtype.name
    fits = {"unpacked": name == "float32", "double": name == "float64", "raw": name in RAW_TYPES}
    return encoding if isinstance(encoding, str) and fits.get(encoding, False) else None


def legacy_shape(tensor: Tensor) -> tuple[int, ...] | None:
    """The dimensions as the tensor's attributes say that its file had them, empty for none; None for a plain shape.

    They count only while they say the same as the tensor's shape, which may have been changed since.
    """
    shape = tensor.attributes.get(SHAPE)
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape):
        return None
    if shape == []:
        return () if len(tensor.shape) <= 1 else None
    same = len(shape) == 4 and math.prod(shape) == tensor.size and _squeezed(shape) == _squeezed(tensor.shape)
    return tuple(shape) if same else None


def encode_blob(number: int, tensor: Tensor) -> list[Payload]:
    """Field `number` with the blob of `tensor`, whose dtype Caffe must have; fields in the order of their numbers."""
    old = legacy_shape(tensor)
    head = b"".join(number_field(i + 1, n) for i, n in enumerate(old)) if old else b""
    shape = b"" if old is not None else message_field(SHAPE_FIELD, _dims(tensor.shape))
    encoding = stored_as(tensor)
    if encoding == "raw":
        kind = number_field(RAW_TYPE, RAW_TYPES.index(tensor.dtype.name))
        return delimited(number, head + shape + kind, *delimited(RAW_DATA, tensor.payload))
    if tensor.dtype.name == "float64":
        return delimited(number, head + shape, *delimited(DOUBLE_DATA, tensor.payload))
    if encoding == "unpacked":
        return delimited(number, head, TaggedPayload(tensor.payload, encode_tag(DATA, FIXED32), 4), shape)
    if not tensor.nbytes:
        return delimited(number, head + shape)
    return delimited(number, head, *delimited(DATA, tensor.payload), shape)


def _dims(shape: tuple[int, ...]) -> bytes:
    return message_field(1, b"".join(map(encode_varint, shape))) if shape else b""


@dataclass(frozen=True, slots=True)
class TaggedPayload:
    """The values of `values`, `width` bytes each, with `tag` before each of them."""

    values: Payload
    tag: bytes
    width: int

    @property
    def nbytes(self) -> int:
        return self.values.nbytes // self.width * (self.width + len(self.tag))

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        import numpy as np

        for chunk in whole_elements(self.values, self.width, max(limit // 2, self.width)):
            values = np.frombuffer(chunk, np.uint8).reshape(-1, self.width)
            rows = np.empty((len(values), len(self.tag) + self.width), np.uint8)
            rows[:, : len(self.tag)] = np.frombuffer(self.tag, np.uint8)
            rows[:, len(self.tag) :] = values
            yield from BytesPayload.of(rows.reshape(-1).data).chunks(limit)

    def buffer(self) -> memoryview:
        return memoryview(b"".join(bytes(chunk) for chunk in self.chunks(1 << 20)))
