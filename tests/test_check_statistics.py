"""Statistics against numpy on the whole array: every type, values that go wrong, blocks that end anywhere."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import porter
from porter.check.statistics import levels, reading
from porter.check.statistics.channels import DEAD
from porter.check.statistics.kinds import kind_of
from porter.check.statistics.measure import PROBABILITIES, Statistics, TensorStatistics, measure, measure_tensor
from porter.check.statistics.moments import Moments
from porter.dtypes import DTYPES
from porter.errors import UsageError
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

REAL = [d for d in DTYPES.values() if d.kind != "complex"]


def one(array: np.ndarray, name: str = "a.weight", **spec: str) -> TensorStatistics:
    return measure_tensor(Tensor.from_array(name, array, **spec))


def random_values(dtype: str, size: int, seed: int = 0) -> np.ndarray:
    """Every kind of code: random bits."""
    kind = DTYPES[dtype]
    bits = np.random.default_rng(seed).integers(0, 256, size * kind.itemsize, dtype=np.uint8)
    if kind.kind == "bool":
        return bits % 2 == 1
    if kind.packed:
        bits &= (1 << kind.bits) - 1
        if kind.kind == "int":
            bits = (bits << (8 - kind.bits)).view(np.int8) >> (8 - kind.bits)
    return bits.view(kind.numpy())


def check(found: TensorStatistics, array: np.ndarray) -> None:
    """Everything against numpy in float64 (integers as Python's)."""
    with np.errstate(all="ignore"):
        wide = array.astype(np.float64).reshape(-1)
    whole = array.dtype.kind in "iu"
    finite = wide[np.isfinite(wide)]
    c = found.summary.counts
    assert c.numbers == wide.size
    assert c.nan == np.isnan(wide).sum()
    assert (c.positive_infinite, c.negative_infinite) == ((wide == np.inf).sum(), (wide == -np.inf).sum())
    assert c.zeros == (wide == 0).sum()
    assert c.negative_zeros == ((wide == 0) & np.signbit(wide)).sum()
    assert c.finite == finite.size
    s = found.summary
    if not finite.size:
        assert (s.mean, s.minimum, s.maximum, s.smallest) == (None, None, None, None)
        return
    largest = float(np.abs(finite).max())
    parts = finite / (largest or 1)
    assert s.mean == pytest.approx(float(parts.mean()) * largest, rel=1e-9, abs=1e-12 * largest)
    assert s.std == pytest.approx(float(parts.std()) * largest, rel=1e-9, abs=1e-9 * largest)
    assert s.minimum is not None
    assert s.maximum is not None
    flat = array.reshape(-1)
    if whole:
        assert (s.minimum.value, s.maximum.value) == (int(flat.min()), int(flat.max()))
        assert (flat[s.minimum.index], flat[s.maximum.index]) == (flat.min(), flat.max())
    else:
        assert (s.minimum.value, s.maximum.value) == (finite.min(), finite.max())
        assert s.minimum.index == np.flatnonzero(wide == finite.min())[0]
        assert s.maximum.index == np.flatnonzero(wide == finite.max())[0]
    magnitude = np.abs(finite[finite != 0])
    assert s.smallest == (pytest.approx(magnitude.min()) if magnitude.size else None)
    spread = found.distribution
    assert spread is not None
    assert spread.quantiles is not None
    if spread.quantiles.error == 0 and not whole:
        with np.errstate(all="ignore"):
            wanted = np.quantile(finite, PROBABILITIES)
        assert spread.quantiles.value == pytest.approx(list(wanted), rel=1e-12, nan_ok=True)
    check_histograms(found, finite)


def check_histograms(found: TensorStatistics, finite: np.ndarray) -> None:
    spread = found.distribution
    assert spread is not None
    bins, octaves = spread.linear, spread.octaves
    assert bins is not None
    assert octaves is not None
    exact = np.floor(np.abs(finite) / bins.step).astype(np.int64)
    exact = np.where(finite < 0, -1 - exact, exact) - bins.first
    assert list(bins.count) == np.bincount(exact, minlength=len(bins.count)).tolist()
    assert len(bins.count) <= 66
    assert octaves.zeros == (finite == 0).sum()
    assert sum(octaves.negative) + sum(octaves.positive) + octaves.zeros + octaves.below == finite.size
    exponent = np.frexp(finite[finite > 0])[1] - 1 - octaves.first
    counted = np.bincount(exponent[exponent >= 0], minlength=len(octaves.positive))
    assert list(octaves.positive) == counted.tolist()


@pytest.mark.parametrize("dtype", [d.name for d in REAL])
def test_every_type(dtype: str) -> None:
    array = random_values(dtype, 3000)
    check(one(array.reshape(3, 10, 100)), array)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int32", "int8"])
def test_many_blocks_are_as_one(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(1).normal(0, 3, 7001).astype(DTYPES[dtype].numpy()).reshape(7001)
    array[1234] = 0
    monkeypatch.setattr(reading, "BLOCK", 256)
    found = one(array)
    check(found, array)
    assert found.distribution is not None
    assert found.distribution.quantiles is not None
    assert found.distribution.quantiles.error == 0


def test_the_error_of_large_float64_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 256)
    monkeypatch.setattr("porter.check.statistics.measure.SORTED", 100)
    array = np.random.default_rng(1).normal(0, 3, 5000)
    found = one(array).distribution
    assert found is not None
    assert found.quantiles is not None
    assert found.quantiles.error == 2.0**-20
    wanted = np.quantile(array, PROBABILITIES)
    for value, exact in zip(found.quantiles.value, wanted, strict=True):
        assert value == pytest.approx(exact, rel=2.0**-19)


@pytest.mark.parametrize("values", [[1.0], [-0.0, 0.0], [np.nan, np.inf], [1.0] * 700, [1e-45, -1e-45, 1e-42, 0.0, -0.0], [3e38, -3e38]])
def test_particular_values(values: list[float]) -> None:
    array = np.array(values, "<f4")
    check(one(array), array)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "float8_e5m2", "float6_e3m2fn"])
