#pragma once

/// An LSTM, unrolled: a layer of TensorRT for each operation, so that every number in it can be looked at.

#include <cstdint>
#include <string>
#include <vector>

#include <porter/tensorrt/layers.hpp>

namespace porter::trt {

/// Settings of an LSTM, as PyTorch has them.
struct Lstm {
    std::int64_t layerCount = 1;
    bool twoWays = false;
    bool batchIsFirst = false;
    bool hasBias = true;

    Lstm& layers(std::int64_t value) { return layerCount = value, *this; }
    Lstm& bidirectional() { return twoWays = true, *this; }
    Lstm& batchFirst() { return batchIsFirst = true, *this; }
    Lstm& noBias() { return hasBias = false, *this; }
};

/// What an LSTM makes.
struct LstmOutputs {
    nvinfer1::ITensor* output;              ///< `(steps, batch, directions * hidden)`; `(batch, steps, …)` where the batch is first.
    std::vector<nvinfer1::ITensor*> hidden; ///< The last state of each layer and direction, `(1, batch, hidden)`.
    std::vector<nvinfer1::ITensor*> cell;   ///< The same, of the cells.
};

namespace detail {

/// One layer of an LSTM in one direction. Source: PyTorch, docs of torch.nn.LSTM and torch.nn.LSTMCell, 2.x.
class LstmPass {
public:
    LstmPass(nvinfer1::INetworkDefinition& network, WeightMap& weights, const Name& name, const std::string& suffix, std::int64_t hidden,
             bool bias, const Shape& shape)
        : network_(network), layer_(name.layer() + "/" + suffix), steps_(shape[0]), batch_(shape[1]), hidden_(hidden) {
        const auto constant = [&](std::size_t index, const std::string& role, const Shape& size, const Shape& as) {
            const std::string tensor = role + "_" + suffix;
            return constantOf(network, weights, name.layer() + "/" + tensor, name.tensor(index, tensor), size, as);
        };
        inputWeight_ = constant(0, "weight_ih", {4 * hidden, shape[2]}, {1, 4 * hidden, shape[2]});
        stateWeight_ = constant(1, "weight_hh", {4 * hidden, hidden}, {1, 4 * hidden, hidden});
        if (bias) {
            inputBias_ = constant(2, "bias_ih", {4 * hidden}, {1, 1, 4 * hidden});
            stateBias_ = constant(3, "bias_hh", {4 * hidden}, {1, 1, 4 * hidden});
        }
    }

    /// The output of all steps, `(steps, batch, hidden)`.
    nvinfer1::ITensor* run(nvinfer1::ITensor& input, bool backward) {
        auto* const projected = sum(multiply(input, *inputWeight_, "input/product"), inputBias_, "input");
        std::vector<nvinfer1::ITensor*> outputs(static_cast<std::size_t>(steps_));
        for (std::int64_t i = 0; i < steps_; ++i) {
            const std::int64_t step = backward ? steps_ - 1 - i : i;
            outputs[static_cast<std::size_t>(step)] = next(*projected, step);
        }
        auto* const all =
            added(network_, network_.addConcatenation(outputs.data(), static_cast<std::int32_t>(outputs.size())), layer_ + "/steps");
        all->setAxis(0);
        return all->getOutput(0);
    }

    nvinfer1::ITensor* hidden() const { return state_; }
    nvinfer1::ITensor* cell() const { return cell_; }

private:
    /// The state after one more step. Gates stand in the order input, forget, cell, output. The states begin as zero, so the first step
    /// has no product with them and nothing to forget; its bias stays.
    nvinfer1::ITensor* next(nvinfer1::ITensor& projected, std::int64_t step) {
        const std::string at = "step" + std::to_string(step) + "/";
        auto* gates = slice(projected, {step, 0, 0}, 4 * hidden_, at + "input");
        if (state_ != nullptr) {
            auto* const recurrent = sum(multiply(*state_, *stateWeight_, at + "state/product"), stateBias_, at + "state");
            gates = combine(*gates, *recurrent, nvinfer1::ElementWiseOperation::kSUM, at + "gates");
        } else {
            gates = sum(gates, stateBias_, at + "gates");
        }
        auto* const in = gate(*gates, 0, nvinfer1::ActivationType::kSIGMOID, at + "i");
        auto* const candidate = gate(*gates, 2, nvinfer1::ActivationType::kTANH, at + "g");
        auto* const out = gate(*gates, 3, nvinfer1::ActivationType::kSIGMOID, at + "o");
        auto* const entered = combine(*in, *candidate, nvinfer1::ElementWiseOperation::kPROD, at + "entered");
        if (cell_ != nullptr) {
            auto* const forget = gate(*gates, 1, nvinfer1::ActivationType::kSIGMOID, at + "f");
            auto* const kept = combine(*forget, *cell_, nvinfer1::ElementWiseOperation::kPROD, at + "kept");
            cell_ = combine(*kept, *entered, nvinfer1::ElementWiseOperation::kSUM, at + "cell");
        } else {
            cell_ = entered;
        }
        auto* const squashed = activation(*cell_, nvinfer1::ActivationType::kTANH, at + "tanh");
        state_ = combine(*out, *squashed, nvinfer1::ElementWiseOperation::kPROD, at + "hidden");
        return state_;
    }

