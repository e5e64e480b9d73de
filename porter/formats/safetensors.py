"""safetensors files, single and sharded.

Reading parses the header; values are ranges of the file. Tensors keep their order in the header's JSON; in the data
section they lie by falling element width, so that each is aligned to its own width.

What the official reader refuses is refused. Beyond that, for safety: keys that are there twice (of which it takes the last),
entries that are lists, and dimensions of 2⁶³ and more.

Source: huggingface/safetensors, README "Format" and `safetensors/src/tensor.rs` (v0.8): 8 bytes of header length,
little-endian, at most 100 MB of JSON that starts with `{` and may be padded with spaces, then the data; offsets
relative to the data, without holes or overlaps; types narrower than a byte only in whole bytes. The index of sharded
files: huggingface/transformers, `docs/source/en/big_models.md` (`weight_map`, `metadata.total_size`).
"""

from __future__ import annotations

import itertools
import json
import math
import operator
import os
import re
from collections.abc import Iterable
from typing import Any

from porter import manifest
from porter.dtypes import BY_SAFETENSORS
from porter.errors import FileAccessError, FormatError, LossError, UnsafeFileError, UsageError
from porter.formats.base import (
    Capabilities,
    Loss,
    Probe,
    ReadOptions,
    WriteOptions,
    WriteReport,
    refuse_dtypes,
    refuse_overwrite,
    undescribed,
)
from porter.io.atomic import OutputGroup
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore
from porter.tensor import Tensor, TensorSpec

CAPABILITIES = Capabilities(
    dtypes=frozenset(d.name for d in BY_SAFETENSORS.values()),
    ties=False,
    description=True,
    metadata=True,
    attachments=True,
    write_options=frozenset({"max_shard_size"}),
)

_MAX_HEADER = 100_000_000
_INDEX_SUFFIX = ".index.json"
_OTHER_INDEX = "the index belongs to other shards; fetch all files of the model again"
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def detect(probe: Probe) -> str | None:
    """Recognises a header length that fits and JSON behind it, or an index with a `weight_map` of safetensors files."""
    head = probe.head
    header = head[8:].lstrip(b" \t\r\n")
    if header[:1] == b"{" and header[1:].lstrip(b" \t\r\n")[:1] in (b'"', b"}"):
        return "single"
    if head.lstrip()[:1] == b"{" and b'"weight_map"' in head + probe.tail:
        named_so = probe.path.endswith(".safetensors" + _INDEX_SUFFIX)
        return "sharded" if named_so or b".safetensors" in head + probe.tail else None
    return None


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the header of one file, or the index and the headers of all its shards."""
    if options.dialect == "sharded" or (options.dialect is None and path.endswith(_INDEX_SUFFIX)):
        return _read_sharded(path)
    store = TensorStore(source=Provenance(path, "safetensors", "single"))
    documents = [_read_file(path, store)[0]]
    _apply_manifests(store, documents)
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write one file, or shards `NAME-00001-of-0000N.safetensors` and their index where one may not hold everything, or the
    index is what is asked for.
    """
    refuse_dtypes(store, "safetensors", CAPABILITIES)
    for tensor in store.values():
        if tensor.name == "__metadata__":
            raise LossError("L601", "safetensors reserves this name", tensor=tensor.name, hint="rename the tensor")
        if tensor.size * tensor.dtype.bits % 8:
            raise LossError(
                "L603",
                f"safetensors holds {tensor.dtype} in whole bytes only, and {tensor.size} elements end within one",
                tensor=tensor.name,
                hint="write pytorch, onnx or hdf5 where they have the type, or pad the tensor",
            )
    metadata = _metadata(store)
    losses = [loss for loss in undescribed(store, CAPABILITIES) if loss.kind != "tie"]
    if store.ties:
        losses.append(Loss("tie", "tied tensors are stored once each", tuple(store.ties), saved_in="__metadata__.porter"))
    asked = options.dialect == "sharded" or path.endswith(_INDEX_SUFFIX)
    if asked or (options.max_shard_size is not None and len(_split(list(store.values()), options.max_shard_size)) > 1):
        paths = _write_sharded(store, path, options, metadata)
        return WriteReport("safetensors", "sharded", paths, len(store), tuple(losses))
    layout = _Layout(list(store.values()), metadata)
    with OutputGroup(progress=options.progress) as group:
        layout.write(group, path)
    return WriteReport("safetensors", "single", (path,), len(store), tuple(losses))


