"""Output files that appear whole or not at all.

Bytes go to a temporary sibling, which takes the final name when everything is written. Until then a file that was there
stays as it was, whatever happens: a full disk, an exception, a killed process. When an old file is replaced the new one
is forced to disk first, so that a power cut leaves one of the two; a file with a new name is not worth that wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self

from porter.errors import FileAccessError, access_error
from porter.io.windows import Windows
from porter.tensor import CHUNK, Location, Payload

_PIECE = 1 << 18
"""Bytes of one write at most, and where writes end: what divides by this. The page cache takes in a write in pages as large as
it is; for 1 MiB the kernel may first have to move memory about, which then takes ten times as long as the copy."""

Progress = Callable[[int], None]
"""Called with the number of bytes just written."""


class AtomicFile:
    """One output file under a temporary name, seekable, written through `write`, `write_payload` and `write_at`.

    The final path's symbolic links are followed, and an existing file keeps its mode. Use it through `OutputGroup`, or
    call `commit` or `discard` in the end.

    Raises:
        FileAccessError: the directory is missing, not writable, full, or the path is no regular file.
    """

    def __init__(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> None:
        self.path = os.fspath(path)
        try:
            self.final = os.path.realpath(self.path)
        except ValueError as error:  # a NUL
            raise FileAccessError("I001", f"writing: {error}", path=self.path) from error
        self.position = 0
        self._progress = progress
        self._windows = Windows()
        directory, name = os.path.split(self.final)
        mode, self.replaces = self._existing()
        # Long names leave little room for a suffix within NAME_MAX, which counts bytes.
        self.temporary = os.path.join(directory, f".{os.fsdecode(os.fsencode(name)[:200])}.{os.urandom(4).hex()}.porter-part")
        try:
            self.fd = os.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except OSError as error:
            raise access_error(error, self.path, "writing") from error
        if self.replaces:
            # File systems without modes refuse any but their own.
            with contextlib.suppress(OSError):
                os.fchmod(self.fd, mode)

    def _existing(self) -> tuple[int, bool]:
        try:
            status = os.stat(self.final)
        except FileNotFoundError:
            return 0o666, False
        except OSError as error:
            raise access_error(error, self.path, "writing") from error
        except ValueError as error:
            raise FileAccessError("I001", f"writing: {error}", path=self.path) from error
        if not stat.S_ISREG(status.st_mode):
            raise FileAccessError("I004", "writing: the output exists and is not a regular file", path=self.path)
        return stat.S_IMODE(status.st_mode), True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        view = memoryview(data).cast("B")
        at, total = self.position, view.nbytes
        try:
            while view.nbytes:
                done = os.write(self.fd, view[: _PIECE - at % _PIECE])
                view, at = view[done:], at + done
        except OSError as error:
            raise access_error(error, self.path, "writing") from error
        self._advance(total)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset` without moving the end."""
        view = memoryview(data).cast("B")
        try:
            while view.nbytes:
                done = os.pwrite(self.fd, view, offset)
                view, offset = view[done:], offset + done
        except OSError as error:
            raise access_error(error, self.path, "writing") from error

    def seek(self, offset: int) -> None:
        """Continue writing at `offset`: for containers that a library laid out in the temporary file, values to be filled in."""
        try:
            self.position = os.lseek(self.fd, offset, os.SEEK_SET)
        except OSError as error:
            raise access_error(error, self.path, "writing") from error

    def write_payload(self, payload: Payload) -> None:
        """Append all bytes of `payload`, by the kernel alone where they lie in a file as they are."""
        where = payload.location
        if where is not None and where.verify:
            where = None
        # A window for a few bytes would cost more than reading them.
        if where is not None and where.fd >= 0 and (where.nbytes >= 1 << 16 or self._windows.shows(where)):
            self._copy(where)
            return
        for chunk in payload.chunks(CHUNK):
            self.write(chunk)

    def reserve(self, nbytes: int) -> None:
        """Claim disk space for `nbytes` in all, so that a full disk is known before the work and blocks lie together."""
        if not nbytes:
            return
        try:
            os.posix_fallocate(self.fd, 0, nbytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise access_error(error, self.path, "writing") from error
            # Other file systems may not support it; writing will tell.

    def truncate(self) -> None:
        """Cut the file at the current position, giving back what `reserve` claimed beyond it."""
        try:
            os.ftruncate(self.fd, self.position)
        except OSError as error:
            raise access_error(error, self.path, "writing") from error

    def pad_to(self, alignment: int, fill: bytes = b"\0") -> int:
        """Append `fill` bytes until the position is a multiple of `alignment`; the number appended."""
        gap = -self.position % alignment
        self.write(fill * gap)
        return gap

    def sync(self) -> None:
        """Wait until the bytes are on the disk."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise access_error(error, self.path, "writing") from error

    def commit(self) -> None:
        """Give the file its final name."""
        if self.replaces:
            self.sync()
        try:
            self._close()  # where network file systems say that the disk is full
            os.replace(self.temporary, self.final)
        except OSError as error:
            self.discard()
            raise access_error(error, self.path, "writing") from error
        if self.replaces:
            _sync_directory(os.path.dirname(self.final))

    def discard(self) -> None:
        """Remove the temporary file. Harmless after `commit`."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            os.unlink(self.temporary)

    def _copy(self, where: Location) -> None:
        offset, end = where.offset, where.offset + where.nbytes
        while offset < end:
            view = self._windows.view(where, offset)
            try:
                done = os.write(self.fd, view[: _PIECE - self.position % _PIECE])
            except OSError as error:
                self._windows.check(where)
                if error.errno == errno.EFAULT:  # the window's memory: its disk or network failed
                    raise FileAccessError("I005", "reading: the file cannot be read here", path=where.path, offset=offset) from error
                raise access_error(error, self.path, "writing") from error
            offset += done
            self._advance(done)
        self._windows.check(where)

    def _advance(self, nbytes: int) -> None:
        self.position += nbytes
        if self._progress is not None and nbytes:
            self._progress(nbytes)

    def _close(self) -> None:
        self._windows.close()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1  # closed whatever `close` says
            os.close(fd)


class OutputGroup:
    """Files that belong together: all take their final names at the end of the `with` block, or none does.

    `create` order is commit order, so the file that makes the others valid (an index, the main file) comes last. Names
    given to `remove_stale` are removed just before the first rename.
    """

    def __init__(self, *, progress: Progress | None = None) -> None:
        self.files: list[AtomicFile] = []
        self._progress = progress
        self._stale: list[str] = []

    def create(self, path: str | os.PathLike[str]) -> AtomicFile:
        """Open one more output of the group."""
        file = AtomicFile(path, progress=self._progress)
        self.files.append(file)
        return file

    def remove_stale(self, path: str | os.PathLike[str]) -> None:
        """Remove `path`, if it is there, when the group is committed: a sidecar that would contradict the new file."""
        self._stale.append(os.fspath(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            for file in self.files:
                file.discard()

    def _commit(self) -> None:
        for path in self._stale:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise access_error(error, path, "removing the stale file") from error
        for file in self.files:
            file.commit()


def _sync_directory(path: str) -> None:
    try:
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        # Some file systems cannot sync a directory; the rename itself has happened.
        return
    finally:
        os.close(fd)
