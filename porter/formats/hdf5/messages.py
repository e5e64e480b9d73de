"""The messages of an object header that describe a dataset or an attribute: its space, type, layout, filters and fill value.

Source: HDF5 File Format Specification Version 3.0, IV.A.2.b (dataspace), d (datatype), e and f (fill value), h (external
files), i (layout), l (filters); datatype class 11 and layout version 5: HDF5 2.0 release notes and `H5Odtype.c`.
"""

from __future__ import annotations

import math

from porter.dataclass import dataclass
from porter.formats.hdf5.storage import Cursor

MAX_RANK = 32
_MAX_NESTING = 16

FIXED, FLOAT, TIME, STRING, BITFIELD, OPAQUE, COMPOUND, REFERENCE, ENUM, VARIABLE, ARRAY, COMPLEX = range(12)
CLASS_NAMES = (
    *("integer", "float", "time", "string", "bit field", "opaque"),
    *("compound", "reference", "enumeration", "variable length", "array", "complex"),
)


@dataclass(frozen=True, slots=True)
class Space:
    """A dataspace: the dimensions, or None for one without elements ("null")."""

    shape: tuple[int, ...] | None

    @property
    def elements(self) -> int:
        return 0 if self.shape is None else math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a compound type."""

    name: str
    offset: int
    type: Type


@dataclass(frozen=True, slots=True)
class Type:
    """A datatype.

    `size` is in bytes. `fields` holds, for integers and bit fields, bit offset, precision and whether signed; for
    floats, sign, exponent position, exponent bits, mantissa position, mantissa bits, bias and normalisation. `members`
    are those of a compound, `names` those of an enumeration with the bytes of their values, `base` the element's type
    of the classes that have one, `dims` an array's.
    """

    kind: int
    size: int
    big_endian: bool = False
    fields: tuple[int, ...] = ()
    members: tuple[Member, ...] = ()
    names: tuple[tuple[str, bytes], ...] = ()
    base: Type | None = None
    dims: tuple[int, ...] = ()
    tag: str = ""
    variable_string: bool = False
    utf8: bool = False

    def __str__(self) -> str:
        return CLASS_NAMES[self.kind] + (f" of {self.size} bytes" if self.kind in (FIXED, FLOAT, BITFIELD, OPAQUE) else "")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a dataset's bytes are.

    `kind` is "compact" (`data` at `address`), "contiguous", "chunked" or "virtual". `address` is None where nothing was
    written yet. `chunk` are a chunk's dimensions, without the element's size; `tree` whether the chunks are found by a
    version 1 B-tree.
    """

    kind: str
    address: int | None = None
    nbytes: int | None = None
    chunk: tuple[int, ...] = ()
    tree: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of a filter pipeline, by its registered number, with its parameters."""

    number: int
    name: str
    values: tuple[int, ...] = ()


def parse_space(cursor: Cursor) -> Space:
    """The dataspace message under the cursor."""
    version = cursor.version((1, 2))
    rank, flags = cursor.uint(1), cursor.uint(1)
    if rank > MAX_RANK:
        raise cursor.meta.broken(f"a dataspace has {rank} dimensions", cursor.address)
    if version == 1:
        cursor.take(5)
        null = False
    else:
        null = cursor.uint(1) == 2
    shape = tuple(cursor.length() for _ in range(rank))
    if flags & 1:
        cursor.take(rank * cursor.meta.length_size)
    if any(n >= 1 << 62 for n in shape):
        raise cursor.meta.broken("a dataspace has an impossible dimension", cursor.address)
    return Space(None if null else shape)


def parse_type(cursor: Cursor, depth: int = 0) -> Type:
    """The datatype message under the cursor, which is left behind it."""
    if depth > _MAX_NESTING:
        raise cursor.meta.broken("a datatype is nested too deeply", cursor.address)
    head, bits, size = cursor.uint(1), cursor.uint(3), cursor.uint(4)
    kind, version = head & 15, head >> 4
    if kind > COMPLEX or not 1 <= version <= 5 or (not size and kind != STRING):
        raise cursor.meta.broken(f"a datatype of class {kind}, version {version}, {size} bytes", cursor.address)
    if kind in (FIXED, BITFIELD):
        return Type(kind, size, bool(bits & 1), (cursor.uint(2), cursor.uint(2), bits >> 3 & 1))
    if kind == FLOAT:
        return _float(cursor, bits, size)
    if kind == TIME:
        cursor.take(2)
        return Type(kind, size)
    if kind == STRING:
        return Type(kind, size, utf8=bits >> 4 & 15 == 1)
    if kind == OPAQUE:
        tag = cursor.take(bits & 0xFF)
        cursor.align(cursor.at - len(tag), 8)
        return Type(kind, size, tag=_text(tag.partition(b"\0")[0]))
    if kind == COMPOUND:
        return _compound(cursor, bits & 0xFFFF, size, version, depth)
    if kind == REFERENCE:
        return Type(kind, size)
    if kind == ENUM:
        return _enum(cursor, bits & 0xFFFF, size, version, depth)
    if kind == VARIABLE:
        base = parse_type(cursor, depth + 1)
        return Type(kind, size, base=base, variable_string=bits & 15 == 1, utf8=bits >> 8 & 15 == 1)
    if kind == ARRAY:
        return _array(cursor, size, version, depth)
    return Type(kind, size, base=parse_type(cursor, depth + 1))


def _float(cursor: Cursor, bits: int, size: int) -> Type:
    offset, precision = cursor.uint(2), cursor.uint(2)
    exponent_at, exponent, mantissa_at, mantissa = (cursor.uint(1) for _ in range(4))
    bias = cursor.uint(4)
    normalisation = bits >> 4 & 3
    sign = bits >> 8 & 0xFF
    vax = bits >> 6 & 1  # byte order is two bits here: 0 little, 1 big, both VAX
    fields = (offset, precision, sign, exponent_at, exponent, mantissa_at, mantissa, bias, normalisation, vax)
    return Type(FLOAT, size, bool(bits & 1), fields)


def _compound(cursor: Cursor, count: int, size: int, version: int, depth: int) -> Type:
    members = []
    width = max(1, (size.bit_length() + 7) // 8)
    for _ in range(count):
        start = cursor.at
        name = _text(cursor.name())
        if version < 3:
            cursor.align(start, 8)
        offset = cursor.uint(4 if version < 3 else width)
        dims: tuple[int, ...] = ()
        if version == 1:
            rank = cursor.uint(1)
            cursor.take(11)
            dims = tuple(cursor.uint(4) for _ in range(4))[: min(rank, 4)]
        member = parse_type(cursor, depth + 1)
        if dims:
            member = Type(ARRAY, member.size * math.prod(dims), base=member, dims=dims)
        members.append(Member(name, offset, member))
    return Type(COMPOUND, size, members=tuple(members))


def _enum(cursor: Cursor, count: int, size: int, version: int, depth: int) -> Type:
    base = parse_type(cursor, depth + 1)
    names = []
    for _ in range(count):
        start = cursor.at
        names.append(_text(cursor.name()))
        if version < 3:
            cursor.align(start, 8)
    values = [cursor.take(base.size) for _ in range(count)]
    return Type(ENUM, size, base=base, names=tuple(zip(names, values, strict=True)))


def _array(cursor: Cursor, size: int, version: int, depth: int) -> Type:
    rank = cursor.uint(1)
    if version < 3:
        cursor.take(3)
    if rank > MAX_RANK:
        raise cursor.meta.broken(f"an array type has {rank} dimensions", cursor.address)
    dims = tuple(cursor.uint(4) for _ in range(rank))
    if version < 3:
        cursor.take(4 * rank)
    base = parse_type(cursor, depth + 1)
    if base.size * math.prod(dims) != size:
        raise cursor.meta.broken("an array type's size is not that of its elements", cursor.address)
    return Type(ARRAY, size, base=base, dims=dims)


def parse_layout(cursor: Cursor) -> Layout:
    """The data layout message under the cursor. `cursor.address` is that of the message, so that compact data is found."""
    version = cursor.version((1, 2, 3, 4, 5))
    if version < 3:
        return _old_layout(cursor)
    kind = cursor.uint(1)
    if kind == 0:
        nbytes = cursor.uint(2)
        return Layout("compact", cursor.address + cursor.at, len(cursor.take(nbytes)))
    if kind == 1:
        return Layout("contiguous", cursor.address_(), cursor.length())
    if kind == 3:
        return Layout("virtual")
    if kind != 2:
        raise cursor.meta.broken(f"a dataset has a layout of class {kind}", cursor.address)
    if version == 3:
        rank = cursor.uint(1)
        address = cursor.address_()
        return Layout("chunked", address, chunk=_chunk(cursor, rank, 4), tree=True)
    cursor.take(1)
    rank = cursor.uint(1)
    chunk = _chunk(cursor, rank, cursor.uint(1))
    return Layout("chunked", cursor.address, chunk=chunk)


def _old_layout(cursor: Cursor) -> Layout:
    rank, kind = cursor.uint(1), cursor.uint(1)
    cursor.take(5)
    address = cursor.address_() if kind else None
    chunk = _chunk(cursor, rank, 4) if kind == 2 else tuple(cursor.uint(4) for _ in range(rank))
    if kind == 0:
        nbytes = cursor.uint(4)
        return Layout("compact", cursor.address + cursor.at, len(cursor.take(nbytes)))
    if kind == 1:
        return Layout("contiguous", address)
    if kind != 2:
        raise cursor.meta.broken(f"a dataset has a layout of class {kind}", cursor.address)
    return Layout("chunked", address, chunk=chunk, tree=True)


def _chunk(cursor: Cursor, rank: int, width: int) -> tuple[int, ...]:
    """A chunk's dimensions; the last of those stored is the element's size."""
    if not 1 <= rank <= MAX_RANK + 1 or not 1 <= width <= 8:
        raise cursor.meta.broken(f"chunks of {rank - 1} dimensions", cursor.address)
    dims = tuple(cursor.uint(width) for _ in range(rank))
    if not all(dims):
        raise cursor.meta.broken("a chunk has an empty dimension", cursor.address)
    return dims[:-1]


def parse_filters(cursor: Cursor) -> tuple[Filter, ...]:
    """The filter pipeline message under the cursor."""
    version = cursor.version((1, 2))
    count = cursor.uint(1)
    if version == 1:
        cursor.take(6)
    filters = []
    for _ in range(count):
        number = cursor.uint(2)
        length = cursor.uint(2) if version == 1 or number >= 256 else 0
        cursor.take(2)
        count_values = cursor.uint(2)
        name = cursor.take((length + 7) // 8 * 8 if version == 1 else length)
        values = tuple(cursor.uint(4) for _ in range(count_values))
        if version == 1 and count_values & 1:
            cursor.take(4)
        filters.append(Filter(number, _text(name.partition(b"\0")[0]), values))
    return tuple(filters)


def parse_fill(cursor: Cursor) -> bytes | None:
    """The fill value in the file's own type, or None for the default of zeros."""
    version = cursor.version((1, 2, 3))
    if version == 3:
        defined = bool(cursor.uint(1) & 0x20)
    else:
        cursor.take(2)
        defined = bool(cursor.uint(1)) or version == 1
    if not defined or not cursor.left:
        return None
    return cursor.take(cursor.uint(4)) or None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
