"""The network while it is put together: its layers, the types of its tensors, which tensor holds which value of the graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from porter.dtypes import DTYPES
from porter.errors import TensorRTError
from porter.graph.analysis.values import Constant, Element, Network, Node, Size, Value, computed
from porter.tensor import Tensor, TensorSpec
from porter.tensorrt import layers
from porter.tensorrt.lowering.batch_norm import scale_and_shift
from porter.tensorrt.lowering.naming import Names, WeightNames, is_good, without_spaces
from porter.tensorrt.lowering.types import TensorType, infer

Key = tuple[object, ...]

_HELD = frozenset(layers.DTYPES) - {"uint8"}
"""Types of weights; uint8 is for inputs and outputs alone, and what is cast to and from it."""


class Assembly:
    """Collects the layers of one network.

    tensors: for each value of the graph, the tensor that holds it. types: of all tensors. codes: values that int8 weights may
    stand for, None where none may. dequantized: those that they do stand for.
    """

    def __init__(self, network: Network, initializers: Collection[str], codes: frozenset[str] | None) -> None:
        self.network = network
        self.initializers = initializers
        self.codes = codes
        self.layers: list[layers.Layer] = []
        self.tensors: dict[str, str] = {}
        self.types: dict[str, TensorType] = {}
        self.layer_names = Names()
        self.tensor_names = Names()
        self.weight_names = WeightNames(initializers)
        self.notices: list[str] = []
        self.dequantized: set[str] = set()
        self._named: set[str] = set()
        self._constants: dict[Key, str] = {}
        self._weights: dict[Key, layers.Weights] = {}
        self._together: dict[Key, dict[str, layers.Weights]] = {}
        self._folded: dict[Key, tuple[layers.Weights, layers.Weights]] = {}
        # What a key is made of must not go away, or something else could take its address.
        self._kept: list[Constant] = []
        for value in network.values:
            self.tensor_names.reserve(value)
        for node in network.nodes:
            self.layer_names.reserve(node.name)

    def node_name(self, node: Node) -> str:
        """What the layers of a node are called: as it is, or as its output where it has no name; where two share it, with a number."""
        if node.name and node.name not in self._named:
            self._named.add(node.name)
            return node.name
        return self.layer_names.take(node.name or next(o for o in node.outputs if o))

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

    def constant(self, constant: Constant, wanted: str, layer: str, weight: str | layers.Weights) -> str:
        """A tensor of known values: that of a layer that states them, made where there is none yet.

        wanted: what to call the tensor; layer: the layer; weight: the weights, or what to call them where the graph has no good name.
        """
        key = _key(constant)
        if key not in self._constants:
            value = self.network.values.get(wanted)
            own = value is not None and value.constant is not None and _key(value.constant) == key
            name = wanted if own and wanted not in self.types else self.tensor_names.take(wanted)
            held = self.weights(constant, weight) if isinstance(weight, str) else weight
            self.add(layers.Constant(held), (), (name,), self.layer_names.take(layer))
            self._constants[key] = name
            self._kept.append(constant)
        return self._constants[key]

    def weights(self, constant: Constant, wanted: str) -> layers.Weights:
        """Values that a layer holds. wanted: their name where the graph has none that says what they are, `LAYER.ROLE`.

        Raises:
            TensorRTError: TensorRT has no such type.
        """
        key = _key(constant)
        if key not in self._weights:
            source = self._source(constant)
            good = source is not None and is_good(source) and self.weight_names.is_free(source, source)
            self._weights[key] = self._made_weights(constant, source if source is not None and good else without_spaces(wanted))
        return self._weights[key]

    def weights_together(self, constants: Mapping[str, Constant], layer: str) -> dict[str, layers.Weights]:
        """The weights of one layer by role, called `PREFIX.ROLE`: with the prefix that the graph has for all of them, or `layer`.

        Raises:
            TensorRTError: TensorRT has no such type.
        """
        key = tuple((role, _key(c)) for role, c in constants.items())
        if key not in self._together:
            sources = {role: self._source(c) for role, c in constants.items()}
            prefix = self.weight_names.prefix(sources, without_spaces(layer))
            self._together[key] = {role: self._made_weights(c, f"{prefix}.{role}") for role, c in constants.items()}
        return self._together[key]

    def _source(self, constant: Constant) -> str | None:
        """The initialiser that a constant is."""
        return constant.source if constant.source in self.initializers else None

    def _made_weights(self, constant: Constant, wanted: str) -> layers.Weights:
        if constant.dtype not in _HELD:
            raise TensorRTError("T002", f"'{constant.source or wanted}' holds {constant.dtype} values, which TensorRT has not")
        source, dtype = self._source(constant), DTYPES[constant.dtype]
        turned = None if constant.perm is None else f"transpose({', '.join(map(str, constant.perm))})"
        formula = turned if source is not None else "constant"
        spec = TensorSpec(self.weight_names.take(wanted, source), dtype, constant.shape)
        self._kept.append(constant)
        return layers.Weights(Tensor(spec, constant.payload()), (source,) if source is not None else (), formula)

    def scale_and_shift(self, norm: layers.BatchNorm, dtype: str) -> tuple[layers.Weights, layers.Weights]:
        """What a batch normalisation comes to; the same weights for the same normalisation."""
        prefix = norm.weight.tensor.name.removesuffix(".weight")
        key = ("batch_norm", prefix, norm.epsilon, dtype)
        if key not in self._folded:
            part = prefix if not any(k[1] == prefix for k in self._folded) else f"{prefix}_{len(self._folded)}"
            self._folded[key] = scale_and_shift(norm, part, dtype)
        return self._folded[key]

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
