"""`porter map compose`: two maps as one."""

from __future__ import annotations

import click

from porter.cli.map_output import output_option, write_map
from porter.cli.options import common_options
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.mapping import library
from porter.mapping.composition import compose


@click.command("compose", short_help="Make one map of two, one after the other.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@output_option
@common_options()
@click.pass_obj
def command(screen: Screen, first: str, second: str, output: str | None, overwrite: bool) -> ExitCode:
    """Print the map that does what A does, and then what B does with the result."""
    write_map(screen, compose(library.load(first), library.load(second)), f"{first}, then {second}", output, overwrite)
    return ExitCode.YES
