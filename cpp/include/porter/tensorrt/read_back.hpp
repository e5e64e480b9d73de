#pragma once

/// The weights that a network's layers hold, read out of TensorRT.

#include <porter/tensorrt/types.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace porter::trt {

/// Values that a layer holds.
struct HeldWeights {
    std::string layer;
    std::string type;           ///< The layer's type, as in `Convolution`.
    std::string role;           ///< As TensorRT's API names it: `kernel`, `bias`, `shift`, `scale`, `power`, `weights`.
    nvinfer1::Weights values{}; ///< TensorRT's own pointer, type and count.
};

/// porter's name of an element type, as in `float32`; `type N` for one that is newer than porter.
inline std::string dtypeName(nvinfer1::DataType type) {
    switch (type) {
    case nvinfer1::DataType::kFLOAT: return "float32";
    case nvinfer1::DataType::kHALF: return "float16";
    case nvinfer1::DataType::kINT8: return "int8";
    case nvinfer1::DataType::kINT32: return "int32";
    case nvinfer1::DataType::kBOOL: return "bool";
    case nvinfer1::DataType::kUINT8: return "uint8";
    case nvinfer1::DataType::kFP8: return "float8_e4m3fn";
#if NV_TENSORRT_MAJOR >= 9
    case nvinfer1::DataType::kBF16: return "bfloat16";
    case nvinfer1::DataType::kINT64: return "int64";
#endif
#if NV_TENSORRT_MAJOR >= 10
    case nvinfer1::DataType::kINT4: return "int4";
#endif
    default: return "type " + std::to_string(static_cast<int>(type));
    }
}

/// How many bytes weights take. Throws for a type that porter does not know.
inline std::size_t bytesOf(const nvinfer1::Weights& weights) {
    const auto count = static_cast<std::size_t>(weights.count);
    switch (weights.type) {
    case nvinfer1::DataType::kFLOAT:
    case nvinfer1::DataType::kINT32: return count * 4;
    case nvinfer1::DataType::kHALF: return count * 2;
    case nvinfer1::DataType::kINT8:
    case nvinfer1::DataType::kBOOL:
    case nvinfer1::DataType::kUINT8:
    case nvinfer1::DataType::kFP8: return count;
#if NV_TENSORRT_MAJOR >= 9
    case nvinfer1::DataType::kBF16: return count * 2;
    case nvinfer1::DataType::kINT64: return count * 8;
#endif
#if NV_TENSORRT_MAJOR >= 10
    case nvinfer1::DataType::kINT4: return (count + 1) / 2;
#endif
    default: throw TensorRTError("weights of " + dtypeName(weights.type) + ", whose size porter does not know");
    }
}

/// A layer's type, as `net.json` calls it; `layer of type N` for one that is not in this table, and holds no weights.
inline std::string typeName(nvinfer1::LayerType type) {
    switch (type) {
    case nvinfer1::LayerType::kCONVOLUTION: return "Convolution";
    case nvinfer1::LayerType::kDECONVOLUTION: return "Deconvolution";
    case nvinfer1::LayerType::kSCALE: return "Scale";
    case nvinfer1::LayerType::kCONSTANT: return "Constant";
    case nvinfer1::LayerType::kACTIVATION: return "Activation";
    case nvinfer1::LayerType::kPOOLING: return "Pooling";
    case nvinfer1::LayerType::kLRN: return "Lrn";
    case nvinfer1::LayerType::kSOFTMAX: return "Softmax";
    case nvinfer1::LayerType::kCONCATENATION: return "Concatenation";
    case nvinfer1::LayerType::kELEMENTWISE: return "Elementwise";
    case nvinfer1::LayerType::kUNARY: return "Unary";
    case nvinfer1::LayerType::kSHUFFLE: return "Shuffle";
    case nvinfer1::LayerType::kREDUCE: return "Reduce";
    case nvinfer1::LayerType::kTOPK: return "TopK";
    case nvinfer1::LayerType::kGATHER: return "Gather";
    case nvinfer1::LayerType::kMATRIX_MULTIPLY: return "MatrixMultiply";
    case nvinfer1::LayerType::kIDENTITY: return "Identity";
    case nvinfer1::LayerType::kCAST: return "Cast";
    case nvinfer1::LayerType::kSLICE: return "Slice";
    case nvinfer1::LayerType::kSHAPE: return "Shape";
    case nvinfer1::LayerType::kPARAMETRIC_RELU: return "ParametricRelu";
    case nvinfer1::LayerType::kRESIZE: return "Resize";
    case nvinfer1::LayerType::kSELECT: return "Select";
    case nvinfer1::LayerType::kQUANTIZE: return "Quantize";
    case nvinfer1::LayerType::kDEQUANTIZE: return "Dequantize";
    case nvinfer1::LayerType::kSCATTER: return "Scatter";
    case nvinfer1::LayerType::kEINSUM: return "Einsum";
    case nvinfer1::LayerType::kNORMALIZATION: return "Normalization";
    case nvinfer1::LayerType::kNMS: return "NonMaximumSuppression";
    case nvinfer1::LayerType::kNON_ZERO: return "NonZero";
    case nvinfer1::LayerType::kONE_HOT: return "OneHot";
    case nvinfer1::LayerType::kGRID_SAMPLE: return "GridSample";
    case nvinfer1::LayerType::kPLUGIN:
    case nvinfer1::LayerType::kPLUGIN_V2: return "Plugin";
#if NV_TENSORRT_MAJOR >= 10
    case nvinfer1::LayerType::kPLUGIN_V3: return "Plugin";
#else
    case nvinfer1::LayerType::kFULLY_CONNECTED: return "FullyConnected";
    case nvinfer1::LayerType::kRNN_V2: return "Rnn";
#endif
    default: return "layer of type " + std::to_string(static_cast<int>(type));
    }
}

