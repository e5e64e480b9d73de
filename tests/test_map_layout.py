"""Changes of layout: against numpy, and against one element at a time by the meaning of the pattern."""

from __future__ import annotations

import itertools
import math
import re
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porter.dtypes import DTYPES
from porter.errors import MapError, PorterError
from porter.io.payloads import ComputedPayload
from porter.io.source import FileSource
from porter.mapping.layout import Layout, Operand, axis_sizes, solve
from porter.mapping.parser import parse
from porter.mapping.syntax import Axes, Axis, AxisElement, Count, Group, MapText, Number, Rest, Rule, Span
from porter.tensor import BytesPayload, Location, Tensor, TensorSpec, canonical_bytes

RULE = Span(MapText("rule.pmap", "the rule"), 1, 1, 8)


def axes(text: str) -> Axes:
    """An axis pattern, its nodes placed in `text`."""
    source = MapText("axes.pmap", text)
    tokens = [(m.group(), Span(source, 1, m.start() + 1, len(m.group()))) for m in re.finditer(r"\.\.\.|\w+|[()+]", text)]
    tokens.append((")", Span(source, 1, len(text) + 1)))
    at = 0

    def terms() -> tuple[tuple[AxisElement, ...], ...]:
        nonlocal at
        found: list[list[AxisElement]] = [[]]
        while tokens[at][0] != ")":
            token, span = tokens[at]
            at += 1
            if token == "(":
                found[-1].append(Group(terms(), span))
            elif token == "+":
                found.append([])
            elif token == "...":
                found[-1].append(Rest(span))
            else:
                found[-1].append(Count(int(token), span) if token.isdigit() else Axis(token, span))
        at += 1
        return tuple(map(tuple, found))

    (elements,) = terms()
    assert at == len(tokens)
    return Axes(elements, Span(source, 1, 1, len(text)))


def operand(
    name: str, shape: Sequence[int] | None, text: str | None = None, at: Mapping[str, int] | None = None, block: int | None = None
) -> Operand:
    return Operand(name, None if shape is None else tuple(shape), None if text is None else axes(text), at or {}, block)


def moved(sources: Sequence[tuple[Operand, np.ndarray]], targets: Sequence[Operand], **sizes: int) -> list[np.ndarray]:
    """The targets' values."""
    layout = solve([o for o, _ in sources], targets, sizes, RULE)
    tensors = [Tensor.from_array(o.name, a) for o, a in sources]
    results = []
    for shape, payload in zip(layout.target_shapes, layout.payloads(tensors), strict=True):
        data = payload.buffer().tobytes()
        assert len(data) == payload.nbytes
        assert b"".join(bytes(c) for c in payload.chunks(1000)) == data
        results.append(np.frombuffer(data, sources[0][1].dtype).reshape(shape))
    return results


def moved_one(array: np.ndarray, left: str | None, right: str | None, **sizes: int) -> np.ndarray:
    (result,) = moved([(operand("a", array.shape, left), array)], [operand("b", None, right)], **sizes)
    (back,) = moved([(operand("b", result.shape, right), result)], [operand("a", array.shape, left)], **sizes)
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    return result


def numbered(*shape: int, dtype: Any = np.int32, first: int = 0) -> np.ndarray:
    return (np.arange(math.prod(shape)) + first).astype(dtype).reshape(shape)


# ---- one tensor --------------------------------------------------------------------------------------------------------


def test_a_transpose_is_numpys() -> None:
    x = numbered(4, 3, 2, 5)
    assert np.array_equal(moved_one(x, "o i h w", "h w i o"), x.transpose(2, 3, 1, 0))


def test_the_columns_after_a_flatten_are_permuted() -> None:
    x = numbered(6, 3 * 7 * 5)
    want = x.reshape(6, 3, 7, 5).transpose(2, 3, 1, 0).reshape(7 * 5 * 3, 6)
    assert np.array_equal(moved_one(x, "o (c h w)", "(h w c) o", h=7, w=5), want)


def test_unit_axes_and_flattening_keep_the_payload() -> None:
    x = numbered(4, 3, 1)
    tensor = Tensor.from_array("a", x)
    layout = solve([operand("a", x.shape, "o i 1")], [operand("b", None, "1 (o i)")], {}, RULE)
    assert layout.target_shapes == ((1, 12),)
    assert layout.whole == (0,)
    assert layout.payloads([tensor])[0] is tensor.payload


def test_a_transpose_of_a_vector_moves_nothing() -> None:
    layout = solve([operand("a", (1, 9), "o i")], [operand("b", None, "i o")], {}, RULE)
    assert layout.whole == (0,)
    assert layout.target_shapes == ((9, 1),)


@pytest.mark.parametrize(("left", "right"), [(None, None), ("o i", None), (None, "o i"), ("...", "..."), ("o ...", "o ...")])
def test_no_pattern_takes_the_other_sides(left: str | None, right: str | None) -> None:
    layout = solve([operand("a", (4, 3), left)], [operand("b", None, right)], {}, RULE)
    assert (layout.target_shapes, layout.whole) == (((4, 3),), (0,))


def test_rest_is_the_same_run_of_dimensions() -> None:
    x = numbered(4, 3, 2, 5)
    assert np.array_equal(moved_one(x, "o ...", "... o"), x.transpose(1, 2, 3, 0))
    assert np.array_equal(moved_one(x, "o ... w", "w (... o)"), x.transpose(3, 1, 2, 0).reshape(5, -1))
    assert np.array_equal(moved_one(numbered(7), "o ...", "... o"), numbered(7))
    y = numbered(4, 6)
    assert np.array_equal(moved_one(y, "a (... b)", "(b ...) a", b=2), y.reshape(4, 3, 2).transpose(2, 1, 0).reshape(6, 4))


