#pragma once

/// The program around a network: reads the weights, builds, checks every bit, writes the engine, and runs it where there is a GPU.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <porter/tensorrt/check.hpp>
#include <porter/tensorrt/engine.hpp>
#include <porter/tensorrt/files.hpp>
#include <porter/tensorrt/manifest.hpp>
#include <porter/tensorrt/runtime.hpp>

namespace porter::trt {

/// A network: what adds its layers.
using Build = std::function<void(nvinfer1::INetworkDefinition&, WeightMap&)>;

/// What the program was asked for.
struct Arguments {
    std::string wts;
    std::string engine;
    std::string manifest;
    std::string input;
    std::string expected;
    double tolerance = 1e-4; ///< Of the largest expected magnitude.
    porter::Options options;
    EngineOptions building;
};

inline constexpr const char* programUsage =
    "FILE.wts [-o FILE.engine] [--manifest net.json] [--dtype f16|bf16]\n"
    "       [--run input.bin [--expect output.bin] [--tolerance 1e-4]]\n"
    "Builds the network from the weights, reads every layer's weights back and compares them bit for bit.\n"
    "  -o FILE       write the engine\n"
    "  --manifest F  compare with what porter wrote down of the network, too\n"
    "  --dtype T     narrow the weights to half (f16) or bfloat16 (bf16)\n"
    "  --run F       run the engine on F, the raw values of all inputs; needs a GPU\n"
    "  --expect F    compare what comes out with F, the raw values of all outputs\n"
    "  --tolerance X of the largest expected magnitude, 1e-4 unless it is given\n"
    "Exit codes: 0 equal, 1 not equal, 2 an error.\n";

/// The arguments of a program, without its name. Throws where there is one that it does not know.
inline Arguments parseArguments(const std::vector<std::string>& given) {
    Arguments arguments;
    for (std::size_t i = 0; i < given.size(); ++i) {
        const std::string& word = given[i];
        if (word.size() < 2 || word[0] != '-') {
            if (!arguments.wts.empty()) {
                throw TensorRTError("one file of weights, please: '" + arguments.wts + "' or '" + word + "'");
            }
            arguments.wts = word;
            continue;
        }
        if (i + 1 == given.size()) {
            throw TensorRTError("nothing stands behind " + word);
        }
        const std::string& value = given[++i];
        if (word == "-o") {
            arguments.engine = value;
        } else if (word == "--manifest") {
            arguments.manifest = value;
        } else if (word == "--run") {
            arguments.input = value;
        } else if (word == "--expect") {
            arguments.expected = value;
        } else if (word == "--tolerance") {
            char* end = nullptr;
            arguments.tolerance = std::strtod(value.c_str(), &end);
            if (end == value.c_str() || *end != '\0' || !(arguments.tolerance >= 0)) {
                throw TensorRTError("a tolerance is a number of at least 0, not '" + value + "'");
            }
        } else if (word == "--dtype" && (value == "f16" || value == "bf16")) {
            arguments.options.narrow = value == "f16" ? porter::Narrow::half : porter::Narrow::bfloat16;
        } else {
            throw TensorRTError("unknown: " + word + " " + value);
        }
    }
    if (arguments.wts.empty()) {
        throw TensorRTError("which file of weights?");
    }
    if (arguments.input.empty() && !arguments.expected.empty()) {
        throw TensorRTError("--expect needs --run");
    }
    return arguments;
}

namespace detail {

/// An element of an output as double.
inline double element(const Output& output, const std::uint8_t* bytes, std::size_t index) {
    if (output.type == nvinfer1::DataType::kFLOAT) {
        float value = 0;
        std::memcpy(&value, bytes + index * sizeof value, sizeof value);
        return static_cast<double>(value);
    }
    if (output.type == nvinfer1::DataType::kINT32) {
        std::int32_t value = 0;
        std::memcpy(&value, bytes + index * sizeof value, sizeof value);
        return static_cast<double>(value);
    }
    throw TensorRTError("the output '" + output.name + "' holds " + dtypeName(output.type) + ": only float32 and int32 are compared");
}

/// A line for an output beside what was expected, and whether it is near enough.
inline bool near(const Output& output, const std::uint8_t* expected, double tolerance, std::ostream& out) {
    const std::size_t count = output.bytes.size() / 4;
    double largest = 0, difference = 0;
    bool numbers = true;
    for (std::size_t i = 0; i < count; ++i) {
        const double want = element(output, expected, i);
        const double distance = std::fabs(element(output, output.bytes.data(), i) - want);
        numbers = numbers && !std::isnan(distance);
        largest = std::max(largest, std::fabs(want));
        difference = std::max(difference, distance);
    }
    const bool good = numbers && difference <= tolerance * largest;
    out << output.name << "  " << shapeText(output.shape) << "  max|d| " << difference << "  absmax " << largest << "  "
        << (good ? "ok" : "DIFFERS") << '\n';
    return good;
}

/// Runs the engine and says what came out; whether it is as expected.
inline bool runAndCompare(const nvinfer1::IHostMemory& engine, const Arguments& arguments, Logger& logger, std::ostream& out) {
    const auto outputs = runEngine(engine.data(), engine.size(), readFile(arguments.input), logger);
    if (arguments.expected.empty()) {
        for (const auto& output : outputs) {
            out << output.name << "  " << shapeText(output.shape) << "  sha256 "
                << porter::detail::sha256(output.bytes.data(), output.bytes.size()) << '\n';
        }
        return true;
    }
    const auto expected = readFile(arguments.expected);
    std::size_t at = 0;
    bool good = true;
    for (const auto& output : outputs) {
        if (expected.size() - at < output.bytes.size()) {
            throw TensorRTError(arguments.expected + ": too short for the output '" + output.name + "'");
        }
        good = near(output, expected.data() + at, arguments.tolerance, out) && good;
        at += output.bytes.size();
    }
    if (at != expected.size()) {
        throw TensorRTError(arguments.expected + ": " + std::to_string(expected.size()) + " bytes, the outputs have " + std::to_string(at));
    }
    return good;
}

} // namespace detail

/// Builds, checks, writes and runs as `arguments` say; whether all that was compared is equal.
inline bool buildAndCheck(const Arguments& arguments, const Build& build, std::ostream& out) {
    Logger logger;
    const auto builder = createBuilder(logger);
    const auto network = createNetwork(*builder);
    WeightMap weights(arguments.wts, arguments.options);
    build(*network, weights);
    const Report report = check(*network, weights, porter::load(arguments.wts));
    out << report.text();
    bool good = report.ok();
    if (!arguments.manifest.empty()) {
        const Report second = check(*network, readManifest(arguments.manifest));
        out << "\nwith " << arguments.manifest << ":\n" << second.text();
        good = good && second.ok();
    }
    if (!arguments.engine.empty() || !arguments.input.empty()) {
        const auto engine = buildEngine(*builder, *network, arguments.building);
        if (!arguments.engine.empty()) {
            writeEngine(arguments.engine, *engine);
            out << "wrote " << arguments.engine << ", " << engine->size() << " bytes\n";
        }
        good = (arguments.input.empty() || detail::runAndCompare(*engine, arguments, logger, out)) && good;
    }
    return good;
}

/// A whole program for one network: `return porter::trt::program(argc, argv, addLayers);`. Returns 0 where all that was compared is equal,
/// 1 where something is not, and 2 where it could not be found out.
inline int program(int argc, const char* const* argv, const Build& build, const EngineOptions& building = {}) {
    const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
    if (words.empty() || words[0] == "-h" || words[0] == "--help") {
        (words.empty() ? std::cerr : std::cout) << "usage: " << (argc > 0 ? argv[0] : "program") << " " << programUsage;
        return words.empty() ? 2 : 0;
    }
    try {
        Arguments arguments = parseArguments(words);
        arguments.building = building;
        return buildAndCheck(arguments, build, std::cout) ? 0 : 1;
    } catch (const porter::WtsError& error) {
        std::cerr << error.error().text() << '\n';
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << '\n';
    }
    return 2;
}

} // namespace porter::trt