def test_subnormals(dtype: str) -> None:
    info = ml_dtypes.finfo(DTYPES[dtype].numpy())
    tiny, least = float(info.smallest_normal), float(info.smallest_subnormal)
    array = np.array([tiny, -tiny, tiny - least, -least, 0.0, 1.0]).astype(DTYPES[dtype].numpy())
    assert one(array).summary.counts.subnormal == 2
    assert one(array).summary.smallest == least


def test_empty() -> None:
    found = one(np.zeros((3, 0), "<f4"))
    assert found.summary.counts.numbers == 0
    assert found.summary.channels is None
    assert found.distribution is not None
    assert (found.distribution.quantiles, found.distribution.linear, found.distribution.octaves) == (None, None, None)


def test_complex_numbers_are_two_numbers_each() -> None:
    array = np.array([[1 + 5j, 2 - 3j]], "<c8")
    found = one(array)
    assert found.summary.counts.numbers == 4
    assert found.summary.minimum is not None
    assert (found.summary.minimum.value, found.index(found.summary.minimum)) == (-3, [0, 1])


def test_integers_beyond_float64() -> None:
    array = np.array([2**63 - 1, -(2**63), 5], "<i8")
    found = one(array).summary
    assert found.minimum is not None
    assert found.maximum is not None
    assert (found.minimum.value, found.maximum.value, found.smallest) == (-(2**63), 2**63 - 1, 5)


@pytest.mark.parametrize(
    ("array", "mean", "std"),
    [
        (np.array([2**63 - 1, -(2**63), 0, 1]), 0.0, math.sqrt(2.0**125)),
        (np.array([2**53 + 1, 2**53 + 3]), 2.0**53 + 2, 1.0),
        (np.array([2**64 - 1, 2**64 - 3], "u8"), 2.0**64, 1.0),
        (np.full(10, 1.7e308), 1.7e308, 0.0),
        (np.array([1e300, -1e300, 1e-320, 1e-200]), 0.0, 1e300 / math.sqrt(2)),
        (np.array([1e-200, 3e-200]), 2e-200, 1e-200),
    ],
    ids=["i8", "i8 close together", "u8", "large", "large and small", "small"],
)
def test_moments_beyond_the_squares_of_float64(array: np.ndarray, mean: float, std: float) -> None:
    for found in (one(array).summary, one(array.reshape(2, -1)).summary):
        assert found.mean == mean
        assert found.std == pytest.approx(std, rel=1e-12)
    parts = Moments()
    parts.add(array[:1])
    parts.add(array[1:])
    assert parts.mean == pytest.approx(mean, rel=1e-12)
    assert parts.std == pytest.approx(std, rel=1e-12, abs=1e-9 * abs(mean) if array.dtype == "f8" else 0)


