"""The objects of an HDF5 file, read without the HDF5 library: groups with their links, datasets, attributes.

porter reads the index of a file itself, for three reasons: libhdf5 trusts what it reads (hostile files make it hang or
take memory), its import costs more time than listing a model's weights may take, and a weight's bytes are wanted as a
range of the file. The library still decompresses data and writes files, and is the oracle that tests hold this against.

Everything is checked: each structure lies inside the file, carries its signature and version, and where it has a
checksum, that too. What no writer of weights uses (shared message tables, split files) is refused by name.

Source: HDF5 File Format Specification Version 3.0 (The HDF Group), II (superblock), III.B (symbol tables), III.C,
IV.A (object headers), IV.A.2 (messages).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError
from porter.formats.hdf5 import trees
from porter.formats.hdf5.attributes import Attribute
from porter.formats.hdf5.heaps import FractalHeap, GlobalHeap, LocalHeap
from porter.formats.hdf5.messages import (
    STRING,
    VARIABLE,
    Filter,
    Layout,
    Space,
    Type,
    parse_fill,
    parse_filters,
    parse_layout,
    parse_space,
    parse_type,
)
from porter.formats.hdf5.storage import Cursor, Metadata, Window

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SPACE, _LINK_INFO, _TYPE, _OLD_FILL, _FILL, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE = 1, 2, 3, 4, 5, 6, 7, 8, 11, 12
_CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 16, 17, 21
_MAX_MESSAGES = 1 << 16
_OLDER, _NEWER, _NEWER_ORDERED = struct.Struct("<HHB3x"), struct.Struct("<BHB"), struct.Struct("<BHB2x")


class Link(NamedTuple):
    """An entry of a group: a hard link to the object at `address`; for any other kind `address` is None and `kind` says what."""

    name: str
    address: int | None
    kind: str = "hard"
    target: str = ""
    created: int | None = None


class Message(NamedTuple):
    """One message of an object header: its type, flags, body, and where the body lies."""

    type: int
    flags: int
    body: bytes
    address: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a dataset is, without its values."""

    address: int
    space: Space
    type: Type
    layout: Layout
    filters: tuple[Filter, ...]
    fill: bytes | None


class Header:
    """An object's header: its messages in order."""

    __slots__ = ("address", "messages")

    def __init__(self, address: int, messages: list[Message]) -> None:
        self.address = address
        self.messages = messages

    def find(self, kind: int) -> Message | None:
        """The first message of type `kind`."""
        for message in self.messages:
            if message.type == kind:
                return message
        return None

    @property
    def is_dataset(self) -> bool:
        return self.find(_LAYOUT) is not None

    @property
    def is_group(self) -> bool:
        return self.find(_SYMBOL_TABLE) is not None or self.find(_LINK_INFO) is not None or self.find(_LINK) is not None


