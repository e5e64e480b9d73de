"""The containers that torch used before zip archives, and plain pickles: what is inside, without reading a value.

* the legacy stream (torch 0.1.10 to 1.5, and later on request): magic number, protocol, system, the pickle, storage
  keys, then each storage as an int64 count and its values, which are little-endian on every machine;
* tar (before 0.1.10): members `sys_info`, `pickle`, `tensors`, `storages`;
* a pickle of tensors or arrays by Python's own `pickle.dump`: each tensor's storage is a legacy stream in a byte string.

Source: pytorch `torch/serialization.py` (`_legacy_load`, `_legacy_save`), `torch/storage.py` (`_load_from_bytes`), 2.13; byte
order of legacy storages: `torch/csrc/serialization.cpp` (`THPStorage_writeFileRaw`), 2.13.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from porter.errors import FormatError
from porter.formats.pytorch.archive import Checkpoint, bytes_payload, retyped, storage_id
from porter.formats.pytorch.records import TORCH_GLOBALS, Storage, TensorView, TorchType, storage_type
from porter.io.pickle_globals import ByteString, Global, Globals, describe_value
from porter.io.source import FileSource
from porter.io.unpickle import ByteRun, Unpickler
from porter.tensor import BytesPayload, Payload

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
_MAGIC = re.compile(rb"(\x80[\x02-\x05](\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.|L119547037146038801333356L\n\.)", re.DOTALL)
_TAR_MEMBERS = ("sys_info", "pickle", "tensors", "storages")
_TAR_BLOCK = 512
_NESTING = 3
_LONG_BYTES = 1 << 12


Place = Callable[[int, int], Payload]
"""Gives `nbytes` bytes from `start` of the data that is read."""


def _torch_globals(nesting: int, path: str, data: memoryview, payload_at: Place) -> Globals:
    """Torch's globals, with `_load_from_bytes`: a storage in a legacy stream of its own, in a byte string of `data`."""

    def load_from_bytes(found: object) -> object:
        if nesting >= _NESTING:
            raise ValueError("streams in streams in streams")
        if isinstance(found, ByteRun):
            inner, base = data[found.start : found.start + found.nbytes], found.start
            return _Stream(inner, path, base, lambda start, n: payload_at(base + start, n), nesting + 1).read().value
        inner = bytes_payload(found).buffer()
        return _Stream(inner, path, 0, lambda start, n: BytesPayload(inner[start : start + n]), nesting + 1).read().value

    return {**TORCH_GLOBALS, ("torch.storage", "_load_from_bytes"): load_from_bytes}


def is_legacy(head: bytes) -> bool:
    """Whether a file that starts so is a legacy stream."""
    return _MAGIC.match(head) is not None


def read_legacy(source: FileSource) -> Checkpoint:
    """Read a legacy stream's pickles; its storages stay where they are.

    Raises:
        FormatError: it is broken or cut off.
        UnsafeFileError: a pickle tries to run code.
    """
    return _Stream(source.mapped(0, source.size), source.path, 0, source.payload, 0).read()


