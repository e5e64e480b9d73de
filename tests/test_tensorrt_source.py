"""Networks as C++ and Python that people could have written. What is compiled is in test_tensorrt_source_compiled.py."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorrt_sources as sources
from tensorrt_nets import EXAMPLES, constant, network, plain, weights
from tensorrt_sources import FED, HALF, HOSTILE, PRINTED, Builder
from torch_runs import ruff

from porter.dataclass import replace
from porter.errors import TensorRTError
from porter.tensorrt import layers as l
from porter.tensorrt import package
from porter.tensorrt.layers import Network
from porter.tensorrt.live import live
from porter.tensorrt.source.calls import calls_of
from porter.tensorrt.source.layout import double_literal, float_literal, integer_literal, statement, text_literal
from porter.tensorrt.source.naming import Identifiers, camel
from porter.tensorrt.source.output import cpp_files, python_files, weights_of
from porter.tensorrt.source.structure import structured
from porter.tensorrt.source.texts import Pieces, parametrised, stem
from porter.tensorrt.walk import walk

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform"
)


def cpp(made: Network) -> str:
    return cpp_files(made, "a network")["net.cpp"]


def python(made: Network) -> str:
    return python_files(made, "a network")["net.py"]


def by_name(made: Network) -> Any:
    """The layers of a network in any order, without what only records say."""
    inputs, layers, outputs = plain(made)
    return inputs, {name: (kind, {**said, "batch_norm": None}, ins, outs) for name, kind, said, ins, outs in layers}, outputs


def part(text: str, begin: str) -> str:
    """From the line that begins so to the end of its function."""
    lines = text[text.index(begin) :].splitlines()
    last = next(i for i, line in enumerate(lines) if (i and line and not line.startswith((" ", ")", "}"))) or line == "}")
    return "\n".join(lines[: last + (lines[last] == "}")]).rstrip() + "\n"


# ---- every layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRINTED)
def test_the_source_builds_the_network(name: str) -> None:
    example = sources.known(EXAMPLES[name])
    assert plain(sources.built(example)) == plain(example)
    assert "int main(" in cpp(example)


@pytest.mark.parametrize("name", HALF)
def test_weights_that_text_does_not_hold_are_refused(name: str) -> None:
    with pytest.raises(TensorRTError, match=r"holds b?float16 weights, and a .wts file of such a program holds float32") as caught:
        python(EXAMPLES[name])
    assert caught.value.code == "T401"


def test_integers_stand_in_the_source_unless_they_are_many() -> None:
    few = sources.known(network(l.Gather("DEFAULT", 1), {"x": (2, 6)}, constants=[constant("i", [5, 0], "int64")]))
    assert 'addNumbers<std::int64_t>(network, weights, "i", DataType::kINT64, {2}, {5, 0})' in cpp(few)
    assert 'numbers(network, "i", [5, 0], (2,), np.int64)' in python(few)
    assert list(weights_of(few)) == []
    many = replace(few, layers=(constant("i", [0] * 5000, "int64"), few.layers[1]))
    with pytest.raises(TensorRTError, match="'i' holds 5,000 int64 values") as caught:
        cpp(many)
    assert caught.value.code == "T401"


@pytest.mark.parametrize("name", FED)
def test_kernels_that_other_layers_make_are_refused(name: str) -> None:
    with pytest.raises(TensorRTError, match="'layer' takes its kernel from another layer") as caught:
        cpp(EXAMPLES[name])
    assert caught.value.code == "T402"


def test_layers_that_are_not_known_are_refused() -> None:
    with pytest.raises(TensorRTError, match="'layer' is none that porter can write: PLUGIN_V3") as caught:
        cpp(network(l.Unknown("PLUGIN_V3"), {"x": (1, 2)}))
    assert caught.value.code == "T402"


def test_sources_are_as_ruff_wants_them(tmp_path: Path) -> None:
    for number, name in enumerate(PRINTED):
        (tmp_path / f"net{number}.py").write_text(python(sources.known(EXAMPLES[name])))
    for made in (sources.lenet, sources.mtcnn, sources.residual, sources.hostile):
        (tmp_path / f"{made.__name__}.py").write_text(python(made()))
    assert ruff(tmp_path) == ""


# ---- as people write it ----------------------------------------------------------------------------------------------


def test_lenet_in_cpp() -> None:
    assert part(cpp(sources.lenet()), "void net::build") == (
        """\
