#pragma once

/// The tensors of a file, in memory.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <porter/wts/crc32.hpp>
#include <porter/wts/error.hpp>
#include <porter/wts/memory.hpp>
#include <porter/wts/nearest.hpp>
#include <porter/wts/options.hpp>
#include <porter/wts/sha256.hpp>
#include <porter/wts/shapes.hpp>

namespace porter {

namespace detail {
class Builder;

template <class T>
constexpr bool is_type(DType dtype) {
    switch (dtype) {
    case DType::float32: return std::is_same_v<T, float> || std::is_same_v<T, std::uint32_t>;
    case DType::float16:
    case DType::bfloat16: return std::is_same_v<T, std::uint16_t>;
    case DType::int8: return std::is_same_v<T, std::int8_t>;
    case DType::int32: break;
    }
    return std::is_same_v<T, std::int32_t>;
}
} // namespace detail

/// One tensor: what the file says of it, and its values. Copies share the values, which live as long as any of them.
class Tensor {
public:
    const std::string& name() const noexcept { return name_; }

    /// The type of the values at `data`: the stored one, or what they were narrowed to.
    DType dtype() const noexcept { return dtype_; }

    /// The dimensions. Where nothing says them (a text dialect without a sidecar), there is one, `count()`.
    const std::vector<std::int64_t>& shape() const noexcept { return shape_; }
    bool shape_known() const noexcept { return shape_known_; }

    std::size_t count() const noexcept { return count_; }
    std::size_t nbytes() const noexcept { return count_ * size_of(dtype_); }

    /// The values, little-endian, in C order, at a multiple of 64 bytes; never null.
    const void* data() const noexcept { return data_; }

    /// `data` as values of a type: float or uint32_t (the bits) for float32, uint16_t (the bits) for float16 and bfloat16, int8_t, int32_t.
    /// Throws a WtsError, `wrong_type`, where T is another.
    template <class T>
    const T* as() const {
        if (!detail::is_type<T>(dtype_)) {
            throw WtsError(
                Error{ErrorCode::wrong_type,
                      std::string("the values are ") + name_of(dtype_) + ", and were asked for as another type",
                      {},
                      0,
                      0,
                      0,
                      name_,
                      "ask for dtype() first, and take as<float>(), as<std::uint16_t>(), as<std::int8_t>() or as<std::int32_t>()"});
        }
        return static_cast<const T*>(data_);
    }

    /// CRC-32 (zlib's) and SHA-256 (64 small hexadecimal digits) of the bytes at `data`, computed when they are asked for.
    std::uint32_t crc32() const noexcept { return detail::crc32(data_, nbytes()); }
    std::string sha256() const { return detail::sha256(data_, nbytes()); }

    /// What the sidecar says: the type that the tensor had before it was written ("int64"; the stored type's name without a sidecar),
    /// whether its values were rounded then, and the digests of the stored values (SHA-256 empty and CRC-32 0 without a sidecar).
    const std::string& original_dtype() const noexcept { return original_; }
    bool rounded() const noexcept { return rounded_; }
    const std::string& recorded_sha256() const noexcept { return recorded_sha256_; }
    std::uint32_t recorded_crc32() const noexcept { return recorded_crc32_; }

    /// What narrowing did: finite values that became infinite, values that became zero, values that are another number now (with both).
    std::size_t overflowed() const noexcept { return overflowed_; }
    std::size_t underflowed() const noexcept { return underflowed_; }
    std::size_t inexact() const noexcept { return inexact_; }

    /// Where the tensor's line is (1 is the first; 0 in nvidia-v2), and where its values begin, in bytes.
    std::size_t line() const noexcept { return line_; }
    std::size_t offset() const noexcept { return offset_; }

private:
    friend class detail::Builder;
    Tensor() = default;

