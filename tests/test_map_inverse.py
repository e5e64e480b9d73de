"""Maps turned around: what was done is undone bit for bit, and what cannot be undone is refused, with the line and the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import MapError, UsageError
from porter.mapping.composition import compose
from porter.mapping.execution import apply
from porter.mapping.inverse import invert
from porter.mapping.parser import parse
from porter.mapping.plan import examine, plan
from porter.mapping.render import dumps
from porter.mapping.syntax import Param, Table
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec, canonical_bytes

# ---- random maps of invertible pieces ----------------------------------------------------------------------------------

dtypes = st.sampled_from(sorted(DTYPES)).map(DTYPES.__getitem__)
floats = st.sampled_from([d for d in DTYPES.values() if d.kind == "float" and d.name != "float8_e8m0fnu"])
lengths = st.integers(1, 4)
words = st.lists(st.sampled_from(["a", "b", "q", "x.y", "conv", "0", "z-9", "ä"]), min_size=1, max_size=3, unique=True)
indices = st.lists(st.integers(0, 120), min_size=1, max_size=3, unique=True)


@dataclass(frozen=True)
class Piece:
    """Statements and the tensors they are for."""

    lines: tuple[str, ...]
    tensors: tuple[Tensor, ...]


@st.composite
def tensor(draw: st.DrawFn, name: str, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A tensor of any bits that its type can have."""
    spec = TensorSpec(name, dtype, shape)
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    raw = seed.bytes(spec.size * dtype.itemsize)
    if dtype.name == "bool" or dtype.packed:
        codes = np.frombuffer(raw, np.uint8) % (1 << dtype.bits if dtype.packed else 2)
        if dtype.packed and dtype.kind == "int":
            codes = np.where(codes >= 1 << dtype.bits - 1, codes.astype(np.int16) - (1 << dtype.bits), codes).astype(np.int8).view(np.uint8)
        return Tensor(spec, BytesPayload.of(canonical_bytes(codes.view(dtype.numpy()), dtype)))
    return Tensor(spec, BytesPayload.of(raw))


@st.composite
def renames(draw: st.DrawFn, g: str) -> Piece:
    dtype, target = draw(dtypes), draw(st.sampled_from(["{i+2}.{p}", "{p}.n{2*i+1:03}", "{i}.{i+1}.{p}.{i}", "{p}/{i:04}"]))
    found = [(p, i) for p in draw(words) for i in draw(indices)]
    tensors = [draw(tensor(f"g{g}.{p}.l{i}.w", dtype, (draw(lengths),))) for p, i in found]
    return Piece((f"g{g}.{{p}}.l{{i:int}}.w <-> h{g}.{target}",), tuple(tensors))


@st.composite
def tables(draw: st.DrawFn, g: str) -> Piece:
    left = draw(words)
    rows = " ".join(f'"{word}"="{index}{word[::-1]}"' for index, word in enumerate(left))
    back = draw(st.booleans())
    line = f"g{g}.{{k:t{g}}} <-> h{g}.{{k}}.w" if back else f"g{g}.{{k}} <-> h{g}.{{k:t{g}}}.w"
    named = left if back else [f"{index}{word[::-1]}" for index, word in enumerate(left)]
    return Piece((f"table t{g} {{ {rows} }}", line), tuple([draw(tensor(f"g{g}.{w}", draw(dtypes), (2,))) for w in named]))


@st.composite
def layouts(draw: st.DrawFn, g: str) -> Piece:
    a, b, c = draw(st.tuples(lengths, lengths, lengths))
    kind = draw(st.sampled_from(["permuted", "merged", "split", "param", "pack", "sum", "stack", "unstack", "both", "interleaved"]))
    dtype = draw(dtypes)

    def made(name: str, *shape: int) -> Tensor:
        found: Tensor = draw(tensor(f"g{g}.{name}", dtype, shape))
        return found

    match kind:
        case "permuted":
            return Piece((f"g{g}.{{p}} : a b c <-> h{g}.{{p}} : c a b",), (made("u", a, b, c), made("v", c, b, a)))
        case "merged":
            return Piece((f"g{g}.w : a b c <-> h{g}.w : (c a) 1 b where a={a}",), (made("w", a, b, c),))
        case "split":
            return Piece((f"g{g}.w : a (b c) <-> h{g}.w : c a b where b={b}",), (made("w", a, b * c),))
        case "param":
            return Piece((f"param n{g} : int = {b}", f"g{g}.w : ... (b c) <-> h{g}.w : b ... c where b=n{g}"), (made("w", a, b * c),))
        case "pack":
            return Piece((f"[g{g}.q, g{g}.k, g{g}.v] : o i <-> h{g}.w : i (3 o)",), tuple([made(k, a, b) for k in "qkv"]))
        case "sum":
            line = f"[g{g}.q : q i, g{g}.k : k i] <-> h{g}.w : (q + k) i where q={a} k={b}"
            return Piece((line,), (made("q", a, c), made("k", b, c)))
        case "stack":
            return Piece((f"g{g}.{{p}}.{{e:int}} <-> h{g}.{{p}}[e]",), tuple([made(f"{p}.{e}", b, c) for p in "xy" for e in range(a)]))
        case "unstack":
            return Piece((f"g{g}.w : a e n <-> h{g}.{{e:02}}.x : n a",), (made("w", a, b, c),))
        case "both":
            line = f"[g{g}.{{e:int}}.q, g{g}.{{e:int}}.k] : o i <-> h{g}.w : e (2 o) i"
            return Piece((line,), tuple([made(f"{e}.{k}", b, c) for e in range(a) for k in "qk"]))
    return Piece((f"g{g}.w : (h two d) i <-> h{g}.w : (h d two) i where two=2 d={b}",), (made("w", a * 2 * b, c),))


