#pragma once

/// From a network to an engine, which needs no GPU.

#include <porter/tensorrt/logger.hpp>
#include <porter/tensorrt/read_back.hpp>
#include <porter/tensorrt/types.hpp>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace porter::trt {

/// Throws where the library is TensorRT-RTX (versions 1.x) and the headers are not adapted to it, or the other way round: calls would end
/// in other functions than those meant.
inline void checkLibrary() {
    const std::int32_t version = getInferLibVersion();
    const bool rtx = version >= 10000 && version < 20000;
#if defined(PORTER_TENSORRT_RTX) && PORTER_TENSORRT_RTX
    if (!rtx) {
        throw TensorRTError(
            "the headers are adapted to TensorRT-RTX, and the library is TensorRT's; find TensorRT again with FindTensorRT.cmake");
    }
#else
    if (rtx) {
        throw TensorRTError("the library is TensorRT-RTX, whose tables of functions are others than those of TensorRT's headers; "
                            "find TensorRT with porter's FindTensorRT.cmake, which adapts them");
    }
#endif
}

/// A builder; the logger must outlive it.
inline std::unique_ptr<nvinfer1::IBuilder> createBuilder(Logger& logger) {
    checkLibrary();
    std::unique_ptr<nvinfer1::IBuilder> builder(nvinfer1::createInferBuilder(logger));
    if (builder == nullptr) {
        refuse("TensorRT made no builder", &logger);
    }
    return builder;
}

/// An empty network whose batch is an axis like any other, and in which tensors keep their types (from version 9 on).
inline std::unique_ptr<nvinfer1::INetworkDefinition> createNetwork(nvinfer1::IBuilder& builder) {
    nvinfer1::NetworkDefinitionCreationFlags flags = 0;
#if NV_TENSORRT_MAJOR < 10
    flags |= 1U << static_cast<std::uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#endif
#if NV_TENSORRT_MAJOR == 9 || NV_TENSORRT_MAJOR == 10
    flags |= 1U << static_cast<std::uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#endif
    std::unique_ptr<nvinfer1::INetworkDefinition> network(builder.createNetworkV2(flags));
    if (network == nullptr) {
        refuse("TensorRT made no network", builder.getLogger());
    }
    return network;
}

/// The smallest, the usual and the largest shape of an input that has open sizes.
struct Profile {
    std::string input;
    Shape smallest, usual, largest;
};

/// How an engine is built.
struct EngineOptions {
    std::vector<Profile> profiles;
    std::size_t workspace = 0; ///< The most scratch memory a layer may take, in bytes; 0 is what TensorRT takes by itself.
};

/// The engine, serialised. The `WeightMap` that the network was built from is needed until this returns.
inline std::unique_ptr<nvinfer1::IHostMemory> buildEngine(nvinfer1::IBuilder& builder, nvinfer1::INetworkDefinition& network,
                                                          const EngineOptions& options = {}) {
    const std::unique_ptr<nvinfer1::IBuilderConfig> config(builder.createBuilderConfig());
    if (config == nullptr) {
        refuse("TensorRT made no configuration", builder.getLogger());
    }
    if (options.workspace > 0) {
        config->setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, options.workspace);
    }
#if NV_TENSORRT_MAJOR < 9
    // Version 8 has no strong typing: it computes in half only where it is let.
    for (const auto& held : readBack(network)) {
        if (held.values.type == nvinfer1::DataType::kHALF) {
            config->setFlag(nvinfer1::BuilderFlag::kFP16);
        }
    }
#endif
    if (!options.profiles.empty()) {
        auto* const profile = builder.createOptimizationProfile();
        for (const auto& given : options.profiles) {
            const bool taken = profile->setDimensions(given.input.c_str(), nvinfer1::OptProfileSelector::kMIN, toDims(given.smallest)) &&
                               profile->setDimensions(given.input.c_str(), nvinfer1::OptProfileSelector::kOPT, toDims(given.usual)) &&
                               profile->setDimensions(given.input.c_str(), nvinfer1::OptProfileSelector::kMAX, toDims(given.largest));
            if (!taken) {
                refuse("TensorRT refused the profile of the input '" + given.input + "'", builder.getLogger());
            }
        }
        config->addOptimizationProfile(profile);
    }
    std::unique_ptr<nvinfer1::IHostMemory> engine(builder.buildSerializedNetwork(network, *config));
    if (engine == nullptr) {
        refuse("TensorRT built no engine", builder.getLogger());
    }
    return engine;
}

/// Writes an engine to a file; a file that could not be written whole is removed.
inline void writeEngine(const std::string& path, const nvinfer1::IHostMemory& engine) {
    std::FILE* const file = std::fopen(path.c_str(), "wb");
    if (file == nullptr) {
        throw TensorRTError(path + ": cannot be written: " + std::strerror(errno));
    }
    const bool whole = std::fwrite(engine.data(), 1, engine.size(), file) == engine.size();
    if (std::fclose(file) != 0 || !whole) {
        std::remove(path.c_str());
        throw TensorRTError(path + ": could not be written whole");
    }
}

} // namespace porter::trt
