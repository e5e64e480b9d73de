"""Tables: aligned lines for pipes and files, by hand and at once; for terminals by rich, fitted to their width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
"""Spaces between columns."""

WRAPPED = 24
"""Width that a `wrap` column gets at least, if it can."""

UNLIMITED = 1 << 20

LEGIBLE = 24
"""Width below which names are not cut while there is a column to drop."""


class Column(NamedTuple):
    """A column: its title, and what happens to it in a terminal that is too narrow.

    `shrink` cells lose their middle, `wrap` cells take more lines; before names get too short, `drop` columns go.
    """

    title: str
    align: Literal["left", "right"] = "left"
    fit: Literal["keep", "shrink", "wrap", "drop"] = "keep"


class Cell(NamedTuple):
    """Text in one of the screen's styles (`good`, `bad`, `dim`)."""

    text: str
    style: str


Row = Sequence[str | Cell]


def text_of(cell: str | Cell) -> str:
    """The text of a cell."""
    return cell if isinstance(cell, str) else cell.text


def plain(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """One line a row, nothing shortened, columns aligned, no spaces at the ends."""
    table = [[c.title for c in columns], *([text_of(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = (
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        lines.append((" " * GAP).join(cells).rstrip() + "\n")
    return "".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose cells stand under each other, all to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [(" " * GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def rendered(columns: Sequence[Column], rows: Sequence[Row], width: int | None, colored: bool) -> str:
    """The table for a terminal `width` columns wide (None: as wide as it gets), by rich."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if width is not None:
        columns, rows = _fitted(columns, rows, width)
    styles = {"good": "green", "bad": "bold red", "dim": "dim"}
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), collapse_padding=True, header_style="bold")
    for column in columns:
        table.add_column(
            column.title, justify=column.align, no_wrap=column.fit != "wrap", overflow="ellipsis" if column.fit != "wrap" else "fold"
        )
    for row in rows:
        table.add_row(*(Text(text_of(cell), style=styles[cell.style] if isinstance(cell, Cell) else "") for cell in row))
    out = io.StringIO()
    console: Console = Console(
        file=out,
        force_terminal=colored,
        color_system="standard" if colored else None,
        width=width or UNLIMITED,
        highlight=False,
    )
    console.print(table)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _fitted(columns: Sequence[Column], rows: Sequence[Row], width: int) -> tuple[Sequence[Column], Sequence[Row]]:
    """The table without what a terminal `width` wide has no room for."""
    from rich.cells import cell_len

    widths = [max(cell_len(text) for text in (c.title, *(text_of(row[i]) for row in rows))) for i, c in enumerate(columns)]
    least = {"keep": 1 << 30, "drop": 1 << 30, "wrap": WRAPPED, "shrink": LEGIBLE}
    while sum(min(w, least[c.fit]) + GAP for c, w in zip(columns, widths, strict=True)) - GAP > width:
        at = next((i for i, c in enumerate(columns) if c.fit == "drop"), None)
        if at is None:
            break
        columns, rows = [*columns[:at], *columns[at + 1 :]], [[*row[:at], *row[at + 1 :]] for row in rows]
        del widths[at]
    over = sum(min(w, WRAPPED) if c.fit == "wrap" else w for c, w in zip(columns, widths, strict=True)) + GAP * (len(widths) - 1) - width
    for i in sorted((i for i, c in enumerate(columns) if c.fit == "shrink"), key=lambda i: -widths[i]):
        if over > 0:
            most = max(widths[i] - over, 12)
            over -= widths[i] - most
            rows = [[_shrunk(cell, most) if j == i else cell for j, cell in enumerate(row)] for row in rows]
    return columns, rows


def _shrunk(cell: str | Cell, most: int) -> str | Cell:
    return shortened(cell, most) if isinstance(cell, str) else Cell(shortened(cell.text, most), cell.style)


def shortened(text: str, most: int) -> str:
    """`text` with its middle replaced by `…` where it has more than `most` characters: names differ at both ends."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
