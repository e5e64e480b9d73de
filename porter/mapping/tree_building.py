"""Makes the nodes of `porter.mapping.syntax` from what the grammar of maps found, and refuses what the grammar cannot."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from porter.dataclass import dataclass
from porter.mapping.lalr import Action, Token
from porter.mapping.node_building import NodeBuilder, plain_value
from porter.mapping.syntax import (
    Argument,
    Arrow,
    Call,
    Capture,
    Drop,
    Expect,
    Expression,
    Fill,
    Keep,
    Param,
    Pattern,
    Remaining,
    Rule,
    Side,
    Span,
    Statement,
    Table,
    Term,
    Tie,
    Variable,
)

LAYOUT_WORDS = frozenset(
    {"transpose", "permute", "reshape", "view", "swapaxes", "moveaxis", "rearrange", "flatten", "unflatten", "squeeze", "unsqueeze"}
    | {"expand_dims", "split", "chunk", "stack", "concat", "concatenate", "cat"}
)
"""What other tools call what an axis pattern says. No operation may have these names."""


@dataclass(frozen=True, slots=True)
class Include:
    """`include "name"`, before it is resolved."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Then:
    """`then`."""

    span: Span


Item = Statement | Include | Then


class TreeBuilder(NodeBuilder):
    """The actions of the grammar `schemas/pmap.lark` for one text: a method for each rule, named as that is.

    Each takes the children of its node and the offsets between which the node stands.
    """

    def actions(self) -> dict[str, Action]:
        """The methods by the names of rules."""
        return {name: getattr(self, name) for name in _RULES}

    # ---- statements

    def start(self, children: list[Any], start: int, end: int) -> list[Item]:
        return children

    def rule(self, children: list[Any], start: int, end: int) -> Rule:
        optional, source, arrow, target, where = children
        direction = cast(Arrow, arrow[1])
        if direction == "<->":
            for term in source.terms:
                self._without_star(term.pattern, "in a rule with '<->'")
        for term in target.terms:
            self._without_star(term.pattern, "on the right of an arrow")
        if len(source.terms) > 1 and len(target.terms) > 1 and not source.calls and not target.calls:
            raise self.token_span(arrow).error(
                "M007",
                f"a list of {len(source.terms)} on the left, one of {len(target.terms)} on the right, and nothing says what goes where",
                hint="write a rule for each pair, or go through one tensor that joins them, with 'then' between the two steps",
            )
        return Rule(source, target, direction, where or (), optional is not None, self.span(start, end))

    def drop(self, children: list[Any], start: int, end: int) -> Drop:
        optional, side, arrow, same_as = children
        self._one_way(arrow, "what is dropped does not come back")
        if isinstance(same_as, Pattern):
            self._without_star(same_as, "in a condition")
        return Drop(self._plain(side, "'drop'"), same_as, optional is not None, self.span(start, end))

    def keep(self, children: list[Any], start: int, end: int) -> Keep:
        optional, side, _ = children
        return Keep(self._plain(side, "'keep'"), optional is not None, self.span(start, end))

    def tie(self, children: list[Any], start: int, end: int) -> Tie:
        optional, side, tensor = children
        alias = self._plain(side, "a tie")
        for pattern in (alias, tensor):
            self._without_star(pattern, "in a tie")
        return Tie(alias, tensor, optional is not None, self.span(start, end))

    def fill(self, children: list[Any], start: int, end: int) -> Fill:
        call, arrow, pattern, absent, for_each = children
        self._one_way(arrow, "no tensor is on the left")
        for part in (pattern, for_each):
            if part is not None:
                self._without_star(part, "in a fill")
        return Fill(call, pattern, absent is not None, for_each, self.span(start, end))

    def remaining(self, children: list[Any], start: int, end: int) -> Remaining:
        arrow, word = children
        if word[0] == "DROP":
            self._one_way(arrow, "what is dropped does not come back")
        return Remaining("keep" if word[0] == "KEEP" else "drop", self.span(start, end))

    def expect(self, children: list[Any], start: int, end: int) -> Expect:
        said: dict[str, Any] = {}
        for word, amount in zip(children[::2], children[1::2], strict=True):
            self._once(said, word, f"'{word[1]}='")
            said[word[1]] = amount
        return Expect(said.get("sources", "all"), said.get("targets", "all"), self.span(start, end))

    def amount(self, children: list[Any], start: int, end: int) -> int | str:
        token: Token = children[0]
        return self._integer(token) if token[0] == "INT" else token[1]

    def table(self, children: list[Any], start: int, end: int) -> Table:
        name, *rows = children
        columns: tuple[dict[str, None], dict[str, None]] = ({}, {})
        for row in rows:
            for column, words, side in zip(row, columns, ("left", "right"), strict=True):
                word, span = column
                if word in words:
                    raise span.error(
                        "M005",
                        f"'{word}' is in the {side} column of table '{name[1]}' already",
                        hint="a table is read both ways, so that each word stands once in its column",
                    )
                words[word] = None
        return Table(name[1], tuple((left[0], right[0]) for left, right in rows), None, self.span(start, end))

    def row(self, children: list[Any], start: int, end: int) -> tuple[tuple[str, Span], ...]:
        return tuple((self._word(token), self.token_span(token)) for token in children)

    def provided(self, children: list[Any], start: int, end: int) -> Table:
        name, provider = children
        return Table(name[1], (), provider[1], self.span(start, end))

    def param(self, children: list[Any], start: int, end: int) -> Param:
        name, kind, value = children
        default = plain_value(value)
        if kind[1] not in ("int", "float", "bool", "str"):
            raise self.token_span(kind).error(
                "M008", f"'{kind[1]}' is no type of a parameter", hint="the types are int, float, bool and str"
            )
        if kind[1] == "float" and type(default) is int:
            default = float(default)
        if default is not None and type(default).__name__ != kind[1]:
            raise self.span(start, end).error("M008", f"the default of '{name[1]}' is no {kind[1]}", hint=_DEFAULTS[kind[1]])
        return Param(name[1], kind[1], default, self.span(start, end))

    def include(self, children: list[Any], start: int, end: int) -> Include:
        return Include(self._word(children[0]), self.token_span(children[0]))

    def then(self, children: list[Any], start: int, end: int) -> Then:
        return Then(self.span(start, end))

    def where(self, children: list[Any], start: int, end: int) -> tuple[tuple[str, Expression], ...]:
        sizes: dict[str, Expression] = {}
        for token, size in children:
            self._once(sizes, token, f"the size '{token[1]}'")
            sizes[token[1]] = size
        return tuple(sizes.items())

    def size(self, children: list[Any], start: int, end: int) -> tuple[Token, Expression]:
        return children[0], children[1]

    # ---- tensors

    def side(self, children: list[Any], start: int, end: int) -> Side:
        term, calls = children
        return Side((term,), False, calls, self.span(start, end))

    def list_side(self, children: list[Any], start: int, end: int) -> Side:
        *listed, axes, calls = children
        labels: dict[str, None] = {}
        terms = []
        for label, term in listed:
            if label is not None:
                self._once(labels, label, f"the label '{label[1]}'")
                labels[label[1]] = None
            if term.axes is None and axes is not None:
                term = Term(term.pattern, axes, term.label, term.optional, term.stack, term.span)
            terms.append(term)
        return Side(tuple(terms), True, calls, self.span(start, end))

    def term(self, children: list[Any], start: int, end: int) -> Term:
        pattern, mark, stack, axes = children
        if mark is not None:
            raise self.token_span(mark).error(
                "M009",
                "'?' says that a member of a list may be missing, and this is no list",
                hint="begin the statement with 'optional' if it may match nothing; put a name that ends in '?' in quotes",
            )
        return Term(pattern, axes, None, False, stack, self.span(start, end))

    def list_term(self, children: list[Any], start: int, end: int) -> tuple[Token | None, Term]:
        label, pattern, mark, stack, axes = children
        return label, Term(pattern, axes, None if label is None else label[1], mark is not None, stack, self.span(start, end))

    def stack(self, children: list[Any], start: int, end: int) -> Variable:
        return Variable(children[0][1], self.token_span(children[0]))

    def calls(self, children: list[Any], start: int, end: int) -> tuple[Call, ...]:
        return tuple(children)

    def call(self, children: list[Any], start: int, end: int) -> Call:
        name, *arguments = children
        if name[1] in LAYOUT_WORDS:
            raise self.token_span(name).error(
                "M011",
                f"'{name[1]}' is no operation: what changes a layout is said by the axes",
                hint="name the axes on both sides: 'a : o i <-> b : i o' transposes, 'a : o (c h w) <-> b : o c h w' reshapes, "
                "'[a, b] : o i <-> c : (2 o) i' joins",
            )
        seen: dict[str, None] = {}
        for argument in arguments:
            if argument.name is None and seen:
                raise argument.span.error(
                    "M009", "an argument without a name stands after one with a name", hint="put it before, or name it"
                )
            if argument.name in seen:
                raise argument.span.error("M005", f"the argument '{argument.name}' is given twice", hint="leave one of them out")
            if argument.name is not None:
                seen[argument.name] = None
        return Call(name[1], tuple(arguments), self.span(start, end))

    fill_call = call

    def argument(self, children: list[Any], start: int, end: int) -> Argument:
        name, value = children
        return Argument(None if name is None else name[1], plain_value(value), self.span(start, end))

    # ---- what several need

    def _once(self, seen: dict[str, Any], token: Token, what: str) -> None:
        if token[1] in seen:
            raise self.token_span(token).error("M005", f"{what} stands here twice", hint="leave one of them out")

    def _one_way(self, arrow: Token, reason: str) -> None:
        if arrow[1] != "->":
            raise self.token_span(arrow).error("M009", f"this goes one way only: {reason}", hint="write '->'")

    def _without_star(self, pattern: Pattern, where: str) -> None:
        for part in pattern.parts:
            if isinstance(part, Capture) and part.expression is None:
                raise part.span.error(
                    "M006",
                    f"'*' may not stand {where}: nothing says which text it stands for there",
                    hint="give it a name, as in '{p}', and use that on both sides; a name with a real '*' is quoted, with '\\*'",
                )

    def _plain(self, side: Side, beside: str) -> Pattern:
        """The one name of a side that may be nothing else."""
        term = side.terms[0]
        if side.listed or side.calls or term.axes is not None or term.stack is not None:
            _refuse(side.calls[0].span if side.calls else side.span, beside)
        return term.pattern


def _refuse(span: Span, beside: str) -> NoReturn:
    raise span.error(
        "M009",
        f"a name alone stands beside {beside}, without axes, lists and operations",
        hint="write several statements for several names; what changes a tensor is a rule that names both sides",
    )


_DEFAULTS: dict[str, str] = {
    "int": "an int is written 32",
    "float": "a float is written 1e-5",
    "bool": "a bool is true or false",
    "str": 'a str is written in quotes: "model."',
}

_RULES = [name for name in dir(TreeBuilder) if not name.startswith("_") and name not in ("actions", "span", "token_span")]
