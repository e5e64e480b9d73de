"""`porter diff` as a library: what is equal, what is not, and by how much, with numpy and exact fractions as oracles."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import porter
from porter.check import difference
from porter.check.compare import Comparison, Tolerance, compare
from porter.check.encodings import codes, common_type, keys
from porter.dtypes import DTYPES, DType
from porter.errors import FormatError, UsageError
from porter.formats.onnx.varints import VarintPayload
from porter.io.payloads import ComputedPayload, ConcatPayload
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

SCHEMA = json.loads((ROOT / "schemas/diff.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FLOATS = [d for d in DTYPES.values() if d.kind == "float"]
EXACT = Tolerance()


def store(**arrays: Any) -> TensorStore:
    return TensorStore(Tensor.from_array(name, np.asarray(array)) for name, array in arrays.items())


def one(a: Any, b: Any, tolerance: Tolerance = EXACT) -> Any:
    return compare(store(x=a), store(x=b), tolerance).tensors[0]


def validate(comparison: Comparison) -> None:
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    VALIDATOR.validate(document)


def from_codes(dtype: DType, values: list[int]) -> Tensor:
    """A tensor of the given bit patterns."""
    bits = sum(v << (i * dtype.bits) for i, v in enumerate(values))
    return Tensor(TensorSpec("x", dtype, (len(values),)), BytesPayload.of(bits.to_bytes(dtype.nbytes(len(values)), "little")))


def of_codes(dtype: DType, a: list[int], b: list[int], tolerance: Tolerance = EXACT) -> Any:
    return compare(TensorStore([from_codes(dtype, a)]), TensorStore([from_codes(dtype, b)]), tolerance).tensors[0]


# Verdicts


def test_equal_stores_in_any_order_are_equal() -> None:
    a, b = store(x=np.arange(6.0), y=np.ones((2, 3), "f2")), store(y=np.ones((2, 3), "f2"), x=np.arange(6.0))
    comparison = compare(a, b, EXACT)
    assert comparison.equal
    assert bool(comparison)
    assert [(t.name, t.verdict, t.difference) for t in comparison.tensors] == [("x", "equal", None), ("y", "equal", None)]


def test_equal_bits_are_equal_whatever_they_mean() -> None:
    odd = np.array([np.nan, np.inf, -0.0, 1e-45], "f4")
    assert one(odd, odd.copy(), Tolerance(rtol=0.0, ulp=0)).verdict == "equal"


def test_first_difference_is_located_in_the_tensors_shape() -> None:
    a = np.arange(24, dtype="f4").reshape(2, 3, 4)
    b = a.copy()
    b[1, 2, 1] = np.nextafter(b[1, 2, 1], np.float32(100))
    b[1, 2, 3] += 1
    t = one(a, b)
    assert (t.verdict, t.first) == ("differs", (1, 2, 1))
    assert (t.difference.first_a.value, t.difference.first_b.value) == ("21.0", "21.000002")
    assert (t.difference.first_a.bits, t.difference.first_b.bits) == ("0x41a80000", "0x41a80001")
    assert (t.difference.differing, t.difference.beyond) == (2, 2)
    assert t.difference.max_abs == 1.0


def test_first_difference_under_a_tolerance_is_the_first_beyond_it() -> None:
    t = one(np.array([1.0, 1.0, 1.0]), np.array([1.001, 1.0, 2.0]), Tolerance(atol=0.01))
    assert (t.verdict, t.first, t.difference.beyond, t.difference.differing) == ("differs", (2,), 1, 2)
    t = one(np.array([1.0, 1.0, 1.0]), np.array([1.0, 1.001, 1.002]), Tolerance(atol=0.01))
    assert (t.verdict, t.first, t.difference.beyond) == ("within tolerance", (1,), 0)


def test_zero_dimensional_tensors_have_an_empty_index() -> None:
    t = one(np.float32(1), np.float32(2))
    assert (t.verdict, t.first) == ("differs", ())


def test_empty_tensors_are_equal_and_their_shapes_count() -> None:
    assert one(np.empty((0, 3)), np.empty((0, 3))).verdict == "equal"
    assert one(np.empty((0, 3)), np.empty((0, 4))).verdict == "shape differs"
    assert one(np.empty((0, 3), "f4"), np.empty((0, 3), "f8")).verdict == "dtype differs"


def test_shapes_of_another_size_are_not_measured() -> None:
    t = one(np.zeros(3), np.zeros(4), Tolerance(atol=1.0))
    assert (t.verdict, t.difference, t.notes) == ("shape differs", None, ())


def test_shapes_of_the_same_size_say_whether_the_values_agree() -> None:
    t = one(np.arange(6.0).reshape(1, 1, 2, 3), np.arange(6.0).reshape(2, 3), Tolerance(atol=9.0))
    assert (t.verdict, t.difference) == ("shape differs", None)
    assert t.notes == ("same number of elements, equal in flat order",)
    t = one(np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T)
    assert t.verdict == "shape differs"
    assert t.difference.differing == 4
    assert t.first == (0, 1)


def test_unpaired_names_differ_and_renamed_tensors_are_found_by_their_bytes() -> None:
    a = store(same=np.ones(2), old=np.arange(5.0), gone=np.zeros(7), twin=np.full(3, 2.0))
    b = store(same=np.ones(2), new=np.arange(5.0), other=np.arange(5.0) + 1, twin2=np.full(3, 2.0), extra=np.full(3, 2.0))
    comparison = compare(a, b, EXACT)
    assert not comparison.equal
    assert comparison.only_a == ("old", "gone", "twin")
    assert comparison.only_b == ("new", "other", "twin2", "extra")
    assert comparison.same_bytes == (("old", "new"), ("twin", "twin2"))
    assert all(t.passes for t in comparison.tensors)
    validate(comparison)


def test_empty_stores_are_equal() -> None:
    assert compare(TensorStore(), TensorStore(), EXACT).equal


# Special values


def test_signed_zeros_are_bit_differences_of_size_zero() -> None:
    t = one(np.array([0.0, 1.0], "f4"), np.array([-0.0, 1.0], "f4"))
    d = t.difference
    assert t.verdict == "differs"
    assert (d.signed_zeros, d.max_abs, d.max_ulp, d.needs_atol, d.needs_rtol, d.needs_ulp) == (1, 0.0, 0, 0.0, 0.0, 0)
    assert (d.first_a.value, d.first_b.value) == ("0.0", "-0.0")
    assert t.notes == ("1 element: -0 against +0",)
    for tolerance in (Tolerance(atol=0.0), Tolerance(rtol=0.0), Tolerance(ulp=0)):
        assert one(np.float32(0), np.float32(-0.0), tolerance).verdict == "within tolerance"


def test_nan_passes_only_with_equal_bits() -> None:
    quiet, payload = np.array([0x7FC00000], "u4").view("f4"), np.array([0x7FC00001], "u4").view("f4")
    wide = Tolerance(rtol=1.0, atol=1e30, ulp=2**64)
    t = one(quiet, payload, wide)
    assert (t.verdict, t.difference.nan_bits, t.difference.one_nan) == ("differs", 1, 0)
    assert (t.difference.first_a.bits, t.difference.first_b.bits) == ("0x7fc00000", "0x7fc00001")
    t = one(quiet, np.array([1.0], "f4"), wide)
    assert (t.verdict, t.difference.nan_bits, t.difference.one_nan) == ("differs", 0, 1)
    assert (t.difference.needs_atol, t.difference.needs_rtol, t.difference.needs_ulp) == (None, None, None)
    assert one(payload, payload.copy(), wide).verdict == "equal"


def test_signalling_nans_are_told_from_quiet_ones() -> None:
    signalling, quiet = np.array([0x7F800001], "u4").view("f4"), np.array([0x7FC00001], "u4").view("f4")
    assert one(signalling, quiet).difference.nan_bits == 1
    assert one(signalling, signalling.copy()).verdict == "equal"


def test_infinity_is_close_to_nothing() -> None:
    largest = np.finfo("f4").max
    wide = Tolerance(rtol=1.0, atol=1e300, ulp=2**40)
    for pair in ((np.inf, largest), (largest, np.inf), (np.inf, -np.inf), (1.0, -np.inf)):
        t = one(np.array([pair[0], 5.0], "f4"), np.array([pair[1], 5.5], "f4"), wide)
        assert (t.verdict, t.difference.infinite, t.difference.beyond) == ("differs", 1, 1), pair
        assert t.difference.max_abs == 0.5
        assert t.difference.needs_atol is None
        assert t.difference.cosine == 1.0  # of the elements finite on both sides


def test_differences_beyond_float64_are_infinite_and_json_says_so() -> None:
    t = one(np.array([1.7e308]), np.array([-1.7e308]))
    assert t.difference.max_abs == math.inf
    assert t.difference.needs_atol is None
    validate(compare(store(x=np.array([1.7e308])), store(x=np.array([-1.7e308])), EXACT))
    assert t.to_json()["difference"]["max_abs"] == "inf"
    assert t.difference.cosine == -1.0


# ULP


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_keys_number_the_values_of_every_float_type_in_order(dtype: DType) -> None:
    every = np.arange(1 << min(dtype.bits, 16), dtype=np.uint32)
    if dtype.bits > 16:  # a sample: every exponent, and both ends of the significand
        rng = np.random.default_rng(0)
        every = rng.integers(0, 1 << dtype.bits, 1 << 15, dtype=np.uint64)
    code = every.astype(f"u{dtype.itemsize}")
    values = code.view(dtype.numpy())
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
    number = np.isfinite(wide)
    code, wide = code[number], wide[number]
    order = np.argsort(wide, kind="stable")
    ladder = keys(code, dtype)[order]
    assert (np.diff(ladder) >= 0).all()
    assert ((np.diff(ladder) == 0) == (np.diff(wide[order]) == 0)).all()
    if dtype.bits <= 16:  # every value is there, so neighbours are one apart; only -0 and +0 share a place
        assert set(np.diff(np.unique(ladder))) == {1}


@pytest.mark.parametrize(
    "name", ["float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float4_e2m1fn"]
)
def test_max_ulp_counts_steps_of_nextafter(name: str) -> None:
    kind = DTYPES[name].numpy()
    a = np.array([0.5, -0.5, 0.0, 1.5, 2.0], kind)
    b = a.copy()
    steps = [1, 2, 3, 0, 1]
    for i, n in enumerate(steps):
        for _ in range(n):
            b[i] = np.nextafter(b[i], kind.type(-6))
    assert one(a, b).difference.max_ulp == 3
    assert one(a, b, Tolerance(ulp=3)).verdict == "within tolerance"
    assert one(a, b, Tolerance(ulp=2)).difference.beyond == 1


def test_ulp_across_zero_and_over_the_whole_range() -> None:
    d = of_codes(DTYPES["float32"], [0x00000001], [0x80000002]).difference
    assert (d.max_ulp, d.signed_zeros) == (3, 0)
    d = of_codes(DTYPES["float64"], [0x7FEFFFFFFFFFFFFF], [0xFFEFFFFFFFFFFFFF]).difference
    assert d.max_ulp == 2 * 0x7FEFFFFFFFFFFFFF


def test_e8m0_has_no_sign_and_no_zero() -> None:
    d = of_codes(DTYPES["float8_e8m0fnu"], [0x00, 0x7F], [0xFE, 0x80]).difference
    assert (d.max_ulp, d.differing, d.max_abs) == (254, 2, 2.0**127 - 2.0**-127)
    assert of_codes(DTYPES["float8_e8m0fnu"], [0xFF], [0x00]).difference.one_nan == 1


# Every dtype


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_one_changed_element_of_every_dtype(dtype: DType) -> None:
    codes_a = [1] * 9
    codes_b = [1] * 7 + [0] + [1]
    comparison = compare(TensorStore([from_codes(dtype, codes_a)]), TensorStore([from_codes(dtype, codes_b)]), EXACT)
    validate(comparison)
    t = comparison.tensors[0]
    d = t.difference
    assert (t.verdict, t.first, d.differing, d.beyond) == ("differs", (7,), 1, 1)
    assert d.first_a.bits != d.first_b.bits
    assert (d.one_nan, d.nan_bits, d.infinite, d.signed_zeros) == (0, 0, 0, 0)
    assert d.max_ulp == 1
    assert d.max_abs > 0
    assert type(d.max_abs) is (float if dtype.kind in ("float", "complex") else int)
    assert of_codes(dtype, codes_a, list(codes_a)).verdict == "equal"
    assert of_codes(dtype, codes_a, codes_b, Tolerance(ulp=1)).verdict == "within tolerance"


def test_unused_bits_of_the_last_byte_are_no_values() -> None:
    a, b = from_codes(DTYPES["int4"], [1, 2, 3]), Tensor(TensorSpec("x", DTYPES["int4"], (3,)), BytesPayload.of(b"\x21\xf3"))
    t = compare(TensorStore([a]), TensorStore([b]), EXACT).tensors[0]
    assert (t.verdict, t.difference) == ("equal", None)
    assert t.notes == ("every element is equal; unused bits of the last byte differ",)


def test_64_bit_integers_are_subtracted_exactly() -> None:
    d = one(np.array([-(2**63), 2**62 + 1]), np.array([2**63 - 1, 2**62])).difference
    assert (d.max_abs, d.max_ulp) == (2**64 - 1, 2**64 - 1)
    d = one(np.array([2**62 + 1]), np.array([2**62])).difference
    assert (d.max_abs, d.differing) == (1, 1)
    d = one(np.array([2**64 - 1], "u8"), np.array([0], "u8")).difference
    assert (d.max_abs, d.needs_atol) == (2**64 - 1, math.nextafter(2.0**64, math.inf))
    assert one(np.array([2**53 + 1]), np.array([0]), Tolerance(atol=2.0**53)).verdict == "differs"


def test_booleans_with_other_bytes_differ_in_bits() -> None:
    d = of_codes(DTYPES["bool"], [1], [2]).difference
    assert (d.first_a.value, d.first_b.value, d.max_abs) == ("true", "2", 1)


def test_complex_numbers_are_measured_by_magnitude() -> None:
    a, b = np.array([3 + 4j, 1j], "c8"), np.array([0j, 1j], "c8")
    t = one(a, b)
    assert t.difference.max_abs == 5.0
    assert (t.difference.first_a.value, t.difference.first_b.value) == ("3.0+4.0j", "0.0+0.0j")
    assert one(a, b, Tolerance(atol=5.0)).verdict == "within tolerance"
    assert one(a, b, Tolerance(atol=4.99)).verdict == "differs"
    assert one(np.array([1 + 2j]), np.array([1 - 2j])).difference.first_b.value == "1.0-2.0j"


# Formulas against oracles


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays("f4", 12, elements=st.floats(width=32)),
    hnp.arrays("f4", 12, elements=st.floats(width=32)),
    st.floats(0, 1e3),
    st.floats(0, 1),
)
def test_verdicts_agree_with_numpy_isclose(a: np.ndarray, b: np.ndarray, atol: float, rtol: float) -> None:
    b = np.where(np.arange(12) % 3 == 0, b, a)  # some equal elements
    same = a.view("u4") == b.view("u4")
    with np.errstate(all="ignore"):
        wide_a, wide_b = a.astype("f8"), b.astype("f8")
        close = np.isfinite(wide_a) & np.isfinite(wide_b) & (np.abs(wide_a - wide_b) <= atol + rtol * np.abs(wide_b))
    t = one(a, b, Tolerance(rtol=rtol, atol=atol))
    d = t.difference
    assert (d.differing if d else 0) == (~same).sum()
    assert (d.beyond if d else 0) == (~(same | close)).sum()
    if d:
        both = np.isfinite(wide_a) & np.isfinite(wide_b)
        assert d.max_abs == np.abs(wide_a[both] - wide_b[both]).max(initial=0.0)
        assert d.first == np.flatnonzero(~(same | close) if d.beyond else ~same)[0]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300)), min_size=1, max_size=8), st.sampled_from(["f8", "f4", "f2"]))
@example([(0.0, 2.225073858507203e-309)], "f8")
def test_the_needed_tolerance_passes_and_the_next_smaller_fails(pairs: list[tuple[float, float]], kind: str) -> None:
    with np.errstate(all="ignore"):
        a, b = np.array([p[0] for p in pairs]).astype(kind), np.array([p[1] for p in pairs]).astype(kind)
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    d = one(a, b).difference
    if d is None:
        return
    for field, key in (("needs_atol", "atol"), ("needs_rtol", "rtol"), ("needs_ulp", "ulp")):
        needed = getattr(d, field)
        if needed is None:
            continue
        assert one(a, b, Tolerance(**{key: needed})).verdict == "within tolerance", key
        smaller = needed - 1 if key == "ulp" else math.nextafter(needed, 0.0)
        # Products among the subnormal numbers are rounded so coarsely that much smaller factors pass.
        fine = smaller > 1e-290 and np.abs(b[b != 0]).astype("f8").min(initial=1) > 1e-290
        if 0 <= smaller < needed and (key != "rtol" or fine):
            passes = one(a, b, Tolerance(**{key: smaller})).verdict == "within tolerance"
            # A quotient may need rounding up twice to pass everywhere, so the very next value may pass as well.
            assert not passes or (key == "rtol" and one(a, b, Tolerance(rtol=needed * (1 - 1e-15))).verdict == "differs")


def test_no_relative_tolerance_helps_where_b_is_zero() -> None:
    d = one(np.array([1e-9, 1.0]), np.array([0.0, 1.0])).difference
    assert (d.needs_rtol, d.needs_atol) == (None, 1e-9)


def test_either_tolerance_lets_an_element_pass() -> None:
    a = np.array([0.0, 1e6], "f4")
    b = np.array([1e-30, 1e6 + 0.0625], "f4")
    assert one(a, b, Tolerance(ulp=1)).difference.beyond == 1
    assert one(a, b, Tolerance(atol=1e-20)).difference.beyond == 1
    assert one(a, b, Tolerance(ulp=1, atol=1e-20)).verdict == "within tolerance"


@settings(max_examples=60, deadline=None)
@given(hnp.arrays("f8", 9, elements=st.floats(-1e150, 1e150)), hnp.arrays("f8", 9, elements=st.floats(-1e150, 1e150)))
def test_cosine_agrees_with_exact_fractions(a: np.ndarray, b: np.ndarray) -> None:
    t = one(a, b)
    if t.difference is None:
        return
    exact = [[Fraction(float(v)) for v in side] for side in (a, b)]
    ab = sum(x * y for x, y in zip(*exact, strict=True))
    aa, bb = (sum(x * x for x in side) for side in exact)
    if not aa or not bb:
        assert t.difference.cosine is None
        return
    squared = Fraction(ab * ab, 1) / (aa * bb)
    expected = math.copysign(math.sqrt(squared), ab)
    assert t.difference.cosine == pytest.approx(expected, abs=1e-12)


def test_cosine_neither_overflows_nor_vanishes() -> None:
    for scale in (1e300, 1e-300, 5e-324):
        a = np.array([1.0, 2.0, 3.0, 0.0]) * scale
        b = np.array([1.0, 2.0, 3.0, 1.0]) * scale
        assert one(a, b).difference.cosine == pytest.approx(math.sqrt(14 / 15), abs=1e-12), scale
    mixed = np.concatenate([np.full(difference.BLOCK, 1e-200), np.full(3, 1e200)])
    other = mixed.copy()
    other[-1] = -1e200
    assert one(mixed, other).difference.cosine == pytest.approx(1 / 3)


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal(1000).astype("f4")
    b = a.copy()
    b[rng.integers(0, 1000, 50)] += 1e-3
    b[777] = np.nan
    whole = one(a, b, Tolerance(atol=1e-9)).difference
    monkeypatch.setattr(difference, "BLOCK", 48)
    pieces = one(a, b, Tolerance(atol=1e-9)).difference
    assert pieces.cosine == pytest.approx(whole.cosine, abs=1e-15)
    for field in ("differing", "beyond", "max_abs", "max_ulp", "one_nan", "first", "first_a", "first_b"):
        assert getattr(pieces, field) == getattr(whole, field), field


# Types that differ


def test_a_cast_that_lost_nothing_is_said_to_have_lost_nothing() -> None:
    a = np.array([1.5, -0.0, np.inf, np.nan], "f2")
    t = one(a, a.astype("f4"))
    assert (t.verdict, t.difference) == ("dtype differs", None)
    assert t.notes == ("values are equal after widening float16 to float32",)
    assert one(a, a.astype("f4"), Tolerance(ulp=0)).verdict == "within tolerance"


def test_a_cast_that_lost_something_is_measured_in_the_wider_type() -> None:
    a = np.array([1.0, 1 / 3], "f4")
    t = one(a, a.astype("f2"))
    assert t.verdict == "dtype differs"
    assert t.notes[0] == "values compared after widening float16 to float32"
    assert t.difference.max_abs == abs(float(a[1]) - float(a.astype("f2")[1]))
    steps = int(a[1:].view("u4")[0]) - int(a.astype("f2").astype("f4")[1:].view("u4")[0])
    assert t.difference.max_ulp == abs(steps)
    assert (t.difference.first_a.bits, t.difference.first_b.bits) == ("0x3eaaaaab", "0x3555")
    assert one(a, a.astype("f2"), Tolerance(rtol=1e-3)).verdict == "within tolerance"
    assert one(a, a.astype("f2"), Tolerance(rtol=1e-5)).verdict == "differs"


def test_both_are_widened_where_neither_holds_the_other() -> None:
    a = np.array([1.0, 0.5], ml_dtypes.bfloat16)
    t = one(a, a.astype("f2"))
    assert t.notes == ("values are equal after widening bfloat16 and float16 to float32",)


@pytest.mark.parametrize("a", FLOATS, ids=str)
@pytest.mark.parametrize("b", FLOATS, ids=str)
def test_the_common_type_holds_every_value_of_both(a: DType, b: DType) -> None:
    common = common_type(a, b)
    assert common is not None
    for dtype in (a, b):
        width = min(dtype.bits, 16)
        pattern = np.arange(1 << width, dtype=np.uint64) << np.uint64(dtype.bits - width)
        values = pattern.astype(f"u{dtype.itemsize}").view(dtype.numpy())
        with np.errstate(all="ignore"):
            wide = values.astype(np.float64)
            kept = values.astype(common.numpy()).astype(np.float64)
        np.testing.assert_array_equal(kept, wide)
        np.testing.assert_array_equal(np.signbit(kept), np.signbit(wide))


@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "u8", "i8"])
def test_integers_of_two_types_compare_as_integers(kind: str) -> None:
    a = np.array([0, 1, 100])
    t = one(a.astype("i2"), a.astype(kind))
    assert (t.verdict, t.difference) == ("dtype differs", None)
    t = one(np.array([0, 1, 101], "i2"), a.astype(kind), Tolerance(atol=1.0))
    assert (t.verdict, t.difference.max_abs) == ("within tolerance", 1)


def test_signed_and_unsigned_64_bit_integers_compare_exactly() -> None:
    d = one(np.array([-1, 5, -(2**63)]), np.array([2**64 - 1, 5, 2**63], "u8")).difference
    assert (d.differing, d.max_abs) == (2, 2**64 - 1)  # 2**64 itself is beyond the count, which stays at its largest
    assert one(np.array([2**62 + 1]), np.array([2**62 + 1], "u8")).difference is None
    assert one(np.array([2**62 + 1]), np.array([2**62], "u8")).difference.max_abs == 1


def test_an_integer_that_float64_cannot_hold_equals_no_float() -> None:
    t = one(np.array([2**53 + 1, 3]), np.array([2.0**53, 3.0]))
    assert t.difference.differing == 1
    assert t.difference.max_abs >= 1
    assert t.difference.needs_ulp >= 1
    assert one(np.array([2**53, 3]), np.array([2.0**53, 3.0], "f4")).difference is None
    assert one(np.array([2**64 - 1], "u8"), np.array([2.0**64])).difference.differing == 1


def test_integers_beside_floats() -> None:
    t = one(np.array([1, 2], "i8"), np.array([1.0, 2.5], "f4"))
    assert t.difference.max_abs == 0.5
    assert t.notes[0] == "values compared as float64"
    assert one(np.array([True, False]), np.array([1.0, 0.0], "f4")).difference is None
    assert one(np.array([0]), np.array([-0.0])).difference.signed_zeros == 1


def test_real_beside_complex() -> None:
    assert one(np.array([1.0, 2.0], "f4"), np.array([1.0, 2.0], "c8")).difference is None
    assert one(np.array([1.0, 2.0], "f4"), np.array([1.0, 2 + 3j], "c8")).difference.max_abs == 3.0
    assert one(np.array([1, 2**53 + 1]), np.array([1.0, 2.0**53], "c16")).difference.differing == 1


# Payloads, files, digests


def test_chunks_of_the_two_sides_need_not_match() -> None:
    data = np.arange(1000, dtype="<f4").tobytes()
    spec = TensorSpec("x", DTYPES["float32"], (1000,))
    pieces = [data[i : i + 7] for i in range(0, 4000, 7)]
    odd = Tensor(spec, ComputedPayload(4000, lambda: iter(pieces)))
    parts = Tensor(spec, ConcatPayload((BytesPayload.of(data[:1]), BytesPayload.of(b""), BytesPayload.of(data[1:]))))
    assert compare(TensorStore([odd]), TensorStore([parts]), EXACT).equal
    changed = bytearray(data)
    changed[2003] ^= 1
    other = Tensor(spec, ConcatPayload((BytesPayload.of(changed[:999]), BytesPayload.of(changed[999:]))))
    t = compare(TensorStore([odd]), TensorStore([other]), EXACT).tensors[0]
    assert (t.first, t.difference.differing) == ((500,), 1)


def test_digests_are_those_of_the_stores() -> None:
    a, b = store(x=np.ones(3), y=np.ones(2), z=np.ones(1)), store(x=np.ones(3), y=np.zeros(2), w=np.ones(4))
    comparison = compare(a, b, EXACT, digests=True)
    assert (comparison.digest_a, comparison.digest_b) == (a.digest(), b.digest())
    for t in comparison.tensors:
        assert (t.a.digest, t.b.digest) == (a[t.name].digest(), b[t.name].digest())
    validate(comparison)


def test_progress_counts_the_bytes_of_both_sides() -> None:
    seen: list[int] = []
    compare(store(x=np.ones(1000), y=np.ones(500)), store(x=np.ones(1000), y=np.ones(500)), EXACT, progress=seen.append)
    assert sum(seen) == 2 * 8 * 1500


@pytest.mark.parametrize("bad", [{"rtol": -1.0}, {"atol": math.nan}, {"atol": math.inf}, {"ulp": -1}])
def test_tolerances_that_are_none_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        compare(store(x=np.ones(1)), store(x=np.ones(1)), Tolerance(**bad))
    assert caught.value.code == "U801"


def test_files_are_named(tmp_path: Path) -> None:
    porter.save(store(x=np.ones(3)), tmp_path / "a.safetensors")
    porter.save(store(x=np.ones(3)), tmp_path / "b.npz")
    comparison = porter.diff(tmp_path / "a.safetensors", tmp_path / "b.npz")
    assert isinstance(comparison, Comparison)
    document = comparison.to_json()
    assert document["equal"] is True
    assert document["a"] == {"path": str(tmp_path / "a.safetensors"), "format": "safetensors", "digest": None}
    assert document["b"]["format"] == "npz"
    validate(comparison)


def test_equal_files_are_compared_without_numpy(tmp_path: Path) -> None:
    for name in ("a", "b"):
        porter.save(store(x=np.ones(3), y=np.zeros((2, 2), "f2")), tmp_path / f"{name}.safetensors")
    script = (
        "import sys, porter\n"
        f"assert porter.diff({str(tmp_path / 'a.safetensors')!r}, {str(tmp_path / 'b.safetensors')!r}).equal\n"
        "print([m for m in ('numpy', 'ml_dtypes', 'torch', 'onnx', 'h5py') if m in sys.modules])\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_codes_of_packed_types_are_unpacked_low_bits_first() -> None:
    assert codes(bytearray(b"\x21\x43"), DTYPES["uint4"], 4).tolist() == [1, 2, 3, 4]
    assert codes(bytearray(b"\xc1\x40\x20"), DTYPES["float6_e2m3fn"], 4).tolist() == [1, 3, 4, 8]


def test_a_file_that_says_more_than_its_shape_needs_is_refused_though_the_rest_is_equal() -> None:
    """Behind the last byte that is compared a reader finds what does not belong there."""
    encoded = bytes(range(128)) * 1024
    tensor = Tensor(TensorSpec("x", DTYPES["int8"], (len(encoded),)), BytesPayload.of(encoded))
    more = VarintPayload(BytesPayload.of(encoded + b"\1"), DTYPES["int8"], len(encoded), "file")
    with pytest.raises(FormatError, match="needs 131072 numbers"):
        compare(TensorStore([tensor]), TensorStore([Tensor(tensor.spec, more)]))
