"""What Keras' layers call their variables, in which order they keep them, and what the axes of each are.

Source: keras-team/keras at 0a54048b9961 `keras/src/layers/**` (`build` and `save_own_variables` of each class; 3.x),
`keras/src/utils/naming.py` (to_snake_case), `keras/src/saving/saving_lib.py` (`_save_container_state`); Keras 1.2.2
`keras/layers/convolutional.py` (`W` with `dim_ordering`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from porter.dataclass import dataclass, field

_RECURRENT = {"kernel": "IO", "recurrent_kernel": "IO", "bias": "O"}
_AXES = MappingProxyType(
    {
        "Dense": {"kernel": "IO", "bias": "O"},
        "Conv1D": {"kernel": "WIO", "bias": "O"},
        "Conv2D": {"kernel": "HWIO", "bias": "O"},
        "Conv3D": {"kernel": "DHWIO", "bias": "O"},
        "Conv1DTranspose": {"kernel": "WOI", "bias": "O"},
        "Conv2DTranspose": {"kernel": "HWOI", "bias": "O"},
        "Conv3DTranspose": {"kernel": "DHWOI", "bias": "O"},
        "DepthwiseConv1D": {"kernel": "WIM", "depthwise_kernel": "WIM", "bias": "O"},
        "DepthwiseConv2D": {"kernel": "HWIM", "depthwise_kernel": "HWIM", "bias": "O"},
        "SeparableConv1D": {"depthwise_kernel": "WIM", "pointwise_kernel": "WIO", "bias": "O"},
        "SeparableConv2D": {"depthwise_kernel": "HWIM", "pointwise_kernel": "HWIO", "bias": "O"},
        "BatchNormalization": {"gamma": "C", "beta": "C", "moving_mean": "C", "moving_variance": "C"},
        "LayerNormalization": {"gamma": "C", "beta": "C"},
        "GroupNormalization": {"gamma": "C", "beta": "C"},
        "Embedding": {"embeddings": "IO"},
        "LSTM": _RECURRENT,
        "GRU": _RECURRENT,
        "SimpleRNN": _RECURRENT,
        "LSTMCell": _RECURRENT,
        "GRUCell": _RECURRENT,
        "SimpleRNNCell": _RECURRENT,
    }
)
_ROLES = frozenset(role for table in _AXES.values() for role in table) | {"alpha"}
_KERAS1 = MappingProxyType(
    {"W": "kernel", "b": "bias", "gamma": "gamma", "beta": "beta", "running_mean": "moving_mean", "U": "recurrent_kernel"}
)
_KERAS1_CONVOLUTIONS = frozenset({"Convolution2D", "AtrousConvolution2D", "Conv2D"})

# The variables of a layer in the order in which Keras 3 numbers them; each with the switch of the configuration that
# leaves it out where it is false.
_KERNEL_BIAS = (("kernel", None), ("bias", "use_bias"))
_SEPARABLE = (("depthwise_kernel", None), ("pointwise_kernel", None), ("bias", "use_bias"))
_CELL = (("kernel", None), ("recurrent_kernel", None), ("bias", "use_bias"))
_VARIABLES: MappingProxyType[str, tuple[tuple[str, str | None], ...]] = MappingProxyType(
    {
        **dict.fromkeys((name for name in _AXES if name == "Dense" or name.startswith(("Conv", "Depthwise"))), _KERNEL_BIAS),
        **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARABLE),
        "BatchNormalization": (("gamma", "scale"), ("beta", "center"), ("moving_mean", None), ("moving_variance", None)),
        "LayerNormalization": (("gamma", "scale"), ("beta", "center")),
        "GroupNormalization": (("gamma", "scale"), ("beta", "center")),
        "Embedding": (("embeddings", None),),
        "PReLU": (("alpha", None),),
        **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell"), _CELL),
    }
)


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """A layer of a model's configuration: class, name and settings."""

    kind: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def axes(self, role: str | None) -> str | None:
        """The axes of the variable `role`, or None where the class does not say."""
        if self.kind in _KERAS1_CONVOLUTIONS and role == "kernel" and "dim_ordering" in self.settings:
            return {"th": "OIHW", "tf": "HWIO"}.get(str(self.settings["dim_ordering"]))
        return _AXES.get(self.kind, {}).get(role or "")

    def variables(self) -> list[str]:
        """The roles of its variables in Keras 3's order; empty for a class that porter does not know."""
        known = _VARIABLES.get(self.kind, ())
        return [role for role, switch in known if switch is None or self.settings.get(switch, True)]


