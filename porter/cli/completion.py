"""`porter completion`: the script that a shell needs to complete porter's commands and options."""

from __future__ import annotations

import click

from porter.cli.screen import Screen
from porter.cli.status import ExitCode


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> ExitCode:
    """Print the completion script of SHELL.

    \b
    bash:  echo 'eval "$(porter completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(porter completion zsh)"' >> ~/.zshrc
    fish:  porter completion fish > ~/.config/fish/completions/porter.fish
    """
    from click.shell_completion import get_completion_class

    from porter.cli.main import COMPLETE

    kind = get_completion_class(shell)
    root = ctx.find_root().command
    if kind is None:  # click knows the three
        return ExitCode.FAILED
    screen: Screen = ctx.obj
    screen.line(kind(root, {}, "porter", COMPLETE).source().rstrip("\n"))
    return ExitCode.YES