class _Stream:
    """One legacy stream; `payload_at(start, nbytes)` gives bytes of it."""

    def __init__(self, data: memoryview, path: str, offset: int, payload_at: Place, nesting: int) -> None:
        self._data = data
        self._path = path
        self._payload_at = payload_at
        self._storages: dict[object, Storage] = {}
        self._views: dict[object, Storage] = {}
        self._machine = Unpickler(
            data,
            allowed=_torch_globals(nesting, path, data, payload_at),
            persistent_load=self._storage,
            placeholder=True,
            path=path,
            offset=offset,
        )

    def read(self) -> Checkpoint:
        machine = self._machine
        if machine.load() != MAGIC_NUMBER:
            raise FormatError("F203", "no legacy PyTorch stream: the magic number is missing", path=self._path, offset=0)
        at = machine.position
        if machine.load() != PROTOCOL_VERSION:
            raise FormatError("F203", "a legacy stream of an unknown protocol version", path=self._path, offset=at)
        system = machine.load()
        checkpoint = Checkpoint(machine.load(), "legacy")
        at = machine.position
        keys = machine.load()
        if not isinstance(keys, list):
            raise FormatError("F203", "the list of storages is no list", path=self._path, offset=at)
        self._place(keys)
        if isinstance(system, dict) and system.get("little_endian") is False:
            checkpoint.notes.append("written on a big-endian machine; the values of this format are little-endian all the same")
        left = self._data.nbytes - machine.position
        if left:
            checkpoint.notes.append(f"{left} bytes behind the last storage belong to none")
        return checkpoint

    def _storage(self, pid: object) -> object:
        if isinstance(pid, tuple) and pid and pid[0] in ("module", b"module"):
            return _module_class(pid[1:])
        of, key, location, count, view = storage_id(pid, 5)
        known = self._storages.get(_key(key))
        if known is None:
            known = self._storages[_key(key)] = Storage(key, of, count * of.width, location)
        if view is None:
            return retyped(known, of, count)
        return self._view(known, of, view)

    def _view(self, root: Storage, of: TorchType, view: object) -> Storage:
        if not isinstance(view, tuple) or len(view) != 3 or not all(type(n) is int and 0 <= n < 1 << 62 for n in view[1:]):
            raise FormatError("F203", "a storage is a view of another in a way that makes no sense")
        key, start, count = view
        if (start + count) * of.width > root.nbytes:
            raise FormatError("F202", f"a view of storage {describe_value(root.key)} ends behind it")
        if _key(key) not in self._views:
            self._views[_key(key)] = Storage(
                key, of, count * of.width, root.location, root=root.resolved()[0], root_offset=root.resolved()[1] + start * of.width
            )
        return self._views[_key(key)]

    def _place(self, keys: list[object]) -> None:
        """Find each storage's bytes, which follow in the order of `keys`."""
        for key in keys:
            storage = self._storages.get(_key(key))
            if storage is None:
                raise FormatError("F202", f"storage {describe_value(key)} is stored and never used", path=self._path)
            if storage.payload is not None:
                raise FormatError("F202", f"storage {describe_value(key)} is stored twice", path=self._path)
            at = self._machine.position
            count = _read_int64(self._data, at, self._path)
            if count * storage.type.width != storage.nbytes:
                expected = storage.nbytes // storage.type.width
                message = f"storage {describe_value(key)} has {count} elements here and {expected} in the pickle"
                raise FormatError("F202", message, path=self._path, offset=at)
            storage.payload = _run(self._data, self._payload_at, at + 8, storage.nbytes, self._path)
            self._machine.position = at + 8 + storage.nbytes


def _key(key: object) -> object:
    """A storage's key as a dictionary's: numbers and strings that torch compares, nothing that hashes slowly."""
    if isinstance(key, bytes):
        return key.decode("latin-1")
    if type(key) not in (str, ByteString, int) or (isinstance(key, int) and abs(key) >= 1 << 64):
        raise FormatError("F203", f"a storage called {describe_value(key)}")
    return key


def _module_class(parts: tuple[object, ...]) -> Global:
    """The class in `(class, source file, source)`, by which old checkpoints of whole modules carry their source."""
    if not parts or not isinstance(parts[0], Global):
        raise FormatError("F203", "a module's class is missing")
    return parts[0]


def _read_int64(data: memoryview, at: int, path: str) -> int:
    if at + 8 > data.nbytes:
        raise FormatError("F001", "the file ends where a storage's size should be", path=path, offset=at, hint=_TRUNCATED)
    count: int = struct.unpack_from("<q", data, at)[0]
    if count < 0:
        raise FormatError("F002", f"a storage of {count} elements", path=path, offset=at)
    return count


def _run(data: memoryview, payload_at: Place, at: int, nbytes: int, path: str) -> Payload:
    if at + nbytes > data.nbytes:
        message = f"a storage needs {nbytes} bytes here, the file ends after {data.nbytes - at}"
        raise FormatError("F001", message, path=path, offset=at, hint=_TRUNCATED)
    return payload_at(at, nbytes)


