"""`porter report`: everything that can be said of one weight file or of two, as one page."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any

import click

from porter.check.difference import Tolerance
from porter.check.precision.targets import USUAL, parse_targets
from porter.cli.options import common_options, map_options, read_options_of_both, tolerance_options
from porter.cli.outputs import check_output
from porter.cli.quantities import bytes_text
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.report.request import Inputs, MapInput, Request


@click.command("report", short_help="Write all that can be said of weight files as one page.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option("-o", "--output", metavar="PATH", help="The page, report.html. Needed unless --json is given.")
@click.option("--overwrite", is_flag=True, help="Replace the page if it exists.")
@click.option("--title", metavar="TEXT", help="The page's heading; by default the names of the files.")
@click.option(
    "--to", "types", metavar="TYPES", default=",".join(USUAL), show_default=True, help="What to audit the precision for, as 'porter audit'."
)
@click.option("--no-audit", is_flag=True, help="Leave the precision audit out, which takes most of the time.")
@click.option("--no-histograms", is_flag=True, help="Leave histograms and quantiles out.")
@tolerance_options
@map_options
@read_options_of_both
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    a: str,
    b: str | None,
    output: str | None,
    overwrite: bool,
    title: str | None,
    types: str,
    no_audit: bool,
    no_histograms: bool,
    rtol: float | None,
    atol: float | None,
    ulp: int | None,
    map_name: str | None,
    params: dict[str, str],
    from_a: str | None,
    from_b: str | None,
    select_a: str | None,
    select_b: str | None,
    net_a: str | None,
    net_b: str | None,
) -> ExitCode:
    """Write one page about the weights of A: tensors, histograms, precision, what a map makes of them, and how they differ from B.

    The page is a single file that needs no network. With --map, what the map makes of A is shown, and compared with B. Exits with
    0, or with 1 if A and B differ or the map does not fit.
    """
    if output is None and not screen.json:
        raise UsageError("U960", "nothing says where the page is to go", hint="-o report.html, or --json for the same as JSON")
    if b is None and any(x is not None for x in (rtol, atol, ulp, from_b, select_b, net_b)):
        raise UsageError("U961", "options for a comparison are given, and no second file", hint="porter report A B")
    if params and map_name is None:
        raise UsageError("U922", "a parameter is given, and no map that could have it", hint="say '--map MAP'")
    if output is not None:
        check_output(output, (a, b, net_a, net_b, map_name), overwrite=overwrite)
    request = Request(
        title=title if title is not None else " and ".join(os.path.basename(path) for path in (a, b) if path is not None),
        date=_date(),
        targets=() if no_audit else parse_targets(types),
        histograms=not no_histograms,
        tolerance=Tolerance(rtol, atol, ulp),
        options=_reading((from_a, select_a, net_a), (from_b, select_b, net_b)),
    )
    with ExitStack() as stack:
        left = stack.enter_context(open_store(a, from_a, options=ReadOptions(select=select_a, net=net_a)))
        right = stack.enter_context(open_store(b, from_b, options=ReadOptions(select=select_b, net=net_b))) if b is not None else None
        inputs = Inputs(left, right, _map(map_name, params))
        document = _made(screen, request, inputs)
        screen.notices(n for store in (left, right) if store is not None for n in store.notices)
    if output is not None:
        _write(screen, document, output)
    if screen.json:
        screen.document(document)
    answer = document["verdict"]["answer"]
    return ExitCode.NO if answer in ("differs", "map does not fit") else ExitCode.YES


def _made(screen: Screen, request: Request, inputs: Inputs) -> dict[str, Any]:
    from porter.report.document import report

    stores = [s for s in (inputs.a, inputs.b) if s is not None]
    compared = sum(s.nbytes for s in stores) if len(stores) == 2 else 0
    with screen.progress("reading", inputs.a.nbytes * (2 if request.targets else 1) + compared) as advance:
        return report(request, inputs, advance)


def _write(screen: Screen, document: dict[str, Any], output: str) -> None:
    from porter.io.atomic import OutputGroup
    from porter.report.page import page

    data = page(document)
    with OutputGroup() as group:
        group.create(output).write(data)
    if screen.json or screen.quiet:
        return
    verdict = document["verdict"]
    if verdict["text"]:
        screen.line(screen.styled(verdict["text"], "good" if verdict["answer"] in ("equal", "within tolerance") else "bad"))
    screen.aside("saved", f"report, {bytes_text(len(data))} → {screen.name(output)}", "good")


def _map(name: str | None, params: dict[str, str]) -> MapInput | None:
    if name is None:
        return None
    from porter.mapping import library

    return MapInput(name, library.load(name), params)


def _reading(a: tuple[str | None, ...], b: tuple[str | None, ...]) -> dict[str, tuple[str, ...]]:
    """The words that say how the files are to be read: for a command on A, on B, and on both."""
    words: dict[str, list[str]] = {"a": [], "b": [], "both": []}
    for side, values in (("a", a), ("b", b)):
        for option, value in zip(("from", "select", "net"), values, strict=True):
            if value is not None:
                words[side] += [f"--{option}", value]
                words["both"] += [f"--{option}-{side}", value]
    return {k: tuple(v) for k, v in words.items()}


def _date() -> str:
    """Now, or the time that SOURCE_DATE_EPOCH says, in UTC. Source: reproducible-builds.org/specs/source-date-epoch (1.1)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    try:
        moment = time.gmtime(int(epoch) if epoch else None)
    except (ValueError, OverflowError, OSError) as error:
        hint = "it is a number of seconds since 1970"
        raise UsageError("U962", f"SOURCE_DATE_EPOCH is {epoch!r:.40}, which is no time", hint=hint) from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
