"""Weights in narrow types with scales: exact arithmetic, every layout and format, torch and onnxruntime beside it."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import porter
from porter.check.precision.grids import NF4
from porter.check.precision.scales import scale_of, zero_of
from porter.errors import FormatError, LossError, UsageError
from porter.formats.registry import find_format
from porter.quantisation.arithmetic import decoded, encoded
from porter.quantisation.stored import dequantised, stored
from porter.quantisation.ways import TYPES, Way, settle
from porter.quantisation.weights import Kept, Quantised, choose, quantise
from porter.store import TensorStore
from porter.tensor import Tensor

# torch will drop its quantised tensors one day; files that hold them stay.
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per")

WAYS = [
    settle(name, per, None, affine)
    for name in TYPES
    for per in ("tensor", "channel", "group")
    for affine in ((False, True) if TYPES[name].integers else (False,))
]


def tensor_of(array: np.ndarray, name: str = "layer.weight", **more: Any) -> Tensor:
    return Tensor.from_array(name, array, **more)


def quantised(array: np.ndarray, way: Way, **more: Any) -> Quantised:
    made = quantise(tensor_of(array), way, **more)
    assert isinstance(made, Quantised)
    return made


def codes_of(q: Quantised) -> np.ndarray:
    return np.concatenate([part.copy() for part in q.slabs()]).reshape(q.tensor.shape)


def numbers_of(q: Quantised) -> np.ndarray:
    store = TensorStore([q.tensor])
    back, _ = dequantised(stored(store, {q.tensor.name: q}, "hdf5", find_format("hdf5")[0].adapter().CAPABILITIES))
    return back[q.tensor.name].numpy()


def round_half_even(x: Fraction) -> int:
    return round(x)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    st.floats(float(np.float32(1e-6)), 1e6, width=32),
    st.sampled_from([None, -128, -5, 0, 127]),
    st.sampled_from(["i8", "i4"]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_codes_are_those_of_exact_arithmetic(xs: list[float], s: float, z: int | None, name: str, ties: bool) -> None:
    kind = TYPES[name]
    x = np.array(xs)
    if ties:  # numbers half-way between two codes, and one bit beside it
        half = (np.rint(x) % 300 - 150 + 0.5) * s
        x = np.concatenate([half, np.nextafter(half, 0), np.nextafter(half, np.inf)])
    z = z if z is None else max(z, -kind.top - 1) if z < 0 else min(z, kind.top)
    zero = None if z is None else np.array([int(z)])
    codes = encoded(x, kind, np.array([s], np.float32), zero)
    least = -kind.top if z is None else -kind.top - 1
    wanted = [min(max(round_half_even(Fraction(float(v)) / Fraction(float(np.float32(s)))) + int(z or 0), least), kind.top) for v in x]
    assert codes.astype(int).tolist() == [int(w) for w in wanted]
    # What float32 holds needs no correction.
    narrow = x.astype(np.float32).astype(np.float64)
    assert np.array_equal(
        encoded(narrow, kind, np.array([s], np.float32), zero, wide=False), encoded(narrow, kind, np.array([s], np.float32), zero)
    )
    back = decoded(codes, kind.dtype, np.array([s], np.float32), zero, nf4=False)
    for q, got in zip(codes.astype(int), back, strict=True):
        exact = Fraction(int(q) - int(z or 0)) * Fraction(float(np.float32(s)))
        assert float(got) == float(np.float32(float(exact)))  # the product has fewer than 53 bits


@given(st.floats(-(2.0**127), 0, width=32), st.floats(0, 2.0**127, width=32), st.sampled_from([127.0, 7.0]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_ranges_are_covered(low: float, high: float, top: float, symmetric: bool) -> None:
    """Every number of the range is at most half a step away, the smallest and largest among them; zero is exact."""
    lo, hi = np.array([low]), np.array([high])
    scale = scale_of(lo, hi, top, symmetric)
    assert scale.dtype == np.float32
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    zero = None if symmetric else zero_of(lo, scale, top)
    kind = TYPES["i8" if top == 127 else "i4"]
    x = np.array([low, 0.0, high, low / 3, high / 7])
    codes = encoded(x, kind, scale, zero)
    assert zero is None or -top - 1 <= zero[0] <= top
    for v, q in zip(x, codes.astype(int), strict=True):
        error = abs(Fraction(float(v)) - (int(q) - int(zero[0] if zero is not None else 0)) * Fraction(float(scale[0])))
        assert error <= Fraction(float(scale[0])) / 2 * (1 + Fraction(1, 2**40))
        assert v != 0 or error == 0


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (7, 70), (3, 1), (1, 33)])
def test_every_way(way: Way, shape: tuple[int, ...]) -> None:
    """Codes and scales against numpy's own arithmetic on the whole array."""
    x = np.random.default_rng(1).normal(size=shape).astype("<f4")
    q = quantised(x, way)
    codes, back = codes_of(q), numbers_of(q)
    assert back.dtype == np.float32
    assert back.shape == shape
    rows = x.reshape(shape[0], -1).astype(np.float64)
    group = {"tensor": x.size, "channel": rows.shape[1], "group": q.layout.group}[way.scheme.granularity]
    flat = rows.reshape(1, -1) if way.scheme.granularity == "tensor" else rows
    steps = []
    for i, row in enumerate(flat):
        for j in range(0, row.size, group):
            part = row[j : j + group]
            scale = float(q.scale.reshape(flat.shape[0], -1)[i, j // group])
            got = back.reshape(flat.shape).astype(np.float64)[i, j : j + group]
            low, high = min(part.min(), 0), max(part.max(), 0)
            width = max(-low, high) / way.type.top if way.scheme.symmetric else (high - low) / (2 * way.type.top + 1)
            assert width <= scale <= width * (1 + 2**-22)
            if way.type.integers:
                assert np.abs(part - got).max() <= scale / 2 * (1 + 2**-20)
            elif way.type.name == "nf4":
                table = np.array(NF4) * scale
                assert np.array_equal(got, table[np.abs(part[:, None] - table).argmin(1)].astype("<f4"))
            else:
                assert np.array_equal(got, ((part / scale).astype(way.type.dtype.numpy()).astype(np.float64) * scale).astype("<f4"))
            steps.append(np.abs(part - got).max() / (scale * (1 if way.type.integers else way.type.top)))
    assert codes.dtype == way.type.dtype.numpy()
    f = q.fidelity
    assert f.worst == pytest.approx(max(steps))
    noise = float(((x.astype(np.float64) - back) ** 2).sum())
    assert (f.snr is None) == (noise == 0)
    if f.snr is not None:
        assert f.snr == pytest.approx(10 * math.log10(float((x.astype(np.float64) ** 2).sum()) / noise))
    assert f.zeros == int(((back == 0) & (x != 0)).sum())


def test_large_tensors_are_walked_in_slabs() -> None:
    x = np.random.default_rng(2).normal(size=(700, 9, 11, 13)).astype("<f4")
    for way in (settle("i8"), settle("i4", "group", 50, True), settle("i8", "tensor")):
        q = quantised(x, way)
        assert len(list(q.layout.slabs())) > 2
        whole = quantised(x[:200], way)
        if way.scheme.granularity != "tensor":
            assert np.array_equal(codes_of(q)[:200].astype(int), codes_of(whole).astype(int))
    last = np.ascontiguousarray(np.moveaxis(x, 0, -1))
    q = quantise(tensor_of(last, axes="HWIO"), settle("i8"))
    assert isinstance(q, Quantised)
    assert (q.layout.axis, q.assumed) == (3, False)
    assert np.array_equal(np.moveaxis(codes_of(q), -1, 0), codes_of(quantised(x, settle("i8"))))
    matrix = np.random.default_rng(2).normal(size=(3000, 200)).astype("<f4")
    rows, columns = quantised(matrix.T.copy(), settle("i4")), quantise(tensor_of(matrix), settle("i4"), axis=1)
    assert isinstance(columns, Quantised)
    assert columns.scale.shape == (94, 200)
    assert np.array_equal(columns.scale.T, rows.scale)
    assert np.array_equal(codes_of(columns).T.astype(int), codes_of(rows).astype(int))


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("affine", [False, True])
def test_as_torch_and_onnxruntime_quantise(per: Any, affine: bool) -> None:
    """Both divide in float32, so codes may differ where the quotient is half-way but for its last bits; numbers never."""
    x = np.random.default_rng(3).normal(size=(16, 200)).astype("<f4")
    q = quantised(x, settle("i8", per, None, affine))
    zero = q.zero if q.zero is not None else np.zeros(q.layout.scales, np.int64)
    codes, back = codes_of(q), numbers_of(q)
    if per == "tensor":
        theirs = torch.quantize_per_tensor(torch.tensor(x), float(q.scale), int(zero), torch.qint8)
    else:
        theirs = torch.quantize_per_channel(torch.tensor(x), torch.tensor(q.scale), torch.tensor(zero), 0, torch.qint8)
    node = {} if per == "tensor" else {"axis": 0}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **node),
            helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"], **node),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, x.shape), helper.make_tensor_value_info("c", 3, x.shape)],
        [helper.make_tensor_value_info("q", 3, x.shape), helper.make_tensor_value_info("y", 1, x.shape)],
        [onnx.numpy_helper.from_array(q.scale, "s"), onnx.numpy_helper.from_array(zero.astype(np.int8), "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    q_ort, y_ort = session.run(None, {"x": x, "c": codes})
    assert np.array_equal(y_ort, back)
    scale = q.scale.astype(np.float64).reshape(-1, *([1] * (per == "channel")))
    near = np.abs(np.abs(x / scale - np.floor(x / scale)) - 0.5) < 1e-4
    for other in (theirs.int_repr().numpy(), q_ort):
        # Without a zero point the code -128 is left out, by a range that is rounded up.
        assert near[other != codes].all()
    same = torch._make_per_tensor_quantized_tensor(torch.tensor(codes), float(q.scale), int(zero)) if per == "tensor" else None
    if same is not None:
        assert np.array_equal(same.dequantize().numpy(), back)


@pytest.mark.parametrize("range_", ["percentile", "mse", "kl"])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_ranges_that_are_cut(range_: str, per: Any) -> None:
    x = np.random.default_rng(4).standard_t(2, size=(4, 20_000)).astype("<f4")
    cut, whole = quantised(x, settle("i4", per, None, False, range_)), quantised(x, settle("i4", per))
    assert (cut.scale < whole.scale).all()
    assert cut.fidelity.clipped > 0
    limit = 7.5 * cut.scale.astype(np.float64).reshape(-1, *([1] * (per == "channel")))
    assert cut.fidelity.clipped == int((np.abs(x) > limit).sum())
    if range_ == "mse":
        assert (cut.fidelity.snr or 0) > (whole.fidelity.snr or 0)
    affine = quantised(np.abs(x), settle("i4", per, None, True, range_))
    assert (affine.zero == -8).all()  # nothing is given to numbers that are not there


def test_what_is_quantised(tmp_path: Path) -> None:
    odd = np.ones((2, 2), "<f4")
    odd[0, 1] = np.nan
    arrays = {
        "a.weight": np.ones((2, 2), "<f4"),
        "a.bias": np.ones(2, "<f4"),
        "b.bias": np.ones((2, 2), "<f4"),
        "bn.running_mean": np.ones((2, 2), "<f4"),
        "n.weight": odd,
        "i.weight": np.ones((2, 2), "<i4"),
        "e.weight": np.ones((0, 2), "<f4"),
        "d.weight": np.full((2, 2), 1e300),
    }
    store = TensorStore([Tensor.from_array(n, a) for n, a in arrays.items()])
    assert choose(store) == {
        "a.weight": None,
        "a.bias": "fewer than two axes",
        "b.bias": "bias",
        "bn.running_mean": "buffer",
        "n.weight": None,
        "i.weight": "int32",
        "e.weight": "empty",
        "d.weight": None,
    }
    assert {n for n, r in choose(store, ["[an].*"], ["n*"]).items() if r is None} == {"a.weight"}
    with pytest.raises(UsageError, match="no tensor is called 'c") as caught:
        choose(store, ["c.weight"])
    assert caught.value.code == "U823"
    found = {n: quantise(store[n], settle("i8")) for n in ("n.weight", "d.weight")}
    reasons = {n: k.reason for n, k in found.items() if isinstance(k, Kept)}
    assert reasons == {"n.weight": "NaN or infinity among its values", "d.weight": "too large for scales of float32"}
    hwio = quantise(tensor_of(np.ones((3, 3, 2, 4), "<f4"), axes="HWIO"), settle("i4"))
    assert isinstance(hwio, Kept)
    assert "channels do not come first" in hwio.reason


def test_edges() -> None:
    zeros = quantised(np.zeros((2, 3), "<f4"), settle("i8"))
    assert zeros.scale.tolist() == [1, 1]
    assert zeros.fidelity.snr is None
    tiny = np.array([[1e-45, -3e-45, 0], [1e-40, 2e-42, 5e-41]], "<f4")
    for way in (settle("i8"), settle("i4", "tensor", None, True)):
        q = quantised(tiny, way)
        assert np.abs(numbers_of(q).astype(np.float64) - tiny).max() <= q.scale.max() / 2
    lost = quantised(np.full((2, 2), 1e-200), settle("i8"))
    assert (lost.fidelity.zeros, lost.fidelity.worst > 0) == (4, True)
    # Half a step further out there is nothing but infinity.
    for array, way in (
        (np.array([[3.4028235e38, -3.4028235e38]], "<f4"), settle("i8")),
        (np.array([[62368, -65504]], "<f2"), settle("i8", None, None, True)),
    ):
        kept = quantise(tensor_of(array), way)
        assert isinstance(kept, Kept)
        assert kept.reason == "its largest numbers would come back as infinity"
    wide = np.array([[1e30, -1e-30], [1.0, 0.25]])
    assert numbers_of(quantised(wide, settle("f8_e5m2"))).dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("i9",), "U821"),
        (("i8", "group", 1), "U822"),
        (("i8", "tensor", 8), "U822"),
        (("nf4", None, None, True), "U822"),
        (("f8_e4m3", None, None, False, "mse"), "U822"),
        (("i4", None, None, False, "kl"), "U822"),
        (("i8", None, None, False, "median"), "U822"),
    ],
)
def test_ways_that_make_no_sense(arguments: tuple[Any, ...], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        settle(*arguments)
    assert caught.value.code == code
    assert caught.value.hint


# Files


def whole_store(kind: str) -> TensorStore:
    rng = np.random.default_rng(5)
    conv = Tensor.from_array("conv.weight", rng.normal(size=(4, 3, 3, 3)).astype(kind), axes="OIHW", role="weight")
    rest = {"fc.weight": rng.normal(size=(5, 7)).astype(kind), "fc.bias": np.ones(5, "<f4")}
    store = TensorStore([conv, *(Tensor.from_array(n, a) for n, a in rest.items())])
    store.metadata["made by"] = "a test"
    return store


@pytest.mark.parametrize(("format", "file"), [("pytorch", "a.pth"), ("safetensors", "a.safetensors"), ("onnx", "a.onnx"), ("hdf5", "a.h5")])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_files(way: Way, format: str, file: str, tmp_path: Path) -> None:
    """Every way through every format and back: the numbers are those that were computed, and nothing else changed."""
    kind = "<f2" if way.scheme.granularity == "channel" else "<f4"
    store = whole_store(kind)
    found = {n: q for n in ("conv.weight", "fc.weight") if isinstance(q := quantise(store[n], way), Quantised)}
    keeps = find_format(format)[0].adapter().CAPABILITIES
    held = stored(store, found, format, keeps)
    assert list(held)[:2] == ["conv.weight", "conv.weight.scale"]
    porter.save(held, tmp_path / file)
    with porter.open(tmp_path / file) as read:
        assert read["conv.weight"].dtype.name in (way.type.dtype.name, "uint8")
        back, described = dequantised(read)
        assert [d.spec.name for d in described] == list(found)
        assert list(back) == list(store)
        assert back.metadata == store.metadata
        for name, q in found.items():
            assert back[name].spec == store[name].spec
            assert np.array_equal(back[name].numpy(), numbers_of(q))
        assert back["fc.bias"].numpy().tolist() == [1] * 5


@pytest.mark.parametrize("way", [w for w in WAYS if w.type.name == "i8" and w.scheme.granularity != "group"], ids=str)
def test_torch_loads_quantised_tensors(way: Way, tmp_path: Path) -> None:
    store = whole_store("<f4")
    found = {n: q for n in ("conv.weight", "fc.weight") if isinstance(q := quantise(store[n], way), Quantised)}
    porter.save(stored(store, found, "pytorch", find_format("pytorch")[0].adapter().CAPABILITIES), tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(state) == ["conv.weight", "fc.weight", "fc.bias"]
    for name, q in found.items():
        assert state[name].dtype == torch.qint8
        assert np.array_equal(state[name].int_repr().numpy(), codes_of(q))
        assert np.array_equal(state[name].dequantize().numpy(), numbers_of(q))


def test_what_torch_quantised_is_read(tmp_path: Path) -> None:
    x = torch.tensor(np.random.default_rng(6).normal(size=(4, 6, 3)).astype("<f4"))
    scales, points = torch.rand(6).double() + 0.1, torch.arange(6)
    state = {
        "a": torch.quantize_per_tensor(x, 0.0371, 3, torch.qint8),
        "b": torch.quantize_per_tensor(x, 0.0371, 100, torch.quint8),
        "c": torch.quantize_per_tensor(x, 1e-8, 0, torch.qint32),
        "d": torch.quantize_per_channel(x, scales, points, 1, torch.quint8),
        "e": torch.quantize_per_channel(x[0], torch.rand(6), torch.rand(6), 0, torch.quint8),
        "f": torch.quantize_per_tensor(x, 0.5, 0, torch.qint8).transpose(0, 2),
    }
    torch.save(state, tmp_path / "a.pth")
    with porter.open(tmp_path / "a.pth") as store:
        back, described = dequantised(store)
        assert len(described) == len(state)
        for name, tensor in state.items():
            wanted = tensor.dequantize().numpy()
            if name == "c":  # torch rounds integers beyond 2^24 before it multiplies
                assert np.allclose(back[name].numpy(), wanted, rtol=2e-7, atol=0)
            elif name == "e":  # and zero points that are no integers cost it a rounding more
                assert np.allclose(back[name].numpy(), wanted, rtol=1e-6, atol=1e-6)
            else:
                assert np.array_equal(back[name].numpy(), wanted), name


def test_packed_codes_lie_as_documented() -> None:
    x = np.array([[-7, 3, 1], [7, -1, 0]], "<f4")
    q = quantised(x, settle("i4", "tensor"))
    held = stored(TensorStore([q.tensor]), {"layer.weight": q}, "safetensors", find_format("safetensors")[0].adapter().CAPABILITIES)
    packed = held["layer.weight"]
    assert (packed.dtype.name, packed.shape) == ("uint8", (3,))
    assert packed.tobytes() == bytes([0x39, 0x71, 0x0F])
    assert packed.attributes["quantization"] == {
        "scheme": "per_tensor_affine",
        "type": "i4",
        "scale": "layer.weight.scale",
        "packed": "int4",
        "shape": [2, 3],
    }


def test_ties_and_names_that_are_taken() -> None:
    x = tensor_of(np.random.default_rng(7).normal(size=(4, 4)).astype("<f4"), "a.weight")
    store = TensorStore([x, Tensor.from_array("a.weight.scale", np.ones(1, "<f4"))])
    store.tie(x.with_spec(name="b.weight"), "a.weight")
    store.tie(x.with_spec(name="c.weight"), "a.weight")
    q = quantise(x, settle("i8"))
    assert isinstance(q, Quantised)
    held = stored(store, {"a.weight": q}, "safetensors", find_format("safetensors")[0].adapter().CAPABILITIES)
    assert list(held) == ["a.weight", "a.weight.scale_", "a.weight.scale", "b.weight", "c.weight"]
    assert held.ties == {"c.weight": "b.weight"}
    assert [n.tensor for n in held.notices] == ["a.weight"]
    back, _ = dequantised(held)
    assert list(back) == ["a.weight", "a.weight.scale", "b.weight", "c.weight"]
    with pytest.raises(LossError) as caught:
        stored(store, {"a.weight": q}, "npz", find_format("npz")[0].adapter().CAPABILITIES)
    assert caught.value.code == "L821"


@pytest.mark.parametrize(
    "said",
    [
        "int8",
        {},
        {"scheme": "per_row_affine", "scale": "w.scale"},
        {"scheme": "per_tensor_affine", "scale": "w.scale"},
        {"scheme": "per_channel_affine", "scale": "w.scale", "axis": 1},
        {"scheme": "per_channel_affine", "scale": "w.scale", "axis": 2},
        {"scheme": "per_channel_affine", "scale": "w.scale", "axis": "0"},
        {"scheme": "per_channel_affine", "scale": ["w.scale"], "axis": 0},
        {"scheme": "per_channel_affine", "scale": "gone", "axis": 0},
        {"scheme": "per_channel_affine", "scale": "w.scale", "axis": 0, "zero_point": "gone"},
        {"scheme": "per_channel_affine", "scale": "w.scale", "axis": 0, "zero_point": "w"},
        {"scheme": "per_group_affine", "scale": "w.scale", "axis": 0, "group": 0},
        {"scheme": "per_channel_affine", "type": "i7", "scale": "w.scale", "axis": 0},
        {"scheme": "per_channel_affine", "type": "i4", "scale": "w.scale", "axis": 0},
        {"scheme": "per_channel_affine", "type": "i4", "packed": "int4", "shape": [2, 6], "scale": "w.scale", "axis": 0},
        {"scheme": "per_channel_affine", "scale": "w", "axis": 0},
    ],
    ids=str,
)
def test_descriptions_that_do_not_fit(said: Any) -> None:
    codes = Tensor.from_array("w", np.ones((2, 3), np.int8), attributes={"quantization": said})
    store = TensorStore([codes, Tensor.from_array("w.scale", np.ones(2, "<f4"))])
    with pytest.raises(FormatError) as caught:
        dequantised(store)
    assert caught.value.code == "F821"
    assert caught.value.where.tensor == "w"


def test_types_have_the_codes_of_onnx() -> None:
    assert {t.name: (t.dtype.name, t.top) for t in TYPES.values()} == {
        "i8": ("int8", 127),
        "i4": ("int4", 7),
        "f8_e4m3": ("float8_e4m3fn", 448),
        "f8_e5m2": ("float8_e5m2", 57344),
        "nf4": ("uint4", 1),
    }


@pytest.mark.parametrize("name", ["i8", "i4", "nf4", "f8_e4m3"])
@pytest.mark.parametrize(
    "scheme", ["tensor", "channel", "channel affine", "channel percentile", "tensor affine mse", "channel kl", "group 32"]
)
def test_an_audit_foresees_what_is_written(name: str, scheme: str) -> None:
    from porter.check.precision.audit import audit_tensor
    from porter.check.precision.targets import parse_targets

    x = (np.random.default_rng(8).standard_t(4, (6, 8, 3, 3)) * np.geomspace(1, 50, 6)[:, None, None, None]).astype("<f4")
    tensor = Tensor.from_array("a.weight", x)
    (judged,) = audit_tensor(tensor, parse_targets(name), every_scheme=True).verdicts
    foreseen = next((c for c in judged.costs if str(c.scheme) == scheme), None)
    if foreseen is None:
        # Grids that are not even have no zero points and are not cut.
        assert name in ("nf4", "f8_e4m3")
        assert scheme not in ("tensor", "channel", "group 32")
        return
    assert foreseen.scheme is not None
    made = quantise(tensor, Way(TYPES[name], foreseen.scheme))
    assert isinstance(made, Quantised)
    assert made.fidelity.snr == pytest.approx(foreseen.snr, abs=1e-4)
    assert (made.fidelity.zeros, made.fidelity.clipped) == (foreseen.underflow, foreseen.overflow)
