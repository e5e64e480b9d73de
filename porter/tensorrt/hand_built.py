"""Networks that a user builds by hand in Python, and how they are laid beside the original.

The file defines a function of one or two arguments. It is given an empty network of TensorRT, and the weights where it takes them:

    import tensorrt as trt

    def build(network, weights):
        x = network.add_input("data", trt.float32, (1, 3, 224, 224))
        conv1 = network.add_convolution_nd(x, 64, (7, 7), weights["conv1.weight"], weights["conv1.bias"])
        ...
        network.mark_output(y)

`weights` is a dictionary of numpy arrays: those of `--wts`, else those of the original's file, by their names there. They are kept until
porter is done. What the function itself makes for TensorRT (arrays, `trt.Weights`) has to stay alive as well: it may return it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.errors import TensorRTError
from porter.graph.user_code import named, running
from porter.tensorrt.layers import Network, agree
from porter.tensorrt.package import Package

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class HandBuilt:
    """A network that was built. definition: TensorRT's. builder: it has to live as long. kept: what the function returned."""

    definition: Any
    builder: Any
    kept: Any


@dataclass(frozen=True, slots=True)
class Matching:
    """Which of the original's values a network's tensors hold. inputs: for each of the network's the original's. by_order: matched so."""

    values: Mapping[str, str]
    inputs: Mapping[str, str]
    by_order: tuple[str, ...]


def build(where: str, package: Package, weights: Mapping[str, NDArray[Any]]) -> HandBuilt:
    """Run the function that `FILE.py:FUNCTION` names on an empty network.

    Raises:
        FileAccessError: the file cannot be read.
        TensorRTError: it is no Python, it has no such function, or the function builds no network.
    """
    path, colon, name = where.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise TensorRTError("T343", f"'{where}' names no function", path=path or where, hint="write it as my_net.py:build")
    return build_with(named(path, name, partial(TensorRTError, "T343")), path, package, weights)


def build_with(function: Callable[..., Any], path: str, package: Package, weights: Mapping[str, NDArray[Any]]) -> HandBuilt:
    """The same for a function out of the file at `path`.

    Raises:
        TensorRTError: the function builds no network.
    """
    name = getattr(function, "__name__", "it")
    builder = package.module.Builder(package.logger)
    definition = builder.create_network(package.creation_flags)
    package.log.clear()

    def refuse(message: str, **place: Any) -> TensorRTError:
        return TensorRTError("T343", "; ".join([message, *package.log.errors()[:2]]), **place)

    with running(path, f"'{name}' failed", refuse):
        kept = function(definition, dict(weights)) if _takes_weights(function) else function(definition)
    errors = package.log.errors()
    if errors or not definition.num_layers or not definition.num_outputs:
        what = "; ".join(errors[:3]) or f"{definition.num_layers} layers, {definition.num_outputs} outputs"
        raise TensorRTError("T343", f"'{name}' built no network: {what}", path=path, hint="add layers to it and mark its outputs")
    return HandBuilt(definition, builder, kept)


def _takes_weights(function: Any) -> bool:
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len([p for p in inspect.signature(function).parameters.values() if p.kind in kinds]) > 1


def match(original: ir.Model, network: Network) -> Matching:
    """Lay a network beside the original: inputs and outputs by name, or else in their order; what lies between by name.

    Raises:
        TensorRTError: there are other inputs or outputs, or their shapes do not agree.
    """
    theirs = [(v.name or "", _sizes(v)) for v in original.graph.inputs if v.name not in original.graph.initializers]
    inputs = _side_by_side("input", theirs, [(i.name, i.shape) for i in network.inputs])
    made = [(v.name or "", _sizes(v)) for v in original.graph.outputs]
    outputs = _side_by_side("output", made, [(name, network.shapes.get(name)) for name in network.outputs])
    between = {name: name for layer in network.layers for name in layer.outputs if name not in network.outputs}
    by_order = [f"'{a}' as '{b}'" for pairs in (inputs, outputs) for b, a in pairs.items() if a != b]
    return Matching(between | {value: tensor for tensor, value in outputs.items()}, inputs, tuple(by_order))


def _side_by_side(
    what: str, theirs: list[tuple[str, tuple[int, ...] | None]], ours: list[tuple[str, tuple[int, ...] | None]]
) -> dict[str, str]:
    """For each of `ours` the one of `theirs`: the one that is called the same, or, where none is, the one in its place."""
    if len(theirs) != len(ours):
        wanted, found = (", ".join(name for name, _ in side) for side in (theirs, ours))
        raise TensorRTError("T342", f"the original has {len(theirs)} {what}s ({wanted}), and the network {len(ours)} ({found})")
    if {name for name, _ in theirs} == {name for name, _ in ours}:
        shapes = dict(theirs)
        theirs = [(name, shapes[name]) for name, _ in ours]
    for (a, shape), (b, other) in zip(theirs, ours, strict=True):
        if shape is not None and other is not None and not agree(shape, other):
            hint = f"call the {what}s as the original does, or put them in its order"
            raise TensorRTError("T342", f"{what} '{b}' has the shape {list(other)}, and the original's '{a}' {list(shape)}", hint=hint)
    return {b: a for (a, _), (b, _) in zip(theirs, ours, strict=True)}


def _sizes(value: ir.Value) -> tuple[int, ...] | None:
    return None if value.shape is None else tuple([n if isinstance(n, int) else -1 for n in value.shape])