def role_of(weight: str, layer: str) -> str | None:
    """The role that a weight's own name says (`conv1/kernel:0`, Keras 1's `conv1_W:0`), or None."""
    base = re.sub(r":\d+$", "", weight).rpartition("/")[2]
    if base in _ROLES:
        return base
    return _KERAS1.get(base.removeprefix(layer.rpartition("/")[2] + "_")) if base.startswith(layer.rpartition("/")[2] + "_") else None


def parse_config(data: bytes) -> Any:
    """A model's configuration, or None where it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def layers_by_name(config: Any) -> dict[str, KerasLayer]:
    """All layers of a configuration, nested models and wrapped layers included; a name used by two classes is left out."""
    found: dict[str, KerasLayer | None] = {}
    for layer in _every_layer(config):
        known = found.setdefault(layer.name, layer)
        if known is not None and known.kind != layer.kind:
            found[layer.name] = None
    return {name: layer for name, layer in found.items() if layer is not None}


def _every_layer(config: Any) -> Iterator[KerasLayer]:
    pending = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            layer = _layer(node)
            if layer is not None:
                inner = node["config"].get("layer")
                wrapped = _layer(inner) if isinstance(inner, dict) else None
                yield KerasLayer(wrapped.kind, layer.name, wrapped.settings) if wrapped is not None else layer
            pending.extend(v for v in node.values() if isinstance(v, dict | list))
        elif isinstance(node, list):
            pending.extend(v for v in node if isinstance(v, dict | list))


def _layer(node: dict[str, Any]) -> KerasLayer | None:
    kind, settings = node.get("class_name"), node.get("config")
    if not isinstance(kind, str) or not isinstance(settings, dict):
        return None
    name = settings.get("name", node.get("name"))
    return KerasLayer(kind, name, settings) if isinstance(name, str) else None


def snake_case(name: str) -> str:
    """What Keras 3 makes of a class name for the file: `Conv2DTranspose` becomes `conv2d_transpose`."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def places(config: Any, containers: tuple[str, ...] = ("layers", "_layer_checkpoint_dependencies")) -> dict[str, KerasLayer]:
    """Where a Keras 3 file keeps each layer of a configuration: path of its group to the layer, in the model's order."""
    found: dict[str, KerasLayer] = {}
    pending: list[tuple[str, Any]] = [("", config)]
    while pending:
        prefix, node = pending.pop(0)
        settings = node.get("config") if isinstance(node, dict) else None
        layers = settings.get("layers") if isinstance(settings, dict) else None
        if not isinstance(layers, list) or len(found) > 1 << 20:
            continue
        used: dict[str, int] = {}
        for child in layers:
            layer = _layer(child) if isinstance(child, dict) else None
            if layer is None:
                continue
            name = snake_case(layer.kind)
            count = used[name] = used.get(name, -1) + 1
            for container in containers:
                path = f"{prefix}{container}/{name}" + (f"_{count}" if count else "")
                found[path] = layer
                found.update((f"{path}/{part}", inner) for part, inner in _parts(layer))
                pending.append((path + "/", child))
    return found


def _parts(layer: KerasLayer) -> Iterator[tuple[str, KerasLayer]]:
    """The layers inside a layer that keep variables of their own, by the attribute that holds them."""
    if layer.kind in ("LSTM", "GRU", "SimpleRNN"):
        yield "cell", KerasLayer(layer.kind + "Cell", layer.name, layer.settings)
    inner = layer.settings.get("layer")
    wrapped = _layer(inner) if isinstance(inner, dict) else None
    if wrapped is None:
        return
    for part in ("forward_layer", "backward_layer") if layer.kind == "Bidirectional" else ("layer",):
        yield part, wrapped
        yield from ((f"{part}/{deeper}", found) for deeper, found in _parts_once(wrapped))


def _parts_once(layer: KerasLayer) -> Iterator[tuple[str, KerasLayer]]:
    if layer.kind in ("LSTM", "GRU", "SimpleRNN"):
        yield "cell", KerasLayer(layer.kind + "Cell", layer.name, layer.settings)
