"""porter's own reading of HDF5 structures, held against h5py on every file format version that libhdf5 writes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import porter
from porter.errors import FormatError, UnsafeFileError
from porter.formats.hdf5.objects import Hdf5File, Header
from porter.formats.hdf5.storage import Window, checksum
from porter.io.source import FileSource

VERSIONS = ("earliest", "v108", "v110", "v112", "latest")


def found(path: Path) -> dict[str, Any]:
    """Groups with their attributes, datasets with shape, place and attributes, by path, as porter sees them."""
    source = FileSource(path)
    file = Hdf5File(Window(source, 0, source.size))
    result: dict[str, Any] = {}

    def walk(header: Header, path: str) -> None:
        attributes = {k: v.value() for k, v in file.attributes(header).items()}
        if not header.is_dataset:
            result[path] = attributes
            for link in file.links(header):
                assert link.address is not None
                walk(file.header(link.address), f"{path}/{link.name}")
            return
        dataset = file.dataset(header)
        layout = dataset.layout
        place = layout.address if layout.kind == "contiguous" else None
        result[path] = (dataset.space.shape, layout.kind, None if place is None else file.window.start + place, attributes)

    walk(file.root, "")
    return result


def expected(path: Path) -> dict[str, Any]:
    """The same by h5py."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [plain(v) for v in value]
        return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value

    def walk(group: h5py.Group, path: str) -> None:
        result[path] = {k: plain(v) for k, v in group.attrs.items()}
        for name in group:
            item, below = group[name], f"{path}/{name}"
            if isinstance(item, h5py.Group):
                walk(item, below)
                continue
            kinds = {h5py.h5d.CONTIGUOUS: "contiguous", h5py.h5d.CHUNKED: "chunked", h5py.h5d.COMPACT: "compact"}
            kind = kinds[item.id.get_create_plist().get_layout()]
            attributes = {k: plain(v) for k, v in item.attrs.items()}
            result[below] = (item.shape, kind, item.id.get_offset() if kind == "contiguous" else None, attributes)

    result: dict[str, Any] = {}
    with h5py.File(path) as file:
        walk(file, "")
    return result


