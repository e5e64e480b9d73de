"""`porter map list`: the built-in maps, and the operations that maps can use."""

from __future__ import annotations

import click

from porter.cli.options import common_options
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.mapping import library
from porter.mapping.ops.registry import describe


@click.command("list", short_help="List the built-in maps and the operations.")
@common_options()
@click.pass_obj
def command(screen: Screen) -> ExitCode:
    """List the maps that come with porter, and the operations with what they take and how they are undone."""
    maps, operations = library.describe(), describe()
    if screen.json:
        screen.document(
            {
                "maps": [{"name": name, "description": text} for name, text in maps.items()],
                "operations": [
                    {"name": o.name, "arguments": o.arguments, "takes": o.takes, "undone": o.undone, "summary": o.summary}
                    for o in operations
                ],
            }
        )
        return ExitCode.YES
    screen.line(screen.styled("MAPS", "head"))
    for name, text in maps.items():
        screen.line(name)
        screen.paragraph(text, "    ")
    screen.line()
    screen.line(screen.styled("OPERATIONS", "head"))
    for o in operations:
        if o.arguments:
            screen.paragraph(f"{o.arguments})", f"{o.name}(")
        else:
            screen.line(o.name)
        screen.paragraph(o.summary, "    ")
        screen.paragraph(o.takes, "    takes   ")
        screen.paragraph(o.undone, "    undone  ")
    return ExitCode.YES
