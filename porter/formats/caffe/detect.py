"""Telling Caffe's binary files from everything else, which protobuf makes hard: it has no magic, and any bytes may parse.

A file counts as a net when its first fields are those of a NetParameter and one of them is a layer with a printable name
or type; as a solver state when one is a blob with a shape and values; as a lone blob, such as a mean image, when its
fields are those of a blob and its dimensions give the number of its values. A truncated file is recognised too, so that
what is said about it is that it is truncated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.caffe.fields import Values, varint
from porter.formats.caffe.layers import MAX_AXES
from porter.io.protobuf_wire import DELIMITED, FIXED32, FIXED64, VARINT
from porter.io.source import FileSource

_PORTER = 535_000_001
_SOLVER_MARK = b'"caffe":"solverstate"'
_LOOK = 512
_HEAD = 4096

# Wire types that a field may have, by number. Others are unknown: allowed, and no evidence.
NET_FIELDS = {1: {DELIMITED}, 2: {DELIMITED}, 3: {DELIMITED}, 4: {VARINT, DELIMITED}, 5: {VARINT}, 6: {DELIMITED}, 7: {VARINT}}
NET_FIELDS |= {8: {DELIMITED}, 100: {DELIMITED}, _PORTER: {DELIMITED}}
SOLVER_FIELDS = {1: {VARINT}, 2: {DELIMITED}, 3: {DELIMITED}, 4: {VARINT}, 5: {FIXED32}, 6: {VARINT}, _PORTER: {DELIMITED}}
_BLOB_FIELDS = {n: {VARINT} for n in (1, 2, 3, 4, 10, 11)}
_BLOB_FIELDS |= {5: {DELIMITED, FIXED32}, 6: {DELIMITED, FIXED32}, 7: {DELIMITED}, 8: {DELIMITED, FIXED64}, 9: {DELIMITED, FIXED64}}
_BLOB_FIELDS |= {12: {DELIMITED}, 13: {DELIMITED}}


@dataclass(frozen=True, slots=True)
class _Item:
    """A field in the file: `value` is a varint's, or the length of a delimited value, of which `head` is the beginning."""

    number: int
    wire: int
    value: int
    head: bytes

    @property
    def whole(self) -> bool:
        """Whether `head` is all of a delimited value."""
        return len(self.head) == self.value


def binary_dialect(source: FileSource) -> str | None:
    """ "v2", "v1", "v0", "solverstate" or "mean" for a binary file of Caffe, None for any other. Reads 4 KiB a field."""
    return dialect_of(source.read_up_to) or ("mean" if _is_lone_blob(_items(source.read_up_to)) else None)


def dialect_of(read: Callable[[int, int], bytes]) -> str | None:
    """The dialect of a net or a solver state whose bytes `read` gives: at most so many of them from an offset on."""
    kinds = {"net": NET_FIELDS, "solver": SOLVER_FIELDS}
    for item in _items(read):
        kinds = {kind: known for kind, known in kinds.items() if item.wire in known.get(item.number, {item.wire})}
        if "net" in kinds and (dialect := _net_evidence(item)):
            return dialect
        if "solver" in kinds and _solver_evidence(item):
            return "solverstate"
        if not kinds:
            return None
    return None


def _items(read: Callable[[int, int], bytes]) -> Iterator[_Item]:
    """The first fields of the file, until something is no field."""
    at = 0
    for _ in range(_LOOK):
        head = read(at, _HEAD)
        if not head:
            return
        try:
            tag, body = varint(head, 0, "")
            number, wire = tag >> 3, tag & 7
            size = value = 0
            if wire == VARINT:
                value, body = varint(head, body, "")
            elif wire == DELIMITED:
                size, body = varint(head, body, "")
                value = size
            elif wire in (FIXED32, FIXED64):
                body += 4 if wire == FIXED32 else 8
            else:
                return
        except FormatError:
            return
        if not number or number >= 1 << 29:
            return
        yield _Item(number, wire, value, head[body : body + size])
        at += body + size


