"""The maps that come with porter, and the tables they take from files: on real nets, against runs recorded in Caffe, and on
nets made to mislead.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import porter
from porter.conversion import convert
from porter.errors import FileAccessError, FormatError, MapError, PorterError
from porter.mapping import library, providers
from porter.mapping.execution import MappedStore, apply
from porter.mapping.syntax import Rule
from porter.mapping.tables import caffe as caffe_tables
from porter.mapping.tables import keras as keras_tables
from porter.mapping.tables.base import Tables
from porter.mapping.tables.modules import is_module_path, module_names
from porter.store import TensorStore
from porter.tensor import Tensor


def mapped(path: Path | str, name: str, **params: Any) -> MappedStore:
    return apply(library.load(name), porter.open(path), params=params)


def state(store: TensorStore) -> dict[str, torch.Tensor]:
    return {t.name: torch.from_numpy(t.numpy().copy()) for t in store.values()}


def store_of(arrays: dict[str, np.ndarray], attributes: Callable[[str], dict[str, Any]] = lambda name: {}) -> TensorStore:
    return TensorStore(Tensor.from_array(name, array, attributes=attributes(name)) for name, array in arrays.items())


# ---- the library -------------------------------------------------------------------------------------------------------


class TestLibrary:
    def test_names_and_descriptions(self) -> None:
        described = library.describe()
        assert list(described) == library.names() == sorted(library.names())
        assert {"caffe:torch", "torch:caffe", "keras:torch", "torch:wts", "hf-llama:meta-llama", "gpt2:linear"} <= set(described)
        for name, line in described.items():
            assert 20 < len(line) < 120, name
            assert not line.startswith("#")
            assert line.endswith("."), name

    @pytest.mark.parametrize("name", library.names())
    def test_every_map_parses_and_says_its_name(self, name: str) -> None:
        found = library.load(name)
        assert found.name == name
        assert found.stages
        assert all(statement.span.text.path in library.names() for stage in found.stages for statement in stage.statements)

    @pytest.mark.parametrize("name", library.names())
    def test_rules_are_one_way_only_where_they_have_to_be(self, name: str) -> None:
        """What goes one way divides, adds up, or forgets a shape."""
        for stage in library.load(name).stages:
            for statement in stage.statements:
                if isinstance(statement, Rule) and statement.arrow == "->":
                    calls = {c.name for c in (*statement.source.calls, *statement.target.calls)}
                    flattens = any(t.axes is not None for t in statement.target.terms)
                    prefix = name == "torch:wts-all" or statement.span.text.path == "torch:wts-all"
                    assert calls & {"bn_stats", "sum", "neg"} or flattens or prefix, f"{name}, line {statement.span.line}"

    def test_packaged(self) -> None:
        assert all(file.endswith(".pmap") for file in os.listdir(library.FOLDER))

    def test_misspelt(self) -> None:
        with pytest.raises(MapError) as caught:
            library.load("caffe:trch")
        assert caught.value.code == "M270"
        assert caught.value.hint == "did you mean 'caffe:torch'?"
        with pytest.raises(MapError, match="there is no map 'zzz', nor a file"):
            library.load("zzz")

    @pytest.mark.parametrize(
        "name", ["", ":", "caffe:", ":torch", "../maps:caffe", "caffe:torch:x", "caffe\0:torch", "ca ffe:torch", "é:ß"]
    )
    def test_odd_names(self, name: str) -> None:
        with pytest.raises(PorterError):
            library.load(name)

    def test_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("own").mkdir()
        Path("own/a.pmap").write_text('# mine\ninclude "b.pmap"\nx <-> y\n')
        Path("own/b.pmap").write_text("rest <-> keep\n")
        assert len(library.load("own/a.pmap").stages[0].statements) == 2
        Path("own/c.pmap").write_text('include "torch:wts"\nthen\nrest <-> keep\n')
        assert len(library.load(str(tmp_path / "own/c.pmap")).stages) == 3
        Path("noend").write_text("rest <-> keep")
        assert len(library.load("noend").stages) == 1
        Path("bom.pmap").write_bytes("rest <-> keep".encode("utf-8-sig"))
        assert len(library.load("bom.pmap").stages) == 1

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(FileAccessError) as missing:
            library.load(str(tmp_path / "nothing.pmap"))
        assert missing.value.code == "I001"
        with pytest.raises(FileAccessError):
            library.load(str(tmp_path))
        (tmp_path / "net.pmap").write_bytes(b"\x0a\x00\xff\xfe")
        with pytest.raises(MapError) as binary:
            library.load(str(tmp_path / "net.pmap"))
        assert (binary.value.code, binary.value.where.line) == ("M002", 2)
        (tmp_path / "in.pmap").write_text('rest <-> keep\ninclude "net.pmap"\n')
        with pytest.raises(MapError) as included:
            library.load(str(tmp_path / "in.pmap"))
        assert included.value.code == "M002"
        assert str(included.value.hint).endswith(f"it is included on line 2 of '{tmp_path / 'in.pmap'}'")
        (tmp_path / "in2.pmap").write_text('include "caffe:trch"\n')
        with pytest.raises(MapError, match="there is no map 'caffe:trch'") as misspelt:
            library.load(str(tmp_path / "in2.pmap"))
        assert misspelt.value.where.line == 1
        assert misspelt.value.hint == "did you mean 'caffe:torch'?"
        (tmp_path / "in3.pmap").write_text('\ninclude "elsewhere/x.pmap"\n')
        with pytest.raises(MapError, match=r"there is no map 'elsewhere/x.pmap'") as absent:
            library.load(str(tmp_path / "in3.pmap"))
        assert absent.value.where.line == 2


# ---- names of modules --------------------------------------------------------------------------------------------------


class TestModuleNames:
    def test_by_hand(self) -> None:
        given = [
            "conv1",
            "conv4-1",
            "conv4_1",
            "conv2/3x3_reduce",
            "185",
            "class",
            "forward",
            "layer1.0.conv1",
            "fc.8-x",
            "a.class",
            "__x",
            "",
        ]
        assert module_names(given) == {
            "conv1": "conv1",
            "conv4-1": "conv4_1_2",
            "conv4_1": "conv4_1",
            "conv2/3x3_reduce": "conv2_3x3_reduce",
            "185": "_185",
            "class": "class_",
            "forward": "forward_",
            "layer1.0.conv1": "layer1.0.conv1",
            "fc.8-x": "fc_8_x",
            "a.class": "a_class",
            "__x": "_x",
            "": "layer",
        }
        assert module_names(["0.weird"], kept=["0.weird"]) == {"0.weird": "0.weird"}
        assert is_module_path("0.1", numbers_first=True)
        assert not is_module_path("0.1")
        assert not is_module_path("a.01")
        assert not is_module_path("a..b")

    @given(
        st.lists(
            st.text(max_size=8) | st.sampled_from(["a-b", "a/b", "a_b", "a_b_2", "if", "if_", "train", "1", "_1", "a.0", "é"]), max_size=12
        )
    )
    def test_unique_and_taken_by_torch(self, names: list[str]) -> None:
        found = module_names(names)
        assert list(found) == list(dict.fromkeys(names))
        assert len(set(found.values())) == len(found)
        module = nn.Module()
        for name in found.values():
            assert is_module_path(name)
            if "." not in name:
                module.add_module(name, nn.Identity())

    def test_no_attribute_of_a_module(self) -> None:
        names = [n for n in dir(nn.Module()) if not n.startswith("_")]
        assert not any(is_module_path(n) for n in names)


# ---- caffe:torch on every file there is --------------------------------------------------------------------------------


def caffe_files() -> Iterator[Path]:
    for folder in ("real", "oracle"):
        yield from sorted((SHARED / folder).rglob("*.caffemodel"))
        yield from sorted((SHARED / folder).rglob("*.caffemodel.h5"))


def module_tree(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """A tree of empty modules with these as parameters and buffers; adding what is no name for PyTorch fails."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(last, torch.empty_like(tensor))
    return root


