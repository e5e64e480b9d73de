#pragma once

/// Layers with weights, in the style in which networks of TensorRT are written: the network, the weights, the input, a name.
///
/// Tensors are looked up as PyTorch names them, `NAME.weight`, `NAME.bias`, `NAME.running_mean`, `NAME.running_var`; see `Name` for others.

#include <porter/tensorrt/logger.hpp>
#include <porter/tensorrt/types.hpp>
#include <porter/tensorrt/weight_map.hpp>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace porter::trt {

/// What a layer is called, and its tensors: `PREFIX.weight` and so on, where the prefix is the layer's name unless it is given;
/// or names of their own, in the order in which the helper takes them, "" for one that is as usual.
///
///     "conv1"                                        conv1.weight, conv1.bias
///     {"conv1", "features.0"}                        features.0.weight, features.0.bias
///     Name("conv1").from({"w1", "b1"})               w1, b1
class Name {
public:
    Name(const char* layer) : Name(std::string(layer)) {}
    Name(std::string layer) : layer_(layer), prefix_(std::move(layer)) {}
    Name(std::string layer, std::string prefix) : layer_(std::move(layer)), prefix_(std::move(prefix)) {}

    Name& from(std::initializer_list<std::string> tensors) {
        tensors_ = tensors;
        return *this;
    }

    const std::string& layer() const { return layer_; }

    /// The name of the tensor that a helper takes as number `index`.
    std::string tensor(std::size_t index, const std::string& role) const {
        return index < tensors_.size() && !tensors_[index].empty() ? tensors_[index] : prefix_ + "." + role;
    }

private:
    std::string layer_;
    std::string prefix_;
    std::vector<std::string> tensors_;
};

/// Settings of a convolution or deconvolution, one number for each axis of the window. What is not set is 1, and 0 for padding.
struct Conv {
    Shape strides, before, after, dilations;
    std::int64_t groupCount = 1;
    bool hasBias = true;

    Conv& stride(Shape value) { return strides = std::move(value), *this; }
    Conv& padding(Shape value) { return before = after = std::move(value), *this; }
    Conv& padding(Shape pre, Shape post) { return before = std::move(pre), after = std::move(post), *this; }
    Conv& dilation(Shape value) { return dilations = std::move(value), *this; }
    Conv& groups(std::int64_t value) { return groupCount = value, *this; }
    Conv& noBias() { return hasBias = false, *this; }
};

/// Settings of a pooling, one number for each axis of the window.
struct Pool {
    Shape strides, before, after;
    bool countsPadding = false;
    bool caffeRule = false;

    Pool& stride(Shape value) { return strides = std::move(value), *this; }
    Pool& padding(Shape value) { return before = after = std::move(value), *this; }
    Pool& padding(Shape pre, Shape post) { return before = std::move(pre), after = std::move(post), *this; }
    /// An average divides by the size of the window, padding included.
    Pool& countPadding() { return countsPadding = true, *this; }
    /// Caffe's rule: sizes are rounded up, and a last window that would begin in the padding is left out. Sizes must be known.
    Pool& caffe() { return caffeRule = true, *this; }
};

/// Which terms a scale has.
enum class Terms { weight_and_bias, weight, bias };

/// Name a layer that was added with TensorRT's own function, and throw where TensorRT refused it.
template <class Layer>
Layer* named(Layer* layer, const std::string& name, nvinfer1::ILogger* logger = nullptr) {
    if (layer == nullptr) {
        refuse("TensorRT refused the layer '" + name + "'", logger);
    }
    layer->setName(name.c_str());
    return layer;
}

/// An input; -1 is a size that is open.
inline nvinfer1::ITensor* addInput(nvinfer1::INetworkDefinition& network, const std::string& name, nvinfer1::DataType type,
                                   const Shape& shape) {
    auto* const input = network.addInput(name.c_str(), type, toDims(shape));
    if (input == nullptr) {
        refuse("TensorRT refused the input '" + name + "'", network.getBuilder().getLogger());
    }
    return input;
}

/// Name a tensor and mark it as an output.
inline void markOutput(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& tensor, const std::string& name) {
    if (tensor.getDimensions().nbDims < 0) {
        refuse("the output '" + name + "' has no shape", network.getBuilder().getLogger());
    }
    tensor.setName(name.c_str());
    network.markOutput(tensor);
}

