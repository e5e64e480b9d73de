"""One operator while it is written as PyTorch: its inputs as expressions, its attributes, and where its results are put."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError
from porter.graph.analysis.sizes import known_elements
from porter.graph.analysis.values import Constant, Dimension, Element, Network, Node, Shape, Value, computed
from porter.graph.python_layout import tuple_literal
from porter.graph.torch_source.source import Source, layer_name, scalar_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Op:
    """What an operator's function gets. `write` writes the nodes of a subgraph where it is called."""

    def __init__(self, source: Source, node: Node, used: frozenset[str], write: Callable[[Network], None]) -> None:
        self.source = source
        self.node = node
        self.version = node.version
        self._used = used
        self.write = write

    # ---- what goes in ------------------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def value(self, index: int) -> Value:
        """What is known of an input."""
        return self.source.values[self.node.inputs[index]]

    def text(self, index: int) -> str:
        """An input as an expression."""
        return self.source.expression(self.node.inputs[index])

    def constant(self, index: int) -> Constant | None:
        """An input whose values are known."""
        return self.value(index).constant if self.has(index) else None

    def array(self, index: int) -> NDArray[Any] | None:
        """The values of a constant input. Reads them."""
        constant = self.constant(index)
        return constant.array() if constant is not None else None

    def scalar(self, index: int) -> str | None:
        """An input of one element that is known, as a number."""
        constant = self.constant(index)
        return scalar_text(constant.array().reshape(-1)[0], constant.dtype) if constant is not None and constant.size == 1 else None

    def elements(self, index: int) -> list[Element] | None:
        """A vector of sizes, where they are known: as integers, or as expressions of sizes."""
        found = known_elements(self.value(index)) if self.has(index) else None
        if found is None and self.constant(index) is not None:
            array = self.array(index)
            assert array is not None
            return [int(n) for n in array.reshape(-1)] if array.size <= 4096 and array.dtype.kind in "iu" else None
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

    def shape(self, index: int) -> Shape:
        """An input's shape.

        Raises:
            GraphError: not even the number of axes is known.
        """
        shape = self.value(index).shape
        if shape is None:
            raise self.refuse(f"the shape of '{self.node.inputs[index]}' is not known")
        return shape

    def static(self, index: int, axes: Sequence[int]) -> list[int]:
        """Sizes of an input along some axes, which have to be known."""
        return [self.known(self.shape(index)[a], f"axis {a} of '{self.node.inputs[index]}'") for a in axes]

    def known(self, size: Dimension, what: str) -> int:
        """`size`, refused where it is open."""
        if not isinstance(size, int):
            raise self.refuse(f"the size of {what} is known only when the network runs")
        return size

    def rank(self, index: int) -> int:
        """How many axes an input has."""
        return len(self.shape(index))

    def dtype(self, index: int) -> str:
        """An input's element type, as PyTorch calls it."""
        return self.value(index).dtype or "float32"

    def axis(self, name: str = "axis", default: int = 0, index: int = 0) -> int:
        """An axis of an input, counted from the front."""
        axis = int(self.attribute(name, default))
        return axis + self.rank(index) if axis < 0 else axis

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attributes.get(name, default)

    # ---- what comes out ------------------------------------------------------------------------------------------------------

    def out(self, index: int = 0) -> Value:
        """What is known of an output."""
        return self.source.values[self.node.outputs[index]]

    def used(self, index: int) -> bool:
        """Whether something reads this output."""
        return index < len(self.node.outputs) and self.node.outputs[index] in self._used

    def put(self, text: str, index: int = 0) -> None:
        """The value of an output; a bare name is another name for the same."""
        output = self.node.outputs[index]
        if text.isidentifier() and text in self.source.expressions.values():
            self.source.expressions[output] = text
        else:
            self.source.line(f"{self.source.variable(output)} = {text}")

    def put_all(self, text: str) -> None:
        """The values of all outputs at once; those that nothing reads are `_`."""
        targets = [self.source.variable(o) if o in self._used else "_" for o in self.node.outputs]
        if len(targets) == 1:
            self.source.line(f"({targets[0]},) = {text}")
        else:
            self.source.line(f"{', '.join(targets)} = {text}")

    def let(self, text: str, hint: str) -> str:
        """A variable of its own for a step on the way, called after the output and `hint`."""
        name = self.source.names.take(f"{self.node.outputs[0]}_{hint}")
        self.source.line(f"{name} = {text}")
        return name

    def let_name(self, index: int, hint: str) -> str:
        """A new variable for a step on the way to an output; `_` where nothing reads that."""
        return self.source.names.take(f"{self.node.outputs[index]}_{hint}") if self.used(index) else "_"

    def layer(self, made: str, state: Mapping[str, int | Constant], named: Constant | None = None) -> str | None:
        """A layer as an attribute, `state` saying which input each of its tensors is; None where the weights are another's.

        named: the constant whose name says most of the layer's; the first one if not given.
        """
        constants = {role: self._held(given) for role, given in state.items()}
        name = layer_name(named or next(iter(constants.values()), None), self.node.name, self.node.op_type)
        return self.source.module(made, constants, name, self.node.name)

    def _held(self, given: int | Constant) -> Constant:
        constant = self.constant(given) if isinstance(given, int) else given
        assert constant is not None
        return constant

    def buffer(self, array: NDArray[Any], hint: str) -> str:
        """A constant that this operator needs, as `self.…`."""
        return self.source.tensor(computed(array), f"{self.node.outputs[0]}_{hint}")

    def helper(self, name: str) -> str:
        """A function that the source has to have."""
        return self.source.helper(name)

    def size(self, element: Element) -> str:
        """A size as an expression."""
        return self.source.size(element)

    def refuse(self, why: str) -> GraphError:
        """The error for what cannot be written."""
        where = f"'{self.node.name or (self.node.outputs or ('',))[0]}'"
        return GraphError("G080", f"{self.node.op_type} {where} cannot be written as PyTorch: {why}")


def spatial(numbers: Sequence[int]) -> str:
    """A number for each spatial axis: one number where they are all the same."""
    return str(numbers[0]) if len(set(numbers)) == 1 else tuple_literal(numbers)


def options(**given: str | None) -> str:
    """Keyword arguments, with a comma before each; those that are None are left out."""
    return "".join(f", {name}={text}" for name, text in given.items() if text is not None)
