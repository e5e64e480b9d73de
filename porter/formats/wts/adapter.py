"""`.wts`, the weight files of hand-built TensorRT networks: tensorrtx, nvidia-v1 and nvidia-v2.

Reading finds the lines; values are decoded when they are asked for, and every character is checked then. A sidecar
`NAME.wts.json` (see `porter.formats.wts.sidecar`) gives back shapes, types and descriptions; without one the tensors of
the text dialects are flat. Writing makes both files.
"""

from __future__ import annotations

import os

from porter import manifest
from porter.dtypes import DTYPES
from porter.errors import UsageError
from porter.formats.base import Capabilities, Loss, Probe, ReadOptions, WriteOptions, WriteReport, refuse_overwrite
from porter.formats.wts import dialects, sidecar
from porter.formats.wts.rows import DIALECTS, Dialect, Row
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore
from porter.tensor import Payload, Tensor, TensorSpec

CAPABILITIES = Capabilities(
    dtypes=frozenset({"float32"}),
    widened={d.name: "float32" for d in DTYPES.values() if d.kind != "complex" and d.bits <= 16},
    shape=False,
    sidecar=".json",
    write_options=frozenset({"ints", "allow_lossy"}),
)


def detect(probe: Probe) -> str | None:
    """Recognises a first line that is a number, and a second one that reads as a tensor of one of the dialects."""
    return dialects.detect(probe.head, probe.path, complete=probe.size <= len(probe.head))


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read where the lines are, and the sidecar if there is one."""
    source = FileSource(path)
    dialect: Dialect = _dialect(options.dialect) or dialects.of_file(source)
    store = TensorStore(source=Provenance(path, "wts", dialect))
    store.manage(source)
    rows = _rows(source, dialect, store)
    beside = _sidecar(path, rows, dialect, store)
    for number, row in enumerate(rows):
        store.add(_tensor(source, row, beside, number))
    if beside is not None:
        if beside.nbytes not in (None, source.size):
            store.note("note", f"the file has {source.size} bytes, and had {beside.nbytes} when its sidecar was written")
        _note_rounded(store, beside)
        manifest.apply(store, beside.description, beside.path)
    elif rows and dialect != "nvidia-v2":
        store.note("note", "shapes are not in the file and there is no sidecar: tensors are flat")
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write the file and its sidecar; refuse names and values that it cannot hold."""
    from porter.formats.wts.plan import plan

    dialect: Dialect = _dialect(options.dialect) or "tensorrtx"
    beside = sidecar.path_of(path)
    planned, losses = plan(store.values(), dialect, options, beside)
    refuse_overwrite(beside, options)
    sidecar.refuse_foreign(beside)
    kept = _kept(store, [p.tensor for p in planned])
    from porter.formats.wts.output import write_files

    write_files(kept, planned, path, beside, dialect, options)
    return WriteReport(
        "wts", dialect, (path, beside), len(planned), (*_shape_losses(kept, dialect, beside), *losses, *_others(kept, beside))
    )


def _dialect(name: str | None) -> Dialect | None:
    if name is None:
        return None
    for dialect in DIALECTS:
        if dialect == name:
            return dialect
    raise UsageError("U002", f"wts has no dialect '{name}'", hint=f"known: {', '.join(DIALECTS)}")


def _rows(source: FileSource, dialect: Dialect, store: TensorStore) -> list[Row]:
    if dialect == "nvidia-v2":
        from porter.formats.wts import raw_index

        return raw_index.scan(source)
    from porter.formats.wts import index

    rows = index.scan(source, dialect)
    if not rows:
        store.note("assumed", "a file without tensors is the same in all dialects; taken for tensorrtx")
    elif index.may_lack_digits(source, rows[-1]):
        store.note("assumed", "the file ends in a value of fewer digits and no newline; taken as whole", rows[-1].name)
    return rows


def _sidecar(path: str, rows: list[Row], dialect: Dialect, store: TensorStore) -> sidecar.Sidecar | None:
    beside = sidecar.path_of(path)
    loaded = sidecar.load(beside)
    if loaded is not None:
        loaded.check(rows, dialect)
    elif os.path.lexists(beside):
        store.note("skipped", f"{os.path.basename(beside)} is no sidecar that porter wrote; not used")
    return loaded


def _tensor(source: FileSource, row: Row, beside: sidecar.Sidecar | None, number: int) -> Tensor:
    payload = _payload(source, row)
    if beside is None:
        shape = row.shape if row.shape is not None else (row.count,)
        return Tensor(TensorSpec(row.name, row.stored, shape), payload)
    entry = beside.entries[number]
    payload = sidecar.CheckedPayload(payload, entry.crc32, beside.path)
    if not entry.exact or entry.dtype == row.stored:
        return Tensor(TensorSpec(row.name, row.stored, entry.shape), payload)
    from porter.formats.wts.restored import RestoredPayload

    return Tensor(TensorSpec(row.name, entry.dtype, entry.shape), RestoredPayload(payload, entry.dtype, row.stored, row.count, beside.path))


def _payload(source: FileSource, row: Row) -> Payload:
    if row.shape is not None:
        return source.payload(row.begin, row.nbytes, "the tensor")
    from porter.formats.wts.decode import WordsPayload

    return WordsPayload(source, row)


def _note_rounded(store: TensorStore, beside: sidecar.Sidecar) -> None:
    for entry in beside.entries:
        if not entry.exact:
            store.note("changed", f"was {entry.dtype} and was rounded when the file was written; read as {entry.stored}", entry.name)


def _kept(store: TensorStore, tensors: list[Tensor]) -> TensorStore:
    """`store` with only `tensors`, for the sidecar's description and the report."""
    kept = TensorStore(tensors)
    kept.ties = {alias: target for alias, target in store.ties.items() if alias in kept and target in kept}
    kept.metadata, kept.attachments = store.metadata, store.attachments
    return kept


def _shape_losses(store: TensorStore, dialect: Dialect, beside: str) -> list[Loss]:
    names = tuple(t.name for t in store.values() if len(t.shape) != 1)
    if dialect == "nvidia-v2" or not names:
        return []
    return [Loss("shape", "shapes; the file itself keeps counts", names, saved_in=beside)]


def _others(store: TensorStore, beside: str) -> list[Loss]:
    losses: list[Loss] = []
    described = tuple(t.name for t in store.values() if t.axes or t.role or t.attributes)
    if described:
        losses.append(Loss("description", "axes, roles and attributes of tensors", described, saved_in=beside))
    if store.ties:
        losses.append(Loss("tie", "tied tensors are written once each", tuple(store.ties), saved_in=beside))
    if store.metadata:
        losses.append(Loss("metadata", f"metadata: {', '.join(sorted(store.metadata))}", saved_in=beside))
    if store.attachments:
        losses.append(Loss("attachment", f"attachments: {', '.join(sorted(store.attachments))}", saved_in=beside))
    return losses
