"""The index of nvidia-v2 files: a text header for each tensor, its raw little-endian bytes, a newline."""

from __future__ import annotations

import math
import re

from porter.errors import FormatError, printable
from porter.formats.wts.index import read_count
from porter.formats.wts.rows import STORED, TWICE, Row
from porter.io.source import FileSource

_BLOCK = 4096
_LONGEST_HEADER = 1 << 16
_DAMAGED = "the header is damaged, or the bytes before it are more or fewer than their shape says"
_TRUNCATED = "the file looks truncated; fetch or write it again"
_HEADER = re.compile(rb"([^ \t\r\n\v\f]+)[ \t]+([0-9]{1,3})[ \t]+\(([0-9L, ]*)\) ")
_DIMENSION = re.compile(rb"[0-9]{1,18}L?")


def scan(source: FileSource) -> list[Row]:
    """The rows of an `nvidia-v2` file, in order.

    Raises:
        FormatError: with the byte offset.
    """
    claimed, at = read_count(source)
    rows: list[Row] = []
    places: dict[str, int] = {}
    while at < source.size:
        if len(rows) == claimed:
            if source.size - at <= _BLOCK and not source.read(at, source.size - at).strip():
                return rows
            raise _error(
                source,
                at,
                "F407",
                f"the first line says {claimed} tensors, the file goes on behind them",
                "the first line's number is wrong",
            )
        row = _row(source, at)
        if row.name in places:
            raise _error(source, at, "F004", f"the tensor is there already, at byte {places[row.name]}", TWICE, row.name)
        places[row.name] = at
        rows.append(row)
        at = _behind(source, row)
    if len(rows) < claimed:
        hint = "the file looks truncated, or the first line's number is wrong"
        raise _error(source, at, "F407", f"the first line says {claimed} tensors, the file has {len(rows)}", hint)
    return rows


def _row(source: FileSource, at: int) -> Row:
    found = _match(source, at)
    name = found[1].decode("utf-8", "surrogateescape")
    code = int(found[2])
    if code not in STORED:
        raise _error(source, at, "F402", f"unknown type {code}; 0 is float32, 1 float16, 2 int8, 3 int32", _DAMAGED, name)
    shape = _shape(source, at, name, found[3])
    begin, nbytes = at + found.end(), STORED[code].nbytes(math.prod(shape))
    row = Row(name, code, math.prod(shape), begin, begin + nbytes, shape=shape)
    if row.end > source.size:
        message = f"{row.stored} {list(shape)} takes {nbytes} bytes, the file ends after {source.size - begin}"
        raise _error(source, begin, "F001", message, _half_hint(source, row) or _TRUNCATED, name)
    return row


def _match(source: FileSource, at: int) -> re.Match[bytes]:
    for size in (_BLOCK, _LONGEST_HEADER):
        block = source.read_up_to(at, size)
        found = _HEADER.match(block)
        if found is not None and not re.search(rb"[\x00-\x1f\x7f]", found[1]):
            return found
    if b"\n" not in block and at + len(block) == source.size:
        raise _error(
            source, source.size, "F001", "the file ends inside a tensor's header", "the file looks truncated; fetch or write it again"
        )
    start = printable(block[:40].decode("utf-8", "replace"))
    hint = "the bytes of the tensor before may be more or fewer than its shape and type say, or a name holds white space"
    raise _error(source, at, "F402", f"expected 'name type (shape) ', found {start!r}", hint)


def _shape(source: FileSource, at: int, name: str, text: bytes) -> tuple[int, ...]:
    """Python's way to print a tuple: `(784, 256)`, `(10,)`, `()`; Python 2 wrote long integers as `10L`."""
    parts = [p.strip(b" ") for p in text.split(b",")]
    if parts[-1] == b"":
        parts.pop()
    if not all(_DIMENSION.fullmatch(p) for p in parts):
        raise _error(source, at, "F402", f"({text.decode()}) is no shape", _DAMAGED, name)
    return tuple(int(p.rstrip(b"L")) for p in parts)


def _behind(source: FileSource, row: Row) -> int:
    """The offset behind the newline that ends the raw bytes."""
    end = source.read_up_to(row.end, 2)
    if end[:1] == b"\n" or not end:
        return row.end + len(end[:1])
    if end == b"\r\n":
        return row.end + 2
    hint = _half_hint(source, row) or "shape or type is wrong, or bytes were lost; write the file again"
    raise _error(source, row.end, "F410", "no newline behind the tensor's bytes", hint, row.name)


def _half_hint(source: FileSource, row: Row) -> str | None:
    """The public dumper writes type 0 for every type, so float16 looks like float32 of half the bytes."""
    if row.code == 0 and row.count and source.read_up_to(row.begin + row.nbytes // 2, 1) == b"\n":
        return "the bytes fit float16: the public dumper writes type 0 whatever the type is; correct the 0 to 1"
    return None


def _error(source: FileSource, at: int, code: str, message: str, hint: str | None = None, tensor: str | None = None) -> FormatError:
    return FormatError(code, message, path=source.path, offset=at, tensor=tensor, hint=hint)
