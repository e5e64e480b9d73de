#pragma once

/// A small strict JSON reader. It makes no tree: it checks the whole text first, and then says where in it things are.
///
/// Source: RFC 8259. Beyond it `NaN`, `Infinity` and `-Infinity` are taken, which Python's writer makes of such numbers.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <porter/wts/text.hpp>

namespace porter::detail {

/// What is wrong with a JSON text, and where.
struct JsonError {
    const char* message;
    std::size_t offset;
};

class Json {
public:
    static constexpr int deepest = 500;

    explicit Json(std::string_view text) : text_(text) {}

    /// Looks at all of the text, which must be one value, in UTF-8. Throws a JsonError.
    void check() {
        at_ = text_.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0;
        begin_ = at_;
        char32_t character = 0;
        for (std::size_t at = 0; at < text_.size();) {
            const std::size_t length = utf8_length(text_, at, character);
            if (length == 0) {
                throw JsonError{"bytes that are no UTF-8", at};
            }
            at += length;
        }
        space();
        value(0);
        space();
        if (at_ != text_.size()) {
            wrong("something behind the value");
        }
    }

    /// The value that a checked text is.
    std::string_view root() {
        at_ = begin_;
        space();
        return next_value();
    }

    /// Calls `member(key, value)` for each member of an object, in order; false if `text` is none. Only for checked text.
    template <class Member>
    static bool members(std::string_view text, Member member) {
        if (text.empty() || text[0] != '{') {
            return false;
        }
        Json json(text);
        json.at_ = 1;
        for (json.space(); text[json.at_] != '}'; json.comma()) {
            const std::string_view key = json.next_value();
            json.space();
            ++json.at_; // the colon
            json.space();
            member(string(key), json.next_value());
        }
        return true;
    }

    /// Calls `element(value)` for each element of an array, in order; false if `text` is none. Only for checked text.
    template <class Element>
    static bool elements(std::string_view text, Element element) {
        if (text.empty() || text[0] != '[') {
            return false;
        }
        Json json(text);
        json.at_ = 1;
        for (json.space(); text[json.at_] != ']'; json.comma()) {
            element(json.next_value());
        }
        return true;
    }

    static bool is_string(std::string_view text) { return !text.empty() && text[0] == '"'; }

    /// The text that a string means, in UTF-8; a lone surrogate that Python made of a byte that is no UTF-8 is that byte again.
    static std::string string(std::string_view text) {
        std::string result;
        for (std::size_t at = 1; at + 1 < text.size();) {
            if (text[at] != '\\') {
                result += text[at++];
                continue;
            }
            const char kind = text[at + 1];
            at += 2;
            if (kind != 'u') {
                static constexpr std::string_view names = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
                result += meant[names.find(kind)];
                continue;
            }
            char32_t character = unit(text, at);
            at += 4;
            if (character >= 0xd800 && character < 0xdc00 && text.substr(at, 2) == "\\u") {
                const char32_t low = unit(text, at + 2);
                if (low >= 0xdc00 && low < 0xe000) {
                    character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
                    at += 6;
                }
            }
            append(result, character);
        }
        return result;
    }

    /// Whether it is an integer, and which: beyond the 64-bit range, the nearest in it.
    static bool integer(std::string_view text, std::int64_t& number) {
        const bool negative = !text.empty() && text[0] == '-';
        const std::string_view digits = text.substr(negative);
        if (digits.empty() || !all_of(digits, is_digit)) {
            return false;
        }
        constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
        std::int64_t size = 0;
        for (const char c : digits) {
            const std::int64_t digit = c - '0';
            size = size > (most - digit) / 10 ? most : 10 * size + digit;
        }
        number = negative ? -size : size;
        return true;
    }

private:
    [[noreturn]] void wrong(const char* message) const { throw JsonError{message, at_}; }

    char now() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void space() {
        at_ = skip(text_, at_, [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; });
    }

    void comma() {
        space();
        at_ += now() == ',';
        space();
    }

    std::string_view next_value() {
        const std::size_t begin = at_;
        value(0);
        return text_.substr(begin, at_ - begin);
    }

    void value(int depth) {
        switch (now()) {
        case '{': object(depth); return;
        case '[': array(depth); return;
        case '"': quoted_text(); return;
        default: break;
        }
        for (const std::string_view word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
            if (text_.substr(at_, word.size()) == word) {
                at_ += word.size();
                return;
            }
        }
        number();
    }

