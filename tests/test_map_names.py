"""Names of tensors and patterns: matched, made, indexed, and what is refused."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from porter.errors import MapError
from porter.mapping.names import NameIndex, NameMatcher, Scope, capture_types, evaluate
from porter.mapping.nearest import nearest_name, nearest_pattern
from porter.mapping.syntax import (
    Arithmetic,
    Capture,
    CaptureType,
    Choice,
    Expression,
    Int,
    InTable,
    MapText,
    Name,
    Number,
    Path,
    Pattern,
    Ranges,
    Span,
    Table,
    Variable,
)

BLK = Table("blk", (("a", "0"), ("b", "1"), ("b10", "10")))
SCOPE = Scope({"blk": BLK}, {"n": 4, "prefix": "module."})

ATOM = re.compile(r"\s*(?:(\d+)|(\w+)|([-+*/()]))")


def expression(text: str) -> Expression:
    """A small reader of expressions, so that these tests need no parser."""
    tokens = ATOM.findall(text)

    def operand() -> Expression:
        number, word, sign = tokens.pop(0)
        if sign == "(":
            inner = total()
            tokens.pop(0)
            return inner
        return Number(int(number)) if number else Variable(word)

    def product() -> Expression:
        left = operand()
        while tokens and tokens[0][2] in ("*", "/"):
            left = Arithmetic(tokens.pop(0)[2], left, operand())
        return left

    def total() -> Expression:
        left = product()
        while tokens and tokens[0][2] in ("+", "-"):
            left = Arithmetic(tokens.pop(0)[2], left, product())
        return left

    return total()


def capture_type(text: str) -> CaptureType | None:
    if not text:
        return None
    if text in ("int", "path", "name"):
        return {"int": Int(), "path": Path(), "name": Name()}[text]
    if re.fullmatch(r"0\d+", text):
        return Int(int(text))
    if re.fullmatch(r"[\dmn]+(\.\.[\dmn]+)?(,[\dmn]+(\.\.[\dmn]+)?)*", text):
        pairs = [part.split("..") for part in text.split(",")]
        return Ranges(tuple((expression(p[0]), expression(p[-1])) for p in pairs))
    return Choice(tuple(text.split("|"))) if "|" in text else InTable(text)


def pattern(text: str) -> Pattern:
    parts: list[str | Capture] = []
    where = MapText("names.pmap", text)
    for found in re.finditer(r"\{([^}:]*)(?::([^}]*))?\}|(\*)|[^{}*]+", text):
        span = Span(where, 1, found.start() + 1, len(found[0]))
        if found[3]:
            parts.append(Capture(None, None, span))
        elif found[1] is not None:
            parts.append(Capture(expression(found[1]), capture_type(found[2] or ""), span))
        else:
            parts.append(found[0])
    return Pattern(tuple(parts), Span(where, 1, 1, len(text)))


def matcher(text: str, *others: str, scope: Scope = SCOPE, render_only: bool = False) -> NameMatcher:
    """The matcher of `text` in a rule that also has `others`."""
    patterns = [pattern(t) for t in (text, *others)]
    return NameMatcher(patterns[0], capture_types(patterns, scope), scope, render_only=render_only)


def refused(code: str, *texts: str) -> MapError:
    with pytest.raises(MapError) as caught:
        matcher(*texts)
    assert caught.value.code == code, caught.value
    return caught.value


# ---- matching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("fc.weight", "fc.weight", {}),
        ("fc.weight", "fc.weights", None),
        ("{p}.weight", "a.b.weight", {"p": "a.b"}),
        ("{p}.weight", ".weight", None),
        ("{p}.weight", "weight", None),
        ("a{p}a", "a", None),
        ("ab{p}ba", "aba", None),
        ("{p:name}.weight", "a.b.weight", None),
        ("{p:name}.weight", "a-b.weight", {"p": "a-b"}),
        ("x/{p:name}/w", "x/y/w", {"p": "y"}),
        ("x{p:name}", "xa/b", None),
        ("{p}", "\n\u00e9\"'{}*", {"p": "\n\u00e9\"'{}*"}),
        ("l{i:int}.w", "l0.w", {"i": 0}),
        ("l{i:int}.w", "l10.w", {"i": 10}),
        ("l{i:int}.w", "l010.w", None),
        ("l{i:int}.w", "l-1.w", None),
        ("l{i:int}.w", "l\u0663.w", None),
        ("l{i:int}.w", "l.w", None),
        ("l{i:03}", "l007", {"i": 7}),
        ("l{i:03}", "l0007", None),
        ("l{i:03}", "l1000", {"i": 1000}),
        ("l{i:03}", "l07", None),
        ("l{i:03}", "l000", {"i": 0}),
        ("{p}{i:int}", "conv12", {"p": "conv", "i": 12}),
        ("{i:int}{p}", "12conv", {"p": "conv", "i": 12}),
        ("{p}{i:int}.w", "12.w", None),
        ("{i:int}", "5", {"i": 5}),
        ("l{i:0..3}", "l3", {"i": 3}),
        ("l{i:0..3}", "l4", None),
        ("l{i:0,2,8..11}", "l9", {"i": 9}),
        ("l{i:0,2,8..11}", "l1", None),
        ("l{i:0..n}", "l4", {"i": 4}),
        ("{k:q|qk|k}.w", "qk.w", {"k": "qk"}),
        ("{k:q|qk}{j:k|x}", "qkx", {"k": "qk", "j": "x"}),
        ("{k:a|aa}", "aa", {"k": "aa"}),
        ("s{b:blk}_x", "sb10_x", {"b": "b10"}),
        ("s{b:blk}_x", "s1_x", None),
        ("{i}.{i+1}", "3.4", {"i": 3}),
        ("{i}.{i+1}", "3.5", None),
        ("{i+1}.{i}", "4.3", {"i": 3}),
        ("l{s-1}", "l0", {"s": 1}),
        ("l{s+1}", "l0", None),
        ("l{2*i+1}", "l7", {"i": 3}),
        ("l{2*i+1}", "l8", None),
        ("l{7-i}", "l3", {"i": 4}),
        ("l{7-i}", "l8", None),
        ("l{i/2}", "l3", {"i": 6}),
        ("l{(i+1)/2-1}", "l3", {"i": 7}),
        ("l{n*i}", "l8", {"i": 2}),
        ("l{L+1:03}", "l008", {"L": 7}),
        ("{a}.{a}", "x.y.x.y", {"a": "x.y"}),
        ("{a}.{a}", "x.x.x", None),
        ("{a:name}_{a:name}", "u_v_u_v", {"a": "u_v"}),
        ("*.nbt", "a.b.nbt", {}),
        ("*.{i:int}.*", "a.b.3.c", {"i": 3}),
        ("*a*", "aaa", {}),
        ("*a*", "aa", None),
        ("{prefix}{p}", "module.x", {"p": "x"}),
        ("l{n}.w", "l4.w", {}),
        ("l{n-1:02}.w", "l03.w", {}),
    ],
)
def test_matching(text: str, name: str, bound: dict[str, int | str] | None) -> None:
    made = matcher(text)
    assert made.match(name) == bound
    if bound is not None:
        assert bound.keys() == made.captures
        if "*" not in text:
            assert made.render(bound) == name


def test_the_same_name_may_have_several_splits_but_one_meaning() -> None:
    """Raw splits that the indices rule out do not count."""
    assert matcher("{a}.{i:int}.{b}.{i+1}.{c}").match("x.1.y.2.z.7.w") == {"a": "x", "i": 1, "b": "y", "c": "z.7.w"}


@pytest.mark.parametrize(
    ("text", "rule", "value", "name"),
    [
        ("x{4*i+j}", "{i:int}.{j:0..3}", {"i": 2, "j": 3}, "x11"),
        ("x{4*i+j}", "{i:0..1}.{j:0..3}", {"i": 1, "j": 3}, "x7"),
        ("x{i+2*j}", "{i:0..1}.{j:0..1}", {"i": 1, "j": 1}, "x3"),
        ("x{4*i+j}.{i}", "{i:int}", {"i": 1, "j": 9}, "x13.1"),
        ("x{8*i+2*j+k}", "{i:int}{j:0..3}{k:0,1}".replace("}{", "}.{"), {"i": 5, "j": 3, "k": 1}, "x47"),
        ("x{i+j}.{j-1}", "{i:int}", {"i": 5, "j": 2}, "x7.1"),
    ],
)
def test_an_index_of_several_captures(text: str, rule: str, value: dict[str, int], name: str) -> None:
    made = matcher(text, rule)
    assert made.render(value) == name
    assert made.match(name) == value


def test_an_index_out_of_range_does_not_match() -> None:
    assert matcher("x{4*i+j}", "{i:0..1}.{j:0..3}").match("x8") is None
    assert matcher("x{2*i}", "{i:0..1}").match("x4") is None


def test_tables_are_read_in_both_columns() -> None:
    left, right = matcher("res{b:blk}_w", "layer.{b}.w"), matcher("layer.{b}.w", "res{b:blk}_w")
    assert left.match("resb10_w") == right.match("layer.10.w") == {"b": "b10"}
    assert right.match("layer.b.w") is None
    assert right.render({"b": "b"}) == "layer.1.w"


def test_padding_belongs_to_the_occurrence() -> None:
    assert matcher("l{i}", "l{i:03}").match("l7") == {"i": 7}
    assert matcher("l{i}", "l{i:03}").match("l007") is None


def test_parts_that_are_looked_at_first() -> None:
    made = matcher("model.{L:int}.w.{k:q|k}")
    assert (made.literal, made.prefix, made.suffix, made.captures) == (None, "model.", "", {"L", "k"})
    assert matcher("a.b").literal == "a.b"
    assert matcher("a{n}b").literal == "a4b"
    assert matcher("{k:q|k}.{j:x|y}z").starts() == ["q.xz", "q.yz", "k.xz", "k.yz"]
    assert sorted(matcher("a.{i:int}.{k:q|k}.{j:x|yy}").ends()) == [".k.x", ".k.yy", ".q.x", ".q.yy"]


# ---- ambiguity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{a}.{b}", "x.y.z"),
        ("{a}.{i:int}.{b}", "x.1.2.y.z"),
        ("*.{a}.*", "x.y.z.w"),
        ("{a:name}_{b:name}", "x_y_z"),
        ("{a}{k:x|xx}", "axx"),
        ("{k:a|ab}{j:bc|c}", "abc"),
    ],
)
def test_more_than_one_way(text: str, name: str) -> None:
    with pytest.raises(MapError) as caught:
        matcher(text).match(name)
    assert caught.value.code == "M107"
    assert caught.value.where.tensor == name
    assert caught.value.where.line == 1
    assert caught.value.hint
    assert " could be '" in caught.value.message


def test_the_message_names_both_ways() -> None:
    with pytest.raises(MapError) as caught:
        matcher("{a}.{b}").match("x.y.z")
    assert caught.value.message == "'x.y.z' matches in more than one way: 'a' could be 'x' or 'x.y'"
    assert caught.value.hint == "'{a:name}' takes no dots and slashes, '{a:int}' only digits; or write more of the name out"


# ---- an independent oracle ---------------------------------------------------------------------------------------------

WORDS = ("a", "ab", "1")
TYPES: dict[str, CaptureType] = {
    "p": Path(),
    "q": Path(),
    "s": Name(),
    "t": Name(),
    "k": Choice(WORDS),
    "b": InTable("tab"),
    "i": Int(),
    "j": Ranges(((Number(0), Number(2)),)),
}
ORACLE_SCOPE = Scope({"tab": Table("tab", (("a", "b"), ("a.", "a"), ("1", "")))}, {})
CAPTURES: list[Capture] = [
    *[Capture(Variable(name)) for name in TYPES],
    Capture(Variable("b"), InTable("tab")),
    Capture(Variable("i"), Int(2)),
    *[Capture(expression(text)) for text in ("i+1", "2*i", "3*i+j", "i/2", "5-j", "i+j")],
    Capture(None),
]
LETTERS = "ab.1_"


def all_ways(made: Pattern, name: str) -> set[tuple[tuple[str, int | str], ...]]:
    """Every way in which `name` matches, by trying everything. Indices up to 40 are tried, enough for names so short."""
    ways: set[tuple[tuple[str, int | str], ...]] = set()

    def walk(index: int, at: int, texts: list[tuple[Capture, str]]) -> None:
        if index == len(made.parts):
            if at == len(name):
                ways.update(solutions(texts))
            return
        part = made.parts[index]
        if isinstance(part, str):
            if name[at : at + len(part)] == part:
                walk(index + 1, at + len(part), texts)
            return
        for end in range(at, len(name) + 1):
            if may_be(part, name[at:end], name[at - 1 : at], name[end : end + 1]):
                walk(index + 1, end, [*texts, (part, name[at:end])])

    walk(0, 0, [])
    return ways


def may_be(part: Capture, text: str, before: str, after: str) -> bool:
    kind = kind_of(part)
    if kind is int:
        return re.fullmatch(r"[0-9]+", text) is not None and not re.match("[0-9]", before) and not re.match("[0-9]", after)
    if isinstance(kind, dict):
        return text in kind
    return bool(text) and (kind is not Name or not set("./") & set(text))


def kind_of(part: Capture) -> object:
    if part.expression is None:
        return Path
    given = TYPES[part.expression.name] if isinstance(part.expression, Variable) else Int()
    if isinstance(given, Int | Ranges):
        return int
    if isinstance(given, Choice):
        return {word: word for word in given.words}
    if isinstance(given, InTable):
        rows = ORACLE_SCOPE.tables["tab"].rows
        return {left: left for left, _ in rows} if part.type else {right: left for left, right in rows}
    return type(given)


def solutions(texts: list[tuple[Capture, str]]) -> Iterator[tuple[tuple[str, int | str], ...]]:
    """All values of the captures that make exactly these texts."""
    named = [(c, t) for c, t in texts if c.expression is not None]
    plain: dict[str, set[str]] = {}
    numbers = set[str]()
    for part, text in named:
        kind = kind_of(part)
        if kind is int:
            numbers |= set(re.findall("[a-z]", str_of(part.expression)))
        else:
            assert isinstance(part.expression, Variable)
            plain.setdefault(part.expression.name, set()).add(kind[text] if isinstance(kind, dict) else text)
    if any(len(values) > 1 for values in plain.values()):
        return
    fixed = {name: next(iter(values)) for name, values in plain.items()}
    ordered = sorted(numbers)
    for values in itertools.product(*[range(3) if name == "j" else range(250) for name in ordered]):
        bound = dict(zip(ordered, values, strict=True))
        if all(written(part, bound) == text for part, text in named if kind_of(part) is int):
            yield tuple(sorted({**fixed, **bound}.items()))


def str_of(node: Expression | None) -> str:
    if isinstance(node, Arithmetic):
        return f"({str_of(node.left)}{'//' if node.op == '/' else node.op}{str_of(node.right)})"
    return str(node.value) if isinstance(node, Number) else node.name if node is not None else ""


def written(part: Capture, bound: Mapping[str, int]) -> str | None:
    text = str_of(part.expression)
    if "//" in text and bound["i"] % 2:
        return None
    value = eval(text, {}, dict(bound))
    return f"{value:0{max(1, part.type.width if isinstance(part.type, Int) else 0)}d}" if value >= 0 else None


parts = st.lists(
    st.one_of(st.sampled_from(CAPTURES), st.text(LETTERS, min_size=1, max_size=2), st.sampled_from([".", "_"])), min_size=1, max_size=6
)
crowded = st.lists(st.tuples(st.sampled_from(CAPTURES), st.sampled_from([".", "a", "_", "", "."])), min_size=2, max_size=5).map(
    lambda pairs: [part for pair in pairs for part in pair if part != ""][: 2 * len(pairs) - 1]
)
"""Many captures with little between them: patterns that match in several ways."""

names = st.one_of(st.text(LETTERS + "2", max_size=9), st.text("a.1", min_size=3, max_size=10))


def joined(made: list[str | Capture]) -> Pattern:
    """No two literals side by side."""
    found: list[str | Capture] = []
    for part in made:
        if found and isinstance(part, str) and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return Pattern(tuple(found))


def compiled(made: Pattern) -> NameMatcher | None:
    try:
        return NameMatcher(made, TYPES, ORACLE_SCOPE)
    except MapError as error:
        assert error.code in ("M104", "M105", "M106")
        return None


@settings(max_examples=600, deadline=None)
@given(st.one_of(parts, crowded, crowded), st.lists(names, min_size=1, max_size=4))
def test_matching_agrees_with_trying_everything(made: list[str | Capture], some: list[str]) -> None:
    one = joined(made)
    ready = compiled(one)
    assume(ready is not None)
    assert ready is not None
    for name in some:
        check_against_all_ways(ready, one, name)


@settings(max_examples=400, deadline=None)
@given(st.one_of(parts, crowded), st.data())
def test_names_that_are_made_are_read_back(made: list[str | Capture], data: st.DataObject) -> None:
    one = joined(made)
    ready = compiled(one)
    assume(ready is not None)
    assert ready is not None
    assume(not any(isinstance(p, Capture) and p.expression is None for p in one.parts))
    bound = {name: data.draw(value_of(name), label=name) for name in sorted(ready.captures)}
    try:
        name = NameMatcher(one, TYPES, ORACLE_SCOPE, render_only=True).render(bound)
    except MapError as error:
        assert error.code in ("M110", "M112")
        return
    if len(name) < 14:
        check_against_all_ways(ready, one, name)
    try:
        assert ready.render(bound) == name
    except MapError as error:
        assert error.code in ("M107", "M115")
    else:
        assert ready.match(name) == bound


def value_of(name: str) -> st.SearchStrategy[int | str]:
    return {
        "i": st.integers(0, 30),
        "j": st.integers(0, 2),
        "k": st.sampled_from(WORDS),
        "b": st.sampled_from(["a", "a.", "1"]),
        "p": st.text(LETTERS, min_size=1, max_size=3),
        "q": st.text(LETTERS, min_size=1, max_size=3),
        "s": st.text("ab1_", min_size=1, max_size=3),
        "t": st.text("ab1_", min_size=1, max_size=3),
    }[name]


def check_against_all_ways(ready: NameMatcher, one: Pattern, name: str) -> None:
    if len(re.findall(r"[0-9]{3,}", name)):
        return  # the oracle tries small indices only
    ways = all_ways(one, name)
    try:
        bound = ready.match(name)
    except MapError as error:
        assert error.code == "M107"
        assert len(ways) > 1
        return
    assert ways == (set() if bound is None else {tuple(sorted(bound.items()))})
    if bound is not None and not any(isinstance(p, Capture) and p.expression is None for p in one.parts):
        assert ready.render(bound) == name


# ---- making names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bound", "code"),
    [
        ("l{s-1}", {"s": 0}, "M112"),
        ("l{i/2}", {"i": 3}, "M110"),
        ("l{i:0..3}", {"i": 4}, "M113"),
        ("l{i:int}", {"i": -1}, "M113"),
        ("l{i:int}", {"i": "1"}, "M113"),
        ("l{i:int}", {"i": 10**200}, "M111"),
        ("l{i*10}", {"i": 10**99}, "M111"),
        ("l{b:blk}", {"b": "z"}, "M113"),
        ("l{k:q|k}", {"k": "v"}, "M113"),
        ("l{p:name}", {"p": "a.b"}, "M113"),
        ("l{p}", {"p": ""}, "M113"),
        ("l{p}", {"p": 3}, "M113"),
        ("l{p}", {"q": "x"}, "M114"),
        ("*.{p}", {"p": "x"}, "M119"),
        ("{p}{i:int}", {"p": "conv1", "i": 2}, "M115"),
        ("{a}.{b}", {"a": "x.y", "b": "z"}, "M107"),
        ("{a}.{a:path}{b:name}", {"a": "x", "b": "y", "c": 0}, None),
    ],
)
def test_names_that_cannot_be_made(text: str, bound: dict[str, int | str], code: str | None) -> None:
    made = matcher(text)
    if code is None:
        assert made.match(made.render(bound)) == {k: v for k, v in bound.items() if k in made.captures}
        return
    with pytest.raises(MapError) as caught:
        made.render(bound)
    assert caught.value.code == code
    assert caught.value.hint
    assert "\n" not in str(caught.value.message)


def test_names_of_one_way_rules_need_not_be_read_back() -> None:
    assert matcher("{a}.{b}", render_only=True).render({"a": "x.y", "b": "z"}) == "x.y.z"
    both = matcher("x{i+j}", "{i:int}.{j:int}", render_only=True)
    assert both.render({"i": 2, "j": 3}) == "x5"
    with pytest.raises(MapError, match="does not tell both"):
        both.match("x5")
    assert matcher("{i*j}", "{i:int}.{j:int}", render_only=True).render({"i": 2, "j": 3}) == "6"


# ---- patterns that are refused -----------------------------------------------------------------------------------------


def test_indices_that_cannot_be_solved() -> None:
    error = refused("M104", "x{4*i+j}", "{i:int}.{j:int}")
    assert error.message == "a number does not tell both 'i' and 'j': several values of them give the same one"
    assert error.hint == "give 'j' a range of at most 4 values, such as '{j:0..3}'"
    assert (error.where.line, error.where.column, error.width) == (1, 2, 7)
    assert "{8*" in (refused("M104", "x{i+j}").hint or "")
    refused("M104", "x{4*i+j}", "{j:0..4}")
    refused("M104", "x{i+j}", "{i:0..9}.{j:0..9}")
    refused("M104", "x{i+j+k}.{i}")
    refused("M104", "x{i-i}")
    refused("M104", "x{100000*i+j}", "{j:0..99999}")


def test_captures_that_cannot_be_told_apart() -> None:
    assert "digit '1'" in refused("M105", "conv1{i:int}").message
    refused("M105", "{i:int}0")
    refused("M105", "v{n}{i:int}")
    refused("M105", "{i:int}{j:int}")
    refused("M105", "{i:int}{j+1}")
    refused("M106", "{p}{q}")
    refused("M106", "*{q}")
    refused("M106", "{p:name}{q}")
    assert matcher("{p}.{p}{q}").match("a.ab") == {"p": "a", "q": "b"}


def test_types() -> None:
    def types(*texts: str) -> dict[str, CaptureType]:
        return capture_types([pattern(t) for t in texts], SCOPE)

    assert types("{p}.{i:03}", "{i}{p}{n}*") == {"p": Path(), "i": Int()}
    assert types("{s-1}", "{s}") == {"s": Int()}
    assert types("{s:0..3}", "{s:int}", "{s:03}") == {"s": Ranges(((Number(0), Number(3)),))}
    assert types("{s:int}", "{s:0..3}") == {"s": Ranges(((Number(0), Number(3)),))}
    assert types("{s:0..3}", "{s:0,1,2..3}").keys() == {"s"}
    assert types("{k:q|v}", "{k:v|q}") == {"k": Choice(("q", "v"))}
    refused("M100", "{s:0..3}", "{s:0..4}")
    assert refused("M100", "{s:int}", "{s:name}").message == "the capture 's' has two types: 'int' is an integer, 'name' is text"
    assert refused("M101", "{b:blx}").hint == "did you mean 'blk'?"
    refused("M102", "{n:int}")
    refused("M103", "{s:name}.{s+1}")
    refused("M103", "{s:blk}.{s+1}")
    refused("M103", "{s+1:name}")
    refused("M103", "{i*j}.{i}")
    refused("M103", "{4/i}.{i}")
    refused("M110", "{i/0}")
    refused("M109", "{i:0..m}")
    refused("M111", "{i:0999}")
    refused("M116", "{i:5..3}")
    refused("M117", *["-".join(f"{{c{i}}}" for i in range(65))])


def test_parameters_in_names() -> None:
    for value in (1.5, True):
        with pytest.raises(MapError) as caught:
            matcher("l{x}", scope=Scope({}, {"x": value}))
        assert caught.value.code == "M109"
    with pytest.raises(MapError) as caught:
        matcher("l{x-1}", scope=Scope({}, {"x": 0}))
    assert caught.value.code == "M112"


def test_a_table_has_each_word_once() -> None:
    scope = Scope({"t": Table("t", (("a", "x"), ("b", "x")))}, {})
    assert matcher("{k:t}.w", scope=scope).match("b.w") == {"k": "b"}
    with pytest.raises(MapError, match=r"'x' twice in its right column") as caught:
        matcher("{k}.w", "{k:t}", scope=scope)
    assert caught.value.code == "M118"


def test_a_table_without_rows_matches_nothing() -> None:
    made = matcher("{k:t}.w", scope=Scope({"t": Table("t", provider="caffe.x")}, {}))
    assert made.match("a.w") is None
    assert NameIndex([(0, made)]).matches("a.w") == []


# ---- expressions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("2*i+1", 7), ("(i+1)/2-1", 1), ("10-4-3", 3), ("12/2/3", 2), ("i-5", -2), ("0/i", 0)])
def test_evaluating(text: str, value: int) -> None:
    assert evaluate(expression(text), {"i": 3}) == value


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("i/2", "M110", "3 / 2 leaves a remainder of 1"),
        ("i/(i-3)", "M110", "3 / 0 is a division by zero"),
        ("head+1", "M109", "'head' has no value here"),
        ("text+1", "M109", "'text' is 'x', and arithmetic needs an integer"),
        ("flag+1", "M109", "'flag' is True, and arithmetic needs an integer"),
        ("*".join(["9" * 50] * 3), "M111", "a number of more than 100 digits"),
        ("+".join(["1"] * 5000), "M111", "more than 100 operations inside one another"),
    ],
)
def test_what_cannot_be_evaluated(text: str, code: str, message: str) -> None:
    with pytest.raises(MapError) as caught:
        evaluate(expression(text), {"i": 3, "text": "x", "flag": True, "heads": 2})
    assert (caught.value.code, caught.value.message) == (code, message)
    if "head" in text:
        assert caught.value.hint == "did you mean 'heads'?"


# ---- hostile names and patterns ----------------------------------------------------------------------------------------


def quickly(made: NameMatcher, name: str, limit: float = 2.0) -> str | dict[str, int | str] | None:
    start = time.process_time()
    try:
        return made.match(name)
    except MapError as error:
        assert error.code in ("M107", "M108")
        assert len(error.message) < 1000
        return error.code
    finally:
        assert time.process_time() - start < limit


@pytest.mark.parametrize("name", ["a" * 10_000, "a." * 5_000, "." * 10_000, "1" * 10_000, "1.a" * 3_000, "a1" * 5_000])
def test_names_that_would_take_for_ever(name: str) -> None:
    ten = "".join(f"{{p{i}}}a" for i in range(10))
    assert quickly(matcher(ten + "b"), name) is None
    quickly(matcher(ten), name)
    quickly(matcher(".".join(f"{{p{i}}}" for i in range(10))), name)
    quickly(matcher(".".join(f"{{p{i}:name}}a" for i in range(10))), name)
    quickly(matcher("{a}.{b}.{a}.{b}"), name)
    quickly(matcher("{a}a{a}a{a}"), name)
    quickly(matcher("*a*a*a*a{p}b*"), name)
    quickly(matcher("*a*a{p:name}a*1*"), name)
    quickly(matcher(".".join(f"{{k{i}:a|aa|aaa|a.a}}" for i in range(40))), name)
    quickly(matcher("{k:a|aa}" * 40), name)
    quickly(matcher("{p}{i:int}{q}"), name)
    quickly(matcher("{i:int}.{p}.{2*i+1}.{q}"), name)


def test_integers_that_are_absurdly_long_do_not_match() -> None:
    assert matcher("l{i:int}").match("l" + "9" * 100) == {"i": 10**100 - 1}
    assert matcher("l{i:int}").match("l" + "9" * 5_000) is None


def test_huge_ranges_cost_nothing() -> None:
    made = matcher("x{i:0..999999999999}.{j:5..99999999999999999999}")
    assert made.match("x7.5") == {"i": 7, "j": 5}
    assert made.match("x7.4") is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_name(name: str) -> None:
    assert matcher("{p}").match(name) == ({"p": name} if name else None)
    bound = matcher("{p:name}{i:int}").match(name + "7")
    assert bound is None or f"{bound['p']}{bound['i']}" == name + "7"


# ---- many patterns -----------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(parts, max_size=12), st.lists(names, max_size=6))
def test_the_index_finds_what_each_pattern_alone_finds(many: list[list[str | Capture]], some: list[str]) -> None:
    ready = [(i, m) for i, m in enumerate([compiled(joined(made)) for made in many]) if m is not None]
    index = NameIndex(ready)
    for name in some:
        try:
            expected = [(i, bound) for i, m in ready if (bound := m.match(name)) is not None]
        except MapError as error:
            with pytest.raises(MapError) as caught:
                index.matches(name)
            assert caught.value.code == error.code
        else:
            assert index.matches(name) == expected


def test_the_index_keeps_digits_apart() -> None:
    ready = [(i, matcher(f"conv{i}.{{p}}.w")) for i in range(20)] + [(99, matcher("conv3.x.w"))]
    index = NameIndex(ready)
    assert index.matches("conv3.x.w") == [(3, {"p": "x"}), (99, {})]
    assert index.matches("conv17.x.w") == [(17, {"p": "x"})]
    assert index.matches("conv20.x.w") == []


def test_ten_thousand_names_and_three_hundred_patterns() -> None:
    texts = [f"model.layers.{{L:int}}.part{i}.weight" for i in range(150)]
    texts += [f"{{p}}.unit{i}x.bias" for i in range(100)]
    texts += [f"stage{i}.{{s-1}}.{{k:q|k|v}}" for i in range(50)]
    start = time.process_time()
    index = NameIndex([(text, matcher(text)) for text in texts])
    names = [f"model.layers.{i % 40}.part{i % 150}.weight" for i in range(6_000)]
    names += [f"enc.{i % 30}.unit{i % 100}x.bias" for i in range(3_000)] + [f"stage{i % 50}.{i % 9}.v" for i in range(1_000)]
    assert all(len(index.matches(name)) == 1 for name in names)
    assert time.process_time() - start < 2, "0.1 s on an idle machine"


# ---- did you mean ------------------------------------------------------------------------------------------------------


def test_the_nearest_pattern() -> None:
    patterns = [pattern(t) for t in ("{p}.conv{i:int}.weight", "{p}.bn{i:int}.running_mean", "fc.bias", "*")]
    assert nearest_pattern("layer1.conv2.wieght", patterns) == "{p}.conv{i:int}.weight"
    assert nearest_pattern("layer1.bn2.runing_mean", patterns) == "{p}.bn{i:int}.running_mean"
    assert nearest_pattern("fc.bais", patterns) == "fc.bias"
    assert nearest_pattern("something.else.entirely", patterns[:3]) is None
    assert nearest_pattern("x", []) is None


def test_the_nearest_name() -> None:
    names = [f"layer{i}.0.conv{j}.weight" for i in range(4) for j in range(3)] + ["head.fc.weight", "head.fc.bias"]
    assert nearest_name(pattern("head.fc.wight"), names) == "head.fc.weight"
    assert nearest_name(pattern("layer{i:int}.0.convs{j:int}.weight"), names) == "layer0.0.conv0.weight"
    assert nearest_name(pattern("transformer.{L:int}.mlp"), names) is None
    assert nearest_name(pattern("x"), []) is None


def test_the_nearest_of_long_names_is_quick() -> None:
    start = time.process_time()
    nearest_name(pattern("a" * 5_000), ["a" * 9_000] * 200)
    nearest_pattern("a" * 9_000, [pattern("{p}a" * 2_000)] * 50)
    assert time.process_time() - start < 5
