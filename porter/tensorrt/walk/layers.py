"""How each layer of a live network becomes an operation: every setting that its class has is read, or the layer is unknown.

Source: NVIDIA/TensorRT, include/NvInfer.h and python/src/infer/pyGraph.cpp, tags v8.6.1 to v11.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.tensor import BytesPayload, Tensor, TensorSpec
from porter.tensorrt import layers
from porter.tensorrt.layers import KernelInput, Operation, Unknown, Weights
from porter.tensorrt.package import Package, dims
from porter.tensorrt.walk.padding import pooling_padding, same_padding, transposed_padding
from porter.tensorrt.walk.weights import bytes_of


@dataclass(frozen=True, slots=True)
class Reading:
    """A layer that is read: its name, the layer as its own class, its live tensors, and whether weights are copied."""

    package: Package
    name: str
    layer: Any
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    copy: bool

    def word(self, attribute: str) -> str:
        """The name of a member of an enumeration."""
        return str(getattr(self.layer, attribute).name)

    def sizes(self, attribute: str) -> tuple[int, ...]:
        """Sizes that the layer always has."""
        found = dims(self.layer, attribute)
        if found is None:
            raise _CannotRead(f"its {attribute} cannot be read")
        return found

    def axes(self, attribute: str = "axes") -> tuple[int, ...]:
        """The axes whose bits are set."""
        bits = int(getattr(self.layer, attribute))
        return tuple([axis for axis in range(bits.bit_length()) if bits >> axis & 1])

    def shape(self, tensor: Any) -> tuple[int, ...]:
        """The shape of an input or an output."""
        found = dims(tensor, "shape")
        if found is None:
            raise _CannotRead("the shapes of its tensors are not known")
        return found

    def weights(self, role: str, shape: Callable[[int], tuple[int, ...]]) -> Weights | None:
        """The weights that an attribute holds, in the shape that `shape` makes of their number; None where they are empty."""
        dtype, count, data = bytes_of(self.package, getattr(self.layer, role), self.copy)
        if not count:
            return None
        if dtype not in DTYPES:
            raise _CannotRead(f"its {role} is of type {dtype}")
        spec = TensorSpec(f"{self.name}.{role}", DTYPES[dtype], shape(count), role=role)
        return Weights(Tensor(spec, BytesPayload.of(data)))


class _CannotRead(Exception):
    """Why a layer has no record."""


def operation(reading: Reading) -> tuple[Operation, int]:
    """What a layer computes, and how many of its inputs belong to that."""
    kind = str(reading.layer.type.name)
    entry = _TABLE.get(kind)
    if entry is None:
        return Unknown(kind), len(reading.inputs)
    reading.layer.__class__ = getattr(reading.package.module, entry[0])
    try:
        made = entry[1](reading)
    except _CannotRead as error:
        return Unknown(f"{kind}: {error}"), len(reading.inputs)
    return made, 1 if kind in _AXES_AS_INPUT else len(reading.inputs)


# ---- layers with weights ---------------------------------------------------------------------------------------------


def _convolution(r: Reading) -> Operation:
    maps, window = r.layer.num_output_maps, r.sizes("kernel_size_nd")
    kernel = _kernel(r, lambda count: (maps, count // (maps * math.prod(window)), *window))
    pre, post = same_padding(r.word("padding_mode"), r.sizes("pre_padding"), r.sizes("post_padding"), _windows(r)) or _no_padding()
    rest = (r.sizes("stride_nd"), r.sizes("dilation_nd"), pre, post, r.layer.num_groups)
    return layers.Convolution(kernel, r.weights("bias", lambda count: (count,)), *rest)


def _deconvolution(r: Reading) -> Operation:
    groups, window = r.layer.num_groups, r.sizes("kernel_size_nd")
    maps = r.layer.num_output_maps // groups
    kernel = _kernel(r, lambda count: (count // (maps * math.prod(window)), maps, *window))
    stride, dilation = r.sizes("stride_nd"), r.sizes("dilation_nd")
    reach = _reach(window, dilation)
    pre, post = transposed_padding(r.word("padding_mode"), r.sizes("pre_padding"), r.sizes("post_padding"), reach, stride)
    return layers.Deconvolution(kernel, r.weights("bias", lambda count: (count,)), stride, dilation, pre, post, groups)


def _reach(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """How far a window reaches along each axis."""
    return tuple([(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)])


def _kernel(r: Reading, shape: Callable[[int], tuple[int, ...]]) -> Weights | KernelInput:
    """The kernel that the layer holds, in the shape that `shape` makes of its number of values, or the second input."""
    held = r.weights("kernel", shape)
    if len(r.inputs) > 2:
        raise _CannotRead("its bias is an input")
    if (held is None) != (len(r.inputs) == 2):
        raise _CannotRead("it has no kernel, or two")
    return held or KernelInput(r.shape(r.inputs[1]))


def _windows(r: Reading) -> list[tuple[int, int, int, int]]:
    """For each axis of the window: the sizes of the input and the output, how far the window reaches, and the stride."""
    pooling = hasattr(r.layer, "window_size_nd")
    window = r.sizes("window_size_nd" if pooling else "kernel_size_nd")
    dilation = (1,) * len(window) if pooling else r.sizes("dilation_nd")
    reach = _reach(window, dilation)
    before, after = (r.shape(t)[-len(window) :] for t in (r.inputs[0], r.outputs[0]))
    return list(zip(before, after, reach, r.sizes("stride_nd"), strict=True))


def _no_padding() -> Any:
    raise _CannotRead("its padding cannot be said for sizes that are open, or not without another rule of rounding")


def _scale(r: Reading) -> Operation:
    mode = r.word("mode")
    axis = r.layer.channel_axis
    each = r.shape(r.inputs[0])[axis:]

    def shape(count: int) -> tuple[int, ...]:
        return each if mode == "ELEMENTWISE" and math.prod(each) == count else (count,)

    shift, scale, power = (r.weights(role, shape) for role in ("shift", "scale", "power"))
    return layers.Scale(mode, shift, scale, power, axis)


def _constant(r: Reading) -> Operation:
    shape = r.sizes("shape")
    weights = r.weights("weights", lambda count: shape)
    if weights is None:
        raise _CannotRead("it is empty")
    return layers.Constant(weights)


# ---- layers that compute along windows and axes ----------------------------------------------------------------------


def _pooling(r: Reading) -> Operation:
    kind, mode = r.word("type"), r.word("padding_mode")
    if kind not in ("MAX", "AVERAGE"):
        raise _CannotRead(kind)
    excludes = bool(r.layer.average_count_excludes_padding)
    # Padding that rounding up adds is not counted, and padding that is said is.
    extends = kind == "MAX" or excludes
    pre, post = pooling_padding(mode, r.sizes("pre_padding"), r.sizes("post_padding"), _windows(r), extends) or _no_padding()
    return layers.Pooling(kind, r.sizes("window_size_nd"), r.sizes("stride_nd"), pre, post, excludes)


def _reduce(r: Reading) -> Operation:
    return layers.Reduce(r.word("op"), r.axes(), bool(r.layer.keep_dims))


def _softmax(r: Reading) -> Operation:
    return layers.Softmax(_one(r.axes()))


def _top_k(r: Reading) -> Operation:
    if len(r.inputs) > 1:
        raise _CannotRead("k is an input")
    _need_32_bits(r)
    return layers.TopK(r.word("op"), r.layer.k, _one(r.axes()))


def _one(axes: tuple[int, ...]) -> int:
    if len(axes) != 1:
        raise _CannotRead("it works along several axes")
    return axes[0]


def _need_32_bits(r: Reading) -> None:
    """Indices of 64 bits are a setting of later versions that the records do not have."""
    kind = getattr(r.layer, "indices_type", None)
    if kind is not None and kind.name != "INT32":
        raise _CannotRead(f"its indices are {kind.name}")


def _normalization(r: Reading) -> Operation:
    groups = r.layer.num_groups
    if groups > 1 and not getattr(r.layer, "is_v2", False) and r.shape(r.inputs[1])[1] != groups:
        raise _CannotRead("it has a scale for each channel, and a scale for each group is what its version takes")
    return layers.Normalization(r.axes(), r.layer.epsilon, groups)


# ---- shapes, and layers that move values -----------------------------------------------------------------------------


def _shuffle(r: Reading) -> Operation:
    before, after = len(r.shape(r.inputs[0])), len(r.shape(r.outputs[0]))
    shape = dims(r.layer, "reshape_dims") if len(r.inputs) == 1 else None
    return layers.Shuffle(
        _permutation(r.layer.first_transpose, before),
        shape,
        _permutation(r.layer.second_transpose, after),
        bool(r.layer.zero_is_placeholder),
    )


def _permutation(given: Any, rank: int) -> tuple[int, ...] | None:
    order = tuple(list(given)[:rank])
    return order if order != tuple(range(rank)) else None


def _squeezed(r: Reading) -> Operation:
    """Axes of size 1 that come or go are a reshape to what comes out."""
    shape = r.shape(r.outputs[0])
    if shape.count(-1) > 1 or 0 in shape:
        raise _CannotRead("several sizes are open")
    return layers.Shuffle(shape=shape)


def _padding(r: Reading) -> Operation:
    """Zeros around the last two axes, or what is cut from them, is a slice that starts and ends elsewhere."""
    size = r.shape(r.outputs[0])
    if -1 in size:
        raise _CannotRead("sizes are open")
    pre = r.sizes("pre_padding_nd")
    start = (*[0] * (len(size) - len(pre)), *[-n for n in pre])
    return layers.Slice(start, size, (1,) * len(size), "FILL")


def _slice(r: Reading) -> Operation:
    if len(r.inputs) < 6 and dims(r.layer, "axes") is not None:
        raise _CannotRead("it names axes")
    given = [r.inputs[i] if i < len(r.inputs) else None for i in range(1, 4)]
    names = ("start", "shape", "stride")
    start, size, stride = (dims(r.layer, name) if tensor is None else None for tensor, name in zip(given, names, strict=True))
    return layers.Slice(start, size, stride, r.word("mode"))


def _resize(r: Reading) -> Operation:
    scales = tuple(r.layer.scales) if len(r.inputs) == 1 else ()
    size = dims(r.layer, "shape") if len(r.inputs) == 1 and not scales else None
    return layers.Resize(
        r.word("resize_mode"),
        size,
        scales or None,
        r.word("coordinate_transformation"),
        r.word("nearest_rounding"),
        r.word("selector_for_single_pixel"),
        r.layer.cubic_coeff,
        bool(r.layer.exclude_outside),
    )


def _nms(r: Reading) -> Operation:
    _need_32_bits(r)
    return layers.NonMaximumSuppression(r.word("bounding_box_format"), r.layer.topk_box_limit)


def _non_zero(r: Reading) -> Operation:
    _need_32_bits(r)
    return layers.NonZero()


def _matrix(r: Reading) -> Operation:
    return layers.MatrixMultiply(r.word("op0"), r.word("op1"))


def _grid_sample(r: Reading) -> Operation:
    return layers.GridSample(r.word("interpolation_mode"), bool(r.layer.align_corners), r.word("sample_mode"))


def _cumulative(r: Reading) -> Operation:
    return layers.CumulativeSum(bool(r.layer.exclusive), bool(r.layer.reverse))


# ---- types -----------------------------------------------------------------------------------------------------------


def _quantize(r: Reading) -> Operation:
    return layers.Quantize(*_scales(r))


def _dequantize(r: Reading) -> Operation:
    return layers.Dequantize(*_scales(r))


def _scales(r: Reading) -> tuple[int | None, str]:
    if hasattr(type(r.layer), "block_shape") and dims(r.layer, "block_shape"):
        raise _CannotRead("it has a scale for each block")
    axis = r.layer.axis
    return (axis if axis >= 0 else None), r.package.dtype_name(r.outputs[0].dtype)


_AXES_AS_INPUT = ("SQUEEZE", "UNSQUEEZE")
"""Their second input says axes, which the record says by a shape."""

_TABLE: Mapping[str, tuple[str, Callable[[Reading], Operation]]] = MappingProxyType(
    {
        "CONVOLUTION": ("IConvolutionLayer", _convolution),
        "DECONVOLUTION": ("IDeconvolutionLayer", _deconvolution),
        "POOLING": ("IPoolingLayer", _pooling),
        "ACTIVATION": ("IActivationLayer", lambda r: layers.Activation(r.word("type"), r.layer.alpha, r.layer.beta)),
        "PARAMETRIC_RELU": ("IParametricReLULayer", lambda r: layers.ParametricRelu()),
        "SCALE": ("IScaleLayer", _scale),
        "LRN": ("ILRNLayer", lambda r: layers.Lrn(r.layer.window_size, r.layer.alpha, r.layer.beta, r.layer.k)),
        "SOFTMAX": ("ISoftMaxLayer", _softmax),
        "ELEMENTWISE": ("IElementWiseLayer", lambda r: layers.Elementwise(r.word("op"))),
        "UNARY": ("IUnaryLayer", lambda r: layers.Unary(r.word("op"))),
        "CONCATENATION": ("IConcatenationLayer", lambda r: layers.Concatenation(r.layer.axis)),
        "SHUFFLE": ("IShuffleLayer", _shuffle),
        "SQUEEZE": ("ISqueezeLayer", _squeezed),
        "UNSQUEEZE": ("IUnsqueezeLayer", _squeezed),
        "PADDING": ("IPaddingLayer", _padding),
        "MATRIX_MULTIPLY": ("IMatrixMultiplyLayer", _matrix),
        "CONSTANT": ("IConstantLayer", _constant),
        "REDUCE": ("IReduceLayer", _reduce),
        "SLICE": ("ISliceLayer", _slice),
        "RESIZE": ("IResizeLayer", _resize),
        "GATHER": ("IGatherLayer", lambda r: layers.Gather(r.word("mode"), r.layer.axis, r.layer.num_elementwise_dims)),
        "SCATTER": ("IScatterLayer", lambda r: layers.Scatter(r.word("mode"), r.layer.axis)),
        "TOPK": ("ITopKLayer", _top_k),
        "SELECT": ("ISelectLayer", lambda r: layers.Select()),
        "CAST": ("ICastLayer", lambda r: layers.Cast(r.package.dtype_name(r.layer.to_type))),
        "IDENTITY": ("IIdentityLayer", lambda r: layers.Identity()),
        "QUANTIZE": ("IQuantizeLayer", _quantize),
        "DEQUANTIZE": ("IDequantizeLayer", _dequantize),
        "NORMALIZATION": ("INormalizationLayer", _normalization),
        "NMS": ("INMSLayer", _nms),
        "NON_ZERO": ("INonZeroLayer", _non_zero),
        "SHAPE": ("IShapeLayer", lambda r: layers.Shape()),
        "EINSUM": ("IEinsumLayer", lambda r: layers.Einsum(r.layer.equation)),
        "ONE_HOT": ("IOneHotLayer", lambda r: layers.OneHot(r.layer.axis)),
        "GRID_SAMPLE": ("IGridSampleLayer", _grid_sample),
        "CUMULATIVE": ("ICumulativeLayer", _cumulative),
    }
)
"""Members of `LayerType` with the class that their settings are read through, and how."""
