"""Where the bytes of an HDF5 file come from: a window of a file, metered reads of its metadata, a bounds-checked cursor.

Source: HDF5 File Format Specification Version 3.0 (The HDF Group), III.A (checksums), IX "Definitions": metadata of the
newer kind carries Jenkins' lookup3 hash (Bob Jenkins, lookup3.c, May 2006, public domain, `hashlittle` with seed 0).
"""

from __future__ import annotations

import struct

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError
from porter.io.source import FilePayload, FileSource

_BLOCK = 4096
_CACHED_BLOCKS = 256
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Window:
    """`size` bytes of a file from `start` on: the whole file, what follows a user block, or a stored member of an archive."""

    source: FileSource
    start: int
    size: int

    @property
    def path(self) -> str:
        return self.source.path

    def read(self, offset: int, nbytes: int, what: str) -> bytes:
        """Exactly `nbytes` bytes at `offset` of the window."""
        self.check(offset, nbytes, what)
        return self.source.read(self.start + offset, nbytes, what)

    def payload(self, offset: int, nbytes: int, what: str) -> FilePayload:
        """The bytes that lie at `offset` of the window. Checks the bounds, reads nothing."""
        self.check(offset, nbytes, what)
        return self.source.payload(self.start + offset, nbytes, what)

    def check(self, offset: int, nbytes: int, what: str) -> None:
        """Raise a `FormatError` unless the window has `nbytes` bytes at `offset`."""
        if offset < 0 or nbytes < 0 or offset + nbytes > self.size:
            raise FormatError(
                "F001",
                f"{what} needs {nbytes} bytes here, the HDF5 file ends after {max(self.size - offset, 0)}",
                path=self.path,
                offset=self.start + min(max(offset, 0), self.size),
                hint="the file looks truncated; fetch it again, or check that the download finished",
            )

    def inner(self, offset: int) -> Window:
        """The part of this window from `offset` on."""
        return Window(self.source, self.start + offset, self.size - offset)


