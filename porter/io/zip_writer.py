"""Writing zip archives of stored members whose data is aligned, streamed and checksummed on the way.

Members are stored, never compressed, so that readers map them. The CRC-32 is summed while the data passes and put into the
header behind. The same members give the same bytes: every date is 1 January 1980.

Source: PKWARE APPNOTE.TXT 6.3.10, 4.3.7 (local header), 4.3.12 (central directory), 4.3.14–4.3.16 (end records), 4.5.3
(Zip64 extra field), 4.4.4 (bit 11: names in UTF-8). Extra field 0xD935, a padding for alignment: Android `zipalign`
(platform/build, tools/zipalign/ZipEntry.h).
"""

from __future__ import annotations

import struct
import zlib

from porter.dataclass import dataclass
from porter.errors import LossError
from porter.io.atomic import AtomicFile
from porter.tensor import CHUNK, BytesPayload, Payload

LIMIT_32 = 0xFFFF_FFFF
"""What fields of 32 bits hold where Zip64 forms say the number."""
LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
_LIMIT_16 = 0xFFFF
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_DATE = 0x21
_PAD = struct.Struct("<3H")
_CRC_AT = 14


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    flags: int
    crc: int
    size: int
    offset: int


class ZipWriter:
    """Writes members one after the other into `file`, then `finish` writes the directory.

    `alignment` is that of each member's data in the file, in bytes. `limit` is the size from which the Zip64 forms are
    used: tests lower it.
    """

    def __init__(self, file: AtomicFile, *, alignment: int = 64, limit: int = LIMIT_32) -> None:
        self.file = file
        self._alignment = alignment
        self._limit = limit
        self._entries: list[_Entry] = []

    def add(self, name: str, *parts: bytes | Payload) -> None:
        """Append a member that holds `parts` one after the other. Streams them.

        Raises:
            LossError: `name` cannot be a member's name: longer than 65,535 bytes, with a NUL, or no valid Unicode.
        """
        payloads = [BytesPayload.of(p) if isinstance(p, bytes) else p for p in parts]
        size = sum(p.nbytes for p in payloads)
        encoded, flags = encode_name(name)
        offset = self.file.position
        self._header(encoded, flags, size)
        crc = 0
        for payload in payloads:
            for chunk in payload.chunks(CHUNK):
                crc = zlib.crc32(chunk, crc)
                self.file.write(chunk)
        self.file.write_at(offset + _CRC_AT, crc.to_bytes(4, "little"))
        self._entries.append(_Entry(encoded, flags, crc, size, offset))

    def finish(self) -> None:
        """Write the central directory. The file is an archive only now."""
        start = self.file.position
        for entry in self._entries:
            self._central(entry)
        self.file.write(end_records(len(self._entries), start, self.file.position, self._limit, made_by=45))

    def _header(self, name: bytes, flags: int, size: int) -> None:
        large = size >= self._limit
        extra = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
        bare = self.file.position + LOCAL.size + len(name) + len(extra)
        gap = -bare % self._alignment
        if gap:
            gap += -(-(_PAD.size - gap) // self._alignment) * self._alignment if gap < _PAD.size else 0
            extra += _PAD.pack(0xD935, gap - 4, self._alignment) + bytes(gap - _PAD.size)
        low = LIMIT_32 if large else size
        self.file.write(LOCAL.pack(b"PK\x03\x04", 45 if large else 20, flags, 0, 0, _DATE, 0, low, low, len(name), len(extra)))
        self.file.write(name + extra)

    def _central(self, entry: _Entry) -> None:
        wide = [n for n in (entry.size, entry.size, entry.offset) if n >= self._limit]
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        size, offset = self._low(entry.size), self._low(entry.offset)
        version = 45 if wide else 20
        head = (
            b"PK\x01\x02",
            version,
            version,
            entry.flags,
            0,
            0,
            _DATE,
            entry.crc,
            size,
            size,
            len(entry.name),
            len(extra),
            0,
            0,
            0,
            0,
            offset,
        )
        self.file.write(CENTRAL.pack(*head) + entry.name + extra)

    def _low(self, value: int) -> int:
        return LIMIT_32 if value >= self._limit else value


def end_records(count: int, start: int, end: int, limit: int, *, made_by: int) -> bytes:
    """What follows the directory of `count` members that lies between `start` and `end`.

    `limit` is the size from which Zip64 forms are used, `made_by` the version that they name as their writer's.
    """
    size, wide = end - start, b""
    if count >= _LIMIT_16 or size >= limit or start >= limit:
        wide = _END_64.pack(b"PK\x06\x06", _END_64.size - 12, made_by, 45, 0, 0, count, count, size, start)
        wide += _LOCATOR_64.pack(b"PK\x06\x07", 0, end, 1)
    count, size, start = min(count, _LIMIT_16), *(LIMIT_32 if n >= limit else n for n in (size, start))
    return wide + _END.pack(b"PK\x05\x06", 0, 0, count, count, size, start, 0)


def encode_name(name: str) -> tuple[bytes, int]:
    """A member's name as bytes, and the flags that go with it.

    Raises:
        LossError: it is too long, holds a NUL (which ends a name for most readers), or is no valid Unicode.
    """
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LossError("L010", "the name is not valid Unicode, which zip archives need", tensor=name, hint="rename the tensor") from error
    if b"\0" in encoded or len(encoded) > _LIMIT_16:
        what = "holds a NUL" if b"\0" in encoded else f"has {len(encoded)} bytes, more than {_LIMIT_16}"
        raise LossError("L010", f"the name {what}, which zip archives cannot hold", tensor=name, hint="rename the tensor")
    return encoded, 0 if name.isascii() else 0x800
