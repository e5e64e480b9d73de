"""Arrays of an `.npz` file, as `numpy.savez` writes it, for feeding networks. No file is trusted: sizes are checked first."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError
from porter.io import npy
from porter.io.source import FileSource
from porter.io.zip_archive import ZipArchive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PLAIN = re.compile(r"[<>|=]?(?:[?]|[biufcU][0-9]{1,4})")
"""numpy's strings for numbers, booleans and text; what else there is may run code, or has no values that a network is fed."""


def read_arrays(path: str) -> dict[str, NDArray[Any]]:
    """The arrays, by name, in the file's order. Reads it whole.

    Raises:
        FileAccessError: it cannot be read.
        GraphError: it is no archive, or a member is no array of numbers or text.
        FormatError, UnsafeFileError: it is broken, or expands as a zip bomb does.
    """
    source = FileSource(path)
    try:
        if source.read_up_to(0, 2) != b"PK":
            hint = "numpy.savez('in.npz', data=array) writes one"
            raise GraphError("G091", "this is no .npz file of arrays: it is no zip archive", path=path, hint=hint)
        archive = ZipArchive(source)
        if not archive.entries:
            raise GraphError("G091", "the archive is empty: it has no array", path=path)
        return {member.removesuffix(".npy"): _array(archive, member) for member in archive.entries}
    finally:
        source.close()


def _array(archive: ZipArchive, member: str) -> NDArray[Any]:
    import numpy as np

    path, name, entry = archive.source.path, member.removesuffix(".npy"), archive.entries[member]
    if not member.endswith(".npy"):
        raise GraphError("G091", f"'{name}' is no array: its member in the archive does not end with '.npy'", path=path)
    header = npy.read_header(lambda nbytes: archive.start(member, nbytes), path, entry.offset)
    dtype = _type(header.descr)
    if dtype is None:
        what = {npy.OBJECT: "Python objects", npy.RECORD: "records"}.get(header.descr, f"type '{header.descr}'")
        raise GraphError("G091", f"the array '{name}' is of {what}; numbers can be read", path=path, offset=entry.offset)
    expected = math.prod(header.shape) * dtype.itemsize
    if header.nbytes + expected != entry.size:
        said = f"the array '{name}' is said to have {expected} bytes, and has {entry.size - header.nbytes}"
        raise GraphError("G091", said, path=path, offset=entry.offset)
    data = archive.payload(member, header.nbytes, verify=True).buffer()
    # The copy is the caller's own: aligned, writeable, and there when the file is closed.
    return np.frombuffer(data, dtype).reshape(header.shape, order="F" if header.fortran_order else "C").copy(order="C")


def _type(descr: str) -> np.dtype[Any] | None:
    import numpy as np

    try:
        return np.dtype(descr) if _PLAIN.fullmatch(descr) else None
    except TypeError:
        return None
