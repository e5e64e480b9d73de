"""Makes the nodes of `porter.mapping.syntax` from what the grammar of maps found, and refuses what the grammar cannot."""

from __future__ import annotations

import re
from math import inf
from typing import Any, NoReturn, cast

from porter.dataclass import dataclass
from porter.mapping.lalr import Action, Token
from porter.mapping.syntax import (
    Argument,
    Arithmetic,
    Arrow,
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
    MapText,
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
    Span,
    Statement,
    Table,
    Term,
    Tie,
    Variable,
)

RESERVED = frozenset({"drop", "keep", "rest", "fill", "param", "table", "include", "then", "optional", "expect"})
"""Words that begin a statement or stand for a side of one: a tensor of that name is quoted."""

LAYOUT_WORDS = frozenset(
    {"transpose", "permute", "reshape", "view", "swapaxes", "moveaxis", "rearrange", "flatten", "unflatten", "squeeze", "unsqueeze"}
    | {"expand_dims", "split", "chunk", "stack", "concat", "concatenate", "cat"}
)
"""What other tools call what an axis pattern says. No operation may have these names."""

OPERATORS = 32
"""How many operators deep an expression may be."""

DIGITS = 18
"""Of an integer: fewer than make it exceed 64 bits."""

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {'"': '"', "\\": "\\", "{": "{", "}": "}", "*": "*", "n": "\n", "t": "\t"}


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


