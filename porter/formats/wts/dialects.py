"""Which of the three dialects a file is in, by its content.

tensorrtx writes `name count` and words of 8 digits; nvidia-v1 writes `name type count`, with a plain decimal count;
nvidia-v2 writes `name type (`. A line cannot be right in two of them: what nvidia-v1 takes for the count has 8 digits in
a line of 1 to 3 values that tensorrtx reads, and no count of 8 digits fits such a short line.
"""

from __future__ import annotations

import re

from porter.formats.wts.rows import Dialect
from porter.io.source import FileSource

_LINE = re.compile(rb"[ \t]*([^ \t\r\n\v\f]+)[ \t]+([0-9]{1,18})(?=[ \t\r\n]|\Z)[ \t]*([^ \t\r\n\v\f]*)([^\n]*)")
_FIRST = re.compile(rb"[ \t]*[0-9]{1,18}[ \t]*\r?\n[ \t\r\n]*")
_EMPTY = re.compile(rb"[ \t]*0[ \t]*\r?\n?\Z")
_WORD = re.compile(rb"[0-9A-Fa-f]{8}")
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,17}")
_RAW = re.compile(rb"[^ \t\r\n\v\f]+[ \t]+[0-9]{1,3}[ \t]+\(")


def of_start(head: bytes) -> Dialect | None:
    """The dialect of a file that begins with `head`, or None if its first lines are no `.wts`."""
    if _EMPTY.match(head):
        return "tensorrtx"
    first = _FIRST.match(head)
    if first is None:
        return None
    if _RAW.match(head, first.end()):
        return "nvidia-v2"
    at = first.end()
    empty: Dialect | None = None
    while line := _LINE.match(head, at):
        found = of_line(line)
        if found is not None or line[2] != b"0" or line[3]:
            return found
        # `name 0`: no values to tell by, so the next line is asked.
        at, empty = line.end() + 1, "tensorrtx"
    return empty if at >= len(head) else None


def of_line(line: re.Match[bytes]) -> Dialect | None:
    """The dialect of one matched line, or None where its third word is none of a dialect."""
    second, third = line[2], line[3]
    padded = _WORD.fullmatch(third) is not None
    if second not in (b"0", b"1", b"2", b"3") or not _DECIMAL.fullmatch(third):
        return "tensorrtx" if padded else None
    if second == b"0" or not padded:
        return "nvidia-v1"
    # `w 2 12345678 …`: two words, or float16 and so many of them.
    return "tensorrtx" if len(line[4]) < 64 else "nvidia-v1"


def of_file(source: FileSource) -> Dialect:
    """The dialect of `source`, which is taken to be a `.wts` file; tensorrtx where nothing tells."""
    return of_start(source.read_up_to(0, 1 << 16)) or "tensorrtx"


def detect(head: bytes, path: str, *, complete: bool) -> Dialect | None:
    """The dialect of a file that begins with `head`, or None if it is another kind of file.

    A name that ends in `.wts` or `.wts2` makes a damaged file one of ours too, as long as it begins like one, so that
    the error says what is wrong with it.
    """
    named = path.lower().endswith((".wts", ".wts2"))
    if not head[:1].isalnum() and not named:
        return None
    if _EMPTY.match(head) and not (complete or named):
        return None
    found = of_start(head)
    if found is not None or not named:
        return found
    if re.match(rb"[ \t]*[0-9]+[ \t]*(\r?\n|\Z)", head) or re.match(rb"[^ \t\r\n\v\f]+ [0-9]+  ?[0-9A-Fa-f]{8}", head):
        return "nvidia-v2" if path.lower().endswith(".wts2") else "tensorrtx"
    return None
