"""Recorded runs and arrays to feed: what numpy writes is read, what contradicts itself is refused when it is opened."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porter.errors import GraphError, PorterError
from porter.graph import recording
from porter.graph.npz_arrays import read_arrays

KEY = "layer/0000/conv/conv"


def record(**changes: Any) -> dict[str, Any]:
    """A recording of one layer, of whose 8 values two were kept; names of `changes` that end its keys replace them, None leaves one out."""
    arrays = {
        "input/data": np.ones((1, 2), np.float32),
        "layer_keys": np.array([KEY]),
        "layer_types": np.array(["Convolution"]),
        KEY: np.array([5, -6], np.float32),
        f"{KEY}@idx": np.array([7, 0]),
        f"{KEY}@shape": np.array([2, 4]),
        f"{KEY}@absmax": np.float32(9),
    }
    named = {{"value": KEY}.get(n, n if n in arrays else f"{KEY}@{n}"): value for n, value in changes.items()}
    return {name: value for name, value in (arrays | named).items() if value is not None}


def test_a_record_is_read_as_it_is(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "g.npz", **record())
    found = recording.read(str(tmp_path / "g.npz"))
    for name, array in record().items():
        assert found[name].dtype == np.asarray(array).dtype
        assert np.array_equal(found[name], array)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_keys": np.zeros(1)}, "'layer_keys' is no list of names"),
        ({"layer_types": np.array(["a", "b"])}, "'layer_types' is no list"),
        ({"idx": np.array([8, 0])}, "@idx' goes from 0 to 8, and the value has 8"),
        ({"idx": np.array([-1, 0])}, "@idx' goes from -1"),
        ({"idx": np.array([1.0, 0.0])}, "is no list of an index"),
        ({"idx": np.array([1])}, "is no list of an index for each of the 2"),
        ({"idx": None}, "has 2 numbers, its shape 8, and there is no"),
        ({"shape": np.array([2.0, 4.0])}, "is no list of sizes"),
        ({"shape": np.array([-2, -4])}, "is no list of sizes"),
        ({"absmax": np.float32(np.inf)}, "at least 6"),
        ({"absmax": np.float32(np.nan)}, "at least 6"),
        ({"absmax": np.float32(5)}, "at least 6"),
        ({"absmax": np.zeros(3)}, "one finite number"),
        ({"absmax": np.array("9")}, "one finite number"),
        ({"value": np.array(["a", "b"])}, "no real numbers"),
        ({"value": np.array([1j, 2])}, "complex128, and no real"),
        ({"input/data": np.array(["a"])}, "'input/data' holds"),
    ],
)
def test_records_that_contradict_themselves_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "g.npz", **record(**changes))
    with pytest.raises(GraphError, match=said):
        recording.read(str(tmp_path / "g.npz"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<i8", "?", "<U5", "<c16"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    np.savez(tmp_path / "a.npz", array=array, scalar=array[0, 0, 0], none=array[:0])
    found = read_arrays(str(tmp_path / "a.npz"))
    with np.load(tmp_path / "a.npz") as expected:
        assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} == {
            n: (expected[n].dtype, expected[n].shape, expected[n].tobytes()) for n in expected.files
        }


def test_a_header_that_lies_allocates_nothing(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.zeros(4, np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("data.npy", held.getvalue().replace(b"(4,), }      ", b"(4000000000,)}")[: len(held.getvalue())])
    with pytest.raises(GraphError, match="'data' is said to have 16000000000 bytes, and has"):
        read_arrays(str(tmp_path / "a.npz"))


def test_what_is_no_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(GraphError, match="no zip archive"):
        read_arrays(str(tmp_path / "one.npy"))
    np.savez(tmp_path / "objects.npz", data=np.array([{}], dtype=object))
    with pytest.raises(GraphError, match="Python objects"):
        read_arrays(str(tmp_path / "objects.npz"))
    np.savez(tmp_path / "none.npz")
    with pytest.raises(GraphError, match="has no array"):
        read_arrays(str(tmp_path / "none.npz"))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "text")
    with pytest.raises(GraphError, match=r"does not end with '\.npy'"):
        read_arrays(str(tmp_path / "text.npz"))


def test_every_truncation_and_many_flips_read_or_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", a=np.arange(3, dtype=np.float32), b=np.array(["x"]))
    whole, path = (tmp_path / "g.npz").read_bytes(), tmp_path / "cut.npz"
    broken = [whole[:n] for n in range(len(whole))]
    broken += [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))]
    refused = 0
    for data in broken:
        path.write_bytes(data)
        try:
            read_arrays(str(path))
        except PorterError:
            refused += 1
    assert refused > len(whole)
