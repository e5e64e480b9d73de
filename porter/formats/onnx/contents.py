"""What an ONNX file holds: its tensors by name with their places, and what it says about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from porter import manifest
from porter.dataclass import dataclass
from porter.errors import FormatError, PorterError
from porter.formats.onnx.external import ExternalFiles
from porter.formats.onnx.structure import text
from porter.formats.onnx.values import STRING, Values, dimensions, element_type, number_values, tensor_values
from porter.formats.onnx.walk import Found, find_tensors, named
from porter.io.source import FileSource
from porter.store import TensorStore
from porter.tensor import BytesPayload, Json, Tensor, TensorSpec

PRODUCER = "porter"
"""`producer_name` of the models that hold nothing but weights and that porter wrote."""
NODES = "onnx.nodes"
"""Key in a store's metadata: how many nodes the graph has that the weights were read from."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One tensor: the name it goes by, where it was found, its values; `segments` counts the pieces it is stored in."""

    name: str
    found: Found
    values: Values
    segments: int = 1

    def tensor(self) -> Tensor:
        """It, lazily, with what the file says about it beyond type and shape as attributes."""
        spec = TensorSpec(self.name, self.values.dtype, self.values.shape, attributes=self._attributes())
        return Tensor(spec, self.values.payload)

    def _attributes(self) -> dict[str, Json]:
        found = self.found
        said: dict[str, Json] = {}
        if found.origin != "initializer":
            said["onnx.origin"] = found.origin
        if found.node is not None:
            said["onnx.node"] = found.node
        if found.attribute is not None:
            said["onnx.attribute"] = found.attribute
        if found.scope:
            said["onnx.scope"] = list(found.scope)
        if found.own != self.name:
            said["onnx.name"] = found.own
        if found.dense is not None:
            said["onnx.dense_shape"] = list(found.dense)
        if not found.numbers and found.proto.doc_string:
            said["onnx.doc_string"] = text(found.proto.doc_string)
        return said


def read_entries(model: Any, source: FileSource, store: TensorStore) -> list[Entry]:
    """Every tensor of `model` but those of strings, in order; notes on `store` what is left out. Reads no values.

    Raises:
        FormatError: a tensor contradicts itself or another.
    """
    files = ExternalFiles(source, store)
    found = list(find_tensors(model, store))
    entries: dict[str, Entry] = {}
    segments: dict[str, list[Found]] = {}
    for name, item in zip(named(found, store), found, strict=True):
        try:
            if item.numbers:
                entries[name] = Entry(name, item, number_values(item.proto, name, source))
            elif item.proto.data_type == STRING:
                store.note("skipped", "a tensor of strings holds no weights", name)
            elif item.proto.HasField("segment"):
                segments.setdefault(name, []).append(item)
                entries.setdefault(name, Entry(name, item, Values(element_type(item.proto, name, source), (), BytesPayload.of(b""), None)))
            else:
                entries[name] = Entry(name, item, tensor_values(item.proto, name, source, files))
        except PorterError as error:
            raise error.located(path=source.path, tensor=name) from error.__cause__
    for name, pieces in segments.items():
        entries[name] = _joined(name, pieces, source, files)
    return list(entries.values())


def _joined(name: str, pieces: list[Found], source: FileSource, files: ExternalFiles) -> Entry:
    """One tensor out of its segments, whose begin and end count elements. Nothing is guessed: they must fit without a gap."""

    def wrong(message: str) -> FormatError:
        return FormatError("F307", message, path=source.path, tensor=name)

    first = pieces[0].proto
    dtype, shape = element_type(first, name, source), dimensions(first.dims, name, source)
    ordered = sorted(pieces, key=lambda p: (p.proto.segment.begin, p.proto.segment.end))
    at, parts = 0, []
    for piece in ordered:
        begin, end = piece.proto.segment.begin, piece.proto.segment.end
        if piece.proto.data_type != first.data_type or list(piece.proto.dims) != list(first.dims):
            raise wrong("its segments disagree about type or shape")
        if begin != at or end < begin or begin * dtype.bits % 8:
            raise wrong(f"segment {begin}…{end} does not go on at element {at}")
        parts.append(tensor_values(piece.proto, name, source, files, (end - begin,)))
        if parts[-1].payload.nbytes != dtype.nbytes(end - begin):
            raise wrong(f"segment {begin}…{end} holds {parts[-1].payload.nbytes} bytes, not {dtype.nbytes(end - begin)}")
        at = end
    if at != math.prod(shape):
        raise wrong(f"its segments end at element {at} of {math.prod(shape)}")
    from porter.io.payloads import ConcatPayload

    payload = ConcatPayload(tuple(p.payload for p in parts)) if len(parts) > 1 else parts[0].payload
    return Entry(name, pieces[0], Values(dtype, shape, payload, None), len(parts))


def fill(store: TensorStore, entries: list[Entry]) -> None:
    """Put `entries` into `store`; tensors that name the same range of a data file are ties."""
    ranges: dict[Any, str] = {}
    for entry in entries:
        tensor, where = entry.tensor(), entry.values.external
        if where is None or not where.nbytes:
            store.add(tensor)
            continue
        key = (where.location, where.offset, where.nbytes, tensor.dtype)
        if key in ranges:
            store.tie(tensor, ranges[key])
        else:
            store.add(tensor)
            ranges[key] = tensor.name


def describe_model(model: Any, store: TensorStore) -> None:
    """What the model says about itself into `store.metadata`, and porter's own description onto its tensors."""
    document = None
    nodes = len(model.graph.node)
    if text(model.producer_name) != PRODUCER or nodes:
        store.metadata.update(_facts(model))
    for prop in model.metadata_props:
        key, value = text(prop.key), text(prop.value)
        if key == manifest.KEY and document is None:
            document = manifest.loads(value, "metadata_props.porter")
            continue
        if key in store.metadata:
            store.note("changed", f"metadata_props states '{key}' again; the last value counts")
        store.metadata[key] = value
    if document is not None:
        manifest.apply(store, document, "metadata_props.porter")
    if nodes:
        store.note("note", f"the graph (nodes: {nodes}) stays in the file; porter reads its weights")


def _facts(model: Any) -> Mapping[str, Json]:
    facts: dict[str, Json] = {"onnx.ir_version": model.ir_version}
    facts["onnx.opset_import"] = {text(o.domain): o.version for o in model.opset_import}
    for key in ("producer_name", "producer_version", "domain", "doc_string"):
        if getattr(model, key):
            facts[f"onnx.{key}"] = text(getattr(model, key))
    if model.model_version:
        facts["onnx.model_version"] = model.model_version
    if model.graph.name:
        facts["onnx.graph"] = text(model.graph.name)
    facts[NODES] = len(model.graph.node)
    return facts
