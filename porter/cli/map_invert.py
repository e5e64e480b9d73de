"""`porter map invert`: the map that leads back."""

from __future__ import annotations

import click

from porter.cli.map_output import output_option, write_map
from porter.cli.options import common_options, map_params
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.mapping import library
from porter.mapping.inverse import invert


@click.command("invert", short_help="Turn a map around.")
@click.argument("map_name", metavar="MAP")
@output_option
@map_params
@common_options()
@click.pass_obj
def command(screen: Screen, map_name: str, output: str | None, overwrite: bool, params: dict[str, str]) -> ExitCode:
    """Print the map that undoes MAP bit for bit, or say which of its lines go one way only, and why."""
    write_map(screen, invert(library.load(map_name), params=params), f"the inverse of {map_name}", output, overwrite)
    return ExitCode.YES
