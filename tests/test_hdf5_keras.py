"""Keras 1 to 3: real files and files written as Keras writes them, read and written, h5py as the second opinion."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import porter
from porter.errors import FormatError, LossError, PorterError, UnsafeFileError, UsageError
from porter.formats.hdf5.keras_layers import snake_case
from porter.store import TensorStore
from porter.tensor import Tensor


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def store_of(**arrays: np.ndarray) -> TensorStore:
    return TensorStore(Tensor.from_array(name, array) for name, array in arrays.items())


def layer(group: h5py.Group, name: str, weights: dict[str, np.ndarray]) -> None:
    """A layer as Keras 1 and 2 write it."""
    inner = group.create_group(name)
    inner.attrs["weight_names"] = [n.encode() for n in weights]
    for weight, array in weights.items():
        inner.create_dataset(weight, data=array)


class TestRealFiles:
    def test_weights_alone(self, shared: Path) -> None:
        path = shared / "real/keras_hyperlpr/model12.h5"
        store = porter.open(path)
        assert store.source is not None
        assert store.source.dialect == "keras2"
        assert [(t.name, t.shape, t.role, t.axes) for t in store.values()] == [
            ("conv1/kernel:0", (3, 3, 3, 10), "kernel", None),
            ("conv1/bias:0", (10,), "bias", None),
            ("conv2/kernel:0", (3, 3, 10, 16), "kernel", None),
            ("conv2/bias:0", (16,), "bias", None),
            ("conv3/kernel:0", (3, 3, 16, 32), "kernel", None),
            ("conv3/bias:0", (32,), "bias", None),
            ("dense_1/kernel:0", (2688, 2), "kernel", None),
            ("dense_1/bias:0", (2,), "bias", None),
        ]
        assert store.metadata == {"keras_version": "2.0.8", "backend": "tensorflow"}
        with h5py.File(path) as file:
            for tensor in store.values():
                name = tensor.attributes["keras.layer"]
                assert tensor.tobytes() == file[name][tensor.name][()].tobytes()

    def test_whole_model(self, shared: Path) -> None:
        path = shared / "real/keras_faceclass/tiny_XCEPTION_KDEF.hdf5"
        store = porter.open(path)
        assert len(store) == 80
        assert store.size == 18314
        axes = {t.attributes["keras.class"]: t.axes for t in store.values() if t.role in ("kernel", "depthwise_kernel", "gamma")}
        assert axes == {"Conv2D": "HWIO", "SeparableConv2D": "HWIM", "BatchNormalization": "C"}
        assert json.loads(store.attachments["keras.model_config"])["class_name"] == "Model"
        assert json.loads(store.attachments["keras.training_config"])["loss"] == "categorical_crossentropy"
        assert [(n.kind, "105 variables of the optimizer" in n.message) for n in store.notices] == [("skipped", True)]
        optimizer = porter.open(path, select="optimizer_weights")
        assert len(optimizer) == 105
        assert next(iter(optimizer)) == "iterations:0"
        with pytest.raises(UsageError) as caught:
            porter.open(path, select="nothing")
        assert "optimizer_weights" in (caught.value.hint or "")

    @pytest.mark.parametrize("name", ["keras_hyperlpr/model12.h5", "keras_faceclass/tiny_XCEPTION_KDEF.hdf5"])
    def test_written_back(self, shared: Path, name: str, tmp_path: Path) -> None:
        """The model's part of the file is what Keras wrote: groups with weights, names, order, values, configuration."""
        store = porter.open(shared / "real" / name)
        report = porter.save(store, tmp_path / "m.h5", "hdf5:keras2")
        assert not report.losses
        with h5py.File(shared / "real" / name) as old, h5py.File(tmp_path / "m.h5") as new:
            assert "porter" not in new.attrs, "Keras' own structure says everything"
            for key in set(old.attrs) - {"layer_names"}:
                assert old.attrs[key] in (new.attrs[key], new.attrs[key].decode() if isinstance(new.attrs[key], bytes) else None)
            before, after = (f.get("model_weights", f) for f in (old, new))
            names = [n for n in before.attrs["layer_names"] if len(before[n].attrs["weight_names"])]
            assert list(after.attrs["layer_names"]) == names
            for key in names:
                assert list(before[key].attrs["weight_names"]) == list(after[key].attrs["weight_names"])
                for weight in before[key].attrs["weight_names"]:
                    assert before[key][weight][()].tobytes() == after[key][weight][()].tobytes()
                    assert before[key][weight].dtype == after[key][weight].dtype

    def test_through_another_format_and_back(self, shared: Path, tmp_path: Path) -> None:
        first = porter.open(shared / "real/keras_faceclass/tiny_XCEPTION_KDEF.hdf5")
        porter.save(first, tmp_path / "m.safetensors")
        porter.save(porter.open(tmp_path / "m.safetensors"), tmp_path / "back.h5", "hdf5:keras2")
        porter.save(first, tmp_path / "direct.h5", "hdf5:keras2")
        assert (tmp_path / "back.h5").read_bytes() == (tmp_path / "direct.h5").read_bytes()