def test_quantiles_of_integers_stay_between_them() -> None:
    found = one(np.array([2**53 + 1, 2**53 + 3, 2**53 + 5])).distribution
    assert found is not None
    assert found.quantiles is not None
    assert found.quantiles.value[3] == 2**53 + 3
    assert 2**53 + 1 <= found.quantiles.value[0] <= found.quantiles.value[-1] <= 2**53 + 5


def test_infinities_and_nothing_finite_leave_channels_alone() -> None:
    """No warnings, which are errors here, and numbers that JSON holds."""
    found = one(np.array([[np.inf, -np.inf, 1, 2], [1, 1, 1, 1]], "<f4")).summary.channels
    assert found is not None
    assert (found.minimum.tolist(), found.maximum.tolist(), found.dead, found.spread) == ([1, 1], [2, 1], (), 2 / 1.5)
    for array in (np.full((2, 3), np.nan, "<f4"), np.full((1, 2), np.inf), np.zeros((0, 3), "<f4")):
        measured = one(array).summary
        assert measured.channels is None or (measured.channels.spread, measured.channels.dead) == (None, ())
        assert (measured.mean, measured.largest) == (None, 0)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.floats(-1e7, 1e7), st.integers(1, 9))
def test_moments_of_parts(values: list[float], shift: float, part: int) -> None:
    array = np.array(values) + shift
    m = Moments()
    for start in range(0, array.size, part):
        m.add(array[start : start + part])
    assert m.mean == pytest.approx(array.mean(), rel=1e-12, abs=1e-9)
    assert m.std == pytest.approx(array.std(), rel=1e-6, abs=1e-8 * max(abs(shift), 1e-3))


def test_a_large_mean_costs_no_digits() -> None:
    array = np.random.default_rng(0).normal(1e8, 1e-2, 100_000)
    m = Moments()
    for start in range(0, array.size, 1000):
        m.add(array[start : start + 1000])
    assert m.std == pytest.approx(np.std(array - 1e8), rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "axes", "axis"),
    [
        ((8, 3, 3, 3), None, 0),
        ((3, 3, 8, 5), "HWIO", 3),
        ((7, 5, 3), "IOW", 1),
        ((5, 300), None, 0),
        ((300, 5), "IO", 1),
        ((4, 700), "OI", 0),
        ((700, 700), "IO", 1),
        ((2, 3, 513), "IOW", 1),
    ],
)
def test_channels(shape: tuple[int, ...], axes: str | None, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porter.check.statistics.reading.BLOCK", 512)
    monkeypatch.setattr("porter.check.statistics.channels.BLOCK", 512)
    array = np.random.default_rng(2).normal(size=shape).astype("<f4")
    rolled = np.moveaxis(array, axis, 0)
    rolled[1] *= 20
    rolled[2].flat[0] = np.nan
    rolled[0] = 0
    found = one(array, axes=axes) if axes else one(array)
    channels = found.summary.channels
    assert channels is not None
    assert (channels.axis, channels.assumed, channels.count) == (axis, axes is None, shape[axis])
    flat = rolled.reshape(shape[axis], -1).astype(np.float64)
    np.testing.assert_array_equal(channels.minimum, np.nanmin(flat, 1))
    np.testing.assert_array_equal(channels.maximum, np.nanmax(flat, 1))
    largest = np.nanmax(np.abs(flat), 1)
    assert channels.dead == (0,)
    assert channels.spread == pytest.approx(largest.max() / np.median(largest[1:]))
    assert channels.widest == largest.argmax()
    check(found, array)


def test_packed_channels_begin_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porter.check.statistics.reading.BLOCK", 64)
    monkeypatch.setattr("porter.check.statistics.channels.BLOCK", 64)
    for shape in ((9, 7), (33, 3), (3, 101), (5, 1021)):
        array = np.random.default_rng(3).integers(-8, 8, shape).astype(ml_dtypes.int4)
        channels = one(array).summary.channels
        assert channels is not None
        np.testing.assert_array_equal(channels.minimum, array.astype(int).min(1))


def test_what_weight_decay_leaves_is_dead() -> None:
    array = np.ones((3, 4), "<f4")
    array[1] = DEAD / 2
    channels = one(array).summary.channels
    assert channels is not None
    assert channels.dead == (1,)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "kind"),
    [
        ("bn.running_var", "float32", (3,), "buffer"),
        ("bn.num_batches_tracked", "int64", (), "counter"),
        ("bn/moving_mean:0", "float32", (3,), "buffer"),
        ("conv.weight", "float32", (3, 4), "parameter"),
        ("conv.weight", "int8", (3, 4), "parameter"),
        ("position_ids", "int64", (1, 77), "buffer"),
        ("table", "int64", (4,), "buffer"),
        ("opt", "int64", (), "counter"),
    ],
)
def test_kinds(name: str, dtype: str, shape: tuple[int, ...], kind: str) -> None:
    assert kind_of(TensorSpec(name, DTYPES[dtype], shape)) == kind


