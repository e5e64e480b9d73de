/// A network with one constant, to see that everything links.

#include <iostream>

#include <porter/wts_tensorrt.hpp>

int main(int argc, char** argv) {
    return porter::trt::program(argc, argv, [](nvinfer1::INetworkDefinition& network, porter::trt::WeightMap& weights) {
        const auto& first = *weights.weights().begin();
        auto* const constant = porter::trt::addConstant(network, weights, "first", first.name(), first.shape());
        porter::trt::markOutput(network, *constant->getOutput(0), "value");
    });
}
