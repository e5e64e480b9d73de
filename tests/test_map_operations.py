"""The operations of the map language: binding, shapes, values, inverses, and what is said where they do not fit."""

from __future__ import annotations

import importlib.metadata
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.dtypes import DTYPES, DType
from porter.errors import MapError
from porter.mapping.ops import registry
from porter.mapping.ops.base import Irreversible, Operand, Operation, OperationError
from porter.mapping.ops.elementwise import Add, Cast, Mul, Neg, Rsqrt, Scale, Sum
from porter.mapping.ops.registry import bind, call_of, describe, names
from porter.mapping.ops.rounding import rounded, widened
from porter.mapping.ops.structure import Copy, Fill, Flip, Pad, Reorder, Slice, element
from porter.mapping.syntax import Argument, Arithmetic, Call, MapText, Number, Span, Variable
from porter.tensor import Tensor, canonical_bytes

F32 = DTYPES["float32"]
NUMERIC = [d for d in DTYPES.values() if d.kind != "complex"]
TEXT = MapText("a.pmap", "a -> b | operation(first, second=2)")


def operand(shape: Sequence[int], dtype: DType | str = F32, label: str | None = None, name: str = "t") -> Operand:
    return Operand(name, DTYPES[dtype] if isinstance(dtype, str) else dtype, tuple(shape), label)


def call(name: str, *unnamed: Any, **named: Any) -> Call:
    """A call as the parser makes it, with places that tell the arguments apart."""
    arguments = [Argument(None, v, Span(TEXT, 1, 20 + i)) for i, v in enumerate(unnamed)]
    arguments += [Argument(n, v, Span(TEXT, 1, 40 + i)) for i, (n, v) in enumerate(named.items())]
    return Call(name, tuple(arguments), Span(TEXT, 1, 10, 9))


