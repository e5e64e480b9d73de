"""Files that a command writes beside what it prints: refused before any work where they cannot be meant, or cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from porter.errors import FileAccessError, UsageError, access_error
from porter.formats.base import WriteOptions, refuse_overwrite, refuse_stream


def check_output(path: str, inputs: Iterable[str | None], *, overwrite: bool) -> None:
    """Refuse a file that is one of the `inputs`, whether or not it may be replaced, and one that cannot be written. Writes nothing.

    inputs: paths of what is read, None for those that were not given; names of what is no file, such as a built-in map, do no harm.

    Raises:
        UsageError: it is a stream, or one of the inputs, by whatever name.
        FileAccessError: it exists, and nobody said that it may be replaced; or its folder is missing or cannot be written.
    """
    refuse_stream(path)
    refuse_inputs(path, inputs)
    with _told_of(path):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "")
        # An empty name has no folder.
        _check_writable(os.path.dirname(os.path.realpath(path)) if path else path)
    refuse_overwrite(path, WriteOptions(overwrite=overwrite))


def refuse_inputs(path: str, inputs: Iterable[str | None]) -> None:
    """Refuse to write over one of these files, by whatever name. Of a conversion its source is none: it may be replaced.

    Raises:
        UsageError: with the path.
    """
    for given in inputs:
        if given is not None and _same_file(path, given):
            raise UsageError("U926", "the output is one of the inputs", path=path, hint="name another file")


def check_folder(path: str) -> None:
    """Refuse a folder to write into that is something else, or that cannot be made or written. Writes nothing.

    Raises:
        UsageError: it is a stream.
        FileAccessError: with the path.
    """
    refuse_stream(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise FileAccessError("I004", "writing: the output exists and is not a folder", path=path)
    with _told_of(path):
        place = os.path.realpath(path) if path else path
        while place and not os.path.lexists(place):
            place = os.path.dirname(place)
        if place and not os.path.isdir(place):
            raise NotADirectoryError(errno.ENOTDIR, "")
        _check_writable(place)


def _check_writable(folder: str) -> None:
    os.stat(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "")


@contextmanager
def _told_of(path: str) -> Iterator[None]:
    """What the system says of `path`, as an error of porter."""
    try:
        yield
    except OSError as error:
        raise access_error(error, path, "writing") from error
    except ValueError as error:  # a NUL
        raise FileAccessError("I001", f"writing: {error}", path=path) from error


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there, or no path
        return False
