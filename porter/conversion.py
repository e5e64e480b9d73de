"""From one file to another: settle what is wanted, refuse what can be refused, then read, and write or foresee."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from porter.errors import FileAccessError, PorterError, UsageError
from porter.formats.base import Loss, ReadOptions, WriteOptions, WriteReport, refuse_overwrite, undescribed
from porter.formats.registry import FormatEntry, find_format, format_for_path, identify, open_store, save_store
from porter.io.source import FileSource
from porter.store import TensorStore
from porter.tensor import Tensor

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Change:
    """What a format would do to one tensor's type: keep it (then there is no `Change`), widen, cast, drop or refuse it."""

    tensor: str
    dtype: str
    shape: tuple[int, ...]
    action: Literal["widened", "cast", "dropped", "refused"]
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What writing would do, as far as the types, the options and the format's capabilities tell without reading values."""

    changes: tuple[Change, ...]
    losses: tuple[Loss, ...]

    @property
    def refused(self) -> bool:
        """Whether writing is sure to be refused."""
        return any(c.action == "refused" for c in self.changes)


@dataclass(frozen=True, slots=True)
class Conversion:
    """One conversion, settled: both files, their formats and every option."""

    source: str
    source_format: FormatEntry
    read_options: ReadOptions
    target: str
    target_format: FormatEntry
    write_options: WriteOptions

    def open(self) -> TensorStore:
        """Read the source's index.

        Raises:
            PorterError: the source is no such file.
        """
        return open_store(self.source, self.source_format.name, options=self.read_options)

    def save(self, store: TensorStore, progress: Callable[[int], None] | None = None) -> WriteReport:
        """Write `store`; `progress` is called with each number of bytes written.

        Raises:
            PorterError: the format cannot hold it; nothing is written.
        """
        return save_store(store, self.target, self.target_format.name, options=replace(self.write_options, progress=progress))

    def foresee(self, store: TensorStore) -> Plan:
        """What `save` would change and lose. Reads no values and writes nothing."""
        keeps = self.target_format.adapter().CAPABILITIES
        changes = tuple(c for t in store.values() if (c := self._change(t)) is not None)
        return Plan(changes, tuple(undescribed(store, keeps)))

    def _change(self, tensor: Tensor) -> Change | None:
        keeps, name = self.target_format.adapter().CAPABILITIES, tensor.dtype.name
        if name in keeps.dtypes:
            return None
        if name in keeps.widened:
            return Change(tensor.name, name, tensor.shape, "widened", keeps.widened[name])
        if "ints" in keeps.write_options and tensor.dtype.kind in ("int", "uint", "bool"):
            actions: dict[str, Literal["cast", "dropped", "refused"]] = {"cast": "cast", "drop": "dropped", "error": "refused"}
            action = actions[self.write_options.ints]
            return Change(tensor.name, name, tensor.shape, action, "float32" if action == "cast" else None)
        if "allow_lossy" in keeps.write_options and tensor.dtype.kind == "float":
            # Whether every value fits is known when the values are read.
            return Change(tensor.name, name, tensor.shape, "cast", "float32")
        return Change(tensor.name, name, tensor.shape, "refused")


def settle(
    source: PathLike,
    target: PathLike,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    select: str | None = None,
    net: PathLike | None = None,
    write: WriteOptions | None = None,
) -> Conversion:
    """Decide what is read as what and written as what, and refuse what makes no sense. Reads little, writes nothing.

    `net` goes to whichever side understands it.

    Raises:
        PorterError: an unknown format, an option that means nothing, an output that exists.
    """
    src, dst = os.fspath(source), os.fspath(target)
    for path in (src, dst):
        if path == "-":
            raise UsageError("U903", "porter reads and writes files, not streams: it has to move about in them", hint="name a file")
    read_entry, read_dialect = find_format(source_format) if source_format else _identified(src)
    _refuse_directory(dst, src)
    write = write or WriteOptions()
    try:
        write_entry, write_dialect = find_format(target_format) if target_format else format_for_path(dst)
        reads, writes = read_entry.adapter().CAPABILITIES, write_entry.adapter().CAPABILITIES
        if not writes.writable:
            raise UsageError("U004", f"{write_entry.name} files can be read, not written")
        refuse_overwrite(dst, write)
    except PorterError as error:
        raise error.located(path=dst) from error.__cause__
    net_path = os.fspath(net) if net is not None else None
    if net_path is not None and "net" not in reads.read_options | writes.write_options:
        raise UsageError("U005", f"--net means nothing to {read_entry.name} and {write_entry.name}", hint="leave --net out")
    return Conversion(
        src,
        read_entry,
        ReadOptions(dialect=read_dialect, select=select, net=net_path if "net" in reads.read_options else None),
        dst,
        write_entry,
        replace(write, dialect=write.dialect or write_dialect, net=net_path if "net" in writes.write_options else None),
    )


def convert(
    source: PathLike,
    target: PathLike,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    select: str | None = None,
    net: PathLike | None = None,
    write: WriteOptions | None = None,
) -> tuple[TensorStore, WriteReport]:
    """Convert `source` to `target`; the store that was read, still open, and what was written and lost.

    Raises:
        PorterError: a file is broken, or the target's format cannot hold it; `target` is then as it was.
    """
    conversion = settle(source, target, source_format=source_format, target_format=target_format, select=select, net=net, write=write)
    store = conversion.open()
    return store, conversion.save(store)


def _identified(path: str) -> tuple[FormatEntry, str | None]:
    source = FileSource(path)
    try:
        return identify(source)
    except PorterError as error:
        raise error.located(path=path) from error.__cause__
    finally:
        source.close()


def _refuse_directory(target: str, source: str) -> None:
    if target.endswith(os.sep) or os.path.isdir(target):
        name = os.path.join(target, os.path.basename(source))
        raise FileAccessError("I004", "writing: is a directory", path=target, hint=f"name the file to write, such as '{name}'")
