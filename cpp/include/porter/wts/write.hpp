#pragma once

/// Writes `.wts` files: for tools, and for networks that are trained or changed in C++. Not part of `porter/wts.hpp`.
///
///     std::vector<porter::Written> tensors = {{"fc.weight", porter::DType::float32, {10, 64}, values}};
///     porter::save("net.wts", tensors, porter::Dialect::tensorrtx);       // and net.wts.json, with the shapes
///
/// What is written is what porter's Python writer writes, byte for byte but for the sidecar's description of axes and roles.

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <porter/wts/sidecar.hpp>
#include <porter/wts/weights.hpp>

namespace porter {

/// One tensor that is to be written. The values, in C order, are the caller's.
struct Written {
    std::string name;
    DType dtype = DType::float32;
    std::vector<std::int64_t> shape;
    const void* data = nullptr;
    /// The type that the sidecar is to say, if another: "int64". Each value must be one of it, unless it is said that they were `rounded`.
    std::string original_dtype{};
    bool rounded = false;
};

/// How to write a file.
struct SaveOptions {
    bool overwrite = false; ///< Replace a file that is there.
};

namespace detail {

/// White space of any kind and control characters, which end a name for some reader or other.
inline bool is_name_end(char32_t c) {
    return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

inline void check_name(const std::string& name, const std::string& path) {
    const char* message = name.empty() ? "a .wts file cannot hold an empty name" : nullptr;
    char32_t character = 0;
    for (std::size_t at = 0; at < name.size();) {
        const std::size_t length = utf8_length(name, at, character);
        if (length != 0 && is_name_end(character)) {
            message = "the name has white space or a control character, which ends a name in a .wts file";
        }
        at += length == 0 ? 1 : length;
    }
    if (message != nullptr) {
        throw WtsError(
            Error{ErrorCode::unwritable_name, message, path, 0, 0, 0, name, "names in a .wts file are words without white space"});
    }
}

/// A tensor as its line holds it.
class Stored {
public:
    Stored(const Written& tensor, Dialect dialect, const std::string& path)
        : tensor_(tensor), count_(product(tensor.shape)), values_(static_cast<const unsigned char*>(tensor.data)) {
        check_name(tensor.name, path);
        if (count_ > std::size_t{1} << 60 || (count_ != 0 && values_ == nullptr)) {
            throw WtsError(Error{ErrorCode::bad_shape, "shape " + shape_text(tensor.shape) + " is none, or there are no values", path, 0, 0,
                                 0, tensor.name, "give every dimension, and a pointer to as many values"});
        }
        dtype_ = dialect == Dialect::tensorrtx || tensor.dtype == DType::bfloat16 ? DType::float32 : tensor.dtype;
        if (dtype_ != tensor.dtype) {
            widen(path);
        }
    }

    DType dtype() const { return dtype_; }
    std::size_t count() const { return count_; }
    std::size_t nbytes() const { return count_ * size_of(dtype_); }
    const unsigned char* values() const { return values_; }

    /// The tensor's entry in the sidecar.
    std::string entry() const {
        const std::string type = tensor_.original_dtype.empty() ? name_of(tensor_.dtype) : tensor_.original_dtype;
        char crc[9];
        std::snprintf(crc, sizeof crc, "%08x", crc32(values_, nbytes()));
        return "{\"name\": " + json_quoted(tensor_.name) + ", \"dtype\": " + json_quoted(type) +
               ", \"shape\": " + shape_text(tensor_.shape) + ", \"stored\": \"" + name_of(dtype_) +
               "\", \"count\": " + std::to_string(count_) + ", \"crc32\": \"" + crc + "\", \"sha256\": \"" + sha256(values_, nbytes()) +
               "\"" + (tensor_.rounded ? ", \"exact\": false}" : "}");
    }

private:
    void widen(const std::string& path) {
        widened_.resize(count_);
        for (std::size_t i = 0; i < count_; ++i) {
            widened_[i] = float_bits(i, path);
        }
        values_ = reinterpret_cast<const unsigned char*>(widened_.data());
    }

    /// The float32 that equals value number `i`.
    std::uint32_t float_bits(std::size_t i, const std::string& path) const {
        std::uint16_t half = 0;
        std::int32_t whole = 0;
        std::int8_t small = 0;
        switch (tensor_.dtype) {
        case DType::float16: std::memcpy(&half, values_ + 2 * i, 2); return float_of_half(half);
        case DType::bfloat16: std::memcpy(&half, values_ + 2 * i, 2); return float_of_bfloat16(half);
        case DType::int8: std::memcpy(&small, values_ + i, 1); return bits_of(static_cast<float>(small));
        case DType::float32:
        case DType::int32: std::memcpy(&whole, values_ + 4 * i, 4); break;
        }
        const auto value = static_cast<float>(whole);
        if (static_cast<double>(value) != static_cast<double>(whole)) {
            throw WtsError(Error{ErrorCode::value_does_not_fit, std::to_string(whole) + " is no float32, which is all that tensorrtx has",
                                 path, 0, 0, 0, tensor_.name, "write nvidia-v1 or nvidia-v2, which have int32"});
        }
        return bits_of(value);
    }

    const Written& tensor_;
    std::size_t count_;
    const unsigned char* values_;
    DType dtype_ = DType::float32;
    std::vector<std::uint32_t> widened_;
};

/// A file that appears under its name when it is whole.
class NewFile {
public:
    explicit NewFile(const std::string& path) : path_(path), made_(path + ".porter-" + unique()), file_(std::fopen(made_.c_str(), "wbx")) {
        if (file_ == nullptr) {
            fail();
        }
    }
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    ~NewFile() {
        if (file_ != nullptr) {
            (void)std::fclose(file_);
        }
        if (!placed_) {
            (void)std::remove(made_.c_str());
        }
    }

    void write(std::string_view bytes) {
        if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) {
            fail();
        }
        size_ += bytes.size();
    }

    std::size_t size() const { return size_; }

    void place() {
        if (std::fclose(std::exchange(file_, nullptr)) != 0 || std::rename(made_.c_str(), path_.c_str()) != 0) {
            fail();
        }
        placed_ = true;
    }

private:
    static std::string unique() {
        static std::atomic<unsigned> number{0};
        return std::to_string(::getpid()) + "-" + std::to_string(++number);
    }

    [[noreturn]] void fail() const {
        throw WtsError(Error{ErrorCode::cannot_write,
                             std::string("cannot be written: ") + std::strerror(errno),
                             path_,
                             0,
                             0,
                             0,
                             {},
                             "check the folder, its permissions and the room on the disk"});
    }

    std::string path_, made_;
    std::FILE* file_ = nullptr;
    bool placed_ = false;
    std::size_t size_ = 0;
};

/// Writes lines of text or bytes.
class Writer {
public:
    Writer(NewFile& file, Dialect dialect) : file_(file), dialect_(dialect) {}

