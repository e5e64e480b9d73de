"""The heaps of an HDF5 file: names of old groups, strings of attributes, links and attributes of large groups.

Source: HDF5 File Format Specification Version 3.0, III.D (local heap), III.E (global heap), III.G (fractal heap).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from porter.formats.hdf5.storage import Cursor, Metadata, checksum
from porter.formats.hdf5.trees import records


class LocalHeap:
    """The names of one group, found by their offsets."""

    def __init__(self, meta: Metadata, address: int) -> None:
        cursor = meta.cursor(address, 8 + 2 * meta.length_size + meta.offset_size, "a local heap")
        cursor.expect(b"HEAP", (0,))
        cursor.take(3)
        size = cursor.length()
        cursor.length()
        data = cursor.address_()
        if data is None:
            raise meta.broken("a local heap has no data", address)
        self._meta = meta
        self._address = address
        self._data = meta.read(data, size, "the names of a group")

    def name(self, offset: int) -> bytes:
        """The name at `offset`."""
        end = self._data.find(b"\0", offset)
        if end < 0 or offset >= len(self._data):
            raise self._meta.broken(f"a name at {offset} lies outside its heap", self._address)
        self._meta.charge(end - offset, "the names of a group")  # any number of entries may name the same bytes
        return self._data[offset:end]


class GlobalHeap:
    """Objects of variable length, by collection and index. Collections are parsed once."""

    def __init__(self, meta: Metadata) -> None:
        self._meta = meta
        self._collections: dict[int, dict[int, bytes]] = {}

    def object(self, address: int, index: int) -> bytes:
        """The object `index` of the collection at `address`."""
        if address not in self._collections:
            self._collections[address] = dict(self._parse(address))
        data = self._collections[address].get(index)
        if data is None:
            raise self._meta.broken(f"the global heap has no object {index}", address)
        self._meta.charge(len(data), "a string of variable length")
        return data

    def _parse(self, address: int) -> Iterator[tuple[int, bytes]]:
        meta = self._meta
        head = meta.cursor(address, 8 + meta.length_size, "a global heap")
        head.expect(b"GCOL", (1,))
        head.take(3)
        size = head.length()
        if size < 8 + meta.length_size:
            raise meta.broken(f"a global heap claims {size} bytes", address)
        cursor = meta.cursor(address, size, "a global heap")
        cursor.take(8 + meta.length_size)
        while cursor.left >= 8 + meta.length_size:
            index = cursor.uint(2)
            cursor.take(6)
            length = cursor.length()
            if index == 0:
                return
            start = cursor.at
            yield index, cursor.take(length)
            cursor.align(start, 8)


class FractalHeap:
    """Objects found by heap IDs: the links and attributes of objects that have many."""

    def __init__(self, meta: Metadata, address: int) -> None:
        self._meta, self._address = meta, address
        cursor = meta.cursor(address, 9, "a fractal heap")
        cursor.expect(b"FRHP", (0,))
        self.id_length = cursor.uint(2)
        if cursor.uint(2):
            raise meta.broken("a group is compressed, which no writer of weights does", address)
        cursor = meta.checked(address, 26 + 12 * meta.length_size + 3 * meta.offset_size, "a fractal heap")
        cursor.take(9)
        self._checksums = bool(cursor.uint(1) & 2)
        largest = cursor.uint(4)
        cursor.length()
        self._huge_tree = cursor.address_()
        cursor.take(9 * meta.length_size + meta.offset_size)
        self._width, self._start, self._max_direct = cursor.uint(2), cursor.length(), cursor.length()
        bits = cursor.uint(2)
        cursor.uint(2)
        root, rows = cursor.address_(), cursor.uint(2)
        if not (
            _power_of_two(self._width, self._start, self._max_direct) and self._start <= self._max_direct and 0 < bits <= 64 and largest
        ):
            raise meta.broken("a fractal heap has an impossible geometry", address)
        self._offset_bytes = (bits + 7) // 8
        self._length_bytes = min((_log2(self._max_direct) + 7) // 8, _log2(largest) // 8 + 1)
        self._blocks: list[tuple[int, int, int]] = []
        self._verified: set[int] = set()
        self._huge: dict[int, tuple[int, int]] | None = None
        if root is not None and rows:
            self._walk(root, 0, rows, set())
        elif root is not None:
            self._blocks.append((0, self._start, root))

    def object(self, identity: bytes) -> Cursor:
        """The object with this heap ID."""
        kind = identity[0] >> 4
        cursor = Cursor(identity[1:], "a heap ID", self._meta, self._address)
        if kind == 0:
            offset = cursor.uint(self._offset_bytes)
            return self._managed(offset, cursor.uint(self._length_bytes))
        if kind == 1 and self.id_length - 1 < self._meta.offset_size + self._meta.length_size:
            address, length = self._find_huge(cursor.uint(min(self.id_length - 1, 8)))
            return self._meta.cursor(address, length, "a large object of a heap")
        if kind == 2 and self.id_length <= 17:
            return Cursor(cursor.take((identity[0] & 15) + 1), "a small object of a heap", self._meta, self._address)
        raise self._meta.broken(f"a heap ID of kind {kind}", self._address)

    def _managed(self, offset: int, length: int) -> Cursor:
        place = bisect.bisect_right(self._blocks, offset, key=lambda block: block[0]) - 1
        start, size, address = self._blocks[place] if place >= 0 else (0, 0, 0)
        if start <= offset and offset + length <= start + size:
            self._verify(address, size)
            return self._meta.cursor(address + offset - start, length, "an object of a heap")
        raise self._meta.broken(f"a heap ID points outside its heap, to {offset}", self._address)

    def _verify(self, address: int, size: int) -> None:
        """Check a direct block's signature and checksum, once."""
        if address in self._verified:
            return
        self._verified.add(address)
        data = self._meta.read(address, size, "a block of a fractal heap")
        cursor = Cursor(data, "a block of a fractal heap", self._meta, address)
        cursor.expect(b"FHDB", (0,))
        cursor.take(self._meta.offset_size + self._offset_bytes)
        if self._checksums:
            at = cursor.at
            if checksum(data[:at] + b"\0\0\0\0" + data[at + 4 :]) != cursor.uint(4):
                raise self._meta.broken("the checksum of a block of a fractal heap does not match", address)

    def _walk(self, address: int, offset: int, rows: int, seen: set[int]) -> None:
        """Note the direct blocks below the indirect block at `address`, which starts at `offset` of the heap, in their order."""
        if address in seen or rows > 64:
            raise self._meta.broken("a fractal heap contains itself", address)
        seen.add(address)
        meta = self._meta
        entries = rows * self._width
        size = 9 + meta.offset_size + self._offset_bytes + entries * meta.offset_size
        cursor = meta.checked(address, size, "an indirect block of a fractal heap")
        cursor.expect(b"FHIB", (0,))
        cursor.take(meta.offset_size + self._offset_bytes)
        direct_rows = _log2(self._max_direct) - _log2(self._start) + 2
        for row in range(rows):
            block = self._start << max(row - 1, 0)
            for _ in range(self._width):
                child = cursor.address_()
                if child is not None and row < direct_rows:
                    self._blocks.append((offset, block, child))
                elif child is not None:
                    self._walk(child, offset, _log2(block) - _log2(self._start * self._width) + 1, seen)
                offset += block

    def _find_huge(self, number: int) -> tuple[int, int]:
        """Address and length of the huge object `number`. Source: III.A.2, version 2 B-tree record type 1."""
        if self._huge is None:
            self._huge = {}
            if self._huge_tree is not None:
                for record in records(self._meta, self._huge_tree, 1):
                    address, length = record.address_(), record.length()
                    if address is not None:
                        self._huge[record.length()] = (address, length)
        if number not in self._huge:
            raise self._meta.broken(f"a fractal heap has no huge object {number}", self._address)
        return self._huge[number]


def _power_of_two(*values: int) -> bool:
    return all(v > 0 and v & (v - 1) == 0 for v in values)


def _log2(value: int) -> int:
    return value.bit_length() - 1
