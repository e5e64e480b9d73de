"""Tables from a Keras model: layers by kind, with the modules that they become.

`names` has the tensors' names and, for each, module and role (`conv2d_1/kernel:0` and `conv2d_1.kernel`). All others have
modules, in both columns, as they are called from then on:

    kernel_layers        Dense, Conv1D to Conv3D: a kernel whose last axes are input and output
    transposed_layers    Conv1DTranspose to Conv3DTranspose
    depthwise_layers, separable_layers, embeddings, lstm_layers, gru_layers, rnn_layers
    prelu_layers         with one slope for each channel
    norm_layers          BatchNormalization, LayerNormalization, GroupNormalization
    gammaless_norms, betaless_norms   BatchNormalization that has only the other of the two
    other_layers         whose variables keep their names and layouts

Source: keras-team/keras 3.x `keras/src/layers`: `rnn/lstm.py` and `rnn/gru.py` (order of gates; `reset_after`),
`convolutional/base_depthwise_conv.py` (kernel: spatial, channels, multiplier), `normalization/batch_normalization.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from porter.dataclass import dataclass, field
from porter.formats.hdf5.keras2 import CLASS, LAYER
from porter.formats.hdf5.keras_layers import KerasLayer, layers_by_name, parse_config, role_of, snake_case
from porter.mapping.tables.base import Tables, some
from porter.mapping.tables.keras_graph import flattened_dense
from porter.mapping.tables.modules import module_names
from porter.store import TensorStore
from porter.tensor import Tensor

_CONFIGS = ("keras.model_config", "keras.config")
"""Attachments that hold the configuration of a model: of Keras 2, and of Keras 3's archives."""

_NUMBERED = re.compile(r"(^|/)vars/\d{1,9}$")

_KINDS = {
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D", "Convolution2D"), "kernel_layers"),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), "transposed_layers"),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), "depthwise_layers"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "separable_layers"),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "GroupNormalization"), "norm_layers"),
    **dict.fromkeys(("LSTM", "LSTMCell"), "lstm_layers"),
    **dict.fromkeys(("GRU", "GRUCell"), "gru_layers"),
    **dict.fromkeys(("SimpleRNN", "SimpleRNNCell"), "rnn_layers"),
    "Embedding": "embeddings",
    "PReLU": "prelu_layers",
}
_ALL_KINDS = (*dict.fromkeys(_KINDS.values()), "other_layers")
_ROLES: dict[str, set[str] | frozenset[str]] = {
    "kernel_layers": {"kernel", "bias"},
    "transposed_layers": {"kernel", "bias"},
    "depthwise_layers": {"kernel", "depthwise_kernel", "bias"},
    "separable_layers": {"depthwise_kernel", "pointwise_kernel", "bias"},
    "norm_layers": {"gamma", "beta", "moving_mean", "moving_variance"},
    "embeddings": {"embeddings"},
    "prelu_layers": {"alpha"},
    **dict.fromkeys(("lstm_layers", "gru_layers", "rnn_layers"), frozenset({"kernel", "recurrent_kernel", "bias"})),
}
_GATES = {4: "lstm_layers", 3: "gru_layers", 1: "rnn_layers"}
_TORCH_EPS = 1e-5


@dataclass(slots=True)
class Layer:
    """A layer: its own name, what stands before the names of its variables, its class if known, and its tensors by role."""

    name: str
    prefix: str
    kind: str | None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def backward(self) -> bool:
        """Whether it is the backward half of a Bidirectional."""
        return re.search(r"(^|/)backward_", self.prefix) is not None


