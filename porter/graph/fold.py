"""Batch normalisation folded into the convolution or product before it, and into one node where there is none.

A BatchNormalization, and what multiplies or adds a number for each channel around it, is one factor and one addend for each
channel. They go into the weights and the bias where nothing else reads what lies between: a fork of the graph prevents it. All
is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.graph.caffe.importer import LayerRecord

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "BatchNormalization": 0}
"""Operators that take something in, with the axis of their weights that counts what comes out; Gemm's for `transB`."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What went into a node: the names of nodes, which are those of Caffe's layers where the graph comes from Caffe."""

    into: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Affine:
    """y = factor · x + addend for each channel, float64. `normalises`: whether a BatchNormalization is part of it."""

    factor: Float64
    addend: Float64
    normalises: bool = False

    @property
    def finite(self) -> bool:
        import numpy as np

        return bool(np.isfinite(self.factor).all() and np.isfinite(self.addend).all())

    def then(self, other: _Affine) -> _Affine:
        """This one and then `other`."""
        import numpy as np

        with np.errstate(all="ignore"):
            addend = self.addend * other.factor + other.addend
            return _Affine(self.factor * other.factor, addend, self.normalises or other.normalises)


def fold_batch_norm(model: ir.Model) -> tuple[Folded, ...]:
    """Fold every batch normalisation of `model` that can be, in place. Reads statistics now and weights when they are written."""
    return tuple([folded for node in list(model.graph) if (folded := _fold_behind(model.graph, node)) is not None])


def still_there(layers: Sequence[LayerRecord], model: ir.Model) -> tuple[LayerRecord, ...]:
    """`layers` without the tops whose values are gone from the graph."""
    names = {v.name for v in model.graph.inputs} | set(model.graph.initializers) | {v.name for n in model.graph for v in n.outputs}
    return tuple([LayerRecord(r.name, r.type, {top: v for top, v in r.tops.items() if v in names}) for r in layers])


def _fold_behind(graph: ir.Graph, node: ir.Node) -> Folded | None:
    """Fold what follows `node`, if that is a node with weights, and a normalisation follows."""
    channels = _channels(node)
    if channels is None:
        return None
    chain: list[ir.Node] = []
    whole: _Affine | None = None
    value = node.outputs[0]
    while (follower := _only_reader(value)) is not None:
        step = _affine(follower, value, channels)
        if step is None:
            break
        whole = step if whole is None else whole.then(step)
        chain.append(follower)
        value = follower.outputs[0]
    if whole is None or not whole.finite or not (whole.normalises or node.op_type == "BatchNormalization"):
        return None
    _put_in(graph, node, whole)
    _take_out(graph, node, chain)
    return Folded(node.name or "", tuple([n.name or "" for n in chain]))


def _channels(node: ir.Node) -> int | None:
    """How many channels come out of a node with constant weights and bias; None for any other node."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _OUTPUT_AXIS or len(node.outputs) != 1 or len(node.inputs) < 2:
        return None
    weight = _constant_shape(node.inputs[1])
    if weight is None:
        return None
    channels = weight[_output_axis(node)] * (_integer(node, "group", 1) if node.op_type == "ConvTranspose" else 1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        held = _constant_shape(bias)
        # A Gemm may add a matrix, or one number.
        if held is None or held[-1:] != (channels,) or any(n != 1 for n in held[:-1]):
            return None
    return channels


def _output_axis(node: ir.Node) -> int:
    return 1 if node.op_type == "Gemm" and not _integer(node, "transB", 0) else _OUTPUT_AXIS[node.op_type]


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads `value`, and once; None where there is none, or the graph gives it out."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _affine(node: ir.Node, x: ir.Value, channels: int) -> _Affine | None:
    """What `node` does to `x`, where that is a factor and an addend for each channel."""
    import numpy as np

    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "BatchNormalization":
        return _normalisation(node, x, channels)
    if node.op_type not in ("Mul", "Add", "Sub", "Div"):
        return None
    first = node.inputs[0] is x
    other = _by_channel(node.inputs[1] if first else node.inputs[0], x, channels)
    if other is None or (not first and node.op_type in ("Sub", "Div")):
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    with np.errstate(all="ignore"):
        return {
            "Mul": _Affine(other, zero),
            "Div": _Affine(1 / other, zero),
            "Add": _Affine(one, other),
            "Sub": _Affine(one, -other),
        }[node.op_type]


def _normalisation(node: ir.Node, x: ir.Value, channels: int) -> _Affine | None:
    """A BatchNormalization with stored statistics."""
    import numpy as np

    values = [_values(v) for v in node.inputs[1:5]]
    if node.inputs[0] is not x or any(v is None or v.shape != (channels,) for v in values):
        return None
    if _integer(node, "training_mode", 0) or len([v for v in node.outputs if v.name]) > 1:
        return None
    scale, bias, mean, variance = [v for v in values if v is not None]
    epsilon = node.attributes.get("epsilon")
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + float(np.float32(epsilon.as_float() if epsilon is not None else 1e-5)))
        return _Affine(factor, bias - mean * factor, normalises=True)


