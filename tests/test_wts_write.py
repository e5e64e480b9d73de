"""Writing `.wts`: the usual script's bytes, exact widening, and refusals before anything is opened."""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wts_files import usual_text, words

import porter
from porter.dtypes import DTYPES, FLOAT32
from porter.errors import FormatError, LossError
from porter.io.payloads import ConcatPayload
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec


def store_of(**arrays: Any) -> TensorStore:
    return TensorStore(Tensor.from_array(name, np.asarray(array)) for name, array in arrays.items())


def raw(name: str, dtype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor(TensorSpec(name, DTYPES[dtype], shape), BytesPayload.of(data))


def saved(store: TensorStore, folder: Path, format: str = "wts", **options: Any) -> bytes:
    path = folder / "out.wts"
    porter.save(store, path, format, overwrite=True, **options)
    return path.read_bytes()


def test_golden_tensorrtx(tmp_path: Path) -> None:
    store = store_of(w=np.array([[1.0, -2.0], [0.0, 1e-45]], "<f4"), n=np.array(3, "<i8"), e=np.empty((0, 3), "<f4"))
    assert saved(store, tmp_path) == b"3\nw 4 3f800000 c0000000 00000000 00000001\nn 1 40400000\ne 0\n"


def test_golden_nvidia_v1(tmp_path: Path) -> None:
    store = store_of(
        w=np.array([1.0, 0.0, 1e-45, -0.0], "<f4"),
        h=np.array([1.0, 0.0, 6e-8], "<f2"),
        q=np.array([-1, 0, 10, -128], "i1"),
        n=np.array([-1, 0, 10], "<i4"),
        b=np.array([True, False]),
        e=np.empty(0, "<f4"),
    )
    assert saved(store, tmp_path, "wts:nvidia-v1") == (
        b"6\nw 0 4 3f800000 0 1 80000000 \nh 1 3 3c00 0 1 \nq 2 4 ff 0 a 80 \nn 3 3 ffffffff 0 a \nb 3 2 1 0 \ne 0 0 \n"
    )


def test_golden_nvidia_v2(tmp_path: Path) -> None:
    store = store_of(w=np.array([[1.0], [0.0]], "<f4"), h=np.array([1.0], "<f2"), q=np.array(-1, "i1"), l=np.array([7], "<i8"))
    assert saved(store, tmp_path, "wts:nvidia-v2") == (
        b"4\nw 0 (2, 1) \x00\x00\x80\x3f\x00\x00\x00\x00\nh 1 (1,) \x00\x3c\nq 2 () \xff\nl 3 (1,) \x07\x00\x00\x00\n"
    )


def test_extension_and_option_choose_the_dialect(tmp_path: Path) -> None:
    store = store_of(w=np.array([1.0], "<f4"))
    assert porter.save(store, tmp_path / "a.wts").dialect == "tensorrtx"
    assert porter.save(store, tmp_path / "a.wts2").dialect == "nvidia-v2"
    assert porter.save(store, tmp_path / "b.wts", "wts:nvidia-v1").dialect == "nvidia-v1"


def test_equals_the_usual_script_on_a_real_network(shared: Path, tmp_path: Path) -> None:
    """Byte for byte, read by torch on one side."""
    torch = pytest.importorskip("torch")
    path = shared / "real/yunet/yunet_n.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    usual = usual_text({name: tensor.reshape(-1).numpy() for name, tensor in state.items()})
    store = TensorStore(Tensor.from_array(name, tensor.numpy()) for name, tensor in state.items())
    assert saved(store, tmp_path) == usual
    back = porter.open(tmp_path / "out.wts")
    assert back.digest() == store.digest()
    assert {t.dtype.name for t in back.values()} == {"float32", "int64"}


@pytest.mark.parametrize("size", [0, 1, 7, 65_535, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("how", ["hexlify", "numpy"])
def test_both_encoders_write_the_same(how: str, size: int) -> None:
    from porter.formats.wts import encode, kernels

    data = np.random.default_rng(size).integers(0, 256, 4 * size, dtype=np.uint8).tobytes()
    wanted = b"w %d" % size + b"".join(b" " + data[i : i + 4][::-1].hex().encode() for i in range(0, len(data), 4)) + b"\n"
    written = bytearray()

    class Sink:
        def write(self, text: bytes) -> None:
            written.extend(text)

    take = encode.taken_of([memoryview(data)] if data else [], len(data))
    line = encode.Line(b"w %d" % size, b"\n", FLOAT32, take, len(data))
    pieces = (kernels.WordEncoder().encode, 4 * kernels.BLOCK) if how == "numpy" else (encode._hexlify, encode._HEXLIFY)
    encode.write_lines(Sink(), [line], encode._Padded(*pieces))  # type: ignore[arg-type]
    assert bytes(written) == wanted


def test_values_are_taken_whole_whatever_the_pieces() -> None:
    from porter.formats.wts.encode import taken_of

    data = bytes(range(100))
    for sizes in ([100], [1] * 100, [0, 3, 0, 97, 0], [64, 36]):
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        pieces = [memoryview(data)[a : a + n] for a, n in zip(starts, sizes, strict=True)]
        take, room = taken_of(iter(pieces), 100), bytearray(100)
        for start, stop in ((0, 8), (8, 8), (8, 72), (72, 100)):
            take(memoryview(room)[start:stop])
        assert room == data
    for pieces, nbytes, what in (([b"1234"], 5, "1 bytes early"), ([], 5, "5 bytes early"), ([b"1234", b"", b"5"], 4, "go on")):
        with pytest.raises(FormatError, match=what):
            taken_of((memoryview(p) for p in pieces), nbytes)(memoryview(bytearray(nbytes)))


def test_many_tensors_of_all_sizes(tmp_path: Path) -> None:
    """Small tensors share a batch, large ones take several; order, text and checksums stay right."""
    rng = np.random.default_rng(0)
    sizes = [1, 0, 70_000, 3, 200_000, 1, 1, 65_536, 0, 5] + [2] * 5000
    arrays = {f"t{i}": rng.integers(0, 1 << 32, n, dtype=np.uint32).view("<f4") for i, n in enumerate(sizes)}
    store = TensorStore(Tensor.from_array(k, v) for k, v in arrays.items())
    for format in ("wts", "wts:nvidia-v1", "wts:nvidia-v2"):
        text = saved(store, tmp_path, format)
        back = porter.open(tmp_path / "out.wts")
        assert back.digest() == store.digest()
        if format == "wts":
            wanted = [b"%d" % len(arrays)]
            wanted += [b" ".join([k.encode(), b"%d" % v.size, *(b"%08x" % w for w in v.view("<u4").tolist())]) for k, v in arrays.items()]
            assert text == b"\n".join(wanted) + b"\n"


def test_payload_pieces_that_split_elements(tmp_path: Path) -> None:
    data = np.arange(10, dtype="<f4").tobytes()
    cuts = [0, 1, 6, 7, 8, 21, 39, 40]
    parts = tuple(BytesPayload.of(data[a:b]) for a, b in itertools.pairwise(cuts))
    store = TensorStore([Tensor(TensorSpec("w", FLOAT32, (10,)), ConcatPayload(parts))])
    assert saved(store, tmp_path) == usual_text({"w": range(10)})


NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("name", [*NARROW, "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"])
def test_every_value_of_narrow_floats_widens_and_comes_back(tmp_path: Path, name: str) -> None:
    dtype = DTYPES[name]
    codes = np.arange(1 << dtype.bits, dtype=np.uint16 if dtype.bits == 16 else np.uint8)
    values = codes.view(dtype.numpy())
    store = TensorStore([Tensor.from_array("w", values)])
    report = porter.save(store, tmp_path / "m.wts")
    assert [(loss.kind, loss.saved_in) for loss in report.losses] == [("dtype", str(tmp_path / "m.wts.json"))]
    back = porter.open(tmp_path / "m.wts")
    assert back["w"].dtype == dtype
    assert back["w"].tobytes() == store["w"].tobytes()
    (tmp_path / "m.wts.json").unlink()
    flat = porter.open(tmp_path / "m.wts")["w"].numpy()
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(flat, values.astype("<f4"))
    assert len({*flat.view("<u4").tolist()}) == codes.size, "two values became one"


def test_nan_payloads_of_float32(tmp_path: Path) -> None:
    bits = np.array([0x7F800001, 0x7FC00000, 0xFFC12345, 0xFF800001, 0x7F800000, 0x80000000, 1], "<u4")
    text = saved(TensorStore([raw("w", "float32", (7,), bits.tobytes())]), tmp_path)
    assert text == b"1\nw 7 7f800001 7fc00000 ffc12345 ff800001 7f800000 80000000 00000001\n"


@pytest.mark.parametrize(
    "name", ["int8", "uint8", "int16", "uint16", "bool", "int32", "uint32", "int64", "uint64", "int4", "uint4", "int2", "uint2"]
)
@pytest.mark.parametrize("dialect", ["tensorrtx", "nvidia-v1", "nvidia-v2"])
def test_integers_go_by_value_and_come_back(tmp_path: Path, name: str, dialect: str) -> None:
    dtype = DTYPES[name]
    low, high = (
        (0, 2)
        if name == "bool"
        else (0 if dtype.kind == "uint" else -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - dtype.kind.count("int") * (dtype.kind == "int")))
    )
    edges = sorted({low, 0, 1, min(high - 1, 1 << 24), max(low, -(1 << 24))})
    values = np.array(edges).astype(dtype.numpy())
    if name in ("int64", "uint32", "uint64") and dialect == "tensorrtx":
        values = np.append(values, np.array([1 << 31], dtype.numpy()))
    if name == "int64":
        values = values[values != low] if dialect != "tensorrtx" else values
        values = values[abs(values.astype("<f8")) < 2**31] if dialect != "tensorrtx" else values
    store = TensorStore([Tensor.from_array("n", values)])
    report = porter.save(store, tmp_path / "m.wts", f"wts:{dialect}")
    back = porter.open(tmp_path / "m.wts")
    assert (back["n"].dtype, back["n"].tobytes()) == (dtype, store["n"].tobytes())
    native = dialect != "tensorrtx" and name in ("int8", "int32")
    assert [loss.kind for loss in report.losses] == ([] if native else ["dtype"])
    (tmp_path / "m.wts.json").unlink()
    flat = porter.open(tmp_path / "m.wts")["n"]
    assert flat.dtype.name == ("float32" if dialect == "tensorrtx" else name if native else "int32")
    assert flat.numpy().ravel().tolist() == values.astype("<f8" if dialect == "tensorrtx" else "<i8").tolist()


def test_nvidia_takes_large_integers_as_float32_where_int32_is_too_small(tmp_path: Path) -> None:
    store = store_of(n=np.array([1 << 40], "<i8"))
    porter.save(store, tmp_path / "m.wts", "wts:nvidia-v1")
    assert (tmp_path / "m.wts").read_bytes() == b"1\nn 0 1 53800000 \n"
    assert porter.open(tmp_path / "m.wts")["n"].numpy().tolist() == [1 << 40]


def test_ints_drop(tmp_path: Path) -> None:
    store = store_of(w=np.array([1.0], "<f4"), n=np.array(7, "<i8"), m=np.array([True]))
    store.tie(store["n"].with_spec(name="k"), "n")
    report = porter.save(store, tmp_path / "m.wts", ints="drop")
    assert (tmp_path / "m.wts").read_bytes() == b"1\nw 1 3f800000\n"
    assert [(loss.kind, loss.tensors, loss.saved_in) for loss in report.losses] == [("tensor", ("n", "m", "k"), None)]
    back = porter.open(tmp_path / "m.wts")
    assert list(back) == ["w"]
    assert not back.ties
    assert not back.notices


def test_ints_error(tmp_path: Path) -> None:
    store = store_of(w=np.array([1.0], "<f4"), n=np.array(7, "<i8"))
    with pytest.raises(LossError) as caught:
        porter.save(store, tmp_path / "m.wts", ints="error")
    assert (caught.value.code, caught.value.where.tensor) == ("L402", "n")
    assert not list(tmp_path.iterdir())
    porter.save(store_of(n=np.array([7], "<i4")), tmp_path / "m.wts", "wts:nvidia-v1", ints="error")


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.array([1.0, 0.1]), "L403"),
        (np.array([1e300]), "L403"),
        (np.array([1e-300]), "L403"),
        (np.array([(1 << 24) + 1], "<i4"), "L404"),
        (np.array([(1 << 63) - 1], "<i8"), "L404"),
        (np.array([(1 << 64) - 1], "<u8"), "L404"),
        (np.array([1j], "<c8"), "L001"),
        (np.array([1j], "<c16"), "L001"),
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, array: Any, code: str) -> None:
    store = store_of(good=np.array([1.0], "<f4"), bad=array)
    with pytest.raises(LossError) as caught:
        porter.save(store, tmp_path / "m.wts")
    assert (caught.value.code, caught.value.where.tensor) == (code, "bad")
    assert caught.value.hint
    assert not list(tmp_path.iterdir())
    if code == "L001":
        return
    report = porter.save(store, tmp_path / "m.wts", allow_lossy=True)
    lost = [loss for loss in report.losses if loss.kind == "value"]
    assert [loss.tensors for loss in lost] == [("bad",)]
    assert lost[0].saved_in is None
    assert f"1 of {array.size} {array.dtype}" in lost[0].detail
    back = porter.open(tmp_path / "m.wts")
    with np.errstate(over="ignore"):
        assert back["bad"].numpy().tobytes() == array.astype("<f4").tobytes()
    assert any(n.kind == "changed" and n.tensor == "bad" for n in back.notices)


