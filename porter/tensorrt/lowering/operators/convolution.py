"""Convolutions, and where windows go.

Source: onnx/onnx docs/Operators.md (Conv, ConvTranspose); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass, replace
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
    if windows.open and set(windows.stride) != {1}:
        raise op.refuse(f"auto_pad {auto} depends on sizes that are known only when the network runs")
    total = [
        max(0, e - 1 if s == 1 else (-(-n // s) - 1) * s + e - n)
        for n, s, e in zip(windows.sizes, windows.stride, windows.extent, strict=True)
    ]
    less, more = tuple([n // 2 for n in total]), tuple([n - n // 2 for n in total])
    begin, end = (less, more) if auto == "SAME_UPPER" else (more, less)
    return replace(windows, begin=begin, end=end, ceil=False)


def conv(op: Op) -> None:
    """A convolution with its bias."""
    weight, bias = op.constant(1), op.constant(2)
    if weight is None or (op.has(2) and bias is None):
        raise op.refuse("its weights are computed by the network")
    windows = windows_of(op, op.attribute("kernel_shape") or weight.shape[2:])
    operation = layers.Convolution(
        op.weights(weight, "weight"),
        op.weights(bias, "bias") if bias is not None else None,
        windows.stride,
        windows.dilation,
        windows.begin,
        windows.end,
        int(op.attribute("group", 1)),
    )
    op.put(operation, [op.tensor(0)])
