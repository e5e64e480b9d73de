"""Putting values into an existing ONNX model: the tensors of the same names get them, and every other byte stays.

Values go where the old ones were: into raw_data, into the same typed field, packed or not as it was, into the attribute of
a Constant node. Only what lies in data files moves: they are written anew beside the output, as one file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from porter.dataclass import dataclass
from porter.errors import LossError, UsageError, printable
from porter.formats.base import Loss, WriteOptions, WriteReport, refuse_overwrite
from porter.formats.onnx.contents import Entry, read_entries
from porter.formats.onnx.structure import (
    ATTRIBUTE_F,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_I,
    ATTRIBUTE_INTS,
    DATA_LOCATION,
    DOUBLE_DATA,
    EXTERNAL_DATA,
    FLOAT_DATA,
    RAW_DATA,
    read_structure,
    text,
)
from porter.formats.onnx.varints import EncodedVarints
from porter.formats.onnx.weights_model import LIMIT, alignment_of, external_entries
from porter.io.atomic import OutputGroup
from porter.io.payloads import ComputedPayload
from porter.io.protobuf_splice import Edit, splice, without_fields
from porter.io.protobuf_wire import DELIMITED, FIXED32, FIXED64, VARINT, encode_tag, encode_varint
from porter.io.source import FileSource
from porter.store import Notice, TensorStore
from porter.tensor import Payload, Tensor

_FIXED = {FLOAT_DATA: (4, FIXED32), DOUBLE_DATA: (8, FIXED64)}

_TOO_LARGE = "give --into a model that keeps its weights as external data"


def write_into(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write the model `options.into` to `path` with the values of `store` in it.

    Tensors of the model that `store` lacks stay, and the report names them. The model itself is left alone, unless
    `path` is its name.

    Raises:
        UsageError: a tensor of `store` is not in the model, or has another type or shape there.
        FormatError: the model is damaged.
    """
    into = os.fspath(options.into or "")
    model = TensorStore()
    source = FileSource(into)
    model.manage(source)
    with model:
        structure = read_structure(source, marked=True)
        entries = {e.name: e for e in read_entries(structure, source, model)}
        model.metadata.update({text(p.key): text(p.value) for p in structure.metadata_props})
        _refuse_strangers(store, entries, into)
        for tensor in store.values():
            _refuse_mismatch(tensor, entries[tensor.name], into)
        data_name = os.path.basename(path) + ".data"
        moved = _Moved(entries.values(), store, data_name)
        edits = [_edit(entries[t.name], t, source) for t in store.values() if t.nbytes and entries[t.name].values.external is None]
        body = splice(source, edits + moved.edits(source))
        size = sum(p.nbytes for p in body)
        if size > LIMIT >= source.size:
            raise LossError("L303", f"the model would grow to {size} bytes, more than a .onnx file may have", path=path, hint=_TOO_LARGE)
        paths: tuple[str, ...] = (path,)
        if moved.placed:
            paths = (path, os.path.join(os.path.dirname(path), data_name))
            refuse_overwrite(paths[1], options)
        with OutputGroup(progress=options.progress) as group:
            if moved.placed:
                moved.write(group, paths[1])
            file = group.create(path)
            file.reserve(size)
            for payload in body:
                file.write_payload(payload)
    said = (notice for notice in model.notices if notice.kind != "skipped")
    notices = (*said, *_kept(entries, store, into), *moved.notices())
    return WriteReport("onnx", "model", paths, len(store), _left_behind(store, model), notices)


def _refuse_strangers(store: TensorStore, entries: dict[str, Entry], into: str) -> None:
    strangers = [name for name in store if name not in entries]
    if not strangers:
        return
    shown = []
    for name in strangers[:3]:
        near = difflib.get_close_matches(name, list(entries), 1)
        shown.append(f"'{printable(name)}'" + (f" (did you mean '{printable(near[0])}'?)" if near else ""))
    more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
    raise UsageError(
        "U301",
        f"the model has no {'tensor' if len(strangers) == 1 else 'tensors'} {', '.join(shown)}{more}",
        path=into,
        tensor=strangers[0],
        hint="rename or drop them with a map; 'porter inspect' lists the model's names",
    )


