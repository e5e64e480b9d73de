"""Weights of an ONNX graph as integers, or narrower floats, with a DequantizeLinear node before whatever reads them; and the way back.

An initialiser X becomes `X_quantized`, `X_scale` and `X_zero_point`, which a node makes X of; nothing else of the graph changes. Where
channels come first in more than two axes, groups run along the matrix that a Reshape makes X of; numbers that were not float32 get a Cast.

Source: onnx `docs/Operators.md` and `docs/Changelog.md`, DequantizeLinear (since opset 10; axis 13, float8 19, int4 and block_size 21);
onnx `onnx/onnx.proto` (IR versions 9 and 10, which introduced those types).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.statistics.reading import Advance
from porter.errors import GraphError, LossError
from porter.quantisation.ways import Way
from porter.quantisation.weights import Kept, Quantised, choose, quantise
from porter.store import TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

_OPSETS = {"channel": 13, "tensor": 10, "group": 21}
_TYPES = {"int8": (10, 3), "float8_e4m3fn": (19, 9), "float8_e5m2": (19, 9), "int4": (21, 10)}
"""The opset and the IR version from which on DequantizeLinear takes a type."""


def chosen(
    model: ir.Model, store: TensorStore, way: Way, only: Sequence[str], exclude: Sequence[str], advance: Advance | None = None
) -> tuple[dict[str, Quantised], list[Kept]]:
    """The initialisers to quantise, and what stays as it is. `store`: the model's tensors. Reads the weights.

    Raises:
        UsageError: a pattern matches nothing.
    """
    found: dict[str, Quantised] = {}
    kept: list[Kept] = []
    for name, reason in choose(store, only, exclude).items():
        tensor, value = store[name], model.graph.initializers.get(name)
        axis = None
        if reason is None:
            reason, axis = _role(model, value, tensor)
        made = quantise(tensor, way, axis=axis, advance=advance) if reason is None else Kept(tensor.spec, reason)
        if isinstance(made, Quantised):
            found[name] = made
        else:
            kept.append(made)
    return found, kept


def _role(model: ir.Model, value: ir.Value | None, tensor: Tensor) -> tuple[str | None, int]:
    """Why a tensor is no weight to be quantised, or None, and the axis of its channels."""
    if value is None:
        return "no initialiser of the main graph", 0
    readers = [(use.node, use.idx) for use in value.uses()]
    axes = [axis for node, place in readers if (axis := _channel_axis(node, place, len(tensor.shape))) is not None]
    if not axes:
        return f"read by {readers[0][0].op_type}, not as a weight" if readers else "read by no node", 0
    return None, axes[0]


def _channel_axis(node: ir.Node, place: int, rank: int) -> int | None:
    """The axis of output channels of an input; None where it is no weight."""
    if node.domain not in ("", "ai.onnx"):
        return None
    kind = (node.op_type, place)
    if kind in (("Conv", 1), ("Gather", 0)):
        return 0
    if kind in (("ConvTranspose", 1), ("LSTM", 1), ("LSTM", 2), ("GRU", 1), ("GRU", 2), ("RNN", 1), ("RNN", 2)):
        return 1
    if kind == ("Gemm", 1):
        transposed = node.attributes.get("transB")
        return 0 if transposed is not None and transposed.as_int() else 1
    return {("MatMul", 1): rank - 1, ("MatMul", 0): rank - 2}.get(kind)


def raised(model: ir.Model, way: Way, *, scales: str = "float32") -> tuple[ir.Model, str | None]:
    """The model in an opset that has what `way` needs, and what has to be said of that; the model itself where it has.

    scales: their type; float16 is one since opset 19.

    Raises:
        LossError: ONNX has no such type.
        GraphError: onnx's converter of versions cannot raise it.
    """
    import onnx
    import onnx_ir as ir

    needed = _TYPES.get(way.type.dtype.name)
    if needed is None:
        hint = "--type i4 --group 64 is of the same size; or write safetensors or pytorch"
        raise LossError("L822", f"ONNX has no operator that makes numbers of {way.type.name}", hint=hint)
    opset, version = max(needed[0], _OPSETS[way.scheme.granularity], 10 if scales == "float32" else 19), needed[1]
    stated = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    notice = None
    if stated < opset:
        try:
            model = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            hint = f"export the model for opset {opset}, or take a way that opset {stated} has, such as i8 for each channel (13)"
            raise GraphError("G048", f"{way} needs opset {opset}, and onnx's converter cannot raise {stated}: {said}", hint=hint) from error
        notice = f"opset {stated} became {opset}, which {way} needs, by onnx's own converter of versions"
    # Before version 4 every initialiser had to be an input as well.
    model.ir_version = max(model.ir_version or 0, version, 4)
    return model, notice


def fix(model: ir.Model, names: Iterable[str]) -> str | None:
    """Make plain initialisers of those that are inputs of the graph as well, in place, and what has to be said of that.

    Exporters before IR version 4 had to list every initialiser so; a caller may feed another value for each.
    """
    listed = {value.name: value for value in model.graph.inputs}
    fixed = [name for name in names if name in listed]
    for name in fixed:
        model.graph.inputs.remove(listed[name])
    return f"{len(fixed):,} of the initialisers are constants now: they were inputs too, which a caller may replace" if fixed else None


def put(model: ir.Model, found: Mapping[str, Quantised]) -> None:
    """Put the quantised weights into `model`, in place; codes are computed when the model is written."""
    import onnx_ir as ir

    graph = model.graph
    taken = {v.name for node in graph for v in node.outputs} | set(graph.initializers) | {v.name for v in graph.inputs}

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    nodes: list[ir.Node] = []
    for name, quantised in found.items():
        old = graph.initializers.pop(name)
        new = _nodes(model, name, quantised, free, nodes)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name = None
        new.name, new.shape, new.type = name, old.shape, old.type
    if len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)


def _nodes(model: ir.Model, name: str, quantised: Quantised, free: Callable[[str], str], nodes: list[ir.Node]) -> ir.Value:
    """Append to `nodes` what makes the numbers; their value, still without a name."""
    import numpy as np
    import onnx_ir as ir

    layout, tensor = quantised.layout, quantised.tensor
    grouped = layout.granularity == "group" and layout.axis == 0 and len(tensor.shape) > 2
    shape = (tensor.shape[0], math.prod(tensor.shape[1:])) if grouped else tensor.shape
    inputs = [_codes(model, free(f"{name}_quantized"), quantised, shape), _array(model, free(f"{name}_scale"), quantised.scale)]
    if quantised.zero is not None:
        inputs.append(_array(model, free(f"{name}_zero_point"), quantised.zero.astype(np.int8).astype(quantised.way.type.dtype.numpy())))
    attributes: dict[str, Any] = {}
    if layout.granularity == "channel":
        attributes["axis"] = layout.axis
    elif layout.granularity == "group":
        attributes |= {"axis": layout.blocked_axis, "block_size": layout.group}
    steps: list[tuple[str, list[ir.Value], dict[str, Any]]] = [("DequantizeLinear", inputs, attributes)]
    if grouped:
        steps.append(("Reshape", [_array(model, free(f"{name}_shape"), np.array(tensor.shape, np.int64))], {}))
    if tensor.dtype.name != "float32":
        steps.append(("Cast", [], {"to": tensor.dtype.onnx}))
    value: ir.Value | None = None
    for number, (op_type, more, said) in enumerate(steps):
        node = ir.node(op_type, [*([value] if value is not None else []), *more], said, name=f"{name}/{op_type}")
        nodes.append(node)
        value = node.outputs[0]
        if number + 1 < len(steps):
            value.name = free(f"{name}_{op_type}")
    assert value is not None
    return value


def _codes(model: ir.Model, name: str, quantised: Quantised, shape: tuple[int, ...]) -> ir.Value:
    import numpy as np
    import onnx_ir as ir

    kind = ir.DataType(quantised.way.type.dtype.onnx or 0)

    def load() -> ir.TensorProtocol:
        parts = [part.copy() for part in quantised.slabs()]
        return ir.Tensor(np.concatenate(parts).reshape(shape), dtype=kind, name=name)

    return _initializer(model, ir.LazyTensor(load, dtype=kind, shape=ir.Shape(shape), name=name))


def _array(model: ir.Model, name: str, array: NDArray[Any]) -> ir.Value:
    import onnx_ir as ir

    return _initializer(model, ir.tensor(array, name=name))


def _initializer(model: ir.Model, tensor: ir.TensorProtocol) -> ir.Value:
    import onnx_ir as ir

    value = ir.Value(name=tensor.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value
