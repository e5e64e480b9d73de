#pragma once

/// The index of nvidia-v2 files: a text header for each tensor, its raw little-endian bytes, a newline.

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <porter/wts/dialects.hpp>
#include <porter/wts/rows.hpp>
#include <porter/wts/shapes.hpp>

namespace porter::detail {

class RawScanner {
public:
    RawScanner(const Source& source, std::size_t max_tensors) : source_(source), max_tensors_(max_tensors) {}

    std::vector<Row> rows() const {
        const auto [claimed, behind] = read_count(source_);
        const std::size_t size = source_.size();
        std::vector<Row> rows;
        std::unordered_map<std::string, std::size_t> places;
        std::size_t at = behind, released = 0;
        while (at < size) {
            if (rows.size() == claimed) {
                if (size - at <= 4096 && all_of(source_.at(at, size - at), is_white)) {
                    return rows;
                }
                stop(ErrorCode::wrong_tensor_count,
                     "the first line says " + std::to_string(claimed) + " tensors, the file goes on behind them", at, {},
                     "the first line's number is wrong");
            }
            Row row = read_row(at);
            const auto [place, fresh] = places.emplace(row.name, at);
            if (!fresh) {
                stop(ErrorCode::duplicate_name, "the tensor is there already, at byte " + std::to_string(place->second), at, row.name,
                     hint_twice);
            }
            if (rows.size() == max_tensors_) {
                stop(ErrorCode::over_limit, "the file has more than the " + std::to_string(max_tensors_) + " tensors allowed", at, row.name,
                     "raise Options::max_tensors if the file is to be trusted");
            }
            at = behind_bytes(row);
            rows.push_back(std::move(row));
            if (at - released >= std::size_t{8} << 20) {
                source_.release(released, at);
                released = at;
            }
        }
        if (rows.size() < claimed) {
            stop(ErrorCode::wrong_tensor_count,
                 "the first line says " + std::to_string(claimed) + " tensors, the file has " + std::to_string(rows.size()), at, {},
                 "the file looks truncated, or the first line's number is wrong");
        }
        return rows;
    }

private:
    static constexpr const char* damaged = "the header is damaged, or the bytes before it are more or fewer than their shape says";
    static constexpr const char* truncated = "the file looks truncated; fetch or write it again";

    struct Header {
        bool matched = false;
        std::string_view name, type, shape;
        std::size_t length = 0;
    };

    /// `name type (shape) ` at the begin of `text`, if it is there.
    static Header match(std::string_view text) {
        Header header;
        const std::size_t name_end = skip_word(text, 0);
        if (!begins_raw(text, 0)) {
            return header;
        }
        const std::size_t type = skip_gap(text, name_end), type_end = skip(text, type, is_digit);
        const std::size_t shape = skip_gap(text, type_end) + 1;
        const std::size_t shape_end = skip(text, shape, [](char c) { return is_digit(c) || c == 'L' || c == ',' || c == ' '; });
        header.name = text.substr(0, name_end);
        header.type = text.substr(type, type_end - type);
        header.shape = text.substr(shape, shape_end - shape);
        header.length = shape_end + 2;
        header.matched = text.substr(shape_end, 2) == ") " && !std::any_of(header.name.begin(), header.name.end(), is_control);
        return header;
    }

    Row read_row(std::size_t at) const {
        const Header header = read_header(at);
        Row row;
        row.name = std::string(header.name);
        row.raw = true;
        row.code = static_cast<int>(decimal(header.type));
        if (row.code >= type_codes) {
            stop(ErrorCode::unknown_type, "unknown type " + std::to_string(row.code) + "; 0 is float32, 1 float16, 2 int8, 3 int32", at,
                 row.name, damaged);
        }
        row.shape = read_shape(at, row.name, header.shape);
        row.count = product(row.shape);
        row.begin = at + header.length;
        const std::size_t left = source_.size() - row.begin, width = size_of(row.stored());
        if (row.count > left / width) {
            row.end = source_.size();
            const bool huge = row.count > std::numeric_limits<std::size_t>::max() / width;
            stop(ErrorCode::truncated,
                 std::string(name_of(row.stored())) + " (" + std::string(header.shape.substr(0, 200)) + ") takes " +
                     (huge ? "more than 2^64" : std::to_string(row.count * width)) + " bytes, the file ends after " + std::to_string(left),
                 row.begin, row.name, half_fits(row) ? half_hint : truncated);
        }
        row.end = row.begin + row.count * width;
        return row;
    }

