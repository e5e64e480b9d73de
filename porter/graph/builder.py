"""An ONNX graph while it is being built: nodes, constants, initialisers, each with a name of its own and a static shape.

Every shape is known when a node is made, so no shape is ever computed in the graph: no Shape, no Gather of sizes. The batch may
be symbolic all the same: a `Batch` is the number that the network states, and becomes the dimension `N` in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.errors import GraphError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

Shape = tuple[int, ...]

OPSET = 13
"""The lowest opset porter writes: from here on axes, splits and bounds are inputs of their nodes."""

_MADE_OF = "porter.made_of"
_DTYPES = {"float32": "FLOAT", "int64": "INT64", "bool": "BOOL", "float64": "DOUBLE", "int32": "INT32", "uint8": "UINT8"}
"""ONNX's names of element types."""


class Batch(int):
    """The size of the batch, where the model is to leave it open: the number itself wherever one is computed with.

    A shape that is passed on keeps it; arithmetic gives plain integers. `times`: how many of these there are for each image, where
    axes behind the batch were merged with it. `symbol`: the dimension's name in the model, "" for none; other than the batch, it is a
    number that only running the net gives, such as how many boxes it finds, and the integer is then one that it may be.
    """

    times: int
    symbol: str

    def __new__(cls, number: int, times: int = 1, symbol: str = "N") -> Batch:
        made = super().__new__(cls, number)
        made.times = times
        made.symbol = symbol
        return made

    def is_as(self, other: int) -> bool:
        """Whether `other` is always the same number."""
        if not self.symbol:
            return other is self
        return isinstance(other, Batch) and (other.times, other.symbol) == (self.times, self.symbol)


class Unknown(tuple[int, ...]):
    """The shape of a value of which nothing is known: what a custom node makes, and nobody said."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A value of the graph and its shape. Element type float32 unless `value.type` says otherwise."""

    value: ir.Value
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> str:
        """The element type as `op` takes it."""
        return next(name for name, code in _DTYPES.items() if self.value.dtype is not None and self.value.dtype.name == code)


class OpsetTooLow(Exception):
    """A node needs a later opset than the one the graph is built for."""

    def __init__(self, needed: int, what: str) -> None:
        super().__init__(what)
        self.needed = needed
        self.what = what


