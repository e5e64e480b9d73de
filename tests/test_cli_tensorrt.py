"""`porter tensorrt`, screen by screen: what it builds, what it says, and that it leaves no half of anything."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runner import ROOT, Porter, validate

import porter
from porter.cli.screen import Screen
from porter.cli.tensorrt_screen import print_built
from porter.dataclass import replace
from porter.graph.porting import PortOptions, open_network
from porter.tensor import Tensor
from porter.tensorrt.building import BuildOptions, Built, build_engine
from porter.tensorrt.checking import net_manifest
from porter.tensorrt.checking.weights import check
from porter.tensorrt.layers import stored
from porter.tensorrt.live.live import build
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.package import find
from porter.tensorrt.substitution import with_values
from porter.tensorrt.walk.walk import read

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform"
)

PROTOTXT = ROOT / "examples/digits/digits.prototxt"
WEIGHTS = ROOT / "examples/digits/digits.caffemodel"
GPU = "note: only a GPU shows how kernels round, which layers are fused, and whether float32 products are shortened to TF32\n"


def test_everything(porter_cli: Porter) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "-o", "net.engine")
    assert (run.code, run.err) == (0, GPU)
    assert sorted(os.listdir()) == ["net.engine", "net.json"]
    lines = [line.split() for line in run.out.splitlines()]
    assert lines[0][0] == "read"
    assert ["input", "data", "float32", "1×1×8×8"] in lines
    assert ["output", "prob", "float32", "1×10"] in lines
    assert ["built", find().name, find().version] in lines
    assert ["LAYER", "TYPE", "WEIGHTS", "BYTES", "COMPARED", "WITH", "VERDICT"] in lines
    assert all(line[-1] == "equal" for line in lines if "Convolution" in line)
    assert "are equal, bit for bit" in run.out
    assert [line[-1] for line in lines if line[0] == "wrote"] == ["net.engine", "net.json"]
    validate(json.loads(Path("net.json").read_text()), "tensorrt_net")
    names = {entry.tensor for entry in net_manifest.read("net.json").weights}
    assert {"conv1.weight", "fc1.weight", "fc2.bias"} <= names


def test_json(porter_cli: Porter) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "--json", "-o", "net.engine")
    assert run.code == 0
    check = run.json["check"]
    assert (check["equal"], check["others"]) == (True, [])
    assert {w["against"] for w in check["weights"]} <= {"file", "formula", "graph"}
    assert [file["path"] for file in run.json["files"]] == ["net.engine", "net.json"]
    assert [os.path.getsize(file["path"]) for file in run.json["files"]] == [file["bytes"] for file in run.json["files"]]
    (first,) = [w for w in check["weights"] if w["tensor"] == "fc1.weight"]
    assert first["comparison"]["a"]["bytes"] == first["bytes"] == porter.open(WEIGHTS)["fc1.weight"].nbytes
    assert "fc1.weight" in run.json["map"]


def test_a_terminal_of_80_columns(porter_cli: Porter) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "-o", "net.engine", terminal=True)
    assert run.code == 0
    assert max(map(len, run.out.splitlines())) <= 80
    assert porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "-o", "net.engine", "--overwrite", "-q").out == ""


def test_without_an_output_nothing_is_written(porter_cli: Porter) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS)
    assert (run.code, os.listdir()) == (0, [])
    assert "wrote" not in run.out


def test_without_a_check(porter_cli: Porter) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "--no-check", "-o", "net.engine", "--json")
    assert (run.code, run.json["check"], run.json["map"]) == (0, None, None)
    assert sorted(os.listdir()) == ["net.engine", "net.json"]


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_half_precision(porter_cli: Porter, dtype: str) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "--dtype", dtype)
    assert run.code == 0
    name = {"f16": "float16", "bf16": "bfloat16"}[dtype]
    assert f"note: the network computes in {name}: " in run.err
    assert "values of its weights were rounded" in run.err


def test_an_open_batch(porter_cli: Porter) -> None:
    arguments = ("tensorrt", "build", PROTOTXT, WEIGHTS, "--dynamic-batch", "-o", "net.engine")
    run = porter_cli(*arguments)
    assert run.code == 2
    assert "error[T105]" in run.err
    assert "--profile data=1x1x8x8,8x1x8x8,32x1x8x8" in run.err
    assert os.listdir() == []
    run = porter_cli(*arguments, "--profile", "data=1x1x8x8,4x1x8x8,9x1x8x8")
    assert run.code == 0
    assert "float32 ?×1×8×8" in run.out


def test_values_of_a_wts(porter_cli: Porter, tmp_path: Path) -> None:
    """The weights' file says what they are called, and the other what they are."""
    assert porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "-o", "net.engine").code == 0
    old = json.loads(Path("net.json").read_text())
    with open_network(str(PROTOTXT), str(WEIGHTS), PortOptions()) as graph:
        porter.save(porter.TensorStore([w.tensor for w in stored(lower(graph.model)).values()]), "model.wts")
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "--wts", "model.wts", "-o", "again.engine")
    assert (run.code, run.err) == (0, GPU)
    new = json.loads(Path("again.json").read_text())
    digests = [[w["sha256"] for layer in made["layers"] for w in layer["weights"]] for made in (old, new)]
    assert digests[0] == digests[1]


