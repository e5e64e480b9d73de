/// The fast ways against the slow ones: digits, rounding, checksums.

#include "catch.hpp"
#include "wts_files.hpp"

#include <cmath>
#include <cstring>
#include <limits>

using namespace files;
using namespace porter::detail;

namespace {
/// One digit, looked up; -1 for what is none.
int digit_of(unsigned char c) {
    const std::string_view digits = "0123456789abcdef", capitals = "0123456789ABCDEF";
    const std::size_t at = std::min(digits.find(static_cast<char>(c)), capitals.find(static_cast<char>(c)));
    return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

using Decode = bool (*)(const char*, std::size_t, unsigned char*);

constexpr Decode ways[] = {decode_packed_portable, decode_packed};

float float_of(std::uint32_t bits) {
    float value = 0;
    std::memcpy(&value, &bits, 4);
    return value;
}

/// Rounds in double arithmetic: to a multiple of the step that the type has at this size. Exact, since both have room to spare.
double rounded(double value, int mantissa_bits, int least_power, double largest) {
    if (value == 0 || std::isinf(value)) {
        return value;
    }
    int power = 0;
    (void)std::frexp(value, &power);
    const double step = std::ldexp(1.0, std::max(power - 1, least_power) - mantissa_bits);
    const double result = std::nearbyint(value / step) * step; // to nearest, ties to even, as the mode is where nobody changed it
    return std::fabs(result) > largest ? std::copysign(std::numeric_limits<double>::infinity(), value) : result;
}

double value_of_half(std::uint16_t half) {
    const int exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    const double size = exponent == 31  ? std::numeric_limits<double>::infinity()
                        : exponent == 0 ? std::ldexp(mantissa, -24)
                                        : std::ldexp(1024 + mantissa, exponent - 25);
    return (half & 0x8000) != 0 ? -size : size;
}

std::vector<std::uint32_t> interesting() {
    std::vector<std::uint32_t> all;
    // Around every boundary of half and bfloat16: each of their values, the middle to the next one, and the neighbours of both.
    for (std::uint32_t half = 0; half < 0x8000; ++half) {
        const std::uint32_t bits = float_of_half(static_cast<std::uint16_t>(half));
        for (const std::uint32_t base : {bits, bits + 0x1000}) {
            all.insert(all.end(), {base - 1, base, base + 1, base ^ 0x80000000});
        }
    }
    for (std::uint32_t upper = 0; upper < 0x10000; ++upper) {
        all.insert(all.end(), {upper << 16, upper << 16 | 0x7fff, upper << 16 | 0x8000, upper << 16 | 0x8001, upper << 16 | 0xffff});
    }
    // Between half's subnormals.
    for (std::uint32_t n = 0; n < 1024; ++n) {
        const std::uint32_t bits = bits_of(static_cast<float>(std::ldexp(n + 0.5, -24)));
        all.insert(all.end(), {bits - 1, bits, bits + 1});
    }
    Numbers numbers(7);
    for (int i = 0; i < 1'000'000; ++i) {
        all.push_back(numbers.next());
    }
    return all;
}
} // namespace

TEST_CASE("every byte at every place of a word") {
    for (const Decode decode : ways) {
        for (const std::size_t words : {std::size_t{1}, std::size_t{40}, std::size_t{100}}) {
            std::string text;
            for (std::size_t i = 0; i < words; ++i) {
                text += "0aF9c3De ";
            }
            text.pop_back();
            std::vector<unsigned char> out(4 * words);
            for (std::size_t at = 0; at < text.size(); ++at) {
                const bool space = at % 9 == 8;
                for (int byte = 0; byte < 256; ++byte) {
                    std::string changed = text;
                    changed[at] = static_cast<char>(byte);
                    const bool good = space ? byte == ' ' : digit_of(static_cast<unsigned char>(byte)) >= 0;
                    if (decode(changed.data(), words, out.data()) != good) {
                        FAIL("byte " << byte << " at " << at << " of " << words);
                    }
                    if (good && !space) {
                        const auto shift = 28 - 4 * (at % 9);
                        const std::uint32_t expected = (0x0af9c3deu & ~(15u << shift)) |
                                                       static_cast<std::uint32_t>(digit_of(static_cast<unsigned char>(byte))) << shift;
                        std::uint32_t value = 0;
                        std::memcpy(&value, out.data() + 4 * (at / 9), 4);
                        if (value != expected) {
                            FAIL("byte " << byte << " at " << at << " gives " << value);
                        }
                    }
                }
            }
        }
    }
    SUCCEED();
}

TEST_CASE("any number of words, at any alignment, without a byte beyond") {
    Numbers numbers(1);
    for (std::size_t words = 1; words < 150; ++words) {
        std::vector<std::uint32_t> values;
        std::string text;
        for (std::size_t i = 0; i < words; ++i) {
            values.push_back(numbers.next() >> (numbers.next() % 32));
            text += word(values.back()) + " ";
        }
        text.pop_back();
        // Memory of exactly this size, so that the sanitizer sees what is read or written beyond.
        const std::vector<char> exact(text.begin(), text.end());
        for (const Decode decode : ways) {
            std::vector<unsigned char> out(4 * words);
            REQUIRE(decode(exact.data(), words, out.data()));
            REQUIRE(std::memcmp(out.data(), values.data(), out.size()) == 0);
        }
    }
}

TEST_CASE("all halves become themselves again") {
    for (std::uint32_t code = 0; code < 0x10000; ++code) {
        const auto half = static_cast<std::uint16_t>(code);
        const std::uint32_t bits = float_of_half(half);
        const bool nan = (half & 0x7fff) > 0x7c00;
        if (!nan && static_cast<double>(float_of(bits)) != value_of_half(half)) {
            FAIL("half " << code);
        }
        if (half_of(bits) != (nan ? half | 0x200 : half)) {
            FAIL("half " << code << " became " << half_of(bits));
        }
        if (bfloat16_of(code << 16) != ((code & 0x7fff) > 0x7f80 ? code | 0x40 : code)) {
            FAIL("bfloat16 " << code);
        }
    }
    SUCCEED();
}

TEST_CASE("narrowing agrees with double arithmetic, and counts what it changes") {
    const std::vector<std::uint32_t> all = interesting();
    const auto* const bytes = reinterpret_cast<const unsigned char*>(all.data());
    for (const bool half : {true, false}) {
        std::vector<std::uint16_t> expected(all.size());
        Changes counted;
        for (std::size_t i = 0; i < all.size(); ++i) {
            const double value = static_cast<double>(float_of(all[i]));
            if (std::isnan(value)) {
                const std::uint32_t payload = all[i] & 0x7fffff;
                expected[i] = static_cast<std::uint16_t>((all[i] >> 31 << 15) | (half ? 0x7e00 | payload >> 13 : 0x7fc0 | payload >> 16));
                continue;
            }
            const double near = half ? rounded(value, 10, -14, 65504) : rounded(value, 7, -126, std::ldexp(255, 120));
            const bool negative = std::signbit(value), infinite = std::isinf(near);
            counted.inexact += near != value;
            counted.overflowed += infinite && !std::isinf(value);
            counted.underflowed += near == 0 && value != 0;
            int power = 0;
            (void)std::frexp(near, &power);
            const int mantissa_bits = half ? 10 : 7, least = half ? -14 : -126;
            // The code is the number of steps from zero: subnormals and the exponents above them follow each other.
            const int exponent = near == 0 ? least : std::max(power - 1, least);
            const double steps = std::ldexp(std::fabs(near), mantissa_bits - exponent) + std::ldexp(exponent - least, mantissa_bits);
            const int code = infinite ? (half ? 0x7c00 : 0x7f80) : static_cast<int>(steps);
            expected[i] = static_cast<std::uint16_t>((negative ? 0x8000 : 0) | code);
        }
        using NarrowWay = void (*)(const unsigned char*, std::size_t, unsigned char*, Changes&);
        const NarrowWay halves[] = {narrow_half_portable, narrow_half}, bfloats[] = {narrow_bfloat16_portable, narrow_bfloat16};
        for (const NarrowWay way : half ? halves : bfloats) {
            std::vector<std::uint16_t> out(all.size());
            Changes changes;
            way(bytes, all.size(), reinterpret_cast<unsigned char*>(out.data()), changes);
            for (std::size_t i = 0; i < all.size(); ++i) {
                if (out[i] != expected[i]) {
                    FAIL((half ? "half" : "bfloat16") << " of " << word(all[i]) << " is " << out[i] << ", not " << expected[i]);
                }
            }
            CHECK(changes.inexact == counted.inexact);
            CHECK(changes.overflowed == counted.overflowed);
            CHECK(changes.underflowed == counted.underflowed);
        }
    }
}

TEST_CASE("tensors are narrowed while they are read") {
    const std::string text = "3\nf 0 5 3f800000 477ff000 33000000 3f801000 7fc00001 \nh 1 3 3c00 7bff 1 \ni 3 1 7 \n";
    porter::Options options;
    options.narrow = porter::Narrow::half;
    const porter::Weights halves = parse(text, options);
    const porter::Tensor& f = halves.at("f");
    CHECK(f.dtype() == porter::DType::float16);
    CHECK(f.nbytes() == 10);
    const std::vector<std::uint16_t> expected{0x3c00, 0x7c00, 0, 0x3c00, 0x7e00};
    CHECK(std::vector<std::uint16_t>(f.as<std::uint16_t>(), f.as<std::uint16_t>() + 5) == expected);
    CHECK(f.overflowed() == 1);
    CHECK(f.underflowed() == 1);
    CHECK(f.inexact() == 3);
    CHECK(f.original_dtype() == "float32");
    CHECK(halves.at("h").as<std::uint16_t>()[1] == 0x7bff);
    CHECK(halves.at("h").inexact() == 0);
    CHECK(halves.at("i").dtype() == porter::DType::int32);
    options.narrow = porter::Narrow::bfloat16;
    const porter::Weights bfloats = parse(text, options);
    CHECK(bfloats.at("f").dtype() == porter::DType::bfloat16);
    CHECK(bfloats.at("f").as<std::uint16_t>()[1] == 0x4780);
    CHECK(bfloats.at("f").overflowed() == 0);
    CHECK(bfloats.at("h").dtype() == porter::DType::bfloat16);
    CHECK(bfloats.at("h").as<std::uint16_t>()[1] == 0x4780);
    CHECK(bfloats.at("h").inexact() == 1);
    options.narrow = porter::Narrow::half;
    const porter::Weights raw = parse("1\na 0 (2,) \0\0\x80\x3f\0\0\0\x80\n"s, options);
    CHECK(raw.at("a").as<std::uint16_t>()[0] == 0x3c00);
    CHECK(raw.at("a").as<std::uint16_t>()[1] == 0x8000);
}

TEST_CASE("checksums") {
    CHECK(crc32("123456789", 9) == 0xcbf43926); // the check value of this CRC
    CHECK(crc32("", 0) == 0);
    CHECK(sha256("", 0) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56) ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const std::string million(1'000'000, 'a');
    CHECK(sha256(million.data(), million.size()) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    Numbers numbers(3);
    std::vector<unsigned char> bytes(5000);
    for (unsigned char& byte : bytes) {
        byte = static_cast<unsigned char>(numbers.next());
    }
    for (std::size_t length = 0; length < 700; ++length) {
        const unsigned char* const begin = bytes.data() + length % 17;
        std::uint32_t bitwise = ~0u;
        for (std::size_t i = 0; i < length; ++i) {
            bitwise ^= begin[i];
            for (int bit = 0; bit < 8; ++bit) {
                bitwise = (bitwise & 1) ? (bitwise >> 1) ^ 0xedb88320 : bitwise >> 1;
            }
        }
        REQUIRE(crc32(begin, length) == ~bitwise);
        REQUIRE(~crc_portable(~0u, begin, length) == ~bitwise);
        REQUIRE(crc_join(crc32(begin, length / 3), crc32(begin + length / 3, length - length / 3), length - length / 3) == ~bitwise);
        ShaState one = sha_begin, other = sha_begin;
        sha_portable(one, begin, length / 64);
        sha_blocks(other, begin, length / 64);
        REQUIRE(one == other);
    }
}

TEST_CASE("bytes are counted") {
    for (std::size_t length = 0; length < 5000; length += 13) {
        const std::string text = std::string(length, ' ') + std::string(length / 2, '!') + "\xa0\x1f!";
        CHECK(count_byte(text, ' ') == length);
        CHECK(count_byte(text, '!') == length / 2 + 1);
    }
}
