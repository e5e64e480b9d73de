"""`porter map apply`: as `porter convert --map`."""

from __future__ import annotations

from typing import Any

import click

from porter.cli.convert import command as convert
from porter.cli.status import ExitCode


def _parameters() -> list[click.Parameter]:
    own = click.Argument(["map_name"], metavar="MAP")
    return [own, *[p for p in convert.params if p.name not in ("map_name", "raw")]]


@click.pass_context
def _apply(ctx: click.Context, /, **values: Any) -> ExitCode:
    """Write to DST what MAP makes of SRC, as 'porter convert SRC DST --map MAP' does."""
    code: ExitCode = ctx.invoke(convert, raw=False, **values)
    return code


command = click.Command(
    "apply",
    params=_parameters(),
    callback=_apply,
    help=_apply.__doc__,
    short_help="Write a file whose tensors are what a map makes of another's.",
)
