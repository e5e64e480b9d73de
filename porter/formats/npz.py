"""NumPy's `.npz` archives and `.npy` arrays, dictionaries of arrays that old converters pickled into them included.

A tensor of an archive is called what its member is, without `.npy`; the one array of a `.npy` file is called by the file's
stem. Pickled dictionaries and lists are read by the restricted unpickler, and their keys and indices joined with dots.
Byte order and Fortran order are put right when the values are read.

Written archives are uncompressed, in order, with every array's data at a multiple of 64 bytes, so that they can be mapped.

Source: numpy "NEP 1" and `numpy/lib/_npyio_impl.py` (2.4: `savez`, `NpzFile`, which strips one `.npy` from a member's name).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import FormatError, LossError, PorterError, UnsafeFileError
from porter.formats.base import Capabilities, Loss, Probe, ReadOptions, WriteOptions, WriteReport, refuse_dtypes, undescribed
from porter.io import npy
from porter.io.atomic import OutputGroup
from porter.io.pickle_globals import PYTHON_GLOBALS, ByteString, describe_value
from porter.io.pickled_numpy import NUMPY_GLOBALS, PickledArray
from porter.io.source import FilePayload, FileSource
from porter.io.unpickle import ByteRun, Unpickler
from porter.io.zip_archive import VerifiedPayload, ZipArchive
from porter.io.zip_writer import ZipWriter, encode_name
from porter.store import Provenance, TensorStore
from porter.tensor import BytesPayload, Payload, Tensor, TensorSpec

CAPABILITIES = Capabilities(
    dtypes=frozenset(d.name for d in DTYPES.values() if d.numpy_str is not None),
    ties=False,
    description=False,
    metadata=False,
    attachments=False,
)

_SUFFIX = ".npy"
_EMPTY_ZIP = b"PK\x05\x06"
_GLOBALS = {**PYTHON_GLOBALS, **NUMPY_GLOBALS}
_LONG = 1024
_DEEPEST = 64


def detect(probe: Probe) -> str | None:
    """Recognises the magic bytes of an array, or a zip archive most of whose members are called `.npy`."""
    if probe.head.startswith(npy.MAGIC):
        return "npy"
    if probe.head.startswith(_EMPTY_ZIP):
        return "npz" if probe.path.lower().endswith(".npz") else None
    names = probe.zip_names
    arrays = sum(name.endswith(_SUFFIX) for name in names)
    return "npz" if arrays and 2 * arrays >= len(names) else None


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the headers of all arrays. Pickled dictionaries are walked, their arrays' values left where they are."""
    source = FileSource(path)
    single = options.dialect == "npy" or (options.dialect is None and source.read_up_to(0, 6) == npy.MAGIC)
    store = TensorStore(source=Provenance(path, "npz", "npy" if single else "npz"))
    store.manage(source)
    if single:
        _read_array(_of_file(source), store, _stem(path), alone=True)
    else:
        _read_archive(source, store)
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write an archive, or the one array of a store that has exactly one (`npy`). Streams tensor by tensor."""
    single = options.dialect == "npy"
    refuse_dtypes(store, "numpy's format", CAPABILITIES)
    losses = undescribed(store, CAPABILITIES)
    for tensor in store.values():
        _check_shape(tensor)
    if single:
        losses += _check_single(store, path)
    else:
        _check_names(store)
    with OutputGroup(progress=options.progress) as group:
        file = group.create(path)
        file.reserve(store.nbytes)
        if single:
            for tensor in store.values():
                file.write(npy.encode_header(tensor.dtype, tensor.shape))
                file.write_payload(tensor.payload)
        else:
            archive = ZipWriter(file)
            for tensor in store.values():
                archive.add(tensor.name + _SUFFIX, npy.encode_header(tensor.dtype, tensor.shape), tensor.payload)
            archive.finish()
    return WriteReport("npz", "npy" if single else "npz", (path,), len(store), tuple(losses))


@dataclass(frozen=True, slots=True)
class _Content:
    """The bytes of one `.npy`, a file's or a member's: where they start in the file, and ways to read their beginning and rest."""

    path: str
    offset: int
    size: int
    start: Callable[[int], bytes]
    rest: Callable[[int], Payload]

    def read_pickle(self, at: int, name: str) -> tuple[object, Callable[[object], Payload]]:
        """The value of the pickle that starts `at` bytes in and ends where the content does; and what gives its arrays' bytes."""
        data = self.rest(at).buffer()
        unpickler = Unpickler(data, allowed=_GLOBALS, path=self.path, offset=self.offset + at, runs_from=_LONG)
        value = unpickler.load()
        if unpickler.position != data.nbytes:
            raise _trailing(data.nbytes - unpickler.position, self, at + unpickler.position, name)
        rest = self.rest(at)
        return value, lambda found: _array_bytes(found, data, rest)


