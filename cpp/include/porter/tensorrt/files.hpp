#pragma once

/// Whole files in memory.

#include <porter/tensorrt/types.hpp>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace porter::trt::detail {

/// The bytes of a file. Throws where it cannot be read whole.
inline std::vector<std::uint8_t> readFile(const std::string& path) {
    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
    if (file == nullptr) {
        throw TensorRTError(path + ": cannot be read: " + std::strerror(errno));
    }
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint8_t> block(std::size_t{1} << 16);
    while (const std::size_t size = std::fread(block.data(), 1, block.size(), file.get())) {
        bytes.insert(bytes.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(size));
    }
    if (std::ferror(file.get()) != 0) {
        throw TensorRTError(path + ": cannot be read: " + std::strerror(errno));
    }
    return bytes;
}

} // namespace porter::trt::detail
