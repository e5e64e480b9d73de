"""PyTorch files against torch itself: every container, every type, views, and pickled modules."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import tarfile
import types
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import porter
from porter.errors import FormatError, PorterError
from porter.store import TensorStore
from porter.tensor import Tensor

torch = pytest.importorskip("torch")

# torch says of several types that they are experimental or on their way out; old files have them all the same.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

LEGACY_TYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128"]
UNTYPED_TYPES = ["complex32", "uint16", "uint32", "uint64"]
FLOAT8_TYPES = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
TYPES = [*LEGACY_TYPES, *UNTYPED_TYPES, *FLOAT8_TYPES]

every_container = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def bits(tensor: Any) -> bytes:
    """The bytes of a torch tensor in C order."""
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def random_bits(name: str, *shape: int, seed: int = 0) -> Any:
    dtype = getattr(torch, name)
    count = int(np.prod(shape)) * torch.empty(0, dtype=dtype).element_size()
    data = np.random.default_rng(seed).integers(0, 2 if name == "bool" else 256, count, dtype=np.uint8)
    return torch.from_numpy(data).view(dtype).reshape(shape)


def save(value: object, path: Path, *, zipped: bool = True) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same(store: TensorStore, expected: dict[str, Any]) -> None:
    assert list(store) == list(expected)
    for name, tensor in expected.items():
        assert store[name].tobytes() == bits(tensor), name
        assert store[name].shape == tuple(tensor.shape), name
        assert f"torch.{store[name].dtype}" == str(tensor.dtype), name


@every_container
def test_every_type(zipped: bool, tmp_path: Path) -> None:
    state = {name: random_bits(name, 3, 2, seed=i) for i, name in enumerate(TYPES if zipped else LEGACY_TYPES)}
    state |= {
        "scalar": torch.tensor(-0.0),
        "empty": torch.empty(0, 3),
        "nan": torch.tensor([0x7F800001], dtype=torch.int32).view(torch.float32),
    }
    store = porter.open(save(OrderedDict(state), tmp_path / "m.pth", zipped=zipped))
    assert_same(store, state)
    assert store.source is not None
    assert store.source.dialect == ("zip" if zipped else "legacy")
    assert not store.notices


@every_container
def test_views(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(120, dtype=torch.float32)
    state = {
        "transposed": base.reshape(10, 12).t(),
        "permuted": base.reshape(2, 3, 4, 5).permute(3, 1, 0, 2),
        "stepped": base[3:100:7],
        "cut": base[5:17],
        "window": base.reshape(10, 12)[2:5, 3:9],
        "expanded": base[:1].expand(4, 3),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "ones": base.reshape(10, 12)[:, :1].t(),
        "bytes": torch.arange(30, dtype=torch.uint8).reshape(5, 6).t(),
        "double": torch.arange(30, dtype=torch.float64).reshape(5, 6).t(),
        "complex": torch.randn(4, 3, dtype=torch.complex128).t(),
        "half": torch.arange(30).half().reshape(5, 6)[:, ::2],
    }
    store = porter.open(save(state, tmp_path / "m.pth", zipped=zipped))
    assert_same(store, state)
    for tensor in store.values():
        assert b"".join(bytes(c) for c in tensor.chunks(7)) == tensor.tobytes()
    assert any("overlap" in n.message for n in store.notices)
    assert not store.ties


def test_large_view_is_gathered_in_pieces(tmp_path: Path) -> None:
    big = torch.randn(900, 1000)
    store = porter.open(save({"w": big.t()}, tmp_path / "m.pth"))
    assert max(c.nbytes for c in store["w"].chunks()) <= 1 << 20
    assert store["w"].tobytes() == bits(big.t())


@every_container
def test_shared_storages_are_ties(zipped: bool, tmp_path: Path) -> None:
    weight = torch.randn(4, 6)
    state = {
        "embed": weight,
        "head": weight.detach(),
        "flat": weight.view(-1),
        "turned": weight.t(),
        "turned2": weight.t(),
        "other": weight.clone(),
    }
    store = porter.open(save(state, tmp_path / "m.pth", zipped=zipped))
    assert_same(store, state)
    assert store.ties == {"head": "embed", "flat": "embed", "turned2": "turned"}


def test_conjugate_and_negative_views(tmp_path: Path) -> None:
    base = random_bits("complex64", 3, 4)
    state = {"conj": base.conj(), "imag": base.conj().imag, "adjoint": base.mH}
    assert state["imag"].is_neg()
    save({k: v for k, v in state.items() if k != "imag"}, tmp_path / "m.pth")
    save({"imag": state["imag"]}, tmp_path / "imag.pth")
    store = {**porter.open(tmp_path / "m.pth"), **porter.open(tmp_path / "imag.pth")}
    for name, tensor in state.items():
        lanes = np.frombuffer(bits(base), "<u4").reshape(3, 4, 2).copy()
        lanes[..., 1] ^= 1 << 31
        expected = {"conj": lanes, "imag": lanes[..., 1], "adjoint": lanes.swapaxes(0, 1)}[name]
        assert store[name].shape == tuple(tensor.shape)
        assert store[name].tobytes() == expected.tobytes(), name


@every_container
def test_quantised(zipped: bool, tmp_path: Path) -> None:
    values = torch.randn(3, 5)
    scales = torch.rand(3) + 0.1
    state = {
        "tensor": torch.quantize_per_tensor(values, 0.1, 3, torch.quint8),
        "wide": torch.quantize_per_tensor(values, 0.1, 0, torch.qint32),
        "channel": torch.quantize_per_channel(values, scales.double(), torch.arange(3), 0, torch.qint8),
        "affine": torch.quantize_per_channel(values, scales, torch.rand(3), 0, torch.quint8),
        "nibbles": torch.quantize_per_channel(values, scales, torch.rand(3), 0, torch.quint4x2),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = porter.open(save(state, tmp_path / "m.pth", zipped=zipped))
        assert store["tensor"].numpy().tolist() == state["tensor"].int_repr().tolist()
        assert store["wide"].numpy().tolist() == state["wide"].int_repr().tolist()
        assert store["channel"].numpy().tolist() == state["channel"].int_repr().tolist()
    assert store["tensor.scale"].numpy() == 0.1
    assert store["tensor.zero_point"].numpy() == 3
    assert store["channel.scale"].numpy().tolist() == scales.double().tolist()
    assert store["channel"].attributes["quantization"] == {
        "scheme": "per_channel_affine",
        "torch_dtype": "qint8",
        "scale": "channel.scale",
        "zero_point": "channel.zero_point",
        "axis": 0,
    }
    assert store["affine"].attributes["quantization"]["scheme"] == "per_channel_affine_float_qparams"
    assert (store["nibbles"].dtype.name, store["nibbles"].nbytes) == ("uint4", 8)
    real = (store["nibbles"].numpy().astype("f4") - state["nibbles"].q_per_channel_zero_points().numpy()[:, None]) * scales.numpy()[:, None]
    np.testing.assert_allclose(real, state["nibbles"].dequantize().numpy(), rtol=1e-5, atol=1e-6)


def test_quantised_names_that_are_taken(tmp_path: Path) -> None:
    state = {"w": torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8), "w.scale": torch.ones(1)}
    store = porter.open(save(state, tmp_path / "m.pth"))
    assert list(store) == ["w", "w.scale_", "w.zero_point", "w.scale"]
    assert store["w"].attributes["quantization"]["scale"] == "w.scale_"


def test_sparse(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coo = torch.tensor([[0, 0, 3.0], [4, 0, 5]]).to_sparse_coo()
        csr = torch.tensor([[0, 0, 3.0], [4, 0, 5]]).to_sparse_csr()
    store = porter.open(save({"coo": coo, "csr": csr}, tmp_path / "m.pth"))
    assert list(store) == ["coo.indices", "coo.values", "csr.crow_indices", "csr.col_indices", "csr.values"]
    assert store["coo.indices"].numpy().tolist() == [[0, 1, 1], [2, 0, 2]]
    assert store["coo.values"].attributes["sparse"]["size"] == [2, 3]
    assert store["csr.crow_indices"].numpy().tolist() == [0, 1, 3]
    assert {n.kind for n in store.notices} == {"changed"}


def test_float4_pairs(tmp_path: Path) -> None:
    pairs = torch.tensor([[0x21, 0x43], [0x65, 0x87]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    store = porter.open(save({"w": pairs}, tmp_path / "m.pth"))
    assert (store["w"].dtype.name, store["w"].shape) == ("float4_e2m1fn", (2, 4))
    assert store["w"].tobytes() == b"\x21\x43\x65\x87"


def test_raw_bits_are_assumed_to_be_unsigned(tmp_path: Path) -> None:
    store = porter.open(save({"w": torch.tensor([1, 2], dtype=torch.uint8).view(torch.bits8)}, tmp_path / "m.pth"))
    assert (store["w"].dtype.name, store["w"].tobytes()) == ("uint8", b"\x01\x02")
    assert [n.kind for n in store.notices] == ["assumed"]


def test_tensors_without_values_are_named(tmp_path: Path) -> None:
    store = porter.open(save({"w": torch.ones(2), "m": torch.empty(3, device="meta")}, tmp_path / "m.pth"))
    assert list(store) == ["w"]
    assert [(n.kind, n.tensor) for n in store.notices] == [("skipped", "m")]


class Rebuilt:
    """Pickles as a call of one of torch's rebuild functions."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.reduced