namespace detail {

/// The layer, named; where TensorRT refused it, an error with what its log said.
template <class Layer>
Layer* added(nvinfer1::INetworkDefinition& network, Layer* layer, const std::string& name) {
    return named(layer, name, network.getBuilder().getLogger());
}

/// A setting for each axis of a window of `rank` axes: as it was given, or `usual`.
inline nvinfer1::Dims perAxis(const Shape& given, std::size_t rank, std::int64_t usual, const std::string& layer, const char* what) {
    if (!given.empty() && given.size() != rank) {
        throw TensorRTError("layer '" + layer + "': " + what + " " + shapeText(given) + " for a window of " + std::to_string(rank) +
                            " axes");
    }
    return toDims(given.empty() ? Shape(rank, usual) : given);
}

/// The shape of a layer's input; it must have at least `rank` axes. Where a layer before was wrong, TensorRT says so here.
inline Shape inputShape(nvinfer1::INetworkDefinition& network, const nvinfer1::ITensor& input, const std::string& layer, std::size_t rank) {
    const nvinfer1::Dims dims = input.getDimensions();
    if (dims.nbDims < 0) {
        refuse("the input of layer '" + layer + "' has no shape", network.getBuilder().getLogger());
    }
    Shape shape = toShape(dims);
    if (shape.size() < rank) {
        throw TensorRTError("layer '" + layer + "': its input is " + shapeText(shape) + "; at least " + std::to_string(rank) +
                            " axes are needed");
    }
    return shape;
}

/// A size of a layer's input that weights depend on.
inline std::int64_t known(const Shape& shape, std::size_t axis, const std::string& layer) {
    if (shape[axis] < 0) {
        throw TensorRTError("layer '" + layer + "': axis " + std::to_string(axis) + " of its input " + shapeText(shape) +
                            " is open, and its weights depend on it");
    }
    return shape[axis];
}

/// Channels over groups; throws where they do not divide.
inline std::int64_t perGroup(std::int64_t channels, std::int64_t groups, const std::string& layer) {
    if (groups < 1 || channels % groups != 0) {
        throw TensorRTError("layer '" + layer + "': " + std::to_string(channels) + " channels in " + std::to_string(groups) + " groups");
    }
    return channels / groups;
}

/// What convolutions and deconvolutions share once they are added.
template <class Layer>
void set(Layer& layer, const Conv& settings, std::size_t rank, const std::string& name) {
    layer.setStrideNd(perAxis(settings.strides, rank, 1, name, "stride"));
    layer.setPrePadding(perAxis(settings.before, rank, 0, name, "padding"));
    layer.setPostPadding(perAxis(settings.after, rank, 0, name, "padding"));
    layer.setDilationNd(perAxis(settings.dilations, rank, 1, name, "dilation"));
    layer.setNbGroups(static_cast<Size>(settings.groupCount));
}

/// The bias of a layer, or none, of the type that its kernel has.
inline nvinfer1::Weights biasOf(WeightMap& weights, const Name& name, std::int64_t outputs, bool has, nvinfer1::DataType type) {
    return has ? weights.take(name.layer(), "bias", name.tensor(1, "bias"), {outputs}) : nvinfer1::Weights{type, nullptr, 0};
}

/// `kernel` behind two sizes.
inline Shape kernelShape(std::int64_t first, std::int64_t second, const Shape& kernel) {
    Shape shape{first, second};
    shape.insert(shape.end(), kernel.begin(), kernel.end());
    return shape;
}

} // namespace detail

/// Cross-correlation. Tensors: weight `(outputs, inputs / groups, *kernel)`, bias `(outputs,)`.
inline nvinfer1::IConvolutionLayer* addConvolution(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input,
                                                   const Name& name, std::int64_t outputs, const Shape& kernel, const Conv& settings = {}) {
    const auto& layer = name.layer();
    const Shape shape = detail::inputShape(network, input, layer, kernel.size() + 2);
    const std::int64_t inputs = detail::perGroup(detail::known(shape, 1, layer), settings.groupCount, layer);
    const auto values = weights.take(layer, "kernel", name.tensor(0, "weight"), detail::kernelShape(outputs, inputs, kernel));
    const auto bias = detail::biasOf(weights, name, outputs, settings.hasBias, values.type);
    auto* const added =
        detail::added(network, network.addConvolutionNd(input, static_cast<Size>(outputs), toDims(kernel), values, bias), layer);
    detail::set(*added, settings, kernel.size(), layer);
    return added;
}

/// The transpose of a convolution. Tensors: weight `(inputs, outputs / groups, *kernel)`, bias `(outputs,)`. Padding is cut from the result.
inline nvinfer1::IDeconvolutionLayer* addDeconvolution(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input,
                                                       const Name& name, std::int64_t outputs, const Shape& kernel,
                                                       const Conv& settings = {}) {
    const auto& layer = name.layer();
    const Shape shape = detail::inputShape(network, input, layer, kernel.size() + 2);
    const std::int64_t inputs = detail::known(shape, 1, layer);
    const std::int64_t perGroup = detail::perGroup(outputs, settings.groupCount, layer);
    const auto values = weights.take(layer, "kernel", name.tensor(0, "weight"), detail::kernelShape(inputs, perGroup, kernel));
    const auto bias = detail::biasOf(weights, name, outputs, settings.hasBias, values.type);
    auto* const added =
        detail::added(network, network.addDeconvolutionNd(input, static_cast<Size>(outputs), toDims(kernel), values, bias), layer);
    detail::set(*added, settings, kernel.size(), layer);
    return added;
}

