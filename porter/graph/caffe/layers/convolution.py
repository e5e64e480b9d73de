"""Layers that slide a window of weights over their bottom: Convolution, Deconvolution, their depthwise forms, Im2col.

Source: BVLC/caffe base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp, im2col_layer.cpp, im2col.cpp at 9b891540183d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.graph.builder import GraphBuilder, Named, Shape, merged
from porter.graph.caffe.layer import Layer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PARAM = "convolution_param"
_LARGEST_PICKS = 1 << 26
"""Values of the constant that picks positions out of a window."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a window goes over the spatial axes: a number for each of them. `axis`: the axis of the channels."""

    axis: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """How many positions a dilated window covers."""
        return tuple([d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)])

    def attributes(self, pads: Sequence[int]) -> dict[str, list[int]]:
        """The attributes of an ONNX node."""
        found = {"kernel_shape": self.kernel, "strides": self.stride, "pads": pads, "dilations": self.dilation}
        return {name: list(values) for name, values in found.items()}


def convolution(layer: Layer) -> None:
    """One convolution for each bottom, all with the same weights."""
    _convolve(layer, None)


def convolution_depthwise(layer: Layer) -> None:
    """A convolution with a group for each channel, whatever `group` and `num_output` say.

    Source: conv_dw_layer.cpp, in BVLC/caffe pull request 5665 and the forks that took it over.
    """
    channels = layer.bottoms[0].shape[1] if layer.bottoms and layer.bottoms[0].rank > 1 else 0
    layer.parameters.ignore(f"{_PARAM}.group", f"{_PARAM}.num_output")
    _convolve(layer, channels)


