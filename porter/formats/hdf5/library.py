"""libhdf5, by h5py: in this process to write, in a process of its own to read.

libhdf5 trusts what it reads: damaged files make it crash, hang or take memory, and no `except` catches that. What it
alone can read (chunk indexes of HDF5 1.10 and later, the filters lzf, szip, nbit and scale-offset) is therefore read by
`library_process`, which sends the values through a pipe.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from porter.dataclass import dataclass
from porter.errors import FormatError, MissingDependencyError
from porter.formats.hdf5.storage import Window
from porter.tensor import CHUNK

_PATIENCE = 60
_NO_LIBRARY = 3


def library() -> Any:
    """The h5py module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("D501", f"h5py is needed for this: {error}", hint="pip install h5py") from error
    return h5py


@dataclass(frozen=True, slots=True)
class LibraryRequest:
    """A dataset that libhdf5 is to read: the file, the dataset's path in it, and what is known of it."""

    window: Window
    path: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    item: int

    def pieces(self) -> Iterator[bytes]:
        """The values in C order and in the file's own type.

        Raises:
            FormatError: libhdf5 does not accept the file, crashes, or makes no progress for a minute.
        """
        left = math.prod(self.shape) * self.item
        process = self._start()
        assert process.stdout is not None
        try:
            while left:
                data = self._receive(process, min(left, CHUNK))
                left -= len(data)
                yield data
        finally:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process. It gets the open file, so that it reads this very one whatever became of its name."""
        source = self.window.source
        request = json.dumps([source.fd, self.window.start, self.window.size, self.path, self.shape, self.chunk, self.item])
        command = [sys.executable, "-P", "-m", "porter.formats.hdf5.library_process", request]
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(source.fd,)
            )
        except OSError as error:
            raise FormatError("F506", f"libhdf5 cannot be started: {error}", path=self.window.path) from error

    def _receive(self, process: subprocess.Popen[bytes], nbytes: int) -> bytes:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
        if not ready:
            raise FormatError("F506", f"libhdf5 has made nothing of it in {_PATIENCE} s", path=self.window.path, hint=_DAMAGED)
        data = os.read(process.stdout.fileno(), nbytes)
        if not data:
            raise self._failed(process)
        return data

    def _failed(self, process: subprocess.Popen[bytes]) -> FormatError | MissingDependencyError:
        _, said = process.communicate()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1][:200] if lines else "it said nothing"
        if process.returncode == _NO_LIBRARY:
            return MissingDependencyError("D501", f"h5py is needed for this file: {last}", hint="pip install h5py")
        if process.returncode < 0:
            return FormatError("F506", f"libhdf5 crashes on it (signal {-process.returncode})", path=self.window.path, hint=_DAMAGED)
        return FormatError("F506", f"its data cannot be read: {last}", path=self.window.path)


_DAMAGED = "the file is damaged, or made to do harm"
