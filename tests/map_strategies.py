"""Hypothesis strategies for the trees of maps: everything that the map language can say, and nothing that it refuses.

The trees are well formed, not sensible: tables may be unknown, axes of one side missing on the other.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from porter.mapping.syntax import (
    Argument,
    Arithmetic,
    Axes,
    Axis,
    AxisElement,
    Call,
    Capture,
    CaptureType,
    Choice,
    Count,
    Drop,
    Expect,
    Expression,
    Fill,
    Group,
    Int,
    InTable,
    Keep,
    Map,
    Name,
    Number,
    Param,
    Path,
    Pattern,
    Ranges,
    Remaining,
    Rest,
    Rule,
    Side,
    Stage,
    Statement,
    Table,
    Term,
    Tie,
    Variable,
)
from porter.mapping.tree_building import LAYOUT_WORDS

WORDS_OF_VALUES = {"true", "false", "inf", "nan"}
KINDS = {"int", "path", "name"}

identifiers = st.one_of(
    st.sampled_from(["p", "L", "e", "s", "block", "drop", "fill", "rest", "größe", "_x1"]),
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True),
)
axis_names = identifiers.filter(lambda name: name != "where")
variable_names = identifiers.filter(lambda name: name not in WORDS_OF_VALUES)
operation_names = identifiers.filter(lambda name: name not in LAYOUT_WORDS)

any_text = st.text(st.characters(codec=None), min_size=1, max_size=8)  # lone surrogates and control characters too
name_text = st.one_of(
    st.sampled_from(
        ["conv", ".weight", "layer.", "_", "a:0", "x?", "a::b", "->", "<->", "where", "keep", "drop", ".", "-", ">", "<", "'", ";"]
    ),
    st.from_regex(r"[a-z0-9_./:$@%+~'<>;!?-]{1,8}", fullmatch=True),
    any_text,
)
words = st.one_of(st.from_regex(r"[a-z0-9_.]{1,4}", fullmatch=True), any_text)


def expressions(names: st.SearchStrategy[str] = variable_names) -> st.SearchStrategy[Expression]:
    leaves: st.SearchStrategy[Expression] = st.one_of(
        names.map(Variable), st.integers(0, 99).map(Number), st.integers(-(10**17), 10**17).map(Number)
    )
    return st.recursive(leaves, lambda inner: st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner), max_leaves=5)


def has_variable(expression: Expression) -> bool:
    if isinstance(expression, Arithmetic):
        return has_variable(expression.left) or has_variable(expression.right)
    return isinstance(expression, Variable)


def _range(first: Expression, last: Expression) -> tuple[Expression, Expression]:
    """A range that goes up, where that can be seen."""
    if isinstance(first, Number) and isinstance(last, Number):
        low, high = sorted((abs(first.value), abs(last.value)))
        return Number(low), Number(high)
    return first, last


ranges = st.builds(_range, expressions(), expressions())
widths = st.integers(1, 99)

capture_types: st.SearchStrategy[CaptureType] = st.one_of(
    st.builds(Int, st.one_of(st.just(0), widths)),
    st.just(Path()),
    st.just(Name()),
    st.lists(words, min_size=1, max_size=3, unique=True).map(lambda items: Choice(tuple(items))),
    st.builds(Ranges, st.lists(ranges, min_size=1, max_size=3).map(tuple), st.one_of(st.just(0), widths)),
    variable_names.filter(lambda name: name not in KINDS).map(InTable),
)

captures = st.one_of(
    st.builds(Capture, variable_names.map(Variable), st.one_of(st.none(), capture_types)),
    st.builds(Capture, expressions().filter(has_variable), st.one_of(st.none(), st.builds(Int, widths))),
)

STAR = Capture(None)


def patterns(stars: bool = False) -> st.SearchStrategy[Pattern]:
    part: st.SearchStrategy[str | Capture] = st.one_of(name_text, captures)
    return st.lists(st.one_of(part, st.just(STAR)) if stars else part, max_size=4).map(_pattern)


def _pattern(parts: list[str | Capture]) -> Pattern:
    """A pattern without two literals or two stars in a row."""
    made: list[str | Capture] = []
    for part in parts:
        if made and isinstance(part, str) and isinstance(made[-1], str):
            made[-1] += part
        elif not (made and part == STAR and made[-1] == STAR):
            made.append(part)
    return Pattern(tuple(made))


def _group(inner: st.SearchStrategy[AxisElement]) -> st.SearchStrategy[AxisElement]:
    blocks = st.lists(st.lists(inner, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)
    return blocks.map(lambda terms: Group(tuple(terms)))


axis_elements: st.SearchStrategy[AxisElement] = st.recursive(
    st.one_of(axis_names.map(Axis), st.integers(1, 12).map(Count), st.just(Rest())), _group, max_leaves=4
)
axes = st.lists(axis_elements, max_size=4).map(lambda elements: Axes(tuple(elements)))

plain_values: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=6),
    expressions().filter(lambda expression: not isinstance(expression, Number)),
)
values = st.recursive(plain_values, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


@st.composite
def calls(draw: st.DrawFn, names: st.SearchStrategy[str] = operation_names) -> Call:
    positional = [Argument(None, value) for value in draw(st.lists(values, max_size=2))]
    named = draw(st.dictionaries(variable_names, values, max_size=2))
    return Call(draw(names), (*positional, *(Argument(name, value) for name, value in named.items())))


fills = calls(names=st.just("fill"))


@st.composite
def sides(draw: st.DrawFn, stars: bool, most: int) -> Side:
    stack = st.one_of(st.none(), identifiers.map(Variable))
    optional_axes = st.one_of(st.none(), axes)
    chain = tuple(draw(st.lists(calls(), max_size=2)))
    if not draw(st.booleans()):
        return Side((Term(draw(patterns(stars)), draw(optional_axes), None, False, draw(stack)),), False, chain)
    labels = draw(st.lists(identifiers, min_size=1, max_size=most, unique=True))
    terms = [
        Term(draw(patterns(stars)), draw(optional_axes), draw(st.sampled_from([None, label])), draw(st.booleans()), draw(stack))
        for label in labels
    ]
    return Side(tuple(terms), True, chain)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    arrow = draw(st.sampled_from(["<->", "->"]))
    source = draw(sides(arrow == "->", 3))
    target = draw(sides(False, 3 if len(source.terms) == 1 or source.calls else 1))
    where = tuple(draw(st.dictionaries(axis_names, expressions(), max_size=2)).items())
    return Rule(source, target, arrow, where, draw(st.booleans()))


fill_statements = st.builds(Fill, fills, patterns(), st.booleans(), st.one_of(st.none(), patterns()))

mappings: st.SearchStrategy[Statement] = st.one_of(
    rules(),
    st.builds(Drop, patterns(True), st.one_of(st.none(), patterns(), fills), st.booleans()),
    st.builds(Keep, patterns(True), st.booleans()),
    st.builds(Tie, patterns(), patterns(), st.booleans()),
    fill_statements,
)

amounts = st.one_of(st.sampled_from(["all", "any"]), st.integers(0, 10**6))

DEFAULTS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(10**17), 10**17),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "str": st.text(max_size=6),
}


@st.composite
def params(draw: st.DrawFn) -> Param:
    kind = draw(st.sampled_from(sorted(DEFAULTS)))
    return Param(draw(identifiers), kind, draw(st.one_of(st.none(), DEFAULTS[kind])))  # type: ignore[arg-type]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    name = draw(identifiers)
    if draw(st.booleans()):
        return Table(name, (), draw(st.sampled_from(["caffe.scale_after_batch_norm", "rows"])))
    left = draw(st.lists(words, max_size=8, unique=True))
    right = draw(st.lists(words, min_size=len(left), max_size=len(left), unique=True))
    return Table(name, tuple(zip(left, right, strict=True)))


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    statements = draw(st.lists(mappings, max_size=4))
    for extra in (st.builds(Remaining, st.sampled_from(["keep", "drop"])), st.builds(Expect, amounts, amounts)):
        if draw(st.booleans()):
            statements.append(draw(extra))
    return Stage(tuple(draw(st.permutations(statements))))


@st.composite
def maps(draw: st.DrawFn) -> Map:
    """Whole maps."""
    made = [list(draw(stages()).statements) for _ in range(draw(st.integers(1, 3)))]
    declared: dict[tuple[type, str], Table | Param] = {}
    for declaration in draw(st.lists(st.one_of(params(), tables()), max_size=3)):
        declared.setdefault((type(declaration), declaration.name), declaration)
    for declaration in declared.values():
        stage = draw(st.sampled_from(made))
        stage.insert(draw(st.integers(0, len(stage))), declaration)
    return Map(tuple(Stage(tuple(stage)) for stage in made))