def tables(store: TensorStore) -> Tables | None:
    """The tables of the model that `store` holds. None where its tensors do not say which layers of Keras they belong to."""
    layers = _layers(store)
    if not layers:
        return None
    config = next((parse_config(store.attachments[key]) for key in _CONFIGS if key in store.attachments), None)
    settings = layers_by_name(config) if config is not None else {}
    modules = _modules(layers)
    kinds = {layer.prefix: _kind(layer, settings.get(layer.name)) for layer in layers}
    rows = {kind: tuple([(m, m) for p, m in modules.items() if kinds[p] == kind]) for kind in _ALL_KINDS}
    rows["names"] = tuple(
        [
            (tensor.name, f"{modules[layer.prefix]}.{_role(role, kinds[layer.prefix])}")
            for layer in layers
            for role, tensor in layer.tensors.items()
        ]
    )
    norms = [layer for layer in layers if kinds[layer.prefix] == "norm_layers" and "moving_mean" in layer.tensors]
    for table, absent, present in (("gammaless_norms", "gamma", "beta"), ("betaless_norms", "beta", "gamma")):
        found = [modules[n.prefix] for n in norms if absent not in n.tensors and present in n.tensors]
        rows[table] = tuple([(m, m) for m in found])
    return Tables(rows, tuple(_notices(layers, kinds, modules, settings, config)))


def _layers(store: TensorStore) -> list[Layer]:
    found: dict[str, Layer] = {}
    for tensor in store.values():
        prefix, _, last = tensor.name.rpartition("/")
        name = tensor.attributes.get(LAYER, _path(prefix) if _NUMBERED.search(tensor.name) else None)
        if not isinstance(name, str):
            continue
        kind = tensor.attributes.get(CLASS)
        layer = found.setdefault(prefix or name, Layer(name, prefix or name, kind if isinstance(kind, str) else None))
        role = tensor.role or role_of(tensor.name, name) or re.sub(r"\W", "_", re.sub(r":\d+$", "", last)) or "_"
        layer.tensors[role if role not in layer.tensors else re.sub(r"\W", "_", last)] = tensor
    for layer in found.values():
        if all(map(str.isdigit, layer.tensors)):
            _name_variables(layer)
    return list(found.values())


def _path(prefix: str) -> str:
    """Where Keras 3 keeps a layer, without the names of its containers."""
    return "/".join(part for part in prefix.split("/") if part not in ("layers", "_layer_checkpoint_dependencies", "cell", "vars"))


def _name_variables(layer: Layer) -> None:
    """Give the numbered variables of Keras 3 their roles, by their order; without a class, the path says it in snake case."""
    classes = {snake_case(kind): kind for kind in _KINDS}
    kind = layer.kind or classes.get(re.sub(r"_\d+$", "", _path(layer.prefix).rpartition("/")[2]))
    roles = KerasLayer(kind or "", layer.name).variables()
    # A bias, being the last, may be missing; of other variables it could not be told which one is.
    if len(layer.tensors) == len(roles) or (roles[-1:] == ["bias"] and len(layer.tensors) == len(roles) - 1):
        layer.kind = kind
        layer.tensors = dict(zip(roles, (layer.tensors[n] for n in sorted(layer.tensors, key=int)), strict=False))


def _modules(layers: Sequence[Layer]) -> dict[str, str]:
    """Prefix to module. A layer's own name is its module's, where no other layer has it and its variables are below it."""
    named: dict[str, str] = {}
    halves = {layer.prefix: layer for layer in layers if layer.backward}
    for layer in layers:
        parts = layer.prefix.split("/")
        own = layer.name in parts or layer.prefix == layer.name or parts[-1] == "vars"
        taken = own and layer.name in named.values()
        named[layer.prefix] = layer.name if own and not taken and layer.prefix not in halves else _path(layer.prefix)
    words = module_names(named.values())
    modules = {prefix: words[name] for prefix, name in named.items()}
    for prefix, layer in halves.items():
        forward = next((p for p in modules if p not in halves and p == re.sub(r"(^|/)backward_", r"\1forward_", prefix)), None)
        if forward is not None and layer.kind is not None:
            modules[prefix] = f"{modules[forward]}.reverse"
    return modules


def _role(role: str, kind: str) -> str:
    """The role that `names` gives: Keras 3 calls a depthwise kernel `kernel`, Keras 2 `depthwise_kernel`."""
    return "kernel" if kind == "depthwise_layers" and role == "depthwise_kernel" else role


