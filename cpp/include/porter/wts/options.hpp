#pragma once

/// What a file holds and how it is to be read.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace porter {

/// The type of a tensor's values in memory. Text dialects without types hold float32; bfloat16 comes from narrowing alone.
enum class DType { float32, float16, bfloat16, int8, int32 };

/// Bytes of one value.
constexpr std::size_t size_of(DType dtype) {
    return dtype == DType::int8 ? 1 : dtype == DType::float16 || dtype == DType::bfloat16 ? 2 : 4;
}

/// "float32", as porter, numpy and the sidecar call it.
constexpr const char* name_of(DType dtype) {
    switch (dtype) {
    case DType::float32: return "float32";
    case DType::float16: return "float16";
    case DType::bfloat16: return "bfloat16";
    case DType::int8: return "int8";
    case DType::int32: break;
    }
    return "int32";
}

/// The three kinds of `.wts` file; see the README of the C++ library.
enum class Dialect { tensorrtx, nvidia_v1, nvidia_v2 };

/// "tensorrtx", "nvidia-v1" or "nvidia-v2", as in the sidecar.
constexpr const char* name_of(Dialect dialect) {
    return dialect == Dialect::tensorrtx ? "tensorrtx" : dialect == Dialect::nvidia_v1 ? "nvidia-v1" : "nvidia-v2";
}

/// What floats become while they are read.
enum class Narrow { none, half, bfloat16 };

/// How to read a file. The defaults read everything as it is, on one thread, and check all that can be checked.
struct Options {
    /// Names of the tensors to read; empty for all. Lines of others are skipped without decoding, so what is wrong with their values
    /// is not seen. A name that is not in the file is an error.
    std::vector<std::string> only;

    /// Threads that decode, also within one large tensor; 0 for as many as the machine has. Files are read alike with any number.
    unsigned threads = 1;

    /// Round floats to half or bfloat16, to nearest, ties to even; each tensor counts what that changed. Integers stay.
    Narrow narrow = Narrow::none;

    /// Use `PATH.json`, where porter wrote one. Another program's JSON file of that name is ignored, with a notice.
    bool sidecar = true;

    /// Compare the values with the sidecar's CRC-32 and types.
    bool verify = true;

    /// The file's dialect; found out from its content where it is not given.
    std::optional<Dialect> dialect;

    /// The sidecar of bytes in memory, for `parse`; files have theirs beside them. The text must live until `parse` returns.
    std::string_view sidecar_text;

    /// Limits for files from strangers. Memory never exceeds what the file's size justifies, whatever its counts say.
    std::size_t max_tensors = std::numeric_limits<std::size_t>::max();
    std::size_t max_bytes = std::numeric_limits<std::size_t>::max();
};

} // namespace porter
