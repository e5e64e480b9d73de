"""Rounding from float64 to every type, against oracles that know only which values a type has."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.dtypes import DTYPES, DType
from porter.io.float_layouts import FLOAT_LAYOUTS
from porter.mapping.ops.base import OperationError
from porter.mapping.ops.rounding import Rounding, rounded, widened

SMALL = [DTYPES[n] for n, layout in FLOAT_LAYOUTS.items() if DTYPES[n].bits <= 16]
SIGNED = [d for d in SMALL if d.name != "float8_e8m0fnu"]
FLOATS = [DTYPES[n] for n in FLOAT_LAYOUTS]
INTEGERS = [d for d in DTYPES.values() if d.kind in ("int", "uint")]
SATURATING = {"float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"}
E8M0 = DTYPES["float8_e8m0fnu"]


def ids(dtype: DType) -> str:
    return dtype.name


def codes_of(array: np.ndarray, dtype: DType) -> np.ndarray:
    return array.view(f"u{dtype.itemsize}")


def every(dtype: DType) -> np.ndarray:
    """An element for every code."""
    codes = np.arange(1 << dtype.bits, dtype=f"<u{dtype.itemsize}")
    return codes.view(dtype.numpy())


@cache
def positive(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """The positive values of a type and their codes in rising order, by ml_dtypes' own decoding; 0 among them."""
    with np.errstate(invalid="ignore"):
        values = every(dtype).astype(np.float64)
    codes = np.arange(values.size)
    fit = np.isfinite(values) & (values >= 0) & ~np.signbit(values)
    order = np.argsort(values[fit])
    return values[fit][order], codes[fit][order]