# ---- kinds -------------------------------------------------------------------------------------------------------------


def _kind(layer: Layer, settings: KerasLayer | None) -> str:
    kind = _KINDS.get(layer.kind or "", "other_layers") if layer.kind is not None else _guessed(layer)
    if kind != "other_layers" and not layer.tensors.keys() <= _ROLES[kind]:
        return "other_layers"
    kernel = layer.tensors.get("kernel")
    if kind == "kernel_layers" and kernel is not None and kernel.axes is not None and not kernel.axes.endswith("IO"):
        return "other_layers"
    if kind == "gru_layers" and not _resets_after(layer, settings):
        return "other_layers"
    if kind == "prelu_layers" and any(t.size != t.shape[-1] for t in layer.tensors.values() if t.shape):
        return "other_layers"
    return kind


def _resets_after(layer: Layer, settings: KerasLayer | None) -> bool:
    """Whether a GRU resets after the multiplication, as PyTorch's does; its bias has two rows then."""
    if "bias" in layer.tensors:
        return len(layer.tensors["bias"].shape) == 2
    return settings is not None and settings.settings.get("reset_after") is True


def _guessed(layer: Layer) -> str:
    """The kind of a layer whose class the file does not say, by its variables."""
    roles = layer.tensors
    if "recurrent_kernel" in roles and "kernel" in roles and len(roles["kernel"].shape) == len(roles["recurrent_kernel"].shape) == 2:
        units, columns = roles["recurrent_kernel"].shape
        return _GATES.get(columns // units if units and columns % units == 0 else 0, "other_layers")
    if "pointwise_kernel" in roles:
        return "separable_layers"
    if "depthwise_kernel" in roles:
        return "depthwise_layers"
    if "kernel" in roles and 2 <= len(roles["kernel"].shape) <= 5:
        return "transposed_layers" if "transpose" in layer.prefix else "kernel_layers"
    single = {"gamma": "norm_layers", "beta": "norm_layers", "embeddings": "embeddings", "alpha": "prelu_layers"}
    return next((kind for role, kind in single.items() if role in roles), "other_layers")


# ---- what has to be said -----------------------------------------------------------------------------------------------


def _notices(
    layers: Sequence[Layer], kinds: Mapping[str, str], modules: Mapping[str, str], settings: Mapping[str, KerasLayer], config: object
) -> Iterator[str]:
    guessed = [layer.prefix for layer in layers if layer.kind is None and kinds[layer.prefix] != "other_layers"]
    if guessed:
        yield f"the file does not say the classes of its layers; they are told by their variables and names: {some(guessed)}"
    others = [layer.prefix for layer in layers if kinds[layer.prefix] == "other_layers"]
    if others:
        yield f"layers that the map does not know, or that PyTorch has no like of, keep their variables: {some(others)}"
    epsilons: dict[float, list[str]] = {}
    for layer in layers:
        if "moving_mean" in layer.tensors and layer.name in settings:
            eps = settings[layer.name].settings.get("epsilon")
            if isinstance(eps, float) and abs(eps - _TORCH_EPS) > _TORCH_EPS * 1e-6:
                epsilons.setdefault(eps, []).append(modules[layer.prefix])
    for eps, names in epsilons.items():
        yield f"BatchNormalization with epsilon={eps:.7g}, which PyTorch's layer has to be told: {some(names)}"
    for name, channels in flattened_dense(config):
        found = next((layer for layer in layers if layer.name == name), None)
        if found is not None:
            size = channels if channels is not None else "its channels"
            weight = f"{modules[found.prefix]}.weight"
            yield (
                f"'{weight}' takes what a Flatten gives, in the order height, width, channels; for channels first, write a map that "
                f"includes this one, then says '{weight} : o (s c) -> {weight} : o (c s) where c={size}' and 'rest <-> keep'"
            )