def _refuse_mismatch(tensor: Tensor, entry: Entry, into: str) -> None:
    dtype, shape = entry.values.dtype, entry.values.shape
    if tensor.dtype != dtype or tensor.shape != shape:
        raise UsageError(
            "U302",
            f"the model has {dtype} {list(shape)} here, the source {tensor.dtype} {list(tensor.shape)}",
            path=into,
            tensor=tensor.name,
            hint="a map can transpose, reshape or cast it",
        )
    if entry.segments > 1 or (not entry.found.numbers and entry.found.proto.HasField("segment")):
        raise UsageError("U303", "the model stores it in segments, which are read and not replaced", path=into, tensor=tensor.name)


def _edit(entry: Entry, tensor: Tensor, source: FileSource) -> Edit:
    """The edit that puts the values of `tensor` where those of `entry` lie. The tensor is not empty and lies in the model's file."""
    if entry.found.numbers:
        return _number_edit(entry, tensor, source)
    field = entry.values.field
    assert field is not None
    fixed = _FIXED.get(field)
    if field == RAW_DATA or fixed is not None:
        width, wire = fixed or (0, DELIMITED)
        return _field_edit(entry, source, field, tensor.payload, _Tagged(tensor.payload, encode_tag(field, wire), width))
    packed = EncodedVarints.of(tensor.payload, tensor.dtype, tensor.size)
    return _field_edit(entry, source, field, packed, _Varints(tensor, encode_tag(field, VARINT)))


def _number_edit(entry: Entry, tensor: Tensor, source: FileSource) -> Edit:
    field = entry.values.field
    if field == ATTRIBUTE_F:
        return _rebuilt(entry, source, field, encode_tag(field, FIXED32) + tensor.tobytes())
    if field == ATTRIBUTE_I:
        value = int.from_bytes(tensor.tobytes(), "little")
        return _rebuilt(entry, source, field, encode_tag(field, VARINT) + encode_varint(value))
    if field == ATTRIBUTE_FLOATS:
        return _field_edit(entry, source, field, tensor.payload, _Tagged(tensor.payload, encode_tag(field, FIXED32), 4))
    packed = EncodedVarints.of(tensor.payload, tensor.dtype, tensor.size)
    return _field_edit(entry, source, ATTRIBUTE_INTS, packed, _Varints(tensor, encode_tag(ATTRIBUTE_INTS, VARINT)))


