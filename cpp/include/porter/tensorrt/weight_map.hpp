#pragma once

/// The weights of a network: who owns them, and what each layer was given.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <porter/tensorrt/rounding.hpp>
#include <porter/tensorrt/types.hpp>

namespace porter::trt {

/// What a layer holds and what that was made of.
struct Use {
    std::string layer;                ///< The layer's name.
    std::string role;                 ///< As TensorRT's API names it: `kernel`, `bias`, `shift`, `scale`, `power`, `weights`.
    std::vector<std::string> sources; ///< The tensors of the file that the values were made of; one where they are a copy.
    std::string formula;              ///< `cast`, `batch_norm.scale`, `batch_norm.shift`, `stated`; empty for a copy, bit for bit.
    double epsilon = 0.0;             ///< Of a batch norm.
    porter::DType dtype{};            ///< Of the values.
    nvinfer1::Weights values{};       ///< What TensorRT was given.
};

/// Values in memory, as they are computed.
struct Computed {
    std::vector<std::uint8_t> bytes;
    std::size_t count = 0;
    std::size_t overflowed = 0;  ///< Finite values that became infinite.
    std::size_t underflowed = 0; ///< Values that became zero.
};

/// scale = weight / sqrt(variance + epsilon); shift = bias - mean * scale, that scale before it is rounded.
///
/// In double, one operation after the other, as porter's Python side computes it, to the bit. Each result goes through a volatile, so that
/// no compiler contracts the product and the difference into a fused operation (GCC does so by default where the processor has one),
/// which would round differently.
struct BatchNorm {
    double scale;
    double shift;

    BatchNorm(double weight, double bias, double mean, double variance, double epsilon) {
        const volatile double sum = variance + epsilon;
        const volatile double root = std::sqrt(sum);
        const volatile double quotient = weight / root;
        const volatile double product = mean * quotient;
        scale = quotient;
        shift = bias - product;
    }
};

/// The values that a formula makes of the tensors of a file, rounded once. Throws where it is none of porter's, where a source is missing,
/// or where the sources are not of one size.
inline Computed compute(const porter::Weights& source, const Use& use) {
    const bool scale = use.formula == "batch_norm.scale";
    if (use.sources.size() != (use.formula == "cast" ? 1U : 4U) || (use.formula != "cast" && !scale && use.formula != "batch_norm.shift")) {
        throw TensorRTError("layer '" + use.layer + "': porter does not know how '" + use.formula + "' is computed");
    }
    std::vector<detail::Numbers> from;
    for (const auto& name : use.sources) {
        from.emplace_back(source.at(name));
        if (from.back().count() != from[0].count()) {
            throw TensorRTError("layer '" + use.layer + "': '" + name + "' has " + std::to_string(from.back().count()) + " values, and '" +
                                use.sources[0] + "' " + std::to_string(from[0].count()));
        }
    }
    detail::Rounded rounded(use.dtype, from[0].count());
    for (std::size_t i = 0; i < from[0].count(); ++i) {
        if (from.size() == 1) {
            rounded.set(i, from[0][i]);
        } else {
            const BatchNorm norm(from[0][i], from[1][i], from[2][i], from[3][i], use.epsilon);
            rounded.set(i, scale ? norm.scale : norm.shift);
        }
    }
    return {rounded.take(), from[0].count(), rounded.overflowed(), rounded.underflowed()};
}

/// The weights of a network, and a record of each use.
///
/// It owns the memory: TensorRT keeps pointers into it from the moment a layer is added until the engine is built, so a `WeightMap`
/// **must outlive the build**. It can be neither copied nor moved, so that no pointer is left behind.
class WeightMap {
public:
    /// Reads a file. With `options.narrow`, floats are rounded to half or bfloat16 as layers take them, and what is computed is computed
    /// from the file's own values and rounded once: TensorRT 11 computes in the type that its weights have.
    explicit WeightMap(const std::string& path, const porter::Options& options = {})
        : weights_(porter::load(path, asStored(options))), narrow_(options.narrow) {}

    /// Takes over tensors that are loaded.
    explicit WeightMap(porter::Weights weights) : weights_(std::move(weights)) {}

    WeightMap(const WeightMap&) = delete;
    WeightMap& operator=(const WeightMap&) = delete;

    /// A tensor as TensorRT takes it, for layers that are added with TensorRT's own functions. Throws `WtsError` with the nearest names
    /// where there is none. Its use is found by its address when the network is checked.
    nvinfer1::Weights at(std::string_view name) { return given(weights_.at(name)); }

    /// The same, for networks that were written with a `std::map`, where a misspelt name was a null pointer.
    nvinfer1::Weights operator[](std::string_view name) { return at(name); }

