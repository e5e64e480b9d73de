"""Opening an HDF5 file, and who reads which make of it."""

from __future__ import annotations

from porter.errors import FormatError, UsageError
from porter.formats.base import ReadOptions
from porter.formats.hdf5.description import Description
from porter.formats.hdf5.reading import Reader
from porter.formats.hdf5.recognition import is_porter, is_solver_state
from porter.formats.hdf5.storage import Window
from porter.io.source import FileSource
from porter.store import TensorStore


def open_reader(path: str, store: TensorStore) -> Reader:
    """A reader of the file at `path`, which `store` then manages."""
    source = FileSource(path)
    store.manage(source)
    return Reader(Window(source, 0, source.size), store)


def read_as(reader: Reader, dialect: str, options: ReadOptions) -> Description:
    """Read the file's tensors as `dialect`.

    Raises:
        FormatError: the file is not laid out like that.
        UsageError: an option means nothing to the dialect.
    """
    if options.select is not None and not dialect.startswith("keras"):
        raise UsageError("U005", "--select means nothing to this file", hint="leave --select out")
    if options.net is not None and dialect != "caffe":
        raise UsageError("U005", "--net means nothing to this file", hint="leave --net out")
    if dialect == "keras2":
        from porter.formats.hdf5 import keras2

        return keras2.read(reader, options.select)
    if dialect == "keras3":
        from porter.formats.hdf5 import keras3

        return keras3.read(reader, None, options.select)
    if dialect.startswith("caffe"):
        return _read_caffe(reader, dialect, options)
    from porter.formats.hdf5 import plain

    if dialect == "porter" and is_porter(reader):
        return plain.read_porter(reader)
    if dialect == "plain":
        return plain.read_plain(reader)
    raise _other(dialect)


def _read_caffe(reader: Reader, dialect: str, options: ReadOptions) -> Description:
    from porter.formats.hdf5 import caffe

    root = reader.table(reader.root)
    if dialect == "caffe" and "data" in root and not root["data"].is_dataset:
        return caffe.read_weights(reader, options.net)
    if dialect == "caffe-solverstate" and is_solver_state(root):
        return caffe.read_solver_state(reader)
    raise _other(dialect)


def _other(dialect: str) -> FormatError:
    return FormatError("F509", f"the file is not laid out as {dialect}", hint="leave out -f, or say -f hdf5")
