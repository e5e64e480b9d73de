"""The calls that a network is written as: a layer each, but for those that people write as one, such as a linear layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from porter.dataclass import dataclass, field_names, replace
from porter.errors import TensorRTError
from porter.tensorrt import layers
from porter.tensorrt.layers import Layer, Network, Weights
from porter.tensorrt.source.call import EXPORTED, Call, Numbers, Program, Value, Word

IN_SOURCE = 4096
"""Elements of the largest constant that is written into the source, where `.wts` has no type for it."""

_ENUMERATIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("Pooling", "kind"): "PoolingType",
        ("Activation", "kind"): "ActivationType",
        ("Elementwise", "kind"): "ElementWiseOperation",
        ("Unary", "kind"): "UnaryOperation",
        ("MatrixMultiply", "first"): "MatrixOperation",
        ("MatrixMultiply", "second"): "MatrixOperation",
        ("Reduce", "kind"): "ReduceOperation",
        ("Slice", "mode"): "SampleMode",
        ("Resize", "mode"): "InterpolationMode",
        ("Resize", "coordinates"): "ResizeCoordinateTransformation",
        ("Resize", "rounding"): "ResizeRoundMode",
        ("Resize", "selector"): "ResizeSelector",
        ("Gather", "mode"): "GatherMode",
        ("Scatter", "mode"): "ScatterMode",
        ("TopK", "kind"): "TopKOperation",
        ("NonMaximumSuppression", "box_format"): "BoundingBoxFormat",
        ("GridSample", "interpolation"): "InterpolationMode",
        ("GridSample", "mode"): "SampleMode",
    }
)
"""Which enumeration a word of a setting is of."""


@dataclass(frozen=True, slots=True)
class Calls:
    """calls: in the order of the layers. shapes: of tensors of the file that a call takes in another shape than the layer holds.

    suffix: what most tensors have behind the name of the layer that makes them, None where they are called otherwise.
    clashes: layers after which another tensor is called.
    """

    calls: tuple[Call, ...]
    shapes: Mapping[str, tuple[int, ...]]
    suffix: str | None
    clashes: tuple[str, ...]


_WITHOUT_NUMBERS = frozenset(["RELU", "SIGMOID", "TANH", "SOFTSIGN", "GELU_ERF", "GELU_TANH"])
"""Activations that have no alpha and no beta. Source: NvInfer.h, ActivationType, v11.1."""


def calls_of(network: Network, *, tensors: bool = False) -> Calls:
    """The calls of a network. Reads constants of small sizes.

    tensors: with settings `called_0` … for tensors that are not called as most are.

    Raises:
        TensorRTError: a layer holds weights of a type that `.wts` has not, or is none that TensorRT's API makes.
    """
    idioms = _Idioms(network)
    left = [layer for layer in network.layers if layer.name not in idioms.parts]
    calls = [idioms.calls.get(layer.name) or _TABLE.get(type(layer.operation), _plain)(layer, network) for layer in left]
    suffix = _suffix(calls)
    if tensors and suffix is not None:
        calls = [_with_tensors(call, suffix) for call in calls]
    return Calls(tuple(calls), idioms.shapes, suffix, _clashes(network, suffix) if suffix is not None else ())


def form_of(call: Call) -> str:
    """Under what a call stands in the tables of the languages: an activation with numbers is written otherwise than one without."""
    if call.function != "activation":
        return call.function
    kind = call.settings["kind"]
    plain = isinstance(kind, Word) and kind.member in _WITHOUT_NUMBERS and not call.settings["alpha"] and not call.settings["beta"]
    return "activation" if plain else "activation_with"


def helpers_of(program: Program, texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Of the functions that a language has for forms, those that the program calls, each once."""
    used = {form_of(call) for call in program.calls if not call.block}
    return list(dict.fromkeys(text for form, some in texts.items() if form in used for text in some))


def _suffix(calls: Sequence[Call]) -> str | None:
    """Caffe's tensors are called as their layers are, those of PyTorch's exporter have `_output_0` behind it."""
    for suffix in ("", EXPORTED):
        if 2 * sum(call.outputs[0] == f"{call.settings['name']}{suffix}" for call in calls) >= len(calls):
            return suffix
    return None


