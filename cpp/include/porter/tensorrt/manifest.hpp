#pragma once

/// `net.json`: what porter wrote down of a network, and whether another network holds the same.

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <porter/tensorrt/check.hpp>
#include <porter/tensorrt/files.hpp>
#include <porter/tensorrt/read_back.hpp>
#include <porter/wts/crc32.hpp>
#include <porter/wts/json.hpp>
#include <porter/wts/sha256.hpp>
#include <porter/wts/shapes.hpp>
#include <porter/wts/text.hpp>

namespace porter::trt {

/// What a manifest says of one of a layer's weights.
struct ManifestWeights {
    std::string role;
    std::string tensor;
    std::vector<std::string> sources;
    std::string formula;
    Shape shape;
    std::string dtype;
    std::size_t count = 0;
    std::string crc32;  ///< Of the bytes that TensorRT holds, 8 hexadecimal digits.
    std::string sha256; ///< Of the same bytes.
};

/// What a manifest says of a layer.
struct ManifestLayer {
    std::string name;
    std::string type;
    std::vector<ManifestWeights> weights;
};

/// A manifest that was read: `schemas/tensorrt_net.schema.json` of porter.
struct Manifest {
    std::string path;
    std::vector<ManifestLayer> layers;
};

namespace detail {

/// Takes a manifest apart. Everything that porter's Python side refuses is refused.
class ManifestReader {
public:
    ManifestReader(std::string path, std::string_view text) : path_(std::move(path)), text_(text) {}

    Manifest read() const {
        porter::detail::Json json(text_);
        try {
            json.check();
        } catch (const porter::detail::JsonError& error) {
            fail(std::string("no JSON: ") + error.message, error.offset);
        }
        const auto root = members(json.root(), "the manifest");
        if (text(root, "kind", "the manifest") != "tensorrt-network") {
            fail("its \"kind\" is not \"tensorrt-network\"", 0);
        }
        if (integer(get(root, "porter", "the manifest")) != 1) {
            fail("it is of another version than 1; a later porter wrote it", 0);
        }
        Manifest made{path_, {}};
        std::set<std::string> names;
        for (const auto& value : elements(root, "layers", "the manifest")) {
            made.layers.push_back(layer(value, "layer " + std::to_string(made.layers.size())));
            if (!names.insert(made.layers.back().name).second) {
                fail("two layers are called '" + made.layers.back().name + "'", at(value));
            }
        }
        return made;
    }

private:
    using Members = std::map<std::string, std::string_view>;

    ManifestLayer layer(std::string_view value, const std::string& where) const {
        const auto given = members(value, where);
        ManifestLayer made{text(given, "name", where), text(given, "type", where), {}};
        std::set<std::string> roles;
        for (const auto& held : elements(given, "weights", where)) {
            made.weights.push_back(weights(held, "a weight of the layer '" + made.name + "'"));
            if (!roles.insert(made.weights.back().role).second) {
                fail("the layer '" + made.name + "' has a role twice", at(held));
            }
        }
        return made;
    }

    ManifestWeights weights(std::string_view value, const std::string& where) const {
        const auto given = members(value, where);
        ManifestWeights made;
        made.role = text(given, "role", where);
        made.tensor = text(given, "tensor", where);
        made.dtype = text(given, "dtype", where);
        made.crc32 = digest(given, "crc32", 8, where);
        made.sha256 = digest(given, "sha256", 64, where);
        made.formula = given.count("formula") > 0 ? text(given, "formula", where) : "";
        for (const auto& source : elements(given, "sources", where)) {
            made.sources.push_back(string(source, where));
        }
        for (const auto& size : elements(given, "shape", where)) {
            made.shape.push_back(integer(size));
        }
        made.count = static_cast<std::size_t>(integer(get(given, "count", where)));
        if (made.count != porter::detail::product(made.shape)) {
            fail(where + ": its shape and its count do not go together", at(value));
        }
        return made;
    }

    std::string digest(const Members& given, const char* key, std::size_t size, const std::string& where) const {
        auto made = text(given, key, where);
        if (made.size() != size || made.find_first_not_of("0123456789abcdef") != std::string::npos) {
            fail(where + ": its \"" + key + "\" is not " + std::to_string(size) + " small hexadecimal digits", at(given.at(key)));
        }
        return made;
    }

    Members members(std::string_view value, const std::string& where) const {
        Members made;
        if (!porter::detail::Json::members(value, [&](const std::string& key, std::string_view member) { made[key] = member; })) {
            fail(where + " is no object", at(value));
        }
        return made;
    }

