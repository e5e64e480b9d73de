"""Writing binary nets and solver states: the structure that a store brings or a prototxt gives, with the tensors in it.

What of a store a Caffe file has no field for goes into a field of porter's own (`description`), so a net that came from
a Caffe file of V2 is written byte for byte as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from porter import manifest
from porter.dataclass import dataclass, field
from porter.errors import FormatError, LossError
from porter.formats.base import Loss, WriteOptions, WriteReport
from porter.formats.caffe.binary import (
    HISTORY,
    HISTORY_PREFIX,
    PORTER,
    V1_BLOBS,
    V1_LAYERS,
    V2_BLOBS,
    V2_LAYERS,
    LayerRecord,
    history_tensor,
    read_net,
)
from porter.formats.caffe.blobs import encode_blob, legacy_shape
from porter.formats.caffe.description import SOLVER_MARK, describe
from porter.formats.caffe.detect import binary_dialect, dialect_of
from porter.formats.caffe.fields import fields, message_field, number_field
from porter.formats.caffe.generations import v1_as_v2, v2_as_v1
from porter.formats.caffe.layers import MAX_AXES, NET, SHAPE, add_layers
from porter.formats.caffe.net_shapes import notice_of, take_shapes
from porter.formats.caffe.placing import Placing, Slot, as_read
from porter.formats.caffe.remarks import remarks
from porter.formats.caffe.values import prepare, reduced
from porter.io.atomic import OutputGroup
from porter.io.protobuf_wire import DELIMITED, FIXED32, delimited, encode_tag
from porter.io.source import FileSource
from porter.store import Notice, TensorStore
from porter.tensor import BytesPayload, Json, Payload, Tensor

_LARGEST_MESSAGE = (1 << 31) - 1
"""Bytes that protobuf's readers take at most. Source: protobuf.dev, "Proto Limits"."""

_JOINED = 1 << 16


@dataclass(slots=True)
class _Base:
    """The net to write into: serialised fields and slots for layers, in order, and what bringing it into shape has cost."""

    parts: list[bytes | Slot] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    @property
    def slots(self) -> list[Slot]:
        return [part for part in self.parts if isinstance(part, Slot)]


def write_net(store: TensorStore, path: str, options: WriteOptions, dialect: str) -> WriteReport:
    """Write `store` as a net of layers of `dialect` ("v2" or "v1").

    Raises:
        LossError: a tensor has no place or no exact value there.
        FormatError: the net that the store brings, or the one that `options.net` names, does not parse.
    """
    prepared = prepare(store, options)
    _refuse_axes(prepared.tensors.values())
    base = _base_net(store, options, dialect)
    placing = Placing(base.slots)
    placing.place(prepared.tensors.values())
    base.parts += placing.added
    if options.net is not None:
        base.notices += _reshape(base.slots, prepared.tensors)
    _keep_shapes(base.slots)
    written = reduced(store, prepared.tensors)
    document = _document(written, base.slots)
    notices = [*base.notices, *remarks(placing, stated=options.net is not None)]
    parts = list(_net_payloads(base, dialect, document))
    notices += _too_large(parts)
    _write(path, parts, options)
    return WriteReport("caffe", dialect, (path,), len(written), (*prepared.losses, *base.losses), tuple(notices))


def _keep_shapes(slots: Sequence[Slot]) -> None:
    """Forget the stated shape of blobs that a reader would give another shape than the tensor has: its type is not what it was."""
    entries = [(slot, index) for slot in slots for index in sorted(slot.blobs)]
    if all(legacy_shape(slot.blobs[index]) is None for slot, index in entries):
        return
    derived = TensorStore()
    add_layers(derived, [slot.layer() for slot in slots])
    for (slot, index), found in zip(entries, derived.values(), strict=True):
        tensor = slot.blobs[index]
        if found.shape != tensor.shape and legacy_shape(tensor) is not None:
            slot.blobs[index] = _without_stated_shape(tensor)


def _reshape(slots: Sequence[Slot], tensors: dict[str, Tensor]) -> list[Notice]:
    """Give flat tensors the shapes that the net says, in their slots and in `tensors`."""
    changed = take_shapes(slots)
    tensors.update(changed)
    return [notice_of(changed)] if changed else []


