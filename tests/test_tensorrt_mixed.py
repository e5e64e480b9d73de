"""Networks of mixed precision: every layer in the type that a plan gives its weights, as TensorRT holds it, and what it computes then."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cli_runner import Porter
from graph_nets import one_layer, ported
from tensorrt_runs import model_with_values

from porter.errors import TensorRTError, UsageError
from porter.graph.builder import made_of
from porter.tensorrt import layers, package
from porter.tensorrt.checking.values import verify
from porter.tensorrt.layers import Network, weights_of
from porter.tensorrt.live import live
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.lowering.mixed import mixed
from porter.tensorrt.walk import walk

MODEL = """
<ir_version: 9, opset_import: ["" : 17]>
small (float[2, 3, 9, 8] data) => (float[2, 4] prob, float[2, 6, 4, 4] sum)
<float[6, 3, 3, 3] conv_weight, float[6] conv_bias, float[6] bn_weight, float[6] bn_bias, float[6] bn_mean, float[6] bn_var,
 float[6, 6, 1, 1] side_weight, float[4, 96] fc_weight, float[4] fc_bias>
{
    conv = Conv <pads = [1, 1, 1, 1]> (data, conv_weight, conv_bias)
    bn = BatchNormalization <epsilon = 0.001> (conv, bn_weight, bn_bias, bn_mean, bn_var)
    relu = Relu (bn)
    most = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (relu)
    side = Conv (most, side_weight)
    half = Constant <value_float = 0.5> ()
    less = Mul (side, half)
    sum = Add (most, less)
    flat = Flatten (sum)
    fc = Gemm <transB = 1> (flat, fc_weight, fc_bias)
    prob = Softmax <axis = 1> (fc)
}
"""


MODEL_PROTO = model_with_values(MODEL)
ARRAYS = {t.name: onnx.numpy_helper.to_array(t) for t in MODEL_PROTO.graph.initializer}
FEED = np.random.default_rng(5).standard_normal((2, 3, 9, 8)).astype(np.float32)
PLANS = {
    "convolutions": {"conv_weight": "float16", "conv_bias": "float16", "side_weight": "float16"},
    "product": {"fc_weight": "float16", "fc_bias": "float32"},
    "all but normalisation": {n: "float16" for n in ARRAYS if not n.startswith("bn_")},
    "all": dict.fromkeys(ARRAYS, "bfloat16"),
    "two kinds": {
        "conv_weight": "float16",
        "conv_bias": "float16",
        "side_weight": "bfloat16",
        "fc_weight": "bfloat16",
        "fc_bias": "bfloat16",
    },
    "weight without bias": {"conv_weight": "float16"},
    "nothing": {"conv_weight": "float32"},
}


def planned(name: str) -> Network:
    return mixed(lower(ir.from_proto(MODEL_PROTO)), PLANS[name])


def by_name(network: Network) -> dict[str, layers.Layer]:
    return {layer.name: layer for layer in network.layers}


@pytest.mark.parametrize("name", PLANS)
def test_tensorrt_takes_it_and_it_computes_nearly_the_same(name: str) -> None:
    lowered = planned(name)
    made = live.build(lowered, package.find())
    held = walk.read(made.network, made.package)
    found = verify(ir.from_proto(MODEL_PROTO), held, {"data": FEED}, values=lowered.values, tolerance=5e-2)
    assert found.same, found.first
    assert {t for n, t in held.dtypes.items() if n in ("data", "prob", "sum")} == {"float32"}
    wanted = {w.tensor.name: w.tensor.tobytes() for la in lowered.layers for w in weights_of(la.operation).values()}
    there = [w.tensor.tobytes() for la in held.layers for w in weights_of(la.operation).values()]
    assert sorted(wanted.values()) == sorted(there)


def test_layers_have_the_types_of_their_weights_and_the_others_follow() -> None:
    network = planned("all but normalisation")
    assert {n: network.dtypes[n] for n in ("conv", "bn", "relu", "most", "side", "less", "fc")} == {
        "conv": "float16",
        "bn": "float32",
        "relu": "float32",
        "most": "float32",
        "side": "float16",
        "less": "float16",
        "fc": "float16",
    }
    assert network.dtypes["sum"] == "float32"  # of float32 and float16
    casts = [(la.inputs[0], la.operation.dtype) for la in network.layers if isinstance(la.operation, layers.Cast)]
    assert casts[0] == ("data", "float16")
    assert len(casts) == len(set(casts))
    kernel = weights_of(by_name(network)["conv"].operation)["kernel"]
    assert kernel.tensor.tobytes() == ARRAYS["conv_weight"].astype("<f2").tobytes()
    assert (kernel.sources, kernel.formula) == (("conv_weight",), "cast")
    scale = weights_of(by_name(network)["bn"].operation)["scale"]
    assert scale.tensor.dtype.name == "float32"
    assert network.notices[-1].startswith("layers with weights, as planned: 1 in float32, ")


def test_constants_of_the_graph_follow_what_reads_them() -> None:
    network = planned("convolutions")
    half = weights_of(by_name(network)["less"].operation)["scale"].tensor
    assert (half.dtype.name, half.tobytes()) == ("float16", np.float16(0.5).tobytes())
    assert weights_of(by_name(planned("product"))["less"].operation)["scale"].tensor.dtype.name == "float32"


def test_a_layer_is_as_wide_as_its_widest_weight() -> None:
    network = planned("weight without bias")
    assert network.dtypes["conv"] == "float32"
    (said,) = [n for n in network.notices if n.startswith("layer 'conv' computes in float32")]
    assert "in float16" in said
    assert "in float32" in said
    all_of_it = planned("all")
    scale = weights_of(by_name(all_of_it)["bn"].operation)["scale"].tensor
    exact = ARRAYS["bn_weight"].astype("f8") / np.sqrt(ARRAYS["bn_var"].astype("f8") + float(np.float32(0.001)))
    assert np.array_equal(scale.numpy().astype("f8"), exact.astype(ml_dtypes.bfloat16).astype("f8"))


def test_a_plan_that_changes_nothing_changes_nothing() -> None:
    plain = lower(ir.from_proto(MODEL_PROTO))
    same = planned("nothing")
    assert [(la.name, la.inputs, la.outputs) for la in same.layers] == [(la.name, la.inputs, la.outputs) for la in plain.layers]
    assert same.dtypes == plain.dtypes


def test_what_cannot_be_is_refused() -> None:
    network = lower(ir.from_proto(MODEL_PROTO))
    with pytest.raises(UsageError, match="U807") as caught:
        mixed(network, {"conv_wieght": "float16"}, path="plan.json")
    assert "conv_weight" in str(caught.value.hint)
    with pytest.raises(TensorRTError, match="T004"):
        mixed(network, {"conv_weight": "float8_e4m3fn"})
    assert any("does not hold" in n for n in mixed(network, {"extra": "float16"}, known=["extra"]).notices)


@pytest.mark.parametrize("factor", [1.0, 999.98])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_plan_names_the_statistics_of_a_caffe_file(factor: float, dtype: str) -> None:
    """What a scale factor divides keeps the file's name for the plan; the ones and zeros that Caffe needs no blob for follow."""
    blobs = [np.array(b, np.float32) for b in ([1, 2, 3], [4, 5, 6], [factor])]
    model = ported(one_layer('type: "BatchNorm"', (1, 3, 2, 2)), {"l": blobs}).model
    plan = {"l.blob0": "float16", "l.blob1": dtype, "l.blob2": "float32"}
    network = mixed(lower(model), plan, known=[*plan], made_of=made_of(model))
    (scale,) = [la.operation for la in network.layers if isinstance(la.operation, layers.Scale)]
    assert weights_of(scale)["scale"].tensor.dtype.name == dtype
    assert "the plan names 1 tensors of the file that the network does not hold: l.blob2" in network.notices


def test_command(porter_cli: Porter, tmp_path: Path) -> None:
    """A plan of the audit goes into the build, and the weights are compared with the file's, rounded."""
    onnx.save(MODEL_PROTO, tmp_path / "net.onnx")
    assert porter_cli("audit", "net.onnx", "--to", "f16", "--plan", "plan.json").code == 0
    plan = {t["name"]: t["dtype"] for t in json.loads((tmp_path / "plan.json").read_text())["tensors"]}
    assert plan["conv_weight"] == "float16"
    run = porter_cli("tensorrt", "build", "net.onnx", "--dtype-plan", "plan.json", "--json")
    assert run.code == 0, run.err
    document = json.loads(run.out)
    assert document["check"]["equal"]
    assert any(n.startswith("layers with weights, as planned: ") for n in document["notices"])
    run = porter_cli("tensorrt", "build", "net.onnx", "--dtype-plan", "plan.json", "--dtype", "f16")
    assert (run.code, "U942" in run.err) == (2, True)