class Metadata:
    """Metered reads of what describes the data.

    Each structure of a sound file is read once or twice, so a file that makes its reader read far more than it holds is
    built to keep the reader busy, and refused. `offset_size` and `length_size` are those of addresses and lengths.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.offset_size = 8
        self.length_size = 8
        self._left = 8 * window.size + (1 << 20)
        self._blocks: dict[int, bytes] = {}

    def read(self, address: int, nbytes: int, what: str) -> bytes:
        """Exactly `nbytes` bytes at `address`."""
        if address < 0 or address + nbytes > self.window.size:
            self.window.check(address, nbytes, what)
        self.charge(nbytes, what)
        number, start = divmod(address, _BLOCK)
        if start + nbytes <= _BLOCK:
            block = self._blocks.get(number)
            if block is None:
                block = self._load(number)
            return block[start : start + nbytes]
        return self.window.read(address, nbytes, what)

    def charge(self, nbytes: int, what: str) -> None:
        """Count `nbytes` bytes of work against what a sound file of this size can ask for."""
        self._left -= nbytes + 8
        if self._left < 0:
            raise UnsafeFileError(
                "S502", f"{what} refers to the same parts of the file over and over", path=self.window.path, hint="do not trust this file"
            )

    def cursor(self, address: int, nbytes: int, what: str) -> Cursor:
        """A cursor over `nbytes` bytes at `address`."""
        return Cursor(self.read(address, nbytes, what), what, self, address)

    def checked(self, address: int, nbytes: int, what: str) -> Cursor:
        """A cursor over `nbytes` bytes at `address`, the last four of them the checksum of the others."""
        data = self.read(address, nbytes, what)
        if nbytes < 4 or checksum(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise self.broken(f"the checksum of {what} does not match", address)
        return Cursor(data[:-4], what, self, address)

    def broken(self, message: str, address: int | None = None) -> FormatError:
        """A `FormatError` for something that no HDF5 library writes."""
        offset = self.window.start + address if address is not None else None
        return FormatError("F501", f"broken HDF5 file: {message}", path=self.window.path, offset=offset)

    def _load(self, number: int) -> bytes:
        if len(self._blocks) >= _CACHED_BLOCKS:
            self._blocks.clear()
        start = number * _BLOCK
        block = self._blocks[number] = self.window.read(start, min(_BLOCK, self.window.size - start), "metadata")
        return block


class Cursor:
    """A position in the bytes of one structure; every step is checked against its end.

    `address` is where the structure lies, for messages.
    """

    __slots__ = ("address", "at", "data", "meta", "what")

    def __init__(self, data: bytes, what: str, meta: Metadata, address: int) -> None:
        self.data = data
        self.at = 0
        self.what = what
        self.meta = meta
        self.address = address

    @property
    def left(self) -> int:
        """Bytes between the position and the end."""
        return len(self.data) - self.at

    def take(self, nbytes: int) -> bytes:
        """The next `nbytes` bytes."""
        at = self.at
        end = at + nbytes
        if nbytes < 0 or end > len(self.data):
            raise self.meta.broken(f"{self.what} ends within a field of {nbytes} bytes", self.address + at)
        self.at = end
        return self.data[at:end]

    def uint(self, nbytes: int) -> int:
        """The next `nbytes` bytes as an unsigned number, little-endian."""
        return int.from_bytes(self.take(nbytes), "little")

    def address_(self) -> int | None:
        """An address, or None where it is undefined (all bits set)."""
        size = self.meta.offset_size
        value = int.from_bytes(self.take(size), "little")
        return None if value == (1 << 8 * size) - 1 else value

    def length(self) -> int:
        """A length in bytes, or a number of elements."""
        return int.from_bytes(self.take(self.meta.length_size), "little")

    def name(self) -> bytes:
        """The bytes up to a NUL, which is passed over."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self.meta.broken(f"a name in {self.what} has no end", self.address + self.at)
        name = self.data[self.at : end]
        self.at = end + 1
        return name

    def align(self, start: int, width: int) -> None:
        """Pass over padding up to the next multiple of `width` from `start`; the end of the data may cut it short."""
        self.at = min(self.at + -(self.at - start) % width, len(self.data))

    def expect(self, signature: bytes, versions: tuple[int, ...] = ()) -> int:
        """Pass over a signature and the version behind it, which must be one of `versions`; the version."""
        found = self.take(len(signature))
        if found != signature:
            raise self.meta.broken(f"{self.what} starts with {found!r} instead of {signature!r}", self.address)
        return self.version(versions) if versions else 0

    def version(self, versions: tuple[int, ...]) -> int:
        """Pass over a version number, which must be one of `versions`."""
        value = self.uint(1)
        if value not in versions:
            raise self.meta.broken(f"{self.what} has version {value}, known are {', '.join(map(str, versions))}", self.address)
        return value


def checksum(data: bytes) -> int:
    """Jenkins' lookup3 hash of `data` with seed 0, as HDF5 puts it behind metadata."""
    length = len(data)
    a = b = c = (0xDEADBEEF + length) & _MASK
    if not length:
        return c
    words: tuple[int, ...] = struct.unpack(f"<{(length + 11) // 12 * 3}I", data + b"\0" * (-length % 12))
    last = len(words) - 3
    for i in range(0, last, 3):
        a = (a + words[i]) & _MASK
        b = (b + words[i + 1]) & _MASK
        c = (c + words[i + 2]) & _MASK
        a = (a - c & _MASK) ^ (c << 4 & _MASK | c >> 28)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ (a << 6 & _MASK | a >> 26)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ (b << 8 & _MASK | b >> 24)
        b = b + a & _MASK
        a = (a - c & _MASK) ^ (c << 16 & _MASK | c >> 16)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ (a << 19 & _MASK | a >> 13)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ (b << 4 & _MASK | b >> 28)
        b = b + a & _MASK
    a = a + words[last] & _MASK
    b = b + words[last + 1] & _MASK
    c = c + words[last + 2] & _MASK
    c = (c ^ b) - (b << 14 & _MASK | b >> 18) & _MASK
    a = (a ^ c) - (c << 11 & _MASK | c >> 21) & _MASK
    b = (b ^ a) - (a << 25 & _MASK | a >> 7) & _MASK
    c = (c ^ b) - (b << 16 & _MASK | b >> 16) & _MASK
    a = (a ^ c) - (c << 4 & _MASK | c >> 28) & _MASK
    b = (b ^ a) - (a << 14 & _MASK | a >> 18) & _MASK
    return (c ^ b) - (b << 24 & _MASK | b >> 8) & _MASK
