#pragma once

/// Characters: what separates words, how many there are in a text, and how a text out of a file may be shown.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace porter::detail {

inline unsigned char byte_at(std::string_view text, std::size_t at) {
    return static_cast<unsigned char>(text[at]);
}

inline bool is_gap(char c) {
    return c == ' ' || c == '\t';
}

inline bool is_white(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

inline bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

inline bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

template <class Predicate>
std::size_t skip(std::string_view text, std::size_t at, Predicate predicate) {
    while (at < text.size() && predicate(text[at])) {
        ++at;
    }
    return at;
}

inline std::size_t skip_gap(std::string_view text, std::size_t at) {
    return skip(text, at, is_gap);
}

inline std::size_t skip_word(std::string_view text, std::size_t at) {
    return skip(text, at, [](char c) { return !is_white(c); });
}

template <class Predicate>
bool all_of(std::string_view text, Predicate predicate) {
    return std::all_of(text.begin(), text.end(), predicate);
}

/// Bytes of the UTF-8 character at `at`, and the character; 0 where there is none: overlong, a surrogate, cut, or beyond U+10FFFF.
inline std::size_t utf8_length(std::string_view text, std::size_t at, char32_t& character) {
    const unsigned char first = byte_at(text, at);
    if (first < 0x80) {
        character = first;
        return 1;
    }
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() - at < length) {
        return 0;
    }
    character = first & (0x7fu >> length);
    for (std::size_t i = 1; i < length; ++i) {
        const unsigned char next = byte_at(text, at + i);
        if ((next & 0xc0) != 0x80) {
            return 0;
        }
        character = (character << 6) | (next & 0x3fu);
    }
    const char32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
    return character < least || character > 0x10ffff || (character >= 0xd800 && character < 0xe000) ? 0 : length;
}

/// How many characters `text` has; each byte that is no UTF-8 counts as one.
inline std::size_t characters(std::string_view text) {
    std::size_t count = 0;
    char32_t character = 0;
    for (std::size_t at = 0; at < text.size(); ++count) {
        at += std::max<std::size_t>(utf8_length(text, at, character), 1);
    }
    return count;
}

/// Characters that move the cursor, turn the writing direction or show nothing.
inline bool is_hidden(char32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xe0000 && c <= 0xe0fff);
}

/// `text` with hidden characters and bytes that are no UTF-8 escaped, so that a name out of a file cannot move the cursor.
inline std::string printable(std::string_view text) {
    static const char digits[] = "0123456789abcdef";
    const auto escape = [](std::string& shown, char kind, char32_t value, int width) {
        shown += '\\';
        shown += kind;
        for (int i = width - 1; i >= 0; --i) {
            shown += digits[(value >> (4 * i)) & 15];
        }
    };
    std::string shown;
    shown.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        char32_t character = 0;
        const std::size_t length = utf8_length(text, at, character);
        if (length == 0) {
            escape(shown, 'x', byte_at(text, at), 2);
        } else if (!is_hidden(character)) {
            shown += text.substr(at, length);
        } else if (character < 0x100) {
            escape(shown, 'x', character, 2);
        } else {
            escape(shown, character < 0x10000 ? 'u' : 'U', character, character < 0x10000 ? 4 : 8);
        }
        at += std::max<std::size_t>(length, 1);
    }
    return shown;
}

/// A number as eight small hexadecimal digits.
inline std::string hex_text(std::uint32_t value) {
    std::string text(8, '0');
    for (std::size_t i = text.size(); i-- > 0; value >>= 4) {
        text[i] = "0123456789abcdef"[value & 15];
    }
    return text;
}

/// At most `limit` bytes of `text`, in quotes.
inline std::string quoted(std::string_view text, std::size_t limit = 40) {
    return "'" + printable(text.substr(0, limit)) + (text.size() > limit ? "...'" : "'");
}

} // namespace porter::detail
