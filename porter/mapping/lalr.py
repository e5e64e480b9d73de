"""Reads text by the tables of a grammar: an LALR(1) parser, and a lexer that looks for what the parser can use next.

lark makes the tables from `schemas/pmap.lark` (`schemas/compile.py`) and would read maps just so; but importing lark takes
several times as long as reading a map, and longer than many a conversion.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_TABLES = os.path.join(os.path.dirname(__file__), "pmap_tables.json")

DEPTH = 48
"""How deep brackets may be nested: trees of maps are walked by functions that call themselves."""

OPENING = frozenset({"LPAR", "LSQB", "LBRACE", "_NEXT_BRACE"})
CLOSING = frozenset({"RPAR", "RSQB", "RBRACE"})
CONTINUING = frozenset({"VBAR", "ARROW", "COMMA", "_WHERE"})
"""Tokens after which a line goes on on the next one."""

_COUNTED = OPENING | CLOSING | {"QUOTE"}
_SKIPPED = frozenset(" \t\f\r#")
"""With what that stands between tokens begins."""

Token = tuple[str, str, int]
"""Terminal, text and offset."""

Action = Callable[[list[Any], int, int], Any]
"""Makes a node of its children, and of the offsets where it begins and ends. A child is a token, a node or None."""

_Candidate = tuple[int, str | None, Mapping[str, int] | None]
"""A terminal to look for: its number, its text where that is always the same, and which texts are other terminals."""


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
    """What to do in one state of the parser. `scanner` gives the terminals to look for by the character that stands there."""

    __slots__ = ("actions", "gotos", "scanner", "verbatim")

    def __init__(self, actions: dict[int, int], gotos: dict[int, int], scanner: _Scanner) -> None:
        self.actions = actions
        self.gotos = gotos
        self.scanner = scanner
        self.verbatim = scanner.verbatim


class _Scanner(dict[str, list[_Candidate]]):
    """The terminals that some states look for, by the character that they may begin with, in the order to try them."""

    def __init__(self, tables: Tables, order: list[int], words: Mapping[str, Mapping[str, int]]) -> None:
        self._tables = tables
        self._order = order
        self._words = words
        self.verbatim = tables.verbatim in order

    def __missing__(self, character: str) -> list[_Candidate]:
        made = (self._tables.candidate(terminal, character, self._words.get(str(terminal))) for terminal in self._order)
        found = self[character] = [candidate for candidate in made if candidate is not None]
        return found


class _Finders(dict[int, Callable[[str, int], Any]]):
    """How to find terminals. Compiling an expression takes longer than reading many lines, and most maps need few."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __missing__(self, terminal: int) -> Callable[[str, int], Any]:
        import re

        find = self[terminal] = re.compile(self._tables.pattern(self._tables.names[terminal])).match
        return find


class Tables:
    """The tables of a grammar. A map uses few of the states, so each is put together when the parser first gets there."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        import re

        self.names: list[str] = [terminal[0] for terminal in content["terminals"]]
        self.newline_terminal = self.names.index("_NEWLINE")
        self.verbatim = self.names.index("TEXT")
        self._content = content
        self.finders = _Finders(self)
        self.skip = re.compile(content["ignored"]).match
        self.newline = re.compile(self.pattern("_NEWLINE")).match
        self.rules: list[tuple[str, int, int, list[int | None] | None, int]] = content["rules"]
        self._states: list[_State | None] = [None] * len(content["states"])
        self._scanners: dict[int, _Scanner] = {}

    def pattern(self, terminal: str) -> str:
        """The regular expression of a terminal."""
        pattern: str = self._content["terminals"][self.names.index(terminal)][2]
        return pattern

    def state(self, number: int) -> _State:
        """State `number`."""
        state = self._states[number]
        if state is None:
            actions, gotos, scanner = self._content["states"][number]
            if scanner not in self._scanners:
                self._scanners[scanner] = _Scanner(self, *self._content["scanners"][scanner])
            state = self._states[number] = _State(
                _pairs(self._content["actions"][actions]), _pairs(self._content["gotos"][gotos]), self._scanners[scanner]
            )
        return state

    def candidate(self, terminal: int, character: str, words: Mapping[str, int] | None) -> _Candidate | None:
        """How to look for a terminal where `character` stands; None if it cannot begin so. Newlines are looked for by themselves."""
        _, kind, pattern, first = self._content["terminals"][terminal]
        if terminal == self.newline_terminal or (character not in first and (kind == "str" or character < "\x80")):
            return None
        return terminal, pattern if kind == "str" else None, words

    def expected(self, stack: list[_State]) -> frozenset[str]:
        """The terminals that may come next. A state's actions name more: those that it allows in other surroundings."""
        return frozenset(self.names[terminal] for terminal in stack[-1].actions if self._takes(stack, terminal))

    def _takes(self, stack: list[_State], terminal: int) -> bool:
        stack = list(stack)
        while (action := stack[-1].actions.get(terminal)) is not None:
            if action >= 0:
                return True
            _, length, left, _, _ = self.rules[-1 - action]
            del stack[len(stack) - length :]
            stack.append(self.state(stack[-1].gotos[left]))
        return False


