#pragma once

/// What the loader says when it cannot go on: a code, a place in the file, and a way out.

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <porter/wts/text.hpp>

namespace porter {

/// What went wrong. `id` gives the stable name of each; the place is in the `Error`.
enum class ErrorCode {
    ok = 0,

    /// W001: the file, or its sidecar, is not there or may not be read.
    cannot_open = 1,
    /// W002: the path is a directory, a pipe or a device.
    not_a_file = 2,
    /// W003: the file could not be mapped into memory.
    cannot_map = 3,
    /// W004: there is not enough memory for the values.
    out_of_memory = 4,
    /// W005: the file has more tensors, or its values take more bytes, than `Options` allow.
    over_limit = 5,

    /// W101: the first line is not the number of tensors.
    no_tensor_count = 101,
    /// W102: the file ends inside a tensor.
    truncated = 102,
    /// W103: a line ends before it has as many values as its count says.
    too_few_values = 103,
    /// W104: a line goes on behind its last value.
    too_many_values = 104,
    /// W105: a character among the values that is no hexadecimal digit.
    stray_character = 105,
    /// W106: a value with too many or too few digits.
    wrong_digits = 106,
    /// W107: not as many tensors as the first line says.
    wrong_tensor_count = 107,
    /// W108: lines of two dialects in one file.
    mixed_dialects = 108,
    /// W109: a tensor's line does not begin as it must.
    bad_header = 109,
    /// W110: a word stands where the count or the type should, as behind a name with white space in it.
    name_with_space = 110,
    /// W111: a name with a control character.
    bad_name = 111,
    /// W112: a type that is none of 0 to 3.
    unknown_type = 112,
    /// W113: two tensors of one name.
    duplicate_name = 113,
    /// W114: a shape that is none (nvidia-v2).
    bad_shape = 114,
    /// W115: no newline behind the raw bytes of a tensor, so that shape or type must be wrong (nvidia-v2).
    missing_newline = 115,

    /// W201: the sidecar is no valid JSON, or a part of it has the wrong type.
    sidecar_damaged = 201,
    /// W202: the sidecar was written by a later porter.
    sidecar_newer = 202,
    /// W203: the sidecar has other tensors, counts, shapes or types than the file.
    sidecar_disagrees = 203,
    /// W204: the values do not have the CRC-32 that the sidecar says.
    checksum_mismatch = 204,
    /// W205: a value is none of the type that the sidecar says its tensor had.
    value_not_of_type = 205,

    /// W301: there is no tensor of this name.
    missing_tensor = 301,
    /// W302: a tensor has another shape, or another number of values, than it was asked for with.
    wrong_shape = 302,
    /// W303: a tensor was asked for as another type than it has.
    wrong_type = 303,

    /// W401: a name that a `.wts` file cannot hold: empty, or with white space or a control character.
    unwritable_name = 401,
    /// W402: an integer that is no float32, for a dialect that has no integers.
    value_does_not_fit = 402,
    /// W403: a file cannot be written.
    cannot_write = 403,
    /// W404: a file is there that is not to be replaced.
    already_there = 404,
};

/// The stable name of `code`: "W101". "W000" for `ok`.
inline std::string id(ErrorCode code) {
    const std::string number = std::to_string(static_cast<int>(code));
    return "W" + std::string(number.size() < 3 ? 3 - number.size() : 0, '0') + number;
}

/// One error: what, where, and the way out.
///
/// `offset` is in bytes from the file's begin. `line` and `column` count from 1, the column in characters (code points, a byte that is
/// no UTF-8 is one); they are 0 where there are none, as in nvidia-v2 files, which are binary, and where a whole line is meant.
/// `path` is empty for bytes in memory; where the sidecar is at fault, it is the sidecar's.
struct Error {
    ErrorCode code = ErrorCode::ok;
    std::string message;
    std::string path;
    std::size_t offset = 0;
    std::size_t line = 0;
    std::size_t column = 0;
    std::string tensor;
    std::string hint;

    /// All of it for people, on up to three lines; control characters escaped.
    std::string text() const {
        if (code == ErrorCode::ok) {
            return "no error";
        }
        std::string all = "error[" + id(code) + "]: " + detail::printable(message);
        std::string place = detail::printable(path);
        if (line != 0) {
            place += (place.empty() ? "line " : ":") + std::to_string(line);
            if (column != 0) {
                place += (path.empty() ? ", column " : ":") + std::to_string(column);
            }
        }
        if (line != 0 || offset != 0) {
            place += (place.empty() ? "byte " : ", byte ") + std::to_string(offset);
        }
        if (!tensor.empty()) {
            place += (place.empty() ? "tensor '" : "  tensor '") + detail::printable(tensor) + "'";
        }
        if (!place.empty()) {
            all += "\n  --> " + place;
        }
        if (!hint.empty()) {
            all += "\n   = help: " + detail::printable(hint);
        }
        return all;
    }
};

/// What `load`, `parse` and `Weights::at` throw.
class WtsError : public std::runtime_error {
public:
    explicit WtsError(Error error) : WtsError(std::make_shared<const Error>(std::move(error))) {}

    const Error& error() const noexcept { return *error_; }

private:
    explicit WtsError(std::shared_ptr<const Error> error) : std::runtime_error(error->text()), error_(std::move(error)) {}

    std::shared_ptr<const Error> error_; // shared, since copying an exception must not throw
};

} // namespace porter
