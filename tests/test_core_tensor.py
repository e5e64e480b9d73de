"""The lazy tensor: canonical bytes out of any array and back, payloads of every kind, errors that name the tensor."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from porter.dtypes import DTYPES, FLOAT32, from_numpy
from porter.errors import FormatError, UsageError
from porter.io.payloads import ComputedPayload, ConcatPayload, FortranPayload, StridedPayload, SwappedPayload, strided_extent
from porter.io.source import FileSource
from porter.tensor import BytesPayload, Payload, Tensor, TensorSpec

numeric = hnp.floating_dtypes(endianness="?") | hnp.integer_dtypes(endianness="?") | hnp.unsigned_integer_dtypes(endianness="?")
arrays = hnp.arrays(
    numeric | hnp.boolean_dtypes() | hnp.complex_number_dtypes(endianness="?"),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@settings(max_examples=120, deadline=None)
@given(arrays, st.randoms(use_true_random=False))
def test_any_array_is_held_as_little_endian_c_order(array: np.ndarray, random: Any) -> None:
    axes = list(range(array.ndim))
    random.shuffle(axes)
    view = array.transpose(axes)
    if view.ndim:
        view = view[tuple(slice(None, None, random.choice([1, -1, 2])) for _ in axes)]
    if from_numpy(view.dtype) is None:  # longdouble
        with pytest.raises(UsageError):
            Tensor.from_array("x", view)
        return
    tensor = Tensor.from_array("x", view)
    assert tensor.shape == view.shape
    assert tensor.size == view.size
    assert tensor.nbytes == view.nbytes
    assert tensor.tobytes() == view.astype(view.dtype.newbyteorder("<")).tobytes("C")
    assert tensor.numpy().shape == view.shape
    np.testing.assert_array_equal(tensor.numpy(), view)


def test_values_are_not_copied_where_they_need_not_be() -> None:
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    assert np.shares_memory(Tensor.from_array("x", array).numpy(), array)
    assert not np.shares_memory(Tensor.from_array("x", array.T).numpy(), array)


def test_arrays_given_out_are_read_only() -> None:
    for array in (np.ones(3), np.ones(0), np.array(1.0), np.ones(4, ml_dtypes.int4)):
        values = Tensor.from_array("x", array).numpy()
        assert not values.flags.writeable or not values.size


def test_bits_survive() -> None:
    for kind, codes in (("f4", [0x7F800001, 0xFFC12345, 0x80000000, 1]), ("f2", [0x7C01, 0xFE55, 0x8000, 1])):
        array = np.array(codes, "u" + kind[1]).view(kind)
        assert Tensor.from_array("x", array).tobytes() == array.tobytes()
        assert Tensor.from_array("x", array[::-1]).tobytes() == array.tobytes()[::-1][:0] + array[::-1].tobytes()
        assert Tensor.from_array("x", array.astype(array.dtype.newbyteorder(">"))).nbytes == array.nbytes
        swapped = array.view("u" + kind[1]).byteswap().view(array.dtype.newbyteorder(">"))
        assert Tensor.from_array("x", swapped).tobytes() == array.tobytes(), "byte order changes no NaN"


def test_complex_of_halves_is_a_record_of_two() -> None:
    array = np.array([(1, -2), (0.5, np.inf)], DTYPES["complex32"].numpy())
    tensor = Tensor.from_array("x", array)
    assert tensor.dtype.name == "complex32"
    assert tensor.tobytes() == np.array([1, -2, 0.5, np.inf], "<f2").tobytes()
    assert (tensor.numpy() == array).all()


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(["2020"], "M8[Y]"), np.zeros(2, [("a", "f4")])], ids=str)
def test_arrays_of_no_numbers_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UsageError) as caught:
        Tensor.from_array("x", array)
    assert (caught.value.code, caught.value.where.tensor) == ("U011", "x")


def test_masked_elements_are_refused() -> None:
    """What lies under a mask is whatever was in memory."""
    with pytest.raises(UsageError, match="masked"):
        Tensor.from_array("x", np.ma.masked_array([1.0, 2.0], [False, True]))
    assert Tensor.from_array("x", np.ma.masked_array([1.0, 2.0], [False, False])).numpy().tolist() == [1.0, 2.0]


def test_bytes_and_shape_must_agree() -> None:
    with pytest.raises(FormatError) as caught:
        Tensor(TensorSpec("x", FLOAT32, (3,)), BytesPayload.of(bytes(11)))
    assert (caught.value.code, caught.value.where.tensor) == ("F003", "x")


def test_impossible_specs_are_refused() -> None:
    with pytest.raises(FormatError) as caught:
        TensorSpec("x", FLOAT32, (3, -1))
    assert caught.value.code == "F002"
    with pytest.raises(UsageError) as usage:
        TensorSpec("x", FLOAT32, (3, 1), axes="OIH")
    assert usage.value.code == "U010"


def test_scalars_and_empty_tensors() -> None:
    scalar = Tensor.from_array("s", np.float32(2.5))
    assert (scalar.shape, scalar.size, scalar.nbytes, scalar.numpy()[()]) == ((), 1, 4, 2.5)
    empty = Tensor.from_array("e", np.empty((3, 0, 2), "f8"))
    assert (empty.size, empty.nbytes, empty.tobytes(), empty.numpy().shape) == (0, 0, b"", (3, 0, 2))
    assert list(empty.chunks()) == []


def test_with_spec_changes_the_description_and_not_the_bytes() -> None:
    tensor = Tensor.from_array("a", np.arange(6, dtype="i4"), role="weight")
    changed = tensor.with_spec(name="b", shape=(2, 3), axes="OI", attributes={"k": 1})
    assert (changed.name, changed.shape, changed.axes, changed.role, changed.attributes) == ("b", (2, 3), "OI", "weight", {"k": 1})
    assert changed.payload is tensor.payload
    with pytest.raises(FormatError):
        tensor.with_spec(shape=(7,))


def test_digest_is_sha256_of_the_canonical_bytes() -> None:
    tensor = Tensor.from_array("a", np.array([1.0], ">f4"))
    # printf '\x00\x00\x80\x3f' | sha256sum
    assert tensor.digest() == "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c"


# Payloads


def payloads(folder: Path, data: bytes) -> Iterator[tuple[str, Payload]]:
    (folder / "f").write_bytes(b"head" + data + b"tail")
    source = FileSource(folder / "f")
    yield "bytes", BytesPayload.of(data)
    yield "file", source.payload(4, len(data))
    third = len(data) // 3
    parts = (BytesPayload.of(data[:third]), source.payload(4 + third, third), BytesPayload.of(data[2 * third :]))
    yield "pieces", ConcatPayload(parts)
    yield "computed", ComputedPayload(len(data), lambda: iter([data[:1], data[1:7], b"", data[7:]]))
    elements = np.frombuffer(data, "<u2")
    yield "swapped", SwappedPayload(BytesPayload.of(elements.byteswap().tobytes()), 2)
    pieces = elements.byteswap().tobytes()
    yield (
        "swapped in odd pieces",
        SwappedPayload(ComputedPayload(len(data), lambda: (pieces[i : i + 3] for i in range(0, len(pieces), 3))), 2),
    )
    table = elements.reshape(4, -1)
    yield "fortran", FortranPayload(BytesPayload.of(table.tobytes("F")), 2, table.shape)
    yield "strided", StridedPayload(BytesPayload.of(table.tobytes("F")), np.dtype("<u2"), 0, table.shape, table.T.copy().T.strides)
    spread = b"".join(b"t" + data[i : i + 2] for i in range(0, len(data), 2))
    yield "strided over tags", StridedPayload(BytesPayload.of(spread), np.dtype("<u2"), 1, (len(data) // 2,), (3,))


def test_every_payload_gives_the_same_bytes_in_any_chunks(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 4 * 30, dtype=np.uint8).tobytes()
    for what, payload in payloads(tmp_path, data):
        assert payload.nbytes == len(data), what
        assert bytes(payload.buffer()) == data, what
        assert payload.buffer().readonly, what
        for limit in (1, 2, 3, 7, 64, 1000):
            chunks = [bytes(c) for c in payload.chunks(limit)]
            assert b"".join(chunks) == data, (what, limit)
            assert max(map(len, chunks)) <= limit, (what, limit)
        where = payload.location
        assert (where is not None) == (what == "file")
        if where is not None:
            assert (where.offset, where.nbytes) == (4, len(data))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=4))
def test_strided_extent_is_what_numpy_touches(axes: list[tuple[int, int]]) -> None:
    shape, strides = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    touched = {sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape)}
    low, high = strided_extent(shape, strides)
    assert (low, high) == ((min(touched), max(touched) + 1) if touched else (0, 0))


def test_errors_while_reading_name_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(8000))
    tensor = Tensor(TensorSpec("w", FLOAT32, (2000,)), FileSource(path).payload(0, 8000))
    with path.open("r+b") as file:
        file.truncate(4096)
    for read in (lambda: b"".join(tensor.chunks(1000)), tensor.digest):
        with pytest.raises(FormatError) as caught:
            read()
        assert (caught.value.code, caught.value.where.tensor, caught.value.where.path) == ("F005", "w", str(path))


def test_errors_keep_their_parts_when_pickled() -> None:
    error = FormatError("F001", "message", path="p", offset=7, tensor="t", hint="h")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is FormatError
    assert (copy.code, copy.message, copy.where, copy.hint, str(copy)) == (error.code, error.message, error.where, error.hint, str(error))
