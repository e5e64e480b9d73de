"""Zip archives, which torch writes since 1.6, TorchScript archives among them: what is inside, without reading a value.

`ROOT/data.pkl` is the pickle, `ROOT/data/KEY` holds the bytes of each storage, `ROOT/byteorder` says whose they are. With
`ROOT/constants.pkl` it is a TorchScript archive: the same, and source code, which nobody runs here.

Source: pytorch `torch/serialization.py` (`_load`, `_save`), 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from porter.dataclass import dataclass, field, replace
from porter.errors import FormatError
from porter.formats.pytorch.records import TORCH_GLOBALS, Storage, TorchType, storage_type
from porter.io.pickle_globals import ByteString, describe_value
from porter.io.source import FileSource
from porter.io.unpickle import OPERATIONS, Unpickler
from porter.io.zip_archive import ZipArchive
from porter.tensor import BytesPayload, Payload

METADATA = "pytorch.metadata"
"""The attachment that keeps a state_dict's `_metadata` (versions of modules), as JSON."""

MANIFEST = ".data/porter.json"
"""The record that holds porter's own description, beside torch's own bookkeeping, which `torch.load` does not look at."""

_MAX_DESCRIPTION, _MAX_CODE = 4 << 20, 16 << 20
"""Bytes that porter's description and TorchScript's code may expand to in a compressed archive that is smaller itself."""

