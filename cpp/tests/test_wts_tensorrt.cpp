/// Networks of TensorRT that are built, read back and checked; nothing here needs a GPU.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"

#include <porter/wts_tensorrt.hpp>

using namespace porter::trt;
using porter::trt::detail::bfloat16;
using porter::trt::detail::fromSmall;
using porter::trt::detail::half;
using porter::trt::detail::toSmall;

namespace {

/// A file of float32 tensors in the tensorrtx dialect.
std::string wts(const std::map<std::string, std::vector<float>>& tensors) {
    std::string text = std::to_string(tensors.size()) + "\n";
    for (const auto& [name, values] : tensors) {
        text += name + " " + std::to_string(values.size());
        for (const float value : values) {
            std::uint32_t bits = 0;
            std::memcpy(&bits, &value, sizeof bits);
            char word[16];
            std::snprintf(word, sizeof word, " %08x", static_cast<unsigned>(bits));
            text += word;
        }
        text += "\n";
    }
    return text;
}

std::vector<float> numbers(std::size_t count, float first = 0.1F) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = first + 0.37F * static_cast<float>(i % 11) - 0.013F * static_cast<float>(i);
    }
    return values;
}

/// A builder, an empty network with an input `x` of `(1, 2, 6, 6)`, and weights.
struct Bench {
    Logger logger;
    std::unique_ptr<nvinfer1::IBuilder> builder = createBuilder(logger);
    std::unique_ptr<nvinfer1::INetworkDefinition> network = createNetwork(*builder);
    porter::Weights source;
    WeightMap weights;
    nvinfer1::ITensor& x;

    explicit Bench(const std::map<std::string, std::vector<float>>& tensors, const Shape& shape = {1, 2, 6, 6})
        : source(parse(wts(tensors))), weights(parse(wts(tensors))), x(*addInput(*network, "x", nvinfer1::DataType::kFLOAT, shape)) {}

    static porter::Weights parse(const std::string& text) { return porter::parse(text.data(), text.size()); }
};

