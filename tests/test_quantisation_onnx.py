"""ONNX networks: weights behind DequantizeLinear and back, whole networks in int8, Q/DQ through `porter port`, TensorRT."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cli_runner import Porter
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)


def session(path: str | Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options)


def values(path: str | Path) -> dict[str, np.ndarray]:
    """Initialisers by name."""
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(str(path)).graph.initializer}


def computed(path: str | Path, names: list[str]) -> dict[str, np.ndarray]:
    """What onnxruntime makes of the nodes that read initialisers alone."""
    model = onnx.load(str(path))
    del model.graph.output[:]
    model.graph.output.extend([onnx.ValueInfoProto(name=n) for n in names])
    feed = {i.name: np.zeros([d.dim_value for d in i.type.tensor_type.shape.dim], np.float32) for i in model.graph.input}
    got = onnxruntime.InferenceSession(model.SerializeToString()).run(names, feed)
    return dict(zip(names, got, strict=True))


WEIGHTS = {
    "conv": RNG.normal(size=(6, 3, 3, 3)).astype("f4"),
    "up": RNG.normal(size=(6, 4, 2, 2)).astype("f4"),
    "gemm": RNG.normal(size=(10, 144)).astype("f4"),
    "mat": RNG.normal(size=(10, 9)).astype("f4"),
    "half": RNG.normal(size=(9, 5)).astype("f2"),
    "addend": RNG.normal(size=(1, 9)).astype("f4"),
    "bias": RNG.normal(size=6).astype("f4"),
}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "conv", "bias"], ["a"], "first", strides=[2, 2]),
        helper.make_node("ConvTranspose", ["a", "up"], ["b"], "second", strides=[2, 2]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "gemm"], ["d"], "third", transB=1),
        helper.make_node("MatMul", ["d", "mat"], ["e"], "fourth"),
        helper.make_node("Add", ["e", "addend"], ["f"]),
        helper.make_node("Cast", ["f"], ["g"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["g", "half"], ["y"], "fifth"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 7, 7])],
        [helper.make_tensor_value_info("y", 10, [1, 5])],
        [numpy_helper.from_array(a, n) for n, a in WEIGHTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="somebody")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("options", ["", "--affine", "--per tensor", "--type i4", "--type i4 --affine --group 16", "--type f8_e4m3"])
def test_weights_and_back(options: str, network: Path, porter_cli: Porter) -> None:
    run = porter_cli("quantize", "net.onnx", "q.onnx", *options.split(), "--json")
    assert run.code == 0, run.err
    assert [t["name"] for t in run.json["tensors"]] == ["conv", "up", "gemm", "mat", "half"] if "i4" not in options else True
    kept = {k["name"]: k["reason"] for k in run.json["kept"]}
    assert kept["addend"] == "read by Add, not as a weight"
    assert kept["bias"] == "fewer than two axes"
    if "i4" in options:
        assert "channels do not come first" in kept["up"]
        assert "by onnx's own converter of versions" in run.err
    onnx.checker.check_model(onnx.load("q.onnx"), full_check=True)
    assert onnx.load("q.onnx").producer_name == "somebody"
    # Nothing but the weights' nodes is new, and what reads them reads what it read.
    nodes = [n for n in onnx.load("q.onnx").graph.node if n.op_type not in ("DequantizeLinear", "Reshape")]
    assert [(n.op_type, list(n.input)) for n in nodes if not n.name.endswith("/Cast")] == [
        (n.op_type, list(n.input)) for n in onnx.load("net.onnx").graph.node
    ]
    names = [t["name"] for t in run.json["tensors"]]
    axes = {t["name"]: t["axis"] for t in run.json["tensors"]}
    if "tensor" not in options:
        assert {n: a for n, a in axes.items() if n != "up"} == {"conv": 0, "gemm": 0, "mat": 1, "half": 1}
    made = computed("q.onnx", names)
    for name in names:
        step = max(abs(WEIGHTS[name].astype("f8")).max() / (7 if "i4" in options else 127), 0)
        assert np.abs(made[name].astype("f8") - WEIGHTS[name]).max() <= step * (
            4.1 if "f8" in options else 0.51 if "affine" not in options else 1
        )
        assert made[name].dtype == WEIGHTS[name].dtype
    back = porter_cli("quantize", "q.onnx", "b.onnx", "--dequantize", "--json")
    assert sorted(t["name"] for t in back.json["tensors"]) == sorted(names)
    held = values("b.onnx")
    assert set(held) == set(WEIGHTS)
    for name in names:
        assert np.array_equal(held[name], made[name]), name
    assert [n.op_type for n in onnx.load("b.onnx").graph.node] == [n.op_type for n in onnx.load("net.onnx").graph.node]
    x = RNG.normal(size=(1, 3, 7, 7)).astype("f4")
    a, b = (session(p).run(None, {"x": x})[0] for p in ("q.onnx", "b.onnx"))
    assert np.allclose(a, b, rtol=1e-2, atol=1e-2)


def test_types_and_places_of_codes(network: Path, porter_cli: Porter) -> None:
    assert porter_cli("quantize", "net.onnx", "q.onnx", "--type", "i4", "--affine", "--only", "[cmg]*").code == 0
    model = onnx.load("q.onnx")
    held = values("q.onnx")
    assert held["conv_quantized"].dtype == ml_dtypes.int4
    assert held["conv_quantized"].shape == (6, 27)
    assert held["conv_scale"].shape == (6, 1)
    assert held["mat_scale"].shape == (1, 9)
    assert held["gemm_zero_point"].dtype == ml_dtypes.int4
    assert held["gemm_zero_point"].shape == (10, 5)
    said = {n.input[0]: {a.name: a.i for a in n.attribute} for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert said["mat_quantized"] == {"axis": 0, "block_size": 32}
    assert said["gemm_quantized"] == {"axis": 1, "block_size": 32}
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    assert "half" in held


def test_networks_that_are_refused(network: Path, porter_cli: Porter) -> None:
    run = porter_cli("quantize", "net.onnx", "q.onnx", "--type", "nf4")
    assert (run.code, "error[L822]" in run.err) == (2, True)
    np.savez("data.npz", x=np.zeros((3, 3, 7, 7), "f4"), y=np.zeros(3, "i4"))
    np.savez("wrong.npz", x=np.zeros((3, 7, 7, 3), "f4"))
    np.savez("two.npz", a=np.zeros((3, 3, 7, 7), "f4"), b=np.zeros(3, "i4"))
    np.savez("uneven.npz", x=np.zeros((3, 3, 7, 7), "f4"), y=np.zeros(2, "i4"))
    np.savez("float.npz", x=np.zeros((3, 3, 7, 7), "f4"), y=np.zeros(3, "f4"))
    np.savez("none.npz", x=np.zeros((0, 3, 7, 7), "f4"))
    for name, odd in (("nan", np.nan), ("inf", -np.inf), ("huge", 1e300)):
        x = np.zeros((3, 3, 7, 7))
        x[1, 2, 3, 4] = odd
        np.savez(f"{name}.npz", x=x)
    Path("pictures").mkdir()
    Path("pictures/0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    for options, code in (
        ("--calib wrong.npz", "U824"),
        ("--calib two.npz", "U824"),
        ("--calib data.npz --labels z", "U824"),
        ("--calib uneven.npz --labels y", "U824"),
        ("--calib float.npz --labels y", "U824"),
        ("--calib none.npz", "U824"),
        ("--calib nan.npz", "U824"),
        ("--calib inf.npz --range kl", "U824"),
        ("--calib huge.npz", "U824"),
        ("--calib data.npz --test nan.npz", "U824"),
        ("--calib pictures", "F009"),
        ("--calib gone.npz", "I001"),
        ("--calib data.npz --type i4", "U966"),
        ("--calib data.npz --range mse", "U966"),
        ("--calib data.npz --only conv", "U965"),
        ("--calib data.npz --dequantize", "U965"),
        ("--labels y", "U965"),
    ):
        run = porter_cli("quantize", "net.onnx", "q.onnx", *options.split())
        assert (run.code, run.err.startswith(f"error[{code}]")) == (2, True), (options, run.err)
        assert run.err.count("error[") == 1
    assert not Path("q.onnx").exists()


def small_network(weight: np.ndarray, bias: np.ndarray, *, listed: bool = False) -> onnx.ModelProto:
    """Two rows of numbers times `weight`. listed: initialisers are inputs too, as before IR version 4."""
    held = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    inputs = [helper.make_tensor_value_info("x", 1, [None, weight.shape[0]])]
    inputs += [helper.make_tensor_value_info(i.name, 1, i.dims) for i in held] if listed else []
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"], "fc"), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, [None, weight.shape[1]])], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=3 if listed else 8)


@pytest.mark.parametrize("calibration", [[], ["--calib", "data.npz"]], ids=["weights", "static"])
def test_initialisers_that_are_inputs_too(calibration: list[str], porter_cli: Porter) -> None:
    np.savez("data.npz", x=RNG.normal(size=(4, 6)))
    onnx.save(small_network(RNG.normal(size=(6, 3)).astype("f4"), np.ones(3, "f4"), listed=True), "old.onnx")
    # onnxruntime's C++ writes past sys.stderr.
    kept = os.dup(2)
    with open("stderr.txt", "wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            run = porter_cli("quantize", "old.onnx", "q.onnx", *calibration)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    assert run.code == 0
    assert os.path.getsize("stderr.txt") == 0
    assert "of the initialisers are constants now" in run.err
    model = onnx.load("q.onnx")
    assert [i.name for i in model.graph.input if i.name != "b" or calibration] == ["x"]
    assert values("q.onnx")["w_quantized"].dtype == np.int8


def test_networks_that_compute_infinity(porter_cli: Porter) -> None:
    np.savez("data.npz", x=np.full((4, 6), 1e30))
    onnx.save(small_network(np.full((6, 3), 1e30, "f4"), np.ones(3, "f4")), "net.onnx")
    run = porter_cli("quantize", "net.onnx", "q.onnx", "--calib", "data.npz")
    assert (run.code, run.err.startswith("error[G049]: 'h' has no range")) == (2, True), run.err
    assert not Path("q.onnx").exists()


@pytest.mark.parametrize("name", ["QuantizeLinear", "y_QuantizeLinear_Output"], ids=["twice", "a name that is taken"])
def test_networks_that_cannot_be_quantised(name: str, porter_cli: Porter) -> None:
    np.savez("data.npz", x=np.ones((2, 6)))
    model = small_network(RNG.normal(size=(6, 3)).astype("f4"), np.ones(3, "f4"))
    if name != "QuantizeLinear":
        model.graph.node.append(helper.make_node("Relu", ["h"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, 1, [None, 3]))
    onnx.save(model, "net.onnx")
    if name == "QuantizeLinear":
        assert porter_cli("quantize", "net.onnx", "net.onnx", "--calib", "data.npz", "--overwrite").code == 0
    run = porter_cli("quantize", "net.onnx", "q.onnx", "--calib", "data.npz")
    assert (run.code, run.err.startswith("error[G049]")) == (2, True), run.err
    assert not Path("q.onnx").exists()


def test_outputs_that_are_no_numbers(porter_cli: Porter) -> None:
    """Booleans that are the same are as near as can be."""
    np.savez("data.npz", x=np.ones((2, 6)))
    model = small_network(np.ones((6, 3), "f4"), np.ones(3, "f4"))
    model.graph.node.append(helper.make_node("IsNaN", ["h"], ["odd"]))
    model.graph.output.append(helper.make_tensor_value_info("odd", 9, [None, 3]))
    onnx.save(model, "net.onnx")
    run = porter_cli("quantize", "net.onnx", "q.onnx", "--calib", "data.npz", "--json")
    assert [(o["name"], o["largest"]) for o in run.json["static"]["outputs"]][1:] == [("odd", 0)], run.err


def test_labels_of_no_class(porter_cli: Porter) -> None:
    np.savez("data.npz", x=np.ones((2, 6)), y=[0, 3])
    onnx.save(small_network(RNG.normal(size=(6, 3)).astype("f4"), np.ones(3, "f4")), "net.onnx")
    run = porter_cli("quantize", "net.onnx", "q.onnx", "--calib", "data.npz", "--labels", "y")
    assert (run.code, run.err.splitlines()[0]) == (2, "error[U824]: the label 3 is none of 3 classes, which count from 0")


def digits_network(porter_cli: Porter, *options: str) -> None:
    folder = Path(__file__).parent.parent / "examples/digits"
    text, weights = folder / "digits.prototxt", folder / "digits.caffemodel"
    assert porter_cli("port", text, weights, "-o", "net", "--preprocess", "scale=0.0625", *options).code == 0
    for name in ("held-out.npz", "calibration.npz"):
        Path(name).write_bytes((folder / name).read_bytes())


def accuracy(path: str) -> float:
    """Measured here, sample by sample, on the held-out images."""
    runner, data = session(path), np.load("held-out.npz")
    right = [runner.run(None, {"data": x[None].astype("f4")})[0].argmax() == y for x, y in zip(data["data"], data["digit"], strict=True)]
    return float(np.mean(right))


@pytest.mark.parametrize(("method", "per"), [("minmax", "channel"), ("percentile", "tensor"), ("kl", "channel")])
def test_the_digits_in_int8(method: str, per: str, porter_cli: Porter) -> None:
    digits_network(porter_cli, "--fold-bn")
    sets = ["--calib", "calibration.npz", "--test", "held-out.npz", "--labels", "digit"]
    run = porter_cli("quantize", "net/model.onnx", "q.onnx", *sets, "--range", method, "--per", per, "--json")
    assert run.code == 0, run.err
    static = run.json["static"]
    assert static["calibration"] == {"path": "calibration.npz", "samples": 100}
    assert static["test"]["samples"] == 360
    assert static["right"]["float"] / 360 == accuracy("net/model.onnx")
    assert static["right"]["quantized"] / 360 == accuracy("q.onnx") >= 0.98
    assert Path("q.onnx").stat().st_size < 0.45 * Path("net/model.onnx").stat().st_size
    model, held = onnx.load("q.onnx"), values("q.onnx")
    onnx.checker.check_model(model, full_check=True)
    points = [held[n.input[2]] for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(points) > 10
    assert all(p.dtype == np.int8 and not p.any() for p in points)  # as TensorRT wants them
    assert held["conv2.weight_scale"].shape == ((32,) if per == "channel" else ())
    assert held["fc1.bias"].dtype == np.float32


def test_ranges_by_divergence_cut(porter_cli: Porter) -> None:
    """onnxruntime's own `entropy` is the smallest and largest number, whatever the data."""
    digits_network(porter_cli)
    scales = {}
    for method in ("minmax", "kl"):
        run = porter_cli("quantize", "net/model.onnx", f"{method}.onnx", "--calib", "calibration.npz", "--range", method)
        assert run.code == 0, run.err
        scales[method] = {n: float(v) for n, v in values(f"{method}.onnx").items() if n.endswith("_scale") and v.shape == ()}
    assert any(scales["kl"][n] < 0.9 * s for n, s in scales["minmax"].items())
    for name in ("data_scale", "prob_scale"):
        assert scales["kl"][name] == scales["minmax"][name]


