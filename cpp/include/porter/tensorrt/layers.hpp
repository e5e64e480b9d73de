/// \file
/// Layers with weights, in the style in which networks of TensorRT are written: the network, the weights, the input, a name.
///
/// Tensors are looked up as PyTorch names them, `NAME.weight`, `NAME.bias`, `NAME.running_mean`, `NAME.running_var`; see `Name` for others.
#pragma once

#include "porter/tensorrt/batch_norm.hpp"
#include "porter/tensorrt/logger.hpp"
#include "porter/tensorrt/types.hpp"
#include "porter/tensorrt/weight_map.hpp"

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
class Name
{
public:
    Name(const char* layer) : Name(std::string(layer)) {}
    Name(std::string layer) : layer_(layer), prefix_(std::move(layer)) {}
    Name(std::string layer, std::string prefix) : layer_(std::move(layer)), prefix_(std::move(prefix)) {}

    Name& from(std::initializer_list<std::string> tensors)
    {
        tensors_ = tensors;
        return *this;
    }

    const std::string& layer() const { return layer_; }

    /// The name of the tensor that a helper takes as number `index`.
    std::string tensor(std::size_t index, const std::string& role) const
    {
        return index < tensors_.size() && !tensors_[index].empty() ? tensors_[index] : prefix_ + "." + role;
    }

private:
    std::string layer_;
    std::string prefix_;
    std::vector<std::string> tensors_;
};

/// Settings of a convolution or deconvolution, one number for each axis of the window. What is not set is 1, and 0 for padding.
struct Conv
{
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
struct Pool
{
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
Layer* named(Layer* layer, const std::string& name);

/// An input; -1 is a size that is open.
nvinfer1::ITensor* addInput(nvinfer1::INetworkDefinition& network, const std::string& name, nvinfer1::DataType type, const Shape& shape);

/// Name a tensor and mark it as an output.
void markOutput(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& tensor, const std::string& name);

/// Cross-correlation. Tensors: weight `(outputs, inputs / groups, *kernel)`, bias `(outputs,)`.
nvinfer1::IConvolutionLayer* addConvolution(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name,
    std::int64_t outputs, const Shape& kernel, const Conv& settings = {});

/// The transpose of a convolution. Tensors: weight `(inputs, outputs / groups, *kernel)`, bias `(outputs,)`. Padding is cut from the result.
nvinfer1::IDeconvolutionLayer* addDeconvolution(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name,
    std::int64_t outputs, const Shape& kernel, const Conv& settings = {});

/// A batch normalisation as a scale along axis 1. Tensors: weight, bias, running_mean, running_var, each `(channels,)`.
nvinfer1::IScaleLayer* addBatchNorm2d(
    nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name, double epsilon = 1e-5);

/// x * weight + bias along axis 1. Tensors: weight, bias, each `(channels,)`.
nvinfer1::IScaleLayer* addScale(
    nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name, Terms terms = Terms::weight_and_bias);

/// All axes behind the first become one: `NAME` is a shuffle.
nvinfer1::IShuffleLayer* addFlatten(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name);

/// x weightᵀ + bias over the last axis. Tensors: weight `(outputs, inputs)`, bias `(outputs,)`. Layers: `NAME/weight`, `NAME/bias`
/// constants, `NAME/multiply` and `NAME` the sum; without a bias `NAME/weight` and `NAME`. The last one is returned.
nvinfer1::ILayer* addLinear(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name, std::int64_t outputs,
    bool bias = true);

/// max(x, 0) + weight * min(x, 0). Tensor: weight, `(channels,)` or one slope for all. Layers: `NAME/slopes` a constant, `NAME`.
nvinfer1::IParametricReLULayer* addPRelu(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name);

/// x / (k + alpha * mean of squares in the window across channels) ** beta: alpha is divided by `window`, as in Caffe, ONNX and PyTorch.
nvinfer1::ILRNLayer* addLrn(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name, std::int64_t window, float alpha,
    float beta, float k);

/// A pooling; sizes are rounded down, or follow Caffe's rule.
nvinfer1::IPoolingLayer* addPooling(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name, nvinfer1::PoolingType type,
    const Shape& window, const Pool& settings = {});

/// A tensor of the file as a constant of this shape.
nvinfer1::IConstantLayer* addConstant(
    nvinfer1::INetworkDefinition& network, WeightMap& weights, const std::string& name, const std::string& tensor, const Shape& shape);

} // namespace porter::trt
