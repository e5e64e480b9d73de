"""Runs of files handed to the kernel as mapped memory, a window at a time.

`sendfile` and `copy_file_range` go page by page through a pipe. Where source and target lie at different places of their
pages, as tensors do, writing from mapped memory takes a fifth to two fifths less time; elsewhere it takes as long. See
`tests/benchmarks/README.md`. Nothing here looks at the memory: a file that becomes shorter makes a system call fail, not
the process.
"""

from __future__ import annotations

import mmap
import os

from porter.errors import FileAccessError, access_error
from porter.tensor import Location

WINDOW = 4 << 20
"""Bytes mapped at a time: they count as resident memory."""


class Windows:
    """The window that was mapped last; runs that lie near each other share one."""

    def __init__(self) -> None:
        self._file: tuple[int, int] | None = None
        self._start = 0
        self._view = memoryview(b"")

    def view(self, run: Location, offset: int) -> memoryview:
        """Mapped bytes of the run's file from `offset` on: at least one, at most to the end of the run.

        Only for system calls, and only until the next call of `view`. The file may have become shorter: see `check`.

        Raises:
            FileAccessError: the file is shorter than `run` says, or cannot be mapped.
        """
        status = os.fstat(run.fd)
        if status.st_size < run.offset + run.nbytes:
            raise _shrunk(run)
        file = status.st_dev, status.st_ino
        if file != self._file or not self._start <= offset < self._start + self._view.nbytes:
            self.close()
            start = offset - offset % mmap.ALLOCATIONGRANULARITY
            nbytes = min(WINDOW, status.st_size - start)
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            try:
                self._view = memoryview(mmap.mmap(run.fd, nbytes, flags, mmap.PROT_READ, offset=start))
            except ValueError as error:  # shorter again
                raise _shrunk(run) from error
            except OSError as error:
                raise access_error(error, run.path, "reading") from error
            self._file, self._start = file, start
        return self._view[offset - self._start : run.offset + run.nbytes - self._start]

    def shows(self, run: Location) -> bool:
        """Whether the run lies in the window as it is."""
        at = run.offset - self._start
        if not 0 <= at <= self._view.nbytes - run.nbytes:
            return False
        status = os.fstat(run.fd)
        return (status.st_dev, status.st_ino) == self._file

    def check(self, run: Location) -> None:
        """Raise a `FileAccessError` if the run's file no longer has all its bytes: views of it showed zeros then."""
        if os.fstat(run.fd).st_size < run.offset + run.nbytes:
            raise _shrunk(run)

    def close(self) -> None:
        """Unmap the window."""
        self._file, self._view = None, memoryview(b"")


def _shrunk(run: Location) -> FileAccessError:
    return FileAccessError("I006", "the source became shorter while it was being copied", path=run.path)
