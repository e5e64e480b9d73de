#pragma once

/// How the parts of the loader work together.

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <porter/wts/decode.hpp>
#include <porter/wts/raw_index.hpp>
#include <porter/wts/text_index.hpp>
#include <porter/wts/weights.hpp>

namespace porter::detail {

/// Reads one source into a `Weights`.
class Builder {
public:
    Builder(const Source& source, const Options& options) : source_(source), options_(options) {}

    /// `beside`: the sidecar's text, if there is one.
    Weights build(const Source* beside) {
        weights_.path_ = source_.path();
        weights_.dialect_ = options_.dialect.value_or(dialect_of(source_));
        rows_ = weights_.dialect_ == Dialect::nvidia_v2 ? scan_raw(source_, options_.max_tensors)
                                                        : scan_text(source_, weights_.dialect_, options_.max_tensors);
        if (weights_.dialect_ != Dialect::nvidia_v2 && !rows_.empty() && may_lack_digits(source_, rows_.back())) {
            note("the file ends in a value of fewer digits and no newline, in " + quoted(rows_.back().name, 200) + "; taken as whole");
        }
        read_sidecar(beside);
        choose();
        read_values();
        return std::move(weights_);
    }

private:
    void note(std::string text) { weights_.notices_.push_back(std::move(text)); }

    void read_sidecar(const Source* beside) {
        if (beside != nullptr) {
            sidecar_ = SidecarReader(*beside).read();
            if (!sidecar_) {
                note("the JSON file beside it is no sidecar that porter wrote; not used");
            }
        }
        if (sidecar_) {
            check_sidecar(*sidecar_, rows_, weights_.dialect_);
            weights_.has_sidecar_ = true;
            if (sidecar_->nbytes && static_cast<std::uint64_t>(*sidecar_->nbytes) != source_.size()) {
                note("the file has " + std::to_string(source_.size()) + " bytes, and had " + std::to_string(*sidecar_->nbytes) +
                     " when its sidecar was written");
            }
        } else if (!rows_.empty() && weights_.dialect_ != Dialect::nvidia_v2) {
            note("shapes are not in the file and there is no sidecar: tensors are flat");
        }
    }

    /// The tensors that are wanted, still without values, and where their lines are.
    void choose() {
        std::vector<std::size_t> by_name(rows_.size());
        std::iota(by_name.begin(), by_name.end(), std::size_t{0});
        std::sort(by_name.begin(), by_name.end(), [this](std::size_t a, std::size_t b) { return rows_[a].name < rows_[b].name; });
        std::vector<bool> wanted(rows_.size(), options_.only.empty());
        for (const std::string& name : options_.only) {
            const auto found = std::lower_bound(by_name.begin(), by_name.end(), name,
                                                [this](std::size_t i, const std::string& n) { return rows_[i].name < n; });
            if (found == by_name.end() || rows_[*found].name != name) {
                missing(name);
            }
            wanted[*found] = true;
        }
        std::vector<std::size_t> position(rows_.size());
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            if (wanted[i]) {
                position[i] = weights_.tensors_.size();
                weights_.tensors_.push_back(tensor(i));
                chosen_.push_back(i);
            }
        }
        for (const std::size_t i : by_name) {
            if (wanted[i]) {
                weights_.by_name_.push_back(position[i]);
            }
        }
    }

    [[noreturn]] void missing(const std::string& name) const {
        std::vector<Tensor> named;
        for (const Row& row : rows_) {
            named.emplace_back(Tensor());
            named.back().name_ = row.name;
        }
        fail(source_, ErrorCode::missing_tensor, "there is no tensor " + quoted(name, 200), {}, name,
             nearest_hint(name, named.begin(), named.end()));
    }

    Tensor tensor(std::size_t number) const {
        const Row& row = rows_[number];
        Tensor tensor;
        tensor.name_ = row.name;
        tensor.dtype_ = narrowed(row.stored());
        tensor.count_ = row.count;
        tensor.line_ = row.line;
        tensor.offset_ = row.begin;
        tensor.original_ = name_of(row.stored());
        tensor.shape_known_ = row.raw || sidecar_;
        if (sidecar_) {
            const SidecarEntry& entry = sidecar_->entries[number];
            tensor.shape_ = entry.shape;
            tensor.original_ = std::string(entry.type->name);
            tensor.rounded_ = !entry.exact;
            tensor.recorded_crc32_ = entry.crc32;
            tensor.recorded_sha256_ = entry.sha256;
        } else if (row.raw) {
            tensor.shape_ = row.shape;
        } else {
            tensor.shape_ = {static_cast<std::int64_t>(row.count)};
        }
        return tensor;
    }

