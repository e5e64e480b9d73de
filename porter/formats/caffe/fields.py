"""Fields of a small protobuf message in memory, in their order and byte for byte.

A net without its weights is kept as it was in the file, whichever fork wrote it, so its layers are taken apart and put
together at the level of fields: a parse with a schema would reorder them, change what another fork means by a number, or
fail on it. The few fields that say where weights are are read the same way, which also spares the import of protobuf.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.io.protobuf_wire import DELIMITED, END_GROUP, FIXED32, FIXED64, START_GROUP, VARINT, encode_tag, encode_varint


@dataclass(frozen=True, slots=True)
class Field:
    """One field of `data`: all of it is `data[start:end]`, its value `data[body:end]`."""

    number: int
    wire: int
    start: int
    body: int
    end: int


def fields(data: bytes, what: str = "the net") -> Iterator[Field]:
    """The fields of the message `data`, which is `what`, in their order.

    Raises:
        FormatError: it is no message.
    """
    at = 0
    while at < len(data):
        field = _field(data, at, what)
        yield field
        at = field.end


class Values:
    """The values of a small message by field number; a field of another wire type than is asked for is not there.

    The rules are protobuf's: of a single field the last value counts, numbers of a repeated one may be packed or not.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self.what = what
        self._found: dict[tuple[int, int], list[bytes]] = {}
        for field in fields(data, what):
            self._found.setdefault((field.number, field.wire), []).append(data[field.body : field.end])

    def messages(self, number: int) -> list[bytes]:
        """All strings, bytes or messages of field `number`."""
        return self._found.get((number, DELIMITED), [])

    def text(self, number: int) -> bytes | None:
        """The last string of field `number`, or None."""
        found = self.messages(number)
        return found[-1] if found else None

    def integers(self, number: int, *, most: int = 1 << 20) -> list[int]:
        """All integers of field `number`, as int64; at most `most` and one more, so that too many are noticed."""
        found = [varint(body, 0, self.what)[0] for body in self._found.get((number, VARINT), [])[: most + 1]]
        for body in self.messages(number):
            at = 0
            while at < len(body) and len(found) <= most:
                value, at = varint(body, at, self.what)
                found.append(value)
        return [value - (1 << 64) if value >> 63 else value for value in found]

    def int32(self, number: int) -> int | None:
        """The last integer of field `number` as an int32, or None."""
        found = self._found.get((number, VARINT))
        if not found:
            return None
        value = varint(found[-1], 0, self.what)[0] & 0xFFFF_FFFF
        return value - (1 << 32) if value >> 31 else value

    def fixed32(self, number: int) -> bytes | None:
        """The last four bytes of field `number`, or None."""
        found = self._found.get((number, FIXED32))
        return found[-1] if found else None

    def has(self, number: int) -> bool:
        """Whether field `number` is there, of whatever type."""
        return any(found == number for found, _ in self._found)


def _field(data: bytes, start: int, what: str) -> Field:
    tag, at = varint(data, start, what)
    number, wire = tag >> 3, tag & 7
    if not number:
        raise _broken(what, start)
    body, end = at, at
    if wire == VARINT:
        end = varint(data, at, what)[1]
    elif wire == DELIMITED:
        size, body = varint(data, at, what)
        end = body + size
    elif wire in (FIXED32, FIXED64):
        end = at + (4 if wire == FIXED32 else 8)
    elif wire == START_GROUP:
        end = _end_of_group(data, at, number, what)
    else:
        raise _broken(what, start)
    if end > len(data):
        raise _broken(what, start)
    return Field(number, wire, start, body, end)


def _end_of_group(data: bytes, at: int, number: int, what: str) -> int:
    """The end of the group `number` whose first field is at `at`."""
    open_groups = [number]
    while open_groups:
        tag, body = varint(data, at, what)
        if tag & 7 == START_GROUP:
            open_groups.append(tag >> 3)
            at = body
        elif tag & 7 == END_GROUP:
            if open_groups.pop() != tag >> 3:
                raise _broken(what, at)
            at = body
        else:
            at = _field(data, at, what).end
    return at


def varint(data: bytes, at: int, what: str) -> tuple[int, int]:
    """The varint at `at` and the position behind it."""
    value = 0
    for k in range(10):
        if at + k >= len(data):
            break
        byte = data[at + k]
        value |= (byte & 0x7F) << 7 * k
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + k + 1
    raise _broken(what, at)


def message_field(number: int, body: bytes) -> bytes:
    """Field `number` with the bytes or message `body`."""
    return encode_tag(number, DELIMITED) + encode_varint(len(body)) + body


def number_field(number: int, value: int) -> bytes:
    """Field `number` with the integer `value`; negative ones take ten bytes, as int32 and int64 do."""
    return encode_tag(number, VARINT) + encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _broken(what: str, at: int) -> FormatError:
    return FormatError("F012", f"broken protobuf: {what} ends within a field, or byte {at} starts none")
