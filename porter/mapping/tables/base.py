"""What computes tables of the map language from a file: the rows by name, and what a user has to know about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from porter.dataclass import dataclass
from porter.store import TensorStore

Rows = tuple[tuple[str, str], ...]
"""Left and right words of a table, each at most once in its column."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables by name, and notices for the user: what was left alone, and what was assumed."""

    rows: Mapping[str, Rows]
    notices: tuple[str, ...] = ()


Area = Callable[[TensorStore], Tables | None]
"""Computes all tables of one area, or gives None where the store says nothing of it. Reads no values."""


def some(names: list[str], most: int = 3) -> str:
    """The first few of `names`, for a message."""
    return ", ".join(f"'{n}'" for n in names[:most]) + (", …" if len(names) > most else "")
