"""Protocol buffers as text, read by names alone: any fork's prototxt, without its schema.

`parse` gives a tree of messages and scalars in the file's order, each with its line and column; unknown fields are
fields like any other. Comments are not kept.

NOTE for developers: the tokens are one regular expression of ours. The official `text_format` parser needs a schema and
has no public tokenizer; the private one takes 13 ms for the 83 kB of Inception-v3 after 23 ms of import, and makes no tree.
lark takes 34 ms to import and 87 ms for that file. This takes 17 ms for the tree, knows the place of everything, accepts
files that are not UTF-8, and takes the numbers of a text caffemodel in bulk (30 ns a byte). Repetition in the expressions
is possessive, so that no input makes them backtrack.

Source: protobuf.dev, "Text Format Language Specification"; where it and the C++ reader that Caffe uses differ (`f`
after floats, `;` as separator, fields by number), protocolbuffers/protobuf `src/google/protobuf/text_format.cc` (v3.20).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import cache
from typing import NoReturn, cast

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError
from porter.formats.caffe.message_tree import Field, Kind, Message, NumberRun, Scalar
from porter.io.source import FileSource

MAX_DEPTH = 100
MAX_FIELDS = 2_000_000
"""Fields that a tree may have, long runs of numbers counted once: a hundred times what the largest nets need."""

_PIECE = 1 << 20  # characters of a row of numbers to work on at a time, since each number becomes an object for a moment
_RUN = 8  # so many equal fields in a row, all numbers, make the rest of the row a `NumberRun`

_SPACE = r"(?>\s++|\#[^\n]*+)*+"
_INTEGER_OR_FLOAT = r"(?>[0-9]++\.?[0-9]*+|\.[0-9]++)(?>[eE][-+]?[0-9]++)?+"
_TOKEN = re.compile(
    rf"""{_SPACE}(?:
        (?P<identifier>[A-Za-z_][A-Za-z0-9_]*+)
      | (?P<number>[-+]?(?>0[xX][0-9a-fA-F]++|{_INTEGER_OR_FLOAT}[fF]?)(?![A-Za-z0-9_.]))
      | (?P<string>"(?>[^"\\\n]|\\[^\n])*+"|'(?>[^'\\\n]|\\[^\n])*+')
      | (?P<mark>[][:{{}}<>,;])
      | (?P<minus>-)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_PLAIN_NUMBER = rf"(?>-?(?!0[0-9]){_INTEGER_OR_FLOAT}|-?(?i:inf(?:inity)?|nan))(?![A-Za-z0-9_.])"
_NUMBER_LIST = re.compile(rf"\s*+{_PLAIN_NUMBER}(?>\s*+,\s*+{_PLAIN_NUMBER})*+\s*+(?=\])")
_EXTENSION = re.compile(r"\s*+([A-Za-z_][A-Za-z0-9_.]*+(?:/[A-Za-z0-9_.-]++)?)\s*+\]")
_WORD = re.compile(r"[^\s{}<>\[\],;:#\"']{1,40}+")
_NUMBER_WORDS = frozenset(sign + word for sign in ("", "-") for word in ("inf", "infinity", "nan"))
_CLOSER = {"{": "}", "<": ">", "[": "]"}


def parse(text: str, *, path: str | None = None, notices: list[str] | None = None) -> Message:
    """The tree of `text`. What was read although Caffe's own reader would refuse it is appended to `notices`.

    Raises:
        FormatError: with line, column and the line itself.
        UnsafeFileError: messages nest more than 100 deep, or there are more than two million fields.
    """
    return _Parser(text, path, notices if notices is not None else []).message()


@dataclass(slots=True)
class _Frame:
    """A message that is still open: the field it belongs to, the line and column where it began, its fields so far."""

    name: str
    begin: tuple[int, int]
    closer: str
    entries: list[Field | NumberRun]
    listed: bool = False  # whether it is an element of a list, which goes on behind it
    row: int = 0  # how many of the last entries are numbers of one name


