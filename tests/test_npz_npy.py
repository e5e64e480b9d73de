"""`.npy` arrays, read and written, with numpy as the oracle both ways."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import porter
from porter.dtypes import DTYPES
from porter.errors import FormatError, LossError, PorterError, UnsafeFileError
from porter.io import npy
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

NUMPY_TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
SHAPES = [(), (1,), (0,), (5,), (2, 3), (3, 0, 2), (2, 1, 3), (4, 3, 2, 2), (1, 5, 1)]


def saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def opened(folder: Path, data: bytes, name: str = "a.npy") -> TensorStore:
    path = folder / name
    path.write_bytes(data)
    return porter.open(path)


def with_header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0), claimed: int | None = None) -> bytes:
    header = text.encode("latin-1")
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header) if claimed is None else claimed)
    return b"\x93NUMPY" + bytes(version) + length + header + data


def refused(folder: Path, data: bytes, code: str) -> PorterError:
    with pytest.raises(PorterError) as caught:
        opened(folder, data)
    assert caught.value.code == code, caught.value
    assert caught.value.where.path == str(folder / "a.npy")
    return caught.value


# Reading what numpy wrote


@pytest.mark.parametrize("kind", NUMPY_TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_type_order_and_layout_reads_as_numpy_reads_it(
    kind: str, order: str, layout: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(7)
    size = int(np.prod(shape))
    raw = rng.integers(0, 2 if kind == "?" else 256, size * np.dtype(kind).itemsize, dtype=np.uint8)
    array = np.asarray(raw.view(kind).reshape(shape).astype(np.dtype(kind).newbyteorder(order)), order=layout)
    data = saved(array)
    store = opened(tmp_path, data, "conv1.npy")
    assert list(store) == ["conv1"]
    tensor = store["conv1"]
    expected = np.load(io.BytesIO(data))
    assert tensor.shape == expected.shape
    assert tensor.dtype.numpy() == expected.dtype.newbyteorder("<")
    assert tensor.tobytes() == expected.astype(expected.dtype.newbyteorder("<")).tobytes("C")
    assert b"".join(map(bytes, tensor.chunks(24))) == tensor.tobytes()
    assert store.source is not None
    assert (store.source.format, store.source.dialect) == ("npz", "npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header(version: tuple[int, int], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(6, dtype="f4").reshape(2, 3), version=version)
    assert opened(tmp_path, buffer.getvalue())["a"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_in_c_order_lie_in_the_file_as_they_are(tmp_path: Path) -> None:
    tensor = opened(tmp_path, saved(np.arange(6, dtype="<f4")))["a"]
    assert tensor.location is not None
    assert (tensor.location.offset, tensor.location.nbytes) == (128, 24)


def test_fortran_order_of_one_real_axis_is_no_transpose(tmp_path: Path) -> None:
    data = with_header("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3, 1), }", np.arange(3, dtype="<f4").tobytes())
    tensor = opened(tmp_path, data)["a"]
    assert tensor.location is not None
    assert tensor.numpy().ravel().tolist() == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        hnp.floating_dtypes(endianness="?") | hnp.integer_dtypes(endianness="?") | hnp.complex_number_dtypes(endianness="?"),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    st.booleans(),
)
def test_any_array_reads_as_numpy_reads_it(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran and array.ndim else array
    tensor = opened(tmp_path_factory.mktemp("n"), saved(array))["a"]
    assert tensor.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes("C")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }", (3, 2)),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", (6,)),
        ('{"shape": (2, 3), "fortran_order": False, "descr": "<f4"}', (2, 3)),
        ("  {'fortran_order':False,'shape':(3,2,1),'descr':'<f4'}  \n", (3, 2, 1)),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L), }\n", (3, 2)),  # Python 2
        ("{'descr': '=f4', 'fortran_order': False, 'shape': (6, ), }", (6,)),
        ("{'descr': 'f4', 'fortran_order': False,\n 'shape': (\n 1, 6), }", (1, 6)),
    ],
)
def test_headers_of_other_writers(text: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    data = with_header(text, np.arange(6, dtype="<f4").tobytes())
    if "L" not in text:
        assert np.load(io.BytesIO(data)).shape == shape
    assert opened(tmp_path, data)["a"].numpy().ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert opened(tmp_path, data)["a"].shape == shape


def test_raw_two_byte_elements_are_bfloat16_and_said_to_be(tmp_path: Path) -> None:
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    store = opened(tmp_path, saved(array))
    assert store["a"].dtype.name == "bfloat16"
    assert store["a"].tobytes() == array.tobytes()
    assert [(n.kind, n.tensor) for n in store.notices] == [("assumed", "a")]


def test_raw_single_bytes_are_kept_as_bytes_and_said_to_be(tmp_path: Path) -> None:
    array = np.array([1.5, -2.0], ml_dtypes.float8_e4m3fn)
    store = opened(tmp_path, saved(array))
    assert (store["a"].dtype.name, store["a"].tobytes()) == ("uint8", array.tobytes())
    assert [n.kind for n in store.notices] == ["assumed"]


@pytest.mark.parametrize(
    "array",
    [
        np.array(["ab", "c"]),
        np.array([b"ab"]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, [("x", "f4"), ("y", "i4")]),
        np.zeros(2, "V5"),
        np.zeros(2, "g"),
    ],
    ids=["str", "bytes", "date", "record", "void", "longdouble"],
)
def test_arrays_of_no_numbers_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    error = refused(tmp_path, saved(array), "F704")
    assert error.where.tensor == "a"


# Headers that lie


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': True, 'fortran_order': False, 'shape': (1,)}",
        "{'descr': (1,), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': 'False', 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + __import__('os')",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 65 + ")}",
        "(" * 9000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 4000 + ")" * 4000 + "}",
        "-" * 9999,
        "{'a':" * 1500,
    ],
    ids=lambda text: text[:60],
)
def test_broken_headers_are_refused(text: str, tmp_path: Path) -> None:
    error = refused(tmp_path, with_header(text, b"\0" * 64), "F703")
    assert error.where.offset == 10


def test_what_numpy_refuses_in_a_header_is_refused() -> None:
    """Every one-character deletion of a header: what porter reads, numpy reads, and as the same."""
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    for i in range(len(text)):
        data = with_header(text[:i] + text[i + 1 :], b"\0" * 96)
        try:
            header = npy.read_header(lambda n, data=data: data[:n], "x")
        except FormatError:
            continue
        if npy.element_type(header.descr) is not None:
            array = np.load(io.BytesIO(data))
            assert (array.shape, array.flags.f_contiguous and array.ndim > 1) == (header.shape, header.fortran_order)


def test_headers_longer_than_numpy_reads_are_refused(tmp_path: Path) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }".ljust(10_001)
    data = with_header(text, b"\0" * 4, (2, 0))
    with pytest.raises(ValueError, match="max_header_size"):
        np.load(io.BytesIO(data))
    assert isinstance(refused(tmp_path, data, "S701"), UnsafeFileError)
    refused(tmp_path, with_header("x", b"", (2, 0), claimed=0xFFFF_FFFF), "S701")


def test_versions_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    for version in ((0, 0), (4, 0), (1, 1), (255, 255)):
        refused(tmp_path, with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", b"\0" * 4, version), "F702")


@pytest.mark.parametrize("shape", ["(3,)", "(1000000000000, 1000000000000)", "(999999999999999999,)"])
def test_shapes_larger_than_the_file_are_refused_at_once(shape: str, tmp_path: Path) -> None:
    data = with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}", b"\0" * 8)
    assert refused(tmp_path, data, "F001").hint


def test_bytes_behind_the_array_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, saved(np.arange(3.0)) + saved(np.arange(2.0)), "F706")
    assert error.where.offset == 128 + 24
    refused(tmp_path, saved(np.arange(3.0)) + b"\n", "F706")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = saved(np.arange(5, dtype="f4"))
    for n in range(6, len(data)):
        refused(tmp_path, data[:n], "F001")


# Writing


@pytest.mark.parametrize("kind", NUMPY_TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_written_array_is_what_numpy_writes_byte_for_byte(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(int(np.prod(shape))).astype(kind).reshape(shape)
    report = porter.save(TensorStore([Tensor.from_array("a", array)]), tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_bytes() == saved(array)
    assert (report.format, report.dialect, report.losses) == ("npz", "npy", ())


def test_header_lengths_of_many_shapes_are_numpys() -> None:
    for digits in range(1, 19):
        for dims in range(1, 12):
            shape = (10 ** (digits - 1),) * dims
            buffer = io.BytesIO()
            np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
            assert npy.encode_header(DTYPES["float32"], shape) == buffer.getvalue()


def test_golden_bytes(tmp_path: Path) -> None:
    porter.save(TensorStore([Tensor.from_array("a", np.array([[1.0, -2.0]], "f4"))]), tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_bytes() == (
        b"\x93NUMPY\x01\x00\x76\x00"
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
        b"                                                          \n"
        b"\x00\x00\x80\x3f\x00\x00\x00\xc0"
    )


def test_a_name_that_is_not_the_files_stem_is_reported_as_lost(tmp_path: Path) -> None:
    report = porter.save(TensorStore([Tensor.from_array("conv1.weight", np.ones(2))]), tmp_path / "w.npy")
    assert [(loss.kind, loss.tensors) for loss in report.losses] == [("name", ("conv1.weight",))]
    assert list(porter.open(tmp_path / "w.npy")) == ["w"]


@pytest.mark.parametrize("count", [0, 2])
def test_only_a_store_of_one_tensor_becomes_an_array(count: int, tmp_path: Path) -> None:
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore(Tensor.from_array(f"t{i}", np.ones(1)) for i in range(count)), tmp_path / "a.npy")
    assert caught.value.code == "L703"
    assert "npz" in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.numpy_str is None], ids=str)
def test_types_that_numpy_cannot_name_are_refused(dtype: Any, tmp_path: Path) -> None:
    tensor = Tensor(TensorSpec("a", dtype, (8,)), BytesPayload.of(bytes(dtype.nbytes(8))))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(LossError) as caught:
            porter.save(TensorStore([tensor]), tmp_path / name)
        assert caught.value.code == "L001"
        assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_more_dimensions_than_numpy_has_are_refused(tmp_path: Path) -> None:
    tensor = Tensor(TensorSpec("a", DTYPES["uint8"], (1,) * 65), BytesPayload.of(b"\1"))
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([tensor]), tmp_path / "a.npz")
    assert caught.value.code == "L702"
    porter.save(TensorStore([tensor.with_spec(shape=(1,) * 64)]), tmp_path / "b.npz")
    assert np.load(tmp_path / "b.npz")["a"].ndim == 64
