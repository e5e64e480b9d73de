"""`porter map show`: the text of a map."""

from __future__ import annotations

import click

from porter.cli.map_output import output_option, write_map
from porter.cli.options import common_options, map_params, read_options
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.mapping import library
from porter.mapping.providers import provider_of
from porter.mapping.scope import param_values
from porter.mapping.settled import settled


@click.command("show", short_help="Print a map with its includes written out.")
@click.argument("map_name", metavar="MAP")
@click.argument("source", metavar="[SRC]", required=False)
@read_options
@output_option
@map_params
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    map_name: str,
    source: str | None,
    source_format: str | None,
    select: str | None,
    net: str | None,
    output: str | None,
    overwrite: bool,
    params: dict[str, str],
) -> ExitCode:
    """Print MAP with its includes written out; with SRC and --param also the tables and parameters, as they are for that file."""
    loaded = library.load(map_name)
    if source is not None:
        with open_store(source, source_format, options=ReadOptions(select=select, net=net)) as store:
            screen.notices(store.notices)
            loaded = settled(loaded, param_values(loaded, params), provider_of(store))
    elif source_format is not None or select is not None or net is not None:
        raise UsageError("U927", "--from, --select and --net say how SRC is read, and there is none", hint="name a weight file after MAP")
    elif params:
        loaded = settled(loaded, param_values(loaded, params), None)
    write_map(screen, loaded, f"{map_name} for {source}" if source is not None else map_name, output, overwrite)
    return ExitCode.YES
