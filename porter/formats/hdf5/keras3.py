"""Keras 3: variables at `layers/<layer>/vars/<n>`, in a `.weights.h5` file or inside a `.keras` archive.

The path of a variable is that of the attributes that lead to its layer; layers in a list are called by their class in
snake case, numbered from the second on. bfloat16 is two opaque bytes and an attribute `dtype`. TensorFlow 2.13 wrote
`_layer_checkpoint_dependencies` for `layers`.

Source: keras-team/keras at 040582fc160b, `keras/src/saving/saving_lib.py` (H5IOStore, `_save_state`).
"""

from __future__ import annotations

import re
from typing import Any

from porter.errors import UsageError
from porter.formats.hdf5 import description
from porter.formats.hdf5.keras2 import CLASS, LAYER
from porter.formats.hdf5.keras_layers import KerasLayer, places
from porter.formats.hdf5.reading import Entry, Reader, first_text

_OPTIMIZER = "optimizer"


def read(reader: Reader, config: Any, select: str | None) -> description.Description:
    """Read the model's variables; `config` is its parsed configuration, None for weights alone.

    `select="optimizer_weights"` reads the optimizer's variables instead.
    """
    described = description.load(reader.file)
    entries = list(reader.walk(reader.root))
    optimizer = [e for e in entries if e.path[0] == _OPTIMIZER]
    if select not in (None, "model_weights", "optimizer_weights", _OPTIMIZER) or (select not in (None, "model_weights") and not optimizer):
        raise UsageError(
            "U501", f"the file has no '{select}'", hint="it has " + (_OPTIMIZER + "_weights" if optimizer else "the weights alone")
        )
    wanted = optimizer if select in ("optimizer_weights", _OPTIMIZER) else [e for e in entries if e.path[0] != _OPTIMIZER]
    if optimizer and wanted is not optimizer:
        reader.store.note(
            "skipped", f"{len(optimizer)} variable{'s' * (len(optimizer) > 1)} of the optimizer; read them with --select optimizer_weights"
        )
    layers = places(config) if config is not None else {}
    rank = {path: i for i, path in enumerate(layers)}
    for entry in sorted(wanted, key=lambda e: (rank.get(_layer_path(e), len(rank)), _natural(e.text))):
        _add(reader, entry, described, layers.get(_layer_path(entry)))
    return described


def _layer_path(entry: Entry) -> str:
    """The path of the layer that a variable belongs to."""
    return "/".join(entry.path[:-2])


def _natural(text: str) -> list[tuple[int, int | str]]:
    """A key that puts `conv2d_10` behind `conv2d_9`, and `conv2d` first."""
    return [(0, int(part)) if part.isdigit() and len(part) < 18 else (1, part) for part in re.split(r"(\d+)", text.replace("/", "\0"))]


def _add(reader: Reader, entry: Entry, described: description.Description, layer: KerasLayer | None) -> None:
    attributes: dict[str, Any] = {}
    name = layer.name if layer is not None else first_text(reader.file.attributes(entry.parent).get("name"))
    if name is not None:
        attributes[LAYER] = name
    role = None
    if layer is not None:
        attributes[CLASS] = layer.kind
        roles = layer.variables()
        siblings = reader.links(entry.parent, "")
        if entry.path[-1].isdigit() and len(siblings) == len(roles) and int(entry.path[-1]) < len(roles):
            role = roles[int(entry.path[-1])]
    axes = layer.axes(role) if layer is not None else None
    reader.add(entry, described.name(entry.text, entry.text), role=role, axes=axes, attributes=attributes)