def _read_file(path: str, store: TensorStore) -> tuple[dict[str, str], list[str]]:
    """Add the tensors of one file to `store`; its metadata, and its names."""
    source = FileSource(path)
    store.manage(source)
    length = int.from_bytes(source.read(0, 8, "the header's length"), "little")
    if length > _MAX_HEADER:
        raise UnsafeFileError("S601", f"the header claims {length} bytes; at most {_MAX_HEADER} are allowed", path=path, offset=0)
    header = _parse_header(source.read(8, length, "the header"), path)
    metadata = _string_metadata(header.pop("__metadata__", None), path)
    start, claimed = 8 + length, []
    for name, entry in header.items():
        tensor, begin, end = _tensor(source, name, entry, start)
        claimed.append((begin, end, name))
        store.add(tensor)
    _check_cover(claimed, start, source)
    return metadata, list(header)


def _parse_header(data: bytes, path: str) -> dict[str, Any]:
    try:
        # Python's reader of JSON takes a few things that JSON lacks: NaN, -0 as an integer, half a surrogate pair.
        number = _refuse_minus_zero if b"-0" in data else None
        header = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=number
        )
        if _SURROGATE.search(data):
            json.dumps(header, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        offset = 8 + getattr(error, "pos", getattr(error, "start", 0))
        raise FormatError("F601", f"the header is not valid JSON: {error}", path=path, offset=offset) from error
    if not isinstance(header, dict):
        raise FormatError("F601", "the header is not a JSON object", path=path, offset=8)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        last = {k: i for i, (k, _) in enumerate(pairs)}
        twice = next(k for i, (k, _) in enumerate(pairs) if last[k] != i)
        raise ValueError(f"the key {twice!r} is there twice")
    return table


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _refuse_minus_zero(text: str) -> int:
    if text == "-0":
        raise ValueError("-0 is no integer")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value


def _string_metadata(value: Any, path: str) -> dict[str, str]:
    if value is None:  # absent or null, which the official reader takes for the same
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise FormatError("F602", "__metadata__ is not an object of strings", path=path, offset=8)
    return value


def _tensor(source: FileSource, name: str, entry: Any, start: int) -> tuple[Tensor, int, int]:
    path = source.path
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError("F603", "the header's entry lacks dtype, shape or data_offsets", path=path, offset=8, tensor=name) from error
    if not isinstance(shape, list) or not _are_counts((*shape, begin, end)) or end < begin:
        raise FormatError("F603", "the header's shape or data_offsets are no counts", path=path, offset=8, tensor=name)
    if len(entry) > len(_FIELDS) and any(not _shallow(value) for key, value in entry.items() if key not in _FIELDS):
        raise FormatError("F601", "the header's entry nests too deeply", path=path, offset=8, tensor=name)
    dtype = BY_SAFETENSORS.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise FormatError("F604", f"unknown dtype {code!r}", path=path, offset=8, tensor=name)
    size = math.prod(shape)
    if (size or max(itertools.accumulate(shape, operator.mul))) >= 1 << 64:
        raise FormatError("F603", "the shape's product is more than 64 bits hold", path=path, offset=8, tensor=name)
    if size * dtype.bits % 8:
        raise FormatError("F608", f"{dtype} {shape} ends within a byte", path=path, offset=8, tensor=name)
    payload = source.payload(start + begin, end - begin, "the tensor")
    return Tensor(TensorSpec(name, dtype, tuple(shape)), payload), begin, end


def _shallow(value: Any, depth: int = 100) -> bool:
    """Whether containers in `value` nest at most `depth` deep: the official reader gives up at 128 in all."""
    if not isinstance(value, list | dict):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_shallow(v, depth - 1) for v in inner)