    nvinfer1::ITensor* gate(nvinfer1::ITensor& gates, std::int64_t number, nvinfer1::ActivationType type, const std::string& part) {
        return activation(*slice(gates, {0, 0, number * hidden_}, hidden_, part + "/slice"), type, part);
    }

    nvinfer1::ITensor* slice(nvinfer1::ITensor& input, const Shape& start, std::int64_t width, const std::string& part) {
        auto* const layer = network_.addSlice(input, toDims(start), toDims({1, batch_, width}), toDims({1, 1, 1}));
        return added(network_, layer, layer_ + "/" + part)->getOutput(0);
    }

    nvinfer1::ITensor* activation(nvinfer1::ITensor& input, nvinfer1::ActivationType type, const std::string& part) {
        return added(network_, network_.addActivation(input, type), layer_ + "/" + part)->getOutput(0);
    }

    nvinfer1::ITensor* combine(nvinfer1::ITensor& a, nvinfer1::ITensor& b, nvinfer1::ElementWiseOperation how, const std::string& part) {
        return added(network_, network_.addElementWise(a, b, how), layer_ + "/" + part)->getOutput(0);
    }

    nvinfer1::ITensor* multiply(nvinfer1::ITensor& input, nvinfer1::ITensor& weight, const std::string& part) {
        auto* const layer =
            network_.addMatrixMultiply(input, nvinfer1::MatrixOperation::kNONE, weight, nvinfer1::MatrixOperation::kTRANSPOSE);
        return added(network_, layer, layer_ + "/" + part)->getOutput(0);
    }

    nvinfer1::ITensor* sum(nvinfer1::ITensor* tensor, nvinfer1::ITensor* bias, const std::string& part) {
        return bias == nullptr ? tensor : combine(*tensor, *bias, nvinfer1::ElementWiseOperation::kSUM, part);
    }

    nvinfer1::INetworkDefinition& network_;
    std::string layer_;
    std::int64_t steps_, batch_, hidden_;
    nvinfer1::ITensor* inputWeight_ = nullptr;
    nvinfer1::ITensor* stateWeight_ = nullptr;
    nvinfer1::ITensor* inputBias_ = nullptr;
    nvinfer1::ITensor* stateBias_ = nullptr;
    nvinfer1::ITensor* state_ = nullptr;
    nvinfer1::ITensor* cell_ = nullptr;
};

/// The first two axes swapped.
inline nvinfer1::ITensor* swapped(nvinfer1::INetworkDefinition& network, nvinfer1::ITensor& input, const std::string& name) {
    auto* const layer = added(network, network.addShuffle(input), name);
    layer->setFirstTranspose(nvinfer1::Permutation{{1, 0, 2}});
    return layer->getOutput(0);
}

} // namespace detail

/// An LSTM whose states begin as zero, unrolled over its steps: about 15 layers for each. Its input is `(steps, batch, inputs)`, all known.
///
/// Tensors, as PyTorch names and stores them: `NAME.weight_ih_lK` `(4 * hidden, inputs)`, `NAME.weight_hh_lK` `(4 * hidden, hidden)`,
/// `NAME.bias_ih_lK`, `NAME.bias_hh_lK` `(4 * hidden,)`, with `_reverse` behind those of the other direction; rows stand in the order of
/// the gates input, forget, cell, output. Both biases are added, apart, so that each keeps its bits. There are no projections.
inline LstmOutputs addLstm(nvinfer1::INetworkDefinition& network, WeightMap& weights, nvinfer1::ITensor& input, const Name& name,
                           std::int64_t hidden, const Lstm& settings = {}) {
    const auto& layer = name.layer();
    LstmOutputs made{settings.batchIsFirst ? detail::swapped(network, input, layer + "/steps_first") : &input, {}, {}};
    for (std::int64_t number = 0; number < settings.layerCount; ++number) {
        const Shape shape = detail::inputShape(network, *made.output, layer, 3);
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            detail::known(shape, axis, layer);
        }
        std::vector<nvinfer1::ITensor*> directions;
        for (const bool backward : settings.twoWays ? std::vector<bool>{false, true} : std::vector<bool>{false}) {
            const std::string suffix = "l" + std::to_string(number) + (backward ? "_reverse" : "");
            detail::LstmPass pass(network, weights, name, suffix, hidden, settings.hasBias, shape);
            directions.push_back(pass.run(*made.output, backward));
            made.hidden.push_back(pass.hidden());
            made.cell.push_back(pass.cell());
        }
        made.output = directions[0];
        if (directions.size() > 1) {
            auto* const both =
                detail::added(network, network.addConcatenation(directions.data(), 2), layer + "/l" + std::to_string(number));
            both->setAxis(2);
            made.output = both->getOutput(0);
        }
    }
    if (settings.batchIsFirst) {
        made.output = detail::swapped(network, *made.output, layer + "/batch_first");
    }
    return made;
}

} // namespace porter::trt
