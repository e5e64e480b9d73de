"""Which function takes over which type of layer. One table; modules are imported on use.

`porter port --custom my_layers.py` adds to it: the file defines `LAYERS`, a dictionary of importers by type.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from porter.dataclass import dataclass
from porter.graph.caffe.layer import Importer

_LAYERS = "porter.graph.caffe.layers."


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One type of layer: where its importer is, how its ONNX form is called in the table of the docs, what checked it.

    parameters: what is honoured. onnx: the operators it becomes. checked: the oracle's networks, or what else.
    """

    type: str
    importer: str
    parameters: str
    onnx: str
    checked: str


def _entries(module: str, rows: Mapping[str, tuple[str, str, str, str]]) -> dict[str, LayerEntry]:
    return {name: LayerEntry(name, f"{_LAYERS}{module}:{function}", *rest) for name, (function, *rest) in rows.items()}


TABLE: Mapping[str, LayerEntry] = MappingProxyType(
    _entries(
        "elementwise",
        {
            "ReLU": ("relu", "negative_slope", "Relu, LeakyRelu", "zoo: ReLU_*"),
        },
    )
)


def find(layer_type: str, custom: Mapping[str, Importer]) -> Importer | None:
    """The importer of a type, or None where porter has none."""
    if layer_type in custom:
        return custom[layer_type]
    entry = TABLE.get(layer_type)
    if entry is None:
        return None
    import importlib

    module, _, name = entry.importer.partition(":")
    importer: Importer = getattr(importlib.import_module(module), name)
    return importer
