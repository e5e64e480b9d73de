"""What people do with `porter tensorrt` and its sources, and what goes wrong then: odd names, odd sizes, odd files, Ctrl-C."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runner import ROOT, Porter, spawn
from onnx import TensorProto, helper

from porter.tensorrt.source.call import Call, Word
from porter.tensorrt.source.structure import structured

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform"
)

PROTOTXT = ROOT / "examples/digits/digits.prototxt"
WEIGHTS = ROOT / "examples/digits/digits.caffemodel"


def write(
    path: str, nodes: list[onnx.NodeProto], given: dict[str, list[int | str]], made: dict[str, list[int | str]], **weights: object
) -> str:
    """An ONNX model of float32."""
    taken, left = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()] for side in (given, made)
    )
    initialisers = [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", taken, left, initialisers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


# ---- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ['a"b', "a'b", "a\nb", "слой é中", "a b", "a\\", "??/*/ // a", "{x0}%s", "class", "network"], ids=lambda name: ascii(name)[1:-1]
)
def test_names(porter_cli: Porter, name: str) -> None:
    """Of layers, tensors and weights; both nodes have the same, which ONNX allows. The program that is written runs as well."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", [f"{name}d", f"{name}.weight"], [f"{name}c"], name=name),
        helper.make_node("Relu", [f"{name}c"], [name], name=name),
    ]
    kernel = random.standard_normal((4, 3, 3, 3))
    write("net.onnx", nodes, {f"{name}d": [1, 3, 8, 8]}, {name: [1, 4, 6, 6]}, **{f"{name}.weight": kernel})
    assert porter_cli("tensorrt", "build", "net.onnx").code == 0
    assert porter_cli("tensorrt", "verify", "net.onnx").code == 0
    assert porter_cli("port", "net.onnx", "--to", "tensorrt-py", "-o", "out").code == 0
    made: dict[str, object] = {"__name__": "net", "__file__": "out/net.py"}
    exec(compile(Path("out/net.py").read_text("utf-8"), "net.py", "exec"), made)
    assert made["program"](["out/net.wts"]) == 0  # type: ignore[operator]


def test_a_wts_fits_the_prototxt_alone(porter_cli: Porter) -> None:
    """Weights that no caffemodel names are called as one would: `prelu2.slope`."""
    assert porter_cli("port", PROTOTXT, WEIGHTS, "--to", "tensorrt-py", "-o", "out").code == 0
    run = porter_cli("tensorrt", "build", PROTOTXT, "--wts", "out/net.wts", "-o", "net.engine", "--json")
    assert run.code == 0
    held = {w["tensor"] for layer in json.loads(Path("net.json").read_text())["layers"] for w in layer["weights"]}
    assert {"conv1.weight", "prelu2.slope", "fc2.bias"} <= held


# ---- sizes -------------------------------------------------------------------------------------------------------------


def test_weights_of_no_values(porter_cli: Porter) -> None:
    nodes = [helper.make_node("Concat", ["d", "w"], ["o"], axis=0, name="join")]
    write("net.onnx", nodes, {"d": [2, 3]}, {"o": [2, 3]}, w=np.zeros((0, 3)))
    run = porter_cli("tensorrt", "build", "net.onnx", "--json")
    assert (run.code, run.json["check"]["equal"]) == (0, True)


def test_shapes_that_cannot_be(porter_cli: Porter) -> None:
    """TensorRT's own reason stands in the error, with no word of kernels that its package lacks."""
    conv = [helper.make_node("Conv", ["d", "w"], ["o"], name="first")]
    write("net.onnx", conv, {"d": [1, 3, "H", "W"]}, {"o": [1, 4, "h", "w"]}, w=np.ones((4, 3, 3, 3)))
    run = porter_cli("tensorrt", "build", "net.onnx", "--profile", "d=1x3x1x1,1x3x1x1,1x3x1x1", "-o", "net.engine")
    assert (run.code, os.listdir()) == (2, ["net.onnx"])
    assert "error[T106]" in run.err
    assert "first" in run.err
    assert "pip install" not in run.err
    run = porter_cli("tensorrt", "build", "net.onnx", "--profile", "d=1x3x8x8,1x3x8x8,1x3x9x9", "-o", "net.engine")
    assert run.code == 0


def test_thousands_of_layers_are_printed() -> None:
    """Blocks are looked for in a bounded number of steps."""
    kinds = [("activation", Word("ActivationType", "RELU")), ("unary", Word("UnaryOperation", "NEG"))]
    calls = [Call(kinds[i % 2][0], (f"t{i}",), (f"t{i + 1}",), {"name": f"n{i}", "kind": kinds[i % 2][1]}) for i in range(2500)]
    start = time.process_time()
    program = structured(calls, ["t2500"])
    assert time.process_time() - start < 20
    assert program.blocks
    assert len(program.body) < 1000


