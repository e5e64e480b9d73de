"""The values of datasets as payloads: ranges of the file where the bytes lie there as they are, computed ones otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator

from porter.errors import FormatError, UnsafeFileError
from porter.formats.hdf5 import trees
from porter.formats.hdf5.chunks import OWN_FILTERS, ChunkedData
from porter.formats.hdf5.elements import Element
from porter.formats.hdf5.library import LibraryRequest
from porter.formats.hdf5.objects import Dataset, Hdf5File
from porter.formats.hdf5.storage import Window
from porter.formats.hdf5.trees import Chunk
from porter.io.payloads import ComputedPayload, SwappedPayload
from porter.tensor import CHUNK, Payload

_BOMB_RATIO = 1000
_BOMB_SIZE = 64 << 20

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
        self._outer = outer
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
        return SwappedPayload(raw, element.swap) if element.swap else raw

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
        return SwappedPayload(filled, element.swap) if element.swap else filled

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
        index = self._index(max(nbytes, math.prod(layout.chunk) * dataset.type.size), dataset)

        if index is not None and all(step.number in OWN_FILTERS for step in dataset.filters):
            fill = dataset.fill if dataset.fill is not None and len(dataset.fill) == dataset.type.size else bytes(dataset.type.size)
            data = ChunkedData(self._file.window, shape, layout.chunk, dataset.type.size, dataset.filters, fill, index)
            values = ComputedPayload(nbytes, data.pieces)
        else:
            request = LibraryRequest(self._outer, path, shape, layout.chunk, dataset.type.size)
            values = ComputedPayload(nbytes, request.pieces)
        return SwappedPayload(values, element.swap) if element.swap else values

    def _index(self, nbytes: int, dataset: Dataset) -> dict[tuple[int, ...], Chunk] | None:
        """The chunks of a dataset by where they start; None for newer indexes, which libhdf5 reads.

        What the dataset claims is held against what its chunks take in the file. All datasets with a newer index together
        may claim what one as large as the file could.
        """
        window, layout = self._file.window, dataset.layout
        if not layout.tree or layout.address is None:
            self._indexed += nbytes
            self._expand(self._indexed, window.size, dataset)
            return None
        index = {chunk.start: chunk for chunk in trees.chunks(self._file.meta, layout.address, len(layout.chunk))}
        for chunk in index.values():
            window.check(chunk.address, chunk.size, "a chunk of a dataset")
        stored = sum(chunk.size for chunk in index.values())
        self._compressed += stored
        if self._compressed > window.size:
            raise self._file.meta.broken("the chunks of its datasets lie on each other", dataset.address)
        self._expand(nbytes, stored, dataset)
        return index

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