_TRUNCATED = "the file looks truncated; fetch it again, or check that the download finished"


def read_pickle(source: FileSource) -> Checkpoint:
    """Read a plain pickle: of tensors, which carry their storages in byte strings, or of numpy arrays."""
    data = source.mapped(0, source.size)
    allowed = _torch_globals(0, source.path, data, source.payload)
    machine = Unpickler(data, allowed=allowed, placeholder=True, path=source.path, runs_from=_LONG_BYTES)
    checkpoint = Checkpoint(machine.load(), "pickle", payload=lambda found: _run_bytes(found, source))
    if machine.position != source.size:
        checkpoint.notes.append(f"{source.size - machine.position} bytes behind the pickle belong to nothing")
    return checkpoint


def _run_bytes(found: object, source: FileSource) -> Payload:
    return source.payload(found.start, found.nbytes) if isinstance(found, ByteRun) else bytes_payload(found)


def is_tar(head: bytes) -> bool:
    """Whether a file that starts so is a tar archive as torch wrote them."""
    return len(head) >= _TAR_BLOCK and head[:100].rstrip(b"\0").decode("latin-1") in _TAR_MEMBERS and _tar_checksum_fits(head)


def _tar_checksum_fits(block: bytes | memoryview) -> bool:
    try:
        claimed = int(bytes(block[148:156]).strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return claimed == sum(block[:148]) + 8 * 32 + sum(block[156:_TAR_BLOCK])


def read_tar(source: FileSource) -> Checkpoint:
    """Read a tar archive's pickles; its storages stay where they are.

    Source: POSIX.1-2017 `pax`, "ustar Interchange Format".
    """
    members = _tar_members(source)
    missing = [name for name in _TAR_MEMBERS[1:] if name not in members]
    if missing:
        raise FormatError("F011", f"the tar archive has no member '{missing[0]}'", path=source.path)
    return _Tar(source, members).read()


def _tar_members(source: FileSource) -> dict[str, tuple[int, int]]:
    """Offset and size of each file in the archive, by name."""
    members: dict[str, tuple[int, int]] = {}
    at = 0
    while at + _TAR_BLOCK <= source.size and len(members) < 64:
        block = source.read(at, _TAR_BLOCK, "a tar member's header")
        if not any(block):
            break
        if not _tar_checksum_fits(block):
            raise FormatError("F205", "a tar member's header has a wrong checksum", path=source.path, offset=at)
        try:
            size = int(block[124:136].strip(b"\0 ") or b"0", 8)
        except ValueError as error:
            raise FormatError("F205", "a tar member's size is no octal number", path=source.path, offset=at + 124) from error
        name = block[:100].rstrip(b"\0").decode("latin-1")
        source.check(at + _TAR_BLOCK, size, f"tar member '{name}'")
        if block[156:157] in (b"0", b"\0"):
            if name in members:
                raise FormatError("F205", f"tar member '{name}' is there twice", path=source.path, offset=at)
            members[name] = (at + _TAR_BLOCK, size)
        at += _TAR_BLOCK + -(-size // _TAR_BLOCK) * _TAR_BLOCK
    return members


class _Tar:
    """The pickles in a tar archive: storages and tensors are listed one by one, then the value refers to them by number."""

    def __init__(self, source: FileSource, members: dict[str, tuple[int, int]]) -> None:
        self._source = source
        self._members = members
        self._objects: dict[object, Storage | TensorView] = {}

    def read(self) -> Checkpoint:
        self._read_storages()
        self._read_tensors()
        return Checkpoint(self._open("pickle").load(), "tar")

    def _open(self, name: str) -> Unpickler:
        offset, size = self._members[name]
        data = self._source.mapped(offset, size)
        return Unpickler(
            data,
            allowed=_torch_globals(0, self._source.path, data, lambda at, n: self._source.payload(offset + at, n)),
            persistent_load=self._object,
            placeholder=True,
            path=self._source.path,
            offset=offset,
        )

    def _object(self, pid: object) -> object:
        if isinstance(pid, tuple):
            return _module_class(pid)
        if isinstance(pid, str) and pid.isascii() and pid.isdigit() and len(pid) < 20:
            pid = int(pid)
        found = self._objects.get(_key(pid))
        if found is None:
            raise FormatError("F203", f"the pickle refers to object {describe_value(pid)}, which the archive does not have")
        return found

    def _add(self, key: object, made: Storage | TensorView) -> None:
        if _key(key) in self._objects:
            raise FormatError("F203", f"two objects are numbered {describe_value(key)}", path=self._source.path)
        self._objects[_key(key)] = made

    def _triples(self, machine: Unpickler, name: str) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the triple of each entry of the member, `machine` standing behind the triple."""
        count = machine.load()
        if type(count) is not int or count < 0:
            raise FormatError("F203", f"member '{name}' does not start with a count", path=self._source.path, offset=self._members[name][0])
        for _ in range(count):
            at = self._members[name][0] + machine.position
            entry = machine.load()
            if not isinstance(entry, tuple) or len(entry) != 3:
                raise FormatError("F203", f"an entry of member '{name}' is not a triple", path=self._source.path, offset=at)
            yield entry

    def _read_storages(self) -> None:
        machine, (base, size) = self._open("storages"), self._members["storages"]
        data = self._source.mapped(base, size)
        for key, location, of in self._triples(machine, "storages"):
            try:
                kind = storage_type(of)
            except ValueError as error:
                raise FormatError("F203", str(error), path=self._source.path, offset=base + machine.position) from error
            nbytes = _read_int64(data, machine.position, self._source.path) * kind.width
            storage = Storage(key, kind, nbytes, location if isinstance(location, str) else "")
            start = machine.position + 8
            storage.payload = _run(data, lambda at, n: self._source.payload(base + at, n), start, nbytes, self._source.path)
            machine.position = start + nbytes
            self._add(key, storage)
        self._read_views(machine.load())

    def _read_views(self, views: object) -> None:
        for view in views if isinstance(views, list | tuple) else ():
            if not isinstance(view, tuple) or len(view) != 4 or not all(type(n) is int and n >= 0 for n in view[2:]):
                raise FormatError("F203", "a view of a storage is not described by four numbers", path=self._source.path)
            target, root_key, start, count = view
            root = self._objects.get(_key(root_key))
            if not isinstance(root, Storage) or (start + count) * root.type.width > root.nbytes:
                raise FormatError("F202", f"a view of storage {describe_value(root_key)} ends behind it", path=self._source.path)
            base, offset = root.resolved()
            width = root.type.width
            self._add(target, Storage(target, root.type, count * width, root.location, root=base, root_offset=offset + start * width))

    def _read_tensors(self) -> None:
        machine, (base, size) = self._open("tensors"), self._members["tensors"]
        data = self._source.mapped(base, size)
        for key, storage_key, _ in self._triples(machine, "tensors"):
            at = machine.position
            storage = self._objects.get(_key(storage_key))
            if not isinstance(storage, Storage):
                message = f"a tensor of storage {describe_value(storage_key)}, which the archive does not have"
                raise FormatError("F203", message, path=self._source.path, offset=base + at)
            dimensions = struct.unpack_from("<i", data, at)[0] if at + 8 <= size else -1
            end = at + 16 + 16 * dimensions
            if not 0 <= dimensions <= 64 or end > size:
                raise FormatError("F001", "a tensor's sizes do not fit the member", path=self._source.path, offset=base + at)
            numbers = struct.unpack_from(f"<{2 * dimensions + 1}q", data, at + 8)
            if any(n < 0 for n in numbers):
                raise FormatError("F002", "a negative size, stride or offset", path=self._source.path, offset=base + at + 8)
            machine.position = end
            shape, strides = numbers[:dimensions], numbers[dimensions:-1]
            self._add(key, TensorView(storage, storage.type, numbers[-1], shape, strides))
