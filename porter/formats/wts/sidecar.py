"""`NAME.wts.json`, the sidecar: what the `.wts` file itself has no place for.

    {"porter": 1, "kind": "wts-sidecar", "dialect": "tensorrtx",
     "file": {"nbytes": 50},
     "tensors": [
       {"name": "fc.weight", "dtype": "float32", "shape": [1, 1], "stored": "float32", "count": 1,
        "crc32": "0badc0de", "sha256": "…", "axes"?: "OI", "role"?: "weight", "attributes"?: {…}, "exact"?: false},
       …],
     "ties"?: {ALIAS: NAME}, "metadata"?: {…}, "attachments"?: {KEY: BASE64}}

- `tensors` has one entry for each tensor line, in the file's order, with its name and count. The product of `shape` is `count`.
- `stored` is the type of the values in the file (float32; float16, int8, int32 in the nvidia dialects); `dtype` the type
  that the tensor had before. Where they differ every value is the same number, and can be cast back; unless `exact` is
  false, which says that values were rounded: such a tensor is read as `stored`.
- `crc32` (8 small hexadecimal digits; zlib's polynomial) and `sha256` are over the stored values as little-endian bytes,
  without gaps. Whoever reads a whole tensor checks the CRC; the SHA-256 is there for the record.
- `file.nbytes` is the size of the `.wts` file in bytes when it was written.
- `ties`, `metadata` and `attachments` are as in `porter.manifest`.

The schema is `schemas/wts_sidecar.schema.json`. Unknown fields are ignored.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from porter import manifest
from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import FileAccessError, FormatError
from porter.formats.wts.rows import Row
from porter.io.source import FileSource
from porter.tensor import Json, Payload

KIND = "wts-sidecar"
_LARGEST = 512 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What the sidecar says about one tensor."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    stored: str
    count: int
    crc32: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that was read: its path, the entries in order, and its description as `porter.manifest` knows it."""

    path: str
    dialect: str
    nbytes: int | None
    entries: tuple[Entry, ...]
    description: dict[str, Json]

    def check(self, rows: list[Row], dialect: str) -> None:
        """Raise a `FormatError` unless the file has these tensors, in this order, of these counts and types."""
        if rows and dialect != self.dialect:
            self._disagree(f"the sidecar describes a {self.dialect} file, this one is {dialect}")
        for entry, row in zip(self.entries, rows, strict=False):
            if entry.name != row.name:
                self._disagree(f"the sidecar has '{entry.name}' where the file has '{row.name}'", row.name)
            if entry.count != row.count:
                self._disagree(f"the sidecar says {entry.count} values, the file {row.count}", row.name)
            if row.shape is not None and row.shape != entry.shape:
                self._disagree(f"the sidecar says shape {list(entry.shape)}, the file {list(row.shape)}", row.name)
            if entry.stored != row.stored.name:
                self._disagree(f"the sidecar says {entry.stored}, the file {row.stored}", row.name)
        if len(self.entries) != len(rows):
            self._disagree(f"the sidecar describes {len(self.entries)} tensors, the file has {len(rows)}")

    def _disagree(self, message: str, tensor: str | None = None) -> NoReturn:
        raise FormatError("F409", message, path=self.path, tensor=tensor, hint=_hint(self.path))


@dataclass(frozen=True, slots=True)
class CheckedPayload:
    """Stored values whose CRC-32 is compared, after the last of them, with the sidecar's.

    Raises, from `chunks` and `buffer`:
        FormatError: the values are not the ones that the sidecar was written for.
    """

    base: Payload
    crc32: int
    path: str

    @property
    def nbytes(self) -> int:
        return self.base.nbytes

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        crc = 0
        for chunk in self.base.chunks(limit):
            crc = zlib.crc32(chunk, crc)
            yield chunk
        self._compare(crc)

    def buffer(self) -> memoryview:
        whole = self.base.buffer()
        self._compare(zlib.crc32(whole))
        return whole

    def _compare(self, crc: int) -> None:
        if crc != self.crc32:
            message = f"the values have the CRC-32 {crc:08x}, the sidecar says {self.crc32:08x}"
            raise FormatError("F409", message, path=self.path, hint=_hint(self.path))


def path_of(path: str) -> str:
    """Where the sidecar of the `.wts` file at `path` is."""
    return path + ".json"