    /// The same, for a tensor that must have this shape; where the file keeps no shapes, as many elements.
    nvinfer1::Weights at(std::string_view name, const Shape& shape) { return given(weights_.at(name, shape)); }

    /// A tensor for a layer, recorded.
    nvinfer1::Weights take(const std::string& layer, const std::string& role, const std::string& tensor, const Shape& shape) {
        Use use{layer, role, {tensor}, "", 0.0, dtypeOf(tensor), at(tensor, shape)};
        use.formula = use.dtype == weights_.at(tensor).dtype() ? "" : "cast";
        uses_.push_back(std::move(use));
        return uses_.back().values;
    }

    /// Values computed for a layer, recorded; the map owns them.
    nvinfer1::Weights compute(Use use) {
        use.dtype = dtypeOf(use.sources.at(0));
        use.values = own(trt::compute(weights_, use), use.dtype, use.layer + "." + use.role);
        uses_.push_back(std::move(use));
        return uses_.back().values;
    }

    /// Values that the program states itself, for a constant of few numbers; recorded as `stated`, and the map owns a copy.
    template <class T>
    nvinfer1::Weights state(const std::string& layer, nvinfer1::DataType type, const std::vector<T>& values) {
        auto& kept = kept_.emplace_back(values.size() * sizeof(T));
        if (!values.empty()) {
            std::memcpy(kept.data(), values.data(), kept.size());
        }
        const nvinfer1::Weights stated{type, kept.data(), static_cast<std::int64_t>(values.size())};
        uses_.push_back({layer, "weights", {}, "stated", 0.0, {}, stated});
        return stated;
    }

    /// The type that layers get floating-point tensors in: that of the first one; float32 where there is none.
    nvinfer1::DataType type() const {
        for (const auto& tensor : weights_) {
            const auto dtype = dtypeOf(tensor.name());
            if (dtype == porter::DType::float32 || dtype == porter::DType::float16 || dtype == porter::DType::bfloat16) {
                return toDataType(dtype, tensor.name());
            }
        }
        return nvinfer1::DataType::kFLOAT;
    }

    /// Whether the file has a tensor of this name.
    bool contains(std::string_view name) const { return weights_.contains(name); }

    /// The tensors of the file, in its own types.
    const porter::Weights& weights() const { return weights_; }

    /// What layers took and what was computed for them, in the order of the calls.
    const std::vector<Use>& uses() const { return uses_; }

    /// What `at` gave out narrowed, by name.
    const std::map<std::string, Use, std::less<>>& narrowed() const { return narrowed_; }

    /// What narrowing lost, a line for each tensor that has values which are infinite or zero now.
    const std::vector<std::string>& notices() const { return notices_; }

private:
    static porter::Options asStored(porter::Options options) {
        options.narrow = porter::Narrow::none;
        return options;
    }

    /// The type that a layer gets a tensor in.
    porter::DType dtypeOf(std::string_view name) const {
        const auto stored = weights_.at(name).dtype();
        if (narrow_ == porter::Narrow::none || (stored != porter::DType::float32 && stored != porter::DType::float16)) {
            return stored;
        }
        return narrow_ == porter::Narrow::half ? porter::DType::float16 : porter::DType::bfloat16;
    }

    nvinfer1::Weights given(const porter::Tensor& tensor) {
        const auto dtype = dtypeOf(tensor.name());
        if (dtype == tensor.dtype()) {
            return {toDataType(dtype, tensor.name()), tensor.data(), static_cast<std::int64_t>(tensor.count())};
        }
        auto found = narrowed_.find(tensor.name());
        if (found == narrowed_.end()) {
            Use use{"", "", {tensor.name()}, "cast", 0.0, dtype, {}};
            use.values = own(trt::compute(weights_, use), dtype, tensor.name());
            found = narrowed_.emplace(tensor.name(), std::move(use)).first;
        }
        return found->second.values;
    }

    nvinfer1::Weights own(Computed computed, porter::DType dtype, const std::string& name) {
        if (computed.overflowed + computed.underflowed > 0) {
            notices_.push_back(name + " as " + porter::name_of(dtype) + ": " + std::to_string(computed.overflowed) +
                               " values became infinite, " + std::to_string(computed.underflowed) + " zero");
        }
        // A deque never moves its elements; what a vector allocates is aligned for every scalar.
        const auto& kept = kept_.emplace_back(std::move(computed.bytes));
        return {toDataType(dtype, name), kept.data(), static_cast<std::int64_t>(computed.count)};
    }

    porter::Weights weights_;
    porter::Narrow narrow_ = porter::Narrow::none;
    std::deque<std::vector<std::uint8_t>> kept_;
    std::map<std::string, Use, std::less<>> narrowed_;
    std::vector<Use> uses_;
    std::vector<std::string> notices_;
};

} // namespace porter::trt
