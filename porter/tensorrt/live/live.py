"""A live network of TensorRT: the real builder's `INetworkDefinition`, made call by call from the records. No GPU is needed."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from porter.errors import TensorRTError
from porter.tensorrt.layers import Layer, Network, Unknown, agree
from porter.tensorrt.live import engine, layer_calls
from porter.tensorrt.live.engine import Profiles
from porter.tensorrt.live.layer_calls import Site
from porter.tensorrt.package import Package, dims


class Live:
    """A network that TensorRT holds.

    network: the `INetworkDefinition`. record: what it was made from. memory: the values of the weights, which TensorRT only refers
    to; they are kept as long as this object or `network` is.
    """

    def __init__(self, package: Package, record: Network, builder: Any, site: Site, profiles: Profiles) -> None:
        self.package = package
        self.record = record
        self.builder = builder
        self.network = site.definition
        self.memory = site.memory
        self.profiles = profiles
        weakref.finalize(self.network, self.memory.clear).atexit = False

    def engine(self, *, optimization_level: int | None = None) -> memoryview:
        """The engine, serialised, as a plan that TensorRT of this version can load. Takes long for large networks.

        optimization_level: from 0, which builds fast, to 5; None for TensorRT's own.

        Raises:
            TensorRTError: TensorRT cannot build it; its own words are in the message.
        """
        return engine.serialized(self.package, self.builder, self.network, self.profiles, optimization_level)


def build(network: Network, package: Package, *, profiles: Profiles | None = None) -> Live:
    """Build the live network. Reads the weights: values that lie in a file as TensorRT wants them are mapped, others are held.

    profiles: needed for inputs with open sizes before an engine is made.

    Raises:
        TensorRTError: the package has no such layer, refuses one, or works out other shapes or types than the records say.
    """
    package.log.clear()
    _check_types(network, package)
    builder = package.module.Builder(package.logger)
    site = Site(package, builder.create_network(package.creation_flags))
    tensors: dict[str, Any] = {}
    for given in network.inputs:
        tensor = site.add("add_input", given.name, package.dtype(given.dtype), given.shape)
        if tensor is None:
            raise _refused(package, f"the input '{given.name}'")
        tensors[given.name] = tensor
    for layer in network.layers:
        _add(site, layer, tensors)
    for name in network.outputs:
        site.add("mark_output", tensors[name])
    if errors := package.log.errors():
        raise _refused(package, "the outputs", errors)
    _check(network, package, tensors)
    return Live(package, network, builder, site, engine.checked(network, profiles or {}))


def _check_types(network: Network, package: Package) -> None:
    """Refuse half precision where the types of tensors do not decide what is computed in."""
    low = {given.dtype for given in network.inputs} | set(network.dtypes.values())
    if not package.is_strongly_typed and low & {"float16", "bfloat16"}:
        hint = "use TensorRT 10 or later, or build in float32"
        raise TensorRTError("T101", f"{package} has no strongly typed networks, which half precision needs", hint=hint)


def _add(site: Site, layer: Layer, tensors: dict[str, Any]) -> None:
    """Add a layer, and name it and what it makes."""
    what = f"the layer '{layer.name}' ({type(layer.operation).__name__})"
    if isinstance(layer.operation, Unknown):
        raise TensorRTError("T102", f"{what} is none that porter can build: {layer.operation.kind}")
    missing = [name for name in layer.inputs if name and name not in tensors]
    if missing:
        raise TensorRTError("T102", f"{what} reads '{missing[0]}', which nothing before it makes")
    try:
        made = layer_calls.add(site, layer.operation, [tensors[name] if name else None for name in layer.inputs])
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, TensorRTError):
            raise TensorRTError(error.code, f"{what}: {error.message}", hint=error.hint) from error
        raise _refused(site.package, what, [" ".join(str(error).split()), *site.package.log.errors()]) from error
    if made is None or made.num_outputs < len(layer.outputs):
        raise _refused(site.package, what)
    made.name = layer.name
    for index, name in enumerate(layer.outputs):
        tensors[name] = made.get_output(index)
        tensors[name].name = name
    # What it is told by a setting, a name among them, TensorRT refuses in its log alone.
    if errors := site.package.log.errors():
        raise _refused(site.package, what, errors)


def _check(network: Network, package: Package, tensors: Mapping[str, Any]) -> None:
    """Compare what TensorRT works out of each tensor with what the records say, in the order of the layers."""
    for layer in network.layers:
        for name in layer.outputs:
            shape = dims(tensors[name], "shape")
            what = f"the layer '{layer.name}' ({type(layer.operation).__name__})"
            if shape is None:
                raise _refused(package, what)
            said = network.shapes.get(name, shape)
            if not agree(said, shape):
                raise TensorRTError("T103", f"{what} makes '{name}' of shape {list(shape)} in TensorRT, and of {list(said)} in the network")
            dtype = package.dtype_name(tensors[name].dtype)
            if network.dtypes.get(name, dtype) != dtype:
                raise TensorRTError(
                    "T104", f"{what} makes '{name}' of type {dtype} in TensorRT, and of {network.dtypes[name]} in the network"
                )


def _refused(package: Package, what: str, errors: list[str] | None = None) -> TensorRTError:
    """What TensorRT will not have, with its own words."""
    said = errors or package.log.errors() or ["it does not say why"]
    return TensorRTError("T102", f"{package} refuses {what}: {'; '.join(said[:3])}")
