"""Where the commands print: results on stdout, everything else on stderr, colour and glyphs only where they can be shown."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

from porter.errors import PorterError, printable

if TYPE_CHECKING:
    from porter.cli.table import Column, Row
    from porter.store import Notice

Color = Literal["auto", "always", "never"]

_Row = TypeVar("_Row")

LONG_WORK = 50_000_000
"""Bytes of work from which on a progress bar is worth its start-up time."""

ROWS = 40
"""Rows of a table that a terminal shows without `-v` or `--all`."""

PATIENCE = 0.5
"""Seconds after which work that is counted in layers says how far it is."""

_ASCII = str.maketrans(
    {"×": "x", "…": "...", "·": "|", "–": "-", "Δ": "d", "→": "->", "←": "<-", "≥": ">=", "≤": "<=", "█": "#", "∞": "inf"}
)
_STYLES = {"error": "1;31", "note": "33", "help": "36", "good": "32", "bad": "1;31", "head": "1", "dim": "2"}


class Screen:
    """stdout and stderr of one run, and what the user said about them.

    Attributes:
        color: when to colour: `auto` colours terminals unless the environment says NO_COLOR or TERM=dumb.
        quiet: print errors and losses only.
        verbose: spell out what is otherwise summed up.
        json: the result is one JSON document.
        margin: what every line of the result begins with, where the result is a comment in something else.
    """

    color: Color
    quiet: bool
    verbose: bool
    json: bool
    margin: str

    def __init__(self) -> None:
        self.color = "auto"
        self.quiet = False
        self.verbose = False
        self.json = False
        self.margin = ""
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal's encoding lacks is shown escaped; it must not end the run.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    @property
    def terminal(self) -> bool:
        """Whether a person is looking at stdout."""
        return sys.stdout.isatty()

    @property
    def width(self) -> int | None:
        """Columns of the terminal, or None where stdout is none and lines may be of any length."""
        if not self.terminal:
            return None
        import shutil

        return max(shutil.get_terminal_size().columns, 20)

    def colored(self, stream: TextIO) -> bool:
        """Whether to colour what goes to `stream`."""
        if self.color != "auto":
            return self.color == "always"
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def styled(self, text: str, style: str, stream: TextIO | None = None) -> str:
        """`text` in the style of that name, where `stream` (stdout) is coloured."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colored(stream or sys.stdout) else text

    def name(self, text: str) -> str:
        """A name out of a file, safe to show: nothing that moves the cursor, nothing the terminal lacks."""
        text = printable(text)
        if not text.isascii():
            encoding = sys.stdout.encoding or "ascii"
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        return text

    def line(self, text: str = "") -> None:
        """One line of the result."""
        sys.stdout.write(self.margin + self._shown(text, sys.stdout) + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Row], below: Sequence[str] = ()) -> None:
        """A table of the result; columns that are empty in every row are left out. `below` has a line to go under each row, or ""."""
        from porter.cli import table

        keep = [i for i in range(len(columns)) if any(table.text_of(row[i]) for row in rows)]
        columns, rows = [columns[i] for i in keep], [[row[i] for i in keep] for row in rows]
        if self.terminal or self.colored(sys.stdout):
            text = table.rendered(columns, rows, self.width, self.colored(sys.stdout))
        else:
            text = table.plain(columns, rows)
        if below:
            head, *lines = text.splitlines()
            text = "\n".join([head, *(part for pair in zip(lines, below, strict=True) for part in pair if part)]) + "\n"
        if self.margin:
            text = "".join(self.margin + line for line in text.splitlines(keepends=True))
        sys.stdout.write(self._shown(text, sys.stdout))

    def first(self, rows: Sequence[_Row], everything: bool) -> Sequence[_Row]:
        """Those of `rows` that are shown: of more than `ROWS` a terminal shows the first, unless `everything` was asked for."""
        return rows if everything or not self.terminal or len(rows) <= ROWS else rows[: ROWS - 5]

    def more(self, hidden: int, option: str = "--all") -> None:
        """How many rows are not shown, if some are, and what shows them."""
        if hidden:
            self.line(f"…{hidden:,} more ({option})")

    def brief_table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """As `table`; of more than `ROWS` rows a terminal shows the first, and how many more there are, unless `-v` is given."""
        shown = self.first(rows, self.verbose)
        self.table(columns, shown)
        self.more(len(rows) - len(shown), "-v")

    def aligned(self, rows: Sequence[Row]) -> None:
        """Lines of the result whose parts stand under each other; in a terminal the words of the last part wrap beneath it."""
        from porter.cli import table

        texts = [[table.text_of(cell) for cell in row] for row in rows]
        start = max(map(len, table.aligned([row[:-1] for row in texts])), default=0) + table.GAP
        for line in table.aligned(texts):
            if self.width is None or len(line) <= self.width:
                self.line(line)
                continue
            import textwrap

            first, *more = textwrap.wrap(line[start:], max(self.width - start, 20), break_long_words=False, break_on_hyphens=False) or [""]
            self.line(line[:start] + first)
            for words in more:
                self.line(" " * start + words)

    def paragraph(self, text: str, label: str = "", style: str = "") -> None:
        """`text` behind `label`, in lines that fit the terminal; one line where there is none."""
        lines = [label + text]
        if self.width is not None:
            import textwrap

            lines = textwrap.wrap(text, self.width, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)
        for line in lines:
            self.line(self.styled(line, style) if style else line)

    def document(self, document: Mapping[str, Any]) -> None:
        """The result as JSON."""
        sys.stdout.write(document_text(document))

    def aside(self, label: str, text: str, style: str = "note") -> None:
        """One line on stderr, such as `note: …`."""
        sys.stderr.write(self.styled(f"{label}:", style, sys.stderr) + self._shown(f" {text}\n", sys.stderr))

    def notices(self, notices: Iterable[Notice]) -> None:
        """What reading or writing skipped, assumed or changed; equal messages about several tensors once."""
        if self.quiet:
            return
        groups: dict[str, list[str]] = {}
        for notice in notices:
            groups.setdefault(notice.message, []).extend([notice.tensor] if notice.tensor is not None else [])
        for message, tensors in groups.items():
            self.aside("note", self.name(message) + (f" ({self.listed(tensors)})" if tensors else ""))

    def listed(self, names: Sequence[str], few: int = 3) -> str:
        """Some names, and how many more; all of them with `-v`."""
        shown = names if self.verbose or len(names) <= few else names[: few - 1]
        more = len(names) - len(shown)
        return ", ".join(self.name(n) for n in shown) + (f" and {more:,} more" if more else "")

    def problem(self, error: PorterError, stream: TextIO | None = None) -> None:
        """Something that is wrong, as text on `stream` (stderr)."""
        stream = stream or sys.stderr
        label, _, rest = str(error).partition(":")
        stream.write(self.styled(label, "error", stream) + self._shown(f":{rest}\n", stream))

    def error(self, error: PorterError) -> None:
        """A clear error: on stderr as text, with `--json` on stdout as well."""
        self.problem(error)
        if self.json:
            where = error.where
            self.document(
                {
                    "error": {
                        "code": error.code,
                        "message": error.message,
                        "path": where.path,
                        "offset": where.offset,
                        "line": where.line,
                        "column": where.column,
                        "tensor": where.tensor,
                        "hint": error.hint,
                    }
                }
            )

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None] | None]:
        """A bar on stderr for about `total` bytes, cleared in the end; yields what to call with each number of bytes done.

        Yields None, and shows nothing, where the work is short or nobody is looking.
        """
        if total < LONG_WORK or not self._watched:
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        console = Console(file=sys.stderr, color_system="auto" if self.colored(sys.stderr) else None)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)

            def advance(nbytes: int) -> None:
                bar.advance(task, nbytes)
                if bar.tasks[task].completed > total:
                    # Text takes more bytes than weights do: from here on the end is not known.
                    bar.update(task, total=None)

            yield advance

    @contextmanager
    def layers(self, what: str, total: int) -> Iterator[Callable[[], None] | None]:
        """`what: layer 45 of 175` on stderr, cleared in the end; yields what to call for each layer that is done.

        Yields None, and shows nothing, where nobody is looking; begins when the work takes longer than `PATIENCE`.
        """
        if not self._watched:
            yield None
            return
        started, done, shown = time.monotonic(), 0, False

        def advance() -> None:
            nonlocal done, shown
            done += 1
            if time.monotonic() - started >= PATIENCE:
                shown = True
                sys.stderr.write(f"\r{what}: layer {done:,} of {total:,}\x1b[K")
                sys.stderr.flush()

        try:
            yield advance
        finally:
            if shown:
                sys.stderr.write("\r\x1b[K")

    @property
    def _watched(self) -> bool:
        """Whether somebody sees what moves on stderr."""
        return not self.quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def _shown(self, text: str, stream: TextIO) -> str:
        if text.isascii():
            return text
        try:
            text.encode(stream.encoding or "ascii")
        except UnicodeEncodeError:
            return text.translate(_ASCII)
        return text


def document_text(document: Mapping[str, Any]) -> str:
    """A JSON document, ASCII only: one line a member, one line an element of its lists."""
    members = [f"  {json.dumps(key)}: {_member(value)}" for key, value in document.items()]
    return "{\n" + ",\n".join(members) + "\n}\n"


def dumps(value: Any) -> str:
    """JSON on one line, ASCII only. NaN and infinities, which JSON lacks, become the strings NaN, Infinity, -Infinity."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _member(value: Any) -> str:
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return "[\n" + ",\n".join(f"    {dumps(item)}" for item in value) + "\n  ]"
    return dumps(value)
