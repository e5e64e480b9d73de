#pragma once

/// `NAME.wts.json`, the sidecar: what the `.wts` file itself has no place for. porter/formats/wts/sidecar.py says what is in it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <porter/wts/element_types.hpp>
#include <porter/wts/json.hpp>
#include <porter/wts/rows.hpp>
#include <porter/wts/shapes.hpp>
#include <porter/wts/words.hpp>

namespace porter::detail {

/// What the sidecar says about one tensor. `exact` is false where values were rounded when they were written.
struct SidecarEntry {
    std::string name;
    const ElementType* type = nullptr;
    std::vector<std::int64_t> shape;
    std::string stored;
    std::size_t count = 0;
    std::uint32_t crc32 = 0;
    std::string sha256;
    bool exact = true;
};

struct Sidecar {
    std::string path;
    std::string dialect;
    std::optional<std::int64_t> nbytes; // of the `.wts` file when both were written
    std::vector<SidecarEntry> entries;
};

inline std::string sidecar_hint(const std::string& path) {
    const std::string name = path.substr(path.rfind('/') + 1);
    return name.empty() ? "leave the sidecar out, or write both again with porter"
                        : "delete " + name + " to read the .wts file without it, or write both again with porter";
}

/// Reads one sidecar. The text is that of a file, or the caller's.
class SidecarReader {
public:
    explicit SidecarReader(const Source& source) : source_(source), text_(source.bytes()) {}

    /// The sidecar, or none if it is another program's JSON file. Throws a WtsError.
    std::optional<Sidecar> read() {
        if (text_.size() > largest) {
            damaged("it has " + std::to_string(text_.size()) + " bytes, which is no sidecar", 0);
        }
        Json json(text_);
        try {
            json.check();
        } catch (const JsonError& error) {
            const std::string_view before = text_.substr(0, error.offset);
            const std::size_t line = before.rfind('\n') + 1; // 0 where there is none
            fail(source_, ErrorCode::sidecar_damaged, std::string("the sidecar is no valid JSON: ") + error.message,
                 {error.offset, 1 + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')),
                  1 + characters(before.substr(line))},
                 {}, sidecar_hint(source_.path()));
        }
        // As in Python, the last of several members of one name counts.
        std::map<std::string, std::string_view> document;
        Json::members(json.root(), [&](const std::string& key, std::string_view value) { document[key] = value; });
        const auto kind = document.find("kind");
        if (kind == document.end() || !Json::is_string(kind->second) || Json::string(kind->second) != "wts-sidecar") {
            return std::nullopt;
        }
        return described(document);
    }

private:
    using Members = std::map<std::string, std::string_view>;

    static constexpr std::size_t largest = std::size_t{512} << 20;

    [[noreturn]] void damaged(const std::string& what, std::size_t offset, std::string_view tensor = {}) const {
        fail(source_, ErrorCode::sidecar_damaged, "the sidecar is damaged: " + what, {offset, 0, 0}, tensor, sidecar_hint(source_.path()));
    }

    std::size_t offset_of(std::string_view value) const { return static_cast<std::size_t>(value.data() - text_.data()); }

    std::string_view member(const Members& members, const char* key, std::size_t offset) const {
        const auto found = members.find(key);
        if (found == members.end()) {
            damaged(std::string("'") + key + "' is missing", offset);
        }
        return found->second;
    }

