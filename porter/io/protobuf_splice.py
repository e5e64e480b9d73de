"""Replacing parts of a protobuf file of any size: everything else stays byte for byte, only lengths around the parts change.

Source: protobuf.dev, "Encoding" (wire types, length-delimited fields).
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.io.protobuf_wire import CUT_FIELD, DELIMITED, FieldReader, encode_varint
from porter.io.source import FileSource
from porter.tensor import BytesPayload, Payload


@dataclass(frozen=True, slots=True)
class Edit:
    """The whole content of one length-delimited field, at `offset` in the file, and what comes in its place."""

    offset: int
    nbytes: int
    content: tuple[Payload, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field lies: its tag at `start`, what follows the tag at `value`, its value behind any length at `content`, its `end`."""

    number: int
    wire: int
    start: int
    value: int
    content: int
    end: int


def fields(reader: FieldReader, at: int, end: int) -> Iterator[Field]:
    """The fields of the message between `at` and `end`, groups as one field each.

    Raises:
        FormatError: a length or tag is wrong; with the byte offset.
    """
    while at < end:
        start = at
        tag, value = reader.varint(at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= CUT_FIELD:
            raise reader.error(f"{number} is no field number", start)
        at = reader.skip(value, end, number, wire, start, 0)
        content = reader.varint(value, end)[1] if wire == DELIMITED else value
        yield Field(number, wire, start, value, content, at)


def splice(source: FileSource, edits: Sequence[Edit]) -> list[Payload]:
    """The message in `source` with `edits` made, as payloads to be written one after the other. Reads tags and lengths only.

    Raises:
        FormatError: an edit is not the content of a field, or lies in another.
    """
    ordered = sorted(edits, key=lambda e: e.offset)
    for before, after in itertools.pairwise(ordered):
        if before.offset + before.nbytes > after.offset:
            raise FormatError("F012", "broken protobuf: two parts to be replaced overlap", path=source.path, offset=after.offset)
    splicer = _Splicer(source, ordered)
    content = splicer.message(0, source.size, ordered)
    if splicer.made != len(ordered):
        raise FormatError("F012", "broken protobuf: a part to be replaced is not the content of a field", path=source.path)
    return content


def without_fields(source: FileSource, offset: int, nbytes: int, numbers: Collection[int], *put: bytes | Payload) -> tuple[Payload, ...]:
    """The message of `nbytes` bytes at `offset` without the fields in `numbers`; `put` stands where the first was, or at the end."""
    new = [BytesPayload.of(p) if isinstance(p, bytes) else p for p in put]
    parts: list[Payload] = []
    copied, placed = offset, False
    for field in fields(FieldReader(source), offset, offset + nbytes):
        if field.number not in numbers:
            continue
        _keep(parts, source, copied, field.start)
        if not placed:
            parts.extend(new)
            placed = True
        copied = field.end
    _keep(parts, source, copied, offset + nbytes)
    return (*parts, *(() if placed else new))


class _Splicer:
    def __init__(self, source: FileSource, edits: Sequence[Edit]) -> None:
        self._source = source
        self._reader = FieldReader(source)
        self.made = 0

    def message(self, at: int, end: int, edits: Sequence[Edit]) -> list[Payload]:
        """The message between `at` and `end`, which holds all of `edits`."""
        parts: list[Payload] = []
        offsets = [e.offset for e in edits]
        copied = at
        for field in fields(self._reader, at, end):
            if field.wire != DELIMITED:
                continue
            inner = edits[bisect_left(offsets, field.content) : bisect_left(offsets, field.end)]
            if not inner:
                if field.start > (edits[-1].offset if edits else at):
                    break
                continue
            content = self._content(field.content, field.end, inner)
            size = sum(p.nbytes for p in content)
            if size == field.end - field.content:
                # The length as it was written, which need not be the shortest form.
                _keep(parts, self._source, copied, field.content)
            else:
                _keep(parts, self._source, copied, field.value)
                parts.append(BytesPayload.of(encode_varint(size)))
            parts.extend(content)
            copied = field.end
        _keep(parts, self._source, copied, end)
        return parts

    def _content(self, at: int, end: int, edits: Sequence[Edit]) -> Sequence[Payload]:
        if edits[0].offset == at and edits[0].nbytes == end - at:
            self.made += 1
            return edits[0].content
        return self.message(at, end, edits)


def _keep(parts: list[Payload], source: FileSource, start: int, end: int) -> None:
    if start < end:
        parts.append(source.payload(start, end - start))
