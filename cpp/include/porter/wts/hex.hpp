#pragma once

/// Words of eight hexadecimal digits with one space between them, many at a time, each character checked.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <porter/wts/processor.hpp>
#include <porter/wts/words.hpp>

namespace porter::detail {

/// Bytes from one word to the next.
inline constexpr std::size_t stride = 9;

/// Decodes `n` words of `text`, 9 n - 1 bytes, into 4 n bytes at `out`; false if the text is anything else.
inline bool decode_packed_portable(const char* text, std::size_t n, unsigned char* out) {
    for (std::size_t i = 0; i < n; ++i, text += stride) {
        std::uint32_t value = 0;
        if (!decode_word(text, value) || (i + 1 < n && text[8] != ' ')) {
            return false;
        }
        std::memcpy(out + 4 * i, &value, 4);
    }
    return true;
}

#ifdef PORTER_WTS_X86

inline constexpr std::size_t avx2_words = 32; // with a space behind each they are nine registers of text

/// 0xff where a space is in those nine registers.
constexpr std::array<std::uint8_t, stride * avx2_words> make_space_mask() {
    std::array<std::uint8_t, stride * avx2_words> mask{};
    for (std::size_t i = 8; i < mask.size(); i += stride) {
        mask[i] = 0xff;
    }
    return mask;
}
alignas(32) inline constexpr std::array<std::uint8_t, stride* avx2_words> avx2_spaces = make_space_mask();

/// A table of sixteen bytes, in both halves.
__attribute__((target("avx2"))) inline __m256i avx2_table(long long low, long long high) {
    return _mm256_set_epi64x(high, low, high, low);
}

/// Digits of four words to their values, a byte in each 16 bits; `good` loses a byte where a character is no digit.
///
/// The upper half of a character picks a class from one table, the lower half the classes that it can be in from another:
/// 1 for '0' to '9', 2 for letters. The second table gives 0 for characters from 0x80.
__attribute__((target("avx2"))) inline __m256i avx2_nibbles(__m256i text, __m256i& good) {
    const __m256i class_of_upper = avx2_table(0x0002000201000000, 0), classes_of_lower = avx2_table(0x0103030303030301, 0x0101);
    const __m256i offset = avx2_table(0x00a900c9d0000000, 0);
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(text, 4), _mm256_set1_epi8(0x0f));
    const __m256i both = _mm256_and_si256(_mm256_shuffle_epi8(class_of_upper, upper), _mm256_shuffle_epi8(classes_of_lower, text));
    good = _mm256_min_epu8(good, both);
    const __m256i nibbles = _mm256_add_epi8(text, _mm256_shuffle_epi8(offset, upper));
    return _mm256_maddubs_epi16(nibbles, _mm256_set1_epi16(0x0110));
}

__attribute__((target("avx2"))) inline __m128i avx2_two(const char* a, const char* b) {
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(a));
    return _mm_unpacklo_epi64(low, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b)));
}

__attribute__((target("avx2"))) inline __m256i avx2_four(const char* a, const char* b, const char* c, const char* d) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(avx2_two(a, b)), avx2_two(c, d), 1);
}

__attribute__((target("avx2"))) inline bool decode_packed_avx2(const char* text, std::size_t n, unsigned char* out) {
    const __m256i swap =
        _mm256_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    // The last words are left to the portable way, since behind the last one there need not be a space.
    for (; n > avx2_words; n -= avx2_words, text += stride * avx2_words, out += 4 * avx2_words) {
        __m256i wrong = _mm256_setzero_si256();
        for (std::size_t i = 0; i < stride; ++i) {
            const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text + 32 * i));
            const __m256i mask = _mm256_load_si256(reinterpret_cast<const __m256i*>(avx2_spaces.data() + 32 * i));
            wrong = _mm256_or_si256(wrong, _mm256_and_si256(_mm256_xor_si256(bytes, _mm256_set1_epi8(' ')), mask));
        }
        __m256i good = _mm256_set1_epi8(3);
        for (std::size_t i = 0; i < avx2_words; i += 8) {
            const char* const t = text + stride * i;
            // In this order the words come out of the packing, which works on halves, one behind the other.
            const __m256i first = avx2_nibbles(avx2_four(t, t + 9, t + 36, t + 45), good);
            const __m256i second = avx2_nibbles(avx2_four(t + 18, t + 27, t + 54, t + 63), good);
            const __m256i values = _mm256_shuffle_epi8(_mm256_packus_epi16(first, second), swap);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * i), values);
        }
        wrong = _mm256_or_si256(wrong, _mm256_cmpeq_epi8(good, _mm256_setzero_si256()));
        if (!_mm256_testz_si256(wrong, wrong)) {
            return false;
        }
    }
    return decode_packed_portable(text, n, out);
}

#endif

/// The same as `decode_packed_portable`, as fast as this processor can.
inline bool decode_packed(const char* text, std::size_t n, unsigned char* out) {
#ifdef PORTER_WTS_X86
    if (processor().avx2) {
        return decode_packed_avx2(text, n, out);
    }
#endif
    return decode_packed_portable(text, n, out);
}

} // namespace porter::detail
