"""Writing HDF5: h5py lays the file out with holes for the values, porter fills the holes by file copy.

A dialect's planner says which dataset lies where (`Plan`). The layout is then read back by porter's own reader, which
yields the places of the values, and what of the store the dialect does not express; that goes into porter's description.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from porter.dtypes import DType
from porter.errors import FileAccessError, LossError, PorterError, access_error
from porter.formats.base import ReadOptions, WriteOptions, WriteReport
from porter.formats.hdf5.description import ATTRIBUTE, Description, describe, fill_store
from porter.formats.hdf5.dialects import open_reader, read_as
from porter.formats.hdf5.library import library
from porter.formats.hdf5.messages import MAX_RANK
from porter.formats.hdf5.names import Path
from porter.formats.hdf5.plans import AttributeOut, Plan
from porter.formats.hdf5.reading import Reader
from porter.io.atomic import AtomicFile, OutputGroup
from porter.store import TensorStore
from porter.tensor import Payload, Tensor

_ALIGNMENT = 64
_ALIGNED_FROM = 2048


def check(plan: Plan, store: TensorStore) -> None:
    """Refuse what HDF5 cannot hold.

    Raises:
        LossError: a path leads through a dataset, two are the same, a part cannot be a link, or a shape has over 32 dimensions.
    """
    groups = {path[:n] for path in (*plan.places.values(), *plan.values) for n in range(1, len(path))}
    groups |= {path[:n] for path in plan.groups for n in range(1, len(path) + 1)}
    taken: dict[Path, str] = dict.fromkeys(plan.values, "")
    for name, path in plan.places.items():
        if path in taken or path in groups:
            what = f"the same place as '{taken[path]}'" if taken.get(path) else "a place that other objects need"
            raise LossError("L501", f"its path '{'/'.join(path)}' is {what}", tensor=name, hint=_RENAME)
        if any(part in ("", ".") or re.search("[\0/\ud800-\udfff]", part) for part in path):
            raise LossError("L502", f"no object of an hdf5:{plan.dialect} file can have this name", tensor=name, hint=_RENAME)
        if len(store[name].shape) > MAX_RANK:
            raise LossError(
                "L503", f"HDF5 allows {MAX_RANK} dimensions, it has {len(store[name].shape)}", tensor=name, hint="reshape it with a map"
            )
        taken[path] = name


_RENAME = "rename the tensor with a map, or write hdf5:porter, which holds any name"


def annotate(path: str, shown: str, name: str, value: AttributeOut) -> None:
    """Put an attribute on the root group of the file at `path`. Nothing that is there moves."""
    h5py = library()
    with library_errors(shown), h5py.File(path, "r+", locking=False) as file:
        _set_attribute(file, name, value)


class _Builder:
    def __init__(self, path: str, plan: Plan, store: TensorStore) -> None:
        h5py = library()
        self.h5py, self.plan, self.store = h5py, plan, store
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
        access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        access.set_alignment(_ALIGNED_FROM, _ALIGNMENT)
        access.set_file_locking(False, True)
        self.file = h5py.h5f.create(path.encode("utf-8", "surrogateescape"), h5py.h5f.ACC_TRUNC, fapl=access)
        self.groups: dict[Path, Any] = {(): h5py.h5g.open(self.file, b"/")}
        self.layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self.layout.set_layout(h5py.h5d.CONTIGUOUS)
        self.layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self.layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self.layout.set_obj_track_times(False)

    def run(self) -> None:
        try:
            for path, attributes in self.plan.groups.items():
                group = self.h5py.Group(self.group(path))
                for name, value in attributes.items():
                    _set_attribute(group, name, value)
            for path, value in self.plan.values.items():
                self.value(path, value)
            for name, path in self.plan.places.items():
                if name not in self.plan.links:
                    self.dataset(path, self.store[name])
            for name, target in self.plan.links.items():
                path, there = self.plan.places[name], self.plan.places[target]
                self.group(path[:-1]).links.create_hard(_link(path), self.group(there[:-1]), _link(there))
        finally:
            self.groups.clear()
            self.file.close()

    def group(self, path: Path) -> Any:
        """The group at `path`, made with those above it where they are not there."""
        if path not in self.groups:
            self.groups[path] = self.h5py.h5g.create(self.group(path[:-1]), _link(path))
        return self.groups[path]

    def dataset(self, path: Path, tensor: Tensor) -> None:
        """A dataset with room for the values of `tensor`."""
        packed = tensor.dtype.packed
        shape = (tensor.nbytes,) if packed else tensor.shape
        space = self.h5py.h5s.create_simple(shape) if shape else self.h5py.h5s.create(self.h5py.h5s.SCALAR)
        kind = stored_type(tensor.dtype, self.plan.keras_types)
        dataset = self.h5py.h5d.create(self.group(path[:-1]), _link(path), kind, space, self.layout)
        if isinstance(kind, self.h5py.h5t.TypeOpaqueID):
            keras = self.plan.keras_types and tensor.dtype.name == "bfloat16"
            _set_attribute(self.h5py.Dataset(dataset), "dtype" if keras else "porter_dtype", tensor.dtype.name)
        if packed:
            _set_attribute(self.h5py.Dataset(dataset), "porter_shape", list(tensor.shape))

    def value(self, path: Path, value: int | bytes) -> None:
        """A small dataset as H5LT makes them: one int32, or a string of fixed length."""
        import numpy as np

        h5t, h5s = self.h5py.h5t, self.h5py.h5s
        if isinstance(value, int):
            kind, space, data = h5t.STD_I32LE, h5s.create_simple((1,)), np.array([value], "<i4")
        else:
            kind, space, data = h5t.C_S1.copy(), h5s.create(h5s.SCALAR), np.array(value, f"S{len(value) + 1}")
            kind.set_size(len(value) + 1)
        plain = self.h5py.h5p.create(self.h5py.h5p.DATASET_CREATE)
        plain.set_obj_track_times(False)
        self.h5py.h5d.create(self.group(path[:-1]), _link(path), kind, space, plain).write(h5s.ALL, h5s.ALL, data, kind)


def stored_type(dtype: DType, keras: bool = False) -> Any:
    """The HDF5 datatype of `dtype`."""
    h5t = library().h5t
    if dtype.numpy_str is not None:
        import numpy as np

        return h5t.py_create(np.dtype(dtype.numpy_str), logical=True)
    if dtype.name == "complex32":
        import numpy as np

        return h5t.py_create(np.dtype([("r", "<f2"), ("i", "<f2")]))
    if dtype.name == "bfloat16" and not keras:
        kind = h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_size(2)
        kind.set_ebias(127)
        return kind
    # Without a tag: h5py, which ignores tags, would then not convert them.
    kind = h5t.create(h5t.OPAQUE, dtype.itemsize)
    kind.set_tag(b"")
    return kind


def shared(store: TensorStore) -> dict[str, str]:
    """The tied tensors that can be hard links to their target: those with its dtype, its shape and its very bytes."""
    return {
        alias: target for alias, target in store.ties.items() if alias in store and target in store and _shareable(store, alias, target)
    }


def _shareable(store: TensorStore, alias: str, target: str) -> bool:
    one, other = store[alias], store[target]
    same = alias != target and target not in store.ties and one.dtype == other.dtype and one.shape == other.shape
    return same and _same_bytes(one, other)


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    if one.payload is other.payload or (one.location is not None and one.location == other.location):
        return True
    return one.nbytes == other.nbytes and one.digest() == other.digest()


def write_file(store: TensorStore, path: str, options: WriteOptions, plan: Plan) -> WriteReport:
    """Write the file that `plan` describes.

    Raises:
        LossError: a name or shape has no place in it; nothing is written then.
    """
    check(plan, store)
    with OutputGroup(progress=options.progress) as group:
        file = group.create(path)
        fill(file, lay_out(file.temporary, path, plan, store))
    return WriteReport("hdf5", plan.dialect, (path,), len(store), tuple(plan.losses), tuple(plan.notices))


def lay_out(
    path: str,
    shown: str,
    plan: Plan,
    store: TensorStore,
    *,
    around: TensorStore | None = None,
    read: Callable[[Reader], Description] | None = None,
) -> dict[int, Payload]:
    """Write the file at `path` (called `shown` in messages) with holes for the values; what belongs at which offset.

    `around` holds metadata and attachments that are kept outside this file, as in an archive; `read` is how the file will
    be read, by default as the plan's dialect.
    """
    plan.links = shared(store)
    with library_errors(shown):
        _Builder(path, plan, store).run()
    derived = TensorStore()
    with derived:
        reader = open_reader(path, derived)
        described = read(reader) if read is not None else read_as(reader, plan.dialect, ReadOptions())
        fill_store(derived, reader.found, described)
        if around is not None:
            derived.metadata.update(around.metadata)
            derived.attachments.update(around.attachments)
        found = {entry.path: tensor for entry, tensor in reader.sources.items()}
        lost = next((name for name, place in plan.places.items() if place not in found), None)
        if lost is not None:
            raise LossError("L504", f"hdf5:{plan.dialect} has no place where its readers would find this", tensor=lost, hint=_RENAME)
        names = {"/".join(place): name for name, place in plan.places.items() if found[place].name != name}
        document = describe(store, derived, names)
        places = {name: found[place].location for name, place in plan.places.items() if name not in plan.links}
    if document is not None:
        annotate(path, shown, ATTRIBUTE, document)
    return {where.offset: store[name].payload for name, where in places.items() if where is not None}


def fill(file: AtomicFile, places: Mapping[int, Payload]) -> None:
    """Write payloads at the offsets that are their keys into a file that is already laid out."""
    file.reserve(os.fstat(file.fd).st_size)
    for offset, payload in sorted(places.items(), key=lambda item: item[0]):
        file.seek(offset)
        file.write_payload(payload)


@contextlib.contextmanager
def library_errors(path: str) -> Iterator[None]:
    """Turn what h5py raises while it writes to `path` into a `FileAccessError`."""
    try:
        yield
    except PorterError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        number = getattr(error, "errno", None) or int((re.findall(r"errno = (\d+)", text) or ["0"])[0])
        if number:
            raise access_error(OSError(number, text), path, "writing") from error
        raise FileAccessError("I005", f"writing: libhdf5: {text[:200] or type(error).__name__}", path=path) from error


def _set_attribute(holder: Any, name: str, value: AttributeOut) -> None:
    import numpy as np

    if isinstance(value, list) and value and isinstance(value[0], bytes):
        holder.attrs[name] = np.array(value, f"S{max(1, *map(len, value))}")
    elif isinstance(value, list):
        holder.attrs[name] = np.array(value, "<i8" if name.startswith("porter") else "<f8")
    else:
        holder.attrs[name] = value


def _link(path: Path) -> bytes:
    return path[-1].encode("utf-8", "surrogateescape")
