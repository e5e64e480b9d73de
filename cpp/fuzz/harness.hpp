#pragma once

/// What the fuzzers share. All is for any copy of the loader: one program can hold two, see `portable.cpp`.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>

namespace fuzz {

inline void require(bool good, const char* message) {
    if (!good) {
        std::fprintf(stderr, "%s\n", message);
        std::abort();
    }
}

/// The bytes of a file, behind one that says how to read them.
struct Input {
    Input(const std::uint8_t* data, std::size_t size) : control(data[0]), bytes(reinterpret_cast<const char*>(data) + 1, size - 1) {}

    template <class Options>
    Options options() const {
        Options options;
        options.threads = 1;
        options.narrow = static_cast<decltype(options.narrow)>((control & 3) % 3);
        if ((control & 4) != 0) {
            options.dialect = static_cast<typename decltype(options.dialect)::value_type>((control >> 3 & 3) % 3);
        }
        if ((control & 0x60) == 0x60) {
            options.max_tensors = 3;
        }
        if ((control & 0xa0) == 0xa0) {
            options.max_bytes = 128;
        }
        return options;
    }

    std::uint8_t control;
    std::string_view bytes;
};

/// What every tensor must be: aligned, counted, readable to its last byte.
template <class Tensor>
void check(const Tensor& tensor) {
    require(tensor.data() != nullptr && reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0, "values that are not aligned");
    std::size_t product = 1;
    for (const std::int64_t dimension : tensor.shape()) {
        require(dimension >= 0, "a negative dimension");
        product *= static_cast<std::size_t>(dimension);
    }
    require(product == tensor.count(), "a shape of another number of values");
    require(tensor.sha256().size() == 64, "no digest");
    require(!tensor.name().empty(), "no name");
}

/// What every result must be; `size` is that of the file, or of its sidecar where that is larger.
template <class Result>
void check(const Result& result, std::size_t size) {
    if (result) {
        for (const auto& tensor : result.weights) {
            check(tensor);
            require(result.weights.find(tensor.name()) == &tensor, "a tensor that is not found by its name");
        }
        return;
    }
    require(result.weights.empty(), "an error, and weights");
    require(!result.error.message.empty() && result.error.offset <= size, "an error without message, or with a wrong place");
    const std::string text = result.error.text();
    for (const char c : text) {
        require(static_cast<unsigned char>(c) >= ' ' || c == '\n', "a control character in an error's text");
    }
}

/// All that a result says.
template <class Result>
std::string describe(const Result& result) {
    std::ostringstream text;
    const auto& error = result.error;
    text << id(error.code) << '|' << error.message << '|' << error.offset << '|' << error.line << '|' << error.column << '|' << error.tensor
         << '|' << error.hint << '\n';
    if (result) {
        text << name_of(result.weights.dialect()) << '\n';
    }
    for (const auto& tensor : result.weights) {
        text << tensor.name() << '|' << name_of(tensor.dtype()) << '|' << tensor.count() << '|' << tensor.crc32() << '|' << tensor.sha256()
             << '|' << tensor.overflowed() << '|' << tensor.underflowed() << '|' << tensor.inexact() << '|' << tensor.line() << '|'
             << tensor.offset();
        for (const std::int64_t dimension : tensor.shape()) {
            text << ',' << dimension;
        }
        text << '\n';
    }
    for (const std::string& notice : result.weights.notices()) {
        text << notice << '\n';
    }
    return text.str();
}

} // namespace fuzz