def test_largest_change_is_stated(tmp_path: Path) -> None:
    with pytest.raises(LossError, match="2 of 3 float64") as caught:
        porter.save(store_of(w=np.array([0.1, 1.0, 1000.1])), tmp_path / "m.wts")
    assert f"{abs(float(np.float32(1000.1)) - 1000.1):.9g}" in caught.value.message


def test_float64_that_fits_is_exact(tmp_path: Path) -> None:
    bits = np.array([0x7FF0000020000000, 0xFFF8000000000000, 0x3FF0000000000000, 0x8000000000000000, 0x7FF0000000000000], "<u8")
    store = TensorStore([raw("w", "float64", (5,), bits.tobytes())])
    assert saved(store, tmp_path) == b"1\nw 5 7f800001 ffc00000 3f800000 80000000 7f800000\n"
    assert porter.open(tmp_path / "out.wts")["w"].tobytes() == bits.tobytes()
    hidden = np.array([0x7FF0000000000001], "<u8")  # a NaN whose payload float32 has no room for
    with pytest.raises(LossError):
        saved(TensorStore([raw("w", "float64", (1,), hidden.tobytes())]), tmp_path)
    saved(TensorStore([raw("w", "float64", (1,), hidden.tobytes())]), tmp_path, allow_lossy=True)
    assert math.isnan(porter.open(tmp_path / "out.wts")["w"].numpy()[0])


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a\tb", "a\nb", "a\rb", "a\x0bb", "a\xa0b", "a\u3000b", "a\x00b", "a\x7fb", "a\x85b", "\ud800"]
)
@pytest.mark.parametrize("dialect", ["tensorrtx", "nvidia-v1", "nvidia-v2"])
def test_names_that_cannot_be_written(tmp_path: Path, name: str, dialect: str) -> None:
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([raw(name, "float32", (1,), bytes(4))]), tmp_path / "m.wts", f"wts:{dialect}")
    assert (caught.value.code, caught.value.where.tensor) == ("L401", name)
    assert "rename" in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a(b)", "x(1,2)", "(", "0", "12", "ff"])
@pytest.mark.parametrize("dialect", ["tensorrtx", "nvidia-v1", "nvidia-v2"])
def test_odd_names_come_back(tmp_path: Path, name: str, dialect: str) -> None:
    store = TensorStore([raw(name, "float32", (2,), bytes(range(8))), raw("z", "float32", (1,), bytes(4))])
    porter.save(store, tmp_path / "m.wts", f"wts:{dialect}")
    assert porter.open(tmp_path / "m.wts").digest() == store.digest()


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@st.composite
def stores(draw: st.DrawFn) -> TensorStore:
    names = draw(st.lists(NAMES, unique=True, max_size=5))
    store = TensorStore()
    for name in names:
        dtype = draw(st.sampled_from(["float32", "float32", "float16", "bfloat16", "int8", "uint8", "bool", "int4"]))
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        nbytes = DTYPES[dtype].nbytes(math.prod(shape))
        data = bytearray(draw(st.binary(min_size=nbytes, max_size=nbytes)))
        if dtype == "int4" and math.prod(shape) % 2:
            data[-1] &= 15
        store.add(raw(name, dtype, shape, bytes(data)))
    return store


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(store=stores(), dialect=st.sampled_from(["tensorrtx", "nvidia-v1", "nvidia-v2"]))
def test_write_then_read_is_identity(tmp_path: Path, store: TensorStore, dialect: str) -> None:
    porter.save(store, tmp_path / "m.wts", f"wts:{dialect}", overwrite=True)
    back = porter.open(tmp_path / "m.wts")
    assert list(back) == list(store)
    assert back.digest() == store.digest()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.lists(st.integers(0, (1 << 32) - 1), max_size=40))
def test_text_is_the_words(tmp_path: Path, bits: list[int]) -> None:
    data = struct.pack(f"<{len(bits)}I", *bits)
    saved(TensorStore([raw("w", "float32", (len(bits),), data)]), tmp_path)
    (tmp_path / "out.wts.json").unlink()
    assert words(porter.open(tmp_path / "out.wts"))["w"] == [f"{b:08x}" for b in bits]
    saved(TensorStore([raw("w", "float32", (len(bits),), data)]), tmp_path, "wts:nvidia-v1")
    text = (tmp_path / "out.wts").read_bytes()
    assert text == b"1\nw 0 %d " % len(bits) + b"".join(b"%x " % b for b in bits) + b"\n"


def test_casts_know_bfloat16() -> None:
    from porter.formats.wts.casts import Cast

    values = np.array([1.5, -2.0, 3e38], ml_dtypes.bfloat16)
    stored = Cast(DTYPES["bfloat16"], FLOAT32).store(memoryview(values.view(np.uint8)))
    assert np.frombuffer(stored, "<f4").tolist() == values.astype("<f4").tolist()
    assert Cast(DTYPES["bfloat16"], FLOAT32).restore(memoryview(np.array([1.0001], "<f4").view(np.uint8))) is None