@pytest.mark.parametrize("path", list(caffe_files()), ids=lambda p: str(p.relative_to(SHARED)))
def test_every_caffe_file_becomes_modules(path: Path, shared: Path) -> None:
    with porter.open(path) as store:
        result = apply(library.load("caffe:torch"), store)
        tensors = state(result)
        module_tree(tensors).load_state_dict(tensors, strict=True)
        used = {name for origins in result.origins for origin in origins.values() for t in origin.inputs for name in [t.name]}
        assert used >= set(store), "every blob goes into something"
        for name in tensors:
            assert not name.endswith((".slope", ".mean", ".variance", ".scale_factor")), name
            assert (name.replace("running_mean", "num_batches_tracked") in tensors) or not name.endswith("running_mean")


def golden(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "golden.npz") as file:
        return {key: file[key] for key in file.files}


def agrees(found: torch.Tensor, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    scale = float(np.abs(expected).max()) or 1.0
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=tolerance * scale)


class FlatLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(1))


class BiasedEmbedding(nn.Embedding):
    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, size)
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.long()) + self.bias


class Affine(nn.Module):
    """What SegNet's BN computes in INFERENCE mode."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Sequence(nn.LSTM):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class CaffeRNN(nn.Module):
    """Caffe's RNN: a recurrent layer and an output layer, both with tanh."""

    def __init__(self, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.rnn, self.output = nn.RNN(inputs, units), nn.Linear(units, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.output(self.rnn(x)[0]))


ZOO: dict[str, Callable[[], nn.Module]] = {
    # Case to the module that does the same as its only layer with weights.
    "BatchNorm_factor0": lambda: nn.BatchNorm2d(4, eps=0.1, affine=False),
    "BatchNorm_factor1": lambda: nn.BatchNorm2d(4, affine=False),
    "BatchNorm_factor999": lambda: nn.BatchNorm2d(4, affine=False),
    "BatchNorm_eps0p01_globalstats": lambda: nn.BatchNorm2d(3, eps=0.01, affine=False),
    "BatchNorm_2d": lambda: nn.BatchNorm1d(6, affine=False),
    "BatchNorm_scale_bias": lambda: nn.BatchNorm2d(4),
    "BatchNorm_scale_nobias": lambda: nn.BatchNorm2d(4),
    "BN_pspnet_default": lambda: nn.BatchNorm2d(4),
    "BN_segnet_inference": lambda: Affine(4),
    "PReLU_per_channel": lambda: nn.PReLU(4),
    "PReLU_shared": lambda: nn.PReLU(),
    "InnerProduct_basic": lambda: FlatLinear(7, 5),
    "InnerProduct_transpose": lambda: FlatLinear(24, 5),
    "Deconvolution_k3": lambda: nn.ConvTranspose2d(3, 5, 3),
    "Deconvolution_group": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    "Embed_basic": lambda: BiasedEmbedding(7, 5),
    "LSTM_basic": lambda: Sequence(5, 3),
    "RNN_basic": lambda: CaffeRNN(5, 3, 3),
}


class HeBlock(nn.Module):
    """A bottleneck with torchvision's names and the stride where Kaiming He has it."""

    def __init__(self, inputs: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)) if first else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class HeNet(nn.Module):
    def __init__(self, counts: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for i, count in enumerate(counts):
            size = width << i
            blocks = [HeBlock(inputs if b == 0 else 4 * size, size, 2 if i and b == 0 else 1, b == 0) for b in range(count)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            inputs = 4 * size
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, ceil_mode=True)
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return torch.softmax(self.fc(x.mean((2, 3))), 1)


class TestAgainstCaffe:
    """PyTorch with the mapped weights computes what Caffe computed."""

    @pytest.mark.parametrize("case", ZOO)
    def test_one_layer(self, case: str, shared: Path) -> None:
        folder = shared / "oracle/zoo" / case
        tensors, values = state(mapped(folder / "model.caffemodel", "caffe:torch")), golden(folder)
        given = next(torch.from_numpy(v) for k, v in values.items() if k.startswith("input/"))
        (expected,) = (v for k, v in values.items() if k.startswith("output/"))
        (layer,) = {name.split(".")[0] for name in tensors}
        module = ZOO[case]()
        module.load_state_dict({name.removeprefix(f"{layer}."): t for name, t in tensors.items()}, strict=True)
        agrees(module.eval()(given), expected)

    def test_resnet_under_torchvisions_names(self, shared: Path) -> None:
        folder = shared / "oracle/rand_ResNet-50"
        tensors, values = state(mapped(folder / "model.caffemodel", "caffe-resnet:torchvision")), golden(folder)
        net = HeNet((3, 4, 6, 3), tensors["conv1.weight"].shape[0], tensors["fc.weight"].shape[0])
        net.load_state_dict(tensors, strict=True)
        (given,) = (torch.from_numpy(v) for k, v in values.items() if k.startswith("input/"))
        (expected,) = (v for k, v in values.items() if k.startswith("output/"))
        agrees(net.eval()(given), expected, 1e-4)


# ---- BatchNorm and Scale -----------------------------------------------------------------------------------------------


def net_store(text: str, tmp_path: Path) -> TensorStore:
    (tmp_path / "net.prototxt").write_text(text)
    return porter.open(tmp_path / "net.prototxt")


def layer(kind: str, name: str, bottom: str | list[str], top: str, more: str = "") -> str:
    bottoms = " ".join(f'bottom: "{b}"' for b in ([bottom] if isinstance(bottom, str) else bottom))
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top}" {more} }}\n'


def scales(store: TensorStore) -> dict[str, str]:
    found = caffe_tables.tables(store)
    assert found is not None
    return dict(found.rows["scale_layers"])


CONV = layer("Convolution", "conv", "data", "conv", "convolution_param { num_output: 4 kernel_size: 1 }")
BN = layer("BatchNorm", "bn", "conv", "bn")