    void object(int depth) {
        open(depth);
        if (now() == '}') {
            ++at_;
            return;
        }
        for (;;) {
            if (now() != '"') {
                wrong("a key in quotes was expected");
            }
            quoted_text();
            space();
            if (now() != ':') {
                wrong("a colon was expected");
            }
            ++at_;
            space();
            value(depth + 1);
            if (closes('}')) {
                return;
            }
        }
    }

    void array(int depth) {
        open(depth);
        if (now() == ']') {
            ++at_;
            return;
        }
        do {
            value(depth + 1);
        } while (!closes(']'));
    }

    void open(int depth) {
        if (depth == deepest) {
            wrong("it is nested too deeply");
        }
        ++at_;
        space();
    }

    /// Behind a member or an element: whether that was the last.
    bool closes(char bracket) {
        space();
        if (now() == bracket) {
            ++at_;
            return true;
        }
        if (now() != ',') {
            wrong("a comma or a closing bracket was expected");
        }
        ++at_;
        space();
        return false;
    }

    void quoted_text() {
        for (++at_; now() != '"'; ++at_) {
            if (at_ == text_.size()) {
                wrong("a string has no end");
            }
            if (static_cast<unsigned char>(now()) < 0x20) {
                wrong("a control character in a string");
            }
            if (now() != '\\') {
                continue;
            }
            ++at_;
            if (now() == 'u') {
                const std::string_view digits = text_.substr(at_ + 1, 4);
                if (digits.size() != 4 || !all_of(digits, is_hex)) {
                    wrong("four hexadecimal digits were expected");
                }
                at_ += 4;
            } else if (at_ == text_.size() || std::string_view("\"\\/bfnrt").find(now()) == std::string_view::npos) {
                wrong("an unknown escape");
            }
        }
        ++at_;
    }

    void number() {
        const std::size_t begin = at_;
        at_ += now() == '-';
        const std::size_t whole = at_;
        digits("a value was expected");
        if (text_[whole] == '0' && at_ - whole > 1) {
            at_ = whole;
            wrong("a number with a leading zero");
        }
        const std::size_t end = at_;
        if (now() == '.') {
            ++at_;
            digits("a digit was expected");
        }
        if (now() == 'e' || now() == 'E') {
            ++at_;
            at_ += now() == '+' || now() == '-';
            digits("a digit was expected");
        }
        // Python refuses such, since to read them takes the square of their length.
        if (at_ == end && end - whole > 4300) {
            at_ = begin;
            wrong("a number of too many digits");
        }
    }

    void digits(const char* message) {
        if (!is_digit(now())) {
            wrong(message);
        }
        at_ = skip(text_, at_, is_digit);
    }

    static char32_t unit(std::string_view text, std::size_t at) {
        char32_t value = 0;
        for (const char c : text.substr(at, 4)) {
            value = value << 4 | static_cast<char32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
        }
        return value;
    }

    static void append(std::string& text, char32_t c) {
        const auto put = [&text](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
        if (c < 0x80) {
            put(c);
        } else if (c >= 0xdc80 && c < 0xdd00) {
            put(c - 0xdc00);
        } else if (c < 0x800) {
            put(0xc0 | c >> 6);
            put(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            put(0xe0 | c >> 12);
            put(0x80 | (c >> 6 & 0x3f));
            put(0x80 | (c & 0x3f));
        } else {
            put(0xf0 | c >> 18);
            put(0x80 | (c >> 12 & 0x3f));
            put(0x80 | (c >> 6 & 0x3f));
            put(0x80 | (c & 0x3f));
        }
    }

    std::string_view text_;
    std::size_t at_ = 0, begin_ = 0;
};

/// `text` as a JSON string. Bytes that are no UTF-8 become lone surrogates, as in Python, so that names stay apart.
inline std::string json_quoted(std::string_view text) {
    std::string quoted = "\"";
    for (std::size_t at = 0; at < text.size();) {
        char32_t character = 0;
        const std::size_t length = utf8_length(text, at, character);
        char escaped[8];
        if (length == 0) {
            std::snprintf(escaped, sizeof escaped, "\\udc%02x", byte_at(text, at));
            quoted += escaped;
        } else if (character == '"' || character == '\\') {
            quoted += '\\';
            quoted += text[at];
        } else if (character < 0x10000 && is_hidden(character)) {
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(character));
            quoted += escaped;
        } else {
            quoted += text.substr(at, length);
        }
        at += length == 0 ? 1 : length;
    }
    return quoted + "\"";
}

} // namespace porter::detail
