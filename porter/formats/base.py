"""What a format adapter is: the functions every adapter module has, their options, and what they report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, Protocol

from porter.dataclass import dataclass, field
from porter.errors import FileAccessError, FormatError, LossError, UsageError
from porter.io.source import FileSource
from porter.store import Notice, TensorStore

LossKind = Literal["tensor", "name", "dtype", "shape", "value", "order", "tie", "description", "metadata", "attachment"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that the written file does not keep.

    `tensors` names the tensors concerned (empty: the file as a whole); `saved_in` is the file that keeps it instead,
    or None where it is gone.
    """

    kind: LossKind
    detail: str
    tensors: tuple[str, ...] = ()
    saved_in: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a format keeps. What it does not keep is reported as a `Loss` by the writer, or refused.

    `dtypes` are written as they are; `widened` maps others to the type that holds every value of them exactly. `sidecar` is
    what is appended to the output's name for the file that keeps what the format does not, None where there is no such file.
    `description` means axes, roles and attributes. `options` are the fields of `ReadOptions` and `WriteOptions` that
    the adapter understands beyond `dialect`; any other one given is an error. `net_dialects` are those to which a net
    means something, None for all.
    """

    dtypes: frozenset[str]
    widened: dict[str, str] = field(default_factory=dict)
    writable: bool = True
    shape: bool = True
    order: bool = True
    ties: bool = False
    description: bool = False
    metadata: bool = False
    attachments: bool = False
    sidecar: str | None = None
    read_options: frozenset[str] = frozenset()
    write_options: frozenset[str] = frozenset()
    net_dialects: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a caller may say about reading.

    dialect: the variant of the format, instead of the one detected.
    select: path of the sub-dictionary that holds the weights ("state_dict", "ema.module"), for nested checkpoints.
    net: a `.prototxt` that gives layer types and parameters.
    """

    dialect: str | None = None
    select: str | None = None
    net: str | None = None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What a caller may say about writing.

    dialect: the variant of the format.
    overwrite: replace an existing output.
    ints: what to do with integers where the format has only floats.
    allow_lossy: write values that the format cannot hold exactly, and report them.
    into: an existing model whose values are replaced.
    net: a `.prototxt` that gives layer types and parameters.
    max_shard_size: bytes of the largest file, or None for one file.
    progress: called with the number of bytes just written.
    """

    dialect: str | None = None
    overwrite: bool = False
    ints: Literal["cast", "drop", "error"] = "cast"
    allow_lossy: bool = False
    into: str | None = None
    net: str | None = None
    max_shard_size: int | None = None
    progress: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What was written: the format, the files (main file first), how many tensors, and what was lost."""

    format: str
    dialect: str | None
    paths: tuple[str, ...]
    tensors: int
    losses: tuple[Loss, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all files on disk."""
        return sum(os.path.getsize(p) for p in self.paths)


class Probe:
    """A file while its format is being guessed: cheap looks at its content, each made once."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.path = source.path
        self.size = source.size

    @cached_property
    def head(self) -> bytes:
        """The first 4,096 bytes, fewer in a shorter file."""
        return self.source.read_up_to(0, 4096)

    @cached_property
    def tail(self) -> bytes:
        """The last 1,024 bytes, fewer in a shorter file."""
        return self.source.read_up_to(max(self.size - 1024, 0), 1024)

    @cached_property
    def zip_names(self) -> Sequence[str]:
        """The names of the members in a zip archive; empty for any other file, or where the directory is broken."""
        if not self.head.startswith(b"PK\x03\x04"):
            return ()
        from porter.io.zip_directory import read_directory

        try:
            return tuple([entry.name for entry in read_directory(self.source) if not entry.name.endswith("/")])
        except FormatError:
            return ()


class Adapter(Protocol):
    """The functions that an adapter module has."""

    CAPABILITIES: Capabilities

    def detect(self, probe: Probe) -> str | None:
        """The dialect if the content is this format's, else None. Reads little; raises nothing for foreign content."""
        ...

    def read(self, path: str, options: ReadOptions) -> TensorStore:
        """Read the file's index. Values stay in the file until they are asked for."""
        ...

    def write(self, store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
        """Write `store`. Everything that will be refused is refused before the output is opened."""
        ...


def undescribed(store: TensorStore, keeps: Capabilities) -> list[Loss]:
    """The losses that follow from `keeps` alone: description, metadata, attachments and ties that the format has no place for."""
    losses: list[Loss] = []
    if not keeps.description:
        names = tuple(t.name for t in store.values() if t.axes or t.role or t.attributes)
        if names:
            losses.append(Loss("description", "axes, roles and attributes of tensors", names))
    if not keeps.metadata and store.metadata:
        losses.append(Loss("metadata", f"metadata: {', '.join(sorted(store.metadata))}"))
    if not keeps.attachments and store.attachments:
        losses.append(Loss("attachment", f"attachments: {', '.join(sorted(store.attachments))}"))
    if not keeps.ties and store.ties:
        losses.append(Loss("tie", "tied tensors become separate copies", tuple(store.ties)))
    return losses


def refuse_overwrite(path: str, options: WriteOptions) -> None:
    """Raise a `FileAccessError` if `path` exists and `options` do not say `overwrite`."""
    if not options.overwrite and os.path.lexists(path):
        raise FileAccessError("I010", "the output exists", path=path, hint="add --overwrite to replace it")


def refuse_stream(path: str) -> None:
    """Raise a `UsageError` if `path` is what stands for standard input or output."""
    if path == "-":
        raise UsageError("U903", "porter reads and writes files, not streams: it has to move about in them", hint="name a file")


def refuse_dtypes(store: TensorStore, entry_name: str, capabilities: Capabilities) -> None:
    """Raise a `LossError` if a tensor's dtype is neither kept nor widened by the format."""
    for tensor in store.values():
        if tensor.dtype.name not in capabilities.dtypes and tensor.dtype.name not in capabilities.widened:
            raise LossError(
                "L001",
                f"{entry_name} cannot hold {tensor.dtype}",
                tensor=tensor.name,
                hint="write hdf5, which holds every type; 'porter formats' lists what the others hold",
            )