def made_of(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """For each initialiser of a graph that was built here, the names of the store's tensors that its values come from: none for
    numbers that the layer itself states. Initialisers of other graphs are not in it.
    """
    return {name: value.meta[_MADE_OF] for name, value in model.graph.initializers.items() if _MADE_OF in value.meta}


@dataclass(slots=True)
class GraphBuilder:
    """Collects the nodes of one graph.

    opset: what the graph is built for. scope: the name that nodes being made begin with, the Caffe layer's; `prefix` in
        names that repeat. nodes, initializers, inputs: what there is so far, in order.
    """

    opset: int = OPSET
    scope: str = ""
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: dict[str, ir.Value] = field(default_factory=dict)
    inputs: list[ir.Value] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _nodes: set[str] = field(default_factory=set)
    _kept: set[str] = field(default_factory=set)
    _weights: dict[str, ir.Value] = field(default_factory=dict)
    _constants: dict[tuple[str, Shape, bytes], ir.Value] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        """`wanted`, with a number behind it where it is taken."""
        name, number = wanted, 1
        while name in self._names or not name:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def keep_for_weights(self, names: Iterable[str]) -> None:
        """Give these names to no value but the weights that bear them; those that are taken already stay taken."""
        self._kept = set(names) - self._names
        self._names |= self._kept

    def node_name(self, base: str, op_type: str) -> str:
        """A name for a node: the layer's for its first node, then with the operator and a number behind it."""
        name, number = base, 1
        while name in self._nodes:
            number += 1
            name = f"{base}/{op_type}" if number == 2 else f"{base}/{op_type}_{number - 1}"
        self._nodes.add(name)
        return name

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> Named:
        """An input of the graph under exactly this name."""
        import onnx_ir as ir

        self._names.add(name)
        value = ir.Value(name=name, shape=_ir_shape(shape), type=ir.TensorType(_dtype(dtype)))
        self.inputs.append(value)
        return Named(value, shape)

    def weight(self, name: str, tensor: ir.TensorProtocol, shape: Shape) -> Named:
        """An initialiser that bears the store's name, of the shape that its tensor has; the same values again for the same name."""
        import onnx_ir as ir

        if name not in self._weights:
            free = name in self._kept or name not in self._names
            tensor.name = name if free else self.name(name)
            self._names.add(tensor.name)
            value = ir.Value(name=tensor.name, shape=_ir_shape(shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.meta[_MADE_OF] = (name,)
            self._weights[name] = self.initializers[tensor.name] = value
        value = self._weights[name]
        held = tuple([n for n in value.shape or () if isinstance(n, int)])
        # Layers that share a blob may want it in different shapes.
        return self.reshape(Named(value, held), shape, hint="weight")

    def constant(
        self,
        values: NDArray[Any] | Sequence[int] | Sequence[float] | float,
        hint: str = "constant",
        dtype: str | None = None,
        *,
        made_of: str | None = None,
    ) -> Named:
        """A small constant as an initialiser, shared by all that need the same. Floats become float32, integers int64.

        made_of: the store's name of the tensor that it was computed from.
        """
        import numpy as np
        import onnx_ir as ir

        array = np.asarray(values, dtype=dtype)
        if dtype is None and not hasattr(values, "dtype"):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.name(f"{self.scope}/{hint}" if self.scope else hint)
            tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
            value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.meta[_MADE_OF] = ()
            self.initializers[name] = value
            self._constants[key] = value
        if made_of is not None:
            self._constants[key].meta[_MADE_OF] += (made_of,)
        return Named(self._constants[key], tuple(array.shape))

    def op(
        self,
        op_type: str,
        inputs: Sequence[Named | None],
        shape: Shape,
        attributes: Mapping[str, Any] | None = None,
        *,
        dtype: str = "float32",
        since: int = 1,
        domain: str = "",
        hint: str | None = None,
    ) -> Named:
        """A node with one output of a known shape. `since`: the opset from which on the operator means what is meant here.

        Raises:
            OpsetTooLow: the graph is built for an earlier one.
        """
        return self.ops(op_type, inputs, [shape], attributes, dtypes=[dtype], since=since, domain=domain, hint=hint)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[Named | None],
        shapes: Sequence[Shape | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        dtypes: Sequence[str] | None = None,
        since: int = 1,
        domain: str = "",
        hint: str | None = None,
    ) -> list[Named]:
        """A node with several outputs; one whose shape is None is left out. See `op`."""
        import onnx_ir as ir

        if since > self.opset and not domain:
            raise OpsetTooLow(since, op_type)
        scope = self.scope or op_type
        base = f"{scope}/{hint}" if hint else scope
        dtypes = dtypes or ["float32"] * len(shapes)
        outputs = []
        for shape, dtype in zip(shapes, dtypes, strict=True):
            if shape is None:
                outputs.append(ir.Value(name=""))
                continue
            outputs.append(ir.Value(name=self.name(base), shape=_ir_shape(shape), type=ir.TensorType(_dtype(dtype))))
        values = [n.value if n is not None else None for n in inputs]
        while values and values[-1] is None:
            values.pop()
        named = self.node_name(base, op_type)
        node = ir.node(op_type, values, dict(attributes or {}), domain=domain, outputs=outputs, name=named)
        self.nodes.append(node)
        return [Named(o, s) for o, s in zip(outputs, shapes, strict=True) if s is not None]

    # ---- what most layers need -------------------------------------------------------------------------------------------

    def reshape(self, x: Named, shape: Shape, hint: str | None = "reshape") -> Named:
        """`x` with another shape of as many elements; `x` itself where it has that shape."""
        if tuple(x.shape) == tuple(shape):
            return Named(x.value, shape)
        if _size(x.shape) != _size(shape):
            raise GraphError("G001", f"{list(x.shape)} cannot be reshaped to {list(shape)}")
        return self.op("Reshape", [x, self.constant(_target(x.shape, shape), "shape", "int64")], shape, dtype=x.dtype, hint=hint)

    def transpose(self, x: Named, perm: Sequence[int], hint: str | None = "transpose") -> Named:
        """`x` with its axes in another order."""
        if list(perm) == list(range(x.rank)):
            return x
        return self.op("Transpose", [x], tuple([x.shape[p] for p in perm]), {"perm": list(perm)}, dtype=x.dtype, hint=hint)

    def unary(
        self, op_type: str, x: Named, attributes: Mapping[str, Any] | None = None, *, since: int = 1, hint: str | None = None
    ) -> Named:
        """An operator that works element by element."""
        return self.op(op_type, [x], x.shape, attributes, dtype=x.dtype, since=since, hint=hint)

    def binary(self, op_type: str, a: Named, b: Named, *, hint: str | None = None) -> Named:
        """An operator on two tensors that are broadcast as numpy does."""
        return self.op(op_type, [a, b], broadcast(a.shape, b.shape), dtype=a.dtype, hint=hint)

    def scalar(self, op_type: str, x: Named, number: float, *, hint: str | None = None) -> Named:
        """An operator on a tensor and a float32 constant."""
        return self.op(op_type, [x, self.constant(number, "value")], x.shape, hint=hint)

    def slice(self, x: Named, axis: int, start: int, stop: int, hint: str | None = "slice") -> Named:
        """Positions `start` to `stop` - 1 along `axis`."""
        size = x.shape[axis]
        # An open batch of one, as the net states it, may be larger.
        if start == 0 and stop == size and (isinstance(stop, Batch) or not isinstance(size, Batch)):
            return x
        shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
        parts = [self.constant([n], what) for n, what in ((start, "start"), (stop, "stop"), (axis, "axis"))]
        return self.op("Slice", [x, *parts], shape, dtype=x.dtype, hint=hint)

    def concat(self, parts: Sequence[Named], axis: int, hint: str | None = None) -> Named:
        """The parts one after the other along `axis`."""
        if len(parts) == 1:
            return parts[0]
        total = sum(p.shape[axis] for p in parts)
        first = parts[0].shape
        return self.op("Concat", parts, (*first[:axis], total, *first[axis + 1 :]), {"axis": axis}, dtype=parts[0].dtype, hint=hint)

    def reduce(self, op_type: str, x: Named, axes: Sequence[int], keep: bool, hint: str | None = None) -> Named:
        """ReduceSum, ReduceMean, ReduceMax … over `axes`; the axes are an input from the opset on in which they are one."""
        shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes])
        attributes: dict[str, Any] = {"keepdims": int(keep)}
        if op_type == "ReduceSum" or self.opset >= 18:
            return self.op(op_type, [x, self.constant(list(axes), "axes")], shape, attributes, hint=hint)
        return self.op(op_type, [x], shape, {"axes": list(axes), **attributes}, hint=hint)


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of two tensors broadcast against each other; the batch stays one.

    Raises:
        GraphError: they cannot be.
    """
    rank = max(len(a), len(b))
    left, right = ((1,) * (rank - len(s)) + tuple(s) for s in (a, b))
    out = []
    for m, n in zip(left, right, strict=True):
        opened, other = (m, n) if isinstance(m, Batch) else (n, m)
        if isinstance(opened, Batch):
            if not opened.is_as(other) and (other != 1 or isinstance(other, Batch)):
                raise GraphError("G002", f"{list(a)} and {list(b)} go together for one size of the batch only")
        elif m != n and m != 1 and n != 1:
            raise GraphError("G001", f"{list(a)} and {list(b)} do not go together")
        out.append(opened if isinstance(opened, Batch) or opened != 1 else other)
    return tuple(out)


def merged(dims: Sequence[int]) -> int:
    """The size of one axis that takes the place of all of `dims`: an open batch stays open, with so many more for each image."""
    total = _size(tuple(dims))
    batch = next((n for n in dims if isinstance(n, Batch)), None)
    return total if batch is None else Batch(total, batch.times * (total // batch if batch else 1), batch.symbol)


def _target(old: Shape, new: Shape) -> list[int]:
    """`new` for a Reshape node: what is open is copied where it stays in its place, and worked out where it does not."""
    same = [isinstance(n, Batch) and i < len(old) and n.is_as(old[i]) for i, n in enumerate(new)]
    return [0 if kept else -1 if isinstance(n, Batch) else int(n) for n, kept in zip(new, same, strict=True)]


def _ir_shape(shape: Shape) -> ir.Shape | None:
    import onnx_ir as ir

    if isinstance(shape, Unknown):
        return None
    return ir.Shape([_dimension(n) for n in shape])


def _dimension(size: int) -> int | str | None:
    if not isinstance(size, Batch):
        return int(size)
    if not size.symbol:
        return None
    return size.symbol if size.times == 1 else f"{size.times}*{size.symbol}"


def _dtype(name: str) -> ir.DataType:
    import onnx_ir as ir

    return ir.DataType[_DTYPES[name]]


def _size(shape: Shape) -> int:
    import math

    return math.prod(shape)
