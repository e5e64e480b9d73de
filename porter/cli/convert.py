"""`porter convert`: the weights of one file in another format."""

from __future__ import annotations

import os
from typing import Any, Literal

import click

from porter.cli.options import byte_size, common_options, from_option
from porter.cli.quantities import bytes_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.table import Cell, Column
from porter.conversion import Change, Conversion, Plan, settle
from porter.formats.base import Loss, WriteOptions, WriteReport
from porter.store import TensorStore

ROWS = 40
"""Rows of a table that a terminal shows without `-v`."""

CHANGES = (Column("TENSOR", fit="shrink"), Column("SHAPE"), Column("DTYPE"), Column("BECOMES"))


@click.command("convert", short_help="Write the weights of one file in another format.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@from_option
@click.option(
    "-t",
    "--to",
    "target_format",
    metavar="FORMAT",
    help="Format of the output (wts:nvidia-v2); by default its extension tells.",
)
@click.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
@click.option("--select", metavar="PATH", help="The dictionary of a nested checkpoint that holds the weights (model.ema).")
@click.option("--net", metavar="PROTOTXT", help="Layer types and parameters, for Caffe.")
@click.option("--into", metavar="MODEL", help="Put the weights into this model, and change nothing else in it (ONNX, Keras).")
@click.option(
    "--ints",
    type=click.Choice(["cast", "drop", "error"]),
    default="cast",
    help="Integers, where the format has only floats: cast them (default), drop them, or refuse.",
)
@click.option("--allow-lossy", is_flag=True, help="Write values that the format cannot hold exactly, and say which.")
@click.option("--max-shard-size", type=byte_size, metavar="SIZE", help="Split the output into files of at most this size (5GB, 512MiB).")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be changed and lost, and write nothing.")
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    source: str,
    target: str,
    source_format: str | None,
    target_format: str | None,
    overwrite: bool,
    select: str | None,
    net: str | None,
    into: str | None,
    ints: Literal["cast", "drop", "error"],
    allow_lossy: bool,
    max_shard_size: int | None,
    dry_run: bool,
) -> ExitCode:
    """Write the weights of SRC to DST.

    DST appears whole or not at all, and every loss is named. What cannot be held exactly is refused unless an option
    allows it.
    """
    write = WriteOptions(overwrite=overwrite, ints=ints, allow_lossy=allow_lossy, into=into, max_shard_size=max_shard_size)
    conversion = settle(source, target, source_format=source_format, target_format=target_format, select=select, net=net, write=write)
    with conversion.open() as store:
        seen = len(store.notices)
        screen.notices(store.notices)
        if dry_run:
            return _foresee(screen, conversion, store)
        with screen.progress("writing", store.nbytes) as advance:
            report = conversion.save(store, advance)
        screen.notices([*store.notices[seen:], *report.notices])
        if screen.json:
            screen.document(_document(conversion, store, report))
        else:
            _print(screen, store, report)
    return ExitCode.YES


def _print(screen: Screen, store: TensorStore, report: WriteReport) -> None:
    if screen.quiet:
        for loss in report.losses:
            if loss.saved_in is None:
                screen.aside("lost", _loss_text(screen, loss))
        return
    kind = _kind(report.format, report.dialect)
    wrote = ("wrote", kind, count(report.tensors, "tensor"), bytes_text(report.nbytes), screen.listed(report.paths))
    screen.aligned([_source_line(screen, store), wrote])
    _print_losses(screen, report.losses)


def _source_line(screen: Screen, store: TensorStore) -> tuple[str, ...]:
    source = store.source
    kind = _kind(source.format, source.dialect) if source else "store"
    return "read", kind, count(len(store), "tensor"), bytes_text(store.nbytes), screen.name(source.path) if source else ""


def _print_losses(screen: Screen, losses: tuple[Loss, ...]) -> None:
    for loss in losses:
        label = screen.styled("lost", "note") if loss.saved_in is None else "saved"
        screen.line(f"{label}{' ' * (3 if loss.saved_in is None else 2)}{_loss_text(screen, loss)}")


