"""Makes the names, axes, integers and values of a map's tree from what the grammar found; `porter.mapping.tree_building` has the rest."""

from __future__ import annotations

import re
from math import inf
from typing import Any

from porter.mapping.lalr import Token
from porter.mapping.syntax import (
    Arithmetic,
    Axes,
    Axis,
    AxisElement,
    Capture,
    CaptureType,
    Choice,
    Count,
    Expression,
    Group,
    Int,
    InTable,
    MapText,
    Name,
    Number,
    Path,
    Pattern,
    Ranges,
    Rest,
    Span,
    Variable,
)

RESERVED = frozenset({"drop", "keep", "rest", "fill", "param", "table", "include", "then", "optional", "expect"})
"""Words that begin a statement or stand for a side of one: a tensor of that name is quoted."""

OPERATORS = 32
"""How many operators deep an expression may be."""

DIGITS = 18
"""Of an integer: fewer than make it exceed 64 bits."""

_ESCAPE = r"(?s)\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))"
_ESCAPED = {'"': '"', "\\": "\\", "{": "{", "}": "}", "*": "*", "n": "\n", "t": "\t"}


class NodeBuilder:
    """The actions of the grammar for what stands within statements, for one text."""

    def __init__(self, text: MapText) -> None:
        self._text = text
        self._line = 1
        self._first = 0
        self._next = text.text.find("\n") + 1 or len(text.text) + 1

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

    # ---- values

    def decimal(self, children: list[Any], start: int, end: int) -> float:
        text = "".join(token[1] for token in children)
        value = float(text)
        if abs(value) == inf and children[-1][0] == "FLOAT":
            raise self.span(start, end).error("M008", f"'{text}' is larger than any float64", hint="write inf if that is what is meant")
        return value

    def boolean(self, children: list[Any], start: int, end: int) -> bool:
        return bool(children[0][0] == "TRUE")

    def literal(self, children: list[Any], start: int, end: int) -> str:
        return self._word(children[0])

    def items(self, children: list[Any], start: int, end: int) -> tuple[object, ...]:
        return tuple(plain_value(value) for value in children)

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
        if word == "...":
            hint = f"many tensors are a pattern, such as 'experts.{{e:0..7}}.w1'; a tensor of that name is written \"{word}\""
            raise self.span(start, end).error("M010", f"'{word}' is no name; it stands for dimensions, among axes", hint=hint)
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
        kinds: dict[str, CaptureType] = {"int": Int(), "path": Path(), "name": Name()}
        return kinds.get(word) or InTable(word)

    def width(self, children: list[Any], start: int, end: int) -> Int:
        return Int(self._width(children[0]))

    def ranges(self, children: list[Any], start: int, end: int) -> Ranges:
        width, *ranges = children
        return Ranges(tuple(ranges), 0 if width is None else self._width(width))

    def bounds(self, children: list[Any], start: int, end: int) -> tuple[Expression, Expression]:
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

        return re.sub(_ESCAPE, resolved, raw)

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


def plain_value(value: Any) -> Any:
    """A number written out as an int; any other value as it is."""
    return value.value if isinstance(value, Number) else value


def _operators(expression: Expression) -> int:
    if not isinstance(expression, Arithmetic):
        return 0
    return 1 + max(_operators(expression.left), _operators(expression.right))


def _variables(expression: Expression) -> list[str]:
    if isinstance(expression, Arithmetic):
        return _variables(expression.left) + _variables(expression.right)
    return [expression.name] if isinstance(expression, Variable) else []
