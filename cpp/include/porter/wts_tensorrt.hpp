#pragma once

/// Networks of TensorRT 8.6 to 11, built by hand from `.wts` files, and checked bit for bit. The only header of porter, with its parts
/// in `tensorrt/`, that knows TensorRT.
///
///     porter::trt::Logger logger;
///     auto builder = porter::trt::createBuilder(logger);
///     auto network = porter::trt::createNetwork(*builder);
///     porter::trt::WeightMap weights("net.wts");                     // must outlive the build: see WeightMap
///
///     auto* x = porter::trt::addInput(*network, "data", nvinfer1::DataType::kFLOAT, {1, 3, 224, 224});
///     x = addConvolution(*network, weights, *x, "conv1", 64, {7, 7}, Conv().stride({2, 2}).padding({3, 3}).noBias())->getOutput(0);
///     x = addBatchNorm2d(*network, weights, *x, "bn1", 1e-5)->getOutput(0);
///     x = named(network->addActivation(*x, nvinfer1::ActivationType::kRELU), "relu1")->getOutput(0);
///     porter::trt::markOutput(*network, *x, "features");
///
///     const auto report = porter::trt::check(*network, weights, porter::load("net.wts"));
///     std::cout << report.text();                                    // a line for each layer, and a verdict
///     porter::trt::writeEngine("net.engine", *porter::trt::buildEngine(*builder, *network, logger));
///
/// Every helper throws: `porter::WtsError` where a tensor is missing (with the nearest names) or has another shape than the layer needs,
/// `porter::trt::TensorRTError` where TensorRT refuses. None returns a null pointer.

#include <porter/tensorrt/check.hpp>
#include <porter/tensorrt/engine.hpp>
#include <porter/tensorrt/layers.hpp>
#include <porter/tensorrt/logger.hpp>
#include <porter/tensorrt/lstm.hpp>
#include <porter/tensorrt/manifest.hpp>
#include <porter/tensorrt/program.hpp>
#include <porter/tensorrt/read_back.hpp>
#include <porter/tensorrt/types.hpp>
#include <porter/tensorrt/weight_map.hpp>
