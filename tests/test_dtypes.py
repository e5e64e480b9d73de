"""The one dtype table against every library that names the same types."""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors
import torch

from porter.dtypes import BY_ONNX, BY_SAFETENSORS, BY_TORCH, BY_TORCH_STORAGE, DTYPES, DType, from_numpy
from porter.tensor import BytesPayload, Tensor, TensorSpec

every = pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)


@every
def test_numpy_agrees_on_kind_and_width(dtype: DType) -> None:
    array_type = dtype.numpy()
    assert array_type.itemsize == dtype.itemsize
    if dtype.name == "complex32":
        assert array_type.names == ("real", "imag")
        return
    assert array_type.name == dtype.name
    if dtype.numpy_str is not None:
        assert array_type.str == dtype.numpy_str
        assert {"f": "float", "i": "int", "u": "uint", "b": "bool", "c": "complex"}[array_type.kind] == dtype.kind
    elif dtype.kind == "float":
        assert ml_dtypes.finfo(array_type).bits == dtype.bits
    else:
        assert ml_dtypes.iinfo(array_type).bits == dtype.bits
        assert (ml_dtypes.iinfo(array_type).min < 0) == (dtype.kind == "int")


@every
def test_arrays_of_either_byte_order_are_recognised(dtype: DType) -> None:
    assert from_numpy(dtype.numpy()) is dtype
    if dtype.numpy_str is not None:
        assert from_numpy(dtype.numpy().newbyteorder(">")) is dtype


@pytest.mark.parametrize(
    "other",
    ["O", "S3", "U2", "M8[s]", "m8[s]", "V4", "g", "G", [("x", "f4")], [("real", "f4"), ("imag", "f4")], "(2,)f4"],
    ids=str,
)
def test_types_that_hold_no_weights_are_not(other: object) -> None:
    assert from_numpy(np.dtype(other)) is None  # type: ignore[call-overload]


def test_every_type_of_ml_dtypes_that_a_format_here_stores_is_in_the_table() -> None:
    theirs = {n for n in dir(ml_dtypes) if n.startswith(("float", "bfloat", "int", "uint"))}
    unknown = {"float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "int1", "uint1"}  # in no file format that porter reads
    assert theirs - unknown <= set(DTYPES)


def test_torch_has_every_name_and_every_name_has_a_row() -> None:
    for name, dtype in BY_TORCH.items():
        theirs = getattr(torch, name)
        assert isinstance(theirs, torch.dtype)
        assert theirs.itemsize == dtype.itemsize
        assert theirs.is_complex == (dtype.kind == "complex")
    saved = {str(v).removeprefix("torch.") for v in vars(torch).values() if isinstance(v, torch.dtype)}
    # Sub-byte integers are placeholders in torch and quantised types are handled apart; float4 pairs have no elements of their own.
    apart = {f"{kind}{n}" for kind in ("int", "uint", "bits") for n in range(1, 8)} | {"bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"}
    assert {n for n in saved - set(BY_TORCH) - apart if not n.startswith(("q", "float4"))} == set()


def test_torch_storages_hold_what_the_table_says() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather not have typed storages, and its files name them
        for name, dtype in BY_TORCH_STORAGE.items():
            assert str(getattr(torch, name).dtype) == f"torch.{dtype.torch}"
    theirs = {n for n in dir(torch) if n.endswith("Storage") and n not in ("Storage", "TypedStorage", "UntypedStorage")}
    assert {n for n in theirs if not n.startswith("Q")} == set(BY_TORCH_STORAGE)


def test_onnx_codes() -> None:
    codes = {k: v for k, v in onnx.TensorProto.DataType.items() if k not in ("UNDEFINED", "STRING")}
    names = {
        "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "BOOL": "bool",
        "FLOAT8E4M3FN": "float8_e4m3fn", "FLOAT8E4M3FNUZ": "float8_e4m3fnuz", "FLOAT8E5M2": "float8_e5m2",
        "FLOAT8E5M2FNUZ": "float8_e5m2fnuz", "FLOAT8E8M0": "float8_e8m0fnu", "FLOAT4E2M1": "float4_e2m1fn",
        "FLOAT6E2M3": "float6_e2m3fn", "FLOAT6E3M2": "float6_e3m2fn",
    }  # fmt: skip
    assert {code: BY_ONNX[code].name for code in codes.values()} == {code: names.get(name, name.lower()) for name, code in codes.items()}
    for code, dtype in BY_ONNX.items():
        if code in codes.values():
            assert from_numpy(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))) is dtype