class _Parser:
    def __init__(self, text: str, path: str | None, notices: list[str]) -> None:
        self.text = text
        self.path = path
        self.notices = notices
        self.line, self.line_start, self.counted = 1, 0, 0  # the line of the position up to which line ends were counted
        self.kind: str | None = None
        self.token = ""
        self.at = 0
        self.end = 0
        self.count = 0
        self.frames = [_Frame("", (1, 1), "", [])]

    def message(self) -> Message:
        """The whole text. A stack instead of recursion, so that depth costs nothing but its limit."""
        frame = self.frames[0]
        self.advance()
        while True:
            if self.kind == "identifier" or self.kind == "number" or self.token == "[":
                self.one_field(frame)
                frame = self.frames[-1]
            elif self.token == frame.closer and frame.closer:
                frame = self.close(frame)
            elif self.kind == "end" and len(self.frames) == 1:
                return Message(tuple(frame.entries))
            else:
                self.unexpected("a field's name" + (f" or '{frame.closer}'" if frame.closer else ""))

    def advance(self) -> None:
        """Make the next token the current one; `kind` is None where there is no token, and `token` the character there."""
        match = _TOKEN.match(self.text, self.end)
        if match is None:
            self.bad_token()
        self.kind = match.lastgroup
        self.token = match[self.kind or 0]
        self.end = match.end()
        self.at = self.end - len(self.token)

    def one_field(self, frame: _Frame) -> None:
        at, name = self.at, self.token
        if name == "[":
            name = self.extension()
        self.advance()
        colon = self.token == ":" and self.kind == "mark"
        if colon:
            self.advance()
        if self.kind == "mark" and self.token in ("{", "<"):
            self.open(name, at)
        elif not colon and self.token != "[":
            self.unexpected(f"':' or '{{' after '{name}'")
        elif self.kind == "mark" and self.token == "[":
            self.a_list(frame, name, at)
        else:
            value = self.scalar(f"a value for '{name}'")
            self.add(frame, name, value, self.place(at))
            if frame.row >= _RUN:
                self.a_run(frame, name)
            self.separator()

    def extension(self) -> str:
        match = _EXTENSION.match(self.text, self.end)
        if match is None:
            self.unexpected("a field's name", "names in brackets are extensions, as in [package.name]")
        self.end = match.end()
        return f"[{match[1]}]"

    def scalar(self, wanted: str) -> Scalar:
        """The value at the current token; the token behind it becomes the current one."""
        sign = ""
        if self.kind == "minus":
            sign = "-"
            self.advance()
            word = self.token.lower()
            if self.kind == "identifier" and not {word, word.removesuffix("f")} & _NUMBER_WORDS:
                self.unexpected("a number behind '-'")
        kind, token = self.kind, self.token
        if kind == "string" and not sign:
            return Scalar("string", self.strings())
        if kind not in ("number", "identifier") or (sign and token[0] in "+-"):
            self.unexpected(wanted)
        self.advance()
        return Scalar(cast(Kind, kind), sign + token)

    def strings(self) -> str:
        """The current string and those right behind it, which are one."""
        value = self.unquote()
        self.advance()
        while self.kind == "string":
            value += self.unquote()
            self.advance()
        return value

    def unquote(self) -> str:
        body = self.token[1:-1]
        if "\\" not in body:
            return body
        data, odd = unescape(body.encode("utf-8", "surrogateescape"))
        if odd:
            line, _ = self.place(self.at)
            self.notices.append(f"line {line}: '{odd}' is no escape; the backslash was kept (Caffe refuses such a file)")
        return data.decode("utf-8", "surrogateescape")

    def add(self, frame: _Frame, name: str, value: Scalar | Message, place: tuple[int, int]) -> None:
        line, column = place
        self.count += 1
        if self.count > MAX_FIELDS:
            raise UnsafeFileError("S150", f"the text has more than {MAX_FIELDS:,} fields", path=self.path, line=line, column=column)
        number = isinstance(value, Scalar) and (value.kind == "number" or value.text.lower() in _NUMBER_WORDS)
        last = frame.entries[-1] if frame.entries else None
        frame.row = (frame.row + 1 if last is not None and last.name == name else 1) if number else 0
        frame.entries.append(Field(name, value, line, column))

    def a_run(self, frame: _Frame, name: str) -> None:
        """Take the rest of a row of numbers at once. The current token is the one behind the last number."""
        match = _run_of(name).match(self.text, self.at)
        if match is None:
            return
        line, column = self.place(self.at)
        pieces = [_before(name).sub(" ", piece).strip() for piece in self.pieces(name, match.end())]
        frame.entries.append(NumberRun(name, " ".join(pieces), line, column))
        frame.row = 0
        self.end = match.end()
        self.advance()

    def pieces(self, name: str, end: int) -> Iterator[str]:
        """The text from the current token to `end`, in pieces of some size that each begin with a field `name`."""
        start = self.at
        while start < end:
            cut = _before(name).search(self.text, min(start + _PIECE, end), end)
            stop = cut.start() if cut else end
            yield self.text[start:stop]
            start = stop

    def a_list(self, frame: _Frame, name: str, at: int) -> None:
        match = _NUMBER_LIST.match(self.text, self.end)
        if match is not None and match[0].count(",") >= _RUN:
            line, column = self.place(at)
            frame.entries.append(NumberRun(name, re.sub(r"[\s,]+", " ", match[0]).strip(), line, column))
            frame.row = 0
            self.end = match.end()
            self.advance()
        else:
            self.advance()
            if not (self.kind == "mark" and self.token == "]"):
                self.elements(frame, name)
                return
        self.advance()
        self.separator()

    def elements(self, frame: _Frame, name: str) -> None:
        """Elements of a list up to its end, or up to a message, behind which `close` goes on."""
        while True:
            if self.kind == "mark" and self.token in ("{", "<"):
                self.open(name, self.at, listed=True)
                return
            at = self.at
            self.add(frame, name, self.scalar("a value in the list"), self.place(at))
            if self.after_element():
                return

    def after_element(self) -> bool:
        """Whether the list ends here; else the next element is the current token."""
        if self.kind == "mark" and self.token == "]":
            self.advance()
            self.separator()
            return True
        if not (self.kind == "mark" and self.token == ","):
            self.unexpected("',' or ']'")
        self.advance()
        return False

    def open(self, name: str, at: int, *, listed: bool = False) -> None:
        line, column = self.place(at)
        if len(self.frames) > MAX_DEPTH:
            raise UnsafeFileError("S004", f"messages nest more than {MAX_DEPTH} deep", path=self.path, line=line, column=column)
        self.frames.append(_Frame(name, (line, column), _CLOSER[self.token], [], listed))
        self.advance()

    def close(self, frame: _Frame) -> _Frame:
        """End the innermost message; the one around it."""
        self.frames.pop()
        outer = self.frames[-1]
        self.add(outer, frame.name, Message(tuple(frame.entries)), frame.begin)
        self.advance()
        if not frame.listed:
            self.separator()
        elif not self.after_element():
            self.elements(outer, frame.name)
        return self.frames[-1]

    def separator(self) -> None:
        if self.kind == "mark" and self.token in (",", ";"):
            self.advance()

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of a position, 1-based, in characters. Cheap where positions grow from call to call."""
        if at < self.counted:
            self.line, self.line_start, self.counted = 1, 0, 0
        ends = self.text.count("\n", self.counted, at)
        if ends:
            self.line += ends
            self.line_start = self.text.rfind("\n", self.counted, at) + 1
        self.counted = at
        return self.line, at - self.line_start + 1

    def fail(self, code: str, message: str, place: int | tuple[int, int], hint: str | None = None) -> NoReturn:
        """Refuse the text at `place`: a position, or a line and column further up."""
        if isinstance(place, int):
            line, column = self.place(place)
            start = self.line_start
        else:
            line, column = place
            start = 0
            for _ in range(line - 1):
                start = self.text.index("\n", start) + 1
        stop = self.text.find("\n", start)
        excerpt = self.text[start : stop if stop >= 0 else len(self.text)].rstrip("\r")
        raise FormatError(code, message, path=self.path, line=line, column=column, hint=hint, excerpt=excerpt)

    def unexpected(self, wanted: str, hint: str | None = None) -> NoReturn:
        if self.kind == "end":
            self.unclosed(wanted)
        if self.token in ("}", ">") and len(self.frames) == 1:
            self.fail("F150", f"'{self.token}' closes nothing", self.at, "there is one too many, here or further up")
        if self.token in ("}", ">", "]") and self.frames[-1].closer and self.token != self.frames[-1].closer:
            line = self.frames[-1].begin[0]
            hint = hint or f"'{self.frames[-1].name}', which opened on line {line}, ends with '{self.frames[-1].closer}'"
        shown = self.token if len(self.token) <= 40 else self.token[:37] + "..."
        self.fail("F150", f"expected {wanted}, found {shown if self.kind == 'string' else repr(shown)}", self.at, hint)

    def unclosed(self, wanted: str) -> NoReturn:
        frame = self.frames[-1]
        if len(self.frames) == 1:
            self.fail("F150", f"expected {wanted}, the file ends", self.at, "the file looks truncated")
        hint = "the file looks truncated, or a closing brace is missing"
        inner = next((e for e in frame.entries if e.name == frame.name), None)
        if inner is not None:
            hint = f"another '{frame.name}' begins inside it on line {inner.line}: the '{frame.closer}' is probably missing just before"
        self.fail("F151", f"'{frame.name}' is not closed when the file ends", frame.begin, hint)

    def bad_token(self) -> NoReturn:
        """Say what is wrong at the first character that begins no token."""
        space = re.compile(_SPACE).match(self.text, self.end)
        at = space.end() if space else self.end
        first = self.text[at]
        if first in "\"'":
            self.fail(
                "F152",
                "the string that begins here is not closed on its line",
                at,
                f"add the missing {first}, or write a line break as \\n",
            )
        word = _WORD.match(self.text, at)
        shown = word[0] if word else first
        if first in "+-.0123456789":
            self.fail("F153", f"'{shown}' is no number", at)
        what = "a NUL byte" if first == "\0" else f"'{shown}'"
        hint = "names and values are ASCII; other characters need quotes" if ord(first) > 127 else None
        if ord(first) < 32 or 0xDC80 <= ord(first) <= 0xDCFF:
            hint = "this looks like a binary file, not a prototxt"
        self.fail("F150", f"{what} does not belong here", at, hint)


@cache
def _run_of(name: str) -> re.Pattern[str]:
    """Fields `name: NUMBER` in a row, with nothing but white space between them."""
    return re.compile(rf"(?>{re.escape(name)}\s*+:\s*+{_PLAIN_NUMBER}\s*+)++")


@cache
def _before(name: str) -> re.Pattern[str]:
    """What stands before a number of `_run_of`, whose digits it cannot begin in."""
    return re.compile(rf"\s*+(?<![A-Za-z0-9_.+-]){re.escape(name)}\s*+:\s*+")


_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4})*)|U(00[01][0-9a-fA-F]{5})|(.))", re.DOTALL
)
_SIMPLE = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_SIMPLE |= {char: char for char in (b"\\", b"'", b'"', b"?")}


def unescape(body: bytes) -> tuple[bytes, str | None]:
    """The bytes of a string literal's `body`, and the first escape in it that is none (kept as it is), or None."""
    odd: list[str] = []

    def one(match: re.Match[bytes]) -> bytes:
        octal, pair, units, point, char = match.groups()
        if octal is not None:
            return bytes((int(octal, 8) & 0xFF,))
        if pair is not None:
            return bytes((int(pair, 16),))
        if units is not None:
            # One after the other they may be the surrogates of one character.
            data = bytes.fromhex(units.decode("ascii").replace("\\", "").replace("u", ""))
            return data.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")
        if point is not None and int(point, 16) <= 0x10FFFF:
            return chr(int(point, 16)).encode("utf-8", "surrogatepass")
        if char in _SIMPLE:
            return _SIMPLE[char]
        odd.append(match[0].decode("latin-1"))
        return match[0]

    return _ESCAPE.sub(one, body), (odd[0] if odd else None)


