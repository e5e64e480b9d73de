"""HDF5 files: porter's own layout, Keras 1 to 3, Caffe, and files of no known make.

porter reads the index of a file itself (see `objects`), and leaves decompressing and writing to h5py.
"""

from __future__ import annotations

from porter.dtypes import DTYPES
from porter.errors import FormatError, PorterError, UsageError
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.hdf5 import caffe, description, keras2, keras3, plain
from porter.formats.hdf5.objects import SIGNATURE, Hdf5File
from porter.formats.hdf5.reading import Reader
from porter.formats.hdf5.storage import Window
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore

CAPABILITIES = Capabilities(
    dtypes=frozenset(DTYPES),
    ties=True,
    description=True,
    metadata=True,
    attachments=True,
    read_options=frozenset({"select", "net"}),
    write_options=frozenset({"net", "into"}),
)

_ARCHIVE = "keras-archive"


def detect(probe: Probe) -> str | None:
    """The dialect by what the root group holds; a damaged file is still HDF5. Looks for user blocks up to 64 KiB."""
    if {"config.json", "model.weights.h5"} <= set(probe.zip_names):
        return _ARCHIVE
    at = 0
    while probe.source.read_up_to(at, 8) != SIGNATURE:
        at = max(512, 2 * at)
        if at > 1 << 16 or at >= probe.size:
            return None
    store = TensorStore()
    try:
        return _dialect(Reader(Window(probe.source, 0, probe.size), store))
    except PorterError:
        return "plain"


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the file's index. Compressed data is decompressed by libhdf5 when it is asked for."""
    source = FileSource(path)
    store = TensorStore()
    store.manage(source)
    if options.dialect == _ARCHIVE or source.read_up_to(0, 4) == b"PK\x03\x04":
        from porter.formats.hdf5 import archive

        return archive.read(source, store, options)
    reader = Reader(Window(source, 0, source.size), store)
    dialect = options.dialect or _dialect(reader)
    described = _read_as(reader, dialect, options)
    reader.finish()
    description.fill_store(store, reader.found, described)
    store.source = Provenance(path, "hdf5", dialect)
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write the dialect asked for, by default porter's own layout."""
    from porter.formats.hdf5 import writing

    return writing.write(store, path, options)


def _dialect(reader: Reader) -> str:
    if plain.is_porter(reader.file):
        return "porter"
    if keras2.is_keras2(reader):
        return "keras2"
    root = reader.table(reader.root)
    if caffe.is_solver_state(root):
        return "caffe-solverstate"
    if caffe.is_caffe(root):
        return "caffe"
    return "keras3" if keras3.is_keras3(reader, root) else "plain"


def _read_as(reader: Reader, dialect: str, options: ReadOptions) -> description.Description:
    if options.select is not None and not dialect.startswith("keras"):
        raise UsageError("U005", "--select means nothing to this file", hint="leave --select out")
    if options.net is not None and dialect != "caffe":
        raise UsageError("U005", "--net means nothing to this file", hint="leave --net out")
    if dialect == "porter" and plain.is_porter(reader.file):
        return plain.read_porter(reader)
    if dialect == "keras2":
        return keras2.read(reader, options.select)
    if dialect == "keras3":
        return keras3.read(reader, None, options.select)
    root = reader.table(reader.root)
    if dialect == "caffe" and "data" in root and not root["data"].is_dataset:
        return caffe.read_weights(reader, options.net)
    if dialect == "caffe-solverstate" and caffe.is_solver_state(root):
        return caffe.read_solver_state(reader)
    if dialect == "plain":
        return plain.read_plain(reader)
    raise FormatError("F509", f"the file is not laid out as {dialect}", hint="leave out -f, or say -f hdf5")
