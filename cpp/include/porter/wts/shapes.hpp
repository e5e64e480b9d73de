#pragma once

/// Shapes: how many values they have, and how they are printed.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace porter::detail {

/// Values in a tensor of this shape; the largest number where they cannot be counted or a dimension is negative.
inline std::size_t product(const std::vector<std::int64_t>& shape) {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    std::size_t count = 1;
    bool beyond = false;
    for (const std::int64_t dimension : shape) {
        if (dimension < 0) {
            return most;
        }
        const auto factor = static_cast<std::size_t>(dimension);
        if (factor == 0) {
            count = 0;
        } else if (count > most / factor) {
            beyond = true; // not the end: a later dimension may be 0
        } else {
            count *= factor;
        }
    }
    return beyond && count != 0 ? most : count;
}

/// "[64, 3, 7, 7]"
inline std::string shape_text(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    }
    return text + "]";
}

} // namespace porter::detail
