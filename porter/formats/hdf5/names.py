"""Tensor names as paths in an HDF5 file, and back, without loss.

A name is cut at `/`; each part is one link. What a link cannot be called is escaped: `%25` for the percent sign, `%00` for
NUL, `%2E` for a part that is a single dot, `%uDC80` for a lone surrogate, `%` for an empty part. Where a tensor's name is
also a group's, because another name goes on behind it (`a` and `a/b`), the tensor's last part gets `%` behind it. Parts
beyond the 64th stay in one link, with `%2F` for the slash. Anything else is itself, so that usual names are usual paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAX_PARTS = 64
_ESCAPES = re.compile(r"%(u[0-9A-Fa-f]{4}|[0-9A-Fa-f]{2})")
_AWKWARD = re.compile("[%/\0\ud800-\udfff]")

Path = tuple[str, ...]


def paths(names: Iterable[str]) -> dict[str, Path]:
    """A path for each name; no path leads through a dataset."""
    found = {name: tuple(_escape(part) for part in name.split("/", _MAX_PARTS - 1)) for name in names}
    groups = {path[:n] for path in found.values() for n in range(1, len(path))}
    return {name: (*path[:-1], path[-1] + "%") if path in groups else path for name, path in found.items()}


def name_of(path: Path) -> str:
    """The name whose path this is."""
    return "/".join(_unescape(part) for part in path)


def plain(path: Path) -> bool:
    """Whether every part can be a link as it is, in any reader's eyes."""
    return all(part not in ("", ".", "..") and not re.search("[\0/\ud800-\udfff]", part) for part in path)


def _escape(part: str) -> str:
    if part == "":
        return "%"
    if part == ".":
        return "%2E"
    return _AWKWARD.sub(_code, part) if _AWKWARD.search(part) else part


def _code(match: re.Match[str]) -> str:
    value = ord(match[0])
    return f"%{value:02X}" if value < 0x80 else f"%u{value:04X}"


def _unescape(part: str) -> str:
    if "%" not in part:
        return part
    return _ESCAPES.sub(lambda m: chr(int(m[1].lstrip("u"), 16)), part.rstrip("%"))
