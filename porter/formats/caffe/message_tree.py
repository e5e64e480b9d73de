"""The tree of a prototxt: messages and scalars by name, in the order of the text, with their places.

What a field means is for its reader to say: without a schema `1` may be a number, a flag or an enum's value. `render`
writes a tree as text that parses to an equal tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from porter.dataclass import dataclass, field

Kind = Literal["identifier", "number", "string"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as the text spells it: `text` is an identifier, a number's digits, or a string without quotes and escapes.

    Bytes of a string that are not UTF-8 are lone surrogates, as `surrogateescape` makes them.
    """

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its name (an extension's with brackets), its value, and where its name stands, 1-based; 0 in a tree made in memory."""

    name: str
    value: Scalar | Message
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class NumberRun:
    """Many fields of one name in a row, all numbers: `text` holds them in decimal, one space between two."""

    name: str
    text: str
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return self.text.count(" ") + 1

    def fields(self) -> Iterator[Field]:
        """The fields one by one, all at the place of the first."""
        for word in re.finditer("[^ ]+", self.text):
            yield Field(self.name, _number(word[0]), self.line, self.column)


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """Fields in the order of the text. Two messages are equal when their fields are, wherever they stand."""

    entries: tuple[Field | NumberRun, ...] = ()

    def __iter__(self) -> Iterator[Field]:
        for entry in self.entries:
            if isinstance(entry, Field):
                yield entry
            else:
                yield from entry.fields()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(f.name for f in self))

    def fields(self, name: str) -> list[Field]:
        """All fields called `name`."""
        return [f for e in self.entries if e.name == name for f in ((e,) if isinstance(e, Field) else e.fields())]

    def field(self, name: str) -> Field | None:
        """The last field called `name`, which counts where a schema allows one; None where there is none."""
        found = self.fields(name)
        return found[-1] if found else None

    def messages(self, name: str) -> list[Message]:
        """The values of all fields called `name` that are messages."""
        return [e.value for e in self.entries if e.name == name and isinstance(e, Field) and isinstance(e.value, Message)]

    def message(self, name: str) -> Message | None:
        """The message called `name`, merged from all its parts as protobuf does, or None."""
        parts = self.messages(name)
        if len(parts) > 1:
            return Message(tuple(entry for part in parts for entry in part.entries))
        return parts[0] if parts else None

    def scalars(self, name: str) -> list[bool | int | float | str]:
        """The values of all scalar fields called `name`, see `python_value`."""
        return [python_value(f.value) for f in self.fields(name) if isinstance(f.value, Scalar)]

    def strings(self, name: str) -> list[str]:
        """The spelling of all scalar fields called `name`."""
        return [f.value.text for f in self.fields(name) if isinstance(f.value, Scalar)]

    def string(self, name: str) -> str | None:
        """The spelling of the last scalar field called `name`, or None."""
        return found[-1] if (found := self.strings(name)) else None

    def lookup(self, path: str) -> bool | int | float | str | None:
        """The scalar at `path` ("convolution_param.num_output"), or None where the text does not state it."""
        *folders, name = path.split(".")
        message: Message | None = self
        for folder in folders:
            message = message.message(folder) if message is not None else None
        found = message.scalars(name) if message is not None else ()
        return found[-1] if found else None


def python_value(scalar: Scalar) -> bool | int | float | str:
    """What a scalar says without a schema: true and false, numbers, strings; other identifiers (enum values) as strings."""
    if scalar.kind == "number":
        return number_value(scalar.text)
    if scalar.kind == "identifier" and scalar.text in ("true", "false"):
        return scalar.text == "true"
    return scalar.text


def number_value(text: str) -> int | float:
    """The value of a number token: decimal, `0x` and octal integers, and floats with or without `f`."""
    digits = text.lstrip("+-")
    if digits[:2] in ("0x", "0X"):
        value: int | float = int(digits, 16)
    elif digits.isdigit() and len(digits) < 4000:
        octal = len(digits) > 1 and digits[0] == "0" and not set(digits) & {"8", "9"}
        value = int(digits, 8 if octal else 10)
    else:
        value = float(digits.rstrip("fF"))
    return -value if text[0] == "-" else value


def _number(text: str) -> Scalar:
    return Scalar("number" if text.lstrip("+-")[0] in "0123456789." else "identifier", text)


def render(message: Message) -> str:
    """`message` as text, one field a line, two spaces a level, in UTF-8 where a string is; other bytes are escaped."""
    lines: list[str] = []
    stack: list[tuple[Iterator[Field | NumberRun], str]] = [(iter(message.entries), "")]
    while stack:
        entries, indent = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            if stack:
                lines.append(f"{stack[-1][1]}}}")
        elif isinstance(entry, NumberRun):
            start = f"{indent}{entry.name}: "
            lines.append(start + entry.text.replace(" ", "\n" + start))
        elif isinstance(entry.value, Message):
            lines.append(f"{indent}{entry.name} {{")
            stack.append((iter(entry.value.entries), indent + "  "))
        else:
            lines.append(f"{indent}{entry.name}: {quote(entry.value.text) if entry.value.kind == 'string' else entry.value.text}")
    return "".join(line + "\n" for line in lines)


def quote(text: str) -> str:
    """`text` as a string literal: printable characters as they are, other bytes in octal."""
    return '"' + re.sub(r'["\\]|[^ -~]', _escaped, text) + '"'


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    return short or "".join(f"\\{byte:03o}" for byte in scalar_bytes(char))


def scalar_bytes(text: str) -> bytes:
    """The bytes that `text` of a string scalar stands for."""
    return text.encode("utf-8", "surrogateescape")