    DType narrowed(DType stored) const {
        const bool floating = stored == DType::float32 || stored == DType::float16;
        if (!floating || options_.narrow == Narrow::none) {
            return stored;
        }
        return options_.narrow == Narrow::half ? DType::float16 : DType::bfloat16;
    }

    void read_values() {
        // The rows are known to be as long as their counts need, so the file's size bounds this.
        std::size_t total = 0;
        for (const Tensor& tensor : weights_.tensors_) {
            total += aligned(tensor.nbytes());
        }
        if (total > options_.max_bytes) {
            fail(source_, ErrorCode::over_limit,
                 "the values take " + std::to_string(total) + " bytes, more than the " + std::to_string(options_.max_bytes) + " allowed",
                 {}, {}, "raise Options::max_bytes, or read fewer tensors with Options::only");
        }
        const auto memory = std::make_shared<Memory>(total);
        std::vector<Target> targets(chosen_.size());
        unsigned char* out = memory->data();
        for (std::size_t i = 0; i < targets.size(); ++i) {
            Tensor& tensor = weights_.tensors_[i];
            const Row& row = rows_[chosen_[i]];
            tensor.data_ = out;
            tensor.owner_ = memory;
            Target& target = targets[i];
            target.row = &row;
            target.dtype = tensor.dtype_;
            target.out = out;
            if (sidecar_) {
                target.entry = &sidecar_->entries[chosen_[i]];
                if (options_.verify && target.entry->exact && target.entry->type->name != target.entry->stored) {
                    target.check = std::make_unique<TypeCheck>(*target.entry->type, row.stored());
                }
            }
            out += aligned(tensor.nbytes());
        }
        static const std::string none;
        Decoder(source_, targets, options_.verify, sidecar_ ? sidecar_->path : none).run(options_.threads);
        for (std::size_t i = 0; i < targets.size(); ++i) {
            Tensor& tensor = weights_.tensors_[i];
            tensor.overflowed_ = targets[i].changes.overflowed;
            tensor.underflowed_ = targets[i].changes.underflowed;
            tensor.inexact_ = targets[i].changes.inexact;
        }
    }

    const Source& source_;
    const Options& options_;
    Weights weights_;
    std::vector<Row> rows_;
    std::optional<Sidecar> sidecar_;
    std::vector<std::size_t> chosen_;
};

inline Weights load_file(const std::string& path, const Options& options) {
    const Source source(path);
    const std::string beside = path + ".json";
    struct stat status {};
    // A link that leads nowhere is there all the same, and is an error.
    if (!options.sidecar || ::lstat(beside.c_str(), &status) != 0) {
        return Builder(source, options).build(nullptr);
    }
    const Source text(beside);
    return Builder(source, options).build(&text);
}

inline Weights load_memory(const void* data, std::size_t size, const Options& options) {
    const Source source(std::string_view(static_cast<const char*>(data), size));
    if (!options.sidecar || options.sidecar_text.data() == nullptr) {
        return Builder(source, options).build(nullptr);
    }
    const Source text(options.sidecar_text);
    return Builder(source, options).build(&text);
}

inline Error out_of_memory() {
    // Short enough to need no memory itself.
    Error error;
    error.code = ErrorCode::out_of_memory;
    error.message = "out of memory";
    return error;
}

/// What `read` returns or throws, as a result.
template <class Read>
Result without_exceptions(Read read) noexcept {
    Result result;
    try {
        try {
            result.weights = read();
        } catch (const WtsError& error) {
            result.error = error.error();
        }
    } catch (...) {
        // Nothing else is thrown than by a lack of memory.
        result.error = out_of_memory();
    }
    return result;
}

/// What `read` returns; whatever it throws is thrown as a WtsError.
template <class Read>
Weights with_exceptions(Read read) {
    try {
        return read();
    } catch (const std::bad_alloc&) {
        throw WtsError(out_of_memory());
    } catch (const std::length_error&) {
        throw WtsError(out_of_memory());
    }
}

} // namespace porter::detail
