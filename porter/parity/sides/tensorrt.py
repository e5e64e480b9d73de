"""A network that a function builds with TensorRT as a side of a comparison: read back through TensorRT's API, said as ONNX, run.

So it needs no GPU, and shows nothing of the kernels that TensorRT will choose on one: see `porter.tensorrt.checking.values`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from porter.formats.registry import open_store
from porter.parity.side import Step
from porter.parity.sides.model import ModelSide
from porter.tensor import Json, Tensor
from porter.tensorrt.checking.values import settings
from porter.tensorrt.expression.express import express
from porter.tensorrt.expression.table import TABLE
from porter.tensorrt.hand_built import HandBuilt, build_with
from porter.tensorrt.layers import Constant, Layer, Network, weights_of
from porter.tensorrt.package import Package, find
from porter.tensorrt.walk.walk import read


class TensorRTSide(ModelSide):
    """A network of TensorRT. Its values are called as its tensors."""

    kind = "tensorrt"

    def __init__(self, label: str, network: Network, notices: list[str], stack: ExitStack, made: HandBuilt, package: Package) -> None:
        self._made = made
        self._package = package
        held = {name for layer in network.layers if isinstance(layer.operation, Constant) for name in layer.outputs}
        steps = [_step(layer, held) for layer in network.layers if not isinstance(layer.operation, Constant)]
        aliases = {v: (s.name,) for s in steps if len(s.outputs) == 1 for v in s.outputs if s.name != v}
        super().__init__(label, express(network), steps, aliases=aliases, notices=notices, stack=stack)
        self._tensors = {f"{layer.name}.{role}": w.tensor for layer in network.layers for role, w in weights_of(layer.operation).items()}

    def weight(self, name: str) -> Tensor | None:
        return self._tensors.get(name)


def _step(layer: Layer, held: set[str]) -> Step:
    weights = [f"{layer.name}.{role}" for role in weights_of(layer.operation)]
    inputs = tuple(dict.fromkeys(name for name in layer.inputs if name and name not in held))
    found: dict[str, Json] = {name: value for name, value in settings(layer).items() if isinstance(value, bool | int | float | str | list)}
    return Step(layer.name, TABLE[type(layer.operation)].type, inputs, layer.outputs, found, tuple(weights))


def open_side(label: str, function: Callable[..., Any], path: str, weights: str | None, side: type[TensorRTSide]) -> TensorRTSide:
    """What `function`, out of the file at `path`, builds of the weights in the file `weights`. side: what runs it.

    Raises:
        PorterError: TensorRT is not there, a file is broken, or the function builds no network that can be said as ONNX.
    """
    package = find()
    with ExitStack() as stack:
        arrays = {}
        if weights is not None:
            arrays = {name: tensor.numpy() for name, tensor in stack.enter_context(open_store(weights)).items()}
        made = build_with(function, path, package, arrays)
        # TensorRT only refers to the values: they live as long as the side does.
        stack.callback(lambda kept: None, arrays)
        network = read(made.definition, package, copy=False)
        notices = [f"'{path}' was run, and built a network with {package}", *network.notices]
        return side(label, network, notices, stack.pop_all(), made, package)
