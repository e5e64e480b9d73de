#pragma once

/// The network of examples/digits, by hand. `porter port digits.prototxt digits.caffemodel -o ported --to wts` writes its weights.

#include <porter/wts_tensorrt.hpp>

inline void addDigits(nvinfer1::INetworkDefinition& network, porter::trt::WeightMap& weights) {
    using namespace porter::trt;
    using nvinfer1::ActivationType;
    using nvinfer1::PoolingType;

    auto* x = addInput(network, "data", nvinfer1::DataType::kFLOAT, {1, 1, 8, 8});
    x = addCast(network, *x, "data/cast", weights.type());
    x = addConvolution(network, weights, *x, "conv1", 16, {3, 3}, Conv().padding({1, 1}).noBias())->getOutput(0);
    x = addBatchNorm2d(network, weights, *x, "bn1", 1e-5)->getOutput(0);
    x = named(network.addActivation(*x, ActivationType::kRELU), "relu1")->getOutput(0);
    x = addPooling(network, *x, "pool1", PoolingType::kMAX, {2, 2}, Pool().stride({2, 2}).caffe())->getOutput(0);

    x = addConvolution(network, weights, *x, "conv2", 32, {3, 3}, Conv().padding({1, 1}))->getOutput(0);
    x = addPRelu(network, weights, *x, "prelu2")->getOutput(0);
    x = addPooling(network, *x, "pool2", PoolingType::kMAX, {2, 2}, Pool().stride({2, 2}).caffe())->getOutput(0);

    x = addFlatten(network, *x, "fc1/flatten")->getOutput(0);
    x = addLinear(network, weights, *x, "fc1", 64)->getOutput(0);
    x = named(network.addActivation(*x, ActivationType::kRELU), "relu3")->getOutput(0);
    x = addLinear(network, weights, *x, "fc2", 10)->getOutput(0);

    auto* const prob = named(network.addSoftMax(*x), "prob");
    prob->setAxes(1U << 1);
    markOutput(network, *addCast(network, *prob->getOutput(0), "prob/cast", nvinfer1::DataType::kFLOAT), "prob");
}
