"""What porter writes, OpenCV reads, and computes from it what it computed from the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import porter
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

cv2 = pytest.importorskip("cv2")

NETS = [
    ("mtcnn/caffe/det1", "mtcnn/caffe/det1.prototxt", (1, 3, 12, 12)),
    ("mtcnn/caffe/det2", "mtcnn/caffe/det2.prototxt", (1, 3, 24, 24)),
    ("mtcnn/caffe/det3", "mtcnn/caffe/det3.prototxt", (1, 3, 48, 48)),
    ("lenet/ethereon_lenet_iter_10000", "lenet/ethereon_lenet.prototxt", (64, 1, 28, 28)),
    ("lenet/everpeace_lenet_iter_10000", "lenet/everpeace_lenet.prototxt", (64, 1, 28, 28)),
    ("cifar10/everpeace_cifar10_full_iter_60000", "cifar10/everpeace_cifar10_full.prototxt", (1, 3, 32, 32)),
    ("cifar10/bxuan_cifar10_quick_iter_4000", "cifar10/bxuan_cifar10_quick.prototxt", (1, 3, 32, 32)),
    ("hyperlpr/lpr_HorizonalFinemapping", "hyperlpr/HorizonalFinemapping.prototxt", (1, 3, 16, 66)),
]
every_net = pytest.mark.parametrize(("weights", "text", "shape"), NETS, ids=[n[0].rsplit("/", 1)[-1] for n in NETS])


def outputs(text: Path, weights: Path, shape: tuple[int, ...]) -> list[np.ndarray]:
    net = cv2.dnn.readNetFromCaffe(str(text), str(weights))
    net.setInput(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    return list(net.forward(net.getUnconnectedOutLayersNames()))


def assert_computes_the_same(shared: Path, weights: str, text: str, shape: tuple[int, ...], written: Path) -> None:
    real = shared / "real"
    expected = outputs(real / text, real / f"{weights}.caffemodel", shape)
    for before, after in zip(expected, outputs(real / text, written, shape), strict=True):
        np.testing.assert_array_equal(before, after)


@every_net
def test_v2(shared: Path, weights: str, text: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    porter.save(porter.open(shared / "real" / f"{weights}.caffemodel"), tmp_path / "a.caffemodel")
    assert_computes_the_same(shared, weights, text, shape, tmp_path / "a.caffemodel")


@every_net
def test_weights_without_structure_into_a_prototxt(shared: Path, weights: str, text: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Only names, shapes and values, as from any other framework. Half precision becomes single on the way."""
    store = porter.open(shared / "real" / f"{weights}.caffemodel")
    bare = TensorStore(Tensor(TensorSpec(t.name, t.dtype, t.shape), t.payload) for t in store.values())
    porter.save(bare, tmp_path / "a.caffemodel", net=str(shared / "real" / text))
    assert_computes_the_same(shared, weights, text, shape, tmp_path / "a.caffemodel")


@pytest.mark.parametrize("index", [3, 4, 5, 6])
def test_v1(shared: Path, index: int, tmp_path: Path) -> None:
    weights, text, shape = NETS[index]
    porter.save(porter.open(shared / "real" / f"{weights}.caffemodel"), tmp_path / "a.caffemodel", "caffe:v1")
    assert_computes_the_same(shared, weights, text, shape, tmp_path / "a.caffemodel")


def test_porters_own_field_is_passed_over(shared: Path, tmp_path: Path) -> None:
    weights, text, shape = NETS[0]
    store = porter.open(shared / "real" / f"{weights}.caffemodel")
    store.metadata["note"] = "x" * 5000
    porter.save(store, tmp_path / "a.caffemodel")
    assert porter.open(tmp_path / "a.caffemodel").metadata == {"note": "x" * 5000}
    assert_computes_the_same(shared, weights, text, shape, tmp_path / "a.caffemodel")


def test_doubles_are_for_caffe_alone(shared: Path, tmp_path: Path) -> None:
    """What the notice says is so: should OpenCV ever read `double_data`, this test tells."""
    weights, text, shape = NETS[3]
    store = porter.open(shared / "real" / f"{weights}.caffemodel")
    for tensor in list(store.values()):
        wide = tensor.numpy().astype(np.float64)
        store.replace(Tensor.from_array(tensor.name, wide, axes=tensor.axes, role=tensor.role, attributes=tensor.attributes))
    report = porter.save(store, tmp_path / "a.caffemodel")
    assert [n.message for n in report.notices] == ["8 float64 tensors written as double_data, which Caffe reads and OpenCV refuses"]
    with pytest.raises(cv2.error):
        outputs(shared / "real" / text, tmp_path / "a.caffemodel", shape)
