"""Recorded runs: what a network's layers made of known inputs, in another framework, on another machine.

The file is an .npz: `input/NAME`, a value fed, whole; `layer_keys`, in the order in which the layers ran; for each such key
`layer/NUMBER/LAYER/TOP` what that layer wrote, whole or at the flat indices `KEY@idx`, with `KEY@shape` and `KEY@absmax`, the largest
magnitude; `output/NAME`, an output, whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.errors import GraphError, access_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from porter.graph.caffe.importer import LayerRecord


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded of a value. value: its name in the graph. index: flat, of `data`, None for all. scale: the largest magnitude."""

    value: str
    shape: tuple[int, ...]
    data: NDArray[Any]
    index: NDArray[np.integer[Any]] | None
    scale: float


def arrays(path: str) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file. Reads it whole.

    Raises:
        FileAccessError, GraphError: it cannot be read, or is none.
    """
    import zipfile

    import numpy as np

    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("one array, and no archive")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise access_error(error, path, "reading") from error
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise GraphError("G091", f"this is no .npz file of arrays: {' '.join(str(error).split())[:200]}", path=path) from error


def inputs(record: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What was fed, by the name of the input; and what layers without inputs made, since data layers become inputs of a graph."""
    found: dict[str, NDArray[Any]] = {}
    for key in _keys(record):
        # The layer's name and the top's may have slashes: every end of the key may be the top.
        parts = key.split("/")[2:]
        if f"{key}@idx" not in record:
            array = record[key].reshape(record[f"{key}@shape"])
            for start in range(1, len(parts)):
                found.setdefault("/".join(parts[start:]), array)
    return found | {key.removeprefix("input/"): array for key, array in record.items() if key.startswith("input/")}


def recorded(record: Mapping[str, NDArray[Any]], layers: Sequence[LayerRecord], outputs: Sequence[str]) -> list[Recorded]:
    """What the record has of the values of a graph, of outputs once. layers: which value each layer's top became. outputs: of the graph."""
    import numpy as np

    places = {f"{layer.name}/{top}": value for layer in layers for top, value in layer.tops.items()}
    found = []
    for name in outputs:
        array = record.get(f"output/{name}")
        if array is not None:
            scale = float(np.abs(array[np.isfinite(array)]).max(initial=0))
            found.append(Recorded(name, array.shape, array.reshape(-1), None, scale))
    whole = {entry.value for entry in found}
    for key in _keys(record):
        value = places.get(key.split("/", 2)[2])
        if value is not None and value not in whole:
            shape = tuple([int(n) for n in record[f"{key}@shape"]])
            found.append(Recorded(value, shape, record[key].reshape(-1), record.get(f"{key}@idx"), float(record[f"{key}@absmax"])))
    return found


def _keys(record: Mapping[str, NDArray[Any]]) -> list[str]:
    return [str(key) for key in record.get("layer_keys", ())]


def read(path: str) -> dict[str, NDArray[Any]]:
    """A recorded run.

    Raises:
        GraphError: the file has no arrays that such a run has.
    """
    record = arrays(path)
    broken = [k for k in _keys(record) if any(name not in record for name in (k, f"{k}@shape", f"{k}@absmax")) or k.count("/") < 3]
    if broken or not any(key.startswith(("input/", "layer/")) for key in record):
        what = f"it lacks what belongs to '{broken[0]}'" if broken else "it has no 'input/…' and no 'layer/…'"
        raise GraphError("G091", f"'{os.path.basename(path)}' is no recorded run: {what}", path=path)
    return record
