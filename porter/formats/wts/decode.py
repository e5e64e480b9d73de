"""Values of the text dialects: payloads that read and decode their line piece by piece, and check every character.

Lines written the usual way are decoded by several threads; each takes every n-th piece, and the pieces come out in order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.wts.rows import TRUNCATED, Row
from porter.io.source import FileSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from porter.formats.wts.kernels import WordFault

_THREADED = 1 << 19
"""Values from which threads are worth their start."""

_LOOSE = 1 << 18
"""Bytes of text that are taken apart at a time where words have no fixed place."""


@dataclass(frozen=True, slots=True)
class WordsPayload:
    """The stored values of one line, as canonical bytes of `row.stored`.

    Raises, from `chunks` and `buffer`:
        FormatError: a character, a word or the number of words is wrong; with line and column.
    """

    source: FileSource
    row: Row

    @property
    def nbytes(self) -> int:
        return self.row.nbytes

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        if not self.row.packed or self.row.digits != 8:
            yield from _loose_chunks(self.source, self.row, 0, limit)
            return
        pieces = _Pieces(self.source, self.row, max(limit // 4, 1))
        workers = min(_workers(), len(pieces))
        done = 0
        for chunk in _threaded(pieces, workers) if workers > 1 and self.row.count >= _THREADED else pieces.in_turn():
            if chunk is None:
                # Everything before lay where it should; from here on words are searched for.
                yield from _loose_chunks(self.source, self.row, done, limit)
                return
            yield chunk
            done += chunk.nbytes // 4

    def buffer(self) -> memoryview:
        whole = bytearray(self.nbytes)
        at = 0
        for chunk in self.chunks(1 << 20):
            whole[at : at + len(chunk)] = chunk
            at += len(chunk)
        return memoryview(whole).toreadonly()


def verify(source: FileSource, row: Row) -> None:
    """Look at every word of `row`.

    Raises:
        FormatError: something is wrong with one of them, or there are not `row.count`.
    """
    for _ in _loose(source, row):
        pass


class _Pieces:
    """A packed line in pieces of `limit` values, each decoded on its own."""

    def __init__(self, source: FileSource, row: Row, limit: int) -> None:
        self.source, self.row, self.limit = source, row, max(min(limit, row.count), 1)

    def __len__(self) -> int:
        return -(-self.row.count // self.limit)

    def in_turn(self) -> Iterator[memoryview | None]:
        worker = _Worker(self)
        buffer = worker.buffer()
        for number in range(len(self)):
            yield worker.decode(number, buffer)


class _Worker:
    """What one thread needs: a decoder and room for the text of a block."""

    def __init__(self, pieces: _Pieces) -> None:
        from porter.formats.wts.kernels import BLOCK, WordDecoder

        self.pieces = pieces
        self.block = min(BLOCK, pieces.limit)
        self.decoder = WordDecoder(self.block)
        self.text = bytearray(9 * self.block)

    def buffer(self) -> NDArray[np.uint8]:
        """Room for one decoded piece."""
        import numpy as np

        return np.empty(4 * self.pieces.limit, np.uint8)

    def decode(self, number: int, buffer: NDArray[np.uint8]) -> memoryview | None:
        """Decode piece `number` into `buffer`; the part that it fills, or None if a word is not where it should be."""
        pieces, text = self.pieces, self.text
        start = number * pieces.limit
        stop = min(start + pieces.limit, pieces.row.count)
        for first in range(start, stop, self.block):
            n = min(self.block, stop - first)
            more = first + n < pieces.row.count
            pieces.source.read_into(pieces.row.begin + 9 * first, memoryview(text)[: 9 * n - 1 + more], "the line")
            out = buffer[4 * (first - start) : 4 * (first - start + n)]
            if not self.decoder.decode(text, n, out) or (more and text[9 * n - 1] != 0x20):
                return None
        return buffer[: 4 * (stop - start)].data.toreadonly()


@dataclass(frozen=True, slots=True)
class _Done:
    """A decoded piece and the buffer that it lies in, to be used again."""

    chunk: memoryview | None
    buffer: NDArray[np.uint8]


def _threaded(pieces: _Pieces, workers: int) -> Iterator[memoryview | None]:
    import threading
    from queue import SimpleQueue

    free: list[SimpleQueue[NDArray[np.uint8] | None]] = [SimpleQueue() for _ in range(workers)]
    done: list[SimpleQueue[_Done | BaseException]] = [SimpleQueue() for _ in range(workers)]

    def work(lane: int) -> None:
        try:
            worker = _Worker(pieces)
            free[lane].put(worker.buffer())
            free[lane].put(worker.buffer())
            for number in range(lane, len(pieces), workers):
                buffer = free[lane].get()
                if buffer is None:
                    return
                done[lane].put(_Done(worker.decode(number, buffer), buffer))
        except BaseException as error:
            done[lane].put(error)

    threads = [threading.Thread(target=work, args=(lane,), daemon=True) for lane in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for number in range(len(pieces)):
            result = done[number % workers].get()
            if isinstance(result, BaseException):
                raise result
            yield result.chunk
            free[number % workers].put(result.buffer)
    finally:
        for queue in free:
            queue.put(None)
        for thread in threads:
            thread.join()


def _workers() -> int:
    # More than four only wait for the writer.
    return min(len(os.sched_getaffinity(0)), 4)


def _loose_chunks(source: FileSource, row: Row, first: int, limit: int) -> Iterator[memoryview]:
    """Stored bytes from value number `first` on, which is at its place."""
    import numpy as np

    element = row.stored.numpy().str.replace("f", "u").replace("i", "u")
    limit = max(limit // row.stored.itemsize, 1)
    for values in _loose(source, row, first):
        stored = values.astype(element).view(np.uint8)
        for start in range(0, stored.size, limit * row.stored.itemsize):
            yield stored[start : start + limit * row.stored.itemsize].data.toreadonly()


def _loose(source: FileSource, row: Row, first: int = 0) -> Iterator[NDArray[np.uint32]]:
    """The words of `row` wherever they are in its line, in pieces; checks that there are `row.count`.

    Starts at value number `first`; the ones before it must lie where those of a packed line do.
    """
    from porter.formats.wts.kernels import WordFault, parse_words

    at = row.begin + (row.digits + 1) * first
    while at < row.end:
        text = source.read(at, min(_LOOSE, row.end - at))
        if at + len(text) < row.end:
            # Cut behind a separator, so that no word is in two pieces.
            text = text[: max(text.rfind(b" "), text.rfind(b"\t")) + 1] or text
        room = row.count - first
        try:
            values, starts = parse_words(text, row.digits, padded=row.padded)
        except WordFault as fault:
            if len(fault.starts) > room or (len(fault.starts) == room and fault.kind != "newline"):
                raise row.too_many(source.path, at + int([*fault.starts, fault.position][room])) from None
            raise _error(source, row, fault, at, first + len(fault.starts)) from None
        if len(values) > room:
            raise row.too_many(source.path, at + int(starts[room]))
        yield values
        first, at = first + len(values), at + len(text)
    if first < row.count:
        raise row.too_few(source.path, first, row.end, at_end=row.last)


def _error(source: FileSource, row: Row, fault: WordFault, at: int, found: int) -> FormatError:
    """The error for `fault` in the text at `at`, behind `found` good values."""
    offset = at + fault.position
    if fault.kind == "newline":
        return row.too_few(source.path, found, offset, at_end=False)
    if fault.kind == "character":
        byte = source.read(offset, 1)
        text = repr(byte.decode()) if byte.isascii() else f"byte 0x{byte[0]:02x}"
        return row.error(source.path, "F405", f"{text} is no hexadecimal digit", offset, "the file is damaged, or the count is too large")
    if fault.kind == "short" and row.last and offset + fault.length >= row.end:
        return row.error(source.path, "F001", f"the last value has {fault.length} of its 8 digits", offset, TRUNCATED)
    if fault.kind == "short":
        hint = "tensorrtx pads every value to 8 digits, so some were lost; write the file again"
        return row.error(source.path, "F406", f"a value of {fault.length} digits, where every one has 8", offset, hint)
    hint = "a separator was lost, or the type is wrong"
    return row.error(source.path, "F406", f"a value of more than the {row.digits} digits that {row.stored} has", offset, hint)
