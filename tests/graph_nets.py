"""Small Caffe nets written as text, taken over with given weights and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from caffe_runs import cases, compare, imported, run

from porter.formats.caffe.net import net_from_tree
from porter.formats.caffe.prototxt import parse
from porter.graph.caffe.importer import ImportedNet, ImportOptions, import_net
from porter.store import TensorStore
from porter.tensor import Tensor

Weights = Mapping[str, Sequence[np.ndarray]]


def ported(text: str, weights: Weights | None = None, **options: Any) -> ImportedNet:
    """The net in `text`, with the blobs of each layer in `weights`; None: generated ones."""
    return import_net(net_from_tree(parse(text)), None if weights is None else store_of(weights), ImportOptions(**options))


def store_of(weights: Weights) -> TensorStore:
    tensors = []
    for layer, blobs in weights.items():
        for i, blob in enumerate(blobs):
            made = Tensor.from_array(f"{layer}.blob{i}", np.array(blob, dtype=np.float32, order="C"))
            tensors.append(made.with_spec(attributes={"caffe.layer": layer, "caffe.blob": i}))
    return TensorStore(tensors)


def one_layer(layer: str, shape: Sequence[int], **inputs: Sequence[int]) -> str:
    """A net of one layer `l` that reads `data` of this shape (and the other inputs), and makes `out`."""
    shapes = {"data": shape, **inputs}
    named = "".join(f'input: "{n}" input_shape {{ {" ".join(f"dim: {d}" for d in s)} }}\n' for n, s in shapes.items())
    bottoms = " ".join(f'bottom: "{n}"' for n in shapes)
    return f'{named}layer {{ name: "l" {bottoms} top: "out" {layer} }}'


def out(net: ImportedNet, **inputs: np.ndarray) -> np.ndarray:
    """What the last layer makes as its first top."""
    return run(net, inputs)[next(iter(net.layers[-1].tops.values()))]


def kinds(net: ImportedNet) -> list[str]:
    """The operators in order."""
    return [node.op_type for node in net.model.graph]


def far_from_caffe(shared: Path, *beginnings: str) -> dict[str, float]:
    """The recorded single-layer nets whose names begin so, and that differ from Caffe by more than 1e-5 of the largest value."""
    folders = [f for f in cases(shared / "oracle" / "zoo") if f.name.startswith(beginnings)]
    assert folders, beginnings
    worst = {f.name: max(d.relative for d in compare(f, imported(f))) for f in folders}
    return {name: w for name, w in worst.items() if not w <= 1e-5}
