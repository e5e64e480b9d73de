"""Convolutions, and where windows go.

Source: onnx/onnx docs/Operators.md (Conv, ConvTranspose); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass, replace
from porter.graph.analysis.windows import halves, same_padding, transposed_total
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op


@dataclass(frozen=True, slots=True)
class Windows:
    """How a window goes over the spatial axes: a number for each of them. sizes: of the input, -1 where open."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    sizes: tuple[int, ...]
    ceil: bool = False

    @property
    def extent(self) -> tuple[int, ...]:
        """How many positions a dilated window covers."""
        return tuple([d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)])

    @property
    def open(self) -> bool:
        """Whether a size is known only when the network runs."""
        return min(self.sizes, default=0) < 0


def windows_of(op: Op, kernel: Sequence[int]) -> Windows:
    """The windows that a node states, `auto_pad` worked out."""
    rank = len(kernel)
    pads = op.attribute("pads") or [0] * (2 * rank)
    if len(pads) != 2 * rank or rank != op.rank(0) - 2:
        raise op.refuse(f"it has {op.rank(0) - 2} spatial axes, {rank} sizes of its window and {len(pads)} pads")
    windows = Windows(
        tuple(kernel),
        tuple(op.attribute("strides") or [1] * rank),
        tuple(op.attribute("dilations") or [1] * rank),
        tuple(pads[:rank]),
        tuple(pads[rank:]),
        op.shape(0)[2:],
        bool(op.attribute("ceil_mode", 0)),
    )
    if min((*windows.kernel, *windows.stride, *windows.dilation), default=1) < 1 or min(pads, default=0) < 0:
        raise op.refuse("a kernel, stride or dilation is less than one, or a pad less than zero")
    return _auto_padded(op, windows)


def _auto_padded(op: Op, windows: Windows) -> Windows:
    auto = op.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return windows
    zeros = (0,) * len(windows.kernel)
    if auto == "VALID":
        return replace(windows, begin=zeros, end=zeros)
    padding = same_padding(auto, [n if n >= 0 else None for n in windows.sizes], windows.extent, windows.stride)
    if padding is None:
        raise op.refuse(f"auto_pad {auto} depends on sizes that are known only when the network runs")
    return replace(windows, begin=padding[0], end=padding[1], ceil=False)


def conv(op: Op) -> None:
    """A convolution with its bias."""
    shape = _kernel_shape(op)
    windows = windows_of(op, op.attribute("kernel_shape") or shape[2:])
    if windows.kernel != shape[2:]:
        raise op.refuse(f"its kernel_shape is {list(windows.kernel)}, and its weights' {list(shape[2:])}")
    _put(op, layers.Convolution, windows)


def conv_transpose(op: Op) -> None:
    """A deconvolution with its bias; `output_padding` is padding that is not cut off."""
    kernel = tuple(op.attribute("kernel_shape") or _kernel_shape(op)[2:])
    rank = len(kernel)
    pads = op.attribute("pads") or [0] * (2 * rank)
    ones = [1] * rank
    windows = Windows(
        kernel,
        tuple(op.attribute("strides") or ones),
        tuple(op.attribute("dilations") or ones),
        tuple(pads[:rank]),
        tuple(pads[rank:]),
        op.shape(0)[2:],
    )
    windows = _cut(op, windows, tuple(op.attribute("output_padding") or [0] * rank))
    if min((*windows.begin, *windows.end)) < 0:
        raise op.refuse("its output_padding is larger than its padding at the end, and TensorRT has no padding of results")
    _put(op, layers.Deconvolution, windows)


def _put(op: Op, kind: type[layers.Convolution | layers.Deconvolution], windows: Windows) -> None:
    """The layer; int8 weights come from the layer that says what they stand for, others are held."""
    shape, weight = _kernel_shape(op), op.constant(1)
    if len(windows.kernel) == 1:
        shape = (*shape, 1)
    x, windows = plane(op, windows)
    held = op.weights_together({"weight": weight.reshaped(shape) if weight is not None else None, "bias": op.constant(2)})
    kernel = held.get("weight") or layers.KernelInput(shape)
    inputs = [x] if weight is not None else [x, op.reshaped(op.tensor(1), shape, "kernel")]
    groups = int(op.attribute("group", 1))
    operation = kind(kernel, held.get("bias"), windows.stride, windows.dilation, windows.begin, windows.end, groups)
    put_plane(op, operation, *inputs)


def _kernel_shape(op: Op) -> tuple[int, ...]:
    """The shape of weights that are known, as numbers or as integers with their scales."""
    weight = op.constant(1)
    if (weight is None and op.node.inputs[1] not in op.assembly.dequantized) or (op.has(2) and op.constant(2) is None):
        raise op.refuse("its weights are computed by the network")
    if not op.is_float(0):
        raise op.refuse(f"TensorRT has no convolution of {op.dtype(0)}")
    return weight.shape if weight is not None else op.shape(1)


def _cut(op: Op, windows: Windows, extra: tuple[int, ...]) -> Windows:
    """What is cut off a transposed convolution's result, with `output_shape`, `auto_pad` and the output padding worked out."""
    auto, wanted = op.attribute("auto_pad", "NOTSET"), op.attribute("output_shape")
    rank = len(extra)
    if auto in ("NOTSET", "VALID") and wanted is None:
        begin, end = ((0,) * rank,) * 2 if auto == "VALID" else (windows.begin, windows.end)
        return replace(windows, begin=begin, end=tuple([e - x for e, x in zip(end, extra, strict=True)]))
    sizes = op.static(0, range(2, rank + 2))
    outputs = wanted[-rank:] if wanted is not None else [n * s for n, s in zip(sizes, windows.stride, strict=True)]
    begin, end = halves(auto, transposed_total(sizes, windows.extent, windows.stride, extra, outputs))
    return replace(windows, begin=begin, end=tuple([e - x for e, x in zip(end, extra, strict=True)]))


# ---- one spatial axis, as two ----------------------------------------------------------------------------------------------


def plane(op: Op, windows: Windows) -> tuple[str, Windows]:
    """The input and its windows; where there is one spatial axis, with another of size 1 behind it."""
    rank = len(windows.kernel)
    if rank == 1:
        return lifted(op), two_dimensional(windows)
    if rank not in (2, 3):
        raise op.refuse(f"TensorRT has no form of it for {rank} spatial axes")
    return op.tensor(0), windows


def lifted(op: Op) -> str:
    """The first input with an axis of size 1 behind its last."""
    return op.reshaped(op.tensor(0), (*op.shape(0), 1), "plane")


def two_dimensional(windows: Windows) -> Windows:
    """Windows along one axis as windows over a plane of width 1."""
    return Windows(
        (*windows.kernel, 1),
        (*windows.stride, 1),
        (*windows.dilation, 1),
        (*windows.begin, 0),
        (*windows.end, 0),
        (*windows.sizes, 1),
        windows.ceil,
    )


def put_plane(op: Op, operation: layers.Operation, *inputs: str) -> None:
    """The layer that makes the output, whose added axis is taken away again."""
    if op.rank(0) != 3:
        op.put(operation, inputs)
        return
    made = op.add(operation, inputs, "windows")
    op.put(*op.shuffle(made, op.type_of(made).shape[:-1], "line"))