def _are_counts(values: tuple[Any, ...]) -> bool:
    return set(map(type, values)) == {int} and min(values) >= 0 and max(values) < 1 << 63


def _check_cover(claimed: list[tuple[int, int, str]], start: int, source: FileSource) -> None:
    """The official reader refuses holes, overlaps and bytes at the end; a file with them is damaged or hides something."""
    at = 0
    for begin, end, name in sorted(claimed):
        if begin != at:
            what = "overlaps the one before it" if begin < at else f"leaves {begin - at} bytes unused before it"
            raise FormatError("F605", f"the tensor {what}", path=source.path, offset=start + begin, tensor=name)
        at = end
    if start + at != source.size:
        raise FormatError(
            "F605", f"{source.size - start - at} bytes behind the last tensor belong to none", path=source.path, offset=start + at
        )


def _read_sharded(path: str) -> TensorStore:
    store = TensorStore(source=Provenance(path, "safetensors", "sharded"))
    source = FileSource(path)
    index = _parse_index(source.read(0, min(source.size, _MAX_HEADER), "the index"), path)
    source.close()
    shards: dict[str, None] = dict.fromkeys(index.values())
    directory = os.path.dirname(path)
    documents = [_read_shard(directory, shard, index, store, path) for shard in shards]
    missing = [name for name in index if name not in store]
    if missing:
        raise FormatError("F606", f"the shard '{index[missing[0]]}' lacks it", path=path, tensor=missing[0], hint=_OTHER_INDEX)
    ordered = TensorStore((store[name] for name in index), source=store.source)
    ordered.manage(store)
    _apply_manifests(ordered, documents)
    return ordered


def _read_shard(directory: str, shard: str, index: dict[str, str], store: TensorStore, path: str) -> dict[str, str]:
    """Add the tensors of one shard to `store`; its metadata.

    Raises:
        UnsafeFileError: the index says that it lies elsewhere than in or below its own folder.
        FormatError: it is not there, or holds what the index puts elsewhere.
    """
    if os.path.isabs(shard) or "\\" in shard or not {"", ".", ".."}.isdisjoint(shard.split("/")):
        raise UnsafeFileError(
            "S602",
            f"the index names the shard {shard!r}, outside its own folder",
            path=path,
            hint="put the shards beside the index and name them there, if you trust where they come from",
        )
    try:
        metadata, names = _read_file(os.path.join(directory, shard), store)
    except FileAccessError as error:
        error.hint = error.hint or f"'{shard}' belongs to the model, as its index says; put it beside the index"
        raise
    for name in names:
        if name not in index:
            raise FormatError("F606", f"the shard '{shard}' holds it and the index does not", path=path, tensor=name, hint=_OTHER_INDEX)
        if index[name] != shard:
            raise FormatError(
                "F606", f"the index puts it into '{index[name]}', and it is in '{shard}'", path=path, tensor=name, hint=_OTHER_INDEX
            )
    return metadata


def _parse_index(data: bytes, path: str) -> dict[str, str]:
    try:
        index = json.loads(data, object_pairs_hook=_unique)
        table = index["weight_map"]
        if not isinstance(table, dict):
            raise ValueError("'weight_map' is not an object")
        if not all(isinstance(v, str) for v in table.values()):
            raise ValueError("a shard's name is not a string")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("F607", f"not an index of safetensors shards: {error}", path=path) from error
    return dict(table)


