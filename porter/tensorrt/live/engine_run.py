"""An engine run on a GPU, so that what it makes can be laid beside what the network says. CUDA's runtime is called by ctypes.

Written for TensorRT 8.6 to 11 and CUDA 11 to 13 from their documentation; without a GPU there is nothing to run.
Source: CUDA Runtime API (cudaGetDeviceCount, cudaMalloc, cudaMemcpy, cudaDeviceSynchronize); NvInferRuntime.h, v11.1 (IExecutionContext).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from porter.errors import TensorRTError
from porter.tensorrt.live import engine
from porter.tensorrt.package import Package

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TO_DEVICE, _TO_HOST = 1, 2
"""Members of cudaMemcpyKind."""


@cache
def _runtime() -> Any:
    """CUDA's runtime library, or None."""
    import ctypes

    for name in ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@cache
def device() -> str | None:
    """The CUDA runtime that sees a GPU, in words; None where there is no runtime, or no GPU."""
    import ctypes

    library, count = _runtime(), ctypes.c_int()
    if library is None or library.cudaGetDeviceCount(ctypes.byref(count)) != 0 or count.value < 1:
        return None
    return f"{count.value} GPU{'s' if count.value > 1 else ''}"


def plan(package: Package, builder: Any, definition: Any, feeds: Mapping[str, NDArray[Any]]) -> memoryview:
    """The engine for exactly the shapes of `feeds`. Takes long for large networks."""
    opened = [name for name, array in feeds.items() if -1 in tuple(_input(definition, name).shape) and array.ndim]
    return engine.serialized(package, builder, definition, {name: (feeds[name].shape,) * 3 for name in opened}, None)


def _input(definition: Any, name: str) -> Any:
    return next(t for t in (definition.get_input(i) for i in range(definition.num_inputs)) if t.name == name)


def run(package: Package, plan: memoryview, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """What the engine makes of `feeds`, on the current device and its default stream.

    Raises:
        TensorRTError: CUDA or TensorRT refuses.
    """
    import numpy as np

    runtime = package.module.Runtime(package.logger)
    loaded = runtime.deserialize_cuda_engine(plan)
    context = loaded.create_execution_context() if loaded is not None else None
    if context is None:
        raise TensorRTError("T344", f"{package} cannot load the engine: {'; '.join(package.log.errors()[:3]) or 'it does not say why'}")
    buffers: list[Any] = []
    try:
        for name, array in feeds.items():
            array = np.ascontiguousarray(array)
            context.set_input_shape(name, array.shape)
            buffers.append(_allocated(array.nbytes))
            _call("cudaMemcpy", buffers[-1], array.ctypes.data, array.nbytes, _TO_DEVICE)
            context.set_tensor_address(name, buffers[-1].value)
        made = {}
        for name in outputs:
            shape = tuple(context.get_tensor_shape(name))
            if -1 in shape:
                raise TensorRTError("T344", f"the size of '{name}' is known only when the engine runs", hint="leave it out: '--no-gpu'")
            made[name] = np.empty(shape, package.module.nptype(loaded.get_tensor_dtype(name)))
            buffers.append(_allocated(made[name].nbytes))
            context.set_tensor_address(name, buffers[-1].value)
        if not context.execute_async_v3(0):
            raise TensorRTError("T344", f"{package} cannot run the engine: {'; '.join(package.log.errors()[:3]) or 'it does not say why'}")
        _call("cudaDeviceSynchronize")
        for array, buffer in zip(made.values(), buffers[len(feeds) :], strict=True):
            _call("cudaMemcpy", array.ctypes.data, buffer, array.nbytes, _TO_HOST)
        return made
    finally:
        for buffer in buffers:
            _runtime().cudaFree(buffer)


def _allocated(size: int) -> Any:
    import ctypes

    pointer = ctypes.c_void_p()
    _call("cudaMalloc", ctypes.byref(pointer), max(size, 1))
    return pointer


def _call(name: str, *arguments: Any) -> None:
    import ctypes

    function = getattr(_runtime(), name)
    # Without types ctypes cuts addresses and sizes to 32 bits.
    converted = [a if not isinstance(a, int) or isinstance(a, bool) else ctypes.c_size_t(a) for a in arguments]
    if name == "cudaMemcpy":
        converted[3] = ctypes.c_int(arguments[3])
    status = function(*converted)
    if status != 0:
        words = _runtime().cudaGetErrorString
        words.restype = ctypes.c_char_p
        raise TensorRTError("T344", f"{name} failed: {words(status).decode()} ({status})")
