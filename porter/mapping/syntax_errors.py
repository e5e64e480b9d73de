"""Says in words what is wrong with a text that is no map: what was found, what may stand there, and what was perhaps meant."""

from __future__ import annotations

import re
from collections.abc import Callable

from porter.errors import MapError
from porter.mapping.lalr import Token, Unexpected
from porter.mapping.syntax import MapText, Span
from porter.mapping.tree_building import LAYOUT_WORDS

_FOUND = re.compile(r'"(?:[^"\\\n]|\\.)*"|[-=<>~:|]*[-=<~:]>|<[-=]+|[:=]=+|\.{2,3}|\w[\w.]*|.', re.DOTALL)
"""What a reader would take for one thing."""

_ARROWS = "'->' is one way, '<->' both ways"
_REGEX = "names are no regular expressions: '{i:int}' is a number, '{p}' any text, '{k:q|k|v}' one of some words; a name as it is stands in quotes"

_MISTAKES = (
    (r"<-(?!>)|<--|<=(?!>)", "a rule is read from left to right: 'source -> target', or '<->' for both ways"),
    (r"<?=+>|<?-{2,}>|<?~>|[→⇒↔⇔➔]|<?[–—−]+>|>", _ARROWS),
    (r":=|==", "'a = b' makes two names one tensor, 'a -> b' renames, 'a : o i' names axes"),
    (r"\\|\^", _REGEX),
    (r"['‘’“”«»`]", "names and texts are quoted with '\"'"),
    (r";", "a statement ends with its line, without ';'"),
    (
        r"[\u00a0\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\x0b]",
        "this character only looks like a blank or like nothing: type a blank",
    ),
    (r"\r", "lines end with a line feed, or a carriage return and a line feed; save the file with either"),
    (r"[()&]", 'a name with this character is quoted: "a(b)"'),
)
"""What stands there, and what to write instead."""

_PHRASES = {
    "NAME": "a tensor name",
    "ARROW": "'->' or '<->'",
    "LABEL": "a label",
    "AXIS": "an axis",
    "STACK": "the capture that counts the tensors",
    "SIZE": "the name of an axis",
    "OPERATION": "an operation",
    "TABLE_NAME": "the name of the table",
    "PARAM_NAME": "the name of the parameter",
    "TYPE": "a type",
    "DOTTED": "what computes the table",
    "VARIABLE": "a name",
    "INT": "a number",
    "FLOAT": "a number",
    "STRING": "a text in quotes",
    "CELL": "a word",
    "WORD": "a word",
    "FIRST_WORD": "words with '|' between them",
    "WIDTH": "a width such as 03",
    "_NEWLINE": "the end of the line",
    "TEXT": "the rest of the name and '\"'",
    "MARK": "'?'",
    "COLON": "':'",
    "LSQB": "'['",
    "LPAR": "'('",
    "LBRACE": "'{'",
    "VBAR": "'|'",
    "EQUAL": "'='",
    "COMMA": "','",
    "PLUS": "'+'",
    "SIGN": "'-'",
    "TIMES": "'*'",
    "OVER": "'/'",
    "_TO": "'..'",
    "_ELLIPSIS": "'...'",
    "RSQB": "']'",
    "RPAR": "')'",
    "RBRACE": "'}'",
}
"""What to call terminals, in the order in which to list them; the others are words and called by their names."""

_UNSAID = {"$END", "STEM", "STAR", "QUOTE", "MORE", "NEXT_STAR", "_NEXT_BRACE", "INF", "NAN"}
"""Further ways for something to begin or go on that is said already."""

_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}


def explained(problem: Unexpected, text: MapText, span: Callable[[int, int], Span]) -> MapError:
    """The error for `problem`; `span` makes places of offsets."""
    source, offset = text.text, problem.offset
    ended = offset >= len(source)
    if problem.quoted is not None and (ended or source[offset] in "\r\n"):
        return span(problem.quoted, problem.quoted + 1).error(
            "M013", "a quote is opened here and not closed on its line", hint="a quote within a name or a text is written '\\\"'"
        )
    if ended and problem.opened:
        bracket = source[problem.opened[-1]]
        return span(problem.opened[-1], problem.opened[-1] + 1).error(
            "M013", f"'{bracket}' is opened here and never closed", hint=f"write '{_CLOSED_BY[bracket]}' where it ends"
        )
    if ended or (source[offset] in "\r\n" and not problem.token) or (problem.token and problem.token[0] == "_NEWLINE"):
        found, place = ("the end of the map" if ended else "the end of the line"), span(problem.last_end, problem.last_end + 1)
    else:
        match = _FOUND.match(source, offset)
        found = match.group() if match else source[offset]
        place = span(offset, offset + len(found))
        found = f"'{found[:40]}{'…' if len(found) > 40 else ''}'"
    message = f"found {found}, where {_allowed(problem)} should stand"
    return place.error("M001", message, hint=_hint(problem, source, span))


