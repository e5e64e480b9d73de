#pragma once

/// float32 to half and bfloat16: to nearest, ties to even, with a count of what that changed.
///
/// NaNs stay NaNs of the same sign, with the upper bits of their payload and the quiet bit set, as processors convert them.
/// Source: IEEE 754-2019, sections 3.4 and 4.3.1.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <porter/wts/processor.hpp>

namespace porter::detail {

/// Finite values that became infinite, values other than zero that became zero, and all values that became another number.
struct Changes {
    std::size_t overflowed = 0, underflowed = 0, inexact = 0;

    void add(const Changes& more) {
        overflowed += more.overflowed;
        underflowed += more.underflowed;
        inexact += more.inexact;
    }
};

inline constexpr std::uint32_t infinity_bits = 0x7f800000;

/// The half nearest to the float32 of these bits.
constexpr std::uint16_t half_of(std::uint32_t bits) {
    const std::uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > infinity_bits) {
        return static_cast<std::uint16_t>(sign | 0x7e00 | (size >> 13 & 0x3ff));
    }
    if (size >= 0x477ff000) { // 65520, half way from the largest half to the next power of two
        return static_cast<std::uint16_t>(sign | 0x7c00);
    }
    if (size >= 0x38800000) { // 2^-14, the smallest normal half
        const std::uint32_t rebiased = size - (112u << 23);
        return static_cast<std::uint16_t>(sign | (rebiased + 0xfff + (rebiased >> 13 & 1)) >> 13);
    }
    if (size < 0x33000000) { // 2^-25, half of the smallest half
        return static_cast<std::uint16_t>(sign);
    }
    // A subnormal half counts units of 2^-24.
    const std::uint32_t mantissa = (size & 0x7fffff) | 0x800000, shift = 126 - (size >> 23);
    const std::uint32_t whole = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
    return static_cast<std::uint16_t>(sign | (whole + (rest > middle || (rest == middle && (whole & 1)))));
}

/// The bits of the float32 that equals a half. NaNs keep their payload.
constexpr std::uint32_t float_of_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31;
    std::uint32_t mantissa = half & 0x3ff;
    if (exponent == 31) {
        return sign | infinity_bits | mantissa << 13;
    }
    if (exponent != 0) {
        return sign | (exponent + 112) << 23 | mantissa << 13;
    }
    if (mantissa == 0) {
        return sign;
    }
    std::uint32_t power = 113;
    for (; (mantissa & 0x400) == 0; mantissa <<= 1) {
        --power;
    }
    return sign | power << 23 | (mantissa & 0x3ff) << 13;
}

/// The bfloat16 nearest to the float32 of these bits.
constexpr std::uint16_t bfloat16_of(std::uint32_t bits) {
    if ((bits & 0x7fffffff) > infinity_bits) {
        return static_cast<std::uint16_t>(bits >> 16 | 0x40);
    }
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

constexpr std::uint32_t float_of_bfloat16(std::uint16_t value) {
    return static_cast<std::uint32_t>(value) << 16;
}

/// What became of `before`, which is `after` now (bits of float32).
inline void count_change(std::uint32_t before, std::uint32_t after, Changes& changes) {
    const std::uint32_t from = before & 0x7fffffff, to = after & 0x7fffffff;
    changes.inexact += from != to && from <= infinity_bits;
    changes.overflowed += to == infinity_bits && from < infinity_bits;
    changes.underflowed += to == 0 && from != 0;
}

/// The bits of a float32 are its own.
constexpr std::uint32_t float_bits(std::uint32_t bits) {
    return bits;
}

/// `n` values of type `From`, one by one: `widen` gives the bits of the float32 that each equals, `round` the 16 bits that are nearest,
/// `back` the bits of what these are.
template <class From, std::uint32_t (*widen)(From), std::uint16_t (*round)(std::uint32_t), std::uint32_t (*back)(std::uint16_t)>
void narrow_each(const unsigned char* values, std::size_t n, unsigned char* out, Changes& changes) {
    for (std::size_t i = 0; i < n; ++i) {
        From value = 0;
        std::memcpy(&value, values + sizeof(From) * i, sizeof(From));
        const std::uint32_t bits = widen(value);
        const std::uint16_t narrowed = round(bits);
        std::memcpy(out + 2 * i, &narrowed, 2);
        count_change(bits, back(narrowed), changes);
    }
}

inline void narrow_half_portable(const unsigned char* floats, std::size_t n, unsigned char* out, Changes& changes) {
    narrow_each<std::uint32_t, float_bits, half_of, float_of_half>(floats, n, out, changes);
}

inline void narrow_bfloat16_portable(const unsigned char* floats, std::size_t n, unsigned char* out, Changes& changes) {
    narrow_each<std::uint32_t, float_bits, bfloat16_of, float_of_bfloat16>(floats, n, out, changes);
}

/// `n` half values to bfloat16, by way of the float32 that each equals.
inline void narrow_half_to_bfloat16(const unsigned char* halves, std::size_t n, unsigned char* out, Changes& changes) {
    narrow_each<std::uint16_t, float_of_half, bfloat16_of, float_of_bfloat16>(halves, n, out, changes);
}

#ifdef PORTER_WTS_X86

__attribute__((target("avx2"))) inline __m256i avx2_size(__m256i bits) {
    return _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
}

/// Whether `a` is above `b`, neither with its sign.
__attribute__((target("avx2"))) inline __m256i avx2_above(__m256i a, __m256i b) {
    return _mm256_cmpgt_epi32(a, b);
}

__attribute__((target("avx2"))) inline std::size_t avx2_count(__m256i yes) {
    return static_cast<std::size_t>(__builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(yes)))));
}