def _clashes(network: Network, suffix: str) -> tuple[str, ...]:
    tensors = {given.name for given in network.inputs} | {o for layer in network.layers for o in layer.outputs}
    return tuple([y.name for y in network.layers if f"{y.name}{suffix}" in tensors and y.outputs != (f"{y.name}{suffix}",)])


def _with_tensors(call: Call, suffix: str) -> Call:
    if call.outputs == (f"{call.settings['name']}{suffix}",):
        return call
    return replace(call, settings={**call.settings, **{f"called_{i}": name for i, name in enumerate(call.outputs)}})


# ---- layers with weights ---------------------------------------------------------------------------------------------


def _call(layer: Layer, function: str, settings: Mapping[str, Value]) -> Call:
    return Call(function, layer.inputs, layer.outputs, {"name": layer.name, **settings})


def in_file(weights: Weights) -> bool:
    """Whether the values are in `net.wts`; others are written into the source."""
    return weights.tensor.dtype.name == "float32"


def _stated(name: str, held: Mapping[str, Weights | None]) -> dict[str, Value]:
    """Where the weights come from: nothing for `NAME.role`, a prefix for `PREFIX.role`, else a name for each."""
    names = {role: w.tensor.name for role, w in held.items() if w is not None}
    prefixes = {n.removesuffix(f".{role}") for role, n in names.items()}
    if all(n.endswith(f".{role}") for role, n in names.items()) and len(prefixes) == 1:
        prefix = prefixes.pop()
        return {} if prefix == name else {"weights": prefix}
    return {f"{role}_from": n for role, n in names.items()}


def _refuse_type(layer: Layer, weights: Weights) -> None:
    if not in_file(weights):
        raise TensorRTError(
            "T401",
            f"the layer '{layer.name}' holds {weights.tensor.dtype.name} weights, and a .wts file of such a program holds float32",
            hint="port the float32 model, and narrow its weights when they are loaded",
        )


def _convolution(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Convolution | layers.Deconvolution)
    if not isinstance(op.kernel, Weights):
        raise TensorRTError("T402", f"the layer '{layer.name}' takes its kernel from another layer, which porter cannot write")
    shape = op.kernel.shape
    maps = shape[0] if isinstance(op, layers.Convolution) else shape[1] * op.groups
    for weights in (op.kernel, op.bias):
        if weights is not None:
            _refuse_type(layer, weights)
    settings: dict[str, Value] = {
        **_stated(layer.name, {"weight": op.kernel, "bias": op.bias}),
        "outputs": maps,
        "kernel": shape[2:],
        "stride": op.stride,
        **_padding(op),
        "dilation": op.dilation,
        "groups": op.groups,
        "bias": op.bias is not None,
    }
    return _call(layer, "convolution" if isinstance(op, layers.Convolution) else "deconvolution", settings)


def _padding(op: Any) -> dict[str, Value]:
    if op.pre_padding == op.post_padding:
        return {"padding": op.pre_padding}
    return {"pre_padding": op.pre_padding, "post_padding": op.post_padding}


def _pooling(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Pooling)
    settings: dict[str, Value] = {
        "kind": Word("PoolingType", op.kind),
        "window": op.window,
        "stride": op.stride,
        **_padding(op),
        "count_excludes_padding": op.count_excludes_padding or op.kind == "MAX",
    }
    return _call(layer, "pooling", settings)


def _scale(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Scale)
    norm = op.batch_norm
    if norm is not None:
        held = {"weight": norm.weight, "bias": norm.bias, "running_mean": norm.mean, "running_var": norm.variance}
        for weights in held.values():
            _refuse_type(layer, weights)
        if op.mode == "CHANNEL" and op.axis == 1 and op.power is None:
            return _call(layer, "batch_norm", {**_stated(layer.name, held), "epsilon": norm.epsilon})
        raise TensorRTError(
            "T402", f"the layer '{layer.name}' is a batch normalisation along axis {op.axis}", hint="only axis 1 is written"
        )
    given = {"weight": op.scale, "bias": op.shift}
    for maybe in (op.scale, op.shift, op.power):
        if maybe is not None:
            _refuse_type(layer, maybe)
    if op.mode == "CHANNEL" and op.axis == 1 and op.power is None and (op.scale or op.shift):
        return _call(layer, "scale", {**_stated(layer.name, given), "has_weight": op.scale is not None, "has_bias": op.shift is not None})
    names: dict[str, Value] = {
        role: w.tensor.name if w is not None else None for role, w in (("shift", op.shift), ("scale", op.scale), ("power", op.power))
    }
    return _call(layer, "general_scale", {"mode": Word("ScaleMode", op.mode), **names, "axis": op.axis})


