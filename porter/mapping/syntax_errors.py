"""Says in words what is wrong with a text that is no map: what was found, what may stand there, and what was perhaps meant."""

from __future__ import annotations

import re
from collections.abc import Callable

from porter.errors import MapError
from porter.mapping.lalr import Token, Unexpected
from porter.mapping.syntax import MapText, Span
from porter.mapping.tree_building import LAYOUT_WORDS

_FOUND = re.compile(r'"(?:[^"\\\n]|\\.)*"|[-=<>~:|]*[-=<~:]>|<[-=]+|[:=]=+|\.{2,3}|//|/\*|\w[\w.]*|.', re.DOTALL)
"""What a reader would take for one thing."""

_ARROWS = "'->' is one way, '<->' both ways"
_REGEX = (
    "names are no regular expressions: '{i:int}' is a number, '{p}' any text, '{k:q|k|v}' one of some words; "
    "a name with such characters stands in quotes"
)

_MISTAKES = (
    (r"<-(?!>)|<--|<=(?!>)", "a rule is read from left to right: 'source -> target', or '<->' for both ways"),
    (r"<?=+>|<?-{2,}>|<?~>|[→⇒↔⇔➔]|<?[–—−]+>|>", _ARROWS),
    (r":=|==", "'a = b' makes two names one tensor, 'a -> b' renames, 'a : o i' names axes"),
    (r"//|/\*|--|%", "a comment begins with '#'"),
    (r"\\|\^", _REGEX),
    (r"['‘’“”«»`]", "names and texts are quoted with '\"'"),
    (r";", "a statement ends with its line, without ';'"),
    (
        r"[\u00a0\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\x0b]",
        "this character only looks like a blank or like nothing: type a blank",
    ),
    (r"\r", "lines end with a line feed, or a carriage return and a line feed; save the file with either"),
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
    if ended or source[offset] == "\n" or (problem.token is not None and problem.token[0] == "_NEWLINE"):
        found, place = ("the end of the map" if ended else "the end of the line"), span(problem.last_end, problem.last_end + 1)
    else:
        offset = _beginning(problem, source)
        match = _FOUND.match(source, offset)
        there = match.group() if match else source[offset]
        place = span(offset, offset + len(there))
        found = f"'{there[:40]}{'…' if len(there) > 40 else ''}'"
    message = f"found {found}, where {_allowed(problem)} should stand"
    if offset < problem.offset and found not in ("'->'", "'<->'"):
        message = f"{found} means nothing in a map"
    return place.error("M001", message, hint=_hint(problem, source, offset, span))


def _beginning(problem: Unexpected, source: str) -> int:
    """Where that begins which a reader would take for one thing: in `a => b` the parser stops at `>`, and the mistake is `=>`."""
    last = problem.last
    if last is not None and last[1] in ("=", ":", "-", "|", "<", "/") and problem.last_end == problem.offset:
        match = _FOUND.match(source, last[2])
        if match is not None and match.end() > problem.offset:
            return last[2]
    return problem.offset


def _allowed(problem: Unexpected) -> str:
    """What may stand there, in words."""
    expected = problem.expected
    if "THEN" in expected:
        return "a statement"
    # What a name goes on with is said only where a name can do nothing else.
    said = expected - _UNSAID or expected
    if "NAME" in said:
        said -= {"LBRACE"}
    if not said & {"COMMA", "RSQB"}:
        said -= {"MARK"}
    phrases = list(dict.fromkeys(phrase for name, phrase in _PHRASES.items() if name in said))
    phrases += sorted(f"'{name.strip('_').lower()}'" for name in said if name not in _PHRASES)
    return ", ".join(phrases[:-1]) + " or " + phrases[-1] if len(phrases) > 1 else phrases[0]


def _hint(problem: Unexpected, source: str, offset: int, span: Callable[[int, int], Span]) -> str | None:
    """What was perhaps meant. `offset` is where that begins."""
    here = source[offset : offset + 6]
    last = problem.last
    if last is not None and "\n" not in source[problem.last_end : offset]:
        for hint_of in (_hint_of_names, _hint_of_statements, _hint_of_axes, _hint_of_captures):
            if (hint := hint_of(problem, last, here)) is not None:
                return hint
    if problem.opened and (here.startswith(("->", "<->")) or "\n" in source[problem.opened[-1] : offset]):
        opened = problem.opened[-1]
        where = f" on line {span(opened, opened + 1).line}" if "\n" in source[opened:offset] else ""
        return f"the '{source[opened]}'{where} is still open: '{_CLOSED_BY[source[opened]]}' closes it"
    hint = next((hint for pattern, hint in _MISTAKES if re.match(pattern, here)), None)
    if hint is None and problem.opened and source[problem.opened[-1]] == "{" and "RBRACE" in problem.expected:
        return "a capture ends with '}': '{p}', '{i:int}', '{i-1}', '{k:q|k|v}'"
    return hint


def _hint_of_names(problem: Unexpected, last: Token, here: str) -> str | None:
    """A mistake in a name, or because of one that stands before."""
    kind, word, _ = last
    in_name = kind in ("NAME", "MORE")
    if in_name and word == "where":
        return "a statement ends with its line: end the line before with 'where'"
    if in_name and word.startswith(("//", "--")):
        return "a comment begins with '#'"
    if in_name and here.startswith("("):
        return "name the axes on both sides: 'a : o i <-> b : i o' transposes" if word in LAYOUT_WORDS else _REGEX
    if in_name and ":" in word and "ARROW" in problem.expected and here[:1] not in "=-<":
        return f"put a blank after ':' where it begins the axes: '{word.replace(':', ' : ', 1)}'"
    ends_name = in_name or kind in ("RBRACE", "NEXT_STAR", "STAR", "QUOTE")
    if ends_name and problem.expected & {"ARROW", "COLON"} and re.match(r"[\w{*.\"]", here):
        return f"an arrow stands between two names: {_ARROWS}; a name with blanks in it is quoted"
    return None


def _hint_of_statements(problem: Unexpected, last: Token, here: str) -> str | None:
    """A mistake in how a statement begins or goes on."""
    kind, word, _ = last
    if kind == "_NEWLINE" and re.match(r"\||<?->|,", here):
        return "a statement ends with its line: put this at the end of the line before"
    if kind == "RSQB" and here.startswith("["):
        return "'[e]' stands after a single name"
    if kind == "EXPECT" and re.match(r"sourc|targ|src|dst", here):
        return f"did you mean '{'sources' if here[0] == 's' else 'targets'}'?"
    if "SIZE" not in problem.expected and problem.expected == {"EQUAL"}:
        return "a row of a table is 'left=right'" if kind in ("CELL", "STRING") else "sizes are written 'where h=7, w=7'"
    keywords = ("REST", "PARAM", "TABLE", "INCLUDE", "EXPECT", "FILL", "OPTIONAL", "THEN", "DROP", "KEEP")
    if kind in keywords and re.match(r"<?->|:|=|[|?\[.{*]", here):
        return f"a tensor named '{word}' is quoted: \"{word}\""
    return None


def _hint_of_axes(problem: Unexpected, last: Token, here: str) -> str | None:
    """A mistake in an axis pattern."""
    if "AXIS" in problem.expected and here.startswith("+"):
        return "a sum stands in parentheses, as blocks of one dimension: '(q + k + v)'"
    if "AXIS" in problem.expected and here.startswith(","):
        return "blanks stand between axes"
    if "AXIS" in problem.expected and here.startswith(")"):
        return "'()' stands alone, for a tensor without axes; an axis of one element is '1'"
    if "STACK" in problem.expected:
        return "'[e]' stacks along a new first axis the tensors that capture 'e' of the other side counts; a range is '{i:0..9}'"
    return None


def _hint_of_captures(problem: Unexpected, last: Token, here: str) -> str | None:
    """A mistake in a capture or a number."""
    if last[0] == "WIDTH" and here.startswith(".."):
        return f"padded numbers of a range: '{{i:{len(last[1]):02}:0..9}}'"
    if "INT" in problem.expected and re.match(r"0[0-9]", here):
        return "an integer has no leading zeros"
    if "VARIABLE" in problem.expected and here.startswith("}"):
        return "a capture has a name: '{p}'"
    if "FIRST_WORD" in problem.expected and re.match(r"[\\.\[^]", here):
        return _REGEX
    return None
