"""A network in a lower precision: weights of that type, rounded once, and casts behind the inputs and before the outputs.

TensorRT computes in the types that its tensors have, so this is all that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.dataclass import replace
from porter.dtypes import DTYPES, DType
from porter.mapping.ops.rounding import Rounding, rounded, widened
from porter.tensor import BytesPayload, Tensor, TensorSpec, canonical_bytes
from porter.tensorrt import layers
from porter.tensorrt.layers import Layer, Network, Operation, Weights, weights_of
from porter.tensorrt.lowering.batch_norm import rounding, scale_and_shift
from porter.tensorrt.lowering.naming import Names

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDE = "float32"
"""What is narrowed. What has another type keeps it."""


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
        self.roundings: dict[str, Rounding] = {}
        self._cast: dict[str, Weights] = {}
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
        if isinstance(operation, layers.Scale) and operation.batch_norm is not None and operation.scale is not None:
            return self._batch_norm(operation, operation.batch_norm, operation.scale)
        changed = {role: self._weights(w) for role, w in weights_of(operation).items() if w.tensor.dtype.name == WIDE}
        if not changed:
            return operation
        made: Operation = replace(operation, **changed)
        return made

    def _batch_norm(self, operation: layers.Scale, norm: layers.BatchNorm, scale: Weights) -> layers.Scale:
        """Computed from what it was computed from, so that it is rounded once."""
        if scale.tensor.dtype.name != WIDE:
            return operation
        prefix = scale.tensor.name.removesuffix(".scale")
        for part in ("scale", "shift"):
            self.roundings[f"{prefix}.{part}"] = rounding(norm, part, self.dtype)
        new_scale, new_shift = scale_and_shift(norm, prefix, self.dtype)
        return replace(operation, scale=new_scale, shift=new_shift)

    def _weights(self, weights: Weights) -> Weights:
        name = weights.tensor.name
        if name not in self._cast:
            payload = _Cast(weights.tensor, DTYPES[self.dtype])
            self.roundings[name] = payload.rounded()[1]
            tensor = Tensor(TensorSpec(name, DTYPES[self.dtype], weights.tensor.shape), payload)
            self._cast[name] = Weights(tensor, weights.sources, "cast" if weights.formula is None else f"{weights.formula}, cast")
        return self._cast[name]

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
        total = sum(self.roundings.values(), Rounding())
        yield f"the network computes in {self.dtype}: {total.inexact} values of its weights were rounded"
        for name, found in self.roundings.items():
            if found.overflowed:
                yield f"{name}: {found.overflowed} values are too large for {self.dtype} and became infinite"
            if found.underflowed:
                yield f"{name}: {found.underflowed} values are too small for {self.dtype} and became zero"


class _Cast:
    """The bytes of a tensor in another type, computed for whoever asks."""

    location = None

    def __init__(self, tensor: Tensor, dtype: DType) -> None:
        self._tensor = tensor
        self._dtype = dtype
        self.nbytes = dtype.nbytes(tensor.size)

    def rounded(self) -> tuple[NDArray[Any], Rounding]:
        """The values, and what rounding changed. Reads the tensor."""
        return rounded(widened(self._tensor.numpy(), self._tensor.dtype), self._dtype)

    def buffer(self) -> memoryview:
        """Reads the tensor."""
        return canonical_bytes(self.rounded()[0], self._dtype).toreadonly()

    def chunks(self, limit: int) -> Iterator[memoryview]:
        """Reads the tensor."""
        return BytesPayload(self.buffer()).chunks(limit)
