#pragma once

/// Whether a network holds what it should, bit for bit.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <porter/tensorrt/read_back.hpp>
#include <porter/tensorrt/weight_map.hpp>

namespace porter::trt {

/// What was found out about weights. Only `equal` is good.
enum class Verdict {
    equal,       ///< Type, number and every bit are those expected.
    differs,     ///< They are not; `HeldPart::detail` says where.
    unaccounted, ///< Nobody knows what they should be: neither a `WeightMap` nor a manifest speaks of them.
    unreadable,  ///< TensorRT does not give them to anybody: a plugin's.
    missing,     ///< They should be there, and are not.
};

/// One of the weights of a layer, and what was found out.
struct HeldPart {
    std::string role;
    std::string origin; ///< The tensors they were made of, and the formula.
    std::size_t count = 0;
    Verdict verdict = Verdict::unaccounted;
    std::string detail;
};

/// One layer of the network.
struct HeldLayer {
    std::string name;
    std::string type;
    std::vector<HeldPart> parts;

    bool ok() const {
        return std::all_of(parts.begin(), parts.end(), [](const HeldPart& part) { return part.verdict == Verdict::equal; });
    }
};

/// What was compared, a line for each layer.
struct Report {
    std::vector<HeldLayer> layers;
    std::vector<std::string> notices; ///< What is no fault and should be known: tensors that no layer uses, values that narrowing lost.

    /// Whether every bit that the network holds is as it should be.
    bool ok() const {
        return std::all_of(layers.begin(), layers.end(), [](const HeldLayer& layer) { return layer.ok(); });
    }

