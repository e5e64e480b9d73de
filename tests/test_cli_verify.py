"""`porter verify`, run as users do: verdicts, the layer that is wrong, what is fed, what is shown at 80 columns, and errors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runner import Porter
from parity_nets import FORMS, model

from porter.tensorrt.live import engine_run

CAFFE, ONNX, TORCH, TENSORRT, GOLDEN = FORMS


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("b", [*FORMS[1:], CAFFE])
def test_the_same_network(own_nets: Path, porter_cli: Porter, b: str) -> None:
    found = porter_cli("verify", CAFFE, b, "--json")
    assert (found.code, found.err) == (0, "")
    assert found.json["same"] is True
    assert found.json["divergence"] is None
    assert found.json["b"]["kind"] == {ONNX: "onnx", TORCH: "torch", TENSORRT: "tensorrt", GOLDEN: "golden", CAFFE: "caffe"}[b]
    assert {c["measured"]["beyond"] for c in found.json["compared"]} == {0}


def test_the_screen(own_nets: Path, porter_cli: Porter) -> None:
    found = porter_cli("verify", CAFFE, GOLDEN, terminal=True)
    assert found.code == 0
    assert (
        found.out
        == """\
A        net.prototxt, deploy.caffemodel: caffe, 11 layers, run by onnxruntime
B        golden.npz: golden, 11 layers, recorded
fed      what was recorded
matched  11 by name
VALUE      TYPE          SHAPE      MAX|Δ|  OF SCALE  SNR  ULP  COSINE  VERDICT
conv1      Convolution   1×8×14×14       0         0    ∞    0       1  same
bn1        BatchNorm     1×8×14×14       0         0    ∞    0       1  same
scale1     Scale         1×8×14×14       0         0    ∞    0       1  same
relu1      ReLU          1×8×14×14       0         0    ∞    0       1  same
norm1      LRN           1×8×14×14       0         0    ∞    0       1  same
pool1      Pooling       1×8×7×7         0         0    ∞    0       1  same
left/1x1   Convolution   1×4×7×7         0         0    ∞    0       1  same
right/1x1  Convolution   1×4×7×7         0         0    ∞    0       1  same
both       Concat        1×8×7×7         0         0    ∞    0       1  same
ip         InnerProduct  1×5             0         0    ∞    0       1  same
prob       Softmax       1×5             0         0    ∞    0       1  same
same: 11 values, all of them equal
"""
    )
    assert porter_cli("verify", CAFFE, GOLDEN, "-q").out == ""


def test_the_layer_that_is_wrong_is_told_from_those_that_inherit_it(own_nets: Path, porter_cli: Porter) -> None:
    change(own_nets / "model.py", "F.max_pool2d(norm1, 3, 2, ceil_mode=True)", "F.avg_pool2d(norm1, 3, 2, ceil_mode=True)")
    found = porter_cli("verify", CAFFE, TORCH, terminal=True)
    assert found.code == 1
    assert "different: 6 of 10 values, 'pool1' the first" in found.out
    assert "'pool1' is wrong by itself" in found.out
    assert "A  Pooling 'pool1': pool MAX, kernel_size 3, stride 2" in found.out
    assert "B  avg_pool2d 'pool1'" in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    document = porter_cli("verify", CAFFE, TORCH, "--json", "--all").json
    assert document["divergence"]["verdict"] == "guilty"
    assert document["divergence"]["guilty"]["a"] == "pool1"
    assert document["divergence"]["others"] == []
    wrong = [entry["a"] for entry in document["compared"] if not entry["same"]]
    assert wrong == ["pool1", "left/1x1", "right/1x1", "both", "ip", "prob"]
    assert porter_cli("verify", CAFFE, TORCH, "--no-first", "--json").json["divergence"] is None


def test_an_explanation_that_is_as_good_is_marked_as_such(own_nets: Path, porter_cli: Porter) -> None:
    change(own_nets / "model.py", "F.max_pool2d(norm1, 3, 2, ceil_mode=True)", "F.max_pool2d(norm1, 3, 2)")
    found = porter_cli("verify", CAFFE, TORCH, terminal=True)
    assert found.code == 1
    words = " ".join(found.out.split())
    assert "cause: ceil pooling. A: 7 x 7 windows. B: the number of windows rounded down: 6 x 6." in words
    assert words.index("cause: ceil pooling") < words.index("or, which explains it as well: padding on another side.")


def test_a_tolerance_of_ones_own(own_nets: Path, porter_cli: Porter) -> None:
    assert porter_cli("verify", CAFFE, TORCH, "--tolerance", "0", "--no-first").code == 1
    assert porter_cli("verify", CAFFE, TORCH, "--tolerance", "1e-5").code == 0
    for value in ("nan", "-1", "inf"):
        assert "error[U801]" in porter_cli("verify", CAFFE, TORCH, "--tolerance", value).err


def test_values_in_the_order_of_the_layers(own_nets: Path, porter_cli: Porter) -> None:
    found = porter_cli("verify", CAFFE, ONNX, "--all")
    names = [line.split()[0] for line in found.out.splitlines()[6:17]]
    assert names == ["conv1", "bn1", "scale1", "relu1", "norm1", "pool1", "left/1x1", "right/1x1", "both", "ip", "prob"]
    assert "note: 2 values of B without a partner: scale1/scaled, ip/flatten" in found.err


def test_weights_that_are_not_the_same_bits_are_said_though_outputs_agree(own_nets: Path, porter_cli: Porter) -> None:
    proto = onnx.load(own_nets / "model.onnx")
    kernel = next(i for i in proto.graph.initializer if i.name == "conv1.weight")
    array = onnx.numpy_helper.to_array(kernel).copy()
    array[3, 1] *= np.float32(1 + 1e-6)
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, kernel.name))
    onnx.save(proto, own_nets / "near.onnx")
    found = porter_cli("verify", ONNX, "near.onnx")
    assert found.code == 0
    assert re.search(r"weights  (\d+) of (\d+) equal bit for bit, 1 different, 'conv1.weight' most, by [1-9.]+e-07", found.out)
    (apart,) = porter_cli("verify", ONNX, "near.onnx", "--json").json["weights"]["apart"]
    assert (apart["a"], apart["b"]) == ("conv1.weight", "conv1.weight")
    original = onnx.numpy_helper.to_array(next(i for i in onnx.load(own_nets / "model.onnx").graph.initializer if i.name == "conv1.weight"))
    assert apart["relative"] == pytest.approx(np.abs(array - original).max() / np.abs(original).max(), rel=1e-6)
    document = porter_cli("verify", CAFFE, TORCH, "--json").json["weights"]
    assert document == {"equal": 12, "moved": 0, "scaled": 0, "apart": [], "alone": []}
    assert porter_cli("verify", CAFFE, GOLDEN, "--json").json["weights"] is None


def test_what_is_fed(own_nets: Path, porter_cli: Porter) -> None:
    scales = {}
    for options in ((), ("--seed", "1"), ("--fill", "uniform")):
        document = porter_cli("verify", CAFFE, ONNX, "--json", *options).json
        assert document["same"] is True
        scales[options] = document["compared"][0]["measured"]["scale"]
    assert len(set(scales.values())) == 3
    np.savez(own_nets / "x.npz", data=np.full((1, 3, 14, 14), 2, np.float32))
    np.savez(own_nets / "alone.npz", whatever=np.full((1, 3, 14, 14), 2, np.float64))
    documents = [porter_cli("verify", CAFFE, ONNX, "--json", "--input", name).json for name in ("x.npz", "alone.npz")]
    assert documents[0]["compared"] == documents[1]["compared"]
    assert documents[0]["fed"] == {"input": "x.npz", "image": None, "seed": None, "fill": None}


def test_an_image(own_nets: Path, porter_cli: Porter) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (14, 14, 3), np.uint8)
    (own_nets / "x.ppm").write_bytes(b"P6 14 14 255\n" + pixels.tobytes())
    words = "mean=104,117,123 scale=0.5"
    fed = (pixels[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)) * np.float32(0.5)
    np.savez(own_nets / "x.npz", data=fed.transpose(2, 0, 1)[None])
    image = porter_cli("verify", CAFFE, ONNX, "--image", "x.ppm", "--preprocess", words, "--json").json
    arrays = porter_cli("verify", CAFFE, ONNX, "--input", "x.npz", "--json").json
    assert image["compared"] == arrays["compared"]
    assert "'data' is fed the image 'x.ppm': BGR, less 104, 117, 123, times 0.5, values from 0 to 255 before that" in image["notices"]
    rgb = porter_cli("verify", CAFFE, ONNX, "--image", "x.ppm", "--preprocess", f"{words} channels=rgb", "--json").json
    assert rgb["compared"] != image["compared"]
    (own_nets / "large.pgm").write_bytes(b"P5 28 7 255\n" + bytes(196))
    found = porter_cli("verify", CAFFE, ONNX, "--image", "large.pgm")
    assert "resized from 7×28 to 14×14, bilinear" in found.err


def test_layers_json(own_nets: Path, porter_cli: Porter) -> None:
    assert porter_cli("verify", CAFFE, ONNX, "--layers", "layers.json").code == 0
    assert "error[U952]" in porter_cli("verify", CAFFE, ONNX, "--layers", "net.prototxt").err


def test_opencv(own_nets: Path, porter_cli: Porter) -> None:
    found = porter_cli("verify", CAFFE, CAFFE, "--runner", "opencv", "--json")
    assert found.code == 0
    assert (found.json["a"]["runner"], found.json["b"]["runner"]) == ("onnxruntime", "opencv")
    assert porter_cli("verify", CAFFE, ONNX, "--runner", "opencv", "--json").json["a"]["runner"] == "opencv"


@pytest.mark.skipif(engine_run.device() is not None, reason="there is a GPU")
def test_an_engine_takes_a_gpu(own_nets: Path, porter_cli: Porter) -> None:
    found = porter_cli("verify", ONNX, TENSORRT, "--runner", "engine")
    assert found.code == 2
    assert found.err.startswith("error[T345]: an engine runs on a GPU, and there is none")


@pytest.mark.parametrize(
    ("b", "options", "code", "said"),
    [
        ("nothing.onnx", (), "I001", "nothing.onnx"),
        (ONNX, ("--runner", "opencv"), "U951", "neither side"),
        (ONNX, ("--input", "x.npz", "--image", "x.ppm"), "U942", "both"),
        (ONNX, ("--preprocess", "mean=1"), "U942", "there is none"),
        (ONNX, ("--input", "golden.npz"), "U953", "no array is called 'data'"),
        (ONNX, ("--input", "small.npz"), "U953", "has the shape [1, 2], and the input is 1×3×14×14"),
        (ONNX, ("--input", "ints.npz"), "U953", "is int64, and the input is float32"),
        (ONNX, ("--image", "net.prototxt"), "U954", "no image"),
        (ONNX, ("--image", "x.ppm", "--preprocess", "mean=1,2"), "U954", "the mean has 2 numbers"),
        (ONNX, ("--image", "x.ppm", "--preprocess", "input=label"), "U954", "no input is known"),
        ("two.onnx", (), "U953", "A has 1 inputs (data), and B 2 (data, other)"),
        ("large.onnx", (), "U953", "two shapes: 1×3×14×14 of A, 1×3×20×20 of B"),
    ],
)
def test_errors(own_nets: Path, porter_cli: Porter, b: str, options: tuple[str, ...], code: str, said: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]>\n'
    (own_nets / "x.ppm").write_bytes(b"P6 14 14 255\n" + bytes(588))
    np.savez(own_nets / "small.npz", data=np.zeros((1, 2), np.float32))
    np.savez(own_nets / "ints.npz", data=np.zeros((1, 3, 14, 14), np.int64))
    model(own_nets, "two.onnx", head + "g (float[1, 3, 14, 14] data, float[1] other) => (float[1, 3, 14, 14] y) { y = Add(data, other) }")
    model(own_nets, "large.onnx", head + "g (float[1, 3, 20, 20] data) => (float[1, 3, 20, 20] y) { y = Relu(data) }")
    a = ONNX if "--runner" in options else CAFFE
    found = porter_cli("verify", a, b, *options)
    assert found.code == 2
    assert f"error[{code}]" in found.err
    assert said in found.err


def test_a_shape_that_nothing_says(own_nets: Path, porter_cli: Porter) -> None:
    assert "'--input-shape data=" in porter_cli("verify", TORCH, TORCH).err
    assert porter_cli("verify", TORCH, TORCH, "--input-shape", "data=2x3x14x14").code == 0


def test_sizes_that_are_open_are_said_or_asked_for(own_nets: Path, porter_cli: Porter) -> None:
    """Also where the model leaves the shape of its output out."""
    head = '<ir_version: 8, opset_import: ["" : 17]>\n'
    for name, shape in (("batch", "n, 3, 8, 8"), ("planes", "1, 3, h, w")):
        proto = onnx.parser.parse_model(head + f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}")
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        onnx.save(proto, own_nets / f"{name}.onnx")
    found = porter_cli("verify", "batch.onnx", "batch.onnx")
    assert (found.code, found.err) == (0, "note: the size of the batch is open in 'x', which is fed one\n")
    assert "1×3×8×8" in found.out
    found = porter_cli("verify", "planes.onnx", "planes.onnx")
    assert found.code == 2
    assert "error[U953]: nothing says the shape of the input 'x': it is 1×3×?×?" in found.err
    assert porter_cli("verify", "planes.onnx", "planes.onnx", "--input-shape", "x=1x3x4x6").code == 0
    np.savez(own_nets / "x.npz", x=np.full((1, 3, 4, 6), 0.1))
    found = porter_cli("verify", "planes.onnx", "planes.onnx", "--input", "x.npz")
    assert (found.code, found.err) == (0, "note: the array for 'x' is float64, and was rounded to float32, which the input is\n")


def test_networks_of_other_names(own_nets: Path, porter_cli: Porter, tmp_path: Path) -> None:
    """By structure; two branches that only their order tells apart are said."""
    text = (own_nets / "model.py").read_text()
    for old in ("left_1x1", "right_1x1", "conv1", "scale1", "bn1", "relu1", "norm1", "pool1", "both"):
        text = text.replace(old, f"other_{old[::-1]}")
    (own_nets / "model.py").write_text(text)
    import torch

    state = torch.load(own_nets / "model.pth", weights_only=True)
    torch.save({_renamed(name): value for name, value in state.items()}, own_nets / "model.pth")
    found = porter_cli("verify", CAFFE, TORCH, "--json")
    assert found.code == 0
    assert found.json["matched"]["ways"]["structure"] >= 6
    assert found.json["matched"]["ambiguous"] == ["left/1x1", "right/1x1"]


def _renamed(name: str) -> str:
    layer, _, role = name.partition(".")
    return name if layer == "ip" else f"other_{layer[::-1]}.{role}"


def test_progress_is_told_in_layers_to_who_looks(own_nets: Path, porter_cli: Porter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porter.cli.screen.PATIENCE", 0)
    change(own_nets / "model.py", "F.softmax(ip, 1)", "F.softmax(ip, 0)")
    shown = porter_cli("verify", CAFFE, TORCH, terminal=True).err
    assert [f"comparing: layer {n} of 10\x1b[K" in shown for n in (1, 10)] == [True, True]
    assert "\rlooking for the first that is wrong: layer 1 of 1\x1b[K" in shown
    assert [porter_cli("verify", CAFFE, TORCH, *quiet, terminal=bool(quiet)).err.count("layer 1") for quiet in ((), ("-q",))] == [0, 0]
