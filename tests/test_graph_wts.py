"""`model.wts` and `model.pmap` of recorded networks: the map, applied to Caffe's file, gives the state bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_runs import weights_of

import porter
from porter.graph.porting import PortOptions, port


@pytest.mark.parametrize("name", ["mtcnn_det1", "lenet_v1", "cifar10_quick_h5", "rand_mobilenet_v1", "waifu2x_upconv7", "zoo/Model_double"])
def test_the_map_makes_the_weights(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "oracle" / name
    weights = weights_of(folder)
    made = port(str(folder / "deploy.prototxt"), str(weights), str(tmp_path / "out"), PortOptions(targets=["torch", "wts"]))
    rounded = ["4 tensors of the weights are float64 and become float32, which Caffe computes in"]
    assert made.report["notices"] == (rounded if name == "zoo/Model_double" else [])
    with porter.open(weights, net=folder / "deploy.prototxt") as store, porter.open(tmp_path / "out/model.pth") as state:
        mapped = porter.apply_map(tmp_path / "out/model.pmap", store)
        assert {n: t.tobytes() for n, t in mapped.items()} == {n: t.tobytes() for n, t in state.items()}
        assert {n: t.shape for n, t in mapped.items()} == {n: t.shape for n, t in state.items()}


def test_wts_has_the_state(shared: Path, tmp_path: Path) -> None:
    folder = shared / "oracle/mtcnn_det1"
    port(str(folder / "deploy.prototxt"), str(weights_of(folder)), str(tmp_path / "out"), PortOptions(targets=["torch", "wts"]))
    assert porter.diff(tmp_path / "out/model.wts", tmp_path / "out/model.pth").equal


def test_statistics_are_divided_as_caffe_does(shared: Path, tmp_path: Path) -> None:
    """One over the scale factor in float32, times the statistic; nobody else's arithmetic."""
    folder = shared / "oracle/rand_mobilenet_v1"
    weights = weights_of(folder)
    port(str(folder / "deploy.prototxt"), str(weights), str(tmp_path / "out"), PortOptions(targets=["torch", "wts"]))
    with porter.open(weights) as store, porter.open(tmp_path / "out/model.pth") as state:
        factor = np.float32(1) / store["conv1/bn.scale_factor"].numpy()[0]
        assert factor != 1
        assert np.array_equal(state["conv1_bn.running_mean"].numpy(), store["conv1/bn.mean"].numpy() * factor)