def nearest(value: np.ndarray, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """What finite positive values become: codes, and whether they are too large. By comparison with exact midpoints."""
    values, codes = positive(dtype)
    gap = values[-1] - values[-2] if dtype.name != E8M0.name else values[-1]
    ladder = np.append(values, values[-1] + gap)
    middles = (ladder[:-1] + ladder[1:]) / 2  # exact: both have at most 12 bits
    index = np.searchsorted(middles, value, "left")
    tie = index < middles.size
    tie[tie] = middles[index[tie]] == value[tie]
    all_codes = np.append(codes, codes[-1] + 1)
    index = np.where(tie & (all_codes[np.minimum(index, codes.size)] % 2 == 1), index + 1, index)
    return all_codes[np.minimum(index, codes.size)], index >= codes.size


def beyond(dtype: DType) -> int:
    top = int(positive(dtype)[1][-1])
    return top if dtype.name in SATURATING else top + 1


def trial_values(dtype: DType, count: int = 20000) -> np.ndarray:
    """Every value, every midpoint, their neighbours in float64, and values of all magnitudes."""
    values, _ = positive(dtype)
    ladder = np.append(values, values[-1] * 2)
    middles = (ladder[:-1] + ladder[1:]) / 2
    exact = np.concatenate([ladder, middles])
    random = np.random.default_rng(7)
    spread = np.exp2(random.uniform(-1080, 1023, count)) * random.uniform(1, 2, count)
    near = np.exp2(random.uniform(-140, 20, count)) * random.uniform(1, 2, count)
    with np.errstate(over="ignore"):
        return np.concatenate([exact, np.nextafter(exact, np.inf), np.nextafter(exact, 0), spread, near, [5e-324, 1.7e308]])


@pytest.mark.parametrize("dtype", SIGNED, ids=ids)
def test_every_value_and_every_midpoint(dtype: DType) -> None:
    values = trial_values(dtype)
    values = values[np.isfinite(values)]
    expected, large = nearest(values, dtype)
    expected = np.where(large, beyond(dtype), expected)
    for sign in (1.0, -1.0):
        result, counts = rounded(sign * values, dtype)
        codes = codes_of(result, dtype).astype(np.int64)
        signed = expected.copy()
        if sign < 0:
            signed[(expected != 0) | ("fnuz" not in dtype.name)] |= 1 << (dtype.bits - 1)
        np.testing.assert_array_equal(codes, signed)
        assert counts.overflowed == np.count_nonzero(large)
        assert counts.underflowed == np.count_nonzero((expected == 0) & (values != 0))
        back = positive(dtype)[0][np.searchsorted(positive(dtype)[1], np.minimum(expected, positive(dtype)[1][-1]))]
        changed = large | (back != values)
        if "fnuz" in dtype.name and sign < 0:
            changed |= values == 0
        assert counts.inexact == np.count_nonzero(changed)


def test_powers_of_two() -> None:
    """float8_e8m0fnu: neither zero nor sign."""
    values = trial_values(E8M0)
    values = values[np.isfinite(values)]
    expected, large = nearest(values, E8M0)
    result, counts = rounded(values, E8M0)
    np.testing.assert_array_equal(codes_of(result, E8M0), np.where(large, 255, expected))
    assert counts.overflowed == np.count_nonzero(large)
    result, counts = rounded(np.array([0.0, -0.0, -1.0, -1e-300, np.nan, np.inf, -np.inf, 2.0**-128, 2.0**-129]), E8M0)
    assert codes_of(result, E8M0).tolist() == [0, 0, 255, 255, 255, 255, 255, 0, 0]
    assert counts.overflowed == 4
    assert counts.underflowed == 4


def test_bfloat16_is_rounded_once() -> None:
    """Just above a midpoint of bfloat16, by less than float32 sees: by way of float32 it would go down to the even neighbour."""
    value = np.array([1 + 2.0**-8 + 2.0**-40, -(1 + 2.0**-8 + 2.0**-40), 1 + 3 * 2.0**-8 - 2.0**-40])
    result, counts = rounded(value, DTYPES["bfloat16"])
    assert codes_of(result, DTYPES["bfloat16"]).tolist() == [0x3F81, 0xBF81, 0x3F81]
    assert counts == Rounding(0, 0, 3)
    assert value.astype(ml_dtypes.bfloat16).view("u2").tolist() != [0x3F81, 0xBF81, 0x3F81], (
        "ml_dtypes learnt it: the test has lost its point"
    )


def exact_nearest(value: Fraction, precision: int, smallest: int) -> Fraction:
    """The nearest multiple, ties to the even one, of the power of two that is the unit in the last place at `value`."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    while Fraction(2) ** (exponent + 1) <= value:
        exponent += 1
    while Fraction(2) ** exponent > value:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - precision + 1, smallest)
    return round(value / unit) * unit  # Python rounds fractions to even


FORMS = {  # precision, exponent of the smallest subnormal, largest value; not taken from porter
    "float32": (24, -149, float(np.finfo(np.float32).max)),
    "float16": (11, -24, 65504.0),
    "bfloat16": (8, -133, float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)),
    "float8_e5m2": (3, -16, 57344.0),
    "float8_e4m3fn": (4, -9, 448.0),
    "float8_e4m3fnuz": (4, -10, 240.0),
    "float8_e5m2fnuz": (3, -17, 57344.0),
    "float6_e2m3fn": (4, -3, 7.5),
    "float6_e3m2fn": (3, -4, 28.0),
    "float4_e2m1fn": (2, -1, 6.0),
}
finite = st.floats(allow_nan=False, allow_infinity=False) | st.floats(width=32, allow_nan=False, allow_infinity=False)
modest = st.floats(-1e5, 1e5) | st.builds(lambda m, e: m * 2.0**e, st.integers(-(2**30), 2**30), st.integers(-170, 0))


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=200, deadline=None)
@given(st.lists(finite | modest, min_size=1, max_size=8))
def test_against_fractions(name: str, values: list[float]) -> None:
    precision, smallest, largest = FORMS[name]
    dtype = DTYPES[name]
    result, counts = rounded(np.array(values), dtype)
    back = result.astype(np.float64)
    changed = 0
    for value, got in zip(values, back.tolist(), strict=True):
        expected = exact_nearest(abs(Fraction(value)), precision, smallest) if value else Fraction(0)
        if expected > Fraction(largest):
            assert abs(got) == largest if name in SATURATING else not np.isfinite(got)
            changed += 1
        else:
            assert Fraction(abs(got)) == expected
            assert np.signbit(got) == np.signbit(value) or ("fnuz" in name and got == 0)
            changed += expected != abs(Fraction(value)) or np.signbit(got) != np.signbit(value)
    assert counts.inexact == changed


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_ml_dtypes_agrees_where_float32_is_exact(values: list[float]) -> None:
    """A second opinion, where its way through float32 rounds nothing."""
    array = np.array(values)
    for dtype in SIGNED:
        with np.errstate(over="ignore"):
            theirs = array.astype(np.float32).astype(dtype.numpy())
        np.testing.assert_array_equal(codes_of(rounded(array, dtype)[0], dtype), codes_of(theirs, dtype), dtype.name)


@pytest.mark.parametrize("dtype", SMALL, ids=ids)
def test_every_code_comes_back(dtype: DType) -> None:
    array = every(dtype)
    wide = widened(array, dtype)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(wide, array.astype(np.float64))
    result, counts = rounded(wide, dtype)
    assert result.dtype == dtype.numpy()
    np.testing.assert_array_equal(codes_of(result, dtype), codes_of(array, dtype))
    assert counts == Rounding()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 2**32 - 1) | st.integers(0x7F800000, 0x7FFFFFFF) | st.integers(0xFF800000, 0xFFFFFFFF), min_size=1, max_size=50)
)
def test_every_float32_comes_back(codes: list[int]) -> None:
    array = np.array(codes, "<u4").view("<f4")
    result, counts = rounded(widened(array, DTYPES["float32"]), DTYPES["float32"])
    assert codes_of(result, DTYPES["float32"]).tolist() == codes
    assert counts == Rounding()


def test_infinities() -> None:
    for dtype in SIGNED:
        result, counts = rounded(np.array([np.inf, -np.inf]), dtype)
        back = widened(result, dtype)
        if dtype.name in SATURATING:
            largest = positive(dtype)[0][-1]
            assert back.tolist() == [largest, -largest]
            assert counts == Rounding(2, 0, 2)
        elif dtype.name in ("float16", "bfloat16", "float8_e5m2"):
            assert back.tolist() == [np.inf, -np.inf]
            assert counts == Rounding()
        else:
            assert np.isnan(back).all()
            assert counts == Rounding(2, 0, 2)


def test_nans() -> None:
    """A payload that a type cannot hold is cut, and counted; it never becomes an infinity."""
    codes = np.array([0x7FF0000000000001, 0xFFF0000000000001, 0x7FF8000000000000, 0xFFF4000000000000, 0x7FFFFFFFFFFFFFFF], np.uint64)
    values = codes.view(np.float64)
    for name, expected in (
        ("float32", [0x7FC00000, 0xFFC00000, 0x7FC00000, 0xFFA00000, 0x7FFFFFFF]),
        ("float16", [0x7E00, 0xFE00, 0x7E00, 0xFD00, 0x7FFF]),
        ("bfloat16", [0x7FC0, 0xFFC0, 0x7FC0, 0xFFA0, 0x7FFF]),
        ("float8_e5m2", [0x7E, 0xFE, 0x7E, 0xFD, 0x7F]),
    ):
        result, counts = rounded(values, DTYPES[name])
        assert codes_of(result, DTYPES[name]).tolist() == expected, name
        assert counts == Rounding(0, 0, 3), name
    assert codes_of(rounded(values, DTYPES["float8_e4m3fn"])[0], DTYPES["float8_e4m3fn"]).tolist() == [0x7F, 0xFF, 0x7F, 0xFF, 0x7F]
    assert codes_of(rounded(values, DTYPES["float8_e5m2fnuz"])[0], DTYPES["float8_e5m2fnuz"]).tolist() == [0x80] * 5
    assert rounded(values, DTYPES["float4_e2m1fn"])[1] == Rounding(5, 0, 5)


def test_float64_is_left_alone() -> None:
    values = np.array([0x7FF0000000000001, 1], np.uint64).view(np.float64)
    assert rounded(values, DTYPES["float64"])[0] is values
    assert widened(values, DTYPES["float64"]) is values


@pytest.mark.parametrize("dtype", INTEGERS, ids=ids)
def test_integers(dtype: DType) -> None:
    low = -(1 << dtype.bits - 1) if dtype.kind == "int" else 0
    high = (1 << dtype.bits - (dtype.kind == "int")) - 1
    limit = 1 << 53
    whole = [v for v in {low, low + 1, -1, 0, 1, high - 1, high} if low <= v <= high and abs(v) <= limit]
    array, counts = rounded(np.array(whole, np.float64), dtype)
    assert [int(v) for v in array] == whole
    assert array.dtype == dtype.numpy()
    assert counts == Rounding()
    assert widened(array, dtype).tolist() == whole
    array, counts = rounded(np.array([0.5, 0.25, 1.5, 1e30, -1e30, np.nan, np.inf]), dtype)
    assert counts.inexact == 7
    assert counts.overflowed == (5 if dtype.name == "int2" else 4)
    assert counts.underflowed == 2
    assert int(array[4]) == low
    assert int(array[3]) == int(array[6]) >= high - (1 << 11 if dtype.bits == 64 else 0)


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20))
def test_integers_of_53_bits(values: list[int]) -> None:
    array, counts = rounded(widened(np.array(values, np.int64), DTYPES["int64"]), DTYPES["int64"])
    assert array.tolist() == values
    assert counts == Rounding()


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, -(2**63), 2**63 - 1])
def test_larger_integers_are_refused(value: int) -> None:
    with pytest.raises(OperationError, match="beyond 2\\^53") as error:
        widened(np.array([0, value]), DTYPES["int64"])
    assert error.value.code == "M410"


def test_booleans() -> None:
    array, counts = rounded(np.array([0.0, 1.0]), DTYPES["bool"])
    assert array.tolist() == [False, True]
    assert array.dtype == bool
    assert counts == Rounding()
    assert rounded(np.array([2.0, 0.5, -1.0]), DTYPES["bool"])[1].inexact == 3
    assert widened(np.array([True, False]), DTYPES["bool"]).tolist() == [1.0, 0.0]
    with pytest.raises(OperationError):
        widened(np.array([2], np.uint8).view(bool), DTYPES["bool"])


@pytest.mark.parametrize("name", ["complex32", "complex64", "complex128"])
def test_complex_numbers_are_refused(name: str) -> None:
    dtype = DTYPES[name]
    with pytest.raises(OperationError):
        widened(np.zeros(2, dtype.numpy()), dtype)
    with pytest.raises(OperationError):
        rounded(np.zeros(2), dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=ids)
def test_shapes_and_strides(dtype: DType) -> None:
    values = np.arange(24.0).reshape(2, 3, 4) % 2 + 1 * (dtype.name == E8M0.name)
    for array in (values, values.T, values[:, ::2], values[0, 0, 0, ...], values[:0], np.asfortranarray(values)):
        result, counts = rounded(array, dtype)
        assert result.shape == array.shape
        wide = widened(result, dtype)
        assert wide.shape == array.shape
        if dtype.bits > 2 or dtype.kind == "uint":
            np.testing.assert_array_equal(wide, array)
            assert counts == Rounding()


def test_blocks_add_up() -> None:
    values = np.full(100_001, 1 / 3)
    values[70_000] = 1e300
    assert rounded(values, DTYPES["float32"])[1] == Rounding(1, 0, 100_001)
    assert rounded(values, DTYPES["float16"])[1] == Rounding(1, 0, 100_001)
    assert rounded(values, DTYPES["int8"])[1] == Rounding(1, 100_000, 100_001)
