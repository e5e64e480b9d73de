"""ONNX models: the tensors of a `.onnx` file, whatever in it holds them, without the onnx package.

Reading scans the file's structure and leaves values where they are, in the file or in data files beside it. Writing makes
a model that holds nothing but weights, or puts values into an existing model (`into`) and changes nothing else of it.

Source: onnx/onnx, `onnx/onnx.proto` and `docs/ExternalData.md` (IR version 14).
"""

from __future__ import annotations

from porter.dtypes import BY_ONNX
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.onnx.detect import is_model
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore

CAPABILITIES = Capabilities(
    dtypes=frozenset(d.name for d in BY_ONNX.values()),
    ties=False,
    description=True,
    metadata=True,
    attachments=True,
    write_options=frozenset({"into"}),
)


def detect(probe: Probe) -> str | None:
    """Recognises a ModelProto by the tags of its outermost fields."""
    return "model" if is_model(probe.source) else None


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the structure of a model: every initialiser, constant and tensor attribute, those of subgraphs and functions too.

    Files that the model names are opened; they must lie in its own folder.
    """
    from porter.formats.onnx.contents import describe_model, fill, read_entries
    from porter.formats.onnx.structure import read_structure

    store = TensorStore(source=Provenance(path, "onnx", "model"))
    source = FileSource(path)
    store.manage(source)
    model = read_structure(source)
    fill(store, read_entries(model, source, store))
    describe_model(model, store)
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write a model of nothing but weights, or, with `into`, that model with the values of `store` in it."""
    if options.into is not None:
        from porter.formats.onnx.into import write_into

        return write_into(store, path, options)
    from porter.formats.onnx.weights_model import write_weights

    return write_weights(store, path, options, CAPABILITIES)