class Hdf5File:
    """An HDF5 file's index. Reading one reads the superblock; objects are read as they are asked for.

    `root` is the root group's header. `writing` tells that the file's writer did not close it.

    Raises:
        FormatError: the file is truncated or broken.
    """

    def __init__(self, window: Window) -> None:
        self.user_block = _find_signature(window)
        self.meta = Metadata(window.inner(self.user_block))
        self.writing = False
        self._headers: dict[int, Header] = {}
        self._links: dict[int, list[Link]] = {}
        self._types: dict[bytes, Type] = {}
        self._strings = GlobalHeap(self.meta)
        self.root = self.header(self._superblock())

    @property
    def window(self) -> Window:
        """The part of the file that addresses count in."""
        return self.meta.window

    def header(self, address: int) -> Header:
        """The header of the object at `address`."""
        header = self._headers.get(address)
        if header is None:
            header = self._headers[address] = Header(address, list(self._messages(address)))
        else:
            self.meta.charge(16, "the file")
        return header

    def links(self, group: Header) -> list[Link]:
        """The entries of a group, in the order they were made where the file knows it, else by name. Read once."""
        links = self._links.get(group.address)
        if links is None:
            links = self._links[group.address] = self._read_links(group)
        else:
            self.meta.charge(16, "the file")
        return links

    def _read_links(self, group: Header) -> list[Link]:
        links: list[Link] = []
        for message in group.messages:
            if message.type == _SYMBOL_TABLE:
                links.extend(self._old_links(self._cursor(message, "a symbol table message")))
            elif message.type == _LINK:
                links.append(self._link(self._cursor(message, "a link message")))
            elif message.type == _LINK_INFO:
                links.extend(self._dense_links(self._cursor(message, "a link info message")))
        if len({link.name for link in links}) != len(links):
            raise self.meta.broken("a group has two entries of one name", group.address)
        if links and all(link.created is not None for link in links):
            return sorted(links, key=lambda link: (link.created, link.name))
        return sorted(links, key=lambda link: link.name)

    def dataset(self, header: Header) -> Dataset:
        """What the dataset with this header is.

        Raises:
            UnsafeFileError: its data lies outside this file.
        """
        space, kind, layout = (self._need(header, m, w) for m, w in ((_SPACE, "dataspace"), (_TYPE, "datatype"), (_LAYOUT, "layout")))
        if header.find(_EXTERNAL) is not None:
            raise UnsafeFileError("S501", "a dataset keeps its data in other files", path=self.window.path, hint=_REPACK)
        filters, fill = header.find(_FILTERS), header.find(_FILL)
        parsed = parse_layout(layout)
        if parsed.kind == "virtual":
            raise UnsafeFileError("S501", "a virtual dataset takes its data from other files", path=self.window.path, hint=_REPACK)
        value = parse_fill(self._cursor(fill, "a fill value")) if fill is not None else self._old_fill(header)
        steps = parse_filters(self._cursor(filters, "a filter pipeline")) if filters is not None else ()
        return Dataset(header.address, parse_space(space), self._type(kind), parsed, steps, value)

    def _type(self, cursor: Cursor) -> Type:
        """The datatype under the cursor; most datasets of a file have the same."""
        kind = self._types.get(cursor.data)
        if kind is None:
            kind = self._types[cursor.data] = parse_type(cursor)
        return kind

    def attributes(self, header: Header) -> dict[str, Attribute]:
        """The attributes of an object by name, their values not decoded yet."""
        found: dict[str, Attribute] = {}
        for message in header.messages:
            if message.type == _ATTRIBUTE:
                attribute = self._attribute(self._cursor(message, "an attribute"))
                found[attribute.name] = attribute
            elif message.type == _ATTRIBUTE_INFO:
                found.update((a.name, a) for a in self._dense_attributes(self._cursor(message, "an attribute info message")))
        return found

    def text(self, data: bytes, kind: Type) -> bytes:
        """The bytes of one string element, of fixed or variable length."""
        if kind.kind == STRING:
            return data.partition(b"\0")[0]
        if kind.kind == VARIABLE and kind.variable_string:
            cursor = Cursor(data, "a string", self.meta, 0)
            length, address, index = cursor.uint(4), cursor.address_(), cursor.uint(4)
            if not length or not address:
                return b""
            value = self._strings.object(address, index)
            if length > len(value):
                raise self.meta.broken("a string is longer than its place in the global heap", address)
            return value[:length].partition(b"\0")[0]
        raise self.meta.broken(f"a string was expected, found {kind}")

    def broken(self, message: str) -> FormatError:
        """A `FormatError` for something that no HDF5 library writes."""
        return self.meta.broken(message)

    def _superblock(self) -> int:
        """Parse the superblock; the root group's address."""
        meta = self.meta
        version = meta.read(8, 1, "the superblock")[0]
        if version in (0, 1):
            return self._old_superblock(version)
        if version not in (2, 3):
            raise meta.broken(f"the superblock has version {version}; known are 0 to 3", 8)
        meta.offset_size, meta.length_size = meta.read(9, 2, "the superblock")
        self._check_sizes()
        cursor = meta.checked(0, 16 + 4 * meta.offset_size, "the superblock")
        cursor.take(11)
        self.writing = bool(cursor.uint(1) & 1)
        self._check_base(cursor.address_())
        cursor.address_()
        self._check_end(cursor.address_())
        root = cursor.address_()
        if root is None:
            raise meta.broken("the file has no root group", 0)
        return root

    def _old_superblock(self, version: int) -> int:
        meta = self.meta
        meta.offset_size, meta.length_size = meta.read(13, 2, "the superblock")
        self._check_sizes()
        start = 24 if version == 0 else 28
        cursor = meta.cursor(start, 4 * meta.offset_size + 2 * meta.offset_size, "the superblock")
        base, _, end = cursor.address_(), cursor.address_(), cursor.address_()
        self._check_base(base)
        self._check_end(end)
        driver = cursor.address_()
        if driver is not None:
            raise meta.broken("the file is one part of several (split or family driver)", 0)
        cursor.take(meta.offset_size)
        root = cursor.address_()
        if root is None:
            raise meta.broken("the file has no root group", 0)
        return root

    def _check_sizes(self) -> None:
        if self.meta.offset_size not in (2, 4, 8) or self.meta.length_size not in (2, 4, 8):
            raise self.meta.broken("the superblock claims impossible sizes of addresses", 13)

    def _check_base(self, base: int | None) -> None:
        """Addresses count from the superblock. A user block put in front afterwards leaves a base of 0, which means the same."""
        if base not in (0, self.user_block):
            raise self.meta.broken(f"the superblock says that the file starts at {base}, and lies at {self.user_block} itself", 0)

    def _check_end(self, end: int | None) -> None:
        """The file is as long as its superblock says; the number may count the user block, or not."""
        window = self.meta.window
        if end is not None and end > window.size:
            window.check(0, end - self.user_block, "the file, by its superblock,")

    def _messages(self, address: int) -> Iterator[Message]:
        meta = self.meta
        newer = meta.read(address, 4, "an object header") == b"OHDR"
        blocks, count = (self._newer_prefix(address) if newer else self._older_prefix(address)), 0
        seen = {address}
        for cursor, prefix in blocks:
            while cursor.left >= prefix.size:
                kind, length, flags = prefix.unpack_from(cursor.data, cursor.at)
                cursor.at += prefix.size
                if newer and not kind and cursor.left < length:
                    break
                at = cursor.address + cursor.at
                body = cursor.take(length)
                count += 1
                if count > _MAX_MESSAGES:
                    raise meta.broken("an object header has too many messages", address)
                if kind == _CONTINUATION:
                    block = Cursor(body, "a continuation", meta, at)
                    start, nbytes = block.address_(), block.length()
                    if start is None or start in seen:
                        raise meta.broken("an object header continues in itself", at)
                    seen.add(start)
                    blocks.append((self._continuation(start, nbytes, newer), prefix))
                elif kind:
                    yield Message(kind, flags, body, at)

    def _older_prefix(self, address: int) -> list[tuple[Cursor, struct.Struct]]:
        head = self.meta.cursor(address, 12, "an object header")
        head.version((1,))
        head.take(7)
        size = head.uint(4)
        return [(self.meta.cursor(address + 16, size, "an object header"), _OLDER)]

    def _newer_prefix(self, address: int) -> list[tuple[Cursor, struct.Struct]]:
        head = self.meta.cursor(address, 6, "an object header")
        head.expect(b"OHDR", (2,))
        flags = head.uint(1)
        start = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(self.meta.read(address + start, width, "an object header"), "little")
        cursor = self.meta.checked(address, start + width + size + 4, "an object header")
        cursor.take(start + width)
        return [(cursor, _NEWER_ORDERED if flags & 4 else _NEWER)]

    def _continuation(self, start: int, nbytes: int, newer: bool) -> Cursor:
        if not newer:
            return self.meta.cursor(start, nbytes, "a continued object header")
        cursor = self.meta.checked(start, nbytes, "a continued object header")
        cursor.expect(b"OCHK")
        return cursor

    def _cursor(self, message: Message, what: str) -> Cursor:
        """The body of `message`, or that of the committed object that it stands for."""
        if not message.flags & 2:
            return Cursor(message.body, what, self.meta, message.address)
        return self._shared(Cursor(message.body, what, self.meta, message.address), message.type, what)

    def _shared(self, cursor: Cursor, kind: int, what: str) -> Cursor:
        """The message of type `kind` that a shared message stands for. Source: IV.A.1 "Shared message"."""
        version = cursor.version((1, 2, 3))
        where = cursor.uint(1)
        if version == 1:
            cursor.take(6)
        if version == 3 and where == 1:
            raise FormatError(
                "F502", "the file keeps messages in a shared table, which porter does not read", path=self.window.path, hint=_REPACK
            )
        address = cursor.address_()
        if address is None:
            raise self.meta.broken(f"{what} is shared with nothing", cursor.address)
        message = self.header(address).find(kind)
        if message is None or message.flags & 2:
            raise self.meta.broken(f"{what} is shared with an object that has none", address)
        return Cursor(message.body, what, self.meta, message.address)

    def _need(self, header: Header, kind: int, what: str) -> Cursor:
        message = header.find(kind)
        if message is None:
            raise self.meta.broken(f"a dataset has no {what}", header.address)
        return self._cursor(message, f"a {what} message")

    def _old_fill(self, header: Header) -> bytes | None:
        message = header.find(_OLD_FILL)
        if message is None:
            return None
        cursor = self._cursor(message, "a fill value")
        return cursor.take(cursor.uint(4)) or None

    def _old_links(self, cursor: Cursor) -> Iterator[Link]:
        meta = self.meta
        tree, names = cursor.address_(), cursor.address_()
        if tree is None or names is None:
            return
        heap = LocalHeap(meta, names)
        width = 2 * meta.offset_size + 24
        for node in trees.group_nodes(meta, tree):
            head = meta.cursor(node, 8, "a symbol table node")
            head.expect(b"SNOD", (1,))
            head.take(1)
            count = head.uint(2)
            entries = meta.cursor(node + 8, count * width, "a symbol table node")
            for _ in range(count):
                name = entries.uint(meta.offset_size)
                address, cache = entries.address_(), entries.uint(4)
                entries.take(4)
                scratch = entries.take(16)
                if cache == 2:
                    target = heap.name(int.from_bytes(scratch[:4], "little"))
                    yield Link(link_name(heap.name(name)), None, "soft", link_name(target))
                elif address is None:
                    raise meta.broken("an entry of a group points nowhere", node)
                else:
                    yield Link(link_name(heap.name(name)), address)

    def _link(self, cursor: Cursor) -> Link:
        cursor.version((1,))
        flags = cursor.uint(1)
        kind = cursor.uint(1) if flags & 8 else 0
        created = cursor.uint(8) if flags & 4 else None
        if flags & 16:
            cursor.uint(1)
        name = link_name(cursor.take(cursor.uint(1 << (flags & 3))))
        if kind == 0:
            address = cursor.address_()
            if address is None:
                raise self.meta.broken("a link points nowhere", cursor.address)
            return Link(name, address, created=created)
        target = link_name(cursor.take(cursor.uint(2)).strip(b"\0").replace(b"\0", b":"))
        return Link(name, None, {1: "soft", 64: "external"}.get(kind, f"user-defined ({kind})"), target, created)

    def _dense_links(self, cursor: Cursor) -> Iterator[Link]:
        cursor.version((0,))
        if cursor.uint(1) & 1:
            cursor.take(8)
        heap, tree = cursor.address_(), cursor.address_()
        if heap is None or tree is None:
            return
        objects = FractalHeap(self.meta, heap)
        for record in trees.records(self.meta, tree, 5):
            record.take(4)
            yield self._link(objects.object(record.take(objects.id_length)))

    def _dense_attributes(self, cursor: Cursor) -> Iterator[Attribute]:
        cursor.version((0,))
        if cursor.uint(1) & 1:
            cursor.take(2)
        heap, tree = cursor.address_(), cursor.address_()
        if heap is None or tree is None:
            return
        objects = FractalHeap(self.meta, heap)
        for record in trees.records(self.meta, tree, 8):
            body = objects.object(record.take(objects.id_length))
            if record.uint(1) & 2:
                body = self._shared(body, _ATTRIBUTE, "an attribute")
            yield self._attribute(body)

    def _attribute(self, cursor: Cursor) -> Attribute:
        version = cursor.version((1, 2, 3))
        flags = cursor.uint(1)
        sizes = cursor.uint(2), cursor.uint(2), cursor.uint(2)
        if version == 3:
            cursor.take(1)
        parts = []
        for size in sizes:
            start = cursor.at
            parts.append(cursor.take(size))
            if version == 1:
                cursor.align(start, 8)
        what = "an attribute"
        kind, space = (Cursor(p, what, self.meta, cursor.address) for p in parts[1:])
        if version > 1 and flags & 1:
            kind = self._shared(kind, _TYPE, what)
        if version > 1 and flags & 2:
            space = self._shared(space, _SPACE, what)
        name = link_name(parts[0].partition(b"\0")[0])
        return Attribute(name, parse_type(kind), parse_space(space), cursor.take(cursor.left), self)


def link_name(data: bytes) -> str:
    """A name out of the file; bytes that are not UTF-8 become lone surrogates, so that no two names become one."""
    return data.decode("utf-8", "surrogateescape")


_REPACK = "if you trust the file, copy it into one self-contained file first (h5repack, or h5py)"


def _find_signature(window: Window) -> int:
    """The offset of the superblock: 0, 512, 1,024, and so on. Source: II, "Superblock"."""
    at = 0
    while at + 8 <= window.size:
        if window.read(at, 8, "the signature") == SIGNATURE:
            return at
        at = max(512, 2 * at)
    raise FormatError("F503", "no HDF5 signature", path=window.path, offset=window.start)