def _of_file(source: FileSource) -> _Content:
    return _Content(
        source.path, 0, source.size, lambda n: source.read_up_to(0, n), lambda at: source.payload(at, source.size - at, "the array")
    )


def _of_member(archive: ZipArchive, name: str) -> _Content:
    member = archive.entries[name]
    return _Content(
        archive.source.path,
        member.offset,
        member.size,
        lambda n: archive.start(name, n),
        lambda at: archive.payload(name, at, verify=True),
    )


def _read_archive(source: FileSource, store: TensorStore) -> None:
    archive = ZipArchive(source)
    for member in archive.entries:
        name = member.removesuffix(_SUFFIX)
        try:
            content = _of_member(archive, member)
            if content.start(len(npy.MAGIC)) == npy.MAGIC:
                _read_array(content, store, name, alone=False)
            elif member.endswith(_SUFFIX):
                raise FormatError("F701", f"zip member '{member}' is no .npy array", path=source.path, offset=content.offset)
            else:
                store.note("skipped", f"zip member '{member}' is no array")
        except PorterError as error:
            raise error.located(path=source.path, tensor=name) from error.__cause__
    if archive.entries and not store:
        raise FormatError("F705", "no member of the archive holds numbers", path=source.path, hint="is this an archive of weights?")


def _read_array(content: _Content, store: TensorStore, name: str, *, alone: bool) -> None:
    """Add the array in `content` as `name`, or the arrays of the dictionary pickled there. `alone`: nothing else is in the file."""
    header = npy.read_header(content.start, content.path, content.offset)
    if header.descr == npy.OBJECT:
        _read_objects(content, header, store, "" if alone else name, name)
        return
    found, opaque = npy.element_type(header.descr), npy.opaque_type(header.descr)
    if found is None and opaque is None:
        _unsupported(content, header.descr, store, name, alone=alone)
        return
    dtype, swap = found or (cast(DType, opaque), 0)
    if found is None:
        store.note("assumed", f"raw bytes ({header.descr}) are read as {dtype}", name)
    spec = TensorSpec(name, dtype, header.shape)
    data = content.rest(header.nbytes)
    if data.nbytes > spec.nbytes:
        raise _trailing(data.nbytes - spec.nbytes, content, header.nbytes + spec.nbytes, name)
    if data.nbytes < spec.nbytes:
        raise FormatError(
            "F001",
            f"{dtype} {list(spec.shape)} takes {spec.nbytes} bytes, {data.nbytes} are there",
            path=content.path,
            offset=content.offset + header.nbytes,
            tensor=name,
            hint="the file looks truncated; fetch it again, or check that the download finished",
        )
    store.add(Tensor(spec, npy.canonical(header, data, dtype, swap)))


def _unsupported(content: _Content, descr: str, store: TensorStore, name: str, *, alone: bool) -> None:
    what = "records with fields" if descr == npy.RECORD else f"elements of type '{descr}'"
    if alone:
        raise FormatError("F704", f"{what} hold no weights that porter knows", path=content.path, offset=content.offset, tensor=name)
    store.note("skipped", f"{what} hold no weights that porter knows", name)


def _trailing(count: int, content: _Content, at: int, name: str) -> FormatError:
    return FormatError(
        "F706",
        f"{count} bytes behind the array belong to nothing",
        path=content.path,
        offset=content.offset + at,
        tensor=name,
        hint="the shape in the header is wrong, or several arrays were saved into one file; save them as .npz",
    )