    void write(const Written& tensor, const Stored& stored) {
        std::string head = tensor.name + " ";
        if (dialect_ != Dialect::tensorrtx) {
            head += std::to_string(code_of(stored.dtype())) + " ";
        }
        head += dialect_ == Dialect::nvidia_v2 ? tuple(tensor.shape) + " " : std::to_string(stored.count());
        if (dialect_ == Dialect::nvidia_v1) {
            head += ' ';
        }
        file_.write(head);
        if (dialect_ == Dialect::nvidia_v2) {
            file_.write({reinterpret_cast<const char*>(stored.values()), stored.nbytes()});
        } else {
            words(stored);
        }
        file_.write("\n");
    }

private:
    static constexpr std::size_t block = std::size_t{1} << 16; // bytes of text

    static int code_of(DType dtype) { return dtype == DType::float32 ? 0 : dtype == DType::float16 ? 1 : dtype == DType::int8 ? 2 : 3; }

    /// A shape as Python prints it: "(64, 3)", "(10,)", "()".
    static std::string tuple(const std::vector<std::int64_t>& shape) {
        const std::string text = shape_text(shape);
        return "(" + text.substr(1, text.size() - 2) + (shape.size() == 1 ? ",)" : ")");
    }

    /// tensorrtx: a space before each value, which has all its digits; nvidia-v1: a space behind each, without leading zeros.
    void words(const Stored& stored) {
        static constexpr char digits[] = "0123456789abcdef";
        const std::size_t width = size_of(stored.dtype());
        const bool padded = dialect_ == Dialect::tensorrtx;
        std::string text;
        text.reserve(block + 16);
        for (std::size_t i = 0; i < stored.count(); ++i) {
            std::uint32_t value = 0;
            std::memcpy(&value, stored.values() + i * width, width);
            int shift = 28;
            while (!padded && shift > 0 && value >> shift == 0) {
                shift -= 4;
            }
            if (padded) {
                text += ' ';
            }
            for (; shift >= 0; shift -= 4) {
                text += digits[value >> shift & 15];
            }
            if (!padded) {
                text += ' ';
            }
            if (text.size() >= block) {
                file_.write(text);
                text.clear();
            }
        }
        file_.write(text);
    }

