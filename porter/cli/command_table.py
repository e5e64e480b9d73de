"""A group of commands that are imported when they run; its help imports none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from porter.cli.options import find_command


class CommandTable(click.Group):
    """A group whose commands are the `command` of modules: `table` says each one's help by name, `prefix + name` is its module."""

    def __init__(self, *args: Any, table: Mapping[str, str], prefix: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table
        self.prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        import importlib

        command: click.Command = importlib.import_module(f"{self.prefix}{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] not in self.table and not args[0].startswith("-"):
            find_command(args[0], self.table, ctx.command_path)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))
