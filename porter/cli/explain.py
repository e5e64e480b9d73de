"""`porter explain`: what an error code means at length."""

from __future__ import annotations

import re

import click

from porter.cli.codes import AREAS, Explanation, explanations
from porter.cli.options import common_options
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError, did_you_mean


@click.command("explain", short_help="Explain an error code.")
@click.argument("code", required=False)
@common_options()
@click.pass_obj
def command(screen: Screen, code: str | None) -> ExitCode:
    """Say what the error CODE means, why porter stops there, and the way out; without CODE, list all codes."""
    table = explanations()
    if code is None:
        _list(screen, table)
        return ExitCode.YES
    # People paste what they see: error[F001], f001, F001:
    match = re.search(r"[A-Za-z][0-9]{3}", code)
    wanted = (match[0] if match else code).upper()
    found = table.get(wanted)
    if found is None:
        raise UsageError(
            "U904", f"there is no error code '{wanted}'", hint=did_you_mean(wanted, table) or "'porter explain' lists them all"
        )
    if screen.json:
        screen.document({"codes": [_document(found)]})
        return ExitCode.YES
    screen.line(screen.styled(f"{found.code}: {found.title}", "head"))
    for part in found.text.split("\n\n"):
        screen.line()
        screen.paragraph(" ".join(part.split()))
    return ExitCode.YES


def _list(screen: Screen, table: dict[str, Explanation]) -> None:
    if screen.json:
        screen.document({"codes": [_document(e) for e in table.values()]})
        return
    for area, name in AREAS.items():
        here = [e for e in table.values() if e.area == area]
        if here:
            screen.line(screen.styled(name, "head"))
            for e in here:
                screen.line(f"  {e.code}  {e.title}")


def _document(explanation: Explanation) -> dict[str, str]:
    return {"code": explanation.code, "area": explanation.area, "title": explanation.title, "text": explanation.text.strip()}
