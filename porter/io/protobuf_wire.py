"""Protocol buffers at the wire level: skeletons of huge messages, and writing huge messages piece by piece.

A weights file in protobuf is a small tree around large payloads. `scan` copies the tree and leaves the payloads where
they are: each payload field becomes a small `Cut` message that says where its bytes lie. The official protobuf classes
parse what remains, with a schema that declares the cut field. Files over 2 GB work, and nothing large is read.

Source: protobuf.dev, "Encoding" (wire types, packed fields, groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from porter.dataclass import dataclass, field
from porter.errors import FormatError, UnsafeFileError
from porter.io.source import FileSource
from porter.tensor import BytesPayload, Payload

CUT_FIELD = 536_870_911
"""The highest legal field number; the schemas declare it as `repeated Cut`, and a file that uses it itself is refused."""

VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
_WINDOW = 1 << 16
_MAX_DEPTH = 100
_MAX_SKELETON = 512 << 20
_MAX_PIECES = 2_000_000
"""Messages looked into and payloads cut out: of three bytes each a file could have so many that they fill the memory."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What `scan` does inside a message: `descend` into sub-messages by field number, `cut` payloads, copy all else.

    `cut` maps a field number to the width in bytes of one unpacked element (4 for float, 8 for double, 0 for bytes and
    for packed varints). A field in `cut` with wire type DELIMITED is one cut; a run of unpacked elements is one cut with
    a stride. `descend` may be filled in after construction, so that messages can nest in themselves.

    A sub-message of at most `whole` bytes is copied with all its payloads: where a tree has thousands of small leaves
    that hold no large payload, looking into each costs more than it saves. `marked` puts a `Cut` with field 0 at the
    head of the message, which says where in the file the message itself lies.
    """

    descend: dict[int, Rule] = field(default_factory=dict)
    cut: Mapping[int, int] = field(default_factory=dict)
    whole: int = 0
    marked: bool = False


def scan(source: FileSource, rule: Rule, *, offset: int = 0, nbytes: int | None = None) -> bytes:
    """The skeleton of the message in `nbytes` bytes at `offset` (default: the whole file).

    Field order is kept. Every `Cut` holds: field = 1, offset = 2 (bytes, in the file), nbytes = 3 (of payload in the
    file, tags of unpacked elements included), stride = 4 (bytes from one unpacked element to the next; absent where
    the payload is one run).

    Raises:
        FormatError: a length or tag is wrong; with the byte offset.
        UnsafeFileError: the file uses porter's private field, nests too deeply, or is mostly structure (over 512 MiB).
    """
    end = source.size if nbytes is None else offset + nbytes
    source.check(offset, end - offset, "a message")
    return b"".join(_Scanner(source).message(offset, end, rule, 0))


class FieldReader:
    """Steps through the fields of messages in `source`, through a window; reads tags and lengths, never values."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self._start = 0
        self._window = b""

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The varint at `at` and the offset behind it."""
        window, i = self._window, at - self._start
        if i < 0 or i + 10 > len(window):
            # Behind a payload there are a few small fields before the next; reading on, there is more structure.
            ahead = _WINDOW if 0 <= i <= len(window) else _WINDOW >> 4
            self._start, self._window, i = at, self.source.read_up_to(at, ahead), 0
            window = self._window
        elif window[i] < 0x80 and at < end:
            return window[i], at + 1
        value = shift = 0
        for k in range(10):
            if at + k >= end or i + k >= len(window):
                raise self.error("the message ends within a number", at)
            byte = window[i + k]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at + k + 1
            shift += 7
        raise self.error("a number has more than 10 bytes", at)

    def skip(self, at: int, end: int, number: int, wire: int, start: int, depth: int) -> int:
        """The end of the field whose tag is at `start` and whose value or length is at `at`."""
        if wire == VARINT:
            return self.varint(at, end)[1]
        if wire == DELIMITED:
            size, at = self.varint(at, end)
            return self._advance(at, size, end, start)
        if wire in (FIXED32, FIXED64):
            return self._advance(at, 4 if wire == FIXED32 else 8, end, start)
        if wire == START_GROUP:
            return self._skip_group(at, end, number, start, depth + 1)
        raise self.error(f"field {number} has wire type {wire}", start)

    def _skip_group(self, at: int, end: int, group: int, start: int, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise UnsafeFileError("S004", "groups nest more than 100 deep", path=self.source.path, offset=start)
        while at < end:
            inner = at
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if wire == END_GROUP:
                if number != group:
                    break
                return at
            at = self.skip(at, end, number, wire, inner, depth)
        raise self.error(f"group {group} does not end", start)

    def _advance(self, at: int, size: int, end: int, start: int) -> int:
        if size > end - at:
            raise FormatError(
                "F001",
                f"a field claims {size} bytes where {end - at} are left",
                path=self.source.path,
                offset=start,
                hint="the file looks truncated; fetch it again, or check that the download finished",
            )
        return at + size

    def error(self, message: str, offset: int) -> FormatError:
        """An error at `offset`."""
        return FormatError("F012", f"broken protobuf: {message}", path=self.source.path, offset=offset)


class _Scanner(FieldReader):
    def __init__(self, source: FileSource) -> None:
        super().__init__(source)
        self._copied = 0
        self._pieces = 0

    def message(self, at: int, end: int, rule: Rule, depth: int) -> Iterator[bytes]:
        if depth > _MAX_DEPTH:
            raise UnsafeFileError("S004", "messages nest more than 100 deep", path=self.source.path, offset=at)
        copied = at  # everything before this was passed on already
        if rule.marked:
            yield encode_cut(0, at, end - at, 0)
        while at < end:
            start = at
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number <= CUT_FIELD:
                raise self.error(f"{number} is no field number", start)
            if number == CUT_FIELD:
                raise UnsafeFileError("S005", "the file uses a field number that porter reserves", path=self.source.path, offset=start)
            if wire == DELIMITED and (number in rule.cut or number in rule.descend):
                size, body = self.varint(at, end)
                at = self._advance(body, size, end, start)
                if number not in rule.cut and 0 < size <= rule.descend[number].whole and not self._forged(body, size):
                    continue
                yield from self._copy(copied, start)
                if number in rule.cut:
                    yield encode_cut(number, body, size, 0)
                else:
                    parts = list(self.message(body, at, rule.descend[number], depth + 1))
                    yield encode_tag(number, DELIMITED) + encode_varint(sum(map(len, parts)))
                    yield from parts
                copied = at
            elif number in rule.cut and wire == (FIXED32 if rule.cut[number] == 4 else FIXED64) and rule.cut[number]:
                yield from self._copy(copied, start)
                at = self._run(start, at, end, rule.cut[number])
                yield encode_cut(number, start, at - start, len(encode_varint(tag)) + rule.cut[number])
                copied = at
            else:
                at = self.skip(at, end, number, wire, start, depth)
        yield from self._copy(copied, end)

    def _forged(self, at: int, size: int) -> bool:
        """Whether `size` bytes at `at` may hold the private field. No encoding of its tag is without these four bytes."""
        i = at - self._start
        data = self._window[i : i + size] if i + size <= len(self._window) else self.source.read(at, size)
        return b"\xfa\xff\xff\xff" in data

    def _run(self, start: int, at: int, end: int, width: int) -> int:
        """The end of the run of unpacked elements whose first one has its tag at `start` and its value at `at`."""
        stride = at - start + width
        self._advance(at, width, end, start)
        tag = self.source.read(start, at - start)
        position, last = start, start + (end - start) // stride * stride
        while position < last:
            # Whole elements only, so that the tag's bytes lie at the same places in every block.
            block = self.source.read(position, min((1 << 20) // stride * stride, last - position))
            same = min(_leading(block[i::stride], tag[i]) for i in range(len(tag)))
            position += same * stride
            if same * stride < len(block):
                break
        return position

    def _copy(self, start: int, end: int) -> Iterator[bytes]:
        self._copied += max(end - start, 0)
        self._pieces += 1
        if self._pieces > _MAX_PIECES:
            raise UnsafeFileError("S006", f"more than {_MAX_PIECES:,} layers, tensors and their parts", path=self.source.path, offset=start)
        if self._copied > _MAX_SKELETON:
            raise UnsafeFileError(
                "S006", f"more than {_MAX_SKELETON >> 20} MiB of structure around the weights", path=self.source.path, offset=start
            )
        if start < end:
            i = start - self._start
            within = i >= 0 and end - self._start <= len(self._window)
            yield self._window[i : end - self._start] if within else self.source.read(start, end - start)


def _leading(data: bytes, value: int) -> int:
    """How many bytes at the start of `data` equal `value`."""
    return len(data) - len(data.lstrip(bytes((value,))))


def encode_varint(value: int) -> bytes:
    """`value` (0 … 2⁶⁴−1) as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_tag(number: int, wire: int) -> bytes:
    """The tag of field `number` with wire type `wire`."""
    return encode_varint(number << 3 | wire)


def encode_cut(number: int, offset: int, nbytes: int, stride: int) -> bytes:
    """The `Cut` message that stands for a payload, with its tag."""
    body = b"\x08" + encode_varint(number) + b"\x10" + encode_varint(offset) + b"\x18" + encode_varint(nbytes)
    if stride:
        body += b"\x20" + encode_varint(stride)
    return encode_tag(CUT_FIELD, DELIMITED) + encode_varint(len(body)) + body


def delimited(number: int, *parts: bytes | Payload) -> list[Payload]:
    """Field `number` around `parts`, as payloads to be written in order; nest the results for nested messages."""
    payloads = [BytesPayload.of(p) if isinstance(p, bytes) else p for p in parts]
    head = encode_tag(number, DELIMITED) + encode_varint(sum(p.nbytes for p in payloads))
    return [BytesPayload.of(head), *payloads]
