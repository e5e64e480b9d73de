"""Maps written as text are read as the maps that they were."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from map_strategies import axes, calls, expressions, maps, patterns

from porter.mapping.parser import parse
from porter.mapping.render import WIDTH, axes_text, call_text, dumps, expression_text, pattern_text, statement_text
from porter.mapping.syntax import Axes, Call, Capture, Expression, Map, Pattern, Rule, Stage, Variable

calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=50)


def rule(text: str) -> Rule:
    (statement,) = parse(text).stages[0].statements
    assert isinstance(statement, Rule)
    return statement


@calm
@given(maps())
def test_what_is_written_is_read_the_same(map: Map) -> None:
    text = dumps(map)
    assert parse(text) == map
    assert dumps(parse(text)) == text
    text.encode("utf-8")


@calm
@given(maps())
def test_each_statement_stands_alone(map: Map) -> None:
    for stage in map.stages:
        for statement in stage.statements:
            assert parse(statement_text(statement)).stages == (Stage((statement,)),)


@given(patterns(stars=True))
def test_names(pattern: Pattern) -> None:
    assert rule(f"{pattern_text(pattern)} -> x").source.terms[0].pattern == pattern


@given(axes)
def test_axes(pattern: Axes) -> None:
    assert rule(f"a -> x : {axes_text(pattern)}").target.terms[0].axes == pattern


@given(expressions())
def test_expressions(expression: Expression) -> None:
    assert rule(f"a -> b where h = {expression_text(expression)}").where == (("h", expression),)


@given(calls())
def test_calls(call: Call) -> None:
    assert rule(f"a -> b | {call_text(call)}").target.calls == (call,)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("conv1.weight", "conv1.weight"),
        ("a/b:0", "a/b:0"),
        ("std::x", "std::x"),
        ("a b", '"a b"'),
        ("", '""'),
        ("keep", '"keep"'),
        ("keeper", "keeper"),
        ("bias?", '"bias?"'),
        ("what?.x", "what?.x"),
        ("x:", '"x:"'),
        ("a->b", '"a->b"'),
        ("a-b", "a-b"),
        ("->", '"->"'),
        ("a,b", '"a,b"'),
        ("a*{b}", r'"a\*\{b\}"'),
        ('say "x"\\', r'"say \"x\"\\"'),
        ("a\nb\x00\u200b\U000e0001", r'"a\nb\x00\u200b\U000e0001"'),
        ("\udc80", r'"\udc80"'),
        ("#1", '"#1"'),
        ("größe", "größe"),
        ("'x'", "\"'x'\""),
        ("a(b)", '"a(b)"'),
    ],
)
def test_names_are_quoted_where_they_need_it(name: str, written: str) -> None:
    pattern = Pattern((name,) if name else ())
    assert pattern_text(pattern) == written
    assert rule(f"{written} -> x").source.terms[0].pattern == pattern


def test_captures_stay_in_quoted_names() -> None:
    pattern = Pattern(("a ", Capture(Variable("p")), " b"))
    assert pattern_text(pattern) == '"a {p} b"'


EXAMPLE = """\
param head_dim : int = 64
table blk { a=0 b=1 "c d"=2 }

res{s:int}{b:blk}_branch2a.weight <-> layer{s-1}.{b}.conv1.weight
fc.weight : o (c h w)             <-> head.kernel : (h w c) o  where h=7 w=7
[{p}.q, {p}.k, {p}.v] : o i       <-> {p}.qkv : (3 o) i
[{p}.q : (g r d) i, {p}.k : (g d) i, {p}.v : (g d) i] <-> {p}.qkv : (g (r d + d + d)) i  where d=head_dim
{p}.experts.{e:int}.w1            <-> {p}.w1[e]
{p}.running_var                    -> {p}.var | add(1e-5) | rsqrt
*.num_batches_tracked              -> drop
lm_head.weight                     -> drop if = embed.weight
{p}.nbt                            -> drop if = fill(0)
optional *.bias                   <-> keep

rest <-> keep

then

lm_head.weight                = embed.weight
fill(0, dtype=i64, shape=[]) -> {p}.num_batches_tracked if absent for {p}.running_mean

expect sources=all targets=12
"""


def test_a_map_as_a_person_would_write_it() -> None:
    assert dumps(parse(EXAMPLE)) == EXAMPLE


def test_long_statements_are_broken_and_long_tables_too() -> None:
    labels = ("weight", "bias", "gamma", "beta", "mean", "variance")
    terms = ", ".join(f"{label}=model.{{p}}.something.{label}" for label in labels)
    text = f"[{terms}] | fold_bn(eps=1e-5) -> [weight={{p}}.weight, bias={{p}}.bias]\n"
    rows = " ".join(f"word{i}={i}" for i in range(60))
    map = parse(text + f"table t {{ {rows} }}")
    written = dumps(map)
    assert max(len(line) for line in written.splitlines()) <= WIDTH
    assert parse(written) == map
    assert "    weight=model.{p}.something.weight,\n    bias=" in written


def test_an_empty_map() -> None:
    assert dumps(parse("")) == ""
    assert parse("") == Map((Stage(()),))
    assert dumps(parse("then")) == "\nthen\n\n"
    assert parse(dumps(parse("then"))) == Map((Stage(()), Stage(())))
