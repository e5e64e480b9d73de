"""The index of the text dialects: where each tensor's line is, without reading its values.

A line written the usual way (one separator, words of full width) has a length that follows from its count: the scanner
jumps to where it must end and looks whether it does. Any other line is searched for its newline and its separators are
counted; only where that leaves doubt are its words looked at. What a jump could miss, decoding finds: it checks every
character.
"""

from __future__ import annotations

import re

from porter.dataclass import replace
from porter.errors import FormatError, printable
from porter.formats.wts import dialects
from porter.formats.wts.rows import STORED, TRUNCATED, TWICE, Dialect, Row
from porter.io.source import FileSource

_BLOCK = 4096
_LONGEST_HEADER = 1 << 16
_CHUNK = 1 << 20

_BLANK = re.compile(rb"[ \t\r\n\v\f]*")
_FIRST = re.compile(rb"[ \t]*([0-9]{1,18})[ \t]*\r?(?:\n|\Z)")
_HEADER = re.compile(rb"[ \t]*([^ \t\r\n\v\f]*)([ \t]*)([^ \t\r\n\v\f]*)([ \t]*)([^ \t\r\n\v\f]{0,20})([ \t]*)")
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,17}")
_TAIL = re.compile(rb"[ \t]*\r?(?:\n|\Z)")
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_NAME_HINT = "names must not contain white space; the count follows the name"


def read_count(source: FileSource) -> tuple[int, int]:
    """The number of tensors that the first line states, and the offset behind that line.

    Raises:
        FormatError: the first line is no number.
    """
    head = source.read_up_to(0, _BLOCK)
    found = _FIRST.match(head)
    if found is None:
        start = head[:24].split(b"\n")[0].decode("utf-8", "replace")
        raise FormatError(
            "F401",
            f"the first line must be the number of tensors, and begins {printable(start)!r}",
            path=source.path,
            line=1,
            column=1,
            hint="not a .wts file, or its first line was lost",
        )
    return int(found[1]), found.end()


def scan(source: FileSource, dialect: Dialect) -> list[Row]:
    """The rows of a `tensorrtx` or `nvidia-v1` file, in order.

    Raises:
        FormatError: with line and column.
    """
    try:
        return _Scanner(source, dialect, jump=True).rows()
    except FormatError:
        # A jump over a damaged line can land in a later one; the careful pass says what is really wrong, and where.
        return _Scanner(source, dialect, jump=False).rows()


def may_lack_digits(source: FileSource, row: Row) -> bool:
    """Whether the file ends in a word of this row that is shorter than others may be, so that it may have been cut."""
    if row.padded or not row.last or not row.count or row.end < source.size:
        return False
    tail = source.read_up_to(max(row.end - row.digits, row.begin), row.digits)
    return len(re.split(rb"[ \t]", tail)[-1]) < row.digits


