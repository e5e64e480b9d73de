#pragma once

/// What the tests of the loader share: files from bytes, and errors from files.

#include <porter/wts.hpp>

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace files {

using namespace std::string_literals;

inline porter::Weights parse(const std::string& bytes, const porter::Options& options = {}) {
    return porter::parse(bytes.data(), bytes.size(), options);
}

inline porter::Error fault(const std::string& bytes, const porter::Options& options = {}) {
    return porter::try_parse(bytes.data(), bytes.size(), options).error;
}

/// The bits of a tensor's values of 32 bits.
inline std::vector<std::uint32_t> bits(const porter::Tensor& tensor) {
    std::vector<std::uint32_t> values(tensor.nbytes() / 4);
    if (!values.empty()) {
        std::memcpy(values.data(), tensor.data(), tensor.nbytes());
    }
    return values;
}

/// Numbers that look random and are the same each time.
class Numbers {
public:
    explicit Numbers(std::uint64_t seed) : state_(seed) {}

    std::uint32_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        const auto mixed = static_cast<std::uint32_t>(state_ >> 32);
        return mixed ^ static_cast<std::uint32_t>(state_ >> 13);
    }

private:
    std::uint64_t state_;
};

/// Eight digits, made the slow way.
inline std::string word(std::uint32_t value) {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", value);
    return text;
}

/// A folder that is gone when the test is.
class Folder {
public:
    Folder() {
        std::string pattern = "/tmp/porter-test-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("no temporary folder");
        }
        path_ = pattern;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        for (const std::string& file : files_) {
            (void)std::remove(file.c_str());
        }
        (void)::rmdir(path_.c_str());
    }

    std::string write(const std::string& name, const std::string& bytes) {
        const std::string path = path_ + "/" + name;
        std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        files_.push_back(path);
        return path;
    }

    const std::string& path() const { return path_; }

private:
    std::string path_;
    std::vector<std::string> files_;
};

} // namespace files
