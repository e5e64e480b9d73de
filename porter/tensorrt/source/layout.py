"""C++ as people write it by hand: literals, and statements broken where they are longer than a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH = 140
"""Characters of a line."""

INDENT = "    "
_LOWEST = -(1 << 63)


def text_literal(text: str) -> str:
    """A string in ASCII; every other byte of its UTF-8 in octal, which ends after three digits whatever follows."""
    body = "".join(_byte(b) for b in text.encode("utf-8", "surrogateescape"))
    return f'"{body.replace("??", "?" + chr(92) + "?")}"'


def _byte(b: int) -> str:
    if b in b'"\\':
        return "\\" + chr(b)
    return chr(b) if 0x20 <= b < 0x7F else {0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r"}.get(b, f"\\{b:03o}")


def float_literal(value: float) -> str:
    """The shortest decimal that is this value again as a float."""
    import numpy as np

    if not math.isfinite(value):
        sign = "-" if value < 0 else ""
        return f"{sign}std::numeric_limits<float>::{'quiet_NaN' if math.isnan(value) else 'infinity'}()"
    return f"{_decimal(str(np.float32(value)))}F"


def double_literal(value: float) -> str:
    """The shortest decimal that is this value again as a double; what was a float is shorter as one, and is the same then."""
    import numpy as np

    exact, short = _decimal(repr(float(value))), str(np.float32(value))
    return f"{_decimal(short)}F" if float(np.float32(value)) == value and len(short) < len(exact) - 1 else exact


def _decimal(text: str) -> str:
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def integer_literal(value: int) -> str:
    """An integer of 64 bits."""
    return "std::numeric_limits<std::int64_t>::min()" if value == _LOWEST else str(value)


def statement(text: str, depth: int) -> list[str]:
    """The lines of one statement, given as one line; where it is too long, it goes on in the next after an argument."""
    indent = INDENT * depth
    if len(indent) + len(text) <= WIDTH:
        return [indent + text]
    lines, line = [], indent
    for piece in _pieces(text):
        if len(line.rstrip()) + len(piece.rstrip()) > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent + INDENT
        line += piece
    return [*lines, line.rstrip()]


def _pieces(text: str) -> Sequence[str]:
    """The text cut behind each comma that is neither within a string nor between braces."""
    pieces, start, depth, quoted, escaped = [], 0, 0, False, False
    for i, c in enumerate(text):
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = quoted
        elif c == '"':
            quoted = not quoted
        elif not quoted:
            depth += (c == "{") - (c == "}")
            if c == "," and depth <= 0 and text[i + 1 : i + 2] == " ":
                pieces.append(text[start : i + 2])
                start = i + 2
    return [*pieces, text[start:]]
