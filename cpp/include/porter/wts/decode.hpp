#pragma once

/// From rows to values: split into jobs that any number of threads do, with the same result and the same first error.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <porter/wts/crc32.hpp>
#include <porter/wts/hex.hpp>
#include <porter/wts/narrow.hpp>
#include <porter/wts/sidecar.hpp>
#include <porter/wts/words.hpp>

namespace porter::detail {

/// Stored values on their way into memory: checked, summed up, and narrowed.
class Sink {
public:
    Sink(DType stored, DType dtype, bool sum, const TypeCheck* check) : stored_(stored), dtype_(dtype), sum_(sum), check_(check) {}

    bool narrows() const { return stored_ != dtype_; }

    /// Takes `n` stored values, whose place is `out`; they may be there already.
    void take(const unsigned char* values, std::size_t n, unsigned char* out) {
        const std::size_t nbytes = n * size_of(stored_);
        if (sum_) {
            crc_ = crc32(values, nbytes, crc_);
            summed_ += nbytes;
        }
        if (check_ != nullptr && check_->first_wrong(values, n) != n) {
            wrong_type_ = true;
        }
        if (!narrows()) {
            if (out != values && nbytes != 0) {
                std::memcpy(out, values, nbytes);
            }
        } else if (dtype_ == DType::float16) {
            narrow_half(values, n, out, changes_);
        } else if (stored_ == DType::float16) {
            narrow_half_to_bfloat16(values, n, out, changes_);
        } else {
            narrow_bfloat16(values, n, out, changes_);
        }
    }

    /// Goes on where another sink ended.
    void join(const Sink& next) {
        crc_ = crc_join(crc_, next.crc_, next.summed_);
        summed_ += next.summed_;
        changes_.add(next.changes_);
        wrong_type_ = wrong_type_ || next.wrong_type_;
    }

    std::uint32_t crc() const { return crc_; }
    const Changes& changes() const { return changes_; }
    bool wrong_type() const { return wrong_type_; }

private:
    DType stored_, dtype_;
    bool sum_;
    const TypeCheck* check_;
    std::uint32_t crc_ = 0;
    std::size_t summed_ = 0;
    Changes changes_;
    bool wrong_type_ = false;
};

/// One tensor to be read: where from, where to, and what the sidecar says of it.
struct Target {
    const Row* row = nullptr;
    const SidecarEntry* entry = nullptr;
    DType dtype = DType::float32;
    unsigned char* out = nullptr;
    std::unique_ptr<TypeCheck> check{};
    Changes changes{}; // is the decoder's result
};

/// Reads all targets, in jobs of a part of a tensor.
class Decoder {
public:
    Decoder(const Source& source, std::vector<Target>& targets, bool verify, const std::string& sidecar_path)
        : source_(source), targets_(targets), verify_(verify), sidecar_path_(sidecar_path) {
        for (std::size_t i = 0; i < targets.size(); ++i) {
            const std::size_t count = targets[i].row->count;
            // Where words have no fixed place, one job reads the row.
            const std::size_t step = has_places(*targets[i].row) ? values_a_job : std::max<std::size_t>(count, 1);
            for (std::size_t first = 0; first == 0 || first < count; first += step) {
                jobs_.push_back(Job{i, first, std::min(step, count - first), {}, false, nullptr});
            }
        }
    }

    /// Throws the first error in the file's order, whichever thread found it.
    void run(unsigned threads) {
        if (threads == 0) {
            threads = std::max(std::thread::hardware_concurrency(), 1u);
        }
        const std::size_t helpers = std::min<std::size_t>({threads - 1, jobs_.empty() ? 0 : jobs_.size() - 1, 255});
        {
            const Helpers joined(helpers, [this] { work(); });
            work();
        }
        for (std::size_t job = 0; job < jobs_.size();) {
            const std::size_t target = jobs_[job].target;
            std::size_t end = job;
            while (end < jobs_.size() && jobs_[end].target == target) {
                ++end;
            }
            finish(targets_[target], job, end);
            job = end;
        }
    }

private:
    static constexpr std::size_t values_a_job = std::size_t{1} << 18;
    static constexpr std::size_t values_a_block = std::size_t{1} << 12; // the text and the values of a block stay in the cache

    struct Job {
        std::size_t target, first, count;
        std::optional<Sink> sink;
        bool irregular; // a word is not where it should be
        std::exception_ptr error;
    };

    /// Threads that are joined when it ends; fewer where the system has no more.
    class Helpers {
    public:
        template <class Work>
        Helpers(std::size_t count, Work work) {
            threads_.reserve(count);
            try {
                while (threads_.size() < count) {
                    threads_.emplace_back(work);
                }
            } catch (const std::system_error&) {
                return; // those that there are, and the caller's, do it all
            } catch (...) {
                join();
                throw;
            }
        }
        Helpers(const Helpers&) = delete;
        Helpers& operator=(const Helpers&) = delete;
        ~Helpers() { join(); }

    private:
        void join() {
            for (std::thread& thread : threads_) {
                thread.join();
            }
            threads_.clear();
        }

        std::vector<std::thread> threads_;
    };

    static bool has_places(const Row& row) { return row.raw || (row.packed && row.digits() == 8); }