@pytest.mark.parametrize("target", ["tensorrt-cpp", "tensorrt-py"])
def test_functions_of_layers_without_weights_take_none(porter_cli: Porter, target: str) -> None:
    """ShuffleNet's channel shuffle; an argument that nothing reads would be warned of."""
    nodes, value = [], "d"
    shapes = {"five": [1, 2, 3, 4, 4], "four": [1, 6, 4, 4]}
    for i, between in enumerate(["Relu", "Tanh", "Abs", "Neg", "Abs", "Relu", "Neg", "Tanh", "Relu", "Relu", "Abs", "Abs"]):
        nodes += [
            helper.make_node("Reshape", [value, "five"], [f"{i}split"], name=f"split{i}"),
            helper.make_node("Transpose", [f"{i}split"], [f"{i}turned"], perm=[0, 2, 1, 3, 4], name=f"turn{i}"),
            helper.make_node("Reshape", [f"{i}turned", "four"], [f"{i}joined"], name=f"join{i}"),
            helper.make_node(between, [f"{i}joined"], [f"{i}out"], name=f"between{i}"),
        ]
        value = f"{i}out"
    write("net.onnx", nodes, {"d": [1, 6, 4, 4]}, {value: [1, 6, 4, 4]})
    model = onnx.load("net.onnx")
    model.graph.initializer.extend([onnx.numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items()])
    onnx.save(model, "net.onnx")
    assert porter_cli("port", "net.onnx", "--to", target, "-o", "out").code == 0
    source = Path("out/net.cpp" if target == "tensorrt-cpp" else "out/net.py").read_text()
    head = "ITensor* reshapeTranspose(INetworkDefinition& network, " if target == "tensorrt-cpp" else "def reshape_transpose("
    after = source[source.index(head) + len(head) :]
    assert "eights" not in after[: after.index(")")]


@pytest.mark.parametrize("tolerance", ["nan", "inf", "-1"])
def test_tolerances_that_say_nothing(porter_cli: Porter, tolerance: str) -> None:
    assert porter_cli("tensorrt", "verify", PROTOTXT, WEIGHTS, "--tolerance", tolerance).code == 2


# ---- a network built by hand -------------------------------------------------------------------------------------------

BY_HAND = """
import tensorrt_rtx as trt

print("what a file prints")

def build(network, weights):
    print("what a function prints")
    x = network.add_input("d", trt.float32, (1, 3, 8, 8))
    conv = network.add_convolution_nd(x, 4, (3, 3), weights["conv.weight"], {bias})
    conv.name = "conv"
    conv.get_output(0).name = "o"
    network.mark_output(conv.get_output(0))
"""


@pytest.mark.parametrize(("bias", "code"), [('weights["conv.bias"]', 0), ("trt.Weights()", 1)], ids=["right", "no bias"])
def test_files_that_print_and_weights_that_are_forgotten(porter_cli: Porter, bias: str, code: int) -> None:
    random = np.random.default_rng(2)
    weights = {"conv.weight": random.standard_normal((4, 3, 3, 3)), "conv.bias": random.standard_normal(4)}
    conv = [helper.make_node("Conv", ["d", *weights], ["o"], name="conv")]
    write("net.onnx", conv, {"d": [1, 3, 8, 8]}, {"o": [1, 4, 6, 6]}, **weights)
    Path("my_net.py").write_text(BY_HAND.format(bias=bias))
    run = porter_cli("tensorrt", "verify", "net.onnx", "--network", "my_net.py:build", "--json")
    assert (run.code, run.json["same"]) == (code, code == 0)
    assert "what a file prints\nwhat a function prints\n" in run.err
    run = porter_cli("tensorrt", "verify", "net.onnx", "--network", "my_net.py:build", terminal=True)
    assert max(map(len, run.out.splitlines())) <= 80
    said = "bias of 'conv': there is none, and porter's layer of that name has 4 values"
    assert (said in " ".join(run.out.split())) == bool(code)
    assert porter_cli("tensorrt", "verify", "net.onnx", "--network", "my_net.py").err.splitlines()[1].endswith("my_net.py")


# ---- the program that is written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", ["[]", '{"layers": [1]}', "{}", "nothing"])
def test_a_manifest_that_is_none_exits_with_2(porter_cli: Porter, capsys: pytest.CaptureFixture[str], document: str) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "--to", "tensorrt-py", "-o", "out").code == 0
    Path("other.json").write_text(document)
    made: dict[str, object] = {"__name__": "net", "__file__": "out/net.py"}
    exec(compile(Path("out/net.py").read_text(), "net.py", "exec"), made)
    assert made["program"](["out/net.wts", "--manifest", "other.json"]) == 2  # type: ignore[operator]
    assert capsys.readouterr().err.startswith("error: ")


# ---- processes ---------------------------------------------------------------------------------------------------------


def test_what_does_not_need_tensorrt_does_not_load_it(tmp_path: Path) -> None:
    code = (
        "import sys; from porter.cli.main import main; "
        f"assert main(['inspect', {str(WEIGHTS)!r}]) == 0; "
        "sys.exit(any(m.partition('.')[0] in ('tensorrt', 'tensorrt_rtx', 'torch', 'onnxruntime') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_interrupting_leaves_both_files_or_none(tmp_path: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "porter", "tensorrt", "build", str(PROTOTXT), str(WEIGHTS), "-o", "net.engine"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    # -2: Python itself was still starting.
    assert process.returncode in (0, 130, -2)
    assert sorted(os.listdir(tmp_path)) in ([], ["net.engine", "net.json"])


def test_pipes_get_no_colour(tmp_path: Path) -> None:
    run = spawn("tensorrt", "verify", PROTOTXT, WEIGHTS, cwd=tmp_path, env={"TERM": "xterm-256color"})
    assert run.returncode == 0
    assert b"\x1b" not in run.stdout + run.stderr
