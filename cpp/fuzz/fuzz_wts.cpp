/// Any bytes, read with any options: values, or an error that says where.

#include "harness.hpp"

#include <porter/wts.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const fuzz::Input input(data, size);
    auto options = input.options<porter::Options>();
    const auto read = [&] {
        porter::Result result = porter::try_parse(input.bytes.data(), input.bytes.size(), options);
        fuzz::check(result, input.bytes.size());
        return result;
    };
    const porter::Result all = read();
    if (!all) {
        return 0;
    }
    // Alone, each tensor is what it is among all.
    for (std::size_t i = 0; i < all.weights.size(); i += 1 + all.weights.size() / 2) {
        const porter::Tensor& tensor = all.weights[i];
        options.only = {tensor.name()};
        const porter::Result alone = read();
        fuzz::require(alone && alone.weights.size() == 1 && alone.weights[0].sha256() == tensor.sha256(), "a tensor is another alone");
    }
    options.only = {"no such name"};
    fuzz::require(read().error.code == porter::ErrorCode::missing_tensor, "a tensor that is not there is found");
    return 0;
}