    std::string name_;
    DType dtype_ = DType::float32;
    bool shape_known_ = false;
    bool rounded_ = false;
    std::vector<std::int64_t> shape_;
    std::size_t count_ = 0;
    const void* data_ = nullptr;
    std::shared_ptr<const detail::Memory> owner_;
    std::string original_;
    std::string recorded_sha256_;
    std::uint32_t recorded_crc32_ = 0;
    std::size_t overflowed_ = 0, underflowed_ = 0, inexact_ = 0;
    std::size_t line_ = 0, offset_ = 0;
};

/// All tensors that were read from a file, in the file's order. It owns their values, each at a multiple of 64 bytes.
///
/// Pointers into the values stay valid while this object, one that it was moved or copied to, or a copied Tensor lives: TensorRT keeps
/// such pointers until the engine is built. Nothing changes the values, so any number of threads may use one object.
class Weights {
public:
    using const_iterator = std::vector<Tensor>::const_iterator;

    Weights() = default;

    /// The tensor called `name`. Throws a WtsError, `missing_tensor`, that says the nearest names.
    const Tensor& at(std::string_view name) const {
        if (const Tensor* const tensor = find(name)) {
            return *tensor;
        }
        throw WtsError(Error{ErrorCode::missing_tensor, "there is no tensor " + detail::quoted(name, 200), path_, 0, 0, 0,
                             std::string(name), detail::nearest_hint(name, begin(), end())});
    }

    /// The same, which must have this shape. Where the shape is not known, the number of values must be that of `shape`.
    /// Throws a WtsError: `missing_tensor` or `wrong_shape`.
    const Tensor& at(std::string_view name, const std::vector<std::int64_t>& shape) const {
        const Tensor& tensor = at(name);
        if (tensor.shape_known() ? tensor.shape() == shape : detail::product(shape) == tensor.count()) {
            return tensor;
        }
        const std::string has =
            tensor.shape_known() ? "shape " + detail::shape_text(tensor.shape()) : std::to_string(tensor.count()) + " values";
        throw WtsError(
            Error{ErrorCode::wrong_shape, "the tensor has " + has + ", and shape " + detail::shape_text(shape) + " was asked for", path_,
                  tensor.offset(), tensor.line(), 0, tensor.name(), "the file is of another network, or the network's sizes are wrong"});
    }
    const Tensor& at(std::string_view name, std::initializer_list<std::int64_t> shape) const {
        return at(name, std::vector<std::int64_t>(shape));
    }

    /// The tensor called `name`, or null.
    const Tensor* find(std::string_view name) const noexcept {
        const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                            [this](std::size_t i, std::string_view wanted) { return tensors_[i].name() < wanted; });
        return found != by_name_.end() && tensors_[*found].name() == name ? &tensors_[*found] : nullptr;
    }
    bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

    std::size_t size() const noexcept { return tensors_.size(); }
    bool empty() const noexcept { return tensors_.empty(); }
    const_iterator begin() const noexcept { return tensors_.begin(); }
    const_iterator end() const noexcept { return tensors_.end(); }
    const Tensor& operator[](std::size_t number) const noexcept { return tensors_[number]; }

    Dialect dialect() const noexcept { return dialect_; }

    /// The file that was read; empty for bytes in memory.
    const std::string& path() const noexcept { return path_; }

    /// Whether a sidecar was used.
    bool has_sidecar() const noexcept { return has_sidecar_; }

    /// What was assumed or passed over, one sentence each: shapes that nothing says, a last value that may lack digits, …
    const std::vector<std::string>& notices() const noexcept { return notices_; }

private:
    friend class detail::Builder;

    std::vector<Tensor> tensors_;
    std::vector<std::size_t> by_name_;
    std::string path_;
    std::vector<std::string> notices_;
    Dialect dialect_ = Dialect::tensorrtx;
    bool has_sidecar_ = false;
};

/// What `try_load` and `try_parse` return: the weights, or an error with its place.
struct Result {
    Weights weights;
    Error error;

    bool ok() const noexcept { return error.code == ErrorCode::ok; }
    explicit operator bool() const noexcept { return ok(); }
};

} // namespace porter
