"""The bytes of tensors whose elements are moved: parts and rows of what is there, rearranged a piece at a time where they must be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, replace
from porter.dtypes import DType
from porter.io.payloads import ComputedPayload, ConcatPayload
from porter.io.source import FilePayload, release
from porter.mapping.layout_moves import Move, fast_step, in_order, is_run, pieces, tiles
from porter.tensor import CHUNK, BytesPayload, Location, Payload, canonical_bytes, unpack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TALL = 8
"""Chunks put together at once where one would hold few rows, so that less than a cache line of the source is used at a time."""

TILE = 256
"""Elements of a row copied before the next row's, in a transpose."""

RUN = 64
"""Bytes that lie side by side, up to which they are copied as one element."""


def payload_of(moves: Sequence[Move], size: int, sources: Mapping[int, Payload], dtype: DType) -> Payload:
    """The canonical bytes of a target with `size` elements of `dtype`. Reads nothing."""
    if not size:
        return BytesPayload.of(b"")
    if not dtype.packed:
        return _joined(moves, size, sources, dtype.bits // 8)
    unit = 8 // math.gcd(dtype.bits, 8)
    whole = [move.in_units(unit) for move in moves]
    bytewise = [move for move in whole if move is not None]
    if len(bytewise) == len(moves):
        return _joined(bytewise, size // unit, sources, dtype.bits * unit // 8)
    return ComputedPayload(dtype.nbytes(size), lambda: _repacked(moves, size, sources, dtype))


def shared(base: Payload, users: int) -> Payload:
    """`base` for so many targets that take parts of it: where its bytes have to be computed, that is done once for all."""
    place = base.location
    cheap = isinstance(base, BytesPayload) or (place is not None and not place.verify)
    return base if users == 1 or cheap else _Shared(base, users)


class _Shared:
    """Keeps what was computed until every one of `users` has asked for it."""

    def __init__(self, base: Payload, users: int) -> None:
        self.base = base
        self.nbytes = base.nbytes
        self.location = base.location
        self._users = users
        self._left = users
        self._data: memoryview | None = None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return self.base.chunks(limit)

    def buffer(self) -> memoryview:
        data = self._data if self._data is not None else self.base.buffer()
        self._left -= 1
        self._data = data if self._left else None
        self._left = self._left or self._users
        return data


@dataclass(frozen=True, slots=True)
class PartPayload:
    """`nbytes` bytes of `base` from `offset` on."""

    base: Payload
    offset: int
    nbytes: int

    @property
    def location(self) -> Location | None:
        whole = self.base.location
        if whole is None or whole.verify:
            return None
        return replace(whole, offset=whole.offset + self.offset, nbytes=self.nbytes)

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload(self.buffer()).chunks(limit)

    def buffer(self) -> memoryview:
        return self.base.buffer()[self.offset : self.offset + self.nbytes]


def _part(base: Payload, offset: int, nbytes: int) -> Payload:
    if nbytes == base.nbytes:
        return base.base if isinstance(base, _Shared) else base
    if isinstance(base, FilePayload):
        return FilePayload(base.source, base.offset + offset, nbytes)
    if isinstance(base, BytesPayload):
        return BytesPayload(base.data[offset : offset + nbytes])
    return PartPayload(base, offset, nbytes)


def _joined(moves: Sequence[Move], size: int, sources: Mapping[int, Payload], width: int) -> Payload:
    """`size` elements of `width` bytes."""
    parts = list[Payload]()
    groups = in_order(moves)
    ends = [group[0].target_start for group in groups[1:]] + [size]
    for group, end in zip(groups, ends, strict=True):
        start = group[0].target_start
        if len(group) == 1 and is_run(group[0]):
            parts.append(_part(sources[group[0].source], group[0].source_start * width, group[0].size * width))
        else:
            parts.append(_rearranged([move.moved(start) for move in group], end - start, sources, width))
    return parts[0] if len(parts) == 1 else ConcatPayload(tuple(parts))


def _rearranged(moves: Sequence[Move], size: int, sources: Mapping[int, Payload], width: int) -> Payload:
    return RearrangedPayload({move.source: sources[move.source] for move in moves}, tuple(moves), size, width)


@dataclass(frozen=True, slots=True)
class RearrangedPayload:
    """`size` elements of `width` bytes that `moves` bring together from `sources`."""

    sources: Mapping[int, Payload]
    moves: tuple[Move, ...]
    size: int
    width: int

    @property
    def nbytes(self) -> int:
        return self.size * self.width

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        import numpy as np

        room = min(_room(self.moves, self.width), self.size)
        for filled in _filled(self.moves, self.size, self._data(), self.width, room, np.empty(room * self.width, np.uint8)):
            yield from BytesPayload(filled.data.toreadonly()).chunks(limit)
        release(self.sources.values())

    def buffer(self) -> memoryview:
        import numpy as np

        whole = np.empty(self.nbytes, np.uint8)
        for _ in _filled(self.moves, self.size, self._data(), self.width, _room(self.moves, self.width), whole):
            pass
        release(self.sources.values())
        return whole.data.toreadonly()

    def _data(self) -> dict[int, memoryview]:
        return {index: payload.buffer() for index, payload in self.sources.items()}


def _filled(
    moves: Sequence[Move],
    size: int,
    data: Mapping[int, memoryview | NDArray[np.uint8]],
    width: int,
    room: int,
    held: NDArray[np.uint8],
) -> Iterator[NDArray[np.uint8]]:
    """The target's bytes, in order, at most `room` elements at a time: one after the other in `held`, or, where it is smaller
    than all of them, each time at its beginning.
    """
    if len(moves) == 1:
        moves = [moves[0].merged()]
    whole = len(held) == size * width
    for start, count, group in pieces(moves, 0, size, room):
        into = held[start * width : (start + count) * width] if whole else held[: count * width]
        for move in group:
            _copy(into, data[move.source], move.moved(start).merged(), width)
        yield into


def _room(moves: Sequence[Move], width: int) -> int:
    """How many elements to put together at once."""
    plain = CHUNK // width
    length, step = fast_step(moves)
    wanted = min(length, 16) * step
    return min(wanted, TALL * plain) if plain < wanted and 2 * step <= TALL * plain else plain


def _copy(target: NDArray[np.uint8], source: memoryview | NDArray[np.uint8], move: Move, width: int) -> None:
    import numpy as np

    axes, element = move.axes, width
    if axes and axes[-1][1:] == (1, 1) and axes[-1][0] * width <= RUN:
        axes, element = axes[:-1], axes[-1][0] * width
    dtype = np.dtype(f"u{element}" if element in (1, 2, 4, 8) else f"V{element}")
    shape = tuple([n for n, _, _ in axes])
    into: NDArray[Any] = np.ndarray(shape, dtype, target.data, move.target_start * width, [step * width for _, step, _ in axes])
    taken: NDArray[Any] = np.ndarray(shape, dtype, source, move.source_start * width, [step * width for _, _, step in axes])
    for part in tiles(axes, TILE):
        into[part] = taken[part]


def _repacked(moves: Sequence[Move], size: int, sources: Mapping[int, Payload], dtype: DType) -> Iterator[memoryview]:
    """Elements narrower than a byte: a byte each while they are moved."""
    import numpy as np

    data = {move.source: _codes(sources[move.source], dtype) for move in moves}
    rest = np.empty(0, np.uint8)
    room = min(CHUNK // 8, size)
    for filled in _filled(moves, size, data, 1, room, np.empty(room, np.uint8)):
        codes = np.concatenate([rest, filled])
        whole = len(codes) - len(codes) % 8
        yield canonical_bytes(codes[:whole], dtype)
        rest = codes[whole:]
    yield canonical_bytes(rest, dtype)


def _codes(payload: Payload, dtype: DType) -> NDArray[np.uint8]:
    """The elements of a packed tensor, one a byte."""
    import numpy as np

    data = payload.buffer()
    parts = [data[at : at + dtype.bits * _MANY // 8] for at in range(0, data.nbytes, dtype.bits * _MANY // 8)]
    return np.concatenate([unpack(part, dtype, part.nbytes * 8 // dtype.bits).view(np.uint8) for part in parts])


_MANY = 1 << 17
