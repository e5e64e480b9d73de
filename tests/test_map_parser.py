"""The text of maps is read as it is meant, lark reads it the same way, and what is no map is refused with a word on why."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lark
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_strategies import maps

from porter.errors import FileAccessError, MapError
from porter.mapping import lalr
from porter.mapping.parser import SIZE, parse, read
from porter.mapping.render import dumps
from porter.mapping.syntax import (
    Argument,
    Arithmetic,
    Axes,
    Axis,
    Call,
    Capture,
    Choice,
    Count,
    Drop,
    Expect,
    Fill,
    Group,
    Int,
    InTable,
    Keep,
    Map,
    MapText,
    Name,
    Number,
    Param,
    Pattern,
    Ranges,
    Remaining,
    Rest,
    Rule,
    Side,
    Span,
    Stage,
    Statement,
    Table,
    Term,
    Tie,
    Variable,
)
from porter.mapping.syntax import (
    Path as PathType,
)

sys.path.insert(0, str(ROOT / "schemas"))
import compile as schemas

EVERYTHING = r"""# every construct
param heads : int = 32                  # a comment
param eps : float = 1e-5
param flag : bool = true
param prefix : str = "model.\n"
param must : int
table blk { a=0 b=1, "c d"=2
            e="f=g" }
table scale_of from caffe.scale_after_batch_norm
then
res{s:int}{b:blk}_branch2a.weight   <->  layer{s-1}.{b}.conv1.weight
fc.weight : o (c h w)               <->  head.kernel : (h w c) o          where h=7, w=(heads-25)/1
[{p}.q, {p}.k, {p}.v] : o i         <->  {p}.qkv : (3 o) i
[{p}.q : (g r d) i,
 {p}.k : (g d) i,  # in brackets a line goes on
 {p}.v : (g d) i,
] <-> {p}.qkv : (g (r d + d + d)) i  where
    d=head_dim
{p}.experts.{e:int}.w1 <->
    {p}.w1[e]
{p}.running_var -> {p}.var | add(1e-5) |
    rsqrt
