#pragma once

/// TensorRT's header, and how its types and porter's go together.

#include <porter/wts.hpp>
#include <porter/wts/shapes.hpp>

#include <NvInfer.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#if !defined(NV_TENSORRT_MAJOR) || NV_TENSORRT_MAJOR < 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR < 6)
#error "porter/wts_tensorrt.hpp needs TensorRT 8.6 or later"
#endif

namespace porter::trt {

/// Sizes along the axes of a tensor; -1 is one that is open.
using Shape = std::vector<std::int64_t>;

/// What TensorRT refused, or could not do, with what its log said.
class TensorRTError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// TensorRT's integer for sizes: 32 bits until version 9, 64 since 10.
using Size = std::remove_reference_t<decltype(nvinfer1::Dims{}.d[0])>;

/// A shape as TensorRT takes it. Throws where it has more axes than TensorRT has, or a size that does not fit.
inline nvinfer1::Dims toDims(const Shape& shape) {
    if (shape.size() > static_cast<std::size_t>(nvinfer1::Dims::MAX_DIMS)) {
        throw TensorRTError("a shape of " + std::to_string(shape.size()) + " axes; TensorRT has " +
                            std::to_string(nvinfer1::Dims::MAX_DIMS));
    }
    nvinfer1::Dims dims{};
    dims.nbDims = static_cast<std::int32_t>(shape.size());
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        dims.d[axis] = static_cast<Size>(shape[axis]);
        if (static_cast<std::int64_t>(dims.d[axis]) != shape[axis]) {
            throw TensorRTError("the size " + std::to_string(shape[axis]) + " does not fit into TensorRT's dimensions");
        }
    }
    return dims;
}

/// The shape of TensorRT's dimensions.
inline Shape toShape(const nvinfer1::Dims& dims) {
    return Shape(dims.d, dims.d + std::max<std::int32_t>(0, dims.nbDims));
}

/// As `[64, 3, 7, 7]`.
inline std::string shapeText(const Shape& shape) {
    return porter::detail::shape_text(shape);
}

/// TensorRT's type for the elements of a tensor; throws where this version has none.
inline nvinfer1::DataType toDataType(porter::DType dtype, const std::string& tensor) {
    switch (dtype) {
    case porter::DType::float32: return nvinfer1::DataType::kFLOAT;
    case porter::DType::float16: return nvinfer1::DataType::kHALF;
    case porter::DType::int8: return nvinfer1::DataType::kINT8;
    case porter::DType::int32: return nvinfer1::DataType::kINT32;
    case porter::DType::bfloat16: break;
    }
#if NV_TENSORRT_MAJOR >= 9
    static_cast<void>(tensor);
    return nvinfer1::DataType::kBF16;
#else
    throw TensorRTError("'" + tensor + "' is bfloat16, which TensorRT has from version 9 on");
#endif
}

} // namespace porter::trt