def test_samples_in_a_folder_and_batches(network: Path, porter_cli: Porter) -> None:
    x = RNG.normal(size=(5, 3, 7, 7)).astype("f4")
    Path("set").mkdir()
    np.save("set/a.npy", x[:3])
    np.save("set/b.npy", x[3])
    np.savez("set/c.npz", x=x[4:])
    np.savez("all.npz", anything=x)
    # The half-precision tail is no part of what onnxruntime quantises.
    for where, out in (("set", "a.onnx"), ("all.npz", "b.onnx")):
        run = porter_cli("quantize", "net.onnx", out, "--calib", where, "--json")
        assert run.code == 0, run.err
        assert run.json["static"]["calibration"]["samples"] == 5
        assert run.json["static"]["right"] is None
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()


def aware() -> onnx.ModelProto:
    """A network as quantisation-aware training leaves it."""
    weight = RNG.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8)
    scale = (RNG.random(4) * 0.01 + 0.001).astype("f4")
    constants = {
        "w": weight,
        "ws": scale,
        "wz": np.zeros(4, np.int8),
        "xs": np.float32(0.0213),
        "xz": np.int8(0),
        "b": RNG.normal(size=4).astype("f4"),
        "ys": np.float32(0.07),
        "yz": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 4, 4, 4])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_aware_networks_keep_their_scales(porter_cli: Porter) -> None:
    model = aware()
    onnx.save(model, "aware.onnx")
    assert porter_cli("port", "aware.onnx", "-o", "onnx").code == 0
    assert {n: a.tobytes() for n, a in values("onnx/model.onnx").items()} == {n: a.tobytes() for n, a in values("aware.onnx").items()}
    x = RNG.normal(size=(1, 2, 6, 6)).astype("f4")
    wanted = session("aware.onnx").run(None, {"x": x})[0]
    assert np.array_equal(session("onnx/model.onnx").run(None, {"x": x})[0], wanted)
    # Weights that are known are given back as numbers; what is computed stays as it was.
    run = porter_cli("quantize", "aware.onnx", "numbers.onnx", "--dequantize", "--json")
    assert [t["name"] for t in run.json["tensors"]] == ["wd"]
    assert "2 DequantizeLinear nodes stay" in run.err
    assert np.array_equal(session("numbers.onnx").run(None, {"x": x})[0], wanted)


