"""HDF5 files: porter's own layout, Keras 1 to 3, Caffe, and files of no known make.

porter reads the index of a file itself (see `objects`), and leaves decompressing and writing to h5py.
"""

from __future__ import annotations

from porter.dtypes import DTYPES
from porter.errors import PorterError
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.hdf5.description import fill_store
from porter.formats.hdf5.dialects import read_as
from porter.formats.hdf5.objects import SIGNATURE
from porter.formats.hdf5.reading import Reader
from porter.formats.hdf5.recognition import dialect_of
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
    net_dialects=frozenset({"caffe"}),
)

_ARCHIVE = "keras-archive"


def detect(probe: Probe) -> str | None:
    """The dialect by what the root group holds; a damaged file is still HDF5. Looks for user blocks up to 64 KiB."""
    members = set(probe.zip_names)
    if "config.json" in members and members & {"model.weights.h5", "model.weights.npz"}:
        return _ARCHIVE
    at = 0
    while probe.source.read_up_to(at, 8) != SIGNATURE:
        at = max(512, 2 * at)
        if at > 1 << 16 or at >= probe.size:
            return None
    store = TensorStore()
    try:
        return dialect_of(Reader(Window(probe.source, 0, probe.size), store))
    except PorterError:
        return "plain"


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the file's index. Compressed data is decompressed by libhdf5 when it is asked for."""
    source = FileSource(path)
    store = TensorStore()
    store.manage(source)
    if options.dialect == _ARCHIVE or source.read_up_to(0, 4) == b"PK\x03\x04":
        from porter.formats.hdf5.archive import read_archive

        return read_archive(source, store, options)
    reader = Reader(Window(source, 0, source.size), store)
    dialect = options.dialect or dialect_of(reader)
    described = read_as(reader, dialect, options)
    reader.finish()
    fill_store(store, reader.found, described)
    store.source = Provenance(path, "hdf5", dialect)
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write the dialect asked for, by default porter's own layout."""
    from porter.formats.hdf5 import saving

    return saving.write(store, path, options)