def _allowed(problem: Unexpected) -> str:
    """What may stand there, in words."""
    expected = problem.expected
    if "THEN" in expected:
        return "a statement"
    # What a name goes on with is said only where a name can do nothing else.
    said = expected - _UNSAID or expected
    if "NAME" in said:
        said = said - {"LBRACE"}
    phrases = list(dict.fromkeys(phrase for name, phrase in _PHRASES.items() if name in said))
    phrases += sorted(f"'{name.strip('_').lower()}'" for name in said if name not in _PHRASES)
    return ", ".join(phrases[:-1]) + " or " + phrases[-1] if len(phrases) > 1 else phrases[0]


def _hint(problem: Unexpected, source: str, span: Callable[[int, int], Span]) -> str | None:
    """What was perhaps meant."""
    offset, last = problem.offset, problem.last
    hint = _hint_by_place(problem, source, last) if last is not None else None
    if hint is None:
        hint = next((hint for pattern, hint in _MISTAKES if re.compile(pattern).match(source, offset)), None)
    if hint is None and problem.opened:
        bracket, place = problem.opened[-1], span(problem.opened[-1], problem.opened[-1] + 1)
        if "\n" in source[bracket:offset]:
            hint = f"the '{source[bracket]}' on line {place.line} is still open: '{_CLOSED_BY[source[bracket]]}' closes it"
    return hint


def _hint_by_place(problem: Unexpected, source: str, last: Token) -> str | None:
    """A mistake that the token before shows."""
    kind, word, _ = last
    expected, here = problem.expected, source[problem.offset : problem.offset + 6]
    in_name = kind in ("NAME", "MORE")
    if kind == "_NEWLINE" and re.match(r"\||<?->|,", here):
        return "a statement ends with its line: put this at the end of the line before"
    if in_name and word == "where":
        return "a statement ends with its line: end the line before with 'where'"
    if in_name and word.startswith(("//", "--")):
        return "a comment begins with '#'"
    if in_name and word in LAYOUT_WORDS and here.startswith("("):
        return "name the axes on both sides: 'a : o i <-> b : i o' transposes"
    if in_name and ":" in word and "ARROW" in expected and here[:1] not in "=-<":
        return f"put a blank after ':' where it begins the axes: '{word.replace(':', ' : ', 1)}'"
    if (in_name and here.startswith("(")) or (kind == "STEM" and here.startswith("+")):
        return _REGEX
    if "_NEXT_BRACE" in expected | {"_NEXT_BRACE"} and kind in ("NAME", "MORE", "RBRACE", "NEXT_STAR", "STAR") and "ARROW" in expected:
        if re.match(r"[\w{*./]", here):
            return "a name has no blanks; one with blanks is quoted"
    if "AXIS" in expected and here.startswith("+"):
        return "a sum stands in parentheses, as blocks of one dimension: '(q + k + v)'"
    if "AXIS" in expected and here.startswith(","):
        return "blanks stand between axes"
    if kind == "RSQB" and here.startswith("["):
        return "'[e]' stands after a single name"
    if "STACK" in expected:
        return "'[e]' stacks along a new first axis the tensors that capture 'e' of the other side counts; a range is '{i:0..9}'"
    if kind == "WIDTH" and here.startswith(".."):
        return f"padded numbers of a range: '{{i:{len(word):02}:0..9}}'"
    if "INT" in expected and re.match(r"0[0-9]", here):
        return "an integer has no leading zeros"
    if "VARIABLE" in expected and here.startswith("}"):
        return "a capture has a name: '{p}'"
    if kind in ("REST", "PARAM", "TABLE", "INCLUDE", "EXPECT", "FILL", "OPTIONAL", "THEN", "DROP", "KEEP") and re.match(
        r"<?->|:|=|[|?\[.{*]", here
    ):
        return f"a tensor named '{word}' is quoted: \"{word}\""
    return None
