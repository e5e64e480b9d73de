"""Writing the lines: several threads turn values into text and sum them up while the main thread writes in order.

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
from functools import partial
from queue import SimpleQueue

from porter.dataclass import dataclass, field
from porter.dtypes import DType
from porter.errors import FormatError
from porter.io.atomic import AtomicFile

BATCH = 1 << 18
"""Bytes of stored values that are worked on together: with their text they fit the second-level cache."""

_DEPTH = 8
"""Batches under way at a time."""

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
    """One tensor on its way out: what stands before and behind its values, and what they add up to."""

    head: bytes
    tail: bytes
    stored: DType
    chunks: Iterable[memoryview]
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
class _Batch:
    """Room for `BATCH` bytes of values, the parts in it, their text, and room for text."""

    values: bytearray
    parts: list[_Part] = field(default_factory=list)
    used: int = 0
    text: list[Text] = field(default_factory=list)
    room: bytearray = field(default_factory=bytearray)
    encoded: threading.Event = field(default_factory=threading.Event)
    summed: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        self.parts, self.used, self.text = [], 0, []
        self.encoded.clear()
        self.summed.clear()


Encode = Callable[[_Batch], None]


def write_lines(file: AtomicFile, lines: Iterable[Line], encode: Encode) -> None:
    """Write `lines` in order and fill in their `crc32` and `sha256`."""
    stages = _Stages(encode)
    try:
        under_way: list[_Batch] = []
        for batch in _batches(lines, stages):
            stages.submit(batch)
            under_way.append(batch)
            if len(under_way) == _DEPTH:
                stages.finish(under_way.pop(0), file)
        for batch in under_way:
            stages.finish(batch, file)
    finally:
        stages.stop()


class _Stages:
    """The two threads: one encodes, one sums."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.error: BaseException | None = None
        self.free = [_Batch(bytearray(BATCH)) for _ in range(_DEPTH)]
        self.queues: tuple[SimpleQueue[_Batch | None], SimpleQueue[_Batch | None]] = (SimpleQueue(), SimpleQueue())
        self.threads = [
            threading.Thread(target=self._encode, daemon=True),
            threading.Thread(target=self._sum, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, batch: _Batch) -> None:
        for queue in self.queues:
            queue.put(batch)

    def finish(self, batch: _Batch, file: AtomicFile) -> None:
        """Write the batch when it is encoded, and take it back when it is summed."""
        batch.encoded.wait()
        if self.error is None:
            for text in _joined(batch.text):
                file.write(text)
        batch.summed.wait()
        if self.error is not None:
            raise self.error
        batch.reset()
        self.free.append(batch)

    def stop(self) -> None:
        for queue in self.queues:
            queue.put(None)
        for thread in self.threads:
            thread.join()

    def _encode(self) -> None:
        while (batch := self.queues[0].get()) is not None:
            try:
                self.encode(batch)
            except BaseException as error:
                self.error = error
            finally:
                batch.encoded.set()

    def _sum(self) -> None:
        import hashlib

        state = hashlib.sha256()
        crc = 0
        while (batch := self.queues[1].get()) is not None:
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
            finally:
                batch.summed.set()


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


def _batches(lines: Iterable[Line], stages: _Stages) -> Iterator[_Batch]:
    """The lines' values in full batches; small tensors share one, large ones take several."""
    batch = stages.free.pop()
    for line in lines:
        left, first = line.nbytes, True
        for chunk in line.chunks:
            while chunk.nbytes:
                room = (BATCH - batch.used) // 8 * 8
                piece = chunk[:room]
                batch.values[batch.used : batch.used + piece.nbytes] = piece
                left -= piece.nbytes
                batch.parts.append(_Part(line, batch.used, batch.used + piece.nbytes, first, not left))
                batch.used += -(-piece.nbytes // 8) * 8
                chunk, first = chunk[room:], False
                if batch.used > BATCH - 8:
                    yield batch
                    batch = stages.free.pop()
        if left:
            raise FormatError("F003", f"the tensor's values end {left} bytes early")
        if first:
            batch.parts.append(_Part(line, batch.used, batch.used, True, True))
        if len(batch.parts) >= 4096:
            yield batch
            batch = stages.free.pop()
    yield batch


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

        return partial(_encode_padded, WordEncoder().encode, 4 * BLOCK)
    return partial(_encode_padded, _hexlify, _HEXLIFY)


def _encode_padded(encode: Callable[[memoryview, memoryview], None], step: int, batch: _Batch) -> None:
    if not batch.room:
        batch.room = bytearray(b" " * (BATCH // 4 * _STRIDE))
    values, room, at = memoryview(batch.values), memoryview(batch.room), 0
    for part in batch.parts:
        if part.first:
            batch.text.append(part.line.head)
        begin = at
        for start in range(part.start, part.stop, step):
            stop = min(start + step, part.stop)
            behind = at + (stop - start) // 4 * _STRIDE
            encode(values[start:stop], room[at:behind])
            at = behind
        batch.text.append(room[begin:at])
        if part.last:
            batch.text.append(part.line.tail)


def _hexlify(values: memoryview, text: memoryview) -> None:
    # A word in front, whose digits are cut off, so that the text begins with a separator.
    words = array("I", b"\0\0\0\0" + values)
    words.byteswap()
    text[:] = memoryview(hexlify(words, " ", 4))[8:]


def encode_unpadded(batch: _Batch) -> None:
    """nvidia-v1: each value without leading zeros and with a space behind it."""
    import numpy as np

    from porter.formats.wts.kernels import strip_zeros

    for part in batch.parts:
        if part.first:
            batch.text.append(part.line.head)
        width = part.line.stored.itemsize
        raw = np.frombuffer(batch.values, np.uint8)[part.start : part.stop]
        padded = hexlify(raw.reshape(-1, width)[:, ::-1].tobytes(), " ", width)
        if padded:
            # The line's head ends in the space before the first word.
            batch.text.append(strip_zeros(np.frombuffer(b" " + padded, np.uint8), 2 * width)[1:].data)
            batch.text.append(b" ")
        if part.last:
            batch.text.append(part.line.tail)


def encode_raw(batch: _Batch) -> None:
    """nvidia-v2: the bytes as they are."""
    for part in batch.parts:
        if part.first:
            batch.text.append(part.line.head)
        batch.text.append(memoryview(batch.values)[part.start : part.stop])
        if part.last:
            batch.text.append(part.line.tail)
