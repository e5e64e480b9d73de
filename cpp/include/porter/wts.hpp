#pragma once

/// Reads `.wts` files: the weights of hand-built TensorRT networks. C++17, header-only, POSIX on a little-endian machine; no dependency.
///
///     porter::Weights weights = porter::load("net.wts");              // throws porter::WtsError, which says where and why
///     const porter::Tensor& kernel = weights.at("conv1.weight", {64, 3, 7, 7});
///     const float* values = kernel.as<float>();                       // 64-byte aligned; valid while `weights` lives
///
/// All three dialects are told apart by content: tensorrtx (`name count hex…`), nvidia-v1 (`name type count hex…`) and nvidia-v2
/// (`name type (shape) bytes`). Every character is checked; what is accepted is what porter's Python reader accepts.
/// `NAME.wts.json`, which porter writes beside the file, gives shapes, and the values are compared with its CRC-32.
///
/// Files are mapped; at most the values and 64 MiB are in memory. Nothing here is changed behind the caller's back: all functions may be
/// called from any threads, and objects that are const may be shared between them.

#include <cstddef>
#include <string>

#include <porter/wts/error.hpp>
#include <porter/wts/load.hpp>
#include <porter/wts/options.hpp>
#include <porter/wts/weights.hpp>

namespace porter {

/// Read the file at `path`, and its sidecar if there is one. Throws a WtsError, and nothing else.
inline Weights load(const std::string& path, const Options& options = {}) {
    return detail::with_exceptions([&] { return detail::load_file(path, options); });
}

/// The same without exceptions, even where memory runs out.
inline Result try_load(const std::string& path, const Options& options = {}) noexcept {
    return detail::without_exceptions([&] { return detail::load_file(path, options); });
}

/// Read `size` bytes in memory, which may go away afterwards. Throws a WtsError, and nothing else.
inline Weights parse(const void* data, std::size_t size, const Options& options = {}) {
    return detail::with_exceptions([&] { return detail::load_memory(data, size, options); });
}

/// The same without exceptions.
inline Result try_parse(const void* data, std::size_t size, const Options& options = {}) noexcept {
    return detail::without_exceptions([&] { return detail::load_memory(data, size, options); });
}

} // namespace porter