def _loss_text(screen: Screen, loss: Loss) -> str:
    tensors = f" ({screen.listed(loss.tensors)})" if loss.tensors else ""
    aside = f" → {screen.name(loss.saved_in)}" if loss.saved_in is not None else ""
    return f"{screen.name(loss.detail)}{tensors}{aside}"


def _kind(name: str, dialect: str | None) -> str:
    return f"{name}:{dialect}" if dialect else name


def _document(conversion: Conversion, store: TensorStore, report: WriteReport) -> dict[str, Any]:
    return {
        "dry_run": False,
        "source": _source(conversion, store),
        "target": {
            "path": conversion.target,
            "format": report.format,
            "dialect": report.dialect,
            "tensors": report.tensors,
            "bytes": report.nbytes,
        },
        "files": [{"path": path, "bytes": os.path.getsize(path)} for path in report.paths],
        "changes": [],
        "losses": _losses(report.losses),
        "notices": _notices(store, report),
    }


def _source(conversion: Conversion, store: TensorStore) -> dict[str, Any]:
    dialect = store.source.dialect if store.source else None
    return {
        "path": conversion.source,
        "format": conversion.source_format.name,
        "dialect": dialect,
        "tensors": len(store),
        "bytes": store.nbytes,
    }


def _losses(losses: tuple[Loss, ...]) -> list[dict[str, Any]]:
    return [{"kind": x.kind, "detail": x.detail, "tensors": x.tensors, "saved_in": x.saved_in} for x in losses]


def _notices(store: TensorStore, report: WriteReport | None) -> list[dict[str, Any]]:
    notices = [*store.notices, *(report.notices if report is not None else ())]
    return [{"kind": n.kind, "message": n.message, "tensor": n.tensor} for n in notices]


def _foresee(screen: Screen, conversion: Conversion, store: TensorStore) -> ExitCode:
    plan = conversion.foresee(store)
    if screen.json:
        screen.document(_plan_document(conversion, store, plan))
    else:
        _print_plan(screen, conversion, store, plan)
    return ExitCode.NO if plan.refused else ExitCode.YES


def _plan_document(conversion: Conversion, store: TensorStore, plan: Plan) -> dict[str, Any]:
    return {
        "dry_run": True,
        "source": _source(conversion, store),
        "target": {
            "path": conversion.target,
            "format": conversion.target_format.name,
            "dialect": conversion.write_options.dialect,
            "tensors": len(store) - sum(c.action in ("dropped", "refused") for c in plan.changes),
            "bytes": None,
        },
        "files": [],
        "changes": [{"tensor": c.tensor, "shape": c.shape, "dtype": c.dtype, "action": c.action, "to": c.to} for c in plan.changes],
        "losses": _losses(plan.losses),
        "notices": _notices(store, None),
    }


def _print_plan(screen: Screen, conversion: Conversion, store: TensorStore, plan: Plan) -> None:
    kind = _kind(conversion.target_format.name, conversion.write_options.dialect)
    refused = sum(c.action == "refused" for c in plan.changes)
    kept = len(store) - refused - sum(c.action == "dropped" for c in plan.changes)
    verb = "refuse" if refused else "write"
    screen.aligned([_source_line(screen, store), (verb, kind, count(refused or kept, "tensor"), "", screen.name(conversion.target))])
    _print_losses(screen, plan.losses)
    if plan.changes:
        shown = plan.changes if screen.verbose or not screen.terminal or len(plan.changes) <= ROWS else plan.changes[: ROWS - 5]
        screen.table(
            (Column("TENSOR", fit="shrink"), Column("SHAPE"), Column("DTYPE"), Column("BECOMES")), [_change(screen, c) for c in shown]
        )
        if len(shown) < len(plan.changes):
            screen.line(f"…{len(plan.changes) - len(shown):,} more (-v)")
    screen.paragraph("dry run: nothing was written; types and what the format keeps were checked, values, names and free space were not")


def _change(screen: Screen, change: Change) -> tuple[str, str, str, str | Cell]:
    words = {"widened": "", "cast": " if every value fits", "rounded": " (rounded where values do not fit)"}
    if change.to is not None:
        becomes: str | Cell = change.to + words[change.action]
    else:
        becomes = Cell(change.action, "bad" if change.action == "refused" else "dim")
    return screen.name(change.tensor), shape_text(change.shape), change.dtype, becomes
