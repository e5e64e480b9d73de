"""`porter tensorrt`: the commands that build networks of TensorRT and check them."""

from __future__ import annotations

import sys

import click

from porter.cli.command_table import CommandTable
from porter.cli.status import ExitCode

COMMANDS = {
    "build": "Build a network with TensorRT, check every weight, and write its engine.",
    "verify": "Compare what TensorRT holds with the network, value by value, without a GPU.",
}
"""Commands by name; `porter.cli.tensorrt_<name>` holds `command`."""


@click.group(
    "tensorrt",
    cls=CommandTable,
    table=COMMANDS,
    prefix="porter.cli.tensorrt_",
    invoke_without_command=True,
    short_help="Build networks with TensorRT, and prove what they hold.",
)
@click.pass_context
def command(ctx: click.Context) -> ExitCode | None:
    """Build networks with TensorRT's Python package, 'tensorrt' or 'tensorrt_rtx', and prove what they hold. No GPU is needed."""
    if ctx.invoked_subcommand is not None:
        return None
    sys.stderr.write(ctx.get_help() + "\n")
    return ExitCode.FAILED
