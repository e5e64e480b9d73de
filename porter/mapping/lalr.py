"""Reads text by the tables of a grammar: an LALR(1) parser, and a lexer that looks for what the parser can use next.

lark makes the tables from `schemas/pmap.lark` (`schemas/compile.py`) and would read maps just so; but importing lark takes
several times as long as reading a map, and longer than many a conversion.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from porter.dataclass import dataclass

_TABLES = os.path.join(os.path.dirname(__file__), "pmap_tables.json")

DEPTH = 48
"""How deep brackets may be nested: trees of maps are walked by functions that call themselves."""

OPENING = frozenset({"LPAR", "LSQB", "LBRACE", "_NEXT_BRACE"})
CLOSING = frozenset({"RPAR", "RSQB", "RBRACE"})
CONTINUING = frozenset({"VBAR", "ARROW", "COMMA", "_WHERE"})
"""Tokens after which a line goes on on the next one."""

Token = tuple[str, str, int]
"""Terminal, text and offset."""

Action = Callable[[list[Any], int, int], Any]
"""Makes a node of its children, and of the offsets where it begins and ends. A child is a token, a node or None."""

_Candidate = tuple[int, str | None, Callable[[str, int], Any] | None, Mapping[str, int] | None]
"""A terminal that a state may look for: its number, its text or else how to find it, and texts that are other terminals."""


class Unexpected(Exception):
    """What stands at `offset` may not stand there. `token` is what was read there, None where it is no token at all.

    last: the token before, and `last_end` where that ends.
    opened: offsets of the brackets that are open; `quoted`: the offset of the quote that is, or None.
    expected: terminals that may stand there.
    """

    def __init__(
        self,
        offset: int,
        token: Token | None,
        last: Token | None,
        last_end: int,
        opened: list[int],
        quoted: int | None,
        expected: frozenset[str],
    ) -> None:
        super().__init__(f"unexpected text at {offset}")
        self.offset = offset
        self.token = token
        self.last = last
        self.last_end = last_end
        self.opened = opened
        self.quoted = quoted
        self.expected = expected


class TooDeep(Exception):
    """The bracket at `offset` is within `DEPTH` others."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"nested too deep at {offset}")
        self.offset = offset


class _State:
    """What to do in one state of the parser."""

    __slots__ = ("actions", "candidates", "gotos", "verbatim")

    def __init__(self, actions: dict[int, int], gotos: dict[int, int], candidates: list[_Candidate], verbatim: bool) -> None:
        self.actions = actions
        self.gotos = gotos
        self.candidates = candidates
        self.verbatim = verbatim


@dataclass(slots=True)
class _Reduction:
    """A rule of the grammar; see `tables` in `schemas/compile.py`."""

    name: str
    length: int
    left: int
    children: list[int | None] | None
    standing: int


class Tables:
    """The tables of a grammar. A map uses few of the states, so each is put together when the parser first gets there."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        import re

        self.names = [name for name, _, _ in content["terminals"]]
        self.skip = re.compile(content["ignored"]).match
        self.newline = re.compile(content["terminals"][self.names.index("_NEWLINE")][2]).match
        self.reductions = [_Reduction(*rule) for rule in content["rules"]]
        self._content = content
        self._states: list[_State | None] = [None] * len(content["states"])

    def state(self, number: int) -> _State:
        """State `number`."""
        state = self._states[number]
        if state is None:
            actions, gotos, scanner = self._content["states"][number]
            order, words = self._content["scanners"][scanner]
            state = self._states[number] = _State(
                _pairs(self._content["actions"][actions]),
                _pairs(self._content["gotos"][gotos]),
                [self._candidate(terminal, words.get(str(terminal))) for terminal in order if self.names[terminal] != "_NEWLINE"],
                any(self.names[terminal] == "TEXT" for terminal in order),
            )
        return state

    def _candidate(self, terminal: int, words: Mapping[str, int] | None) -> _Candidate:
        import re

        _, kind, pattern = self._content["terminals"][terminal]
        return (terminal, pattern, None, words) if kind == "str" else (terminal, None, re.compile(pattern).match, words)

    def pattern(self, terminal: str) -> str:
        """The regular expression of a terminal."""
        pattern: str = self._content["terminals"][self.names.index(terminal)][2]
        return pattern

    def expected(self, stack: list[int]) -> frozenset[str]:
        """The terminals that may come next. A state's actions name more: those that it allows in other surroundings."""
        return frozenset(self.names[terminal] for terminal in self.state(stack[-1]).actions if self._takes(stack, terminal))

    def _takes(self, stack: list[int], terminal: int) -> bool:
        stack = list(stack)
        while (action := self.state(stack[-1]).actions.get(terminal)) is not None:
            if action >= 0:
                return True
            reduction = self.reductions[-1 - action]
            del stack[len(stack) - reduction.length :]
            stack.append(self.state(stack[-1]).gotos[reduction.left])
        return False


