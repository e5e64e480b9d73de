"""Members of zip archives as payloads: the beginning of one, bounds on what expands, and sizes that lie."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from porter.errors import FormatError, UnsafeFileError
from porter.io.source import FileSource
from porter.io.zip_archive import ZipArchive

NOISE = np.random.default_rng(0).integers(0, 12, 3_000_000, dtype=np.uint8).tobytes()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> ZipArchive:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return ZipArchive(FileSource(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_members_larger_than_a_chunk(method: int, tmp_path: Path) -> None:
    mine = archive(tmp_path / "z.zip", {"small": b"x", "large": NOISE, "zeros": bytes(5_000_000)}, method)
    payload = mine.payload("large")
    assert payload.nbytes == len(NOISE)
    assert b"".join(bytes(c) for c in payload.chunks(1 << 20)) == NOISE
    assert b"".join(bytes(c) for c in payload.chunks(777_777)) == NOISE
    assert bytes(payload.buffer()) == NOISE
    assert (payload.location is not None) == (method == zipfile.ZIP_STORED)
    assert mine.read("zeros") == bytes(5_000_000)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_the_beginning_of_a_member(method: int, tmp_path: Path) -> None:
    mine = archive(tmp_path / "z.zip", {"large": NOISE, "zeros": bytes(1_000_000), "empty": b"", "three": b"abc"}, method)
    for count in (0, 1, 2, 4095, 4096, 100_000):
        assert mine.start("large", count) == NOISE[:count]
        assert mine.start("zeros", count) == bytes(count)
    assert mine.start("three", 10) == b"abc"
    assert mine.start("empty", 10) == b""


def test_members_that_are_not_there(tmp_path: Path) -> None:
    mine = archive(tmp_path / "z.zip", {"a": b"x"})
    for look in (mine.payload, mine.read, lambda name: mine.start(name, 1)):
        with pytest.raises(FormatError) as caught:
            look("b")
        assert caught.value.code == "F011"


def test_reading_at_once_has_a_limit(tmp_path: Path) -> None:
    mine = archive(tmp_path / "z.zip", {"a": bytes(1000)})
    assert mine.read("a", 1000) == bytes(1000)
    with pytest.raises(UnsafeFileError) as caught:
        mine.read("a", 999)
    assert caught.value.code == "S003"


def declare(path: Path, size: int, crc: int | None = None) -> None:
    """Make the directory of a one-member archive claim that the member expands to `size` bytes."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, at + 24, size)
    if crc is not None:
        struct.pack_into("<L", data, at + 16, crc)
    path.write_bytes(data)


@pytest.mark.parametrize("wrong", [-1, -1000, 1, 1000])
def test_expanded_sizes_that_lie_are_found_and_never_exceeded(wrong: int, tmp_path: Path) -> None:
    archive(tmp_path / "z.zip", {"a": NOISE[:100_000]})
    declare(tmp_path / "z.zip", 100_000 + wrong)
    payload = ZipArchive(FileSource(tmp_path / "z.zip")).payload("a")
    given: list[int] = []
    with pytest.raises(FormatError) as caught:
        given.extend(chunk.nbytes for chunk in payload.chunks(1 << 20))
    assert caught.value.code == "F010"
    assert sum(given) < 100_000 + wrong


def test_a_small_claim_around_a_large_stream_costs_little(tmp_path: Path) -> None:
    """A member that expands without end and claims to be small is read as far as it claims."""
    archive(tmp_path / "z.zip", {"a": bytes(50_000_000)})
    declare(tmp_path / "z.zip", 1000)
    with pytest.raises(FormatError):
        ZipArchive(FileSource(tmp_path / "z.zip")).read("a")


def test_a_checksum_that_differs(tmp_path: Path) -> None:
    archive(tmp_path / "z.zip", {"a": b"hello"})
    declare(tmp_path / "z.zip", 5, 0xDEADBEEF)
    with pytest.raises(FormatError) as caught:
        ZipArchive(FileSource(tmp_path / "z.zip")).read("a")
    assert "CRC-32" in caught.value.message
    assert "deadbeef" in caught.value.message


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("skip", [0, 5, 100_000])
def test_a_checksum_is_checked_before_the_last_bytes_are_given(method: int, skip: int, tmp_path: Path) -> None:
    """Who has all bytes that there are asks for no more, so an error behind the last of them would never be seen."""
    data = NOISE[:100_000]
    mine = archive(tmp_path / "z.zip", {"a": data}, method).payload("a", skip, verify=True)
    assert b"".join(bytes(c) for c in mine.chunks(999)) == mine.buffer().tobytes() == data[skip:]
    declare(tmp_path / "z.zip", 100_000, 0xDEADBEEF)
    mine = ZipArchive(FileSource(tmp_path / "z.zip")).payload("a", skip, verify=True)
    given: list[int] = []
    with pytest.raises(FormatError, match=r"zip member 'a'.*deadbeef"):
        given.extend(chunk.nbytes for chunk in mine.chunks(999))
    assert sum(given) < max(mine.nbytes, 1)
    with pytest.raises(FormatError, match="CRC-32"):
        mine.buffer()


def test_every_truncation_of_compressed_data(tmp_path: Path) -> None:
    """The directory is whole, the data is not: the stream is cut and the member's length in the file is as it was."""
    archive(tmp_path / "z.zip", {"a": NOISE[:2000]})
    data = (tmp_path / "z.zip").read_bytes()
    for cut in range(35, 300, 7):
        (tmp_path / "z.zip").write_bytes(data[:cut] + bytes(data.rindex(b"PK\x01\x02") - cut) + data[data.rindex(b"PK\x01\x02") :])
        mine = ZipArchive(FileSource(tmp_path / "z.zip"))
        with pytest.raises(FormatError):
            mine.read("a")
