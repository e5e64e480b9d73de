"""The B-trees of an HDF5 file: entries of old groups, chunks of old datasets, links and attributes of large groups.

Source: HDF5 File Format Specification Version 3.0, III.A.1 (version 1 B-trees), III.A.2 (version 2 B-trees), III.B (symbol
table nodes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from porter.formats.hdf5.storage import Cursor, Metadata

_MAX_LEVEL = 32


def group_nodes(meta: Metadata, address: int) -> Iterator[int]:
    """The addresses of the symbol table nodes of an old group, in the order of its names."""
    for _, child in _walk_v1(meta, address, 0, meta.length_size, set()):
        yield child


class Chunk(NamedTuple):
    """A chunk of a dataset: where it starts among the elements, its size and address in the file, and the filters left out."""

    start: tuple[int, ...]
    size: int
    mask: int
    address: int


def chunks(meta: Metadata, address: int, rank: int) -> Iterator[Chunk]:
    """The chunks of a dataset with `rank` dimensions, from its index."""
    layout = struct.Struct(f"<II{rank}Q8x")
    for key, child in _walk_v1(meta, address, 1, layout.size, set()):
        size, mask, *start = layout.unpack(key)
        yield Chunk(tuple(start), size, mask, child)


def _walk_v1(
    meta: Metadata, address: int, kind: int, key_size: int, seen: set[int], level: int | None = None
) -> Iterator[tuple[bytes, int]]:
    what = "a B-tree"
    if address in seen:
        raise meta.broken("a B-tree contains itself", address)
    seen.add(address)
    head = meta.cursor(address, 8 + 2 * meta.offset_size, what)
    head.expect(b"TREE")
    found, height, used = head.uint(1), head.uint(1), head.uint(2)
    if found != kind or height > _MAX_LEVEL or (level is not None and height != level):
        raise meta.broken(f"a B-tree node of type {found} and level {height} is out of place", address)
    start = address + 8 + 2 * meta.offset_size
    cursor = meta.cursor(start, used * (key_size + meta.offset_size), what)
    for _ in range(used):
        key, child = cursor.take(key_size), cursor.address_()
        if child is None:
            raise meta.broken("a B-tree node has an undefined child", address)
        if height:
            yield from _walk_v1(meta, child, kind, key_size, seen, height - 1)
        else:
            yield key, child


def records(meta: Metadata, address: int, kind: int) -> Iterator[Cursor]:
    """The records of the version 2 B-tree at `address`, in order; their type must be `kind`."""
    cursor = meta.checked(address, 22 + meta.offset_size + meta.length_size, "a B-tree")
    cursor.expect(b"BTHD", (0,))
    found, node_size, record_size, depth = cursor.uint(1), cursor.uint(4), cursor.uint(2), cursor.uint(2)
    cursor.take(2)
    root, count = cursor.address_(), cursor.uint(2)
    if found != kind or not record_size or depth > _MAX_LEVEL or node_size < 10 + record_size:
        raise meta.broken(f"a B-tree of type {found} is out of place", address)
    if root is not None and count:
        yield from _walk_v2(meta, _Shape(meta, kind, node_size, record_size, depth), root, count, depth, set())


class _Shape:
    """Sizes of the fields of a version 2 B-tree, which follow from those of its nodes and records."""

    def __init__(self, meta: Metadata, kind: int, node_size: int, record_size: int, depth: int) -> None:
        self.kind = kind
        self.record_size = record_size
        most = (node_size - 10) // record_size
        self.count_bytes = (most.bit_length() - 1) // 8 + 1
        self.total_bytes = [0]
        total = most
        for level in range(1, depth + 1):
            pointer = self.pointer(meta, level)
            room = (node_size - 10 - pointer) // (record_size + pointer)
            if room < 1:
                raise meta.broken("the nodes of a B-tree are too small for its records")
            total = min((room + 1) * total + room, (1 << 64) - 1)
            self.total_bytes.append((total.bit_length() - 1) // 8 + 1)

    def pointer(self, meta: Metadata, level: int) -> int:
        """Bytes of a child's address and counts in a node `level` above the leaves."""
        return meta.offset_size + self.count_bytes + (self.total_bytes[level - 1] if level > 1 else 0)


def _walk_v2(meta: Metadata, shape: _Shape, address: int, count: int, level: int, seen: set[int]) -> Iterator[Cursor]:
    if address in seen:
        raise meta.broken("a B-tree contains itself", address)
    seen.add(address)
    pointer = shape.pointer(meta, level) if level else 0
    size = 10 + count * shape.record_size + (count + 1) * pointer
    cursor = meta.checked(address, size, "a B-tree node")
    cursor.expect(b"BTIN" if level else b"BTLF", (0,))
    if cursor.uint(1) != shape.kind:
        raise meta.broken("a B-tree node of another type is out of place", address)
    own = [Cursor(cursor.take(shape.record_size), "a record of a B-tree", meta, address) for _ in range(count)]
    if not level:
        yield from own
        return
    for i in range(count + 1):
        child, below = cursor.address_(), cursor.uint(shape.count_bytes)
        if level > 1:
            cursor.take(shape.total_bytes[level - 1])
        if child is None:
            raise meta.broken("a B-tree node has an undefined child", address)
        yield from _walk_v2(meta, shape, child, below, level - 1, seen)
        if i < count:
            yield own[i]