/// Whether a layer may hold weights that TensorRT gives nobody: a plugin, and the recurrent layer of version 8.
inline bool hidesWeights(nvinfer1::LayerType type) {
    const auto name = typeName(type);
    return name == "Plugin" || name == "Rnn";
}

#if NV_TENSORRT_MAJOR < 10
namespace detail {
// The layer is deprecated and people's networks have it.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif
inline nvinfer1::Weights fullyConnected(const nvinfer1::ILayer& layer, bool kernel) {
    const auto& linear = static_cast<const nvinfer1::IFullyConnectedLayer&>(layer);
    return kernel ? linear.getKernelWeights() : linear.getBiasWeights();
}
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
} // namespace detail
#endif

/// The weights that a layer holds; none where it has none.
inline std::vector<HeldWeights> readBack(nvinfer1::ILayer& layer) {
    std::vector<HeldWeights> found;
    const auto add = [&](const char* role, const nvinfer1::Weights& values) {
        if (values.values != nullptr || values.count > 0) {
            found.push_back({layer.getName(), typeName(layer.getType()), role, values});
        }
    };
    switch (layer.getType()) {
    case nvinfer1::LayerType::kCONVOLUTION: {
        auto& convolution = static_cast<nvinfer1::IConvolutionLayer&>(layer);
        add("kernel", convolution.getKernelWeights());
        add("bias", convolution.getBiasWeights());
        break;
    }
    case nvinfer1::LayerType::kDECONVOLUTION: {
        auto& deconvolution = static_cast<nvinfer1::IDeconvolutionLayer&>(layer);
        add("kernel", deconvolution.getKernelWeights());
        add("bias", deconvolution.getBiasWeights());
        break;
    }
    case nvinfer1::LayerType::kSCALE: {
        auto& scale = static_cast<nvinfer1::IScaleLayer&>(layer);
        add("shift", scale.getShift());
        add("scale", scale.getScale());
        add("power", scale.getPower());
        break;
    }
    case nvinfer1::LayerType::kCONSTANT: add("weights", static_cast<nvinfer1::IConstantLayer&>(layer).getWeights()); break;
#if NV_TENSORRT_MAJOR < 10
    case nvinfer1::LayerType::kFULLY_CONNECTED:
        add("kernel", detail::fullyConnected(layer, true));
        add("bias", detail::fullyConnected(layer, false));
        break;
#endif
    default: break;
    }
    return found;
}

/// The weights that all layers hold, in the order of the layers.
inline std::vector<HeldWeights> readBack(const nvinfer1::INetworkDefinition& network) {
    std::vector<HeldWeights> found;
    for (std::int32_t index = 0; index < network.getNbLayers(); ++index) {
        for (auto& held : readBack(*network.getLayer(index))) {
            found.push_back(std::move(held));
        }
    }
    return found;
}

} // namespace porter::trt
