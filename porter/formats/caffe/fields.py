"""Fields of a small protobuf message in memory, in their order and byte for byte.

A net without its weights is kept as it was in the file, whichever fork wrote it, so its layers are taken apart and put
together at the level of fields; a parse would reorder them, and truncate what another fork means by a number.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
