"""Caffe's HDF5: real files, nets that say what the layers are, and files of the structure that Caffe writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import porter
from porter.errors import FormatError, LossError, UsageError
from porter.store import TensorStore
from porter.tensor import Tensor

WEIGHTS = "real/cifar10/bxuan_cifar10_quick_iter_5000.caffemodel.h5"
NET = "real/cifar10/bxuan_cifar10_quick.prototxt"


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def store_of(**arrays: np.ndarray) -> TensorStore:
    return TensorStore(Tensor.from_array(name, array) for name, array in arrays.items())


def contents(path: Path) -> dict[str, Any]:
    """Every object of a file: None for a group, else type, shape and bytes."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda n, o: found.update({n: (o.dtype, o.shape, o[()].tobytes()) if isinstance(o, h5py.Dataset) else None}))
    return found


def test_without_a_net(shared: Path) -> None:
    store = porter.open(shared / WEIGHTS)
    assert store.source is not None
    assert store.source.dialect == "caffe"
    assert [(t.name, t.shape) for t in store.values()] == [
        ("conv1.weight", (32, 3, 5, 5)),
        ("conv1.bias", (32,)),
        ("conv2.weight", (32, 32, 5, 5)),
        ("conv2.bias", (32,)),
        ("conv3.weight", (64, 32, 5, 5)),
        ("conv3.bias", (64,)),
        ("ip1.weight", (64, 1024)),
        ("ip1.bias", (64,)),
        ("ip2.weight", (10, 64)),
        ("ip2.bias", (10,)),
    ]
    assert store["ip2.bias"].attributes == {"caffe.layer": "ip2", "caffe.blob": 1}
    assert all(t.axes is None for t in store.values())
    assert [(n.kind, "5 layers" in n.message) for n in store.notices] == [("assumed", True)]
    with h5py.File(shared / WEIGHTS) as file:
        for tensor in store.values():
            blob = file["data"][tensor.attributes["caffe.layer"]][str(tensor.attributes["caffe.blob"])]
            assert tensor.tobytes() == blob[()].tobytes()


def test_with_a_net(shared: Path) -> None:
    store = porter.open(shared / WEIGHTS, net=shared / NET)
    assert not store.notices
    assert (store["conv1.weight"].axes, store["ip1.weight"].axes, store["ip1.bias"].axes) == ("OIHW", "OI", "O")
    assert store["conv1.weight"].attributes["caffe.type"] == "Convolution"


def test_written_as_caffe_writes_it(shared: Path, tmp_path: Path) -> None:
    porter.save(porter.open(shared / WEIGHTS), tmp_path / "m.caffemodel.h5")
    old, new = contents(shared / WEIGHTS), contents(tmp_path / "m.caffemodel.h5")
    assert new == {n: o for n, o in old.items() if o is not None or any(k.startswith(n + "/") for k in old)}
    with h5py.File(tmp_path / "m.caffemodel.h5") as file:
        assert "porter" not in file.attrs
    porter.save(porter.open(shared / WEIGHTS), tmp_path / "n.caffemodel.h5", net=shared / NET)
    assert {"data/relu1", "data/pool3", "data/prob"} <= set(contents(tmp_path / "n.caffemodel.h5"))


def test_binary_through_hdf5_is_the_same_file(shared: Path, tmp_path: Path) -> None:
    for name in ("lenet/ethereon_lenet_iter_10000", "libfacedetection/yufacedetectnet-open-v1", "lenet/everpeace_lenet_iter_10000"):
        path = shared / f"real/{name}.caffemodel"
        store = porter.open(path)
        assert store.source is not None
        porter.save(store, tmp_path / "m.caffemodel.h5", overwrite=True)
        back = porter.open(tmp_path / "m.caffemodel.h5")
        porter.save(back, tmp_path / "m.caffemodel", f"caffe:{store.source.dialect}", overwrite=True)
        assert (tmp_path / "m.caffemodel").read_bytes() == path.read_bytes()


