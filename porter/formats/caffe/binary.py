"""Reading binary nets and solver states: layers of all three generations, blobs left where they lie.

Source: BVLC/caffe `src/caffe/proto/caffe.proto` at 9b891540183d: NetParameter has V2 layers as field 100 and V1 layers as
field 2, whose own field 1 is a V0 layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from porter import manifest
from porter.errors import FormatError
from porter.formats.caffe.blobs import BLOB_RULE, BlobReader
from porter.formats.caffe.description import WHERE, names_in, restore
from porter.formats.caffe.fields import fields, message_field
from porter.formats.caffe.layer_types import Scalar, upgrade_type
from porter.formats.caffe.layers import BLOB, NET, Blob, Layer, add_layers, decoded, shape_attributes
from porter.io.protobuf_messages import message_classes, parse
from porter.io.protobuf_wire import CUT_FIELD, DELIMITED, Rule, scan
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore
from porter.tensor import Json, Tensor, TensorSpec

NAME, V1_LAYERS, V2_LAYERS, HISTORY, PORTER = 1, 2, 100, 3, 535_000_001
V2_BLOBS, V1_BLOBS, V0_BLOBS, V0_LAYER = 7, 6, 50, 1

_V0_RULE = Rule(descend={V0_BLOBS: BLOB_RULE})
_V1_RULE = Rule(descend={V1_BLOBS: BLOB_RULE, V0_LAYER: _V0_RULE})
_V2_RULE = Rule(descend={V2_BLOBS: BLOB_RULE})
NET_RULE = Rule(descend={V1_LAYERS: _V1_RULE, V2_LAYERS: _V2_RULE})
SOLVER_RULE = Rule(descend={HISTORY: BLOB_RULE})

HISTORY_PREFIX = "history."


def read_net(source: FileSource) -> TensorStore:
    """The tensors of a binary net, and the net without them as the attachment `caffe.net`.

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
            record = LayerRecord(body, field.number, len(layers))
            dialects.add(record.dialect)
            layers.append(record.layer(reader, source.path))
            net.append(message_field(field.number, without_values(record, layers[-1])))
        elif field.number == PORTER and field.wire == DELIMITED:
            documents.append(body)
        else:
            net.append(whole)
    reader.note_gradients()
    said = len(store.notices)
    add_layers(store, layers)
    store.attachments[NET] = b"".join(net)
    store.source = Provenance(source.path, "caffe", dialects.pop() if len(dialects) == 1 else "mixed" if dialects else "v2")
    return described(store, documents, said)


def read_solver_state(source: FileSource) -> TensorStore:
    """The history of a solver as `history.0`, `history.1` …; iteration, net and step as metadata.

    Source: BVLC/caffe caffe.proto, SolverState; the SSD fork adds `minimum_loss` and `iter_last_event`.
    """
    store = TensorStore(source=Provenance(source.path, "caffe", "solverstate"))
    skeleton = scan(source, SOLVER_RULE)
    message = parse(message_classes("caffe.binpb")["caffe.SolverStateWeights"], skeleton, "the solver state", source.path)
    if unknown := [f.number for f in fields(skeleton) if f.number not in _SOLVER_FIELDS]:
        store.note("skipped", f"the solver state has fields that no known Caffe writes: {', '.join(map(str, sorted(set(unknown))))}")
    for name in ("iter", "current_step", "minimum_loss", "iter_last_event"):
        if message.HasField(name):
            store.metadata[name] = getattr(message, name)
    if message.HasField("learned_net"):
        store.metadata["learned_net"] = decoded(message.learned_net)
    reader = BlobReader(source, store)
    for index, blob_message in enumerate(message.history):
        name = f"{HISTORY_PREFIX}{index}"
        blob = reader.read(blob_message, name)
        if blob is not None:
            store.add(history_tensor(name, index, blob))
    reader.note_gradients()
    return described(store, list(message.porter), len(store.notices))


_SOLVER_FIELDS = frozenset({1, 2, 3, 4, 5, 6, PORTER})


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
    def message(self) -> Any:
        """The parsed layer: `caffe.LayerWeights` or `caffe.V1LayerWeights`."""
        name = "caffe.LayerWeights" if self.field == V2_LAYERS else "caffe.V1LayerWeights"
        return parse(message_classes("caffe.binpb")[name], self.data, f"layer {self.position}")

    @property
    def dialect(self) -> str:
        """Which generation of the format wrote the layer: "v2", "v1" or "v0"."""
        return "v2" if self.field == V2_LAYERS else "v0" if self.message.HasField("layer") else "v1"

    @property
    def name(self) -> str:
        return decoded(self._inner.name)

    @property
    def type(self) -> str | None:
        """The type in the spelling of V2, None where the layer says none that is known."""
        if not self._inner.HasField("type"):
            return None
        value = self._inner.type
        return upgrade_type(value if isinstance(value, int) else decoded(value)) or None

    @property
    def shared(self) -> tuple[str, ...]:
        """The names of the layer's parameters in order, "" for one without."""
        if self.field == V2_LAYERS:
            return tuple(decoded(param.name) for param in self.message.param)
        return tuple(map(decoded, self.message.param))

    @property
    def bottoms(self) -> int | None:
        """How many inputs the layer has, None for a layer that states neither inputs nor outputs."""
        return len(self.message.bottom) if self.message.bottom or self.message.top else None

    @property
    def _inner(self) -> Any:
        return self.message.layer if self.dialect == "v0" else self.message

    def blob_messages(self) -> list[Any]:
        """The layer's blobs; a V0 layer has them inside, beside its parameters."""
        inner = list(self.message.layer.blobs) if self.dialect == "v0" else []
        return inner or list(self.message.blobs)

    def layer(self, reader: BlobReader, path: str) -> Layer:
        """The layer with its blobs."""
        try:
            messages = self.blob_messages()
        except FormatError as error:
            raise error.located(path=path) from error.__cause__
        blobs = tuple(reader.read(m, f"blob {i} of layer '{self.name}'") for i, m in enumerate(messages))
        kind = self.type
        if kind is None and blobs and self._inner.HasField("type") and isinstance(self._inner.type, int):
            reader.store.note("assumed", f"layer '{self.name}' has the type number {self._inner.type}, which Caffe's V1 does not define")
        return Layer(self.name, kind, blobs, self.shared, parameter_of(self), self.bottoms)


def parameter_of(record: LayerRecord) -> Callable[[str], Scalar | None]:
    """Looks up parameters of a layer by path; parses them when the first one is asked for.

    A fork may mean something else by a number, so what does not parse, or is no such message, is not stated.
    """
    parsed: list[Any] = []

    def look_up(path: str) -> Scalar | None:
        if not parsed:
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
    inside = record.dialect == "v0" and len(record.message.layer.blobs) > 0
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
