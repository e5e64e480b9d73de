"""Writing the lines: the main thread turns values into text and writes it while another one sums them up.

Two threads and few handovers: with a third one for the text, the interpreter's lock changed hands 15,000 times a second.

Source: wang-xinyu/tensorrtx, `lenet/gen_wts.py` and its kin: `name count`, then for every value a space and
`struct.pack(">f", float(v)).hex()`, then a newline. Those scripts' `float(v)` sets the quiet bit of a signalling NaN;
here the bits stay as they are. NVIDIA/TensorRT samples, `dumpTFWts.py`: v1 writes `%x` and a space behind each value,
v2 `name type (shape) ` and the bytes.
"""

from __future__ import annotations

import sys
import threading
import zlib
from array import array
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

from porter.dataclass import dataclass, field
from porter.dtypes import DType
from porter.errors import FormatError
from porter.io.atomic import AtomicFile
from porter.io.source import FilePayload

BATCH = 1 << 18
"""Bytes of stored values that are worked on together: with their text they fit the second-level cache."""

_DEPTH = 6
"""Batches that may wait to be summed."""

_HEXLIFY = 1 << 14
"""Bytes of values that `hexlify` takes at a time: small enough for the allocator to use the same memory again."""

_STRIDE = 9
"""Bytes of text for a value of eight digits."""

_SMALL = 1 << 14
"""Bytes of text under which one more copy is cheaper than one more write."""

_NUMPY_PAYS = 30_000_000
"""Values from which importing numpy to encode them is worth its time."""

Text = bytes | bytearray | memoryview


@dataclass(slots=True)
class Line:
    """One tensor on its way out: what stands before and behind its values, where they come from, and what they add up to."""

    head: bytes
    tail: bytes
    stored: DType
    take: Callable[[memoryview], None]
    nbytes: int
    crc32: int = 0
    sha256: str = ""


@dataclass(slots=True)
class _Part:
    """A run of one line's values inside a batch."""

    line: Line
    start: int
    stop: int
    first: bool
    last: bool


@dataclass(slots=True)
class Batch:
    """Room for `BATCH` bytes of values, and the parts in it."""

    values: bytearray
    parts: list[_Part] = field(default_factory=list)
    used: int = 0


Encode = Callable[[Batch], list[Text]]
"""The text of a batch, in pieces that are valid until the next call."""


def write_lines(file: AtomicFile, lines: Iterable[Line], encode: Encode) -> None:
    """Write `lines` in order and fill in their `crc32` and `sha256`."""
    sums = _Sums()
    try:
        for batch in _batches(lines, sums.free):
            sums.waiting.put(batch)
            for text in _joined(encode(batch)):
                file.write(text)
    finally:
        sums.finish()
    if sums.error is not None:
        raise sums.error


class _Sums:
    """The thread that sums batches and puts them back among the free ones.

    A batch may be free again before its text is written. The main thread takes no other one until then, so nothing changes it.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.waiting: SimpleQueue[Batch | None] = SimpleQueue()
        self.free: SimpleQueue[Batch] = SimpleQueue()
        for _ in range(_DEPTH):
            self.free.put(Batch(bytearray(BATCH)))
        self._thread = threading.Thread(target=self._sum, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until everything is summed."""
        self.waiting.put(None)
        self._thread.join()

    def _sum(self) -> None:
        import hashlib

        state, crc = hashlib.sha256(), 0
        while (batch := self.waiting.get()) is not None:
            try:
                view = memoryview(batch.values)
                for part in batch.parts:
                    if part.first:
                        state, crc = hashlib.sha256(), 0
                    state.update(view[part.start : part.stop])
                    crc = zlib.crc32(view[part.start : part.stop], crc)
                    if part.last:
                        part.line.crc32, part.line.sha256 = crc, state.hexdigest()
            except BaseException as error:
                self.error = error
            self.free.put(batch)


def _joined(texts: list[Text]) -> Iterator[Text]:
    """The same text in fewer pieces: small ones are put together, large ones stay as they are."""
    small: list[Text] = []
    for text in texts:
        if len(text) < _SMALL:
            small.append(text)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield text
    if small:
        yield b"".join(small)


