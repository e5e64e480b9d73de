"""Reading binary nets and solver states: layers of all three generations, blobs left where they lie.

Source: BVLC/caffe `src/caffe/proto/caffe.proto` at 9b891540183d: NetParameter has V2 layers as field 100 and V1 layers as
field 2, whose own field 1 is a V0 layer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from porter import manifest
from porter.dataclass import dataclass, replace
from porter.errors import FormatError, UnsafeFileError
from porter.formats.caffe.blobs import BLOB_RULE, BlobReader
from porter.formats.caffe.description import WHERE, names_in, restore
from porter.formats.caffe.detect import NET_FIELDS, SOLVER_FIELDS
from porter.formats.caffe.fields import Values, fields, message_field
from porter.formats.caffe.layer_types import Scalar, upgrade_type
from porter.formats.caffe.layers import BLOB, NET, Blob, Layer, add_layers, decoded, shape_attributes
from porter.io.protobuf_wire import CUT_FIELD, DELIMITED, Rule, scan
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore
from porter.tensor import Json, Tensor, TensorSpec

if TYPE_CHECKING:
    from porter.formats.caffe.net import CaffeLayer, CaffeNet

V1_LAYERS, V2_LAYERS, HISTORY, PORTER = 2, 100, 3, 535_000_001
V2_BLOBS, V1_BLOBS, V0_BLOBS, V0_LAYER = 7, 6, 50, 1

_V0_RULE = Rule(descend={V0_BLOBS: BLOB_RULE})
_V1_RULE = Rule(descend={V1_BLOBS: BLOB_RULE, V0_LAYER: _V0_RULE})
_V2_RULE = Rule(descend={V2_BLOBS: BLOB_RULE})
NET_RULE = Rule(descend={V1_LAYERS: _V1_RULE, V2_LAYERS: _V2_RULE})
SOLVER_RULE = Rule(descend={HISTORY: BLOB_RULE})

HISTORY_PREFIX = "history."
MEAN = "mean"
_MAX_LAYERS = 100_000
"""Fifty times what the largest published nets have."""


def read_net(source: FileSource, stated: CaffeNet | None = None) -> TensorStore:
    """The tensors of a binary net, and the net without them as the attachment `caffe.net`.

    `stated` is the net's text, if there is one: it knows the layers' parameters by name, and the types of layers that
    the file does not.

    Raises:
        FormatError: the file is no NetParameter, or a blob's values do not fill its shape.
    """
    store = TensorStore()
    reader = BlobReader(source, store)
    net, dialects = [], set()
    layers: list[Layer] = []
    documents: list[bytes] = []
    skeleton = scan(source, NET_RULE)
    for field in fields(skeleton):
        whole, body = skeleton[field.start : field.end], skeleton[field.body : field.end]
        if field.number in (V1_LAYERS, V2_LAYERS) and field.wire == DELIMITED:
            if len(layers) == _MAX_LAYERS:
                raise UnsafeFileError("S100", f"the net has more than {_MAX_LAYERS:,} layers", path=source.path)
            record = LayerRecord(body, field.number, len(layers))
            dialects.add(record.dialect)
            layers.append(record.layer(reader))
            net.append(message_field(field.number, without_values(record, layers[-1])))
        elif field.number == PORTER and field.wire == DELIMITED:
            documents.append(body)
        else:
            net.append(whole)
    reader.report()
    if not layers and not documents:
        _check_fields(skeleton, NET_FIELDS, "net", source.path)
        store.note("note", "the net has no layers")
    said = len(store.notices)
    by_name = stated.by_name() if stated is not None else {}
    add_layers(store, [_with_stated(layer, by_name.get(layer.name)) for layer in layers])
    store.attachments[NET] = b"".join(net)
    store.source = Provenance(source.path, "caffe", dialects.pop() if len(dialects) == 1 else "mixed" if dialects else "v2")
    return described(store, documents, said)


def _with_stated(layer: Layer, text: CaffeLayer | None) -> Layer:
    """`layer` with what the text of its net says of it, where that has it."""
    if text is None:
        return layer
    return replace(layer, type=layer.type or text.type, parameter=text.parameter, bottoms=len(text.bottoms) or layer.bottoms)


def read_solver_state(source: FileSource) -> TensorStore:
    """The history of a solver as `history.0`, `history.1` …; iteration, net and step as metadata.

    Source: BVLC/caffe caffe.proto, SolverState; the SSD fork adds `minimum_loss` and `iter_last_event`.
    """
    store = TensorStore(source=Provenance(source.path, "caffe", "solverstate"))
    skeleton = scan(source, SOLVER_RULE)
    message = Values(skeleton, "the solver state")
    if not message.messages(HISTORY):
        _check_fields(skeleton, SOLVER_FIELDS, "solver state", source.path)
    if unknown := sorted({f.number for f in fields(skeleton)} - set(SOLVER_FIELDS)):
        store.note("skipped", f"the solver state has fields that no known Caffe writes: {', '.join(map(str, unknown))}")
    for name, number in (("iter", 1), ("current_step", 4), ("iter_last_event", 6)):
        if (value := message.int32(number)) is not None:
            store.metadata[name] = value
    if (packed := message.fixed32(5)) is not None:
        store.metadata["minimum_loss"] = struct.unpack("<f", packed)[0]
    if (net := message.text(2)) is not None:
        store.metadata["learned_net"] = decoded(net)
    reader = BlobReader(source, store)
    for index, data in enumerate(message.messages(HISTORY)):
        name = f"{HISTORY_PREFIX}{index}"
        blob = reader.read(data, name)
        if blob is not None:
            store.add(history_tensor(name, index, blob))
    reader.report()
    return described(store, message.messages(PORTER), len(store.notices))


def read_mean(source: FileSource) -> TensorStore:
    """A lone blob, such as the mean image that goes with a net (`mean.binaryproto`), as the tensor `mean` in the file's shape.

    Source: BVLC/caffe `tools/compute_image_mean.cpp` at 9b891540183d, which writes num, channels, height, width and data.
    """
    store = TensorStore(source=Provenance(source.path, "caffe", "mean"))
    reader = BlobReader(source, store)
    blob = reader.read(scan(source, BLOB_RULE), "the blob")
    if blob is None:
        raise FormatError("F100", "this is no Caffe blob with values", path=source.path, hint="let porter tell the format, without -f")
    reader.report()
    axes = "NCHW" if blob.legacy else None
    store.add(Tensor(TensorSpec(MEAN, blob.dtype, blob.shape, axes, attributes=shape_attributes(blob, blob.shape)), blob.payload))
    return store


def _check_fields(skeleton: bytes, known: Mapping[int, set[int]], what: str, path: str) -> None:
    """Refuse a file without a single part of a Caffe file whose fields are not of the types that they should be.

    It parses, as many things do, and yet it is something else: another kind of protobuf file, read as Caffe on request.
    """
    for found in fields(skeleton):
        if found.wire not in known.get(found.number, set()):
            raise FormatError(
                "F100", f"this parses as protobuf and is no Caffe {what}", path=path, hint="let porter tell the format, without -f"
            )


def history_tensor(name: str, index: int, blob: Blob) -> Tensor:
    """The tensor of a solver's history blob; its shape stays the file's, since nothing says of which layer it is."""
    attributes: dict[str, Json] = {BLOB: index, **shape_attributes(blob, blob.shape)}
    return Tensor(TensorSpec(name, blob.dtype, blob.shape, attributes=attributes), blob.payload)


@dataclass(frozen=True)
class LayerRecord:
    """One layer of a net as bytes, values cut out: its generation tells `field` (the number in NetParameter) and what is inside."""

    data: bytes
    field: int
    position: int

    @cached_property
    def values(self) -> Values:
        """The layer's fields."""
        return Values(self.data, f"layer {self.position}")

    @cached_property
    def _inner(self) -> Values:
        """The fields that have name, type and blobs: those of the V0 layer inside, or the layer's own."""
        inside = self.values.messages(V0_LAYER) if self.field == V1_LAYERS else []
        return Values(b"".join(inside), f"layer {self.position}") if inside else self.values

    @property
    def dialect(self) -> str:
        """Which generation of the format wrote the layer: "v2", "v1" or "v0"."""
        return "v2" if self.field == V2_LAYERS else "v1" if self._inner is self.values else "v0"

    @property
    def name(self) -> str:
        return decoded(self._inner.text(4 if self.dialect == "v1" else 1) or b"")

    @property
    def type_number(self) -> int | None:
        """The type of a V1 layer, None for one of another generation."""
        return self.values.int32(5) if self.dialect == "v1" else None

    @property
    def type(self) -> str | None:
        """The type in the spelling of V2, None where the layer says none that is known."""
        if self.dialect == "v1":
            return upgrade_type(self.type_number) or None if self.type_number is not None else None
        kind = self._inner.text(2)
        return upgrade_type(decoded(kind)) or None if kind else None

    @property
    def shared(self) -> tuple[str, ...]:
        """The names of the layer's parameters in order, "" for one without."""
        if self.field == V2_LAYERS:
            return tuple(decoded(Values(data, "a param").text(1) or b"") for data in self.values.messages(6))
        return tuple(map(decoded, self.values.messages(1001)))

    @property
    def bottoms(self) -> int | None:
        """How many inputs the layer has, None for a layer that states neither inputs nor outputs."""
        first = 3 if self.field == V2_LAYERS else 2
        bottoms, tops = self.values.messages(first), self.values.messages(first + 1)
        return len(bottoms) if bottoms or tops else None

    @property
    def blobs_inside(self) -> bool:
        """Whether the blobs are in the V0 layer, beside its parameters."""
        return self.dialect == "v0" and bool(self._inner.messages(V0_BLOBS))

    def blobs(self) -> list[bytes]:
        """The layer's blobs, as messages."""
        if self.blobs_inside:
            return self._inner.messages(V0_BLOBS)
        return self.values.messages(V2_BLOBS if self.field == V2_LAYERS else V1_BLOBS)

    def layer(self, reader: BlobReader) -> Layer:
        """The layer with its blobs."""
        blobs = tuple(reader.read(data, f"blob {i} of layer '{self.name}'") for i, data in enumerate(self.blobs()))
        if self.type is None and blobs and self.type_number is not None:
            reader.store.note("assumed", f"layer '{self.name}' has the type number {self.type_number}, which Caffe's V1 does not define")
        return Layer(self.name, self.type, blobs, self.shared, parameter_of(self), self.bottoms)


