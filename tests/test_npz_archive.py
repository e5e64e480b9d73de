"""`.npz` archives, read and written, with numpy as the oracle both ways."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest

import porter
from porter.errors import FormatError, LossError, PorterError
from porter.store import TensorStore
from porter.tensor import Tensor


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "conv1/weight": rng.standard_normal((4, 3, 3, 3)).astype("f4"),
        "conv1/bias": np.zeros(4, "f4"),
        "big": rng.standard_normal((5, 7)).astype(">f8"),
        "fortran": np.asfortranarray(rng.standard_normal((5, 7)).astype("f2")),
        "steps": np.array(17),
        "empty": np.empty((0, 3), "i4"),
        "mask": np.array([True, False]),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_what_numpy_wrote(save: Any, tmp_path: Path) -> None:
    arrays = sample()
    save(tmp_path / "m.npz", **arrays)
    store = porter.open(tmp_path / "m.npz")
    assert list(store) == list(arrays)
    assert store.notices == []
    assert store.source is not None
    assert store.source.dialect == "npz"
    for name, array in arrays.items():
        tensor = store[name]
        assert tensor.shape == array.shape
        assert tensor.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes("C"), name
        assert b"".join(bytes(c) for c in tensor.chunks(5)) == tensor.tobytes()
    assert (store["conv1/weight"].location is not None) == (save is np.savez)


def test_stored_arrays_are_copied_by_range(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=np.arange(5.0))
    where = porter.open(tmp_path / "m.npz")["a"].location
    assert where is not None
    assert (tmp_path / "m.npz").read_bytes()[where.offset : where.offset + where.nbytes] == np.arange(5.0).tobytes()


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    arrays = sample()
    report = porter.save(TensorStore(Tensor.from_array(n, a) for n, a in arrays.items()), tmp_path / "o.npz")
    assert (report.format, report.dialect, report.losses) == ("npz", "npz", ())
    with np.load(tmp_path / "o.npz", allow_pickle=False) as back:
        assert back.files == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
            assert back[name].dtype == array.dtype.newbyteorder("<")
    with zipfile.ZipFile(tmp_path / "o.npz") as file:
        assert file.testzip() is None
    assert porter.diff(tmp_path / "o.npz", TensorStore(Tensor.from_array(n, a) for n, a in arrays.items())).equal


def test_written_data_is_aligned_for_mapping(tmp_path: Path) -> None:
    porter.save(TensorStore(Tensor.from_array("t" * i, np.ones(i, "f4")) for i in range(1, 140)), tmp_path / "o.npz")
    for tensor in porter.open(tmp_path / "o.npz").values():
        assert tensor.location is not None
        assert tensor.location.offset % 64 == 0


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    store = TensorStore([Tensor.from_array("a", np.ones(3))])
    for name in ("a.npz", "b.npz"):
        porter.save(store, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz")
    assert len(porter.open(tmp_path / "n.npz")) == 0
    porter.save(TensorStore(), tmp_path / "o.npz")
    assert np.load(tmp_path / "o.npz").files == []
    assert len(porter.open(tmp_path / "o.npz")) == 0


@pytest.mark.parametrize("name", ["a", "a/b", "a.npy", "", " ", "ünïcode/权重", "../up", "/root", "a\\b", "x" * 300, "with\nnewline"])
def test_names(name: str, tmp_path: Path) -> None:
    porter.save(TensorStore([Tensor.from_array(name, np.arange(3))]), tmp_path / "o.npz")
    assert list(porter.open(tmp_path / "o.npz")) == [name]
    with np.load(tmp_path / "o.npz") as back:
        assert back.files == [name]
        np.testing.assert_array_equal(back[name], np.arange(3))


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 65_532])
def test_names_that_no_archive_holds_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([Tensor.from_array(name, np.arange(3))]), tmp_path / "o.npz")
    assert caught.value.code == "L010"
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_names_that_numpy_confuses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([Tensor.from_array("a", np.ones(1)), Tensor.from_array("a.npy", np.zeros(1))]), tmp_path / "o.npz")
    assert caught.value.code == "L701"
    assert not list(tmp_path.iterdir())


def test_members_that_are_no_arrays_are_skipped_with_a_notice(tmp_path: Path) -> None:
    members = {"w.npy": npy(np.ones(2)), "README": b"hello", "labels.npy": npy(np.array(["cat"])), "v": npy(np.zeros(2))}
    store = porter.open(archive(tmp_path / "m.npz", members))
    assert list(store) == ["w", "v"]
    assert [(n.kind, n.tensor) for n in store.notices] == [("skipped", None), ("skipped", "labels")]
    assert "README" in store.notices[0].message


def test_an_archive_without_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(archive(tmp_path / "m.npz", {"labels.npy": npy(np.array(["cat"]))}))
    assert caught.value.code == "F705"


def test_two_members_for_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(archive(tmp_path / "m.npz", {"w.npy": npy(np.ones(2)), "w": npy(np.zeros(2))}))
    assert caught.value.code == "F004"


def test_a_member_that_is_no_array_under_an_arrays_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(archive(tmp_path / "m.npz", {"w.npy": npy(np.ones(2)), "v.npy": b"PK nothing"}))
    assert (caught.value.code, caught.value.where.tensor) == ("F701", "v")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_lie_within_members_are_refused(compression: int, tmp_path: Path) -> None:
    for size, code in ((9, "F001"), (7, "F706")):
        lying = npy(np.ones(8, "f4")).replace(b"(8,)", f"({size},)".encode())
        with pytest.raises(PorterError) as caught:
            porter.open(archive(tmp_path / "m.npz", {"w.npy": lying}, compression))
        assert (caught.value.code, caught.value.where.tensor) == (code, "w")
        assert caught.value.where.path == str(tmp_path / "m.npz")


def test_a_bit_flipped_in_compressed_data_does_not_pass(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.npz", {"w.npy": npy(np.arange(4000, dtype="f4"))}, zipfile.ZIP_DEFLATED)
    good = path.read_bytes()
    expected = np.arange(4000, dtype="f4").tobytes()
    refused = 0
    for at in range(200, len(good) - 150, 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        try:
            assert porter.open(path)["w"].tobytes() == expected
        except FormatError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("count", [40, 400_000], ids=["small", "larger than a chunk"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_a_bit_flipped_in_stored_data_is_refused_whoever_reads_it(count: int, order: str, tmp_path: Path) -> None:
    """numpy checks the checksum of stored members too; the bytes of a range copied by the kernel would pass unseen."""
    path = tmp_path / "m.npz"
    np.savez(path, w=np.arange(count, dtype=f"{order}f4"), other=np.ones(3))
    good = path.read_bytes()
    at = good.index(np.arange(10, dtype=f"{order}f4").tobytes()) + 17
    path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
    with pytest.raises(zipfile.BadZipFile, match="CRC"), np.load(path) as theirs:
        theirs["w"]
    store = porter.open(path)
    for take in (lambda t: t.tobytes(), lambda t: t.numpy(), lambda t: t.digest(), lambda t: list(t.chunks(64))):
        with pytest.raises(FormatError, match=r"zip member 'w\.npy': has CRC-32") as caught:
            take(store["w"])
        assert (caught.value.code, caught.value.where.tensor) == ("F010", "w")
        assert store["other"].numpy().tolist() == [1, 1, 1]
    for target in ("out.safetensors", "out.pth", "out.wts", "out.npz", "out.npy", "out.h5", "out.onnx", "out.caffemodel"):
        with pytest.raises(FormatError, match="CRC-32"):
            porter.save(TensorStore([store["w"]]), tmp_path / target)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FormatError, match="CRC-32"):
        porter.diff(store, TensorStore([Tensor.from_array("w", np.arange(count, dtype="f4")), store["other"]]))


def test_a_bit_flipped_in_a_stored_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, w=np.array({"a": np.arange(5000, dtype="f4")}, object))
    assert porter.open(path)["w.a"].numpy().tolist() == list(range(5000))
    good = path.read_bytes()
    at = good.index(np.arange(10, dtype="f4").tobytes()) + 17
    path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
    with pytest.raises(FormatError, match="CRC-32"):
        porter.open(path)


def test_damaged_archives_are_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, a=np.arange(4, dtype="f4"), b=np.ones((2, 2), ">f8", order="F"))
    data = path.read_bytes()
    assert hostile.assert_survives(path, hostile.truncations(data, 150)) > 140
    assert hostile.assert_survives(path, hostile.byte_changes(data, 250)) > 100
    hostile.assert_survives(path, hostile.growths(data))
