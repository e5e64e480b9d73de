"""Bounds-checked reading of one file: nothing is read that the file does not have, nothing is mapped unless asked for."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import FileAccessError, FormatError, UsageError, access_error
from porter.tensor import Location, Payload

if TYPE_CHECKING:
    import mmap

HELD = 32 << 20
"""Bytes of views after which the pages of a mapped file are given back."""


class FileSource:
    """A regular file, open for reading.

    `size` is in bytes, as it was when the file was opened. A writer that replaces the file by renaming does not disturb
    it. `mapped` maps the file on first use; the mapping lives as long as any view of it.

    Raises:
        FileAccessError: the file cannot be opened or is no regular file.
    """

    path: str
    fd: int
    size: int

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            # O_NONBLOCK: opening a named pipe must not wait for a writer.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise access_error(error, self.path, "reading") from error
        except ValueError as error:
            raise FileAccessError("I001", f"reading: {error}", path=self.path) from error
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            what = "is a directory" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
            raise FileAccessError("I004", f"reading: {what}", path=self.path)
        self.size = status.st_size
        self._map: mmap.mmap | None = None
        self._viewed = 0

    def read(self, offset: int, nbytes: int, what: str = "data") -> bytes:
        """Exactly `nbytes` bytes at `offset`.

        Raises:
            FormatError: the file ends before that; `what` says what was to be read there.
        """
        self.check(offset, nbytes, what)
        parts: list[bytes] = []
        while nbytes:
            part = self._pread(offset, nbytes)
            parts.append(part)
            offset += len(part)
            nbytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_up_to(self, offset: int, nbytes: int) -> bytes:
        """At most `nbytes` bytes at `offset`; fewer, or none, at the end of the file."""
        nbytes = min(nbytes, self.size - offset)
        return self.read(offset, nbytes) if nbytes > 0 else b""

    def chunks(self, offset: int, nbytes: int, limit: int) -> Iterator[memoryview]:
        """Yield `nbytes` bytes at `offset` in chunks of at most `limit`, through one buffer that is used again each time."""
        self.check(offset, nbytes)
        if not nbytes:
            return
        buffer = memoryview(bytearray(min(limit, nbytes)))
        end = offset + nbytes
        while offset < end:
            try:
                got = os.preadv(self.fd, [buffer[: min(limit, end - offset)]], offset)
            except OSError as error:
                raise access_error(error, self.path, "reading") from error
            if not got:
                raise self._shrunk(offset)
            yield buffer[:got].toreadonly()
            offset += got

    def read_into(self, offset: int, room: memoryview, what: str = "data") -> None:
        """Fill `room` with the bytes at `offset`.

        Raises:
            FormatError: the file ends before that.
        """
        self.check(offset, room.nbytes, what)
        while room.nbytes:
            try:
                got = os.preadv(self.fd, [room], offset)
            except OSError as error:
                raise access_error(error, self.path, "reading") from error
            if not got:
                raise self._shrunk(offset)
            room, offset = room[got:], offset + got

    def mapped(self, offset: int, nbytes: int) -> memoryview:
        """A read-only view of the mapped file; stays valid after `close`. Pages of earlier views leave the memory after a while;
        who still looks at them gets them again.
        """
        self.check(offset, nbytes)
        if not nbytes:
            return memoryview(b"")
        import mmap

        if self._map is None:
            try:
                self._map = mmap.mmap(self.fd, 0, access=mmap.ACCESS_READ)
            except OSError as error:
                raise access_error(error, self.path, "reading") from error
        # The file may have lost its end since; to touch a page that is gone would kill the process.
        left = min(len(self._map), os.fstat(self.fd).st_size)
        if left < offset + nbytes:
            raise self._shrunk(left)
        self._viewed += nbytes
        if self._viewed > HELD:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._viewed = nbytes
        return memoryview(self._map)[offset : offset + nbytes]

    def release(self, offset: int, nbytes: int) -> None:
        """Stop counting these bytes as resident, where they are mapped. Views stay valid: what they look at again comes back."""
        if self._map is None:
            return
        import mmap

        first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (offset + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def check(self, offset: int, nbytes: int, what: str = "data") -> None:
        """Raise a `FormatError` unless the file has `nbytes` bytes at `offset`, a `UsageError` once the file is closed."""
        if self.fd < 0:
            raise UsageError(
                "U015", "the store was closed before its values were read", path=self.path, hint="read inside the 'with' block"
            )
        if nbytes < 0 or offset < 0:
            raise FormatError("F002", f"negative size or offset for {what}", path=self.path, offset=max(offset, 0))
        if offset + nbytes > self.size:
            raise FormatError(
                "F001",
                f"{what} needs {nbytes} bytes here, the file ends after {max(self.size - offset, 0)}",
                path=self.path,
                offset=min(offset, self.size),
                hint="the file looks truncated; fetch it again, or check that the download finished",
            )

    def payload(self, offset: int, nbytes: int, what: str = "data") -> FilePayload:
        """The canonical bytes that lie at `offset` as they are. Checks the bounds, reads nothing."""
        self.check(offset, nbytes, what)
        return FilePayload(self, offset, nbytes)

    def close(self) -> None:
        """Close the file; views that were mapped stay valid."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._map = None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.close()

    def _pread(self, offset: int, nbytes: int) -> bytes:
        try:
            part = os.pread(self.fd, min(nbytes, 1 << 30), offset)
        except OSError as error:
            raise access_error(error, self.path, "reading") from error
        if not part:
            raise self._shrunk(offset)
        return part

    def _shrunk(self, offset: int) -> FormatError:
        return FormatError("F005", "the file became shorter while it was being read", path=self.path, offset=offset)


@dataclass(frozen=True, slots=True)
class FilePayload:
    """Canonical bytes that lie in a file as they are."""

    source: FileSource
    offset: int
    nbytes: int

    @property
    def location(self) -> Location:
        return Location(self.source.path, self.source.fd, self.offset, self.nbytes)

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return self.source.chunks(self.offset, self.nbytes, limit)

    def buffer(self) -> memoryview:
        return self.source.mapped(self.offset, self.nbytes)


def release(payloads: Iterable[Payload]) -> None:
    """Say that what `buffer` mapped of these has been looked at: a file that is read whole is then never in memory whole."""
    for payload in payloads:
        if isinstance(payload, FilePayload):
            payload.source.release(payload.offset, payload.nbytes)
