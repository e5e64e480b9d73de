#pragma once

/// CRC-32 as in zlib, PNG and zip.
///
/// Source: V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009 (folding);
/// RFC 1952, section 8 (the polynomial, and bit order).

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <porter/wts/processor.hpp>

namespace porter::detail {

constexpr std::uint32_t crc_polynomial = 0xedb88320; // reflected: the highest bit is the coefficient of x^0

/// The product of two polynomials modulo the CRC's, all reflected.
constexpr std::uint32_t crc_multiply(std::uint32_t a, std::uint32_t b) {
    std::uint32_t sum = 0;
    for (std::uint32_t bit = 0x80000000; bit != 0; bit >>= 1) {
        if (a & bit) {
            sum ^= b;
        }
        b = (b & 1) ? (b >> 1) ^ crc_polynomial : b >> 1;
    }
    return sum;
}

/// x to the power of `n`, modulo the CRC's polynomial, reflected.
constexpr std::uint32_t crc_power(std::uint64_t n) {
    std::uint32_t power = 0x80000000; // 1
    for (std::uint32_t square = 0x40000000; n != 0; n >>= 1) {
        if (n & 1) {
            power = crc_multiply(power, square);
        }
        square = crc_multiply(square, square);
    }
    return power;
}

/// The CRC-32 of two pieces one behind the other, the second of `length` bytes.
constexpr std::uint32_t crc_join(std::uint32_t first, std::uint32_t second, std::uint64_t length) {
    return crc_multiply(crc_power(8 * length), first) ^ second;
}

/// Tables for eight bytes at a time: entry `[k][b]` is the CRC of byte b with k zero bytes behind it.
constexpr std::array<std::array<std::uint32_t, 256>, 8> crc_make_tables() {
    std::array<std::array<std::uint32_t, 256>, 8> tables{};
    for (std::uint32_t b = 0; b < 256; ++b) {
        std::uint32_t crc = b;
        for (int i = 0; i < 8; ++i) {
            crc = (crc & 1) ? (crc >> 1) ^ crc_polynomial : crc >> 1;
        }
        tables[0][b] = crc;
    }
    for (std::size_t k = 1; k < 8; ++k) {
        for (std::size_t b = 0; b < 256; ++b) {
            tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xff];
        }
    }
    return tables;
}
inline constexpr std::array<std::array<std::uint32_t, 256>, 8> crc_tables = crc_make_tables();

/// Goes on with `state`, which is the complement of a CRC.
inline std::uint32_t crc_portable(std::uint32_t state, const unsigned char* data, std::size_t size) {
    const auto& t = crc_tables;
    for (; size >= 8; data += 8, size -= 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, data, 8);
        word ^= state;
        state = t[7][word & 0xff] ^ t[6][(word >> 8) & 0xff] ^ t[5][(word >> 16) & 0xff] ^ t[4][(word >> 24) & 0xff] ^
                t[3][(word >> 32) & 0xff] ^ t[2][(word >> 40) & 0xff] ^ t[1][(word >> 48) & 0xff] ^ t[0][word >> 56];
    }
    for (; size != 0; ++data, --size) {
        state = (state >> 8) ^ t[0][(state ^ *data) & 0xff];
    }
    return state;
}

#ifdef PORTER_WTS_X86

/// What multiplies 64 bits that lie `bits` bits before where they are added; the instruction leaves the product one bit too low.
constexpr std::uint64_t crc_fold(std::uint64_t bits) {
    return static_cast<std::uint64_t>(crc_power(bits)) << 1;
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i crc_folded(__m128i value, __m128i by, __m128i onto) {
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11)), onto);
}

/// The same as `crc_portable`, 64 bytes at a time.
__attribute__((target("pclmul,sse4.1"))) inline std::uint32_t crc_pclmul(std::uint32_t state, const unsigned char* data, std::size_t size) {
    if (size < 128) {
        return crc_portable(state, data, size);
    }
    const auto load = [](const unsigned char* at) __attribute__((target("pclmul,sse4.1"))) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    };
    // The lower half of 128 bits is 64 bits further from the end than the upper one; both products are 32 bits too far up.
    const __m128i by64 = _mm_set_epi64x(static_cast<long long>(crc_fold(512 - 32)), static_cast<long long>(crc_fold(512 + 32)));
    const __m128i by16 = _mm_set_epi64x(static_cast<long long>(crc_fold(128 - 32)), static_cast<long long>(crc_fold(128 + 32)));
    __m128i a = _mm_xor_si128(load(data), _mm_cvtsi32_si128(static_cast<int>(state)));
    __m128i b = load(data + 16), c = load(data + 32), d = load(data + 48);
    for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
        a = crc_folded(a, by64, load(data));
        b = crc_folded(b, by64, load(data + 16));
        c = crc_folded(c, by64, load(data + 32));
        d = crc_folded(d, by64, load(data + 48));
    }
    a = crc_folded(crc_folded(crc_folded(a, by16, b), by16, c), by16, d);
    // What is left has the same remainder as all bytes before: the tables divide it.
    alignas(16) unsigned char rest[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(rest), a);
    return crc_portable(crc_portable(0, rest, 16), data, size);
}

#endif

/// The CRC-32 of the bytes of which `crc` is the CRC, and `size` more. Begin with 0.
inline std::uint32_t crc32(const void* data, std::size_t size, std::uint32_t crc = 0) noexcept {
    const auto* const bytes = static_cast<const unsigned char*>(data);
#ifdef PORTER_WTS_X86
    if (processor().pclmul) {
        return ~crc_pclmul(~crc, bytes, size);
    }
#endif
    return ~crc_portable(~crc, bytes, size);
}

} // namespace porter::detail
