"""Small floats and integers as float32: every code of every type, against ml_dtypes and against the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from porter.dtypes import DTYPES
from porter.io.widening import WIDENED_TO_FLOAT32, as_float32, first_inexact, whole_elements
from porter.tensor import BytesPayload, Tensor, TensorSpec


def all_codes(name: str) -> np.ndarray:
    bits = DTYPES[name].bits
    return np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8)


def widened(name: str, codes: np.ndarray) -> np.ndarray:
    return as_float32(Tensor.from_array("x", codes.view(DTYPES[name].numpy()))).numpy()


@pytest.mark.parametrize("name", WIDENED_TO_FLOAT32)
def test_every_code(name: str) -> None:
    codes = all_codes(name)
    got = widened(name, codes)
    with np.errstate(all="ignore"):
        expected = codes.view(DTYPES[name].numpy()).astype(np.float32)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


@pytest.mark.parametrize(("name", "mantissa"), [("float16", 10), ("bfloat16", 7), ("float8_e5m2", 2)])
def test_payloads_of_nans_stay(name: str, mantissa: int) -> None:
    """Sign and payload are all there, so no two NaNs become one."""
    codes = all_codes(name)
    got = widened(name, codes).view(np.uint32)
    nan = np.isnan(got.view(np.float32))
    payload = (1 << mantissa) - 1
    np.testing.assert_array_equal((got >> (23 - mantissa))[nan] & payload, codes[nan] & payload)
    np.testing.assert_array_equal((got >> 31)[nan], codes[nan] >> (DTYPES[name].bits - 1))
    assert len(set(got[nan].tolist())) == nan.sum()


def test_types_with_one_nan() -> None:
    assert widened("float8_e4m3fn", np.array([0x7F, 0xFF], np.uint8)).view(np.uint32).tolist() == [0x7FC00000, 0xFFC00000]
    assert widened("float8_e4m3fnuz", np.array([0x80], np.uint8)).view(np.uint32).tolist() == [0xFFC00000]
    assert widened("float8_e8m0fnu", np.array([0, 0xFF], np.uint8)).view(np.uint32).tolist() == [0x00400000, 0x7FC00000]


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2", "int8", "uint8", "int16", "uint16", "bool"])
def test_small_integers(name: str) -> None:
    dtype = DTYPES[name]
    codes = np.arange(2 if name == "bool" else 1 << min(dtype.bits, 8), dtype=np.uint8)
    values = codes.view(dtype.numpy()) if dtype.itemsize == 1 else codes.astype(dtype.numpy())
    if dtype.packed and dtype.kind == "int":
        values = (codes.astype(np.int8) - (1 << (dtype.bits - 1))).astype(dtype.numpy())
    tensor = Tensor.from_array("x", values)
    np.testing.assert_array_equal(as_float32(tensor).numpy(), values.astype(np.float32))
    assert first_inexact(tensor) is None


def test_float32_is_itself() -> None:
    tensor = Tensor.from_array("x", np.zeros(3, np.float32))
    assert as_float32(tensor) is tensor


def test_description_stays() -> None:
    tensor = Tensor.from_array("x", np.ones((2, 3), np.float16), axes="OI", role="weight", attributes={"a": 1})
    wide = as_float32(tensor)
    assert (wide.dtype.name, wide.shape, wide.axes, wide.role, wide.attributes) == ("float32", (2, 3), "OI", "weight", {"a": 1})


def test_in_chunks_of_any_size() -> None:
    values = np.arange(700_000, dtype=np.float16)
    tensor = Tensor.from_array("x", values)
    whole = b"".join(bytes(c) for c in as_float32(tensor).chunks(1000))
    assert whole == values.astype(np.float32).tobytes()


class Torn:
    """A payload whose chunks end within elements, as a short read makes them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nbytes = len(data)
        self.location = None

    def chunks(self, limit: int):  # type: ignore[no-untyped-def]
        for start in range(0, len(self.data), 7):
            yield memoryview(self.data)[start : start + 7]

    def buffer(self) -> memoryview:
        return memoryview(self.data)


def test_torn_chunks() -> None:
    values = np.arange(1, 1001, dtype="<u2")
    tensor = Tensor(TensorSpec("x", DTYPES["uint16"], (1000,)), Torn(values.tobytes()))
    np.testing.assert_array_equal(as_float32(tensor).numpy(), values.astype(np.float32))
    assert [bytes(c) for c in whole_elements(Torn(b"abcdefghij"), 4, 100)] == [b"abcd", b"efgh"]


@pytest.mark.parametrize(
    ("dtype", "value", "exact"),
    [
        ("<i4", 1 << 24, True),
        ("<i4", (1 << 24) + 1, False),
        ("<i4", -(1 << 31), True),
        ("<i4", (1 << 31) - 1, False),
        ("<u4", (1 << 32) - 256, True),
        ("<u4", (1 << 32) - 1, False),
        ("<i8", 1 << 62, True),
        ("<i8", -(1 << 63), True),
        ("<i8", (1 << 63) - 1, False),
        ("<u8", 1 << 63, True),
        ("<u8", (1 << 64) - 1, False),
    ],
)
def test_integers_that_are_no_float32(dtype: str, value: int, exact: bool) -> None:
    values = np.zeros(300_000, dtype)
    values[270_000] = value
    assert first_inexact(Tensor.from_array("x", values)) == (None if exact else 270_000)


def test_bytes_payload_is_not_read_for_small_types() -> None:
    assert first_inexact(Tensor(TensorSpec("x", DTYPES["int8"], (3,)), BytesPayload.of(b"abc"))) is None
