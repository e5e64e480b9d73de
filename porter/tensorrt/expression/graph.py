"""The ONNX graph while a network is being expressed, and what the function of one layer is given.

Values of float16 and bfloat16 are widened to float32 before every layer and rounded after it: onnxruntime has few kernels for them
on the CPU. A layer so computes in float32 and rounds its result once, which is the best that a kernel of TensorRT can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from porter.dataclass import dataclass, field
from porter.errors import TensorRTError
from porter.tensorrt.layers import Layer, Network, Weights

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 21
"""GridSample on volumes, Gelu and blocks of quantised values all exist from here on."""

ONNX: Mapping[str, str] = {
    "float32": "FLOAT",
    "float16": "FLOAT16",
    "bfloat16": "BFLOAT16",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
    "float8_e4m3fn": "FLOAT8E4M3FN",
    "int4": "INT4",
}
"""porter's names of the element types that can be expressed, and ONNX's."""

NARROW = ("float16", "bfloat16")
COMPUTED = ("float32", "int32", "int64")


@dataclass(slots=True)
class Graph:
    """Nodes, initialisers and values so far. values: by the name of TensorRT's tensor."""

    network: Network
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)
    values: dict[str, ir.Value] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _wide: dict[str, ir.Value] = field(default_factory=dict)

    def reserve(self) -> None:
        """Keep the names of the network's tensors for those."""
        self._names.update(i.name for i in self.network.inputs)
        self._names.update(name for layer in self.network.layers for name in layer.outputs)

    def name(self, wanted: str) -> str:
        """`wanted`, with a number behind it where it is taken."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def node(
        self, scope: str, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtypes: Sequence[str]
    ) -> Any:
        """A node of the layer `scope`; its outputs, of those element types."""
        import onnx_ir as ir

        outputs = [ir.Value(name=self.name(f"{scope}/{op_type}"), type=ir.TensorType(ir_dtype(d))) for d in dtypes]
        node = ir.node(op_type, list(inputs), dict(attributes), outputs=outputs, name=outputs[0].name)
        self.nodes.append(node)
        return outputs

    def initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """Values that are known before the network runs."""
        import onnx_ir as ir

        tensor.name = self.name(name)
        value = ir.Value(name=tensor.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.initializers.append(value)
        return value

    def wide(self, value: ir.Value) -> ir.Value:
        """`value`, as float32 where it is float16 or bfloat16."""
        if dtype_of(value) not in NARROW:
            return value
        key = value.name or ""
        if key not in self._wide:
            self._wide[key] = self.node(key, "Cast", [value], {"to": int(ir_dtype("float32"))}, ["float32"])[0]
        return self._wide[key]

    def cast(self, scope: str, value: ir.Value, dtype: str) -> ir.Value:
        """`value` as another type; itself where it is that."""
        if dtype_of(value) == dtype:
            return value
        made: ir.Value = self.node(scope, "Cast", [value], {"to": int(ir_dtype(dtype))}, [dtype])[0]
        return made


@dataclass(frozen=True, slots=True)
class Op:
    """One layer that is being expressed."""

    graph: Graph
    layer: Layer

    # ---- what TensorRT gives it ------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether the layer has that input."""
        return index < len(self.layer.inputs) and self.layer.inputs[index] != ""

    def input(self, index: int = 0) -> ir.Value:
        """An input, widened where it is narrow."""
        if not self.has(index):
            self.refuse(f"it has no input {index}")
        return self.graph.wide(self.graph.values[self.layer.inputs[index]])

    def number(self, index: int = 0) -> ir.Value:
        """An input that is computed with: floating point, int32 or int64."""
        value = self.input(index)
        if dtype_of(value) not in COMPUTED:
            self.refuse(f"nothing says what it computes on {dtype_of(value)}")
        return value

    def real(self, index: int = 0) -> ir.Value:
        """An input that has to be floating point."""
        value = self.input(index)
        if dtype_of(value) != "float32":
            self.refuse(f"it takes floating point, and '{self.layer.inputs[index]}' is {dtype_of(value)}")
        return value

    def integers(self, index: int) -> ir.Value:
        """An input of sizes or positions, as int64."""
        value = self.input(index)
        if dtype_of(value) not in ("int32", "int64"):
            self.refuse(f"it takes int32 or int64, and '{self.layer.inputs[index]}' is {dtype_of(value)}")
        return self.graph.cast(self.layer.name, value, "int64")

    def dtype(self, index: int = 0) -> str:
        """Of an input as TensorRT has it."""
        return dtype_of(self.graph.values[self.layer.inputs[index]])

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Of an input, -1 for a size that is open."""
        name = self.layer.inputs[index]
        shape = self.graph.network.shapes.get(name)
        if shape is None:
            shape = next((i.shape for i in self.graph.network.inputs if i.name == name), None)
        if shape is None:
            self.refuse(f"nothing is known of the shape of '{name}'")
        return shape

    def output_shape(self, index: int = 0) -> tuple[int, ...] | None:
        """What TensorRT says of an output, or None."""
        return self.graph.network.shapes.get(self.layer.outputs[index])

    # ---- what it becomes -------------------------------------------------------------------------------------------------

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None, dtype: str | None = None
    ) -> ir.Value:
        """A node with one output, of the first input's type unless `dtype` says another."""
        made: ir.Value = self.add_all(op_type, inputs, attributes, [dtype or dtype_of(inputs[0])])[0]
        return made

    def add_all(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None, dtypes: Sequence[str]
    ) -> list[ir.Value]:
        """A node with outputs of those types."""
        made: list[ir.Value] = self.graph.node(self.layer.name, op_type, inputs, attributes or {}, dtypes)
        return made

    def cast(self, value: ir.Value, dtype: str) -> ir.Value:
        """`value` as another type; itself where it is that."""
        return self.graph.cast(self.layer.name, value, dtype)

    def constant(self, values: Any, dtype: str = "int64") -> ir.Value:
        """A small constant."""
        import numpy as np
        import onnx_ir as ir

        array = np.asarray(values, dtype)
        return self.graph.initializer(f"{self.layer.name}/constant", ir.tensor(array))

    def weights(self, weights: Weights, shape: Sequence[int] | None = None, *, wide: bool = True) -> ir.Value:
        """What the layer holds, in its own shape or another of as many elements; widened where it is narrow and `wide`."""
        import math

        import onnx_ir as ir

        tensor = weights.tensor
        shape = tensor.shape if shape is None else tuple(shape)
        if math.prod(shape) != tensor.size:
            self.refuse(f"'{tensor.name}' has {tensor.size} values, and {math.prod(shape)} are taken")
        if tensor.dtype.name not in ONNX:
            self.refuse(f"there is no ONNX for {tensor.dtype.name} that onnxruntime runs")
        dtype = ir_dtype(tensor.dtype.name)

        def values() -> ir.TensorProtocol:
            return ir.tensor(tensor.numpy().reshape(shape), dtype=dtype)

        value = self.graph.initializer(tensor.name, ir.LazyTensor(values, dtype=dtype, shape=ir.Shape(shape), name=tensor.name))
        return self.graph.wide(value) if wide else value

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """`value` in a shape, where 0 copies a size and -1 is what is left."""
        return self.add("Reshape", [value, self.constant(list(shape))])

    def refuse(self, why: str) -> NoReturn:
        """End: this layer has no ONNX that says the same."""
        kind = type(self.layer.operation).__name__
        hint = "'porter tensorrt verify --list-layers' says what can be expressed; the weights can be checked all the same"
        raise TensorRTError("T321", f"layer '{self.layer.name}' ({kind}) cannot be said as ONNX: {why}", hint=hint)


def ir_dtype(name: str) -> ir.DataType:
    """ONNX's type of that name of porter's."""
    import onnx_ir as ir

    if name not in ONNX:
        raise TensorRTError("T322", f"there is no ONNX for {name} that onnxruntime runs", hint="the weights can be checked all the same")
    return ir.DataType[ONNX[name]]


def dtype_of(value: ir.Value | None) -> str:
    """porter's name of a value's type."""
    assert value is not None
    assert value.dtype is not None
    found = value.dtype.name
    return next(name for name, code in ONNX.items() if code == found)
