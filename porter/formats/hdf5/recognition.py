"""Which make of HDF5 file a file is, by what its root group holds. What each make looks like is told in its own module."""

from __future__ import annotations

from porter.formats.hdf5.objects import Header
from porter.formats.hdf5.reading import Reader

MARK = "porter_layout"
LAYERS, MODEL, VARS = "layer_names", "model_weights", "vars"
_MOST_GROUPS = 300
_MOST_ENTRIES = 20


def dialect_of(reader: Reader) -> str:
    """The dialect; "plain" for a file of no known make."""
    if is_porter(reader):
        return "porter"
    root = reader.table(reader.root)
    if is_keras2(reader, root):
        return "keras2"
    if is_solver_state(root):
        return "caffe-solverstate"
    if is_caffe(root):
        return "caffe"
    return "keras3" if is_keras3(reader, root) else "plain"


def is_porter(reader: Reader) -> bool:
    """Whether the file says that it has porter's layout."""
    return MARK in reader.file.attributes(reader.root)


def is_keras2(reader: Reader, root: dict[str, Header]) -> bool:
    """Whether the root group, or `model_weights` in it, lists layers as Keras does."""
    model = root.get(MODEL)
    return lists_layers(reader, reader.root) or (model is not None and model.is_group and lists_layers(reader, model))


def lists_layers(reader: Reader, group: Header) -> bool:
    """Whether a group has the attribute of Keras that lists its layers, whole, split, or as a mere count."""
    return bool({LAYERS, LAYERS + "0", "nb_layers"} & set(reader.file.attributes(group)))


def is_caffe(root: dict[str, Header]) -> bool:
    """Whether the root group's objects are those of Caffe's weights: `data`, and perhaps `diff`, and nothing else."""
    return "data" in root and set(root) <= {"data", "diff"} and not any(h.is_dataset for h in root.values())


def is_solver_state(root: dict[str, Header]) -> bool:
    """Whether the root group's objects are those of a solver's state."""
    return "iter" in root and "history" in root and root["iter"].is_dataset and root["history"].is_group


def is_keras3(reader: Reader, root: dict[str, Header]) -> bool:
    """Whether a group called `vars` is near the top."""
    pending, looked = [root], 0
    while pending and looked < _MOST_GROUPS:
        table = pending.pop(0)
        looked += 1
        if VARS in table and not table[VARS].is_dataset:
            return True
        if len(pending) < _MOST_GROUPS:
            pending += [
                reader.table(header)
                for header in list(table.values())[:_MOST_ENTRIES]
                if header.is_group and looked + len(pending) < _MOST_GROUPS
            ]
    return False
