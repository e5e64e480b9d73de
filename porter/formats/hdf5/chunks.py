"""Chunked datasets: the chunks are found by porter's own index, expanded by zlib and put in order by numpy.

Source: HDF5 File Format Specification Version 3.0, III.A.1 (chunk index), IV.A.2.l (filters); HDF5 2.0 `H5Zdeflate.c`,
`H5Zshuffle.c`, `H5Zfletcher32.c`, `H5checksum.c` (H5_checksum_fletcher32).
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.errors import FormatError
from porter.formats.hdf5.messages import Filter
from porter.formats.hdf5.storage import Window
from porter.formats.hdf5.trees import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
OWN_FILTERS = frozenset({DEFLATE, SHUFFLE, FLETCHER32})

_SLAB = 16 << 20
_BAND = 128 << 20
_CACHE = 32 << 20


@dataclass(slots=True)
class ChunkedData:
    """The values of a chunked dataset, in the file's own type.

    `item` is an element's size in bytes, `fill` the bytes of one that was never written.
    """

    window: Window
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    item: int
    filters: tuple[Filter, ...]
    fill: bytes
    chunks: Mapping[tuple[int, ...], Chunk]
    _cache: OrderedDict[tuple[int, ...], Any] = field(default_factory=OrderedDict)

    def pieces(self) -> Iterator[memoryview]:
        """All values in C order, slab by slab.

        Raises:
            FormatError: a chunk is damaged.
        """
        import numpy as np

        kind = np.dtype(f"V{self.item}")
        try:
            for start, count in slabs(self.shape, self.chunk, self.item):
                slab = np.empty(count, kind)
                spans = [range(s // c, (s + n - 1) // c + 1) for s, n, c in zip(start, count, self.chunk, strict=True)]
                for place in itertools.product(*spans):
                    self._copy(slab, start, count, tuple(p * c for p, c in zip(place, self.chunk, strict=True)), kind)
                yield slab.reshape(-1).view(np.uint8).data
        finally:
            self._cache.clear()

    def _copy(self, slab: NDArray[Any], start: tuple[int, ...], count: tuple[int, ...], origin: tuple[int, ...], kind: Any) -> None:
        """Copy what the chunk at `origin` has in common with the slab."""
        inside, outside = [], []
        for s, n, o, c in zip(start, count, origin, self.chunk, strict=True):
            low, high = max(s, o), min(s + n, o + c)
            outside.append(slice(low - s, high - s))
            inside.append(slice(low - o, high - o))
        values = self._values(origin, kind)
        slab[tuple(outside)] = values if values.shape == () else values[tuple(inside)]

    def _values(self, origin: tuple[int, ...], kind: Any) -> NDArray[Any]:
        """The elements of the chunk at `origin`, or one fill value where it was never written."""
        import numpy as np

        chunk = self.chunks.get(origin)
        if chunk is None:
            return np.frombuffer(self.fill, kind).reshape(())
        cached = self._cache.get(origin)
        if cached is None:
            cached = np.frombuffer(self._expand(chunk), kind).reshape(self.chunk)
            self._cache[origin] = cached
            while len(self._cache) > 1 and len(self._cache) * cached.nbytes > _CACHE:
                self._cache.popitem(last=False)
        return cached

    def _expand(self, chunk: Chunk) -> bytes:
        nbytes = math.prod(self.chunk) * self.item
        data = self.window.read(chunk.address, chunk.size, "a chunk of a dataset")
        room = nbytes + 4 * sum(f.number == FLETCHER32 for f in self.filters)
        for index in reversed(range(len(self.filters))):
            if chunk.mask >> index & 1:
                continue
            step = self.filters[index]
            if step.number == DEFLATE:
                data = self._inflate(data, room, chunk)
            elif step.number == FLETCHER32:
                data = self._verified(data, chunk)
            else:
                data = _unshuffled(data, step.values[0] if step.values else self.item)
        if len(data) != nbytes:
            raise self._damaged(f"a chunk has {len(data)} bytes, its shape takes {nbytes}", chunk)
        return data

    def _inflate(self, data: bytes, room: int, chunk: Chunk) -> bytes:
        stream = zlib.decompressobj()
        try:
            found = stream.decompress(data, room + 1)
        except zlib.error as error:
            raise self._damaged(f"a chunk does not expand: {error}", chunk) from error
        if not stream.eof or len(found) > room:
            raise self._damaged("a chunk does not end where its shape says", chunk)
        return found

    def _verified(self, data: bytes, chunk: Chunk) -> bytes:
        body, told = data[:-4], int.from_bytes(data[-4:], "little")
        found = fletcher32(body)
        # Libraries before 1.6.3 stored the sums with their bytes swapped on little-endian machines.
        swapped = (found & 0xFF00FF00) >> 8 | (found & 0x00FF00FF) << 8
        if len(data) < 4 or told not in (found, swapped):
            raise self._damaged("the checksum of a chunk does not match", chunk)
        return body

    def _damaged(self, message: str, chunk: Chunk) -> FormatError:
        return FormatError("F506", message, path=self.window.path, offset=self.window.start + chunk.address)


def _unshuffled(data: bytes, width: int) -> bytes:
    """`data` with the bytes of each element of `width` bytes together again; what makes no whole element stays at the end."""
    import numpy as np

    count = len(data) // width if width else 0
    if width <= 1 or not count:
        return data
    whole: NDArray[np.uint8] = np.frombuffer(data, np.uint8, count * width).reshape(width, count)
    return whole.T.tobytes() + data[count * width :]


def fletcher32(data: bytes) -> int:
    """HDF5's Fletcher checksum: sums of big-endian 16-bit words modulo 65,535, where a sum that is not zero stays so."""
    import numpy as np

    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2")
    first = second = 0
    for start in range(0, len(words), 1 << 16):
        block = words[start : start + (1 << 16)].astype(np.uint64)
        second += first * len(block) + int((block * np.arange(len(block), 0, -1, dtype=np.uint64)).sum())
        first += int(block.sum())
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    return (total - 1) % 65535 + 1 if total else 0


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
    return itertools.product(*(range(n) for n in shape))