GRAPHS = {
    "one after the other": (CONV + BN + layer("Scale", "sc", "bn", "sc"), True),
    "in place": (CONV + layer("BatchNorm", "bn", "conv", "conv") + layer("Scale", "sc", "conv", "conv"), True),
    "both in place, read later": (
        CONV + layer("BatchNorm", "bn", "conv", "conv") + layer("Scale", "sc", "conv", "conv") + layer("ReLU", "r", "conv", "conv"),
        True,
    ),
    "a ReLU between": (CONV + BN + layer("ReLU", "r", "bn", "r") + layer("Scale", "sc", "r", "sc"), False),
    "a ReLU in place between": (CONV + BN + layer("ReLU", "r", "bn", "bn") + layer("Scale", "sc", "bn", "sc"), False),
    "two readers": (CONV + BN + layer("Scale", "sc", "bn", "sc") + layer("ReLU", "r", "bn", "r"), False),
    "a reader before the Scale in place": (CONV + BN + layer("ReLU", "r", "bn", "r") + layer("Scale", "sc", "bn", "bn"), False),
    "a Split between": (
        CONV
        + BN
        + 'layer { name: "s" type: "Split" bottom: "bn" top: "a" top: "b" }\n'
        + layer("Scale", "sc", "a", "sc")
        + layer("ReLU", "r", "b", "r"),
        False,
    ),
    "along another axis": (CONV + BN + layer("Scale", "sc", "bn", "sc", "scale_param { axis: 2 }"), False),
    "along two axes": (CONV + BN + layer("Scale", "sc", "bn", "sc", "scale_param { num_axes: 2 }"), False),
    "axis said": (CONV + BN + layer("Scale", "sc", "bn", "sc", "scale_param { axis: 1 num_axes: 1 bias_term: true }"), True),
    "the factor is a blob": (CONV + BN + layer("Scale", "sc", ["bn", "data"], "sc", "scale_param { bias_term: true }"), False),
    "not behind a BatchNorm": (CONV + layer("Scale", "sc", "conv", "sc") + BN.replace('"conv"', '"sc"'), False),
    "of another name's value": (CONV + BN + layer("Scale", "sc", "conv", "sc"), False),
    "one of two in TEST": (
        CONV
        + layer("BatchNorm", "bn", "conv", "bn", "include { phase: TRAIN }")
        + layer("BatchNorm", "bn", "conv", "bn", "include { phase: TEST }")
        + layer("Scale", "sc", "bn", "sc"),
        True,
    ),
    "only in TRAIN": (
        CONV
        + layer("BatchNorm", "bn", "conv", "bn", "include { phase: TRAIN }")
        + layer("Scale", "sc", "bn", "sc", "include { phase: TRAIN }"),
        True,
    ),
    "a reader in TRAIN": (CONV + BN + layer("Scale", "sc", "bn", "sc") + layer("ReLU", "r", "bn", "r", "include { phase: TRAIN }"), True),
    "a reader of a stage": (CONV + BN + layer("Scale", "sc", "bn", "sc") + layer("ReLU", "r", "bn", "r", 'include { stage: "x" }'), True),
    "a reader at a level": (
        CONV + BN + layer("Scale", "sc", "bn", "sc") + layer("ReLU", "r", "bn", "r", "exclude { min_level: 1 }"),
        False,
    ),
    "V1": (
        'layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" }\n'
        'layers { name: "bn" type: BATCHNORM bottom: "conv" top: "conv" }\n',
        False,
    ),
}


@pytest.mark.parametrize(("text", "joined"), GRAPHS.values(), ids=GRAPHS)
def test_which_scales_belong_to_a_batch_norm(text: str, joined: bool, tmp_path: Path) -> None:
    assert scales(net_store('input: "data"\n' + text, tmp_path)) == ({"sc": "bn"} if joined else {})