def store() -> TensorStore:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(4, 8)).astype("<f4"), rng.normal(2, 3, 70_000).astype("<f4")
    tensors = [
        Tensor.from_array("a.weight", a),
        Tensor.from_array("b.weight", b),
        Tensor.from_array("copy.weight", a),
        Tensor.from_array("near.weight", np.where(np.arange(32).reshape(4, 8) == 3, a + 1e-3, a)),
        Tensor.from_array("one.bias", np.ones(5, "<f4")),
        Tensor.from_array("two.bias", np.ones(5, "<f4")),
        Tensor.from_array("bn.running_var", np.ones(4, "<f4")),
    ]
    made = TensorStore(tensors)
    made.tie(made["b.weight"].with_spec(name="tied.weight"), "b.weight")
    return made


def test_the_whole() -> None:
    made = store()
    found: Statistics = measure(made)
    parameters, buffers = found.groups
    assert (parameters.kind, parameters.tensors, buffers.kind, buffers.tensors) == ("parameter", 6, "buffer", 1)
    names = ("a.weight", "b.weight", "copy.weight", "near.weight", "one.bias", "two.bias")
    every = np.concatenate([made[n].numpy().reshape(-1) for n in names]).astype(np.float64)
    assert parameters.elements == every.size
    assert parameters.mean == pytest.approx(every.mean(), rel=1e-12)
    assert parameters.std == pytest.approx(every.std(), rel=1e-12)
    assert parameters.minimum is not None
    assert (parameters.minimum.value, parameters.minimum.tensor) == (every.min(), "b.weight")
    spread = parameters.distribution
    assert spread is not None
    assert spread.quantiles is not None
    for value, exact in zip(spread.quantiles.value, np.quantile(every, PROBABILITIES), strict=True):
        assert abs(value - exact) <= spread.quantiles.error * abs(exact)
    assert spread.linear is not None
    assert sum(spread.linear.count) == every.size


def test_equal_tensors() -> None:
    found = measure(store(), distribution=False).equal
    assert [(g.names, g.tied, g.constant) for g in found] == [
        (("a.weight", "copy.weight"), False, False),
        (("b.weight", "tied.weight"), True, False),
        (("one.bias", "two.bias"), False, True),
    ]


def test_patterns() -> None:
    made = store()
    assert [t.spec.name for t in measure(made, "*.bias").tensors] == ["one.bias", "two.bias"]
    with pytest.raises(UsageError, match="no tensor is called") as caught:
        measure(made, "a.weigth")
    assert caught.value.hint == "did you mean 'a.weight'?"


def test_levels_of_other_types_are_counted_as_float32_edges() -> None:
    counts = levels.LevelCounts(DTYPES["float32"])
    wide = levels.LevelCounts(DTYPES["float64"])
    array = np.array([1e300, -1e300, 1e-300, 1.0, -2.5])
    wide.add(array)
    counts.add_levels(wide.result())
    assert counts.result().total == 5


@pytest.mark.parametrize(
    "path", ["mtcnn/caffe/det3.caffemodel", "ultraface/pytorch/version-slim-320.pth", "ultraface/onnx/version-slim-320.onnx"]
)
def test_real_files(shared: Path, path: str) -> None:
    with porter.open(shared / "real" / path) as opened:
        for found in measure(opened).tensors:
            check(found, opened[found.spec.name].numpy())


def test_results_of_many_tensors_keep_no_blocks() -> None:
    array = np.arange(1 << 17, dtype=np.float32)
    one(array)
    tracemalloc.start()
    kept = [one(array) for _ in range(8)]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(kept) == 8
    assert held < array.nbytes
