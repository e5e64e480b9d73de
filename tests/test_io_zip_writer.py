"""Archives that porter writes, with zipfile as the oracle, down to the bytes."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from porter.errors import LossError
from porter.io.atomic import AtomicFile
from porter.io.payloads import ComputedPayload
from porter.io.source import FileSource
from porter.io.zip_archive import ZipArchive
from porter.io.zip_writer import ZipWriter


def written(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    file = AtomicFile(path)
    writer = ZipWriter(file, **options)
    for name, data in members.items():
        writer.add(name, data)
    writer.finish()
    file.commit()
    return path


@pytest.mark.parametrize("limit", [0xFFFF_FFFF, 1, 40, 300], ids=["zip32", "all zip64", "sizes from 40", "offsets from 300"])
def test_archives_of_either_width_are_read_by_zipfile(limit: int, tmp_path: Path) -> None:
    members = {"m" * i: bytes(range(i)) for i in range(1, 90)} | {"é": b"", "a/b": b"x"}
    with zipfile.ZipFile(written(tmp_path / "z.zip", members, limit=limit)) as file:
        assert file.testzip() is None
        assert {i.filename: file.read(i) for i in file.infolist()} == members
    mine = ZipArchive(FileSource(tmp_path / "z.zip"))
    assert {name: mine.read(name) for name in mine.entries} == members
    assert all(entry.offset % 64 == 0 for entry in mine.entries.values())


def test_more_members_than_two_bytes_count(tmp_path: Path) -> None:
    members = {f"{i}": b"" for i in range(66_000)}
    with zipfile.ZipFile(written(tmp_path / "z.zip", members, alignment=1)) as file:
        assert file.namelist() == list(members)


def test_golden_archive(tmp_path: Path) -> None:
    data = written(tmp_path / "z.zip", {"a": b"hello"}).read_bytes()
    crc = bytes.fromhex("86a61036")
    pad = struct.pack("<HHH", 0xD935, 29, 64) + bytes(27)
    assert data == (
        b"PK\3\4" + b"\x14\0" + b"\0\0" + b"\0\0" + b"\0\0\x21\0" + crc + b"\5\0\0\0" * 2 + b"\1\0" + b"\x21\0" + b"a" + pad + b"hello"
        b"PK\1\2" + b"\x14\0" * 2 + b"\0\0" * 2 + b"\0\0\x21\0" + crc + b"\5\0\0\0" * 2 + b"\1\0" + b"\0" * 16 + b"a"
        b"PK\5\6" + b"\0" * 4 + b"\1\0" * 2 + b"\x2f\0\0\0" + b"\x45\0\0\0" + b"\0\0"
    )


def test_members_are_put_together_from_parts_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(range(256)) * 1000)
    source = FileSource(tmp_path / "source")
    file = AtomicFile(tmp_path / "z.zip")
    writer = ZipWriter(file, alignment=4096)
    writer.add("all", b"head", source.payload(1, 200_000), ComputedPayload(3, lambda: iter([b"a", b"bc"])), b"")
    writer.finish()
    file.commit()
    with zipfile.ZipFile(tmp_path / "z.zip") as archive:
        assert archive.read("all") == b"head" + (tmp_path / "source").read_bytes()[1:200_001] + b"abc"
    assert ZipArchive(FileSource(tmp_path / "z.zip")).entries["all"].offset % 4096 == 0


@pytest.mark.parametrize("name", ["a\0b", "\udc80", "x" * 65_536])
def test_names_that_cannot_be_members(name: str, tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "z.zip")
    with pytest.raises(LossError) as caught:
        ZipWriter(file).add(name, b"")
    file.discard()
    assert (caught.value.code, caught.value.where.tensor) == ("L010", name)