    /// A line for each layer, one for each thing that is wrong, the notices, and a verdict.
    std::string text() const;
};

namespace detail {

/// Where two runs of elements differ first, in words; elements of half a byte two by two.
inline std::string difference(const std::uint8_t* expected, const std::uint8_t* found, std::size_t count, std::size_t size) {
    std::size_t differing = 0;
    std::string first;
    for (std::size_t i = 0; i < count; ++i) {
        if (std::memcmp(expected + i * size, found + i * size, size) == 0) {
            continue;
        }
        if (differing++ == 0) {
            static constexpr char digits[] = "0123456789abcdef";
            const auto hex = [size](const std::uint8_t* bytes) {
                std::string text;
                for (std::size_t byte = size; byte-- > 0;) {
                    text += digits[bytes[byte] >> 4];
                    text += digits[bytes[byte] & 15];
                }
                return text;
            };
            first = "element " + std::to_string(i) + " is " + hex(found + i * size) + ", expected " + hex(expected + i * size);
        }
    }
    return first + " (" + std::to_string(differing) + " of " + std::to_string(count) + " differ)";
}

/// `held` beside the bytes that it should have.
inline void compare(HeldPart& part, const nvinfer1::Weights& held, nvinfer1::DataType type, const void* expected, std::size_t count) {
    part.count = static_cast<std::size_t>(held.count);
    if (held.type != type || part.count != count) {
        part.verdict = Verdict::differs;
        part.detail =
            std::to_string(part.count) + " of " + dtypeName(held.type) + ", expected " + std::to_string(count) + " of " + dtypeName(type);
    } else if (count == 0 || std::memcmp(held.values, expected, bytesOf(held)) == 0) {
        part.verdict = Verdict::equal;
    } else {
        part.verdict = Verdict::differs;
        const std::size_t size = std::max<std::size_t>(bytesOf(held) / count, 1);
        part.detail = difference(static_cast<const std::uint8_t*>(expected), static_cast<const std::uint8_t*>(held.values),
                                 bytesOf(held) / size, size);
    }
}

/// What a map knows of weights: by layer, role and address, then by layer and role, then by the address alone.
inline bool known(const WeightMap& map, const HeldWeights& held, Use& use) {
    int best = 0;
    for (const auto& candidate : map.uses()) {
        const bool named = candidate.layer == held.layer && candidate.role == held.role;
        const bool same = candidate.values.values == held.values.values && held.values.values != nullptr;
        const int score = (named ? 2 : 0) + (same ? 1 : 0);
        if (score > best) {
            best = score;
            use = candidate;
        }
    }
    for (const auto& [name, candidate] : map.narrowed()) {
        if (best == 0 && candidate.values.values == held.values.values) {
            best = 1;
            use = candidate;
        }
    }
    for (const auto& tensor : map.weights()) {
        if (best == 0 && tensor.count() > 0 && tensor.data() == held.values.values) {
            best = 1;
            use = {held.layer, held.role, {tensor.name()}, "", 0.0, tensor.dtype(), held.values};
        }
    }
    return best > 0;
}

/// `conv1.weight`, or `batch_norm.scale of bn1.weight, bn1.bias, …`.
inline std::string originText(const std::vector<std::string>& sources, const std::string& formula) {
    std::string text;
    for (const auto& source : sources) {
        text += (text.empty() ? "" : ", ") + source;
    }
    return formula.empty() ? text : text.empty() ? formula : formula + " of " + text;
}

/// One of a layer's weights beside what the source says they are.
inline HeldPart checkedPart(const HeldWeights& held, const WeightMap& map, const porter::Weights& source, std::set<std::string>& used) {
    HeldPart part{held.role, "", static_cast<std::size_t>(held.values.count), Verdict::unaccounted, ""};
    Use use;
    if (!known(map, held, use)) {
        part.detail = "no tensor of the file was given to it";
        return part;
    }
    used.insert(use.sources.begin(), use.sources.end());
    part.origin = originText(use.sources, use.formula);
    const auto type = toDataType(use.dtype, held.layer);
    if (use.formula == "stated") {
        compare(part, held.values, use.values.type, use.values.values, static_cast<std::size_t>(use.values.count));
    } else if (use.formula.empty()) {
        const auto& tensor = source.at(use.sources[0]);
        compare(part, held.values, toDataType(tensor.dtype(), tensor.name()), tensor.data(), tensor.count());
    } else {
        const auto expected = compute(source, use);
        compare(part, held.values, type, expected.bytes.data(), expected.count);
    }
    return part;
}

} // namespace detail

/// Compare everything that the layers hold with `source`, bit for bit: copies with the tensors, computed values with what they are
/// computed from once more. Give it a second `porter::load` of the file, in the file's own types: then it also sees whether the memory
/// that TensorRT points into was changed since.
inline Report check(const nvinfer1::INetworkDefinition& network, const WeightMap& map, const porter::Weights& source) {
    Report report;
    std::set<std::string> used;
    for (std::int32_t index = 0; index < network.getNbLayers(); ++index) {
        auto& layer = *network.getLayer(index);
        HeldLayer line{layer.getName(), typeName(layer.getType()), {}};
        if (hidesWeights(layer.getType())) {
            line.parts.push_back({"weights", "", 0, Verdict::unreadable, "TensorRT does not give out what it holds"});
        }
        for (const auto& held : readBack(layer)) {
            line.parts.push_back(detail::checkedPart(held, map, source, used));
        }
        report.layers.push_back(std::move(line));
    }
    std::string unused;
    for (const auto& tensor : source) {
        unused += used.count(tensor.name()) > 0 ? "" : (unused.empty() ? "" : ", ") + tensor.name();
    }
    if (!unused.empty()) {
        report.notices.push_back("no layer uses " + unused);
    }
    report.notices.insert(report.notices.end(), map.notices().begin(), map.notices().end());
    return report;
}

inline std::string Report::text() const {
    std::size_t width = 5, typeWidth = 4, holding = 0, faults = 0, values = 0;
    for (const auto& layer : layers) {
        width = std::max(width, layer.name.size());
        typeWidth = std::max(typeWidth, layer.type.size());
    }
    const auto padded = [](std::string text, std::size_t to) { return text.append(to - text.size() + 2, ' '); };
    std::string all;
    for (const auto& layer : layers) {
        std::string held, faulty;
        for (const auto& part : layer.parts) {
            held += (held.empty() ? "" : ", ") + part.role + " " + std::to_string(part.count);
            values += part.count;
            if (part.verdict != Verdict::equal) {
                ++faults;
                faulty += "    " + part.role + (part.origin.empty() ? "" : " (" + part.origin + ")") + ": " + part.detail + "\n";
            }
        }
        holding += layer.parts.empty() ? 0 : 1;
        all += padded(layer.name, width) + padded(layer.type, typeWidth) +
               (held.empty() ? "-" : held + (faulty.empty() ? "  equal" : "  NOT equal"));
        all += "\n" + faulty;
    }
    for (const auto& notice : notices) {
        all += "note: " + notice + "\n";
    }
    all += std::to_string(layers.size()) + " layers, " + std::to_string(holding) + " with weights, " + std::to_string(values) + " values: ";
    return all +
           (faults == 0 ? "equal, bit for bit\n" : "NOT equal, " + std::to_string(faults) + " of their weights are wrong or unknown\n");
}

} // namespace porter::trt