    Header read_header(std::size_t at) const {
        std::string_view block;
        for (const std::size_t length : {std::size_t{4096}, std::size_t{1} << 16}) {
            block = source_.at(at, length);
            const Header header = match(block);
            if (header.matched) {
                return header;
            }
        }
        if (block.find('\n') == std::string_view::npos && at + block.size() == source_.size()) {
            stop(ErrorCode::truncated, "the file ends inside a tensor's header", source_.size(), {}, truncated);
        }
        const std::size_t name_end = skip_word(block, 0);
        const Header behind = match(block.substr(std::min(skip_gap(block, name_end), block.size())));
        if (name_end > 0 && behind.matched) {
            stop(ErrorCode::name_with_space, "expected a type, 0 to 3, behind the name, found " + quoted(behind.name, 24), at,
                 block.substr(0, name_end), "names must not contain white space; the type follows the name");
        }
        stop(ErrorCode::bad_header, "expected 'name type (shape) ', found " + quoted(block), at, {},
             "the bytes of the tensor before may be more or fewer than its shape and type say, or a name holds white space");
    }

    /// Python's way to print a tuple: `(784, 256)`, `(10,)`, `()`; Python 2 wrote long integers as `10L`.
    std::vector<std::int64_t> read_shape(std::size_t at, const std::string& name, std::string_view text) const {
        std::vector<std::int64_t> shape;
        for (std::size_t begin = 0; begin <= text.size();) {
            const std::size_t comma = std::min(text.find(',', begin), text.size());
            std::string_view part = text.substr(begin, comma - begin);
            part.remove_prefix(skip(part, 0, [](char c) { return c == ' '; }));
            while (!part.empty() && part.back() == ' ') {
                part.remove_suffix(1);
            }
            begin = comma + 1;
            if (part.empty() && comma == text.size()) {
                break; // behind the last comma
            }
            const std::string_view digits = part.substr(0, part.size() - (!part.empty() && part.back() == 'L'));
            if (digits.empty() || digits.size() > 18 || !all_of(digits, is_digit)) {
                stop(ErrorCode::bad_shape, "(" + std::string(text.substr(0, 200)) + ") is no shape", at, name, damaged);
            }
            shape.push_back(static_cast<std::int64_t>(decimal(digits)));
        }
        return shape;
    }

    /// The offset behind the newline that ends the raw bytes.
    std::size_t behind_bytes(const Row& row) const {
        const std::string_view end = source_.at(row.end, 2);
        if (end.empty() || end[0] == '\n') {
            return row.end + !end.empty();
        }
        if (end == "\r\n") {
            return row.end + 2;
        }
        stop(ErrorCode::missing_newline, "no newline behind the tensor's bytes", row.end, row.name,
             half_fits(row) ? half_hint : "shape or type is wrong, or bytes were lost; write the file again");
    }

    static constexpr const char* half_hint =
        "the bytes fit float16: the public dumper writes type 0 whatever the type is; correct the 0 to 1";

    /// The public dumper writes type 0 for every type, so float16 looks like float32 of half the bytes.
    bool half_fits(const Row& row) const {
        const std::size_t left = source_.size() - row.begin;
        return row.code == 0 && row.count != 0 && row.count < left / 2 + 1 && source_.at(row.begin + 2 * row.count, 1) == "\n";
    }

    [[noreturn]] void stop(ErrorCode code, std::string message, std::size_t at, std::string_view tensor, const char* hint) const {
        fail(source_, code, std::move(message), {at, 0, 0}, tensor, hint);
    }

    const Source& source_;
    std::size_t max_tensors_;
};

/// The rows of an nvidia-v2 file, in order.
inline std::vector<Row> scan_raw(const Source& source, std::size_t max_tensors) {
    return RawScanner(source, max_tensors).rows();
}

} // namespace porter::detail
