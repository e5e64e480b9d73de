"""One operator while it is written as layers of Caffe: its inputs as blobs, its constants, and what the layers make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.graph.analysis.values import Constant, Node, Value
from porter.graph.caffe_source.net import Blob, Net, Parameters, Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]


class Refused(Exception):
    """An operator that Caffe cannot express; the text says why."""


@dataclass(slots=True)
class Context:
    """What all operators of one network share.

    extra: layers of the fork that not every Caffe has. readers: nodes that read a value, by its name. outputs: names of the graph's.
    absorbed: nodes that are part of another's layers, by the first of their outputs.
    """

    net: Net
    values: Mapping[str, Value]
    extra: frozenset[str]
    readers: Mapping[str, Sequence[Node]]
    outputs: frozenset[str]
    absorbed: set[str] = field(default_factory=set)

    def blob(self, name: str) -> Blob:
        """A value of the graph as a blob; a constant becomes one by a Parameter layer."""
        value = self.values[name]
        _need_float(value)
        if name not in self.net.values:
            shape = static(value)
            made = Blob(shape)  # its maker was refused
            if value.constant is not None:
                weight = Weight("param", shape, value.constant.array)
                (made,) = self.net.add("Parameter", [], [shape], {"parameter_param": {"shape": {"dim": list(shape)}}}, [weight])
            self.net.values[name] = made
        return self.net.values[name]


class Op:
    """What an operator's function gets. Layers are made with `layer` and what is built on it; `put` says which blob is the result."""

    def __init__(self, context: Context, node: Node, number: int) -> None:
        self.context = context
        self.node = node
        self.number = number
        self.last = node
        self.version = node.version
        context.net.scopes[number] = node.name or node.outputs[0]

    # ---- what goes in ------------------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def used(self, index: int) -> bool:
        """Whether anything needs the output."""
        name = self.node.outputs[index] if index < len(self.node.outputs) else ""
        return bool(name) and (name in self.context.outputs or name in self.context.readers)

    def constant(self, index: int) -> Constant | None:
        """An input whose values are known."""
        return self.context.values[self.node.inputs[index]].constant if self.has(index) else None

    def array(self, index: int, what: str = "") -> NDArray[Any]:
        """The values of an input, which has to be constant. Reads them."""
        constant = self.constant(index)
        if constant is None:
            raise Refused(f"its {what or 'second input'} is computed while the network runs")
        return constant.array()

    def number_at(self, index: int) -> float | None:
        """The one number that all elements of a constant input are."""
        constant = self.constant(index)
        return uniform(constant.array()) if constant is not None else None

    def blob(self, index: int) -> Blob:
        """An input as a blob."""
        return self.context.blob(self.node.inputs[index])

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.node.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, index: int, name: str) -> list[int] | None:
        """Integers that are an input in later opsets and an attribute in earlier ones."""
        if name in self.node.attributes:
            return [int(n) for n in self.node.attributes[name]]
        return [int(n) for n in self.array(index, name).reshape(-1)] if self.has(index) else None

    def shape(self, index: int = 0) -> Shape:
        """The shape of an output."""
        return static(self.context.values[self.last.outputs[index]])

    # ---- what comes out -----------------------------------------------------------------------------------------------------

    def put(self, blob: Blob, index: int = 0) -> None:
        """Say which blob is an output."""
        self.context.net.values[self.last.outputs[index]] = blob

    def next(self) -> Node | None:
        """The node that reads the result, if it is the only one, and nothing else needs the result."""
        name = self.last.outputs[0]
        readers = self.context.readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self.context.outputs else None

    def absorb(self, node: Node) -> None:
        """Make `node` part of what this operator is written as: its result is now this one's."""
        self.last = node
        self.context.absorbed.add(node.outputs[0])
        self.context.net.scopes[self.number] = node.name or node.outputs[0]

    def layer(
        self,
        kind: str,
        bottoms: Sequence[Blob],
        shape: Sequence[int],
        parameters: Parameters | None = None,
        weights: Sequence[Weight] = (),
        *,
        main: bool = False,
    ) -> Blob:
        """A layer with one top. `main`: it bears the node's name, not the last layer that is made for the node."""
        return self.layers(kind, bottoms, [tuple(shape)], parameters, weights, main=main)[0]

    def layers(
        self,
        kind: str,
        bottoms: Sequence[Blob],
        shapes: Sequence[Shape],
        parameters: Parameters | None = None,
        weights: Sequence[Weight] = (),
        *,
        main: bool = False,
    ) -> list[Blob]:
        """A layer with several tops."""
        return self.context.net.add(kind, bottoms, shapes, parameters, weights, scope=self.number, main=main)

    # ---- what many operators need -------------------------------------------------------------------------------------------

    def reshape(self, x: Blob, shape: Sequence[int]) -> Blob:
        """`x` in another shape; `x` itself, or what it was reshaped from, where that has the shape."""
        shape = tuple(shape)
        while x.shape != shape and x.maker is not None and x.maker.kind in ("Reshape", "Flatten"):
            x = x.maker.bottoms[0]
        if x.shape == shape:
            return x
        if x.rank > 1 and shape == (x.shape[0], math.prod(x.shape[1:])):
            return self.layer("Flatten", [x], shape)
        return self.layer("Reshape", [x], shape, {"reshape_param": {"shape": {"dim": list(shape)}}})

    def power(self, x: Blob, *, power: float = 1.0, scale: float = 1.0, shift: float = 0.0) -> Blob:
        """(shift + scale · x) ^ power."""
        said = {"power": (power, 1.0), "scale": (scale, 1.0), "shift": (shift, 0.0)}
        stated = {name: float(number) for name, (number, usual) in said.items() if number != usual}
        return self.layer("Power", [x], x.shape, {"power_param": stated}) if stated else x

    def cut(self, x: Blob, axis: int, start: int, stop: int) -> Blob:
        """Positions `start` to `stop` - 1 along `axis`; the rest goes into a Silence layer."""
        size = x.shape[axis]
        points = [p for p in (start, stop) if 0 < p < size]
        if not points:
            return x
        bounds = [0, *points, size]
        parts = self.parts(x, axis, [b - a for a, b in itertools.pairwise(bounds)])
        return parts[1 if start else 0]

    def parts(self, x: Blob, axis: int, sizes: Sequence[int]) -> list[Blob]:
        """`x` cut along `axis` into parts of these sizes."""
        if len(sizes) == 1:
            return [x]
        points = [sum(sizes[:i]) for i in range(1, len(sizes))]
        parameters = {"axis": axis} | {"slice_point": points}
        shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
        return self.layers("Slice", [x], shapes, {"slice_param": parameters})

    def concat(self, parts: Sequence[Blob], axis: int) -> Blob:
        """The parts one after the other along `axis`."""
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        return self.layer("Concat", parts, shape, {"concat_param": {"axis": axis}})

    def scale(self, x: Blob, axis: int, weight: NDArray[Any], bias: NDArray[Any] | None = None, *, main: bool = False) -> Blob:
        """`x` times a factor, plus a bias, which both lie over the axes from `axis` on. Values in float64 are rounded once."""
        parameters: dict[str, Any] = {} if axis == 1 else {"axis": axis}
        parameters |= {} if weight.ndim == 1 else {"num_axes": weight.ndim}
        weights = [Weight("weight", weight.shape, lambda: weight)]
        if bias is not None:
            parameters["bias_term"] = True
            weights.append(Weight("bias", bias.shape, lambda: bias))
        return self.layer("Scale", [x], x.shape, {"scale_param": parameters} if parameters else {}, weights, main=main)

    def weight(
        self, role: str, constant: Constant, shape: Sequence[int], change: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> Weight:
        """A constant as weights, changed when they are written."""
        load = constant.array
        return Weight(role, tuple(shape), load if change is None else lambda: change(load()))

    def expand(self, x: Blob, shape: Sequence[int]) -> Blob:
        """`x` repeated along axes of size one, as broadcasting does it."""
        x = self.reshape(x, (*[1] * (len(shape) - x.rank), *x.shape))
        for axis, size in enumerate(shape):
            if x.shape[axis] != size:
                grown = (*x.shape[:axis], size, *x.shape[axis + 1 :])
                x = self.layer("Tile", [x], grown, {"tile_param": {"axis": axis, "tiles": size}})
        return x


def uniform(array: NDArray[Any]) -> float | None:
    """The number that all elements are; None where they differ."""
    first = array.reshape(-1)[:1]
    return float(first[0]) if first.size and bool((array == first).all()) else None


def covered(shape: Shape, small: Shape) -> tuple[int, Shape]:
    """The axes of `shape` that `small`, broadcast to it, has to lie over: the first, and their sizes."""
    padded = (*[1] * (len(shape) - len(small)), *small)
    places = [i for i, n in enumerate(padded) if n != 1]
    if not places:
        return 0, ()
    return places[0], tuple(shape[places[0] : places[-1] + 1])


def laid_over(array: NDArray[Any], shape: Shape) -> tuple[int, NDArray[Any]]:
    """A constant that is broadcast to `shape`, as one over a run of its axes: the first, and the values. float64."""
    import numpy as np

    axis, over = covered(shape, array.shape)
    padded = np.asarray(array, np.float64).reshape((1,) * (len(shape) - array.ndim) + array.shape)
    inner = padded.reshape(padded.shape[axis : axis + len(over)])
    return axis, np.array(np.broadcast_to(inner, over))


def static(value: Value) -> Shape:
    """The shape of a value, all of which has to be known."""
    if value.static is None:
        known = "not known" if value.shape is None else f"{list(value.shape)}"
        raise Refused(f"the shape of '{value.name}' is {known}, and Caffe's blobs have numbers")
    return value.static


def _need_float(value: Value) -> None:
    if value.dtype != "float32":
        raise Refused(f"'{value.name}' is {value.dtype or 'of an unknown type'}, and Caffe computes in float32")
