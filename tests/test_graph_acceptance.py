"""Porting seen from outside: what a sceptical user tried, each a case that once went wrong or that nothing else holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from caffe_runs import golden, recorded_inputs
from graph_nets import one_layer, ported

from porter.errors import FormatError, GraphError
from porter.graph.porting import PortOptions, port

DATA = 'input: "data" input_shape { dim: 1 dim: 4 dim: 8 dim: 8 }'


def outputs(text: str) -> list[str | None]:
    return [value.name for value in ported(text).model.graph.outputs]


def test_what_is_silenced_is_no_output() -> None:
    """As in Caffe, whose `Silence` is there for that."""
    halves = f"""{DATA} layer {{ name: "s" type: "Slice" bottom: "data" top: "x" top: "y" }}
    layer {{ name: "r" type: "ReLU" bottom: "x" top: "out" }}
    layer {{ name: "quiet" type: "Silence" bottom: "y" }}"""
    assert outputs(halves) == ["out"]
    all_silenced = f'{DATA} layer {{ name: "r" type: "ReLU" bottom: "data" top: "out" }} layer {{ type: "Silence" bottom: "out" }}'
    assert outputs(all_silenced) == ["out"]


@pytest.mark.parametrize(
    "layer",
    [
        'type: "InnerProduct" inner_product_param { num_output: 2147483647 }',
        'type: "Embed" embed_param { input_dim: 2000000000 num_output: 2000000 }',
    ],
)
def test_weights_beyond_caffes(layer: str) -> None:
    """Else terabytes of weights would be made up for a net of one line."""
    with pytest.raises(GraphError, match="more values than a blob of Caffe can") as caught:
        ported(one_layer(layer, (1, 4, 8, 8)))
    assert caught.value.code == "G037"


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_endless_sequences(kind: str) -> None:
    with pytest.raises(GraphError, match="100000 steps") as caught:
        ported(one_layer(f'type: "{kind}" recurrent_param {{ num_output: 1 }}', (100000, 1, 1), cont=(100000, 1)))
    assert caught.value.code == "G019"


@pytest.mark.parametrize("name", ["DetectionOutput_center", "ROIPooling_basic", "YoloDetectionOutput_basic"])
def test_detection_in_pytorch_can_be_exported(shared: Path, tmp_path: Path, name: str) -> None:
    """What boxes are found follows from the values, and must stop neither `torch.export` nor `torch.compile` of a whole graph."""
    folder = shared / "oracle" / "zoo" / name
    ported_ = port(str(folder / "deploy.prototxt"), None, str(tmp_path / "out"), PortOptions(targets=("torch",)))
    module: dict[str, Any] = {"__name__": "net"}
    exec(compile((tmp_path / "out/model.py").read_text(), "model.py", "exec"), module)
    net = module["Net"]().eval()
    net.load_state_dict(torch.load(tmp_path / "out/model.pth", weights_only=True))
    record = golden(folder)
    found = recorded_inputs(record, ported_.network)
    inputs = tuple([torch.from_numpy(found[n]) for n in net.input_names])
    expected = net(*inputs)
    assert np.allclose(expected, record[f"output/{net.output_names[0]}"], atol=1e-4)
    assert torch.equal(torch.export.export(net, inputs).module()(*inputs), expected)
    assert torch.equal(torch.compile(net, backend="eager", fullgraph=True)(*inputs), expected)


def _broken(change: str) -> bytes:
    node = onnx.helper.make_node("Relu", ["x" if change != "input" else "nothing"], ["y"], name="relu")
    infos = [onnx.helper.make_tensor_value_info(n, 1, [1, 2, 3, 3]) for n in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:1], infos[1:]), ir_version=8, producer_name="maker")
    if change == "attribute":
        model.graph.node[0].attribute.add(name="what")
    data = model.SerializeToString()
    return {"name": data.replace(b"relu", b"re\xffu"), "producer": data.replace(b"maker", b"ma\xffer")}.get(change, data)


@pytest.mark.parametrize("target", ["onnx", "torch", "wts", "caffe"])
@pytest.mark.parametrize("change", ["input", "attribute", "name", "producer"])
def test_broken_models_are_refused_for_each_target(tmp_path: Path, change: str, target: str) -> None:
    (tmp_path / "model.onnx").write_bytes(_broken(change))
    with pytest.raises((GraphError, FormatError)):
        port(str(tmp_path / "model.onnx"), None, str(tmp_path / "out"), PortOptions(targets=(target,)))
    assert not (tmp_path / "out").exists()


def test_channels_moved_by_a_weight_too_large(tmp_path: Path) -> None:
    """It would have taken 37 GiB."""
    (tmp_path / "net.prototxt").write_text(one_layer('type: "Reorg" reorg_param { stride: 2 reverse: true }', (1, 100000, 3, 4)))
    with pytest.raises(GraphError, match="would have more than"):
        port(str(tmp_path / "net.prototxt"), None, str(tmp_path / "out"), PortOptions(targets=("caffe",)))


def test_a_detection_layer_without_tops() -> None:
    given = {"loc": "dim: 1 dim: 16", "conf": "dim: 1 dim: 8", "prior": "dim: 1 dim: 2 dim: 16"}
    shapes = " ".join(f'input: "{name}" input_shape {{ {shape} }}' for name, shape in given.items())
    bottoms = " ".join(f'bottom: "{name}"' for name in given)
    with pytest.raises(GraphError) as caught:
        ported(f'{shapes} layer {{ name: "d" type: "DetectionOutput" {bottoms} detection_output_param {{ num_classes: 2 }} }}')
    assert caught.value.code == "G014"
