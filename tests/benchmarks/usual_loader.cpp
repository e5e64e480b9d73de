// Reads a .wts file the way hand-built networks usually do: a formatted stream, one hex word at a time.
// Written for comparison only; it has the usual loader's speed, and its faults.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    std::ifstream input(argv[1]);
    std::int32_t count = 0;
    input >> count;
    std::map<std::string, std::uint32_t*> weights;
    for (std::int32_t i = 0; i < count; ++i) {
        std::string name;
        std::uint32_t size = 0;
        input >> name >> std::dec >> size;
        auto* const values = new std::uint32_t[2 * static_cast<std::size_t>(size)]; // 8 bytes a value, never freed: as is usual
        for (std::uint32_t x = 0; x < size; ++x) {
            input >> std::hex >> values[x];
        }
        weights[name] = values;
    }
    std::printf("%zu tensors\n", weights.size());
    return 0;
}