_LARGEST_TEXT = 1 << 30
"""Bytes: of a net whose weights, too, are written out as text, AlexNet's among them."""


def read_text(path: str, notices: list[str]) -> str:
    """The text of a file: UTF-8 (other bytes become lone surrogates), or UTF-16 with a byte order mark, which is dropped.

    Raises:
        UnsafeFileError: the file is far larger than the text of any net.
    """
    source = FileSource(path)
    try:
        if source.size > _LARGEST_TEXT:
            raise UnsafeFileError(
                "S151",
                f"the file has {source.size} bytes; the text of a net has {_LARGEST_TEXT} at most",
                path=path,
                hint="is this a prototxt? weights are in the .caffemodel, which porter reads whatever its size",
            )
        data = source.read(0, source.size, "the text")
    finally:
        source.close()
    text = decode(data)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        notices.append("the file is UTF-16, which Caffe does not read")
    return text


def decode(data: bytes) -> str:
    """`data` as text, see `read_text`. Line ends of old Macs, which have no newline at all, become newlines."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        text = data.decode("utf-16", "replace")
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")


_EVIDENCE = re.compile(
    r"""(?:^|[\s{};,])(?:
        layers?\s*+:?\s*+[{<\[]
      | (?:input|(?:train_|test_)?net|snapshot_prefix|lr_policy)\s*+:\s*+["']
      | (?:input_dim|base_lr|solver_mode|force_backward)\s*+:\s*+[A-Z0-9tf.]
      | (?:input_shape|state|net_param|(?:train|test)_net_param)\s*+:?\s*+\{
    )""",
    re.VERBOSE,
)


def looks_like_prototxt(head: bytes) -> bool:
    """Whether `head`, the first bytes of a file, begins a net or a solver as text.

    It must read as text format as far as it goes, and have a field that only those have: YAML begins alike.
    """
    text = decode(head)
    if "\0" in text or not re.match(rf"{_SPACE}[A-Za-z_][A-Za-z0-9_]*+{_SPACE}[:{{<]", text, re.VERBOSE):
        return False
    if re.match(r"\s*ir_version\s*:", text):  # an ONNX model as text
        return False
    if not _EVIDENCE.search(re.sub(r"#[^\n]*", "", text)):
        return False
    try:
        parse(text)
    except FormatError as error:
        # The head may end in the middle of anything; only what is wrong before its last line counts.
        last = text.count("\n") + 1
        return error.code == "F151" or error.where.line == last
    return True
