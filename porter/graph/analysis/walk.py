"""A walk over a graph that finds out what is known before it runs: shapes, constants that follow from constants, sizes.

Shape inference is onnx's own, node by node. What depends on nothing but constants is computed by onnx's reference evaluator, and
chains of Shape, Gather, Concat … become the numbers, or the expression of sizes, that a Reshape is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError
from porter.graph.analysis.resampling import resized_by
from porter.graph.analysis.sizes import elements_of, reshaped_by
from porter.graph.analysis.values import Constant, Network, Node, Shape, Size, Value, computed, dtype_of, shape_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from numpy.typing import NDArray

LARGEST_FOLDED = 1 << 22
"""Elements of the largest constant that is computed here."""

LARGEST_FILLED = 1 << 31
"""Elements of the largest constant that is one number everywhere."""

_RANDOM = frozenset(["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"])


class Analysis:
    """The walk over one model. `unsupported` collects nodes of operators that `supported` does not name.

    kept: values that are not computed, though they follow from constants.
    """

    def __init__(self, model: ir.Model, supported: Callable[[str, str], bool], kept: frozenset[str] = frozenset()) -> None:
        self.opsets: dict[str, int] = {("" if d == "ai.onnx" else d): v for d, v in model.opset_imports.items()}
        self.supported = supported
        self.kept = kept
        self.unsupported: dict[str, int] = {}

    def graph(self, graph: ir.Graph, outer: Mapping[str, Value], given: Sequence[Value] = ()) -> Network:
        """What is known of a graph; `outer` are the values around it, `given` what its inputs are."""
        values: dict[str, Value] = dict(outer)
        for name, initializer in graph.initializers.items():
            if initializer.const_value is not None:
                values[name] = _constant_value(name, initializer.const_value)
        inputs = []
        for index, taken in enumerate(graph.inputs):
            if taken.name is not None and taken.name not in graph.initializers:
                stated = Value(taken.name, dtype_of(taken.dtype), shape_of(taken.shape))
                values[taken.name] = _merged(given[index], stated) if index < len(given) else stated
                inputs.append(taken.name)
        nodes = [made for node in graph for made in self._checked(node, values)]
        outputs = [o.name or "" for o in graph.outputs]
        return Network(inputs, outputs, _needed(nodes, outputs, values), values)

    def _checked(self, node: ir.Node, values: dict[str, Value]) -> list[Node]:
        try:
            return self._node(node, values)
        except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
            where = f"{node.op_type} '{node.name or ''}'"
            raise GraphError("G083", f"{where} is broken: {type(error).__name__}: {error}") from error

    def _node(self, node: ir.Node, values: dict[str, Value]) -> list[Node]:
        """The node, unless what it makes is known already."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        attributes = {name: _plain(a) for name, a in node.attributes.items() if a.type.name not in ("GRAPH", "GRAPHS")}
        given = _scanned(node, attributes, values) if node.op_type == "Scan" else []
        subgraphs = {name: self.graph(a.value, values, given) for name, a in node.attributes.items() if a.type.name == "GRAPH"}
        found = Node(
            node.op_type,
            domain,
            self.opsets.get(domain, 1),
            node.name or "",
            tuple([v.name or "" if v is not None else "" for v in node.inputs]),
            tuple([o.name or "" for o in node.outputs]),
            attributes,
            subgraphs,
        )
        if self._constant(node, found, values):
            return []
        types = self._infer(node, found, values)
        for output in node.outputs:
            if output.name:
                inferred = types.get(output.name, Value(output.name))
                declared = Value(output.name, dtype_of(output.dtype), shape_of(output.shape))
                values[output.name] = _merged(inferred, declared)
        reshaped_by(found, values)
        resized_by(found, values)
        if self._folded(node, found, values) or elements_of(found, values):
            return []
        if not self.supported(found.op_type, domain):
            key = f"{domain}.{found.op_type}" if domain else found.op_type
            self.unsupported[key] = self.unsupported.get(key, 0) + 1
        return [found]

    def _constant(self, node: ir.Node, found: Node, values: dict[str, Value]) -> bool:
        """Whether the node states a constant, or changes nothing but the layout of one."""
        out = found.outputs[0] if found.outputs else ""
        if found.domain or not out:
            return False
        if found.op_type == "Constant":
            constant = _stated(node, found.attributes)
            if constant is not None:
                values[out] = Value(out, constant.dtype, constant.shape, constant)
            return constant is not None
        known = [values[n].constant if n in values else None for n in found.inputs]
        source = known[0] if known else None
        if source is None or any(c is None for c, n in zip(known, found.inputs, strict=True) if n):
            return False
        if found.op_type == "ConstantOfShape":
            value = _fill(found.attributes.get("value"), tuple([int(n) for n in source.array().reshape(-1)]))
            if value is not None:
                values[out] = Value(out, value.dtype, value.shape, value)
            return value is not None
        if found.op_type == "Identity":
            values[out] = Value(out, source.dtype, source.shape, source)
        elif found.op_type == "Transpose":
            moved = source.transposed(tuple(found.attributes.get("perm", range(len(source.shape))[::-1])))
            values[out] = Value(out, moved.dtype, moved.shape, moved)
        elif found.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            new = self._infer(node, found, values).get(out, Value(out)).static
            if new is None or math.prod(new) != source.size:
                return False
            values[out] = Value(out, source.dtype, new, source.reshaped(new))
        else:
            return False
        return True

    def _infer(self, node: ir.Node, found: Node, values: Mapping[str, Value]) -> dict[str, Value]:
        """Types and shapes of what the node makes, as far as onnx works them out."""
        import onnx
        import onnx_ir as ir

        try:
            schema = onnx.defs.get_schema(found.op_type, found.version, found.domain)
        except onnx.defs.SchemaError:
            return {}
        proto = ir.serde.serialize_node(node)
        names = [n for n in found.inputs if n] + [n for g in found.graphs.values() for n in g.values if n in values]
        types = {n: _type_proto(values[n]) for n in names if n in values and values[n].dtype is not None}
        data = {n: _tensor_proto(n, c) for n in found.inputs if n in values and (c := values[n].constant) is not None and c.size <= 1024}
        opsets = [onnx.helper.make_opsetid(d, v) for d, v in self.opsets.items()]
        try:
            made = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, None, opsets)
        except onnx.checker.ValidationError as error:
            raise ValueError(" ".join(str(error).split())[:200]) from error
        except (onnx.shape_inference.InferenceError, KeyError, RuntimeError):
            return {}
        return {name: _value_of(name, t) for name, t in made.items()}

    def _folded(self, node: ir.Node, found: Node, values: dict[str, Value]) -> bool:
        """Whether the node depends on constants alone and was computed."""
        if found.op_type in _RANDOM or found.graphs or not self.kept.isdisjoint(found.outputs):
            return False
        if not all(n in values and values[n].constant for n in found.inputs if n):
            return False
        outputs = [values[n] for n in found.outputs if n]
        sizes = [math.prod(v.static) for v in outputs if v.static is not None]
        inputs = [c.size for n in found.inputs if n and (c := values[n].constant) is not None]
        if len(sizes) != len(outputs) or max([*sizes, *inputs], default=0) > LARGEST_FOLDED:
            return False
        results = _evaluate(node, {n: values[n].constant for n in found.inputs if n}, self.opsets)
        if results is None:
            return False
        for name, array in zip(found.outputs, results, strict=False):
            if name:
                dtype = values[name].dtype or str(array.dtype)
                values[name] = Value(name, dtype, array.shape, computed(array, dtype))
        return True


