"""Maps by name: those that come with porter, `caffe:torch` in `maps/caffe.torch.pmap`, and those in files."""

from __future__ import annotations

import os

from porter.errors import MapError, UsageError, did_you_mean, printable
from porter.mapping.syntax import NOWHERE, Map, MapText, Span

FOLDER = os.path.join(os.path.dirname(__file__), "maps")
EXTENSION = ".pmap"


def names() -> list[str]:
    """The names of the maps that come with porter, sorted."""
    return sorted(f.removesuffix(EXTENSION).replace(".", ":") for f in os.listdir(FOLDER) if f.endswith(EXTENSION))


def describe() -> dict[str, str]:
    """What each of them does: the first line of its text, a comment. Reads them all."""
    return {name: text(name).excerpt(1).lstrip("# ").strip() for name in names()}


def load(name_or_path: str) -> Map:
    """The map called `caffe:torch`, or the one in a file, with its includes. Reads the files.

    Raises:
        MapError: there is no such map, or its text is wrong.
        FileAccessError: the file cannot be read.
    """
    from porter.mapping.parser import parse

    found = text(name_or_path)
    return parse(found.text, found.path, name=name_or_path, include=_included)


def text(name_or_path: str, span: Span = NOWHERE) -> MapText:
    """The text of a map by name or path; `span` is where another map asks for it.

    Raises:
        MapError: there is no such map, or the file is no text.
        FileAccessError: the file cannot be read.
        UsageError: a stream is asked for.
    """
    from porter.mapping.parser import read

    built_in = _file(name_or_path)
    if built_in is not None:
        return MapText(name_or_path, read(built_in).text)
    if name_or_path == "-" and not span.line:
        raise UsageError("U903", "a map is read from a file, not from a stream", hint="name a file")
    if not _is_path(name_or_path) or span.line:
        message, hint = f"there is no map '{printable(name_or_path)}', nor a file of this name", _nearest(name_or_path)
        raise span.error("M270", message, hint=hint) if span.line else MapError("M270", message, hint=hint)
    return read(name_or_path)


def _included(name: str, span: Span) -> MapText:
    """What `include "name"` asks for: a map of porter's, or a file beside the one that includes it."""
    from porter.mapping.parser import included_file

    beside = os.path.join(os.path.dirname(span.text.path or ""), name)
    if _file(name) is not None or "\0" in name or not os.path.lexists(beside):
        return text(name, span)
    return included_file(name, span)


def _file(name: str) -> str | None:
    """The file of the built-in map `name`, or None: `caffe:torch` is `caffe.torch.pmap`."""
    if name.count(":") != 1 or not name.isascii() or not name.replace(":", "").replace("-", "").isalnum():
        return None
    path = os.path.join(FOLDER, name.replace(":", ".") + EXTENSION)
    return path if os.path.isfile(path) else None


def _is_path(name: str) -> bool:
    """Whether `name` can only be a file: it exists, lies in a folder, or is called like a map."""
    return os.path.exists(name) or os.sep in name or "/" in name or name.endswith(EXTENSION)


def _nearest(word: str) -> str:
    known = names()
    return did_you_mean(word, known) or f"porter's own are {', '.join(known)}; a file is given as ./{printable(word)}"
