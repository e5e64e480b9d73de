"""PyTorch checkpoints: zip archives, TorchScript, the legacy stream, tar and plain pickles, read without torch.

Reading unpickles an index with a machine that can run nothing (`porter.io.unpickle`); values stay in the file. Writing
makes the zip archive that `torch.load(weights_only=True)` and `mmap=True` read.
"""

from __future__ import annotations

import json

from porter import manifest
from porter.dtypes import BY_TORCH
from porter.errors import FormatError
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.pytorch import archive, sharded, streams
from porter.formats.pytorch.selection import Selection, select
from porter.formats.pytorch.tensors import TensorBuilder
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore

CAPABILITIES = Capabilities(
    dtypes=frozenset(d.name for d in BY_TORCH.values()),
    ties=True,
    description=True,
    metadata=True,
    attachments=True,
    read_options=frozenset({"select"}),
)


def detect(probe: Probe) -> str | None:
    """Recognises an archive with `data.pkl`, torch's magic number in a pickle, torch's tar members, or any binary pickle."""
    head = probe.head
    if head.startswith(b"PK\x03\x04"):
        names = tuple(probe.zip_names)
        root = archive.zip_root(names)
        if root is None:
            return "torchscript" if _unlisted(names) else None
        return "torchscript" if root + "constants.pkl" in names else "zip"
    if head.lstrip()[:1] == b"{" and b'"weight_map"' in head + probe.tail:
        return "sharded" if b".safetensors" not in head + probe.tail else None
    if streams.is_legacy(head):
        return "legacy"
    if streams.is_tar(head):
        return "tar"
    return "pickle" if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") else None


def _unlisted(names: tuple[str, ...]) -> bool:
    """Whether these are the records of TorchScript before 1.3 or of an exported program, which `read` refuses with a reason."""
    old = any(n.endswith("/model.json") and n.count("/") == 1 for n in names) and any("/tensors/" in n for n in names)
    return old or any(n.endswith("/archive_format") for n in names)


_READERS = {
    "zip": archive.read_zip,
    "torchscript": archive.read_zip,
    "legacy": streams.read_legacy,
    "tar": streams.read_tar,
    "pickle": streams.read_pickle,
}


def read(path: str, options: ReadOptions) -> TensorStore:
    """Unpickle the file's index, choose the weights, and describe them; values are read when asked for."""
    source = FileSource(path)
    dialect = options.dialect or detect(Probe(source))
    if dialect is None:
        raise FormatError("F208", "no PyTorch file: neither an archive, nor a stream, nor a pickle", path=path)
    if dialect == "sharded":
        return sharded.read_sharded(source, lambda shard: _read_shard(shard, options.select))
    checkpoint = _READERS[dialect](source)
    store = TensorStore(source=Provenance(path, "pytorch", checkpoint.dialect))
    store.manage(source)
    chosen = select(checkpoint, options.select)
    for note in checkpoint.notes:
        store.note("note", note)
    for kind, message in chosen.notes:
        store.note(kind, message)
    names = frozenset(name for name, _ in chosen.entries)
    builder = TensorBuilder(store, names, checkpoint.payload, source.size)
    for name, leaf in chosen.entries:
        builder.add(name, leaf)
    builder.finish()
    _attach_metadata(store, chosen)
    if checkpoint.manifest is not None and not chosen.path:
        manifest.apply(store, manifest.loads(checkpoint.manifest, archive.MANIFEST), archive.MANIFEST)
    return store


def _read_shard(path: str, select: str | None) -> TensorStore:
    source = FileSource(path)
    dialect = detect(Probe(source))
    source.close()
    if dialect is None or dialect == "sharded":
        raise FormatError("F208", "an index names this file, and it is no PyTorch checkpoint", path=path)
    return read(path, ReadOptions(dialect, select))


def _attach_metadata(store: TensorStore, chosen: Selection) -> None:
    """Keep the versions of modules that a state_dict carries, which quantised modules need to load it again."""
    found = chosen.metadata
    if not isinstance(found, dict):
        return
    table = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, dict) and _plain(v)}
    if len(table) != len(found):
        store.note("skipped", f"{len(found) - len(table)} entries of the state_dict's _metadata are no plain values")
    if table:
        store.attachments[archive.METADATA] = json.dumps(table, separators=(",", ":")).encode()


def _plain(values: dict[object, object]) -> bool:
    return all(isinstance(k, str) and (v is None or type(v) in (bool, int, float, str)) for k, v in values.items())


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write the zip archive of torch 1.6 and later."""
    from porter.formats.pytorch.writing import write_archive

    return write_archive(store, path, options)
