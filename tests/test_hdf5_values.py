"""Values of HDF5 datasets, bit for bit what h5py reads: types, byte orders, layouts, chunks and filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import porter
from porter.errors import FormatError, UnsafeFileError
from porter.formats.hdf5.chunks import fletcher32, slabs
from porter.formats.hdf5.writing import stored_type


def bits(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random bits as `dtype`: NaN payloads, infinities, subnormals and negative zeros."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer(np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes(), kind).reshape(shape)


NUMERIC = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", NUMERIC)
def test_types_and_byte_orders(dtype: str, order: str, tmp_path: Path) -> None:
    values = bits(order + dtype, (3, 5))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["plain"] = values
        file.create_dataset("chunked", data=values, chunks=(2, 2), compression="gzip")
        file["scalar"] = values[0, 0]
        file["empty"] = values[:0]
    store = porter.open(tmp_path / "m.h5")
    little = values.astype(values.dtype.newbyteorder("<"))
    for name in ("plain", "chunked"):
        assert store[name].tobytes() == little.tobytes(), name
        assert store[name].dtype.numpy() == little.dtype
    assert store["scalar"].shape == ()
    assert store["scalar"].tobytes() == little[0, 0].tobytes()
    assert (store["empty"].shape, store["empty"].nbytes) == ((0, 5), 0)
    assert (store["plain"].location is not None) == (order == "<" or dtype in ("i1", "u1"))


def test_bool_and_other_enumerations(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["b"] = np.array([True, False, True])
        file.create_dataset("e", data=[2, 1], dtype=h5py.enum_dtype({"RED": 1, "GREEN": 2}, "i2"))
    store = porter.open(tmp_path / "m.h5")
    assert store["b"].dtype.name == "bool"
    assert store["b"].tobytes() == b"\x01\x00\x01"
    assert (store["e"].dtype.name, store["e"].numpy().tolist()) == ("int16", [2, 1])
    assert [(n.kind, n.tensor) for n in store.notices] == [("assumed", "e")]


def test_bfloat16_as_keras_and_as_hdf5_write_it(tmp_path: Path) -> None:
    values = np.array([1.5, -0.0, np.inf, np.nan, 3e38], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("keras", data=values).attrs["dtype"] = "bfloat16"
        raw = h5py.h5d.create(file.id, b"float", stored_type(porter.dtypes.DTYPES["bfloat16"]), h5py.h5s.create_simple((5,)))
        raw.write(h5py.h5s.ALL, h5py.h5s.ALL, values.view(np.uint16), mtype=raw.get_type())
        np.testing.assert_array_equal(file["float"][()], values.astype("f4"))  # libhdf5 understands the type
    store = porter.open(tmp_path / "m.h5")
    for name in ("keras", "float"):
        assert store[name].dtype.name == "bfloat16"
        assert store[name].tobytes() == values.tobytes()


def test_array_types_gain_their_dimensions(tmp_path: Path) -> None:
    values = bits("f4", (2, 3, 4))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a", (2,), np.dtype(("f4", (3, 4))))[...] = values
    assert porter.open(tmp_path / "m.h5")["a"].shape == (2, 3, 4)
    assert porter.open(tmp_path / "m.h5")["a"].tobytes() == values.tobytes()


def test_what_holds_no_numbers_is_skipped_with_a_word(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["fixed"] = np.array([b"ab", b"c"])
        file["variable"] = ["x", "y"]
        file["record"] = np.zeros(2, [("name", "S3"), ("value", "f4")])
        file["reference"] = np.array([file.ref], h5py.ref_dtype)
        file["null"] = h5py.Empty("f4")
        file["long double"] = np.zeros(2, "g")
        file["w"] = np.float32(1)
    store = porter.open(tmp_path / "m.h5")
    assert list(store) == ["w"]
    assert sorted(n.tensor or "" for n in store.notices) == ["fixed", "long double", "null", "record", "reference", "variable"]
    assert {n.kind for n in store.notices} == {"skipped"}


def test_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a", (300, 7), ">f4", fillvalue=2.5)
        file.create_dataset("b", (5,), "i8")
    store = porter.open(tmp_path / "m.h5")
    np.testing.assert_array_equal(store["a"].numpy(), np.full((300, 7), 2.5, "f4"))
    np.testing.assert_array_equal(store["b"].numpy(), np.zeros(5, "i8"))
    assert [(n.kind, n.tensor) for n in store.notices] == [("assumed", "a"), ("assumed", "b")]


FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "all": {"compression": "gzip", "shuffle": True, "fletcher32": True},
}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize(
    ("shape", "chunk"),
    [((100,), (7,)), ((5,), (64,)), ((10, 20, 30), (3, 7, 11)), ((1, 1, 7), (1, 1, 2)), ((64, 64), (1, 64)), ((64, 64), (64, 1))],
    ids=str,
)
def test_chunks(shape: tuple[int, ...], chunk: tuple[int, ...], filters: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for dtype in ("f4", ">f8", "i2", "c8"):
            file.create_dataset(dtype, data=bits(dtype, shape), chunks=chunk, maxshape=(None,) * len(shape), **FILTERS[filters])
    store = porter.open(tmp_path / "m.h5")
    for dtype in ("f4", ">f8", "i2", "c8"):
        values = bits(dtype, shape)
        assert store[dtype].tobytes() == values.astype(values.dtype.newbyteorder("<")).tobytes()


def test_chunks_partly_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        data = file.create_dataset("a", (50, 50), "f4", chunks=(10, 10), fillvalue=3.5, compression="gzip")
        data[12:15, 30:45] = 1
        expected = data[()]
    np.testing.assert_array_equal(porter.open(tmp_path / "m.h5")["a"].numpy(), expected)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_what_only_libhdf5_reads(version: str, tmp_path: Path) -> None:
    values = np.arange(6000, dtype="i4").reshape(60, 100)
    with h5py.File(tmp_path / "m.h5", "w", libver=version) as file:
        file.create_dataset("lzf", data=values, chunks=(7, 9), compression="lzf")
        file.create_dataset("scale", data=values, chunks=(60, 100), scaleoffset=0)
        file.create_dataset("fixed", data=values.astype(">f8"), chunks=(10, 10))
        file.create_dataset("extensible", data=values, chunks=(10, 10), maxshape=(None, 100))
        file.create_dataset("tree", data=values, chunks=(10, 10), maxshape=(None, None))
        file.create_dataset("single", data=values, chunks=(60, 100), compression="gzip")
    store = porter.open(tmp_path / "m.h5")
    for name, tensor in store.items():
        np.testing.assert_array_equal(tensor.numpy(), values, err_msg=name)


def test_a_filter_of_a_plug_in_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a", data=np.zeros((8, 8)), chunks=(8, 8), compression="lzf")
    data = (tmp_path / "m.h5").read_bytes()
    at = data.index(b"lzf\0") - 8
    assert data[at : at + 2] == (32000).to_bytes(2, "little")
    (tmp_path / "m.h5").write_bytes(data[:at] + (32001).to_bytes(2, "little") + data[at + 2 :])
    with pytest.raises(FormatError) as caught:
        porter.open(tmp_path / "m.h5")
    assert caught.value.code == "F505"
    assert "h5repack" in (caught.value.hint or "")


def test_damaged_chunks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name, filters in FILTERS.items():
            file.create_dataset(name, data=np.arange(400, dtype="f4"), chunks=(400,), **filters)
        places = {name: file[name].id.get_chunk_info(0).byte_offset for name in ("gzip", "fletcher32", "all")}
    data = bytearray((tmp_path / "m.h5").read_bytes())
    for at in places.values():
        data[at + 40] ^= 1
    (tmp_path / "m.h5").write_bytes(data)
    store = porter.open(tmp_path / "m.h5")
    for name in places:
        with pytest.raises(FormatError) as caught:
            store[name].tobytes()
        assert (caught.value.code, caught.value.where.tensor) == ("F506", name)


def test_bombs(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("a", (1 << 50,), "f4", chunks=(1 << 20,))
    with h5py.File(tmp_path / "unwritten.h5", "w") as file:
        file.create_dataset("a", (1 << 40,), "f4")
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        for i in range(4):  # each alone would pass
            file.create_dataset(f"a{i}", (6 << 20,), "f4")
    with h5py.File(tmp_path / "newer.h5", "w", libver="latest") as file:
        file.create_dataset("a", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")
    for path in tmp_path.iterdir():
        with pytest.raises(UnsafeFileError) as caught:
            porter.open(path)
        assert caught.value.code == "S503"


def test_overlapping_datasets_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a"], file["b"] = np.zeros(600, "f4"), np.ones(600, "f4")
        one, other = (file[n].id.get_offset() for n in "ab")
    data = (tmp_path / "m.h5").read_bytes()
    (tmp_path / "m.h5").write_bytes(data.replace(other.to_bytes(8, "little"), (one + 8).to_bytes(8, "little")))
    with pytest.raises(FormatError, match="same bytes"):
        porter.open(tmp_path / "m.h5")


def test_the_open_file_is_read_whatever_becomes_of_its_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a", data=np.arange(100), chunks=(10,), compression="lzf")
        file["b"] = np.arange(100)
    store = porter.open(tmp_path / "m.h5")
    (tmp_path / "m.h5").unlink()
    assert store["a"].numpy().tolist() == store["b"].numpy().tolist() == list(range(100))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4))
def test_slabs_cover_everything_once_and_in_order(dims: list[tuple[int, int]]) -> None:
    shape, chunk = tuple(n for n, _ in dims), tuple(c for _, c in dims)
    flat = np.arange(int(np.prod(shape))).reshape(shape)
    parts = [
        flat[tuple(slice(s, s + n) for s, n in zip(start, count, strict=True))].ravel() for start, count in slabs(shape, chunk, 1 << 22)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), flat.ravel())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=2, max_size=300).filter(lambda d: len(d) % 2 == 0))
def test_fletcher32_is_that_of_libhdf5(data: bytes, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        made = file.create_dataset("a", data=np.frombuffer(data, np.uint8), chunks=(len(data),), fletcher32=True)
        _, stored = made.id.read_direct_chunk((0,))
    assert int.from_bytes(stored[-4:], "little") == fletcher32(data)