def test_tensors_of_other_devices(tmp_path: Path) -> None:
    utils = torch._utils
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    state = {
        "xla": Rebuilt(utils._rebuild_device_tensor_from_numpy, array, torch.float32, "xla:0", False),
        "xla16": Rebuilt(utils._rebuild_device_tensor_from_numpy, array, torch.bfloat16, "xla:0", False),
        "maia": Rebuilt(utils._rebuild_device_tensor_from_cpu_tensor, torch.ones(3), torch.float32, "maia:0", False),
        "cast": Rebuilt(utils._rebuild_device_tensor_from_cpu_tensor, torch.ones(3), torch.float16, "maia:0", False),
    }
    store = porter.open(save(state, tmp_path / "m.pth"))
    assert store["xla"].numpy().tolist() == array.tolist()
    assert store["xla16"].dtype.name == "float32"
    assert store["maia"].numpy().tolist() == [1, 1, 1]
    assert list(store) == ["xla", "xla16", "maia"]
    assert [(n.kind, n.tensor) for n in store.notices] == [("changed", "xla16"), ("skipped", "cast")]


def test_variables_of_the_first_torches(tmp_path: Path) -> None:
    """A Parameter got its tensor as argument, or, still earlier, first in a state of five."""
    state = {
        "new": Rebuilt(torch.nn.parameter.Parameter, torch.ones(2), state=(True, False, OrderedDict())),
        "old": Rebuilt(torch.nn.parameter.Parameter, state=(torch.zeros(3), None, OrderedDict(), True, False)),
    }
    store = porter.open(save(state, tmp_path / "m.pth", zipped=False))
    assert {n: t.numpy().tolist() for n, t in store.items()} == {"new": [1, 1], "old": [0, 0, 0]}


