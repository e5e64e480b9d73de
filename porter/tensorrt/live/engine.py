"""The engine of a live network: profiles of open sizes, and the plan that TensorRT makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from porter.errors import TensorRTError
from porter.tensorrt.layers import Network
from porter.tensorrt.package import Package

Profiles = Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]]
"""For each input with open sizes: the smallest shape, the one to optimise for, and the largest."""


def checked(network: Network, profiles: Profiles) -> Profiles:
    """The profiles, if each is of an input, of its rank, keeps its sizes and grows from the smallest to the largest.

    Raises:
        TensorRTError: naming the input.
    """
    inputs = {given.name: given.shape for given in network.inputs}
    for name, shapes in profiles.items():
        if name not in inputs:
            raise TensorRTError("T105", f"a profile for '{name}', which is no input", hint=f"inputs: {', '.join(inputs)}")
        said = " ".join("x".join(map(str, shape)) for shape in shapes)
        if any(len(shape) != len(inputs[name]) for shape in shapes):
            raise TensorRTError("T105", f"the profile {said} of '{name}' needs {len(inputs[name])} sizes a shape")
        for size, *sizes in zip(inputs[name], *shapes, strict=True):
            if not 0 <= sizes[0] <= sizes[1] <= sizes[2] or (size != -1 and {*sizes} != {size}):
                shape = "x".join("?" if n == -1 else str(n) for n in inputs[name])
                raise TensorRTError("T105", f"the profile {said} of '{name}' does not fit its shape {shape}, or does not grow")
    return dict(profiles)


def serialized(package: Package, builder: Any, definition: Any, profiles: Profiles, optimization_level: int | None) -> memoryview:
    """The plan. Takes long for large networks.

    Raises:
        TensorRTError: an input has open sizes and no profile, or TensorRT cannot build the engine.
    """
    config = builder.create_builder_config()
    if optimization_level is not None:
        config.builder_optimization_level = optimization_level
    _add_profile(builder, config, definition, profiles)
    package.log.errors()
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        said = "; ".join(package.log.errors()[:3]) or "it does not say why"
        # Source: tensorrt_rtx 1.7, whose builder says so of INMSLayer and INonZeroLayer.
        rtx = "TensorRT for RTX has no kernels for some layers that the whole TensorRT has, box searches among them: pip install tensorrt"
        lacking = package.name == "tensorrt_rtx" and "no runners" in said
        raise TensorRTError("T106", f"{package} cannot build the engine: {said}", hint=rtx if lacking else None)
    return memoryview(plan).cast("B")


def _add_profile(builder: Any, config: Any, definition: Any, profiles: Profiles) -> None:
    """One profile with the shapes of all inputs whose sizes are open."""
    inputs = [definition.get_input(i) for i in range(definition.num_inputs)]
    found = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    for tensor in found:
        if tensor.name not in profiles:
            shapes = ["x".join(str(size if size != -1 else n) for size in tensor.shape) for n in (1, 8, 32)]
            hint = f"state the smallest, the usual and the largest, such as --profile {tensor.name}={','.join(shapes)}"
            raise TensorRTError("T105", f"the input '{tensor.name}' has open sizes, and no profile says between what they lie", hint=hint)
    if found:
        profile = builder.create_optimization_profile()
        for tensor in found:
            profile.set_shape(tensor.name, *[tuple(shape) for shape in profiles[tensor.name]])
        config.add_optimization_profile(profile)
