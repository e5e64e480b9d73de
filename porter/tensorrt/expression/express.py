"""A network that TensorRT holds, said as ONNX, so that it can be run where there is no GPU.

Made from the records that `porter.tensorrt.walk` reads from the live network, and from what NVIDIA documents of each layer; nothing is
taken from the way in which porter built the network, so that a mistake there shows. Every tensor keeps its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.errors import TensorRTError
from porter.tensorrt.expression.graph import NARROW, OPSET, Graph, Op, dtype_of, ir_dtype
from porter.tensorrt.expression.table import TABLE
from porter.tensorrt.layers import Layer, Network, Unknown

if TYPE_CHECKING:
    import onnx_ir as ir

_CASTS = (("float32", "float16", "bfloat16"), ("int32", "int64"))
"""Types that a tensor of TensorRT may have beside what its layer makes by itself: set_output_type, or another width of positions."""


def express(network: Network) -> ir.Model:
    """The network as an ONNX model with the same names of inputs, outputs and tensors. Reads no weights until the model is run.

    Raises:
        TensorRTError: a layer has no ONNX that says the same, or the records contradict themselves.
    """
    import onnx_ir as ir

    _refuse_unknown(network)
    graph = Graph(network)
    graph.reserve()
    for given in network.inputs:
        graph.values[given.name] = ir.Value(name=given.name, shape=_shape(given.shape), type=ir.TensorType(ir_dtype(given.dtype)))
    inputs = list(graph.values.values())
    for layer in _ordered(network):
        _express(graph, layer)
    missing = [name for name in network.outputs if name not in graph.values]
    if missing:
        raise TensorRTError("T323", f"output '{missing[0]}' is no tensor of the network")
    outputs = [graph.values[name] for name in network.outputs]
    made = ir.Graph(inputs, outputs, nodes=graph.nodes, initializers=graph.initializers, opset_imports={"": OPSET}, name="network")
    return ir.Model(made, ir_version=10, producer_name="porter")


def _refuse_unknown(network: Network) -> None:
    """All that cannot be read, at once."""
    found = [(layer.name, layer.operation.kind) for layer in network.layers if isinstance(layer.operation, Unknown)]
    if found:
        named = ", ".join(f"'{name}' ({kind})" for name, kind in found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "")
        hint = "'porter tensorrt verify --list-layers' says what can be expressed"
        raise TensorRTError("T320", f"these layers cannot be said as ONNX: {named}", hint=hint)


def _ordered(network: Network) -> list[Layer]:
    """The layers in an order in which they can run: whoever built the network may have connected them later."""
    have = {"", *(i.name for i in network.inputs)}
    left, ordered = list(network.layers), []
    while left:
        late = []
        for layer in left:
            if all(name in have for name in layer.inputs):
                ordered.append(layer)
                have.update(layer.outputs)
            else:
                late.append(layer)
        if len(late) == len(left):
            lost = next(name for name in late[0].inputs if name not in have)
            raise TensorRTError("T323", f"layer '{late[0].name}' takes '{lost}', which no layer makes before it")
        left = late
    return ordered


def _express(graph: Graph, layer: Layer) -> None:
    op = Op(graph, layer)
    made = TABLE[type(layer.operation)].load()(op)
    narrow = next((t for t in (op.dtype(i) for i in range(len(layer.inputs)) if op.has(i)) if t in NARROW), None)
    for name, value in zip(layer.outputs, made, strict=True):
        if not name:
            continue
        if name in graph.values:
            raise TensorRTError("T323", f"two tensors are called '{name}'")
        value = _typed(op, name, value, narrow)
        if graph.values.get(value.name or "") is value or (value.const_value is not None and name in graph.network.outputs):
            value = op.add("Identity", [value])
        value.name = name
        shape = graph.network.shapes.get(name)
        if shape is not None:
            value.shape = _shape(shape)
        graph.values[name] = value


def _typed(op: Op, name: str, value: ir.Value, narrow: str | None) -> ir.Value:
    """`value` in the type that the tensor has in TensorRT."""
    made = dtype_of(value)
    wanted = op.graph.network.dtypes.get(name) or (narrow if narrow is not None and made == "float32" else made)
    if wanted != made and not any(wanted in group and made in group for group in _CASTS):
        op.refuse(f"it makes {made}, and TensorRT has '{name}' as {wanted}")
    return op.cast(value, wanted)


def _shape(sizes: Sequence[int]) -> ir.Shape:
    import onnx_ir as ir

    return ir.Shape([n if n >= 0 else None for n in sizes])
