"""How each call is written in Python: by TensorRT's own function, or by a function that the source brings.

In a form, `{x0}` is the first input, `{xs}` all of them, `{given}` a list of those after the first, and other words are settings.
Source: NVIDIA/TensorRT, python/src/infer/pyGraph.cpp, tags v8.6.1 to v11.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FORMS: Mapping[str, str] = MappingProxyType(
    {
        "convolution": "convolution(network, weights, {x0}, {name}, {outputs}, {kernel}{windows}{origin})",
        "deconvolution": "deconvolution(network, weights, {x0}, {name}, {outputs}, {kernel}{windows}{origin})",
        "batch_norm": "batch_norm(network, weights, {x0}, {name}, {epsilon}{origin})",
        "scale": "scale(network, weights, {x0}, {name}{terms}{origin})",
        "general_scale": "named(network.add_scale_nd({x0}, {mode}, {shift}, {scale}, {power}, {axis}), {name})",
        "linear": "linear(network, weights, {x0}, {name}, {outputs}{no_bias}{origin})",
        "prelu": "prelu(network, weights, {x0}, {name}{origin})",
        "constant": "named(network.add_constant({shape}, weights[{tensor_from}]), {name})",
        "numbers": "numbers(network, {name}, {element_values}, {element_shape}, {element_type})",
        "pooling": "pooling(network, {x0}, {name}, {kind}, {window}{windows})",
        "lrn": "named(network.add_lrn({x0}, {window}, {alpha}, {beta}, {k}), {name})",
        "flatten": "reshape(network, {x0}, {name}, (0, -1))",
        "activation": "named(network.add_activation({x0}, {kind}), {name})",
        "activation_with": "activation(network, {x0}, {name}, {kind}, {alpha}, {beta})",
        "parametric_relu": "named(network.add_parametric_relu({x0}, {x1}), {name})",
        "softmax": "softmax(network, {x0}, {name}, {axis})",
        "elementwise": "named(network.add_elementwise({x0}, {x1}, {kind}), {name})",
        "unary": "named(network.add_unary({x0}, {kind}), {name})",
        "concatenation": "concatenation(network, {xs}, {name}, {axis})",
        "reshape": "reshape(network, {x0}, {name}, {shape})",
        "transpose": "transpose(network, {x0}, {name}, {order})",
        "shuffle": "shuffle(network, {x0}, {name}, {first}, {shape}, {second}, {zero_copies}{given})",
        "matrix_multiply": "named(network.add_matrix_multiply({x0}, {first}, {x1}, {second}), {name})",
        "reduce": "named(network.add_reduce({x0}, {kind}, axis_bits({axes}), {keep}), {name})",
        "slice": "slice_of(network, {x0}, {name}, {start}, {size}, {stride}, {mode}{given})",
        "resize": "resize(network, {x0}, {name}, {mode}, {size}, {scales}, {coordinates}, {rounding}, {selector}, {cubic_coefficient}, "
        "{exclude_outside}{given})",
        "gather": "gather(network, {x0}, {x1}, {name}, {mode}, {axis}, {batch_axes})",
        "scatter": "scatter(network, {x0}, {x1}, {x2}, {name}, {mode}, {axis})",
        "topk": "named(network.add_topk({x0}, {kind}, {k}, axis_bits(({axis},))), {name})",
        "select": "named(network.add_select({x0}, {x1}, {x2}), {name})",
        "cast": "named(network.add_cast({x0}, {dtype}), {name})",
        "identity": "named(network.add_identity({x0}), {name})",
        "quantize": "quantized(network.add_quantize({x0}, {x1}, {dtype}), {name}, {axis}{zero})",
        "dequantize": "quantized(network.add_dequantize({x0}, {x1}, {dtype}), {name}, {axis}{zero})",
        "normalization": "normalization(network, {x0}, {x1}, {x2}, {name}, {axes}, {epsilon}, {groups})",
        "group_normalization": "group_normalization(network, {x0}, {x1}, {x2}, {name}, {axes}, {epsilon}, {groups})",
        "non_maximum_suppression": "non_maximum_suppression(network, {x0}, {x1}, {x2}, {name}, {box_format}, {limit}{thresholds})",
        "non_zero": "named(network.add_non_zero({x0}), {name})",
        "shape": "named(network.add_shape({x0}), {name})",
        "einsum": "named(network.add_einsum({xs}, {equation}), {name})",
        "one_hot": "named(network.add_one_hot({x0}, {x1}, {x2}, {axis}), {name})",
        "grid_sample": "grid_sample(network, {x0}, {x1}, {name}, {interpolation}, {align_corners}, {mode})",
        "cumulative_sum": "named(network.add_cumulative({x0}, {x1}, trt.CumulativeOperation.SUM, {exclusive}, {reverse}), {name})",
    }
)

_AXIS_BITS = '''\
def axis_bits(axes):
    """Axes as bits."""
    return sum(1 << axis for axis in axes)
'''

_TENSORS = '''\
def tensors_of(weights, name, roles, prefix, tensors):
    """The weights of a layer: called `NAME.ROLE`, or after a prefix, or each by itself."""
    names = tensors or [f"{prefix or name}.{role}" for role in roles]
    missing = [n for n in names if n not in weights]
    if missing:
        raise ValueError(f"the layer {name!r} needs {missing}, which are not there")
    return [weights[n] for n in names]
'''

_SET_WINDOW = '''\
def set_window(layer, stride=None, padding=None, post_padding=None, dilation=None):
    """How a window goes over the image: steps, what is put around, gaps."""
    layer.padding_mode = trt.PaddingMode.EXPLICIT_ROUND_DOWN
    if stride is not None:
        layer.stride_nd = stride
    if padding is not None:
        layer.pre_padding = padding
        layer.post_padding = post_padding or padding
    if dilation is not None:
        layer.dilation_nd = dilation
'''

_CONVOLUTION = '''\
def {function}(
    network,
    weights,
    x,
    name,
    outputs,
    kernel,
    *,
    groups=1,
    bias=True,
    prefix=None,
    tensors=None,
    **window,
):
    """{what}: `NAME.weight`, `NAME.bias`."""
    roles = ["weight", "bias"] if bias else ["weight"]
    held = tensors_of(weights, name, roles, prefix, tensors)
    layer = network.{method}(
        x, outputs, kernel, held[0], held[1] if bias else None
    )
    output = named(layer, name)
    layer.num_groups = groups
    set_window(layer, **window)
    return output
'''

_POOLING = '''\
def pooling(network, x, name, kind, window, *, counts_padding=False, **steps):
    """The largest value or the mean of each window; sizes are rounded down."""
    layer = network.add_pooling_nd(x, kind, window)
    output = named(layer, name)
    set_window(layer, **steps)
    if kind != trt.PoolingType.MAX:
        layer.average_count_excludes_padding = not counts_padding
    return output
'''

_BATCH_NORM = '''\
def batch_norm(network, weights, x, name, epsilon, *, prefix=None, tensors=None):
    """A batch normalisation as a scale and a shift, computed in float64 and rounded once."""
    roles = ["weight", "bias", "running_mean", "running_var"]
    held = tensors_of(weights, name, roles, prefix, tensors)
    weight, bias, mean, variance = (v.astype(np.float64).ravel() for v in held)
    with np.errstate(all="ignore"):
        factor = weight / np.sqrt(variance + epsilon)
        shift = (bias - mean * factor).astype(np.float32)
        factor = factor.astype(np.float32)
    mode, power = trt.ScaleMode.CHANNEL, trt.Weights()
    return named(network.add_scale_nd(x, mode, shift, factor, power, 1), name)
'''

_SCALE = '''\
def scale(
    network, weights, x, name, *, weight=True, bias=True, prefix=None, tensors=None
):
    """A factor and an addend for each channel: `NAME.weight`, `NAME.bias`."""
    roles = [r for r, there in (("weight", weight), ("bias", bias)) if there]
    held = iter(tensors_of(weights, name, roles, prefix, tensors))
    factor = next(held) if weight else trt.Weights()
    shift = next(held) if bias else trt.Weights()
    mode, power = trt.ScaleMode.CHANNEL, trt.Weights()
    return named(network.add_scale_nd(x, mode, shift, factor, power, 1), name)
'''

_LINEAR = '''\
def linear(network, weights, x, name, outputs, *, bias=True, prefix=None, tensors=None):
    """x weight^T + bias: `NAME.weight`, `NAME.bias`, as four layers."""
    roles = ["weight", "bias"] if bias else ["weight"]
    held = tensors_of(weights, name, roles, prefix, tensors)
    none, turned = trt.MatrixOperation.NONE, trt.MatrixOperation.TRANSPOSE
    shape = (outputs, held[0].size // outputs)
    matrix = named(network.add_constant(shape, held[0]), f"{name}/weight")
    layer = network.add_matrix_multiply(x, none, matrix, turned)
    if not bias:
        return named(layer, name)
    product = named(layer, f"{name}/product")
    row = named(network.add_constant((1, outputs), held[1]), f"{name}/bias")
    layer = network.add_elementwise(product, row, trt.ElementWiseOperation.SUM)
    return named(layer, name)
'''

_PRELU = '''\
def prelu(network, weights, x, name, *, prefix=None, tensors=None):
    """max(x, 0) + weight * min(x, 0), a weight for each channel: `NAME.weight`."""
    (slope,) = tensors_of(weights, name, ["weight"], prefix, tensors)
    shape = (1, slope.size) + (1,) * (len(x.shape) - 2)
    slopes = named(network.add_constant(shape, slope), f"{name}/slope")
    return named(network.add_parametric_relu(x, slopes), name)
'''

_NUMBERS = '''\
def numbers(network, name, values, shape, dtype):
    """A constant whose values stand in this file."""
    array = np.array(values, dtype).reshape(shape)
    return named(network.add_constant(shape, trt.Weights(array)), name)
'''

_ACTIVATION = '''\
def activation(network, x, name, kind, alpha, beta):
    """An activation with the numbers that its kind takes."""
    layer = network.add_activation(x, kind)
    output = named(layer, name)
    layer.alpha, layer.beta = alpha, beta
    return output
'''

_SOFTMAX = '''\
def softmax(network, x, name, axis):
    """A softmax along one axis."""
    layer = network.add_softmax(x)
    output = named(layer, name)
    layer.axes = 1 << axis
    return output
'''

_CONCATENATION = '''\
def concatenation(network, tensors, name, axis):
    """Tensors behind each other along one axis."""
    layer = network.add_concatenation(tensors)
    output = named(layer, name)
    layer.axis = axis
    return output
'''

_RESHAPE = '''\
def reshape(network, x, name, shape):
    """Another shape: 0 is the size that the input has there, -1 what is left."""
    layer = network.add_shuffle(x)
    output = named(layer, name)
    layer.reshape_dims = shape
    return output
'''

_TRANSPOSE = '''\
def transpose(network, x, name, order):
    """Axes in another order."""
    layer = network.add_shuffle(x)
    output = named(layer, name)
    layer.first_transpose = order
    return output
'''

_SHUFFLE = '''\
def shuffle(network, x, name, first, shape, second, zero_copies, given=()):
    """Transpose, reshape, transpose; None for a step that changes nothing."""
    layer = network.add_shuffle(x)
    output = named(layer, name)
    if first is not None:
        layer.first_transpose = first
    layer.zero_is_placeholder = zero_copies
    if shape is not None:
        layer.reshape_dims = shape
    set_inputs(layer, 1, given)
    if second is not None:
        layer.second_transpose = second
    return output
'''

_SET_INPUTS = '''\
def set_inputs(layer, first, tensors):
    """Give a layer the inputs after its first ones; None is left out."""
    for index, tensor in enumerate(tensors, first):
        if tensor is not None:
            layer.set_input(index, tensor)
'''

_SLICE = '''\
def slice_of(network, x, name, start, size, stride, mode, given=()):
    """A part of a tensor; tensors that are given stand for start, size and stride."""
    layer = network.add_slice(x, start, size, stride)
    output = named(layer, name)
    layer.mode = mode
    set_inputs(layer, 1, given)
    return output
'''

_RESIZE = '''\
def resize(
    network,
    x,
    name,
    mode,
    size,
    scales,
    coordinates,
    rounding,
    selector,
    cubic_coefficient,
    exclude_outside,
    given=(),
):
    """Interpolation to a size, or by scales, or to a size that is a tensor."""
    layer = network.add_resize(x)
    output = named(layer, name)
    layer.resize_mode = mode
    layer.coordinate_transformation = coordinates
    layer.nearest_rounding = rounding
    layer.selector_for_single_pixel = selector
    layer.cubic_coeff = cubic_coefficient
    layer.exclude_outside = exclude_outside
    if size is not None:
        layer.shape = size
    elif scales is not None:
        layer.scales = list(scales)
    set_inputs(layer, 1, given)
    return output
'''

_GATHER = '''\
def gather(network, x, indices, name, mode, axis, batch_axes):
    """Values at indices along an axis."""
    layer = network.add_gather_v2(x, indices, mode)
    output = named(layer, name)
    layer.axis, layer.num_elementwise_dims = axis, batch_axes
    return output
'''

_SCATTER = '''\
def scatter(network, x, indices, updates, name, mode, axis):
    """A tensor with other values at some indices."""
    layer = network.add_scatter(x, indices, updates, mode)
    output = named(layer, name)
    layer.axis = axis
    return output
'''

_QUANTIZED = '''\
def quantized(layer, name, axis, zero_point=None):
    """The settings of a layer to or from integers: the axis of its scales, zero points."""
    output = named(layer, name)
    if axis is not None:
        layer.axis = axis
    if zero_point is not None:
        layer.set_input(2, zero_point)
    return output
'''

_NORMALIZATION = '''\
def normalization(network, x, factor, shift, name, axes, epsilon, groups):
    """Values less their mean over some axes, over their deviation."""
    newer = hasattr(network, "add_normalization_v2")
    if groups > 1 and not newer:
        raise RuntimeError(f"the layer {name!r} needs TensorRT 10.15")
    add = network.add_normalization_v2 if newer else network.add_normalization
    layer = add(x, factor, shift, axis_bits(axes))
    output = named(layer, name)
    layer.epsilon, layer.num_groups = epsilon, groups
    return output
'''

_GROUP_NORMALIZATION = '''\
def group_normalization(network, x, factor, shift, name, axes, epsilon, groups):
    """The same with a factor and a shift for each group."""
    layer = network.add_normalization(x, factor, shift, axis_bits(axes))
    output = named(layer, name)
    layer.epsilon, layer.num_groups = epsilon, groups
    return output
'''

_NMS = '''\
def non_maximum_suppression(network, boxes, scores, most, name, kind, limit, given=()):
    """Boxes that do not overlap too much: indices, and how many there are."""
    layer = network.add_nms(boxes, scores, most)
    outputs = named(layer, name)
    layer.bounding_box_format, layer.topk_box_limit = kind, limit
    set_inputs(layer, 3, given)
    return outputs
'''

_GRID_SAMPLE = '''\
def grid_sample(network, x, grid, name, interpolation, align_corners, mode):
    """Values at the places that a grid states."""
    layer = network.add_grid_sample(x, grid)
    output = named(layer, name)
    layer.interpolation_mode, layer.sample_mode = interpolation, mode
    layer.align_corners = align_corners
    return output
'''

HELPERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "convolution": (
            _TENSORS,
            _SET_WINDOW,
            _CONVOLUTION.replace("{function}", "convolution").replace("{method}", "add_convolution_nd").replace("{what}", "A convolution"),
        ),
        "deconvolution": (
            _TENSORS,
            _SET_WINDOW,
            _CONVOLUTION.replace("{function}", "deconvolution")
            .replace("{method}", "add_deconvolution_nd")
            .replace("{what}", "The transpose of a convolution"),
        ),
        "pooling": (_SET_WINDOW, _POOLING),
        "batch_norm": (_TENSORS, _BATCH_NORM),
        "scale": (_TENSORS, _SCALE),
        "linear": (_TENSORS, _LINEAR),
        "prelu": (_TENSORS, _PRELU),
        "numbers": (_NUMBERS,),
        "activation_with": (_ACTIVATION,),
        "softmax": (_SOFTMAX,),
        "concatenation": (_CONCATENATION,),
        "reshape": (_RESHAPE,),
        "flatten": (_RESHAPE,),
        "transpose": (_TRANSPOSE,),
        "shuffle": (_SET_INPUTS, _SHUFFLE),
        "reduce": (_AXIS_BITS,),
        "topk": (_AXIS_BITS,),
        "slice": (_SET_INPUTS, _SLICE),
        "resize": (_SET_INPUTS, _RESIZE),
        "gather": (_GATHER,),
        "scatter": (_SCATTER,),
        "quantize": (_QUANTIZED,),
        "dequantize": (_QUANTIZED,),
        "normalization": (_AXIS_BITS, _NORMALIZATION),
        "group_normalization": (_AXIS_BITS, _GROUP_NORMALIZATION),
        "non_maximum_suppression": (_SET_INPUTS, _NMS),
        "grid_sample": (_GRID_SAMPLE,),
    }
)
"""Functions that the source brings for a call, in the order in which they are defined."""