def deconvolution(layer: Layer) -> None:
    """The transpose of a convolution. Caffe's weights lie as ONNX wants them: by channel of the bottom first."""
    layer.need_bottoms(1, 1000)
    windows = _windows(layer)
    channels, outputs, group = _channels(layer, windows.axis)
    bias = layer.parameters.flag(f"{_PARAM}.bias_term", True)
    for bottom in layer.bottoms:
        _same_shape(layer, bottom)
        inner = bottom.shape[windows.axis + 1 :]
        sizes = zip(inner, windows.stride, windows.extent, windows.pad, strict=True)
        out = tuple([s * (n - 1) + e - 2 * p for n, s, e, p in sizes])
        _need_positive(layer, out)
        weight = _weight(layer, (channels, outputs // group, *windows.kernel))
        inputs = [weight, layer.weight(1, (outputs,))] if bias else [weight]
        attributes = {**windows.attributes([*windows.pad, *windows.pad]), "group": group}
        layer.put(_along(layer, bottom, windows.axis, (outputs, *out), _node("ConvTranspose", inputs, attributes)))


def im2col(layer: Layer) -> None:
    """The windows themselves: channels times positions of the kernel, by place. A convolution with an identity for weights."""
    layer.need_bottoms(1, 1000)
    windows = _windows(layer)
    for bottom in layer.bottoms:
        _same_shape(layer, bottom)
        channels = bottom.shape[windows.axis]
        out, pads = _conv_sizes(layer, bottom.shape[windows.axis + 1 :], windows)
        count = _product(windows.kernel)
        if channels * count * count > _LARGEST_PICKS:
            raise layer.error("G018", f"windows of {count} positions in {channels} channels need a constant too large for a model")
        picks = layer.builder.constant(_picks(channels, windows.kernel), "picks")
        attributes = {**windows.attributes(pads), "group": channels}
        layer.put(_along(layer, bottom, windows.axis, (channels * count, *out), _node("Conv", [picks], attributes)))


def _convolve(layer: Layer, depthwise: int | None) -> None:
    layer.need_bottoms(1, 1000)
    windows = _windows(layer)
    channels, outputs, group = (depthwise,) * 3 if depthwise is not None else _channels(layer, windows.axis)
    bias = layer.parameters.flag(f"{_PARAM}.bias_term", True)
    for bottom in layer.bottoms:
        _same_shape(layer, bottom)
        out, pads = _conv_sizes(layer, bottom.shape[windows.axis + 1 :], windows)
        weight = _weight(layer, (outputs, channels // group, *windows.kernel))
        inputs = [weight, layer.weight(1, (outputs,))] if bias else [weight]
        attributes = {**windows.attributes(pads), "group": group}
        layer.put(_along(layer, bottom, windows.axis, (outputs, *out), _node("Conv", inputs, attributes)))


def _channels(layer: Layer, axis: int) -> tuple[int, int, int]:
    """Channels in, channels out, and groups."""
    channels = int(layer.bottoms[0].shape[axis])
    outputs = layer.parameters.integer(f"{_PARAM}.num_output", 0)
    group = layer.parameters.integer(f"{_PARAM}.group", 1)
    if outputs < 1:
        raise layer.error("G010", f"num_output is {outputs}, and there must be an output")
    if group < 1 or channels % group or outputs % group:
        raise layer.error("G015", f"{channels} channels and {outputs} outputs do not make {group} groups")
    return channels, outputs, group


def _windows(layer: Layer) -> Windows:
    axis = layer.axis(layer.parameters.integer(f"{_PARAM}.axis", 1))
    # Which code computes the same.
    layer.parameters.ignore(f"{_PARAM}.force_nd_im2col")
    rank = layer.bottoms[0].rank - axis - 1
    kernel = _spatial(layer, rank, "kernel_size", ("kernel_h", "kernel_w"), None)
    stride = _spatial(layer, rank, "stride", ("stride_h", "stride_w"), 1)
    pad = _spatial(layer, rank, "pad", ("pad_h", "pad_w"), 0)
    dilation = _spatial(layer, rank, "dilation", None, 1)
    for what, numbers, least in (("kernel", kernel, 1), ("stride", stride, 1), ("pad", pad, 0), ("dilation", dilation, 1)):
        if any(n < least for n in numbers):
            raise layer.error("G010", f"the {what} is {' x '.join(map(str, numbers))}, and must be at least {least}")
    return Windows(axis, kernel, stride, pad, dilation)


def _spatial(layer: Layer, rank: int, name: str, sides: tuple[str, str] | None, default: int | None) -> tuple[int, ...]:
    """A number for each spatial axis: stated once for all, once each, or for height and width by names of their own."""
    given = layer.parameters.integers(f"{_PARAM}.{name}")
    if sides is not None:
        by_side = [layer.parameters.optional_integer(f"{_PARAM}.{side}") for side in sides]
        if any(n is not None for n in by_side):
            if rank != 2:
                raise layer.error("G015", f"{' and '.join(sides)} are for two spatial axes, and here are {rank}")
            if given:
                raise layer.error("G015", f"{name} is stated, and {' and '.join(sides)} as well")
            # What Caffe reads of a side that is not stated is zero.
            return tuple([n or 0 for n in by_side])
    if not given and default is not None:
        given = [default]
    if len(given) not in (1, rank):
        raise layer.error("G015", f"{name} is stated {len(given)} times, and there are {rank} spatial axes")
    return tuple(given * rank if len(given) == 1 else given)


def _conv_sizes(layer: Layer, sizes: Shape, windows: Windows) -> tuple[Shape, list[int]]:
    """The spatial shape of the top, and ONNX's pads.

    Where not even one window fits and the stride is more than one, Caffe's division towards zero leaves one; what it lacks is padding.
    """
    out, ends = [], []
    for n, e, s, p in zip(sizes, windows.extent, windows.stride, windows.pad, strict=True):
        room = n + 2 * p - e
        out.append((room // s if room >= 0 else -(-room // s)) + 1)
        ends.append(p + max(0, (out[-1] - 1) * s - room))
    _need_positive(layer, tuple(out))
    return tuple(out), [*windows.pad, *ends]


def _need_positive(layer: Layer, sizes: Shape) -> None:
    if any(n < 1 for n in sizes):
        raise layer.error("G016", f"its top would be of size {' x '.join(map(str, sizes))}: the bottom is smaller than the window")


def _same_shape(layer: Layer, bottom: Named) -> None:
    if bottom.shape != layer.bottoms[0].shape:
        raise layer.error("G017", f"its bottoms have the shapes {list(layer.bottoms[0].shape)} and {list(bottom.shape)}, and must be alike")


def _weight(layer: Layer, shape: Shape) -> Named:
    """ONNX has no convolution without spatial axes; there it is one with one axis of size one."""
    return layer.weight(0, shape, aligned=shape if len(shape) > 2 else (*shape, 1))


def _picks(channels: int, kernel: Shape) -> NDArray[np.float32]:
    """Weights that pick one position of the window each, for every channel. Shape (channels * positions, 1, *kernel), float32."""
    import numpy as np

    count = _product(kernel)
    one = np.eye(count, dtype=np.float32).reshape(count, 1, *(kernel or (1,)))
    return np.tile(one, (channels, *[1] * (one.ndim - 1)))


Node = Callable[[GraphBuilder, Named, Shape, "str | None"], Named]
"""Makes the node: of the graph, the bottom as (batch, channels, …), the shape of what comes out, and the hint of its name."""


def _node(op_type: str, inputs: Sequence[Named], attributes: dict[str, object]) -> Node:
    def make(builder: GraphBuilder, x: Named, shape: Shape, hint: str | None) -> Named:
        given = attributes
        if x.rank == 3 and not given["kernel_shape"]:
            given = {**given, "kernel_shape": [1], "strides": [1], "pads": [0, 0], "dilations": [1]}
        return builder.op(op_type, [x, *inputs], shape, given, hint=hint)

    return make


def _along(layer: Layer, x: Named, axis: int, tail: Shape, node: Node) -> Named:
    """`node` on `x` with all axes before `axis` as one batch. `tail`: the shape from the channels on that comes out."""
    lead, inner = x.shape[:axis], x.shape[axis:]
    if axis == 1 and len(inner) > 1:
        return node(layer.builder, x, (*lead, *tail), None)
    batch = merged(lead) if lead else 1
    flat = layer.builder.reshape(x, (batch, *inner, *((1,) if len(inner) == 1 else ())), hint="batch")
    made = node(layer.builder, flat, (batch, *tail, *((1,) if len(inner) == 1 else ())), "windows")
    return layer.builder.reshape(made, (*lead, *tail), hint=None)


def _product(numbers: Sequence[int]) -> int:
    import math

    return math.prod(numbers)