def test_sizes_come_from_the_target_too() -> None:
    layout = solve([operand("a", (6, 105), "o (c h w)")], [operand("b", (7, 5, 3, 6), "h w c o")], {}, RULE)
    assert layout.sizes == {"o": 6, "c": 3, "h": 7, "w": 5}
    layout = solve([operand("a", (1, 12), "(a b) (c d)")], [operand("b", None, "a b c d")], {"c": 12}, RULE)
    assert layout.sizes == {"a": 1, "b": 1, "c": 12, "d": 1}


def test_the_rotary_permutation() -> None:
    """Hugging Face's order of the rows of q and k: halves, where Meta's is pairs."""
    heads, width, hidden = 4, 6, 5
    x = numbered(heads * width, hidden)
    want = x.reshape(heads, width // 2, 2, hidden).transpose(0, 2, 1, 3).reshape(-1, hidden)
    assert np.array_equal(moved_one(x, "(heads d two) i", "(heads two d) i", heads=heads, two=2), want)


# ---- lists -------------------------------------------------------------------------------------------------------------


def lists(members: Sequence[tuple[np.ndarray, str | None]], whole: str | None, **sizes: int) -> np.ndarray:
    """The members as one, after the way back is checked."""
    ours = [(operand(f"m{j}", a.shape, text, block=j), a) for j, (a, text) in enumerate(members)]
    (result,) = moved(ours, [operand("whole", None, whole)], **sizes)
    back = moved([(operand("whole", result.shape, whole), result)], [replace_shape(o) for o, _ in ours], **sizes)
    for (_, a), b in zip(ours, back, strict=True):
        assert b.shape == a.shape
        assert b.tobytes() == a.tobytes()
    return result


def replace_shape(known: Operand) -> Operand:
    return Operand(known.name, None, known.axes, known.at, known.block)


def test_equal_parts() -> None:
    q, k, v = (numbered(4, 6, first=100 * j) for j in range(3))
    for text in ("o i", None):
        members = [(a, text) for a in (q, k, v)]
        assert np.array_equal(lists(members, "(3 o) i"), np.concatenate([q, k, v]))
        assert np.array_equal(lists(members, "(o 3) i"), np.stack([q, k, v], 1).reshape(12, 6))
        assert np.array_equal(lists(members, "o (3 i)"), np.concatenate([q, k, v], 1))
        assert np.array_equal(lists(members, "3 o i"), np.stack([q, k, v]))
        assert np.array_equal(lists(members, "o i 3"), np.stack([q, k, v], 2))
    assert np.array_equal(lists([(a, "o i") for a in (q, k, v)], "i (3 o)"), np.concatenate([q, k, v]).T)
    assert np.array_equal(lists([(q, "o i")], "(1 o) i"), q)


def test_interleaved_by_heads() -> None:
    q, k, v = (numbered(4 * 2, 6, first=100 * j) for j in range(3))
    want = np.stack([a.reshape(4, 2, 6) for a in (q, k, v)], 1).reshape(-1, 6)
    assert np.array_equal(lists([(a, "(h d) i") for a in (q, k, v)], "(h 3 d) i", h=4), want)


def test_uneven_parts() -> None:
    q, k, v = numbered(8, 6), numbered(2, 6, first=100), numbered(3, 6, first=200)
    members = [(q, "a i"), (k, "b i"), (v, "c i")]
    assert np.array_equal(lists(members, "(a + b + c) i", a=8, b=2), np.concatenate([q, k, v]))
    assert np.array_equal(lists(members, "i (a + b + c)", b=2, c=3), np.concatenate([q, k, v]).T)
    assert np.array_equal(lists([(q, None), (k, None), (v, None)], "(a + b + c) i", a=8, b=2, c=3), np.concatenate([q, k, v]))


def test_grouped_queries() -> None:
    g, r, d, i = 2, 3, 4, 5
    q, k, v = numbered(g * r * d, i), numbered(g * d, i, first=1000), numbered(g * d, i, first=2000)
    want = np.concatenate([q.reshape(g, r * d, i), k.reshape(g, d, i), v.reshape(g, d, i)], 1).reshape(-1, i)
    members = [(q, "(g r d) i"), (k, "(g d) i"), (v, "(g d) i")]
    assert np.array_equal(lists(members, "(g (r d + d + d)) i", d=d, r=r), want)
    want = np.concatenate([q.reshape(g, r, d, i), k.reshape(g, 1, d, i), v.reshape(g, 1, d, i)], 1).reshape(-1, i)
    assert np.array_equal(lists(members, "(g (r + 1 + 1) d) i", d=d, r=r), want)


def test_a_term_of_one() -> None:
    token, patches = numbered(5), numbered(7, 5, first=100)
    assert np.array_equal(lists([(token, "d"), (patches, "n d")], "(1 + n) d"), np.concatenate([token[None], patches]))


def test_lists_of_the_same_length_are_pairs() -> None:
    a, b = numbered(2, 3), numbered(4, first=100)
    got = moved(
        [(operand("a", a.shape, "o i", block=0), a), (operand("b", b.shape, block=1), b)],
        [operand("c", None, "i o", block=0), operand("d", None, block=1)],
    )
    assert np.array_equal(got[0], a.T)
    assert np.array_equal(got[1], b)
    got = moved([(operand("a", a.shape), a), (operand("b", b.shape), b)], [operand("c", None), operand("d", None)])
    assert [x.shape for x in got] == [(2, 3), (4,)]
    # An optional member that is missing leaves a gap.
    layout = solve(
        [operand("a", (2,), block=0), operand("c", (3,), block=2)], [operand("x", None, block=0), operand("z", None, block=1)], {}, RULE
    )
    assert layout.whole == (0, 1)


# ---- stacks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whole", "part", "axis"),
    [
        ("e o i", "o i", 0),
        ("o e i", "o i", 1),
        ("o i e", "o i", 2),
        (None, None, 0),
        ("o i", "o i", 0),
        ("o e i", None, 1),
        (None, "o i", 0),
    ],
)
def test_experts(whole: str | None, part: str | None, axis: int) -> None:
    experts = [numbered(4, 3, first=100 * e) for e in range(5)]
    pattern = axes(part) if part else None
    members = [Operand(f"e{e}", x.shape, pattern, {"e": e}) for e, x in enumerate(experts)]
    (got,) = moved(list(zip(members, experts, strict=True)), [operand("whole", None, whole)])
    assert np.array_equal(got, np.stack(experts, axis))
    back = moved([(operand("whole", got.shape, whole), got)], [Operand(m.name, None, pattern, m.at) for m in reversed(members)])
    assert all(np.array_equal(a, b) for a, b in zip(reversed(experts), back, strict=True))