    Sidecar described(const Members& document) const {
        const std::string_view version_text = member(document, "porter", 0);
        std::int64_t version = 0;
        if (!Json::integer(version_text, version) || version > 1) {
            fail(source_, ErrorCode::sidecar_newer,
                 "the sidecar was written by a later porter (version " + std::string(version_text.substr(0, 20)) + ")",
                 {offset_of(version_text), 0, 0}, {}, "use a later wts.hpp, or delete the sidecar");
        }
        Sidecar sidecar;
        sidecar.path = source_.path();
        const std::string_view dialect = member(document, "dialect", 0);
        sidecar.dialect = Json::is_string(dialect) ? Json::string(dialect) : std::string(dialect.substr(0, 40));
        const std::string_view tensors = member(document, "tensors", 0);
        if (!Json::elements(tensors, [&](std::string_view text) { sidecar.entries.push_back(entry(text)); })) {
            damaged("'tensors' is no list", offset_of(tensors));
        }
        const auto file = document.find("file");
        if (file != document.end()) {
            Json::members(file->second, [&](const std::string& key, std::string_view value) {
                std::int64_t nbytes = 0;
                if (key == "nbytes") {
                    sidecar.nbytes = Json::integer(value, nbytes) ? std::optional(nbytes) : std::nullopt;
                }
            });
        }
        check_rest(document);
        return sidecar;
    }

    SidecarEntry entry(std::string_view text) const {
        const std::size_t offset = offset_of(text);
        Members fields;
        if (!Json::members(text, [&](const std::string& key, std::string_view value) { fields[key] = value; })) {
            damaged("a tensor's entry is no object", offset);
        }
        SidecarEntry entry;
        const std::string_view name = member(fields, "name", offset), shape = member(fields, "shape", offset);
        const std::string_view count = member(fields, "count", offset), dtype = member(fields, "dtype", offset);
        if (!Json::is_string(name)) {
            damaged("a name is no string", offset_of(name));
        }
        entry.name = Json::string(name);
        bool good = true;
        const bool list = Json::elements(shape, [&](std::string_view dimension) {
            good = good && entry.shape.size() < 64;
            entry.shape.resize(good ? entry.shape.size() + 1 : 0);
            good = good && natural(dimension, entry.shape.back());
        });
        std::int64_t values = 0;
        if (!list || !good || !natural(count, values)) {
            damaged("the shape or count of " + quoted(entry.name) + " is wrong", offset_of(shape), entry.name);
        }
        entry.count = static_cast<std::size_t>(values);
        if (product(entry.shape) != entry.count) {
            damaged("shape " + shape_text(entry.shape) + " has not " + std::to_string(values) + " elements", offset_of(shape), entry.name);
        }
        entry.type = Json::is_string(dtype) ? find_element_type(Json::string(dtype)) : nullptr;
        if (entry.type == nullptr) {
            damaged("the type " + std::string(dtype.substr(0, 40)) + " is unknown", offset_of(dtype), entry.name);
        }
        read_stored(entry, fields, offset);
        check_description(entry, fields);
        return entry;
    }

