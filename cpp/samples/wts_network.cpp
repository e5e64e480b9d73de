/// Two networks that are built by hand from `.wts` files, and proved to hold what the files hold.
///
///     wts_network digits ported/model.wts -o digits.engine
///     wts_network onet det3.wts --run face.bin --expect landmarks.bin

#include <cstring>
#include <iostream>

#include "networks/digits.hpp"
#include "networks/onet.hpp"

int main(int argc, char** argv) {
    const bool digits = argc > 1 && std::strcmp(argv[1], "digits") == 0;
    if (!digits && (argc < 2 || std::strcmp(argv[1], "onet") != 0)) {
        const bool asked = argc > 1 && (std::strcmp(argv[1], "-h") == 0 || std::strcmp(argv[1], "--help") == 0);
        (asked ? std::cout : std::cerr) << "usage: wts_network digits|onet " << porter::trt::programUsage;
        return asked ? 0 : 2;
    }
    return porter::trt::program(argc - 1, argv + 1, digits ? addDigits : addOnet);
}
