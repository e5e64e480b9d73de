#pragma once

/// Which of the three dialects a file is in, by its content.
///
/// tensorrtx writes `name count` and words of 8 digits; nvidia-v1 writes `name type count`, with a plain decimal count; nvidia-v2
/// writes `name type (`. A line cannot be right in two of them: what nvidia-v1 takes for the count has 8 digits in a line of 1 to 3
/// values that tensorrtx reads, and no count of 8 digits fits such a short line.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include <porter/wts/rows.hpp>

namespace porter::detail {

/// The first words of a line, as far as they tell the dialect; `matched` where there are a name and a number of at most 18 digits.
struct LineStart {
    bool matched = false;
    std::string_view second, third;
    std::size_t rest = 0; // bytes of the line behind `third`
    std::size_t end = 0;  // offset of the newline, or the end of the text
};

inline LineStart line_start(std::string_view text, std::size_t at) {
    LineStart line;
    const std::size_t name = skip_gap(text, at), name_end = skip_word(text, name);
    const std::size_t second = skip_gap(text, name_end), second_end = skip(text, second, is_digit);
    const std::size_t length = second_end - second;
    if (name_end == name || second == name_end || length == 0 || length > 18) {
        return line;
    }
    if (second_end < text.size() && !is_gap(text[second_end]) && text[second_end] != '\r' && text[second_end] != '\n') {
        return line;
    }
    const std::size_t third = skip_gap(text, second_end), third_end = skip_word(text, third);
    line.matched = true;
    line.second = text.substr(second, length);
    line.third = text.substr(third, third_end - third);
    line.end = std::min(text.find('\n', third_end), text.size());
    line.rest = line.end - third_end;
    return line;
}

/// The dialect of one matched line, or none where its third word is none of a dialect.
inline std::optional<Dialect> dialect_of_line(const LineStart& line) {
    const bool padded = line.third.size() == 8 && all_of(line.third, is_hex);
    const bool type = line.second.size() == 1 && line.second[0] < '0' + type_codes;
    if (!type || !is_decimal(line.third)) {
        return padded ? std::optional(Dialect::tensorrtx) : std::nullopt;
    }
    if (line.second == "0" || !padded) {
        return Dialect::nvidia_v1;
    }
    // `w 2 12345678 …`: two words, or float16 and so many of them.
    return line.rest < 64 ? Dialect::tensorrtx : Dialect::nvidia_v1;
}

/// Whether `text` at `at` reads as `name type (`.
inline bool begins_raw(std::string_view text, std::size_t at) {
    const std::size_t name_end = skip_word(text, at);
    const std::size_t type = skip_gap(text, name_end), type_end = skip(text, type, is_digit);
    const std::size_t bracket = skip_gap(text, type_end);
    return name_end > at && type > name_end && type_end > type && type_end - type <= 3 && bracket > type_end && bracket < text.size() &&
           text[bracket] == '(';
}

/// The dialect of a file that begins with `head`, or none if its first lines do not tell.
inline std::optional<Dialect> dialect_of_start(std::string_view head) {
    const std::size_t number = skip_gap(head, 0), number_end = skip(head, number, is_digit);
    std::size_t at = skip_gap(head, number_end);
    at += at < head.size() && head[at] == '\r';
    const bool ends = at == head.size() || (head[at] == '\n' && at + 1 == head.size());
    if (head.substr(number, number_end - number) == "0" && ends) {
        return Dialect::tensorrtx;
    }
    if (number_end == number || number_end - number > 18 || at == head.size() || head[at] != '\n') {
        return std::nullopt;
    }
    at = skip(head, at, [](char c) { return is_gap(c) || c == '\r' || c == '\n'; });
    if (begins_raw(head, at)) {
        return Dialect::nvidia_v2;
    }
    std::optional<Dialect> empty;
    for (LineStart line = line_start(head, at); line.matched; line = line_start(head, at)) {
        const std::optional<Dialect> found = dialect_of_line(line);
        if (found || line.second != "0" || !line.third.empty()) {
            return found;
        }
        // `name 0`: no values to tell by, so the next line is asked.
        at = std::min(line.end + 1, head.size());
        empty = Dialect::tensorrtx;
    }
    return at >= head.size() ? empty : std::nullopt;
}

/// The dialect of a file that is taken to be a `.wts` file; tensorrtx where nothing tells.
inline Dialect dialect_of(const Source& source) {
    return dialect_of_start(source.at(0, std::size_t{1} << 16)).value_or(Dialect::tensorrtx);
}

/// The number of tensors that the first line states, and the offset behind that line.
inline std::pair<std::size_t, std::size_t> read_count(const Source& source) {
    const std::string_view head = source.at(0, 4096);
    const std::size_t begin = skip_gap(head, 0), end = skip(head, begin, is_digit);
    std::size_t at = skip_gap(head, end);
    at += at < head.size() && head[at] == '\r';
    if (end == begin || end - begin > 18 || (at < head.size() && head[at] != '\n')) {
        const std::string_view line = head.substr(0, std::min<std::size_t>(head.find('\n'), 24));
        fail(source, ErrorCode::no_tensor_count, "the first line must be the number of tensors, and begins " + quoted(line), {0, 1, 1}, {},
             "not a .wts file, or its first line was lost");
    }
    return {decimal(head.substr(begin, end - begin)), at + (at < head.size())};
}

} // namespace porter::detail
