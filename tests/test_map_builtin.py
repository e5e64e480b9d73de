"""The maps that come with porter, and the tables they take from files: on real nets, against runs recorded in Caffe, and on
nets made to mislead.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from hypothesis import given
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
                    assert calls & {"bn_stats", "sum", "neg"} or flattens, f"{name}, line {statement.span.line}"

    def test_packaged(self) -> None:
        assert all(file.endswith(".pmap") for file in os.listdir(library.FOLDER))

    def test_misspelt(self) -> None:
        with pytest.raises(MapError) as caught:
            library.load("caffe:trch")
        assert caught.value.code == "M270"
        assert caught.value.hint == "did you mean 'caffe:torch'?"
        with pytest.raises(MapError, match="there is no map 'zzz', nor a file"):
            library.load("zzz")

    @pytest.mark.parametrize("name", ["", ":", "caffe:", ":torch", "../maps:caffe", "caffe:torch:x", "caffe\0:torch", "ca ffe:torch", "é:ß"])
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
        assert binary.value.code == "M271"
        (tmp_path / "in.pmap").write_text('rest <-> keep\ninclude "net.pmap"\n')
        with pytest.raises(MapError) as included:
            library.load(str(tmp_path / "in.pmap"))
        assert included.value.code == "M271"
        assert included.value.where.line == 2
        (tmp_path / "in2.pmap").write_text('include "caffe:trch"\n')
        with pytest.raises(MapError, match="there is no map 'caffe:trch'") as misspelt:
            library.load(str(tmp_path / "in2.pmap"))
        assert misspelt.value.where.line == 1
        assert misspelt.value.hint == "did you mean 'caffe:torch'?"
        (tmp_path / "in3.pmap").write_text('\ninclude "elsewhere/x.pmap"\n')
        with pytest.raises(MapError, match="there is no map 'elsewhere/x.pmap'") as absent:
            library.load(str(tmp_path / "in3.pmap"))
        assert absent.value.where.line == 2


# ---- names of modules --------------------------------------------------------------------------------------------------


class TestModuleNames:
    def test_by_hand(self) -> None:
        given = ["conv1", "conv4-1", "conv4_1", "conv2/3x3_reduce", "185", "class", "forward", "layer1.0.conv1", "fc.8-x", "a.class", "__x", ""]
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

    @given(st.lists(st.text(max_size=8) | st.sampled_from(["a-b", "a/b", "a_b", "a_b_2", "if", "if_", "train", "1", "_1", "a.0", "é"]), max_size=12))
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
        layer = os.path.commonprefix(list(tensors)).split(".")[0]
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
