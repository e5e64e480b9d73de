"""Weights written as text, `blobs { shape { dim: 2 } data: 1.5 data: -2e-3 }`, and prototxt files as stores.

Values are decimal text. They are rounded to float32 once: to float64 first, as fast libraries read decimals, and where
that lies exactly between two float32, so that rounding again could go wrong, by comparing the decimal itself. Caffe's own
reader rounds twice; the two differ only for decimals of some 17 and more digits, which no program prints for a float32.

Source: BVLC/caffe `src/caffe/blob.cpp` (FromProto); protocolbuffers/protobuf `src/google/protobuf/text_format.cc` (v3.20):
float fields take decimal numbers and no octal or hexadecimal ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES, FLOAT32
from porter.errors import FormatError
from porter.formats.caffe.blobs import RAW_TYPES
from porter.formats.caffe.layers import NET, Blob, Layer, add_layers, check_axes
from porter.formats.caffe.message_tree import Field, Message, NumberRun, Scalar, render, scalar_bytes
from porter.formats.caffe.net import CaffeLayer, CaffeNet, net_from_prototxt
from porter.formats.caffe.net_bytes import serialise
from porter.store import Provenance, TensorStore
from porter.tensor import BytesPayload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXT = "caffe.prototxt"
"""The attachment that holds the net's text, without its weights, where its bytes would lack something that the text says."""

_CHARACTERS = 1 << 20  # of a run of numbers that are turned into values at a time
_LEGACY = ("num", "channels", "height", "width")
_NAMES = {"DOUBLE": 0, "FLOAT": 1, "FLOAT16": 2, "INT": 3, "UINT": 4, "BOOL": 5}
_DECIMAL = re.compile(r"[-+]?(?!0[0-9])(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fF]?|-?(?i:inf(?:inity)?f?|nanf?)")


def read_prototxt(path: str) -> TensorStore:
    """A prototxt as a store: its blobs where it has any (a text caffemodel), and the net as the attachment `caffe.net`.

    Reads the file.

    Raises:
        FormatError: the text is no net, or a blob's values do not fill its shape; with line and column.
    """
    net = net_from_prototxt(path)
    store = TensorStore(source=Provenance(path, "caffe", "prototxt"))
    for notice in net.notices:
        store.note("assumed", notice)
    reader = _Blobs(store, path)
    add_layers(store, [reader.layer(layer) for layer in net.layers])
    reader.report()
    attach_net(store, net)
    if not len(store):
        layers = f"{len(net.layers)} layer{'s' * (len(net.layers) != 1)}"
        store.note("note", f"a net of {layers} without weights; they are in the .caffemodel that goes with it")
    return store


def attach_net(store: TensorStore, net: CaffeNet) -> None:
    """Put the net, without its weights, into the store's attachments."""
    skipped: list[str] = []
    store.attachments[NET] = serialise(net, skipped)
    for line in skipped:
        store.note("skipped", f"{line} (not in '{NET}'; '{TEXT}' keeps the text)")
    if skipped:
        store.attachments[TEXT] = render(without_blobs(net.message)).encode("utf-8", "surrogateescape")


def without_blobs(net: Message) -> Message:
    """`net` (in V2 form) without the blobs of its layers."""
    entries: list[Field | NumberRun] = []
    for entry in net.entries:
        if entry.name == "layer" and isinstance(entry, Field) and isinstance(entry.value, Message):
            kept = Message(tuple(e for e in entry.value.entries if e.name != "blobs"))
            entries.append(Field(entry.name, kept, entry.line, entry.column))
        else:
            entries.append(entry)
    return Message(tuple(entries))


