"""Payloads whose canonical bytes are put together while they are read: pieces, strided views, computed values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.tensor import BytesPayload, Payload

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ConcatPayload:
    """Several payloads, one after the other."""

    parts: tuple[Payload, ...]

    @cached_property
    def nbytes(self) -> int:
        # Summed up once: parts may be put together of parts that are, many stages deep.
        return sum(p.nbytes for p in self.parts)

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return itertools.chain.from_iterable(p.chunks(limit) for p in self.parts)

    def buffer(self) -> memoryview:
        return memoryview(b"".join(p.buffer() for p in self.parts))


@dataclass(frozen=True, slots=True)
class ComputedPayload:
    """Bytes that `produce` yields piece by piece when they are asked for, and again each time.

    `produce` may yield pieces of any size; they are cut to the caller's limit. Its total must be `nbytes`. A piece may lie in
    memory that the next one takes.
    """

    nbytes: int
    produce: Callable[[], Iterator[bytes | bytearray | memoryview]]

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        for piece in self.produce():
            yield from BytesPayload.of(piece).chunks(limit)

    def buffer(self) -> memoryview:
        # Not `join`, which collects all pieces before it copies the first.
        whole = bytearray()
        for piece in self.produce():
            whole += piece
        return memoryview(whole).toreadonly()


@dataclass(frozen=True, slots=True)
class LoadedPayload:
    """Bytes that `load` gives all at once when they are asked for, and again each time. Their number must be `nbytes`."""

    nbytes: int
    load: Callable[[], memoryview]

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload(self.buffer()).chunks(limit)

    def buffer(self) -> memoryview:
        return self.load().toreadonly()


@dataclass(frozen=True, slots=True)
class SwappedPayload:
    """`base` with the bytes of every `width`-byte number reversed: big-endian data made canonical. `width` is 2, 4 or 8."""

    base: Payload
    width: int

    @property
    def nbytes(self) -> int:
        return self.base.nbytes

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        rest = b""
        for chunk in self.base.chunks(limit):
            data = rest + bytes(chunk) if rest else chunk
            whole = len(data) - len(data) % self.width
            rest = bytes(data[whole:])
            yield from BytesPayload(self._swap(data[:whole])).chunks(limit)

    def buffer(self) -> memoryview:
        return self._swap(self.base.buffer())

    def _swap(self, data: bytes | memoryview) -> memoryview:
        import numpy as np

        return np.frombuffer(data, f"u{self.width}").byteswap().view(np.uint8).data.toreadonly()


@dataclass(frozen=True, slots=True)
class FortranPayload:
    """`base`, which holds elements of `width` bytes with the first index running fastest, in C order. `shape` is the array's."""

    base: Payload
    width: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.base.nbytes

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload.of(self.buffer()).chunks(limit)

    def buffer(self) -> memoryview:
        import numpy as np

        element = f"u{self.width}" if self.width <= 8 else f"V{self.width}"
        values = np.frombuffer(self.base.buffer(), element).reshape(self.shape[::-1]).T
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data.toreadonly()


@dataclass(frozen=True, slots=True)
class StridedPayload:
    """A view with strides into the flat elements of `base`, as torch and unpacked protobuf floats have them.

    `offset` and `strides` count bytes of `base`; elements are `element` (a numpy dtype string or dtype) at any
    alignment. Every element must lie inside `base`: `strided` checks that.
    """

    base: Payload
    element: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.element.itemsize

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload.of(self.buffer()).chunks(limit)

    def buffer(self) -> memoryview:
        import numpy as np

        if not self.nbytes:
            return memoryview(b"")
        view = np.ndarray(self.shape, self.element, self.base.buffer(), self.offset, self.strides)
        return np.ascontiguousarray(view).reshape(-1).view(np.uint8).data.toreadonly()


def strided_extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Lowest and one past the highest position that a view touches, relative to its offset, in the unit of `strides`.

    `(0, 0)` for an empty view.
    """
    if 0 in shape:
        return 0, 0
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + 1
