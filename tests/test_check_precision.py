"""Audits against the casts of ml_dtypes, numpy and torch, and quantisation against torch's and onnxruntime's."""

from __future__ import annotations

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import porter
from porter.check.precision import ranges
from porter.check.precision.audit import TensorAudit, audit, audit_tensor
from porter.check.precision.costs import Cost
from porter.check.precision.epsilons import epsilons
from porter.check.precision.equalisation import advise, by_order
from porter.check.precision.folding import audit_folded, fold, folded_by_order, pairs
from porter.check.precision.grids import NF4
from porter.check.precision.rounding import Rounder, limits
from porter.check.precision.targets import TARGETS, parse_targets
from porter.check.precision.verdicts import landing, watched
from porter.dtypes import DTYPES
from porter.errors import UsageError
from porter.io.float_layouts import FLOAT_LAYOUTS
from porter.mapping.ops.rounding import rounded
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

CASTS = [t for t in TARGETS.values() if t.layout is not None and t.dtype is not None]


def one(array: np.ndarray, types: str, name: str = "a.weight", every: bool = False) -> TensorAudit:
    return audit_tensor(Tensor.from_array(name, array), parse_targets(types), every_scheme=every)


def cost(array: np.ndarray, type_: str, scheme: str | None = None, every: bool = True) -> Cost:
    (verdict,) = one(array, type_, every=every).verdicts
    (found,) = [c for c in verdict.costs if (c.scheme is None if scheme is None else str(c.scheme) == scheme)]
    return found


def check_cast(array: np.ndarray, name: str, found: Cost) -> None:
    """Counts bit for bit, errors to the precision of their sums; `array` holds floats of any type."""
    kind = DTYPES[TARGETS[name].dtype or ""].numpy()
    wide = array.astype(np.float64)
    wide = wide[np.isfinite(wide)]
    with np.errstate(all="ignore"):
        narrow, changed = rounded(wide, DTYPES[TARGETS[name].dtype or ""])
        back = narrow.astype(np.float64)
        if array.dtype == np.float32:
            # The other library's cast, which rounds float32 once.
            np.testing.assert_array_equal(array[np.isfinite(array)].astype(kind).astype(np.float64), back)
    at = limits(FLOAT_LAYOUTS[TARGETS[name].dtype or ""])
    over = ~np.isfinite(back) | (np.abs(wide) > at.overflow) | ((np.abs(wide) == at.overflow) & at.overflow_at)
    assert found.overflow == changed.overflowed
    normal = float(ml_dtypes.finfo(kind).smallest_normal)
    assert found.overflow == over.sum()
    assert found.underflow == ((back == 0) & (wide != 0)).sum()
    assert found.subnormal == ((back != 0) & (np.abs(back) < normal)).sum()
    error = (wide - back)[~over]
    x = wide[~over]
    some = x != 0
    largest = np.max(np.abs(error[some] / x[some]), initial=0)
    assert found.max_relative == pytest.approx(largest, rel=1e-6)
    if np.any(wide):
        relative = math.sqrt(np.sum((error / np.abs(wide).max()) ** 2) / np.sum((wide / np.abs(wide).max()) ** 2))
        assert found.relative == pytest.approx(relative, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("name", [t.name for t in CASTS])
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e-7, 1e-3, 0.02, 1, 300, 6e4, 1e30])
def test_casts(name: str, scale: float) -> None:
    array = (np.random.default_rng(0).standard_t(3, 40_000) * scale).astype("<f4")
    check_cast(array, name, cost(array, name))


@pytest.mark.parametrize("name", [t.name for t in CASTS])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e5m2"])
def test_random_bits(name: str, dtype: str) -> None:
    kind = DTYPES[dtype]
    bits = np.random.default_rng(1).integers(0, 256, 30_000 * kind.itemsize, dtype=np.uint8)
    array = bits.view(kind.numpy())
    with np.errstate(invalid="ignore"):
        array = np.where(np.isfinite(array.astype(np.float64)), array, 0)
    if dtype == "float64":
        array = np.clip(array, -1e150, 1e150)
    check_cast(array, name, cost(array, name))


