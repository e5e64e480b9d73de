#pragma once

/// Floating-point elements as double, and back, rounded once to the nearest, ties to even.

#include <porter/tensorrt/types.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#ifdef __FAST_MATH__
#error "porter/wts_tensorrt.hpp computes to the bit: compile the file that includes it without -ffast-math"
#endif

namespace porter::trt::detail {

/// A 16-bit type: how many bits its fraction has, and its exponent's bias.
struct SmallFloat {
    int fraction;
    int bias;
};

inline constexpr SmallFloat half{10, 15};
inline constexpr SmallFloat bfloat16{7, 127};

/// The nearest value of a 16-bit type, ties to even; a NaN stays one, quiet, with the front of its payload.
inline std::uint16_t toSmall(double value, SmallFloat type) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const auto sign = static_cast<std::uint16_t>(bits >> 48 & 0x8000U);
    const int dropped = 52 - type.fraction;
    const auto infinity = static_cast<std::uint16_t>((2 * type.bias + 1) << type.fraction);
    bits &= ~(std::uint64_t{1} << 63);
    if (std::isnan(value)) {
        const auto payload = static_cast<std::uint16_t>(bits >> dropped & ((1U << type.fraction) - 1));
        return static_cast<std::uint16_t>(sign | infinity | payload | 1U << (type.fraction - 1));
    }
    const double magnitude = std::fabs(value);
    if (magnitude < std::ldexp(1.0, 1 - type.bias)) {
        // Below the smallest normal number all values have one spacing; to scale by a power of two is exact.
        const auto steps = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(magnitude, type.bias - 1 + type.fraction)));
        return static_cast<std::uint16_t>(sign | steps);
    }
    bits += (std::uint64_t{1} << (dropped - 1)) - 1 + (bits >> dropped & 1U);
    const std::uint64_t rounded = (bits >> dropped) - (static_cast<std::uint64_t>(1023 - type.bias) << type.fraction);
    return static_cast<std::uint16_t>(sign | (rounded < infinity ? rounded : infinity));
}

/// The value of a 16-bit type, exactly.
inline double fromSmall(std::uint16_t bits, SmallFloat type) {
    const int exponent = (bits & 0x7fff) >> type.fraction;
    const int fraction = bits & ((1 << type.fraction) - 1);
    double magnitude = std::ldexp(fraction, 1 - type.bias - type.fraction);
    if (exponent == 2 * type.bias + 1) {
        magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent > 0) {
        magnitude = std::ldexp(fraction + (1 << type.fraction), exponent - type.bias - type.fraction);
    }
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/// The elements of a floating-point tensor as double.
class Numbers {
public:
    /// Throws where the elements are no floating-point numbers.
    explicit Numbers(const porter::Tensor& tensor)
        : data_(static_cast<const std::uint8_t*>(tensor.data())), count_(tensor.count()), dtype_(tensor.dtype()) {
        if (dtype_ != porter::DType::float32 && dtype_ != porter::DType::float16 && dtype_ != porter::DType::bfloat16) {
            throw TensorRTError("tensor '" + tensor.name() + "' does not hold floating-point numbers");
        }
    }

    std::size_t count() const { return count_; }
    porter::DType dtype() const { return dtype_; }

    double operator[](std::size_t index) const {
        if (dtype_ == porter::DType::float32) {
            float value = 0;
            std::memcpy(&value, data_ + index * sizeof value, sizeof value);
            return static_cast<double>(value);
        }
        std::uint16_t bits = 0;
        std::memcpy(&bits, data_ + index * sizeof bits, sizeof bits);
        return fromSmall(bits, dtype_ == porter::DType::float16 ? half : bfloat16);
    }

private:
    const std::uint8_t* data_;
    std::size_t count_;
    porter::DType dtype_;
};

/// The bytes of elements of a floating-point type, each rounded once from double.
class Rounded {
public:
    Rounded(porter::DType dtype, std::size_t count) : dtype_(dtype), bytes_(count * (dtype == porter::DType::float32 ? 4 : 2)) {}

    void set(std::size_t index, double value) {
        const double limit = dtype_ == porter::DType::float32 ? 0x1.ffffffp127 : dtype_ == porter::DType::float16 ? 65520.0 : 0x1.ffp127;
        const double least = dtype_ == porter::DType::float32 ? 0x1p-150 : dtype_ == porter::DType::float16 ? 0x1p-25 : 0x1p-134;
        overflowed_ += std::isfinite(value) && std::fabs(value) >= limit ? 1U : 0U;
        underflowed_ += value != 0.0 && std::fabs(value) <= least ? 1U : 0U;
        if (dtype_ == porter::DType::float32) {
            const auto rounded = static_cast<float>(value);
            std::memcpy(bytes_.data() + index * sizeof rounded, &rounded, sizeof rounded);
        } else {
            const auto rounded = toSmall(value, dtype_ == porter::DType::float16 ? half : bfloat16);
            std::memcpy(bytes_.data() + index * sizeof rounded, &rounded, sizeof rounded);
        }
    }

    std::vector<std::uint8_t> take() { return std::move(bytes_); }

    /// Finite values that became infinite, and values that became zero.
    std::size_t overflowed() const { return overflowed_; }
    std::size_t underflowed() const { return underflowed_; }

private:
    porter::DType dtype_;
    std::size_t overflowed_ = 0;
    std::size_t underflowed_ = 0;
    std::vector<std::uint8_t> bytes_;
};

} // namespace porter::trt::detail
