#pragma once

/// O-Net, the third network of MTCNN (Zhang et al., 2016), by hand, as its Caffe model `det3` is.
/// `porter port det3.prototxt det3.caffemodel -o ported --to wts` writes its weights.

#include <string>

#include <porter/wts_tensorrt.hpp>

inline void addOnet(nvinfer1::INetworkDefinition& network, porter::trt::WeightMap& weights) {
    using namespace porter::trt;

    auto* x = addInput(network, "data", nvinfer1::DataType::kFLOAT, {1, 3, 48, 48});
    const auto block = [&](const std::string& number, std::int64_t outputs, const Shape& kernel, const Shape& window) {
        x = addConvolution(network, weights, *x, "conv" + number, outputs, kernel)->getOutput(0);
        x = addPRelu(network, weights, *x, "prelu" + number)->getOutput(0);
        if (!window.empty()) {
            x = addPooling(network, *x, "pool" + number, nvinfer1::PoolingType::kMAX, window, Pool().stride({2, 2}).caffe())->getOutput(0);
        }
    };
    block("1", 32, {3, 3}, {3, 3});
    block("2", 64, {3, 3}, {3, 3});
    block("3", 64, {3, 3}, {2, 2});
    block("4", 128, {2, 2}, {});

    x = addFlatten(network, *x, "flatten")->getOutput(0);
    x = addLinear(network, weights, *x, "conv5", 256)->getOutput(0);
    x = addPRelu(network, weights, *x, "prelu5")->getOutput(0);

    auto* const face = named(network.addSoftMax(*addLinear(network, weights, *x, "conv6-1", 2)->getOutput(0)), "prob1");
    face->setAxes(1U << 1);
    markOutput(network, *addLinear(network, weights, *x, "conv6-2", 4)->getOutput(0), "conv6-2");
    markOutput(network, *addLinear(network, weights, *x, "conv6-3", 10)->getOutput(0), "conv6-3");
    markOutput(network, *face->getOutput(0), "prob1");
}
