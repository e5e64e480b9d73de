"""Damaged and hostile HDF5 files with everything in them that porter reads: they read, or raise one `PorterError`."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile import assert_survives, guarded, read_everything
from test_hdf5_keras import write_archive

import porter
from porter.errors import FormatError, MissingDependencyError
from porter.formats.hdf5 import library


def rich_file(path: Path, version: str) -> None:
    """Old and new structures: small and large groups, chunks, filters, both byte orders, long and many attributes."""
    with h5py.File(path, "w", libver=version, track_order=version == "v108") as file:
        group = file.create_group("g")
        for i in range(12):
            group.create_dataset(f"d{i}", data=np.arange(i + 1, dtype="f4"))
            group.attrs[f"a{i}"] = "x" * i
        for name, options in {"gzip": {"compression": "gzip", "shuffle": True}, "sum": {"fletcher32": True}}.items():
            if version == "earliest":
                file.create_dataset(name, data=np.arange(400.0).reshape(20, 20), chunks=(7, 20), **options)
        file["big"] = np.arange(5, dtype=">i4")
        file["complex"], file["bool"] = np.ones(3, "c8"), np.array([True, False])
        file.create_dataset("never", (10, 10), "f4", fillvalue=7)
        file["tied"] = group["d3"]


def changes(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Random damage: bytes zeroed, filled, flipped, replaced, or overwritten with others of the file; some files cut."""
    chance = random.Random(seed)
    for n in range(count):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
            at, other, kind = chance.randrange(len(data)), chance.randrange(len(data)), chance.randrange(5)
            size = chance.choice((1, 2, 4, 8, 16)) if kind == 4 else 1
            new = (b"\0", b"\xff", bytes([data[at] ^ 1 << chance.randrange(8)]), bytes([chance.randrange(256)]), data[other : other + size])
            damaged[at : at + size] = new[kind]
        yield f"seed {seed}, change {n}", bytes(damaged[: chance.randrange(len(damaged))] if chance.random() < 0.05 else damaged)


@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_random_damage(version: str, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    rich_file(path, version)
    assert assert_survives(path, changes(path.read_bytes(), 400, 1)) > 20


def test_random_damage_to_metadata_of_a_keras_model(shared: Path, tmp_path: Path) -> None:
    data = (shared / "real/keras_hyperlpr/model12.h5").read_bytes()
    path = tmp_path / "m.h5"
    assert assert_survives(path, ((what, head + data[9000:]) for what, head in changes(data[:9000], 300, 2))) > 20


def test_random_damage_to_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    write_archive(path)
    assert assert_survives(path, changes(path.read_bytes(), 150, 3)) > 20


@pytest.mark.parametrize("field", range(16, 64, 4))
@pytest.mark.parametrize("value", [0, 1, 96, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lying_superblock(field: int, value: int, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(100, dtype="f4")
    data = bytearray(path.read_bytes())
    data[field : field + 4] = value.to_bytes(4, "little")
    assert_survives(path, iter([("superblock", bytes(data))]))


def test_continuations_in_a_circle(tmp_path: Path) -> None:
    """Two blocks of one header that each say that it goes on in the other."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        for i in range(40):  # the header outgrows its first block
            file.attrs[f"a{i}"] = np.arange(20)
    data = bytearray(path.read_bytes())
    at = data.index(bytes([16, 0, 16, 0, 0, 0, 0, 0]))
    start = int.from_bytes(data[at + 8 : at + 16], "little")
    data[start : start + 8] = bytes([16, 0, 16, 0, 0, 0, 0, 0])
    data[start + 8 : start + 24] = data[at + 8 : at + 24]
    path.write_bytes(data)
    with guarded("a circle"), pytest.raises(FormatError, match="continues in itself"):
        porter.open(path, "hdf5")


class TestTheLibrarysProcess:
    """libhdf5 runs apart, so that what it does to itself is an error like any other."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> porter.TensorStore:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("a", data=np.arange(1000), chunks=(100,), compression="lzf")
        return porter.open(tmp_path / "m.h5")

    def stand_in(self, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have `script` run where Python would."""
        program = folder / "python"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    def test_crash(self, store: porter.TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stand_in("kill -SEGV $$", tmp_path, monkeypatch)
        with pytest.raises(FormatError, match="signal 11") as caught:
            store["a"].tobytes()
        assert (caught.value.code, caught.value.where.path) == ("F506", str(tmp_path / "m.h5"))

    def test_hang(self, store: porter.TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stand_in("exec sleep 100", tmp_path, monkeypatch)
        monkeypatch.setattr(library, "_PATIENCE", 0.2)
        with guarded("a hang"), pytest.raises(FormatError, match="made nothing"):
            store["a"].tobytes()

    def test_too_few_values(self, store: porter.TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stand_in("printf 12345678", tmp_path, monkeypatch)
        with pytest.raises(FormatError, match="said nothing"):
            store["a"].tobytes()

    def test_no_h5py(self, store: porter.TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stand_in("echo 'No module named h5py' >&2; exit 3", tmp_path, monkeypatch)
        with pytest.raises(MissingDependencyError) as caught:
            store["a"].tobytes()
        assert caught.value.code == "D501"

    def test_what_libhdf5_says(self, tmp_path: Path) -> None:
        path = tmp_path / "m.h5"
        with h5py.File(path, "w", libver="latest") as file:
            made = file.create_dataset("a", data=np.arange(1000), chunks=(100,), compression="gzip")
            at = made.id.get_chunk_info(3).byte_offset
        data = bytearray(path.read_bytes())
        data[at : at + 20] = bytes(20)
        path.write_bytes(data)
        with pytest.raises(FormatError) as caught:
            read_everything(path)
        assert (caught.value.code, caught.value.where.tensor) == ("F506", "a")

    def test_a_reader_that_stops_early(self, store: porter.TensorStore) -> None:
        chunks = store["a"].chunks(100)
        assert len(next(chunks)) == 100
        chunks.close()  # type: ignore[attr-defined]
        assert store["a"].numpy().tolist() == list(range(1000))
