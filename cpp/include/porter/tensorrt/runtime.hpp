#pragma once

/// Running an engine, which needs a GPU, and the CUDA runtime to link with: for programs that are built with PORTER_CUDART.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <porter/tensorrt/engine.hpp>

#if defined(PORTER_CUDART) && PORTER_CUDART && !defined(PORTER_TENSORRT_RTX)
#include <cuda_runtime_api.h>
#endif

namespace porter::trt {

/// An output of an engine: its values as they lie in memory.
struct Output {
    std::string name;
    nvinfer1::DataType type{};
    Shape shape;
    std::vector<std::uint8_t> bytes;
};

#if defined(PORTER_CUDART) && PORTER_CUDART && !defined(PORTER_TENSORRT_RTX)

namespace detail {

/// Throws with CUDA's own words.
inline void cuda(cudaError_t status, const char* what) {
    if (status != cudaSuccess) {
        throw TensorRTError(std::string(what) + ": " + cudaGetErrorString(status));
    }
}

/// Memory of the GPU.
class DeviceMemory {
public:
    explicit DeviceMemory(std::size_t size) { cuda(cudaMalloc(&data_, size == 0 ? 1 : size), "no memory on the GPU"); }
    ~DeviceMemory() { cudaFree(data_); }
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;
    void* data() const { return data_; }

private:
    void* data_ = nullptr;
};

} // namespace detail

/// Runs an engine once whose sizes are all known. `input` holds the values of all inputs, one behind the other in the engine's order.
/// Throws where there is no GPU, or `input` has another size.
inline std::vector<Output> runEngine(const void* engine, std::size_t size, const std::vector<std::uint8_t>& input, Logger& logger) {
    int devices = 0;
    detail::cuda(cudaGetDeviceCount(&devices), "running an engine needs a GPU");
    const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
    const std::unique_ptr<nvinfer1::ICudaEngine> loaded(runtime == nullptr ? nullptr : runtime->deserializeCudaEngine(engine, size));
    const std::unique_ptr<nvinfer1::IExecutionContext> context(loaded == nullptr ? nullptr : loaded->createExecutionContext());
    if (context == nullptr) {
        refuse("TensorRT cannot load the engine", &logger);
    }
    std::vector<std::unique_ptr<detail::DeviceMemory>> memory;
    std::vector<Output> outputs;
    std::vector<void*> sources;
    std::size_t taken = 0;
    for (std::int32_t index = 0; index < loaded->getNbIOTensors(); ++index) {
        const char* const name = loaded->getIOTensorName(index);
        const Shape shape = toShape(loaded->getTensorShape(name));
        nvinfer1::Weights all{loaded->getTensorDataType(name), nullptr, 1};
        for (const auto axis : shape) {
            if (axis < 0) {
                throw TensorRTError(std::string("the tensor '") + name + "' has the open shape " + shapeText(shape) +
                                    ": it cannot be run so");
            }
            all.count *= axis;
        }
        const std::size_t bytes = bytesOf(all);
        const auto& buffer = memory.emplace_back(std::make_unique<detail::DeviceMemory>(bytes));
        context->setTensorAddress(name, buffer->data());
        if (loaded->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT) {
            if (input.size() - taken < bytes) {
                throw TensorRTError("the input has " + std::to_string(input.size()) + " bytes, too few for '" + name + "', " +
                                    shapeText(shape));
            }
            detail::cuda(cudaMemcpy(buffer->data(), input.data() + taken, bytes, cudaMemcpyHostToDevice), "copying to the GPU");
            taken += bytes;
        } else {
            outputs.push_back({name, all.type, shape, std::vector<std::uint8_t>(bytes)});
            sources.push_back(buffer->data());
        }
    }
    if (taken != input.size()) {
        throw TensorRTError("the input has " + std::to_string(input.size()) + " bytes, the engine takes " + std::to_string(taken));
    }
    if (!context->enqueueV3(nullptr)) {
        refuse("TensorRT cannot run the engine", &logger);
    }
    detail::cuda(cudaDeviceSynchronize(), "running the engine");
    for (std::size_t index = 0; index < outputs.size(); ++index) {
        auto& bytes = outputs[index].bytes;
        detail::cuda(cudaMemcpy(bytes.data(), sources[index], bytes.size(), cudaMemcpyDeviceToHost), "copying from the GPU");
    }
    return outputs;
}

#else

/// This program cannot: it was built without the CUDA runtime, or for TensorRT-RTX, whose runtime has other tables of functions than
/// TensorRT's headers; that library runs an engine from Python.
inline std::vector<Output> runEngine(const void*, std::size_t, const std::vector<std::uint8_t>&, Logger&) {
    throw TensorRTError(
        "running an engine needs a GPU, and a program that was built with the CUDA runtime (CMake: TensorRT_CUDART_LIBRARY)");
}

#endif

} // namespace porter::trt
