"""Attributes of HDF5 objects, and their values as text, numbers or lists of them."""

from __future__ import annotations

import struct
from typing import Protocol

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.hdf5.messages import FIXED, FLOAT, STRING, Space, Type

AttributeValue = str | int | float | list[str] | list[int] | list[float]


class Strings(Protocol):
    """The file, as far as attributes need it: strings of variable length lie elsewhere in it."""

    def text(self, data: bytes, kind: Type) -> bytes:
        """The bytes of one string element, of fixed or variable length."""
        ...

    def broken(self, message: str) -> FormatError:
        """An error that says what is wrong with the file."""
        ...


@dataclass(frozen=True, slots=True)
class Attribute:
    """A named value beside an object. `data` are its elements as the file has them."""

    name: str
    type: Type
    space: Space
    data: bytes
    file: Strings

    def strings(self) -> list[str]:
        """Its elements as text; bytes that are not UTF-8 become lone surrogates. An empty list where it has no elements."""
        return [b.decode("utf-8", "surrogateescape") for b in self.bytes()]

    def bytes(self) -> list[bytes]:
        """Its elements, which must be strings, as bytes."""
        size, count = self.type.size, self.space.elements
        if not count:
            return []
        if count * size > len(self.data):
            raise self.file.broken(f"the attribute '{self.name}' is shorter than its shape")
        return [self.file.text(self.data[i * size : (i + 1) * size], self.type) for i in range(count)]

    def is_text(self) -> bool:
        """Whether its elements are strings."""
        return self.type.kind == STRING or self.type.variable_string

    def value(self) -> AttributeValue | None:
        """Its value as JSON: a string or number, or a list of them; None for any other type."""
        if self.is_text():
            texts = self.strings()
            return texts[0] if self.space.shape == () and texts else texts
        count = self.space.elements
        if self.type.kind not in (FIXED, FLOAT) or self.type.size not in (1, 2, 4, 8) or count * self.type.size > len(self.data):
            return None
        code = "?bh?i???q"[self.type.size] if self.type.kind == FIXED else "??e?f???d"[self.type.size]
        if code == "?":
            return None
        if self.type.kind == FIXED and not self.type.fields[2]:
            code = code.upper()
        numbers = struct.unpack(f"{'>' if self.type.big_endian else '<'}{count}{code}", self.data[: count * self.type.size])
        return numbers[0] if self.space.shape == () else list(numbers)