std::string messageOf(const std::function<void()>& function) {
    try {
        function();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "";
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// Runs the few layers that an LSTM is made of on the processor, in double.
class Interpreter {
public:
    struct Value {
        Shape shape;
        std::vector<double> values;
    };

    std::map<const nvinfer1::ITensor*, Value> tensors;

    void run(const nvinfer1::INetworkDefinition& network) {
        for (std::int32_t i = 0; i < network.getNbLayers(); ++i) {
            auto& layer = *network.getLayer(i);
            const Shape shape = toShape(layer.getOutput(0)->getDimensions());
            Value made{shape, std::vector<double>(count(shape))};
            for (std::size_t at = 0; at < made.values.size(); ++at) {
                made.values[at] = element(layer, indices(shape, at));
            }
            tensors[layer.getOutput(0)] = std::move(made);
        }
    }

private:
    static std::size_t count(const Shape& shape) {
        std::size_t product = 1;
        for (const auto size : shape) {
            product *= static_cast<std::size_t>(size);
        }
        return product;
    }

    static Shape indices(const Shape& shape, std::size_t at) {
        Shape found(shape.size());
        for (std::size_t axis = shape.size(); axis-- > 0;) {
            found[axis] = static_cast<std::int64_t>(at) % shape[axis];
            at /= static_cast<std::size_t>(shape[axis]);
        }
        return found;
    }

    /// An element of an input, axes of size 1 broadcast.
    double input(nvinfer1::ILayer& layer, std::int32_t number, const Shape& index) const {
        const auto& value = tensors.at(layer.getInput(number));
        std::size_t at = 0;
        for (std::size_t axis = 0; axis < value.shape.size(); ++axis) {
            at = at * static_cast<std::size_t>(value.shape[axis]) + static_cast<std::size_t>(value.shape[axis] == 1 ? 0 : index[axis]);
        }
        return value.values[at];
    }

    double element(nvinfer1::ILayer& layer, Shape index) const {
        switch (layer.getType()) {
        case nvinfer1::LayerType::kCONSTANT: {
            const auto held = static_cast<nvinfer1::IConstantLayer&>(layer).getWeights();
            const Shape shape = toShape(layer.getOutput(0)->getDimensions());
            std::size_t at = 0;
            for (std::size_t axis = 0; axis < shape.size(); ++axis) {
                at = at * static_cast<std::size_t>(shape[axis]) + static_cast<std::size_t>(index[axis]);
            }
            return static_cast<double>(static_cast<const float*>(held.values)[at]);
        }
        case nvinfer1::LayerType::kACTIVATION: {
            const double value = input(layer, 0, index);
            const bool sigmoid = static_cast<nvinfer1::IActivationLayer&>(layer).getActivationType() == nvinfer1::ActivationType::kSIGMOID;
            return sigmoid ? 1.0 / (1.0 + std::exp(-value)) : std::tanh(value);
        }
        case nvinfer1::LayerType::kELEMENTWISE: {
            const double a = input(layer, 0, index), b = input(layer, 1, index);
            const auto how = static_cast<nvinfer1::IElementWiseLayer&>(layer).getOperation();
            return how == nvinfer1::ElementWiseOperation::kSUM ? a + b : a * b;
        }
        case nvinfer1::LayerType::kSLICE: {
            const auto start = toShape(static_cast<nvinfer1::ISliceLayer&>(layer).getStart());
            for (std::size_t axis = 0; axis < index.size(); ++axis) {
                index[axis] += start[axis];
            }
            return input(layer, 0, index);
        }
        case nvinfer1::LayerType::kSHUFFLE: std::swap(index[0], index[1]); return input(layer, 0, index);
        case nvinfer1::LayerType::kCONCATENATION: {
            const auto axis = static_cast<std::size_t>(static_cast<nvinfer1::IConcatenationLayer&>(layer).getAxis());
            std::int32_t number = 0;
            while (index[axis] >= tensors.at(layer.getInput(number)).shape[axis]) {
                index[axis] -= tensors.at(layer.getInput(number++)).shape[axis];
            }
            return input(layer, number, index);
        }
        case nvinfer1::LayerType::kMATRIX_MULTIPLY: {
            double sum = 0;
            const auto inner = tensors.at(layer.getInput(0)).shape.back();
            for (std::int64_t k = 0; k < inner; ++k) {
                sum += input(layer, 0, {index[0], index[1], k}) * input(layer, 1, {index[0], index[2], k});
            }
            return sum;
        }
        default: throw std::runtime_error("a layer that the interpreter lacks: " + typeName(layer.getType()));
        }
    }
};

} // namespace

TEST_CASE("a network holds what its file holds, and each change is seen") {
    Bench bench({{"conv.weight", numbers(4 * 1 * 3 * 3)},
                 {"conv.bias", numbers(4)},
                 {"up.weight", numbers(4 * 3 * 2 * 2)},
                 {"bn.weight", numbers(3)},
                 {"bn.bias", numbers(3)},
                 {"bn.running_mean", numbers(3)},
                 {"bn.running_var", {0.5F, 2.0F, 1e-9F}},
                 {"scale.weight", numbers(3)},
                 {"scale.bias", numbers(3)},
                 {"prelu.weight", numbers(3)},
                 {"fc.weight", numbers(5 * 192)},
                 {"fc.bias", numbers(5)},
                 {"spare", numbers(2)}});
    auto& network = *bench.network;
    auto* x = addConvolution(network, bench.weights, bench.x, "conv", 4, {3, 3}, Conv().groups(2).padding({1, 1}, {0, 1}).dilation({1, 1}))
                  ->getOutput(0);
    x = addDeconvolution(network, bench.weights, *x, "up", 3, {2, 2}, Conv().stride({2, 2}).noBias())->getOutput(0);
    x = addBatchNorm2d(network, bench.weights, *x, "bn", 1e-3)->getOutput(0);
    x = addScale(network, bench.weights, *x, "scale")->getOutput(0);
    x = addPRelu(network, bench.weights, *x, "prelu")->getOutput(0);
    x = addLrn(network, *x, "lrn", 3, 1e-4F, 0.75F, 1.0F)->getOutput(0);
    x = addPooling(network, *x, "pool", nvinfer1::PoolingType::kMAX, {3, 3}, Pool().stride({2, 2}).caffe())->getOutput(0);
    CHECK(toShape(x->getDimensions()) == Shape{1, 3, 5, 6});
    x = addFlatten(network, *x, "flat")->getOutput(0);
    CHECK(toShape(x->getDimensions()) == Shape{1, 90});
    CHECK(has(messageOf([&] { addLinear(network, bench.weights, *x, "fc", 5); }), "[5, 90] was asked for"));
    markOutput(network, *x, "out");

    const Report report = check(network, bench.weights, bench.source);
    INFO(report.text());
    CHECK(report.ok());
    CHECK(has(report.text(), "no layer uses fc.bias, fc.weight, spare"));
    CHECK(has(report.text(), "equal, bit for bit"));
    CHECK(buildEngine(*bench.builder, network)->size() > 1000);

    // The memory that TensorRT points into is the map's own; a bit of it is turned over here, as a stray pointer would.
    const auto held = readBack(network);
    REQUIRE(held.size() == 8);
    auto* const bits = static_cast<std::uint8_t*>(const_cast<void*>(held[0].values.values));
    bits[4 * 7] ^= 1;
    const Report second = check(network, bench.weights, bench.source);
    CHECK_FALSE(second.ok());
    CHECK(has(second.text(), "kernel (conv.weight): element 7 is "));
    CHECK(has(second.text(), "(1 of 36 differ)"));
    bits[4 * 7] ^= 1;

    auto* const shift = static_cast<std::uint8_t*>(const_cast<void*>(held[3].values.values));
    shift[0] ^= 1;
    CHECK(has(check(network, bench.weights, bench.source).text(),
              "(batch_norm.shift of bn.weight, bn.bias, bn.running_mean, bn.running_var): element 0"));
    shift[0] ^= 1;
    CHECK(check(network, bench.weights, bench.source).ok());
}

TEST_CASE("what is wrong with names, counts and settings is said") {
    Bench bench({{"conv1.weight", numbers(4 * 2 * 3 * 3)}, {"conv1.bias", numbers(4)}});
    auto& network = *bench.network;
    const auto convolution = [&](const Name& name, std::int64_t outputs, const Shape& kernel, const Conv& settings = {}) {
        return messageOf([&] { addConvolution(network, bench.weights, bench.x, name, outputs, kernel, settings); });
    };
    CHECK(has(convolution("conv2", 4, {3, 3}), "there is no tensor 'conv2.weight'"));
    CHECK(has(convolution("conv2", 4, {3, 3}), "did you mean 'conv1.weight'"));
    CHECK(has(convolution("conv1", 8, {3, 3}), "the tensor has 72 values, and shape [8, 2, 3, 3] was asked for"));
    CHECK(has(convolution("conv1", 4, {3, 3}, Conv().groups(3)), "2 channels in 3 groups"));
    CHECK(has(convolution("conv1", 4, {3, 3}, Conv().stride({1})), "stride [1] for a window of 2 axes"));
    CHECK(has(convolution("conv1", 4, {3, 3, 3}), "its input is [1, 2, 6, 6]; at least 5 axes are needed"));
    CHECK(convolution({"conv8", "conv1"}, 4, {3, 3}).empty());
    CHECK(convolution(Name("conv9").from({"conv1.weight", "conv1.bias"}), 4, {3, 3}).empty());
    const auto average = [&] {
        addPooling(network, bench.x, "p", nvinfer1::PoolingType::kAVERAGE, {3, 3}, Pool().stride({2, 2}).padding({1, 1}).caffe());
    };
    CHECK(has(messageOf(average), "Caffe's average counts its padding of 1 and not what is behind it"));
    CHECK(has(messageOf([&] { named<nvinfer1::IScaleLayer>(nullptr, "none"); }), "TensorRT refused the layer 'none'"));
}

TEST_CASE("layers that people add themselves are found by address, and what nobody knows is not called equal") {
    Bench bench({{"conv1.weight", numbers(4 * 2 * 3 * 3)}, {"conv1.bias", numbers(4)}});
    auto& network = *bench.network;
    network.addConvolutionNd(bench.x, 4, nvinfer1::DimsHW{3, 3}, bench.weights.at("conv1.weight"), bench.weights.at("conv1.bias"));
    CHECK(check(network, bench.weights, bench.source).ok());
    const auto mine = numbers(2);
    network.addConstant(toDims({2}), nvinfer1::Weights{nvinfer1::DataType::kFLOAT, mine.data(), 2})->setName("mine");
    const Report report = check(network, bench.weights, bench.source);
    CHECK_FALSE(report.ok());
    CHECK(has(report.text(), "no tensor of the file was given to it"));
    CHECK(report.layers.back().parts.at(0).verdict == Verdict::unaccounted);
}

TEST_CASE("Caffe's pooling rule by post-padding") {
    for (std::int64_t size = 1; size <= 24; ++size) {
        for (std::int64_t window = 1; window <= std::min<std::int64_t>(5, size); ++window) {
            for (std::int64_t stride = 1; stride <= 4; ++stride) {
                for (std::int64_t padding = 0; padding < window; ++padding) {
                    // As Caffe's source states it, with real division.
                    auto expected = static_cast<std::int64_t>(
                                        std::ceil(static_cast<double>(size + 2 * padding - window) / static_cast<double>(stride))) +
                                    1;
                    expected -= padding > 0 && (expected - 1) * stride >= size + padding ? 1 : 0;
                    const auto after = caffePostPadding(size, window, stride, padding);
                    CAPTURE(size, window, stride, padding, after);
                    REQUIRE((size + padding + after - window) / stride + 1 == expected);
                }
            }
        }
    }
}

TEST_CASE("half and bfloat16 are rounded once, as the loader rounds them") {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto small = static_cast<std::uint16_t>(bits);
        const bool nan = (small & 0x7fff) > 0x7c00;
        const double value = fromSmall(small, half);
        REQUIRE(std::isnan(value) == nan);
        REQUIRE((nan || toSmall(value, half) == small));
        REQUIRE((std::isnan(fromSmall(small, bfloat16)) || toSmall(fromSmall(small, bfloat16), bfloat16) == small));
    }
    for (std::uint64_t step = 0; step < 0x100000000; step += 2459) {
        const auto bits = static_cast<std::uint32_t>(step);
        float value = 0;
        std::memcpy(&value, &bits, sizeof value);
        REQUIRE(toSmall(static_cast<double>(value), half) == porter::detail::half_of(bits));
        REQUIRE(toSmall(static_cast<double>(value), bfloat16) == porter::detail::bfloat16_of(bits));
    }
    // To float32 and then to half this would be rounded twice, and up.
    CHECK(toSmall(1.0 + 0x1p-11 + 0x1p-40, half) == 0x3c01);
    CHECK(toSmall(1.0 + 0x1p-11, half) == 0x3c00);
    CHECK(toSmall(65519.999, half) == 0x7bff);
    CHECK(toSmall(65520.0, half) == 0x7c00);
}