def load(path: str) -> Sidecar | None:
    """The sidecar at `path`, or None if there is none, or the file there is not porter's.

    Raises:
        FormatError: it is damaged, or of a later porter.
    """
    if not os.path.lexists(path):
        return None
    source = FileSource(path)
    if source.size > _LARGEST:
        raise FormatError("F409", f"the sidecar has {source.size} bytes, which is no sidecar", path=path, hint=_hint(path))
    data = source.read(0, source.size)
    source.close()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError("F409", f"the sidecar is not valid JSON: {error}", path=path, hint=_hint(path)) from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        return None
    try:
        return _parse(document, path)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise error.located(path=path) from error.__cause__
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError("F409", f"the sidecar is damaged: {what}", path=path, hint=_hint(path)) from error


def _parse(document: dict[str, Any], path: str) -> Sidecar:
    version = document["porter"]
    if type(version) is not int or version > manifest.VERSION:
        raise FormatError(
            "F007", f"the sidecar was written by a later porter (version {version})", hint="upgrade porter, or delete the sidecar"
        )
    if not isinstance(document["tensors"], list):
        raise ValueError("'tensors' is no list")
    entries = tuple(_entry(e) for e in document["tensors"])
    tensors = {e["name"]: {k: e[k] for k in ("axes", "role", "attributes") if k in e} for e in document["tensors"]}
    description: dict[str, Json] = {"porter": manifest.VERSION, "tensors": {k: v for k, v in tensors.items() if v}}
    for key in ("ties", "metadata", "attachments"):
        if key in document:
            description[key] = document[key]
    file = document.get("file")
    nbytes = file.get("nbytes") if isinstance(file, dict) else None
    return Sidecar(path, str(document["dialect"]), nbytes if type(nbytes) is int else None, entries, description)


def _entry(entry: Any) -> Entry:
    if not isinstance(entry, dict):
        raise ValueError("a tensor's entry is no object")
    name, shape, count, dtype = entry["name"], entry["shape"], entry["count"], entry["dtype"]
    if not isinstance(name, str):
        raise ValueError("a name is no string")
    if not isinstance(shape, list) or len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, count)):
        raise ValueError(f"the shape or count of '{name}' is wrong")
    if math.prod(shape) != count:
        raise ValueError(f"shape {shape} of '{name}' has not {count} elements")
    if not isinstance(dtype, str) or dtype not in DTYPES or DTYPES[dtype].kind == "complex":
        raise ValueError(f"'{name}' has the unknown type {dtype!r}")
    stored, exact = entry["stored"], entry.get("exact") is not False
    whole = stored == "int32" and DTYPES[dtype].kind != "float"
    if not isinstance(stored, str) or (exact and dtype != stored and stored != "float32" and not whole):
        raise ValueError(f"'{name}' cannot have been {dtype} and be stored as {stored}")
    crc, sha = entry["crc32"], entry["sha256"]
    if not re.fullmatch("[0-9a-f]{8}", crc) or not re.fullmatch("[0-9a-f]{64}", sha):
        raise ValueError(f"a checksum of '{name}' is none")
    return Entry(name, DTYPES[dtype], tuple(shape), stored, count, int(crc, 16), exact)


def refuse_foreign(path: str) -> None:
    """Raise a `FileAccessError` if `path` is a JSON file of another program: replacing the `.wts` must not cost it."""
    try:
        foreign = load(path) is None and os.path.lexists(path)
    except FormatError:
        return  # a damaged sidecar is there to be replaced
    if foreign:
        message = "the sidecar would replace a file that porter did not write"
        raise FileAccessError("I010", message, path=path, hint="move that file away, or give the .wts another name")


def compose(dialect: str, nbytes: int, tensors: list[dict[str, Json]], description: Mapping[str, Json]) -> bytes:
    """The sidecar's text, one line for each tensor; `description` is what `porter.manifest.describe` said."""
    head = {"porter": manifest.VERSION, "kind": KIND, "dialect": dialect, "file": {"nbytes": nbytes}}
    about = description.get("tensors", {})
    lines = [json.dumps({**entry, **about.get(entry["name"], {})}) for entry in tensors]
    rest = {k: description[k] for k in ("ties", "metadata", "attachments") if k in description}
    parts = [json.dumps(head)[:-1], ', "tensors": [', ",".join("\n " + line for line in lines), "]"]
    if rest:
        parts.append(",\n" + json.dumps(rest)[1:-1])
    return ("".join(parts) + "}\n").encode("ascii")


def _hint(path: str) -> str:
    return f"delete {os.path.basename(path)} to read the .wts file without it, or write both again with porter"
