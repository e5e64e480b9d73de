"""Putting values into an existing HDF5 file or Keras archive: the tensors of the same names get new values, all else stays.

The output is the old file byte for byte, with the values replaced where they lie. Only compressed or chunked datasets
are written through libhdf5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from porter.dataclass import dataclass
from porter.errors import LossError, UsageError
from porter.formats.base import Loss, ReadOptions, WriteOptions, WriteReport
from porter.formats.hdf5.chunks import slabs
from porter.formats.hdf5.description import fill_store
from porter.formats.hdf5.dialects import read_as
from porter.formats.hdf5.elements import element_of
from porter.formats.hdf5.library import library
from porter.formats.hdf5.reading import Entry, Reader, dtype_name
from porter.formats.hdf5.recognition import dialect_of
from porter.formats.hdf5.storage import Window
from porter.formats.hdf5.writing import fill, library_errors
from porter.io.atomic import AtomicFile, OutputGroup
from porter.io.payloads import SwappedPayload
from porter.io.source import FileSource
from porter.store import Notice, TensorStore
from porter.tensor import Payload, Tensor


@dataclass(slots=True)
class Replacements:
    """New values for a file: in place, by offset in the window that holds the file, and through the library, by path."""

    in_place: dict[int, Payload]
    by_library: dict[Entry, Payload]


def write_into(source: FileSource, store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write a copy of the file in `source` with the values of `store` in it.

    Raises:
        LossError: a tensor has another dtype or shape there, or is not there.
        UsageError: the file is not of the dialect that was asked for.
    """
    window = Window(source, 0, source.size)
    with TensorStore() as target:
        reader = Reader(window, target)
        dialect = dialect_of(reader)
        if options.dialect not in (None, dialect):
            raise UsageError("U503", f"'{source.path}' is hdf5:{dialect}, not hdf5:{options.dialect}", hint=f"write hdf5:{dialect}")
        described = read_as(reader, dialect, ReadOptions())
        fill_store(target, reader.found, described)
        new, notices = replacements(store, target, reader)
        with OutputGroup(progress=options.progress) as group:
            copy_with(group.create(path), window, new)
    return WriteReport("hdf5", dialect, (path,), len(store), tuple(losses(store)), tuple(notices))


def losses(store: TensorStore) -> list[Loss]:
    """What of `store` a file that only takes values leaves behind."""
    found = []
    if store.metadata:
        found.append(Loss("metadata", "the file keeps its own metadata"))
    if store.attachments:
        found.append(Loss("attachment", "the file keeps its own configuration"))
    described = tuple(t.name for t in store.values() if t.axes or t.role or t.attributes)
    if described:
        found.append(Loss("description", "the file keeps its own description of tensors", described))
    return found


def replacements(store: TensorStore, target: TensorStore, reader: Reader) -> tuple[Replacements, list[Notice]]:
    """Where the values of `store` belong in the file that `reader` read as `target`.

    Raises:
        LossError: a tensor is not there, has another dtype or shape, or two that are one in the file differ.
    """
    entries = {tensor.name: entry for entry, tensor in reader.sources.items()}
    new = Replacements({}, {})
    taken: dict[int, Tensor] = {}
    for name, tensor in store.items():
        _check_fits(tensor, target)
        entry = entries[name] if name in entries else entries[target.ties[name]]
        before = taken.setdefault(entry.header.address, tensor)
        if before is not tensor:
            if before.digest() != tensor.digest():
                raise LossError(
                    "L508", f"is one with '{before.name}' in the file, and has other values", tensor=name, hint="give both the same values"
                )
            continue
        _place(reader, entry, tensor, new)
    kept = [name for name in target if name not in store]
    notices = (
        [Notice("note", f"{len(kept)} tensors of the file keep their values ({', '.join(kept[:3])}{', …' if len(kept) > 3 else ''})")]
        if kept
        else []
    )
    return new, notices


def _check_fits(tensor: Tensor, target: TensorStore) -> None:
    there = target.get(tensor.name)
    if there is None:
        import difflib

        close = difflib.get_close_matches(tensor.name, list(target), 1)
        hint = f"did you mean '{close[0]}'?" if close else "rename it with a map"
        raise LossError("L506", "the file to be written into has no tensor of this name", tensor=tensor.name, hint=hint)
    if (there.dtype, there.shape) != (tensor.dtype, tensor.shape):
        raise LossError(
            "L507",
            f"is {there.dtype} {list(there.shape)} in the file, {tensor.dtype} {list(tensor.shape)} here",
            tensor=tensor.name,
            hint="cast or reshape it with a map",
        )


def _place(reader: Reader, entry: Entry, tensor: Tensor, new: Replacements) -> None:
    dataset = reader.file.dataset(entry.header)
    attributes = reader.file.attributes(entry.header)
    element = element_of(dataset.type, dtype_name(attributes))
    assert element is not None
    values: Payload = SwappedPayload(tensor.payload, element.swap) if element.swap else tensor.payload
    if not tensor.nbytes:
        return
    if dataset.layout.kind == "chunked" or dataset.layout.address is None:
        new.by_library[entry] = values
    else:
        new.in_place[reader.file.window.start + dataset.layout.address] = values


def copy_with(file: AtomicFile, window: Window, new: Replacements) -> None:
    """Copy the file in `window` and put the new values in."""
    file.write_payload(window.source.payload(window.start, window.size))
    if new.by_library:
        through_library(file, new.by_library)
    fill(file, {offset - window.start: payload for offset, payload in new.in_place.items()})


def through_library(file: AtomicFile, values: Mapping[Entry, Payload]) -> None:
    """Write values of chunked datasets, or of such as never had any, through libhdf5."""
    h5py = library()
    with library_errors(file.path), h5py.File(file.temporary, "r+", locking=False) as opened:
        for entry, payload in values.items():
            here = opened.id
            for part in entry.path:
                here = h5py.h5o.open(here, part.encode("utf-8", "surrogateescape"))
            _write_dataset(here, payload)


def _write_dataset(dataset: object, payload: Payload) -> None:
    import numpy as np

    h5py = library()
    made = h5py.Dataset(dataset)
    kind, shape = made.id.get_type(), made.shape
    item = kind.get_size()
    pieces = _Pieces(payload)
    for start, count in slabs(shape, made.chunks or shape, item):
        size = item * int(np.prod(count, dtype=np.int64))
        data = np.frombuffer(pieces.take(size), np.uint8)
        there = made.id.get_space()
        here = h5py.h5s.create_simple(count) if count else there
        if count:
            there.select_hyperslab(start, count)
        made.id.write(here, there, data, mtype=kind)


class _Pieces:
    """A payload in pieces of any size."""

    def __init__(self, payload: Payload) -> None:
        self._chunks: Iterator[memoryview] = payload.chunks(1 << 20)
        self._rest = b""

    def take(self, nbytes: int) -> bytes:
        """The next `nbytes` bytes."""
        parts, have = [self._rest], len(self._rest)
        while have < nbytes:
            part = bytes(next(self._chunks))
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self._rest = data[nbytes:]
        return data[:nbytes]


def overlaid(window: Window, places: Mapping[int, Payload]) -> Iterator[Payload]:
    """The bytes of `window` with the payloads of `places` (by offset in the file that holds the window) in their places."""
    at, end = window.start, window.start + window.size
    for offset, payload in sorted(places.items(), key=lambda item: item[0]):
        yield window.source.payload(at, offset - at)
        yield payload
        at = offset + payload.nbytes
    yield window.source.payload(at, end - at)