def test_a_wts_that_lacks_something(porter_cli: Porter) -> None:
    porter.save(porter.TensorStore([Tensor.from_array("conv1.weight", np.zeros(3, np.float32))]), "model.wts")
    run = porter_cli("tensorrt", "build", PROTOTXT, "--wts", "model.wts")
    assert (run.code, "error[T203]" in run.err, "--> model.wts" in run.err) == (2, True, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "net.json"), "error[U940]"),
        (("--profile", "data=1x1x8x8"), "no NAME=SMALLEST,USUAL,LARGEST"),
        (("--profile", "data=1x1x8x8,2x1x8x8,x"), "no NAME=SMALLEST,USUAL,LARGEST"),
        (("--profile", "datum=1x1x8x8,2x1x8x8,3x1x8x8"), "error[T105]"),
        (("--dtype", "f8"), "error[U901]"),
        (("--input-shape", "data"), "NAME=1x3x224x224"),
    ],
)
def test_options_that_make_no_sense(porter_cli: Porter, arguments: tuple[str, ...], words: str) -> None:
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, *arguments)
    assert run.code == 2
    assert words in run.err
    assert os.listdir() == []


def test_files_that_exist_are_left_alone(porter_cli: Porter) -> None:
    Path("net.json").write_text("mine")
    run = porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "-o", "net.engine")
    assert (run.code, "error[I010]" in run.err) == (2, True)
    assert (os.listdir(), Path("net.json").read_text()) == (["net.json"], "mine")
    assert porter_cli("tensorrt", "build", PROTOTXT, WEIGHTS, "-o", "net.engine", "--overwrite").code == 0
    assert Path("net.json").read_text() != "mine"


def test_an_input_is_not_written_over(porter_cli: Porter) -> None:
    Path("net.engine").write_bytes(WEIGHTS.read_bytes())
    run = porter_cli("tensorrt", "build", PROTOTXT, "net.engine", "-o", "net.engine", "--overwrite")
    assert (run.code, "error[U933]" in run.err) == (2, True)
    assert Path("net.engine").read_bytes() == WEIGHTS.read_bytes()


def test_what_tensorrt_has_no_layer_for(porter_cli: Porter) -> None:
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [2, 3, 3]), ("y", [2])))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Det", ["x"], ["y"], name="volume")], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
    run = porter_cli("tensorrt", "build", "net.onnx", "-o", "net.engine")
    assert (run.code, "error[T001]" in run.err, "Det 'volume'" in run.err, "--> net.onnx" in run.err) == (2, True, True, True)
    assert os.listdir() == ["net.onnx"]


def wrong() -> Built:
    """A network that TensorRT holds with one bit changed."""
    built = build_engine(str(PROTOTXT), str(WEIGHTS), None, BuildOptions())
    with open_network(str(PROTOTXT), str(WEIGHTS), PortOptions()) as graph:
        network = lower(graph.model)
        values = {name: np.array(w.tensor.numpy()) for name, w in stored(network).items()}
        values["fc1.weight"].reshape(-1).view(np.uint32)[3] ^= 1
        other = with_values(network, porter.TensorStore([Tensor.from_array(name, array) for name, array in values.items()]))
        live = build(other, find())
        return replace(built, report=check(network, read(live.network, find(), copy=False), None))


def test_what_differs_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    built = wrong()
    assert built.report is not None
    assert not built.report.equal
    print_built(Screen(), str(PROTOTXT), str(WEIGHTS), built)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("different:")]
    assert "'fc1.weight': 1 of" in line
    assert "by 1 ULP at most; [0, 3] is" in line
    assert out.splitlines()[-1] == "nothing was written"
    assert sum(line.endswith("different") for line in out.splitlines()) == 1


def test_the_group_alone(porter_cli: Porter) -> None:
    run = porter_cli("tensorrt")
    assert (run.code, "build" in run.err) == (2, True)
    assert porter_cli("tensorrt", "biuld").code == 2
