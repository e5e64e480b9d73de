"""Weights without an index: values one after the other, and a text file beside them that says what they are.

ncnn (`.param` and `.bin`) and Darknet (`.cfg` and `.weights`) write such pairs. Nothing in the values tells where one
tensor ends, so two things are held against each other: what the text announces, and where the file ends.
"""

from __future__ import annotations

import os

from porter.errors import FileAccessError, FormatError, UnsafeFileError
from porter.io.source import FilePayload, FileSource

MAX_TEXT = 4 << 20
"""Bytes of the longest description that is read; the largest nets take a few hundred thousand."""


def description(path: str) -> bytes:
    """The whole of a text file. Reads it.

    Raises:
        UnsafeFileError: it is longer than any description of a net.
        FormatError: it holds zero bytes, so it is no text.
    """
    source = FileSource(path)
    try:
        if source.size > MAX_TEXT:
            raise UnsafeFileError("S003", f"a description of a net with {source.size} bytes; porter reads at most {MAX_TEXT}", path=path)
        data = source.read(0, source.size)
    finally:
        source.close()
    if b"\0" in data:
        raise FormatError("F080", "a description of a net is text, and this has zero bytes in it", path=path, offset=data.index(b"\0"))
    return data


def partner(path: str, ending: str, stems: tuple[str, ...] = ()) -> str | None:
    """The file beside `path` that has `ending` in the place of its own, or one of `stems` and `ending`; None if there is none."""
    folder, name = os.path.split(path)
    for stem in (os.path.splitext(name)[0], *stems):
        candidate = os.path.join(folder, stem + ending)
        if os.path.isfile(candidate):
            return candidate
    return None


def missing(path: str, ending: str, holds: str) -> FileAccessError:
    """The error where `partner` found nothing: `holds` says what the file that is missing has in it."""
    name = os.path.splitext(os.path.basename(path))[0] + ending
    return FileAccessError("I007", f"there is no {name} beside it, which holds {holds}", path=path, hint=f"put {name} into the same folder")


class Values:
    """Runs of bytes of a weight file, each beginning where the one before it ended.

    `told_by` is the base name of the text that says how long they are, for messages.
    """

    def __init__(self, source: FileSource, told_by: str, at: int = 0) -> None:
        self.source = source
        self.told_by = told_by
        self.at = at

    def run(self, nbytes: int, tensor: str) -> FilePayload:
        """The next `nbytes` bytes, which belong to `tensor`. Reads nothing.

        Raises:
            FormatError: the file ends before that.
        """
        left = max(self.source.size - self.at, 0)
        if nbytes > left:
            raise FormatError(
                "F001",
                f"{self.told_by} announces {nbytes} bytes here, the file ends after {left}",
                path=self.source.path,
                offset=min(self.at, self.source.size),
                tensor=tensor,
                hint=f"the file looks truncated, or {self.told_by} is of another net or another version of it",
            )
        payload = self.source.payload(self.at, nbytes, tensor)
        self.at += nbytes
        return payload

    def skip(self, nbytes: int, tensor: str) -> None:
        """Pass over padding that belongs to `tensor`."""
        self.run(nbytes, tensor)

    def finish(self) -> None:
        """Hold the end of the last run against the end of the file.

        Raises:
            FormatError: the file goes on.
        """
        left = self.source.size - self.at
        if left:
            raise FormatError(
                "F083",
                f"{self.told_by} announces nothing more, and {left} bytes follow",
                path=self.source.path,
                offset=self.at,
                hint=f"{self.told_by} is of another net, or was changed after the values were written",
            )
