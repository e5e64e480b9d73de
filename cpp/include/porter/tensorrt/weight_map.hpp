/// \file
/// The weights of a network: who owns them, and what each layer was given.
#pragma once

#include "porter/tensorrt/types.hpp"

#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace porter::trt {

/// TensorRT's type for the elements of a tensor; throws where this version has none.
inline nvinfer1::DataType toDataType(porter::DType dtype, const std::string& tensor)
{
    switch (dtype) {
    case porter::DType::float32: return nvinfer1::DataType::kFLOAT;
    case porter::DType::float16: return nvinfer1::DataType::kHALF;
    case porter::DType::int8: return nvinfer1::DataType::kINT8;
    case porter::DType::int32: return nvinfer1::DataType::kINT32;
    case porter::DType::uint8: return nvinfer1::DataType::kUINT8;
    case porter::DType::boolean: return nvinfer1::DataType::kBOOL;
#if NV_TENSORRT_MAJOR >= 9
    case porter::DType::bfloat16: return nvinfer1::DataType::kBF16;
    case porter::DType::int64: return nvinfer1::DataType::kINT64;
#endif
    default:
        throw TensorRTError("tensor '" + tensor + "' is " + porter::name(dtype) + ", which TensorRT " + std::to_string(NV_TENSORRT_MAJOR) + "."
            + std::to_string(NV_TENSORRT_MINOR) + " has no weights of");
    }
}

/// What a layer holds and what that was made of.
struct Use
{
    std::string layer;                ///< The layer's name.
    std::string role;                 ///< As TensorRT's API names it: `kernel`, `bias`, `shift`, `scale`, `power`, `weights`.
    std::string tensor;               ///< What porter calls the values: the tensor's name where they are a copy.
    std::vector<std::string> sources; ///< The tensors of the file that they were made of; one where they are a copy.
    std::string formula;              ///< `batch_norm.scale`, `batch_norm.shift` …; empty for a copy, bit for bit.
    double epsilon = 0.0;             ///< Of a batch norm.
    nvinfer1::Weights values{};       ///< What TensorRT was given.
};

/// The weights of a network, and a record of each use.
///
/// It owns the memory: TensorRT keeps pointers into it from the moment a layer is added until the engine is built, so a `WeightMap`
/// **must outlive the build**. It can be neither copied nor moved, so that no pointer is left behind.
class WeightMap
{
public:
    /// Reads a file. Narrow to half or bfloat16 with `options.narrow`: what TensorRT gets is of the type that is loaded.
    explicit WeightMap(const std::string& path, const porter::Options& options = {}) : WeightMap(porter::load(path, options)) {}

    /// Takes over tensors that are loaded.
    explicit WeightMap(porter::Weights weights) : weights_(std::move(weights)) {}

    WeightMap(const WeightMap&) = delete;
    WeightMap& operator=(const WeightMap&) = delete;

    /// A tensor as TensorRT takes it, for layers that are added with TensorRT's own functions. Throws `WtsError` with the nearest names
    /// where there is none. Its use is found by its address when the network is checked.
    nvinfer1::Weights at(std::string_view name) const { return view(weights_.at(name)); }

    /// The same, for a tensor that must have this shape; where the file keeps no shapes, as many elements.
    nvinfer1::Weights at(std::string_view name, const Shape& shape) const { return view(weights_.at(name, shape)); }

    /// A tensor for a layer, recorded.
    nvinfer1::Weights take(const std::string& layer, const std::string& role, const std::string& tensor, const Shape& shape)
    {
        const auto values = at(tensor, shape);
        uses_.push_back({layer, role, tensor, {tensor}, "", 0.0, values});
        return values;
    }

    /// Computed values for a layer, recorded; the map owns them from now on. `use.values` says their type and count, and is set.
    nvinfer1::Weights keep(Use use, std::vector<std::uint8_t> bytes)
    {
        // A deque never moves its elements, and a moved vector keeps its memory; that of `new` is aligned for every scalar.
        const auto& kept = kept_.emplace_back(std::move(bytes));
        use.values.values = kept.data();
        uses_.push_back(std::move(use));
        return uses_.back().values;
    }

    /// Whether a tensor exists.
    bool contains(std::string_view name) const { return weights_.contains(name); }

    /// The tensors of the file.
    const porter::Weights& weights() const { return weights_; }

    /// What helpers took and kept, in the order of the calls.
    const std::vector<Use>& uses() const { return uses_; }

    /// A tensor as TensorRT takes it.
    static nvinfer1::Weights view(const porter::Tensor& tensor)
    {
        return {toDataType(tensor.dtype(), tensor.name()), tensor.data(), static_cast<std::int64_t>(tensor.count())};
    }

private:
    porter::Weights weights_;
    std::deque<std::vector<std::uint8_t>> kept_;
    std::vector<Use> uses_;
};

} // namespace porter::trt
