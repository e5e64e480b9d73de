#pragma once

/// O-Net, the third network of MTCNN (Zhang et al., 2016), by hand, as its Caffe model `det3` is.
/// `porter port det3.prototxt det3.caffemodel -o ported --to wts` writes its weights.

#include <string>

#include <porter/wts_tensorrt.hpp>

inline void addOnet(nvinfer1::INetworkDefinition& network, porter::trt::WeightMap& weights) {
    using namespace porter::trt;

    auto* x = addInput(network, "data", nvinfer1::DataType::kFLOAT, {1, 3, 48, 48});
    x = addCast(network, *x, "data/cast", weights.type());
    const auto output = [&](nvinfer1::ITensor& tensor, const std::string& name) {
        markOutput(network, *addCast(network, tensor, name + "/cast", nvinfer1::DataType::kFLOAT), name);
    };
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

    // The graph calls these layers as Caffe does; a name in Python, and so in the weights, has no dash.
    auto* const boxes = addLinear(network, weights, *x, {"conv6-2", "conv6_2"}, 4)->getOutput(0);
    auto* const points = addLinear(network, weights, *x, {"conv6-3", "conv6_3"}, 10)->getOutput(0);
    auto* const faces = named(network.addSoftMax(*addLinear(network, weights, *x, {"conv6-1", "conv6_1"}, 2)->getOutput(0)), "prob1");
    faces->setAxes(1U << 1);
    output(*boxes, "conv6-2");
    output(*points, "conv6-3");
    output(*faces->getOutput(0), "prob1");
}