def test_tensors_that_wrap_others(tmp_path: Path) -> None:
    wrapped = Rebuilt(
        torch._tensor._rebuild_from_type_v2,
        torch._utils._rebuild_wrapper_subclass,
        torch.Tensor,
        (torch.Tensor, torch.float32, (2, 3), (3, 1), 0, torch.strided, torch.device("cpu"), False),
        {"inner": torch.ones(2, 3), "scale": torch.ones(2), "bits": 4},
    )
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])
    store = porter.open(save({"w": wrapped, "n": nested, "x": torch.ones(1)}, tmp_path / "m.pth"))
    assert list(store) == ["w.inner", "w.scale", "n.values", "n.sizes", "n.strides", "n.offsets", "x"]
    assert store["n.values"].numpy().tolist() == [1, 1, 0, 0, 0]
    assert [(n.kind, n.tensor) for n in store.notices] == [("changed", "w"), ("changed", "n")]


def test_parameters_with_attributes(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "x"
    buffer = torch.nn.Buffer(torch.zeros(2))
    tensor = torch.ones(3)
    tensor.extra = [1]
    assert_same(
        porter.open(save({"p": parameter, "b": buffer, "t": tensor}, tmp_path / "m.pth")), {"p": parameter, "b": buffer, "t": tensor}
    )


def test_numpy_scalars_beside_weights(tmp_path: Path) -> None:
    store = porter.open(save({"state_dict": {"w": torch.ones(1)}, "best": np.float64(0.5), "mean": np.ones(3)}, tmp_path / "m.pth"))
    assert "best (a numpy scalar of <f8), mean (1 tensor, 24 bytes)" in store.notices[0].message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@every_container
def test_pickle_protocols(protocol: int, zipped: bool, tmp_path: Path) -> None:
    state = {"w": torch.randn(3, 4), "p": torch.nn.Parameter(torch.randn(2)), "n": {"x": torch.ones(1)}}
    torch.save(state, tmp_path / "m.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    store = porter.open(tmp_path / "m.pth")
    assert_same(store, {"w": state["w"], "p": state["p"], "n.x": state["n"]["x"]})


def swapped(path: Path) -> None:
    """Rewrite a torch archive as a big-endian machine would have written it."""
    with zipfile.ZipFile(path) as archive:
        records = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            width = {"data/0": 4, "data/1": 2, "data/2": 8, "data/3": 4}.get(name.partition("/")[2], 1)
            if name.endswith("byteorder"):
                data = b"big"
            archive.writestr(name, np.frombuffer(data, f"u{width}").byteswap().tobytes() if width > 1 else data)


def test_big_endian_archive(tmp_path: Path) -> None:
    state = {
        "f": random_bits("float32", 3, 2),
        "h": random_bits("bfloat16", 5),
        "d": random_bits("float64", 2, 2).t(),
        "c": random_bits("complex64", 3),
        "b": random_bits("uint8", 3),
    }
    save(state, tmp_path / "archive.pth")
    swapped(tmp_path / "archive.pth")
    assert_same(porter.open(tmp_path / "archive.pth"), state)
    again = torch.load(tmp_path / "archive.pth", weights_only=True)
    assert {k: bits(v) for k, v in again.items()} == {k: bits(v) for k, v in state.items()}


def test_compressed_archive(tmp_path: Path) -> None:
    state = {"w": torch.arange(300.0).reshape(10, 30), "cut": torch.arange(300.0)[100:200], "t": torch.ones(5, 7).t()}
    save(state, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as source, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert_same(porter.open(tmp_path / "b.pth"), state)


# Tar, as torch 0.1.9 and earlier wrote it


def tar_checkpoint(path: Path, protocol: int = 2) -> dict[str, Any]:
    """A checkpoint with a tied tensor and a storage view; returns what it holds."""

    class Storage:
        def __init__(self, of: str) -> None:
            self.of = of

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: object) -> object:
            return str(value.key) if isinstance(value, Stand) else None

        def save_global(self, value: Any, name: str | None = None) -> None:
            if isinstance(value, type) and value.__module__ == "torch" and value.__name__.endswith("Storage"):
                self.write(b"c" + f"torch\n{value.__name__}\n".encode())
                self.memoize(value)
            else:
                super().save_global(value, name)

    class Stand:
        def __init__(self, key: int) -> None:
            self.key = key

    def dump(stream: io.BytesIO, value: object) -> None:
        Pickler(stream, protocol).dump(value)

    class FloatStorage: ...

    class LongStorage: ...

    for of in (FloatStorage, LongStorage):
        of.__module__ = "torch"

    storages, tensors, value = io.BytesIO(), io.BytesIO(), io.BytesIO()
    data = {1: ("cpu", FloatStorage, np.arange(12, dtype="<f4")), 2: ("cpu", LongStorage, np.arange(4, dtype="<i8"))}
    dump(storages, len(data))
    for key, (location, of, array) in data.items():
        dump(storages, (key, location, of))
        storages.write(len(array).to_bytes(8, "little") + array.tobytes())
    dump(storages, [(3, 1, 4, 6)])
    views = {
        10: (1, (3, 4), (4, 1), 0),
        11: (2, (2, 2), (1, 2), 0),
        12: (3, (2, 3), (3, 1), 0),
        13: (1, (12,), (1,), 0),
        14: (2, (), (), 3),
    }
    dump(tensors, len(views))
    for key, (storage, shape, strides, offset) in views.items():
        dump(tensors, (key, storage, FloatStorage))
        numbers = [*shape, *strides, offset]
        tensors.write(len(shape).to_bytes(8, "little") + b"".join(n.to_bytes(8, "little") for n in numbers))
    names = {"a.weight": 10, "a.mask": 11, "b.weight": 12, "c": 13, "d": 14}
    Pickler(value, protocol).dump({"epoch": 3, "state_dict": {name: Stand(key) for name, key in names.items()}})
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {"sys_info": pickle.dumps({}, 2), "pickle": value, "tensors": tensors, "storages": storages}.items():
            blob = content if isinstance(content, bytes) else content.getvalue()
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    flat, counts = torch.arange(12, dtype=torch.float32), torch.arange(4)
    return {
        "a.weight": flat.reshape(3, 4),
        "a.mask": counts.reshape(2, 2).t(),
        "b.weight": flat[4:10].reshape(2, 3),
        "c": flat,
        "d": counts[3],
    }


def test_tar(tmp_path: Path) -> None:
    expected = tar_checkpoint(tmp_path / "old.pth.tar")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = torch.load(tmp_path / "old.pth.tar", weights_only=False)["state_dict"]
    assert {k: bits(v) for k, v in oracle.items()} == {k: bits(v) for k, v in expected.items()}
    store = porter.open(tmp_path / "old.pth.tar")
    assert_same(store, expected)
    assert store.source is not None
    assert store.source.dialect == "tar"
    assert store.ties == {"c": "a.weight"}


def test_legacy_storage_views(tmp_path: Path) -> None:
    """Persistent ids of the first legacy streams: a storage that is a part of another."""
    path = tmp_path / "old.pth"
    base = np.arange(10, dtype="<f4")

    def tensor(pid: bytes, shape: bytes, strides: bytes) -> bytes:
        return b"ctorch._utils\n_rebuild_tensor\n(" + pid + b"QK\x00" + shape + strides + b"tR"

    def pid(view: bytes) -> bytes:
        return b"(U\x07storagectorch\nFloatStorage\nX\x02\x00\x00\x0042U\x03cpuK\x0a" + view + b"t"

    whole = tensor(pid(b"N"), b"K\x0a\x85", b"K\x01\x85")
    inner = tensor(pid(b"(X\x02\x00\x00\x0043K\x04K\x06t"), b"K\x02K\x03\x86", b"K\x03K\x01\x86")
    state = b"\x80\x02}(X\x05\x00\x00\x00whole" + whole + b"X\x05\x00\x00\x00inner" + inner + b"u."
    header = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(header + state + pickle.dumps(["42"], 2) + (10).to_bytes(8, "little") + base.tobytes())
    store = porter.open(path)
    assert store["whole"].numpy().tolist() == base.tolist()
    assert store["inner"].numpy().tolist() == base[4:10].reshape(2, 3).tolist()
    oracle = torch.load(path, weights_only=False)
    assert oracle["inner"].tolist() == base[4:10].reshape(2, 3).tolist()


@pytest.mark.parametrize("flag", [True, False])
def test_legacy_values_are_little_endian_on_every_machine(flag: bool, tmp_path: Path) -> None:
    data = save({"w": torch.arange(3.0)}, tmp_path / "m.pth", zipped=False).read_bytes()
    assert data.count(b"little_endianq\x02\x88") == 1
    (tmp_path / "m.pth").write_bytes(data.replace(b"little_endianq\x02\x88", b"little_endianq\x02" + (b"\x88" if flag else b"\x89")))
    store = porter.open(tmp_path / "m.pth")
    assert store["w"].numpy().tolist() == [0, 1, 2]
    assert bool(store.notices) is not flag


def test_python_2_strings(tmp_path: Path) -> None:
    """Names that Python 2 pickled as byte strings, UTF-8 as the programmer typed it."""
    name = "größe".encode()
    body = (
        b"\x80\x02}U"
        + bytes([len(name)])
        + name
        + b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x011U\x03cpuK\x02NtQK\x00K\x02\x85K\x01\x85tRs."
    )
    header = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    path = tmp_path / "py2.pth"
    path.write_bytes(header + body + b"\x80\x02]U\x011a." + (2).to_bytes(8, "little") + np.array([1, 2], "<f4").tobytes())
    assert list(porter.open(path)) == ["größe"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_pickle_of_tensors(protocol: int, tmp_path: Path) -> None:
    state = {"w": torch.randn(300, 40), "turned": torch.randn(4, 6).t(), "n": torch.tensor(3)}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(state, protocol))
    store = porter.open(tmp_path / "m.pkl")
    assert_same(store, state)
    assert store.source is not None
    assert store.source.dialect == "pickle"
    if protocol > 2:
        assert store["w"].location is not None


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_pickle_of_arrays(protocol: int, tmp_path: Path) -> None:
    state = {
        "w": np.arange(6000, dtype="<f4").reshape(60, 100),
        "f": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "b": np.arange(3, dtype=">i2"),
        "lr": np.float64(0.5),
    }
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": state, "author": "x"}, protocol))
    store = porter.open(tmp_path / "m.pkl")
    assert list(store) == ["w", "f", "b"]
    for name, tensor in store.items():
        np.testing.assert_array_equal(tensor.numpy(), state[name])


# Whole modules


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3)
        self.norm = torch.nn.BatchNorm2d(3)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(2))
        self.missing = torch.nn.Parameter(None) if False else None
        self.register_parameter("absent", None)
        self.register_buffer("grid", torch.arange(4.0))
        self.register_buffer("cache", torch.zeros(9), persistent=False)
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.table = torch.nn.ParameterDict({"k": torch.nn.Parameter(torch.ones(2))})
        self.head = torch.nn.Sequential(OrderedDict(fc=torch.nn.Linear(4, 2), again=torch.nn.Identity()))
        self.tied = self.blocks[0].conv
        self.note = {"anything": [1, 2, (3, "x")], "f": torch.nn.functional.relu}
        self.plain = torch.zeros(5)


