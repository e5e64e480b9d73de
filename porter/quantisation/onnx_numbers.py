"""An ONNX graph whose weights are numbers again: DequantizeLinear nodes that read initialisers become initialisers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.dtypes import BY_ONNX, FLOAT32, DType
from porter.mapping.ops.rounding import rounded, widened
from porter.quantisation.arithmetic import decoded
from porter.quantisation.layout import Layout

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

_MISFIT = "its scales or zero points are not as many as its codes need"


@dataclass(frozen=True, slots=True)
class Left:
    """A node that stays, and why."""

    name: str
    reason: str


def unfold(model: ir.Model) -> tuple[list[str], list[Left]]:
    """Make initialisers of all that is dequantised of initialisers, in place: their names, and which nodes stay.

    What a Reshape to a known shape and a Cast make of such numbers is made of them as well, where nothing else reads them. Values are
    computed when the model is written.
    """
    made: list[str] = []
    left: list[Left] = []
    for node in list(model.graph):
        if node.op_type == "DequantizeLinear" and node.domain in ("", "ai.onnx"):
            reason = _unfolded(model, node, made)
            if reason is not None:
                left.append(Left(node.name or str(node.outputs[0].name), reason))
    return made, left


def _unfolded(model: ir.Model, node: ir.Node, made: list[str]) -> str | None:
    """Why a node stays, None where it is gone."""
    import onnx_ir as ir

    if any(v is not None and (v.const_value is None or v in model.graph.inputs) for v in node.inputs):
        return "its input is known only when the network runs"
    codes, scale, zero = ([v.const_value if v is not None else None for v in node.inputs] + [None])[:3]
    assert codes is not None
    assert scale is not None
    scales = tuple(scale.shape.numpy())
    layout = _layout(node, tuple(codes.shape.numpy()), scales)
    if isinstance(layout, str):
        return layout
    if zero is not None and tuple(zero.shape.numpy()) != scales:
        return _MISFIT
    dtype, to = BY_ONNX.get(int(codes.dtype)), BY_ONNX.get(int(scale.dtype))
    if dtype is None or to is None or dtype.bits > 32 or to.name != "float32":
        return f"it makes {scale.dtype.name.lower()} of {codes.dtype.name.lower()}"
    value, gone, shape = _followed(model, node, codes.shape.numpy())
    cast = BY_ONNX[int(value.dtype)] if value.dtype is not None and gone[-1].op_type == "Cast" else to

    def load() -> ir.TensorProtocol:
        numbers = _numbers(codes.numpy(), dtype, scale.numpy(), zero.numpy() if zero is not None else None, layout)
        if cast != FLOAT32:
            numbers = rounded(widened(numbers, FLOAT32), cast)[0]
        return ir.Tensor(numbers.reshape(shape), dtype=ir.DataType(cast.onnx or 0), name=value.name)

    kind = ir.DataType(cast.onnx or 0)
    tensor = ir.LazyTensor(load, dtype=kind, shape=ir.Shape(shape), name=value.name)
    new = ir.Value(name=value.name, shape=ir.Shape(shape), type=ir.TensorType(kind), const_value=tensor)
    ir.convenience.replace_all_uses_with(value, new, replace_graph_outputs=True)
    parts = [v for n in gone for v in n.inputs if v is not None]
    model.graph.remove(gone[::-1], safe=True)
    for part in parts:
        if part.name is not None and part.name in model.graph.initializers and not part.uses() and not part.is_graph_output():
            del model.graph.initializers[part.name]
    model.graph.register_initializer(new)
    made.append(str(value.name))
    return None


def _followed(model: ir.Model, node: ir.Node, shape: Any) -> tuple[ir.Value, list[ir.Node], tuple[int, ...]]:
    """The value at the end of Reshape and Cast behind `node`, the nodes up to there, and its shape."""
    value, gone, found = node.outputs[0], [node], tuple(shape)
    for op_type in ("Reshape", "Cast"):
        uses = list(value.uses())
        after = uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
        if after is None or after.op_type != op_type or after.graph is not model.graph:
            continue
        if op_type == "Reshape":
            wanted = after.inputs[1].const_value if after.inputs[1] is not None else None
            sizes = tuple(wanted.numpy().tolist()) if wanted is not None else (-1,)
            if min(sizes, default=0) < 1 or math.prod(sizes) != math.prod(found):
                continue
            found = sizes
        elif (to := BY_ONNX.get(after.attributes["to"].as_int())) is None or to.kind != "float":
            continue
        else:
            import onnx_ir as ir

            after.outputs[0].type = ir.TensorType(ir.DataType(to.onnx or 0))
        value = after.outputs[0]
        gone.append(after)
    return value, gone, found


def _layout(node: ir.Node, shape: tuple[int, ...], scales: tuple[int, ...]) -> Layout | str:
    """How scales of that shape lie beside codes of `shape`; why they do not, where they cannot be told."""
    axis, block = (node.attributes[n].as_int() if n in node.attributes else d for n, d in (("axis", 1), ("block_size", 0)))
    axis += len(shape) if axis < 0 else 0
    inside = 0 <= axis < len(shape)
    if block:
        if len(shape) != 2:
            return "its scales are those of blocks in more than two axes"
        found = Layout(shape, "group", 1 - axis, block)
        return found if inside and block > 0 and found.scales == scales else _MISFIT
    if not scales or (scales == (1,) and not (inside and shape[axis] == 1)):
        return Layout(shape, "tensor")
    return Layout(shape, "channel", axis) if inside and scales == (shape[axis],) else _MISFIT


def _numbers(codes: NDArray[Any], dtype: DType, scale: NDArray[Any], zero: NDArray[Any] | None, layout: Layout) -> NDArray[Any]:
    import numpy as np

    result = np.empty(codes.size, np.float32)
    flat = codes.reshape(-1)
    for rows, where in layout.slabs():
        s = layout.spread(scale, rows)
        z = layout.spread(widened(zero, dtype), rows) if zero is not None else None
        result[where] = layout.flat(decoded(layout.shaped(flat[where]), dtype, s, z, nf4=False), rows)
    return result