/// `count_change` for eight values. It compares bits, so that no mode of the floating point unit changes what is counted.
__attribute__((target("avx2"))) inline void avx2_count_changes(__m256i before, __m256i after, Changes& changes) {
    const __m256i same = _mm256_cmpeq_epi32(before, after);
    if (_mm256_movemask_epi8(same) == -1) {
        return;
    }
    const __m256i infinity = _mm256_set1_epi32(static_cast<int>(infinity_bits)), zero = _mm256_setzero_si256();
    const __m256i from = avx2_size(before), to = avx2_size(after);
    const __m256i unchanged = _mm256_or_si256(same, avx2_above(from, infinity));
    changes.inexact += 8 - avx2_count(unchanged);
    const __m256i infinite = _mm256_and_si256(_mm256_cmpeq_epi32(to, infinity), avx2_above(infinity, from));
    const __m256i vanished = _mm256_andnot_si256(_mm256_cmpeq_epi32(from, zero), _mm256_cmpeq_epi32(to, zero));
    if (!_mm256_testz_si256(infinite, infinite) || !_mm256_testz_si256(vanished, vanished)) {
        changes.overflowed += avx2_count(infinite);
        changes.underflowed += avx2_count(vanished);
    }
}

/// The same as `narrow_half_portable`, eight at a time.
__attribute__((target("avx2,f16c"))) inline void narrow_half_f16c(const unsigned char* floats, std::size_t n, unsigned char* out,
                                                                  Changes& changes) {
    for (; n >= 8; n -= 8, floats += 32, out += 16) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(floats));
        const __m128i halves = _mm256_cvtps_ph(_mm256_castsi256_ps(bits), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), halves);
        avx2_count_changes(bits, _mm256_castps_si256(_mm256_cvtph_ps(halves)), changes);
    }
    narrow_half_portable(floats, n, out, changes);
}

#endif

/// `n` float32 values to half, 2 n bytes at `out`.
inline void narrow_half(const unsigned char* floats, std::size_t n, unsigned char* out, Changes& changes) {
#ifdef PORTER_WTS_X86
    if (processor().f16c) {
        narrow_half_f16c(floats, n, out, changes);
        return;
    }
#endif
    narrow_half_portable(floats, n, out, changes);
}

#ifdef PORTER_WTS_X86

/// The same as `narrow_bfloat16_portable`, eight at a time.
__attribute__((target("avx2"))) inline void narrow_bfloat16_avx2(const unsigned char* floats, std::size_t n, unsigned char* out,
                                                                 Changes& changes) {
    const __m256i infinity = _mm256_set1_epi32(static_cast<int>(infinity_bits));
    for (; n >= 8; n -= 8, floats += 32, out += 16) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(floats));
        const __m256i nan = avx2_above(avx2_size(bits), infinity);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
        avx2_count_changes(bits, _mm256_slli_epi32(upper, 16), changes);
    }
    narrow_bfloat16_portable(floats, n, out, changes);
}

#endif

/// `n` float32 values to bfloat16, 2 n bytes at `out`.
inline void narrow_bfloat16(const unsigned char* floats, std::size_t n, unsigned char* out, Changes& changes) {
#ifdef PORTER_WTS_X86
    if (processor().avx2) {
        narrow_bfloat16_avx2(floats, n, out, changes);
        return;
    }
#endif
    narrow_bfloat16_portable(floats, n, out, changes);
}

} // namespace porter::detail
