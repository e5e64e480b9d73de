"""A network with the values of its weights out of another file, by their names."""

from __future__ import annotations

from porter.dataclass import replace
from porter.errors import TensorRTError
from porter.store import TensorStore
from porter.tensor import Tensor
from porter.tensorrt.layers import BatchNorm, Constant, Convolution, Deconvolution, Layer, Network, Operation, Scale, Weights, stored
from porter.tensorrt.lowering.batch_norm import scale_and_shift


def with_values(network: Network, file: TensorStore) -> Network:
    """`network` with the weights that the graph takes from its file replaced by those that `file` has under the names of `stored`.

    Constants of the graph itself are replaced where the file has them. What a batch normalisation comes to is computed anew.

    Raises:
        TensorRTError: weights are missing, have another number of values or another type, or the file has some that nothing needs.
    """
    held = stored(network)
    missing = [name for name, weights in held.items() if name not in file and weights.formula != "constant"]
    if missing:
        hint = f"the file has {_few(list(file)) or 'none'}; 'porter port --to tensorrt-cpp' writes one with the right names"
        raise TensorRTError("T203", f"the file has no values for {_few(missing)}", hint=hint)
    unused = [name for name in file if name not in held]
    if unused:
        raise TensorRTError("T204", f"the network has no weights that are called {_few(unused)}", hint=f"it has {_few(list(held))}")
    values = {name: _fitting(weights, file[name]) for name, weights in held.items() if name in file}
    return replace(network, layers=tuple([_layer(layer, values) for layer in network.layers]))


def has_codes(file: TensorStore | None) -> bool:
    """Whether quantised weights can be taken from a file as they are: it holds int8, as the file that `tensorrt-cpp` writes does not.

    True for None: they stay where they are.
    """
    return file is None or any(tensor.dtype.name == "int8" for tensor in file.values())


def _few(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _fitting(weights: Weights, given: Tensor) -> Weights:
    """The file's values in the shape that the layer needs: a file of this kind need not know shapes."""
    old = weights.tensor
    if given.size != old.size or given.dtype != old.dtype:
        what = f"{given.size:,} values of {given.dtype} in the file, and {old.size:,} of {old.dtype} {list(old.shape)} in the network"
        raise TensorRTError("T205", what, tensor=old.name)
    return replace(weights, tensor=given.with_spec(shape=old.shape, axes=None, role=old.role), sources=(given.name,), formula=None)


def _layer(layer: Layer, values: dict[str, Weights]) -> Layer:
    return replace(layer, operation=_operation(layer.operation, values))


def _operation(operation: Operation, values: dict[str, Weights]) -> Operation:
    def new(weights: Weights) -> Weights:
        return values.get(weights.tensor.name, weights)

    def optional(weights: Weights | None) -> Weights | None:
        return None if weights is None else new(weights)

    if isinstance(operation, Convolution | Deconvolution):
        kernel = operation.kernel
        return replace(operation, kernel=new(kernel) if isinstance(kernel, Weights) else kernel, bias=optional(operation.bias))
    if isinstance(operation, Constant):
        return replace(operation, weights=new(operation.weights))
    if not isinstance(operation, Scale):
        return operation
    old = operation.batch_norm
    if old is None or operation.scale is None:
        return replace(operation, shift=optional(operation.shift), scale=optional(operation.scale), power=optional(operation.power))
    norm = BatchNorm(new(old.weight), new(old.bias), new(old.mean), new(old.variance), old.epsilon)
    tensor = operation.scale.tensor
    scale, shift = scale_and_shift(norm, tensor.name.removesuffix(".scale"), tensor.dtype.name)
    return replace(operation, scale=scale, shift=shift, batch_norm=norm)