@dataclass(frozen=True, slots=True)
class _Tagged:
    """Fixed-width elements with the tag before each, made when wanted."""

    payload: Payload
    tag: bytes
    width: int

    def make(self) -> Payload:
        step = len(self.tag) + self.width
        return ComputedPayload(self.payload.nbytes // self.width * step, self._pieces)

    def _pieces(self) -> Iterator[bytes]:
        import numpy as np

        rest = b""
        for chunk in self.payload.chunks(1 << 18):
            data = rest + bytes(chunk)
            whole = len(data) // self.width * self.width
            rest = data[whole:]
            values = np.frombuffer(data, np.uint8, whole).reshape(-1, self.width)
            tags = np.broadcast_to(np.frombuffer(self.tag, np.uint8), (len(values), len(self.tag)))
            yield np.hstack([tags, values]).tobytes()


@dataclass(frozen=True, slots=True)
class _Varints:
    """Varints with the tag before each, made when wanted."""

    tensor: Tensor
    tag: bytes

    def make(self) -> Payload:
        return EncodedVarints.of(self.tensor.payload, self.tensor.dtype, self.tensor.size, self.tag)


def _field_edit(entry: Entry, source: FileSource, field: int, packed: Payload, unpacked: _Tagged | _Varints) -> Edit:
    """`packed` in the place of the one run that the field is; else the whole message again, unpacked if it was so throughout."""
    cuts = [cut for cut in entry.found.proto.cut if cut.field == field and cut.nbytes]
    if len(cuts) == 1 and not cuts[0].stride:
        return Edit(cuts[0].offset, cuts[0].nbytes, (packed,))
    if all(cut.stride for cut in cuts):
        return _rebuilt(entry, source, field, unpacked.make())
    return _rebuilt(entry, source, field, encode_tag(field, DELIMITED) + encode_varint(packed.nbytes), packed)


def _rebuilt(entry: Entry, source: FileSource, field: int, *put: bytes | Payload) -> Edit:
    offset, nbytes = _extent(entry, source)
    return Edit(offset, nbytes, without_fields(source, offset, nbytes, (field,), *put))


def _extent(entry: Entry, source: FileSource) -> tuple[int, int]:
    marks = [cut for cut in entry.found.proto.cut if cut.field == 0]
    if len(marks) != 1:
        raise UsageError(
            "U303", "the model stores it in several pieces, which are read and not replaced", path=source.path, tensor=entry.name
        )
    return marks[0].offset, marks[0].nbytes


class _Moved:
    """The tensors that the model keeps in data files, laid out anew for one file beside the output. Shared ranges stay shared."""

    def __init__(self, entries: Iterable[Entry], store: TensorStore, location: str) -> None:
        self._location = location
        self.placed: list[tuple[int, Payload]] = []
        self._places: list[tuple[Entry, int]] = []
        at, known = 0, {}
        for entry in entries:
            where = entry.values.external
            if where is None:
                continue
            payload = store[entry.name].payload if entry.name in store else entry.values.payload
            held = payload.location
            key: Any = ("new", held.path, held.offset, held.nbytes) if held else ("made", id(payload))
            if entry.name not in store:
                key = ("old", where.location, where.offset, where.nbytes)
            if key not in known:
                at += -at % alignment_of(payload.nbytes)
                known[key] = at
                self.placed.append((at, payload))
                at += payload.nbytes
            self._places.append((entry, known[key]))

    def edits(self, source: FileSource) -> list[Edit]:
        """What the model says about the new places."""
        made = []
        for entry, offset in self._places:
            start, nbytes = _extent(entry, source)
            said = external_entries(os.fsencode(self._location), offset, entry.values.payload.nbytes)
            made.append(Edit(start, nbytes, without_fields(source, start, nbytes, (EXTERNAL_DATA, DATA_LOCATION), said)))
        return made

    def write(self, group: OutputGroup, path: str) -> None:
        """Write the data file."""
        file = group.create(path)
        file.reserve(max(offset + payload.nbytes for offset, payload in self.placed))
        for offset, payload in self.placed:
            file.write(bytes(offset - file.position))
            file.write_payload(payload)

    def notices(self) -> list[Notice]:
        """What a user has to know about the move."""
        if not self.placed:
            return []
        return [
            Notice(
                "changed", f"values that the model keeps in data files were written to '{self._location}'; its own files were not touched"
            )
        ]


def _left_behind(store: TensorStore, model: TensorStore) -> tuple[Loss, ...]:
    """What `store` says beyond values. What was read from a model itself ("onnx. …") is that model's to say."""
    losses = []
    described = [t.name for t in store.values() if t.axes or t.role or any(not key.startswith("onnx.") for key in t.attributes)]
    if described:
        losses.append(Loss("description", "axes, roles and attributes of tensors", tuple(described)))
    metadata = [k for k, v in store.metadata.items() if not k.startswith("onnx.") and model.metadata.get(k) != v]
    if metadata:
        losses.append(Loss("metadata", f"metadata: {', '.join(sorted(metadata))}"))
    if store.attachments:
        losses.append(Loss("attachment", f"attachments: {', '.join(sorted(store.attachments))}"))
    return tuple(losses)


def _kept(entries: dict[str, Entry], store: TensorStore, into: str) -> Sequence[Notice]:
    kept = [name for name in entries if name not in store]
    if not kept:
        return ()
    shown = ", ".join(f"'{printable(name)}'" for name in kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
    return (Notice("note", f"{len(kept)} tensor{'s' * (len(kept) > 1)} of {into} not in the source stay as they are: {shown}"),)
