"""Recorded runs: what a network's layers made of known inputs, in another framework, on another machine.

The file is an .npz: `input/NAME`, a value fed, whole; `layer_keys`, in the order in which the layers ran; for each such key
`layer/NUMBER/LAYER/TOP` what that layer wrote, whole or at the flat indices `KEY@idx`, with `KEY@shape` and `KEY@absmax`, the largest
magnitude; `output/NAME`, an output, whole.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.errors import GraphError
from porter.graph.npz_arrays import read_arrays

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
    """A recorded run. Reads the file whole; what it says of its values is checked.

    Raises:
        FileAccessError: it cannot be read.
        GraphError: the file has no arrays that such a run has, or they contradict each other.
    """
    record = read_arrays(path)
    said = _broken(record)
    if said is None and not any(key.startswith(("input/", "layer/")) for key in record):
        said = "it has no 'input/…' and no 'layer/…'"
    if said is not None:
        raise GraphError("G091", f"'{os.path.basename(path)}' is no recorded run: {said}", path=path)
    return record


def _broken(record: Mapping[str, NDArray[Any]]) -> str | None:
    """What is wrong with a record, the first thing found."""
    keys, types = record.get("layer_keys"), record.get("layer_types")
    if keys is not None and (keys.ndim != 1 or (keys.dtype.kind != "U" and keys.size)):
        return "'layer_keys' is no list of names"
    if types is not None and (keys is None or types.shape != keys.shape or (types.dtype.kind != "U" and types.size)):
        return "'layer_types' is no list of a name for each of 'layer_keys'"
    for key in record:
        if key.startswith(("input/", "output/")) and not _is_real(record[key]):
            return f"'{key}' holds {record[key].dtype}, and no real numbers"
    return next((said for key in _keys(record) if (said := _broken_layer(record, key)) is not None), None)


def _broken_layer(record: Mapping[str, NDArray[Any]], key: str) -> str | None:
    import numpy as np

    if any(name not in record for name in (key, f"{key}@shape", f"{key}@absmax")) or key.count("/") < 3:
        return f"it lacks what belongs to '{key}'"
    data, shape, scale, index = record[key], record[f"{key}@shape"], record[f"{key}@absmax"], record.get(f"{key}@idx")
    if not _is_real(data):
        return f"'{key}' holds {data.dtype}, and no real numbers"
    if shape.ndim != 1 or (shape.dtype.kind not in "iu" and shape.size) or (shape < 0).any():
        return f"'{key}@shape' is no list of sizes"
    count = math.prod(map(int, shape))
    if index is None and data.size != count:
        return f"'{key}' has {data.size} numbers, its shape {count}, and there is no '{key}@idx'"
    if index is not None and (index.dtype.kind not in "iu" or index.size != data.size):
        return f"'{key}@idx' is no list of an index for each of the {data.size} numbers of '{key}'"
    if index is not None and index.size and not (int(index.min()) >= 0 and int(index.max()) < count):
        return f"'{key}@idx' goes from {index.min()} to {index.max()}, and the value has {count} elements"
    largest = float(np.abs(data[np.isfinite(data)].astype(np.float64)).max(initial=0))
    # An allowance for a scale that another program computed in a narrower type.
    if scale.size != 1 or not _is_real(scale) or not math.isfinite(scale.item()) or scale.item() < largest * (1 - 1e-3):
        return f"'{key}@absmax' has to be one finite number of at least {largest:g}, the largest magnitude of '{key}'"
    if index is None and scale.item() > largest * (1 + 1e-3):
        return f"'{key}@absmax' is {scale.item():g}, and the largest magnitude of '{key}', which is whole, is {largest:g}"
    return None


def _is_real(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf"
