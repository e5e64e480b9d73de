"""How each call is written in C++: by a helper of `porter/wts_tensorrt.hpp`, by TensorRT's own function, or by one that the source brings.

In a form, `{x0}` is the first input, `{xs}` all of them, `{given}` pointers to those after the first, and other words are settings.
Source: NVIDIA/TensorRT, include/NvInfer.h, tags v8.6.1 to v11.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FORMS: Mapping[str, str] = MappingProxyType(
    {
        "convolution": "addConvolution(network, weights, {x0}, {named}, {outputs}, {kernel}{windows})",
        "deconvolution": "addDeconvolution(network, weights, {x0}, {named}, {outputs}, {kernel}{windows})",
        "batch_norm": "addBatchNorm2d(network, weights, {x0}, {named}, {epsilon})",
        "scale": "addScale(network, weights, {x0}, {named}{terms})",
        "general_scale": "named(network.addScaleNd({x0}, {mode}, {shift}, {scale}, {power}, {axis}), {name})",
        "linear": "addLinear(network, weights, {x0}, {named}, {outputs}{no_bias})",
        "prelu": "addPRelu(network, weights, {x0}, {named})",
        "constant": "addConstant(network, weights, {name}, {tensor_from}, {shape})",
        "numbers": "addNumbers<{element}>(network, weights, {name}, {element_type}, {element_shape}, {element_values})",
        "pooling": "addPooling(network, {x0}, {name}, {kind}, {window}{windows})",
        "lrn": "addLrn(network, {x0}, {name}, {window}, {alpha}, {beta}, {k})",
        "flatten": "addFlatten(network, {x0}, {name})",
        "activation": "named(network.addActivation({x0}, {kind}), {name})",
        "activation_with": "addActivation(network, {x0}, {name}, {kind}, {alpha}, {beta})",
        "parametric_relu": "named(network.addParametricReLU({x0}, {x1}), {name})",
        "softmax": "addSoftMax(network, {x0}, {name}, {axis})",
        "elementwise": "named(network.addElementWise({x0}, {x1}, {kind}), {name})",
        "unary": "named(network.addUnary({x0}, {kind}), {name})",
        "concatenation": "addConcatenation(network, {xs}, {name}, {axis})",
        "reshape": "addReshape(network, {x0}, {name}, {shape})",
        "transpose": "addTranspose(network, {x0}, {name}, {order})",
        "shuffle": "addShuffle(network, {x0}, {name}, {first}, {shape_pointer}, {second}, {zero_copies}{given})",
        "matrix_multiply": "named(network.addMatrixMultiply({x0}, {first}, {x1}, {second}), {name})",
        "reduce": "named(network.addReduce({x0}, {kind}, axisBits({axes}), {keep}), {name})",
        "slice": "addSlice(network, {x0}, {name}, {start}, {size}, {stride}, {mode}{given})",
        "resize": "addResize(network, {x0}, {name}, {mode}, {size}, {scales}, {coordinates}, {rounding}, {selector}, {cubic_coefficient}, "
        "{exclude_outside}{given})",
        "gather": "addGather(network, {x0}, {x1}, {name}, {mode}, {axis}, {batch_axes})",
        "scatter": "addScatter(network, {x0}, {x1}, {x2}, {name}, {mode}, {axis})",
        "topk": "addTopK(network, {x0}, {name}, {kind}, {k}, {axis})",
        "select": "named(network.addSelect({x0}, {x1}, {x2}), {name})",
        "cast": "named(network.addCast({x0}, {dtype}), {name})",
        "identity": "named(network.addIdentity({x0}), {name})",
        "quantize": "addQuantize(network, {x0}, {x1}, {name}, {dtype}, {axis}{zero})",
        "dequantize": "addDequantize(network, {x0}, {x1}, {name}, {dtype}, {axis}{zero})",
        "normalization": "addNormalization(network, {x0}, {x1}, {x2}, {name}, {axes}, {epsilon}, {groups})",
        "group_normalization": "addGroupNormalization(network, {x0}, {x1}, {x2}, {name}, {axes}, {epsilon}, {groups})",
        "non_maximum_suppression": "addNms(network, {x0}, {x1}, {x2}, {name}, {box_format}, {limit}{thresholds})",
        "non_zero": "addNonZero(network, {x0}, {name})",
        "shape": "named(network.addShape({x0}), {name})",
        "einsum": "addEinsum(network, {xs}, {name}, {equation})",
        "one_hot": "named(network.addOneHot({x0}, {x1}, {x2}, {axis}), {name})",
        "grid_sample": "addGridSample(network, {x0}, {x1}, {name}, {interpolation}, {align_corners}, {mode})",
        "cumulative_sum": "named(network.addCumulative({x0}, {x1}, CumulativeOperation::kSUM, {exclusive}, {reverse}), {name})",
    }
)

_AXIS_BITS = """\
/// Axes as bits.
std::uint32_t axisBits(const Shape& axes) {
    std::uint32_t bits = 0;
    for (const auto axis : axes) {
        bits |= 1U << static_cast<std::uint32_t>(axis);
    }
    return bits;
}
"""

_ORDER = """\
/// An order of axes; that of no numbers changes nothing.
Permutation orderOf(const Shape& axes) {
    Permutation order{};
    for (std::size_t i = 0; i < static_cast<std::size_t>(Dims::MAX_DIMS); ++i) {
        order.order[i] = static_cast<std::int32_t>(i < axes.size() ? axes[i] : static_cast<std::int64_t>(i));
    }
    return order;
}
"""

_SET_INPUTS = """\
/// Give a layer the inputs after its first ones; null pointers are left out.
void setInputs(ILayer& layer, std::int32_t first, const std::vector<ITensor*>& tensors) {
    for (auto* const tensor : tensors) {
        if (tensor != nullptr) {
            layer.setInput(first, *tensor);
        }
        ++first;
    }
}
"""

_NUMBERS = """\
/// A constant whose values stand in this file.
template <class T>
IConstantLayer* addNumbers(INetworkDefinition& network, WeightMap& weights, const std::string& name, DataType type, const Shape& shape,
                           const std::vector<T>& values) {
    return named(network.addConstant(toDims(shape), weights.state(name, type, values)), name);
}
"""

_ACTIVATION = """\
/// An activation with the numbers that its kind takes.
IActivationLayer* addActivation(INetworkDefinition& network, ITensor& input, const std::string& name, ActivationType kind, float alpha,
                                float beta) {
    auto* const layer = named(network.addActivation(input, kind), name);
    layer->setAlpha(alpha);
    layer->setBeta(beta);
    return layer;
}
"""

_SOFTMAX = """\
/// A softmax along one axis.
ISoftMaxLayer* addSoftMax(INetworkDefinition& network, ITensor& input, const std::string& name, std::int64_t axis) {
    auto* const layer = named(network.addSoftMax(input), name);
    layer->setAxes(1U << static_cast<std::uint32_t>(axis));
    return layer;
}
"""

_CONCATENATION = """\
/// Tensors behind each other along one axis.
IConcatenationLayer* addConcatenation(INetworkDefinition& network, const std::vector<ITensor*>& inputs, const std::string& name,
                                      std::int64_t axis) {
    auto* const layer = named(network.addConcatenation(inputs.data(), static_cast<std::int32_t>(inputs.size())), name);
    layer->setAxis(static_cast<std::int32_t>(axis));
    return layer;
}
"""

_RESHAPE = """\
/// Another shape: 0 is the size that the input has there, -1 what is left.
IShuffleLayer* addReshape(INetworkDefinition& network, ITensor& input, const std::string& name, const Shape& shape) {
    auto* const layer = named(network.addShuffle(input), name);
    layer->setReshapeDimensions(toDims(shape));
    return layer;
}
"""

_TRANSPOSE = """\
/// Axes in another order.
IShuffleLayer* addTranspose(INetworkDefinition& network, ITensor& input, const std::string& name, const Shape& order) {
    auto* const layer = named(network.addShuffle(input), name);
    layer->setFirstTranspose(orderOf(order));
    return layer;
}
"""

_SHUFFLE = """\
/// Transpose, reshape, transpose; no numbers and no shape for a step that changes nothing. The shape may be a tensor.
IShuffleLayer* addShuffle(INetworkDefinition& network, ITensor& input, const std::string& name, const Shape& first,
                          const std::optional<Shape>& shape, const Shape& second, bool zeroCopies,
                          const std::vector<ITensor*>& given = {}) {
    auto* const layer = named(network.addShuffle(input), name);
    layer->setFirstTranspose(orderOf(first));
    layer->setZeroIsPlaceholder(zeroCopies);
    if (shape) {
        layer->setReshapeDimensions(toDims(*shape));
    }
    setInputs(*layer, 1, given);
    layer->setSecondTranspose(orderOf(second));
    return layer;
}
"""

_SLICE = """\
/// A part of a tensor: where it starts, its size, and the steps, along every axis. Tensors that are given stand for these, in that order.
ISliceLayer* addSlice(INetworkDefinition& network, ITensor& input, const std::string& name, const Shape& start, const Shape& size,
                      const Shape& stride, SampleMode mode, const std::vector<ITensor*>& given = {}) {
    auto* const layer = named(network.addSlice(input, toDims(start), toDims(size), toDims(stride)), name);
    layer->setMode(mode);
    setInputs(*layer, 1, given);
    return layer;
}
"""

_RESIZE = """\
/// Interpolation to a size, or by scales, or to a size that is a tensor.
IResizeLayer* addResize(INetworkDefinition& network, ITensor& input, const std::string& name, InterpolationMode mode, const Shape& size,
                        const std::vector<float>& scales, ResizeCoordinateTransformation coordinates, ResizeRoundMode rounding,
                        ResizeSelector selector, float cubicCoefficient, bool excludeOutside, const std::vector<ITensor*>& given = {}) {
    auto* const layer = named(network.addResize(input), name);
    layer->setResizeMode(mode);
    layer->setCoordinateTransformation(coordinates);
    layer->setNearestRounding(rounding);
    layer->setSelectorForSinglePixel(selector);
    layer->setCubicCoeff(cubicCoefficient);
    layer->setExcludeOutside(excludeOutside);
    if (!size.empty()) {
        layer->setOutputDimensions(toDims(size));
    }
    if (!scales.empty()) {
        layer->setScales(scales.data(), static_cast<std::int32_t>(scales.size()));
    }
    setInputs(*layer, 1, given);
    return layer;
}
"""

_GATHER = """\
/// Values at indices along an axis.
IGatherLayer* addGather(INetworkDefinition& network, ITensor& input, ITensor& indices, const std::string& name, GatherMode mode,
                        std::int64_t axis, std::int64_t batchAxes) {
    auto* const layer = named(network.addGatherV2(input, indices, mode), name);
    layer->setGatherAxis(static_cast<std::int32_t>(axis));
    layer->setNbElementWiseDims(static_cast<std::int32_t>(batchAxes));
    return layer;
}
"""

_SCATTER = """\
/// A tensor with other values at some indices.
IScatterLayer* addScatter(INetworkDefinition& network, ITensor& input, ITensor& indices, ITensor& updates, const std::string& name,
                          ScatterMode mode, std::int64_t axis) {
    auto* const layer = named(network.addScatter(input, indices, updates, mode), name);
    layer->setAxis(static_cast<std::int32_t>(axis));
    return layer;
}
"""

_TOP_K = """\
/// The k largest or smallest values along an axis, and their int32 indices.
ITopKLayer* addTopK(INetworkDefinition& network, ITensor& input, const std::string& name, TopKOperation kind, std::int64_t k,
                    std::int64_t axis) {
    const auto count = static_cast<std::int32_t>(k);
    const auto bits = 1U << static_cast<std::uint32_t>(axis);
#if NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 14)
    return named(network.addTopK(input, kind, count, bits, DataType::kINT32), name);
#else
    return named(network.addTopK(input, kind, count, bits), name);
#endif
}
"""

_QUANTIZED = """\
/// {what}, by scales along an axis; -1 is one scale for all.
I{kind}Layer* add{kind}(INetworkDefinition& network, ITensor& input, ITensor& scale, const std::string& name,
                              [[maybe_unused]] DataType type, std::int64_t axis, ITensor* zeroPoint = nullptr) {{
#if NV_TENSORRT_MAJOR >= 9
    auto* const layer = named(network.add{kind}(input, scale, type), name);
#else
    auto* const layer = named(network.add{kind}(input, scale), name);
#endif
    if (axis >= 0) {{
        layer->setAxis(static_cast<std::int32_t>(axis));
    }}
    if (zeroPoint != nullptr) {{
        layer->setInput(2, *zeroPoint);
    }}
    return layer;
}}
"""

_NORMALIZATION = """\
/// Values less their mean over some axes and over their deviation, times a scale and plus a bias for each channel.
INormalizationLayer* addNormalization(INetworkDefinition& network, ITensor& input, ITensor& scale, ITensor& bias, const std::string& name,
                                      const Shape& axes, float epsilon, std::int64_t groups) {
#if NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 15)
    auto* const layer = named(network.addNormalizationV2(input, scale, bias, axisBits(axes)), name);
#else
    if (groups > 1) {
        throw TensorRTError("layer '" + name + "': a scale for each channel of groups needs TensorRT 10.15");
    }
    auto* const layer = named(network.addNormalization(input, scale, bias, axisBits(axes)), name);
#endif
    layer->setEpsilon(epsilon);
    layer->setNbGroups(static_cast<decltype(layer->getNbGroups())>(groups));
    return layer;
}
"""

_GROUP_NORMALIZATION = """\
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif
/// The same with a scale and a bias for each group, which the newer function of TensorRT does not take.
INormalizationLayer* addGroupNormalization(INetworkDefinition& network, ITensor& input, ITensor& scale, ITensor& bias,
                                           const std::string& name, const Shape& axes, float epsilon, std::int64_t groups) {
    auto* const layer = named(network.addNormalization(input, scale, bias, axisBits(axes)), name);
    layer->setEpsilon(epsilon);
    layer->setNbGroups(static_cast<decltype(layer->getNbGroups())>(groups));
    return layer;
}
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
"""

_NMS = """\
/// Boxes that do not overlap too much: indices, and how many there are.
INMSLayer* addNms(INetworkDefinition& network, ITensor& boxes, ITensor& scores, ITensor& most, const std::string& name,
                  BoundingBoxFormat format, std::int64_t limit, const std::vector<ITensor*>& thresholds = {}) {
#if NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 14)
    auto* const layer = named(network.addNMS(boxes, scores, most, DataType::kINT32), name);
#else
    auto* const layer = named(network.addNMS(boxes, scores, most), name);
#endif
    layer->setBoundingBoxFormat(format);
    layer->setTopKBoxLimit(static_cast<std::int32_t>(limit));
    setInputs(*layer, 3, thresholds);
    return layer;
}
"""

_NON_ZERO = """\
/// Int32 indices of what is not zero.
INonZeroLayer* addNonZero(INetworkDefinition& network, ITensor& input, const std::string& name) {
#if NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 14)
    return named(network.addNonZero(input, DataType::kINT32), name);
#else
    return named(network.addNonZero(input), name);
#endif
}
"""

_EINSUM = """\
/// A sum of products, as the equation says.
IEinsumLayer* addEinsum(INetworkDefinition& network, const std::vector<ITensor*>& inputs, const std::string& name,
                        const std::string& equation) {
    return named(network.addEinsum(inputs.data(), static_cast<std::int32_t>(inputs.size()), equation.c_str()), name);
}
"""

_GRID_SAMPLE = """\
/// Values at the places that a grid states.
IGridSampleLayer* addGridSample(INetworkDefinition& network, ITensor& input, ITensor& grid, const std::string& name,
                                InterpolationMode interpolation, bool alignCorners, SampleMode mode) {
    auto* const layer = named(network.addGridSample(input, grid), name);
    layer->setInterpolationMode(interpolation);
    layer->setAlignCorners(alignCorners);
    layer->setSampleMode(mode);
    return layer;
}
"""

HELPERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "numbers": (_NUMBERS,),
        "activation_with": (_ACTIVATION,),
        "softmax": (_SOFTMAX,),
        "concatenation": (_CONCATENATION,),
        "reshape": (_RESHAPE,),
        "transpose": (_ORDER, _TRANSPOSE),
        "shuffle": (_ORDER, _SET_INPUTS, _SHUFFLE),
        "reduce": (_AXIS_BITS,),
        "slice": (_SET_INPUTS, _SLICE),
        "resize": (_SET_INPUTS, _RESIZE),
        "gather": (_GATHER,),
        "scatter": (_SCATTER,),
        "topk": (_TOP_K,),
        "quantize": (_QUANTIZED.format(what="Values as integers or small floats", kind="Quantize"),),
        "dequantize": (_QUANTIZED.format(what="What quantised values stand for", kind="Dequantize"),),
        "normalization": (_AXIS_BITS, _NORMALIZATION),
        "group_normalization": (_AXIS_BITS, _GROUP_NORMALIZATION),
        "non_maximum_suppression": (_SET_INPUTS, _NMS),
        "non_zero": (_NON_ZERO,),
        "einsum": (_EINSUM,),
        "grid_sample": (_GRID_SAMPLE,),
    }
)
"""Functions that the source brings for a call, in the order in which they are defined."""
