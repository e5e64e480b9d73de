// Reads a .wts file the way hand-built networks usually do: a formatted stream, one hex word at a time.
// Written for comparison only; it has the usual loader's speed, and its faults.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    std::ifstream input(argv[1]);
    std::int32_t count = 0;
    input >> count;
    std::map<std::string, std::vector<std::uint32_t>> weights;
    for (std::int32_t i = 0; i < count; ++i) {
        std::string name;
        std::uint32_t size = 0;
        input >> name >> std::dec >> size;
        std::vector<std::uint32_t> values(size);
        for (std::uint32_t& value : values) {
            input >> std::hex >> value;
        }
        weights[name] = std::move(values);
    }
    std::printf("%zu tensors\n", weights.size());
    return 0;
}
