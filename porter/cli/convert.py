"""`porter convert`: the weights of one file in another format."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click

from porter.cli.options import byte_size, common_options, map_options, read_options
from porter.cli.outputs import refuse_inputs
from porter.cli.provenance import recorded, refuse_path
from porter.cli.quantities import bytes_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.table import Cell, Column
from porter.conversion import Change, Conversion, Plan, settle
from porter.dataclass import dataclass
from porter.errors import UsageError
from porter.formats.base import Loss, WriteOptions, WriteReport
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.check.precision.planned import Retyped

CHANGES = (Column("TENSOR", fit="shrink"), Column("SHAPE"), Column("DTYPE"), Column("BECOMES"))


@click.command("convert", short_help="Write the weights of one file in another format.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@read_options
@click.option(
    "-t",
    "--to",
    "target_format",
    metavar="FORMAT",
    help="Format of the output (wts:nvidia-v2); by default its extension tells.",
)
@click.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
@click.option("--into", metavar="MODEL", help="Put the weights into this model, and change nothing else in it (ONNX, Keras).")
@click.option(
    "--ints",
    type=click.Choice(["cast", "drop", "error"]),
    default="cast",
    help="Integers, where the format has only floats: cast them (default), drop them, or refuse.",
)
@click.option("--allow-lossy", is_flag=True, help="Write values that the format cannot hold exactly, and say which.")
@click.option("--dtype-plan", metavar="PLAN", help="Give tensors the element types of this plan, which 'porter audit --plan' writes.")
@map_options
@click.option("--raw", is_flag=True, help="Leave names and values as they are, even where a map is usual.")
@click.option(
    "--show-map", is_flag=True, help="Print the map that was used, as a file that can be kept; what else is printed is a comment in it."
)
@click.option(
    "--provenance", metavar="FILE", help="Write as JSON which rule made each tensor, of what, with SHA-256. Reads the inputs once more."
)
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
    dtype_plan: str | None,
    map_name: str | None,
    params: dict[str, str],
    raw: bool,
    show_map: bool,
    provenance: str | None,
    max_shard_size: int | None,
    dry_run: bool,
) -> ExitCode:
    """Write the weights of SRC to DST.

    DST appears whole or not at all, and every loss is named. What cannot be held exactly is refused unless an option
    allows it. From Caffe to PyTorch names and layouts are changed by the map caffe:torch, unless --map or --raw says otherwise.
    """
    write = WriteOptions(overwrite=overwrite, ints=ints, allow_lossy=allow_lossy, into=into, max_shard_size=max_shard_size)
    conversion = settle(
        source,
        target,
        source_format=source_format,
        target_format=target_format,
        select=select,
        net=net,
        write=write,
        map=map_name,
        params=params,
        raw=raw,
    )
    refuse_inputs(target, (net, map_name, dtype_plan))
    if provenance is not None:
        refuse_path(provenance, conversion)
    with conversion.open() as source_store:
        screen.notices(source_store.notices)
        read = len(source_store.notices)
        if conversion.map is not None and conversion.map.chosen and not screen.quiet:
            screen.aside("note", f"mapped by {conversion.map.name}, as is usual; --raw leaves names and values as they are")
        store, typed = _typed(conversion.mapped(source_store), source_store, dtype_plan)
        screen.notices(source_store.notices[read:])
        if store is not source_store:
            screen.notices(store.notices)
        if show_map and not screen.json:
            _show_map(screen, conversion, store)
        seen = len(store.notices)
        if dry_run:
            return _foresee(screen, conversion, source_store, store, typed, show_map)
        with screen.progress("writing", store.nbytes) as advance, recorded(provenance, conversion, store):
            report = conversion.save(store, advance)
        screen.notices([*store.notices[seen:], *report.notices])
        if screen.json:
            screen.document(_document(conversion, source_store, store, typed, report, show_map, provenance))
        else:
            _print(screen, conversion, source_store, store, typed, report)
            if provenance is not None and not screen.quiet:
                screen.line(f"saved  provenance → {screen.name(provenance)}")
    return ExitCode.YES


def _typed(store: TensorStore, source: TensorStore, dtype_plan: str | None) -> tuple[TensorStore, Typed | None]:
    """`store` with the element types of a plan, if there is one, and what that changes; `source` stays as it is."""
    if dtype_plan is None:
        return store, None
    from porter.check.precision.plan import read_plan
    from porter.check.precision.planned import copied, retype

    typed = copied(store) if store is source else store
    return typed, Typed(dtype_plan, tuple(retype(typed, read_plan(dtype_plan), dtype_plan)))


@dataclass(frozen=True, slots=True)
class Typed:
    """What the plan at `path` changes."""

    path: str
    tensors: tuple[Retyped, ...]

    def line(self, screen: Screen, store: TensorStore) -> tuple[str, ...]:
        """For people: how many tensors get which types, and what was rounded once they have been written."""
        types = ", ".join(dict.fromkeys(t.after.name for t in self.tensors))
        roundings = [t.rounding for t in self.tensors if t.rounding is not None]
        inexact, zero = sum(r.inexact for r in roundings), sum(r.underflowed for r in roundings)
        parts = [f"{len(self.tensors):,} become {types}" if self.tensors else "nothing changes"]
        parts += [f"{inexact:,} values rounded"] if roundings else []
        parts += [f"{zero:,} of them to zero"] if zero else []
        return "plan", screen.name(self.path), count(len(store), "tensor"), bytes_text(store.nbytes), "; ".join(parts)

    def changes(self) -> list[dict[str, Any]]:
        """The same for programs."""
        return [
            {
                "tensor": t.name,
                "shape": t.shape,
                "dtype": t.before.name,
                "action": "rounded" if t.narrower else "widened",
                "to": t.after.name,
                "by": "plan",
                "rounded": t.rounding.inexact if t.rounding is not None else None,
                "zeroed": t.rounding.underflowed if t.rounding is not None else None,
            }
            for t in self.tensors
        ]


def _show_map(screen: Screen, conversion: Conversion, store: TensorStore) -> None:
    """Print the map, and everything else from here on as comments in it."""
    from porter.cli.map_screen import text_for
    from porter.mapping.execution import MappedStore

    if conversion.map is None:
        raise UsageError("U923", "there is no map to show", hint="say '--map MAP'; 'porter map list' has the built-in ones")
    assert isinstance(store, MappedStore)
    screen.line(f"# {screen.name(conversion.map.name)} for {screen.name(conversion.source)}")
    screen.line()
    for line in text_for(store.plan).splitlines():
        screen.line(line)
    screen.margin = "# "


def _print(
    screen: Screen, conversion: Conversion, source: TensorStore, store: TensorStore, typed: Typed | None, report: WriteReport
) -> None:
    if screen.quiet:
        for loss in report.losses:
            if loss.saved_in is None:
                screen.aside("lost", _loss_text(screen, loss))
        return
    kind = _kind(report.format, report.dialect)
    wrote = ("wrote", kind, count(report.tensors, "tensor"), bytes_text(report.nbytes), screen.listed(report.paths))
    between = [*_mapped_lines(screen, conversion, source, store), *([typed.line(screen, store)] if typed is not None else [])]
    screen.aligned([_source_line(screen, source), *between, wrote])
    _print_losses(screen, report.losses)


def _source_line(screen: Screen, store: TensorStore) -> tuple[str, ...]:
    source = store.source
    kind = _kind(source.format, source.dialect) if source else "store"
    return "read", kind, count(len(store), "tensor"), bytes_text(store.nbytes), screen.name(source.path) if source else ""


def _mapped_lines(screen: Screen, conversion: Conversion, source: TensorStore, store: TensorStore) -> list[tuple[str, ...]]:
    if conversion.map is None:
        return []
    from porter.cli.map_screen import summary
    from porter.mapping.execution import MappedStore

    assert isinstance(store, MappedStore)
    return [("mapped", screen.name(conversion.map.name), count(len(store), "tensor"), bytes_text(store.nbytes), summary(store, source))]


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


def _document(
    conversion: Conversion,
    source: TensorStore,
    store: TensorStore,
    typed: Typed | None,
    report: WriteReport,
    show_map: bool,
    provenance: str | None,
) -> dict[str, Any]:
    paths = [*report.paths, provenance] if provenance is not None else report.paths
    return {
        "dry_run": False,
        "source": _source(conversion, source),
        "map": _map(conversion, store, show_map),
        "target": {
            "path": conversion.target,
            "format": report.format,
            "dialect": report.dialect,
            "tensors": report.tensors,
            "bytes": report.nbytes,
        },
        "files": [{"path": path, "bytes": os.path.getsize(path)} for path in paths],
        "changes": typed.changes() if typed is not None else [],
        "losses": _losses(report.losses),
        "notices": _notices(source, store, report),
    }


def _map(conversion: Conversion, store: TensorStore, show_map: bool) -> dict[str, Any] | None:
    if conversion.map is None:
        return None
    from porter.cli.map_screen import steps_json, text_for
    from porter.mapping.execution import MappedStore

    assert isinstance(store, MappedStore)
    text = text_for(store.plan) if show_map else None
    return {"name": conversion.map.name, "chosen": conversion.map.chosen, "steps": steps_json(store.plan), "text": text}


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


def _notices(source: TensorStore, store: TensorStore, report: WriteReport | None) -> list[dict[str, Any]]:
    mapped = store.notices if store is not source else []
    notices = [*source.notices, *mapped, *(report.notices if report is not None else ())]
    return [{"kind": n.kind, "message": n.message, "tensor": n.tensor} for n in notices]


def _foresee(
    screen: Screen, conversion: Conversion, source: TensorStore, store: TensorStore, typed: Typed | None, show_map: bool
) -> ExitCode:
    plan = conversion.foresee(store)
    if screen.json:
        screen.document(_plan_document(conversion, source, store, typed, plan, show_map))
    else:
        _print_plan(screen, conversion, source, store, typed, plan)
    return ExitCode.NO if plan.refused else ExitCode.YES


def _plan_document(
    conversion: Conversion, source: TensorStore, store: TensorStore, typed: Typed | None, plan: Plan, show_map: bool
) -> dict[str, Any]:
    written = [{"tensor": c.tensor, "shape": c.shape, "dtype": c.dtype, "action": c.action, "to": c.to} for c in plan.changes]
    return {
        "dry_run": True,
        "source": _source(conversion, source),
        "map": _map(conversion, store, show_map),
        "target": {
            "path": conversion.target,
            "format": conversion.target_format.name,
            "dialect": conversion.write_options.dialect,
            "tensors": len(store) - sum(c.action in ("dropped", "refused") for c in plan.changes),
            "bytes": None,
        },
        "files": [],
        "changes": [*(typed.changes() if typed is not None else []), *written],
        "losses": _losses(plan.losses),
        "notices": _notices(source, store, None),
    }


def _print_plan(screen: Screen, conversion: Conversion, source: TensorStore, store: TensorStore, typed: Typed | None, plan: Plan) -> None:
    kind = _kind(conversion.target_format.name, conversion.write_options.dialect)
    refused = sum(c.action == "refused" for c in plan.changes)
    kept = len(store) - refused - sum(c.action == "dropped" for c in plan.changes)
    verb = "refuse" if refused else "write"
    would = (verb, kind, count(refused or kept, "tensor"), "", screen.name(conversion.target))
    between = [*_mapped_lines(screen, conversion, source, store), *([typed.line(screen, store)] if typed is not None else [])]
    screen.aligned([_source_line(screen, source), *between, would])
    if conversion.map is not None and not screen.quiet:
        from porter.cli import map_screen
        from porter.mapping.execution import MappedStore

        assert isinstance(store, MappedStore)
        map_screen.table(screen, store.plan, {name: tensor.spec for name, tensor in source.items()})
    _print_losses(screen, plan.losses)
    if plan.changes:
        screen.brief_table(CHANGES, [_change(screen, c) for c in plan.changes])
    screen.paragraph("dry run: nothing was written; types and what the format keeps were checked, values, names and free space were not")


def _change(screen: Screen, change: Change) -> tuple[str, str, str, str | Cell]:
    words = {"widened": "", "cast": " if every value fits", "rounded": " (rounded where values do not fit)"}
    if change.to is not None:
        becomes: str | Cell = change.to + words[change.action]
    else:
        becomes = Cell(change.action, "bad" if change.action == "refused" else "dim")
    return screen.name(change.tensor), shape_text(change.shape), change.dtype, becomes