def _apply_manifests(store: TensorStore, documents: Iterable[dict[str, str]]) -> None:
    for metadata in documents:
        text = metadata.pop(manifest.KEY, None)
        store.metadata.update(metadata)
        if text is None:
            continue
        try:
            document = manifest.loads(text, f"__metadata__.{manifest.KEY}")
        except FormatError as error:
            if error.code != "F006":
                raise
            store.metadata[manifest.KEY] = text  # someone else's use of the key
            store.note("note", f"the metadata's key '{manifest.KEY}' is no description that porter wrote")
        else:
            manifest.apply(store, document, f"__metadata__.{manifest.KEY}")


def _metadata(store: TensorStore) -> dict[str, str]:
    """String metadata as they are; everything else in porter's own description."""
    plain = {k: v for k, v in store.metadata.items() if isinstance(v, str) and k != manifest.KEY}
    document = manifest.describe(store, omit=("metadata",))
    odd = {k: v for k, v in store.metadata.items() if k not in plain}
    if odd:
        document = {"porter": manifest.VERSION, **(document or {}), "metadata": odd}
    return {**plain, manifest.KEY: manifest.dumps(document)} if document else plain


class _Layout:
    """One file's header and the order of its data, settled before any output is opened."""

    def __init__(self, tensors: list[Tensor], metadata: dict[str, str]) -> None:
        self.placed = sorted(tensors, key=lambda t: -t.dtype.itemsize)
        offsets, at = {}, 0
        for tensor in self.placed:
            offsets[tensor.name] = [at, at + tensor.nbytes]
            at += tensor.nbytes
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        for t in tensors:
            header[t.name] = {"dtype": t.dtype.safetensors, "shape": list(t.shape), "data_offsets": offsets[t.name]}
        text = _encode(header)
        self.header = text + b" " * (-(8 + len(text)) % 64)  # the data starts at a multiple of 64, for readers that map it
        self.nbytes = 8 + len(self.header) + at
        if len(self.header) > _MAX_HEADER:
            raise LossError(
                "L604",
                f"the header would have {len(self.header)} bytes; safetensors allows {_MAX_HEADER}",
                hint="drop attachments and attributes, or write shards",
            )

    def write(self, group: OutputGroup, path: str) -> None:
        file = group.create(path)
        file.reserve(self.nbytes)
        file.write(len(self.header).to_bytes(8, "little") + self.header)
        for tensor in self.placed:
            file.write_payload(tensor.payload)


def _encode(header: dict[str, Any]) -> bytes:
    try:
        return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        what = error.object[error.start : error.end]
        raise LossError(
            "L602", f"a name or metadata is not valid Unicode: {what!r}", hint="rename the tensor, or correct the metadata"
        ) from error


def _write_sharded(store: TensorStore, path: str, options: WriteOptions, metadata: dict[str, str]) -> tuple[str, ...]:
    stem = re.sub(r"(\.safetensors)?(\.index\.json)?$", "", path)
    shards = _split(list(store.values()), options.max_shard_size)
    names = [f"{os.path.basename(stem)}-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    files = [os.path.join(os.path.dirname(path), name) for name in names]
    index_path = stem + ".safetensors" + _INDEX_SUFFIX
    for file in (*files, index_path):
        refuse_overwrite(file, options)
    shard_of = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
    index = {"metadata": {"total_size": store.nbytes}, "weight_map": {name: shard_of[name] for name in store}}
    other = {k: v for k, v in metadata.items() if k == "format"}
    layouts = [_Layout(shard, other if number else metadata) for number, shard in enumerate(shards)]
    with OutputGroup(progress=options.progress) as group:
        for file, layout in zip(files, layouts, strict=True):
            layout.write(group, file)
        group.create(index_path).write(json.dumps(index, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
    return (index_path, *files)


def _split(tensors: list[Tensor], limit: int | None) -> list[list[Tensor]]:
    """Tensors in order, cut before the one that would take a shard over `limit` bytes."""
    if limit is not None and limit <= 0:
        raise UsageError("U014", "the largest shard must have at least one byte")
    shards: list[list[Tensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if limit is not None and shards[-1] and filled + tensor.nbytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.nbytes
    return shards