class TestCaffeTables:
    def test_two_pairs_share_parameters(self, shared: Path) -> None:
        result = mapped(shared / "oracle/zoo/BatchNorm_shared_scale_params/model.caffemodel", "caffe:torch")
        assert result.ties == {"bn2.weight": "bn1.weight", "bn2.bias": "bn1.bias"}

    def test_a_prototxt_is_enough(self, shared: Path) -> None:
        """The tables of a net without weights are those of the net with them."""
        for name in ("mtcnn_det1", "rand_ResNet-50", "zoo/LSTM_basic", "zoo/InnerProduct_transpose", "zoo/PReLU_shared", "zoo/RNN_basic"):
            folder = shared / "oracle" / name
            weights, text = (caffe_tables.tables(porter.open(folder / f)) for f in ("model.caffemodel", "deploy.prototxt"))
            assert weights is not None
            assert text is not None
            for table, rows in weights.rows.items():
                assert set(rows) <= set(text.rows[table]), (name, table)
                assert table == "layers" or set(rows) == set(text.rows[table]), (name, table)

    def test_notices(self, shared: Path) -> None:
        store = porter.open(shared / "oracle/rand_soeaver_inception-v3/model.caffemodel")
        apply(library.load("caffe:torch"), store)
        apply(library.load("caffe:torch"), store)
        assert [n.message for n in store.notices] == [
            "BatchNorm with eps=0.001, which PyTorch's layer has to be told: 'conv1_3x3_s2_bn', 'conv2_3x3_s1_bn', 'conv3_3x3_s1_bn', …"
        ]
        alone = porter.open(shared / "oracle/zoo/BatchNorm_two_consumers/model.caffemodel")
        result = apply(library.load("caffe:torch"), alone)
        assert "made with affine=False: 'bn'" in alone.notices[0].message
        assert {"bn.running_mean", "scale.weight"} <= set(result)

    def test_without_a_graph_nothing_is_joined(self, shared: Path, tmp_path: Path) -> None:
        """HDF5 keeps no graph: BatchNorm and Scale stay apart, which is said."""
        folder = shared / "oracle/zoo/BatchNorm_scale_bias"
        with h5py.File(tmp_path / "m.caffemodel.h5", "w") as file:
            for tensor in porter.open(folder / "model.caffemodel").values():
                file[f"data/{tensor.attributes['caffe.layer']}/{tensor.attributes['caffe.blob']}"] = tensor.numpy()
        store = porter.open(tmp_path / "m.caffemodel.h5", net=folder / "deploy.prototxt")
        result = apply(library.load("caffe:torch"), store)
        assert set(result) == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked", "scale.weight", "scale.bias"}
        assert any("does not say how its layers are connected" in n.message for n in store.notices)
        convert(tmp_path / "m.caffemodel.h5", tmp_path / "m.caffemodel", net=folder / "deploy.prototxt")
        assert set(mapped(tmp_path / "m.caffemodel", "caffe:torch")) >= {"bn.running_mean", "bn.weight", "bn.bias"}

    def test_after_another_container(self, shared: Path, tmp_path: Path) -> None:
        """What carries attributes and attachments along is as good as the file itself."""
        folder = shared / "oracle/rand_ResNet-50"
        convert(folder / "model.caffemodel", tmp_path / "m.safetensors")
        direct, through = mapped(folder / "model.caffemodel", "caffe:torch"), mapped(tmp_path / "m.safetensors", "caffe:torch")
        assert direct.digest() == through.digest()

    def test_checkpoints_through_caffe_keep_their_names(self, tmp_path: Path) -> None:
        """What porter wrote into a Caffe file under a checkpoint's names comes back under them."""
        store = store_of({"0.weight": np.ones((2, 3), "<f4"), "layer1.0.bias": np.ones(3, "<f4"), "alone": np.ones(2, "<f4")})
        porter.save(store, tmp_path / "m.caffemodel")
        result, _ = convert(tmp_path / "m.caffemodel", tmp_path / "m.pth")
        assert set(result) == set(store)

    def test_nothing_of_caffe(self) -> None:
        with pytest.raises(MapError) as caught:
            apply(library.load("caffe:torch"), store_of({"conv.weight": np.ones((2, 3), "<f4")}))
        assert caught.value.code == "M273"
        assert "layers of a Caffe net" in caught.value.message
        assert "--net" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        "attributes",
        [
            {"caffe.layer": 7, "caffe.blob": 0},
            {"caffe.layer": "conv", "caffe.blob": "0"},
            {"caffe.layer": "conv", "caffe.blob": True},
            {"caffe.layer": "conv", "caffe.blob": 0, "caffe.occurrence": []},
            {"caffe.layer": "other", "caffe.blob": 0},
            {"caffe.layer": ["conv"], "caffe.blob": 0},
        ],
    )
    def test_odd_attributes(self, attributes: dict[str, Any]) -> None:
        with pytest.raises(MapError, match="the file has none"):
            apply(library.load("caffe:torch"), store_of({"conv.weight": np.ones((2, 3), "<f4")}, lambda name: attributes))

    def test_odd_types(self) -> None:
        attributes: dict[str, Any] = {"caffe.layer": "conv", "caffe.blob": 0, "caffe.type": ["BatchNorm"]}
        result = apply(library.load("caffe:torch"), store_of({"conv.mean": np.ones(3, "<f4")}, lambda name: attributes))
        assert set(result) == {"conv.mean"}

    @pytest.mark.parametrize("net", [b"\xff", b"\xa2\x06\xff", b"\xa2\x06\x01\x0a", b"\x12\x02\x0a\x05"])
    def test_broken_nets(self, net: bytes) -> None:
        store = store_of({"bn.mean": np.ones(3, "<f4")}, lambda name: {"caffe.layer": "bn", "caffe.blob": 0, "caffe.type": "BatchNorm"})
        store.attachments["caffe.net"] = net
        with pytest.raises(FormatError):
            apply(library.load("caffe:torch"), store)

    def test_unlike_shapes_are_not_joined(self, tmp_path: Path) -> None:
        """A Scale of other size than the BatchNorm, or a BatchNorm that has a scale of its own, makes no pair."""
        text = net_store('input: "data"\n' + CONV + BN + layer("Scale", "sc", "bn", "sc"), tmp_path)

        def pairs(scale: tuple[int, ...], *more: str) -> dict[str, str]:
            shapes = {f"bn.{role}": (4,) for role in ("mean", "variance", *more)} | {"bn.scale_factor": (1,), "sc.weight": scale}
            kinds = {"bn": "BatchNorm", "sc": "Scale"}
            store = store_of(
                {name: np.ones(shape, "<f4") for name, shape in shapes.items()},
                lambda name: {"caffe.layer": name[:2], "caffe.blob": 0, "caffe.type": kinds[name[:2]]},
            )
            store.attachments = dict(text.attachments)
            return scales(store)

        assert pairs((4,)) == {"sc": "bn"}
        assert pairs((5,)) == {}
        assert pairs((4, 1)) == {}
        assert pairs((4,), "weight") == {}
        assert pairs((4,), "weight", "bias") == {}


# ---- and back ----------------------------------------------------------------------------------------------------------


def oracle_nets() -> Iterator[Path]:
    for folder in sorted({p.parent for p in (SHARED / "oracle").rglob("model.caffemodel")}):
        if (folder / "deploy.prototxt").is_file():
            yield folder


@pytest.mark.parametrize("folder", list(oracle_nets()), ids=lambda p: p.name)
def test_to_pytorch_and_back(folder: Path, shared: Path, tmp_path: Path) -> None:
    """caffe:torch, a .pth file, torch:caffe with the prototxt: every blob is back, statistics divided by their factor."""
    source = porter.open(folder / "model.caffemodel")
    convert(folder / "model.caffemodel", tmp_path / "m.pth")
    try:
        convert(tmp_path / "m.pth", tmp_path / "m.caffemodel", net=folder / "deploy.prototxt", map="torch:caffe")
    except MapError as error:
        # The prototxt lacks layers that the trained net has.
        assert error.code == "M204", error
        found = caffe_tables.tables(porter.open(folder / "deploy.prototxt"))
        known = {key for rows in found.rows.values() for key, _ in rows} if found is not None else set()
        assert {t.attributes["caffe.layer"] for t in source.values()} - known
        return
    back = porter.open(tmp_path / "m.caffemodel", net=folder / "deploy.prototxt")
    for tensor in source.values():
        layer_name, role = tensor.name.rpartition(".")[::2]
        if role == "scale_factor":
            assert back[tensor.name].numpy().tolist() == [1.0]
        elif role in ("mean", "variance") and f"{layer_name}.scale_factor" in source:
            factor = np.float64(source[f"{layer_name}.scale_factor"].numpy()[0])
            expected = (tensor.numpy().astype(np.float64) * (1 / factor if factor else 0)).astype(tensor.numpy().dtype)
            np.testing.assert_array_max_ulp(back[tensor.name].numpy(), expected, 1)
        else:
            np.testing.assert_array_equal(back[tensor.name].numpy(), tensor.numpy(), strict=True)
    extra = set(back) - set(source)
    assert all(name.endswith(".bias") and not back[name].numpy().any() for name in extra), "only zeros were made up"


# ---- PyTorch to .wts ---------------------------------------------------------------------------------------------------


class TestWts:
    def test_prefix_and_counts(self) -> None:
        names = {"module.conv.weight": 3, "module.bn.running_mean": 3, "module.bn.num_batches_tracked": 1, "plain": 2}
        store = store_of({name: np.full(size, size, "<f4") for name, size in names.items()})
        assert list(apply(library.load("torch:wts"), store)) == ["conv.weight", "bn.running_mean", "plain"]
        assert list(apply(library.load("torch:wts-all"), store)) == ["conv.weight", "bn.running_mean", "bn.num_batches_tracked", "plain"]

    def test_names_that_meet(self) -> None:
        store = store_of({"module.x": np.ones(2, "<f4"), "x": np.ones(2, "<f4")})
        with pytest.raises(MapError, match=r"'x' is made of 'module.x' on line 3, and of 'x' on line 4 again"):
            apply(library.load("torch:wts"), store)

    def test_a_real_checkpoint(self, shared: Path, tmp_path: Path) -> None:
        path = shared / "real/minivision/2.7_80x80_MiniFASNetV2.pth"
        result, _ = convert(path, tmp_path / "m.wts", map="torch:wts")
        source = porter.open(path)
        assert len(result) == 284
        assert all(np.array_equal(t.numpy(), source[f"module.{t.name}"].numpy()) for t in result.values())