class _Blobs:
    def __init__(self, store: TensorStore, path: str) -> None:
        self.store = store
        self.path = path
        self.gradients = 0

    def layer(self, layer: CaffeLayer) -> Layer:
        blobs = tuple(self.blob(field, f"blob {i} of '{layer.name}'") for i, field in enumerate(layer.blobs))
        shared = tuple(p.name for p in layer.params)
        return Layer(layer.name, layer.type, blobs, shared, layer.parameter, len(layer.bottoms))

    def report(self) -> None:
        if self.gradients:
            self.store.note("skipped", f"the gradients (diff) of {self.gradients} blobs are no weights and were left out")

    def blob(self, field: Field, where: str) -> Blob | None:
        """One blob, or None where it has no values."""
        message = field.value if isinstance(field.value, Message) else Message()
        names = {entry.name for entry in message.entries}
        self.gradients += bool(names & {"diff", "double_diff", "raw_diff"})
        shape, legacy = self.shape(field, message, where)
        found = [name for name in ("raw_data", "double_data", "data") if name in names]
        if len(found) > 1:
            self.store.note("skipped", f"{where} has its values more than once; {found[0]} is read")
        size = None if shape is None else math.prod(shape)
        if not found and size != 0:
            self.store.note("skipped", f"{where} has {'a shape and ' if shape is not None else ''}no values")
            return None
        encoding = None
        if found[:1] == ["raw_data"]:
            dtype, data = self.raw(field, message, shape, where)
            encoding = "raw"
        else:
            double = found[:1] == ["double_data"]
            dtype, encoding = (DTYPES["float64"], "double") if double else (FLOAT32, None)
            data = self.values(message, "double_data" if double else "data", double)
        count = len(data) // dtype.itemsize
        if size is not None and size != count:
            self.fail("F155", f"{where} has {count} values, its shape {shape} takes {size if size < 1 << 64 else 'far more'}", field)
        if shape is None:
            # A blob without dimensions has one value, and Caffe writes no shape for it.
            return Blob(dtype, (count,) if count != 1 else (), BytesPayload.of(data), shapeless=True, encoding=encoding)
        return Blob(dtype, shape, BytesPayload.of(data), legacy, encoding=encoding)

    def shape(self, field: Field, message: Message, where: str) -> tuple[tuple[int, ...] | None, bool]:
        """The dimensions, None where there are none, and whether they are legacy ones."""
        legacy = any(message.field(name) for name in _LEGACY)
        if legacy:
            dims: list[Any] = [message.lookup(name) if message.field(name) else 0 for name in _LEGACY]
        elif (shape := message.message("shape")) is not None:
            dims = list(shape.scalars("dim"))
        else:
            return None, False
        if not all(type(n) is int and 0 <= n < 1 << 63 for n in dims):
            self.fail("F155", f"{where} has a dimension that is no count: {dims[:8]}", field)
        check_axes(len(dims), where)
        return tuple(dims), legacy

    def raw(self, field: Field, message: Message, shape: tuple[int, ...] | None, where: str) -> tuple[Any, bytes]:
        """Source: NVIDIA/caffe 0.17 caffe.proto: `raw_data` holds elements of `raw_data_type`, little-endian."""
        data = scalar_bytes(message.string("raw_data") or "")
        kind = message.lookup("raw_data_type")
        number = _NAMES.get(kind, -1) if isinstance(kind, str) else -1 if kind is None else int(kind)
        if kind is None:
            # As the fork's schema has no default, the size has to tell.
            size = len(data) // math.prod(shape) if shape and math.prod(shape) else 4
            number = {8: 0, 4: 1, 2: 2}.get(size, -1)
            self.store.note("assumed", f"{where} does not say the type of its raw_data; taken for {RAW_TYPES[number]}")
        if not 0 <= number < len(RAW_TYPES) or len(data) % DTYPES[RAW_TYPES[number]].itemsize:
            self.fail("F155", f"{where} has {len(data)} bytes of raw_data of type {kind}", field)
        return DTYPES[RAW_TYPES[number]], data

    def values(self, message: Message, name: str, double: bool) -> bytes:
        """The numbers called `name`, as little-endian float32 or float64."""
        parts = []
        for entry in message.entries:
            if entry.name != name:
                continue
            if isinstance(entry, NumberRun):
                parts += [_floats(piece, double) for piece in _pieces(entry.text)]
            elif isinstance(entry.value, Scalar) and entry.value.kind != "string" and _DECIMAL.fullmatch(entry.value.text):
                parts.append(_floats(_without_suffix(entry.value.text), double))
            else:
                shown = entry.value.text if isinstance(entry.value, Scalar) else "a message"
                self.fail("F153", f"'{shown}' is no decimal number, as '{name}' needs", entry)
        return b"".join(part.tobytes() for part in parts)

    def fail(self, code: str, message: str, field: Field) -> None:
        raise FormatError(code, message, path=self.path, line=field.line or None, column=field.column or None)


def _without_suffix(text: str) -> str:
    """A number or a word for one, without the `f` that may follow it."""
    word = text.lower().lstrip("+-")
    return text[:-1] if word[-1] == "f" and word != "inf" else text


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces that end between two numbers."""
    start = 0
    while start < len(text):
        end = text.find(" ", start + _CHARACTERS)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _floats(text: str, double: bool) -> NDArray[Any]:
    """Decimal numbers with one space between two, correctly rounded."""
    import numpy as np

    wide = np.fromstring(text, np.float64, sep=" ")
    if "nan" in text.lower():
        _sign_nans(wide, text)
    return wide.astype("<f8") if double else _narrow(wide, text)


def _sign_nans(values: NDArray[np.float64], text: str) -> None:
    """Give the NaNs their signs, which the parser drops."""
    import numpy as np

    signs = np.array([word.startswith("-") for word in text.split(" ")])
    nans = np.isnan(values)
    values[nans] = np.where(signs[nans], -np.float64("nan"), np.float64("nan"))


def _narrow(wide: NDArray[np.float64], text: str) -> NDArray[np.float32]:
    """float64, rounded from `text`, to float32 as if that had been rounded from `text`."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        narrow = wide.astype("<f4")
        near = np.nextafter(narrow, np.where(wide > narrow, np.inf, -np.inf).astype(np.float32))
        # 2^128 stands for infinity, halfway to which the largest float32 ends.
        low, high = (np.where(np.isinf(v), np.sign(v) * np.float64(2.0**128), v.astype(np.float64)) for v in (narrow, near))
        halfway = np.flatnonzero((wide != narrow) & np.isfinite(wide) & ((low + high) / 2 == wide))
    if len(halfway):
        words = text.split(" ")
        for i in halfway.tolist():
            narrow[i] = _nearest(words[i], float(wide[i]), narrow[i], near[i])
    return narrow


def _nearest(word: str, middle: float, even: np.float32, odd: np.float32) -> np.float32:
    """Which of the two float32 around `middle` the decimal `word` is nearer to; `even` where it is `middle` itself."""
    from decimal import Decimal

    decimal, bound = Decimal(word), Decimal(middle)
    if decimal == bound:
        return even
    return max(even, odd) if decimal > bound else min(even, odd)