    void read_stored(SidecarEntry& entry, const Members& fields, std::size_t offset) const {
        const std::string_view stored = member(fields, "stored", offset);
        const auto exact = fields.find("exact");
        entry.exact = exact == fields.end() || exact->second != "false";
        if (Json::is_string(stored)) {
            entry.stored = Json::string(stored);
        }
        const bool whole = entry.stored == "int32" && !is_float(*entry.type);
        if (!Json::is_string(stored) || (entry.exact && entry.type->name != entry.stored && entry.stored != "float32" && !whole)) {
            damaged("it cannot have been " + std::string(entry.type->name) + " and be stored as " + std::string(stored.substr(0, 40)),
                    offset_of(stored), entry.name);
        }
        const std::string_view crc = member(fields, "crc32", offset), sha = member(fields, "sha256", offset);
        const auto is_small_hex = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); };
        const std::string crc_digits = Json::is_string(crc) ? Json::string(crc) : "";
        entry.sha256 = Json::is_string(sha) ? Json::string(sha) : "";
        if (crc_digits.size() != 8 || !all_of(crc_digits, is_small_hex) || entry.sha256.size() != 64 ||
            !all_of(entry.sha256, is_small_hex)) {
            damaged("a checksum is none", offset_of(crc), entry.name);
        }
        (void)decode_word(crc_digits.data(), entry.crc32);
    }

    /// What the loader does not use has the right types all the same: porter's Python reader looks at it.
    void check_description(const SidecarEntry& entry, const Members& fields) const {
        for (const char* const key : {"axes", "role", "attributes"}) {
            const auto found = fields.find(key);
            if (found == fields.end()) {
                continue;
            }
            const bool object = std::string_view(key) == "attributes";
            if (object ? found->second[0] != '{' : !Json::is_string(found->second) && found->second != "null") {
                damaged(std::string("'") + key + "' has the wrong type", offset_of(found->second), entry.name);
            }
        }
    }

    void check_rest(const Members& document) const {
        for (const char* const key : {"ties", "metadata", "attachments"}) {
            const auto found = document.find(key);
            if (found == document.end()) {
                continue;
            }
            const bool base64 = std::string_view(key) == "attachments";
            const bool object = Json::members(found->second, [&](const std::string& name, std::string_view value) {
                if (base64 && !(Json::is_string(value) && is_base64(value))) {
                    damaged("attachment " + quoted(name) + " is no base64", offset_of(value));
                }
            });
            if (!object) {
                damaged(std::string("'") + key + "' is no object", offset_of(found->second));
            }
        }
    }

    static bool is_base64(std::string_view text) {
        text = text.substr(1, text.size() - 2);
        std::string plain;
        if (text.find('\\') != std::string_view::npos) {
            plain = Json::string("\"" + std::string(text) + "\"");
            text = plain;
        }
        const std::size_t digits =
            skip(text, 0, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '/'; });
        const std::string_view padding = text.substr(digits);
        return text.size() % 4 == 0 && (padding.empty() || padding == "=" || padding == "==");
    }

    /// An integer from 0 to 2^63 - 1, and not one that was too large to be kept.
    static bool natural(std::string_view text, std::int64_t& number) {
        const bool fits = text.size() < 19 || (text.size() == 19 && text <= "9223372036854775807");
        return fits && Json::integer(text, number) && number >= 0;
    }

    const Source& source_;
    std::string_view text_;
};

[[noreturn]] inline void disagree(const std::string& path, std::string message, const Row* row,
                                  ErrorCode code = ErrorCode::sidecar_disagrees) {
    const std::string name = row == nullptr ? "" : row->name;
    throw WtsError(Error{code, std::move(message), path, 0, 0, 0, name, sidecar_hint(path)});
}

/// Throws a WtsError unless the file has these tensors, in this order, of these counts and types.
inline void check_sidecar(const Sidecar& sidecar, const std::vector<Row>& rows, Dialect dialect) {
    const std::string& path = sidecar.path;
    if (!rows.empty() && sidecar.dialect != name_of(dialect)) {
        disagree(path, "the sidecar describes a " + sidecar.dialect + " file, this one is " + name_of(dialect), nullptr);
    }
    for (std::size_t i = 0; i < rows.size() && i < sidecar.entries.size(); ++i) {
        const SidecarEntry& entry = sidecar.entries[i];
        const Row& row = rows[i];
        if (entry.name != row.name) {
            disagree(path, "the sidecar has " + quoted(entry.name, 200) + " where the file has " + quoted(row.name, 200), &row);
        }
        if (entry.count != row.count) {
            disagree(path, "the sidecar says " + std::to_string(entry.count) + " values, the file " + std::to_string(row.count), &row);
        }
        if (row.raw && row.shape != entry.shape) {
            disagree(path, "the sidecar says shape " + shape_text(entry.shape) + ", the file " + shape_text(row.shape), &row);
        }
        if (entry.stored != name_of(row.stored())) {
            disagree(path, "the sidecar says " + entry.stored + ", the file " + name_of(row.stored()), &row);
        }
    }
    if (sidecar.entries.size() != rows.size()) {
        disagree(path,
                 "the sidecar describes " + std::to_string(sidecar.entries.size()) + " tensors, the file has " +
                     std::to_string(rows.size()),
                 nullptr);
    }
}

} // namespace porter::detail
