"""Zip archives, against `zipfile` and damaged by hand."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.io.source import FileSource
from porter.io.zip_archive import ZipArchive
from porter.io.zip_directory import read_directory


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"", *, zip64: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as member:
                member.write(data)
        archive.comment = comment
    return out.getvalue()


def opened(tmp_path: Path, data: bytes) -> ZipArchive:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    return ZipArchive(FileSource(path))


MEMBERS = {"a.txt": b"hello", "folder/b.bin": bytes(range(256)) * 40, "empty": b"", "größe.重み": b"\0\0"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("comment", [b"", b"a comment", b"PK\x05\x06 in a comment that is long enough to look like a record" * 9])
@pytest.mark.parametrize(
    "around", [(b"", b""), (b"#!/bin/sh\n", b""), (b"", b"\n"), (b"x" * 99, b"y" * 99)], ids=["alone", "prefix", "suffix", "both"]
)
def test_as_zipfile_reads_it(tmp_path: Path, method: int, comment: bytes, around: tuple[bytes, bytes]) -> None:
    data = packed(MEMBERS, method, comment)
    if comment.startswith(b"PK"):
        # A record within the comment is taken for the end record by zipfile too, and is refused by both.
        with pytest.raises(PorterError):
            opened(tmp_path, data)
        return
    archive = opened(tmp_path, around[0] + data + around[1])
    assert {name: archive.read(name) for name in archive.entries} == MEMBERS
    assert list(archive.entries) == list(MEMBERS)


def test_folders_are_no_members(tmp_path: Path) -> None:
    assert list(opened(tmp_path, packed({"folder/": b"", "folder/a": b"1"})).entries) == ["folder/a"]


def test_no_members(tmp_path: Path) -> None:
    assert opened(tmp_path, packed({})).entries == {}


def test_members_forced_to_zip64(tmp_path: Path) -> None:
    archive = opened(tmp_path, packed(MEMBERS, zip64=True))
    assert {name: archive.read(name) for name in archive.entries} == MEMBERS


def test_golden(tmp_path: Path) -> None:
    """One stored member `a` = `hi`, byte by byte, its entry and its end record with 64-bit numbers."""
    local = b"PK\3\4" + struct.pack("<5H3L2H", 45, 0, 0, 0, 33, 0xD8932AAC, 2, 2, 1, 0) + b"a" + b"hi"
    extra = struct.pack("<2H3Q", 1, 24, 2, 2, 0)
    entry = (
        b"PK\1\2"
        + struct.pack("<6H3L5H2L", 45, 45, 0, 0, 0, 33, 0xD8932AAC, 2**32 - 1, 2**32 - 1, 1, 28, 0, 0, 0, 0, 2**32 - 1)
        + b"a"
        + extra
    )
    end64 = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, len(entry), len(local))
    locator = b"PK\6\7" + struct.pack("<LQL", 0, len(local + entry), 1)
    end = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    data = local + entry + end64 + locator + end
    assert opened(tmp_path, data).read("a") == b"hi"
    assert opened(tmp_path, b"prefix" + data).read("a") == b"hi"
    with zipfile.ZipFile(io.BytesIO(data)) as oracle:
        assert oracle.read("a") == b"hi"
    for damaged in (
        data.replace(b"PK\6\6", b"PK\0\0"),
        data.replace(extra, struct.pack("<2H3Q", 2, 24, 2, 2, 0)),
        data.replace(extra, struct.pack("<2H3Q", 1, 8, 2, 2, 0)),
        data.replace(extra, struct.pack("<2H3Q", 1, 24, 2, 2, 1)),
        data.replace(extra, struct.pack("<2H3Q", 1, 24, 2**63, 2**63, 0)),
        data.replace(end64, end64[:40] + struct.pack("<2Q", 2**60, 0)),
        data.replace(end64, end64[:-8] + struct.pack("<Q", 2**60)),
    ):
        with pytest.raises(PorterError):
            opened(tmp_path, damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:-30], "no directory at its end"),
        (lambda d: b"", "no directory at its end"),
        (lambda d: d.replace(b"PK\1\2", b"PK\0\0"), "an entry of the directory"),
        (lambda d: d[:-12] + b"\x09\0" + d[-10:], "entries, its end record says"),
        (lambda d: d.replace(b"PK\3\4", b"PK\0\0", 1), "no header where the directory says"),
        (lambda d: d[:-6] + b"\xff\xff\xff\x7f" + d[-2:], "does not lie where its end record says"),
        (lambda d: d[:-18] + b"\x01\0" + d[-16:], "one of several parts"),
    ],
)
def test_broken(tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(FormatError, match=message) as error:
        opened(tmp_path, change(packed(MEMBERS)))  # type: ignore[operator]
    assert error.value.code == "F010"
    assert error.value.where.path == str(tmp_path / "x.zip")


def entry_at(data: bytes, name: bytes) -> int:
    return data.rindex(b"PK\1\2", 0, data.rindex(name))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, b"\1\0", "encrypted"),
        (10, b"\x0e\0", "compression method 14"),
        (24, b"\3\0\0\0", "two sizes"),
        (42, b"\xff\xff\xff\x0f", "header"),
    ],
)
def test_an_entry_that_lies(tmp_path: Path, offset: int, value: bytes, message: str) -> None:
    data = bytearray(packed(MEMBERS))
    at = entry_at(bytes(data), b"a.txt") + offset
    data[at : at + len(value)] = value
    with pytest.raises(FormatError, match=message):
        opened(tmp_path, bytes(data))


def test_names_are_checked(tmp_path: Path) -> None:
    data = packed({"abc": b"1"})
    with pytest.raises(FormatError, match="zero byte"):
        opened(tmp_path, data.replace(b"abc", b"a\0c"))
    unicode = packed({"aé": b"1"})
    with pytest.raises(FormatError, match="UTF-8"):
        opened(tmp_path, unicode.replace("é".encode(), b"\xff\xfe"))
    assert list(opened(tmp_path, data.replace(b"abc", b"a\x81c")).entries) == ["aüc"], "code page 437 without the flag"


def test_twice(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'ab' is there twice"):
        opened(tmp_path, packed({"ab": b"1", "ax": b"2"}).replace(b"ax", b"ab"))


def test_overlaps(tmp_path: Path) -> None:
    data = bytearray(packed({"a": b"1" * 50, "b": b"2" * 50}))
    at = entry_at(bytes(data), b"b") + 42
    data[at : at + 4] = b"\0\0\0\0"
    with pytest.raises(UnsafeFileError, match="overlap"):
        opened(tmp_path, bytes(data))


def test_bomb(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFileError, match="expands"):
        opened(tmp_path, packed({"a": b"\0" * (65 << 20)}, zipfile.ZIP_DEFLATED))


def test_damaged_data_is_found_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(packed({"a": b"abcdefgh" * 50}, zipfile.ZIP_DEFLATED))
    data[31] ^= 0x10  # the first byte of the compressed data, behind 30 bytes of header and the name
    data[36] ^= 0x10
    with pytest.raises(FormatError, match=r"zip member 'a': "):
        opened(tmp_path, bytes(data)).read("a")
    data = bytearray(packed({"a": b"abcdefgh"}, zipfile.ZIP_DEFLATED))
    data[entry_at(bytes(data), b"a") + 16] ^= 1
    with pytest.raises(FormatError, match="CRC-32"):
        opened(tmp_path, bytes(data)).read("a")


def test_every_truncation(tmp_path: Path) -> None:
    data = packed(MEMBERS | {"folder/b.bin": b"123"}, zipfile.ZIP_DEFLATED)
    for n in range(len(data)):
        with pytest.raises(PorterError):
            opened(tmp_path, data[:n])


@given(st.data())
def test_changed_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(packed({"a": b"123", "b/c": b"4" * 100}, zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.zip"
    path.write_bytes(whole)
    try:
        archive = ZipArchive(FileSource(path))
        for name in archive.entries:
            archive.read(name)
    except PorterError as error:
        assert error.code in ("F010", "F001", "F002", "S002", "S003")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\"), min_size=1, max_size=8),
        st.binary(max_size=60),
        max_size=8,
    )
)
def test_any_names(tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "names.zip"
    path.write_bytes(packed(members))
    source = FileSource(path)
    with zipfile.ZipFile(path) as oracle:
        for entry, info in zip(read_directory(source), oracle.infolist(), strict=True):
            assert (entry.name, entry.header, entry.size, entry.crc) == (info.filename, info.header_offset, info.file_size, info.CRC)
    archive = ZipArchive(source)
    assert {name: archive.read(name) for name in archive.entries} == members