@st.composite
def operations(draw: st.DrawFn, g: str) -> Piece:
    dtype, (a, b) = draw(floats), draw(st.tuples(lengths, lengths))
    calls = st.sampled_from(["neg", "flip(0)", "flip(-1)", "pad(0, 1, 2)", "pad(1, after=1, value=1)", f"reorder(0, {[*range(a)][::-1]})"])
    left = draw(st.lists(calls, max_size=3))
    first = left.index(next((c for c in left if c.startswith("pad(0")), left[0])) if left else 0
    left = [c for i, c in enumerate(left) if not c.startswith("reorder") or i <= first]
    right = draw(st.lists(st.sampled_from(["neg", "flip(0)", "flip(1)"]), max_size=2))
    axes = draw(st.sampled_from([("", ""), (" : a b", " : b a")]))
    line = " | ".join([f"g{g}.w{axes[0]}", *left]) + " <-> " + " | ".join([f"h{g}.w{axes[1]}", *right])
    return Piece((line,), (draw(tensor(f"g{g}.w", dtype, (a, b))),))


@st.composite
def casts(draw: st.DrawFn, g: str) -> Piece:
    narrow, wide = draw(
        st.sampled_from(
            [("f16", "f32"), ("bf16", "f32"), ("f32", "f64"), ("i8", "f32"), ("i32", "f64"), ("u8", "f16"), ("f16", "f64"), ("bool", "f32")]
        )
    )
    dtype = next(d for d in DTYPES.values() if d.short == narrow)
    return Piece((f"g{g}.w -> h{g}.w".replace("->", f"| cast({wide}, was={narrow}) <->"),), (draw(tensor(f"g{g}.w", dtype, (3,))),))


@st.composite
def ledgers(draw: st.DrawFn, g: str) -> Piece:
    dtype = draw(dtypes)
    one = draw(tensor(f"g{g}.w", dtype, (3,)))
    copy = Tensor(TensorSpec(f"g{g}.copy", dtype, (3,)), BytesPayload.of(one.tobytes()))
    zero = Tensor.from_array(f"g{g}.zero", np.zeros((2, 1), "<f2"))
    match draw(st.sampled_from(["tie", "tied", "copy", "chain", "constant", "keep", "fill"])):
        case "tie":
            return Piece((f"g{g}.{{p}} <-> h{g}.{{p}}", f"t{g}.{{p}} = h{g}.{{p}}"), (one,))
        case "tied":
            return Piece((f"g{g}.w <-> h{g}.w", f"t{g} = h{g}.w", f"u{g} = t{g}"), (one,))
        case "copy":
            return Piece((f"g{g}.copy -> drop if = g{g}.w", f"g{g}.w <-> h{g}.w"), (copy, one))
        case "chain":
            third = Tensor(TensorSpec(f"g{g}.third", dtype, (3,)), one.payload)
            lines = (f"g{g}.third -> drop if = g{g}.copy", f"g{g}.copy -> drop if = g{g}.w", f"g{g}.w <-> h{g}.w")
            return Piece(lines, (copy, one, third))
        case "constant":
            return Piece((f"g{g}.zero -> drop if = fill(0, shape=[2, 1], dtype=f16)",), (zero,))
        case "keep":
            return Piece((f"g{g}.{{p}} <-> keep",), (one, zero))
    return Piece((f"g{g}.w <-> h{g}.w", f"fill(1, shape=[2], dtype=f32) -> f{g}"), (one,))


