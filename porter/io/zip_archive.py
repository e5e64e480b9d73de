"""Zip archives as indexes of byte ranges: stored members are ranges of the file, compressed ones are streamed within bounds.

Source: PKWARE APPNOTE.TXT 6.3.10, 4.3.7 (local file header).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError
from porter.io.payloads import ComputedPayload
from porter.io.source import FilePayload, FileSource
from porter.io.zip_directory import DEFLATED, STORED, DirectoryEntry, read_directory
from porter.tensor import CHUNK, Location, Payload

_LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")
_BOMB_RATIO = 200
_BOMB_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One member: where its data starts in the file, its size there and its size expanded, in bytes, and its CRC-32."""

    name: str
    offset: int
    stored: int
    size: int
    method: int
    crc: int


class ZipArchive:
    """The members of a zip archive, by name, in the order of its directory.

    Reading the directory reads the end of the file and each member's local header. Data is read through `payload` or
    `read`.

    Raises:
        FormatError: the directory is broken, a member lies outside the file, is encrypted or named twice.
        UnsafeFileError: members overlap, or expand more than 200-fold to more than 64 MiB.
    """

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.entries: dict[str, ZipMember] = {}
        for entry in read_directory(source):
            if entry.name.endswith("/"):
                continue
            if entry.name in self.entries:
                raise FormatError("F010", f"zip member '{entry.name}' is there twice", path=source.path)
            self.entries[entry.name] = self._member(entry)
        self._refuse_overlaps()

    def payload(self, name: str, skip: int = 0, *, verify: bool = False) -> Payload:
        """The expanded bytes of member `name` from its byte `skip` on; a range of the file where it is stored.

        The CRC-32 of a compressed member is checked whenever it is expanded, that of a stored one where `verify` asks for it.
        """
        member = self._find(name)
        if member.method != STORED:
            return ComputedPayload(member.size - skip, lambda: _behind(self._inflate(member), skip))
        run = self.source.payload(member.offset + skip, member.size - skip, f"zip member '{name}'")
        return VerifiedPayload(run, member, skip) if verify else run

    def start(self, name: str, nbytes: int) -> bytes:
        """The first `nbytes` expanded bytes of member `name`, fewer in a shorter one; reads and expands no more than needed."""
        member = self._find(name)
        nbytes = min(nbytes, member.size)
        if member.method == STORED:
            return self.source.read(member.offset, nbytes, f"zip member '{name}'")
        stream, out = zlib.decompressobj(-15), b""
        try:
            for chunk in self.source.chunks(member.offset, member.stored, 4096):
                out += stream.decompress(chunk, nbytes - len(out)) if len(out) < nbytes else b""
                if len(out) == nbytes:
                    return out
        except zlib.error as error:
            raise _broken(member, str(error), self.source.path) from error
        raise _broken(member, f"ends after {len(out)} of {member.size} bytes", self.source.path)

    def read(self, name: str, limit: int = 256 << 20) -> bytes:
        """The expanded bytes of member `name`, which may not be larger than `limit`."""
        member = self._find(name)
        if member.size > limit:
            raise UnsafeFileError(
                "S003", f"zip member '{name}' has {member.size} bytes, more than the {limit} it may have", path=self.source.path
            )
        return bytes(self.payload(name).buffer())

    def _find(self, name: str) -> ZipMember:
        if name not in self.entries:
            raise FormatError("F011", f"the archive has no member '{name}'", path=self.source.path)
        return self.entries[name]

    def _member(self, entry: DirectoryEntry) -> ZipMember:
        path, name = self.source.path, entry.name
        if entry.encrypted:
            raise FormatError("F010", f"zip member '{name}' is encrypted", path=path, offset=entry.header)
        if entry.method not in (STORED, DEFLATED):
            raise FormatError("F010", f"zip member '{name}' has compression method {entry.method}", path=path, offset=entry.header)
        header = _LOCAL_HEADER.unpack(self.source.read(entry.header, _LOCAL_HEADER.size, "a zip member's header"))
        if header[0] != b"PK\x03\x04":
            raise FormatError("F010", f"zip member '{name}' has no header where the directory says", path=path, offset=entry.header)
        if entry.method == STORED and entry.size != entry.stored:
            raise FormatError("F010", f"zip member '{name}' is stored but has two sizes", path=path, offset=entry.header)
        if entry.size > max(_BOMB_SIZE, entry.stored * _BOMB_RATIO):
            raise UnsafeFileError(
                "S002",
                f"zip member '{name}' expands from {entry.stored} to {entry.size} bytes",
                path=path,
                offset=entry.header,
                hint="this is what a zip bomb does; unpack the file yourself if you trust it",
            )
        offset = entry.header + _LOCAL_HEADER.size + header[9] + header[10]
        self.source.check(offset, entry.stored, f"zip member '{name}'")
        return ZipMember(name, offset, entry.stored, entry.size, entry.method, entry.crc)

    def _refuse_overlaps(self) -> None:
        end, before = 0, ""
        for member in sorted(self.entries.values(), key=lambda m: m.offset):
            if member.offset < end:
                raise UnsafeFileError(
                    "S002", f"zip members '{before}' and '{member.name}' overlap", path=self.source.path, offset=member.offset
                )
            end, before = member.offset + member.stored, member.name

    def _inflate(self, member: ZipMember) -> Iterator[bytes]:
        stream, left, crc = zlib.decompressobj(-15), member.size, 0
        try:
            for chunk in self.source.chunks(member.offset, member.stored, CHUNK):
                data: bytes = bytes(chunk)
                while data and left:
                    piece = stream.decompress(data, min(left, CHUNK))
                    left -= len(piece)
                    data = stream.unconsumed_tail
                    crc = zlib.crc32(piece, crc)
                    # Before the last piece, behind which a reader who has all bytes asks for no more.
                    if not left:
                        _check_crc(crc, member, self.source.path)
                    yield piece
            if left:
                piece = stream.flush()[:left]
                left -= len(piece)
                if left:
                    raise _broken(member, f"is {left} bytes short", self.source.path)
                _check_crc(zlib.crc32(piece, crc), member, self.source.path)
                yield piece
        except zlib.error as error:
            raise _broken(member, str(error), self.source.path) from error
        if not member.size:
            _check_crc(crc, member, self.source.path)


