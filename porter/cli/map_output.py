"""Where commands that make maps put them: stdout, or a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from porter.cli.screen import Screen
from porter.errors import FileAccessError, printable
from porter.mapping.syntax import Map

F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    """`-o/--output FILE` and `--overwrite`."""
    function = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")(function)
    return click.option("-o", "--output", metavar="FILE", help="Write the map to this file instead of printing it.")(function)


def write_map(screen: Screen, map: Map, title: str, output: str | None, overwrite: bool) -> None:
    """Print or write `map`, under a comment that says what it is."""
    from porter.mapping.render import dumps

    write_text(screen, f"# {printable(title)}\n\n{dumps(map)}", output, overwrite, {})


def write_text(screen: Screen, text: str, output: str | None, overwrite: bool, more: dict[str, Any]) -> None:
    """Print or write the text of a map; with `--json` as a document, with `more` members.

    Raises:
        FileAccessError: the output exists, or cannot be written.
    """
    if output is not None:
        from porter.io.atomic import AtomicFile

        if not overwrite and os.path.lexists(output):
            raise FileAccessError("I010", "the output exists", path=output, hint="add --overwrite to replace it")
        file = AtomicFile(output)
        try:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.commit()
        except BaseException:
            file.discard()
            raise
    if screen.json:
        screen.document({"output": output, "text": text, **more})
    elif output is None:
        for line in text.splitlines():
            screen.line(line)
    elif not screen.quiet:
        screen.line(f"wrote {screen.name(output)}")