def test_experts_transposed_and_packed() -> None:
    """Gate and up of every expert in one tensor, in features first."""
    gate, up = ([numbered(4, 3, first=1000 * j + 100 * e) for e in range(5)] for j in range(2))
    members = [(Operand(f"w{j}.{e}", (4, 3), axes("o i"), {"e": e}, j), x) for j, side in enumerate((gate, up)) for e, x in enumerate(side)]
    want = np.stack([np.concatenate([a, b]).T for a, b in zip(gate, up, strict=True)])
    (got,) = moved(members, [operand("whole", None, "e i (2 o)")])
    assert np.array_equal(got, want)
    back = moved([(operand("whole", got.shape, "e i (2 o)"), got)], [replace_shape(m) for m, _ in members])
    assert all(np.array_equal(a, b) for (_, a), b in zip(members, back, strict=True))


def test_stacks_along_two_axes() -> None:
    parts = {(e, j): numbered(4, 3, first=100 * e + 10 * j) for e in range(2) for j in range(3)}
    members = [(Operand(f"{e}.{j}", (4, 3), axes("o i"), {"e": e, "j": j}), x) for (e, j), x in parts.items()]
    (got,) = moved(members, [operand("whole", None, "e o j i")])
    for (e, j), x in parts.items():
        assert np.array_equal(got[e, :, j], x)


def test_a_stack_of_one() -> None:
    x = numbered(4, 3)
    (got,) = moved([(operand("a.0", x.shape, None, {"e": 0}), x)], [operand("b", None)])
    assert np.array_equal(got, x[None])


def test_axis_sizes() -> None:
    assert axis_sizes(operand("w", (8, 4, 6), "e o i"), {}) == {"e": 8, "o": 4, "i": 6}
    assert axis_sizes(operand("w", (8, 24), "e (o i)"), {}) == {"e": 8}
    assert axis_sizes(operand("w", (8, 24), "e (o i)"), {"o": 4, "other": 9}) == {"e": 8, "o": 4, "i": 6}
    assert axis_sizes(operand("w", (8, 2, 3), "e ..."), {}) == {"e": 8}
    assert axis_sizes(operand("w", (12, 3), "(3 o) i"), {}) == {"o": 4, "i": 3}
    assert axis_sizes(operand("w", (40, 5), "(g (r d + d + d)) i"), {"d": 4, "r": 3}) == {"g": 2, "r": 3, "d": 4, "i": 5}
    assert axis_sizes(operand("w", (3,), None), {"d": 4}) == {}
    assert axis_sizes(operand("w", None, "e o"), {"e": 4}) == {"e": 4}
    with pytest.raises(MapError) as caught:
        axis_sizes(operand("w", (8, 25), "e (o i)"), {"o": 4})
    assert caught.value.code == "M303"


def test_lists_of_stacks_are_pairs_too() -> None:
    parts = [(numbered(2, 3, first=100 * e), numbered(4, first=50 + 100 * e)) for e in range(3)]
    members = [(Operand(f"{t}{e}", x.shape, None, {"e": e}, t), x) for e, pair in enumerate(parts) for t, x in enumerate(pair)]
    goals = [operand("w", None, block=0), operand("b", None, block=1)]
    weight, bias = moved(members, goals)
    assert np.array_equal(weight, np.stack([w for w, _ in parts]))
    assert np.array_equal(bias, np.stack([b for _, b in parts]))


def test_the_place_in_the_list_counts_and_not_the_order_given() -> None:
    members = [(operand(f"p{j}", (2,), "o", block=j), numbered(2, first=10 * j)) for j in (5, 1, 3)]
    (got,) = moved(members, [operand("w", None, "(3 o)")])
    assert got.tolist() == [10, 11, 30, 31, 50, 51]


RULES = """
fc.weight : o (c h w) <-> head.kernel : (h w c) o where h=7 w=7
[q, k, v] : o i <-> qkv : (3 o) i
[q : (g r d) i, k : (g d) i, v : (g d) i] <-> qkv : (g (r d + d + d)) i where d=4
x : o ... <-> x : ... o
"""


def test_patterns_as_the_parser_makes_them() -> None:
    shapes = [[(6, 147)], [(4, 5)] * 3, [(24, 5), (8, 5), (8, 5)], [(4, 3, 2)]]
    want = [((147, 6),), ((12, 5),), ((40, 5),), ((3, 2, 4),)]
    (stage,) = parse(RULES).stages
    for rule, given_shapes, expected in zip(stage.statements, shapes, want, strict=True):
        assert isinstance(rule, Rule)
        sizes = {name: value.value for name, value in rule.where if isinstance(value, Number)}
        left, right = (
            [(str(t.pattern.literal), t.axes, j if side.listed else None) for j, t in enumerate(side.terms)]
            for side in (rule.source, rule.target)
        )
        sources = [Operand(name, s, a, {}, j) for (name, a, j), s in zip(left, given_shapes, strict=True)]
        layout = solve(sources, [Operand(name, None, a, {}, j) for name, a, j in right], sizes, rule.span)
        assert layout.target_shapes == expected


# ---- any pattern -------------------------------------------------------------------------------------------------------