def parameter_of(record: LayerRecord) -> Callable[[str], Scalar | None]:
    """Looks up parameters of a layer by path; parses them when the first one is asked for.

    A fork may mean something else by a number, so what does not parse, or is no such message, is not stated.
    """
    parsed: list[Any] = []

    def look_up(path: str) -> Scalar | None:
        if not parsed:
            from porter.io.protobuf_messages import message_classes, parse

            name = "caffe.LayerParameter" if record.field == V2_LAYERS else "caffe.V1LayerParameter"
            try:
                parsed.append(parse(message_classes("caffe.binpb")[name], record.data, "a layer"))
            except FormatError:
                parsed.append(None)
        message = parsed[0]
        for part in path.split("."):
            if message is None or part not in message.DESCRIPTOR.fields_by_name or not message.HasField(part):
                return None
            message = getattr(message, part)
        return message if isinstance(message, bool | int | float | str) else None

    return look_up


def without_values(record: LayerRecord, layer: Layer) -> bytes:
    """The layer without the blobs that became tensors, all else byte for byte; a blob without values keeps its shape."""
    has_values = iter([blob is not None for blob in layer.blobs])
    if record.field == V2_LAYERS:
        return b"".join(_stripped(record.data, V2_BLOBS, has_values))
    inside = record.blobs_inside
    out = []
    for field in fields(record.data):
        if inside and field.number == V0_LAYER and field.wire == DELIMITED:
            body = b"".join(_stripped(record.data[field.body : field.end], V0_BLOBS, has_values))
            out.append(message_field(V0_LAYER, body))
        elif inside and field.number == V1_BLOBS:
            continue
        else:
            out.append(record.data[field.start : field.end])
    return b"".join(out) if inside else b"".join(_stripped(b"".join(out), V1_BLOBS, has_values))


def _stripped(data: bytes, blobs: int, has_values: Iterator[bool]) -> Iterator[bytes]:
    for field in fields(data):
        if field.number != blobs or field.wire != DELIMITED:
            yield data[field.start : field.end]
        elif not next(has_values, False):
            yield message_field(blobs, _without_cuts(data[field.body : field.end]))


def _without_cuts(data: bytes) -> bytes:
    return b"".join(data[f.start : f.end] for f in fields(data) if f.number != CUT_FIELD)


def described(store: TensorStore, documents: Sequence[bytes], said: int) -> TensorStore:
    """`store` with what porter itself wrote into the file about it.

    Notices from the one at `said` on are about names, and are void where a document gives the names.
    """
    for data in documents:
        document = manifest.loads(data, WHERE)
        if names_in(document):
            del store.notices[said:]
        store = restore(store, document)
    return store