def write_solver_state(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write the tensors of `store` as the history of a solver, with the iteration and the net from its metadata.

    Raises:
        LossError: a dtype that has no exact place there.
    """
    prepared = prepare(store, options)
    _refuse_axes(prepared.tensors.values())
    written = reduced(store, prepared.tensors)
    order = [_plain(tensor) for tensor in sorted(prepared.tensors.values(), key=_history_index)]
    head, tail, known = _solver_fields(store.metadata)
    derived = TensorStore()
    for index, tensor in enumerate(order):
        derived.add(history_tensor(f"{HISTORY_PREFIX}{index}", index, as_read(tensor)))
    rest = TensorStore(written.values())
    rest.ties, rest.attachments = written.ties, written.attachments
    rest.metadata = {k: v for k, v in written.metadata.items() if k not in known}
    losses = list(prepared.losses)
    if NET in written.attachments:
        losses.append(Loss("attachment", "the net's structure, which a solver state has no place for"))
    document = describe(rest, [t.name for t in order], derived)
    if document is not None or not order:
        document = {**(document or {"porter": manifest.VERSION}), **SOLVER_MARK}
    parts: list[Payload] = [BytesPayload.of(head)]
    for tensor in order:
        parts += encode_blob(HISTORY, tensor)
    parts += [BytesPayload.of(tail), *_porter_field(document, empty=False)]
    _write(path, parts, options)
    return WriteReport("caffe", "solverstate", (path,), len(order), tuple(losses), tuple(_too_large(parts)))


def _base_net(store: TensorStore, options: WriteOptions, dialect: str) -> _Base:
    """The net of `options.net`, else the one that `store` brings, else an empty one."""
    base = _Base()
    if options.net is not None:
        data = _net_of_prototxt(options.net, base)
        if NET in store.attachments:
            base.notices.append(Notice("changed", f"the structure is that of {options.net}, not the one that the weights came with"))
            base.losses.append(Loss("attachment", "the net that the weights came with, replaced by --net"))
    else:
        data = _net_of_store(store, base)
    strays: set[int] = set()
    converted, position = False, 0
    for found in fields(data):
        if found.number in (V1_LAYERS, V2_LAYERS) and found.wire == DELIMITED:
            record = LayerRecord(data[found.body : found.end], found.number, position)
            base.parts.append(_slot(record, dialect, strays))
            position += 1
            converted |= found.number != _layer_field(dialect)
        elif found.number != PORTER:
            base.parts.append(data[found.start : found.end])
    if converted and options.net is None:
        base.losses.append(Loss("attachment", f"the net's layers, which become {dialect.upper()}"))
    if strays:
        base.notices.append(Notice("skipped", f"{dialect.upper()} layers have no place for {_field_names(strays, dialect)}"))
    return base


def _field_names(numbers: set[int], dialect: str) -> str:
    """What fields of layers of the other generation than `dialect` are called, or their numbers."""
    from porter.io.protobuf_messages import message_classes

    message = message_classes("caffe.binpb")["caffe.V1LayerParameter" if dialect == "v2" else "caffe.LayerParameter"]
    known = message.DESCRIPTOR.fields_by_number
    return ", ".join(known[n].name if n in known else f"field {n}" for n in sorted(numbers))


def _net_of_store(store: TensorStore, base: _Base) -> bytes:
    """The net that `store` brings as an attachment, which may come from anywhere."""
    try:
        return _upgraded(store.attachments.get(NET, b""), base)
    except FormatError as error:
        raise FormatError(
            "F104", f"the attachment '{NET}' is no Caffe net: {error.message}", hint="give the net that the weights belong to with --net"
        ) from error


def _no_v1_type(name: str, kind: str | None) -> LossError:
    return LossError("L104", f"layer '{name}' is a {kind}, which V1 does not have", hint="write the current generation: -t caffe:v2")


def _layer_field(dialect: str) -> int:
    return V2_LAYERS if dialect == "v2" else V1_LAYERS


def _slot(record: LayerRecord, dialect: str, strays: set[int]) -> Slot:
    """The slot of one layer of the net, without the blobs that are left in it, its record in the generation of `dialect`."""
    number = V2_BLOBS if record.field == V2_LAYERS else V1_BLOBS
    kept, rest = [], []
    for found in fields(record.data):
        whole = record.data[found.start : found.end]
        if found.number == number and found.wire == DELIMITED:
            kept.append(record.data[found.body : found.end])
        else:
            rest.append(whole)
    record = LayerRecord(b"".join(rest), record.field, record.position)
    name, kind = record.name, record.type
    if record.field != _layer_field(dialect):
        converted = v1_as_v2(record) if dialect == "v2" else v2_as_v1(record)
        if converted is None:
            raise _no_v1_type(name, kind)
        strays.update(converted[1])
        record = LayerRecord(converted[0], _layer_field(dialect), record.position)
    return Slot(name, kind, record, kept)


def _net_of_prototxt(path: str, base: _Base) -> bytes:
    """The net at `path` as a serialised NetParameter without weights; `path` may also be a binary net."""
    from porter.formats.caffe.net import net_from_prototxt
    from porter.formats.caffe.net_bytes import serialise

    source = FileSource(path)
    try:
        if binary_dialect(source) in ("v2", "v1", "v0"):
            return _upgraded(read_net(source).attachments[NET], base)
    finally:
        source.close()
    net = net_from_prototxt(path)
    strays: list[str] = []
    data = serialise(net, strays)
    base.notices += [Notice("note", f"{path}: {notice}") for notice in net.notices]
    base.notices += [Notice("skipped", f"{path}: {notice}") for notice in strays]
    return data


def _upgraded(data: bytes, base: _Base) -> bytes:
    """`data` with layers of V0 as those of V2; other nets unchanged."""
    records = (LayerRecord(data[f.body : f.end], V1_LAYERS, 0) for f in fields(data) if f.number == V1_LAYERS and f.wire == DELIMITED)
    if not any(record.dialect == "v0" for record in records):
        return data
    from porter.formats.caffe.oldest import upgraded_net

    upgraded, strays = upgraded_net(data)
    base.losses.append(Loss("attachment", "the net's V0 layers, which become V2"))
    if strays:
        base.notices.append(Notice("skipped", f"bringing V0 layers up to date did not keep: {', '.join(strays)}"))
    return upgraded


def _document(written: TensorStore, slots: Sequence[Slot]) -> dict[str, Json] | None:
    """What has to be said in porter's own field, after working out what a reader will make of the layers."""
    derived = TensorStore()
    add_layers(derived, [slot.layer() for slot in slots])
    placed = [tensor.name for slot in slots for _, tensor in sorted(slot.blobs.items())]
    return describe(written, placed, derived)


def _net_payloads(base: _Base, dialect: str, document: dict[str, Json] | None) -> Iterator[Payload]:
    known = False
    for part in base.parts:
        if isinstance(part, bytes):
            yield BytesPayload.of(part)
        else:
            layer = _layer_payloads(part, dialect)
            known = known or _shows_a_net(layer)
            yield from layer
    yield from _porter_field(document, empty=not known)


def _shows_a_net(layer: Iterable[Payload]) -> bool:
    """Whether the file of a layer, written as these, will be known for what it is: names of layers may be any bytes."""
    head = b""
    for part in layer:
        if not isinstance(part, BytesPayload):
            break
        head += part.data
    return dialect_of(lambda at, most: head[at : at + most]) in ("v0", "v1", "v2")


def _layer_payloads(slot: Slot, dialect: str) -> list[Payload]:
    """A layer with its blobs where the order of field numbers has them, which is where Caffe writes them."""
    blobs_number = V2_BLOBS if dialect == "v2" else V1_BLOBS
    data = slot.record.data if slot.record is not None else _new_layer(slot, dialect)
    split = next((found.start for found in fields(data) if found.number > blobs_number), len(data))
    blobs: list[Payload] = []
    for entry in slot.entries():
        blobs += [BytesPayload.of(message_field(blobs_number, entry))] if isinstance(entry, bytes) else encode_blob(blobs_number, entry)
    return delimited(_layer_field(dialect), data[:split], *blobs, data[split:])


def _new_layer(slot: Slot, dialect: str) -> bytes:
    """A layer that has nothing but its name and type. The document keeps a name that is not valid Unicode."""
    name = slot.name.encode("utf-8", "backslashreplace")
    data = message_field(1, name) + (message_field(2, slot.type.encode("utf-8", "backslashreplace")) if slot.type else b"")
    if dialect == "v2":
        return data
    converted = v2_as_v1(LayerRecord(data, V2_LAYERS, 0))
    if converted is None:
        raise _no_v1_type(slot.name, slot.type)
    return converted[0]


def _porter_field(document: dict[str, Json] | None, *, empty: bool) -> list[Payload]:
    """Porter's own field; a file that nothing else would tell from others has it too, so that it is known for what it is."""
    if document is None and not empty:
        return []
    return delimited(PORTER, manifest.dumps(document or {"porter": manifest.VERSION}).encode("ascii"))


def _too_large(parts: Sequence[Payload]) -> list[Notice]:
    total = sum(part.nbytes for part in parts)
    if total <= _LARGEST_MESSAGE:
        return []
    return [
        Notice("note", f"the file has {total} bytes; protobuf reads less than 2 GiB, so Caffe and OpenCV will refuse it, porter will not")
    ]


def _write(path: str, parts: Sequence[Payload], options: WriteOptions) -> None:
    with OutputGroup(progress=options.progress) as group:
        file = group.create(path)
        file.reserve(sum(part.nbytes for part in parts))
        pending = bytearray()
        for part in parts:
            if isinstance(part, BytesPayload) and part.nbytes < _JOINED:
                pending += part.data
                continue
            file.write(bytes(pending))
            pending.clear()
            file.write_payload(part)
        file.write(bytes(pending))


def _refuse_axes(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        if len(tensor.shape) > MAX_AXES:
            raise LossError(
                "L105", f"{len(tensor.shape)} dimensions; Caffe allows {MAX_AXES}", tensor=tensor.name, hint="join some with a map"
            )


def _plain(tensor: Tensor) -> Tensor:
    """`tensor` without a stated shape that no layer's type would bring back to its own: a history has no layers."""
    stated = legacy_shape(tensor)
    if stated is None or (stated or ((tensor.size,) if tensor.size != 1 else ())) == tensor.shape:
        return tensor
    return _without_stated_shape(tensor)


def _without_stated_shape(tensor: Tensor) -> Tensor:
    return tensor.with_spec(attributes={k: v for k, v in tensor.attributes.items() if k != SHAPE})


def _history_index(tensor: Tensor) -> tuple[bool, int]:
    prefix, _, number = tensor.name.rpartition(".")
    numbered = prefix == HISTORY_PREFIX[:-1] and number.isdecimal()
    return not numbered, int(number) if numbered and len(number) < 10 else 0


def _solver_fields(metadata: dict[str, Json]) -> tuple[bytes, bytes, frozenset[str]]:
    """The fields of a solver state before and behind its history, and the metadata that they hold."""
    known: dict[str, bytes] = {}
    for name, number in (("iter", 1), ("current_step", 4), ("iter_last_event", 6)):
        value = metadata.get(name)
        if type(value) is int and -(1 << 31) <= value < 1 << 31:
            known[name] = number_field(number, value)
    net, loss = metadata.get("learned_net"), metadata.get("minimum_loss")
    if isinstance(net, str) and net.isprintable():
        known["learned_net"] = message_field(2, net.encode("utf-8"))
    if isinstance(loss, float) and struct.unpack("<f", packed := _float32(loss))[0] == loss:
        known["minimum_loss"] = encode_tag(5, FIXED32) + packed
    head = b"".join(known.get(name, b"") for name in ("iter", "learned_net"))
    tail = b"".join(known.get(name, b"") for name in ("current_step", "minimum_loss", "iter_last_event"))
    return head, tail, frozenset(known)


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("nan"))
