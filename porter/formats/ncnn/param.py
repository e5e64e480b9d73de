"""The text of an ncnn net: its layers with their parameters.

    7767517
    12 13                                        layers, blobs
    Convolution  conv1  1 1  data conv1  0=10 1=3 5=1 6=270

A line is a layer: type, name, how many inputs and outputs, their names, and parameters by number. Parameters are kept as
text, and are looked at when a layer's weights depend on them.

Source: Tencent/ncnn 20260526, `src/net.cpp` (Net::load_param) and `src/paramdict.cpp` (ParamDict::load_param).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from porter.dataclass import dataclass
from porter.errors import FormatError

MAGIC = b"7767517"
BINARY_MAGIC = (7767517).to_bytes(4, "little")
"""What `.param.bin` begins with, where layers have numbers in place of names."""

_PARAMETER = re.compile(r"(-?[0-9]{1,6})=(\"[^\"]*\"?|[^ \t]*)")
_WORD = re.compile(r"[^ \t]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")
_FIRST_ARRAY = -23300
"""Arrays of old files have the key -23300 minus their number."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its type ("Convolution"), its name, its parameters by number, each with the column of its value, and its line."""

    type: str
    name: str
    parameters: Mapping[int, tuple[str, int]]
    path: str
    line: int
    text: str

    def integer(self, key: int, default: int = 0) -> int:
        """Parameter `key`, or `default` where the layer does not state it.

        Raises:
            FormatError: it is no whole number of 32 bits.
        """
        if key not in self.parameters:
            return default
        text, _ = self.parameters[key]
        value = int(text) if _WHOLE.fullmatch(text) else None
        if value is None or not -(1 << 31) <= value < 1 << 31:
            raise self.error(f"parameter {key} of {self.type} must be a whole number, and is '{text[:40]}'", key)
        return value

    def error(self, message: str, key: int | None = None) -> FormatError:
        """An error about this layer, pointing at parameter `key` where it is stated."""
        text, column = self.parameters.get(key, (self.type, 1)) if key is not None else (self.type, 1)
        return FormatError(
            "F082",
            message,
            path=self.path,
            line=self.line,
            column=column,
            excerpt=self.text,
            width=max(len(text), 1),
            tensor=self.name,
            hint="the .param file is damaged or was changed by hand; take the one that came with the .bin",
        )


def looks_like_param(head: bytes) -> bool:
    """Whether a file that begins with `head` is the text of an ncnn net."""
    words = head.split(None, 1)
    return bool(words) and words[0] == MAGIC


def parse(data: bytes, path: str) -> list[Layer]:
    """The layers of the net in `data`, the whole of `path`, in order.

    Raises:
        FormatError: with line and column.
    """
    lines = [(n, line.rstrip(" \t\r")) for n, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1)]
    lines = [(n, line) for n, line in lines if line.strip()]
    if not lines or lines[0][1].strip() != MAGIC.decode():
        raise _broken("the first line must be 7767517", path, *(lines[0] if lines else (1, "")))
    counts = lines[1][1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(c.isascii() and c.isdigit() and len(c) < 10 for c in counts):
        raise _broken("the second line must be the numbers of layers and blobs", path, *(lines[1] if len(lines) > 1 else lines[0]))
    layers = [_layer(text, path, number) for number, text in lines[2:]]
    if len(layers) != int(counts[0]):
        raise _broken(f"the file says {counts[0]} layers, and has {len(layers)}", path, *lines[1], hint=_COUNT_HINT)
    return layers


_COUNT_HINT = "the file was cut, or a layer was added or taken out by hand and the number not corrected"


def _layer(text: str, path: str, number: int) -> Layer:
    words = list(_WORD.finditer(text))
    counts = [w[0] for w in words[2:4]]
    if len(counts) < 2 or not all(c.isascii() and c.isdigit() and len(c) < 7 for c in counts):
        raise _broken("a layer is a type, a name, the numbers of its inputs and outputs, their names, and parameters", path, number, text)
    blobs = sum(map(int, counts))
    if len(words) < 4 + blobs:
        raise _broken(
            f"the layer has {counts[0]} inputs and {counts[1]} outputs, the line has {len(words) - 4} words for them", path, number, text
        )
    at, parameters = words[3 + blobs].end(), dict[int, tuple[str, int]]()
    while at < len(text):
        found = _PARAMETER.match(text, at) if text[at] not in " \t" else None
        if found is None:
            if text[at] in " \t":
                at += 1
                continue
            raise _broken("parameters are written as number=value", path, number, text, at + 1)
        key = int(found[1])
        parameters[_FIRST_ARRAY - key if key <= _FIRST_ARRAY else key] = found[2], found.start(2) + 1
        at = found.end()
    return Layer(words[0][0], words[1][0], parameters, path, number, text)


def _broken(message: str, path: str, line: int, text: str, column: int = 1, *, hint: str | None = None) -> FormatError:
    return FormatError("F080", message, path=path, line=line, column=column, excerpt=text, hint=hint)