def place(elements: Sequence[AxisElement], at: Mapping[str, int], sizes: Mapping[str, int], block: int) -> tuple[int, int]:
    """Index in the dimension that holds `elements`, and the length of it: one axis after the other, as the patterns are read."""
    index, length = 0, 1
    for element in elements:
        if isinstance(element, Group):
            inner = [place(term, at, sizes, block) for term in element.terms]
            chosen = block if len(inner) > 1 else 0
            i, n = sum(n for _, n in inner[:chosen]) + inner[chosen][0], sum(n for _, n in inner)
        elif isinstance(element, Count):
            i, n = (0, 1) if element.value == 1 else (block, element.value)
        else:
            assert isinstance(element, Axis)
            i, n = at.get(element.name, 0), sizes[element.name]
        index, length = index * n + i, length * n
    return index, length


def shape_of(pattern: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(place([e], {}, sizes, 0)[1] for e in pattern.elements)


def by_hand(whole: Axes, parts: Sequence[tuple[Axes, Mapping[str, int], int, np.ndarray]], sizes: Mapping[str, int]) -> np.ndarray:
    """One tensor of its parts, element by element."""
    result = np.full(shape_of(whole, sizes), 99, parts[0][3].dtype)
    for pattern, at, block, array in parts:
        names = re.findall(r"[a-z]\w*", pattern.span.text.text)
        for values in itertools.product(*[range(sizes[n]) for n in names]):
            here = {**dict(zip(names, values, strict=True)), **at}
            goes = tuple(place([e], here, sizes, block)[0] for e in whole.elements)
            result[goes] = array[tuple(place([e], here, sizes, block)[0] for e in pattern.elements)]
    return result


@st.composite
def arranged(draw: st.DrawFn, items: Sequence[str]) -> str:
    """A pattern with these items in some order, some of them in groups, with unit axes."""
    order = draw(st.permutations([*items, *["1"] * draw(st.integers(0, 2))]))
    groups: list[list[str]] = []
    for item in order:
        if groups and draw(st.booleans()):
            groups[-1].append(item)
        else:
            groups.append([item])
    return " ".join(g[0] if len(g) == 1 and draw(st.booleans()) else f"({' '.join(g)})" for g in groups)


@st.composite
def problems(draw: st.DrawFn) -> tuple[str, list[tuple[str, dict[str, int], int]], dict[str, int]]:
    """A pattern of the whole; pattern, slice and place of each part; and sizes."""
    common = list("abcd"[: draw(st.integers(0, 3))])
    slices = list("xy"[: draw(st.integers(0, 2))])
    kind = draw(st.sampled_from(["one", "number", "sum"]))
    sizes = {name: draw(st.integers(1, 4)) for name in [*common, *slices]}
    blocks, own, items = 1, [list[str]()], [*common, *slices]
    if kind == "number":
        blocks = draw(st.integers(2, 3))
        own, items = [[] for _ in range(blocks)], [*items, str(blocks)]
    elif kind == "sum":
        blocks = draw(st.integers(2, 3))
        own = [[f"p{j}", f"q{j}"][: draw(st.integers(0, 2))] for j in range(blocks)]
        sizes |= {name: draw(st.integers(1, 3)) for names in own for name in names}
        items.append(f"({' + '.join(' '.join(names) or '1' for names in own)})")
    whole = draw(arranged(items))
    patterns = [draw(arranged([*common, *names])) for names in own]
    indices = list(itertools.product(*[range(sizes[name]) for name in slices]))
    parts = [(patterns[j], dict(zip(slices, place, strict=True)), j) for j in range(blocks) for place in indices]
    return whole, draw(st.permutations(parts)) if kind == "one" else parts, sizes


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), st.sampled_from(["u1", "<f4", "<c16", "<f8"]), st.booleans())
def test_any_pattern_is_what_it_says_and_goes_back(
    problem: tuple[str, list[tuple[str, dict[str, int], int]], dict[str, int]], dtype: str, small: bool
) -> None:
    whole, parts, sizes = problem
    listed = len({j for _, _, j in parts}) > 1
    patterns = {text: axes(text) for text, _, _ in parts}
    arrays, first = [], 0
    for text, _, _ in parts:
        shape = shape_of(patterns[text], sizes)
        arrays.append(numbered(*shape, first=first, dtype=dtype))
        first += math.prod(shape)
    members = [
        Operand(f"p{n}", a.shape, patterns[text], at, j if listed else None)
        for n, ((text, at, j), a) in enumerate(zip(parts, arrays, strict=True))
    ]
    want = by_hand(axes(whole), [(patterns[t], at, j, a) for (t, at, j), a in zip(parts, arrays, strict=True)], sizes)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr("porter.mapping.layout_payloads.CHUNK", 64)
        (got,) = moved(list(zip(members, arrays, strict=True)), [operand("whole", None, whole)], **sizes)
        assert got.shape == want.shape
        assert got.tobytes() == want.tobytes()
        back = moved([(operand("whole", got.shape, whole), got)], [replace_shape(m) for m in members], **sizes)
    try:
        unaided = solve(members, [operand("whole", None, whole)], {}, RULE)
    except MapError as error:
        assert error.code == "M304"
    else:
        assert (unaided.sizes, unaided.target_shapes) == ({n: s for n, s in sizes.items() if n in unaided.sizes}, (want.shape,))
    for a, b in zip(arrays, back, strict=True):
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