@pytest.mark.parametrize(
    ("scales", "attributes"),
    [((3,), {"axis": 1}), ((4,), {"axis": 5}), ((4, 2), {"axis": 1, "block_size": 4}), ((), {"axis": 0})],
    ids=["too few", "no such axis", "blocks", "zero points for a scale"],
)
def test_scales_that_do_not_fit_their_codes(scales: tuple[int, ...], attributes: dict[str, Any], porter_cli: Porter) -> None:
    constants = {"q": np.ones((4, 4), "i1"), "s": np.ones(scales, "f4"), "z": np.zeros((4,), "i1")}
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", list("qsz"), ["w"], **attributes), helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [None, 4])],
        [helper.make_tensor_value_info("y", 1, [None, 4])],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), "odd.onnx")
    run = porter_cli("quantize", "odd.onnx", "numbers.onnx", "--dequantize")
    assert run.code == 0, run.err
    assert "note: 1 DequantizeLinear node stays (w): its scales or zero points are not as many as its codes need" in run.err
    assert values("numbers.onnx").keys() == {"q", "s", "z"}


def test_aware_networks_in_pytorch(porter_cli: Porter) -> None:
    onnx.save(aware(), "aware.onnx")
    assert porter_cli("port", "aware.onnx", "-o", "torch", "--to", "torch").code == 0
    state = torch.load("torch/model.pth", weights_only=True)
    held = values("aware.onnx")
    module: dict[str, Any] = {}
    exec(compile(Path("torch/model.py").read_text(), "model.py", "exec"), module)
    net = module["Net"]().eval()
    net.load_state_dict(state)
    # Small ones stand in the source, the others in the state; all to the bit.
    assert {n: b.numpy().tobytes() for n, b in net.named_buffers()} == {n: a.tobytes() for n, a in held.items()}
    x = np.random.default_rng(8).normal(size=(1, 2, 6, 6)).astype("f4")
    with torch.inference_mode():
        got = net(torch.from_numpy(x)).numpy()
    wanted = session("aware.onnx").run(None, {"x": x})[0]
    steps = np.rint((got - wanted) / held["ys"])
    assert np.allclose(got, wanted + steps * held["ys"], atol=1e-6)
    # A convolution adds up in another order, so what lies half-way may go the other way.
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(steps) <= 1


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform")
def test_tensorrt_takes_it(porter_cli: Porter) -> None:
    digits_network(porter_cli, "--fold-bn")
    assert porter_cli("quantize", "net/model.onnx", "q.onnx", "--calib", "calibration.npz").code == 0
    run = porter_cli("tensorrt", "build", "q.onnx", "-o", "net.engine")
    assert run.code == 0, run.err
    assert "equal, bit for bit" in run.out
    # TensorRT's own parser: integers stay integers, behind convolutions too.
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(Path("q.onnx").read_bytes())
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    quantised = {layer.get_input(0).dtype for layer in layers if layer.type == trt.LayerType.DEQUANTIZE}
    assert quantised == {trt.int8}
    held = [layer.get_output(0) for layer in layers if layer.type == trt.LayerType.CONSTANT]
    assert sum(tensor.dtype == trt.int8 and len(tensor.shape) > 1 for tensor in held) == 4


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform")
def test_one_scale_as_pytorch_exports_it(porter_cli: Porter) -> None:
    """An array of one number, where the axis has three."""
    model = small_network(RNG.normal(size=(6, 3)).astype("f4"), np.ones(3, "f4"))
    held = [numpy_helper.from_array(np.array([0.02], "f4"), "s"), numpy_helper.from_array(np.zeros(1, np.int8), "z")]
    model.graph.initializer.extend(held)
    names = ["x", "s", "z"]
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", names, ["q"]))
    model.graph.node.insert(1, helper.make_node("DequantizeLinear", ["q", *names[1:]], ["d"]))
    model.graph.node[2].input[0] = "d"
    onnx.save(model, "net.onnx")
    run = porter_cli("tensorrt", "verify", "net.onnx")
    assert run.code == 0, run.err
    assert "same: 4 values" in run.out, run.out