TEST_CASE("a network computes in the type that its weights are narrowed to") {
    const std::map<std::string, std::vector<float>> tensors{
        {"bn.weight", {1.0F, 1e30F}}, {"bn.bias", {0.25F, 1e-9F}}, {"bn.running_mean", {3.0F, 0.0F}}, {"bn.running_var", {1e-9F, 1.0F}}};
    const std::string path = std::string(std::getenv("TMPDIR") == nullptr ? "/tmp" : std::getenv("TMPDIR")) + "/porter_narrow.wts";
    std::FILE* const file = std::fopen(path.c_str(), "wb");
    REQUIRE(file != nullptr);
    const auto text = wts(tensors);
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
    porter::Options options;
    options.narrow = porter::Narrow::half;
    Logger logger;
    const auto builder = createBuilder(logger);
    const auto network = createNetwork(*builder);
    WeightMap weights(path, options);
    std::remove(path.c_str());
    CHECK(weights.type() == nvinfer1::DataType::kHALF);
    auto* const x = addCast(*network, *addInput(*network, "x", nvinfer1::DataType::kFLOAT, {1, 2, 4, 4}), "cast", weights.type());
    addBatchNorm2d(*network, weights, *x, "bn", 0.0);
    const auto held = readBack(*network);
    REQUIRE(held.size() == 2);
    // The variance itself would be zero as half; the scale is computed from the file's own.
    const auto* const scale = static_cast<const std::uint16_t*>(held[1].values.values);
    CHECK(scale[0] == toSmall(1.0 / std::sqrt(static_cast<double>(1e-9F)), half));
    CHECK(scale[1] == 0x7c00);
    const Report report = check(*network, weights, Bench::parse(text));
    CHECK(report.ok());
    CHECK(has(report.text(), "bn.scale as float16: 1 values became infinite"));
}

