// A second copy of the loader, in a namespace of another name, so that one program can hold both.
#define PORTER_WTS_PORTABLE
#define porter porter_portable
#include <porter/wts.hpp>
#undef porter

#include "portable.hpp"

std::string describe_portable(const fuzz::Input& input) {
    const auto options = input.options<porter_portable::Options>();
    return fuzz::describe(porter_portable::try_parse(input.bytes.data(), input.bytes.size(), options));
}
