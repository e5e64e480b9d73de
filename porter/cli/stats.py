"""`porter stats`: what the numbers in a weight file are like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import click

from porter.check.statistics.measure import Statistics, measure
from porter.cli.options import common_options, read_options
from porter.cli.outputs import check_folder, check_output
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.check.statistics.plot import LeftOut

Scale = Literal["linear", "log"]


@click.command("stats", short_help="Say what the numbers of a weight file are like.")
@click.argument("file")
@click.argument("pattern", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="Show every tensor; terminals otherwise cut long tables.")
@click.option("--quantiles", is_flag=True, help="Show quantiles instead of moments.")
@click.option("--histogram", is_flag=True, help="Draw a histogram of every tensor that is shown.")
@click.option("--scale", type=click.Choice(["linear", "log"]), default="linear", help="Of histograms: even bins, or powers of two.")
@click.option("--channels", is_flag=True, help="With --json, the range of every channel.")
@click.option("--compare", "other", metavar="OTHER", help="Put the tensors of OTHER beside those of the same name, on one range.")
@click.option("--plot", "picture", metavar="PATH", help="Draw the distributions as a .png or .svg. Needs matplotlib.")
@click.option("--tensorboard", "events", metavar="DIR", help="Write the histograms for TensorBoard into DIR.")
@click.option("--overwrite", is_flag=True, help="Replace the plot if it exists.")
@read_options
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    file: str,
    pattern: str | None,
    everything: bool,
    quantiles: bool,
    histogram: bool,
    scale: Scale,
    channels: bool,
    other: str | None,
    picture: str | None,
    events: str | None,
    overwrite: bool,
    source_format: str | None,
    select: str | None,
    net: str | None,
) -> ExitCode:
    """Say what the numbers of FILE are like: moments, extremes, zeros, NaNs, channels, equal tensors.

    PATTERN chooses tensors by name; '*' stands for any text. Values are read once. Quantiles and histograms take a second look
    at large tensors; they are found where they are shown, and for --json. Moments and extremes are those of finite numbers.
    """
    if picture is not None:
        from porter.check.statistics.plot import check_path

        check_path(picture)
        check_output(picture, (file, other, net), overwrite=overwrite)
    if events is not None:
        check_folder(events)
    if other is not None and (quantiles or histogram or events is not None):
        raise UsageError("U804", "--compare goes with --plot and --json, and with none of --quantiles, --histogram, --tensorboard")
    deep = screen.json or quantiles or histogram or other is not None or picture is not None or events is not None
    with open_store(file, source_format, options=ReadOptions(select=select, net=net)) as store:
        result = _measured(screen, store, pattern, deep)
        if other is not None:
            with open_store(other) as second:
                _compare(screen, store, second, result, pattern, picture, everything)
                screen.notices(second.notices)
        else:
            _draw(screen, store, result, picture, events)
            _show(screen, store, result, everything, quantiles, histogram, scale, channels)
        screen.notices(store.notices)
    return ExitCode.YES


def _measured(screen: Screen, store: TensorStore, pattern: str | None, deep: bool) -> Statistics:
    with screen.progress("reading", store.nbytes) as advance:
        result = measure(store, pattern, distribution=deep, advance=advance)
    for one in result.tensors:
        if one.spec.dtype.kind == "complex":
            store.note("note", "real and imaginary parts are numbers on their own here", one.spec.name)
    return result


def _show(
    screen: Screen,
    store: TensorStore,
    result: Statistics,
    everything: bool,
    quantiles: bool,
    histogram: bool,
    scale: Scale,
    channels: bool,
) -> None:
    if screen.json:
        from porter.check.statistics.document import document

        screen.document({**_source(store), **document(result, channels=channels), "compared": None, **_notices(store)})
        return
    from porter.cli import stats_screen

    stats_screen.overview(screen, result, everything, quantiles)
    if histogram:
        stats_screen.histograms(screen, result, scale, everything)


def _title(store: TensorStore) -> str:
    return os.path.basename(store.source.path) if store.source else "weights"


def _source(store: TensorStore) -> dict[str, object]:
    source = store.source
    return {"path": source.path if source else None, "format": source.format if source else None}


def _notices(*stores: TensorStore) -> dict[str, object]:
    return {"notices": [{"kind": n.kind, "message": n.message, "tensor": n.tensor} for store in stores for n in store.notices]}


def _compare(
    screen: Screen,
    store: TensorStore,
    second: TensorStore,
    result: Statistics,
    pattern: str | None,
    picture: str | None,
    everything: bool,
) -> None:
    from porter.check.statistics.comparison import side_by_side

    found = side_by_side(result, _measured(screen, second, pattern, True))
    if not found:
        raise UsageError("U805", "the two files have no tensor of the same name", hint="'porter convert --map' gives them the same names")
    if picture is not None:
        from porter.check.statistics.plot import plot_compared

        names = (_title(store), _title(second))
        _drawn(screen, picture, plot_compared(found, picture, "Distributions of two files' weights", names))
    if screen.json:
        from porter.check.statistics.document import compared_document, document

        both = {"other": _source(second), "tensors": compared_document(found)}
        screen.document({**_source(store), **document(result), "compared": both, **_notices(store, second)})
    else:
        from porter.cli import stats_screen

        stats_screen.comparison(screen, found, everything)
        stats_screen.unpaired(screen, store, second)


def _draw(screen: Screen, store: TensorStore, result: Statistics, picture: str | None, events: str | None) -> None:
    if picture is not None:
        from porter.check.statistics.plot import plot

        _drawn(screen, picture, plot(result, picture, _title(store)))
    if events is not None:
        from porter.check.statistics.tensorboard import write_events

        empty = sum(not t.summary.counts.finite for t in result.tensors)
        missing = f", tensors left out: {empty:,} without a finite number" if empty else ""
        _saved(screen, f"histograms{missing}", write_events(result, events))


def _drawn(screen: Screen, picture: str, left_out: LeftOut) -> None:
    parts = ((left_out.smaller, "smaller ones"), (left_out.empty, "without a finite number"))
    missing = " and ".join(f"{n:,} {what}" for n, what in parts if n)
    _saved(screen, f"plot, tensors left out: {missing}" if missing else "plot", picture)


def _saved(screen: Screen, what: str, path: str) -> None:
    if not screen.quiet:
        screen.aside("saved", f"{what} → {screen.name(path)}", "good")
