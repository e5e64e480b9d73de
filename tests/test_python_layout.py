"""Statements that are longer than a line: breaking them changes nothing of what they say."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.graph.python_layout import WIDTH, statement

NAMES = st.sampled_from(
    ["x", "self.features", "a_name_that_is_rather_long", "self.layers_of_the_network_3", '"a (text, of, sorts"', "1.5e-3"]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=4)
    signs = st.sampled_from(["+", "-", "*", "/", "//", "%", "<", "==", "&", "|", "<<"])
    return st.one_of(
        st.tuples(inner, signs, inner).map(lambda p: f"({p[0]}) {p[1]} {p[2]}"),
        st.tuples(inner, signs, inner).map(lambda p: f"{p[0]} {p[1]} ({p[2]})"),
        inner.map(lambda x: f"-({x})"),
        inner.map(lambda x: f"({x})"),
        st.tuples(st.sampled_from(["torch.mul", "f", "x.reshape"]), several).map(lambda p: f"{p[0]}({', '.join(p[1])})"),
        st.tuples(inner, inner).map(lambda p: f"f({p[0]}, keyword={p[1]})"),
        inner.map(lambda x: f"f(item for item in {x})"),
        inner.map(lambda x: f"[item for item in {x}]"),
        several.map(lambda items: f"x[{', '.join(items)}]"),
        inner.map(lambda x: f"x[{x},]"),
        several.map(lambda items: f"({', '.join(items)},)"),
        several.map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
    )


EXPRESSIONS = st.recursive(NAMES, _grown, max_leaves=14)
HEADS = st.sampled_from(["return ", "x = ", "", "self.a_rather_long_name, another_of_those, one_more_name_that_is_long = "])


@given(HEADS, EXPRESSIONS, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_what_is_said_stays(head: str, expression: str, depth: int) -> None:
    assert _meaning(statement(head + expression, depth), depth) == _meaning(["    " * depth + head + expression], depth)


def _meaning(lines: list[str], depth: int) -> str:
    opening = [f"{'    ' * i}def f():" for i in range(depth)]
    return ast.dump(ast.parse("\n".join([*opening, *lines])))


@pytest.mark.parametrize("name", ["a_long_name_for_what_is_computed", "a_much_longer_name_for_what_is_computed_here"])
def test_groups_are_no_tuples(name: str) -> None:
    lines = statement(f"x = ({name}_a - {name}_b) * (({name}_c + {name}_d) / {name}_e)", 2)
    assert max(map(len, lines)) <= WIDTH
    values = {f"{name}_{letter}": number for letter, number in zip("abcde", (7, 3, 5, 1, 2), strict=True)}
    exec("if 1:\n if 1:\n" + "\n".join(lines), values)
    assert values["x"] == 12