def _scanned(node: ir.Node, attributes: Mapping[str, Any], values: Mapping[str, Value]) -> list[Value]:
    """What the inputs of a Scan's body are: the states, and one step of each sequence."""
    outer = [values.get(v.name or "", Value("")) if v is not None else Value("") for v in node.inputs]
    states = len(outer) - int(attributes.get("num_scan_inputs", 0))
    steps = [Value(v.name, v.dtype, v.shape[1:] if v.shape else None) for v in outer[states:]]
    return [*(Value(v.name, v.dtype, v.shape) for v in outer[:states]), *steps]


def _needed(nodes: Sequence[Node], outputs: Collection[str], values: Mapping[str, Value]) -> list[Node]:
    """The nodes that the outputs depend on."""
    wanted: set[str] = set()

    def want(name: str) -> None:
        value = values.get(name)
        if value is not None and value.elements is not None:
            wanted.update(n for e in value.elements if isinstance(e, Size) for n in e.values())
        elif value is None or value.constant is None:
            wanted.add(name)

    for name in outputs:
        want(name)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            inner = [n for g in node.graphs.values() for m in g.nodes for n in m.inputs] + [
                n for g in node.graphs.values() for n in g.outputs
            ]
            for name in (*node.inputs, *inner):
                if name:
                    want(name)
    return kept[::-1]


