/// Any text as the sidecar of three small files, one of each dialect; the first byte picks the file.

#include "harness.hpp"

#include <porter/wts.hpp>

namespace {
using namespace std::string_view_literals;

// What `corpus.py` makes sidecars for.
constexpr std::string_view files[] = {
    "3\na.weight 4 3f800000 00000000 bf800000 7fc00001\nb 1 40000000\nempty 0 \n"sv,
    "3\na.weight 0 4 3f800000 0 bf800000 7fc00001 \nb 3 1 2 \nempty 0 0 \n"sv,
    "3\na.weight 0 (2, 2) \0\0\x80\x3f\0\0\0\0\0\0\x80\xbf\x01\0\xc0\x7f\nb 3 () \x02\0\0\0\nempty 0 (0, 3) \n"sv,
};
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const fuzz::Input input(data, size);
    const std::string_view file = files[input.control % 3];
    porter::Options options;
    options.verify = (input.control & 0x80) == 0;
    options.sidecar_text = input.bytes;
    const porter::Result result = porter::try_parse(file.data(), file.size(), options);
    fuzz::check(result, std::max(file.size(), input.bytes.size()));
    fuzz::require(!result || result.weights.size() == 3, "tensors are lost");
    return 0;
}