@dataclass(frozen=True, slots=True)
class VerifiedPayload:
    """The bytes of a stored member from its byte `skip` on, which lie in `run`; its CRC-32 is checked before the last of them is given."""

    run: FilePayload
    member: ZipMember
    skip: int

    @property
    def nbytes(self) -> int:
        return self.run.nbytes

    @property
    def location(self) -> Location:
        return Location(self.run.source.path, self.run.source.fd, self.run.offset, self.run.nbytes, True)

    def chunks(self, limit: int) -> Iterator[memoryview]:
        crc, left = self._crc_before(), self.nbytes
        if not left:
            _check_crc(crc, self.member, self.run.source.path)
        for chunk in self.run.chunks(limit):
            crc, left = zlib.crc32(chunk, crc), left - chunk.nbytes
            if not left:
                _check_crc(crc, self.member, self.run.source.path)
            yield chunk

    def buffer(self) -> memoryview:
        data = self.run.buffer()
        _check_crc(zlib.crc32(data, self._crc_before()), self.member, self.run.source.path)
        return data

    def _crc_before(self) -> int:
        return zlib.crc32(self.run.source.read(self.member.offset, self.skip))


def _behind(pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    """`pieces` without the first `skip` bytes of all."""
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:] if skip else piece
        skip = max(skip - len(piece), 0)


def _check_crc(crc: int, member: ZipMember, path: str) -> None:
    if crc != member.crc:
        raise _broken(member, f"has CRC-32 {crc:08x} where {member.crc:08x} was written", path)


def _broken(member: ZipMember, what: str, path: str) -> FormatError:
    return FormatError("F010", f"zip member '{member.name}': {what}", path=path, offset=member.offset)
