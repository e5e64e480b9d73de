"""Recognising an ONNX model by the tags of its outermost fields, wherever in the file the graph begins."""

from __future__ import annotations

from porter.io.source import FileSource

_VARINT, _DELIMITED = 0, 2
_MODEL = {1: _VARINT, 2: 2, 3: 2, 4: 2, 5: _VARINT, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Fields of ModelProto and their wire types."""
_GRAPH = frozenset(range(1, 17))
"""Fields of GraphProto, those of 2017 that are reserved now included."""
_MOST_FIELDS = 4096
_MOST_VERSION = 1000
_GRAPH_FIELD = 7


def is_model(source: FileSource) -> bool:
    """Whether the file is a ModelProto: an IR version and a graph among nothing but fields of that message.

    A graph that the file cuts short still counts, so that the error can say so. A few bytes are read at each field.
    """
    at, versioned, graphed = 0, False, False
    for _ in range(_MOST_FIELDS):
        head = source.read_up_to(at, 20)
        field = _field(head)
        if field is None:
            break
        number, wire, value, size = field
        if _MODEL.get(number) != wire:
            return False
        versioned |= number == 1 and 0 < value <= _MOST_VERSION
        if number == _GRAPH_FIELD:
            if not _is_graph(source.read_up_to(at + size, min(value, 4096))):
                return False
            graphed = True
        if versioned and graphed:
            return True
        at += size + (value if wire == _DELIMITED else 0)
    return False


def _is_graph(data: bytes) -> bool:
    """Whether the fields at the start of `data` can be a GraphProto's; an empty graph can."""
    at = 0
    while at < len(data):
        field = _field(data[at : at + 20])
        if field is None:
            return at > 0
        number, wire, value, size = field
        if number not in _GRAPH or wire not in (_VARINT, _DELIMITED):
            return False
        at += size + (value if wire == _DELIMITED else 0)
    return True


def _field(data: bytes) -> tuple[int, int, int, int] | None:
    """Number, wire type, value or length, and size of the head of the field at the start of `data`, or None where there is none."""
    tag, behind = _varint(data, 0)
    value, end = _varint(data, behind) if behind else (0, 0)
    if not end or tag >> 3 == 0 or tag & 7 not in (_VARINT, _DELIMITED):
        return None
    return tag >> 3, tag & 7, value, end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and the place behind it, which is 0 where there is none."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    return 0, 0