def run(operation: Operation, *arrays: np.ndarray, dtype: DType | str | None = None) -> list[np.ndarray]:
    """What a chain of this one operation gives, as it is run for a file."""
    from porter.dtypes import from_numpy

    given = DTYPES[dtype] if isinstance(dtype, str) else dtype
    operands = [operand(a.shape, given or from_numpy(a.dtype)) for a in arrays]
    outputs = operation.outputs(operands)
    if operation.domain == "bits":
        results = list(operation.compute(list(arrays), operands))
    else:
        wide = [widened(a, o.dtype) for a, o in zip(arrays, operands, strict=True)]
        kept = [w.copy() for w in wide]
        computed = operation.compute(wide, operands)
        for a, b in zip(wide, kept, strict=True):
            np.testing.assert_array_equal(a.view(np.uint64), b.view(np.uint64), "an input was changed")
        results = [rounded(c, o.dtype)[0] for c, o in zip(computed, outputs, strict=True)]
    for result, made in zip(results, outputs, strict=True):
        assert result.shape == made.shape
        assert result.dtype == made.dtype.numpy()
    return results


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def array_of(dtype: DType, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Random bits, as `Tensor.numpy` gives them."""
    from porter.tensor import BytesPayload, TensorSpec

    spec = TensorSpec("t", dtype, tuple(shape))
    data = bytearray(np.random.default_rng(seed).integers(0, 256, spec.nbytes, np.uint8).tobytes())
    if dtype.kind == "bool":
        data = bytearray(b & 1 for b in data)
    rest = spec.size * dtype.bits % 8
    if rest:
        data[-1] &= (1 << rest) - 1
    return Tensor(spec, BytesPayload.of(data)).numpy()


# ---- binding -----------------------------------------------------------------------------------------------------------


def test_arguments_by_place_and_by_name() -> None:
    assert bind(call("slice", 1, 2, stop=-1), {}) == Slice(1, 2, -1)
    assert bind(call("neg"), {}) == Neg()
    assert bind(call("add", 1e-5), {}) == Add(1e-5)
    assert bind(call("reorder", 0, (0, 1, 3, 2)), {}) == Reorder(0, (0, 1, 3, 2))


def test_expressions_and_words() -> None:
    values = {"heads": 4, "eps": 1e-3, "f16": 3, "on": True}
    size = Arithmetic("*", Number(2), Arithmetic("+", Variable("heads"), Number(1)))
    assert bind(call("slice", 0, 0, size), values) == Slice(0, 0, 10)
    assert bind(call("fill", 0, shape=(Variable("heads"), Number(2), 3), dtype=Variable("f32")), values) == Fill(0, (4, 2, 3), "f32")
    assert bind(call("add", Variable("eps")), values) == Add(1e-3)
    assert bind(call("cast", Variable("bf16")), values) == Cast("bf16")
    assert bind(call("cast", Variable("f32"), exact=Variable("on")), values) == Cast("f32", exact=True)
    with pytest.raises(MapError, match="'heds'"):
        bind(call("slice", 0, Arithmetic("+", Variable("heds"), Number(1))), values)


WRONG: list[tuple[Call, str, int, str, str | None]] = [
    (call("rsqr"), "M400", 10, "there is no operation 'rsqr'", "did you mean 'rsqrt'?"),
    (call("transmogrify"), "M400", 10, "there is no operation 'transmogrify'", None),
    (call("flip"), "M402", 10, "'flip' needs a value for 'axis'", "it is used as 'flip(axis)'"),
    (call("flip", 0, 1), "M402", 21, "'flip' takes 1 argument, 2 are given", "it is used as 'flip(axis)'"),
    (call("neg", 1), "M402", 20, "'neg' takes no arguments, 1 is given", "it is used as 'neg'"),
    (call("flip", axes=1), "M402", 40, "'flip' has no argument 'axes'", "did you mean 'axis'?"),
    (call("neg", axis=1), "M402", 40, "'neg' has no argument 'axis'", "it is used as 'neg'"),
    (call("slice", 0, axis=1), "M402", 40, "'slice' is given 'axis' twice", "it is used as 'slice(axis, start=0, stop=…, rest=…)'"),
    (call("flip", 0.5), "M403", 20, "'axis' is an integer, 0.5 is none", None),
    (call("flip", True), "M403", 20, "'axis' is an integer, true is none", None),
    (call("flip", Variable("ax")), "M403", 20, "'axis' is an integer, 'ax' is none", "if it is a parameter, declare it: 'param ax : int'"),
    (call("flip", 1 << 70), "M403", 20, "'axis' is beyond 64 bits", None),
    (call("add", Variable("eps")), "M403", 20, "'x' is a number, 'eps' is none", "if it is a parameter, declare it: 'param eps : float'"),
    (call("add", float("nan")), "M403", 20, "'x' is beyond what float64 can hold", None),
    (call("mul", 10**400), "M403", 20, "'x' is beyond what float64 can hold", None),
    (call("add", 1, axis=0), "M402", 40, "a number is added to every element, 'axis' is for a second tensor", None),
    (call("scale", 0.5), "M403", 20, "'scale' takes its factors from a tensor", "'mul(0.5)' multiplies by a number"),
    (call("cast", Variable("bfloat61")), "M403", 20, "there is no element type 'bfloat61'", "did you mean 'bfloat16'?"),
    (call("cast", 16), "M403", 20, "there is no element type 16", None),
    (call("cast", Variable("c64")), "M405", 20, "there is no cast to or from complex numbers", None),
    (call("cast", Variable("f32"), exact=1), "M403", 40, "'exact' is true or false, 1 is neither", None),
    (call("reorder", 0, (0, 2)), "M403", 21, "'blocks' holds each of 0 to 1 once, in the new order", None),
    (call("reorder", 0, ()), "M403", 21, "'blocks' holds each of 0 to 0 once, in the new order", None),
    (call("reorder", 0, 3), "M403", 21, "'blocks' is a list of integers, 3 is none", None),
    (call("pad", 0, -1), "M403", 21, "'before' is how many to add, -1 is none", "'slice' cuts off"),
    (
        call("pad", 0, value=Variable("zero")),
        "M403",
        40,
        "'value' is a number, 'zero' is none",
        "if it is a parameter, declare it: 'param zero : float'",
    ),
    (call("fill", 0, (-1,), Variable("f32")), "M403", 21, "'shape' has the negative length -1", None),
    (call("fill", 0, Variable("lik")), "M403", 21, "'shape' is a list of integers, 'lik' is none", None),
    (call("fill", 0.5, dtype=Variable("i8")), "M417", 20, "0.5 is no int8", None),
    (call("fill", 1e6, dtype=Variable("f16")), "M417", 20, "1000000.0 is too large for float16", None),
    (call("copy", 0), "M403", 20, "'n' is a number of copies, 0 is none", None),
]


@pytest.mark.parametrize(("wrong", "code", "column", "message", "hint"), WRONG, ids=lambda v: str(v)[:40] if isinstance(v, str) else "")
def test_wrong_calls(wrong: Call, code: str, column: int, message: str, hint: str | None) -> None:
    with pytest.raises(MapError) as error:
        bind(wrong, {})
    found = error.value
    assert (found.code, found.where.column, found.message) == (code, column, message)
    if hint is not None:
        assert found.hint == hint
    assert "a.pmap:1" in str(found)


def test_an_argument_twice_or_out_of_order() -> None:
    twice = Call("slice", (Argument("axis", 0), Argument("axis", 1, Span(TEXT, 1, 30))))
    with pytest.raises(MapError, match="is given 'axis' twice"):
        bind(twice, {})
    after = Call("slice", (Argument("axis", 0), Argument(None, 1, Span(TEXT, 1, 30))))
    with pytest.raises(MapError, match="without a name comes after one with a name"):
        bind(after, {})


OPERATIONS: list[Operation] = [
    *(Add(1e-5), Add(), Add(axis=1), Mul(2.0), Mul(), Scale(), Scale(-1), Sum(), Rsqrt(), Neg(), Copy(), Copy(3)),
    *(Cast("f16"), Cast("f32", "f16"), Cast("f16", exact=True), Flip(-1), Reorder(0, (0, 1, 3, 2))),
    *(Slice(0), Slice(1, 2), Slice(1, 0, -2), Slice(0, 1, 3, 0), Pad(0, 1), Pad(1, 0, 3, -0.0), Pad(0, 1, 1, 0.5)),
    *(Fill(0), Fill(0, "like"), Fill(1.5, (2, 3), "f32"), Fill(0, (), "i64"), Fill(True, (1,), "bool")),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_printed_and_bound_again(operation: Operation) -> None:
    written = call_of(operation)
    again = bind(written, {})
    assert again == operation
    assert repr(again) == repr(operation)
    assert call_of(again) == written


def test_how_calls_are_printed() -> None:
    assert call_of(Add(1e-5)) == Call("add", (Argument(None, 1e-5),))
    assert call_of(Add(axis=1)) == Call("add", (Argument("axis", 1),))
    assert call_of(Flip(1)) == Call("flip", (Argument(None, 1),))
    assert call_of(Slice(0, stop=3)) == Call("slice", (Argument(None, 0), Argument("stop", 3)))
    assert call_of(Cast("f16")) == Call("cast", (Argument(None, Variable("f16")),))
    assert call_of(Cast("f16"), {"f16"}) == Call("cast", (Argument(None, "f16"),))
    assert call_of(Pad(0, value=-0.0)) == Call("pad", (Argument(None, 0), Argument("value", -0.0)))


def test_the_list_of_all() -> None:
    assert names() == sorted(names())
    assert {"add", "cast", "fold_bn", "neg", "slice"} <= set(names())
    rows = {row.name: row for row in describe()}
    assert list(rows) == names()
    assert rows["slice"].arguments == "axis, start=0, stop=…, rest=…"
    for row in rows.values():
        assert row.summary
        assert row.takes
        assert row.undone


class Foreign:
    """What an installed package brings."""

    def __init__(self, name: str, value: str, load: Any) -> None:
        self.name, self.value, self.load = name, value, load


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Foreign]]:
    points: list[Foreign] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "porter.map_operations" else [])
    registry._entry_points.cache_clear()
    yield points
    registry._entry_points.cache_clear()


def test_operations_of_other_packages(packages: list[Foreign]) -> None:
    made = Mul(0.5)
    packages.append(Foreign("halve", "pkg.ops:Halve", lambda: lambda: made))
    assert bind(call("halve"), {}) is made
    assert "halve" in names()
    with pytest.raises(MapError) as error:
        bind(call("halv"), {})
    assert error.value.hint == "did you mean 'halve'?"
    assert bind(call("neg"), {}) == Neg()


def test_names_that_are_taken(packages: list[Foreign]) -> None:
    packages.append(Foreign("neg", "evil.ops:Neg", lambda: None))
    assert bind(call("neg"), {}) == Neg(), "what porter has itself needs no package"
    with pytest.raises(MapError, match=r"evil\.ops:Neg is an operation called 'neg', and so is one of porter itself") as error:
        names()
    assert error.value.code == "M401"


def test_names_that_two_packages_take(packages: list[Foreign]) -> None:
    packages += [Foreign("halve", "a:Halve", lambda: Mul), Foreign("halve", "b:Halve", lambda: Mul)]
    with pytest.raises(MapError, match="b:Halve is an operation called 'halve', and so is one of a:Halve"):
        bind(call("halve"), {})


def test_packages_that_fail(packages: list[Foreign]) -> None:
    def load() -> None:
        raise ModuleNotFoundError("No module named 'pkg'")

    packages.append(Foreign("halve", "pkg:Halve", load))
    with pytest.raises(MapError, match="cannot be loaded from pkg:Halve: No module named 'pkg'"):
        bind(call("halve"), {})


# ---- inputs that do not fit --------------------------------------------------------------------------------------------

MISFITS: list[tuple[Operation, list[Operand], str, str]] = [
    (Neg(), [], "M404", "'neg' takes one tensor, 0 are given"),
    (Rsqrt(), [operand([2]), operand([2])], "M404", "'rsqrt' takes one tensor, 2 are given"),
    (Neg(), [operand([2], "uint8")], "M405", "'neg' needs a type with a sign, this is uint8"),
    (Neg(), [operand([2], "bool")], "M405", "'neg' needs a type with a sign, this is bool"),
    (Add(1), [operand([2], "int64")], "M405", "'add' computes with floats, this is int64"),
    (Rsqrt(), [operand([2], "complex64")], "M405", "'rsqrt' computes with floats, this is complex64"),
    (Add(), [operand([2])], "M404", "'add' takes a number, or two tensors, 1 is given"),
    (Add(1), [operand([2]), operand([2])], "M404", "'add' takes one tensor, 2 are given"),
    (Add(), [operand([2]), operand([1])], "M406", "'add' takes tensors of one shape, these are [2] and [1]"),
    (Mul(), [operand([2]), operand([2], "float16")], "M405", "'mul' takes tensors of one type, these are float32 and float16"),
    (Sum(), [operand([2])], "M404", "'sum' takes two tensors or more, 1 is given"),
    (Sum(), [operand([2], label="a"), operand([2])], "M404", "'sum' takes its tensors by their order, and has none called 'a'"),
    (Scale(1), [operand([2, 3]), operand([2])], "M406", "'scale' along axis 1 of [2, 3] takes 3 numbers, this is [2]"),
    (Scale(2), [operand([2, 3]), operand([2])], "M407", "there is no axis 2: this tensor has 2 dimensions, [2, 3]"),
    (Add(axis=0), [operand([]), operand([1])], "M407", "there is no axis 0: this tensor has 0 dimensions, []"),
    (Flip(-3), [operand([2, 3])], "M407", "there is no axis -3: this tensor has 2 dimensions, [2, 3]"),
    (Reorder(0, (1, 0)), [operand([3])], "M406", "axis 0 of [3] cannot be cut into 2 equal blocks"),
    (Slice(0, 1, 4), [operand([3])], "M407", "axis 0 of [3] has no positions 1 to 4"),
    (Slice(0, -4), [operand([3])], "M407", "axis 0 of [3] has no positions -4 to the end"),
    (Slice(0, 2, 1), [operand([3])], "M407", "axis 0 of [3] has no positions 2 to 1"),
    (Pad(0, 1, value=0.5), [operand([3], "int8")], "M417", "0.5 is no int8"),
    (Pad(0, 1, value=128), [operand([3], "int8")], "M417", "128 is no int8"),
    (Pad(0, 1), [operand([3], "float8_e8m0fnu")], "M417", "0 is too small for float8_e8m0fnu"),
    (Fill(0), [], "M404", "'fill' has no tensor to take it from, and needs 'dtype=…'"),
    (Fill(0, "like", "f32"), [], "M404", "'fill' has no tensor to take it from, and needs 'shape=[…]'"),
    (Fill(7), [operand([2], "int2")], "M417", "7 is no int2"),
    (
        Fill(0, (1 << 40, 1 << 40), "f32"),
        [],
        "M406",
        "'fill' would make a tensor of the shape [1099511627776, 1099511627776], which is larger than any weight",
    ),
    (Pad(0, 1 << 40), [operand([3])], "M406", "'pad' would make a tensor of the shape [1099511627779], which is larger than any weight"),
    (Cast("f32"), [operand([2], "complex64")], "M405", "there is no cast to or from complex numbers, this is complex64"),
    (Cast("f32", "f16"), [operand([2], "bfloat16")], "M405", "this is bfloat16, and 'was=f16' says otherwise"),
]


@pytest.mark.parametrize(("operation", "inputs", "code", "message"), MISFITS, ids=lambda v: v if isinstance(v, str) else "")
def test_misfits(operation: Operation, inputs: list[Operand], code: str, message: str) -> None:
    with pytest.raises(OperationError) as error:
        operation.outputs(inputs)
    assert (error.value.code, error.value.message) == (code, message)


# ---- casts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", NUMERIC, ids=str)
@pytest.mark.parametrize("target", NUMERIC, ids=str)
def test_casts_that_can_be_undone_are(source: DType, target: DType) -> None:
    """Every code of a small type, random ones of others: where a cast says it has an inverse, that gives every bit back."""
    small = source.bits <= 16
    array = array_of(source, [1 << 12], 3) if not small else np.arange(1 << source.bits, dtype=f"<u{source.itemsize}").view(source.numpy())
    if source.kind == "bool":
        array = np.array([False, True])
    if source.name in ("int4", "int2"):
        array = array_of(source, [64])
    if source.bits == 64 and source.kind != "float":
        array = array >> np.array(12, array.dtype)
    there = Cast(target.short)
    back = there.inverse([operand(array.shape, source)])
    assert there.inverse(None) == Irreversible(f"the type before it is not known; 'cast({target.short}, was=…)' says it")
    assert Cast(target.short, source.short).inverse(None) == back
    exact = Cast(target.short, exact=True)
    for cast in (there, exact):
        inverse = cast.inverse([operand(array.shape, source)])
        if isinstance(inverse, Irreversible):
            assert source.kind == "float"
            continue
        assert inverse == Cast(source.short, target.short, True)
        for part in (array, *np.array_split(array, 16)):
            try:
                (made,) = run(cast, part, dtype=source)
            except OperationError as error:
                assert error.code in ("M411", "M412")
                continue
            (again,) = run(inverse, made, dtype=target)
            assert same(again, part)
        twice = inverse.inverse([operand(array.shape, target)])
        assert twice == Cast(target.short, source.short, True)


def test_widening_casts_have_inverses() -> None:
    for wide, narrow in (
        ("f32", "f16"),
        ("f32", "bf16"),
        ("f64", "f32"),
        ("f64", "i32"),
        ("f32", "i64"),
        ("f16", "f8e5m2"),
        ("i64", "i8"),
        ("f32", "bool"),
    ):
        assert Cast(wide, narrow).inverse(None) == Cast(narrow, wide, True)
    for target, source in (("f16", "f32"), ("bf16", "f16"), ("f16", "bf16"), ("i8", "f32")):
        inverse = Cast(target, source).inverse(None)
        assert isinstance(inverse, Irreversible)
        assert "does not hold every value" in inverse.reason


def test_narrowing_rounds_once() -> None:
    assert run(Cast("bf16"), np.array([1 + 2.0**-8 + 2.0**-40]))[0].view("u2").tolist() == [0x3F81]


@pytest.mark.parametrize(
    ("array", "cast", "code"),
    [
        (np.array([0.5], "f4"), Cast("i32"), "M411"),
        (np.array([np.nan], "f4"), Cast("i32"), "M411"),
        (np.array([300.0], "f4"), Cast("u8"), "M411"),
        (np.array([(1 << 24) + 1]), Cast("f32"), "M411"),
        (np.array([300], "i4"), Cast("i8"), "M411"),
        (np.array([-1], "i4"), Cast("u64"), "M411"),
        (np.array([2], "i4"), Cast("bool"), "M411"),
        (np.array([-0.0], "f4"), Cast("i32", exact=True), "M411"),
        (np.array([0.1], "f4"), Cast("f16", exact=True), "M411"),
        (np.array([0x7F800001], "u4").view("f4"), Cast("f16", exact=True), "M411"),
        (np.array([np.nan], "f4"), Cast("f4e2m1"), "M412"),
        (np.array([(1 << 53) + 1]), Cast("u64"), "M410"),
    ],
)
def test_casts_that_would_lose_something(array: np.ndarray, cast: Cast, code: str) -> None:
    with pytest.raises(OperationError) as error:
        run(cast, array)
    assert error.value.code == code


def test_casts_of_counters() -> None:
    assert same(run(Cast("f32"), np.array(1234))[0], np.array(1234, "f4"))
    assert same(run(Cast("i64"), np.array([3.0, -0.0], "f4"))[0], np.array([3, 0]))
    assert same(run(Cast("u8"), np.array([True, False]))[0], np.array([1, 0], "u1"))


# ---- arithmetic --------------------------------------------------------------------------------------------------------


def test_rounded_once_from_float64() -> None:
    x = np.random.default_rng(0).standard_normal((4, 5)).astype("f4")
    wide = x.astype(np.float64)
    v = np.arange(5, dtype="f4") / 7
    assert same(run(Add(1e-5), x)[0], (wide + 1e-5).astype("f4"))
    assert same(run(Mul(1 / 255), x)[0], (wide * (1 / 255)).astype("f4"))
    assert same(run(Add(), x, x[::-1])[0], (wide + wide[::-1]).astype("f4"))
    assert same(run(Mul(), x, x[::-1])[0], (wide * wide[::-1]).astype("f4"))
    assert same(run(Add(axis=-1), x, v)[0], (wide + v.astype(np.float64)).astype("f4"))
    assert same(run(Scale(0), x, v[:4])[0], (wide * v[:4, None].astype(np.float64)).astype("f4"))
    assert same(run(Scale(1), x, v, v + 1)[0], (wide * v.astype(np.float64) + (v + 1).astype(np.float64)).astype("f4"))
    assert same(run(Sum(), x, x, x)[0], (wide * 3).astype("f4"))
    assert same(run(Rsqrt(), np.abs(x))[0], (1 / np.sqrt(np.abs(wide))).astype("f4"))


def test_running_variance() -> None:
    """The whole chain in float64: not what float32 would make of it."""
    x = np.float32([0.1, 1e-6, 3.0])
    operands = [operand([3])]
    wide = Rsqrt().compute(Add(1e-5).compute([widened(x, F32)], operands), operands)[0]
    assert same(rounded(wide, F32)[0], (1 / np.sqrt(x.astype(np.float64) + 1e-5)).astype("f4"))


def test_nans_and_infinities_pass() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0x7F800001], "f4")
    x.view("u4")[3] = 0x7F800001
    for operation in (Add(1.0), Mul(2.0)):
        result = run(operation, x)[0]
        assert np.isnan(result[[0, 3]]).all()
        assert result[1:3].tolist() == [np.inf, -np.inf]
    assert run(Rsqrt(), np.array([np.inf, np.nan], "f4"))[0][0] == 0


def test_refused_values() -> None:
    for bad, shown in (([0.0], "0.0"), ([2.0, -0.0, -1.0], "-0.0")):
        with pytest.raises(OperationError, match=f"'rsqrt' of {shown}, which is not above zero") as error:
            run(Rsqrt(), np.array(bad, "f4"))
        assert "add(1e-5)" in (error.value.hint or "")
    for operation, arrays in ((Mul(1e300), [1e300]), (Add(1.7e308), [1.7e308]), (Mul(), [1e300, 1e300]), (Sum(), [1.7e308] * 3)):
        with pytest.raises(OperationError, match="beyond what float64 can hold"):
            run(operation, *[np.array([a]) for a in arrays])
    with pytest.raises(OperationError, match="-128 has no opposite in int8"):
        run(Neg(), np.array([-128, 3], "i1"))


def test_reasons_against_an_inverse() -> None:
    for operation in (Add(1.0), Mul(2.0), Mul(3.0), Mul(-1.0), Mul(), Scale(), Sum(), Rsqrt(), Fill(0), Copy(), Slice(0, 1)):
        inverse = operation.inverse(None)
        assert isinstance(inverse, Irreversible)
        assert inverse.reason[0].islower()
        assert not inverse.reason.endswith(".")
    assert "power of two" in Mul(0.5).inverse(None).reason
    assert "'neg'" in Mul(-1.0).inverse(None).reason


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_negation(dtype: DType) -> None:
    array = array_of(dtype, [500], 5)
    if dtype.kind in ("uint", "bool") or dtype.name == "float8_e8m0fnu":
        with pytest.raises(OperationError):
            run(Neg(), array, dtype=dtype)
        return
    if dtype.kind == "int":
        numbers = array.astype(np.int64)
        array = array[numbers != numbers.min()]
        (result,) = run(Neg(), array, dtype=dtype)
        np.testing.assert_array_equal(result.astype(np.int64), -array.astype(np.int64))
    else:
        (result,) = run(Neg(), array, dtype=dtype)
        if dtype.kind == "float":
            np.testing.assert_array_equal(widened(result, dtype), -widened(array, dtype))
        elif dtype.name != "complex32":
            np.testing.assert_array_equal(result, -array)
        if dtype.bits % 8 == 0 and dtype.kind == "float" and "fnuz" not in dtype.name:
            for a, b in zip(
                array.tobytes()[dtype.itemsize - 1 :: dtype.itemsize], result.tobytes()[dtype.itemsize - 1 :: dtype.itemsize], strict=True
            ):
                assert a ^ b == 0x80
    assert same(run(Neg(), result, dtype=dtype)[0], array)
    assert len(canonical_bytes(result, dtype)) == dtype.nbytes(result.size)


def test_negation_of_zero_and_nan_without_a_second_zero() -> None:
    dtype = DTYPES["float8_e4m3fnuz"]
    array = np.array([0x00, 0x80, 0x01, 0x81], np.uint8).view(dtype.numpy())
    assert run(Neg(), array)[0].view(np.uint8).tolist() == [0x00, 0x80, 0x81, 0x01]


def test_negation_of_a_scalar() -> None:
    assert struct.pack("<f", -1.5) == run(Neg(), np.array(1.5, "<f4"))[0].tobytes()


# ---- structure ---------------------------------------------------------------------------------------------------------

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(DTYPES.values())), shapes, st.data())
def test_moving_is_undone(dtype: DType, shape: list[int], data: st.DataObject) -> None:
    array = array_of(dtype, shape)
    rank = len(shape)
    axis = data.draw(st.integers(-rank, rank - 1))
    length = shape[axis]
    divisors = [n for n in range(1, 6) if length % n == 0]
    blocks = data.draw(st.sampled_from(divisors).flatmap(lambda n: st.permutations(range(n))))
    before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    operations: list[Operation] = [Flip(axis), Reorder(axis, tuple(blocks)), Slice(axis), Slice(axis, 0, length or None)]
    value = data.draw(st.sampled_from([0, 1])) if dtype.name != "float8_e8m0fnu" else 1
    operations.append(Pad(axis, before, after, value))
    for operation in operations:
        (made,) = run(operation, array, dtype=dtype)
        assert len(canonical_bytes(made, dtype)) == dtype.nbytes(made.size)
        inverses = [operation.inverse([operand(shape, dtype)])]
        if not isinstance(operation, Slice) or operation.stop is None:
            inverses.append(operation.inverse(None))
        for inverse in inverses:
            assert not isinstance(inverse, Irreversible)
            assert same(run(inverse, made, dtype=dtype)[0], array)
            again = inverse.inverse([operand(made.shape, dtype)])
            assert not isinstance(again, Irreversible)
            assert same(run(again, array, dtype=dtype)[0], made)


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_slices_are_pythons(shape: list[int], data: st.DataObject) -> None:
    array = array_of(F32, shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    length = shape[axis]
    start = data.draw(st.integers(-length - 1, length + 1))
    stop = data.draw(st.none() | st.integers(-length - 1, length + 1))
    first = start + length if start < 0 else start
    last = length if stop is None else stop + length if stop < 0 else stop
    operation = Slice(axis, start, stop)
    if not 0 <= first <= last <= length:
        with pytest.raises(OperationError):
            run(operation, array)
    else:
        assert same(run(operation, array)[0], np.ascontiguousarray(np.take(array, range(first, last), axis)))


def test_what_is_moved_where() -> None:
    x = np.arange(24).reshape(4, 3, 2)
    assert same(run(Flip(1), x)[0], np.ascontiguousarray(x[:, ::-1]))
    gates = np.arange(16).reshape(8, 2)
    assert same(run(Reorder(0, (0, 1, 3, 2)), gates)[0], np.concatenate([gates[0:4], gates[6:8], gates[4:6]]))
    assert run(Reorder(-1, (2, 0, 1)), np.array([10, 11, 12]))[0].tolist() == [12, 10, 11]
    assert Reorder(0, (2, 0, 1)).inverse(None) == Reorder(0, (1, 2, 0))
    assert run(Pad(0, 1, 2, 7), np.array([1, 2]))[0].tolist() == [7, 1, 2, 7, 7]


def test_padding_and_slicing_undo_each_other() -> None:
    assert Pad(0, 1, 2, 0.5).inverse(None) == Slice(0, 1, -2, 0.5)
    assert Pad(0, 1).inverse(None) == Slice(0, 1, None, 0)
    assert Slice(0, 1, -2, 0.5).inverse(None) == Pad(0, 1, 2, 0.5)
    assert Slice(0, 1, None, 0).inverse(None) == Pad(0, 1, 0, 0)
    assert isinstance(Slice(0, 1, 3, 0).inverse(None), Irreversible)
    assert isinstance(Slice(0, 0, 0, 0).inverse(None), Irreversible)
    assert Slice(0, 1, 3, 0).inverse([operand([5])]) == Pad(0, 1, 2, 0)


def test_what_is_cut_off_is_checked() -> None:
    checked = Slice(0, 1, -1, 0)
    assert run(checked, np.array([0, 5, 0], "f4"))[0].tolist() == [5]
    with pytest.raises(OperationError, match="1 value of what would be cut off is not 0"):
        run(checked, np.array([0, 5, 1], "f4"))
    assert run(Slice(0, 0, 3, 0), np.array([1, 5, -1], "f4"))[0].tolist() == [1, 5, -1]
    with pytest.raises(OperationError, match="2 values of what would be cut off are not 0"):
        run(checked, np.array([-0.0, 5, np.nan], "f4"))


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_fill(dtype: DType) -> None:
    (made,) = run_fill(Fill(1, (2, 3), dtype.short))
    assert same(made, run(Fill(1, "like"), array_of(dtype, [2, 3]), dtype=dtype)[0])
    if dtype.name != "complex32":
        np.testing.assert_array_equal(made.astype(np.complex128), np.ones((2, 3)))
    else:
        assert made.tobytes() == np.array([1, 0] * 6, "<f2").tobytes()
    assert len(canonical_bytes(made, dtype)) == dtype.nbytes(6)
    (empty,) = run_fill(Fill(1, (0,), dtype.short))
    assert empty.shape == (0,)


def run_fill(operation: Fill) -> list[np.ndarray]:
    (made,) = operation.outputs([])
    results = [np.ascontiguousarray(r).reshape(r.shape) for r in operation.compute([], [])]
    assert results[0].shape == made.shape
    assert results[0].dtype == made.dtype.numpy()
    return results


def test_fill_takes_what_is_not_said_from_its_input() -> None:
    assert Fill(0).outputs([operand([2, 3], "float16", name="w")]) == (operand([2, 3], "float16", name="w"),)
    assert Fill(0, dtype="i8").outputs([operand([2, 3])]) == (operand([2, 3], "int8"),)
    assert Fill(0, (4,)).outputs([operand([2, 3])]) == (operand([4]),)
    assert run_fill(Fill(0, (), "i64"))[0].tobytes() == bytes(8)


def test_single_values() -> None:
    assert element(0.1, F32, "value").tobytes() == np.float32(0.1).tobytes()
    assert element(-0.0, F32, "value").tobytes() == bytes([0, 0, 0, 0x80])
    assert element((1 << 64) - 1, DTYPES["uint64"], "value") == (1 << 64) - 1
    assert element(-(1 << 63), DTYPES["int64"], "value") == -(1 << 63)
    assert np.isnan(element(float("nan"), F32, "value"))
    for value, dtype in ((1 << 64, "uint64"), (-1, "uint8"), (2, "bool"), (1e39, "float32"), (1e-46, "float32"), (float("inf"), "int8")):
        with pytest.raises(OperationError):
            element(value, DTYPES[dtype], "value")


def test_copies() -> None:
    x = np.arange(3)
    assert [c.tolist() for c in run(Copy(3), x)] == [[0, 1, 2]] * 3


def test_labels_and_names_go_along() -> None:
    given = operand([4, 2], label="weight", name="conv.weight")
    for operation in (Neg(), Flip(0), Add(1.0), Cast("f16"), Slice(0, 1), Pad(0, 1), Reorder(0, (1, 0)), Rsqrt(), Fill(0)):
        (made,) = operation.outputs([given])
        assert (made.label, made.name) == ("weight", "conv.weight")


def test_what_can_be_done_in_chunks() -> None:
    for operation, expected in (
        (Add(1.0), True),
        (Add(), False),
        (Mul(2.0), True),
        (Mul(), False),
        (Neg(), True),
        (Cast("f16"), True),
        (Flip(0), False),
    ):
        assert operation.elementwise is expected
        assert isinstance(operation, Operation)


# ---- hostile input -----------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**300 + 1)
    | st.floats()
    | st.text(max_size=8)
    | st.builds(Variable, st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([*registry._BUILT_IN, "nonsense", ""]),
    st.lists(values, max_size=4),
    st.dictionaries(st.sampled_from(["axis", "x", "dtype", "shape", "value", "start", "blocks", "was", "rest", "eps"]), values, max_size=3),
    st.lists(
        st.builds(operand, st.lists(st.integers(0, 4), max_size=3), st.sampled_from(list(DTYPES.values())), st.none() | st.just("mean")),
        max_size=3,
    ),
)
def test_nothing_but_errors_of_maps(name: str, unnamed: list[Any], named: dict[str, Any], inputs: list[Operand]) -> None:
    try:
        operation = bind(call(name, *unnamed, **named), {"axis": 0})
        outputs = operation.outputs(inputs)
        inverse = operation.inverse(inputs)
        assert isinstance(operation.inverse(None), Operation | Irreversible)
        assert isinstance(inverse, Operation | Irreversible)
        assert all(n >= 0 for o in outputs for n in o.shape)
        assert bind(call_of(operation), {}) == operation or "nan" in repr(operation)
    except (MapError, OperationError) as error:
        assert error.code.startswith("M")
        assert "\n" not in error.message