class _Scanner:
    def __init__(self, source: FileSource, dialect: Dialect, *, jump: bool) -> None:
        self.source = source
        self.dialect: Dialect = dialect
        self.jump = jump
        self.block = b""
        self.base = 0
        self.line = 1
        self.trailing = False  # whether some line has white space behind its last word

    def rows(self) -> list[Row]:
        claimed, at = read_count(self.source)
        rows: list[Row] = []
        lines: dict[str, int] = {}
        self.line = 2
        while True:
            at = self._skip_blank(at)
            if at == self.source.size:
                break
            row, at = self._row(at)
            if row.name in lines:
                raise self._error("F004", f"the tensor is there already, on line {lines[row.name]}", 1, row.name, TWICE)
            if len(rows) == claimed:
                hint = "the first line's number is wrong, or lines were appended"
                raise self._error("F407", f"the first line says {claimed} tensors, here is one more", 1, row.name, hint)
            lines[row.name] = self.line
            rows.append(row)
            self.line += 1
        if len(rows) < claimed:
            hint = "the file looks truncated after a whole line, or the first line's number is wrong"
            raise FormatError(
                "F407", f"the first line says {claimed} tensors, the file has {len(rows)}", path=self.source.path, line=self.line, hint=hint
            )
        if rows:
            self._check_last_word(rows[-1])
        return rows

    def _row(self, at: int) -> tuple[Row, int]:
        """The row whose line begins at `at`, and the offset behind its newline."""
        row = self._header(at)
        end = row.begin + (row.digits + 1) * row.count - 1
        if self.jump and row.count and end <= self.source.size:
            tail = self._tail(end, row.digits)
            if tail is not None:
                behind = end + len(tail)
                self.trailing = self.trailing or tail[:1] in (b" ", b"\t")
                return replace(row, end=end, last=not tail.endswith(b"\n")), behind
        return self._searched(row, at)

    def _tail(self, end: int, digits: int) -> bytes | None:
        """What lies between `end` and the next line if a whole word ends there and only white space follows, else None."""
        at = self._ensure(end - digits, 128)
        tail = _TAIL.match(self.block, at + digits)
        if tail is None or not _HEX.fullmatch(self.block, at, at + digits):
            return None
        # The pattern takes the end of the block for the end of the file.
        return tail[0] if tail[0].endswith(b"\n") or self.base + tail.end() == self.source.size else None

    def _searched(self, row: Row, at: int) -> tuple[Row, int]:
        """As `_row`, for a line whose end has to be searched for."""
        newline, spaces = self._search(row)
        end = self._rstrip(row.begin, newline)
        behind = min(newline + 1, self.source.size)
        length = end - row.begin
        self.trailing = self.trailing or self.source.read_up_to(end, 1) in (b" ", b"\t")
        row = replace(row, end=end, last=newline == self.source.size)
        if length == max((row.digits + 1) * row.count - 1, 0):
            return row, behind
        row = replace(row, packed=False)
        inner = spaces - (self._spaces_between(end, newline) if spaces else 0)
        if row.padded or inner != row.count - 1 or not 2 * row.count - 1 <= length:
            self._verify(row, at)
        return row, behind

    def _verify(self, row: Row, at: int) -> None:
        from porter.formats.wts.decode import verify

        try:
            verify(self.source, row)
        except FormatError:
            other = dialects.of_start(b"1\n" + self.source.read_up_to(at, _BLOCK))
            if row.padded and other in ("nvidia-v1", "nvidia-v2"):
                hint = f"this line reads as {other}, the file as tensorrtx; one file has one dialect"
                raise self._error("F408", "the line is in another dialect than the ones before", 1, row.name, hint) from None
            raise

    def _header(self, at: int) -> Row:
        """What the line beginning at `at` says before its values; `end` is not known yet."""
        found = self._match_header(at)
        raw_name, gap, second, gap2, third = found.group(1), found.group(2), found.group(3), found.group(4), found.group(5)
        name = self._name(raw_name, 1 + found.start(1) - found.start())
        column = 1 + len(found[0][: found.start(2) - found.start()].decode("utf-8", "surrogateescape")) + len(gap)
        if not second:
            raise self._short(name, column, self.base + found.end(3))
        if self.dialect == "tensorrtx":
            count = self._decimal(second, name, column, "the number of values")
            return self._placed(name, 0, count, found.end(4), column + len(second) + len(gap2))
        code = self._decimal(second, name, column, "a type, 0 to 3,")
        if code not in STORED:
            raise self._error(
                "F402",
                f"unknown type {code}; 0 is float32, 1 float16, 2 int8, 3 int32",
                column,
                name,
                "the file is damaged, or of another dialect",
            )
        column += len(second) + len(gap2)
        if not third:
            raise self._short(name, column, self.base + found.end(5))
        count = self._decimal(third, name, column, "the number of values")
        return self._placed(name, code, count, found.end(6), column + len(third) + len(found.group(6)))

    def _placed(self, name: str, code: int, count: int, at: int, column: int) -> Row:
        begin = self.base + at
        return Row(name, code, count, begin, begin, self.line, column, padded=self.dialect == "tensorrtx")

    def _match_header(self, at: int) -> re.Match[bytes]:
        for size in (_BLOCK, _LONGEST_HEADER):
            start = self._ensure(at, size)
            found = _HEADER.match(self.block, start)
            assert found is not None  # every part may be empty
            group = 4 if self.dialect == "tensorrtx" else 6
            if found.end(group) < len(self.block) or self.base + len(self.block) == self.source.size:
                return found
        raise self._error(
            "F402", f"no count within the line's first {_LONGEST_HEADER} bytes", 1, None, "the file is damaged, or of another kind"
        )

    def _name(self, raw: bytes, column: int) -> str:
        name = raw.decode("utf-8", "surrogateescape")
        control = _CONTROL.search(name)
        if control:
            raise self._error(
                "F402", f"the name {printable(name[:64])!r} has a control character", column + control.start(), None, "the file is damaged"
            )
        return name

    def _decimal(self, token: bytes, name: str, column: int, what: str) -> int:
        if _DECIMAL.fullmatch(token):
            return int(token)
        text = printable(token[:24].decode("utf-8", "replace"))
        other = _other_dialect(self.dialect, token)
        hint = f"this line reads as {other}, the file as {self.dialect}; one file has one dialect" if other else _NAME_HINT
        raise self._error("F408" if other else "F402", f"expected {what} behind the name, found {text!r}", column, name, hint)

    def _short(self, name: str, column: int, end: int) -> FormatError:
        at_end = end == self.source.size
        return self._error(
            "F001" if at_end else "F402", "the line ends before its count", column, name, TRUNCATED if at_end else _NAME_HINT
        )

    def _error(self, code: str, message: str, column: int, name: str | None, hint: str | None = None) -> FormatError:
        return FormatError(code, message, path=self.source.path, line=self.line, column=column, tensor=name, hint=hint)

    def _check_last_word(self, row: Row) -> None:
        """A word that is not padded and that the end of the file ends may have lost digits."""
        if self.trailing and may_lack_digits(self.source, row):
            message = "the last value may lack digits: other lines end in a space, this one at the end of the file"
            raise row.error(self.source.path, "F001", message, row.end, TRUNCATED)

    def _skip_blank(self, at: int) -> int:
        """The offset of the next line that is not blank, or of the end of the file."""
        while at < self.source.size:
            start = self._ensure(at, 64)  # before the block is looked at: this may read another one
            found = _BLANK.match(self.block, start)
            assert found is not None  # it may be empty
            self.line += found[0].count(b"\n")
            if found.end() < len(self.block):
                return at + found[0].rfind(b"\n") + 1
            at += len(found[0])
        return at

    def _search(self, row: Row) -> tuple[int, int]:
        """The offset of the newline that ends `row` (the file's end where there is none), and the spaces among its values.

        Raises:
            FormatError: there is a zero byte before it, as in files for which room was reserved: there may be any number more.
        """
        begin = row.begin
        start = self._ensure(begin, 1)
        found = self.block.find(b"\n", start)
        if found >= 0:
            return self.base + found, self.block.count(b" ", start, found)
        spaces, at = 0, begin
        for chunk in self.source.chunks(begin, self.source.size - begin, _CHUNK):
            data = bytes(chunk)
            found = data.find(b"\n")
            zero = data.find(b"\0", 0, found if found >= 0 else len(data))
            if zero >= 0:
                hint = "room was reserved for the file, and not all of it was written; fetch it again"
                raise self._error("F405", "a zero byte among the values", row.column + at + zero - begin, row.name, hint)
            if not row.padded:
                spaces += data.count(b" ", 0, found if found >= 0 else len(data))
            if found >= 0:
                return at + found, spaces
            at += len(data)
        return self.source.size, spaces

    def _rstrip(self, begin: int, end: int) -> int:
        """`end` moved back over white space, not before `begin`."""
        while end > begin:
            low = max(begin, end - 4096)
            kept = len(self.source.read(low, end - low).rstrip(b" \t\r\v\f"))
            if kept:
                return low + kept
            end = low
        return begin

    def _spaces_between(self, low: int, high: int) -> int:
        return sum(bytes(c).count(b" ") for c in self.source.chunks(low, high - low, _CHUNK))

    def _ensure(self, at: int, nbytes: int) -> int:
        """Make sure that the block holds `nbytes` bytes at `at`, or all up to the file's end; the position in the block."""
        if not (self.base <= at and min(at + nbytes, self.source.size) <= self.base + len(self.block)):
            self.block = self.source.read_up_to(at, max(nbytes, _BLOCK))
            self.base = at
        return at - self.base


def _other_dialect(dialect: Dialect, token: bytes) -> str | None:
    if token.startswith(b"("):
        return "nvidia-v2"
    if dialect == "nvidia-v1" and re.fullmatch(rb"[0-9A-Fa-f]{8}", token):
        return "tensorrtx"
    return None
