#pragma once

/// Words of hexadecimal digits, wherever they are in their line, with all checks: the careful way, which says what is wrong and where.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <porter/wts/rows.hpp>

namespace porter::detail {

/// Eight digits, the most significant one first, to their value; false if one of them is none.
inline bool decode_word(const char* text, std::uint32_t& value) {
    constexpr std::uint64_t each = 0x0101010101010101, high = 0x80 * each;
    std::uint64_t x = 0;
    std::memcpy(&x, text, 8);
    // Sums with bytes below 0x80 do not carry; a byte's high bit then says whether it reached a bound.
    const std::uint64_t low = x & ~high, small = low | 0x20 * each;
    const std::uint64_t digit = (low + (0x80 - '0') * each) & ~(low + (0x80 - '9' - 1) * each);
    const std::uint64_t letter = (small + (0x80 - 'a') * each) & ~(small + (0x80 - 'f' - 1) * each);
    if ((((digit | letter) & ~x) & high) != high) {
        return false;
    }
    std::uint64_t nibbles = __builtin_bswap64((x & 0x0f * each) + ((letter & high) >> 7) * 9);
    nibbles = (nibbles | nibbles >> 4) & 0x00ff00ff00ff00ff;
    nibbles = (nibbles | nibbles >> 8) & 0x0000ffff0000ffff;
    value = static_cast<std::uint32_t>(nibbles | nibbles >> 16);
    return true;
}

inline constexpr unsigned char word_gap = 16, word_newline = 17, word_stray = 18;

constexpr std::array<unsigned char, 256> make_word_kinds() {
    std::array<unsigned char, 256> kinds{};
    for (auto& kind : kinds) {
        kind = word_stray;
    }
    for (std::size_t i = 0; i < 10; ++i) {
        kinds['0' + i] = static_cast<unsigned char>(i);
    }
    for (std::size_t i = 0; i < 6; ++i) {
        kinds['a' + i] = kinds['A' + i] = static_cast<unsigned char>(10 + i);
    }
    kinds[' '] = kinds['\t'] = word_gap;
    kinds['\n'] = word_newline;
    return kinds;
}
/// A digit's value, or what else a byte is.
inline constexpr std::array<unsigned char, 256> word_kinds = make_word_kinds();

/// Reads the words of a row, in order. It begins with word number `first`; those before it must lie where a packed line has them.
class WordReader {
public:
    WordReader(const Source& source, const Row& row, std::size_t first = 0)
        : source_(source), row_(row), text_(source.bytes()), at_(row.begin + (row.digits() + 1) * first), found_(first),
          digits_(row.digits()) {}

    /// Puts the next words, at most `room`, into `out` and says how many; 0 behind the last. Throws a WtsError.
    std::size_t read(std::uint32_t* out, std::size_t room) {
        std::size_t n = 0;
        while (n < room && next(out[n])) {
            ++n;
        }
        return n;
    }

    /// Where the next word is searched for.
    std::size_t offset() const { return at_; }

private:
    static constexpr std::size_t longest = std::size_t{1} << 18; // a word is not looked at further than this

    bool next(std::uint32_t& value) {
        while (at_ < row_.end && is_gap(text_[at_])) {
            ++at_;
        }
        if (at_ == row_.end) {
            if (found_ < row_.count) {
                row_.too_few(source_, found_, row_.end, row_.last);
            }
            return false;
        }
        if (digits_ == 8 && found_ < row_.count && row_.end - at_ >= 8 && (row_.end - at_ == 8 || is_gap(text_[at_ + 8])) &&
            decode_word(text_.data() + at_, value)) {
            at_ += 8;
            ++found_;
            return true;
        }
        return slowly(value);
    }

    bool slowly(std::uint32_t& value) {
        const std::size_t begin = at_, limit = row_.end - begin < longest ? row_.end : begin + longest;
        unsigned char kind = word_gap;
        value = 0;
        for (; at_ < limit; ++at_) {
            kind = word_kinds[byte_at(text_, at_)];
            if (kind >= word_gap) {
                break;
            }
            value = value << 4 | kind;
        }
        const std::size_t length = at_ - begin;
        if (kind == word_newline && length == 0) {
            row_.too_few(source_, found_, begin, false);
        }
        const bool stray = kind == word_stray;
        if (found_ == row_.count) {
            row_.too_many(source_, stray ? at_ : begin);
        }
        if (stray) {
            const char character = text_[at_];
            const std::string shown = is_printable(character) ? "'" + std::string(1, character) + "'" : "byte " + hex_byte(character);
            fail(source_, ErrorCode::stray_character, shown + " is no hexadecimal digit", row_.place(at_), row_.name,
                 "the file is damaged, or the count is too large");
        }
        if (row_.padded ? length != digits_ : length > digits_) {
            wrong_length(begin, length);
        }
        ++found_;
        return true;
    }

    [[noreturn]] void wrong_length(std::size_t begin, std::size_t length) const {
        if (length > digits_) {
            fail(source_, ErrorCode::wrong_digits,
                 "a value of more than the " + std::to_string(digits_) + " digits that " + name_of(row_.stored()) + " has",
                 row_.place(begin), row_.name, "a separator was lost, or the type is wrong");
        }
        if (row_.last && begin + length >= row_.end) {
            fail(source_, ErrorCode::truncated, "the last value has " + std::to_string(length) + " of its 8 digits", row_.place(begin),
                 row_.name, hint_truncated);
        }
        fail(source_, ErrorCode::wrong_digits, "a value of " + std::to_string(length) + " digits, where every one has 8", row_.place(begin),
             row_.name, "tensorrtx pads every value to 8 digits, so some were lost; write the file again");
    }

    static bool is_printable(char c) { return c > ' ' && c < 0x7f; }

    static std::string hex_byte(char c) {
        const auto byte = static_cast<unsigned char>(c);
        static const char digits[] = "0123456789abcdef";
        return std::string("0x") + digits[byte >> 4] + digits[byte & 15];
    }

    const Source& source_;
    const Row& row_;
    std::string_view text_;
    std::size_t at_;
    std::size_t found_;
    std::size_t digits_;
};

} // namespace porter::detail
