"""Which make of HDF5 file a file is, and who reads it."""

from __future__ import annotations

from porter.errors import FormatError, UsageError
from porter.formats.base import ReadOptions
from porter.formats.hdf5 import caffe, description, keras2, keras3, plain
from porter.formats.hdf5.reading import Reader
from porter.formats.hdf5.storage import Window
from porter.io.source import FileSource
from porter.store import TensorStore


def open_reader(path: str, store: TensorStore) -> Reader:
    """A reader of the file at `path`, which `store` then manages."""
    source = FileSource(path)
    store.manage(source)
    return Reader(Window(source, 0, source.size), store)


def dialect_of(reader: Reader) -> str:
    """The dialect by what the root group holds."""
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


def read_as(reader: Reader, dialect: str, options: ReadOptions) -> description.Description:
    """Read the file's tensors as `dialect`.

    Raises:
        FormatError: the file is not laid out like that.
        UsageError: an option means nothing to the dialect.
    """
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
