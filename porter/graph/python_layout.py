"""Python source as `ruff format` leaves it: literals, and statements broken where they are longer than a line.

A statement is made as one line of text and broken here: at its last bracket where that is enough, one item a line where it is not,
and within parentheses where there is no bracket to break at.

Source: the Black code style (black.readthedocs.io, "The Black code style"), which `ruff format` follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

WIDTH = 88
"""Characters of a line, ruff's default."""

_INDENT = "    "
_LARGEST = 3.4028234663852886e38
_BINDING = (("==", "!=", "<", "<=", ">", ">="), ("|",), ("^",), ("&",), ("<<", ">>"), ("+", "-"), ("*", "/", "//", "%"))
_LEVELS = {sign: level for level, signs in enumerate(_BINDING) for sign in signs}
"""How strongly operators bind."""

_OPEN, _CLOSE = "([{", ")]}"


def text_literal(text: str) -> str:
    """A string in ASCII, in the quotes that need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_character(c, quote) for c in text) + quote


def _character(c: str, quote: str) -> str:
    if c in (quote, "\\"):
        return "\\" + c
    if " " <= c <= "~":
        return c
    code = ord(c)
    if c in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[c]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def float_literal(value: float, bits: int = 32) -> str:
    """The shortest decimal that is this value again in a float of so many bits."""
    import numpy as np

    if not math.isfinite(value):
        return f'float("{value}")'
    short = float(value) if bits == 64 else float(str(np.float32(value)))
    # PyTorch refuses what is above the largest float32, and rounds nothing down to it.
    text = repr(float(value) if abs(short) > _LARGEST else short)
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def tuple_literal(items: Iterable[object]) -> str:
    """A tuple of things that are written as they are."""
    parts = [str(item) for item in items]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def statement(text: str, depth: int) -> list[str]:
    """The lines of one statement, given as one line without its indentation."""
    indent = _INDENT * depth
    if len(indent) + len(text) <= WIDTH:
        return [indent + text]
    head, value = assignment(text)
    if not value:
        return _broken(indent, text, "")
    start = _last_group(value)
    targets = _split(head.removesuffix(" = "), ", ")
    if len(targets) > 1 and len(indent) + len(head) + (start or len(value)) + 1 > WIDTH:
        lines = _items(indent, "(", targets, ") = ")
        return lines[:-1] + _broken(indent, f") = {value}", "")
    if _operators(value) or len(_split(value, ", ")) > 1:
        return _parenthesised(indent, head, value)
    if start is not None and len(indent) + len(head) + start + 1 <= WIDTH:
        return _broken(indent, text, "")
    if head and start is None and len(indent) + len(_INDENT) + len(value) > WIDTH:
        return [indent + text]
    return _parenthesised(indent, head, value)


def assignment(text: str) -> tuple[str, str]:
    """`target = ` or `return ` and what follows; the whole text and nothing for other statements."""
    if text.startswith("return "):
        return "return ", text[len("return ") :]
    place = _find(text, " = ")
    return (text[: place + 3], text[place + 3 :]) if place is not None else (text, "")


def _parenthesised(indent: str, head: str, value: str, tail: str = ")") -> list[str]:
    """The value in parentheses of its own: on one line, or broken before each operator, or one item a line for a bare tuple."""
    items = _split(value, ", ")
    if len(items) > 1:
        return _items(indent, f"{head}(", items, tail)
    inner = indent + _INDENT
    if len(inner) + len(value) <= WIDTH:
        return [f"{indent}{head}(", inner + value, indent + tail]
    lines = [line for part in _operators(value) or [value] for line in _broken(inner, part, "")]
    return [f"{indent}{head}(", *lines, indent + tail]


def _broken(indent: str, text: str, end: str) -> list[str]:
    """`text` and `end` on one line if they fit, else broken at the last bracket."""
    if len(indent) + len(text) + len(end) <= WIDTH:
        return [indent + text + end]
    start = _last_group(text)
    if start is None:
        return [indent + text + end]
    close = _matching(text, start)
    head, bare, tail = text[: start + 1], text[start + 1 : close], text[close:] + end
    collection = start == 0 or not (text[start - 1].isalnum() or text[start - 1] in "_)]")
    inner = bare.rstrip(",")
    items = _split(inner, ", ")
    if collection and text[start] == "(" and inner == bare and len(items) == 1:
        # These only group what is within them: a comma would make a tuple of it.
        return _parenthesised(indent, head[:-1], inner, tail)
    # One subscript and a comma are a tuple, one subscript alone is none.
    subscript = text[start] == "[" and not collection and inner == bare
    if not collection and (subscript or text[start] == "(") and len(indent) + len(_INDENT) + len(inner) <= WIDTH:
        return [indent + head, indent + _INDENT + inner, indent + tail]
    return _items(indent, head, items, tail, comma=not (subscript and len(items) == 1) and _find(inner, " for ") is None)


def _items(indent: str, head: str, items: Sequence[str], tail: str, comma: bool = True) -> list[str]:
    lines = [indent + head]
    for item in items:
        lines += _broken(indent + _INDENT, item, "," if comma else "")
    return [*lines, indent + tail]


# ---- brackets and operators ------------------------------------------------------------------------------------------


def _depths(text: str) -> list[int]:
    """For each character how many brackets are open around it; -1 within a string."""
    found, depth, quote, escaped = [], 0, "", False
    for c in text:
        if quote:
            found.append(-1)
            if escaped:
                escaped = False
            elif c == "\\":
                escaped = True
            elif c == quote:
                quote = ""
            continue
        if c in "\"'":
            quote = c
            found.append(-1)
            continue
        if c in _CLOSE:
            depth -= 1
        found.append(depth)
        if c in _OPEN:
            depth += 1
    return found


def _find(text: str, mark: str) -> int | None:
    depths = _depths(text)
    place = text.find(mark)
    while place != -1 and depths[place] != 0:
        place = text.find(mark, place + 1)
    return None if place == -1 else place


def _split(text: str, mark: str) -> list[str]:
    """`text` cut at every `mark` outside brackets and strings."""
    depths, parts, start = _depths(text), [], 0
    place = text.find(mark)
    while place != -1:
        if depths[place] == 0:
            parts.append(text[start:place])
            start = place + len(mark)
        place = text.find(mark, place + 1)
    return [*parts, text[start:]]


def _operators(text: str) -> list[str]:
    """The operands of the operators outside brackets that bind least, each but the first with its operator before it."""
    depths = _depths(text)
    found: list[tuple[int, int]] = []
    for place, c in enumerate(text):
        if c == " " and depths[place] == 0:
            level = _LEVELS.get(text[place + 1 : place + 3].strip())
            if level is not None and (text[place + 3 : place + 4] == " " or text[place + 2 : place + 3] == " "):
                found.append((level, place))
    if not found:
        return []
    least = min(level for level, _ in found)
    places = [place for level, place in found if level == least]
    starts, ends = [0, *(place + 1 for place in places)], [*places, len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _last_group(text: str) -> int | None:
    """Where the bracket opens that closes at the end of `text`."""
    if not text or text[-1] not in _CLOSE:
        return None
    depths = _depths(text)
    opened = [i for i, c in enumerate(text) if c in _OPEN and depths[i] == 0]
    return opened[-1] if opened else None


def _matching(text: str, start: int) -> int:
    depths = _depths(text)
    return next(i for i in range(start + 1, len(text)) if text[i] in _CLOSE and depths[i] == depths[start])