@every_container
def test_pickled_modules_are_walked(zipped: bool, tmp_path: Path) -> None:
    module = Net()
    path = save(module, tmp_path / "net.pth", zipped=zipped)
    store = porter.open(path)
    assert_same(store, module.state_dict())
    assert store.ties == {"tied.weight": "blocks.0.conv.weight", "tied.bias": "blocks.0.conv.bias"}
    [notice] = store.notices
    assert notice.message == "tensors that are no part of a module's state_dict() left out: plain, _buffers.cache"
    save({"epoch": 1, "model": torch.nn.DataParallel(module), "ema": None}, path, zipped=zipped)
    assert next(iter(porter.open(path))) == "module.scale"


def test_modules_need_no_class(tmp_path: Path) -> None:
    """The class lives in a module that is gone when the file is read, and torch is never imported."""
    script = "import torch, sys, types\nm = types.ModuleType('gone')\nsys.modules['gone'] = m\nclass Net(torch.nn.Linear): pass\n"
    script += "Net.__module__ = 'gone'\nm.Net = Net\ntorch.save(Net(2, 3), sys.argv[1])\n"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "m.pth")], check=True)
    read = "import sys, porter\nprint(list(porter.open(sys.argv[1])), [m for m in ('torch', 'gone', 'numpy') if m in sys.modules])\n"
    done = subprocess.run([sys.executable, "-c", read, str(tmp_path / "m.pth")], check=True, capture_output=True, text=True)
    assert done.stdout == "['weight', 'bias'] []\n"