@pytest.mark.parametrize("name", [t.name for t in CASTS])
def test_thresholds(name: str) -> None:
    """At every limit, and one step to both sides of it; ties go to the even number."""
    layout = TARGETS[name].layout
    assert layout is not None
    at = limits(layout)
    edges = np.array([at.overflow, at.largest, at.zero, at.subnormal, at.normal, 3 * at.zero])
    if at.overflow < 3.4e38:
        edges = edges.astype("<f4").astype(np.float64)
    narrow = edges.astype("<f4")
    values = np.concatenate([edges, np.nextafter(narrow, np.float32(0)), np.nextafter(narrow, np.float32(np.inf))])
    with np.errstate(over="ignore"):
        array = values.astype("<f4")
    array = array[np.isfinite(array)]
    for x in np.concatenate([array, -array]):
        check_cast(np.array([x], "<f4"), name, cost(np.array([x], "<f4"), name))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_any_numbers(values: list[float]) -> None:
    array = np.array(values, "<f4")
    for target in CASTS:
        check_cast(array, target.name, cost(array, target.name))


def test_tf32_is_ten_bits_of_mantissa() -> None:
    array = np.array([1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-12, 1e-40, 3.4e38], "<f4")
    found = Rounder(TARGETS["tf32"].layout, False).rounded(array[:3], np.empty(3, "<f4"))  # type: ignore[arg-type]
    assert found.tolist() == [1 + 2**-10, 1.0, 1 + 2**-10]
    result = cost(array, "tf32")
    assert (result.overflow, result.underflow, result.subnormal) == (0, 0, 1)


def test_what_fp16_does_to_1e_10() -> None:
    """The issue's own example."""
    found = one(np.full((4, 5), 1e-10, "<f4"), "f16,bf16,tf32")
    half, brain, tensor = found.verdicts
    assert (half.verdict, half.reason) == ("keep f32", "20 of 20 numbers become zero")
    assert (brain.verdict, tensor.verdict) == ("ok", "ok")
    (result,) = half.costs
    assert (result.underflow, result.max_relative, result.relative, result.snr) == (20, 1.0, pytest.approx(1.0), pytest.approx(0, abs=1e-5))
    assert np.all(np.full(20, 1e-10, "<f4").astype(np.float16) == 0)


def weights(shape: tuple[int, ...] = (16, 8, 3, 3), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp2(rng.uniform(-4, 4, (shape[0],) + (1,) * (len(shape) - 1)))).astype("<f4")


def snr(x: np.ndarray, q: np.ndarray) -> float:
    x, q = x.astype(np.float64), q.astype(np.float64)
    return 10 * math.log10((x**2).sum() / ((x - q) ** 2).sum())


def check_scaled(found: Cost, x: np.ndarray, q: np.ndarray) -> None:
    assert found.snr == pytest.approx(snr(x, q), abs=1e-3)
    assert found.underflow == ((q == 0) & (x != 0)).sum()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_int8_of_a_tensor_is_torchs() -> None:
    x = weights()
    scale = float(np.float32(np.abs(x).max() / 127))
    q = torch.quantize_per_tensor(torch.from_numpy(x), scale, 0, torch.qint8).dequantize().numpy()
    check_scaled(cost(x, "i8", "tensor"), x, q)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_int8_of_channels_is_torchs() -> None:
    x = weights()
    scale = (np.abs(x).reshape(16, -1).max(1).astype(np.float64) / 127).astype("<f4")
    scales = torch.from_numpy(scale.astype(np.float64))
    q = torch.quantize_per_channel(torch.from_numpy(x), scales, torch.zeros(16, dtype=torch.long), 0, torch.qint8).dequantize()
    check_scaled(cost(x, "i8", "channel"), x, q.numpy())


