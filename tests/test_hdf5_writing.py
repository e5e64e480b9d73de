"""porter's own HDF5 layout, and what holds for every HDF5 file that porter writes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from conformance import random_tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import porter
from porter.dtypes import DTYPES, FLOAT32
from porter.errors import FileAccessError, FormatError, LossError, PorterError
from porter.formats.hdf5.names import name_of, paths
from porter.store import TensorStore
from porter.tensor import Tensor

DIALECTS = ("porter", "keras2", "keras3", "caffe", "caffe-solverstate")
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def small_store() -> TensorStore:
    return TensorStore(random_tensor(f"layer{i}.{part}", FLOAT32, (3, 4), i) for i in range(3) for part in ("weight", "bias"))


class TestNames:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["conv1.weight"], ["conv1.weight"]),
            (["a/b/c"], ["a/b/c"]),
            (["a", "a/b"], ["a%", "a/b"]),
            (["", "/", "a//b"], ["%%", "%/%", "a/%/b"]),
            ([".", "..", "..."], ["%2E", "..", "..."]),
            (["100%", "a%25", "%"], ["100%25", "a%2525", "%25"]),
            (["nul\0", "\udc80"], ["nul%00", "%uDC80"]),
        ],
        ids=str,
    )
    def test_paths(self, names: list[str], expected: list[str]) -> None:
        assert ["/".join(path) for path in paths(names).values()] == expected

    @settings(max_examples=300, deadline=None)
    @given(st.sets(st.text(st.sampled_from("a/.%2EF\0\udc80é"), max_size=8), max_size=8))
    def test_no_name_is_lost(self, names: set[str]) -> None:
        found = paths(names)
        assert {name_of(path): name for name, path in found.items()} == {name: name for name in names}
        assert len(set(found.values())) == len(names)
        groups = {path[:n] for path in found.values() for n in range(1, len(path))}
        assert not groups & set(found.values())
        for path in found.values():
            assert all(part not in ("", ".") and "/" not in part and "\0" not in part for part in path)
            "".join(path).encode("utf-8")

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(names=st.lists(st.text(max_size=12), max_size=5, unique=True))
    def test_written_and_read(self, names: list[str], tmp_path: Path) -> None:
        store = TensorStore(random_tensor(name, FLOAT32, (2,), i) for i, name in enumerate(names))
        porter.save(store, tmp_path / "m.h5", overwrite=True)
        back = porter.open(tmp_path / "m.h5")
        assert list(back) == names
        assert back.digest() == store.digest()

    def test_very_many_parts(self, tmp_path: Path) -> None:
        name = "/".join("abc"[i % 3] for i in range(5000))
        porter.save(TensorStore([random_tensor(name, FLOAT32, (2,))]), tmp_path / "m.h5")
        assert list(porter.open(tmp_path / "m.h5")) == [name]


def test_what_h5py_sees(tmp_path: Path) -> None:
    """Usual names are usual paths, types are HDF5's own where it has them, and values are where porter says."""
    store = TensorStore(
        random_tensor(f"m.{name}", dtype, (3, 5), i) for i, (name, dtype) in enumerate(DTYPES.items()) if dtype.numpy_str is not None
    )
    brain = Tensor.from_array("brain", np.array([1.5, -0.0, np.inf], ml_dtypes.bfloat16))
    store.add(brain)
    store.add(random_tensor("half.complex", DTYPES["complex32"], (2,), 3))
    store.add(random_tensor("tiny", DTYPES["float8_e4m3fn"], (7,), 4))
    porter.save(store, tmp_path / "m.h5")
    back = porter.open(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert file.attrs["porter_layout"] == 1
        for name, tensor in store.items():
            made = file[name]
            assert made.shape == tensor.shape
            location = back[name].location
            assert location is not None
            assert made.id.get_offset() == location.offset
            if tensor.dtype.numpy_str is not None:
                assert made.dtype == tensor.dtype.numpy()
                assert made[()].tobytes() == tensor.tobytes()
        np.testing.assert_array_equal(file["brain"][()], np.array([1.5, -0.0, np.inf], "f4"))
        assert file["half.complex"].dtype.names == ("r", "i")
        assert file["half.complex"][()].tobytes() == store["half.complex"].tobytes()
        assert file["tiny"].attrs["porter_dtype"] == "float8_e4m3fn"
        assert file["tiny"][()].tobytes() == store["tiny"].tobytes()


def test_large_data_is_aligned_and_in_order(tmp_path: Path) -> None:
    store = TensorStore(random_tensor(f"t{9 - i}", FLOAT32, (700 + i,), i) for i in range(6))
    porter.save(store, tmp_path / "m.h5")
    offsets = [t.location.offset for t in porter.open(tmp_path / "m.h5").values() if t.location is not None]
    assert offsets == sorted(offsets)
    assert len(offsets) == 6
    assert all(at % 64 == 0 for at in offsets)


@every_dialect
def test_equal_stores_are_equal_files(dialect: str, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        porter.save(small_store(), tmp_path / name, f"hdf5:{dialect}")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@every_dialect
def test_ties_are_hard_links(dialect: str, tmp_path: Path) -> None:
    store = TensorStore([random_tensor("embed.weight", FLOAT32, (100, 100), 1), random_tensor("mid.weight", FLOAT32, (2, 2), 2)])
    store.tie(store["embed.weight"].with_spec(name="a_head.weight"), "embed.weight")
    store.tie(store["embed.weight"].with_spec(name="flat.weight", shape=(10_000,)), "embed.weight")
    porter.save(store, tmp_path / "m.h5", f"hdf5:{dialect}")
    back = porter.open(tmp_path / "m.h5")
    assert back.ties == store.ties
    assert list(back) == list(store)
    assert back.digest() == store.digest()
    assert back["a_head.weight"].location == back["embed.weight"].location
    assert (tmp_path / "m.h5").stat().st_size < 3 * store["embed.weight"].nbytes


def test_a_tie_of_other_values_is_not_shared(tmp_path: Path) -> None:
    """A description may claim a tie that the bytes do not bear out."""
    store = TensorStore([random_tensor("a", FLOAT32, (3,), 1), random_tensor("b", FLOAT32, (3,), 2)])
    store.ties["b"] = "a"
    porter.save(store, tmp_path / "m.h5")
    back = porter.open(tmp_path / "m.h5")
    assert back["b"].tobytes() == store["b"].tobytes() != back["a"].tobytes()


def test_description_that_no_longer_fits(tmp_path: Path) -> None:
    """Someone edits the file with h5py: what is left of the description still applies, the rest is mentioned."""
    store = TensorStore(
        [random_tensor("b.weight", FLOAT32, (3, 2), 1, axes="OI", role="weight"), random_tensor("a.weight", FLOAT32, (3,), 2)]
    )
    porter.save(store, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file["a.weight"]
        file["new"] = np.zeros(2, "f4")
    back = porter.open(tmp_path / "m.h5")
    assert list(back) == ["b.weight", "new"]
    assert back["b.weight"].axes == "OI"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"porter": 99}',
        '{"porter": 1, "hdf5": 3}',
        '{"porter": 1, "hdf5": {"names": {"a": 1}}}',
        '{"porter": 1, "tensors": []}',
        "[" * 99999,
    ],
    ids=lambda t: t[:40],
)
def test_damaged_description(text: str, tmp_path: Path) -> None:
    porter.save(TensorStore([random_tensor("a", FLOAT32, (3,))]), tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["porter"] = text
    with pytest.raises(FormatError):
        porter.open(tmp_path / "m.h5")


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    porter.save(small_store(), tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["porter_layout"] = 2
    with pytest.raises(FormatError) as caught:
        porter.open(tmp_path / "m.h5")
    assert caught.value.code == "F007"


def test_a_large_description(tmp_path: Path) -> None:
    store = TensorStore(random_tensor(f"t{i}", FLOAT32, (1,), i, role="weight", attributes={"note": "x" * 90}) for i in range(1500))
    porter.save(store, tmp_path / "m.h5")
    back = porter.open(tmp_path / "m.h5")
    assert list(back) == list(store)
    assert back["t1499"].attributes == {"note": "x" * 90}


def test_too_many_dimensions(tmp_path: Path) -> None:
    store = TensorStore([random_tensor("a", FLOAT32, (1,) * 33)])
    with pytest.raises(LossError) as caught:
        porter.save(store, tmp_path / "m.h5")
    assert caught.value.code == "L503"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files may not grow beyond 64 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@every_dialect
@pytest.mark.parametrize("tensors", [1, 400], ids=["values", "structure"])
@pytest.mark.usefixtures("small_disk")
def test_full_disk(dialect: str, tensors: int, tmp_path: Path) -> None:
    """No room for the values, or not even for the groups and datasets: one error, and the old file stays."""
    path = tmp_path / "m.h5"
    path.write_bytes(b"old")
    store = TensorStore(random_tensor(f"layer{i}.weight", FLOAT32, (1 << 16,) if tensors == 1 else (40,), i) for i in range(tensors))
    with pytest.raises(FileAccessError) as caught:
        porter.save(store, path, f"hdf5:{dialect}", overwrite=True)
    assert caught.value.code == "I003"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.h5"]


def test_a_source_that_fails_half_way(tmp_path: Path) -> None:
    porter.save(TensorStore(random_tensor(f"t{i}", FLOAT32, (50_000,), i) for i in range(3)), tmp_path / "m.safetensors")
    store = porter.open(tmp_path / "m.safetensors")
    os.truncate(tmp_path / "m.safetensors", 300_000)
    with pytest.raises(PorterError):
        porter.save(store, tmp_path / "m.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"old")
    path.chmod(0o640)
    porter.save(small_store(), path, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError) as caught:
        porter.save(small_store(), tmp_path / "missing" / "m.h5")
    assert caught.value.code == "I001"
    assert caught.value.__cause__ is not None
    assert getattr(caught.value.__cause__, "errno", None) == errno.ENOENT


def test_progress_counts_the_values(tmp_path: Path) -> None:
    from porter.formats.base import WriteOptions
    from porter.formats.registry import save_store

    counted: list[int] = []
    store = small_store()
    save_store(store, tmp_path / "m.h5", options=WriteOptions(progress=counted.append))
    assert sum(counted) == store.nbytes