    NewFile& file_;
    Dialect dialect_;
};

inline bool is_there(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

/// Throws a WtsError where a file is there that must not be replaced: any, or a JSON file that is no sidecar of porter's.
inline void refuse_to_replace(const std::string& path, const std::string& beside, bool overwrite) {
    if (!overwrite && is_there(path)) {
        throw WtsError(Error{ErrorCode::already_there, "is there already", path, 0, 0, 0, {}, "set SaveOptions::overwrite to replace it"});
    }
    if (!is_there(beside)) {
        return;
    }
    const Source text(beside);
    bool foreign = false;
    try {
        foreign = !SidecarReader(text).read();
    } catch (const WtsError&) {
        return; // a damaged sidecar is there to be replaced
    }
    if (foreign) {
        throw WtsError(Error{ErrorCode::already_there,
                             "is a JSON file that porter did not write",
                             beside,
                             0,
                             0,
                             0,
                             {},
                             "move that file away, or give the .wts another name"});
    }
}

} // namespace detail

/// Write `tensors`, in this order, to the file at `path`, and their shapes, types and checksums to `PATH.json`.
///
/// Types that the dialect lacks become float32, where that holds every value: all but float32 in tensorrtx, bfloat16 in the others; the
/// sidecar says what they were. The file appears when it is whole, then the sidecar; an old sidecar goes before both. Throws a WtsError.
inline void save(const std::string& path, const std::vector<Written>& tensors, Dialect dialect, const SaveOptions& options = {}) {
    const std::string beside = path + ".json";
    detail::refuse_to_replace(path, beside, options.overwrite);
    std::unordered_set<std::string> names;
    for (const Written& tensor : tensors) {
        if (!names.insert(tensor.name).second) {
            throw WtsError(
                Error{ErrorCode::duplicate_name, "two tensors have this name", path, 0, 0, 0, tensor.name, "rename one of them"});
        }
    }
    detail::NewFile file(path);
    file.write(std::to_string(tensors.size()) + "\n");
    detail::Writer writer(file, dialect);
    std::string entries;
    for (const Written& tensor : tensors) {
        const detail::Stored stored(tensor, dialect, path);
        writer.write(tensor, stored);
        entries += (entries.empty() ? "\n " : ",\n ") + stored.entry();
    }
    detail::NewFile description(beside);
    description.write("{\"porter\": 1, \"kind\": \"wts-sidecar\", \"dialect\": \"" + std::string(name_of(dialect)) +
                      "\", \"file\": {\"nbytes\": " + std::to_string(file.size()) + "}, \"tensors\": [" + entries + "]}\n");
    if (detail::is_there(beside)) {
        (void)std::remove(beside.c_str());
    }
    file.place();
    description.place();
}

/// Write what was read. Of a sidecar that was used, shapes, types and checksums go along; axes, roles, attributes, ties, metadata and
/// attachments do not, which the loader passes over. Tensors whose shape nothing said are flat.
inline void save(const std::string& path, const Weights& weights, Dialect dialect, const SaveOptions& options = {}) {
    std::vector<Written> tensors;
    tensors.reserve(weights.size());
    for (const Tensor& tensor : weights) {
        tensors.push_back({tensor.name(), tensor.dtype(), tensor.shape(), tensor.data()});
        // Of what was narrowed the type is what it is now.
        if (tensor.dtype() != DType::float16 && tensor.dtype() != DType::bfloat16) {
            tensors.back().original_dtype = tensor.original_dtype();
            tensors.back().rounded = tensor.rounded();
        }
    }
    save(path, tensors, dialect, options);
}

} // namespace porter