def _by_channel(value: ir.Value | None, x: ir.Value, channels: int) -> Float64 | None:
    """A constant as a number for each channel of `x`, where broadcasting makes it that. Shape (channels,)."""
    import numpy as np

    shape = _constant_shape(value)
    if shape is None or x.shape is None or len(shape) > len(x.shape):
        return None
    padded = (1,) * (len(x.shape) - len(shape)) + shape
    if any(n != 1 for axis, n in enumerate(padded) if axis != 1) or padded[1] not in (1, channels):
        return None
    values = _values(value)
    return None if values is None else np.broadcast_to(values.reshape(-1), (channels,)).copy()


def _put_in(graph: ir.Graph, node: ir.Node, affine: _Affine) -> None:
    """Give `node` weights and a bias that do what it and `affine` did."""
    import onnx_ir as ir

    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    tensor = _tensor(weight)
    assert weight is not None
    assert tensor is not None
    group = _integer(node, "group", 1) if node.op_type == "ConvTranspose" else 1
    addend = affine.addend
    if bias is not None:
        beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
        addend = addend + beta * affine.factor * _known(bias).reshape(-1)
        if beta != 1:
            node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    name, bias_name = weight.name or "", bias.name if bias is not None else None
    if node.op_type == "BatchNormalization":
        name, bias_name = f"{node.name}.weight", f"{node.name}.bias"
    _replace(graph, node, 1, _scaled(tensor, affine.factor, _output_axis(node), group), name)
    _replace(graph, node, 2, ir.tensor(_rounded(addend, tensor.dtype)), bias_name or f"{name.removesuffix('.weight')}.bias")


def _scaled(tensor: ir.TensorProtocol, factor: Float64, axis: int, group: int) -> ir.LazyTensor:
    """The weights times a factor for each channel that comes out, worked out when they are written.

    axis: of these channels; with groups they are counted within each, and the axis before is what goes in, group by group.
    """
    import onnx_ir as ir

    def values() -> ir.TensorProtocol:
        shape = tuple(tensor.numpy().shape)
        wide = tensor.numpy().astype("float64")
        if group > 1:
            wide = wide.reshape(group, shape[0] // group, *shape[1:])
            made = wide * factor.reshape(group, 1, shape[axis], *[1] * (len(shape) - 2))
        else:
            made = wide * factor.reshape(*[1] * axis, -1, *[1] * (len(shape) - axis - 1))
        return ir.tensor(_rounded(made.reshape(shape), tensor.dtype))

    return ir.LazyTensor(values, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()))


def _rounded(values: Float64, dtype: ir.DataType) -> NDArray[np.floating]:
    import numpy as np

    with np.errstate(all="ignore"):
        return values.astype(dtype.numpy())


def _replace(graph: ir.Graph, node: ir.Node, index: int, tensor: ir.TensorProtocol, name: str) -> None:
    """Give `node` another constant input, under the old one's name where nothing else reads that."""
    import onnx_ir as ir

    old = node.inputs[index] if index < len(node.inputs) else None
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, None)
    _drop_unread(graph, old)
    taken = set(graph.initializers) | {v.name for v in graph.inputs} | {v.name for n in graph for v in n.outputs}
    while name in taken:
        name += "_folded"
    value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
    tensor.name = name
    graph.register_initializer(value)
    node.replace_input_with(index, value)


def _take_out(graph: ir.Graph, node: ir.Node, chain: Sequence[ir.Node]) -> None:
    """Remove the nodes of `chain`; `node` makes what the last of them made, under its name."""
    last, made = chain[-1].outputs[0], node.outputs[0]
    name = last.name
    chain[0].replace_input_with(list(chain[0].inputs).index(made), None)
    last.replace_all_uses_with(made, replace_graph_outputs=True)
    for gone in reversed(chain):
        inputs = list(gone.inputs)
        graph.remove(gone, safe=True)
        for value in inputs:
            _drop_unread(graph, value)
    made.name = name


def _drop_unread(graph: ir.Graph, value: ir.Value | None) -> None:
    """Remove a constant that nothing reads any more."""
    if value is None or list(value.uses()) or value.is_graph_output():
        return
    if value.is_initializer():
        graph.initializers.pop(value.name or "", None)
    elif (producer := value.producer()) is not None and producer.op_type == "Constant":
        graph.remove(producer, safe=True)


def _tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """What a constant holds; None for anything else."""
    import onnx_ir as ir

    if value is None or value.is_graph_input():
        return None
    return ir.convenience.get_const_tensor(value)


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a constant of floats; None for anything else."""
    tensor = _tensor(value)
    if tensor is None or tensor.dtype.name not in ("FLOAT", "DOUBLE", "FLOAT16"):
        return None
    return tuple([int(n) for n in tensor.shape if isinstance(n, int)])


def _values(value: ir.Value | None) -> Float64 | None:
    return None if _constant_shape(value) is None or value is None else _known(value)


def _known(value: ir.Value) -> Float64:
    tensor = _tensor(value)
    assert tensor is not None
    return tensor.numpy().astype("float64")


def _integer(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