def _batches(lines: Iterable[Line], free: SimpleQueue[Batch]) -> Iterator[Batch]:
    """The lines' values in full batches; small tensors share one, large ones take several."""

    def empty() -> Batch:
        batch = free.get()
        batch.parts, batch.used = [], 0
        return batch

    batch = empty()
    for line in lines:
        left, first = line.nbytes, True
        while left or first:
            stop = batch.used + min(left, BATCH - batch.used)
            line.take(memoryview(batch.values)[batch.used : stop])
            left -= stop - batch.used
            batch.parts.append(_Part(line, batch.used, stop, first, not left))
            batch.used, first = -(-stop // 8) * 8, False
            if batch.used == BATCH:
                yield batch
                batch = empty()
        if len(batch.parts) >= 4096:
            yield batch
            batch = empty()
    yield batch


def taken_from(payload: FilePayload) -> Callable[[memoryview], None]:
    """Fills memory with the bytes of `payload`, from where it stopped the last time."""
    at = payload.offset

    def take(room: memoryview) -> None:
        nonlocal at
        payload.source.read_into(at, room, "the tensor")
        at += room.nbytes

    return take


def taken_of(chunks: Iterable[memoryview], nbytes: int) -> Callable[[memoryview], None]:
    """Fills memory with the `nbytes` bytes of `chunks`, from where it stopped the last time."""
    pieces = (chunk for chunk in chunks if chunk.nbytes)
    piece, left = memoryview(b""), nbytes

    def take(room: memoryview) -> None:
        nonlocal piece, left
        left -= room.nbytes
        while room.nbytes:
            if not piece.nbytes:
                piece = next(pieces, memoryview(b""))
                if not piece.nbytes:
                    raise FormatError("F003", f"the tensor's values end {left + room.nbytes} bytes early")
            n = min(room.nbytes, piece.nbytes)
            room[:n] = piece[:n]
            room, piece = room[n:], piece[n:]
        if not left and (piece.nbytes or next(pieces, None) is not None):  # what checks its bytes may do so behind the last of them
            raise FormatError("F003", "the tensor's values go on after its last one")

    return take


def whole_elements(chunks: Iterable[memoryview], unit: int) -> Iterator[memoryview]:
    """The same bytes in pieces of whole multiples of `unit`, the last one perhaps not."""
    rest = b""
    for chunk in chunks:
        if rest:
            missing = unit - len(rest)
            rest += chunk[:missing]
            chunk = chunk[missing:]
            if len(rest) < unit:
                continue
            yield memoryview(rest)
        spare = chunk.nbytes % unit
        if chunk.nbytes > spare:
            yield chunk[: chunk.nbytes - spare]
        rest = bytes(chunk[chunk.nbytes - spare :])
    if rest:
        yield memoryview(rest)


def padded_encoder(values: int) -> Encode:
    """An encoder of 32-bit values as ` xxxxxxxx`, for a file of `values` values in all."""
    if values >= _NUMPY_PAYS or "numpy" in sys.modules:
        from porter.formats.wts.kernels import BLOCK, WordEncoder

        return _Padded(WordEncoder().encode, 4 * BLOCK)
    return _Padded(_hexlify, _HEXLIFY)


class _Padded:
    """Encodes batches with `encode`, which takes values and room for their text, in steps of `step` bytes of values."""

    def __init__(self, encode: Callable[[memoryview, memoryview], None], step: int) -> None:
        self._encode, self._step = encode, step
        self._room = memoryview(bytearray(b" " * (BATCH // 4 * _STRIDE)))

    def __call__(self, batch: Batch) -> list[Text]:
        text: list[Text] = []
        values, at = memoryview(batch.values), 0
        for part in batch.parts:
            if part.first:
                text.append(part.line.head)
            begin = at
            for start in range(part.start, part.stop, self._step):
                stop = min(start + self._step, part.stop)
                behind = at + (stop - start) // 4 * _STRIDE
                self._encode(values[start:stop], self._room[at:behind])
                at = behind
            text.append(self._room[begin:at])
            if part.last:
                text.append(part.line.tail)
        return text


def _hexlify(values: memoryview, text: memoryview) -> None:
    # A word in front, whose digits are cut off, so that the text begins with a separator.
    words = array("I", b"\0\0\0\0" + values)
    words.byteswap()
    text[:] = memoryview(hexlify(words, " ", 4))[8:]


def encode_unpadded(batch: Batch) -> list[Text]:
    """nvidia-v1: each value without leading zeros and with a space behind it."""
    import numpy as np

    from porter.formats.wts.kernels import strip_zeros

    text: list[Text] = []
    for part in batch.parts:
        if part.first:
            text.append(part.line.head)
        width = part.line.stored.itemsize
        raw = np.frombuffer(batch.values, np.uint8)[part.start : part.stop]
        padded = hexlify(raw.reshape(-1, width)[:, ::-1].tobytes(), " ", width)
        if padded:
            # The line's head ends in the space before the first word.
            text.append(strip_zeros(np.frombuffer(b" " + padded, np.uint8), 2 * width)[1:].data)
            text.append(b" ")
        if part.last:
            text.append(part.line.tail)
    return text


def encode_raw(batch: Batch) -> list[Text]:
    """nvidia-v2: the bytes as they are."""
    text: list[Text] = []
    for part in batch.parts:
        if part.first:
            text.append(part.line.head)
        text.append(memoryview(batch.values)[part.start : part.stop])
        if part.last:
            text.append(part.line.tail)
    return text
