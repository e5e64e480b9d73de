#pragma once

/// The index of the text dialects: where each tensor's line is, without reading its values.
///
/// A line written the usual way (one separator, words of full width) has a length that follows from its count: the scanner jumps to
/// where it must end and looks whether it does. Any other line is searched for its newline and its separators are counted; only where
/// that leaves doubt are its words looked at. What a jump could miss, decoding finds: it checks every character.
///
/// It sees the file through a block, as porter's Python reader does, so that both take the same files, and see the same in wrong ones.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <porter/wts/dialects.hpp>
#include <porter/wts/rows.hpp>
#include <porter/wts/words.hpp>

namespace porter::detail {

/// How often `wanted` is in `text`.
inline std::size_t count_byte(std::string_view text, char wanted) {
    constexpr std::uint64_t each = 0x0101010101010101, low = 0x7f * each;
    const std::uint64_t pattern = each * static_cast<unsigned char>(wanted);
    std::size_t count = 0, at = 0;
    while (text.size() - at >= 8) {
        // One counter a byte, for as many words as it can count.
        const std::size_t words = std::min<std::size_t>((text.size() - at) / 8, 255);
        std::uint64_t counters = 0;
        for (std::size_t i = 0; i < words; ++i, at += 8) {
            std::uint64_t x = 0;
            std::memcpy(&x, text.data() + at, 8);
            x ^= pattern;
            counters += ~(((x & low) + low) | x | low) >> 7;
        }
        for (; counters != 0; counters >>= 8) {
            count += counters & 0xff;
        }
    }
    return count + static_cast<std::size_t>(std::count(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), wanted));
}

class TextScanner {
public:
    TextScanner(const Source& source, Dialect dialect, bool jump, std::size_t max_tensors)
        : source_(source), text_(source.bytes()), size_(source.size()), padded_(dialect == Dialect::tensorrtx), jump_(jump),
          max_tensors_(max_tensors) {}

    std::vector<Row> rows() {
        const auto [claimed, behind] = read_count(source_);
        std::vector<Row> rows;
        std::unordered_map<std::string, std::size_t> lines;
        std::size_t released = 0;
        std::size_t at = behind;
        line_ = 2;
        while ((at = skip_blank(at)) < size_) {
            const std::size_t begin = at;
            Row row = next_row(at);
            const auto [place, fresh] = lines.emplace(row.name, line_);
            if (!fresh) {
                fail(source_, ErrorCode::duplicate_name, "the tensor is there already, on line " + std::to_string(place->second),
                     {begin, line_, 1}, row.name, hint_twice);
            }
            if (rows.size() == claimed) {
                fail(source_, ErrorCode::wrong_tensor_count,
                     "the first line says " + std::to_string(claimed) + " tensors, here is one more", {begin, line_, 1}, row.name,
                     "the first line's number is wrong, or lines were appended");
            }
            if (rows.size() == max_tensors_) {
                fail(source_, ErrorCode::over_limit, "the file has more than the " + std::to_string(max_tensors_) + " tensors allowed",
                     {begin, line_, 1}, row.name, "raise Options::max_tensors if the file is to be trusted");
            }
            rows.push_back(std::move(row));
            ++line_;
            if (at - released >= held) {
                source_.release(released, at);
                released = at;
            }
        }
        if (rows.size() < claimed) {
            fail(source_, ErrorCode::wrong_tensor_count,
                 "the first line says " + std::to_string(claimed) + " tensors, the file has " + std::to_string(rows.size()),
                 {size_, line_, 0}, {}, "the file looks truncated after a whole line, or the first line's number is wrong");
        }
        if (!rows.empty() && trailing_ && may_lack_digits(source_, rows.back())) {
            const Row& row = rows.back();
            fail(source_, ErrorCode::truncated,
                 "the last value may lack digits: other lines end in a space, this one at the end of the file", row.place(row.end),
                 row.name, hint_truncated);
        }
        return rows;
    }

private:
    static constexpr std::size_t block_size = 4096, longest_header = std::size_t{1} << 16;
    static constexpr std::size_t held = std::size_t{8} << 20; // bytes that are looked at before their pages are given back
    static constexpr std::size_t chunk = std::size_t{1} << 20;

    /// The first words of a line: offsets of where each begins and ends.
    struct Words {
        std::size_t name, name_end, second, second_end, third, third_end, rest;
    };

    /// The row whose line begins at `at`, which is moved behind its newline.
    Row next_row(std::size_t& at) {
        Row row = header(at);
        // At most 18 digits of a count and a file's offset do not overflow together.
        const std::size_t end = row.begin + (row.digits() + 1) * row.count - 1;
        if (jump_ && row.count != 0 && end <= size_) {
            const std::size_t behind = whole_line(end, row.digits());
            if (behind != 0) {
                trailing_ = trailing_ || (end < size_ && is_gap(text_[end]));
                row.end = end;
                row.last = behind == end || text_[behind - 1] != '\n';
                at = behind;
                return row;
            }
        }
        searched(row, at);
        return row;
    }

