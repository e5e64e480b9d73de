"""A folder whose files appear all together or not at all.

Everything is written into a hidden folder on the same disk. In the end that takes the destination's name
where there was no such folder; else its files replace those of the same names one by one, each forced to disk before it replaces one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from porter.dataclass import replace
from porter.errors import FileAccessError, PorterError, access_error


@contextmanager
def staged_folder(folder: str, stale: Collection[str] = ()) -> Iterator[str]:
    """A folder to write into; at the end of the `with` block what lies in it is in `folder`, or nothing has happened.

    stale: names in `folder` that go when they are not among the new files. Errors that speak of a staged file speak of the final one.

    Raises:
        FileAccessError: the folder cannot be made or written.
    """
    final = os.path.realpath(folder)
    place = final
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    made = os.path.join(place, f".{os.path.basename(final)[:100]}.{os.urandom(4).hex()}.porter-part")
    try:
        os.mkdir(made)
    except OSError as error:
        raise access_error(error, folder, "writing") from error
    try:
        yield made
        _commit(made, final, stale)
    except PorterError as error:
        raise _relocated(error, made, folder) from error.__cause__
    except OSError as error:
        raise access_error(error, folder, "writing") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def check_free(folder: str, names: Iterable[str], *, overwrite: bool) -> None:
    """Refuse a path that is no folder, and files that exist unless they may be replaced.

    Raises:
        FileAccessError: with the path.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise FileAccessError("I004", "writing: the output exists and is not a folder", path=folder)
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            raise FileAccessError("I004", "writing: is a directory", path=path)
        if not overwrite and os.path.lexists(path):
            raise FileAccessError("I010", "the output exists", path=path, hint="add --overwrite to replace it")


def _commit(made: str, final: str, stale: Collection[str]) -> None:
    if not os.path.lexists(final):
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.rename(made, final)
        return
    names = sorted(os.listdir(made))
    for name in names:
        # As for a single file: a power cut leaves the old one or the new one.
        if os.path.exists(os.path.join(final, name)):
            _sync(os.path.join(made, name))
    for name in stale:
        if name not in names and os.path.isfile(path := os.path.join(final, name)):
            os.unlink(path)
    for name in names:
        os.replace(os.path.join(made, name), os.path.join(final, name))


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _relocated(error: PorterError, made: str, folder: str) -> PorterError:
    path = error.where.path
    if path is not None and path.startswith(made + os.sep):
        error.where = replace(error.where, path=os.path.join(folder, path[len(made) + 1 :]))
    return error