# ---- element types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
@pytest.mark.parametrize("shape", [(4, 6, 8), (3, 5, 7), (4, 6, 3)])
@pytest.mark.parametrize("right", ["b a c", "c b a", "a c b"])
def test_every_type_keeps_its_bits(dtype: Any, shape: tuple[int, ...], right: str) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
    if dtype.packed:
        codes &= (1 << dtype.bits) - 1
    values = codes.view(dtype.numpy())[..., 0] if dtype.name != "bool" else codes[..., 0] > 127
    tensor = Tensor(TensorSpec("a", dtype, shape), BytesPayload.of(bytes(canonical_bytes(values, dtype))))
    layout = solve([operand("a", shape, "a b c")], [operand("b", None, right)], {}, RULE)
    (payload,) = layout.payloads([tensor])
    want = bytes(canonical_bytes(np.ascontiguousarray(values.transpose(["abc".index(x) for x in right.split()])), dtype))
    assert payload.nbytes == len(want)
    assert payload.buffer().tobytes() == want
    assert b"".join(bytes(c) for c in payload.chunks(7)) == want
    back = solve([operand("b", layout.target_shapes[0], right)], [operand("a", None, "a b c")], {}, RULE)
    (again,) = back.payloads([Tensor(TensorSpec("b", dtype, layout.target_shapes[0]), payload)])
    assert again.buffer() == tensor.buffer()


@pytest.mark.parametrize("length", [3, 4, 5])
def test_packed_elements_join_and_split_at_any_bit(length: int) -> None:
    dtype = DTYPES["int4"]
    parts = [np.arange(j, j + length, dtype=np.int8).astype(ml_dtypes.int4) for j in range(3)]
    tensors = [Tensor.from_array(f"p{j}", a) for j, a in enumerate(parts)]
    members = [operand(f"p{j}", (length,), "o", block=j) for j in range(3)]
    layout = solve(members, [operand("w", None, "(3 o)")], {}, RULE)
    (payload,) = layout.payloads(tensors)
    assert payload.buffer() == canonical_bytes(np.concatenate(parts), dtype)
    whole = Tensor(TensorSpec("w", dtype, (3 * length,)), payload)
    back = solve([operand("w", (3 * length,), "(3 o)")], [replace_shape(m) for m in members], {}, RULE)
    assert [p.buffer().tobytes() for p in back.payloads([whole])] == [t.tobytes() for t in tensors]


def test_many_packed_elements() -> None:
    dtype = DTYPES["uint4"]
    values = np.random.default_rng(0).integers(0, 16, (1001, 999), dtype=np.uint8).astype(ml_dtypes.uint4)
    layout = solve([operand("a", values.shape, "o i")], [operand("b", None, "i o")], {}, RULE)
    (payload,) = layout.payloads([Tensor.from_array("a", values)])
    assert payload.buffer() == canonical_bytes(values.T, dtype)


def test_types_do_not_mix() -> None:
    members = [operand(f"p{j}", (4,), "o", block=j) for j in range(2)]
    layout = solve(members, [operand("w", None, "(2 o)")], {}, RULE)
    with pytest.raises(MapError) as caught:
        layout.payloads([Tensor.from_array("p0", np.zeros(4, "f4")), Tensor.from_array("p1", np.zeros(4, "f2"))])
    assert caught.value.code == "M313"
    assert "'p0' (float32) and 'p1' (float16)" in caught.value.message


# ---- shapes at the edge ------------------------------------------------------------------------------------------------


def test_no_dimensions_and_no_elements() -> None:
    scalar = np.float32(3)
    assert moved_one(np.asarray(scalar), "", "1 1").shape == (1, 1)
    assert moved_one(np.zeros((0, 5), "f4"), "o i", "i o").shape == (5, 0)
    scalars = [np.asarray(np.float32(j)) for j in range(3)]
    assert np.array_equal(lists([(s, "") for s in scalars], "3"), np.arange(3, dtype="f4"))
    empty, full = np.zeros((0, 5), "f4"), np.ones((2, 5), "f4")
    assert np.array_equal(lists([(empty, "a i"), (full, "b i")], "(a + b) i", a=0, b=2), full)
    assert lists([(empty, "a i"), (empty, "a i")], "i (2 a)").shape == (5, 0)
    huge = (2**62, 0, 2**62)
    tensor = Tensor(TensorSpec("a", DTYPES["float32"], huge), BytesPayload.of(b""))
    for right in ("c b a", "(a b) c", "(a c) b"):
        layout = solve([operand("a", huge, "a b c")], [operand("b", None, right)], {}, RULE)
        assert layout.payloads([tensor])[0].nbytes == 0
    layout = solve([operand("a", huge, "a b c")], [operand("b", None, "(a c) b")], {}, RULE)
    assert layout.target_shapes == ((2**124, 0),)


def test_more_dimensions_than_arrays_have() -> None:
    names = [f"a{i}" for i in range(300)]
    shape = [2 if i % 30 == 0 else 1 for i in range(300)]
    x = np.arange(2**10, dtype="u2")
    tensor = Tensor(TensorSpec("a", DTYPES["uint16"], tuple(shape)), BytesPayload.of(canonical_bytes(x, DTYPES["uint16"])))
    layout = solve([operand("a", shape, " ".join(names))], [operand("b", None, " ".join(reversed(names)))], {}, RULE)
    (payload,) = layout.payloads([tensor])
    want = x.reshape([2] * 10).transpose(range(9, -1, -1)).tobytes()
    assert payload.buffer().tobytes() == want


# ---- errors ------------------------------------------------------------------------------------------------------------