def _pairs(row: str) -> dict[int, int]:
    return {int(key): int(value) for key, _, value in [pair.partition(":") for pair in row.split()]}


@cache
def tables() -> Tables:
    """The tables of the map language. Reads the packaged file on the first call."""
    import json

    with open(_TABLES, encoding="utf-8") as file:
        return Tables(json.load(file))


def drive(text: str, actions: Mapping[str, Action]) -> Any:
    """What `actions` make of `text`: the value of the action named `start`. There is one for each rule or alias of the grammar.

    Raises:
        Unexpected: the text is not of the language.
        TooDeep: brackets are nested more than `DEPTH` deep.
    """
    return _Run(text, tables(), actions).value()


class _Run:
    """One text being read."""

    def __init__(self, text: str, tables: Tables, actions: Mapping[str, Action]) -> None:
        self._text = text
        self._tables = tables
        self._actions = [actions.get(reduction.name) for reduction in tables.reductions]
        self._stack = [0]
        self._values: list[Any] = []
        self._starts: list[int] = []
        self._last: Token | None = None
        self._last_end = 0
        self._opened: list[int] = []
        self._quoted: int | None = None

    def value(self) -> Any:
        """Everything."""
        stack, names, state_of = self._stack, self._tables.names, self._tables.state
        while True:
            before = list(stack)
            terminal, start, end = self._next(state_of(stack[-1]))
            while (action := state_of(stack[-1]).actions.get(terminal)) is not None and action < 0:
                self._reduce(self._tables.reductions[-1 - action], -1 - action, start)
            if action is None:
                raise self._unexpected(start, (names[terminal], self._text[start:end], start), before)
            if not terminal:
                return self._values[-1]
            token = (names[terminal], self._text[start:end], start)
            stack.append(action)
            self._values.append(token)
            self._starts.append(start)
            self._last, self._last_end = token, end
            self._follow(token)

    def _next(self, state: _State) -> tuple[int, int, int]:
        """The next token: its terminal, and where it begins and ends. 0 is the end of the text."""
        text, tables, position = self._text, self._tables, self._last_end
        while True:
            if not state.verbatim:
                position = tables.skip(text, position).end()  # type: ignore[union-attr]
            if position >= len(text):
                return 0, position, position
            for terminal, literal, find, words in state.candidates:
                if literal is not None:
                    if text.startswith(literal, position):
                        return terminal, position, position + len(literal)
                elif (match := find(text, position)) is not None:  # type: ignore[misc]
                    end = match.end()
                    return (terminal if words is None else words.get(text[position:end], terminal)), position, end
            newline = tables.newline(text, position)
            if newline is None:
                raise self._unexpected(position, None, self._stack)
            if self._quoted is not None or not (self._opened or (self._last and self._last[0] in CONTINUING)):
                return tables.names.index("_NEWLINE"), position, newline.end()
            position = newline.end()

    def _follow(self, token: Token) -> None:
        """Keep account of brackets and quotes."""
        kind, _, offset = token
        if kind in OPENING:
            if len(self._opened) == DEPTH:
                raise TooDeep(offset)
            self._opened.append(offset)
        elif kind in CLOSING:
            self._opened.pop()
        elif kind == "QUOTE":
            self._quoted = offset if self._quoted is None else None

    def _reduce(self, reduction: _Reduction, number: int, lookahead: int) -> None:
        stack, values, starts = self._stack, self._values, self._starts
        first = len(values) - reduction.length
        symbols = values[first:]
        start = starts[first] if symbols else lookahead
        del stack[first + 1 :], values[first:], starts[first:]
        children = symbols if reduction.children is None else _chosen(symbols, reduction.children)
        if reduction.standing == 1:
            value: Any = children
        elif reduction.standing == 2 and len(children) == 1:
            value = children[0]
        else:
            value = self._actions[number](children, start, self._last_end)  # type: ignore[misc]
        stack.append(self._tables.state(stack[-1]).gotos[reduction.left])
        values.append(value)
        starts.append(start)

    def _unexpected(self, offset: int, token: Token | None, stack: list[int]) -> Unexpected:
        expected = self._tables.expected(stack)
        return Unexpected(offset, token, self._last, self._last_end, self._opened, self._quoted, expected)


def _chosen(symbols: list[Any], children: list[int | None]) -> list[Any]:
    """The symbols that are children; see `_children` in `schemas/compile.py`."""
    chosen: list[Any] = []
    for code in children:
        if code is None:
            chosen.append(None)
        elif code & 1:
            inner = symbols[code >> 1]
            # The list so far goes on, rather than a copy of it: a long one would be copied again for every item.
            if chosen:
                chosen += inner
            else:
                chosen = inner
        else:
            chosen.append(symbols[code >> 1])
    return chosen
