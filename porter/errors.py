"""What porter raises: one tree, every error with a stable code, a place and a way out.

    PorterError
    ├── FormatError            F…  the file's content is wrong, truncated, or of no known kind   (ValueError)
    │   └── UnsafeFileError    S…  the file tries something a weight file has no business doing
    ├── MapError               M…  the map is wrong, or does not fit these tensors                (ValueError)
    ├── GraphError             G…  the network cannot be taken over, or not exactly               (ValueError)
    ├── LossError              L…  the target cannot hold this exactly, and no one allowed it     (ValueError)
    ├── UsageError             U…  the request itself makes no sense                               (ValueError)
    │   └── UnknownTensorError U018  a store is asked for a tensor that it does not have            (KeyError)
    ├── MissingDependencyError D…  an optional library is needed                                   (ImportError)
    └── FileAccessError        I…  the operating system said no                                    (OSError)

A reader knows the byte offset or the line; `located` adds the path once, where the file was opened.
What each code means at length: `porter explain CODE`, from `porter/error_codes/*.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from porter.dataclass import dataclass, replace


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file something is: a byte offset for binary files, line and column (1-based) for text."""

    path: str | None = None
    offset: int | None = None
    line: int | None = None
    column: int | None = None
    tensor: str | None = None

    def __str__(self) -> str:
        text = printable(self.path) if self.path is not None else ""
        if self.line is not None:
            text += f":{self.line}" if text else f"line {self.line}"
            if self.column is not None:
                text += f":{self.column}" if self.path is not None else f", column {self.column}"
        elif self.offset is not None:
            text += f" at byte {self.offset} (0x{self.offset:x})" if text else f"byte {self.offset} (0x{self.offset:x})"
        if self.tensor is not None:
            text += f"{'  ' if text else ''}tensor '{printable(self.tensor)}'"
        return text


class Terminated(BaseException):
    """A signal asked the process to end; passes through `finally` and `with`, which remove temporary files."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def printable(text: str) -> str:
    """`text` with control characters and lone surrogates escaped, so that a name out of a file cannot move the cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def nearest_word(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Which of `known` is nearest to `word`, or None where none is near. `cutoff`: from 0, any, to 1, the same alone."""
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), None)


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The hint for a word that is none of those `known`, or None where none of them is near."""
    near = nearest_word(word, known, cutoff)
    return f"did you mean '{near}'?" if near is not None else None


class PorterError(Exception):
    """The root: `code` (stable), `message` (one line), `where` (a `Place`) and `hint` (the way out, or None).

    What is said of a file always has a hint: where no more is known, that the code is explained.

    `excerpt` is the line of a text file that `where` points into, or None; it is shown with carets below `width` characters.
    """

    code: str
    message: str
    where: Place
    hint: str | None
    excerpt: str | None
    width: int
    _explained = False

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        line: int | None = None,
        column: int | None = None,
        tensor: str | None = None,
        hint: str | None = None,
        excerpt: str | None = None,
        width: int = 1,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = Place(path, offset, line, column, tensor)
        self.hint = hint or (f"'porter explain {code}' says what this means and what to do" if self._explained else None)
        self.excerpt = excerpt
        self.width = width

    def located(self, *, path: str | None = None, tensor: str | None = None) -> Self:
        """This error with the path and the tensor filled in where it did not know them yet."""
        where = self.where
        self.where = replace(
            where,
            path=where.path if where.path is not None else path,
            tensor=where.tensor if where.tensor is not None else tensor,
        )
        return self

    def __str__(self) -> str:
        place = str(self.where)
        lines = [f"error[{self.code}]: {printable(self.message)}"]
        if place:
            lines.append(f"  --> {place}")
        if self.excerpt is not None and self.where.line is not None and self.where.column is not None:
            lines += _pointed(self.excerpt, self.where.line, self.where.column, self.width)
        if self.hint:
            lines.append(f"   = help: {printable(self.hint)}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.where, self.hint, self.excerpt, self.width))


def _rebuild(
    kind: type[PorterError], code: str, message: str, where: Place, hint: str | None, excerpt: str | None, width: int
) -> PorterError:
    error = kind(code, message, hint=hint, width=width)
    error.where = where
    error.excerpt = excerpt
    return error


def _pointed(text: str, line: int, column: int, width: int) -> list[str]:
    """A line of a file, at most 60 characters to either side of `column`, with carets below `width` characters of it."""
    start = max(0, column - 1 - 60)
    before, after = text[start : column - 1], text[column - 1 : column + 60]
    dots = "..." if start else ""
    shown = [dots + printable(before.replace("\t", " ")), printable(after.replace("\t", " "))]
    margin = " " * len(str(line))
    return [
        f" {margin} |",
        f" {line} | {''.join(shown)}".rstrip(),
        f" {margin} | {' ' * len(shown[0])}{'^' * max(1, min(width, len(shown[1])))}",
    ]


class FormatError(PorterError, ValueError):
    """The file's content is wrong, truncated, or of no known kind."""

    _explained = True


class UnsafeFileError(FormatError):
    """The file asks for something that reading weights never needs: code, files outside it, absurd sizes."""


class MapError(PorterError, ValueError):
    """A map is wrong in itself, cannot be inverted, or does not fit the tensors it is applied to."""

    _explained = True


class GraphError(PorterError, ValueError):
    """A network cannot be taken over, or not exactly: an unknown layer, a parameter that cannot be honoured, shapes that do not fit."""

    _explained = True


class TensorRTError(PorterError, ValueError):
    """TensorRT has no layer for a part of a network, refuses what it is given, or holds other weights than it was given."""

    _explained = True


class LossError(PorterError, ValueError):
    """Writing would lose something, and nobody said that it may."""

    _explained = True


class UsageError(PorterError, ValueError):
    """The request makes no sense: an unknown format, an option that the format does not know, an ambiguous choice."""


class UnknownTensorError(UsageError, KeyError):
    """A store has no tensor of this name."""


class MissingDependencyError(PorterError, ImportError):
    """An optional library is needed for this file."""


class FileAccessError(PorterError, OSError):
    """The operating system refused: no such file, no permission, no space, or the output exists."""

    def __str__(self) -> str:
        # OSError defines its own __str__, which would win over PorterError's for two-argument errors.
        return PorterError.__str__(self)


def access_error(error: OSError, path: str, doing: str) -> FileAccessError:
    """A `FileAccessError` for what the operating system said while `doing` ("reading", "writing") something to `path`."""
    import errno

    permissions, room = "check the permissions of the file and its folder", "free some space, or write to another disk"
    codes = {
        errno.ENOENT: ("I001", "no such file or directory", None),
        errno.EACCES: ("I002", "permission denied", permissions),
        errno.EPERM: ("I002", "permission denied", permissions),
        errno.EROFS: ("I002", "the file system is read-only", "write to another place"),
        errno.ENOSPC: ("I003", "no space left on the device; nothing was written", room),
        errno.EDQUOT: ("I003", "the disk quota is used up; nothing was written", room),
        errno.EFBIG: ("I003", "the file would be larger than this file system allows; nothing was written", "write to another disk"),
        errno.EISDIR: ("I004", "is a directory", None),
        errno.ENOTDIR: ("I001", "a part of the path is not a directory", None),
        errno.ENAMETOOLONG: ("I005", "the name is longer than this file system allows", "choose a shorter name"),
    }
    code, text, hint = codes.get(error.errno or 0, ("I005", error.strerror or str(error), None))
    return FileAccessError(code, f"{doing}: {text}", path=path, hint=hint)
