"""Reads the text of a map into the tree of `porter.mapping.syntax`, with its includes. Knows nothing of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from porter.errors import MapError
from porter.io.source import FileSource
from porter.mapping import lalr
from porter.mapping.syntax import NOWHERE, Expect, Map, MapText, Param, Remaining, Span, Stage, Statement, Table
from porter.mapping.tree_building import Include, Item, Then, TreeBuilder

SIZE = 32 << 20
"""Bytes of a map, its includes counted in. A rule for each tensor of the largest published model is a tenth of that."""

INCLUDES = 1000
"""How many includes a map may have, those of its includes counted in."""

DEPTH = 32
"""How long a chain of includes may be."""

Includer = Callable[[str, Span], MapText]
"""Gives the text for the name that stands after `include` at a place."""

_NO_TEXT = "save the map as UTF-8; a weight file is what the map is applied to"

_Declaration = Table | Param | Expect | Remaining


def parse(text: str, path: str | None = None, *, name: str | None = None, include: Includer | None = None) -> Map:
    """The map that `text` says, with its includes resolved.

    path: what errors call the text, and where relative includes start. name: what `Map.name` becomes; the path if left out.
    include: gives the text for the name in `include "name"`; by default the file of that name beside the including one.

    Raises:
        MapError: the text is no map; an include leads nowhere or back to where it came from.
        FileAccessError: an included file cannot be read.
    """
    reading = _Reading(include or included_file)
    stages = reading.stages(MapText(path, _checked(text, path)))
    return Map(stages, name if name is not None else path)


def read(path: str, span: Span = NOWHERE) -> MapText:
    """The text of a map file, for `parse`. Reads the whole file. `span` is where another map asks for it.

    Raises:
        FileAccessError: it cannot be read.
        MapError: it is no UTF-8 text, or larger than `SIZE`.
    """
    source = FileSource(path)
    try:
        data = source.read_up_to(0, SIZE + 1)
    finally:
        source.close()
    try:
        return MapText(path, _checked(_decoded(data, path), path))
    except MapError as error:
        if span.line:
            error.hint = f"{error.hint}; it is included on {span.seen_from(NOWHERE)}"
        raise


def included_file(name: str, span: Span) -> MapText:
    """The file `name`, relative to the folder of the file in which `span` is. Reads it.

    Raises:
        MapError: that text is in no file, or there is no such file.
        FileAccessError: it cannot be read.
    """
    if span.text.path is None and not os.path.isabs(name):
        raise span.error("M004", f"'{name}' is relative to a file, and this map is in none", hint="give an absolute path")
    path = os.path.normpath(os.path.join(os.path.dirname(span.text.path or ""), name))
    if "\0" in path or not os.path.exists(path):
        raise span.error("M004", f"there is no file '{path}' to include", hint="a name is relative to the file that it stands in")
    return read(path, span)


def _decoded(data: bytes, path: str) -> str:
    if len(data) > SIZE:
        raise _too_large(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is no UTF-8, so that this is no text of a map"
        line = data.count(b"\n", 0, error.start) + 1
        raise MapError("M002", message, path=path, line=line, hint=_NO_TEXT) from error


def _checked(text: str, path: str | None) -> str:
    """The text without a byte order mark."""
    if len(text) > SIZE:
        raise _too_large(path)
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        before = text[: text.index("\0")]
        span = Span(MapText(path, text), before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise span.error("M002", "a NUL character, which no text has", hint=_NO_TEXT)
    return text


def _too_large(path: str | None) -> MapError:
    return MapError(
        "M003", f"the map is larger than {SIZE >> 20} MiB", path=path, hint="rules with captures say in a line what names say in thousands"
    )


class _Reading:
    """A map and all that it includes."""

    def __init__(self, include: Includer) -> None:
        self._include = include
        self._included = 0
        self._size = 0
        self._chain: list[MapText] = []

    def stages(self, text: MapText) -> tuple[Stage, ...]:
        """The stages that `text` says."""
        stages: list[list[Statement]] = [[]]
        declared: dict[tuple[object, ...], tuple[_Declaration, int]] = {}
        for item in self._items(text):
            if isinstance(item, Then):
                stages.append([])
                continue
            if isinstance(item, Table | Param | Expect | Remaining):
                # A parameter has one value in the whole map; the others say something of one stage, a table until there is another.
                key = (type(item), item.name if isinstance(item, Table | Param) else None, 0 if isinstance(item, Param) else len(stages))
                earlier, stage = declared.setdefault(key, (item, len(stages)))
                if earlier is not item:
                    _check_repeated(item, earlier, stage == len(stages))
                    if stage == len(stages):
                        continue
            stages[-1].append(item)
        return tuple(Stage(tuple(statements)) for statements in stages)

    def _items(self, text: MapText) -> Iterator[Statement | Then]:
        self._size += len(text.text)
        if self._size > SIZE:
            raise _too_large(text.path)
        self._chain.append(text)
        for item in _items(text):
            if isinstance(item, Include):
                yield from self._items(self._text(item))
            else:
                yield item
        self._chain.pop()

    def _text(self, item: Include) -> MapText:
        """What an include names."""
        text = self._include(item.name, item.span)
        ways = [above.path or "<map>" for above in self._chain]
        if any(above.path == text.path and above.text == text.text for above in self._chain):
            chain = " includes ".join(repr(way) for way in [*ways[ways.index(text.path or "<map>") :], text.path or "<map>"])
            raise item.span.error("M004", f"the map includes itself: {chain}", hint="take one of these includes out")
        if len(self._chain) == DEPTH:
            raise item.span.error("M004", f"includes are more than {DEPTH} deep", hint="include what is needed where it is needed")
        self._included += 1
        if self._included > INCLUDES:
            raise item.span.error("M004", f"the map has more than {INCLUDES} includes", hint="include each file once")
        return text


def _items(text: MapText) -> list[Item]:
    """The statements of one text, includes not resolved."""
    builder = TreeBuilder(text)
    try:
        items: list[Item] = lalr.drive(text.text, builder.actions())
    except lalr.TooDeep as deep:
        raise builder.span(deep.offset, deep.offset + 1).error(
            "M003",
            f"brackets are nested more than {lalr.DEPTH} deep",
            hint="no rule needs that; a closing bracket may be missing far above",
        ) from None
    except lalr.Unexpected as unexpected:
        from porter.mapping.syntax_errors import explained

        raise explained(unexpected, text, builder.span) from None
    return items


def _check_repeated(item: _Declaration, earlier: _Declaration, same_stage: bool) -> None:
    """What is said again with the same words is welcome from another file or in another stage, where it is needed too."""
    if item == earlier and (item.span.text is not earlier.span.text or not same_stage):
        return
    if isinstance(item, Table | Param):
        what = f"{'table' if isinstance(item, Table) else 'param'} '{item.name}'"
    else:
        what = "'expect'" if isinstance(item, Expect) else "'rest'"
    hint = f"the first is on {earlier.span.seen_from(item.span)}; leave one of them out"
    raise item.span.error("M005", f"{what} is said a second time", hint=hint)