class TestKeras2:
    def test_split_attributes(self, tmp_path: Path) -> None:
        names = [f"a_layer_with_a_rather_long_name_so_that_the_list_grows_{i:05d}" for i in range(1500)]
        with h5py.File(tmp_path / "m.h5", "w") as file:
            data = np.array([n.encode() for n in names])
            for i, part in enumerate(np.array_split(data, 3)):
                file.attrs[f"layer_names{i}"] = part
            for name in names:
                layer(file, name, {f"{name}/kernel:0": np.float32(1).reshape(1)} if name.endswith("0") else {})
        store = porter.open(tmp_path / "m.h5")
        assert list(store) == [f"{n}/kernel:0" for n in names if n.endswith("0")]

    def test_many_layers_within_one_group(self, tmp_path: Path) -> None:
        """Names of layers with a slash in them: each leads through a group of them all, which is read once."""
        names = [f"block/dense_{i}" for i in range(1500)]
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["layer_names"] = [name.encode() for name in names]
            for name in names:
                file.create_group(name).attrs["weight_names"] = [b"kernel:0"]
                file[f"{name}/kernel:0"] = np.ones(1, "f4")
        with porter.open(tmp_path / "m.h5") as store:
            assert list(store) == [f"{name}/kernel:0" for name in names]

    def test_long_lists_are_split_as_keras_does(self, tmp_path: Path) -> None:
        names = [f"layer_{i:04d}_{'x' * 60}" for i in range(1200)]
        porter.save(store_of(**{f"{n}/kernel:0": np.ones(1, "f4") for n in names}), tmp_path / "m.h5", "hdf5:keras2")
        with h5py.File(tmp_path / "m.h5") as file:
            assert "layer_names" not in file.attrs
            parts = [file.attrs[f"layer_names{i}"] for i in range(2)]
            assert "layer_names2" not in file.attrs
            assert all(p.nbytes <= 64512 for p in parts)
            assert [n.decode() for p in parts for n in p] == names
        assert list(porter.open(tmp_path / "m.h5")) == [f"{n}/kernel:0" for n in names]

    def test_names_that_layers_share_get_the_layer_in_front(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["layer_names"] = [b"left", b"right", b"top"]
            layer(file, "left", {"conv/kernel:0": values(3, 3, 1, 2)})
            layer(file, "right", {"conv/kernel:0": values(3, 3, 1, 2, seed=1)})
            layer(file, "top", {"top/kernel:0": values(4, 2)})
        store = porter.open(tmp_path / "m.h5")
        assert list(store) == ["left/conv/kernel:0", "right/conv/kernel:0", "top/kernel:0"]
        porter.save(store, tmp_path / "back.h5", "hdf5:keras2")
        with h5py.File(tmp_path / "back.h5") as file:
            assert list(file["right"].attrs["weight_names"]) == [b"conv/kernel:0"]
            np.testing.assert_array_equal(file["right"]["conv/kernel:0"][()], values(3, 3, 1, 2, seed=1))

    def test_keras_1(self, tmp_path: Path) -> None:
        config = {
            "class_name": "Sequential",
            "config": [
                {"class_name": "Convolution2D", "config": {"name": "convolution2d_1", "dim_ordering": "th"}},
                {"class_name": "Dense", "config": {"name": "dense_1"}},
            ],
        }
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["model_config"] = json.dumps(config).encode()
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = [b"convolution2d_1", b"dense_1"]
            layer(group, "convolution2d_1", {"convolution2d_1_W": values(8, 3, 5, 5), "convolution2d_1_b": values(8)})
            layer(group, "dense_1", {"dense_1_W": values(4, 2), "dense_1_b": values(2)})
        store = porter.open(tmp_path / "m.h5")
        assert [(t.name, t.role, t.axes) for t in store.values()] == [
            ("convolution2d_1_W", "kernel", "OIHW"),
            ("convolution2d_1_b", "bias", None),
            ("dense_1_W", "kernel", "IO"),
            ("dense_1_b", "bias", "O"),
        ]

    def test_numbered_parameters(self, tmp_path: Path) -> None:
        """Keras before 1.0: the number of layers, and everything numbered."""
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["nb_layers"] = 12
            for i in range(12):
                group = file.create_group(f"layer_{i}")
                group.attrs["nb_params"] = 2 if i % 5 == 0 else 0
                for p in range(2 if i % 5 == 0 else 0):
                    group[f"param_{p}"] = values(2, seed=10 * i + p)
        store = porter.open(tmp_path / "m.h5")
        assert list(store) == [f"layer_{i}/param_{p}" for i in (0, 5, 10) for p in (0, 1)]
        assert store["layer_10/param_1"].tobytes() == values(2, seed=101).tobytes()

    def test_nested_models_and_wrappers(self, tmp_path: Path) -> None:
        inner = {"class_name": "Model", "config": {"name": "enc", "layers": [{"class_name": "Conv2D", "config": {"name": "c"}}]}}
        wrapped = {"class_name": "TimeDistributed", "config": {"name": "td", "layer": {"class_name": "Dense", "config": {"name": "d"}}}}
        config = {"class_name": "Model", "config": {"name": "m", "layers": [inner, wrapped]}}
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["model_config"] = json.dumps(config)
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = [b"enc", b"td"]
            layer(group, "enc", {"c/kernel:0": values(3, 3, 1, 2)})
            layer(group, "td", {"td/kernel:0": values(4, 2)})
        store = porter.open(tmp_path / "m.h5")
        assert [(t.attributes["keras.class"], t.axes) for t in store.values()] == [("Conv2D", "HWIO"), ("Dense", "IO")]

    def test_top_level_weights_and_strays(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["layer_names"] = [b"a"]
            layer(file, "a", {"a/kernel:0": values(1)})
            layer(file, "top_level_model_weights", {"scale:0": values(1, seed=1)})
            layer(file, "unlisted", {"u:0": values(1)})
        store = porter.open(tmp_path / "m.h5")
        assert list(store) == ["a/kernel:0", "scale:0"]
        assert ["unlisted" in n.message for n in store.notices] == [True]

    @pytest.mark.parametrize("fault", ["missing weight", "missing layer", "twice"])
    def test_lists_that_do_not_fit(self, fault: str, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["layer_names"] = {"missing layer": [b"a", b"b"], "twice": [b"a", b"a"]}.get(fault, [b"a"])
            layer(file, "a", {"a/kernel:0": values(1)})
            if fault == "missing weight":
                del file["a/a/kernel:0"]
        with pytest.raises(FormatError) as caught:
            porter.open(tmp_path / "m.h5")
        assert caught.value.code == "F510"

    @pytest.mark.parametrize("name", ["/leading", "a/./b", ".", "nul\0"])
    def test_names_that_keras_cannot_have(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(LossError) as caught:
            porter.save(store_of(**{name: values(1)}), tmp_path / "m.h5", "hdf5:keras2")
        assert caught.value.code == "L502"
        assert not list(tmp_path.iterdir())

    def test_a_dataset_in_the_way(self, tmp_path: Path) -> None:
        with pytest.raises(LossError) as caught:
            porter.save(store_of(**{"a/b": values(1), "a/b/c": values(1)}), tmp_path / "m.h5", "hdf5:keras2")
        assert caught.value.code == "L501"
        assert not list(tmp_path.iterdir())

    def test_config_that_is_no_json(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["model_config"] = "{" * 100_000
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = [b"a"]
            layer(group, "a", {"a/kernel:0": values(1)})
        store = porter.open(tmp_path / "m.h5")
        assert store["a/kernel:0"].role == "kernel"
        assert [n.kind for n in store.notices] == ["skipped"]


CONFIG: dict[str, Any] = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "m",
        "layers": [
            {"class_name": "InputLayer", "config": {"name": "in"}},
            {"class_name": "Conv2D", "config": {"name": "c1", "use_bias": True}},
            {"class_name": "BatchNormalization", "config": {"name": "bn", "scale": False}},
            {"class_name": "Dense", "config": {"name": "d1", "use_bias": True}},
            {"class_name": "Dense", "config": {"name": "d2", "use_bias": False}},
            {"class_name": "LSTM", "config": {"name": "rnn"}},
            {"class_name": "Mine", "config": {"name": "own"}},
        ],
    },
}
PLACES = {
    "layers/conv2d": [values(3, 3, 1, 4), values(4)],
    "layers/batch_normalization": [values(4, seed=i) for i in range(3)],
    "layers/dense": [values(16, 10), values(10)],
    "layers/dense_1": [values(10, 3)],
    "layers/lstm/cell": [values(3, 8), values(2, 8), values(8)],
    "layers/mine": [values(2)],
}
EXPECTED = [
    ("layers/conv2d/vars/0", "kernel", "HWIO", "c1"),
    ("layers/conv2d/vars/1", "bias", "O", "c1"),
    ("layers/batch_normalization/vars/0", "beta", "C", "bn"),
    ("layers/batch_normalization/vars/1", "moving_mean", "C", "bn"),
    ("layers/batch_normalization/vars/2", "moving_variance", "C", "bn"),
    ("layers/dense/vars/0", "kernel", "IO", "d1"),
    ("layers/dense/vars/1", "bias", "O", "d1"),
    ("layers/dense_1/vars/0", "kernel", "IO", "d2"),
    ("layers/lstm/cell/vars/0", "kernel", "IO", "rnn"),
    ("layers/lstm/cell/vars/1", "recurrent_kernel", "IO", "rnn"),
    ("layers/lstm/cell/vars/2", "bias", "O", "rnn"),
    ("layers/mine/vars/0", None, None, "own"),
]


def write_keras3(target: Any, *, chunked: bool = False, optimizer: bool = True) -> None:
    with h5py.File(target, "w") as file:
        file.create_group("vars")
        for path, arrays in PLACES.items():
            group = file.create_group(f"{path}/vars")
            for i, array in enumerate(arrays):
                group.create_dataset(str(i), data=array, chunks=(chunked and array.ndim > 1) or None)
        if optimizer:
            file["optimizer/vars/0"] = np.int64(7)


def write_archive(path: Path, method: int = zipfile.ZIP_STORED, **options: bool) -> None:
    weights = io.BytesIO()
    write_keras3(weights, **options)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.4.1", "date_saved": "2024-01-01@00:00:00"}))
        archive.writestr("config.json", json.dumps(CONFIG))
        archive.writestr("model.weights.h5", weights.getvalue())
        archive.writestr("assets/vocabulary.txt", "a\nb\n")


class TestKeras3:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("BatchNormalization", "batch_normalization"),
            ("LSTM", "lstm"),
            ("MultiHeadAttention", "multi_head_attention"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
        ],
    )
    def test_snake_case(self, name: str, expected: str) -> None:
        assert snake_case(name) == expected

    def test_weights_alone(self, tmp_path: Path) -> None:
        write_keras3(tmp_path / "m.weights.h5")
        store = porter.open(tmp_path / "m.weights.h5")
        assert store.source is not None
        assert store.source.dialect == "keras3"
        assert sorted(store) == sorted(name for name, *_ in EXPECTED)
        assert all(t.role is None and t.axes is None for t in store.values())
        assert porter.open(tmp_path / "m.weights.h5", select="optimizer_weights")["optimizer/vars/0"].numpy() == 7

    def test_numbered_layers_stay_in_order(self, tmp_path: Path) -> None:
        names = ["layers/dense/vars/0", *(f"layers/dense_{i}/vars/0" for i in range(1, 13))]
        porter.save(store_of(**{n: values(1) for n in names}), tmp_path / "m.weights.h5")
        assert list(porter.open(tmp_path / "m.weights.h5")) == names
        with h5py.File(tmp_path / "m.weights.h5") as file:
            assert "porter" not in file.attrs

    def test_bfloat16_as_keras_reads_it(self, tmp_path: Path) -> None:
        array = np.array([1.5, -2.0, np.nan], ml_dtypes.bfloat16)
        porter.save(store_of(**{"layers/dense/vars/0": array}), tmp_path / "m.weights.h5")
        with h5py.File(tmp_path / "m.weights.h5") as file:
            made = file["layers/dense/vars/0"]
            assert made.attrs["dtype"] == "bfloat16"
            # What Keras does with it: saving_lib.py, H5Entry.__getitem__.
            assert np.array(made, dtype=ml_dtypes.bfloat16).tobytes() == array.tobytes()
        assert porter.open(tmp_path / "m.weights.h5")["layers/dense/vars/0"].tobytes() == array.tobytes()

    def test_names_of_other_frameworks_are_reported(self, tmp_path: Path) -> None:
        report = porter.save(store_of(**{"conv.weight": values(1)}), tmp_path / "m.weights.h5")
        assert any("vars" in n.message for n in report.notices)

    def test_the_optimizers_place_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(LossError) as caught:
            porter.save(store_of(**{"optimizer/vars/0": values(1)}), tmp_path / "m.weights.h5")
        assert caught.value.code == "L504"
        assert not list(tmp_path.iterdir())


class TestArchive:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
    def test_read(self, method: int, tmp_path: Path) -> None:
        path = tmp_path / "m.keras"
        write_archive(path, method)
        store = porter.open(path)
        assert [(t.name, t.role, t.axes, t.attributes["keras.layer"]) for t in store.values()] == EXPECTED
        assert store.metadata == {"keras_version": "3.4.1", "date_saved": "2024-01-01@00:00:00"}
        assert json.loads(store.attachments["keras.config"]) == CONFIG
        assert store.attachments["keras.asset/assets/vocabulary.txt"] == b"a\nb\n"
        for place, arrays in PLACES.items():
            for i, array in enumerate(arrays):
                assert store[f"{place}/vars/{i}"].tobytes() == array.tobytes()
        assert all(t.location is not None for t in store.values())
        if method == zipfile.ZIP_STORED:
            first = store["layers/conv2d/vars/0"]
            assert first.location is not None
            start = first.location.offset
            assert path.read_bytes()[start : start + first.nbytes] == first.tobytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m.keras"]

    def test_written_whole(self, tmp_path: Path) -> None:
        write_archive(tmp_path / "m.keras", optimizer=False)
        store = porter.open(tmp_path / "m.keras")
        report = porter.save(store, tmp_path / "new.keras")
        assert not report.losses
        back = porter.open(tmp_path / "new.keras")
        assert back.digest() == store.digest()
        assert list(back) == list(store)
        assert (back.metadata, back.attachments) == (store.metadata, store.attachments)
        with zipfile.ZipFile(tmp_path / "new.keras") as archive:
            assert archive.testzip() is None
            assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
            with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
                assert "porter" not in file.attrs
                np.testing.assert_array_equal(file["layers/dense/vars/0"][()], PLACES["layers/dense"][0])
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m.keras", "new.keras"]

    def test_without_a_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as caught:
            porter.save(store_of(a=values(1)), tmp_path / "m.keras")
        assert caught.value.code == "U504"
        assert "--into" in (caught.value.hint or "")
        assert not list(tmp_path.iterdir())

    def test_other_archives(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("model.weights.npz", "x")
        with pytest.raises(FormatError) as caught:
            porter.open(tmp_path / "m.keras")
        assert caught.value.code == "F511"
        assert "npz" in (caught.value.hint or "")

    def test_bomb(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("model.weights.h5", bytes(100 << 20))
        with pytest.raises(UnsafeFileError) as caught:
            porter.open(tmp_path / "m.keras", "hdf5")
        assert caught.value.code == "S002"

    def test_a_configuration_that_expands(self, tmp_path: Path) -> None:
        path = tmp_path / "m.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", b"[" + b"[], " * (15 << 20) + b"[]]")
            archive.writestr("model.weights.h5", b"")
        with pytest.raises(UnsafeFileError) as caught:
            porter.open(path)
        assert caught.value.code == "S003"


class TestInto:
    @pytest.mark.parametrize("chunked", [False, True], ids=["contiguous", "chunked"])
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
    def test_archive(self, method: int, chunked: bool, tmp_path: Path) -> None:
        write_archive(tmp_path / "m.keras", method, chunked=chunked)
        old = porter.open(tmp_path / "m.keras")
        new = TensorStore(Tensor.from_array(t.name, t.numpy() + 1) for t in old.values() if "dense" in t.name)
        report = porter.save(new, tmp_path / "new.keras", into=tmp_path / "m.keras")
        assert any("9 tensors of the file keep" in n.message for n in report.notices)
        back = porter.open(tmp_path / "new.keras")
        assert list(back) == list(old)
        for name, tensor in back.items():
            assert tensor.tobytes() == (new[name] if name in new else old[name]).tobytes()
        with zipfile.ZipFile(tmp_path / "m.keras") as before, zipfile.ZipFile(tmp_path / "new.keras") as after:
            assert after.testzip() is None
            assert before.namelist() == after.namelist()
            for name in before.namelist():
                if name != "model.weights.h5":
                    assert before.read(name) == after.read(name)
                assert before.getinfo(name).date_time == after.getinfo(name).date_time
            with h5py.File(io.BytesIO(after.read("model.weights.h5"))) as file:
                assert file["optimizer/vars/0"][()] == 7
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m.keras", "new.keras"]

    def test_only_the_values_change(self, shared: Path, tmp_path: Path) -> None:
        path = shared / "real/keras_faceclass/tiny_XCEPTION_KDEF.hdf5"
        old = porter.open(path)
        name = "conv2d_2/kernel:0"
        new = TensorStore([Tensor.from_array(name, old[name].numpy() * 2)])
        porter.save(new, tmp_path / "new.h5", into=path)
        where = old[name].location
        assert where is not None
        data = bytearray(path.read_bytes())
        data[where.offset : where.offset + where.nbytes] = new[name].tobytes()
        assert (tmp_path / "new.h5").read_bytes() == bytes(data)

    def test_same_values_same_file(self, shared: Path, tmp_path: Path) -> None:
        path = shared / "real/keras_hyperlpr/model12.h5"
        porter.save(porter.open(path), tmp_path / "new.h5", into=path)
        assert (tmp_path / "new.h5").read_bytes() == path.read_bytes()

    def test_onto_itself(self, tmp_path: Path) -> None:
        write_archive(tmp_path / "m.keras")
        old = porter.open(tmp_path / "m.keras")
        new = TensorStore(Tensor.from_array(t.name, -t.numpy()) for t in old.values())
        porter.save(new, tmp_path / "m.keras", into=tmp_path / "m.keras", overwrite=True)
        assert porter.open(tmp_path / "m.keras").digest() == new.digest()

    def test_big_endian_and_never_written(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file["big"] = np.arange(5, dtype=">f4")
            file.create_dataset("later", (5,), "f4")
        new = store_of(big=values(5), later=values(5, seed=1))
        porter.save(new, tmp_path / "new.h5", into=tmp_path / "m.h5")
        with h5py.File(tmp_path / "new.h5") as file:
            assert file["big"].dtype == ">f4"
            np.testing.assert_array_equal(file["big"][()], values(5))
            np.testing.assert_array_equal(file["later"][()], values(5, seed=1))

    @pytest.mark.parametrize(
        ("name", "array", "code"),
        [("conv9/kernel:0", values(1), "L506"), ("conv1/bias:0", values(11), "L507"), ("conv1/bias:0", np.zeros(10), "L507")],
        ids=["name", "shape", "dtype"],
    )
    def test_what_does_not_fit(self, shared: Path, name: str, array: np.ndarray, code: str, tmp_path: Path) -> None:
        with pytest.raises(LossError) as caught:
            porter.save(store_of(**{name: array}), tmp_path / "new.h5", into=shared / "real/keras_hyperlpr/model12.h5")
        assert caught.value.code == code
        assert caught.value.where.tensor == name
        assert caught.value.hint
        assert not list(tmp_path.iterdir())

    def test_one_dataset_under_two_names(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file["a"] = values(3)
            file["b"] = file["a"]
        with pytest.raises(LossError) as caught:
            porter.save(store_of(a=values(3), b=values(3, seed=1)), tmp_path / "new.h5", into=tmp_path / "m.h5")
        assert caught.value.code == "L508"
        porter.save(store_of(a=values(3, seed=1), b=values(3, seed=1)), tmp_path / "new.h5", into=tmp_path / "m.h5")
        np.testing.assert_array_equal(porter.open(tmp_path / "new.h5")["a"].numpy(), values(3, seed=1))

    def test_another_dialect(self, shared: Path, tmp_path: Path) -> None:
        with pytest.raises(PorterError) as caught:
            porter.save(store_of(a=values(1)), tmp_path / "m.keras", into=shared / "real/keras_hyperlpr/model12.h5")
        assert caught.value.code == "U503"