# ---- tables of others --------------------------------------------------------------------------------------------------


class FakePoint:
    """An entry point of a package that is not installed."""

    def __init__(self, name: str, loaded: Any, value: str = "package.module:tables") -> None:
        self.name, self.value, self.loaded = name, value, loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def install(*points: FakePoint) -> None:
        providers._entry_points.cache_clear()
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: list(points) if group == "porter.map_tables" else [])

    yield install
    providers._entry_points.cache_clear()


class TestProviders:
    def test_another_package(self, installed: Callable[..., None]) -> None:
        installed(FakePoint("mine", lambda store: Tables({"odd": tuple((n, f"{n}!") for n in store)}, ("one thing to know",))))
        store = store_of({"a": np.ones(1, "<f4")})
        assert providers.rows("mine.odd", store) == (("a", "a!"),)
        assert [n.message for n in store.notices] == ["one thing to know"]
        assert providers.areas() == ["caffe", "keras", "mine", "resnet"]

    def test_the_target_is_asked_second(self, installed: Callable[..., None]) -> None:
        installed(FakePoint("mine", lambda store: Tables({"t": (("x", "y"),)}) if "b" in store else None))
        a, b = store_of({"a": np.ones(1, "<f4")}), store_of({"b": np.ones(1, "<f4")})
        assert providers.rows("mine.t", a, b) == (("x", "y"),)
        with pytest.raises(MapError) as caught:
            providers.rows("mine.t", a)
        assert caught.value.code == "M273"

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("caffe.layer", "'layers'"), ("cafe.layers", "'caffe'"), ("zzz", "caffe, keras, resnet"), ("", "caffe, keras"), (".", "caffe")],
    )
    def test_unknown(self, name: str, hint: str, tmp_path: Path) -> None:
        with pytest.raises(MapError) as caught:
            providers.rows(name, net_store(CONV, tmp_path))
        assert caught.value.code == "M272"
        assert hint in (caught.value.hint or "")

    @pytest.mark.parametrize(
        "loaded",
        [
            ValueError("broken"),
            lambda store: 1 / 0,
            lambda store: Tables({"t": (("a", "b", "c"),)}),  # type: ignore[dict-item]
            lambda store: Tables({"t": (("a", 1),)}),  # type: ignore[dict-item]
            lambda store: Tables({"t": (("a", "x"), ("b", "x"))}),
            lambda store: Tables({"t": (("", "x"),)}),
            lambda store: 5,
            None,
        ],
    )
    def test_packages_that_fail(self, loaded: Any, installed: Callable[..., None]) -> None:
        installed(FakePoint("mine", loaded))
        with pytest.raises(MapError) as caught:
            providers.rows("mine.t", store_of({}))
        assert caught.value.code == "M274"
        assert "package.module" in str(caught.value)

    def test_names_that_are_taken(self, installed: Callable[..., None]) -> None:
        for points in ([FakePoint("caffe", None)], [FakePoint("mine", None), FakePoint("mine", None, "other:tables")]):
            installed(*points)
            with pytest.raises(MapError, match="has tables called"):
                providers.areas()

    def test_errors_point_into_the_map(self, tmp_path: Path) -> None:
        (tmp_path / "m.pmap").write_text("# a map\ntable t from caffe.nothing\noptional {x:t} <-> {x}\nrest <-> keep\n")
        with pytest.raises(MapError) as caught:
            apply(library.load(str(tmp_path / "m.pmap")), net_store(CONV, tmp_path))
        assert (caught.value.code, caught.value.where.line) == ("M272", 2)


# ---- Keras -------------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(5)