    /// The offset behind the line if a whole word ends at `end` and only white space follows, else 0.
    std::size_t whole_line(std::size_t end, std::size_t digits) {
        const std::size_t word = end - digits;
        ensure(word, 128);
        if (!all_of(text_.substr(word, digits), is_hex)) {
            return 0;
        }
        const std::string_view block = text_.substr(0, block_end_);
        std::size_t at = skip_gap(block, end);
        at += at < block.size() && block[at] == '\r';
        if (at < block.size()) {
            return block[at] == '\n' ? at + 1 : 0;
        }
        // The end of the block is not the end of the file.
        return at == size_ ? at : 0;
    }

    /// Finds the end of a line that is not written the usual way; `at` is moved behind it.
    void searched(Row& row, std::size_t& at) {
        const auto [newline, spaces] = search(row);
        const std::size_t line = at, end = stripped(row.begin, newline);
        at = std::min(newline + 1, size_);
        trailing_ = trailing_ || (end < size_ && is_gap(text_[end]));
        row.end = end;
        row.last = newline == size_;
        const std::size_t length = end - row.begin;
        if (length == (row.count == 0 ? 0 : (row.digits() + 1) * row.count - 1)) {
            return;
        }
        row.packed = false;
        const std::size_t inner = spaces == 0 ? 0 : spaces - count_byte(text_.substr(end, newline - end), ' ');
        if (row.padded || inner + 1 != row.count || length + 1 < 2 * row.count) {
            verify(row, line);
        }
    }

    /// Looks at every word of `row`, whose line begins at `line`.
    void verify(const Row& row, std::size_t line) {
        try {
            WordReader reader(source_, row);
            std::vector<std::uint32_t> ignored(std::min<std::size_t>(chunk / 4, row.end - row.begin + 1));
            std::size_t released = row.begin;
            while (reader.read(ignored.data(), ignored.size()) != 0) {
                source_.release(released, reader.offset());
                released = reader.offset();
            }
        } catch (const WtsError&) {
            const std::string start = "1\n" + std::string(source_.at(line, block_size));
            const std::optional<Dialect> other = dialect_of_start(start);
            if (!row.padded || !other || *other == Dialect::tensorrtx) {
                throw;
            }
            fail(source_, ErrorCode::mixed_dialects, "the line is in another dialect than the ones before", {line, line_, 1}, row.name,
                 std::string("this line reads as ") + name_of(*other) + ", the file as tensorrtx; one file has one dialect");
        }
    }

    /// What the line beginning at `at` says before its values; `end` is not known yet.
    Row header(std::size_t at) {
        const Words words = header_words(at);
        Row row;
        row.name = std::string(name(words, at));
        row.line = line_;
        row.padded = padded_;
        std::size_t column = 1 + characters(text_.substr(at, words.name_end - at)) + (words.second - words.name_end);
        if (words.second_end == words.second) {
            too_short(row.name, column, words.second_end);
        }
        if (!padded_) {
            const std::size_t code = number(words.second, words.second_end, words, row.name, column, "a type, 0 to 3,");
            if (code >= type_codes) {
                fail(source_, ErrorCode::unknown_type,
                     "unknown type " + std::to_string(code) + "; 0 is float32, 1 float16, 2 int8, 3 int32", {words.second, line_, column},
                     row.name, "the file is damaged, or of another dialect");
            }
            row.code = static_cast<int>(code);
            column += words.third - words.second;
            if (words.third_end == words.third) {
                too_short(row.name, column, words.third_end);
            }
        }
        const std::size_t begin = padded_ ? words.second : words.third, end = padded_ ? words.second_end : words.third_end;
        row.count = number(begin, end, words, row.name, column, "the number of values");
        row.begin = row.end = padded_ ? words.third : words.rest;
        row.column = column + row.begin - begin;
        return row;
    }

    Words header_words(std::size_t at) {
        for (const std::size_t length : {block_size, longest_header}) {
            ensure(at, length);
            const std::string_view block = text_.substr(0, block_end_);
            Words words{};
            words.name = skip_gap(block, at);
            words.name_end = skip_word(block, words.name);
            words.second = skip_gap(block, words.name_end);
            words.second_end = skip_word(block, words.second);
            words.third = skip_gap(block, words.second_end);
            words.third_end = skip_word(block.substr(0, std::min(words.third + 20, block.size())), words.third); // no number is longer
            words.rest = skip_gap(block, words.third_end);
            if ((padded_ ? words.third : words.rest) < block.size() || block.size() == size_) {
                return words;
            }
        }
        fail(source_, ErrorCode::bad_header, "no count within the line's first " + std::to_string(longest_header) + " bytes",
             {at, line_, 1}, {}, "the file is damaged, or of another kind");
    }

