"""What follows what, by a file's graph: folded as torch folds, and as a file that others folded; neighbours; epsilons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cli_runner import Porter
from tensorrt_runs import model_with_values

import porter
from porter.check.precision.epsilons import StatedEpsilons
from porter.check.precision.topology import Topology
from porter.graph.weight_file import graph_of
from porter.store import TensorStore
from porter.tensor import Tensor

# The file's order misleads: `c` stands before the normalisation of `a`, with as many channels.
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
crossed (float[1, 6, 9, 9] x) => (float[1, 6, 1, 1] y, float[1, 6, 9, 9] z)
<float[6, 6, 3, 3] a_weight, float[6, 6, 1, 1] b_weight, float[6, 6, 1, 1] c_weight, float[6] c_bias, float[6] bn_weight,
 float[6] bn_bias, float[6] bn_mean, float[6] bn_var, float[6] slope_weight>
{
    a = Conv <pads = [1, 1, 1, 1]> (x, a_weight)
    bn = BatchNormalization <epsilon = 0.25> (a, bn_weight, bn_bias, bn_mean, bn_var)
    relu = Relu (bn)
    pool = GlobalMaxPool (relu)
    c = Conv (pool, c_weight, c_bias)
    y = Sigmoid (c)
    z = Conv (x, b_weight)
}
"""


@pytest.fixture
def crossed(tmp_path: Path) -> Path:
    onnx.save(model_with_values(MODEL), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_graph_tells_what_the_order_does_not(crossed: Path) -> None:
    with porter.open(crossed) as store:
        model = graph_of(store, None)
        assert model is not None
        topology = Topology(model, store)
        assert topology.epsilons == (0.25,)
        assert [*topology.neighbours(store)] == []
        weight, bias = topology.fold()
        assert (weight.old, bias.old, bias.new.name) == (store["a_weight"], None, "a_weight.bias")
        assert weight.names == ("bn_weight", "bn_bias", "bn_mean", "bn_var")
        values = {name: torch.from_numpy(store[name].numpy().astype("f8")) for name in store}
        mean, var, scale, shift = (values[f"bn_{n}"] for n in ("mean", "var", "weight", "bias"))
        fused = torch.nn.utils.fusion.fuse_conv_bn_weights(values["a_weight"], None, mean, var, 0.25, scale, shift)
        for found, expected in zip((weight, bias), fused, strict=True):
            np.testing.assert_allclose(found.new.numpy(), expected.detach().numpy(), rtol=1e-7)
        (pair,) = topology.neighbours(store)
        assert (pair.first.name, pair.out_axis, pair.second.name, pair.in_axis) == ("a_weight", 0, "c_weight", 1)
        np.testing.assert_array_equal(pair.first.numpy(), weight.new.numpy())


def test_command(porter_cli: Porter, crossed: Path) -> None:
    document = porter_cli("audit", crossed.name, "--fold", "--equalise", "--json").json
    assert document["order_of_layers"] == "graph"
    assert [(f["name"], f["before"] is None) for f in document["folded"]] == [("a_weight", False), ("a_weight.bias", True)]
    assert {(e["eps"], e["assumed"]) for e in document["epsilons"]} == {(0.25, False)}
    run = porter_cli("audit", crossed.name, "--fold", "--eps", "1e-3")
    assert (run.code, "U808" in run.err, "0.25" in run.err) == (2, True, True)
    assert len(porter_cli("audit", crossed.name, "a_*", "--fold", "--json").json["folded"]) == 2
    assert not porter_cli("audit", crossed.name, "b_*", "--fold", "--json").json["folded"]


def test_folded_as_another_program_folded(shared: Path) -> None:
    """Each tensor is one of those that onnx-simplifier made in float32."""
    folder = shared / "real/ultraface/onnx"
    with porter.open(folder / "version-slim-320.onnx") as full, porter.open(folder / "version-slim-320_simplified.onnx") as other:
        model = graph_of(full, None)
        assert model is not None
        found = [t.new for t in Topology(model, full).fold()]
        assert len(found) == 50
        made = [t.numpy() for t in other.values()]
        for tensor in found:
            values = tensor.numpy()
            alike = [m for m in made if m.shape == values.shape]
            assert min(np.max(np.abs(m - values)) / np.max(np.abs(m)) for m in alike) < 2e-7, tensor.name


def test_caffe(porter_cli: Porter, shared: Path) -> None:
    """A caffemodel has its net in itself, unless that is one to train with."""
    document = porter_cli("audit", shared / "oracle/rand_mobilenet_v1/model.caffemodel", "--fold", "--to", "f16", "--json").json
    assert (document["order_of_layers"], len(document["folded"])) == ("graph", 54)
    assert document["folded"][0]["with"] == ["conv1/bn.mean", "conv1/bn.variance", "conv1/scale.weight", "conv1/scale.bias"]
    det1 = shared / "real/mtcnn/caffe/det1"
    run = porter_cli("audit", f"{det1}.caffemodel", "--equalise", "--to", "i8", "--json")
    assert run.json["order_of_layers"] == "order"
    assert "--net deploy.prototxt" in run.json["notices"][-1]["message"]
    run = porter_cli("audit", f"{det1}.caffemodel", "--net", f"{det1}.prototxt", "--equalise", "--to", "i8", "--json")
    assert run.json["order_of_layers"] == "graph"


def test_epsilons_of_layers_that_are_described(tmp_path: Path) -> None:
    net = 'layer {{ name: "{0}" type: "BatchNorm" bottom: "x" top: "x" {1} }}\n'
    (tmp_path / "n.prototxt").write_text('input: "x"\n' + net.format("a", "batch_norm_param { eps: 0.001 }") + net.format("b", ""))
    spec = Tensor.from_array("v", np.ones(3, "<f4")).with_spec
    stated = StatedEpsilons(TensorStore(), str(tmp_path / "n.prototxt"))
    found = [stated.of(spec(attributes={"caffe.layer": layer}).spec) for layer in "abc"]
    assert found == [np.float32(0.001), 1e-5, None]
    store = TensorStore()
    config = '{"config": {"layers": [{"class_name": "BatchNormalization", "config": {"name": "n", "epsilon": 0.02}}]}}'
    store.attachments["keras.model_config"] = config.encode()
    assert StatedEpsilons(store, None).of(spec(attributes={"keras.layer": "n"}).spec) == 0.02
