#pragma once

/// Where values lie once they are read, and the file that they are read from. POSIX.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include <porter/wts/error.hpp>

namespace porter::detail {

/// Where tensors begin: a multiple of this many bytes.
inline constexpr std::size_t alignment = 64;

constexpr std::size_t aligned(std::size_t size) {
    return (size + alignment - 1) / alignment * alignment;
}

inline const std::size_t page_size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

/// One block of memory for the values of all tensors of a file.
///
/// It does not ask for huge pages (MADV_HUGEPAGE): they save 0.3 s a GB where memory is at hand, and cost three times what small ones do in a
/// virtual machine that gives free memory back to its host, which keeps pieces of that size alone.
class Memory {
public:
    explicit Memory(std::size_t size)
        : data_(static_cast<unsigned char*>(::operator new(size + (size == 0), std::align_val_t(alignment)))) {}

    unsigned char* data() noexcept { return data_.get(); }

private:
    struct Delete {
        void operator()(unsigned char* data) const { ::operator delete(data, std::align_val_t(alignment)); }
    };

    std::unique_ptr<unsigned char, Delete> data_;
};

/// Have the system give the pages of `size` bytes at `begin` all at once, which takes half the time of a fault for each.
inline void populate(unsigned char* begin, std::size_t size) noexcept {
#ifdef MADV_POPULATE_WRITE
    constexpr std::size_t large = std::size_t{1} << 17; // for less it does not pay
    if (size < large) {
        return;
    }
    unsigned char* const page = begin + (page_size - reinterpret_cast<std::uintptr_t>(begin) % page_size) % page_size;
    // Systems that do not know it say so, and pages come one by one.
    (void)::madvise(page, static_cast<std::size_t>(begin + size - page) / page_size * page_size, MADV_POPULATE_WRITE);
#else
    (void)begin;
    (void)size;
#endif
}

/// Bytes to be read: a mapped file, or memory of the caller's. Const access from several threads is safe.
///
/// Whoever cuts a file short while it is being read kills the process, as with any mapped file; replacing it by renaming is fine.
class Source {
public:
    /// Bytes in memory, which must outlive this.
    explicit Source(std::string_view bytes) : bytes_(bytes) {}

    /// The file at `path`, mapped. Throws a WtsError.
    explicit Source(const std::string& path) : path_(path) {
        // O_NONBLOCK: opening a named pipe must not wait for a writer.
        const int file = path.find('\0') == std::string::npos ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
        if (file < 0) {
            fail(ErrorCode::cannot_open,
                 std::string("cannot be opened: ") +
                     (path.find('\0') == std::string::npos ? std::strerror(errno) : "a zero byte in the path"),
                 "check the path and its permissions");
        }
        const struct Close {
            int file;
            ~Close() { (void)::close(file); }
        } closing{file};
        struct stat status {};
        if (::fstat(file, &status) != 0) {
            fail(ErrorCode::cannot_open, std::string("cannot be read: ") + std::strerror(errno), "check the disk");
        }
        if (!S_ISREG(status.st_mode)) {
            fail(ErrorCode::not_a_file, S_ISDIR(status.st_mode) ? "is a directory" : "is not a regular file", "give the path of a file");
        }
        const auto size = static_cast<std::size_t>(status.st_size);
        if (size == 0) {
            return;
        }
        void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
        if (mapped == MAP_FAILED) {
            fail(ErrorCode::cannot_map, std::string("cannot be mapped: ") + std::strerror(errno), "see 'ulimit -v'");
        }
        mapped_ = mapped;
        bytes_ = std::string_view(static_cast<const char*>(mapped), size);
    }

    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

    ~Source() {
        if (mapped_ != nullptr) {
            (void)::munmap(mapped_, bytes_.size());
        }
    }

    const std::string& path() const noexcept { return path_; }
    std::string_view bytes() const noexcept { return bytes_; }
    std::size_t size() const noexcept { return bytes_.size(); }

    /// At most `length` bytes at `offset`; fewer, or none, at the end.
    std::string_view at(std::size_t offset, std::size_t length) const {
        return bytes_.substr(offset < bytes_.size() ? offset : bytes_.size(), length);
    }

    /// Say that the bytes from `begin` to `end` have been looked at, so that they need no memory any more. They can be looked at again.
    void release(std::size_t begin, std::size_t end) const noexcept {
        if (mapped_ == nullptr) {
            return;
        }
        // Both down: neighbours that are released one after the other leave no page between them.
        begin = begin / page_size * page_size;
        end = end / page_size * page_size;
        if (begin < end) {
            (void)::madvise(static_cast<char*>(mapped_) + begin, end - begin, MADV_DONTNEED);
        }
    }

private:
    [[noreturn]] void fail(ErrorCode code, std::string message, const char* hint) const {
        throw WtsError(Error{code, std::move(message), path_, 0, 0, 0, {}, hint});
    }

    std::string path_;
    std::string_view bytes_;
    void* mapped_ = nullptr;
};

} // namespace porter::detail