def _constant(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Constant)
    tensor = op.weights.tensor
    if in_file(op.weights):
        return _call(layer, "constant", {"tensor_from": tensor.name, "shape": tensor.shape})
    if tensor.size > IN_SOURCE or tensor.dtype.name not in ("bool", "int8", "uint8", "int32", "int64"):
        raise TensorRTError(
            "T401",
            f"the layer '{layer.name}' holds {tensor.size:,} {tensor.dtype.name} values, and a .wts file of such a program holds float32",
            hint=f"integers of up to {IN_SOURCE:,} values can be written into the source",
        )
    values = tuple(tensor.numpy().reshape(-1).tolist())
    return _call(layer, "numbers", {"values": Numbers(tensor.dtype.name, tensor.shape, values)})


# ---- the others --------------------------------------------------------------------------------------------------------


def _shuffle(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Shuffle)
    if len(layer.inputs) == 1 and op.first is None and op.second is None and op.shape is not None and op.zero_copies:
        flat = op.shape == (0, -1)
        return _call(layer, "flatten" if flat else "reshape", {} if flat else {"shape": op.shape})
    if len(layer.inputs) == 1 and op.shape is None and (op.first is None) != (op.second is None):
        return _call(layer, "transpose", {"order": op.first or op.second})
    return _plain(layer, network)


def _cast(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Cast)
    return _call(layer, "cast", {"dtype": Word("DataType", layers.DTYPES[op.dtype])})


def _quantize(layer: Layer, network: Network) -> Call:
    op = layer.operation
    assert isinstance(op, layers.Quantize | layers.Dequantize)
    name = "quantize" if isinstance(op, layers.Quantize) else "dequantize"
    return _call(layer, name, {"dtype": Word("DataType", layers.DTYPES[op.dtype]), "axis": op.axis})


def _slice(layer: Layer, network: Network) -> Call:
    """What an input says is zeros in the call."""
    op = layer.operation
    assert isinstance(op, layers.Slice)
    rank = len(next((given for given in (op.start, op.size, op.stride) if given is not None), network.shapes[layer.inputs[0]]))
    given = {
        name: value if value is not None else (0,) * rank for name, value in (("start", op.start), ("size", op.size), ("stride", op.stride))
    }
    return _call(layer, "slice", {**given, "mode": Word("SampleMode", op.mode)})


def _normalization(layer: Layer, network: Network) -> Call:
    """Scales for each group take the first version of TensorRT's function. Source: NvInfer.h, v11.1."""
    op = layer.operation
    assert isinstance(op, layers.Normalization)
    channels, scales = (network.shapes[i][1] if len(network.shapes[i]) > 1 else 0 for i in layer.inputs[:2])
    per_group = op.groups > 1 and scales == op.groups != channels
    settings: dict[str, Value] = {"axes": op.axes, "epsilon": op.epsilon, "groups": op.groups}
    return _call(layer, "group_normalization" if per_group else "normalization", settings)


def _plain(layer: Layer, network: Network) -> Call:
    """A layer whose settings are the fields of its operation."""
    op = layer.operation
    kind = type(op).__name__
    if isinstance(op, layers.Unknown):
        raise TensorRTError("T402", f"the layer '{layer.name}' is none that porter can write: {op.kind}")
    settings: dict[str, Value] = {}
    for name in field_names(op):
        value = getattr(op, name)
        settings[name] = Word(_ENUMERATIONS.get((kind, name), ""), value) if isinstance(value, str) else value
    return _call(layer, re.sub(r"(?<!^)(?=[A-Z][a-z])", "_", kind).lower(), settings)


