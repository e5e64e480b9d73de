"""A tensor's numbers, a block at a time, as arrays that numpy computes with; what was looked at does not stay in memory.

Floats of at most 32 bits come as float32, which holds their values exactly, float64 as it is, integers as they are. Complex
elements are two numbers each, real and imaginary part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from porter.check.encodings import lane_type
from porter.io.source import FilePayload
from porter.io.widening import small_floats
from porter.tensor import Tensor, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1 << 18
"""Numbers of one block: its temporaries take a few MiB."""

RESIDENT = 16 << 20
"""Bytes of a mapped file that are looked at before their pages are given back."""

Advance = Callable[[int], None]


def numbers_of(tensor: Tensor) -> int:
    """How many numbers a tensor holds: its elements, twice as many for complex types."""
    return tensor.size * (2 if tensor.dtype.kind == "complex" else 1)


def blocks(tensor: Tensor, unit: int = 8, advance: Advance | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the index of its first number and each block of `tensor`, flat, valid until the next is asked for.

    A block holds whole multiples of `unit` numbers where `unit` is at most `BLOCK`, else it lies within one. `advance` is told the
    bytes that were read. Reads the file once, in order.
    """
    lane = lane_type(tensor.dtype)
    if lane.packed and unit % 8:
        # Rows that begin within a byte: seldom, and then in memory whole.
        whole = _numbers(tensor, tensor.buffer(), tensor.size)
        for start, stop in _cuts(tensor.size, unit):
            yield start, whole[start:stop]
        return
    reader = _Reader(tensor)
    for start, stop in _cuts(numbers_of(tensor), unit):
        data = reader.take(lane.nbytes(stop) - lane.nbytes(start))
        yield start, _numbers(tensor, data, stop - start)
        if advance is not None:
            advance(data.nbytes)


def _cuts(size: int, unit: int) -> Iterator[tuple[int, int]]:
    if unit <= BLOCK:
        step = max(BLOCK // unit, 1) * unit
        for start in range(0, size, step):
            yield start, min(start + step, size)
        return
    for begin in range(0, size, unit):
        for start in range(begin, min(begin + unit, size), BLOCK):
            yield start, min(start + BLOCK, begin + unit, size)


def _numbers(tensor: Tensor, data: memoryview, count: int) -> NDArray[Any]:
    import numpy as np

    lane = lane_type(tensor.dtype)
    if lane.packed:
        values = unpack(data, lane, count)
        return small_floats(values, lane) if lane.kind == "float" else values.astype(np.int8 if lane.kind == "int" else np.uint8)
    raw = np.frombuffer(data, np.uint8)
    if raw.ctypes.data % lane.itemsize:
        raw = raw.copy()
    if lane.kind == "float" and lane.bits <= 16:
        return small_floats(raw.view(f"<u{lane.itemsize}"), lane)
    return raw.view(np.uint8 if lane.kind == "bool" else lane.numpy())


class _Reader:
    """The canonical bytes of a tensor in order: mapped where they lie in a file as they are, copied otherwise."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        payload = tensor.payload
        self._file = payload if isinstance(payload, FilePayload) else None
        self._chunks = iter(()) if self._file is not None else tensor.chunks()
        self._rest = memoryview(b"")
        self._at = self._kept = 0

    def take(self, nbytes: int) -> memoryview:
        """The next `nbytes` bytes."""
        if self._file is None:
            return self._collected(nbytes)
        source, offset = self._file.source, self._file.offset
        if self._at - self._kept >= RESIDENT:
            source.release(offset + self._kept, self._at - self._kept)
            self._kept = self._at
        view = source.mapped(offset + self._at, nbytes)
        self._at += nbytes
        if self._at == self._file.nbytes:
            # Nothing is touched before the caller looks, so the last pages go with the next tensor or the file.
            source.release(offset + self._kept, self._at - nbytes - self._kept)
        return view

    def _collected(self, nbytes: int) -> memoryview:
        if not self._rest.nbytes:
            self._rest = next(self._chunks)
        if self._rest.nbytes >= nbytes:
            view, self._rest = self._rest[:nbytes], self._rest[nbytes:]
            return view
        out = bytearray()
        while len(out) < nbytes:
            if not self._rest.nbytes:
                self._rest = next(self._chunks)
            part = self._rest[: nbytes - len(out)]
            out += part
            self._rest = self._rest[part.nbytes :]
        return memoryview(out)
