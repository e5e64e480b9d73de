"""The directory of a zip archive, read without `zipfile`, whose import alone takes longer than most conversions.

Source: PKWARE APPNOTE.TXT 6.3.10: 4.3.12 (a member's entry), 4.3.14 and 4.3.15 (zip64 end record and its locator), 4.3.16
(end record), 4.4.4 (flags), 4.5.3 (zip64 extra field), appendix D (encoding of names).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError
from porter.io.source import FileSource

STORED = 0
DEFLATED = 8
"""The compression methods of weight files."""

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LONGEST_COMMENT = 0xFFFF
_LARGEST = 256 << 20
_FULL = 0xFFFFFFFF
_ZIP64_EXTRA = 1


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """What the directory says of one member: where its header is in the file, its size there and expanded, in bytes."""

    name: str
    header: int
    stored: int
    size: int
    method: int
    crc: int
    encrypted: bool


def read_directory(source: FileSource) -> list[DirectoryEntry]:
    """All entries in the directory's order, those of folders included. Reads the end of the file and the directory.

    Bytes before and behind the archive are passed over, as other readers do.

    Raises:
        FormatError: there is no directory, or it contradicts itself.
        UnsafeFileError: it has more than 256 MiB.
    """
    at, count, nbytes, offset = _end(source)
    start = at - nbytes
    if start < offset:
        raise _broken(source, "the directory does not lie where its end record says", at)
    if nbytes > _LARGEST:
        raise UnsafeFileError("S003", f"the archive's directory has {nbytes} bytes, more than the {_LARGEST} it may have", path=source.path)
    shift = start - offset
    entries = list(_entries(source, source.read(start, nbytes, "the archive's directory"), start, shift))
    if len(entries) & 0xFFFF != count & 0xFFFF:
        raise _broken(source, f"the directory has {len(entries)} entries, its end record says {count}", at)
    return entries


def _end(source: FileSource) -> tuple[int, int, int, int]:
    """Where the directory ends, its number of entries, its bytes, and its offset counted from the archive's first byte."""
    tail_at = max(source.size - _LONGEST_COMMENT - _END.size, 0)
    tail = source.read_up_to(max(source.size - _END.size, 0), _END.size)
    if tail.startswith(b"PK\x05\x06"):
        tail_at = source.size - _END.size
    else:
        tail = source.read_up_to(tail_at, source.size - tail_at)
    found = tail.rfind(b"PK\x05\x06", 0, max(len(tail) - _END.size + 4, 0))
    if found < 0:
        raise FormatError(
            "F010",
            "broken zip archive: it has no directory at its end",
            path=source.path,
            offset=source.size,
            hint="the file looks truncated; fetch it again, or check that the download finished",
        )
    at = tail_at + found
    _, disk, first_disk, _, count, nbytes, offset, _ = _END.unpack_from(tail, found)
    if at >= _END64_LOCATOR.size:
        mark, _, where, _ = _END64_LOCATOR.unpack(source.read(at - _END64_LOCATOR.size, _END64_LOCATOR.size))
        if mark == b"PK\x06\x07":
            return _end64(source, at - _END64_LOCATOR.size, where)
    if disk or first_disk:
        raise _broken(source, "it is one of several parts", at)
    return at, count, nbytes, offset


def _end64(source: FileSource, locator: int, where: int) -> tuple[int, int, int, int]:
    for at in (locator - _END64.size, where):  # the first is right even if there are bytes before the archive
        if 0 <= at <= locator - _END64.size:
            mark, _, _, _, disk, first_disk, _, count, nbytes, offset = _END64.unpack(source.read(at, _END64.size))
            if mark == b"PK\x06\x06":
                if disk or first_disk:
                    raise _broken(source, "it is one of several parts", at)
                return at, count, nbytes, offset
    raise _broken(source, "the zip64 end record does not lie where its locator says", locator)


def _entries(source: FileSource, data: bytes, start: int, shift: int) -> Iterator[DirectoryEntry]:
    at = 0
    while at < len(data):
        if len(data) - at < _ENTRY.size:
            raise _broken(source, "the directory ends within an entry", start + at)
        fields = _ENTRY.unpack_from(data, at)
        mark, _, _, flags, method, _, _, crc, stored, size, name_bytes, extra_bytes, comment_bytes, _, _, _, header = fields
        name_at = at + _ENTRY.size
        extra_at = name_at + name_bytes
        after = extra_at + extra_bytes + comment_bytes
        if mark != b"PK\x01\x02" or after > len(data):
            raise _broken(source, "an entry of the directory is none, or goes beyond its end", start + at)
        name = _name(source, data[name_at:extra_at], flags, start + at)
        if _FULL in (size, stored, header):
            size, stored, header = _wide(source, data[extra_at : extra_at + extra_bytes], (size, stored, header), start + at)
        yield DirectoryEntry(name, header + shift, stored, size, method, crc, bool(flags & 1))
        at = after


def _name(source: FileSource, raw: bytes, flags: int, at: int) -> str:
    if 0 in raw:
        raise _broken(source, "the name of a member has a zero byte", at)
    try:
        return raw.decode("utf-8" if flags & 0x800 else "cp437")
    except UnicodeDecodeError as error:
        raise _broken(source, "the name of a member is not valid UTF-8", at) from error


def _wide(source: FileSource, extra: bytes, fields: tuple[int, ...], at: int) -> list[int]:
    """`fields` with those that 32 bits cannot hold taken from the zip64 extra field, which has just them, in order."""
    start = 0
    while start + 4 <= len(extra):
        kind, nbytes = struct.unpack_from("<2H", extra, start)
        start += 4
        if kind == _ZIP64_EXTRA:
            wanted = fields.count(_FULL)
            if min(nbytes, len(extra) - start) < 8 * wanted:
                break
            values = iter(struct.unpack_from(f"<{wanted}Q", extra, start))
            return [next(values) if field == _FULL else field for field in fields]
        start += nbytes
    raise _broken(source, "an entry of the directory lacks its 64-bit sizes", at)


def _broken(source: FileSource, what: str, offset: int) -> FormatError:
    return FormatError("F010", f"broken zip archive: {what}", path=source.path, offset=offset)