def keras_store(variables: dict[str, dict[str, np.ndarray]], classes: dict[str, tuple[str, dict[str, Any]]] | None = None) -> TensorStore:
    """A model as the reader of Keras 2 gives it: variables by layer, classes and settings where the file has a configuration."""

    def attributes(name: str) -> dict[str, Any]:
        own = name.split("/")[0]
        return {"keras.layer": own, "keras.weight": name} | ({"keras.class": classes[own][0]} if classes else {})

    store = store_of({f"{path}/{role}:0": array for path, roles in variables.items() for role, array in roles.items()}, attributes)
    if classes:
        layers = [{"class_name": kind, "config": {"name": name, **settings}} for name, (kind, settings) in classes.items()]
        store.attachments["keras.model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
    return store


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype("<f4")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def keras_lstm(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Keras' LSTM over (time, inputs): gates i, f, c, o."""
    units = recurrent.shape[0]
    h, c, out = np.zeros(units), np.zeros(units), []
    for step in x:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out)


def keras_gru(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Keras' GRU with reset_after: gates z, r, h; the rows of the bias are the input's and the recurrent one."""
    units = recurrent.shape[0]
    h, out = np.zeros(units), []
    for step in x:
        xz, xr, xh = np.split(step @ kernel + bias[0], 3)
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
        out.append(h)
    return np.stack(out)


def keras_conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A convolution of (h, w, c) with an HWIO kernel, one position after the other."""
    kh, kw = kernel.shape[:2]
    rows, columns = x.shape[0] - kh + 1, x.shape[1] - kw + 1
    patches = [[np.tensordot(x[r : r + kh, c : c + kw], kernel, 3) for c in range(columns)] for r in range(rows)]
    return np.array(patches)


class TestKeras:
    def test_lstm(self) -> None:
        weights = {"kernel": random(3, 20), "recurrent_kernel": random(5, 20), "bias": random(20)}
        for path in ("lstm", "lstm/lstm_cell"):
            tensors = state(apply(library.load("keras:torch"), keras_store({path: weights})))
            net = nn.LSTM(3, 5).double()
            net.load_state_dict({k.removeprefix("lstm."): v.double() for k, v in tensors.items()}, strict=True)
            x = RNG.standard_normal((6, 3))
            expected = keras_lstm(
                x, weights["kernel"].astype(float), weights["recurrent_kernel"].astype(float), weights["bias"].astype(float)
            )
            np.testing.assert_allclose(net(torch.from_numpy(x))[0].detach().numpy(), expected, atol=1e-12)

    def test_gru(self) -> None:
        weights = {"kernel": random(3, 15), "recurrent_kernel": random(5, 15), "bias": random(2, 15)}
        tensors = state(apply(library.load("keras:torch"), keras_store({"gru": weights}, {"gru": ("GRU", {"reset_after": True})})))
        net = nn.GRU(3, 5).double()
        net.load_state_dict({k.removeprefix("gru."): v.double() for k, v in tensors.items()}, strict=True)
        x = RNG.standard_normal((6, 3))
        expected = keras_gru(x, *(weights[role].astype(float) for role in ("kernel", "recurrent_kernel", "bias")))
        np.testing.assert_allclose(net(torch.from_numpy(x))[0].detach().numpy(), expected, atol=1e-12)

    def test_gru_that_resets_before(self) -> None:
        weights = {"kernel": random(3, 15), "recurrent_kernel": random(5, 15), "bias": random(15)}
        store = keras_store({"gru": weights}, {"gru": ("GRU", {"reset_after": False})})
        result = apply(library.load("keras:torch"), store)
        assert set(result) == {"gru.kernel", "gru.recurrent_kernel", "gru.bias"}
        assert "PyTorch has no like of" in store.notices[0].message

    def test_simple_rnn_and_bidirectional(self) -> None:
        parts = {role: random(*shape) for role, shape in {"kernel": (3, 20), "recurrent_kernel": (5, 20), "bias": (20,)}.items()}
        back = {role: random(*a.shape) for role, a in parts.items()}
        store = keras_store(
            {
                "both/forward_lstm/lstm_cell": parts,
                "both/backward_lstm/lstm_cell": back,
                "rnn": {"kernel": random(3, 4), "recurrent_kernel": random(4, 4)},
            },
            {"both": ("LSTM", {}), "rnn": ("SimpleRNN", {})},
        )
        tensors = state(apply(library.load("keras:torch"), store))
        net = nn.LSTM(3, 5, bidirectional=True).double()
        (name,) = {k.split(".")[0] for k in tensors if k.startswith("both")}
        net.load_state_dict({k.removeprefix(f"{name}."): v.double() for k, v in tensors.items() if k.startswith(name)}, strict=True)
        x = RNG.standard_normal((6, 3))
        ahead, behind = (keras_lstm(x[::d], *(p[r].astype(float) for r in parts)) for d, p in ((1, parts), (-1, back)))
        np.testing.assert_allclose(net(torch.from_numpy(x))[0].detach().numpy(), np.concatenate([ahead, behind[::-1]], 1), atol=1e-12)
        assert tensors["rnn.weight_ih_l0"].shape == (4, 3)

    def test_convolutions(self) -> None:
        x = RNG.standard_normal((7, 6, 3))
        image = torch.from_numpy(x.transpose(2, 0, 1)[None])
        kernels = {"conv": random(3, 2, 3, 4), "depth": random(3, 3, 3, 2), "up": random(2, 2, 5, 3), "dense": random(3, 6)}
        store = keras_store(
            {
                "conv": {"kernel": kernels["conv"], "bias": random(4)},
                "depth": {"depthwise_kernel": kernels["depth"]},
                "conv2d_transpose": {"kernel": kernels["up"]},
                "dense": {"kernel": kernels["dense"]},
                "conv1d": {"kernel": random(5, 3, 4)},
                "conv3d": {"kernel": random(2, 3, 5, 3, 4)},
            }
        )
        tensors = {k: v.double() for k, v in state(apply(library.load("keras:torch"), store)).items()}
        assert "classes of its layers" in store.notices[0].message
        found = torch.conv2d(image, tensors["conv.weight"])[0].numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(found, keras_conv(x, kernels["conv"].astype(float)), atol=1e-12)
        depth = torch.conv2d(image, tensors["depth.weight"], groups=3)[0].numpy()
        for channel in range(3):
            for multiple in range(2):
                one = keras_conv(
                    x[..., channel : channel + 1], kernels["depth"][:, :, channel : channel + 1, multiple : multiple + 1].astype(float)
                )
                np.testing.assert_allclose(depth[2 * channel + multiple], one[..., 0], atol=1e-12)
        up = torch.conv_transpose2d(image, tensors["conv2d_transpose.weight"], stride=2)[0].numpy().transpose(1, 2, 0)
        expected = np.einsum("hwi,aboi->hawbo", x, kernels["up"].astype(float)).reshape(14, 12, 5)
        np.testing.assert_allclose(up, expected, atol=1e-12)
        np.testing.assert_array_equal(tensors["dense.weight"].numpy(), kernels["dense"].T)
        assert tensors["conv1d.weight"].shape == (4, 3, 5)
        assert tensors["conv3d.weight"].shape == (4, 3, 2, 3, 5)

    def test_normalisation_and_embedding(self) -> None:
        norm = {role: random(4) for role in ("gamma", "beta", "moving_mean", "moving_variance")}
        store = keras_store(
            {
                "full": norm,
                "no_gamma": {k: v for k, v in norm.items() if k != "gamma"},
                "no_beta": {k: v for k, v in norm.items() if k != "beta"},
                "bare": {k: v for k, v in norm.items() if k.startswith("moving")},
                "emb": {"embeddings": random(7, 4)},
                "act": {"alpha": random(1, 1, 4)},
            },
            {
                **{name: ("BatchNormalization", {"epsilon": 0.001}) for name in ("full", "no_gamma", "no_beta", "bare")},
                "emb": ("Embedding", {}),
                "act": ("PReLU", {}),
            },
        )
        tensors = state(apply(library.load("keras:torch"), store))
        net = nn.ModuleDict(
            {
                **{name: nn.BatchNorm1d(4, affine=name != "bare") for name in ("full", "no_gamma", "no_beta", "bare")},
                "emb": nn.Embedding(7, 4),
                "act": nn.PReLU(4),
            }
        )
        net.load_state_dict(tensors, strict=True)
        assert tensors["no_gamma.weight"].tolist() == [1.0] * 4
        assert tensors["no_beta.bias"].tolist() == [0.0] * 4
        assert "epsilon=0.001" in store.notices[0].message

    def test_dense_after_a_flatten(self, tmp_path: Path) -> None:
        """What is said of it works, pasted into a map."""
        kernel = random(4 * 5 * 3, 2)
        store = keras_store(
            {"conv": {"kernel": random(3, 3, 1, 3)}, "dense": {"kernel": kernel}},
            {
                "conv": ("Conv2D", {"filters": 3}),
                "pool": ("MaxPooling2D", {}),
                "flatten": ("Flatten", {}),
                "drop": ("Dropout", {}),
                "dense": ("Dense", {}),
            },
        )
        apply(library.load("keras:torch"), store)
        (message,) = (n.message for n in store.notices)
        rule = message.split("says '")[1].split("' and")[0]
        (tmp_path / "m.pmap").write_text(f'include "keras:torch"\nthen\n{rule}\nrest <-> keep\n')
        result = apply(library.load(str(tmp_path / "m.pmap")), store)
        x = RNG.standard_normal((4, 5, 3))
        np.testing.assert_allclose(result["dense.weight"].numpy() @ x.transpose(2, 0, 1).ravel(), x.ravel() @ kernel, rtol=1e-5)

    @pytest.mark.parametrize("name", ["keras_hyperlpr/model12.h5", "keras_faceclass/tiny_XCEPTION_KDEF.hdf5"])
    def test_real_models_there_and_back(self, name: str, shared: Path, tmp_path: Path) -> None:
        source = porter.open(shared / "real" / name)
        tensors = apply(library.load("keras:torch"), source)
        module_tree(state(tensors)).load_state_dict(state(tensors), strict=True)
        porter.save(tensors, tmp_path / "m.pth")
        back = apply(
            library.load("torch:keras"),
            porter.open(tmp_path / "m.pth"),
            provider=providers.provider_of(porter.open(tmp_path / "m.pth"), source),
        )
        assert set(back) == set(source)
        assert all(np.array_equal(back[n].numpy(), source[n].numpy()) for n in source)

    def test_recurrent_there_and_back(self) -> None:
        lstm = {"kernel": random(3, 20), "recurrent_kernel": random(5, 20), "bias": random(20)}
        store = keras_store(
            {
                "both/forward_lstm/lstm_cell": lstm,
                "both/backward_lstm/lstm_cell": {role: random(*a.shape) for role, a in lstm.items()},
                "gru/gru_cell": {"kernel": random(3, 15), "recurrent_kernel": random(5, 15), "bias": random(2, 15)},
                "depthwise": {"depthwise_kernel": random(3, 3, 4, 1), "bias": random(4)},
                "act": {"alpha": random(1, 1, 4)},
                "odd": {"something": random(2)},
            },
            {
                "both": ("LSTM", {}),
                "gru": ("GRU", {"reset_after": True}),
                "depthwise": ("DepthwiseConv2D", {}),
                "act": ("PReLU", {}),
                "odd": ("Odd", {}),
            },
        )
        there = apply(library.load("keras:torch"), store)
        back = apply(library.load("torch:keras"), there, provider=providers.provider_of(there, store))
        assert set(back) == set(store)
        assert all(np.array_equal(back[n].numpy(), store[n].numpy()) for n in store)

    @pytest.mark.parametrize("archive", [False, True])
    def test_keras_3(self, archive: bool, tmp_path: Path) -> None:
        """Variables are numbered; a configuration says what they are, or without one their paths do."""
        variables = {
            "layers/conv2d": [random(3, 3, 1, 4), random(4)],
            "layers/batch_normalization": [random(4) for _ in range(4)],
            "layers/dense": [random(16, 10), random(10)],
            "layers/dense_1": [random(10, 3)],
            "layers/bidirectional/forward_layer/cell": [random(3, 8), random(2, 8), random(8)],
            "layers/bidirectional/backward_layer/cell": [random(3, 8), random(2, 8), random(8)],
            "layers/mine": [random(2)],
        }
        lstm = {"class_name": "LSTM", "config": {"name": "rnn"}}
        layers = [
            {"class_name": "Conv2D", "config": {"name": "c1"}},
            {"class_name": "BatchNormalization", "config": {"name": "bn", "epsilon": 1e-5}},
            {"class_name": "Dense", "config": {"name": "d1"}},
            {"class_name": "Dense", "config": {"name": "d2", "use_bias": False}},
            {"class_name": "Bidirectional", "config": {"name": "both", "layer": lstm}},
            {"class_name": "Mine", "config": {"name": "own"}},
        ]
        config = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": layers}}
        weights = tmp_path / "model.weights.h5"
        with h5py.File(weights, "w") as file:
            for path, arrays in variables.items():
                for i, array in enumerate(arrays):
                    file[f"{path}/vars/{i}"] = array
        if archive:
            with zipfile.ZipFile(tmp_path / "m.keras", "w") as written:
                written.writestr("metadata.json", json.dumps({"keras_version": "3.4.1"}))
                written.writestr("config.json", json.dumps(config))
                written.write(weights, "model.weights.h5")
        source = porter.open(tmp_path / "m.keras" if archive else weights)
        tensors = state(apply(library.load("keras:torch"), source))
        conv, norm, dense = ("c1", "bn", "d1") if archive else ("conv2d", "batch_normalization", "dense")
        np.testing.assert_array_equal(tensors[f"{conv}.weight"].numpy(), variables["layers/conv2d"][0].transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(tensors[f"{norm}.running_var"].numpy(), variables["layers/batch_normalization"][3])
        np.testing.assert_array_equal(tensors[f"{dense}.weight"].numpy(), variables["layers/dense"][0].T)
        last = "d2" if archive else "dense_1"
        assert tensors[f"{last}.weight"].shape == (3, 10)
        backward = [name for name in tensors if name.endswith("weight_ih_l0_reverse")]
        if archive:
            np.testing.assert_array_equal(tensors[backward[0]].numpy(), variables["layers/bidirectional/backward_layer/cell"][0].T)
        else:
            assert not backward, "a path does not say of which class a wrapped layer is"
        assert len([name for name in tensors if name.startswith(("own", "mine"))]) == 1

    @pytest.mark.parametrize(
        "config",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"config": 5}',
            b'{"config": {"layers": [null, {"config": {}}, {"config": {"name": "x"}, "inbound_nodes": 7}]}}',
        ],
    )
    def test_odd_configurations(self, config: bytes) -> None:
        store = keras_store({"conv": {"kernel": random(3, 3, 1, 3)}})
        store.attachments["keras.model_config"] = config
        assert set(apply(library.load("keras:torch"), store)) == {"conv.weight"}

    def test_layers_in_a_ring(self) -> None:
        store = keras_store({"a": {"kernel": random(4, 2)}}, {"a": ("Dense", {})})
        nodes = [
            {"class_name": "Dense", "config": {"name": "a"}, "inbound_nodes": [["d"]]},
            {"class_name": "Dropout", "config": {"name": "d"}, "inbound_nodes": [["e"]]},
            {"class_name": "Dropout", "config": {"name": "e"}, "inbound_nodes": [["d"]]},
        ]
        store.attachments["keras.model_config"] = json.dumps({"config": {"layers": nodes}}).encode()
        assert set(apply(library.load("keras:torch"), store)) == {"a.weight"}

    def test_nothing_of_keras(self) -> None:
        with pytest.raises(MapError, match="layers of a Keras model"):
            apply(library.load("keras:torch"), store_of({"a": np.ones(1, "<f4")}))
        assert keras_tables.tables(store_of({})) is None


# ---- ResNets -----------------------------------------------------------------------------------------------------------


def torchvision_resnet(counts: tuple[int, ...], convolutions: int = 3) -> dict[str, np.ndarray]:
    """A ResNet's names with tiny values."""

    def norm(name: str) -> dict[str, np.ndarray]:
        vectors = {f"{name}.{role}": random(1) for role in ("weight", "bias", "running_mean", "running_var")}
        return vectors | {f"{name}.num_batches_tracked": np.array(7)}

    arrays = {"conv1.weight": random(1, 3, 7, 7), **norm("bn1"), "fc.weight": random(5, 1), "fc.bias": random(5)}
    for stage, count in enumerate(counts, 1):
        for block in range(count):
            for k in range(1, convolutions + 1):
                arrays |= {f"layer{stage}.{block}.conv{k}.weight": random(1, 1, 1, 1), **norm(f"layer{stage}.{block}.bn{k}")}
        arrays |= {f"layer{stage}.0.downsample.0.weight": random(1, 1, 1, 1), **norm(f"layer{stage}.0.downsample.1")}
    return arrays


class TestResNet:
    @pytest.mark.parametrize(
        ("counts", "convolutions", "expected"),
        [
            ((3, 4, 6, 3), 3, {"res2a_branch1.weight", "res3d_branch2c.weight", "bn4f_branch2a.mean", "scale5c_branch2b.bias"}),
            ((3, 4, 23, 3), 3, {"res2c_branch2a.weight", "res3a_branch1.weight", "res3b3_branch2c.weight", "bn4b22_branch2a.variance"}),
            ((3, 8, 36, 3), 3, {"res3b7_branch2a.weight", "res4b35_branch2c.weight", "res5c_branch2a.weight"}),
            ((2, 2, 2, 2), 2, {"res2b_branch2b.weight", "bn5a_branch1.scale_factor"}),
        ],
        ids=["50", "101", "152", "18"],
    )
    def test_names_there_and_back(self, counts: tuple[int, ...], convolutions: int, expected: set[str]) -> None:
        source = store_of(torchvision_resnet(counts, convolutions))
        he = apply(library.load("torchvision:caffe-resnet"), source)
        assert expected | {"bn_conv1.mean", "scale_conv1.weight", "fc1000.weight"} <= set(he)
        assert all(t.numpy().tolist() == [1.0] for name, t in he.items() if name.endswith(".scale_factor"))
        back = apply(library.load("caffe-resnet:torchvision"), he)
        assert set(back) == set(source)
        counted = {n for n in source if n.endswith("num_batches_tracked")}
        assert {n: back[n].tobytes() for n in back if n not in counted} == {n: source[n].tobytes() for n in source if n not in counted}

    def test_names_of_the_published_prototxt(self, shared: Path) -> None:
        """Each layer with weights of He's own ResNet-50 gets its tensors."""
        net = caffe_tables.tables(porter.open(shared / "real/prototxt/ResNet-50-deploy.prototxt"))
        assert net is not None
        layers = {key for table in ("layers", "batch_norm_layers", "scale_layers") for key, _ in net.rows[table]}
        he = apply(library.load("torchvision:caffe-resnet"), store_of(torchvision_resnet((3, 4, 6, 3))))
        assert {name.split(".")[0] for name in he} == layers

    def test_no_resnet(self) -> None:
        with pytest.raises(MapError, match="blocks of a ResNet"):
            apply(library.load("caffe-resnet:torchvision"), store_of({"conv.weight": random(1)}))


# ---- what conversions use on their own, and hostile files --------------------------------------------------------------


class TestUsualMap:
    def test_by_format_and_dialect(self, shared: Path, tmp_path: Path) -> None:
        det1 = shared / "real/mtcnn/caffe/det1.caffemodel"
        assert "conv4_1.weight" in convert(det1, tmp_path / "a.pth")[0]
        assert "conv4-1.weight" in convert(det1, tmp_path / "b.pth", raw=True)[0]
        assert "conv4-1.weight" in convert(det1, tmp_path / "c.safetensors")[0]
        v1, h5 = (shared / "oracle" / name for name in ("lenet_v1/model.caffemodel", "cifar10_quick_h5/model.caffemodel.h5"))
        assert set(convert(v1, tmp_path / "d.pth")[0]) == {f"{n}.{r}" for n in ("conv1", "conv2", "ip1", "ip2") for r in ("weight", "bias")}
        assert isinstance(convert(h5, tmp_path / "e.pth")[0], MappedStore)

    def test_what_has_no_layers_stays_as_it_is(self, tmp_path: Path) -> None:
        porter.save(store_of({"history.0": random(3)}), tmp_path / "s.solverstate")
        assert list(convert(tmp_path / "s.solverstate", tmp_path / "s.pth")[0]) == ["history.0"]
        porter.save(store_of({"layer-1/kernel:0": random(3, 3)}), tmp_path / "k.h5")
        assert list(convert(tmp_path / "k.h5", tmp_path / "k.pth")[0]) == ["layer-1/kernel:0"]


loaded = cache(library.load)

JUNK = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "bn", "sc", "BatchNorm", "Scale", "LSTM", "PReLU", "a/b", "x\n"])
)
ROLES = st.sampled_from(
    ["mean", "variance", "scale_factor", "weight", "bias", "slope", "W_xc", "b_c", "W_hc", "kernel", "gamma", "vars/0", "moving_mean"]
)


