#pragma once

/// The element types that a sidecar can name, and whether a stored value is one of such a type.
///
/// Source: OCP, "Microscaling Formats (MX) Specification" v1.0, and "8-bit Floating Point Specification" v1.0 (what the narrow floats
/// hold); jax-ml/ml_dtypes, README (the `fnuz` kinds).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>
#include <vector>

#include <porter/wts/narrow.hpp>
#include <porter/wts/options.hpp>

namespace porter::detail {

struct ElementType {
    enum class Kind { floating, small_float, integer, natural, boolean };

    std::string_view name;
    Kind kind;
    int bits;
    int mantissa = 0; // of small floats: bits of the mantissa, and what is subtracted from the exponent
    int bias = 0;
};

inline const ElementType* find_element_type(std::string_view name) {
    using Kind = ElementType::Kind;
    static constexpr ElementType types[] = {
        {"float32", Kind::floating, 32},
        {"float64", Kind::floating, 64},
        {"float16", Kind::floating, 16},
        {"bfloat16", Kind::floating, 16},
        {"float8_e4m3fn", Kind::small_float, 8, 3, 7},
        {"float8_e4m3fnuz", Kind::small_float, 8, 3, 8},
        {"float8_e5m2", Kind::small_float, 8, 2, 15},
        {"float8_e5m2fnuz", Kind::small_float, 8, 2, 16},
        {"float8_e8m0fnu", Kind::small_float, 8, 0, 127},
        {"float6_e2m3fn", Kind::small_float, 6, 3, 1},
        {"float6_e3m2fn", Kind::small_float, 6, 2, 3},
        {"float4_e2m1fn", Kind::small_float, 4, 1, 1},
        {"int64", Kind::integer, 64},
        {"int32", Kind::integer, 32},
        {"int16", Kind::integer, 16},
        {"int8", Kind::integer, 8},
        {"int4", Kind::integer, 4},
        {"int2", Kind::integer, 2},
        {"uint64", Kind::natural, 64},
        {"uint32", Kind::natural, 32},
        {"uint16", Kind::natural, 16},
        {"uint8", Kind::natural, 8},
        {"uint4", Kind::natural, 4},
        {"uint2", Kind::natural, 2},
        {"bool", Kind::boolean, 8},
    };
    const auto* const found = std::find_if(std::begin(types), std::end(types), [&](const ElementType& type) { return type.name == name; });
    return found == std::end(types) ? nullptr : found;
}

inline bool is_float(const ElementType& type) {
    return type.kind == ElementType::Kind::floating || type.kind == ElementType::Kind::small_float;
}

inline std::uint32_t bits_of(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, 4);
    return bits;
}

/// 2 to the power of `n`, where float32 has it.
inline float power_of_two(int n) {
    float power = 1;
    for (; n > 0; --n) {
        power *= 2;
    }
    for (; n < 0; ++n) {
        power /= 2;
    }
    return power;
}

/// The bits of the float32 that a code of a float of 8 bits or fewer becomes when it is stored. NaNs keep sign and mantissa where there
/// is more than one.
inline std::uint32_t small_float_bits(const ElementType& type, int code) {
    constexpr std::uint32_t quiet = 0x7fc00000;
    const bool e8m0 = type.mantissa == 0, e5m2 = type.name == "float8_e5m2", e4m3 = type.name == "float8_e4m3fn";
    if (e8m0) {
        return code == 0xff ? quiet : bits_of(power_of_two(code - type.bias));
    }
    const bool unsigned_zero = type.bits == 8 && !e5m2 && !e4m3;
    const int sign = code >> (type.bits - 1), size = code & ((1 << (type.bits - 1)) - 1);
    const int exponent = size >> type.mantissa, mantissa = size & ((1 << type.mantissa) - 1);
    if (unsigned_zero && sign && size == 0) {
        return quiet;
    }
    const std::uint32_t sign_bit = static_cast<std::uint32_t>(sign) << 31;
    const bool top = exponent == (1 << (type.bits - 1 - type.mantissa)) - 1;
    if ((e5m2 && top) || (e4m3 && top && mantissa == 7)) {
        return sign_bit | infinity_bits | static_cast<std::uint32_t>(mantissa) << (e4m3 ? 20 : 21);
    }
    const int whole = exponent == 0 ? mantissa : mantissa + (1 << type.mantissa);
    const int power = std::max(exponent, 1) - type.bias - type.mantissa;
    return sign_bit | bits_of(static_cast<float>(whole) * power_of_two(power));
}

/// Whether stored values are values of another type, which the tensor had before they were written.
class TypeCheck {
public:
    TypeCheck(const ElementType& type, DType stored) : type_(type), stored_(stored) {
        if (type.kind == ElementType::Kind::small_float) {
            for (int code = 0; code < 1 << type.bits; ++code) {
                codes_.push_back(small_float_bits(type, code));
            }
            std::sort(codes_.begin(), codes_.end());
        }
    }

    /// The number of the first of `n` stored values, float32 or int32, that is none of the type; `n` if all are.
    std::size_t first_wrong(const unsigned char* values, std::size_t n) const {
        std::size_t i = 0;
        for (std::uint32_t bits = 0; i < n; ++i) {
            std::memcpy(&bits, values + 4 * i, 4);
            if (!holds(bits)) {
                break;
            }
        }
        return i;
    }

private:
    bool holds(std::uint32_t bits) const {
        switch (type_.kind) {
        case ElementType::Kind::floating: return type_.name == "bfloat16" ? (bits & 0xffff) == 0 : type_.name != "float16" || is_half(bits);
        case ElementType::Kind::small_float: return std::binary_search(codes_.begin(), codes_.end(), bits);
        case ElementType::Kind::integer:
        case ElementType::Kind::natural:
        case ElementType::Kind::boolean: break;
        }
        return is_whole(bits);
    }

    static bool is_half(std::uint32_t bits) {
        if ((bits & 0x7fffffff) > infinity_bits) {
            return (bits & 0x1fff) == 0 && (bits & 0x7fe000) != 0;
        }
        return float_of_half(half_of(bits)) == bits;
    }

    /// Whether it is an integer within the type's range. A boolean is a byte, whatever it holds.
    bool is_whole(std::uint32_t bits) const {
        double value = 0;
        if (stored_ == DType::float32) {
            float number = 0;
            std::memcpy(&number, &bits, 4);
            value = static_cast<double>(number);
        } else {
            value = static_cast<double>(static_cast<std::int32_t>(bits));
        }
        const bool is_signed = type_.kind == ElementType::Kind::integer;
        const double high = static_cast<double>(power_of_two(is_signed ? type_.bits - 1 : type_.bits));
        if (!(value >= (is_signed ? -high : 0.0) && value < high)) {
            return false;
        }
        // From 2^53 on all are whole; below that they fit the type.
        return value >= 9007199254740992.0 || value <= -9007199254740992.0 ||
               static_cast<double>(static_cast<std::int64_t>(value)) == value;
    }

    const ElementType& type_;
    DType stored_;
    std::vector<std::uint32_t> codes_;
};

} // namespace porter::detail