    Sink sink_of(const Target& target) const {
        return Sink(target.row->stored(), target.dtype, verify_ && target.entry != nullptr, target.check.get());
    }

    void work() noexcept {
        std::unique_ptr<unsigned char[]> block;
        for (std::size_t number = next_++; number < jobs_.size(); number = next_++) {
            Job& job = jobs_[number];
            // Jobs before a failed one were begun before it, and the others' results would not be looked at.
            if (number > failed_.load(std::memory_order_relaxed)) {
                return;
            }
            try {
                if (!block) {
                    block = std::make_unique<unsigned char[]>(4 * values_a_block);
                }
                read(job, block.get());
            } catch (...) {
                job.error = std::current_exception();
                std::size_t before = failed_.load();
                while (number < before && !failed_.compare_exchange_weak(before, number)) {
                }
            }
        }
    }

    void read(Job& job, unsigned char* block) const {
        const Target& target = targets_[job.target];
        const Row& row = *target.row;
        job.sink.emplace(sink_of(target));
        populate(place(target, job.first), job.count * size_of(target.dtype));
        if (row.raw) {
            read_raw(job, block);
        } else if (has_places(row)) {
            job.irregular = !read_packed(job, block);
        } else {
            read_words(target, 0, *job.sink, block);
        }
    }

    unsigned char* place(const Target& target, std::size_t number) const { return target.out + number * size_of(target.dtype); }

    void read_raw(Job& job, unsigned char* block) const {
        const Target& target = targets_[job.target];
        const std::size_t width = size_of(target.row->stored());
        for (std::size_t i = job.first; i < job.first + job.count; i += values_a_block) {
            const std::size_t n = std::min(values_a_block, job.first + job.count - i);
            const char* const bytes = source_.bytes().data() + target.row->begin + i * width;
            unsigned char* const values = job.sink->narrows() ? block : place(target, i);
            std::memcpy(values, bytes, n * width);
            job.sink->take(values, n, place(target, i));
        }
        source_.release(target.row->begin + job.first * width, target.row->begin + (job.first + job.count) * width);
    }

    /// Reads a part of a packed line; false if it is not packed after all.
    bool read_packed(Job& job, unsigned char* block) const {
        const Target& target = targets_[job.target];
        const Row& row = *target.row;
        const std::size_t begin = row.begin + stride * job.first, end = job.first + job.count;
        for (std::size_t i = job.first; i < end; i += values_a_block) {
            const std::size_t n = std::min(values_a_block, end - i);
            const char* const text = source_.bytes().data() + row.begin + stride * i;
            unsigned char* const values = job.sink->narrows() ? block : place(target, i);
            if (!decode_packed(text, n, values) || (i + n < row.count && text[stride * n - 1] != ' ')) {
                return false;
            }
            job.sink->take(values, n, place(target, i));
        }
        source_.release(begin, row.begin + stride * end);
        return true;
    }

    /// Reads a line from value number `first` on, wherever its words are.
    void read_words(const Target& target, std::size_t first, Sink& sink, unsigned char* block) const {
        const Row& row = *target.row;
        const std::size_t width = size_of(row.stored());
        std::uint32_t words[1024];
        WordReader reader(source_, row, first);
        std::size_t released = row.begin;
        while (const std::size_t n = reader.read(words, 1024)) {
            for (std::size_t i = 0; i < n; ++i) {
                std::memcpy(block + width * i, words + i, width); // the lower bytes come first
            }
            sink.take(block, n, place(target, first));
            first += n;
            if (reader.offset() - released >= std::size_t{4} << 20) {
                source_.release(released, reader.offset());
                released = reader.offset();
            }
        }
    }

    /// Puts the jobs of one target together.
    void finish(Target& target, std::size_t job, std::size_t end) {
        Sink whole = sink_of(target);
        for (; job < end; ++job) {
            if (jobs_[job].error) {
                std::rethrow_exception(jobs_[job].error);
            }
            if (jobs_[job].irregular) {
                // Everything before lay where it should; from here on words are searched for.
                const auto block = std::make_unique<unsigned char[]>(4 * values_a_block);
                Sink rest = sink_of(target);
                read_words(target, jobs_[job].first, rest, block.get());
                whole.join(rest);
                break;
            }
            whole.join(*jobs_[job].sink);
        }
        if (whole.wrong_type()) {
            disagree(sidecar_path_, "the sidecar says " + std::string(target.entry->type->name) + ", and a value is none", target.row,
                     ErrorCode::value_not_of_type);
        }
        if (verify_ && target.entry != nullptr && whole.crc() != target.entry->crc32) {
            disagree(sidecar_path_,
                     "the values have the CRC-32 " + hex_text(whole.crc()) + ", the sidecar says " + hex_text(target.entry->crc32),
                     target.row, ErrorCode::checksum_mismatch);
        }
        target.changes = whole.changes();
    }

    const Source& source_;
    std::vector<Target>& targets_;
    bool verify_;
    const std::string& sidecar_path_;
    std::vector<Job> jobs_;
    std::atomic<std::size_t> next_{0};
    std::atomic<std::size_t> failed_{static_cast<std::size_t>(-1)};
};

} // namespace porter::detail