def _pairs(row: str) -> dict[int, int]:
    numbers = [int(number) for number in row.split()]
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


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
        self._actions = actions
        self._stack = [tables.state(0)]
        self._values: list[Any] = []
        self._starts: list[int] = []
        self._last: Token | None = None
        self._last_end = 0
        self._opened: list[int] = []
        self._quoted: int | None = None

    def value(self) -> Any:
        """Everything."""
        text, stack, values, starts = self._text, self._stack, self._values, self._starts
        state_of, names, rules = self._tables.state, self._tables.names, self._tables.rules
        while True:
            before = stack[:]
            terminal, start, end = self._next(stack[-1])
            action = stack[-1].actions.get(terminal)
            while action is not None and action < 0:
                _, length, left, children, standing = rule = rules[-1 - action]
                if standing == 2 and length == 1 and children is None:
                    stack.pop()  # what a symbol that stands for another is worth is that other's
                else:
                    self._reduce(rule, start)
                state = state_of(stack[-1].gotos[left])
                stack.append(state)
                action = state.actions.get(terminal)
            token = (names[terminal], text[start:end], start)
            if action is None:
                raise self._unexpected(start, token, before)
            if not terminal:
                return values[-1]
            stack.append(state_of(action))
            values.append(token)
            starts.append(start)
            self._last, self._last_end = token, end
            if token[0] in _COUNTED:
                self._follow(token)

    def _next(self, state: _State) -> tuple[int, int, int]:
        """The next token: its terminal, and where it begins and ends. 0 is the end of the text."""
        text, tables, position = self._text, self._tables, self._last_end
        while True:
            if not state.verbatim and text[position : position + 1] in _SKIPPED:
                position = tables.skip(text, position).end()  # type: ignore[union-attr]
            if position >= len(text):
                return 0, position, position
            first = text[position]
            for terminal, literal, words in state.scanner[first]:
                if literal is not None:
                    if text.startswith(literal, position):
                        return terminal, position, position + len(literal)
                elif (match := tables.finders[terminal](text, position)) is not None:
                    end = match.end()
                    return (terminal if words is None else words.get(text[position:end], terminal)), position, end
            newline = tables.newline(text, position)
            if newline is None:
                raise self._unexpected(position, None, self._stack)
            if self._quoted is not None or not (self._opened or (self._last and self._last[0] in CONTINUING)):
                return tables.newline_terminal, position, newline.end()
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
        else:
            self._quoted = offset if self._quoted is None else None

    def _reduce(self, rule: tuple[str, int, int, list[int | None] | None, int], lookahead: int) -> None:
        """Put a node in place of the symbols that it is made of. The state is left to put."""
        name, length, _, chosen, standing = rule
        values, starts = self._values, self._starts
        if length:
            symbols = values[-length:]
            start = starts[-length]
            del self._stack[-length:], values[-length:], starts[-length:]
        else:
            symbols, start = [], lookahead
        children = symbols if chosen is None else _chosen(symbols, chosen)
        if standing == 1:
            values.append(children)
        elif standing == 2 and len(children) == 1:
            values.append(children[0])
        else:
            values.append(self._actions[name](children, start, self._last_end))
        starts.append(start)

    def _unexpected(self, offset: int, token: Token | None, stack: list[_State]) -> Unexpected:
        expected = self._tables.expected(stack)
        return Unexpected(offset, token, self._last, self._last_end, self._opened, self._quoted, expected)


def _chosen(symbols: list[Any], children: list[int | None]) -> list[Any]:
    """The symbols that are children; see `_children` in `schemas/compile.py`."""
    chosen: list[Any] = []
    for code in children:
        if code is None:
            chosen.append(None)
        elif not code & 1:
            chosen.append(symbols[code >> 1])
        elif chosen:
            chosen += symbols[code >> 1]
        else:
            # The list so far goes on, rather than a copy of it: a long one would be copied again for every item.
            chosen = symbols[code >> 1]
    return chosen
