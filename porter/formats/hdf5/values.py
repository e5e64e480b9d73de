"""The values of datasets as payloads: ranges of the file where the bytes lie there as they are, computed ones otherwise."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from porter.errors import FormatError, MissingDependencyError, PorterError, UnsafeFileError
from porter.formats.hdf5 import trees
from porter.formats.hdf5.elements import Element
from porter.formats.hdf5.objects import Dataset, Hdf5File
from porter.formats.hdf5.storage import Window
from porter.io.payloads import ComputedPayload
from porter.tensor import CHUNK, Payload

if TYPE_CHECKING:
    import h5py

_BOMB_RATIO = 1000
_BOMB_SIZE = 64 << 20
_SLAB = 16 << 20
_BAND = 128 << 20

# Registered filters that libhdf5 and h5py bring along. Any other one is code that a plug-in would supply.
# Source: HDF5 User Guide, "Using the Filter Pipeline" (1 to 6); registered filters list, 32000 LZF (h5py).
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}


class Values:
    """Makes the payloads of one file's datasets.

    What the file claims is held against what it stores: unwritten and compressed data may expand a thousandfold, and no
    byte of the file may belong to two datasets.
    """

    def __init__(self, file: Hdf5File, outer: Window) -> None:
        self._file = file
        self._library = LibraryFile(outer)
        self._unstored = 0
        self._compressed = 0
        self._indexed = 0
        self._claimed: dict[int, tuple[int, int]] = {}

    def payload(self, dataset: Dataset, element: Element, path: tuple[str, ...]) -> Payload:
        """The canonical bytes of `dataset`, whose path from the root is `path`. Reads the index of chunks, no values.

        Raises:
            FormatError: the data lies outside the file, is shorter than the shape says, or has an unknown filter.
            UnsafeFileError: it claims far more than the file stores.
        """
        window, layout = self._file.window, dataset.layout
        nbytes = dataset.space.elements * dataset.type.size
        if not nbytes:
            return ComputedPayload(0, lambda: iter(()))
        if dataset.filters and layout.kind != "chunked":
            raise self._file.meta.broken("a dataset has filters and no chunks", dataset.address)
        if layout.address is None:
            self._expand(nbytes, 0, dataset)
            return self._filled(dataset, element, nbytes)
        if layout.kind == "chunked":
            return self._chunked(dataset, element, nbytes, path)
        if layout.nbytes is not None and layout.nbytes < nbytes:
            raise FormatError(
                "F504",
                f"the shape takes {nbytes} bytes, {layout.nbytes} are stored",
                path=window.path,
                offset=window.start + layout.address,
            )
        raw = window.payload(layout.address, nbytes, "a dataset")
        self._claim(layout.address, nbytes, dataset)
        return swapped(raw, element.swap) if element.swap else raw

    def close(self) -> None:
        """Release the library's handle, if one was opened."""
        self._library.close()

    def _filled(self, dataset: Dataset, element: Element, nbytes: int) -> Payload:
        """Data that was never written is the fill value throughout."""
        fill, size = dataset.fill or b"", dataset.type.size
        if len(fill) != size:
            fill = bytes(size)
        block = fill * max(1, CHUNK // size)

        def produce() -> Iterator[memoryview]:
            for start in range(0, nbytes, len(block)):
                yield memoryview(block)[: min(len(block), nbytes - start)]

        filled = ComputedPayload(nbytes, produce)
        return swapped(filled, element.swap) if element.swap else filled

    def _chunked(self, dataset: Dataset, element: Element, nbytes: int, path: tuple[str, ...]) -> Payload:
        layout, shape = dataset.layout, dataset.space.shape or ()
        if len(layout.chunk) != len(shape):
            raise self._file.meta.broken("a dataset's chunks have other dimensions than the dataset", dataset.address)
        for step in dataset.filters:
            if step.number not in _FILTERS:
                raise FormatError(
                    "F505",
                    f"its data passes through filter {step.number} ({step.name or 'unnamed'}), which is code of a plug-in",
                    path=self._file.window.path,
                    hint="write the file again without it: h5repack -f NONE",
                )
        self._expand_chunks(max(nbytes, math.prod(layout.chunk) * dataset.type.size), dataset)

        def produce() -> Iterator[memoryview]:
            return self._library.read(path, shape, layout.chunk, dataset.type.size)

        values = ComputedPayload(nbytes, produce)
        return swapped(values, element.swap) if element.swap else values

    def _expand_chunks(self, nbytes: int, dataset: Dataset) -> None:
        """Hold what a chunked dataset claims against what its chunks take in the file. Newer indexes are read by libhdf5
        alone; all datasets that have one together may claim what one as large as the file could.
        """
        window, layout = self._file.window, dataset.layout
        if not layout.tree or layout.address is None:
            self._indexed += nbytes
            self._expand(self._indexed, window.size, dataset)
            return
        stored = 0
        for size, _, address in trees.chunks(self._file.meta, layout.address, len(layout.chunk)):
            window.check(address, size, "a chunk of a dataset")
            stored += size
        self._compressed += stored
        if self._compressed > window.size:
            raise self._file.meta.broken("the chunks of its datasets lie on each other", dataset.address)
        self._expand(nbytes, stored, dataset)

    def _expand(self, nbytes: int, stored: int, dataset: Dataset) -> None:
        self._unstored += max(nbytes - _BOMB_RATIO * stored, 0)
        if self._unstored > _BOMB_SIZE:
            raise UnsafeFileError(
                "S503",
                f"a dataset claims {nbytes} bytes and stores {stored}",
                path=self._file.window.path,
                offset=self._file.window.start + dataset.address,
                hint="nothing that holds weights looks like this",
            )

    def _claim(self, address: int, nbytes: int, dataset: Dataset) -> None:
        self._claimed[dataset.address] = (address, address + nbytes)

    def refuse_overlaps(self) -> None:
        """Raise a `FormatError` if two datasets lie on the same bytes: no library writes that, and a small file could
        claim any amount of data this way.
        """
        end = 0
        for start, stop in sorted(self._claimed.values()):
            if start < end:
                raise self._file.meta.broken("two datasets lie on the same bytes", start)
            end = max(end, stop)


def swapped(raw: Payload, width: int) -> Payload:
    """`raw` with each group of `width` bytes reversed."""

    def produce() -> Iterator[memoryview]:
        import numpy as np

        rest = b""
        for chunk in raw.chunks(CHUNK):
            data = rest + bytes(chunk) if rest else chunk
            whole = len(data) // width * width
            rest = bytes(data[whole:])
            if whole:
                yield np.frombuffer(data, f"u{width}", whole // width).byteswap().view(np.uint8).data

    return ComputedPayload(raw.nbytes, produce)


class LibraryFile:
    """The file as libhdf5 opens it, for data that has to be decompressed. Opened when first needed."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._file: h5py.File | None = None

    def read(self, path: tuple[str, ...], shape: tuple[int, ...], chunk: tuple[int, ...], item: int) -> Iterator[memoryview]:
        """The elements of the dataset at `path` in the file's own type, slab by slab, C order.

        Raises:
            FormatError: libhdf5 does not accept the file.
        """
        try:
            dataset = self._open(path)
            if dataset.shape != shape:
                raise ValueError(f"its shape is {list(dataset.shape)}")
            for start, count in slabs(shape, chunk, item):
                yield _read_slab(dataset, start, count, item)
        except PorterError:
            raise
        except Exception as error:  # whatever libhdf5 and h5py make of a damaged file
            raise FormatError("F506", f"its data cannot be read: {_one_line(error)}", path=self._window.path) from error

    def close(self) -> None:
        """Close the library's file, if it was opened."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: tuple[str, ...]) -> Any:
        h5py = library()
        if self._file is None:
            self._file = h5py.File(WindowFile(self._window), "r", rdcc_nbytes=_SLAB, rdcc_nslots=1009)
        here = self._file.id
        for name in path:
            here = h5py.h5o.open(here, name.encode("utf-8", "surrogateescape"))
        return here


def _read_slab(dataset: Any, start: tuple[int, ...], count: tuple[int, ...], item: int) -> memoryview:
    import numpy as np

    h5s = library().h5s
    buffer = np.empty(math.prod(count) * item, np.uint8)
    kind = dataset.get_type()
    if kind.get_size() != item:
        raise ValueError(f"its elements have {kind.get_size()} bytes")
    if count:
        there, here = dataset.get_space(), h5s.create_simple(count)
        there.select_hyperslab(start, count)
    else:
        there = here = h5s.create(h5s.SCALAR)
    dataset.read(here, there, buffer, mtype=kind)
    return buffer.data


def slabs(shape: tuple[int, ...], chunk: tuple[int, ...], item: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Start and extent of blocks that cover `shape` in C order, of at most some 16 MiB each.

    A row of chunks is taken whole up to 128 MiB, so that no chunk is decompressed twice.
    """
    axis = 0
    while axis < len(shape) - 1 and chunk[axis] * math.prod(shape[axis + 1 :]) * item > _BAND:
        axis += 1
    inner = math.prod(shape[axis + 1 :]) * item if shape else item
    if not shape:
        yield (), ()
        return
    step = max(_SLAB // max(inner, 1), 1)
    step = max(step // chunk[axis], 1) * chunk[axis]
    if step * inner > _BAND:
        step = max(_SLAB // max(inner, 1), 1)
    for outer in _indices(shape[:axis]):
        for at in range(0, shape[axis], step):
            start = (*outer, at, *(0 for _ in shape[axis + 1 :]))
            yield start, (*(1 for _ in outer), min(step, shape[axis] - at), *shape[axis + 1 :])


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    import itertools

    return itertools.product(*(range(n) for n in shape))


def library() -> Any:
    """The h5py module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("D501", f"h5py is needed for this file: {error}", hint="pip install h5py") from error
    return h5py


@dataclass(slots=True)
class WindowFile(io.RawIOBase):
    """A window as the read-only binary file that h5py takes."""

    window: Window
    at: int = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.window.size)[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        nbytes = max(min(view.nbytes, self.window.size - self.at), 0)
        view[:nbytes] = self.window.read(self.at, nbytes, "data")
        self.at += nbytes
        return nbytes


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