    std::string_view name(const Words& words, std::size_t at) const {
        const std::string_view name = text_.substr(words.name, words.name_end - words.name);
        const std::size_t control = skip(name, 0, [](char c) { return !is_control(c); });
        if (control < name.size()) {
            fail(source_, ErrorCode::bad_name, "the name " + quoted(name, 64) + " has a control character",
                 {words.name + control, line_, 1 + characters(text_.substr(at, words.name + control - at))}, {}, "the file is damaged");
        }
        return name;
    }

    std::size_t number(std::size_t begin, std::size_t end, const Words& words, const std::string& name, std::size_t column,
                       const char* what) const {
        const std::string_view word = text_.substr(begin, end - begin);
        if (is_decimal(word)) {
            return decimal(word);
        }
        const std::string message = std::string("expected ") + what + " behind the name, found " + quoted(word, 24);
        const Place place{begin, line_, column};
        const bool tensorrtx = !padded_ && word.size() == 8 && all_of(word, is_hex);
        if (tensorrtx || (!word.empty() && word[0] == '(')) {
            fail(source_, ErrorCode::mixed_dialects, message, place, name,
                 std::string("this line reads as ") + (tensorrtx ? "tensorrtx" : "nvidia-v2") + ", the file as " +
                     (padded_ ? "tensorrtx" : "nvidia-v1") + "; one file has one dialect");
        }
        // A number that is wrong, or the rest of a name.
        const bool like_number = is_digit(word[0]) || word[0] == '-' || word[0] == '+';
        const bool count_behind = begin == words.second && is_decimal(text_.substr(words.third, words.third_end - words.third));
        fail(source_, like_number && !(padded_ && count_behind) ? ErrorCode::bad_header : ErrorCode::name_with_space, message, place, name,
             hint_name);
    }

    [[noreturn]] void too_short(const std::string& name, std::size_t column, std::size_t end) const {
        const bool at_end = end == size_;
        fail(source_, at_end ? ErrorCode::truncated : ErrorCode::bad_header, "the line ends before its count", {end, line_, column}, name,
             at_end ? hint_truncated : hint_name);
    }

    /// The offset of the next line that is not blank, or of the end of the file.
    std::size_t skip_blank(std::size_t at) {
        while (at < size_) {
            ensure(at, 64);
            const std::string_view block = text_.substr(0, block_end_);
            const std::size_t end = skip(block, at, is_white);
            const std::string_view blank = block.substr(at, end - at);
            line_ += count_byte(blank, '\n');
            if (end < block.size()) {
                const std::size_t newline = blank.rfind('\n');
                return newline == std::string_view::npos ? at : at + newline + 1;
            }
            at = end;
        }
        return at;
    }

    /// The offset of the newline that ends `row` (the file's end where there is none), and the spaces among its values.
    std::pair<std::size_t, std::size_t> search(const Row& row) {
        ensure(row.begin, 1);
        const std::string_view block = text_.substr(0, block_end_);
        const std::size_t near = block.find('\n', row.begin);
        if (near != std::string_view::npos) {
            return {near, count_byte(block.substr(row.begin, near - row.begin), ' ')};
        }
        std::size_t spaces = 0;
        for (std::size_t at = row.begin; at < size_; at += chunk) {
            const std::string_view data = source_.at(at, chunk);
            const std::size_t found = std::min(data.find('\n'), data.size());
            const std::size_t zero = data.substr(0, found).find('\0');
            if (zero != std::string_view::npos) {
                fail(source_, ErrorCode::stray_character, "a zero byte among the values", row.place(at + zero), row.name,
                     "room was reserved for the file, and not all of it was written; fetch it again");
            }
            if (!row.padded) {
                spaces += count_byte(data.substr(0, found), ' ');
            }
            source_.release(at, at + found);
            if (found < data.size()) {
                return {at + found, spaces};
            }
        }
        return {size_, spaces};
    }

    /// `end` moved back over white space, not before `begin`.
    std::size_t stripped(std::size_t begin, std::size_t end) const {
        while (end > begin && is_white(text_[end - 1]) && text_[end - 1] != '\n') {
            --end;
        }
        return end;
    }

    /// Make sure that the block holds `length` bytes at `at`, or all up to the file's end.
    void ensure(std::size_t at, std::size_t length) {
        if (!(block_ <= at && std::min(at + length, size_) <= block_end_)) {
            block_ = at;
            block_end_ = std::min(at + std::max(length, block_size), size_);
        }
    }

    const Source& source_;
    std::string_view text_;
    std::size_t size_;
    bool padded_, jump_;
    std::size_t max_tensors_;
    std::size_t block_ = 0, block_end_ = 0;
    std::size_t line_ = 1;
    bool trailing_ = false; // whether some line has white space behind its last word
};

/// The rows of a `tensorrtx` or `nvidia-v1` file, in order.
inline std::vector<Row> scan_text(const Source& source, Dialect dialect, std::size_t max_tensors) {
    try {
        return TextScanner(source, dialect, true, max_tensors).rows();
    } catch (const WtsError&) {
        // A jump over a damaged line can land in a later one; the careful pass says what is really wrong, and where.
        return TextScanner(source, dialect, false, max_tensors).rows();
    }
}

} // namespace porter::detail