def _read_objects(content: _Content, header: npy.ArrayHeader, store: TensorStore, prefix: str, name: str) -> None:
    value, payload = content.read_pickle(header.nbytes, name)
    elements = value.objects if isinstance(value, PickledArray) else None
    if elements is None or (isinstance(value, PickledArray) and value.shape != header.shape):
        raise FormatError("F707", "the pickle is not the array of objects that the header announces", path=content.path, tensor=name)
    before = len(store)
    _Walk(store, content, payload).walk(elements[0] if header.shape == () else elements, prefix)
    if len(store) == before:
        raise FormatError(
            "F707",
            "the array of Python objects holds no dictionary or list of arrays",
            path=content.path,
            offset=content.offset,
            tensor=name,
            hint="porter reads objects only where they are dictionaries of arrays, as old converters wrote them",
        )


class _Walk:
    """Finds the arrays in nested dictionaries, lists and arrays of objects, and adds them under the joined keys."""

    def __init__(self, store: TensorStore, content: _Content, payload: Callable[[object], Payload]) -> None:
        self.store = store
        self.path = content.path
        self.payload = payload
        # Shared containers can unfold to more than any file holds; an honest value takes more than one byte of pickle.
        self.left = content.size
        self.names: dict[int, str] = {}

    def walk(self, value: object, name: str, depth: int = 0) -> None:
        self.left -= 1
        if depth > _DEEPEST or self.left < 0:
            raise UnsafeFileError("S702", "containers nest too deeply, or in themselves", path=self.path, tensor=name)
        if isinstance(value, PickledArray):
            self._array(value, name, depth)
        elif isinstance(value, dict):
            for key, inner in value.items():
                self.walk(inner, _join(name, _key(key)), depth + 1)
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                self.walk(inner, _join(name, str(index)), depth + 1)
        else:
            self.store.note("skipped", f"{describe_value(value)} is no array", name)

    def _array(self, array: PickledArray, name: str, depth: int) -> None:
        if array.objects is not None:
            inner = array.objects
            self.walk(inner[0] if array.shape == () else inner, name, depth + 1)
            return
        tensor = array.tensor(name, self.payload)
        if tensor is None:
            what = array.dtype.descr if array.dtype is not None else "nothing"
            self.store.note("skipped", f"an array of '{what}' holds no weights that porter knows", name)
        elif id(array) in self.names:
            self.store.tie(tensor, self.names[id(array)])
        else:
            self.store.add(tensor)
            self.names[id(array)] = name


def _key(key: object) -> str:
    if isinstance(key, ByteString):
        return key.text()
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _array_bytes(found: object, pickle: memoryview, rest: Payload) -> Payload:
    """The bytes of a pickled array as a payload: a range of the file where the pickle lies in one as it is."""
    if isinstance(found, ByteRun):
        # The checksum is the whole member's, and was checked when the pickle was read.
        run = rest.run if isinstance(rest, VerifiedPayload) else rest
        if isinstance(run, FilePayload):
            return run.source.payload(run.offset + found.start, found.nbytes)
        return BytesPayload(pickle[found.start : found.start + found.nbytes])
    if isinstance(found, str):  # Python 2's bytes
        try:
            return BytesPayload.of(found.encode("latin-1"))
        except UnicodeEncodeError as error:
            raise FormatError("F707", "an array's bytes hold characters beyond 255") from error
    if isinstance(found, bytes):
        return BytesPayload.of(found)
    raise FormatError("F707", f"an array's bytes are a {type(found).__name__}")


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _check_shape(tensor: Tensor) -> None:
    if len(tensor.shape) > npy.MAX_DIMENSIONS:
        raise LossError(
            "L702",
            f"numpy has at most {npy.MAX_DIMENSIONS} dimensions, this has {len(tensor.shape)}",
            tensor=tensor.name,
            hint="reshape it",
        )


def _check_names(store: TensorStore) -> None:
    for name in store:
        encode_name(name + _SUFFIX)
        if name + _SUFFIX in store:
            raise LossError(
                "L701",
                f"numpy cannot tell '{name}' and '{name}{_SUFFIX}' apart in one archive",
                tensor=name,
                hint="rename one of them, or write safetensors",
            )


def _check_single(store: TensorStore, path: str) -> list[Loss]:
    if len(store) != 1:
        raise LossError("L703", f".npy holds one array, the store has {len(store)}", hint="write .npz, which holds any number")
    name = next(iter(store))
    if name == _stem(path):
        return []
    return [Loss("name", f"'{name}': the array has no name but the file's stem, '{_stem(path)}'", (name,))]
