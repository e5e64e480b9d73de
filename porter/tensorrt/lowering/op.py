"""One operator while it is lowered: its inputs as tensors, its attributes, and the layers that it becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dtypes import from_numpy
from porter.errors import PorterError
from porter.graph.analysis.sizes import known_elements
from porter.graph.analysis.values import Constant, Element, Node, Value, computed
from porter.tensorrt import layers
from porter.tensorrt.lowering.assembly import Assembly
from porter.tensorrt.lowering.types import Shape, TensorType

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Refusal(Exception):
    """Why an operator cannot be lowered; `lower` collects them."""


class Op:
    """What an operator's function gets. readers: how many nodes and outputs of the graph read each of its values."""

    def __init__(self, assembly: Assembly, node: Node, readers: dict[str, int]) -> None:
        self.assembly = assembly
        self.node = node
        self.version = node.version
        self.readers = readers
        self.name = assembly.node_name(node)

    # ---- what goes in ----------------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def value(self, index: int) -> Value:
        """What the analysis knows of an input."""
        return self.assembly.network.values[self.node.inputs[index]]

    def tensor(self, index: int, rank: int | None = None) -> str:
        """The tensor of an input; a constant becomes a layer. rank: with axes of size 1 in front, up to so many."""
        constant = self.constant(index)
        if constant is None or rank is None or len(constant.shape) >= rank:
            return self._ranked(self.assembly.tensor(self.node.inputs[index]), rank)
        shape = (1,) * (rank - len(constant.shape)) + constant.shape
        return self.constant_tensor(constant.reshaped(shape), self._input_part(index))

    def _input_part(self, index: int) -> str:
        """What an input is called in its operator: the weight, the bias."""
        return {1: "weight", 2: "bias"}.get(index, f"input{index}") if len(self.node.inputs) > 1 else "input"

    def _ranked(self, tensor: str, rank: int | None) -> str:
        have = self.type_of(tensor).shape
        return tensor if rank is None or len(have) >= rank else self.reshaped(tensor, (1,) * (rank - len(have)) + have, "rank")

    def constant(self, index: int) -> Constant | None:
        """An input whose values are known."""
        return self.value(index).constant if self.has(index) else None

    def array(self, index: int) -> NDArray[Any] | None:
        """The values of a constant input. Reads them."""
        constant = self.constant(index)
        return constant.array() if constant is not None else None

    def elements(self, index: int) -> list[Element] | None:
        """A vector of sizes, where they are known: integers, or `Size` for what is known when the network runs."""
        found = known_elements(self.value(index)) if self.has(index) else None
        if found is None and self.constant(index) is not None:
            array = self.array(index)
            assert array is not None
            return [int(n) for n in array.reshape(-1)] if array.dtype.kind in "iu" else None
        return None if found is None else list(found)

    def integers(self, index: int, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """Integers that are an input in later opsets and an attribute in earlier ones; `default` where they are neither."""
        if name in self.node.attributes:
            return [int(n) for n in self.node.attributes[name]]
        if not self.has(index):
            return None if default is None else list(default)
        found = self.elements(index)
        if found is None or not all(isinstance(n, int) for n in found):
            raise self.refuse(f"its '{name}' is known only when the network runs")
        return [n for n in found if isinstance(n, int)]

    def type_of(self, tensor: str) -> TensorType:
        """Shape and element type of any tensor."""
        return self.assembly.types[tensor]

    def shape(self, index: int) -> Shape:
        """An input's shape, -1 where it is open. Makes no layer.

        Raises:
            Refusal: not even the number of axes is known.
        """
        name = self.node.inputs[index]
        if name in self.assembly.tensors:
            return self.assembly.types[self.assembly.tensors[name]].shape
        shape = self.value(index).shape
        if shape is None:
            raise self.refuse(f"the shape of '{name}' is not known")
        return tuple([n if isinstance(n, int) else -1 for n in shape])

    def static(self, index: int, axes: Sequence[int] | None = None) -> tuple[int, ...]:
        """Sizes of an input along some axes, or all, which have to be known."""
        shape = self.shape(index)
        wanted = range(len(shape)) if axes is None else axes
        return tuple([self.known(shape[a], f"axis {a} of '{self.node.inputs[index]}'") for a in wanted])

    def known(self, size: int, what: str) -> int:
        """`size`, refused where it is open."""
        if size < 0:
            raise self.refuse(f"the size of {what} is known only when the network runs")
        return size

    def rank(self, index: int) -> int:
        """How many axes an input has."""
        return len(self.shape(index))

    def dtype(self, index: int) -> str:
        """An input's element type, by porter's name."""
        name = self.node.inputs[index]
        if name in self.assembly.tensors:
            return self.assembly.types[self.assembly.tensors[name]].dtype
        dtype = self.value(index).dtype
        if dtype is None:
            raise self.refuse(f"'{name}' is of a type that TensorRT has not")
        return dtype

    def is_float(self, index: int) -> bool:
        """Whether an input holds floating-point numbers."""
        return self.dtype(index) in ("float32", "float16", "bfloat16")

    def axis(self, name: str = "axis", default: int = 0, index: int = 0) -> int:
        """An axis of an input, counted from the front."""
        return self.axes([int(self.attribute(name, default))], index)[0]

    def axes(self, given: Sequence[int], index: int = 0) -> list[int]:
        """Axes of an input, counted from the front."""
        rank = self.rank(index)
        if not all(-rank <= a < rank for a in given):
            raise self.refuse(f"its axes {list(given)} are not all axes of {list(self.shape(index))}")
        return [a + rank if a < 0 else a for a in given]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attributes.get(name, default)

    # ---- what comes out --------------------------------------------------------------------------------------------------

    def out(self, index: int = 0) -> Value:
        """What the analysis knows of an output."""
        return self.assembly.network.values[self.node.outputs[index]]

    def out_shape(self, index: int = 0) -> Shape:
        """An output's shape, -1 where it is open, as the analysis knows it."""
        shape = self.out(index).shape
        if shape is None:
            raise self.refuse(f"the shape of '{self.node.outputs[index]}' is not known")
        return tuple([n if isinstance(n, int) else -1 for n in shape])

    def used(self, index: int) -> bool:
        """Whether something reads this output."""
        return index < len(self.node.outputs) and self.readers.get(self.node.outputs[index], 0) > 0

    def put(self, operation: layers.Operation, inputs: Sequence[str], index: int = 0) -> None:
        """The layer that makes an output. It is called as the node is (for outputs after the first, as they are)."""
        output = self.node.outputs[index]
        name = self.assembly.layer_names.take(f"{self.name}/{output}") if index else self.name
        self.layer(operation, inputs, (output,), name)

    def add(self, operation: layers.Operation, inputs: Sequence[str], part: str) -> str:
        """A layer on the way, called `NODE/part`; its tensor, called `OUTPUT/part`."""
        tensor = self.step(part)
        self.layer(operation, inputs, (tensor,), self.assembly.layer_names.take(f"{self.name}/{part}"))
        return tensor

    def put_or_add(self, operation: layers.Operation, inputs: Sequence[str], part: str, last: bool) -> str:
        """`put`, for a layer that is the `last`, else `add`; its tensor."""
        if not last:
            return self.add(operation, inputs, part)
        self.put(operation, inputs)
        return self.node.outputs[0]

    def step(self, part: str) -> str:
        """The name of a new tensor on the way to the first output."""
        return self.assembly.tensor_names.take(f"{next(o for o in self.node.outputs if o)}/{part}")

    def layer(self, operation: layers.Operation, inputs: Sequence[str], outputs: Sequence[str], name: str) -> None:
        """Any layer. Outputs that are values of the node are what it makes; the others are steps on the way."""
        try:
            self.assembly.add(operation, inputs, outputs, name)
        except (ValueError, IndexError) as error:
            if isinstance(error, PorterError):
                raise
            raise self.refuse(f"{error}") from error
        for tensor in outputs:
            if tensor in self.node.outputs:
                self.alias(tensor, self.node.outputs.index(tensor))

    def alias(self, tensor: str, index: int = 0) -> None:
        """An output that is a tensor already.

        Raises:
            Refusal: it has another type than the graph states, so that it would not be the same.
        """
        output = self.node.outputs[index]
        self.assembly.tensors[output] = tensor
        stated, made = self.out(index), self.assembly.types[tensor]
        if stated.dtype is not None and stated.dtype != made.dtype:
            raise self.refuse(f"'{output}' is {stated.dtype} in the graph and {made.dtype} in TensorRT")
        if stated.shape is not None:
            sizes = [n if isinstance(n, int) else -1 for n in stated.shape]
            if not layers.agree(sizes, made.shape):
                raise self.refuse(f"'{output}' has the shape {sizes} in the graph and {list(made.shape)} in TensorRT")
            merged = tuple([max(a, b) for a, b in zip(sizes, made.shape, strict=True)])
            self.assembly.types[tensor] = TensorType(merged, made.dtype)

    # ---- what is needed on the way -----------------------------------------------------------------------------------------

    def weights(self, constant: Constant | NDArray[Any], role: str) -> layers.Weights:
        """Values that a layer of this node holds; the name is the graph's, or `NODE.role`."""
        return self.assembly.weights(self._constant(constant), f"{self.name}.{role}")

    def weights_together(self, given: Mapping[str, Constant | None]) -> dict[str, layers.Weights]:
        """The weights of this node by role, those that are there: `PREFIX.ROLE` with one prefix, the graph's or the node's name."""
        return self.assembly.weights_together({role: c for role, c in given.items() if c is not None}, self.name)

    def constant_tensor(self, constant: Constant | NDArray[Any], role: str, value: str | None = None) -> str:
        """A tensor of known values, by a layer `NODE/role`. value: that of the graph that it is, where it is one."""
        wanted = value or f"{next(o for o in self.node.outputs if o)}/{role}"
        return self.assembly.constant(self._constant(constant), wanted, f"{self.name}/{role}", f"{self.name}.{role}")

    def constants_together(self, given: Mapping[str, Constant | None]) -> dict[str, str]:
        """Tensors of known values by role, those that are there, whose weights are named together."""
        output = next(o for o in self.node.outputs if o)
        held = self.weights_together(given)
        return {
            role: self.assembly.constant(c, f"{output}/{role}", f"{self.name}/{role}", held[role])
            for role, c in given.items()
            if c is not None
        }

    def scalar(self, number: float, like: str, part: str) -> str:
        """A number as a tensor of the rank and the type of the tensor `like`."""
        import numpy as np

        from porter.dtypes import DTYPES

        have = self.type_of(like)
        array = np.full((1,) * len(have.shape), number).astype(DTYPES[have.dtype].numpy())
        return self.constant_tensor(array, part)

    def _constant(self, given: Constant | NDArray[Any]) -> Constant:
        if isinstance(given, Constant):
            return given
        dtype = from_numpy(given.dtype)
        assert dtype is not None
        return computed(given, dtype.name)

    def reshaped(self, tensor: str, shape: Sequence[int], part: str) -> str:
        """The tensor in another shape, in which -1 stands for what is open in `tensor`, in that order."""
        operation, inputs = self.shuffle(tensor, shape, part)
        return tensor if self.type_of(tensor).shape == tuple(shape) else self.add(operation, inputs, part)

    def shuffle(self, tensor: str, shape: Sequence[int], part: str) -> tuple[layers.Shuffle, list[str]]:
        """The layer that brings a tensor into a shape, and its inputs. -1 as for `reshaped`."""
        have = self.type_of(tensor).shape
        opened = [i for i, n in enumerate(shape) if n < 0]
        if math.prod(n for n in have if n >= 0) != math.prod(n for n in shape if n >= 0) or have.count(-1) != len(opened):
            raise self.refuse(f"{list(have)} cannot be read as {list(shape)}")
        stated = list(shape)
        for i in opened:
            if i < len(have) and have[i] < 0 and have[:i].count(-1) == list(shape)[:i].count(-1):
                stated[i] = 0
        if stated.count(-1) <= 1 and (0 not in shape or not opened):
            return layers.Shuffle(shape=tuple(stated), zero_copies=0 not in shape), [tensor]
        from porter.graph.analysis.values import Size

        places = iter([i for i, n in enumerate(have) if n < 0])
        sizes = [Size(self.value_of(tensor), next(places)) if n < 0 else n for n in shape]
        vector = Value("", "int64", (len(sizes),))
        return layers.Shuffle(zero_copies=False), [tensor, self.assembly.sizes(sizes, vector, f"{self.name}/{part}")]

    def value_of(self, tensor: str) -> str:
        """A name by which `Size` finds a tensor."""
        self.assembly.tensors.setdefault(tensor, tensor)
        return tensor

    def operands(self, count: int | None = None) -> list[str]:
        """The first `count` inputs, or all, with axes of size 1 in front so that they are of one rank; constants are given it."""
        indices = range(len(self.node.inputs) if count is None else count)
        rank = max(self.rank(i) for i in indices)
        return [self.tensor(i, rank) for i in indices]

    def cast(self, tensor: str, dtype: str, part: str = "cast") -> str:
        """The tensor in another type; itself where it has that."""
        if self.type_of(tensor).dtype == dtype:
            return tensor
        self.require(dtype)
        return self.add(layers.Cast(dtype), [tensor], part)

    def require(self, dtype: str) -> None:
        """Refuse an element type that TensorRT has not."""
        if dtype not in layers.DTYPES:
            raise self.refuse(f"TensorRT has no {dtype}")

    def notice(self, text: str) -> None:
        """Something that a user has to know, one line."""
        self.assembly.notices.append(f"{self.node.op_type} '{self.name}': {text}")

    def refuse(self, why: str) -> Refusal:
        """The error for what cannot be lowered."""
        return Refusal(why)
