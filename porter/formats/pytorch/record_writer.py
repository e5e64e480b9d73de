"""Writing zip archives laid out as torch's own are, byte for byte.

Every record's data is aligned by a padding in its local header, and its CRC-32 follows it in a data descriptor. torch
derives the places of storages from that layout (`torch.utils.serialization.config.load.calculate_storage_offsets`), so a
zip archive that is merely valid would not do for a file that says `.format_version` 1.

Source: pytorch `torch/serialization.py` (`_load`, `_get_offset`), `caffe2/serialize/inline_container.cc` (`getPadding`, 2.13);
PKWARE APPNOTE.TXT 6.3.10, 4.3.7 to 4.3.16, 4.5.3 (Zip64).
"""

from __future__ import annotations

import struct
import zlib

from porter.dataclass import dataclass
from porter.io.atomic import AtomicFile
from porter.io.zip_writer import CENTRAL, LIMIT_32, LOCAL, end_records
from porter.tensor import CHUNK, BytesPayload, Payload

_DESCRIPTOR_FOLLOWS = 0x8
_UTF_8 = 0x800


@dataclass(frozen=True, slots=True)
class _Record:
    name: bytes
    flags: int
    crc: int
    size: int
    offset: int


class RecordWriter:
    """Writes records into `file` one after the other; `finish` writes the directory.

    `alignment` is that of each record's data in the file, in bytes. `limit` is the size from which Zip64 forms are used:
    tests lower it.
    """

    def __init__(self, file: AtomicFile, root: str, *, alignment: int = 64, limit: int = LIMIT_32) -> None:
        self.file = file
        self._root = root
        self._alignment = alignment
        self._limit = limit
        self._records: list[_Record] = []

    def add(self, name: str, data: bytes | Payload) -> None:
        """Append a record. Streams it."""
        payload = BytesPayload.of(data) if isinstance(data, bytes) else data
        encoded, size, offset = f"{self._root}/{name}".encode(), payload.nbytes, self.file.position
        flags = _UTF_8 | (_DESCRIPTOR_FOLLOWS if size else 0)
        extra = self._zip64((size, size) if size >= self._limit else (), (offset,) if offset >= self._limit else ())
        padding = -(offset + LOCAL.size + len(encoded) + len(extra) + 4) % self._alignment
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        self.file.write(LOCAL.pack(b"PK\x03\x04", 0, flags, 0, 0, 0, 0, 0, 0, len(encoded), len(extra)) + encoded + extra)
        crc = 0
        for chunk in payload.chunks(CHUNK):
            crc = zlib.crc32(chunk, crc)
            self.file.write(chunk)
        if size:
            wide = "<4sL2Q" if size >= self._limit or offset >= self._limit else "<4s3L"
            self.file.write(struct.pack(wide, b"PK\x07\x08", crc, size, size))
        self._records.append(_Record(encoded, flags, crc, size, offset))

    def finish(self) -> None:
        """Write the central directory. The file is an archive only now."""
        start = self.file.position
        for record in self._records:
            self.file.write(self._central(record))
        self.file.write(end_records(len(self._records), start, self.file.position, self._limit, made_by=0x31E))

    def _central(self, record: _Record) -> bytes:
        large, far = record.size >= self._limit, record.offset >= self._limit
        extra = self._zip64((record.size, record.size) if large else (), (record.offset,) if far else ())
        size = self._low(record.size)
        head = (b"PK\x01\x02", 0, 0, record.flags, 0, 0, 0, record.crc, size, size, len(record.name), len(extra), 0, 0, 0, 0)
        return CENTRAL.pack(*head, self._low(record.offset)) + record.name + extra

    def _zip64(self, sizes: tuple[int, ...], offset: tuple[int, ...]) -> bytes:
        values = (*sizes, *offset)
        return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""

    def _low(self, value: int) -> int:
        return LIMIT_32 if value >= self._limit else value