@settings(max_examples=150, deadline=None)
@given(
    tensors=st.dictionaries(
        st.tuples(st.sampled_from(["bn", "sc", "a/b", "res2a_branch1", "", "layer1.0"]), st.sampled_from([".", "/"]), ROLES).map("".join),
        st.tuples(
            st.sampled_from([(3,), (1,), (), (4, 2), (1, 3, 1, 1)]),
            st.dictionaries(
                st.sampled_from(
                    [
                        "caffe.layer",
                        "caffe.type",
                        "caffe.blob",
                        "caffe.occurrence",
                        "keras.layer",
                        "keras.class",
                        "keras.weight",
                        "caffe.shape",
                    ]
                ),
                JUNK,
            ),
        ),
        max_size=6,
    ),
    net=st.binary(max_size=12)
    | st.just(b"")
    | st.just(b'\xa2\x06\x1d\x0a\x02bn\x12\x09BatchNorm"\x01x*\x01y'.ljust(33, b"\x00"))
    | st.sampled_from([b"\xa2\x06\x11\x0a\x02bn\x12\x09BatchNorm\x22\x00", b"\xa2\x06\x0f\x0a\x02sc\x12\x05Scale\x1a\x00\x22\x00"]),
    config=st.binary(max_size=8)
    | st.recursive(
        JUNK, lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["config", "layers", "name", "class_name", "inbound_nodes"]), x)
    ).map(lambda v: json.dumps(v).encode()),
)
def test_files_made_to_break_tables(tensors: dict[str, Any], net: bytes, config: bytes) -> None:
    store = TensorStore()
    for name, (shape, attributes) in tensors.items():
        store.add(Tensor.from_array(name, np.ones(shape, "<f4"), attributes=attributes))
    store.attachments = {"caffe.net": net, "keras.model_config": config}
    for name in ("caffe:torch", "keras:torch", "torch:caffe", "torch:keras", "caffe-resnet:torchvision", "torchvision:caffe-resnet"):
        try:
            result = apply(loaded(name), store)
        except PorterError as error:
            assert str(error)
        else:
            assert len(set(result)) == len(result)
