"""`porter inspect`: what is in a weight file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

from porter.cli.fold import Fold, folded
from porter.cli.options import common_options, read_options
from porter.cli.quantities import bytes_text, count, shape_text
from porter.cli.screen import ROWS, Screen, dumps
from porter.cli.status import ExitCode
from porter.cli.table import Column
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.store import TensorStore, digest_of
from porter.tensor import Tensor

COLUMNS = (
    Column("NAME", fit="shrink"),
    Column("SHAPE"),
    Column("AXES"),
    Column("DTYPE"),
    Column("BYTES", "right"),
    Column("OFFSET"),
    Column("FILE", fit="shrink"),
    Column("TIED TO", fit="shrink"),
    Column("DIGEST"),
)


@click.command("inspect", short_help="List the tensors of a weight file.")
@click.argument("file")
@click.option("-a", "--all", "everything", is_flag=True, help="Show every tensor; terminals otherwise fold repeated names and long tables.")
@click.option("--digest", is_flag=True, help="Print the weights digest, equal in every format; with --all or --json each tensor's too.")
@read_options
@common_options()
@click.pass_obj
def command(
    screen: Screen, file: str, everything: bool, digest: bool, source_format: str | None, select: str | None, net: str | None
) -> ExitCode:
    """List the tensors of FILE: names, shapes, axes, types, sizes and where they lie.

    Only the file's index is read; its content says what format it is.
    """
    with open_store(file, source_format, options=ReadOptions(select=select, net=net)) as store:
        digests = _digests(screen, store) if digest else None
        if screen.json:
            screen.document(_document(store, digests))
        else:
            _print(screen, store, digests, everything)
        screen.notices(store.notices)
    return ExitCode.YES


def _digests(screen: Screen, store: TensorStore) -> dict[str, str]:
    with screen.progress("reading", store.nbytes) as advance:
        digests = {}
        for tensor in store.values():
            digests[tensor.name] = tensor.digest()
            if advance is not None:
                advance(tensor.nbytes)
    return digests


def _weights_digest(store: TensorStore, digests: dict[str, str]) -> str:
    return digest_of((t.name, t.dtype.name, t.shape, digests[t.name]) for t in store.values())


def _document(store: TensorStore, digests: dict[str, str] | None) -> dict[str, Any]:
    source = store.source
    document = {
        "path": source.path if source else None,
        "format": source.format if source else None,
        "dialect": source.dialect if source else None,
        "metadata": store.metadata,
        "attachments": {key: len(value) for key, value in store.attachments.items()},
        "ties": store.ties,
        "totals": {"tensors": len(store), "elements": store.size, "bytes": store.nbytes, "file_bytes": _file_bytes(_files(store))},
        "tensors": [_entry(store, tensor, digests or {}) for tensor in store.values()],
        "notices": [{"kind": n.kind, "message": n.message, "tensor": n.tensor} for n in store.notices],
    }
    if digests is not None:
        document["digest"] = _weights_digest(store, digests)
    return document


def _entry(store: TensorStore, tensor: Tensor, digests: dict[str, str]) -> dict[str, Any]:
    where = tensor.location
    entry: dict[str, Any] = {
        "name": tensor.name,
        "dtype": tensor.dtype.name,
        "shape": tensor.shape,
        "axes": tensor.spec.axes,
        "role": tensor.spec.role,
        "bytes": tensor.nbytes,
        "offset": where.offset if where is not None else None,
    }
    if where is not None and store.source is not None and where.path != store.source.path:
        entry["file"] = where.path
    if tensor.spec.attributes:
        entry["attributes"] = dict(tensor.spec.attributes)
    if tensor.name in digests:
        entry["digest"] = digests[tensor.name]
    return entry


def _files(store: TensorStore) -> dict[str, None]:
    """The file itself and those that it keeps values in."""
    files = {store.source.path: None} if store.source else {}
    for tensor in store.values():
        where = tensor.location
        if where is not None:
            files[where.path] = None
    return files


def _file_bytes(files: Iterable[str]) -> int:
    return sum(os.path.getsize(path) for path in files)


def _print(screen: Screen, store: TensorStore, digests: dict[str, str] | None, everything: bool) -> None:
    screen.line(_headline(store))
    if len(store):
        folds = [Fold(t.name, (t,)) for t in store.values()]
        if screen.terminal and not everything and len(folds) > ROWS:
            folds = folded(store)
        shown = screen.first(folds, everything)
        full = digests if digests is not None and everything else {}
        screen.table(COLUMNS, [_row(screen, store, fold, full) for fold in shown])
        screen.more(sum(len(fold.tensors) for fold in folds[len(shown) :]))
    _print_surroundings(screen, store)
    if digests is not None:
        screen.line(f"weights digest  {_weights_digest(store, digests)}")


def _headline(store: TensorStore) -> str:
    source = store.source
    kind = f"{source.format}:{source.dialect}" if source and source.dialect else source.format if source else "store"
    files = _files(store)
    size = bytes_text(_file_bytes(files)) + (f" in {len(files)} files" if len(files) > 1 else "")
    layers = len({t.spec.attributes["caffe.layer"] for t in store.values() if "caffe.layer" in t.spec.attributes})
    parts = [count(len(store), "tensor"), count(store.size, "element")]
    if layers:
        parts.insert(0, f"{count(layers, 'layer')} with weights")
    return f"{kind} · {size} · {', '.join(parts)}"


def _row(screen: Screen, store: TensorStore, fold: Fold, digests: dict[str, str]) -> Sequence[str]:
    tensor = fold.tensors[0]
    many = len(fold.tensors)
    where = tensor.location if many == 1 else None
    elsewhere = where is not None and store.source is not None and where.path != store.source.path
    digest = digests.get(tensor.name, "")
    return (
        screen.name(fold.name),
        shape_text(tensor.shape),
        screen.name(tensor.spec.axes or ""),
        tensor.dtype.short,
        f"{many} × {tensor.nbytes:,}" if many > 1 else f"{tensor.nbytes:,}",
        f"0x{where.offset:x}" if where is not None else "",
        screen.name(os.path.basename(where.path)) if where is not None and elsewhere else "",
        screen.name(store.ties.get(tensor.name, "")) if many == 1 else "",
        digest[:12] if screen.terminal else digest,
    )


def _print_surroundings(screen: Screen, store: TensorStore) -> None:
    """What the file holds besides tensors, a line each, cut to the terminal's width (or 200 characters)."""
    most = (screen.width or 216) - 16
    for key, value in store.metadata.items():
        text = value if isinstance(value, str) else dumps(value)
        line = screen.name(f"{key}: {text[: 4 * most]}")
        screen.line(f"metadata        {line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + '…'}")
    for key, data in store.attachments.items():
        screen.line(f"attachment      {screen.name(key)}, {bytes_text(len(data))}")