[weight={p}.w, bias={p}.b?] | fold_bn(-1.5, eps=1e-5, mode="x", shape=[1, n-1, [], inf]) -> [weight={p}.weight, bias={p}.bias]
optional foo.{i:0..3}.w <-> bar.{i}.w:0
x{a:03}{b:02:0..9,11}{c:q|"r s"|0}{d:"q"}{e:name}{f:path}{g:0,2,8..n+1} -> "y \"{p}\" \{\*\x41\u00e9"
*.num_batches_tracked -> drop
lm_head.weight -> drop if = embed.weight
{p}.nbt -> drop if = fill(0)
*.bias <-> keep
rest <-> keep
lm_head.weight = embed.weight
fill(0, dtype=i64, shape=[]) -> {p}.nbt if absent for {p}.running_mean
s : () -> t : 1 ...
expect sources=all targets=12
"""


def capture(name: str, kind: Any = None) -> Capture:
    return Capture(Variable(name), kind)


def pattern(*parts: str | Capture) -> Pattern:
    return Pattern(parts)


def one(*parts: str | Capture, axes: Axes | None = None, calls: tuple[Call, ...] = (), stack: str | None = None) -> Side:
    return Side((Term(Pattern(parts), axes, None, False, None if stack is None else Variable(stack)),), False, calls)


def axes(*elements: Any) -> Axes:
    return Axes(tuple(Axis(e) if isinstance(e, str) else Count(e) if isinstance(e, int) else e for e in elements))


def group(*names: str | int) -> Group:
    return Group((axes(*names).elements,))


p = capture("p")
LIKE = Argument(None, Variable("like"))

MEANINGS: list[tuple[str, Statement]] = [
    ("a -> b", Rule(one("a"), one("b"), "->")),
    ("a<->b", Rule(one("a"), one("b"))),
    ("conv-1/w:0 -> std::x?.y", Rule(one("conv-1/w:0"), one("std::x?.y"), "->")),
    ("a{p}b*c -> x", Rule(one("a", p, "b", Capture(None), "c"), one("x"), "->")),
    (
        "res{s:int}{b:blk}_x <-> layer{s-1}.{b}",
        Rule(
            one("res", capture("s", Int()), capture("b", InTable("blk")), "_x"),
            one("layer", Capture(Arithmetic("-", Variable("s"), Number(1))), ".", capture("b")),
        ),
    ),
    ("{L:03} -> {L+1:03}", Rule(one(capture("L", Int(3))), one(Capture(Arithmetic("+", Variable("L"), Number(1)), Int(3))), "->")),
    ("{n:name} -> {n:path}", Rule(one(capture("n", Name())), one(capture("n", PathType())), "->")),
    ('{k:q|k|v} -> {j:"q"}', Rule(one(capture("k", Choice(("q", "k", "v")))), one(capture("j", Choice(("q",)))), "->")),
    (
        "{i:0,2,8..11} -> {i:02:0..n}",
        Rule(
            one(capture("i", Ranges(((Number(0), Number(0)), (Number(2), Number(2)), (Number(8), Number(11)))))),
            one(capture("i", Ranges(((Number(0), Variable("n")),), 2))),
            "->",
        ),
    ),
    ('"a b{p}\\*\\{\\x41" -> x', Rule(one("a b", p, "*{A"), one("x"), "->")),
    ('"" -> x', Rule(one(), one("x"), "->")),
    (
        "a : o (c h w) <-> b : (h w c) o where h=7 w=7",
        Rule(
            one("a", axes=axes("o", group("c", "h", "w"))),
            one("b", axes=axes(group("h", "w", "c"), "o")),
            "<->",
            (("h", Number(7)), ("w", Number(7))),
        ),
    ),
    ("a : () -> b : 1 ...", Rule(one("a", axes=axes()), one("b", axes=axes(1, Rest())), "->")),
    (
        "[a, b : i] : o <-> c : (2 o)",
        Rule(
            Side((Term(pattern("a"), axes("o")), Term(pattern("b"), axes("i"))), True),
            one("c", axes=axes(group(2, "o"))),
        ),
    ),
    ("a : (q r + k) i -> b", Rule(one("a", axes=axes(Group((axes("q", "r").elements, axes("k").elements)), "i")), one("b"), "->")),
    ("{e:int}.w <-> w[e]", Rule(one(capture("e", Int()), ".w"), one("w", stack="e"))),
    (
        "[w={p}.w, b={p}.b?] | f -> x",
        Rule(Side((Term(pattern(p, ".w"), None, "w"), Term(pattern(p, ".b"), None, "b", True)), True, (Call("f"),)), one("x"), "->"),
    ),
    (
        'a | mul(2) -> b | add(1e-5, mode=same, n=-3, s="x", f=true, l=[1, [n]], i=-inf)',
        Rule(
            one("a", calls=(Call("mul", (Argument(None, 2),)),)),
            one(
                "b",
                calls=(
                    Call(
                        "add",
                        (
                            Argument(None, 1e-5),
                            Argument("mode", Variable("same")),
                            Argument("n", -3),
                            Argument("s", "x"),
                            Argument("f", True),
                            Argument("l", (1, (Variable("n"),))),
                            Argument("i", float("-inf")),
                        ),
                    ),
                ),
            ),
            "->",
        ),
    ),
    ("optional a <-> b", Rule(one("a"), one("b"), "<->", (), True)),
    ("*.x -> drop", Drop(pattern(Capture(None), ".x"))),
    ("a -> drop if = b", Drop(pattern("a"), pattern("b"))),
    ("optional a -> drop if = fill(0)", Drop(pattern("a"), Call("fill", (Argument(None, 0),)), True)),
    ("*.x <-> keep", Keep(pattern(Capture(None), ".x"))),
    ("a -> keep", Keep(pattern("a"))),
    ("rest <-> keep", Remaining("keep")),
    ("rest -> drop", Remaining("drop")),
    ("a = b", Tie(pattern("a"), pattern("b"))),
    ("fill(0) -> a", Fill(Call("fill", (Argument(None, 0),)), pattern("a"))),
    (
        "fill(0, like) -> a if absent for {p}",
        Fill(Call("fill", (Argument(None, 0), LIKE)), pattern("a"), True, pattern(p)),
    ),
    ("expect sources=any", Expect("any", "all")),
    ("expect targets=0 sources=all", Expect("all", 0)),
    ('table t { a=0, b=1 "c d"="" }', Table("t", (("a", "0"), ("b", "1"), ("c d", "")))),
    ("table t from caffe.x", Table("t", (), "caffe.x")),
    ("param n : int = -3", Param("n", "int", -3)),
    ("param x : float = 2", Param("x", "float", 2.0)),
    ("param s : str", Param("s", "str")),
]


@pytest.mark.parametrize(("text", "meant"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_what_statements_mean(text: str, meant: Statement) -> None:
    assert parse(text) == Map((Stage((meant,)),))


def test_precedence_of_operators() -> None:
    (rule,) = parse("a -> b where h = x - y*2 - (3 - z)").stages[0].statements
    assert isinstance(rule, Rule)
    left = Arithmetic("-", Variable("x"), Arithmetic("*", Variable("y"), Number(2)))
    assert rule.where == (("h", Arithmetic("-", left, Arithmetic("-", Number(3), Variable("z")))),)


def test_stages() -> None:
    map = parse("a -> b\nthen\n\nthen\nc -> d", "x.pmap")
    assert [len(stage.statements) for stage in map.stages] == [1, 0, 1]
    assert map.name == "x.pmap"
    assert parse("", "x.pmap", name="caffe:torch").name == "caffe:torch"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_make_no_difference(newline: str, mark: str) -> None:
    map = parse(mark + EVERYTHING.replace("\n", newline))
    assert map == parse(EVERYTHING)
    places = [(s.span.line, s.span.column, s.span.width) for stage in map.stages for s in stage.statements]
    assert places == [(s.span.line, s.span.column, s.span.width) for stage in parse(EVERYTHING).stages for s in stage.statements]


def spans(node: Any) -> Iterator[tuple[Any, Span]]:
    if isinstance(node, tuple):
        for item in node:
            yield from spans(item)
    elif hasattr(node, "__match_args__") and not isinstance(node, Span | MapText):
        if hasattr(node, "span"):
            yield node, node.span
        for name in node.__match_args__:
            if name != "span":
                yield from spans(getattr(node, name))


def test_every_node_knows_its_place() -> None:
    lines = EVERYTHING.split("\n")
    seen = set()
    for node, span in spans(parse(EVERYTHING, "x.pmap")):
        seen.add(type(node))
        line = lines[span.line - 1]
        assert 1 <= span.column <= span.column + span.width - 1 <= len(line), node
        part = line[span.column - 1 : span.column - 1 + span.width]
        assert part == part.strip(), part
        match node:
            case Variable(name) | Axis(name):
                assert part == name
            case Capture():
                assert part == "*" or (part[0] == "{" and part[-1] == "}")
            case Call(name):
                assert part.startswith(name)
            case Count(value):
                assert part == str(value)
            case Rule() | Drop() | Keep() | Tie() | Table() | Param():
                assert line.startswith(part)
    assert len(seen) >= 20


def test_widths_of_some_places() -> None:
    (rule,) = parse("  {p}.a : o (c h)  ->  b | add(1, n=2)   # c").stages[0].statements
    assert isinstance(rule, Rule)
    assert (rule.span.line, rule.span.column, rule.span.width) == (1, 3, 36)
    assert (rule.source.span.column, rule.source.span.width) == (3, 15)
    term = rule.source.terms[0]
    assert term.axes is not None
    assert (term.pattern.span.column, term.pattern.span.width) == (3, 5)
    assert (term.axes.span.column, term.axes.span.width) == (11, 7)
    call = rule.target.calls[0]
    assert (call.span.column, call.span.width) == (28, 11)
    assert [(a.span.column, a.span.width) for a in call.arguments] == [(32, 1), (35, 3)]


# ---- the same as lark --------------------------------------------------------------------------------------------------


class Newlines:
    """When a newline counts; the rules of `schemas/pmap.lark`, written down once more."""

    always_accept = ("_NEWLINE",)

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        depth, quoted, last = 0, False, None
        for token in stream:
            if token.type == "_NEWLINE" and not quoted and (depth or last in ("VBAR", "ARROW", "COMMA", "_WHERE")):
                continue
            if token.type in ("LPAR", "LSQB", "LBRACE", "_NEXT_BRACE"):
                depth += 1
            elif token.type in ("RPAR", "RSQB", "RBRACE"):
                depth -= 1
            elif token.type == "QUOTE":
                quoted = not quoted
            last = token.type
            yield token


LARK = schemas.grammar(Newlines())
NAMES = {rule.alias or rule.origin.name for rule in LARK.rules}


def by_lark(text: str) -> Any:
    def plain(node: Any) -> Any:
        if isinstance(node, lark.Tree):
            return str(node.data), [plain(child) for child in node.children]
        return node if node is None else (node.type, str(node), node.start_pos)

    return plain(LARK.parse(text))


def by_porter(text: str) -> Any:
    return lalr.drive(text, {name: (lambda children, start, end, name=name: (name, children)) for name in NAMES})


def assert_same(text: str) -> None:
    try:
        expected = by_lark(text)
    except lark.UnexpectedInput:
        with pytest.raises(lalr.Unexpected):
            by_porter(text)
    else:
        assert by_porter(text) == expected


MAPS = sorted(path for folder in ("porter", "tests", "examples") for path in (ROOT / folder).rglob("*.pmap"))


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.name)
def test_lark_reads_the_same_in_maps_of_the_repository(path: Path) -> None:
    assert_same(path.read_text("utf-8"))


def test_lark_reads_the_same_in_examples() -> None:
    assert by_porter(EVERYTHING) == by_lark(EVERYTHING)
    for text, _ in MEANINGS:
        assert by_porter(text) == by_lark(text)


calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=50)


@calm
@given(maps())
def test_lark_reads_the_same_in_generated_maps(map: Map) -> None:
    assert_same(dumps(map))


WORDS = ["->", "<->", "where", "drop", "{p}", "{L:int}", "fill(0)", "rest", "name", "..", "..."]
PIECES = st.sampled_from([*"\n\r \t{}[]()<>-=:|?*#\"\\.,;'+/09aZ_é\u00a0", *WORDS])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_lark_refuses_the_same(data: st.DataObject) -> None:
    """A map with something put in or taken out."""
    lines = EVERYTHING.split("\n")
    first = data.draw(st.integers(0, len(lines) - 1))
    text = "\n".join(lines[first : first + data.draw(st.integers(1, 4))])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 3)))
        text = text[:start] + data.draw(st.one_of(st.just(""), PIECES)) + text[end:]
    assert_same(text)


def test_the_tables_are_those_of_the_grammar() -> None:
    assert schemas.TABLES.read_bytes() == schemas.tables(), "run python schemas/compile.py"


# ---- errors ------------------------------------------------------------------------------------------------------------


def error(text: str) -> MapError:
    with pytest.raises(MapError) as caught:
        parse(text, "x.pmap")
    return caught.value


WRONG = [
    ("fc => x", "M001", "'=>'", "'->' is one way", 4, 2),
    ("fc := x", "M001", "':='", "'a = b' makes two names one tensor", 4, 2),
    ("fc == x", "M001", "'=='", "'a = b' makes two names one tensor", 4, 2),
    ("fc <- x", "M001", "'<-'", "from left to right", 4, 2),
    ("fc --> x", "M001", "'-->'", "'->' is one way", 4, 3),
    ("fc → x", "M001", "'→'", "'->' is one way", 4, 1),
    ("fc:o i -> x", "M001", "'i'", "put a blank after ':'", 6, 1),
    ("a | transpose(0, 1) -> b", "M011", "'transpose'", "'a : o i <-> b : i o' transposes", 5, 9),
    ("transpose(a, 0, 1) -> b", "M001", "'('", "'a : o i <-> b : i o' transposes", 10, 1),
    (r"conv\d+.w -> x", "M001", r"'\'", "regular expressions", 5, 1),
    (r"conv(\d+).w -> x", "M001", "'('", "regular expressions", 5, 1),
    (r"{i:\d+} -> x", "M001", r"'\'", "regular expressions", 4, 1),
    (".*.w <-> x", "M006", "'*'", "'{p}'", 2, 1),
    ("a -> x.*", "M006", "'*'", "'{p}'", 8, 1),
    ("a** -> drop", "M006", "'*'", "one '*'", 3, 1),
    ("a = *", "M006", "'*'", "'{p}'", 5, 1),
    ("layer{s.w -> x", "M001", "'.'", None, 8, 1),
    ("a{x:int -> b", "M001", "'->'", "the '{' is still open", 9, 2),
    ("a : o (c h -> b", "M001", "'->'", "the '(' is still open", 12, 2),
    ("[a,\n b\nc -> d", "M001", "'c'", "the '[' on line 1 is still open", 1, 1),
    ("[a, b", "M013", "'['", "']'", 1, 1),
    ('"a -> b', "M013", "quote", "'\\\"'", 1, 1),
    ('["a\n", b] -> c', "M013", "quote", "'\\\"'", 2, 1),
    ("a b -> c", "M001", "'b'", "blanks", 3, 1),
    ("a {p} -> c", "M001", "'{'", "blanks", 3, 1),
    ("a : o + i -> b", "M001", "'+'", "parentheses", 7, 1),
    ("a : o, i -> b", "M001", "','", "blanks", 6, 1),
    ("a : (c ()) -> b", "M001", "')'", "'()' stands alone", 9, 1),
    ("[a, b][e] -> c", "M001", "'['", "single name", 7, 1),
    ("a[0] -> c", "M001", "'0'", "'[e]' stacks", 3, 1),
    ("{L:00..11} -> c", "M001", "'..'", "{i:02:0..9}", 6, 2),
    ("{i:9..2} -> c", "M012", "9..2", "smaller", 4, 4),
    ("{L:00} -> c", "M012", "'00'", "{L:03}", 4, 2),
    ("{} -> c", "M001", "'}'", "'{p}'", 2, 1),
    ("{3} -> c", "M012", "without a variable", "without braces", 1, 3),
    ("{s+1:int} -> c", "M012", "type", "{s:int}", 1, 9),
    ("{k:q|q} -> c", "M012", "'q'", None, 6, 1),
    ('{k:""|q} -> c', "M012", "empty", None, 4, 2),
    ("a -> b;", "M001", "';'", "ends with its line", 7, 1),
    ("'a' -> b", "M001", "'''", "quoted", 1, 1),
    ("a -> b // c", "M001", "'//'", "'#'", 8, 2),
    ("// c", "M001", "'c'", "'#'", 4, 1),
    ("a ->\u00a0b", "M001", "'\u00a0'", "type a blank", 5, 1),
    ("a -> b\n | neg", "M001", "'|'", "line before", 2, 1),
    ("a -> b\nwhere h=7", "M001", "'h'", "line before", 7, 1),
    ("a ->", "M001", "the end of the map", None, 5, 1),
    ("a\nb -> c", "M001", "the end of the line", None, 2, 1),
    ("rest -> x", "M001", "'x'", None, 9, 1),
    ("param -> x", "M001", "'->'", '"param"', 7, 2),
    ("keep -> x", "M010", "'keep'", '"keep"', 1, 4),
    ("a -> [drop, b]", "M010", "'drop'", '"drop"', 7, 4),
    ("x <-> drop", "M009", "one way", "'->'", 3, 3),
    ("rest <-> drop", "M009", "one way", "'->'", 6, 3),
    ("fill(0) <-> x", "M009", "one way", "'->'", 9, 3),
    ("x : o -> keep", "M009", "'keep'", None, 1, 5),
    ("[x] -> drop", "M009", "'drop'", None, 1, 3),
    ("x | neg = y", "M009", "tie", None, 5, 3),
    ("x? -> y", "M009", "'?'", "optional", 2, 1),
    ("[a, b] : o -> [c, d]", "M007", "a list of 2", "'then'", 12, 2),
    ("[a=x, a=y] | f -> b", "M005", "'a'", None, 7, 1),
    ("a -> b where h=7 h=8", "M005", "'h'", None, 18, 1),
    ("a -> b | f(x=1, x=2)", "M005", "'x'", None, 17, 3),
    ("a -> b | f(x=1, 2)", "M009", "without a name", None, 17, 1),
    ("expect sources=all sources=any", "M005", "'sources='", None, 20, 7),
    ("expect all", "M001", "'all'", None, 8, 3),
    ("table t { a=1 a=2 }", "M005", "left column", None, 15, 1),
    ("table t { a=1 b=1 }", "M005", "right column", None, 17, 1),
    ("table t { a }", "M001", "'}'", None, 13, 1),
    ("param x : text", "M008", "'text'", "int, float, bool and str", 11, 4),
    ("param x : int = 1.5", "M008", "no int", "32", 1, 19),
    ("param x : int = n", "M008", "no int", "32", 1, 17),
    ("a -> b | f(1e999)", "M008", "'1e999'", "inf", 12, 5),
    ("a -> b where h=1234567890123456789", "M008", "19 digits", None, 16, 19),
    ("a -> b where h=07", "M001", "'07'", "leading zeros", 16, 2),
    ("a : 0 -> b", "M008", "0 elements", None, 5, 1),
    (r'"a\q" -> b', "M008", r"'\q'", "escapes are", 3, 2),
    (r'"\UFFFFFFFF" -> b', "M008", r"'\UFFFFFFFF'", "escapes are", 2, 10),
    ("include x.pmap", "M001", "'x.pmap'", None, 9, 6),
    ("a -> b\0", "M002", "NUL", "UTF-8", 7, 1),
    ("a -> b\rc -> d", "M001", "'\r'", "line feed", 7, 1),
    ("expect sources=1\nexpect sources=2", "M005", "'expect'", "line 1", 1, 16),
    ("rest -> drop\nrest -> drop", "M005", "'rest'", "line 1", 1, 12),
    ("table t { }\ntable t { }", "M005", "table 't'", "line 1", 1, 11),
    ("param x : int\nthen\nparam x : str", "M005", "param 'x'", "line 1", 1, 13),
]


@pytest.mark.parametrize(("text", "code", "message", "hint", "column", "width"), WRONG, ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_said(text: str, code: str, message: str, hint: str | None, column: int, width: int) -> None:
    caught = error(text)
    assert (caught.code, caught.where.column, caught.width) == (code, column, width), str(caught)
    assert message in caught.message
    assert caught.where.path == "x.pmap"
    assert caught.hint
    if hint is not None:
        assert hint in caught.hint


def test_an_error_in_full() -> None:
    assert str(error("# ResNet\nfc.weight : o (c h w) => head.kernel")) == (
        "error[M001]: '=>' means nothing in a map\n"
        "  --> x.pmap:2:23\n"
        "   |\n"
        " 2 | fc.weight : o (c h w) => head.kernel\n"
        "   |                       ^^\n"
        "   = help: '->' is one way, '<->' both ways"
    )


def test_what_may_stand_there_is_said_in_words() -> None:
    assert error("a ->").message == "found the end of the map, where a tensor name, '[', 'drop' or 'keep' should stand"
    assert error("a -> b )").message == "found ')', where the end of the line, ':', '[', '|' or 'where' should stand"
    assert error("= b").message == "found '=', where a statement should stand"


def test_the_same_may_be_said_again_where_it_is_needed() -> None:
    map = parse("param n : int = 1\nrest -> drop\nthen\nparam n : int = 1\nrest -> drop\nexpect sources=any")
    assert [len(stage.statements) for stage in map.stages] == [2, 3]


# ---- includes ----------------------------------------------------------------------------------------------------------


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.pmap").write_text(text)


def test_includes_stand_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, main='a -> b\ninclude "sub/one.pmap"\nc -> d')
    write(tmp_path / "sub", one='include "two.pmap"\nthen\ne -> f', two="g -> h")
    path = str(tmp_path / "main.pmap")
    map = parse(read(path).text, path)
    assert map == parse("a -> b\ng -> h\nthen\ne -> f\nc -> d", name=path)
    assert [s.span.text.path for s in map.stages[0].statements] == [path, str(tmp_path / "sub" / "two.pmap")]


def test_tables_and_parameters_may_come_from_several_files(tmp_path: Path) -> None:
    write(tmp_path, main='include "one.pmap"\ninclude "two.pmap"', one="param n : int\nrest -> drop", two="param n : int\nrest -> drop")
    path = str(tmp_path / "main.pmap")
    assert parse(read(path).text, path, name="") == Map((Stage((Param("n"), Remaining("drop"))),), "")
    write(tmp_path, two="param n : int = 3")
    with pytest.raises(MapError) as caught:
        parse(read(path).text, path)
    assert caught.value.code == "M005"
    assert "one.pmap" in str(caught.value.hint)


def test_an_include_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, a='include "b.pmap"', b='\ninclude "a.pmap"')
    path = str(tmp_path / "a.pmap")
    with pytest.raises(MapError) as caught:
        parse(read(path).text, path)
    assert caught.value.code == "M004"
    b = str(tmp_path / "b.pmap")
    assert caught.value.message == f"the map includes itself: '{path}' includes '{b}' includes '{path}'"
    assert (caught.value.where.path, caught.value.where.line) == (b, 2)


def test_includes_that_lead_nowhere(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pmap")
    with pytest.raises(MapError, match="no file") as caught:
        parse('include "x.pmap"', path)
    assert caught.value.code == "M004"
    with pytest.raises(MapError, match="in none"):
        parse('include "x.pmap"')
    with pytest.raises(MapError, match="no file"):
        parse('include "\\x00"', path)
    with pytest.raises(FileAccessError):
        parse('include "."', path)


def test_includes_by_name() -> None:
    asked = []

    def include(name: str, span: Span) -> MapText:
        asked.append((name, span.text.path, span.line, span.column))
        return MapText("built-in", 'include "caffe:two"') if name == "caffe:one" else MapText("two", "a -> b")

    map = parse('\ninclude "caffe:one"', "x.pmap", name="x", include=include)
    assert map == parse("a -> b", name="x")
    assert asked == [("caffe:one", "x.pmap", 2, 9), ("caffe:two", "built-in", 1, 9)]


def test_too_many_includes() -> None:
    count = 0

    def more(name: str, span: Span) -> MapText:
        nonlocal count
        count += 1
        return MapText(f"{count}", 'include "x"')

    with pytest.raises(MapError, match="deep"):
        parse('include "x"', include=more)

    def twice(name: str, span: Span) -> MapText:
        return MapText(f"{name}x", f'include "{name}x"\ninclude "{name}x"' if len(name) < 20 else "")

    with pytest.raises(MapError, match="more than 1000"):
        parse('include "x"', include=twice)


# ---- hostile -----------------------------------------------------------------------------------------------------------


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.pmap"
    path.write_bytes(b"a -> b\nc\xff -> d")
    with pytest.raises(MapError) as caught:
        read(str(path))
    assert (caught.value.code, caught.value.where.line) == ("M002", 2)
    path.write_bytes(b"\xef\xbb\xbfa -> b")
    assert read(str(path)).text == "a -> b"
    with pytest.raises(FileAccessError):
        read(str(tmp_path / "none.pmap"))


def test_a_file_without_end(tmp_path: Path) -> None:
    path = tmp_path / "x.pmap"
    with open(path, "wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(MapError) as caught:
        read(str(path))
    assert caught.value.code == "M003"
    with pytest.raises(MapError):
        parse("#" * (SIZE + 1))


HOSTILE = [
    "(" * 100_000,
    "a : " + "(" * 100_000,
    "[" * 100_000,
    "a -> b | f(" + "[" * 100_000,
    "a -> b where h=" + "(" * 1000 + "1",
    "a -> b where h=" + "1+" * 100_000 + "1",
    "a -> b where h=" + "-" * 100_000,
    "{" * 100_000,
    "a" * 1_000_000,
    "a:" * 300_000 + " ",
    "?" * 300_000,
    "a?" * 300_000,
    "*" * 100_000,
    '"' * 100_001,
    '"' + "\\" * 100_001,
    "\\" * 100_000,
    "{k:" + "a" * 300_000,
    "{k:" + "a " * 100_000 + "}",
    "table t {" + "a" * 300_000 + "}",
    "\n" * 300_000 + "x",
    " " * 300_000 + "x",
    "#" * 300_000,
    "1" * 300_000,
    "a -> b | f(" + "1" * 300_000 + ")",
    "a -> b | f(0." + "1" * 300_000 + "x)",
    "a | " * 50_000,
    "then\n" * 20_000 + "x",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12].replace("\n", "N"))
def test_hostile_texts_are_refused_at_once(text: str) -> None:
    began = time.process_time()
    try:
        parse(text, "x.pmap")
    except MapError as caught:
        assert len(str(caught)) < 2000
    assert time.process_time() - began < 20


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(EVERYTHING)), st.integers(0, len(EVERYTHING)), st.text(max_size=3))
def test_truncated_and_changed_maps_raise_nothing_but_map_errors(start: int, end: int, middle: str) -> None:
    text = EVERYTHING[:start] + middle + EVERYTHING[max(start, end) :]
    try:
        parse(text, "x.pmap")
    except MapError as caught:
        assert caught.hint
        str(caught)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(PIECES, st.characters(codec=None)), max_size=30).map("".join))
def test_any_text(text: str) -> None:
    try:
        map = parse(text, "x.pmap")
    except MapError as caught:
        str(caught)
    else:
        assert parse(dumps(map), name="x.pmap") == map


# ---- speed -------------------------------------------------------------------------------------------------------------

RENAMES = "".join(f"layer{{i:int}}.block{k}.conv.weight <-> model.stages.{{i+{k}}}.conv{k}.weight\n" for k in range(20))


def test_a_long_map_is_read_quickly() -> None:
    text = "".join(f"layer{{i:int}}.{k}.weight : o (c h w) <-> model.{{i-1}}.conv{k}.weight : (h w c) o\n" for k in range(1000))
    parse(text)
    times = []
    for _ in range(3):
        began = time.process_time()
        parse(text)
        times.append(time.process_time() - began)
    assert min(times) < 0.6  # 0.08 s where nothing else runs


def test_a_short_map_is_read_quickly_the_first_time_without_lark() -> None:
    code = (
        "import sys, time, porter, porter.errors, json\n"
        "from porter.mapping import parser\n"
        "began = time.process_time()\n"
        "parser.parse(sys.argv[1])\n"
        "print(time.process_time() - began, 'lark' in sys.modules, 'numpy' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, RENAMES]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ) for _ in range(3)]
    answers = [run.stdout.split() for run in runs]
    assert min(float(answer[0]) for answer in answers) < 0.05  # 0.004 s where nothing else runs
    assert all(answer[1:] == ["False", "False"] for answer in answers)
