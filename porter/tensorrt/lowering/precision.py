"""A network in a lower precision: weights of that type, rounded once, and casts behind the inputs and before the outputs.

TensorRT computes in the types that its tensors have, so this is all that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

from porter.dataclass import replace
from porter.tensorrt import layers
from porter.tensorrt.layers import Layer, Network, Operation
from porter.tensorrt.lowering.naming import Names
from porter.tensorrt.lowering.weight_casts import WIDE, WeightCasts


def narrowed(network: Network, dtype: str) -> Network:
    """`network` computing in `dtype`, float16 or bfloat16; its inputs and outputs stay as they are. Reads all weights.

    What rounding does to the weights is counted in `notices`.
    """
    narrowing = _Narrowing(network, dtype)
    for given in network.inputs:
        if given.dtype == WIDE:
            narrowing.enter(given.name)
    outputs = [name for name in network.outputs if network.dtypes[name] == WIDE]
    for name in outputs:
        narrowing.rename(name)
    for layer in network.layers:
        narrowing.layer(layer)
    for name in outputs:
        narrowing.leave(name)
    return narrowing.result()


class _Narrowing:
    """The narrower network while it is made."""

    def __init__(self, network: Network, dtype: str) -> None:
        self.network = network
        self.dtype = dtype
        self.layers: list[Layer] = []
        self.shapes = dict(network.shapes)
        self.dtypes = dict(network.dtypes)
        self.tensors = Names()
        self.names = Names()
        self.inner: dict[str, str] = {}
        self.casts = WeightCasts()
        # Thresholds of a suppression are float32 whatever the boxes are.
        self.wide = {i for la in network.layers if isinstance(la.operation, layers.NonMaximumSuppression) for i in la.inputs[3:]}
        for name in network.shapes:
            self.tensors.reserve(name)
        for layer in network.layers:
            self.names.reserve(layer.name)

    def rename(self, name: str) -> str:
        """The tensor in the narrower type that stands for `name` within the network."""
        self.inner[name] = self.tensors.take(f"{name}/{self.dtype}")
        self.shapes[self.inner[name]] = self.shapes[name]
        self.dtypes[self.inner[name]] = self.dtype
        return self.inner[name]

    def enter(self, name: str) -> None:
        """A cast behind an input."""
        inner = self.rename(name)
        self.layers.append(Layer(self.names.take(inner), layers.Cast(self.dtype), (name,), (inner,)))

    def leave(self, name: str) -> None:
        """A cast before an output."""
        self.layers.append(Layer(self.names.take(f"{name}/{WIDE}"), layers.Cast(WIDE), (self.inner[name],), (name,)))

    def layer(self, layer: Layer) -> None:
        """A layer with narrower weights, settings and tensors."""
        operation = layer.operation
        if self.wide.isdisjoint(layer.outputs):
            operation = self._operation(operation)
            for name in layer.outputs:
                if self.dtypes[name] == WIDE and name not in self.inner:
                    self.dtypes[name] = self.dtype
        inputs = tuple([self.inner.get(i, i) for i in layer.inputs])
        outputs = tuple([self.inner.get(o, o) for o in layer.outputs])
        self.layers.append(Layer(layer.name, operation, inputs, outputs))

    def _operation(self, operation: Operation) -> Operation:
        if isinstance(operation, layers.Cast | layers.Dequantize):
            return replace(operation, dtype=self.dtype) if operation.dtype == WIDE else operation
        return self.casts.operation(operation, self.dtype)

    def result(self) -> Network:
        """The network."""
        return replace(
            self.network,
            layers=tuple(self.layers),
            shapes=self.shapes,
            dtypes=self.dtypes,
            notices=(*self.network.notices, *self._notices()),
        )

    def _notices(self) -> Iterator[str]:
        yield f"the network computes in {self.dtype}: {self.casts.inexact} values of its weights were rounded"
        yield from self.casts.losses()
