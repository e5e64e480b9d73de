#pragma once

/// Names that are nearly the one that was asked for.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <porter/wts/text.hpp>

namespace porter::detail {

/// Insertions, deletions and replacements between two names.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row[b.size()];
}

inline bool ends_in_part(std::string_view name, std::string_view part) {
    return name.size() > part.size() && name.substr(name.size() - part.size()) == part && name[name.size() - part.size() - 1] == '.';
}

/// How far apart two names are, in thousandths of the longer one. A prefix such as `module.` costs next to nothing.
inline std::size_t name_distance(std::string_view a, std::string_view b) {
    if (ends_in_part(a, b) || ends_in_part(b, a)) {
        return 50;
    }
    const std::size_t longer = std::max({a.size(), b.size(), std::size_t{1}});
    const std::size_t shorter = std::min(a.size(), b.size());
    // Longer ones are no slips of the pen, and comparing them takes the product of their lengths.
    if (longer > 256 || 5 * (longer - shorter) > 2 * longer) {
        return 1000;
    }
    return 1000 * edit_distance(a, b) / longer;
}

/// "did you mean 'a', 'b' or 'c'?" with up to three of the names of the tensors from `begin` to `end`, or how many there are.
template <class Iterator>
std::string nearest_hint(std::string_view name, Iterator begin, Iterator end) {
    std::vector<std::pair<std::size_t, std::string_view>> near;
    for (Iterator tensor = begin; tensor != end; ++tensor) {
        const std::size_t distance = name_distance(name, tensor->name());
        if (distance <= 400) {
            near.emplace_back(distance, tensor->name());
        }
    }
    const std::size_t shown = std::min<std::size_t>(near.size(), 3);
    if (shown == 0) {
        const auto tensors = static_cast<std::size_t>(std::distance(begin, end));
        return "none of the " + std::to_string(tensors) + " names is like it" +
               (tensors ? "; the first is " + quoted(begin->name(), 200) : "");
    }
    std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::string text = "did you mean ";
    for (std::size_t i = 0; i < shown; ++i) {
        text += (i == 0 ? "" : i + 1 == shown ? " or " : ", ") + quoted(near[i].second, 200);
    }
    return text + "?";
}

} // namespace porter::detail
