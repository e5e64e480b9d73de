"""Arrays of varints, packed as TensorProto's integer fields hold them, to canonical bytes and back. Vectorised and streamed.

Source: protobuf.dev, "Encoding" (base-128 varints; negative int32 and int64 as ten bytes of two's complement);
onnx/onnx, `onnx/onnx.proto`, comments at TensorProto.int32_data (IR version 14): types narrower than int32 lie there by
their bits, one element an int32 down to 6 bits wide, and packed to a byte an int32 below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.errors import FormatError
from porter.tensor import BytesPayload, Payload, unpack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 1 << 17
"""Bytes decoded at a time; an element takes up to some 30 times its encoded size while it is decoded."""
_LONGEST = 10


def values_in_field(dtype: DType, size: int) -> int:
    """How many varints hold `size` elements: one each, but a byte's worth where a byte holds several whole ones."""
    per_value = 8 // dtype.bits if dtype.bits in (2, 4) else 1
    return -(-size // per_value)


def count(payload: Payload) -> int:
    """How many varints lie in `payload`. Reads it."""
    continued = bytes(range(0x80, 0x100))
    return sum(len(bytes(chunk).translate(None, continued)) for chunk in payload.chunks(1 << 20))


@dataclass(frozen=True, slots=True)
class VarintPayload:
    """Canonical bytes of `size` elements of `dtype` whose varints lie in `encoded`; `path` is for errors.

    Raises:
        FormatError: while reading, if `encoded` holds another number of varints or a value outside the type.
    """

    encoded: Payload
    dtype: DType
    size: int
    path: str

    @property
    def nbytes(self) -> int:
        return self.dtype.nbytes(self.size)

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        for piece in self._canonical():
            yield from BytesPayload.of(piece).chunks(limit)

    def buffer(self) -> memoryview:
        return memoryview(b"".join(self._canonical())).toreadonly()

    def _canonical(self) -> Iterator[bytes]:
        import numpy as np

        expected, found = values_in_field(self.dtype, self.size), 0
        rest: NDArray[Any] = np.empty(0, np.uint8)
        for values in self._decoded():
            found += len(values)
            if found > expected:
                break
            elements = self._elements(values)
            if self.dtype.bits == 6:
                # Four elements share three bytes: whole groups only, until the last.
                elements = np.concatenate([rest, elements.view(np.uint8)])
                cut = len(elements) if found == expected else len(elements) // 4 * 4
                elements, rest = _pack_six(elements[:cut]), elements[cut:]
            yield elements.tobytes()
        if found != expected:
            more = "more" if found > expected else f"only {found}"
            raise self._error("F303", f"its shape needs {expected} numbers, the field holds {more}")

    def _decoded(self) -> Iterator[NDArray[np.uint64]]:
        import numpy as np

        tail = b""
        for chunk in self.encoded.chunks(_BLOCK):
            data = np.frombuffer(tail + bytes(chunk) if tail else chunk, np.uint8)
            ends = np.flatnonzero(data < 0x80)
            behind = int(ends[-1]) + 1 if len(ends) else 0
            tail = data[behind:].tobytes()
            if len(tail) > _LONGEST:
                raise self._error("F012", "broken protobuf: a number has more than 10 bytes")
            if len(ends):
                yield self._joined(data, ends)
        if tail:
            raise self._error("F012", "broken protobuf: the field ends within a number")

    def _joined(self, data: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.uint64]:
        import numpy as np

        if len(ends) == ends[-1] + 1:
            single: NDArray[np.uint64] = data[: len(ends)].astype(np.uint64)
            return single
        starts = np.concatenate([np.zeros(1, np.intp), ends[:-1] + 1])
        lengths = ends - starts
        longest = int(lengths.max()) + 1
        if longest > _LONGEST:
            raise self._error("F012", "broken protobuf: a number has more than 10 bytes")
        values: NDArray[np.uint64] = (data[starts] & 0x7F).astype(np.uint64)
        for k in range(1, longest):
            reach = np.flatnonzero(lengths >= k)
            values[reach] |= (data[starts[reach] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
        return values

    def _elements(self, values: NDArray[np.uint64]) -> NDArray[Any]:
        """Unsigned little-endian integers that hold the elements' bits, several elements in one where they are 2 or 4 bits wide."""
        import numpy as np

        dtype = self.dtype
        if dtype.bits == 64:
            return values.astype("<u8", copy=False)
        if dtype.name == "uint32":
            self._refuse_outside(values, values >> np.uint64(32) != 0)
            return values.astype("<u4")
        # int32 by the protobuf rules: ten bytes when negative; some encoders write five.
        self._refuse_outside(values, (values >> np.uint64(32) != 0) & (values < np.uint64(0xFFFF_FFFF_8000_0000)))
        signed = values.astype(np.uint32).view(np.int32)
        if dtype.bits == 6:
            self._refuse_outside(values, values > np.uint64(63))
        elif dtype.bits < 32:
            # Bits below a sign may be written with the sign extended or without; both say the same bits.
            width = max(dtype.bits, 8)
            self._refuse_outside(values, (signed < -(1 << (width - 1))) | (signed >= 1 << width))
        return signed.astype({4: "<i4", 2: "<i2", 1: "i1"}[dtype.itemsize])

    def _refuse_outside(self, values: NDArray[np.uint64], outside: NDArray[np.bool_]) -> None:
        import numpy as np

        if outside.any():
            value = int(values[int(np.argmax(outside))].astype(np.int64))
            raise self._error("F304", f"the number {value} does not fit {self.dtype}")

    def _error(self, code: str, message: str) -> FormatError:
        where = self.encoded.location
        return FormatError(code, message, path=self.path, offset=where.offset if where else None)


def _pack_six(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """6-bit codes, one a byte, as packed bits, low bits first."""
    import numpy as np

    bits = np.unpackbits(codes.reshape(-1, 1), axis=1, bitorder="little")[:, :6]
    return np.packbits(bits.reshape(-1), bitorder="little")


@dataclass(frozen=True, slots=True)
class EncodedVarints:
    """The varints of `size` elements of `dtype` in `payload`, each with `tag` before it where that is not empty.

    `of` reads `payload` once, to learn the length; reading the result reads `payload` again.
    """

    payload: Payload
    dtype: DType
    size: int
    tag: bytes
    nbytes: int

    @classmethod
    def of(cls, payload: Payload, dtype: DType, size: int, tag: bytes = b"") -> EncodedVarints:
        """The varints of `payload`."""
        unsized = cls(payload, dtype, size, tag, 0)
        return cls(payload, dtype, size, tag, sum(len(piece) for piece in unsized._encoded()))

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        for piece in self._encoded():
            yield from BytesPayload.of(piece).chunks(limit)

    def buffer(self) -> memoryview:
        return memoryview(b"".join(self._encoded())).toreadonly()

    def _encoded(self) -> Iterator[bytes]:
        import numpy as np

        if self.dtype.bits == 6:
            yield _encode(unpack(self.payload.buffer(), self.dtype, self.size).view(np.uint8), self.tag)
            return
        signed = self.dtype.kind == "int" and not self.dtype.packed
        code = np.dtype(f"<{'i' if signed else 'u'}{self.dtype.itemsize}")
        rest = b""
        for chunk in self.payload.chunks(_BLOCK):
            data = rest + bytes(chunk)
            whole = len(data) // code.itemsize * code.itemsize
            yield _encode(np.frombuffer(data, code, whole // code.itemsize), self.tag)
            rest = data[whole:]


def _encode(values: NDArray[Any], tag: bytes) -> bytes:
    """Integers as varints, negative ones as ten bytes; `tag` before each."""
    import numpy as np

    left = values.astype(np.int64).view(np.uint64) if values.dtype.kind == "i" else values.astype(np.uint64)
    rows = np.zeros((len(left), _LONGEST), np.uint8)
    used = np.zeros((len(left), _LONGEST), np.bool_)
    used[:, 0] = True
    for k in range(_LONGEST):
        rows[:, k] = (left & np.uint64(0x7F)).astype(np.uint8)
        left = left >> np.uint64(7)
        if not left.any():
            break
        used[:, k + 1] = left != 0
        rows[:, k] |= used[:, k + 1].astype(np.uint8) << 7
    if tag:
        tags = np.broadcast_to(np.frombuffer(tag, np.uint8), (len(left), len(tag)))
        rows, used = np.hstack([tags, rows]), np.hstack([np.ones_like(tags, np.bool_), used])
    return rows[used].tobytes()