def test_unknown_and_unusual_layers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.caffemodel.h5", "w") as file:
        file["data/bn/0"], file["data/bn/1"], file["data/bn/2"] = values(4), values(4), values(1)
        file["data/prelu/0"] = values(4)
        file["data/inception/1x1/0"] = values(4, 3, 1, 1)
        file["data/fc/0"] = values(4, 3)
        file["data/fc/extra"] = values(1)
        file.create_group("data/relu")
        file["diff/fc/0"] = values(4, 3)
    store = porter.open(tmp_path / "m.caffemodel.h5")
    assert list(store) == ["bn.blob0", "bn.blob1", "bn.blob2", "fc.weight", "inception/1x1.weight", "prelu.blob0"]
    assert sorted(n.kind for n in store.notices) == ["assumed", "skipped", "skipped"]


def test_a_net_names_unusual_layers_and_shared_parameters(tmp_path: Path) -> None:
    """Caffe writes a shared parameter once, with the first layer that has it."""
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "bn" }
        layer { name: "b" type: "InnerProduct" bottom: "bn" top: "b" param { name: "w" } param { name: "own" } }
        layer { name: "a" type: "InnerProduct" bottom: "b" top: "a" param { name: "w" } }
        layer { name: "odd" type: "Mystery" bottom: "a" top: "o" }
    """)
    with h5py.File(tmp_path / "m.caffemodel.h5", "w") as file:
        file["data/a/1"] = values(4)
        file["data/b/0"], file["data/b/1"] = values(4, 4), values(4)
        file["data/bn/0"], file["data/bn/1"], file["data/bn/2"] = values(4), values(4), values(1)
        file["data/odd/0"] = values(2, 2)
    store = porter.open(tmp_path / "m.caffemodel.h5", net=tmp_path / "net.prototxt")
    assert list(store) == ["bn.mean", "bn.variance", "bn.scale_factor", "b.weight", "b.bias", "a.bias", "odd.blob0", "a.weight"]
    assert store.ties == {"a.weight": "b.weight"}
    assert store["a.weight"].tobytes() == values(4, 4).tobytes()
    assert store["a.weight"].attributes == {"caffe.layer": "a", "caffe.blob": 0, "caffe.type": "InnerProduct"}
    assert ["Mystery" in n.message for n in store.notices] == [True]


class TestWriting:
    def test_weights_of_another_framework(self, tmp_path: Path) -> None:
        store = store_of(**{"fc.bias": values(4), "fc.weight": values(4, 3), "bn.running_mean": values(4), "scale": values(1)})
        report = porter.save(store, tmp_path / "m.caffemodel.h5")
        assert [n.kind for n in report.notices] == ["assumed"]
        assert "bn" in report.notices[0].message
        assert sorted(n for n, o in contents(tmp_path / "m.caffemodel.h5").items() if o) == [
            "data/bn/0",
            "data/fc/0",
            "data/fc/1",
            "data/scale/0",
        ]
        with h5py.File(tmp_path / "m.caffemodel.h5") as file:
            assert file["data/fc/0"].shape == (4, 3)
        back = porter.open(tmp_path / "m.caffemodel.h5")
        assert list(back) == list(store)
        assert back.digest() == store.digest()

    def test_a_net_settles_the_order(self, tmp_path: Path) -> None:
        (tmp_path / "net.prototxt").write_text('layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }')
        store = store_of(**{"bn.scale_factor": values(1), "bn.variance": values(4, seed=1), "bn.mean": values(4)})
        report = porter.save(store, tmp_path / "m.caffemodel.h5", net=tmp_path / "net.prototxt")
        assert not report.notices
        with h5py.File(tmp_path / "m.caffemodel.h5") as file:
            np.testing.assert_array_equal(file["data/bn/0"][()], values(4))
            np.testing.assert_array_equal(file["data/bn/1"][()], values(4, seed=1))
        with pytest.raises(LossError) as caught:
            porter.save(store_of(**{"bn.running_mean": values(4)}), tmp_path / "n.caffemodel.h5", net=tmp_path / "net.prototxt")
        assert caught.value.code == "L505"
        assert not (tmp_path / "n.caffemodel.h5").exists()

    def test_slashes_are_mentioned(self, tmp_path: Path) -> None:
        store = store_of(**{"inception/1x1.weight": values(4, 3, 1, 1), "inception.weight": values(2, 2)})
        report = porter.save(store, tmp_path / "m.caffemodel.h5")
        assert any("slash" in n.message for n in report.notices)
        assert list(porter.open(tmp_path / "m.caffemodel.h5")) == list(store)

    def test_a_layer_that_is_another_layers_blob(self, tmp_path: Path) -> None:
        with pytest.raises(LossError) as caught:
            porter.save(store_of(**{"a.weight": values(1, 1), "a/0.weight": values(1, 1)}), tmp_path / "m.caffemodel.h5")
        assert caught.value.code == "L501"


class TestSolverState:
    def test_as_caffe_writes_it(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.solverstate.h5", "w") as file:
            file.create_dataset("iter", (1,), "<i4")[0] = 5000
            file.create_dataset("current_step", (1,), "<i4")[0] = 2
            file["learned_net"] = np.array(b"snapshots/a.caffemodel.h5", "S26")  # H5LT counts the NUL
            for i in range(12):
                file[f"history/{i}"] = values(i + 1, 2, seed=i)
        store = porter.open(tmp_path / "m.solverstate.h5")
        assert store.source is not None
        assert store.source.dialect == "caffe-solverstate"
        assert store.metadata == {"iter": 5000, "current_step": 2, "learned_net": "snapshots/a.caffemodel.h5"}
        assert list(store) == [f"history.{i}" for i in range(12)]
        assert store["history.10"].tobytes() == values(11, 2, seed=10).tobytes()

        report = porter.save(store, tmp_path / "back.solverstate.h5")
        assert not report.notices
        assert contents(tmp_path / "back.solverstate.h5") == contents(tmp_path / "m.solverstate.h5")
        porter.save(store, tmp_path / "m.solverstate")
        binary = porter.open(tmp_path / "m.solverstate")
        assert (binary.metadata, binary.digest()) == (store.metadata, store.digest())

    def test_what_caffe_needs_is_filled_in_with_a_word(self, tmp_path: Path) -> None:
        report = porter.save(store_of(momentum=values(3)), tmp_path / "m.solverstate.h5")
        assert [n.kind for n in report.notices] == ["assumed", "assumed"]
        assert contents(tmp_path / "m.solverstate.h5")["iter"] == (np.dtype("i4"), (1,), bytes(4))
        assert list(porter.open(tmp_path / "m.solverstate.h5")) == ["momentum"]

    def test_a_number_that_is_none(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.solverstate.h5", "w") as file:
            file["iter"] = np.zeros(3)
            file["history/0"] = values(1)
        with pytest.raises(FormatError) as caught:
            porter.open(tmp_path / "m.solverstate.h5")
        assert caught.value.code == "F508"


def test_options_that_mean_nothing(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        porter.open(shared / WEIGHTS, select="data")
    with pytest.raises(UsageError):
        porter.open(shared / "real/keras_hyperlpr/model12.h5", net=shared / NET)
    with pytest.raises(UsageError):
        porter.save(store_of(a=values(1)), tmp_path / "m.h5", net=shared / NET)
    with pytest.raises(UsageError) as caught:
        porter.save(store_of(a=values(1)), tmp_path / "m.h5", "hdf5:plain")
    assert caught.value.code == "U502"


def test_asked_for_as_another_make(shared: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(shared / WEIGHTS, "hdf5:porter")
    assert caught.value.code == "F509"
    assert list(porter.open(shared / WEIGHTS, "hdf5:plain"))[:2] == ["data/conv1/0", "data/conv1/1"]
