"""`porter map`: the commands that work with maps."""

from __future__ import annotations

import sys

import click

from porter.cli.command_table import CommandTable
from porter.cli.status import ExitCode

COMMANDS = {
    "check": "Check a map against the tensors of one file, or of two.",
    "apply": "Write a file whose tensors are what a map makes of another's.",
    "invert": "Turn a map around.",
    "compose": "Make one map of two, one after the other.",
    "explain": "Follow one tensor through a map.",
    "infer": "Write the map that leads from one file to another.",
    "list": "List the built-in maps and the operations.",
    "show": "Print a map with its includes written out.",
}
"""Commands by name; `porter.cli.map_<name>` holds `command`."""


@click.group(
    "map",
    cls=CommandTable,
    table=COMMANDS,
    prefix="porter.cli.map_",
    invoke_without_command=True,
    short_help="Check, apply, invert, compose, explain and infer maps of names and layouts.",
)
@click.pass_context
def command(ctx: click.Context) -> ExitCode | None:
    """Work with maps: text files that say how names, layouts and values of tensors change.

    The language is described in schemas/pmap.md. MAP is a file, or the name of a built-in map ('porter map list').
    """
    if ctx.invoked_subcommand is not None:
        return None
    sys.stderr.write(ctx.get_help() + "\n")
    return ExitCode.FAILED