def fill(file: h5py.File, tracked: bool) -> None:
    few = file.create_group("few", track_order=tracked)
    many = file.create_group("many", track_order=tracked)
    for i in range(3):
        few.create_dataset(f"z{9 - i}", data=np.arange(i + 1, dtype="f4"))
    for i in range(700):
        many.create_group(f"name{i * 37 % 700}" + "y" * (i % 40), track_order=tracked)
    for i in range(20):
        few.attrs[f"a{i}"] = "x" * (i * 20)
    few.attrs["numbers"] = np.arange(5, dtype=">i2")
    few.attrs["floats"] = [0.5, -2.0]
    few.attrs["fixed"] = np.array([b"ab", b"c"])
    few.attrs["texts"] = ["ä", "", "long" * 50]
    few.attrs["none"] = []
    few.attrs["huge"] = "h" * 70_000
    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3,)), compact).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.arange(3, dtype="f4")
    )
    file.create_dataset("chunked", data=np.zeros((9, 9)), chunks=(4, 4), compression="gzip").attrs["k"] = 1
    file["type"] = np.dtype("<f4")
    file.create_dataset("of type", data=[1.0, 2.0], dtype=file["type"])
    del file["type"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tracked", [False, True], ids=["by name", "by creation"])
def test_agrees_with_h5py(version: str, tracked: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver=version, track_order=tracked, userblock_size=1024 if tracked else 0) as file:
        fill(file, tracked)
    ours, theirs = found(path), expected(path)
    assert list(ours) == list(theirs)
    assert ours == theirs


def test_small_addresses(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    create = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    create.set_sizes(4, 4)
    file = h5py.File(h5py.h5f.create(str(path).encode(), h5py.h5f.ACC_TRUNC, fcpl=create))
    file["a"] = np.arange(4, dtype="f4")
    file.close()
    assert found(path) == expected(path)
    np.testing.assert_array_equal(porter.open(path)["a"].numpy(), np.arange(4, dtype="f4"))


def test_checksum() -> None:
    # Source: Bob Jenkins, lookup3.c, driver5: hashlittle of the empty string is 0xdeadbeef with seed 0; of
    # "Four score and seven years ago" it is 0x17770551.
    assert checksum(b"") == 0xDEADBEEF
    assert checksum(b"Four score and seven years ago") == 0x17770551


GOLDEN = (
    # Superblock, version 0: sizes of addresses and lengths, B-tree ranks, base, free space, end, driver, root entry.
    b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    + struct.pack("<QqQq", 0, -1, 328, -1) + struct.pack("<QQII16x", 0, 96, 0, 0)
    # At 96 the root group's header: that its links are in messages, and one, a hard link "w" to the object at 168.
    + struct.pack("<BxHIII", 1, 2, 1, 56, 0) + struct.pack("<HHB3x", 2, 24, 0) + struct.pack("<BBqq6x", 0, 0, -1, -1)
    + struct.pack("<HHB3x", 6, 16, 0) + bytes([1, 0, 1]) + b"w" + struct.pack("<Q", 168) + bytes(4)
    # At 168 the dataset's header: dataspace (2, 3), an IEEE float of 4 bytes, contiguous layout at 304, no fill value.
    + struct.pack("<BxHIII", 1, 4, 1, 112, 0)
    + struct.pack("<HHB3x", 1, 24, 0) + bytes([1, 2, 0, 0, 0, 0, 0, 0]) + struct.pack("<QQ", 2, 3)
    + struct.pack("<HHB3x", 3, 24, 1) + bytes([0x11, 0x20, 0x1F, 0]) + struct.pack("<IHHBBBBI", 4, 0, 32, 23, 8, 0, 23, 127) + bytes(4)
    + struct.pack("<HHB3x", 8, 24, 0) + bytes([3, 1]) + struct.pack("<QQ", 304, 24) + bytes(6)
    + struct.pack("<HHB3x", 5, 8, 1) + bytes([2, 1, 0, 0, 0, 0, 0, 0])
    + bytes(8)
    + bytes.fromhex("0000803f 000000c0 0000c07f 00000080 010000ff 000080ff")
)  # fmt: skip


def test_golden_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(GOLDEN)
    tensor = porter.open(path)["w"]
    assert (tensor.dtype.name, tensor.shape) == ("float32", (2, 3))
    assert tensor.location is not None
    assert tensor.location.offset == 304
    assert tensor.tobytes() == GOLDEN[304:]
    with h5py.File(path) as file:
        assert file["w"][()].tobytes() == GOLDEN[304:]


@pytest.mark.parametrize("size", [0, 7, 8, 50, 95, 100, 140, 200, 303, 304, 327])
def test_golden_truncated(size: int, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(GOLDEN[:size])
    with pytest.raises(FormatError) as caught:
        porter.open(path, "hdf5")
    assert caught.value.where.path == str(path)


def test_damaged_checksum_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["w"] = np.zeros((3, 5), "f4")
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<QQ", 3, 5))
    data[at] = 2  # a smaller tensor that would read well
    path.write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        porter.open(path)


def test_user_block_and_bytes_behind(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", userblock_size=2048) as file:
        file["w"] = np.arange(6, dtype="f4")
    path.write_bytes(path.read_bytes() + b"trailing")
    np.testing.assert_array_equal(porter.open(path)["w"].numpy(), np.arange(6, dtype="f4"))
    path.write_bytes(path.read_bytes()[2048:])
    with pytest.raises(FormatError):
        porter.open(path)


class TestLinksOutOfTheFile:
    def check(self, path: Path, code: str) -> None:
        with pytest.raises(UnsafeFileError) as caught:
            porter.open(path)
        assert caught.value.code == code
        assert caught.value.hint

    @pytest.mark.parametrize("version", ["earliest", "latest"])
    def test_external_link(self, version: str, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w", libver=version) as file:
            file["a"] = h5py.ExternalLink("/etc/passwd", "/x")
        self.check(tmp_path / "m.h5", "S501")

    @pytest.mark.parametrize("version", ["earliest", "latest"])
    def test_soft_link(self, version: str, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w", libver=version) as file:
            file["b/c"] = h5py.SoftLink("/nowhere")
        self.check(tmp_path / "m.h5", "S504")

    def test_external_storage(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"0123456789abcdef")
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("a", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
        self.check(tmp_path / "m.h5", "S501")

    def test_virtual_dataset(self, tmp_path: Path) -> None:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        with h5py.File(tmp_path / "m.h5", "w", libver="latest") as file:
            file.create_virtual_dataset("a", layout)
        self.check(tmp_path / "m.h5", "S501")


def test_cycles_end_and_hard_links_are_ties(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        group["w"] = np.arange(3, dtype="f4")
        group["again"] = file
        file["c"] = group
        file["tied"] = group["w"]
    store = porter.open(path)
    assert list(store) == ["a/b/w", "tied"]
    assert store.ties == {"tied": "a/b/w"}
    assert [n.kind for n in store.notices] == ["skipped", "skipped"]


def test_depth_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        here = file
        for _ in range(300):
            here = here.create_group("g")
        here["w"] = 1.0
    with pytest.raises(FormatError) as caught:
        porter.open(path)
    assert caught.value.code == "F507"


def test_an_amplifying_file_is_refused(tmp_path: Path) -> None:
    """Many groups that all list the same many entries: work that grows with the square of the file's size."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        first = file.create_group("g0")
        for i in range(600):
            first.create_group(f"e{i}")
        for i in range(1, 1500):
            file.create_group(f"g{i}")
    data = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        addresses = [h5py.h5o.get_info(file[f"g{i}"].id).addr for i in range(1500)]
    # An old group's header is 16 bytes, a message's header 8, then the addresses of its B-tree and heap.
    table = data[addresses[0] + 24 : addresses[0] + 40]
    for address in addresses[1:]:
        data[address + 24 : address + 40] = table
    path.write_bytes(data)
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path, "hdf5:plain")
    assert caught.value.code == "S502"


def test_entries_that_share_one_long_name_are_refused(tmp_path: Path) -> None:
    """Every entry's name starts one byte behind the one before, within the same 60,000 bytes."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_group("n" * 60_000)
        for i in range(600):
            file.create_group(f"g{i}")
    data = bytearray(path.read_bytes())
    heap = data.find(b"HEAP")
    long = data.find(b"n" * 60_000) - int.from_bytes(data[heap + 24 : heap + 32], "little")
    at, number = -1, 0
    while (at := data.find(b"SNOD", at + 1)) >= 0:
        for entry in range(int.from_bytes(data[at + 6 : at + 8], "little")):
            data[at + 8 + 40 * entry : at + 16 + 40 * entry] = (long + number).to_bytes(8, "little")
            number += 1
    path.write_bytes(data)
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path, "hdf5:plain")
    assert caught.value.code == "S502"