/// A batch normalisation as a scale along axis 1: see `BatchNorm`. Tensors: weight, bias, running_mean, running_var, each `(channels,)`.
/// TensorRT's scale needs four axes or more.
inline nvinfer1::IScaleLayer* addBatchNorm2d(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input,
                                             const Name& name, double epsilon = 1e-5) {
    const auto& layer = name.layer();
    const std::int64_t channels = detail::known(detail::inputShape(network, input, layer, 4), 1, layer);
    const std::vector<std::string> sources{name.tensor(0, "weight"), name.tensor(1, "bias"), name.tensor(2, "running_mean"),
                                           name.tensor(3, "running_var")};
    for (const auto& source : sources) {
        weights.at(source, {channels});
    }
    const auto shift = weights.compute({layer, "shift", sources, "batch_norm.shift", epsilon, {}, {}});
    const auto scale = weights.compute({layer, "scale", sources, "batch_norm.scale", epsilon, {}, {}});
    const nvinfer1::Weights power{scale.type, nullptr, 0};
    return detail::added(network, network.addScaleNd(input, nvinfer1::ScaleMode::kCHANNEL, shift, scale, power, 1), layer);
}

/// x * weight + bias along axis 1. Tensors: weight, bias, each `(channels,)`.
inline nvinfer1::IScaleLayer* addScale(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input,
                                       const Name& name, Terms terms = Terms::weight_and_bias) {
    const auto& layer = name.layer();
    const std::int64_t channels = detail::known(detail::inputShape(network, input, layer, 4), 1, layer);
    nvinfer1::Weights shift{};
    nvinfer1::Weights scale{};
    if (terms != Terms::weight) {
        shift = weights.take(layer, "shift", name.tensor(1, "bias"), {channels});
        scale.type = shift.type;
    }
    if (terms != Terms::bias) {
        scale = weights.take(layer, "scale", name.tensor(0, "weight"), {channels});
        shift.type = terms == Terms::weight ? scale.type : shift.type;
    }
    const nvinfer1::Weights power{scale.type, nullptr, 0};
    return detail::added(network, network.addScaleNd(input, nvinfer1::ScaleMode::kCHANNEL, shift, scale, power, 1), layer);
}

/// A tensor of the file as a constant of this shape.
inline nvinfer1::IConstantLayer* addConstant(nvinfer1::INetworkDefinition& network, WeightMap& weights, const std::string& name,
                                             const std::string& tensor, const Shape& shape) {
    const auto values = weights.take(name, "weights", tensor, shape);
    return detail::added(network, network.addConstant(toDims(shape), values), name);
}

namespace detail {

/// A constant whose tensor has another shape in the file: the same values, with axes of size 1 around them.
inline nvinfer1::ITensor* constantOf(nvinfer1::INetworkDefinition& network, WeightMap& weights, const std::string& name,
                                     const std::string& tensor, const Shape& shape, const Shape& as) {
    const auto values = weights.take(name, "weights", tensor, shape);
    return added(network, network.addConstant(toDims(as), values), name)->getOutput(0);
}

} // namespace detail

/// The tensor as another type, and as it is where it has that type: `addCast(network, x, "half", weights.type())` behind the inputs and
/// `addCast(network, x, "float", nvinfer1::DataType::kFLOAT)` before the outputs let a network compute in the type of its weights.
inline nvinfer1::ITensor* addCast(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name,
                                  nvinfer1::DataType type) {
    return input.getType() == type ? &input : detail::added(network, network.addCast(input, type), name)->getOutput(0);
}

/// All axes behind the first become one.
inline nvinfer1::IShuffleLayer* addFlatten(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name) {
    auto* const layer = detail::added(network, network.addShuffle(input), name);
    layer->setReshapeDimensions(toDims({0, -1}));
    return layer;
}

