"""From one file to another: settle what is wanted, refuse what can be refused, then read, map, and write or foresee."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from porter.dataclass import dataclass, field, replace
from porter.errors import FileAccessError, MapError, PorterError, UsageError
from porter.formats.base import Capabilities, Loss, ReadOptions, WriteOptions, WriteReport, refuse_overwrite, refuse_stream, undescribed
from porter.formats.registry import FormatEntry, check_options, find_format, format_for_path, identify, open_store, save_store
from porter.io.source import FileSource
from porter.store import TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    from porter.mapping.scope import ParamValue
    from porter.mapping.syntax import Map

PathLike = str | os.PathLike[str]

Action = Literal["widened", "cast", "rounded", "dropped", "refused"]

USUAL_MAPS = {
    **{("caffe", dialect, "pytorch"): "caffe:torch" for dialect in (None, "v2", "v1", "v0", "mixed", "prototxt")},
    ("hdf5", "caffe", "pytorch"): "caffe:torch",
}
"""The built-in map that a conversion from one format and dialect to another format uses unless told otherwise.

A solver's history and a mean image have no layers, so there is nothing to map.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What writing would do to a tensor whose type the format lacks.

    "widened" keeps every value; "cast" does too, and refuses where a value does not fit, which only reading it tells;
    "rounded" writes the nearest value then.
    """

    tensor: str
    dtype: str
    shape: tuple[int, ...]
    action: Action
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
class MapUse:
    """The map of a conversion: what the user called it, the map itself, values of its parameters. `chosen`: porter chose it."""

    name: str
    map: Map
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """One conversion, settled: both files, their formats, the map if there is one, and every option."""

    source: str
    source_format: FormatEntry
    read_options: ReadOptions
    target: str
    target_format: FormatEntry
    write_options: WriteOptions
    map: MapUse | None = None

    def open(self) -> TensorStore:
        """Read the source's index.

        Raises:
            PorterError: the source is no such file.
        """
        return open_store(self.source, self.source_format.name, options=self.read_options)

    def mapped(self, store: TensorStore) -> TensorStore:
        """What the map makes of `store`, which stays open as long as the result; `store` itself where there is no map.

        Raises:
            MapError: the map does not fit these tensors.
        """
        if self.map is None:
            return store
        from porter.mapping.execution import apply
        from porter.mapping.providers import provider_of

        try:
            # Tables of a map towards Caffe or Keras are those of the net or model that is to be written.
            path = self.write_options.net or self.write_options.into
            with open_store(path) if path is not None else TensorStore() as model:
                return apply(self.map.map, store, params=self.map.params, provider=provider_of(store, model))
        except MapError as error:
            if self.map.chosen:
                leave = f"--raw leaves names and values as they are ('{self.map.name}' was porter's choice)"
                error.hint = f"{error.hint}; {leave}" if error.hint else leave
            raise

    def save(self, store: TensorStore, progress: Callable[[int], None] | None = None) -> WriteReport:
        """Write `store`; `progress` is called with each number of bytes written.

        Raises:
            PorterError: the format cannot hold it; nothing is written.
        """
        return save_store(store, self.target, self.target_format.name, options=replace(self.write_options, progress=progress))

    def foresee(self, store: TensorStore) -> Plan:
        """What `save` would change and lose. Reads no values and writes nothing."""
        changes = tuple(c for t in store.values() if (c := self._change(t)) is not None)
        gone = {c.tensor for c in changes if c.action == "dropped"}
        losses = [Loss("tensor", "integer tensors are left out (--ints drop)", tuple(gone))] if gone else []
        return Plan(changes, (*losses, *_losses(store, self.target_format.adapter().CAPABILITIES, self.target)))

    def _change(self, tensor: Tensor) -> Change | None:
        keeps, dtype = self.target_format.adapter().CAPABILITIES, tensor.dtype
        if dtype.name in keeps.dtypes:
            return None
        action: Action = "refused"
        fitting: Action = "rounded" if self.write_options.allow_lossy else "cast"
        integers = dtype.kind in ("int", "uint", "bool") and "ints" in keeps.write_options
        if integers and self.write_options.ints != "cast":
            action = "dropped" if self.write_options.ints == "drop" else "refused"
        elif dtype.name in keeps.widened:
            action = "widened"
        elif integers or (dtype.kind == "float" and "allow_lossy" in keeps.write_options):
            action = fitting
        to = None if action in ("dropped", "refused") else keeps.widened.get(dtype.name, "float32")
        return Change(tensor.name, dtype.name, tensor.shape, action, to)


def _losses(store: TensorStore, keeps: Capabilities, target: str) -> list[Loss]:
    """`undescribed`, and where the format keeps those parts instead."""
    beside = target + keeps.sidecar if keeps.sidecar is not None else None
    losses = [replace(loss, saved_in=beside) for loss in undescribed(store, keeps)]
    if keeps.description:
        # What carries descriptions carries ties too, in porter's own words.
        losses = [
            replace(x, detail="tied tensors are stored once each", saved_in="porter's description") if x.kind == "tie" else x
            for x in losses
        ]
    shaped = tuple(t.name for t in store.values() if len(t.shape) != 1)
    if not keeps.shape and shaped:
        losses.insert(0, Loss("shape", "shapes; the file itself keeps counts", shaped, saved_in=beside))
    return losses


def settle(
    source: PathLike,
    target: PathLike,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    select: str | None = None,
    net: PathLike | None = None,
    write: WriteOptions | None = None,
    map: str | None = None,
    params: Mapping[str, ParamValue] | None = None,
    raw: bool = False,
) -> Conversion:
    """Decide what is read as what and written as what, and refuse what makes no sense. Reads little, writes nothing.

    `net` goes to whichever side understands it. `map` is the path of a map or the name of a built-in one; without it, and unless
    `raw` is said, the one that is usual between the two formats is used, if there is such a one.

    Raises:
        PorterError: an unknown format, an option that means nothing, an output that exists.
    """
    src, dst = os.fspath(source), os.fspath(target)
    for path in (src, dst):
        refuse_stream(path)
    read_entry, read_dialect = find_format(source_format) if source_format else _identified(src)
    _refuse_directory(dst, src)
    write = write or WriteOptions()
    try:
        write_entry, write_dialect = find_format(target_format) if target_format else format_for_path(dst)
        reads, writes = read_entry.adapter().CAPABILITIES, write_entry.adapter().CAPABILITIES
        if not writes.writable:
            raise UsageError("U004", f"{write_entry.name} files can be read, not written")
        check_options(write_entry, write)
        refuse_overwrite(dst, write)
    except PorterError as error:
        raise error.located(path=dst) from error.__cause__
    net_path = os.fspath(net) if net is not None else None
    write_dialect = write.dialect or write_dialect
    to_source = "net" in reads.read_options and (read_dialect is None or _takes_net(reads, read_dialect))
    to_target = "net" in writes.write_options and _takes_net(writes, write_dialect)
    if net_path is not None and not (to_source or to_target):
        raise UsageError("U005", f"--net means nothing to {read_entry.name} and {write_entry.name}", hint="leave --net out")
    return Conversion(
        src,
        read_entry,
        ReadOptions(dialect=read_dialect, select=select, net=net_path if to_source else None),
        dst,
        write_entry,
        replace(write, dialect=write_dialect, net=net_path if to_target else None),
        _map_use(map, params or {}, raw, (read_entry.name, read_dialect, write_entry.name)),
    )


def _map_use(name: str | None, params: Mapping[str, ParamValue], raw: bool, formats: tuple[str, str | None, str]) -> MapUse | None:
    if raw and (name is not None or params):
        raise UsageError("U922", "--raw leaves everything as it is, so it goes with no map", hint="leave one of them out")
    # Formats that have no usual map between them must not wait for the map language to be imported.
    if raw or (name is None and formats not in USUAL_MAPS):
        if params:
            raise UsageError("U922", "a parameter is given, and no map that could have it", hint="say '--map MAP'")
        return None
    from porter.mapping import library

    chosen = name is None
    name = name or USUAL_MAPS[formats]
    return MapUse(name, library.load(name), params, chosen)


def _takes_net(keeps: Capabilities, dialect: str | None) -> bool:
    """Whether a net means something to this dialect of a format to which nets mean something."""
    return keeps.net_dialects is None or dialect in keeps.net_dialects


def convert(
    source: PathLike,
    target: PathLike,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    select: str | None = None,
    net: PathLike | None = None,
    write: WriteOptions | None = None,
    map: str | None = None,
    params: Mapping[str, ParamValue] | None = None,
    raw: bool = False,
) -> tuple[TensorStore, WriteReport]:
    """Convert `source` to `target`; the store that was written, still open, and what was written and lost. See `settle`.

    Raises:
        PorterError: a file is broken, the map does not fit it, or the target's format cannot hold it; `target` is then as it was.
    """
    conversion = settle(
        source,
        target,
        source_format=source_format,
        target_format=target_format,
        select=select,
        net=net,
        write=write,
        map=map,
        params=params,
        raw=raw,
    )
    store = conversion.mapped(conversion.open())
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