def test_recurrent_modules_keep_lists_of_their_parameters(tmp_path: Path) -> None:
    module = torch.nn.LSTM(2, 3, num_layers=2)
    store = porter.open(save(module, tmp_path / "m.pth"))
    assert_same(store, module.state_dict())
    assert not store.notices


def test_packed_parameters_of_quantised_modules(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    quantised = torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
    state = porter.open(save(quantised.state_dict(), tmp_path / "state.pth"))
    whole = porter.open(save(quantised, tmp_path / "whole.pth"))
    torch.jit.save(torch.jit.script(quantised), tmp_path / "script.pt")
    script = porter.open(tmp_path / "script.pt")
    weights = {n: t for n, t in state.items() if "_packed_params" in n}
    assert len(weights) == 8
    weight = quantised[0].weight().int_repr().numpy()
    for store in (state, whole):
        assert store["0._packed_params._packed_params.0"].numpy().tolist() == weight.tolist()
        assert {n: t.tobytes() for n, t in store.items() if n in weights} == {n: t.tobytes() for n, t in weights.items()}
    assert weight.tobytes() in [t.tobytes() for t in script.values()]


def test_graph_modules(tmp_path: Path) -> None:
    module = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2)))
    assert_same(porter.open(save(module, tmp_path / "m.pth")), module.state_dict())


