#pragma once

/// SHA-256. Source: FIPS 180-4, sections 4.1.2, 5.1.1 and 6.2; Intel, "Intel SHA Extensions" (2013), for the instructions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include <porter/wts/processor.hpp>
#include <porter/wts/text.hpp>

namespace porter::detail {

using ShaState = std::array<std::uint32_t, 8>;

/// The first 32 bits of the fractional parts of the roots of the first primes: of the square roots where it begins, of the cube
/// roots for each round.
inline constexpr ShaState sha_begin = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
alignas(16) inline constexpr std::uint32_t sha_rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

inline void sha_portable(ShaState& state, const unsigned char* data, std::size_t blocks) {
    const auto rotated = [](std::uint32_t x, int n) { return (x >> n) | (x << (32 - n)); };
    for (; blocks != 0; --blocks, data += 64) {
        std::uint32_t w[64];
        for (int t = 0; t < 16; ++t) {
            std::uint32_t word = 0;
            std::memcpy(&word, data + 4 * t, 4);
            w[t] = __builtin_bswap32(word);
        }
        for (int t = 16; t < 64; ++t) {
            const std::uint32_t low = rotated(w[t - 15], 7) ^ rotated(w[t - 15], 18) ^ (w[t - 15] >> 3);
            const std::uint32_t high = rotated(w[t - 2], 17) ^ rotated(w[t - 2], 19) ^ (w[t - 2] >> 10);
            w[t] = w[t - 16] + low + w[t - 7] + high;
        }
        auto [a, b, c, d, e, f, g, h] = state;
        for (int t = 0; t < 64; ++t) {
            const std::uint32_t first = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + sha_rounds[t] + w[t];
            const std::uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + first;
            d = c, c = b, b = a, a = first + second;
        }
        const ShaState sum = {a, b, c, d, e, f, g, h};
        for (std::size_t i = 0; i < 8; ++i) {
            state[i] += sum[i];
        }
    }
}

#ifdef PORTER_WTS_X86

/// The same with the processor's own instructions, which hold the state as (a b e f) and (c d g h), the first in the highest bits.
__attribute__((target("sha,sse4.1,ssse3"))) inline void sha_instructions(ShaState& state, const unsigned char* data, std::size_t blocks) {
    const auto [a, b, c, d, e, f, g, h] = state;
    const auto four = [](std::uint32_t w, std::uint32_t x, std::uint32_t y, std::uint32_t z) {
        return _mm_set_epi32(static_cast<int>(w), static_cast<int>(x), static_cast<int>(y), static_cast<int>(z));
    };
    __m128i abef = four(a, b, e, f), cdgh = four(c, d, g, h);
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    for (; blocks != 0; --blocks, data += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int t = 0; t < 4; ++t) {
            w[t] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 16 * t)), swap);
        }
        for (int t = 0; t < 16; ++t) {
            const __m128i words = w[t % 4];
            const __m128i sums = _mm_add_epi32(words, _mm_load_si128(reinterpret_cast<const __m128i*>(sha_rounds + 4 * t)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sums);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sums, 0x0e));
            // The words of sixteen rounds later take the place of those just used.
            const __m128i last = w[(t + 3) % 4];
            const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(words, w[(t + 1) % 4]), _mm_alignr_epi8(last, w[(t + 2) % 4], 4));
            w[t % 4] = _mm_sha256msg2_epu32(sum, last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    std::uint32_t first[4], second[4];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(first), abef);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(second), cdgh);
    state = {first[3], first[2], second[3], second[2], first[1], first[0], second[1], second[0]};
}

#endif

inline void sha_blocks(ShaState& state, const unsigned char* data, std::size_t blocks) {
#ifdef PORTER_WTS_X86
    if (processor().sha) {
        sha_instructions(state, data, blocks);
        return;
    }
#endif
    sha_portable(state, data, blocks);
}

/// The SHA-256 of `size` bytes, as 64 small hexadecimal digits.
inline std::string sha256(const void* data, std::size_t size) {
    const auto* const bytes = static_cast<const unsigned char*>(data);
    ShaState state = sha_begin;
    sha_blocks(state, bytes, size / 64);
    // A one bit, zeros, and the length in bits fill the last block, or two.
    unsigned char last[128] = {};
    const std::size_t rest = size % 64, length = rest < 56 ? 64 : 128;
    if (rest != 0) {
        std::memcpy(last, bytes + (size - rest), rest);
    }
    last[rest] = 0x80;
    const std::uint64_t bits = __builtin_bswap64(8 * static_cast<std::uint64_t>(size));
    std::memcpy(last + length - 8, &bits, 8);
    sha_blocks(state, last, length / 64);
    std::string text;
    for (const std::uint32_t word : state) {
        text += hex_text(word);
    }
    return text;
}

} // namespace porter::detail