@pytest.mark.parametrize("scheme", ["tensor", "channel", "tensor affine", "channel affine"])
def test_int8_is_onnxruntimes(scheme: str) -> None:
    x = weights() + (0.3 if "affine" in scheme else 0)
    rows = x.reshape(16, -1) if "channel" in scheme else x.reshape(1, -1)
    low, high = (f(rows, axis=1).astype(np.float64) for f in (np.min, np.max))
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = ((high - low) / 255 if "affine" in scheme else np.maximum(-low, high) / 127).astype("<f4")
    zero = np.rint(-128 - low / scale).astype(np.int8) if "affine" in scheme else np.zeros_like(scale, np.int8)
    axis = {"axis": 0} if "channel" in scheme else {}
    shape = [16] if axis else []
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **axis),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **axis),
    ]
    graph = helper.make_graph(
        nodes,
        "q",
        [helper.make_tensor_value_info("x", 1, x.shape)],
        [helper.make_tensor_value_info("y", 1, x.shape)],
        [onnx.numpy_helper.from_array(scale.reshape(shape), "s"), onnx.numpy_helper.from_array(zero.reshape(shape), "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (q,) = session.run(None, {"x": x})
    check_scaled(cost(x, "i8", scheme), x, q)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("inner", [(3, 50), (200,), (16,), (128,)])
def test_groups(group: int, inner: tuple[int, ...]) -> None:
    x = weights((6, *inner))
    rows = x.reshape(6, -1)
    parts = []
    for row in rows:
        for start in range(0, row.size, group):
            part = row[start : start + group]
            scale = np.float32(float(np.abs(part).max()) / 7)
            parts.append(np.rint(part / scale) * scale)
    check_scaled(cost(x, "i4", f"group {group}"), x.reshape(-1), np.concatenate(parts))


def test_nf4_takes_the_nearest_of_sixteen() -> None:
    x = weights((4, 128))
    parts = []
    for part in x.reshape(-1, 64):
        scale = np.abs(part).max()
        grid = np.array(NF4, "<f4")
        parts.append(grid[np.abs(part[:, None] / scale - grid).argmin(1)] * scale)
    check_scaled(cost(x, "nf4", "group 64", every=False), x.reshape(-1), np.concatenate(parts))


@pytest.mark.parametrize(("name", "dtype"), [("f8_e4m3", "float8_e4m3fn"), ("f8_e5m2", "float8_e5m2"), ("f4_e2m1", "float4_e2m1fn")])
def test_small_floats_with_scales(name: str, dtype: str) -> None:
    """As TensorRT's FP8 and the MX formats are used; a cast of such weights alone would lose most of them."""
    kind = getattr(ml_dtypes, dtype)
    x = weights() * np.float32(1e-4)
    scale = (np.abs(x).reshape(16, -1).max(1).astype(np.float64) / float(ml_dtypes.finfo(kind).max)).astype("<f4").reshape(16, 1, 1, 1)
    q = (x / scale).astype(kind).astype("<f4") * scale
    check_scaled(cost(x, name, "channel"), x, q)
    found = one(x, name, every=True)
    assert found.verdicts[0].costs[0].scheme is None
    if name == "f8_e4m3":
        assert one(x, name).verdicts[0].verdict == "keep f32"
        assert found.verdicts[0].verdict != "keep f32"
        assert found.verdicts[0].reason.startswith("scaled, ")


@pytest.mark.parametrize(("name", "each"), [("pow2", 1), ("log", 2)])
def test_logarithmic_grids(name: str, each: int) -> None:
    x = weights((8, 32))
    top = np.abs(x).max()
    exponent = np.rint(np.log2(np.abs(x.astype(np.float64) / top)) * each)
    q = np.sign(x) * np.exp2(exponent / each) * top
    assert cost(x, name, "tensor", every=False).snr == pytest.approx(snr(x, q), abs=0.02)


def test_channels_that_are_not_first() -> None:
    x = weights()
    first = cost(x, "i8", "channel")
    turned = Tensor.from_array("a", np.ascontiguousarray(x.transpose(2, 3, 1, 0)), axes="HWIO", role="kernel")
    last = audit_tensor(turned, parse_targets("i8"))
    (found,) = [c for c in last.verdicts[0].costs if str(c.scheme) == "channel"]
    assert (found.snr, found.underflow) == (pytest.approx(first.snr, abs=1e-4), first.underflow)
    with_groups = audit_tensor(turned, parse_targets("i8"), every_scheme=True)
    assert not [c for c in with_groups.verdicts[0].costs if c.scheme and c.scheme.group]


@pytest.mark.parametrize("block", [64, 100, 1000])
def test_many_blocks_are_as_one(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = weights()
    x[3] = 0
    types = "f16,f8_e4m3,i8,i4,nf4"
    whole = one(x, types, every=True)
    for module in ("porter.check.statistics.reading", "porter.check.statistics.channels", "porter.check.precision.audit"):
        monkeypatch.setattr(f"{module}.BLOCK", block)
    parts = one(x, types, every=True)
    for a, b in zip(whole.verdicts, parts.verdicts, strict=True):
        for c, d in zip(a.costs, b.costs, strict=True):
            if c.scheme is None or not c.scheme.group or block >= 72:
                assert (c.overflow, c.underflow, c.subnormal) == (d.overflow, d.underflow, d.subnormal), str(c)
                assert c.snr == pytest.approx(d.snr, abs=1e-6)


def test_what_is_no_number_takes_no_part() -> None:
    x = weights()
    dirty = np.concatenate([x.reshape(16, -1), np.full((16, 3), np.nan, "<f4")], 1)
    dirty[:, -1] = np.inf
    clean, found = one(x.reshape(16, -1), "f16,i8"), one(dirty, "f16,i8")
    for a, b in zip(clean.verdicts, found.verdicts, strict=True):
        for c, d in zip(a.costs, b.costs, strict=True):
            assert (c.overflow, c.underflow, c.subnormal) == (d.overflow, d.underflow, d.subnormal)
            assert c.snr == pytest.approx(d.snr, abs=1e-6)


@pytest.mark.parametrize("array", [np.zeros((3, 4), "<f4"), np.zeros((0, 4), "<f4"), np.full((2, 2), np.nan, "<f4")])
def test_nothing_to_lose(array: np.ndarray) -> None:
    found = one(array, "f16,i8,i4,nf4,pow2,f4_e2m1", every=True)
    for verdict in found.verdicts:
        assert verdict.verdict in ("ok", "per-channel") or not verdict.costs or verdict.lacking
        assert all((c.overflow, c.underflow, c.snr) == (0, 0, None) for c in verdict.costs)


def test_ranges_that_cut() -> None:
    x = np.random.default_rng(0).standard_normal((8, 4000)).astype("<f4")
    x[0, 0] = 60
    plain, percentile, mse, kl = (cost(x, "i4", s) for s in ("tensor", "tensor percentile", "tensor mse", "tensor kl"))
    assert plain.overflow == 0
    assert percentile.overflow == pytest.approx(3, abs=3)
    body = np.abs(x.reshape(-1)).max
    assert body() == 60
    # Least squares is the best of its candidates, and better than the whole range.
    assert (mse.snr or 0) >= max(plain.snr or 0, percentile.snr or 0, kl.snr or 0) - 0.1
    assert 1 <= kl.overflow < 2000
    found = ranges.Magnitudes(np.array([60.0]))
    found.add(x.reshape(1, -1), np.zeros(1, np.intp))
    assert found.cut("percentile", 7)[0] == pytest.approx(np.quantile(np.abs(x), 0.9999), abs=2 * 60 / 2048)


def test_the_mse_range_is_the_best_there_is() -> None:
    x = np.random.default_rng(3).laplace(size=(1, 20_000)).astype("<f4")
    largest = float(np.abs(x).max())
    tried = []
    for part in np.linspace(0.1, 1, 200):
        scale = np.float32(largest * part / 7)
        tried.append(snr(x, np.clip(np.rint(x / scale), -7, 7) * scale))
    assert cost(x, "i4", "tensor mse").snr == pytest.approx(max(tried), abs=0.05)


def brute_cut(x: np.ndarray, how: str, most: int) -> float:
    """The definitions, one range after another."""
    magnitude = np.abs(x.astype(np.float64))
    largest = magnitude.max()
    count = np.bincount(np.minimum((magnitude / largest * 2048).astype(int), 2047), minlength=2048).astype(float)
    if how == "percentile":
        return largest * (np.searchsorted(count.cumsum(), np.ceil(0.9999 * x.size)) + 1) / 2048
    costs = {}
    for edge in range(max(128, most + 1 if how == "kl" else 0), 2049, 8):
        if how == "mse":
            middle = np.arange(2048) + 0.5
            costs[edge] = float((count * (middle - np.clip(np.rint(middle * most / edge), 0, most) * edge / most) ** 2).sum())
            continue
        weight = np.where(np.arange(2048) == 0, 0, count)
        p, q = weight[:edge].copy(), np.zeros(edge)
        p[-1] += weight[edge:].sum()
        for step in range(most + 1):
            part = slice(step * edge // (most + 1), (step + 1) * edge // (most + 1))
            filled = weight[part] > 0
            if filled.any():
                q[part][filled] = weight[part].sum() / filled.sum()
        q[(p > 0) & (q == 0)] = 1e-9 * p.sum()
        kept = p > 0
        costs[edge] = float((p[kept] / p.sum() * np.log((p[kept] / p.sum()) / (q[kept] / q.sum()))).sum())
    least = min(costs.values())
    return largest * max(e for e, c in costs.items() if c <= least + 1e-12 * max(1, least)) / 2048


@pytest.mark.parametrize("how", ["percentile", "mse", "kl"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_ranges_of_channels_against_brute_force(how: str, symmetric: bool) -> None:
    x = np.random.default_rng(5).standard_t(4, (3, 2000)).astype("<f4")
    x[1] += 0.5
    x[2] = np.abs(x[2])
    q = np.empty_like(x)
    for i, row in enumerate(x):
        cut = brute_cut(row, how, 7)
        low, high = max(min(float(row.min()), 0), -cut), min(max(float(row.max()), 0), cut)
        width = max(-low, high) / 7 if symmetric else (high - low) / 15
        scale = np.float32(width)
        if scale < width:
            scale = np.nextafter(scale, np.float32(1e9))
        zero = 0 if symmetric else np.rint(-8 - low / scale)
        q[i] = (np.clip(np.rint(row / scale) + zero, -7 if symmetric else -8, 7) - zero) * scale
    found = cost(x, "i4", f"channel{'' if symmetric else ' affine'} {how}")
    assert found.snr == pytest.approx(snr(x, q), abs=1e-3)
    # Channels that come last are the same channels, in many rows.
    last = Tensor.from_array("a.kernel", np.ascontiguousarray(x.T), axes="IO")
    (judged,) = audit_tensor(last, parse_targets("i4"), every_scheme=True).verdicts
    assert found.snr == pytest.approx(next(c.snr for c in judged.costs if c.scheme == found.scheme), abs=1e-4)


def test_ranges_of_many_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many looks as it takes."""
    x = np.random.default_rng(6).laplace(size=(10, 300)).astype("<f4")
    whole = cost(x, "i4", "channel kl")
    monkeypatch.setattr(ranges, "AT_ONCE", 3)
    assert cost(x, "i4", "channel kl") == whole


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("bn.running_var", "variance"),
        ("layer1-bn.variance", "variance"),
        ("bn/moving_variance:0", "variance"),
        ("PReLU1.slope", "slope"),
        ("conv.prelu.weight", "slope"),
        ("conv.weight", None),
        ("bn.running_mean", None),
    ],
)
def test_what_is_watched(name: str, what: str | None) -> None:
    assert watched(TensorSpec(name, DTYPES["float32"], (3,))) == what


def test_verdicts() -> None:
    small = np.array([1e-6, 1.0, 2.0, 3.0], "<f4")
    assert one(small, "f16", "bn.running_var").verdicts[0].reason == "1 of 4 numbers becomes subnormal, and a variance is watched"
    (bias,) = one(small, "f16", "a.bias").verdicts
    assert (bias.verdict, landing(bias.costs[0], 4), landing(bias.costs[0], 11)) == ("ok", "1 of 4 numbers becomes subnormal", None)
    assert one(np.array([7e4, 1], "<f4"), "f16").verdicts[0].reason == "1 of 2 numbers overflows"
    assert one(small, "i8", "a.bias").verdicts[0].verdict == "keep f32"
    uneven = weights()
    assert one(uneven, "i8").verdicts[0].verdict == "per-channel"
    even = np.random.default_rng(0).uniform(-1, 1, (8, 100)).astype("<f4")
    assert one(even, "i8").verdicts[0].verdict == "ok"
    assert one(even, "i8").verdicts[0].best == cost(even, "i8", "tensor", every=False)
    assert one(np.float16(even), "f16").verdicts[0].reason == "exact"


def test_a_wide_channel_hides_nothing() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (4, 200)).astype("<f4")
    x[3] *= 1000
    x[1] = 0
    found = one(x, "i8").verdicts[0]
    assert found.verdict == "per-channel"
    whole, channel = found.costs
    scale = np.float32(float(np.abs(x).max()) / 127)
    q = np.rint(x / scale) * scale
    assert whole.snr == pytest.approx(snr(x, q), abs=1e-3)
    assert whole.worst_channel == pytest.approx(min(snr(x[i], q[i]) for i in (0, 2, 3)), abs=1e-3)
    assert (whole.snr or 0) > 40 > 1 > (whole.worst_channel or 0)
    assert (channel.worst_channel or 0) > 40


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e38, 1e-36])
def test_numbers_whose_squares_float64_lacks(scale: float) -> None:
    x = weights().astype(np.float64)
    found = one(x * scale, "bf16,i8")
    same = one(x, "bf16,i8")
    # Scales are float32, which reaches neither 1e298 nor 1e-302.
    expected = [c.snr for c in same.verdicts[1].costs] if 1e-100 < scale < 1e100 else [0.0, 0.0]
    assert [c.snr for c in found.verdicts[1].costs] == pytest.approx(expected, abs=0.01)
    if 1e-30 < scale < 1e30:
        assert found.verdicts[0].best == same.verdicts[0].best
    else:
        (cast,) = found.verdicts[0].costs
        assert cast.overflow + cast.underflow + cast.subnormal > 0


def test_totals() -> None:
    arrays = {"a.weight": weights(), "n": np.arange(3), "b.bias": np.ones(3, "<f4")}
    store = TensorStore([Tensor.from_array(name, array) for name, array in arrays.items()])
    found = audit(store, parse_targets("bf16,i8"))
    assert [(p.name, p.what) for p in found.passed_over] == [("n", "integers")]
    brain, whole = found.totals
    assert (brain.ok, brain.nbytes) == (2, 2 * (weights().size + 3))
    assert (whole.per_channel, whole.keep, whole.nbytes) == (1, 1, weights().size + 12)
    x = np.concatenate([weights().reshape(-1), np.ones(3, "<f4")])
    assert brain.snr == pytest.approx(snr(x, x.astype(ml_dtypes.bfloat16)), abs=1e-3)


def test_epsilons() -> None:
    half, brain, eight = epsilons(parse_targets("f16,bf16,f8_e4m3"), 1e-5)
    assert (half.becomes, half.subnormal) == (float(np.float16(1e-5)), True)
    assert (brain.becomes, brain.subnormal) == (float(ml_dtypes.bfloat16(1e-5)), False)
    assert (eight.becomes, eight.subnormal) == (0, False)


def test_unknown_types() -> None:
    with pytest.raises(UsageError, match="there is no type 'fp16'") as caught:
        parse_targets("i8,fp16")
    assert caught.value.hint == "did you mean 'f16'?"


def network(bias: bool, scale: bool) -> TensorStore:
    rng = np.random.default_rng(0)
    x = weights((16, 8, 3, 3))
    tensors = [Tensor.from_array("conv.weight", x)]
    if bias:
        tensors.append(Tensor.from_array("conv.bias", rng.normal(size=16).astype("<f4")))
    parts = {"running_mean": rng.normal(size=16), "running_var": rng.uniform(0.01, 4, 16)}
    if scale:
        parts |= {"weight": rng.uniform(0.5, 2, 16), "bias": rng.normal(size=16)}
    tensors += [Tensor.from_array(f"bn.{k}", v.astype("<f4")) for k, v in parts.items()]
    tensors.append(Tensor.from_array("fc.weight", weights((5, 16))))
    return TensorStore(tensors)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_folding_is_torchs(bias: bool, scale: bool) -> None:
    store = network(bias, scale)
    (pair,) = pairs(store)
    assert pair.weight.name == "conv.weight"
    conv = torch.nn.Conv2d(8, 16, 3, bias=bias).double()
    norm = torch.nn.BatchNorm2d(16, affine=scale).double().eval()
    state = {name: torch.from_numpy(store[name].numpy().astype(np.float64)) for name in store}
    conv.load_state_dict({k.partition(".")[2]: v for k, v in state.items() if k.startswith("conv.")})
    norm.load_state_dict({k.partition(".")[2]: v for k, v in state.items() if k.startswith("bn.")}, strict=False)
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm)
    weight, offset = fold(pair, 1e-5)
    np.testing.assert_allclose(weight.numpy(), fused.weight.detach().numpy(), rtol=1e-7)
    np.testing.assert_allclose(offset.numpy(), fused.bias.detach().numpy(), rtol=1e-7, atol=1e-7)
    targets = parse_targets("f16,i8")
    made = folded_by_order(store, lambda spec: 1e-5)
    found, of_bias = audit_folded(made, audit(store, targets).tensors, targets, every_scheme=False, least_snr=20)
    assert (of_bias.after.spec.name, of_bias.before is not None) == ("conv.bias", bias)
    expected = cost(weight.numpy(), "f16")
    after = found.after.verdicts[0].best
    assert after is not None
    assert (after.underflow, after.subnormal, after.snr) == (expected.underflow, expected.subnormal, pytest.approx(expected.snr, abs=1e-4))


def test_folding_of_a_caffe_file(shared: Path) -> None:
    with porter.open(shared / "real/yoloface/yoloface-500k_v2_yoloface-500k-v2.caffemodel") as store:
        found = list(pairs(store))
        assert len(found) == 52
        assert all({"weight", "mean", "variance", "scale_factor", "gamma", "beta"} <= set(p.parts) for p in found)
        assert all(p.parts["gamma"].name.replace("scale", "conv") == p.weight.name for p in found)


def test_equalisation() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((6, 40)).astype("<f4"), rng.standard_normal((7, 6)).astype("<f4")
    first[2] *= 100
    second[:, 2] /= 100
    (advice,) = advise(by_order([Tensor.from_array("a.weight", first), Tensor.from_array("b.weight", second)]))
    r1, r2 = np.abs(first).max(1).astype(np.float64), np.abs(second).max(0).astype(np.float64)
    assert advice.before == pytest.approx(r1.max() / np.median(r1))
    even = np.abs(first * (np.sqrt(r1 * r2) / r1)[:, None]).max(1)
    assert advice.after == pytest.approx(even.max() / np.median(even))
    assert not list(advise(by_order([Tensor.from_array("a.weight", first), Tensor.from_array("c.weight", rng.standard_normal((7, 5)))])))


@pytest.mark.parametrize(
    ("value", "target", "reason"),
    [
        (np.nan, "i8", "2 NaN, which i8 lacks"),
        (np.inf, "i4", "2 infinite, which i4 lacks"),
        (-np.inf, "nf4", "2 infinite, which nf4 lacks"),
        (np.nan, "f4_e2m1", "2 NaN, which f4_e2m1 lacks"),
        (np.inf, "f8_e4m3", "2 infinite, which f8_e4m3 lacks"),
        (np.nan, "f8_e4m3", None),
        (np.inf, "f8_e5m2", None),
        (np.inf, "f16", None),
    ],
)
def test_what_a_type_has_no_code_for(value: float, target: str, reason: str | None) -> None:
    array = np.full((4, 6), 1.0, "<f4")
    array[2, :2] = value
    (judged,) = audit_tensor(Tensor.from_array("a.weight", array), parse_targets(target), every_scheme=True).verdicts
    assert judged.verdict == ("ok" if reason is None else "keep f32")
    if reason is not None:
        assert judged.reason == reason
    assert all(min(c.overflow, c.underflow, c.subnormal) >= 0 for c in judged.costs)
    assert all(c.relative is None or np.isfinite(c.relative) for c in judged.costs)


def test_what_overflows_leaves_no_snr() -> None:
    (judged,) = audit_tensor(Tensor.from_array("a", np.array([1e39, 1.1, 2.2])), parse_targets("f16")).verdicts
    (cost,) = judged.costs
    assert (cost.overflow, cost.snr) == (1, None)