/// x weightᵀ + bias over the last axis, in any version of TensorRT. Tensors: weight `(outputs, inputs)`, bias `(outputs,)`.
/// Layers: the constants `NAME/weight` and `NAME/bias`, `NAME/product`, and the sum, `NAME`; without a bias `NAME` is the product.
inline nvinfer1::ILayer* addLinear(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name,
                                   std::int64_t outputs, bool bias = true) {
    const auto& layer = name.layer();
    const Shape shape = detail::inputShape(network, input, layer, 2);
    const std::int64_t inputs = detail::known(shape, shape.size() - 1, layer);
    Shape as(shape.size(), 1);
    as[as.size() - 2] = outputs;
    as[as.size() - 1] = inputs;
    auto* const weight = detail::constantOf(network, weights, layer + "/weight", name.tensor(0, "weight"), {outputs, inputs}, as);
    auto* const product = detail::added(
        network, network.addMatrixMultiply(input, nvinfer1::MatrixOperation::kNONE, *weight, nvinfer1::MatrixOperation::kTRANSPOSE),
        bias ? layer + "/product" : layer);
    if (!bias) {
        return product;
    }
    as[as.size() - 2] = 1;
    as[as.size() - 1] = outputs;
    auto* const added = detail::constantOf(network, weights, layer + "/bias", name.tensor(1, "bias"), {outputs}, as);
    return detail::added(network, network.addElementWise(*product->getOutput(0), *added, nvinfer1::ElementWiseOperation::kSUM), layer);
}

/// max(x, 0) + weight * min(x, 0). Tensor: weight, `(channels,)`, or `(1,)` for `shared`. Layers: the constant `NAME/slope`, and `NAME`.
inline nvinfer1::IParametricReLULayer* addPRelu(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input,
                                                const Name& name, bool shared = false) {
    const auto& layer = name.layer();
    const Shape shape = detail::inputShape(network, input, layer, 2);
    const std::int64_t slopes = shared ? 1 : detail::known(shape, 1, layer);
    Shape as(shape.size(), 1);
    as[1] = slopes;
    auto* const weight = detail::constantOf(network, weights, layer + "/slope", name.tensor(0, "weight"), {slopes}, as);
    return detail::added(network, network.addParametricReLU(input, *weight), layer);
}

/// x / (k + alpha * mean of squares in the window across channels) ** beta: alpha is divided by `window`, as in Caffe, ONNX and PyTorch.
inline nvinfer1::ILRNLayer* addLrn(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name,
                                   std::int64_t window, float alpha, float beta, float k) {
    return detail::added(network, network.addLRN(input, static_cast<Size>(window), alpha, beta, k), name);
}

/// What Caffe's rule needs behind an axis, so that sizes which are rounded down come out as Caffe's.
///
/// Caffe rounds up, and drops a last window that would begin in the padding. Source: BVLC/caffe, src/caffe/layers/pooling_layer.cpp, 1.0.
inline std::int64_t caffePostPadding(std::int64_t size, std::int64_t window, std::int64_t stride, std::int64_t padding) {
    std::int64_t count = (size + 2 * padding - window + stride - 1) / stride + 1;
    if (padding > 0 && (count - 1) * stride >= size + padding) {
        --count;
    }
    return std::max<std::int64_t>(0, (count - 1) * stride + window - size - padding);
}

/// A pooling; sizes are rounded down, or follow Caffe's rule.
inline nvinfer1::IPoolingLayer* addPooling(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name,
                                           nvinfer1::PoolingType type, const Shape& window, const Pool& settings = {}) {
    const Shape shape = detail::inputShape(network, input, name, window.size() + 2);
    const auto stride = detail::perAxis(settings.strides, window.size(), 1, name, "stride");
    const auto before = detail::perAxis(settings.before, window.size(), 0, name, "padding");
    auto after = detail::perAxis(settings.after, window.size(), 0, name, "padding");
    bool countsPadding = settings.countsPadding;
    for (std::size_t axis = 0; settings.caffeRule && axis < window.size(); ++axis) {
        const std::int64_t size = detail::known(shape, shape.size() - window.size() + axis, name);
        after.d[axis] = static_cast<Size>(caffePostPadding(size, window[axis], stride.d[axis], before.d[axis]));
        countsPadding = countsPadding || before.d[axis] > 0;
    }
    // Caffe counts its own padding and nothing behind it, TensorRT all padding or none.
    for (std::size_t axis = 0; settings.caffeRule && countsPadding && axis < window.size(); ++axis) {
        if (type != nvinfer1::PoolingType::kMAX && after.d[axis] > before.d[axis]) {
            throw TensorRTError("layer '" + name + "': Caffe's average counts its padding of " + std::to_string(before.d[axis]) +
                                " and not what is behind it; TensorRT has no such average");
        }
    }
    auto* const layer = detail::added(network, network.addPoolingNd(input, type, toDims(window)), name);
    layer->setStrideNd(stride);
    layer->setPaddingMode(nvinfer1::PaddingMode::kEXPLICIT_ROUND_DOWN);
    layer->setPrePadding(before);
    layer->setPostPadding(after);
    if (type != nvinfer1::PoolingType::kMAX) {
        layer->setAverageCountExcludesPadding(!countsPadding);
    }
    return layer;
}

} // namespace porter::trt