class TreeBuilder:
    """The actions of the grammar `schemas/pmap.lark` for one text: a method for each rule, named as that is.

    Each takes the children of its node and the offsets between which the node stands.
    """

    def __init__(self, text: MapText) -> None:
        self._text = text
        self._line = 1
        self._first = 0
        self._next = text.text.find("\n") + 1 or len(text.text) + 1

    def actions(self) -> dict[str, Action]:
        """The methods by the names of rules."""
        return {name: getattr(self, name) for name in _RULES}

    def span(self, start: int, end: int) -> Span:
        """The place from `start` to `end`, or to the end of its first line."""
        if not self._first <= start < self._next:
            self._go(start)
        if end >= self._next:
            end = start + len(self._text.text[start : self._next].rstrip())
        return Span(self._text, self._line, start - self._first + 1, end - start if end > start else 1)

    def _go(self, offset: int) -> None:
        """To the line of `offset`, from the line where the last span was."""
        text = self._text.text
        if offset >= self._next:
            self._line += text.count("\n", self._first, offset)
        else:
            self._line -= text.count("\n", offset, self._first)
        self._first = text.rfind("\n", 0, offset) + 1
        self._next = text.find("\n", offset) + 1 or len(text) + 1

    def token_span(self, token: Token) -> Span:
        """The place of a token."""
        return self.span(token[2], token[2] + len(token[1]))

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
                f"a list of {len(source.terms)} tensors on the left and one of {len(target.terms)} on the right: nothing says which goes where",
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
        default = _plain_value(value)
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
        return Argument(None if name is None else name[1], _plain_value(value), self.span(start, end))

    # ---- values

    def float(self, children: list[Any], start: int, end: int) -> float:
        text = "".join(token[1] for token in children)
        value = float(text)
        if abs(value) == inf and children[-1][0] == "FLOAT":
            raise self.span(start, end).error("M008", f"'{text}' is larger than any float64", hint="write inf if that is what is meant")
        return value

    def boolean(self, children: list[Any], start: int, end: int) -> bool:
        return bool(children[0][0] == "TRUE")

    def text(self, children: list[Any], start: int, end: int) -> str:
        return self._word(children[0])

    def list(self, children: list[Any], start: int, end: int) -> tuple[object, ...]:
        return tuple(_plain_value(value) for value in children)

    def arithmetic(self, children: list[Any], start: int, end: int) -> Arithmetic:
        left, op, right = children
        made = Arithmetic(op[1], left, right, self.span(start, end))
        if _operators(made) > OPERATORS:
            raise self.token_span(op).error("M003", f"the expression is more than {OPERATORS} operators deep", hint="work the number out")
        return made

    def number(self, children: list[Any], start: int, end: int) -> Number:
        value = self._integer(children[-1])
        return Number(-value if len(children) > 1 else value, self.span(start, end))

    def variable(self, children: list[Any], start: int, end: int) -> Variable:
        return Variable(children[0][1], self.span(start, end))

    # ---- names

    def bare(self, children: list[Any], start: int, end: int) -> Pattern:
        word = self._text.text[start:end]
        if word in RESERVED:
            raise self.span(start, end).error(
                "M010", f"'{word}' is a word of the language", hint=f'a tensor of that name is written "{word}"'
            )
        return self._pattern(children, start, end)

    def quoted(self, children: list[Any], start: int, end: int) -> Pattern:
        return self._pattern(children[1:-1], start, end)

    def capture(self, children: list[Any], start: int, end: int) -> Capture:
        expression, kind = children
        span = self.span(start, end)
        plain = isinstance(expression, Variable)
        if not plain and not any(True for _ in _variables(expression)):
            raise span.error("M012", "a capture without a variable", hint="write the number itself, without braces")
        if kind is not None and not plain and not (isinstance(kind, Int) and kind.width):
            raise span.error(
                "M012",
                "the type of a capture stands where the variable stands alone",
                hint="write the type at another place of the rule, as in '{s:int}'; in '{s+1:03}' the width is that of this place",
            )
        return Capture(expression, kind, span)

    next_capture = quoted_capture = capture

    def kind(self, children: list[Any], start: int, end: int) -> CaptureType:
        word = children[0][1]
        return {"int": Int(), "path": Path(), "name": Name()}.get(word) or InTable(word)

    def width(self, children: list[Any], start: int, end: int) -> Int:
        return Int(self._width(children[0]))

    def ranges(self, children: list[Any], start: int, end: int) -> Ranges:
        width, *ranges = children
        return Ranges(tuple(ranges), 0 if width is None else self._width(width))

    def range(self, children: list[Any], start: int, end: int) -> tuple[Expression, Expression]:
        first, last = children
        if isinstance(first, Number) and isinstance(last, Number) and not 0 <= first.value <= last.value:
            raise self.span(start, end).error(
                "M012", f"the range {first.value}..{last.value} holds nothing", hint="the smaller number stands first"
            )
        return first, last

    def single(self, children: list[Any], start: int, end: int) -> tuple[Expression, Expression]:
        number = self.number(children, start, end)
        return number, number

    def choice(self, children: list[Any], start: int, end: int) -> Choice:
        words: dict[str, None] = {}
        for token in children:
            word = self._word(token)
            if word in words or not word:
                problem = f"'{word}' is one of the words already" if word else "a choice has no empty word"
                raise self.token_span(token).error("M012", problem, hint="leave it out")
            words[word] = None
        return Choice(tuple(words))

    # ---- axes

    def axes(self, children: list[Any], start: int, end: int) -> Axes:
        return Axes(tuple(children), self.span(start, end))

    def scalar(self, children: list[Any], start: int, end: int) -> Axes:
        return Axes((), self.span(start, end))

    def axis(self, children: list[Any], start: int, end: int) -> Axis:
        return Axis(children[0][1], self.span(start, end))

    def count(self, children: list[Any], start: int, end: int) -> Count:
        value = self._integer(children[0])
        if not value:
            raise self.span(start, end).error(
                "M008", "an axis of 0 elements holds nothing", hint="write 1, or how many tensors the other side lists"
            )
        return Count(value, self.span(start, end))

    def ellipsis(self, children: list[Any], start: int, end: int) -> Rest:
        return Rest(self.span(start, end))

    def group(self, children: list[Any], start: int, end: int) -> Group:
        return Group(tuple(children), self.span(start, end))

    def block(self, children: list[Any], start: int, end: int) -> tuple[AxisElement, ...]:
        return tuple(children)

    # ---- what several need

    def _pattern(self, children: list[Any], start: int, end: int) -> Pattern:
        parts: list[str | Capture] = []
        for child in children:
            if isinstance(child, Capture):
                parts.append(child)
            elif child[0] in ("STAR", "NEXT_STAR"):
                if parts and isinstance(parts[-1], Capture) and parts[-1].expression is None:
                    raise self.token_span(child).error("M006", "'*' stands twice", hint="one '*' is any text, dots and slashes included")
                parts.append(Capture(None, None, self.token_span(child)))
            else:
                parts.append(self._unescaped(child) if child[0] == "TEXT" else child[1])
        return Pattern(tuple(parts), self.span(start, end))

    def _unescaped(self, token: Token, quotes: int = 0) -> str:
        """The text of a token without its quotes and with its escapes resolved."""
        _, raw, offset = token
        raw = raw[quotes : len(raw) - quotes]
        if "\\" not in raw:
            return raw

        def resolved(match: re.Match[str]) -> str:
            code = match[1] or match[2] or match[3]
            if code is not None and int(code, 16) < 0x110000:
                return chr(int(code, 16))
            if match[4] not in _ESCAPED:
                at = offset + quotes + match.start()
                raise self.span(at, at + len(match[0])).error(
                    "M008",
                    f"'{match[0]}' means nothing",
                    hint=r"escapes are \" \\ \{ \} \* \n \t, and \xNN, \uNNNN, \UNNNNNNNN for any character; a backslash itself is \\",
                )
            return _ESCAPED[match[4]]

        return _ESCAPE.sub(resolved, raw)

    def _word(self, token: Token) -> str:
        return self._unescaped(token, 1) if token[0] == "STRING" else token[1]

    def _integer(self, token: Token) -> int:
        if len(token[1]) > DIGITS:
            raise self.token_span(token).error(
                "M008", f"an integer of {len(token[1])} digits", hint=f"integers have at most {DIGITS} digits"
            )
        return int(token[1])

    def _width(self, token: Token) -> int:
        digits = token[1].lstrip("0")
        if not digits or len(digits) > 2:
            raise self.token_span(token).error("M012", f"'{token[1]}' is no width", hint="{L:03} is a number padded with zeros to 3 digits")
        return int(digits)

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


def _plain_value(value: Any) -> Any:
    return value.value if isinstance(value, Number) else value


def _operators(expression: Expression) -> int:
    if not isinstance(expression, Arithmetic):
        return 0
    return 1 + max(_operators(expression.left), _operators(expression.right))


def _variables(expression: Expression) -> list[str]:
    if isinstance(expression, Arithmetic):
        return _variables(expression.left) + _variables(expression.right)
    return [expression.name] if isinstance(expression, Variable) else []


_DEFAULTS: dict[str, str] = {
    "int": "an int is written 32",
    "float": "a float is written 1e-5",
    "bool": "a bool is true or false",
    "str": 'a str is written in quotes: "model."',
}

_RULES = [name for name in vars(TreeBuilder) if not name.startswith("_") and name not in ("actions", "span", "token_span")]