void net::build(INetworkDefinition& network, WeightMap& weights) {
    auto* const data = addCast(network, *addInput(network, "data", DataType::kFLOAT, {1, 1, 28, 28}), "data/cast", weights.type());

    // 1 x 4 x 28 x 28
    auto* const conv1 = addConvolution(network, weights, *data, "conv1", 4, {5, 5}, Conv().padding({2, 2}))->getOutput(0);

    // 1 x 4 x 14 x 14
    auto* const pool1 = addPooling(network, *conv1, "pool1", PoolingType::kMAX, {2, 2}, Pool().stride({2, 2}))->getOutput(0);
    auto* const conv2 = addConvolution(network, weights, *pool1, "conv2", 8, {5, 5}, Conv().padding({2, 2}))->getOutput(0);

    // 1 x 8 x 7 x 7
    auto* const pool2 = addPooling(network, *conv2, "pool2", PoolingType::kMAX, {2, 2}, Pool().stride({2, 2}))->getOutput(0);

    // 1 x 392
    auto* const flatten = addFlatten(network, *pool2, "flatten")->getOutput(0);
    auto* const ip1 = addLinear(network, weights, *flatten, "ip1", 16)->getOutput(0);
    auto* const relu1 = named(network.addActivation(*ip1, ActivationType::kRELU), "relu1")->getOutput(0);
    auto* const ip2 = addLinear(network, weights, *relu1, "ip2", 10)->getOutput(0);
    auto* const prob = addSoftMax(network, *ip2, "prob", 1)->getOutput(0);

    markOutput(network, *addCast(network, *prob, "prob/cast", DataType::kFLOAT), "prob");
}
"""
    )


def test_lenet_in_python() -> None:
    assert part(python(sources.lenet()), "def build") == (
        '''\
def build(network, weights):
    """Add the layers of the network to an empty one.

    Inputs: data (float32, 1 x 1 x 28 x 28)
    Outputs: prob (float32, 1 x 10)
    """
    data = network.add_input("data", trt.DataType.FLOAT, (1, 1, 28, 28))

    # 1 x 4 x 28 x 28
    conv1 = convolution(network, weights, data, "conv1", 4, (5, 5), padding=(2, 2))

    # 1 x 4 x 14 x 14
    pool1 = pooling(network, conv1, "pool1", trt.PoolingType.MAX, (2, 2), stride=(2, 2))
    conv2 = convolution(network, weights, pool1, "conv2", 8, (5, 5), padding=(2, 2))

    # 1 x 8 x 7 x 7
    pool2 = pooling(network, conv2, "pool2", trt.PoolingType.MAX, (2, 2), stride=(2, 2))

    # 1 x 392
    flatten = reshape(network, pool2, "flatten", (0, -1))
    ip1 = linear(network, weights, flatten, "ip1", 16)
    relu1 = named(network.add_activation(ip1, trt.ActivationType.RELU), "relu1")
    ip2 = linear(network, weights, relu1, "ip2", 10)
    prob = softmax(network, ip2, "prob", 1)

    prob.name = "prob"
    network.mark_output(prob)
'''
    )


def test_mtcnn_in_cpp() -> None:
    text = part(cpp(sources.mtcnn()), "void net::build")
    assert 'auto* const PReLU1 = addPRelu(network, weights, *conv1, Name("PReLU1").from({"PReLU1.slope"}))->getOutput(0);' in text
    assert 'auto* const conv4_1 = addConvolution(network, weights, *PReLU2, "conv4-1", 2, {1, 1})->getOutput(0);' in text
    assert text.endswith(
        """\
    markOutput(network, *addCast(network, *prob1, "prob1/cast", DataType::kFLOAT), "prob1");
    markOutput(network, *addCast(network, *conv4_2, "conv4-2/cast", DataType::kFLOAT), "conv4-2");
}
"""
    )


def test_residual_blocks_in_cpp() -> None:
    text = cpp(sources.residual())
    assert part(text, "ITensor* bottleneck(") == (
        """\