pieces = st.sampled_from([renames, tables, layouts, layouts, operations, casts, ledgers])


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, TensorStore]:
    """A map's text, and a store that it fits."""
    found = [draw(draw(pieces)(str(number))) for number in range(draw(st.integers(1, 4)))]
    lines = [line for piece in found for line in piece.lines]
    store = TensorStore([t for piece in found for t in piece.tensors])
    for number in range(draw(st.integers(0, 2))):
        made = plan(parse("\n".join(lines)), store.values()).result
        lines.append("then")
        for name in made:
            kind = draw(st.sampled_from(["rest", "rest", "rename", "flat"]))
            if kind != "rest":
                axes = (" : n", " : n 1") if kind == "flat" and len(made[name].shape) == 1 else ("", "")
                lines.append(f'"{name}"{axes[0]} <-> "s{number}/{name}"{axes[1]}')
        lines.append("rest <-> keep")
    return "\n".join(lines), store


def content(store: TensorStore) -> dict[str, tuple[Any, ...]]:
    return {name: (t.dtype, t.shape, t.tobytes()) for name, t in store.items()}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases())
def test_what_is_done_is_undone(case: tuple[str, TensorStore]) -> None:
    text, store = case
    map = parse(text)
    there = apply(map, store)
    inverse = invert(map)
    assert content(apply(inverse, there)) == content(store), text
    written = parse(dumps(inverse))
    assert written == inverse
    twice = invert(inverse)
    assert content(apply(twice, store)) == content(there), text
    assert plan(twice, store.values()).result.keys() == plan(map, store.values()).result.keys()
    assert invert(invert(twice)) == twice, "from then on nothing changes"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases(), st.booleans())
def test_composed_maps_do_what_both_do(case: tuple[str, TensorStore], backwards: bool) -> None:
    text, store = case
    first, *others = [parse(stage) for stage in text.split("\nthen\n")]
    composed, made = first, apply(first, store)
    for other in others:
        composed, made = compose(composed, other), apply(other, made)
    assert content(apply(parse(dumps(composed)), store)) == content(made)
    if backwards:
        assert content(apply(compose(composed, invert(composed)), store)) == content(store)


# ---- the trees ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inverse"),
    [
        ("a.{i:int} <-> b.{i+1}", "b.{i+1} <-> a.{i:int}"),
        ("optional a : o i <-> b : i o  where i=3", "optional b : i o <-> a : o i  where i=3"),
        ("[q, k] : o <-> qk : (2 o)", "qk : (2 o) <-> [q, k] : o"),
        ("a | neg | flip(0) <-> b | pad(0, 1)", "b | slice(0, start=1, rest=0) <-> a | flip(0) | neg"),
        ("rest <-> keep", "rest <-> keep"),
        ("{p}.x <-> keep", "{p}.x <-> keep"),
        ("t = a", "t -> drop if = a"),
        ("{p}.t = {p}.a", "{p}.t -> drop if = {p}.a"),
        ("t -> drop if = a", "t = a"),
        ("{p}.t -> drop if = {p}.a", "{p}.t = {p}.a"),
        ("c -> drop if = b\nb -> drop if = a", "b = a\nc = b"),
        ("t -> drop if = fill(0, shape=[2], dtype=f32)", "fill(0, shape=[2], dtype=f32) -> t"),
        ("fill(0, shape=[2], dtype=f32) -> t", "t -> drop if = fill(0, shape=[2], dtype=f32)"),
        ("fill(0) -> {p}.b for {p}.w", "optional {p}.b -> drop if = fill(0)"),
        ("expect sources=3 targets=any", "expect sources=any targets=3"),
        ("a | cast(f32, was=f16) <-> b", "b <-> a | cast(f16, was=f32, exact=true)"),
    ],
)
def test_statements(text: str, inverse: str) -> None:
    assert dumps(invert(parse(text))).strip() == inverse


def test_stages_stand_the_other_way_round() -> None:
    assert dumps(invert(parse("a <-> b\nthen\nb <-> c"))).split() == ["c", "<->", "b", "then", "b", "<->", "a"]


def test_each_stage_has_the_declarations_it_refers_to() -> None:
    text = """
        table t { a=0 b=1 }
        table unused { x=y }
        param n : int
        rest <-> keep
        then
        {k:t}.w : (h d) <-> {k}.w : h d where h=n
        then
        {i:int}.w : ... <-> {i+1}.v : ...
    """
    inverse = invert(parse(text))
    declared = [[s.name for s in stage.statements if isinstance(s, Table | Param)] for stage in inverse.stages]
    assert declared == [[], ["t", "n"], []]
    store = TensorStore([Tensor.from_array(f"{k}.w", np.arange(6.0)) for k in "ab"])
    there = apply(parse(text), store, params={"n": 3})
    assert [t.shape for t in there.values()] == [(3, 2), (3, 2)]
    assert content(apply(parse(dumps(inverse)), there, params={"n": "3"})) == content(store)


