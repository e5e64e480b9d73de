"""Checkpoints in several files under an index, as large language models are published: `pytorch_model.bin.index.json`.

Source: huggingface/transformers, `docs/source/en/big_models.md`: `weight_map` gives the file of each tensor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from porter.errors import FormatError, UnsafeFileError
from porter.formats.pytorch.archive import METADATA
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore

_MAX_INDEX = 100_000_000


def read_sharded(source: FileSource, read_shard: Callable[[str], TensorStore]) -> TensorStore:
    """Read the index in `source` and, by `read_shard`, each file that it names; tensors are in the order of the index.

    Raises:
        FormatError: the index is no index, or does not agree with the files.
        UnsafeFileError: it names a file outside its own folder.
    """
    path = source.path
    index = _parse(source.read(0, min(source.size, _MAX_INDEX), "the index"), path)
    source.close()
    whole = TensorStore(source=Provenance(path, "pytorch", "sharded"))
    found: dict[str, TensorStore] = {}
    for name in dict.fromkeys(index.values()):
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise UnsafeFileError("S205", f"the index names the file {name!r}, outside its own folder", path=path)
        found[name] = read_shard(os.path.join(os.path.dirname(path), name))
        whole.manage(found[name])
        whole.notices.extend(found[name].notices)
        strays = [tensor for tensor in found[name] if index.get(tensor) != name]
        if strays:
            raise FormatError("F209", f"the file '{name}' holds it, and the index does not say so", path=path, tensor=strays[0])
    for tensor, name in index.items():
        if tensor not in found[name]:
            raise FormatError("F209", f"the index puts it into '{name}', which does not hold it", path=path, tensor=tensor)
        whole.add(found[name][tensor])
    for name, shard in found.items():
        whole.ties.update(shard.ties)
        _gather(whole, shard, name)
    return whole


def _gather(whole: TensorStore, shard: TensorStore, name: str) -> None:
    """Add what the file `name` says beside its tensors. Versions of modules are those of all files together."""
    for key, value in shard.metadata.items():
        if whole.metadata.setdefault(key, value) != value:
            whole.note("skipped", f"the metadata '{key}' of '{name}' are not those of the files before it")
    for key, data in shard.attachments.items():
        before = whole.attachments.setdefault(key, data)
        if before == data:
            continue
        merged = _merged(before, data) if key == METADATA else None
        if merged is None:
            whole.note("skipped", f"the attachment '{key}' of '{name}' is not that of the files before it")
        else:
            whole.attachments[key] = merged


def _merged(one: bytes, other: bytes) -> bytes | None:
    try:
        tables = json.loads(one), json.loads(other)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(table, dict) for table in tables):
        return None
    return json.dumps(tables[0] | tables[1], separators=(",", ":")).encode()


def _parse(data: bytes, path: str) -> dict[str, str]:
    try:
        table = json.loads(data)["weight_map"]
        if not all(isinstance(name, str) for name in table.values()):
            raise ValueError("a file's name is not a string")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("F209", f"not an index of checkpoint files: {error}", path=path) from error
    return dict(table)
