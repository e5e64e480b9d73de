"""The text of a Darknet net: sections of settings, the first of which is `[net]` and each other one a layer.

    [net]                      white space counts for nothing, lines of # and ; are comments
    width=416
    [convolutional]
    filters=32

Source: AlexeyAB/darknet at 59596d7, `src/parser.c` (read_cfg), `src/utils.c` (strip), `src/option_list.c` (the first of two
equal keys counts; `atoi` reads the digits that a value begins with).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError

NET = ("net", "network")

MOST_SECTIONS = 20_000
"""Darknet's largest nets have some hundred layers."""

_BLANKS = re.compile(r"[ \t\r\v\f]+")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_LIST = re.compile(r"[+-]?[0-9]{1,9}(?:,[+-]?[0-9]{1,9})*")


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its name ("convolutional"), its settings as text, each with its line and that line as it is, and its own line."""

    name: str
    settings: Mapping[str, tuple[str, int, str]]
    path: str
    line: int
    raw: str

    def integer(self, key: str, default: int, least: int | None = None) -> int:
        """The setting `key`, or `default` where it is not there.

        Raises:
            FormatError: it does not begin with a number, is beyond 32 bits, or is less than `least`.
        """
        text = self.text(key, str(default))
        found = _WHOLE.match(text)
        value = int(found[0]) if found is not None and len(found[0]) < 12 else None
        if value is None or not -(1 << 31) <= value < 1 << 31:
            raise self.error(f"{key} must be a whole number, and is '{text[:40]}'", key)
        if least is not None and value < least:
            raise self.error(f"[{self.name}] needs {key} of at least {least}, and has {value}", key)
        return value

    def text(self, key: str, default: str) -> str:
        """The setting `key`, or `default` where it is not there."""
        return self.settings[key][0] if key in self.settings else default

    def references(self, key: str, index: int) -> list[int]:
        """The layers that the setting `key` of layer `index` names; negative numbers count back from it.

        Raises:
            FormatError: there is no such setting, or it names no layer before this one.
        """
        text = self.text(key, "").rstrip(",")
        found = _LIST.match(text)
        if found is None:
            raise self.error(f"[{self.name}] needs {key}: the numbers of layers before it", key)
        if found[0].count(",") > MOST_SECTIONS:
            raise self.error(f"{key} names more layers than any net has", key)
        given = [int(part) for part in found[0].split(",")]
        layers = [index + n if n < 0 else n for n in given]
        if not all(0 <= n < index for n in layers):
            raise self.error(f"{key}={found[0][:40]} names a layer that is not before this one, which is layer {index}", key)
        return layers

    def error(self, message: str, key: str = "") -> FormatError:
        """An error about this section, pointing at the line of the setting `key` where it is stated."""
        _, line, raw = self.settings.get(key, ("", self.line, self.raw))
        hint = "the .cfg file is damaged or was changed by hand; take the one that the weights were trained with"
        column = len(raw) - len(raw.lstrip()) + 1
        return FormatError("F082", message, path=self.path, line=line, column=column, excerpt=raw, width=len(raw) - column + 1, hint=hint)


def looks_like_cfg(head: bytes) -> bool:
    """Whether a file that begins with `head` is the text of a net: its first section is `[net]`."""
    for line in head.splitlines():
        bare = b"".join(line.split())
        if bare and bare[:1] not in b"#;":
            return bare in (b"[net]", b"[network]")
    return False


def parse(data: bytes, path: str) -> tuple[list[Section], list[int]]:
    """The sections of `data`, the whole of `path`, `[net]` first, and the numbers of lines that are no settings.

    Raises:
        FormatError: it does not begin with `[net]`, or a section has no end.
        UnsafeFileError: it has far more sections than any net.
    """
    sections: list[Section] = []
    settings: dict[str, tuple[str, int, str]] = {}
    strays: list[int] = []
    # Comments are in whatever encoding their author's editor had.
    for number, text in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        line, raw = _BLANKS.sub("", text).removeprefix("\ufeff"), text.rstrip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            if not line.endswith("]"):
                raise FormatError("F080", "a section's name ends with ]", path=path, line=number, column=1, excerpt=raw)
            settings = {}
            if len(sections) == MOST_SECTIONS:
                raise UnsafeFileError("S003", f"a net of more than {MOST_SECTIONS} layers", path=path, line=number)
            sections.append(Section(line[1:-1], settings, path, number, raw))
            continue
        key, equals, value = line.partition("=")
        if not sections or not equals or not value:
            strays.append(number)
        else:
            settings.setdefault(key, (value, number, raw))
    if not sections or sections[0].name not in NET:
        first = sections[0].line if sections else 1
        raise FormatError("F080", "the first section of a Darknet net is [net]", path=path, line=first)
    return sections, strays
