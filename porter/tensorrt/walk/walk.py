"""A live network read back: every layer, setting and weight through TensorRT's API alone, whoever built it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from porter.tensorrt.layers import Input, Layer, Network, Unknown
from porter.tensorrt.package import Package, dims
from porter.tensorrt.walk.layers import Reading, operation


def read(definition: Any, package: Package, *, copy: bool = True) -> Network:
    """The records of an `INetworkDefinition`, its layers in an order in which they can run.

    copy: whether weights are copied; else they are views of what TensorRT was given, valid as long as whoever built the network keeps
    that. Weights are called `LAYER.ROLE`. What porter cannot read is `Unknown`; names that are empty or not unique are changed. Both
    are in the notices.
    """
    walk = _Walk(definition, package, copy)
    inputs = tuple([Input(walk.name(t), walk.dtypes[walk.name(t)], walk.shapes.get(walk.name(t), ())) for t in walk.inputs])
    layers = tuple([walk.layer(number) for number in walk.order()])
    outputs = tuple([walk.name(definition.get_output(i)) for i in range(definition.num_outputs)])
    unknown = [(layer.name, layer.operation.kind) for layer in layers if isinstance(layer.operation, Unknown)]
    notices = [*walk.notices, *[f"'{name}' is a layer that cannot be read: {kind}" for name, kind in unknown]]
    values = {name: name for name in walk.shapes}
    return Network(inputs, layers, outputs, values, walk.shapes, walk.dtypes, tuple(notices))


class _Walk:
    """The layers and the tensors of a network, with names that are unique."""

    def __init__(self, definition: Any, package: Package, copy: bool) -> None:
        self.package = package
        self.copy = copy
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.notices: list[str] = []
        self.inputs = [definition.get_input(i) for i in range(definition.num_inputs)]
        self.layers = [definition.get_layer(i) for i in range(definition.num_layers)]
        self.names = self._named([layer.name for layer in self.layers], "layer")
        made = [layer.get_output(i) for layer in self.layers for i in range(layer.num_outputs)]
        # Two objects of Python are one tensor's if they are one, since these stay alive.
        self._tensors = [tensor for tensor in [*self.inputs, *made] if tensor is not None]
        names = self._named([tensor.name for tensor in self._tensors], "tensor")
        self._names = {id(tensor): name for tensor, name in zip(self._tensors, names, strict=True)}
        for tensor in self._tensors:
            self.dtypes[self.name(tensor)] = package.dtype_name(tensor.dtype)
            shape = dims(tensor, "shape")
            if shape is not None:
                self.shapes[self.name(tensor)] = shape

    def _named(self, names: list[str], what: str) -> list[str]:
        """The names, unique; what had to be called otherwise is noted."""
        found = unique(names)
        changed = [(old, new) for old, new in zip(names, found, strict=True) if old != new]
        self.notices += [
            f"a {what} is called '{new}' here, since its name is {f'taken: {old}' if old else 'empty'}" for old, new in changed
        ]
        return found

    def name(self, tensor: Any) -> str:
        """The name of a tensor; "" for None."""
        return self._names[id(tensor)] if tensor is not None else ""

    def layer(self, number: int) -> Layer:
        """One layer as a record."""
        layer, name = self.layers[number], self.names[number]
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        made, count = operation(Reading(self.package, name, layer, inputs, outputs, self.copy))
        return Layer(name, made, tuple(map(self.name, inputs[:count])), tuple(map(self.name, outputs)))

    def order(self) -> Iterator[int]:
        """Numbers of the layers, each after those that make its inputs; as they were added where nothing speaks against it."""
        maker = {id(layer.get_output(i)): n for n, layer in enumerate(self.layers) for i in range(layer.num_outputs)}
        done: set[int] = set()
        for first in range(len(self.layers)):
            waiting = [first]
            while waiting:
                number = waiting[-1]
                needs = [maker.get(id(t)) for t in map(self.layers[number].get_input, range(self.layers[number].num_inputs))]
                missing = [n for n in needs if n is not None and n not in done and n not in waiting]  # a loop waits for itself
                if missing:
                    waiting.append(missing[0])
                    continue
                waiting.pop()
                if number not in done:
                    done.add(number)
                    yield number


def unique(names: Sequence[str]) -> list[str]:
    """The names, none of them empty and each of them once: with a number where they were given before. TensorRT allowed both until 10."""
    found: dict[str, None] = {}
    for given in names:
        name, number = given or "unnamed", 1
        while name in found:
            number += 1
            name = f"{given or 'unnamed'}#{number}"
        found[name] = None
    return list(found)
