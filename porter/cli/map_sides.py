"""Tensors that a command is given as names and shapes alone."""

from __future__ import annotations

from porter.cli.screen import Screen
from porter.dtypes import DTYPES
from porter.errors import FormatError
from porter.mapping.described import listed
from porter.tensor import TensorSpec


def specs_of(screen: Screen, path: str) -> list[TensorSpec] | None:
    """The tensors of a JSON list, or None where the file is no JSON. Those without a dtype are taken for float32, with a note.

    Raises:
        FormatError: the JSON is no such list, or a tensor has no shape.
        FileAccessError: it cannot be read.
    """
    entries = listed(path)
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