WRONG: list[tuple[str, list[Operand], list[Operand], dict[str, int], str, int | None, str | None]] = [
    ("M300", [operand("a", (2, 3), "o i")], [operand("b", None, "i o k")], {}, "axis 'k' of 'b' is not an axis of 'a'", 5, None),
    ("M300", [operand("a", (2, 3), "o i")], [operand("b", None, "o")], {}, "axis 'i' of 'a' is not an axis of 'b'", 3, "'1'"),
    ("M300", [operand("a", (2, 3), "o ...")], [operand("b", None, "o i")], {}, "'...' of 'a' is not an axis of 'b'", 3, None),
    (
        "M300",
        [operand("a", (2,), "e", {"e": 0}), operand("b", (2,), "e", {"e": 1})],
        [operand("w", None, "e o")],
        {},
        "axis 'e' counts the tensors",
        1,
        None,
    ),
    (
        "M300",
        [operand("a", (2,), "p", block=0), operand("b", (2,), "p", block=1)],
        [operand("w", None, "(p + q)")],
        {},
        "axis 'p' of 'b' is not an axis of 'w'",
        1,
        "another term",
    ),
    ("M301", [operand("a", (2, 2), "o o")], [operand("b", None, "o")], {}, "axis 'o' stands twice", 3, None),
    ("M301", [operand("a", (2, 2), "... o (o ...)")], [operand("b", None, "o")], {}, "axis 'o' stands twice", 8, None),
    ("M301", [operand("a", (2, 2), "... ...")], [operand("b", None, "...")], {}, "'...' stands twice", 5, None),
    ("M302", [operand("a", (2, 3, 4), "o i")], [operand("b", None, "i o")], {}, "'a' has 3 dimensions, its axis pattern 2", 1, None),
    ("M302", [operand("a", (2,), "o ... i")], [operand("b", None, "i o ...")], {}, "1 dimension, its axis pattern 2 or more", 1, None),
    ("M303", [operand("a", (2, 3), "o i")], [operand("b", (2, 3), "i o")], {}, "axis 'i' is 2 by 'b', and 3 by 'a'", 1, None),
    ("M303", [operand("a", (2, 3), "o i")], [operand("b", None, "i o")], {"o": 4}, "axis 'o' is 2 by 'a', and 4 by parameter", 1, None),
    ("M303", [operand("a", (2, 3))], [operand("b", (3, 2))], {}, "'a' is [2, 3], and 'b' has to be [3, 2]", 1, None),
    ("M303", [operand("a", (2, 3), "o 1")], [operand("b", None, "o")], {}, "dimension 1 of 'a' is 3, and '1' is 1", 3, None),
    (
        "M303",
        [operand("a", (6, 100), "o (c h w)")],
        [operand("b", None, "h w c o")],
        {"h": 7, "w": 7},
        "dimension 1 of 'a', 100, is no multiple of 49",
        3,
        None,
    ),
    (
        "M303",
        [operand("w", (30, 5), "(g (r d + d + d)) i")],
        [operand("q", None, "(g r d) i", block=0), operand("k", None, "(g d) i", block=1), operand("v", None, "(g d) i", block=2)],
        {"d": 4, "r": 3},
        "dimension 0 of 'w', 30, is no multiple of 20",
        1,
        None,
    ),
    (
        "M304",
        [operand("a", (6, 105), "o (c h w)")],
        [operand("b", None, "h w c o")],
        {},
        "the size of axis 'c' is not known",
        4,
        "where h=… w=…",
    ),
    (
        "M304",
        [operand("a", (0, 0), "o (a b)")],
        [operand("b", None, "a b o")],
        {"a": 0},
        "the size of axis 'b' is not known",
        6,
        "where b=…",
    ),
    (
        "M305",
        [operand("a", (6,), "(3 o)")],
        [operand("b", None, "3 o")],
        {},
        "3 parts, and one tensor stands on the other side",
        1,
        "where name=3",
    ),
    (
        "M305",
        [operand(f"p{j}", (6,), "o", block=j) for j in range(2)],
        [operand("b", None, "3 o")],
        {},
        "3 parts, and 2 tensors stand",
        1,
        None,
    ),
    (
        "M305",
        [operand(f"p{j}", (6,), "(3 o)", block=j) for j in range(3)],
        [operand("b", None, "3 o")],
        {},
        "and one tensor stands",
        2,
        None,
    ),
    ("M305", [operand("a", (0,), "0")], [operand("b", None, "0")], {}, "no list has 0 members", 1, None),
    (
        "M306",
        [operand(f"p{j}", (6,), "o", block=j) for j in range(2)],
        [operand("b", None, "o")],
        {},
        "nothing says where the 2 tensors",
        1,
        "(3 o)",
    ),
    ("M306", [operand(f"p{j}", (6,), block=j) for j in range(2)], [operand("b", None)], {}, "nothing says where the 2 tensors", 1, "(3 o)"),
    ("M306", [operand(f"p{j}", (6,), "o", block=j) for j in range(2)], [operand("b", None, "2 o 2")], {}, "two places", 5, None),
    ("M306", [operand(f"p{j}", (6,), "o", block=j) for j in range(2)], [operand("b", None, "2 (o + o)")], {}, "two places", 3, None),
    ("M306", [operand(f"p{j}", (6,), "o", block=j) for j in range(2)], [operand("b", None, "(o + (o + o))")], {}, "two places", 6, None),
    (
        "M307",
        [operand(f"p{j}", (6,), "o", block=j) for j in range(3)],
        [operand("b", None, "(o + o)")],
        {},
        "has 2 terms, and 3 tensors",
        1,
        None,
    ),
    ("M307", [operand("a", (6,), "(o + p)")], [operand("b", None, "(o + p)")], {}, "has 2 terms, and one tensor", 1, None),
    (
        "M308",
        [operand(f"a{e}", (6,), "o", {"e": e}) for e in (0, 1, 3)],
        [operand("w", None, "e o")],
        {},
        "no tensor for e=2 ",
        1,
        "3 are there",
    ),
    ("M308", [operand("a", (6,), "o", {"e": 2**60})], [operand("w", None, "e o")], {}, "no tensor for e=0, e=1, e=2 and more", 1, None),
    (
        "M308",
        [operand("a", (6,), "o", {"e": 0}), operand("b", (6,), "o", {"e": 0})],
        [operand("w", None, "e o")],
        {},
        "'a' and 'b' are both e=0",
        1,
        None,
    ),
    (
        "M308",
        [operand(f"a{e}", (6,), "o", {"e": e}) for e in range(3)],
        [operand("w", None, "e o")],
        {"e": 2},
        "'a2' is slice 2 of 'e', which has 2",
        1,
        None,
    ),
    ("M308", [operand(f"a{e}", (6,), "o", {"e": e}) for e in range(3)], [operand("w", (4, 6), "e o")], {}, "no tensor for e=3", 1, None),
    (
        "M308",
        [operand("a", (6,), "o", {"e": 0}, 0), operand("b", (6,), "o", {"e": 0}, 1), operand("c", (6,), "o", {"e": 1}, 1)],
        [operand("w", None, "e (2 o)")],
        {},
        "no tensor for member 1 e=1",
        1,
        None,
    ),
    (
        "M308",
        [operand("a", (6,), "o", {"e": 0}), operand("b", (6,), "o", {"f": 0})],
        [operand("w", None, "e o")],
        {},
        "along different axes",
        1,
        None,
    ),
    (
        "M309",
        [operand(f"p{j}", (6,), block=j) for j in range(2)],
        [operand(f"q{j}", None, block=j) for j in range(3)],
        {},
        "2 tensors would become 3",
        1,
        None,
    ),
    ("M309", [operand("a", (6,), None, {"e": 0})], [operand("b", None, None, {"f": 0})], {}, "1 tensor would become 1", 1, None),
    ("M309", [operand("a", (6,))], [], {}, "1 tensor would become 0", 1, None),
    ("M310", [operand("a", (6,), "(o ...)")], [operand("b", None, "o ...")], {"o": 2}, "how many dimensions '...' stands for", 3, None),
    (
        "M310",
        [operand("a", (2, 3), "o ...")],
        [operand("b", (2, 3, 1), "o ...")],
        {},
        "'...' is 2 of the dimensions of 'b', and 1 of those of 'a'",
        3,
        None,
    ),
    (
        "M310",
        [operand(f"p{j}", (6,), "...", block=j) for j in range(2)],
        [operand("w", None, "(... + ...)")],
        {},
        "'...' stands in a sum",
        2,
        None,
    ),
    ("M311", [operand("a", (6,), "(" * 60 + "o" + ")" * 60)], [operand("b", None, "o")], {}, "more than 50 deep", 1, None),
    ("M312", [operand("a", (2, 3), "o i")], [operand("b", None, "i o")], {"o": -1}, "axis 'o' cannot have the size -1", 1, None),
]


