"""Which Dense layers of a Keras model get what a Flatten made of an image, whose order of elements is not PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_THROUGH = frozenset({"Dropout", "Activation", "ReLU", "LeakyReLU", "Masking"})
_SAME_CHANNELS = frozenset(
    {
        *("Dropout", "SpatialDropout2D", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "BatchNormalization", "LayerNormalization"),
        *("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "Add"),
        *("ZeroPadding2D", "Cropping2D", "UpSampling2D", "DepthwiseConv2D"),
    }
)
_MOST_STEPS = 1000


def flattened_dense(config: Any) -> Iterator[tuple[str, int | None]]:
    """Name of each Dense layer after a Flatten, and the channels of what was flattened where the configuration tells."""
    layers = config.get("config") if isinstance(config, dict) else None
    nodes = layers.get("layers") if isinstance(layers, dict) else layers
    if not isinstance(nodes, list):
        return
    known = {name: node for node in nodes if isinstance(node, dict) and isinstance(name := _name(node), str)}
    before: dict[str, str | None] = {}
    previous: str | None = None
    for name, node in known.items():
        before[name] = _input(node, known) if "inbound_nodes" in node else previous
        previous = name
    for name, node in known.items():
        if node.get("class_name") == "Dense":
            flatten = _walk(before, known, name, _THROUGH)
            if flatten is not None and known[flatten].get("class_name") == "Flatten":
                source = _walk(before, known, flatten, _SAME_CHANNELS)
                yield name, _channels(known[source]) if source is not None else None


def _walk(before: dict[str, str | None], known: dict[str, dict[str, Any]], name: str, through: frozenset[str]) -> str | None:
    """The first layer before `name` whose class is not among `through`."""
    at = before[name]
    for _ in range(_MOST_STEPS):
        if at is None or known[at].get("class_name") not in through:
            return at
        at = before[at]
    return None


def _channels(node: dict[str, Any]) -> int | None:
    settings = node.get("config")
    filters = settings.get("filters") if isinstance(settings, dict) else None
    return filters if type(filters) is int else None


def _name(node: dict[str, Any]) -> object:
    settings = node.get("config")
    return settings.get("name", node.get("name")) if isinstance(settings, dict) else None


def _input(node: dict[str, Any], known: dict[str, dict[str, Any]]) -> str | None:
    """The first layer that `inbound_nodes` names, however deep: its structure differs from version to version."""
    pending: list[Any] = [node["inbound_nodes"]]
    while pending:
        value = pending.pop(0)
        if isinstance(value, str) and value in known:
            return value
        if isinstance(value, list):
            pending[:0] = value
        elif isinstance(value, dict):
            pending[:0] = list(value.values())
    return None
