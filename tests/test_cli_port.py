"""`porter port`, screen by screen: what it writes, what it says, and that it leaves no half of anything."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cli_runner import ROOT, Porter, validate

import porter
from porter.graph.caffe.registry import TABLE

PROTOTXT = ROOT / "examples/digits/digits.prototxt"
WEIGHTS = ROOT / "examples/digits/digits.caffemodel"

MEAN = "mean_value: 104 mean_value: 117 mean_value: 123"
TRAIN_VAL = """
name: "small"
layer { name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { crop_size: 4 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 }
  image_data_param { batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
"""


def answer(path: str | Path, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return session.run(None, {given.name: image})[0]


def test_everything(porter_cli: Porter) -> None:
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--to", "onnx,torch,wts")
    assert (run.code, run.err) == (0, "")
    lines = [line.split() for line in run.out.splitlines()]
    assert lines[0][:2] == ["read", "caffe"]
    assert "13,787 parameters" in run.out
    assert ["input", "data", "1×1×8×8"] in lines
    assert ["output", "prob", "1×10"] in lines
    files = ["layers.json", "model.onnx", "model.pmap", "model.pth", "model.py", "model.wts", "model.wts.json", "report.json"]
    assert sorted(os.listdir("out")) == files
    assert [line[-1] for line in lines if line[0] == "wrote"][-1] == "out/report.json"
    validate(json.loads(Path("out/report.json").read_text()), "port_report")
    layers = json.loads(Path("out/layers.json").read_text())
    validate(layers, "port_layers")
    assert [entry["name"] for entry in layers["layers"]][-4:] == ["fc1", "relu3", "fc2", "prob"]
    ast.parse(Path("out/model.py").read_text())
    assert porter.open("out/model.wts")["fc1.weight"].digest() == porter.open(WEIGHTS)["fc1.weight"].digest()


def test_the_map_makes_the_state(porter_cli: Porter) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--to", "torch,wts").code == 0
    assert porter_cli("convert", WEIGHTS, "mapped.pth", "--map", "out/model.pmap").code == 0
    assert porter.diff("mapped.pth", "out/model.pth").equal
    assert porter_cli("diff", "out/model.wts", "mapped.pth").code == 0


def test_names_are_those_of_caffe(porter_cli: Porter) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out").code == 0
    graph = onnx.load("out/model.onnx").graph
    assert [i.name for i in graph.input] == ["data"]
    assert [o.name for o in graph.output] == ["prob"]
    assert {"conv1", "bn1", "scale1", "pool1", "prelu2", "fc1", "prob"} <= {n.name for n in graph.node}
    assert set(porter.open(WEIGHTS)) - {"bn1.scale_factor"} <= {i.name for i in graph.initializer}
    meta = onnx.load("out/model.onnx")
    assert (meta.producer_name, meta.producer_version) == ("porter", porter.__version__)


def test_json(porter_cli: Porter) -> None:
    document = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--json").json
    assert document["folder"] == "out"
    assert document["source"] == {"path": str(PROTOTXT), "kind": "caffe", "weights": str(WEIGHTS), "generated": False}
    assert document["parameters"] == porter.open(WEIGHTS).size == 13787
    assert document["outputs"] == [{"name": "prob", "shape": [1, 10]}]
    assert [(f["name"], f["bytes"]) for f in document["files"]] == [(n, os.path.getsize(f"out/{n}")) for n in ("model.onnx", "layers.json")]
    assert json.loads(Path("out/report.json").read_text()) == {k: v for k, v in document.items() if k != "folder"}


def test_quiet(porter_cli: Porter) -> None:
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "-q")
    assert (run.code, run.out, run.err) == (0, "", "")


def test_generated_weights(porter_cli: Porter) -> None:
    run = porter_cli("port", PROTOTXT, "-o", "a")
    assert run.err == "note: no weights were given: these are made up, and the network computes nothing of use\n"
    porter_cli("port", PROTOTXT, "-o", "b")
    porter_cli("port", PROTOTXT, "-o", "c", "--seed", 1)
    assert Path("a/model.onnx").read_bytes() == Path("b/model.onnx").read_bytes() != Path("c/model.onnx").read_bytes()
    assert porter_cli("port", PROTOTXT, "-o", "d", "--to", "torch,wts").code == 0


def test_fold_bn(porter_cli: Porter) -> None:
    porter_cli("port", PROTOTXT, WEIGHTS, "-o", "plain")
    document = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "folded", "--fold-bn", "--to", "onnx,wts", "--json").json
    assert document["folded"] == [{"into": "conv1", "nodes": ["bn1", "scale1/scaled", "scale1"]}]
    assert document["notices"] == [
        "model.pmap does not make what is no tensor of the file any more, folded or computed: conv1.weight, conv1.bias"
    ]
    assert document["vanished"] == [{"layer": "conv1", "top": "conv1"}, {"layer": "bn1", "top": "bn1"}]
    tops = {entry["name"]: entry["tops"] for entry in json.loads(Path("folded/layers.json").read_text())["layers"]}
    assert (tops["conv1"], tops["bn1"], tops["scale1"]) == ({}, {}, {"bn1": "scale1"})
    image = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)
    assert np.abs(answer("plain/model.onnx", image) - answer("folded/model.onnx", image)).max() < 1e-6
    text = Path("folded/model.pmap").read_text()
    assert "# Not made of the file's tensors alone: conv1.weight" in text
    assert "fc1.weight   <-> keep" in text
    assert "folded  batch norm      3 nodes into 1" in porter_cli("port", PROTOTXT, WEIGHTS, "-o", "again", "--fold-bn").out


def test_dynamic_batch(porter_cli: Porter) -> None:
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--dynamic-batch")
    assert "N×1×8×8" in run.out
    images = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    together = answer("out/model.onnx", images)
    assert together.shape == (3, 10)
    assert np.allclose(together, np.concatenate([answer("out/model.onnx", i[None]) for i in images]), atol=1e-6)


def test_what_is_cut_and_what_is_known(porter_cli: Porter) -> None:
    Path("net.prototxt").write_text(TRAIN_VAL)
    run = porter_cli("port", "net.prototxt", "-o", "out")
    assert run.code == 0
    assert "cut: data (ImageData): its tops are inputs: data, label\n" in run.out
    assert "cut: loss (SoftmaxWithLoss): it computes nothing that the trained network is run for\n" in run.out
    assert "'data' is to be given BGR images, less 104, 117, 123, times 0.5; '--preprocess known' puts that into the graph" in run.err
    (entry,) = onnx.load("out/model.onnx").metadata_props
    assert entry.key == "porter.preprocessing"
    (known,) = json.loads(entry.value)
    assert (known["mean"], known["scale"], known["crop"], known["channels"], known["folded"]) == ([104, 117, 123], 0.5, 4, "BGR", False)


@pytest.mark.parametrize("words", [["--preprocess"], ["--preprocess", "known"], ["--preprocess", "channels=rgb"]])
def test_preprocess(porter_cli: Porter, words: list[str]) -> None:
    Path("net.prototxt").write_text(TRAIN_VAL)
    assert porter_cli("port", "net.prototxt", "-o", "plain").code == 0
    run = porter_cli("port", "net.prototxt", *words[:1], *words[1:], "-o", "out")
    assert run.code == 0, run.err
    assert "folded  preprocessing" in run.out
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4)).astype(np.float32)
    mean = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
    seen = image[:, ::-1] if "channels=rgb" in words else image
    expected = answer("plain/model.onnx", np.ascontiguousarray((seen - mean) * np.float32(0.5)))
    assert np.array_equal(answer("out/model.onnx", image), expected)
    assert [i.name for i in onnx.load("out/model.onnx").graph.input] == ["data"]


def test_preprocess_as_given(porter_cli: Porter) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "plain").code == 0
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--preprocess", "mean=8 scale=0.0625", "--json")
    assert run.json["preprocessing"][0]["folded"] is True
    image = np.random.default_rng(0).integers(0, 17, (1, 1, 8, 8)).astype(np.float32)
    expected = answer("plain/model.onnx", (image - np.float32(8)) * np.float32(0.0625))
    assert np.array_equal(answer("out/model.onnx", image), expected)


def test_preprocess_with_a_mean_image(porter_cli: Porter) -> None:
    Path("net.prototxt").write_text(TRAIN_VAL.replace(MEAN, 'mean_file: "models/mean.binaryproto"'))
    run = porter_cli("port", "net.prototxt", "-o", "out", "--preprocess", "known")
    assert run.code == 2
    assert "error[G045]: the mean image 'models/mean.binaryproto' of the input 'data' is not there" in run.err
    assert not Path("out").exists()
    mean = np.random.default_rng(0).random((3, 6, 6), dtype=np.float32)
    # num, channels, height, width and data of a BlobProto.
    Path("mean.binaryproto").write_bytes(b"\x08\x01\x10\x03\x18\x06\x20\x06" + b"\x2a\xb0\x03" + mean.tobytes())
    assert porter_cli("port", "net.prototxt", "-o", "plain").code == 0
    assert porter_cli("port", "net.prototxt", "-o", "out", "--preprocess", "known").code == 0
    image = np.random.default_rng(1).random((2, 3, 4, 4), dtype=np.float32)
    expected = answer("plain/model.onnx", (image - mean[:, 1:5, 1:5]) * np.float32(0.5))
    assert np.array_equal(answer("out/model.onnx", image), expected)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("known", "G043", "nothing says how the input 'data' is preprocessed"),
        ("mean=1,2", "G044", "the mean has 2 numbers"),
        ("channels=rgb", "G044", "has not three channels"),
        ("input=dat scale=2", "G042", "there is no input 'dat'"),
        ("mean=a", "U932", "'a' is no number for 'mean'"),
        ("mean=nan", "U932", "'nan' is no number"),
        ("channels=hsv", "U932", "'hsv' is no order of channels"),
        ("digits.prototxt", "U932", "has no word 'digits.prototxt'"),
    ],
)
def test_preprocess_that_makes_no_sense(porter_cli: Porter, words: str, code: str, says: str) -> None:
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--preprocess", words)
    assert run.code == 2
    assert f"error[{code}]" in run.err
    assert says in run.err
    assert not Path("out").exists()


def test_onnx_as_a_source(porter_cli: Porter) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out").code == 0
    os.rename("out/model.onnx", "net.bin")
    document = porter_cli("port", "net.bin", "-o", "again", "--to", "onnx,torch,wts", "--json").json
    assert document["source"]["kind"] == "onnx"
    image = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--overwrite").code == 0
    assert np.array_equal(answer("again/model.onnx", image), answer("out/model.onnx", image))
    assert Path("again/model.py").read_text() == porter_text("out")
    run = porter_cli("port", "net.bin", WEIGHTS, "-o", "third")
    assert (run.code, run.err.splitlines()[0]) == (
        2,
        f"error[U931]: an ONNX model has its weights in itself, and '{WEIGHTS}' is given as well",
    )
    run = porter_cli("port", "net.bin", "-o", "third", "--phase", "TRAIN", "--dynamic-batch")
    assert (run.code, "--dynamic-batch" in run.err) == (2, True)


def porter_text(folder: str) -> str:
    from porter.graph.porting import PortOptions, port

    port(str(PROTOTXT), str(WEIGHTS), f"{folder}/torch", PortOptions(targets=["torch"]))
    return Path(f"{folder}/torch/model.py").read_text()


def test_outputs_exist(porter_cli: Porter) -> None:
    Path("out").mkdir()
    Path("out/model.onnx").write_bytes(b"old")
    Path("out/mine.txt").write_bytes(b"mine")
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out")
    assert run.code == 2
    assert run.err == "error[I010]: the output exists\n  --> out/model.onnx\n   = help: add --overwrite to replace it\n"
    assert Path("out/model.onnx").read_bytes() == b"old"
    assert sorted(os.listdir("out")) == ["mine.txt", "model.onnx"]
    Path("out/model.onnx.data").write_bytes(b"of an earlier, larger model")
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--overwrite").code == 0
    assert sorted(os.listdir("out")) == ["layers.json", "mine.txt", "model.onnx", "report.json"]
    assert Path("out/mine.txt").read_bytes() == b"mine"


def test_nothing_is_left_of_a_failure(porter_cli: Porter, monkeypatch: pytest.MonkeyPatch) -> None:
    from porter.errors import FileAccessError
    from porter.graph import report

    def full(*_: object) -> None:
        raise FileAccessError("I003", "no space left on the device; nothing was written")

    monkeypatch.setattr("porter.graph.wts_output.save_store", full)
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "deep/out", "--to", "onnx,wts").code == 2
    assert os.listdir(".") == []
    Path("out").mkdir()
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--to", "onnx,wts").code == 2
    assert os.listdir("out") == []
    assert report.WrittenFile("a", "b", 0).nbytes == 0


def test_a_folder_that_is_a_file(porter_cli: Porter) -> None:
    Path("out").write_bytes(b"")
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out")
    assert (run.code, run.err) == (2, "error[I004]: writing: the output exists and is not a folder\n  --> out\n")


def test_folders_are_made(porter_cli: Porter) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "a/b/c").code == 0
    assert sorted(os.listdir("a/b/c")) == ["layers.json", "model.onnx", "report.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "tensorflow"], "error[U930]: a network cannot be written as 'tensorflow'"),
        (["--to", ","], "error[U930]: '--to' names nothing to write"),
        (["--input-shape", "data"], "'data' is no NAME=1x3x224x224"),
        (["--input-shape", "data=1x0x8x8"], "'data=1x0x8x8' has a size of 0"),
        (["--input-shape", "data=1x1x8x8", "--input-shape", "data=1x1x8x8"], "'data' is given twice"),
        (["--input-shape", "image=1x1x8x8"], "error[G031]"),
        (["--opset", "9"], "error[G032]"),
        (["--custom", "missing.py"], "error[I001]: reading the custom layers"),
    ],
)
def test_options_that_make_no_sense(porter_cli: Porter, arguments: list[str], says: str) -> None:
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", *arguments)
    assert (run.code, run.out) == (2, "")
    assert says in run.err
    assert os.listdir(".") == []


def test_input_shape_and_opset(porter_cli: Porter) -> None:
    run = porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out", "--input-shape", "data=4x1x8x8", "--opset", "17", "--json")
    assert (run.json["opset"], run.json["inputs"][0]["shape"]) == (17, [4, 1, 8, 8])


def test_broken_files(porter_cli: Porter) -> None:
    Path("a.prototxt").write_text("layer { name: ")
    run = porter_cli("port", "a.prototxt", "-o", "out")
    assert run.code == 2
    assert "a.prototxt:1:" in run.err
    Path("b.caffemodel").write_bytes(WEIGHTS.read_bytes()[:1000])
    run = porter_cli("port", PROTOTXT, "b.caffemodel", "-o", "out")
    assert run.code == 2
    assert "b.caffemodel" in run.err
    run = porter_cli("port", "none.prototxt", "-o", "out")
    assert (run.code, "error[I001]" in run.err) == (2, True)
    Path("c.onnx").write_bytes(b"\x08\x08:\x04\x12\x02ab" * 3)
    assert porter_cli("port", "c.onnx", "-o", "out").code == 2
    assert not Path("out").exists()


def test_weights_that_one_file_cannot_hold(porter_cli: Porter, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("porter.graph.onnx_output.LIMIT", 20_000)
        assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out").code == 0
    assert sorted(os.listdir("out")) == ["layers.json", "model.onnx", "model.onnx.data", "report.json"]
    onnx.checker.check_model("out/model.onnx", full_check=True)
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "whole").code == 0
    image = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)
    assert np.array_equal(answer("out/model.onnx", image), answer("whole/model.onnx", image))
    assert porter.diff("out/model.onnx", "whole/model.onnx").equal
    assert porter_cli("port", "out/model.onnx", "-o", "again").code == 0
    assert Path("again/model.onnx").stat().st_size > 50_000


def test_files_in_the_wrong_order(porter_cli: Porter) -> None:
    run = porter_cli("port", WEIGHTS, PROTOTXT, "-o", "out")
    assert run.code == 2
    assert run.err.startswith(f"error[U935]: '{WEIGHTS}' is no network's text: it is caffe")
    run = porter_cli("port", PROTOTXT, PROTOTXT, "-o", "out")
    assert run.err.startswith(f"error[U935]: '{PROTOTXT}' is a prototxt, and weights are asked for")
    assert os.listdir(".") == []


def test_onto_its_own_input(porter_cli: Porter) -> None:
    assert porter_cli("port", PROTOTXT, WEIGHTS, "-o", "out").code == 0
    before = Path("out/model.onnx").read_bytes()
    run = porter_cli("port", "out/model.onnx", "-o", "out", "--overwrite")
    assert (run.code, "error[U933]" in run.err) == (2, True)
    assert Path("out/model.onnx").read_bytes() == before


def test_custom_layers(porter_cli: Porter) -> None:
    text = 'input: "data" input_shape { dim: 1 dim: 2 }\nlayer { name: "s" type: "Square" bottom: "data" top: "s" }\n'
    Path("net.prototxt").write_text(text)
    run = porter_cli("port", "net.prototxt", "-o", "out")
    assert (run.code, "error[G033]" in run.err) == (2, True)
    custom = "def square(l):\n    x, = l.bottoms\n    l.put(l.builder.binary('Mul', x, x))\nLAYERS = {'Square': square}\n"
    Path("mine.py").write_text(custom)
    assert porter_cli("port", "net.prototxt", "-o", "out", "--custom", "mine.py").code == 0
    assert answer("out/model.onnx", np.array([[2, 3]], np.float32)).tolist() == [[4, 9]]
    assert porter_cli("port", "net.prototxt", "-o", "left", "--allow-custom", "--custom-shape", "s=1x2").code == 0
    assert [(n.domain, n.op_type) for n in onnx.load("left/model.onnx").graph.node] == [("caffe", "Square")]


def test_list_layers(porter_cli: Porter) -> None:
    run = porter_cli("port", "--list-layers")
    assert (run.code, len(run.out.splitlines())) == (0, len(TABLE) + 1)
    document = porter_cli("port", "--list-layers", "--json").json
    assert {entry["type"] for entry in document["layers"]} == set(TABLE)
    assert porter_cli("port", "--list-layers", terminal=True).code == 0


def test_help(porter_cli: Porter) -> None:
    out = porter_cli("port", "--help").out
    assert "PROTOTXT [WEIGHTS]" in out
    for option in ("--to", "--dynamic-batch", "--fold-bn", "--preprocess", "--list-layers"):
        assert option in out


def test_page_of_layers() -> None:
    spec = importlib.util.spec_from_file_location("caffe_layers", ROOT / "schemas" / "caffe_layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text("utf-8") == module.page(), "run python schemas/caffe_layers.py"
    (example,) = re.findall(r"^```python\n(.*?)^```$", module.page(), re.M | re.S)
    made: dict[str, Any] = {}
    exec(example, made)
    assert callable(made["LAYERS"]["Square"])