@pytest.mark.parametrize(
    ("code", "sources", "targets", "sizes", "message", "column", "hint"), WRONG, ids=[f"{w[0]}-{n}" for n, w in enumerate(WRONG)]
)
def test_wrong_rules_say_what_is_wrong(
    code: str, sources: list[Operand], targets: list[Operand], sizes: dict[str, int], message: str, column: int, hint: str | None
) -> None:
    with pytest.raises(MapError) as caught:
        solve(sources, targets, sizes, RULE)
    error = caught.value
    assert error.code == code
    assert message in error.message
    assert error.where.column == column
    assert hint is None or hint in (error.hint or "")


def test_an_error_shows_the_run_of_dimensions_once() -> None:
    with pytest.raises(MapError) as caught:
        solve([operand(f"p{e}", (4, 3, 2), None, {"e": e}) for e in (0, 2)], [operand("w", None)], {}, RULE)
    assert "no tensor for e=1 (the axes of 'w' are 'e ...'; so far e=3)" in caught.value.message


def test_an_error_says_what_is_known() -> None:
    with pytest.raises(MapError) as caught:
        solve([operand("fc.weight", (10, 25088), "o (c h w)")], [operand("b", None, "h w c o")], {"w": 7}, RULE)
    text = str(caught.value)
    assert "'fc.weight' is [10, 25088]; its axes are 'o (c h w)'; so far o=10, w=7" in text.replace("w=7, o=10", "o=10, w=7")
    assert "tensor 'fc.weight'" in text
    assert " 1 | o (c h w)\n" in text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abo1 23(+).", max_size=12), st.lists(st.integers(0, 2**63), max_size=4), st.integers(-3, 2**62)),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.tuples(st.text("abo1 23(+).", max_size=12), st.integers(-3, 2**62)), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from("abo"), st.integers(-1, 2**70)),
)
def test_anything_is_solved_or_refused(sources: list[Any], targets: list[Any], sizes: dict[str, int]) -> None:
    def balanced(text: str) -> str:
        depth, kept = 0, ""
        for c in re.sub(r"\.+", " ... ", text):
            depth += (c == "(") - (c == ")")
            kept += c if depth >= 0 and (c != "+" or depth > 0) else ""
            depth = max(depth, 0)
        return kept + ")" * depth

    ours = [
        operand(f"s{n}", shape, balanced(t), {"e": e} if e > 0 else {}, n if e % 2 else None) for n, (t, shape, e) in enumerate(sources)
    ]
    theirs = [operand(f"t{n}", None, balanced(t), {"e": e} if e > 0 else {}, n if e % 2 else None) for n, (t, e) in enumerate(targets)]
    try:
        layout = solve(ours, theirs, sizes, RULE)
    except PorterError:
        return
    assert sum(math.prod(s) for s in layout.source_shapes) == sum(math.prod(s) for s in layout.target_shapes)


# ---- where bytes come from ---------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[np.ndarray, Tensor]]:
    x = numbered(12, 5, 7, dtype="<f4")
    path = tmp_path / "x.bin"
    path.write_bytes(b"abc" + x.tobytes())
    source = FileSource(path)
    yield x, Tensor(TensorSpec("x", DTYPES["float32"], x.shape), source.payload(3, x.nbytes))
    source.close()


def split(x: np.ndarray, pattern: str, part: str, many: int, **sizes: int) -> Layout:
    return solve([operand("x", x.shape, pattern)], [operand(f"p{j}", None, part, block=j) for j in range(many)], sizes, RULE)


