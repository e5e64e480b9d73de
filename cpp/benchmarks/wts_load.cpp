/// Loads one file and says how long that took and how much memory: see tests/benchmarks/run.py, which runs it beside the usual loader.
///
///     wts_load FILE [--threads N] [--no-sidecar]

#include <porter/wts.hpp>

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
    porter::Options options;
    const char* path = nullptr;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            options.threads = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
        } else if (std::strcmp(argv[i], "--no-sidecar") == 0) {
            options.sidecar = false;
        } else {
            path = argv[i];
        }
    }
    if (path == nullptr) {
        std::fprintf(stderr, "usage: wts_load FILE [--threads N] [--no-sidecar]\n");
        return 2;
    }
    const auto start = std::chrono::steady_clock::now();
    const porter::Result result = porter::try_load(path, options);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error.text().c_str());
        return 2;
    }
    std::size_t nbytes = 0;
    for (const porter::Tensor& tensor : result.weights) {
        nbytes += tensor.nbytes();
    }
    struct rusage usage {};
    (void)::getrusage(RUSAGE_SELF, &usage);
    const double mebibyte = 1 << 20;
    std::printf("%.4f s, %zu tensors, %.1f MiB of values, %.1f MiB of memory beyond them at most\n", elapsed.count(), result.weights.size(),
                static_cast<double>(nbytes) / mebibyte,
                static_cast<double>(usage.ru_maxrss) / 1024 - static_cast<double>(nbytes) / mebibyte);
    return 0;
}
