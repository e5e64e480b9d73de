"""The network while it is put together: its layers, the types of its tensors, which tensor holds which value of the graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES, DType
from porter.errors import TensorRTError
from porter.graph.analysis.values import Constant, Element, Network, Size, Value, computed
from porter.tensor import BytesPayload, Tensor, TensorSpec, canonical_bytes
from porter.tensorrt import layers
from porter.tensorrt.lowering.naming import Names, is_good, without_spaces
from porter.tensorrt.lowering.types import TensorType, infer

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[object, ...]

_HELD = frozenset(layers.DTYPES) - {"uint8"}
"""Types of weights; uint8 is for inputs and outputs alone, and what is cast to and from it."""


class Assembly:
    """Collects the layers of one network.

    tensors: for each value of the graph, the tensor that holds it. types: of all tensors.
    """

    def __init__(self, network: Network, initializers: Collection[str]) -> None:
        self.network = network
        self.initializers = initializers
        self.layers: list[layers.Layer] = []
        self.tensors: dict[str, str] = {}
        self.types: dict[str, TensorType] = {}
        self.layer_names = Names()
        self.tensor_names = Names()
        self.weight_names = Names()
        self.notices: list[str] = []
        self._constants: dict[Key, str] = {}
        self._weights: dict[Key, layers.Weights] = {}
        # What a key is made of must not go away, or something else could take its address.
        self._kept: list[Constant] = []
        for value in network.values:
            self.tensor_names.reserve(value)
        for node in network.nodes:
            self.layer_names.reserve(node.name)
        for initializer in initializers:
            self.weight_names.reserve(initializer)

    def add(self, operation: layers.Operation, inputs: Sequence[str], outputs: Sequence[str], name: str) -> None:
        """A layer; its outputs get the types that TensorRT gives them. `name` is taken as it is.

        Raises:
            ValueError: the inputs do not fit.
        """
        types = infer(operation, [self.types[i] if i else None for i in inputs])
        self.layers.append(layers.Layer(name, operation, tuple(inputs), tuple(outputs)))
        self.types.update(zip(outputs, types, strict=True))

    # ---- constants and weights -------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> str:
        """The tensor that holds a value of the graph; for one that is known, a layer that states it.

        Raises:
            KeyError: nothing makes it.
        """
        if name in self.tensors:
            return self.tensors[name]
        value = self.network.values[name]
        if value.elements is not None:
            self.tensors[name] = self.sizes(value.elements, value, name)
        elif value.constant is not None:
            self.tensors[name] = self.constant(value.constant, name, name, name)
        return self.tensors[name]

    def constant(self, constant: Constant, wanted: str, layer: str, weight: str) -> str:
        """A tensor of known values: that of a layer that states them, made where there is none yet.

        wanted: what to call the tensor; layer: the layer; weight: the weights, where the graph has no good name for them.
        """
        key = _key(constant)
        if key not in self._constants:
            value = self.network.values.get(wanted)
            own = value is not None and value.constant is not None and _key(value.constant) == key
            name = wanted if own and wanted not in self.types else self.tensor_names.take(wanted)
            self.add(layers.Constant(self.weights(constant, weight)), (), (name,), self.layer_names.take(layer))
            self._constants[key] = name
            self._kept.append(constant)
        return self._constants[key]

    def weights(self, constant: Constant, wanted: str, *, keep: bool = True) -> layers.Weights:
        """Values that a layer holds. wanted: their name where the graph has none that says what they are, `LAYER.ROLE`.

        keep: whether a good name of the graph's is kept.

        Raises:
            TensorRTError: TensorRT has no such type.
        """
        key = _key(constant)
        if key not in self._weights:
            if constant.dtype not in _HELD:
                raise TensorRTError("T002", f"'{constant.source or wanted}' holds {constant.dtype} values, which TensorRT has not")
            source = constant.source if constant.source in self.initializers else None
            name = self._weight_name(source, without_spaces(wanted), keep)
            turned = None if constant.perm is None else f"transpose({', '.join(map(str, constant.perm))})"
            formula = turned if source is not None else "constant"
            dtype = DTYPES[constant.dtype]
            tensor = Tensor(TensorSpec(name, dtype, constant.shape), ConstantPayload(constant, dtype))
            self._weights[key] = layers.Weights(tensor, (source,) if source is not None else (), formula)
            self._kept.append(constant)
        return self._weights[key]

    def _weight_name(self, source: str | None, wanted: str, keep: bool) -> str:
        """The name of the graph's tensor where it is good; one that is held in another shape already has to have another."""
        held = {w.tensor.name for w in self._weights.values()}
        if source is not None and source not in held and (source == wanted or (keep and is_good(source))):
            return source
        return self.weight_names.take(wanted)

    # ---- sizes that only running tells -----------------------------------------------------------------------------------

    def sizes(self, elements: Sequence[Element], value: Value, wanted: str) -> str:
        """A tensor of the type of `value` that holds integers and sizes; rank 0 or 1. wanted: what to call the last layer."""
        runs = _runs(elements)
        parts = [self.numbers(run, f"{wanted}/numbers") if isinstance(run, list) else self._size(run, wanted) for run in runs]
        scalar = value.shape == ()
        steps: list[tuple[layers.Operation, str]] = []
        if len(parts) > 1:
            steps.append((layers.Concatenation(0), "joined"))
        if value.dtype not in (None, "int64"):
            steps.append((layers.Cast(str(value.dtype)), "cast"))
        if scalar:
            steps.append((layers.Shuffle(shape=()), "scalar"))
        current = parts
        for number, (operation, part) in enumerate(steps):
            last = number == len(steps) - 1 and wanted == value.name
            name = wanted if last else self.tensor_names.take(f"{wanted}/{part}")
            self.add(operation, current, (name,), self.layer_names.take(name))
            current = [name]
        return current[0]

    def numbers(self, numbers: Sequence[int], wanted: str) -> str:
        """A constant vector of int64."""
        import numpy as np

        return self.constant(computed(np.asarray(numbers, np.int64)), wanted, wanted, wanted)

    def _size(self, size: Size, wanted: str) -> str:
        """A vector of one size."""
        if size.op:
            sides = [
                self._size(s, wanted) if isinstance(s, Size) else self.numbers([s], f"{wanted}/number") for s in (size.left, size.right)
            ]
            kind = {"+": "SUM", "-": "SUB", "*": "PROD", "//": "FLOOR_DIV"}[size.op]
            return self._made(layers.Elementwise(kind), sides, f"{wanted}/{kind.lower()}")
        shape = self.shape_of(self.tensor(size.value))
        key = ("size", shape, size.axis)
        if key not in self._constants:
            operation = layers.Slice((size.axis,), (1,), (1,))
            self._constants[key] = self._made(operation, [shape], f"{shape}/{size.axis}")
        return self._constants[key]

    def shape_of(self, tensor: str) -> str:
        """The shape of a tensor as a tensor, int64."""
        key = ("shape", tensor)
        if key not in self._constants:
            self._constants[key] = self._made(layers.Shape(), [tensor], f"{tensor}/shape")
        return self._constants[key]

    def _made(self, operation: layers.Operation, inputs: Sequence[str], wanted: str) -> str:
        name = self.tensor_names.take(wanted)
        self.add(operation, inputs, (name,), self.layer_names.take(wanted))
        return name


class ConstantPayload:
    """The bytes of a constant, loaded for whoever asks."""

    location = None

    def __init__(self, constant: Constant, dtype: DType) -> None:
        self._constant = constant
        self._dtype = dtype
        self.nbytes = dtype.nbytes(constant.size)

    def buffer(self) -> memoryview:
        """Reads them."""
        return canonical_bytes(self._array(), self._dtype).toreadonly()

    def chunks(self, limit: int) -> Iterator[memoryview]:
        """Reads them."""
        return BytesPayload(self.buffer()).chunks(limit)

    def _array(self) -> NDArray[Any]:
        import numpy as np

        return np.ascontiguousarray(self._constant.array()).reshape(self._constant.shape)


def _key(constant: Constant) -> Key:
    if constant.source is None:
        return (id(constant.load), constant.shape, constant.dtype)
    return (constant.source, constant.perm, constant.shape, constant.dtype)


def _runs(elements: Sequence[Element]) -> Iterator[list[int] | Size]:
    """Integers that follow each other together, sizes one by one."""
    numbers: list[int] = []
    for element in elements:
        if isinstance(element, Size):
            if numbers:
                yield numbers
            numbers = []
            yield element
        else:
            numbers.append(element)
    if numbers:
        yield numbers