def test_a_part_of_a_file_is_a_part_of_the_file(on_disk: tuple[np.ndarray, Tensor]) -> None:
    x, tensor = on_disk
    payloads = split(x, "(3 o) a b", "o b a", 3).payloads([tensor])
    assert [p.location for p in payloads] == [None] * 3
    payloads = split(x, "(3 o) a b", "(o a) b", 3).payloads([tensor])
    for j, payload in enumerate(payloads):
        place = payload.location
        assert place is not None
        assert (place.offset, place.nbytes) == (3 + j * 4 * 35 * 4, 4 * 35 * 4)
        assert payload.buffer().tobytes() == x[4 * j : 4 * j + 4].tobytes()
        assert b"".join(bytes(c) for c in payload.chunks(100)) == x[4 * j : 4 * j + 4].tobytes()


def test_a_checked_file_is_read_as_a_whole_and_once(on_disk: tuple[np.ndarray, Tensor]) -> None:
    x, tensor = on_disk
    asked = []

    class Checked:
        nbytes = tensor.nbytes
        location = Location("x", 3, 0, tensor.nbytes, verify=True)

        def chunks(self, limit: int) -> Iterator[memoryview]:
            raise AssertionError("only the buffer is checked here")

        def buffer(self) -> memoryview:
            asked.append(1)
            return tensor.buffer()

    for part in ("o a b", "o b a"):
        asked.clear()
        payloads = split(x, "(3 o) a b", part, 3).payloads([Tensor(tensor.spec, Checked())])
        assert [p.location for p in payloads] == [None] * 3
        got = [p.buffer().tobytes() for p in payloads]
        want = [x[4 * j : 4 * j + 4] if part == "o a b" else x[4 * j : 4 * j + 4].transpose(0, 2, 1) for j in range(3)]
        assert got == [w.tobytes() for w in want]
        assert len(asked) == 1
        assert [p.buffer().tobytes() for p in payloads] == got
        assert len(asked) == 2


def test_joined_files_are_copied_in_turn(on_disk: tuple[np.ndarray, Tensor]) -> None:
    x, tensor = on_disk
    layout = solve([operand(f"p{j}", x.shape, "o a b", block=j) for j in range(2)], [operand("w", None, "(2 o) a b")], {}, RULE)
    (payload,) = layout.payloads([tensor, tensor])
    assert [p.location for p in payload.parts] == [tensor.location] * 2  # type: ignore[attr-defined]
    assert payload.buffer() == x.tobytes() * 2


def test_nothing_is_read_before_bytes_are_asked_for() -> None:
    def produce() -> Iterator[bytes]:
        raise AssertionError("read")
        yield b""

    tensor = Tensor(TensorSpec("x", DTYPES["float32"], (4, 6)), ComputedPayload(96, produce))
    for pattern, part in (("(2 o) i", "i o"), ("(2 o) i", "o i"), ("(o 2) i", "o i")):
        split(np.zeros((4, 6)), pattern, part, 2).payloads([tensor])


# ---- time and memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "left", "right"),
    [
        ((512, 520, 3, 3), "o i h w", "h w i o"),
        ((3000, 3000), "o i", "i o"),
        ((300_000, 30), "o i", "i o"),
        ((20, 700, 3, 100), "a b c d", "a d b c"),
    ],
)
def test_a_large_transpose_takes_little_memory_and_time(tmp_path: Path, shape: tuple[int, ...], left: str, right: str) -> None:
    x = np.random.default_rng(0).integers(0, 2**32, shape, dtype="u4")
    path = tmp_path / "x"
    path.write_bytes(x.tobytes())
    order = [left.split().index(name) for name in right.split()]
    layout = solve([operand("x", shape, left)], [operand("y", None, right)], {}, RULE)
    (payload,) = layout.payloads([Tensor(TensorSpec("x", DTYPES["uint32"], shape), FileSource(path).payload(0, x.nbytes))])
    want, position, largest = memoryview(np.ascontiguousarray(x.transpose(order)).reshape(-1).view("u1")), 0, 0
    tracemalloc.start()
    for chunk in payload.chunks(1 << 20):
        assert chunk == want[position : position + chunk.nbytes]
        position, largest = position + chunk.nbytes, max(largest, chunk.nbytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (position, largest <= 1 << 20) == (x.nbytes, True)
    assert peak < 10 << 20

    def timed(run: Any) -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    ours = min(timed(lambda: [None for _ in payload.chunks(1 << 20)]) for _ in range(4))
    numpys = min(timed(lambda: np.ascontiguousarray(x.transpose(order))) for _ in range(4))
    assert ours < 3 * numpys + 0.05


def test_solving_again_is_a_look_up() -> None:
    left, right, split_left, split_right = axes("o (c h w)"), axes("(h w c) o"), axes("(3 o) i"), axes("o i")
    start = time.process_time()
    for n in range(10_000):
        if n % 3:
            solve([Operand(f"a{n}", (64 + n % 7, 490), left)], [Operand(f"b{n}", None, right)], {"h": 7, "w": 7}, RULE)
        elif n % 2:
            solve([Operand(f"a{n}", (12, 5), split_left)], [Operand(f"b{n}{j}", None, split_right, {}, j) for j in range(3)], {}, RULE)
        else:
            solve([Operand(f"a{n}", (n, 5), None)], [Operand(f"b{n}", None, None)], {}, RULE)
    assert time.process_time() - start < 0.4


def test_remembered_answers_are_not_mixed_up() -> None:
    for sizes in ({"h": 7}, {"h": 5}):
        for left, right in (("o (h w)", "o h w"), ("o (w h)", "o h w")):
            x = numbered(3, 35)
            pattern = left.split(" ", 1)[1].strip("()").split()
            inner = [sizes["h"] if name == "h" else 35 // sizes["h"] for name in pattern]
            cube = x.reshape(3, *inner)
            want = cube if pattern == ["h", "w"] else cube.transpose(0, 2, 1)
            assert np.array_equal(moved_one(x, left, right, **sizes), want)