_TABLE: Mapping[type, Callable[[Layer, Network], Call]] = MappingProxyType(
    {
        layers.Convolution: _convolution,
        layers.Deconvolution: _convolution,
        layers.Pooling: _pooling,
        layers.Scale: _scale,
        layers.Constant: _constant,
        layers.Shuffle: _shuffle,
        layers.Slice: _slice,
        layers.Normalization: _normalization,
        layers.Cast: _cast,
        layers.Quantize: _quantize,
        layers.Dequantize: _quantize,
    }
)


# ---- several layers as one call ------------------------------------------------------------------------------------------


class _Idioms:
    """Layers that one call makes. calls: by the name of the last of them; parts: names of the others; shapes: as `Calls`."""

    def __init__(self, network: Network) -> None:
        self.calls: dict[str, Call] = {}
        self.parts: set[str] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._network = network
        self._makers = {o: layer for layer in network.layers for o in layer.outputs}
        self._readers: dict[str, int] = {}
        for name in [*(i for layer in network.layers for i in layer.inputs), *network.outputs]:
            self._readers[name] = self._readers.get(name, 0) + 1
        for layer in network.layers:
            if isinstance(layer.operation, layers.ParametricRelu):
                self._prelu(layer)
            elif isinstance(layer.operation, layers.MatrixMultiply):
                self._linear(layer)

    def _own(self, tensor: str, name: str, kind: type) -> Layer | None:
        """The layer `name` of this kind that makes a tensor for one reader alone."""
        maker = self._makers.get(tensor)
        fits = maker is not None and maker.name == name and isinstance(maker.operation, kind) and self._readers[tensor] == 1
        return maker if fits else None

    def _weights(self, tensor: str, name: str, rank: Sequence[int], axis: int) -> Weights | None:
        """The float32 values of a constant that only `axis` of has more than one, or of a matrix."""
        maker = self._own(tensor, name, layers.Constant)
        if maker is None:
            return None
        assert isinstance(maker.operation, layers.Constant)
        weights = maker.operation.weights
        shape = weights.tensor.shape
        plain = len(shape) in rank and (axis < 0 or all(n == 1 for i, n in enumerate(shape) if i != axis))
        return weights if plain and in_file(weights) else None

    def _prelu(self, layer: Layer) -> None:
        """Slopes along axis 1."""
        x, slopes = layer.inputs
        rank = len(self._network.shapes.get(x, ()))
        held = self._weights(slopes, f"{layer.name}/slope", (rank,), 1) if rank > 1 else None
        if held is not None:
            said = _stated(layer.name, {"weight": held})
            self.calls[layer.name] = Call("prelu", (x,), layer.outputs, {"name": layer.name, **said})
            self.parts.add(f"{layer.name}/slope")
            self.shapes[held.tensor.name] = (held.tensor.size,)

    def _linear(self, layer: Layer) -> None:
        """A product with a matrix that is transposed, and the sum with a row."""
        op = layer.operation
        assert isinstance(op, layers.MatrixMultiply)
        x, second = layer.inputs
        name = layer.name.removesuffix("/product")
        matrix = self._weights(second, f"{name}/weight", (2,), -1)
        if matrix is None or (op.first, op.second) != ("NONE", "TRANSPOSE") or len(self._network.shapes.get(x, ())) != 2:
            return
        last, bias = layer, None
        if name != layer.name:
            found = [y for y in self._network.layers if y.name == name and isinstance(y.operation, layers.Elementwise)]
            if not found or found[0].operation != layers.Elementwise("SUM") or found[0].inputs[0] != layer.outputs[0]:
                return
            last = found[0]
            bias = self._weights(last.inputs[1], f"{name}/bias", (2,), 1)
            if bias is None or self._readers[layer.outputs[0]] != 1:
                return
        said = _stated(name, {"weight": matrix, "bias": bias})
        settings: dict[str, Value] = {"name": name, **said, "outputs": matrix.tensor.shape[0], "bias": bias is not None}
        self.calls[name] = Call("linear", (x,), last.outputs, settings)
        self.parts.add(f"{name}/weight")
        if bias is not None:
            self.parts.update([f"{name}/bias", layer.name])
            self.shapes[bias.tensor.name] = (bias.tensor.size,)