TEST_CASE("a manifest is read, and what it says is compared") {
    Bench bench({{"conv.weight", {1.0F}}});
    addConvolution(*bench.network, bench.weights,
                   *addConstant(*bench.network, bench.weights, "c", "conv.weight", {1, 1, 1, 1})->getOutput(0), "conv", 1, {1, 1},
                   Conv().noBias());
    const std::string weights = R"("tensor": "conv.weight", "sources": ["conv.weight"], "shape": [1], "dtype": "float32", "count": 1,
        "crc32": "aca16a6a", "sha256": "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c"})";
    const std::string good = R"({"porter": 1, "kind": "tensorrt-network", "package": null, "inputs": [], "outputs": [], "layers": [
        {"name": "c", "type": "Constant", "weights": [{"role": "weights", )" +
                             weights + R"(]},
        {"name": "conv", "type": "Convolution", "weights": [{"role": "kernel", )" +
                             weights + "]}]}";
    const auto manifest = parseManifest(good);
    CHECK(manifest.layers.at(1).weights.at(0).sources == std::vector<std::string>{"conv.weight"});
    CHECK(check(*bench.network, manifest).ok());

    Bench other({{"conv.weight", {-1.0F}}});
    addConstant(*other.network, other.weights, "c", "conv.weight", {1, 1, 1, 1});
    addConstant(*other.network, other.weights, "extra", "conv.weight", {1, 1, 1, 1});
    const auto said = check(*other.network, manifest).text();
    CHECK(has(said, "weights (conv.weight): other values: CRC-32 "));
    CHECK(has(said, "the manifest does not speak of it"));
    CHECK(has(said, "kernel (conv.weight): the network does not hold it"));

    const auto broken = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        text.replace(text.find(from), from.size(), to);
        return messageOf([&] { parseManifest(text, "net.json"); });
    };
    CHECK(has(broken("tensorrt-network", "something"), "\"kind\" is not"));
    CHECK(has(broken("\"porter\": 1", "\"porter\": 2"), "another version"));
    CHECK(has(broken("\"count\": 1", "\"count\": 2"), "its shape and its count do not go together"));
    CHECK(has(broken("\"shape\": [1], \"dtype\": \"float32\", \"count\": 1", // 2^64 values, which no size can count
                     "\"shape\": [4294967296, 4294967296], \"dtype\": \"float32\", \"count\": 0"),
              "its shape and its count do not go together"));
    CHECK(has(broken("aca16a6a", "ACA16A6A"), "net.json: byte "));
    CHECK(has(broken("\"name\": \"conv\"", "\"name\": \"c\""), "two layers are called 'c'"));
    CHECK(has(broken("\"layers\"", "\"strata\""), "has no \"layers\""));
    CHECK(has(messageOf([&] { parseManifest(good.substr(0, 40), "net.json"); }), "net.json: byte 40: "));
    CHECK(has(messageOf([] { readManifest("/does/not/exist.json"); }), "/does/not/exist.json: cannot be read"));
    CHECK(has(messageOf([] { readManifest("/"); }), "/: cannot be read"));
}

TEST_CASE("what is computed of tensors needs as many values of each", "[batch_norm]") {
    const auto of = [](std::size_t variances) {
        return std::map<std::string, std::vector<float>>{
            {"bn.weight", numbers(2)}, {"bn.bias", numbers(2)}, {"bn.running_mean", numbers(2)}, {"bn.running_var", numbers(variances)}};
    };
    Bench bench(of(2));
    addBatchNorm2d(*bench.network, bench.weights, bench.x, "bn");
    CHECK(check(*bench.network, bench.weights, bench.source).ok());
    const auto other = Bench::parse(wts(of(1)));
    CHECK(messageOf([&] { check(*bench.network, bench.weights, other); }) ==
          "layer 'bn': 'bn.running_var' has 1 values, and 'bn.weight' 2");
}

TEST_CASE("a tolerance is a number", "[program]") {
    CHECK(parseArguments({"net.wts", "--tolerance", "1e-3"}).tolerance == 1e-3);
    for (const char* const word : {"", "x", "1e-3x", "-1", "nan"}) {
        CHECK(has(messageOf([&] { parseArguments({"net.wts", "--tolerance", word}); }), "a tolerance is a number of at least 0"));
    }
}

TEST_CASE("an LSTM, computed layer by layer, gives PyTorch's numbers", "[lstm]") {
    const char* const path = std::getenv("PORTER_LSTM");
    if (path == nullptr) {
        WARN("PORTER_LSTM names no file with numbers of PyTorch; tests/test_cpp_project.py makes one");
        return;
    }
    const auto source = porter::load(path);
    Logger logger;
    const auto builder = createBuilder(logger);
    const auto network = createNetwork(*builder);
    WeightMap weights(path);
    const auto& given = source.at("input");
    auto* const x = addInput(*network, "x", nvinfer1::DataType::kFLOAT, given.shape());
    const auto made =
        addLstm(*network, weights, *x, "lstm", source.at("expected_hidden").shape()[2], Lstm().layers(2).bidirectional().batchFirst());
    markOutput(*network, *made.output, "y");

    Interpreter interpreter;
    const auto floats = [](const porter::Tensor& tensor) {
        return std::vector<double>(tensor.as<float>(), tensor.as<float>() + tensor.count());
    };
    interpreter.tensors[x] = {given.shape(), floats(given)};
    interpreter.run(*network);
    const auto near = [&](const nvinfer1::ITensor* tensor, const porter::Tensor& expected, std::size_t first) {
        const auto& values = interpreter.tensors.at(tensor).values;
        for (std::size_t i = 0; i < values.size(); ++i) {
            REQUIRE(std::fabs(values[i] - static_cast<double>(expected.as<float>()[first + i])) < 2e-6);
        }
        return values.size();
    };
    CHECK(toShape(made.output->getDimensions()) == source.at("expected").shape());
    CHECK(near(made.output, source.at("expected"), 0) == source.at("expected").count());
    std::size_t at = 0;
    for (std::size_t i = 0; i < made.hidden.size(); ++i) {
        near(made.cell[i], source.at("expected_cell"), at);
        at += near(made.hidden[i], source.at("expected_hidden"), at);
    }
    CHECK(at == source.at("expected_hidden").count());
    const Report report = check(*network, weights, source);
    CHECK(report.ok());
    CHECK(has(report.text(), "no layer uses input, expected, expected_hidden, expected_cell"));
    CHECK(buildEngine(*builder, *network)->size() > 1000);
}
