"""How each operation becomes a layer of a live network: one call of `INetworkDefinition.add_*`, and every setting that it has.

Source: NVIDIA/TensorRT, include/NvInfer.h and python/src/infer/pyGraph.cpp, tags v8.6.1 to v11.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from porter.errors import TensorRTError
from porter.tensor import Tensor
from porter.tensorrt import layers
from porter.tensorrt.layers import Operation, Weights
from porter.tensorrt.package import Package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Site:
    """A network under construction, and the memory of its weights, which TensorRT refers to until the engine is built."""

    def __init__(self, package: Package, definition: Any) -> None:
        self.package = package
        self.definition = definition
        self.memory: list[Any] = []

    def add(self, method: str, *arguments: Any) -> Any:
        """The layer that a method of `INetworkDefinition` makes, or None where TensorRT refuses.

        Raises:
            TensorRTError: this version has no such method.
        """
        function = getattr(self.definition, method, None)
        if function is None:
            raise TensorRTError("T101", f"{self.package} has no '{method}'", hint="a later version of TensorRT may have it")
        return function(*arguments)

    def of(self, enumeration: str, name: str) -> Any:
        """A member of an enumeration."""
        return self.package.member(enumeration, name)

    def weights(self, given: Weights | None) -> Any:
        """TensorRT's `Weights`: a pointer to the values, which are mapped from their file where they can be. None for None."""
        if given is None:
            return None
        dtype = self.package.dtype(given.tensor.dtype.name)
        if not given.tensor.size:
            return self.package.module.Weights(dtype, 0, 0)
        values = _aligned(given.tensor)
        self.memory.append(values)
        return self.package.module.Weights(dtype, values.ctypes.data, given.tensor.size)