ITensor* bottleneck(INetworkDefinition& network, WeightMap& weights, ITensor& x, const std::string& name, std::int64_t outputsBranch2a,
    std::int64_t outputsBranch2c) {
    auto* const res_branch2a = addConvolution(network, weights, x, "res" + name + "_branch2a", outputsBranch2a, {1, 1},
        Conv().noBias())->getOutput(0);
    auto* const bn_branch2a = addBatchNorm2d(network, weights, *res_branch2a, "bn" + name + "_branch2a", 1e-5)->getOutput(0);
    auto* const res_branch2a_relu = named(network.addActivation(*bn_branch2a, ActivationType::kRELU),
        "res" + name + "_branch2a_relu")->getOutput(0);
    auto* const res_branch2b = addConvolution(network, weights, *res_branch2a_relu, "res" + name + "_branch2b", outputsBranch2a, {3, 3},
        Conv().padding({1, 1}).noBias())->getOutput(0);
    auto* const bn_branch2b = addBatchNorm2d(network, weights, *res_branch2b, "bn" + name + "_branch2b", 1e-5)->getOutput(0);
    auto* const res_branch2b_relu = named(network.addActivation(*bn_branch2b, ActivationType::kRELU),
        "res" + name + "_branch2b_relu")->getOutput(0);
    auto* const res_branch2c = addConvolution(network, weights, *res_branch2b_relu, "res" + name + "_branch2c", outputsBranch2c, {1, 1},
        Conv().noBias())->getOutput(0);
    auto* const bn_branch2c = addBatchNorm2d(network, weights, *res_branch2c, "bn" + name + "_branch2c", 1e-5)->getOutput(0);
    auto* const res = named(network.addElementWise(x, *bn_branch2c, ElementWiseOperation::kSUM), "res" + name)->getOutput(0);
    return named(network.addActivation(*res, ActivationType::kRELU), "res" + name + "_relu")->getOutput(0);
}
"""
    )
    assert part(text, "void net::build").partition("conv1_relu = ")[2].partition("\n")[2] == (
        """\
    auto* const res2a_relu = bottleneckProjected(network, weights, *conv1_relu, "2a", 16, {1, 1}, 8);
    auto* const res2b_relu = bottleneck(network, weights, *res2a_relu, "2b", 8, 16);
    auto* const res2c_relu = bottleneck(network, weights, *res2b_relu, "2c", 8, 16);

    // 2 x 24 x 16 x 16
    auto* const res3a_relu = bottleneckProjected(network, weights, *res2c_relu, "3a", 24, {2, 2}, 12);
    auto* const res3b_relu = bottleneck(network, weights, *res3a_relu, "3b", 12, 24);

    // 2 x 32 x 8 x 8
    auto* const res4a_relu = bottleneckProjected(network, weights, *res3b_relu, "4a", 32, {2, 2}, 16);
    auto* const res4b_relu = bottleneck(network, weights, *res4a_relu, "4b", 16, 32);

    markOutput(network, *addCast(network, *res4b_relu, "res4b_relu/cast", DataType::kFLOAT), "res4b_relu");
}
"""
    )


def test_residual_blocks_in_python() -> None:
    made = sources.residual()
    assert by_name(sources.built(made)) == by_name(made)
    text = python(made)
    assert '    res2b_relu = bottleneck(network, weights, res2a_relu, "2b", 8, 16)\n' in text
    assert part(text, "def bottleneck(").startswith("def bottleneck(network, weights, x, name, outputs_branch2a, outputs_branch2c):\n")
    assert 'f"res{name}_branch2b"' in text


def test_pairs_of_a_depthwise_and_a_pointwise_convolution() -> None:
    b = Builder(1, 8, 16, 16)
    x = b.relu(b.batch_norm(b.conv("data", "conv1", 8, 8, bias=False), "conv1/bn", 8), "relu1")
    for number in range(2, 11):
        for name, size, groups in ((f"{number}/dw", 3, 8), (f"{number}/sep", 1, 1)):
            x = b.conv(x, f"conv{name}", 8, 8, size, groups=groups, bias=False)
            x = b.relu(b.batch_norm(x, f"conv{name}/bn", 8), f"relu{name}")
    text = cpp(b.network(x))
    assert text.count("ITensor* depthwiseSeparable(") == 1
    assert re.findall(r"depthwiseSeparable\(network, weights, \*\w+, (.*)\);", text) == [f'"{n}"' for n in range(2, 11)]


def test_modules_with_branches() -> None:
    b = Builder(1, 4, 8, 8)
    x = "data"
    for number in range(2, 6):
        name = f"fire{number}"
        squeeze = b.relu(b.conv(x, f"{name}/squeeze1x1", 4 if number == 2 else 8, number, 1), f"{name}/relu_squeeze1x1")
        ends = [b.relu(b.conv(squeeze, f"{name}/expand{k}x{k}", number, 4, k), f"{name}/relu_expand{k}x{k}") for k in (1, 3)]
        x = b.add(f"{name}/concat", l.Concatenation(1), *ends)
    made = b.network(x)
    assert re.findall(r"fire\(network, weights, \*\w+, (.*)\);", cpp(made)) == [f'"fire{n}", {n}' for n in range(2, 6)]
    assert plain(sources.built(made)) == plain(made)


def test_names_of_other_exporters() -> None:
    """PyTorch's: tensors have a suffix, weights a prefix that is not the layer's name."""
    b = Builder(1, 8, 8, 8)
    x = "data"
    for stage in (1, 2, 3):
        for number in (0, 1):
            for conv in (1, 2):
                name = f"layer{stage}.{number}.conv{conv}"
                layer = f"/layer{stage}/layer{stage}.{number}/conv{conv}/Conv"
                kernel = l.Convolution(weights(f"{name}.weight", 8, 8, 1, 1), None, (1, 1), (1, 1), (0, 0), (0, 0))
                x = b.add(layer, kernel, x, output=f"{layer}_output_0")
                relu = f"/layer{stage}/layer{stage}.{number}/relu{conv}/Relu"
                x = b.add(relu, l.Activation("RELU"), x, output=f"{relu}_output_0")
    made = b.network(x)
    assert plain(sources.built(made)) == plain(made)
    assert 'layer.get_output(0).name = f"{name}_output_0"' in python(made)
    assert sources.built(made).layers[0].outputs == made.layers[0].outputs
    assert '{name + "/conv1/Conv", prefix + ".conv1"}' in cpp(made)
    assert "auto* const layer2_layer2_0_relu2_Relu = convRelu(network, weights, *layer1_layer1_1_relu2_Relu, " in cpp(made)


def test_tensors_are_called_as_in_the_graph_where_they_differ_from_their_layers() -> None:
    b = Builder(1, 3, 8, 8)
    x = b.add("bn", b_norm(b), b.conv("data", "conv", 3, 4), output="scaled")
    made = b.network(b.relu(x, "relu"))
    assert 'scaled.name = "scaled"\n' in python(made)
    assert [layer.outputs for layer in sources.built(made).layers] == [("conv",), ("scaled",), ("relu",)]


def b_norm(b: Builder) -> l.Operation:
    b.batch_norm("data", "bn", 4)
    return b.layers.pop().operation


def test_a_layer_after_which_another_tensor_is_called_names_none() -> None:
    b = Builder(1, 3, 8, 8)
    x = b.add("a", l.Activation("RELU"), "data", output="b")
    x = b.relu(b.add("b", l.Activation("TANH"), x, output="a"), "d")
    made = b.network(b.add("c", l.Softmax(1), x))
    assert 'OTHERS = ["a", "b"]' in python(made)
    assert [layer.outputs for layer in sources.built(made).layers] == [("b",), ("a",), ("d",), ("c",)]


def test_numbers_of_an_activation_that_are_zero_are_said() -> None:
    b = Builder(1, 3, 8, 8)
    made = b.network(b.add("clip", l.Activation("CLIP"), "data"))
    assert 'addActivation(network, *data, "clip", ActivationType::kCLIP, 0.0F, 0.0F)' in cpp(made)
    assert plain(sources.built(made)) == plain(made)


# ---- what repeats ----------------------------------------------------------------------------------------------------


def chain(names: list[str], *extra: str) -> Network:
    """Convolutions with activations, and tensors that are outputs as well."""
    b = Builder(1, 4, 8, 8)
    x = "data"
    for name in names:
        x = b.relu(b.batch_norm(b.conv(x, f"conv{name}", 4, 4, bias=False), f"bn{name}", 4), f"relu{name}")
    return b.network(*extra, x)


def blocks(made: Network) -> list[tuple[str, int, int]]:
    """Name, length and number of uses of each block."""
    program = structured(calls_of(made).calls, made.outputs)
    return [(b.name, len(b.body), sum(c.function == b.name for c in program.body)) for b in program.blocks]


def test_blocks() -> None:
    assert blocks(chain([str(n) for n in range(8)])) == [("conv_bn_relu", 3, 8)]


def test_a_tensor_that_is_needed_outside_stays_outside() -> None:
    assert blocks(chain([str(n) for n in range(8)], "bn3")) == [("conv_bn_relu", 3, 7)]


def test_few_layers_are_no_block() -> None:
    assert blocks(chain(["1", "2"])) == []


def test_an_activation_stays_with_its_convolution() -> None:
    """The same run begins at each layer of the chain; only one beginning is sensible."""
    program = structured(calls_of(chain([str(n) for n in range(9)])).calls, ())
    assert program.blocks[0].body[0].function == "convolution"


def test_names_without_any_order_make_no_parameters() -> None:
    """A block needs few names; those of these layers have nothing in common."""
    b, x = Builder(1, 4, 8, 8), "data"
    for word in ("ab cd ef gh ij kl", "mn op qr st uv wx", "yz ba dc fe hg ji"):
        for name in word.split():
            x = b.conv(x, name, 4, 4, 1)
    assert blocks(b.network(x)) in ([], [("conv", 1, 18)])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["res2a_branch1", "bn2a_branch1", "res2a"], "2a"),
        (["inception_3a/1x1", "inception_3a/relu_1x1"], "inception_3a/relu_1x1"[:12]),
        (["conv1", "pool2"], ""),
        (["conv1"], "conv1"),
        ([], ""),
    ],
)
def test_stem(texts: list[str], expected: str) -> None:
    assert stem(texts) in (expected, "o", "1x1")


def test_names_become_one_parameter() -> None:
    assert parametrised([("res2a", "res3b"), ("bn2a_x", "bn3b_x"), ("fixed", "fixed")]) == (
        [Pieces(0, "res", ""), Pieces(0, "bn", "_x"), "fixed"],
        [("2a", "3b")],
    )


def test_numbers_in_names_are_not_cut() -> None:
    assert parametrised([("conv10", "conv11", "conv12")]) == ([Pieces(0, "", "")], [("conv10", "conv11", "conv12")])


# ---- names are data --------------------------------------------------------------------------------------------------


def test_hostile_names() -> None:
    made = sources.hostile()
    found = sources.built(made)
    assert plain(found) == plain(made)
    assert found.inputs[0].name == HOSTILE
    text = cpp(made)
    assert text.isascii()
    assert "??" not in text
    assert all(line.count('"') - line.count('\\"') in (0, 2, 4, 6, 8) for line in text.splitlines())


@pytest.mark.parametrize(
    "name", ["class", "auto", "def", "network", "softmax", "named", "int", "std", "lambda", "O", "2x", "é", "/", "EOF"]
)
def test_names_that_mean_something_else(name: str) -> None:
    b = Builder(1, 3, 4, 4)
    made = b.network(b.add("prob", l.Softmax(1), b.relu(b.conv("data", name, 3, 3, 1), "relu")))
    assert plain(sources.built(made)) == plain(made)
    taken = Identifiers(fallback="t").take(name)
    assert taken.isidentifier()
    assert taken.isascii()
    assert taken not in ("class", "auto", "def", "network", "softmax", "named", "int", "std", "lambda", "O", "EOF")


def test_identifiers_stay_apart() -> None:
    names = Identifiers()
    found = [names.take(n) for n in ("a_1", "a1", "A1", "a/1", "class", "class_", "for", "x" * 99, "x" * 98)]
    assert len({camel(n).lower() for n in found}) == len(found)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("a", '"a"'),
        ('"', r'"\""'),
        ("\\", r'"\\"'),
        ("\n\t\r", r'"\n\t\r"'),
        ("??/", r'"?\?/"'),
        ("???", r'"?\??"'),
        ("é1", r'"\303\2511"'),
        ("\0001", r'"\0001"'),
        ("\udcff", r'"\377"'),
    ],
)
def test_cpp_strings(text: str, literal: str) -> None:
    assert text_literal(text) == literal


def test_cpp_numbers() -> None:
    assert [float_literal(v) for v in (1.0, 0.1, 1e-5, -0.0, 3e38)] == ["1.0F", "0.1F", "1e-5F", "-0.0F", "3e38F"]
    assert float_literal(float("-inf")) == "-std::numeric_limits<float>::infinity()"
    assert float_literal(float("nan")) == "std::numeric_limits<float>::quiet_NaN()"
    assert double_literal(1e-5) == "1e-5"
    assert double_literal(9.999999747378752e-06) == "1e-5F"
    assert integer_literal(-(1 << 63)) == "std::numeric_limits<std::int64_t>::min()"


def test_cpp_lines_are_broken_at_arguments_alone() -> None:
    text = f'f("{"a, " * 40}", {{1, 2, 3}}, {"b" * 60});'
    lines = statement(text, 1)
    assert " ".join(line.strip() for line in lines) == text
    assert len(lines) == 2


# ---- the program -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write(sources.residual((2, 1)), tmp_path_factory.mktemp("net"))


def run(folder: Path, *words: str) -> int:
    made = sources.module((folder / "net.py").read_text(), folder / "net.py")
    code: int = made.program([str(folder / "net.wts"), *words])
    return code


def test_the_program_finds_all_weights_equal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "-v", "-o", str(folder / "net.engine")) == 0
    out = capsys.readouterr().out
    assert "conv1  kernel  equal\n" in out
    assert "bn2a_branch1  shift, scale  equal\n" in out
    assert out.endswith(" layers: equal, bit for bit\n")
    assert (folder / "net.engine").stat().st_size > 1000


def test_a_value_that_was_changed_is_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "net.wts").read_text()
    place = text.index("bn2a_branch2b.running_var ") + len("bn2a_branch2b.running_var 8 ")
    digit = "0" if text[place + 7] != "0" else "1"
    (tmp_path / "net.wts").write_text(text[: place + 7] + digit + text[place + 8 :])
    for name in ("net.py", "net.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert run(tmp_path) == 1
    out = capsys.readouterr().out
    assert re.search(r"bn2a_branch2b: s\w+ is not what it should be\n", out)
    assert "NOT equal" in out


def spoiled(folder: Path, tmp_path: Path, change: Any) -> Path:
    for name in ("net.py", "net.json", "net.wts"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "net.wts").write_text(change((folder / "net.wts").read_text()))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t[: len(t) // 2], "line "),
        (lambda t: t.replace("conv1.weight ", "conv1.wait ", 1), "'conv1' needs ['conv1.weight']"),
        (lambda t: t.replace("\n", "\nx 1 3f800000\n", 1), "tensors are stated"),
        (lambda t: t.replace("conv1.weight 216", "conv1.weight 215", 1), "line 2, 'conv1.weight'"),
        (lambda t: "no number\n" + t, "invalid literal"),
    ],
    ids=["cut", "missing", "one more", "count", "no count"],
)
def test_a_file_that_is_broken_exits_with_2(
    folder: Path, tmp_path: Path, change: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(spoiled(folder, tmp_path, change)) == 2
    assert said in capsys.readouterr().err


def test_a_manifest_of_another_network_is_not_equal(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads((folder / "net.json").read_text())
    made["layers"].append({"name": "more", "type": "Activation", "weights": []})
    (tmp_path / "other.json").write_text(json.dumps(made))
    assert run(folder, "--manifest", str(tmp_path / "other.json")) == 1
    assert "more: there is no such layer" in capsys.readouterr().out
    assert run(folder, "--manifest", str(tmp_path / "nothing.json")) == 2


# ---- porter port -----------------------------------------------------------------------------------------------------


def test_port(porter_cli: Any, tmp_path: Path) -> None:
    text = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
    layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
    layer { name: "ip1" type: "InnerProduct" bottom: "conv1" top: "ip1" inner_product_param { num_output: 5 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    made = porter_cli("port", str(tmp_path / "net.prototxt"), "-o", str(tmp_path / "py"), "--to", "tensorrt-py,onnx")
    assert made.code == 0, made.err
    names = {p.name for p in (tmp_path / "py").iterdir()}
    assert names == {"net.py", "net.wts", "net.wts.json", "net.json", "model.onnx", "layers.json", "report.json"}
    assert run(tmp_path / "py") == 0
    made = porter_cli("port", str(tmp_path / "net.prototxt"), "-o", str(tmp_path / "cpp"), "--to", "tensorrt-cpp")
    assert made.code == 0, made.err
    assert {"net.cpp", "net.hpp", "CMakeLists.txt", "net.wts", "net.wts.json", "net.json"} < {p.name for p in (tmp_path / "cpp").iterdir()}
    made = porter_cli("port", str(tmp_path / "net.prototxt"), "-o", str(tmp_path / "both"), "--to", "tensorrt-cpp,tensorrt-py")
    assert made.code == 2
    assert "the same files" in made.err


def test_what_tensorrt_lacks_is_refused(porter_cli: Any, tmp_path: Path) -> None:
    text = """
    input: "data" input_shape { dim: 1 dim: 4 dim: 8 dim: 8 }
    input: "rois" input_shape { dim: 1 dim: 5 }
    layer { name: "roi_pool" type: "ROIPooling" bottom: "data" bottom: "rois" top: "y" roi_pooling_param { pooled_w: 2 pooled_h: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    made = porter_cli("port", str(tmp_path / "net.prototxt"), "-o", str(tmp_path / "out"), "--to", "tensorrt-cpp")
    assert made.code != 0
    assert "T001" in made.err
    assert "roi_pool" in made.err
    assert not (tmp_path / "out").exists()


def test_recorded_networks(shared: Path) -> None:
    """Their sources build what was lowered."""
    import caffe_runs

    from porter.tensorrt.lowering.lower import lower

    for name in (
        "mtcnn_det1",
        "mtcnn_det3",
        "lenet_v2",
        "rand_ResNet-50",
        "rand_mobilenet_v1",
        "rand_bvlc_googlenet",
        "rand_MobileNetSSD_voc",
    ):
        made = lower(caffe_runs.imported(shared / "oracle" / name).model)
        found = package.find()
        live_one = live.build(made, found)
        assert by_name(sources.built(made)) == by_name(walk.read(live_one.network, found))