def test_safetensors_codes_are_all_that_the_library_reads() -> None:
    def reads(code: str) -> bool:
        header = b'{"a":{"dtype":"%s","shape":[8],"data_offsets":[0,%d]}}'
        bits = BY_SAFETENSORS[code].bits if code in BY_SAFETENSORS else 8
        text = header % (code.encode(), bits)
        try:
            safetensors.deserialize(len(text).to_bytes(8, "little") + text + bytes(bits))
        except safetensors.SafetensorError:
            return False
        return True

    assert all(map(reads, BY_SAFETENSORS))
    assert not any(map(reads, ("C128", "I4", "U4", "I2", "F8_E4M3B11", "F128", "float32")))


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.torch], ids=str)
def test_bytes_mean_the_same_to_torch_and_numpy(dtype: DType) -> None:
    data = np.random.default_rng(2).integers(0, 256, 64 * dtype.itemsize, dtype=np.uint8)
    if dtype.name == "bool":
        data &= 1
    theirs = torch.frombuffer(bytearray(data), dtype=getattr(torch, str(dtype.torch)))
    ours = data.view(dtype.numpy())
    if dtype.kind == "complex":
        wide = theirs.to(torch.complex128).numpy()
        with np.errstate(invalid="ignore"):
            flat = data.view({"complex32": "f2", "complex64": "f4", "complex128": "f8"}[dtype.name]).astype("f8").reshape(-1, 2)
        np.testing.assert_array_equal(np.stack((wide.real, wide.imag), 1), flat)
    elif dtype.kind == "float":
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(theirs.to(torch.float64).numpy(), ours.astype("f8"))
    else:
        np.testing.assert_array_equal(theirs.numpy(), ours)


def test_canonical_sizes_round_up_to_whole_bytes() -> None:
    assert [DTYPES["int4"].nbytes(n) for n in range(5)] == [0, 1, 1, 2, 2]
    assert [DTYPES["float6_e2m3fn"].nbytes(n) for n in range(5)] == [0, 1, 2, 3, 3]
    assert [DTYPES["int2"].nbytes(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert DTYPES["complex128"].nbytes(3) == 48


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.packed], ids=str)
def test_packed_types_put_the_first_element_in_the_low_bits(dtype: DType) -> None:
    codes = np.arange(1 << dtype.bits, dtype=np.uint8)
    number = sum(int(c) << (i * dtype.bits) for i, c in enumerate(codes))
    data = number.to_bytes(dtype.nbytes(codes.size), "little")
    spec = TensorSpec("w", dtype, (codes.size,))
    values = Tensor(spec, BytesPayload.of(data)).numpy()
    if dtype.kind == "int":
        expected = np.where(codes >> (dtype.bits - 1), codes.astype(int) - (1 << dtype.bits), codes)
        np.testing.assert_array_equal(values.astype(int), expected)
    else:
        np.testing.assert_array_equal(values.view(np.uint8), codes)
    assert Tensor.from_array("w", values).tobytes() == data


def test_short_names_are_unique() -> None:
    assert len({d.short for d in DTYPES.values()}) == len(DTYPES)
    assert len({d.safetensors for d in DTYPES.values() if d.safetensors}) == len(BY_SAFETENSORS)