# ---- between onnx, onnx_ir and what is kept here ---------------------------------------------------------------------


def _plain(attribute: ir.Attr) -> Any:
    value: Any = attribute.value
    if attribute.type.name in ("STRINGS",):
        return [s.decode() if isinstance(s, bytes) else s for s in value]
    return list(value) if attribute.type.name in ("INTS", "FLOATS") else value


def _constant_value(name: str, tensor: ir.TensorProtocol) -> Value:
    dtype = dtype_of(tensor.dtype)
    shape = tuple([int(n) for n in tensor.shape.numpy()])
    if dtype is None:
        return Value(name, None, shape)
    return Value(name, dtype, shape, Constant(dtype, shape, tensor.numpy, name, shape))


def _stated(node: ir.Node, attributes: Mapping[str, Any]) -> Constant | None:
    """What a Constant node states."""
    import numpy as np

    out = node.outputs[0].name or ""
    if "value" in attributes:
        return _constant_value(out, attributes["value"]).constant
    for key, dtype in (("value_float", "float32"), ("value_floats", "float32"), ("value_int", "int64"), ("value_ints", "int64")):
        if key in attributes:
            array = np.asarray(attributes[key], dtype)
            return computed(array)
    return None


def _fill(value: ir.TensorProtocol | None, shape: tuple[int, ...]) -> Constant | None:
    """One number everywhere, in no memory; None where that is of no use."""
    import numpy as np

    if min(shape, default=0) < 0 or math.prod(shape) > LARGEST_FILLED or len(shape) > 8:
        return None
    number = value.numpy().reshape(-1)[:1] if value is not None else np.zeros(1, np.float32)
    dtype = dtype_of(value.dtype) if value is not None else "float32"
    return Constant(dtype or "float32", shape, lambda: np.broadcast_to(number.reshape((1,) * len(shape)), shape), fill=number.item())


def _merged(inferred: Value, declared: Value) -> Value:
    """What either of them knows."""
    shape: Shape | None = inferred.shape if inferred.shape is not None else declared.shape
    if inferred.shape is not None and declared.shape is not None and len(inferred.shape) == len(declared.shape):
        pairs = zip(inferred.shape, declared.shape, strict=True)
        shape = tuple([a if isinstance(a, int) or (b is None) or (isinstance(a, str) and isinstance(b, str)) else b for a, b in pairs])
    return Value(declared.name, inferred.dtype or declared.dtype, shape)


def _type_proto(value: Value) -> onnx.TypeProto:
    import onnx

    return onnx.helper.make_tensor_type_proto(_onnx_dtype(value.dtype or "float32"), value.shape)


def _onnx_dtype(dtype: str) -> int:
    import onnx_ir as ir

    from porter.graph.analysis.values import DTYPES

    return int(ir.DataType[next(name for name, ours in DTYPES.items() if ours == dtype)])


def _tensor_proto(name: str, constant: Constant) -> onnx.TensorProto:
    import numpy as np
    import onnx_ir as ir

    return ir.serde.serialize_tensor(ir.tensor(np.ascontiguousarray(constant.array()).reshape(constant.shape), name=name))


def _value_of(name: str, proto: onnx.TypeProto) -> Value:
    import onnx_ir as ir

    if not proto.HasField("tensor_type"):
        return Value(name)
    tensor = proto.tensor_type
    dtype = dtype_of(ir.DataType(tensor.elem_type)) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return Value(name, dtype)
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    return Value(name, dtype, tuple(dims))


def _evaluate(node: ir.Node, inputs: Mapping[str, Constant | None], opsets: Mapping[str, int]) -> list[NDArray[Any]] | None:
    """What the node makes of constants; None where onnx's reference evaluator cannot tell."""
    import numpy as np
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    proto = ir.serde.serialize_node(node)
    infos = [onnx.helper.make_tensor_value_info(n, _onnx_dtype(c.dtype), c.shape) for n, c in inputs.items() if c is not None]
    outputs = [onnx.ValueInfoProto(name=n) for n in proto.output if n]
    graph = onnx.helper.make_graph([proto], "constants", infos, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in opsets.items()])
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(model).run(None, {n: c.array() for n, c in inputs.items() if c is not None})
    except Exception:  # whatever an operator it does not know, or knows wrongly, raises
        return None
    if not all(isinstance(a, np.ndarray | np.generic) for a in made):
        return None
    results = iter([np.asarray(a) for a in made])
    return [next(results) if n else np.zeros(0) for n in proto.output]
