/// Prints the tensors of a file.

#include <iostream>

#include <porter/wts.hpp>

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    for (const auto& tensor : porter::load(argv[1])) {
        std::cout << tensor.name() << ' ' << tensor.count() << '\n';
    }
    return 0;
}
