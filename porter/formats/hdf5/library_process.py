"""What runs in a process of its own: reads one dataset by libhdf5 and writes its values to standard output.

Run as `python -m porter.formats.hdf5.library_process REQUEST`, the request being the JSON list that `library` makes.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

_NO_LIBRARY = 3
_MEMORY = 4 << 30


class _WindowFile(io.RawIOBase):
    """A part of an open file as the read-only file that h5py takes."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd, self._start, self._size, self._at = fd, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(min(view.nbytes, self._size - self._at), 0)]
        done = os.preadv(self._fd, [view], self._start + self._at) if view.nbytes else 0
        self._at += done
        return done


def main(request: str) -> int:
    """Answer one request; the process's exit status."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        import h5py
    except ImportError as error:
        print(error, file=sys.stderr)
        return _NO_LIBRARY
    fd, start, size, path, shape, chunk, item = json.loads(request)
    try:
        dataset = h5py.File(_WindowFile(fd, start, size), "r").id
        for name in path:
            dataset = h5py.h5o.open(dataset, name.encode("utf-8", "surrogateescape"))
        send(dataset, tuple(shape), tuple(chunk), item)
    except BrokenPipeError:
        return 0
    except Exception as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


def send(dataset: Any, shape: tuple[int, ...], chunk: tuple[int, ...], item: int) -> None:
    """Write the elements of `dataset` to standard output, slab by slab, in the file's own type."""
    import h5py
    import numpy as np

    from porter.formats.hdf5.chunks import slabs

    kind = dataset.get_type()
    if dataset.shape != shape or kind.get_size() != item:
        raise ValueError(f"libhdf5 finds {list(dataset.shape)} elements of {kind.get_size()} bytes")
    for start, count in slabs(shape, chunk, item):
        buffer = np.empty(int(np.prod(count, dtype=np.int64)) * item, np.uint8)
        there, here = dataset.get_space(), h5py.h5s.create_simple(count)
        there.select_hyperslab(start, count)
        dataset.read(here, there, buffer, mtype=kind)
        sys.stdout.buffer.write(buffer.data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
