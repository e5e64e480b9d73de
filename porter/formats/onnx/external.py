"""Values that an ONNX model keeps in other files: which files it may name, and their ranges as payloads.

Source: onnx/onnx, `docs/ExternalData.md` and `onnx/onnx.proto`, TensorProto.external_data (IR version 14): keys location
(relative to the model's folder), offset, length, checksum.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from porter.dataclass import dataclass
from porter.errors import FileAccessError, FormatError, UnsafeFileError, access_error
from porter.formats.onnx.structure import text
from porter.io.source import FileSource
from porter.store import TensorStore
from porter.tensor import Location, Payload

_MOST_OPEN = 64
"""Files kept open. Old exporters wrote one file a tensor, more than a process may hold open; the rest are opened when read."""
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """Where a tensor's values lie outside the model: the location as the model says it, and the bytes there."""

    location: str
    offset: int
    nbytes: int
    payload: Payload


@dataclass(frozen=True, slots=True)
class ClosedFilePayload:
    """A range of a file that is opened when it is read."""

    path: str
    offset: int
    nbytes: int

    @property
    def location(self) -> Location | None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        source = FileSource(self.path)
        try:
            yield from source.chunks(self.offset, self.nbytes, limit)
        finally:
            source.close()

    def buffer(self) -> memoryview:
        source = FileSource(self.path)
        try:
            return source.mapped(self.offset, self.nbytes)
        finally:
            source.close()


class ExternalFiles:
    """The files that one model names, opened once each and managed by `store`."""

    def __init__(self, model: FileSource, store: TensorStore) -> None:
        self._model = model
        self._store = store
        self._folder = os.path.dirname(model.path)
        # A cache of downloads may link model and data into its own folder: beside the link's target is beside the model too.
        self._roots = {os.path.realpath(self._folder or "."), os.path.dirname(os.path.realpath(model.path))}
        self._open: dict[str, FileSource] = {}
        self._sizes: dict[str, int] = {}
        self._checksums = 0

    def range(self, proto: Any, nbytes: int, name: str) -> Range:
        """The range that `proto` says, for a tensor called `name` of `nbytes` canonical bytes.

        Raises:
            UnsafeFileError: the location leaves the model's folder.
            FormatError: an entry is no number, or the file has no such range.
            FileAccessError: the file is not there.
        """
        entries = self._entries(proto, name)
        location = entries.get("location", "")
        path = self._path(location, name)
        offset = self._number(entries, "offset", name) or 0
        length = self._number(entries, "length", name)
        size = self._size(path, location, name)
        if length is None:
            length = max(size - offset, 0)
            if length > nbytes and size:
                self._store.note(
                    "assumed", f"'{location}' goes on behind the {nbytes} bytes that the shape takes; no length is stated", name
                )
                length = nbytes
        if offset + length > size:
            raise FormatError(
                "F001",
                f"the values need {length} bytes here, the file ends after {max(size - offset, 0)}",
                path=path,
                offset=min(offset, size),
                tensor=name,
                hint="the data file looks truncated, or belongs to another model",
            )
        if "checksum" in entries and not self._checksums:
            self._checksums = 1
            self._store.note("note", "the model states SHA-1 checksums of its data files; they were not checked")
        source = self._open.get(path)
        payload: Payload = source.payload(offset, length) if source else ClosedFilePayload(path, offset, length)
        return Range(location, offset, length, payload)

    def _entries(self, proto: Any, name: str) -> dict[str, str]:
        entries: dict[str, str] = {}
        for entry in proto.external_data:
            key = text(entry.key)
            if key in entries:
                raise self._error("F306", f"its external data states '{key}' twice", name)
            entries[key] = text(entry.value)
        if not entries.get("location"):
            raise self._error("F306", "its values are said to lie in another file, and no location is stated", name)
        return entries

    def _number(self, entries: dict[str, str], key: str, name: str) -> int | None:
        value = entries.get(key)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) < _LARGEST):
            raise self._error("F306", f"the {key} of its external data is {value!r}, which is no count of bytes", name)
        return int(value)

    def _path(self, location: str, name: str) -> str:
        parts = location.replace("\\", "/").split("/")
        if os.path.isabs(location) or ".." in parts or "\0" in location or parts[0] == "" or parts[0].endswith(":"):
            raise self._outside(location, name)
        path = os.path.join(self._folder, location)
        real = os.path.realpath(path)
        if not any(os.path.commonpath([root, real]) == root for root in self._roots):
            raise self._outside(location, name)
        return path

    def _size(self, path: str, location: str, name: str) -> int:
        if path not in self._sizes:
            try:
                status = os.stat(path)
            except FileNotFoundError as error:
                raise FileAccessError(
                    "I301",
                    f"the model keeps values in '{location}', which is not there",
                    path=self._model.path,
                    tensor=name,
                    hint=f"put '{location}' into the model's folder; such a model is more than one file",
                ) from error
            except OSError as error:
                raise access_error(error, path, "reading") from error
            if not stat.S_ISREG(status.st_mode):
                raise FileAccessError("I004", "reading: is not a regular file", path=path, tensor=name)
            if len(self._open) < _MOST_OPEN:
                self._open[path] = FileSource(path)
                self._store.manage(self._open[path])
            self._sizes[path] = status.st_size
        return self._sizes[path]

    def _outside(self, location: str, name: str) -> UnsafeFileError:
        return UnsafeFileError(
            "S301",
            f"the model asks for values in '{location}', outside its own folder",
            path=self._model.path,
            tensor=name,
            hint="put the data file beside the model and name it there, if you trust where it comes from",
        )

    def _error(self, code: str, message: str, name: str) -> FormatError:
        return FormatError(code, message, path=self._model.path, tensor=name)