    std::vector<std::string_view> elements(const Members& given, const char* key, const std::string& where) const {
        const auto value = get(given, key, where);
        std::vector<std::string_view> made;
        if (!porter::detail::Json::elements(value, [&](std::string_view element) { made.push_back(element); })) {
            fail(where + ": \"" + key + "\" is no list", at(value));
        }
        return made;
    }

    std::string text(const Members& given, const char* key, const std::string& where) const {
        return string(get(given, key, where), where + ": \"" + key + "\"");
    }

    std::string string(std::string_view value, const std::string& where) const {
        if (!porter::detail::Json::is_string(value)) {
            fail(where + " is no text", at(value));
        }
        return porter::detail::Json::string(value);
    }

    std::int64_t integer(std::string_view value) const {
        std::int64_t number = 0;
        if (!porter::detail::Json::integer(value, number) || number < 0) {
            fail("a size that is no integer of at least 0", at(value));
        }
        return number;
    }

    std::string_view get(const Members& given, const char* key, const std::string& where) const {
        const auto found = given.find(key);
        if (found == given.end()) {
            fail(where + " has no \"" + key + "\"", given.empty() ? 0 : at(given.begin()->second));
        }
        return found->second;
    }

    std::size_t at(std::string_view part) const { return static_cast<std::size_t>(part.data() - text_.data()); }

    [[noreturn]] void fail(const std::string& what, std::size_t offset) const {
        throw TensorRTError(path_ + ": byte " + std::to_string(offset) + ": this is no manifest of a network: " + what);
    }

    std::string path_;
    std::string_view text_;
};

/// Weights that a network holds beside what the manifest says.
inline void compare(HeldPart& part, const ManifestWeights& said, const nvinfer1::Weights& held) {
    part.origin = originText(said.sources, said.formula);
    part.verdict = Verdict::differs;
    if (dtypeName(held.type) != said.dtype || part.count != said.count) {
        part.detail = std::to_string(part.count) + " of " + dtypeName(held.type) + ", the manifest says " + std::to_string(said.count) +
                      " of " + said.dtype;
        return;
    }
    const auto crc = porter::detail::hex_text(porter::detail::crc32(held.values, bytesOf(held)));
    const auto sha = porter::detail::sha256(held.values, bytesOf(held));
    part.detail = "other values: CRC-32 " + crc + ", the manifest says " + said.crc32;
    if (crc == said.crc32 && sha == said.sha256) {
        part.verdict = Verdict::equal;
        part.detail.clear();
    }
}

} // namespace detail

/// The manifest in a text; `path` is for what an error says. Throws where it is none, with the byte.
inline Manifest parseManifest(std::string_view text, const std::string& path = "manifest") {
    return detail::ManifestReader(path, text).read();
}

/// The manifest in a file.
inline Manifest readManifest(const std::string& path) {
    const auto bytes = detail::readFile(path);
    return parseManifest(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path);
}

/// Compare everything that the layers hold with what the manifest says, by the names of the layers: type, number, CRC-32 and SHA-256.
/// Layers without weights may be called otherwise, and be others.
inline Report check(const nvinfer1::INetworkDefinition& network, const Manifest& manifest) {
    Report report;
    std::map<std::pair<std::string, std::string>, const ManifestWeights*> said;
    for (const auto& layer : manifest.layers) {
        for (const auto& weights : layer.weights) {
            said[{layer.name, weights.role}] = &weights;
        }
    }
    for (std::int32_t index = 0; index < network.getNbLayers(); ++index) {
        auto& layer = *network.getLayer(index);
        HeldLayer line{layer.getName(), typeName(layer.getType()), {}};
        if (hidesWeights(layer.getType())) {
            line.parts.push_back({"weights", "", 0, Verdict::unreadable, "TensorRT does not give out what it holds"});
        }
        for (const auto& held : readBack(layer)) {
            HeldPart part{held.role, "", static_cast<std::size_t>(held.values.count), Verdict::unaccounted,
                          "the manifest does not speak of it"};
            const auto found = said.find({line.name, held.role});
            if (found != said.end()) {
                detail::compare(part, *found->second, held.values);
                said.erase(found);
            }
            line.parts.push_back(std::move(part));
        }
        report.layers.push_back(std::move(line));
    }
    for (const auto& layer : manifest.layers) {
        HeldLayer line{layer.name, layer.type, {}};
        for (const auto& weights : layer.weights) {
            if (said.count({layer.name, weights.role}) > 0) {
                line.parts.push_back({weights.role, detail::originText(weights.sources, weights.formula), 0, Verdict::missing,
                                      "the network does not hold it"});
            }
        }
        if (!line.parts.empty()) {
            report.layers.push_back(std::move(line));
        }
    }
    return report;
}

} // namespace porter::trt
