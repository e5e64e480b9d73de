"""A file that a command writes beside what it prints: refused before any work where it cannot be meant."""

from __future__ import annotations

import os
from collections.abc import Iterable

from porter.errors import UsageError
from porter.formats.base import WriteOptions, refuse_overwrite, refuse_stream


def refuse_side_output(path: str, inputs: Iterable[str | None], *, overwrite: bool) -> None:
    """Refuse to write to a stream, to one of the `inputs` by whatever name, and to a file that exists unless `overwrite` is said.

    Raises:
        UsageError: it is a stream, or an input.
        FileAccessError: it exists.
    """
    refuse_stream(path)
    for name in inputs:
        if name is not None and _same_file(path, name):
            raise UsageError("U967", "the output is one of the inputs", path=path, hint="name another file")
    refuse_overwrite(path, WriteOptions(overwrite=overwrite))


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there, or no path
        return False
