"""The inputs of commands that take weight files, or names and shapes alone."""

from __future__ import annotations

from contextlib import ExitStack

from porter.cli.screen import Screen
from porter.dtypes import DTYPES
from porter.errors import FormatError, UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.mapping.described import read_list
from porter.store import TensorStore
from porter.tensor import TensorSpec


def side_of(screen: Screen, stack: ExitStack, path: str, source_format: str | None, options: ReadOptions) -> TensorStore | list[TensorSpec]:
    """The store of a weight file, which stays open as long as `stack`, or the tensors of a JSON list.

    Those of a list without a dtype are taken for float32, with a note.

    Raises:
        FormatError: it is neither, or a tensor of the list has no shape.
        FileAccessError: it cannot be read.
        UsageError: options for weight files are given for a list.
    """
    specs = _specs_of(screen, path) if source_format is None else None
    if specs is None:
        return stack.enter_context(open_store(path, source_format, options=options))
    if options != ReadOptions():
        raise UsageError("U927", f"'{path}' is a list of names, to which --select and --net mean nothing", hint="leave them out")
    return specs


def _specs_of(screen: Screen, path: str) -> list[TensorSpec] | None:
    """The tensors of a JSON list, or None where the file is no JSON."""
    entries = read_list(path)
    if entries is None:
        return None
    shapeless = next((e.name for e in entries if e.shape is None), None)
    if shapeless is not None:
        hint = 'write "shape": [16, 3, 3, 3] beside every name'
        raise FormatError("F002", "this tensor has no shape", path=path, tensor=shapeless, hint=hint)
    untyped = [e.name for e in entries if e.dtype is None]
    if untyped and not screen.quiet:
        screen.aside("note", f"{screen.name(path)} gives no dtype, so float32 is assumed ({screen.listed(untyped)})")
    return [TensorSpec(e.name, e.dtype or DTYPES["float32"], e.shape or ()) for e in entries]
