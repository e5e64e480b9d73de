"""What surrounds the layers in `net.hpp` and `net.cpp`, and how they are built."""

from __future__ import annotations

HEADER = """\
/// \\file
/// {title}: a network of TensorRT, written by porter.
#pragma once

#include <porter/wts_tensorrt.hpp>

namespace net {{

/// Adds the layers of the network to an empty one, which computes in the type of its weights: `--dtype f16` of the program, or
/// `porter::Options::narrow`, make that half. `weights` must outlive the build of the engine.
/// Inputs: {inputs}
/// Outputs: {outputs}
void build(nvinfer1::INetworkDefinition& network, porter::trt::WeightMap& weights);

}} // namespace net
"""

INCLUDES = """\
// {title}: a network of TensorRT, written by porter.

#include "net.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>
"""

MAIN = """\
#ifndef NET_WITHOUT_MAIN
/// Builds the network from a .wts file, reads all weights back and compares them bit for bit; no GPU is needed for that.
int main(int argc, char** argv) {
    return porter::trt::program(argc, argv, net::build);
}
#endif
"""

CMAKE = """\
# Builds one program of net.cpp:
#
#     cmake -S . -B build -DPORTER_CPP_DIR=.../porter/cpp -DTensorRT_INCLUDE_DIR=.../include -DTensorRT_LIBRARY=.../libnvinfer.so
#     cmake --build build
#     build/net net.wts --manifest net.json
#
# The library may be libtensorrt_rtx.so.1 of the wheel tensorrt-rtx: building and checking need no GPU, running the engine does.
# Where porter's headers are installed, PORTER_CPP_DIR is not needed.
cmake_minimum_required(VERSION 3.20)
project(net LANGUAGES CXX)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

set(PORTER_CPP_DIR "" CACHE PATH "The folder cpp of porter's sources, where its headers are not installed")
if(PORTER_CPP_DIR)
    set(PORTER_TENSORRT ON CACHE STRING "" FORCE)
    add_subdirectory("${PORTER_CPP_DIR}" porter EXCLUDE_FROM_ALL)
    list(APPEND CMAKE_MODULE_PATH "${PORTER_CPP_DIR}/cmake")
else()
    find_package(porter REQUIRED)
endif()
if(NOT TARGET TensorRT::nvinfer)
    find_package(TensorRT REQUIRED)
endif()

add_executable(net net.cpp)
target_compile_features(net PRIVATE cxx_std_17)
target_link_libraries(net PRIVATE porter::wts_tensorrt TensorRT::nvinfer)
"""