def _net_evidence(item: _Item) -> str | None:
    """The dialect that a field of a net shows, None where it shows nothing."""
    if item.wire != DELIMITED:
        return None
    inside = dict(_strings(item.head))
    if item.number == 100 and (_text(inside.get(2)) or (_text(inside.get(1)) and set(_numbers(item.head)) & {2, 3, 4, 7})):
        return "v2"
    if item.number == 100 and any(number == 7 and wire == DELIMITED and _is_blob(value, True) for number, wire, value in _walk(item.head)):
        return "v2"
    if item.number == _PORTER and item.head.startswith(b'{"porter":') and _SOLVER_MARK not in item.head:
        return "v2"
    if item.number == 2:
        return _v1_evidence(item, inside)
    return None


def _v1_evidence(item: _Item, inside: dict[int, bytes]) -> str | None:
    """A V1 layer has a name and a numeric type; a V0 layer is inside one, with a name and a textual type."""
    v0 = dict(_strings(inside.get(1, b"")))
    if _text(v0.get(1)) and _text(v0.get(2)):
        return "v0"
    numbers = _numbers(item.head)
    if not _text(inside.get(4)) or 1 in numbers:
        return None
    # A layer of no type has blobs to show.
    blob = any(number == 6 and wire == DELIMITED and _is_blob(value, True) for number, wire, value in _walk(item.head))
    return "v1" if numbers.get(5) == VARINT or (blob and 5 not in numbers) else None


def _solver_evidence(item: _Item) -> bool:
    """A history blob, or porter's own mark."""
    if item.number == _PORTER:
        return item.wire == DELIMITED and item.head.startswith(b'{"porter":') and _SOLVER_MARK in item.head
    return item.number == 3 and item.wire == DELIMITED and _is_blob(item.head, item.whole)


def _is_lone_blob(items: Iterable[_Item]) -> bool:
    """Whether the fields of a file are those of one blob, whose dimensions give just the number of its values."""
    dims: list[int] = []
    count = 0
    for item in items:
        if item.wire == FIXED32 or item.wire == FIXED64 or item.wire not in _BLOB_FIELDS.get(item.number, set()):
            return False
        if item.number <= 4:
            dims.append(item.value)
        elif item.number == 7 and item.whole and not dims:
            dims += _dims(item.head)
        elif item.number in (5, 8):
            count += item.value // (4 if item.number == 5 else 8)
    return count > 0 and math.prod(dims) == count


def _dims(shape: bytes) -> list[int]:
    try:
        return Values(shape, "").integers(1, most=MAX_AXES)
    except FormatError:
        return []


def _is_blob(head: bytes, whole: bool) -> bool:
    """Whether this begins like a blob: with dimensions, and values behind or before them, and nothing that a blob has not."""
    numbers = _numbers(head)
    known = all(wire in _BLOB_FIELDS.get(number, set()) for number, wire in numbers.items())
    return known and bool({4, 5, 7, 8, 12} & set(numbers)) and (len(numbers) > 1 or not whole)


def _walk(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and (for delimited fields) as much of the value as `data` has, until that ends or is no message."""
    at = 0
    while at < len(data):
        try:
            tag, at = varint(data, at, "")
            number, wire = tag >> 3, tag & 7
            value = b""
            if wire == VARINT:
                at = varint(data, at, "")[1]
            elif wire == DELIMITED:
                size, at = varint(data, at, "")
                value = data[at : at + size]
                at += size
            elif wire in (FIXED32, FIXED64):
                at += 4 if wire == FIXED32 else 8
            else:
                yield 0, wire, b""
                return
        except FormatError:
            return
        yield number, wire, value


def _strings(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Delimited fields, the last first, so that a dictionary keeps the first of each number."""
    return reversed([(number, value) for number, wire, value in _walk(data) if wire == DELIMITED])


def _numbers(data: bytes) -> dict[int, int]:
    return {number: wire for number, wire, _ in _walk(data)}


def _text(value: bytes | None) -> bool:
    """Whether this looks like a name: printable, or not ASCII at all, and no message."""
    return bool(value) and all(byte >= 0x20 and byte != 0x7F for byte in value or b"")