def test_values_of_parameters_are_written_into_operations() -> None:
    map = parse("param n : int = 2\na | pad(0, after=n) <-> b")
    assert dumps(invert(map, params={"n": 5})).strip() == "b <-> a | slice(0, stop=-5, rest=0)"
    assert dumps(invert(map)).strip() == "b <-> a | slice(0, stop=-2, rest=0)"
    kept = invert(parse("param n : int\na | flip(n) <-> b"), params={"n": 1})
    assert [s.name for s in kept.stages[0].statements if isinstance(s, Param)] == ["n"], "a flip is its own inverse"


def test_parameters_without_values() -> None:
    with pytest.raises(MapError) as raised:
        invert(parse("param n : int\na | pad(0, after=n) <-> b"))
    assert (raised.value.code, raised.value.hint) == ("M251", "say '--param n=…'")
    with pytest.raises(UsageError):
        invert(parse("a <-> b"), params={"n": 1})
    with pytest.raises(MapError) as raised:
        invert(parse("param n : int = 2\na.{n} | pad(0, after=n) <-> b"))
    assert raised.value.code == "M506"


# ---- what cannot be undone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("a -> b", "M502", "it is written with '->'"),
        ("a | add(1) -> b", "M502", "rounded"),
        ("a | cast(f16) <-> b", "M503", "the type before it is not known"),
        ("a <-> b | rsqrt", "M503", "the root is rounded"),
        ("a -> drop", "M501", "cannot be made again"),
        ("rest -> drop", "M501", "cannot be made again"),
        ("{p}.a.{q} -> drop if = {p}.b", "M504", "which tensors were there"),
        ("{p}.a -> drop if = fill(0, shape=[1], dtype=f32)", "M504", "which tensors were there"),
        ("optional a -> drop if = b", "M504", "which tensors were there"),
        ("*.a -> drop if = fill(0, shape=[1], dtype=f32)", "M504", "which tensors were there"),
        ("a -> drop if = fill(0)", "M504", "type and shape"),
        ("t = {p}.a", "M504", "another name of"),
        ("fill(0) -> {p}.b if absent for {p}.w", "M505", "which tensors were absent"),
    ],
)
def test_refusals(text: str, code: str, says: str) -> None:
    with pytest.raises(MapError, match=says) as raised:
        invert(parse(f"x <-> y\n{text}"))
    assert raised.value.code == code
    assert raised.value.where.line == 2


def test_all_of_them_are_said() -> None:
    with pytest.raises(MapError) as raised:
        invert(parse("a -> b\nc <-> d\ne -> drop\nf | rsqrt -> g\nthen\nrest -> drop"))
    assert raised.value.where.line == 1
    assert raised.value.hint is not None
    assert "lines 3, 4, 6" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a | add(1) <-> b", "M215"),
        ("a | mul(-1) <-> b", "M215"),
        ("a | cast(f16) <-> b", "M215"),
        ("a | slice(0, 1) <-> b", "M215"),
        ("[a, c] | sum <-> b", "M215"),
        ("a | copy(2) <-> [x, y]", "M215"),
        ("a : x y <-> b : (x y)", "M226"),
    ],
)
def test_promises_that_cannot_be_kept_are_refused(text: str, code: str) -> None:
    specs = [TensorSpec("a", DTYPES["float32"], (2, 3))]
    if "c]" in text:
        specs.append(TensorSpec("c", DTYPES["float32"], (2, 3)))
    assert [p.code for p in examine(parse(text), specs).problems] == [code]


def test_a_widening_cast_is_kept_without_saying_the_type() -> None:
    store = TensorStore([Tensor.from_array("a", np.ones(2, "<f2"))])
    assert apply(parse("a | cast(f32) <-> b"), store)["b"].dtype.name == "float32"


def test_an_overlap_is_said_backwards() -> None:
    """Two rules may make names that only one of them could have made; backwards that is two statements for one tensor."""
    map = parse("a.{p} <-> x.{p}\nb.{p} <-> x.{p}.k")
    store = TensorStore([Tensor.from_array(name, np.ones(1)) for name in ("a.1", "b.2")])
    with pytest.raises(MapError) as raised:
        apply(invert(map), apply(map, store))
    assert raised.value.code == "M201"