def _aligned(tensor: Tensor) -> NDArray[np.uint8]:
    """The bytes of a tensor, mapped where they lie in their file as the processor expects values to lie, else held."""
    import numpy as np

    size = max(1, tensor.dtype.bits // 8)
    if tensor.location is None or tensor.location.offset % size == 0:
        mapped = np.frombuffer(tensor.buffer(), np.uint8)
        if mapped.ctypes.data % size == 0:
            return mapped
    held, start = np.empty(tensor.nbytes, np.uint8), 0
    for chunk in tensor.chunks():
        held[start : start + chunk.nbytes] = chunk
        start += chunk.nbytes
    return held


def add(site: Site, operation: Operation, inputs: list[Any]) -> Any:
    """Add the layer; inputs: tensors, None for one that is not given. None where TensorRT refuses it.

    Raises:
        TensorRTError: this version of TensorRT has no such layer.
    """
    return _TABLE[type(operation)](site, operation, *inputs)


# ---- layers with weights ---------------------------------------------------------------------------------------------


def _convolution(site: Site, op: layers.Convolution, x: Any, kernel: Any = None) -> Any:
    return _window(site, "add_convolution_nd", op, op.kernel.shape[0], x, kernel)


def _deconvolution(site: Site, op: layers.Deconvolution, x: Any, kernel: Any = None) -> Any:
    return _window(site, "add_deconvolution_nd", op, op.kernel.shape[1] * op.groups, x, kernel)


def _window(site: Site, method: str, op: layers.Convolution | layers.Deconvolution, maps: int, x: Any, kernel: Any) -> Any:
    """A kernel that is an input takes the place of empty weights. Source: NvInfer.h, IConvolutionLayer::setInput, v11.1."""
    held = site.weights(op.kernel) if isinstance(op.kernel, Weights) else site.package.module.Weights()
    layer = site.add(method, x, maps, op.kernel.shape[2:], held, site.weights(op.bias))
    if layer is not None:
        if kernel is not None:
            layer.set_input(1, kernel)
        layer.stride_nd, layer.dilation_nd, layer.num_groups = op.stride, op.dilation, op.groups
        layer.padding_mode = site.of("PaddingMode", "EXPLICIT_ROUND_DOWN")
        layer.pre_padding, layer.post_padding = op.pre_padding, op.post_padding
    return layer


def _scale(site: Site, op: layers.Scale, x: Any) -> Any:
    weights = [site.weights(w) for w in (op.shift, op.scale, op.power)]
    return site.add("add_scale_nd", x, site.of("ScaleMode", op.mode), *weights, op.axis)


def _constant(site: Site, op: layers.Constant) -> Any:
    return site.add("add_constant", op.weights.tensor.shape, site.weights(op.weights))


# ---- layers that compute along windows and axes ----------------------------------------------------------------------


def _pooling(site: Site, op: layers.Pooling, x: Any) -> Any:
    layer = site.add("add_pooling_nd", x, site.of("PoolingType", op.kind), op.window)
    if layer is not None:
        layer.stride_nd = op.stride
        layer.padding_mode = site.of("PaddingMode", "EXPLICIT_ROUND_DOWN")
        layer.pre_padding, layer.post_padding = op.pre_padding, op.post_padding
        layer.average_count_excludes_padding = op.count_excludes_padding
    return layer


def _activation(site: Site, op: layers.Activation, x: Any) -> Any:
    layer = site.add("add_activation", x, site.of("ActivationType", op.kind))
    if layer is not None:
        layer.alpha, layer.beta = op.alpha, op.beta
    return layer


def _softmax(site: Site, op: layers.Softmax, x: Any) -> Any:
    layer = site.add("add_softmax", x)
    if layer is not None:
        layer.axes = 1 << op.axis
    return layer


def _concatenation(site: Site, op: layers.Concatenation, *inputs: Any) -> Any:
    layer = site.add("add_concatenation", list(inputs))
    if layer is not None:
        layer.axis = op.axis
    return layer


def _reduce(site: Site, op: layers.Reduce, x: Any) -> Any:
    return site.add("add_reduce", x, site.of("ReduceOperation", op.kind), mask(op.axes), op.keep)


def _normalization(site: Site, op: layers.Normalization, x: Any, scale: Any, bias: Any) -> Any:
    """Version 2 takes a scale for each channel, the first one a scale for each group. Source: NvInfer.h, v11.1."""
    for_groups = op.groups > 1 and scale.shape[1] == op.groups != x.shape[1]
    old = for_groups or (op.groups == 1 and not hasattr(site.definition, "add_normalization_v2"))
    layer = site.add("add_normalization" if old else "add_normalization_v2", x, scale, bias, mask(op.axes))
    if layer is not None:
        layer.epsilon, layer.num_groups = op.epsilon, op.groups
    return layer


def mask(axes: tuple[int, ...]) -> int:
    """Axes as bits."""
    return sum(1 << axis for axis in set(axes))


# ---- shapes, and layers that move values -----------------------------------------------------------------------------


def _shuffle(site: Site, op: layers.Shuffle, x: Any, shape: Any = None) -> Any:
    layer = site.add("add_shuffle", x)
    if layer is None:
        return None
    if op.first is not None:
        layer.first_transpose = op.first
    layer.zero_is_placeholder = op.zero_copies
    if shape is not None:
        layer.set_input(1, shape)
    elif op.shape is not None:
        layer.reshape_dims = op.shape
    if op.second is not None:
        layer.second_transpose = op.second
    return layer


def _slice(site: Site, op: layers.Slice, x: Any, *others: Any) -> Any:
    nothing = (0,) * len(next((given for given in (op.start, op.size, op.stride) if given is not None), x.shape))
    layer = site.add("add_slice", x, *[given if given is not None else nothing for given in (op.start, op.size, op.stride)])
    if layer is not None:
        layer.mode = site.of("SampleMode", op.mode)
        for index, tensor in enumerate(others, 1):
            if tensor is not None:
                layer.set_input(index, tensor)
    return layer


def _resize(site: Site, op: layers.Resize, x: Any, size: Any = None) -> Any:
    layer = site.add("add_resize", x)
    if layer is None:
        return None
    layer.resize_mode = site.of("InterpolationMode", op.mode)
    layer.coordinate_transformation = site.of("ResizeCoordinateTransformation", op.coordinates)
    layer.nearest_rounding = site.of("ResizeRoundMode", op.rounding)
    layer.selector_for_single_pixel = site.of("ResizeSelector", op.selector)
    layer.cubic_coeff, layer.exclude_outside = op.cubic_coefficient, op.exclude_outside
    if size is not None:
        layer.set_input(1, size)
    elif op.size is not None:
        layer.shape = op.size
    elif op.scales is not None:
        layer.scales = list(op.scales)
    return layer


def _gather(site: Site, op: layers.Gather, x: Any, indices: Any) -> Any:
    layer = site.add("add_gather_v2", x, indices, site.of("GatherMode", op.mode))
    if layer is not None:
        layer.axis, layer.num_elementwise_dims = op.axis, op.batch_axes
    return layer


def _scatter(site: Site, op: layers.Scatter, x: Any, indices: Any, updates: Any) -> Any:
    layer = site.add("add_scatter", x, indices, updates, site.of("ScatterMode", op.mode))
    if layer is not None:
        layer.axis = op.axis
    return layer


def _nms(site: Site, op: layers.NonMaximumSuppression, boxes: Any, scores: Any, most: Any, *thresholds: Any) -> Any:
    layer = site.add("add_nms", boxes, scores, most)
    if layer is not None:
        layer.bounding_box_format, layer.topk_box_limit = site.of("BoundingBoxFormat", op.box_format), op.limit
        for index, tensor in enumerate(thresholds, 3):
            if tensor is not None:
                layer.set_input(index, tensor)
    return layer


def _one_hot(site: Site, op: layers.OneHot, indices: Any, values: Any, depth: Any) -> Any:
    return site.add("add_one_hot", indices, values, depth, op.axis)


def _grid_sample(site: Site, op: layers.GridSample, x: Any, grid: Any) -> Any:
    layer = site.add("add_grid_sample", x, grid)
    if layer is not None:
        layer.interpolation_mode, layer.sample_mode = site.of("InterpolationMode", op.interpolation), site.of("SampleMode", op.mode)
        layer.align_corners = op.align_corners
    return layer


# ---- types -----------------------------------------------------------------------------------------------------------


def _quantize(site: Site, op: layers.Quantize | layers.Dequantize, x: Any, scale: Any, zero: Any = None) -> Any:
    method = "add_quantize" if isinstance(op, layers.Quantize) else "add_dequantize"
    # Before TensorRT 9 the types were always the same: int8 and float32.
    typed = site.package.is_strongly_typed
    layer = site.add(method, x, scale, site.package.dtype(op.dtype)) if typed else site.add(method, x, scale)
    if layer is not None:
        if op.axis is not None:
            layer.axis = op.axis
        if zero is not None:
            layer.set_input(2, zero)
    return layer


_TABLE: Mapping[type, Callable[..., Any]] = MappingProxyType(
    {
        layers.Convolution: _convolution,
        layers.Deconvolution: _deconvolution,
        layers.Pooling: _pooling,
        layers.Activation: _activation,
        layers.ParametricRelu: lambda site, op, x, slopes: site.add("add_parametric_relu", x, slopes),
        layers.Scale: _scale,
        layers.Lrn: lambda site, op, x: site.add("add_lrn", x, op.window, op.alpha, op.beta, op.k),
        layers.Softmax: _softmax,
        layers.Elementwise: lambda site, op, a, b: site.add("add_elementwise", a, b, site.of("ElementWiseOperation", op.kind)),
        layers.Unary: lambda site, op, x: site.add("add_unary", x, site.of("UnaryOperation", op.kind)),
        layers.Concatenation: _concatenation,
        layers.Shuffle: _shuffle,
        layers.MatrixMultiply: lambda site, op, a, b: site.add(
            "add_matrix_multiply", a, site.of("MatrixOperation", op.first), b, site.of("MatrixOperation", op.second)
        ),
        layers.Constant: _constant,
        layers.Reduce: _reduce,
        layers.Slice: _slice,
        layers.Resize: _resize,
        layers.Gather: _gather,
        layers.Scatter: _scatter,
        layers.TopK: lambda site, op, x: site.add("add_topk", x, site.of("TopKOperation", op.kind), op.k, 1 << op.axis),
        layers.Select: lambda site, op, condition, yes, no: site.add("add_select", condition, yes, no),
        layers.Cast: lambda site, op, x: site.add("add_cast", x, site.package.dtype(op.dtype)),
        layers.Identity: lambda site, op, x: site.add("add_identity", x),
        layers.Quantize: _quantize,
        layers.Dequantize: _quantize,
        layers.Normalization: _normalization,
        layers.NonMaximumSuppression: _nms,
        layers.NonZero: lambda site, op, x: site.add("add_non_zero", x),
        layers.Shape: lambda site, op, x: site.add("add_shape", x),
        layers.Einsum: lambda site, op, *inputs: site.add("add_einsum", list(inputs), op.equation),
        layers.OneHot: _one_hot,
        layers.GridSample: _grid_sample,
        layers.CumulativeSum: lambda site, op, x, axis: site.add(
            "add_cumulative", x, axis, site.of("CumulativeOperation", "SUM"), op.exclusive, op.reverse
        ),
    }
)
"""Operations with the functions that add them; what a package lacks is refused when it is added."""