_DECLARATION = re.compile(r"^class (\w+)\(Module\):|^[ \t]+__(parameters|buffers)__ = \[([^\n]*)\][ \t]*$", re.MULTILINE)
_LITERAL = re.compile(r'[\s,]*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Declared:
    """The attributes of a TorchScript class that are parameters, and those that are buffers."""

    parameters: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()


@dataclass(slots=True)
class Checkpoint:
    """What a file holds: the value of its pickle, and for TorchScript the constants and what its classes declare.

    `notes` are for the user. `manifest` is porter's own description, where porter wrote the file. `payload` gives the
    bytes of byte strings that were left in the file.
    """

    value: object
    dialect: str
    notes: list[str] = field(default_factory=list)
    constants: object = None
    declared: dict[str, Declared] = field(default_factory=dict)
    manifest: bytes | None = None
    payload: Callable[[object], Payload] = lambda found: bytes_payload(found)


def bytes_payload(found: object) -> Payload:
    """Bytes that a pickle holds, as bytes or as Latin-1 text, as a payload."""
    if isinstance(found, bytes):
        return BytesPayload.of(found)
    if isinstance(found, str):
        return BytesPayload.of(found.encode("latin-1"))
    raise FormatError("F203", f"a {describe_value(found)} where an array's bytes should be")


def zip_root(names: tuple[str, ...] | list[str]) -> str | None:
    """The folder that `data.pkl` lies in, with its slash; None where the archive has none."""
    for name in names:
        if name.endswith("/data.pkl") and name.count("/") == 1:
            return name[: -len("data.pkl")]
    return None


def read_zip(source: FileSource) -> Checkpoint:
    """Read a zip archive's pickle; its storages stay where they are.

    Raises:
        FormatError: records are missing or too short, or the pickle is broken.
        UnsafeFileError: the pickle tries to run code.
    """
    archive = ZipArchive(source)
    names = list(archive.entries)
    root = zip_root(names)
    if root is None:
        raise _no_pickle(source, names)
    order = archive.read(root + "byteorder", 64) if root + "byteorder" in archive.entries else b"little"
    if order not in (b"little", b"big"):
        raise FormatError("F202", f"the record 'byteorder' says {order[:20]!r}", path=source.path)
    description = archive.read(root + MANIFEST, max(_MAX_DESCRIPTION, source.size)) if root + MANIFEST in archive.entries else None
    load = _ZipLoader(archive, root, swap=order == b"big")
    if root + "constants.pkl" not in archive.entries:
        return Checkpoint(load("data"), "zip", manifest=description)
    checkpoint = Checkpoint(load("data"), "torchscript", constants=load("constants"))
    room = max(_MAX_CODE, source.size)
    for name in names:
        if name.startswith(root + "code/") and name.endswith(".py"):
            code = archive.read(name, room)
            room -= len(code)
            checkpoint.declared |= declared_tensors(code.decode("utf-8", "replace"), name[len(root + "code/") : -3])
    return checkpoint


def _no_pickle(source: FileSource, names: list[str]) -> FormatError:
    if any(n.endswith("model.json") for n in names):
        return FormatError(
            "F204",
            "a TorchScript archive of torch 1.0 to 1.2, or an exported program: its tensors are listed in JSON, not in a pickle",
            path=source.path,
            hint="load it with the torch that wrote it and save its state_dict()",
        )
    return FormatError("F011", "the archive has no record 'data.pkl', so it is no PyTorch file", path=source.path)


class _ZipLoader:
    """Unpickles records of one archive, whose storages are records beside them."""

    def __init__(self, archive: ZipArchive, root: str, *, swap: bool) -> None:
        self._archive = archive
        self._root = root
        self._swap = swap
        self._storages: dict[tuple[str, str], Storage] = {}
        self._folder = ""

    def __call__(self, name: str) -> object:
        member = self._archive.entries[f"{self._root}{name}.pkl"]
        data = self._archive.read(f"{self._root}{name}.pkl", 1 << 30)
        self._folder = name
        source = self._archive.source
        return Unpickler(
            data,
            allowed=TORCH_GLOBALS,
            persistent_load=self._storage,
            placeholder=True,
            path=source.path,
            offset=member.offset,
            operations=max(OPERATIONS, min(source.size, len(data))),
        ).load()

    def _storage(self, pid: object) -> object:
        of, key, location, count = storage_id(pid, 5)[:4]
        if type(key) not in (str, ByteString, int):
            raise FormatError("F203", f"a storage called {describe_value(key)}")
        known = self._storages.get((self._folder, str(key)))
        if known is None:
            known = Storage(key, of, count * of.width, location, swap=self._swap)
            known.payload = self._record(known)
            self._storages[self._folder, str(key)] = known
        return retyped(known, of, count)

    def _record(self, storage: Storage) -> Payload:
        name = f"{self._root}{self._folder}/{storage.key}"
        if name not in self._archive.entries and not storage.nbytes:
            return BytesPayload.of(b"")
        # Checksums of stored records say nothing: torch.serialization.set_crc32_options(False) makes torch write wrong ones.
        payload = self._archive.payload(name)
        if payload.nbytes < storage.nbytes:
            raise FormatError(
                "F202",
                f"the pickle wants {storage.nbytes} bytes of record '{name}', which has {payload.nbytes}",
                offset=self._archive.entries[name].offset,
            )
        return payload


def declared_tensors(code: str, module: str) -> dict[str, Declared]:
    """What the classes in TorchScript source declare, by qualified name.

    The source is searched, not run: `class NAME(Module):`, then lists of string literals called `__parameters__` and
    `__buffers__`.
    """
    found: dict[str, Declared] = {}
    current = ""
    for declared in _DECLARATION.finditer(code):
        if declared[1]:
            current = f"{module.replace('/', '.')}.{declared[1]}"
            found[current] = Declared()
        elif current:
            names, at = [], 0
            while literal := _LITERAL.match(declared[3], at):
                names.append(literal[1])
                at = literal.end()
            found[current] = replace(found[current], **{declared[2]: frozenset(names)})
    return found


def storage_id(pid: object, least: int) -> tuple[TorchType, Any, str, int, Any]:
    """The parts of a persistent id `("storage", class, key, location, count[, view])`.

    Raises:
        FormatError: it is something else.
    """
    if not isinstance(pid, tuple) or len(pid) < least or pid[0] not in ("storage", b"storage"):
        raise FormatError("F203", f"the pickle refers to something outside it that is no storage: {describe_value(pid)}")
    _, of, key, location, count, *view = pid
    try:
        kind = storage_type(of)
    except ValueError as error:
        raise FormatError("F203", str(error)) from error
    if type(count) is not int or not 0 <= count < 1 << 62:
        raise FormatError("F203", f"a storage of {describe_value(count)} elements")
    if isinstance(location, bytes):
        location = location.decode("latin-1")
    return kind, key, str(location) if isinstance(location, str) else "", count, view[0] if view else None


def retyped(known: Storage, of: TorchType, count: int) -> Storage:
    """`known` as a storage of `of`: itself, or another look at its bytes."""
    if of is known.type and count * of.width <= known.nbytes:
        return known
    root, offset = known.resolved()
    if count * of.width > known.nbytes and root.payload is not None and offset + count * of.width > root.payload.nbytes:
        raise FormatError("F202", f"storage {known.key!r} is said to have {known.nbytes} bytes and {count * of.width} bytes")
    return Storage(known.key, of, count * of.width, known.location, swap=known.swap, root=root, root_offset=offset)
