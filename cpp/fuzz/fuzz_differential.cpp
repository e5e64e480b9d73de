/// The same bytes by every way that there is: this processor's instructions, the portable ones, threads, the dialect given or found
/// out. All say the same, of what is wrong too.

#include "harness.hpp"
#include "portable.hpp"

#include <porter/wts.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const fuzz::Input input(data, size);
    auto options = input.options<porter::Options>();
    const auto read = [&] { return porter::try_parse(input.bytes.data(), input.bytes.size(), options); };
    const porter::Result result = read();
    const std::string said = fuzz::describe(result);
    fuzz::require(said == describe_portable(input), "the portable way says something else");
    if (result && !result.weights.empty()) {
        options.dialect = result.weights.dialect();
        options.threads = 3;
        fuzz::require(said == fuzz::describe(read()), "threads, or the dialect, change it");
    }
    return 0;
}