def test_torchscript(tmp_path: Path) -> None:
    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.randn(3))
            self.register_buffer("b", torch.randn(2))
            self.attribute = torch.ones(7)
            self.lstm = torch.nn.LSTM(2, 3, bidirectional=True)
            self.seq = torch.nn.Sequential(torch.nn.Conv1d(2, 2, 1), torch.nn.BatchNorm1d(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.w.sum() + self.attribute.sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(Scripted(), torch.ones(3))
        torch.jit.save(scripted, tmp_path / "m.pt")
        expected = torch.jit.load(tmp_path / "m.pt").state_dict()
        frozen = torch.jit.freeze(torch.jit.trace(torch.nn.Linear(3, 2).eval(), torch.ones(1, 3)))
        torch.jit.save(frozen, tmp_path / "frozen.pt")
    store = porter.open(tmp_path / "m.pt")
    assert_same(store, expected)
    assert store.source is not None
    assert store.source.dialect == "torchscript"
    assert any("1 constants of its code left out" in n.message for n in store.notices)
    assert porter.open(tmp_path / "m.pt", select="constants")["0"].numpy().tolist() == [1] * 7
    constants = porter.open(tmp_path / "frozen.pt")
    assert sorted(t.shape for t in constants.values()) == [(2,), (2, 3)]
    assert any(n.kind == "assumed" for n in constants.notices)


def test_old_torchscript_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/model.json", "{}")
        archive.writestr("m/tensors/0", b"\0" * 4)
    with pytest.raises(FormatError) as caught:
        porter.open(tmp_path / "m.pt")
    assert caught.value.code == "F204"
    assert caught.value.hint


@pytest.mark.parametrize("value", [{"epoch": 3, "names": ["a"]}, [1, 2], "text", 5, None])
def test_files_without_tensors(value: object, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(save(value, tmp_path / "m.pth"))
    assert caught.value.code == "F207"


def test_a_single_tensor(tmp_path: Path) -> None:
    store = porter.open(save(torch.ones(2, 3), tmp_path / "m.pt"))
    assert (list(store), store["tensor"].shape) == (["tensor"], (2, 3))


def test_module_versions_travel(tmp_path: Path) -> None:
    module = Block()
    store = porter.open(save(module.state_dict(), tmp_path / "m.pth"))
    porter.save(store, tmp_path / "m.safetensors")
    porter.save(porter.open(tmp_path / "m.safetensors"), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back._metadata == module.state_dict()._metadata


@pytest.fixture
def stub_vdsr() -> Iterator[None]:
    """The classes that the pickled module of pytorch-vdsr names, empty."""
    module = types.ModuleType("vdsr")
    for name in ("Net", "Conv_ReLU_Block"):
        setattr(module, name, type(name, (torch.nn.Module,), {"__module__": "vdsr"}))
    thnn = types.ModuleType("torch.nn.backends.thnn")
    thnn._get_thnn_function_backend = lambda: None  # type: ignore[attr-defined]
    stand_ins = {"vdsr": module, "torch.nn.backends": types.ModuleType("torch.nn.backends"), "torch.nn.backends.thnn": thnn}
    sys.modules.update(stand_ins)
    yield
    for name in stand_ins:
        del sys.modules[name]


REAL = [
    "minivision/2.7_80x80_MiniFASNetV2.pth",
    "mtcnn/pytorch/pnet.pt",
    "mtcnn/pytorch/rnet.pt",
    "mtcnn/pytorch/onet.pt",
    "pth/lpips_v0.1_alex.pth",
    "pth/resnet20-12fca82f.th",
    "pth/torchscript_reddit.pt",
    "pth/vdsr_model_epoch_50.pth",
    "retinaface_1mb/RBF_Final.pth",
    "ultraface/pytorch/version-slim-320.pth",
    "yunet/yunet_n.pth",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_as_torch_reads_them(name: str, shared: Path, stub_vdsr: None) -> None:
    path = shared / "real" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = torch.jit.load(path).state_dict() if "torchscript" in name else torch.load(path, weights_only=False, map_location="cpu")
    if isinstance(value, dict) and ("state_dict" in value or "model" in value):
        value = value["state_dict"] if "state_dict" in value else value["model"].state_dict()
    assert_same(porter.open(path), value)


def test_exported_programs_are_refused_with_a_way_out(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(2, 1), (torch.ones(1, 2),)), tmp_path / "m.pt2")
    with pytest.raises(FormatError) as caught:
        porter.open(tmp_path / "m.pt2")
    assert caught.value.code == "F204"


def sharded(folder: Path) -> Path:
    torch.save({"a": torch.ones(2), "b": torch.zeros(3)}, folder / "m-1-of-2.bin")
    torch.save({"c": torch.full((4,), 2.0)}, folder / "m-2-of-2.bin")
    table = {"a": "m-1-of-2.bin", "c": "m-2-of-2.bin", "b": "m-1-of-2.bin"}
    (folder / "m.bin.index.json").write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": table}))
    return folder / "m.bin.index.json"


def test_what_shards_say_beside_their_tensors(tmp_path: Path) -> None:
    for number, key in enumerate("ab"):
        store = TensorStore([Tensor.from_array(key, np.ones(2, np.float32))])
        store.metadata = {"by": "porter", "part": number}
        store.attachments = {"pytorch.metadata": json.dumps({key: {"version": number}}).encode(), "note": key.encode()}
        porter.save(store, tmp_path / f"{number}.bin")
    (tmp_path / "m.bin.index.json").write_text(json.dumps({"weight_map": {"a": "0.bin", "b": "1.bin"}}))
    whole = porter.open(tmp_path / "m.bin.index.json")
    assert json.loads(whole.attachments["pytorch.metadata"]) == {"a": {"version": 0}, "b": {"version": 1}}
    assert whole.metadata == {"by": "porter", "part": 0}
    assert [n.message for n in whole.notices] == [
        "the metadata 'part' of '1.bin' are not those of the files before it",
        "the attachment 'note' of '1.bin' is not that of the files before it",
    ]


def test_sharded(tmp_path: Path) -> None:
    store = porter.open(sharded(tmp_path))
    assert_same(store, {"a": torch.ones(2), "c": torch.full((4,), 2.0), "b": torch.zeros(3)})
    assert store.source is not None
    assert store.source.dialect == "sharded"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"a": "m-1-of-2.bin", ', "", "F209"),
        ('"a": "m-1', '"x": "m-1', "F209"),
        ('"c": "m-2-of-2.bin"', '"c": "m-1-of-2.bin"', "F209"),
        ('"c": "m-2-of-2.bin"', '"c": "../m.bin"', "S205"),
        ('"c": "m-2-of-2.bin"', '"c": "/etc/passwd"', "S205"),
        ('"c": "m-2-of-2.bin"', '"c": 3', "F209"),
        ('"c": "m-2-of-2.bin"', '"c": "m.bin.index.json"', "F208"),
        ('"c": "m-2-of-2.bin"', '"c": "gone.bin"', "I001"),
        ("}}", "}", "F209"),
    ],
)
def test_index_that_disagrees(old: str, new: str, code: str, tmp_path: Path) -> None:
    index = sharded(tmp_path)
    text = index.read_text()
    assert old in text
    index.write_text(text.replace(old, new))
    with pytest.raises(PorterError) as caught:
        porter.open(index)
    assert caught.value.code == code


def test_dialect_given_for_another_container(tmp_path: Path) -> None:
    save({"w": torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(PorterError) as caught:
        porter.open(tmp_path / "m.pth", "pytorch:legacy")
    assert caught.value.where.path


def test_many_packed_elements_that_end_within_a_byte(tmp_path: Path) -> None:
    path, count = tmp_path / "m.pth", 2_200_001
    values = torch.arange(count, dtype=torch.float32).remainder(13).reshape(1, count)
    torch.save({"w": torch.quantize_per_channel(values, torch.ones(1), torch.zeros(1), 0, torch.quint4x2)}, path)
    with porter.open(path) as store:
        codes = store["w"].numpy()
        assert np.array_equal(codes.astype(np.uint8).reshape(-1), np.arange(count) % 13)
        assert b"".join(bytes(c) for c in store["w"].chunks()) == store["w"].tobytes()
