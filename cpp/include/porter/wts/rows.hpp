#pragma once

/// The line of a `.wts` file that holds one tensor, and what is said of it where it is wrong.
///
/// Source: NVIDIA/TensorRT samples 5.0 to 8.x, `samples/common/dumpTFWts.py` and `sampleMLP.cpp` (`loadWeights`); wang-xinyu/tensorrtx,
/// `gen_wts.py` and `loadWeights`.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <porter/wts/error.hpp>
#include <porter/wts/memory.hpp>
#include <porter/wts/options.hpp>

namespace porter::detail {

static_assert(sizeof(std::size_t) == 8, "porter/wts.hpp needs a 64-bit system");

inline constexpr int type_codes = 4; // 0 float32, 1 float16, 2 int8, 3 int32

inline constexpr const char* hint_twice = "the usual loader would keep the last one; rename or remove one of the two";
inline constexpr const char* hint_truncated = "the file looks truncated (its last line has no newline); fetch or write it again";
inline constexpr const char* hint_name = "names must not contain white space; the count follows the name";

/// Where something is: `line` and `column` are 0 where there are none.
struct Place {
    std::size_t offset = 0;
    std::size_t line = 0;
    std::size_t column = 0;
};

[[noreturn]] inline void fail(const Source& source, ErrorCode code, std::string message, Place place, std::string_view tensor,
                              std::string hint) {
    throw WtsError(
        Error{code, std::move(message), source.path(), place.offset, place.line, place.column, std::string(tensor), std::move(hint)});
}

/// What a tensor's line says, and where its values lie.
///
/// `begin` and `end` are the offsets of the first value's first digit and of the end of the last value (nvidia-v2: of the raw bytes).
/// `line` and `column` (of `begin`) place errors in text dialects. `padded`: every word has all its digits (tensorrtx). `packed`: one
/// separator between words of full width, as far as lengths tell; decoding checks it. `last`: the end of the file ends the line.
struct Row {
    std::string name;
    int code = 0;
    std::size_t count = 0;
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t line = 0;
    std::size_t column = 0;
    bool padded = true;
    bool packed = true;
    bool last = false;
    bool raw = false;
    std::vector<std::int64_t> shape{}; // what nvidia-v2 says

    DType stored() const { return code == 0 ? DType::float32 : code == 1 ? DType::float16 : code == 2 ? DType::int8 : DType::int32; }

    /// Hexadecimal digits of a whole word.
    std::size_t digits() const { return 2 * size_of(stored()); }

    Place place(std::size_t offset) const { return {offset, line, line == 0 ? 0 : column + offset - begin}; }

    [[noreturn]] void too_few(const Source& source, std::size_t found, std::size_t offset, bool at_end) const {
        fail(source, at_end ? ErrorCode::truncated : ErrorCode::too_few_values,
             "the count says " + std::to_string(count) + " values, the line ends after " + std::to_string(found), place(offset), name,
             at_end ? hint_truncated : "the row was cut, or the count is wrong; write the file again");
    }

    [[noreturn]] void too_many(const Source& source, std::size_t offset) const {
        fail(source, ErrorCode::too_many_values, "the count says " + std::to_string(count) + " values, here is one more", place(offset),
             name, "the count is too small, or two lines were joined; write the file again");
    }
};

/// Whether the file ends in a word of this row that is shorter than others may be, so that it may have been cut.
inline bool may_lack_digits(const Source& source, const Row& row) {
    if (row.raw || row.padded || !row.last || row.count == 0 || row.end < source.size()) {
        return false;
    }
    const std::size_t begin = row.end - row.begin < row.digits() ? row.begin : row.end - row.digits();
    const std::string_view tail = source.at(begin, row.end - begin);
    const std::size_t gap = tail.find_last_of(" \t");
    return (gap == std::string_view::npos ? tail.size() : tail.size() - gap - 1) < row.digits();
}

/// A plain decimal number of at most 18 digits without leading zeros.
inline bool is_decimal(std::string_view text) {
    return !text.empty() && text.size() <= 18 && all_of(text, is_digit) && (text[0] != '0' || text.size() == 1);
}

/// The value of decimal digits; the caller has looked that there are at most 18.
inline std::size_t decimal(std::string_view digits) {
    std::size_t value = 0;
    for (const char digit : digits) {
        value = 10 * value + static_cast<std::size_t>(digit - '0');
    }
    return value;
}

} // namespace porter::detail
