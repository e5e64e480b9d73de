"""What porter writes, as torch reads it: every type, ties, alignment, quantised and sparse tensors, the layout of the archive."""

from __future__ import annotations

import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import exact_tensor, random_tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import porter
from porter.dtypes import BY_TORCH, DTYPES, FLOAT32
from porter.errors import LossError, UsageError
from porter.formats.pytorch.record_writer import RecordWriter
from porter.io.atomic import OutputGroup
from porter.io.payloads import ComputedPayload
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning:torch")


def bits(tensor: Any) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def load(path: Path, **options: Any) -> Any:
    return torch.load(path, weights_only=True, **options)


def write(store: TensorStore, folder: Path) -> Path:
    report = porter.save(store, folder / "out.pth", overwrite=True)
    assert (report.format, report.dialect, report.tensors) == ("pytorch", "zip", len(store))
    return folder / "out.pth"


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mmap"])
def test_torch_reads_every_type(mapped: bool, tmp_path: Path) -> None:
    make = {n: exact_tensor if d.name == "bool" else random_tensor for n, d in DTYPES.items()}
    store = TensorStore(make[d.name](f"x.{d.name}", d, (3, 5), i) for i, d in enumerate(BY_TORCH.values()))
    back = load(write(store, tmp_path), mmap=mapped)
    assert type(back) is OrderedDict
    assert list(back) == list(store)
    for name, tensor in store.items():
        assert bits(back[name]) == tensor.tobytes(), name
        assert (str(back[name].dtype), tuple(back[name].shape)) == (f"torch.{tensor.dtype}", tensor.shape)
        assert back[name].is_contiguous()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 1, 2, 1, 3), (300,), (70_000,)], ids=str)
def test_shapes_are_pickled_as_torch_does(shape: tuple[int, ...], tmp_path: Path) -> None:
    store = TensorStore([random_tensor("w", FLOAT32, shape)])
    path = write(store, tmp_path)
    torch.save(OrderedDict(w=load(path)["w"]), tmp_path / "archive.pth")
    assert records(tmp_path / "archive.pth")["data.pkl"] == records(path)["data.pkl"]


def records(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name.removeprefix("archive/"): archive.read(name) for name in archive.namelist()}


def test_the_bytes_are_torchs_own(tmp_path: Path) -> None:
    """Everything before torch's random serialization id is byte for byte what `torch.save` writes."""
    state: Any = OrderedDict()
    for i, dtype in enumerate(BY_TORCH.values()):
        state[f"x.{dtype}"] = (
            torch.from_numpy(np.random.default_rng(i).integers(0, 2, 16, dtype=np.uint8)).view(getattr(torch, dtype.name)).clone()
        )
    state["größe"] = torch.randn(2, 1, 3, 2, 2)
    state["tied"] = state["größe"].detach()
    state |= {f"layer{i}": torch.full((i % 3,), float(i)) for i in range(1200)}
    state._metadata = OrderedDict({"": {"version": 1}, "bn": {"version": 2, "x": None, "f": 0.5, "s": "t", "b": True}})
    torch.save(state, tmp_path / "archive.pth")
    theirs, ours = (tmp_path / "archive.pth").read_bytes(), write(porter.open(tmp_path / "archive.pth"), tmp_path).read_bytes()
    with zipfile.ZipFile(tmp_path / "archive.pth") as archive:
        end = archive.getinfo("archive/.data/serialization_id").header_offset
    assert ours[:end] == theirs[:end]


GOLDEN_START = (
    b"PK\x03\x04\0\0\x08\x08" + b"\0" * 18 + b"\x10\0\x12\0archive/data.pklFB\x0e\0" + b"Z" * 14
    + b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\0\0\0wq\x02ctorch._utils\n_rebuild_tensor_v2\nq\x03("
    b"(X\x07\0\0\0storageq\x04ctorch\nHalfStorage\nq\x05X\x01\0\0\x000q\x06X\x03\0\0\0cpuq\x07K\x02tq\x08Q"
    b"K\0K\x02\x85q\tK\x01\x85q\n\x89h\0)Rq\x0btq\x0cRq\rs."
    b"PK\x07\x08\x72\xb0\x16\x1e\xa4\0\0\0\xa4\0\0\0"
    b"PK\x03\x04\0\0\x08\x08" + b"\0" * 18 + b"\x17\0\x17\0archive/.format_versionFB\x13\0" + b"Z" * 19
    + b"1PK\x07\x08\xb7\xef\xdc\x83\x01\0\0\0\x01\0\0\0"
)  # fmt: skip
GOLDEN_END = (
    b"PK\x01\x02\0\0\0\0\x08\x08\0\0\0\0\0\0\xd1\x9egU\x02\0\0\0\x02\0\0\0\x0f\0" + b"\0" * 12 + b"\xd4\x02\0\0archive/version"
    b"PK\x05\x06\0\0\0\0\x06\0\x06\0\x83\x01\0\0\x52\x03\0\0\0\0"
)


def test_golden_bytes(tmp_path: Path) -> None:
    store = TensorStore([Tensor.from_array("w", np.array([1, -2], "<f2"))])
    data = write(store, tmp_path).read_bytes()
    assert data[: len(GOLDEN_START)] == GOLDEN_START
    assert data[-len(GOLDEN_END) :] == GOLDEN_END
    assert {k: v for k, v in records(tmp_path / "out.pth").items() if k != "data.pkl"} == {
        ".format_version": b"1",
        ".storage_alignment": b"64",
        "byteorder": b"little",
        "data/0": b"\x00\x3c\x00\xc0",
        "version": b"3\n",
    }


def test_every_record_is_aligned(tmp_path: Path) -> None:
    store = TensorStore(random_tensor(f"layer{i}.weight", FLOAT32, (i,), i) for i in range(20))
    path = write(store, tmp_path)
    assert all(t.location is None or t.location.offset % 64 == 0 for t in porter.open(path).values())
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack_from("<2H", data, info.header_offset + 26)
            assert (info.header_offset + 30 + name + extra) % 64 == 0
            assert info.compress_type == zipfile.ZIP_STORED


def test_torch_computes_where_storages_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.serialization import config

    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")
    store = TensorStore(random_tensor(f"layer{i}.weight", FLOAT32, (7 * i,), i) for i in range(20))
    config.load.calculate_storage_offsets = True
    try:
        back = load(write(store, tmp_path), mmap=True)
    finally:
        config.load.calculate_storage_offsets = False
    assert {n: bits(t) for n, t in back.items()} == {n: t.tobytes() for n, t in store.items()}


@pytest.mark.parametrize("limit", [1, 100, 400, 2000])
def test_zip64_forms(limit: int, tmp_path: Path) -> None:
    """The forms for more than 4 GiB, made small: Python's reader and porter's take them."""
    with OutputGroup() as group:
        writer = RecordWriter(group.create(tmp_path / "a.zip"), "r", limit=limit)
        writer.add("small", b"x" * 10)
        writer.add("empty", b"")
        writer.add("large", ComputedPayload(500, lambda: iter([b"y" * 500])))
        writer.add("last", b"z")
        writer.finish()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert [archive.read(n) for n in archive.namelist()] == [b"x" * 10, b"", b"y" * 500, b"z"]


def test_ties_share_a_storage(tmp_path: Path) -> None:
    embed = random_tensor("embed", FLOAT32, (4, 6), 1)
    store = TensorStore([embed, random_tensor("mid", FLOAT32, (3,), 2)])
    store.tie(embed.with_spec(name="head"), "embed")
    store.tie(embed.with_spec(name="flat", shape=(24,)), "embed")
    path = write(store, tmp_path)
    assert [n for n in records(path) if n.startswith("data/")] == ["data/0", "data/1"]
    back = load(path)
    assert list(back) == ["embed", "mid", "head", "flat"]
    assert (
        back["head"].untyped_storage().data_ptr() == back["embed"].untyped_storage().data_ptr() == back["flat"].untyped_storage().data_ptr()
    )
    assert porter.open(path).ties == {"head": "embed", "flat": "embed"}


def test_the_target_of_ties_may_come_last(tmp_path: Path) -> None:
    """As in files that list tensors by name, with a description that ties them."""
    one = random_tensor("z", FLOAT32, (4, 6), 1)
    store = TensorStore([one.with_spec(name="a"), one.with_spec(name="b"), one])
    store.ties.update({"a": "z", "b": "z"})
    path = write(store, tmp_path)
    assert [n for n in records(path) if n.startswith("data/")] == ["data/0"]
    assert porter.open(path).ties == {"b": "a", "z": "a"}


def test_a_tie_that_no_longer_holds_is_not_believed(tmp_path: Path) -> None:
    store = TensorStore([random_tensor("a", FLOAT32, (4,), 1)])
    store.tie(random_tensor("b", FLOAT32, (4,), 2), "a")
    report = porter.save(store, tmp_path / "out.pth")
    assert [(loss.kind, loss.tensors) for loss in report.losses] == [("tie", ("b",))]
    assert {n: bits(t) for n, t in load(tmp_path / "out.pth").items()} == {n: t.tobytes() for n, t in store.items()}
    equal = TensorStore([random_tensor("a", FLOAT32, (4,), 1)])
    equal.tie(random_tensor("b", FLOAT32, (4,), 1), "a")
    assert not porter.save(equal, tmp_path / "equal.pth").losses
    assert [n for n in records(tmp_path / "equal.pth") if n.startswith("data/")] == ["data/0"]


QUANTISED = {
    "tensor": lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.quint8),
    "negative": lambda x: torch.quantize_per_tensor(x, 1e-300, -5, torch.qint8),
    "wide": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint32),
    "channel": lambda x: torch.quantize_per_channel(x, torch.rand(5).double() + 0.1, torch.arange(5), 1, torch.qint8),
    "affine": lambda x: torch.quantize_per_channel(x, torch.rand(3) + 0.1, torch.rand(3), 0, torch.quint8),
    "nibbles": lambda x: torch.quantize_per_channel(x, torch.rand(3) + 0.1, torch.rand(3), 0, torch.quint4x2),
}


def test_quantised_tensors_are_put_together_again(tmp_path: Path) -> None:
    state = {name: make(torch.randn(3, 5)) for name, make in QUANTISED.items()}
    torch.save(OrderedDict(state), tmp_path / "archive.pth")
    store = porter.open(tmp_path / "archive.pth")
    report = porter.save(store, tmp_path / "out.pth")
    assert not report.losses
    assert not report.notices
    assert report.tensors == 3 * len(state)
    back = load(tmp_path / "out.pth")
    for name, tensor in state.items():
        assert (back[name].dtype, back[name].qscheme()) == (tensor.dtype, tensor.qscheme())
        assert back[name].dequantize().equal(tensor.dequantize()), name
    assert porter.open(tmp_path / "out.pth").digest() == store.digest()
    # torch's storage of 15 half-byte elements has a byte more than they need.
    theirs = records(tmp_path / "archive.pth")["data.pkl"].replace(b"K\x09tqZ", b"K\x08tqZ")
    assert records(tmp_path / "out.pth")["data.pkl"] == theirs
    porter.save(store, tmp_path / "m.h5")
    porter.save(porter.open(tmp_path / "m.h5"), tmp_path / "again.pth")
    assert (tmp_path / "again.pth").read_bytes() == (tmp_path / "out.pth").read_bytes()


def test_quantised_tensors_that_torch_has_not_are_left_apart(tmp_path: Path) -> None:
    described = {"scheme": "per_tensor_affine", "torch_dtype": "qint8", "scale": "w.scale", "zero_point": "w.zero_point"}
    store = TensorStore(
        [
            exact_tensor("w", DTYPES["int8"], (3,)).with_spec(attributes={"quantization": described}),
            exact_tensor("w.scale", DTYPES["float32"], ()),
            exact_tensor("w.zero_point", DTYPES["int64"], ()),
        ]
    )
    report = porter.save(store, tmp_path / "out.pth")
    assert [(n.kind, n.tensor) for n in report.notices] == [("changed", "w")]
    assert list(load(tmp_path / "out.pth")) == ["w", "w.scale", "w.zero_point"]
    back = porter.open(tmp_path / "out.pth")
    assert back["w"].attributes == {"quantization": described}
    assert back.digest() == store.digest()


@pytest.mark.parametrize("change", ["scheme", "torch_dtype", "scale", "zero_point", "axis"])
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, "per_channel_affine", "qint32", "w"], ids=str)
def test_odd_descriptions_are_harmless(change: str, value: Any, tmp_path: Path) -> None:
    described = {"scheme": "per_tensor_affine", "torch_dtype": "qint8", "scale": "w.scale", "zero_point": "w.zero_point", change: value}
    numbers = [Tensor.from_array("w.scale", np.array(0.5)), Tensor.from_array("w.zero_point", np.array(3))]
    store = TensorStore([exact_tensor("w", DTYPES["int8"], (3,)).with_spec(attributes={"quantization": described}), *numbers])
    path = write(store, tmp_path)
    load(path)
    assert porter.open(path).digest() == store.digest()


def test_sparse_tensors_are_put_together_again(tmp_path: Path) -> None:
    dense = torch.tensor([[0, 0, 3.0, 0], [4, 0, 5, 0]])
    state = {
        "coo": dense.to_sparse_coo(),
        "hybrid": torch.sparse_coo_tensor([[0, 1]], torch.randn(2, 3), (4, 3)),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((2, 2)),
        "bsc": dense.to_sparse_bsc((2, 2)),
    }
    torch.save(OrderedDict(state), tmp_path / "archive.pth")
    store = porter.open(tmp_path / "archive.pth")
    report = porter.save(store, tmp_path / "out.pth")
    assert not report.losses
    assert not report.notices
    back = load(tmp_path / "out.pth")
    for name, tensor in state.items():
        assert back[name].layout == tensor.layout
        assert back[name].to_dense().equal(tensor.to_dense()), name
    assert porter.open(tmp_path / "out.pth").digest() == store.digest()


def test_float4_goes_in_pairs(tmp_path: Path) -> None:
    store = TensorStore([random_tensor("w", DTYPES["float4_e2m1fn"], (3, 4), 1)])
    back = load(write(store, tmp_path))["w"]
    assert (back.dtype, tuple(back.shape)) == (torch.float4_e2m1fn_x2, (3, 2))
    assert back.view(torch.uint8).numpy().tobytes() == store["w"].tobytes()
    assert porter.open(tmp_path / "out.pth").digest() == store.digest()


@pytest.mark.parametrize(
    ("dtype", "shape", "code"), [("int4", (4,), "L001"), ("float6_e2m3fn", (4,), "L001"), ("float4_e2m1fn", (3,), "L201")]
)
def test_types_that_torch_has_not_are_refused(dtype: str, shape: tuple[int, ...], code: str, tmp_path: Path) -> None:
    with pytest.raises(LossError) as caught:
        write(TensorStore([random_tensor("w", DTYPES[dtype], shape)]), tmp_path)
    assert (caught.value.code, caught.value.where.tensor) == (code, "w")
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dialect", ["legacy", "tar", "torchscript", "pickle"])
def test_other_dialects_are_refused(dialect: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        porter.save(TensorStore([random_tensor("w", FLOAT32, (1,))]), tmp_path / "m.pth", f"pytorch:{dialect}")
    assert caught.value.code == "U203"
    assert not list(tmp_path.iterdir())


def test_the_description_is_invisible_to_torch(tmp_path: Path) -> None:
    store = TensorStore([random_tensor("w", FLOAT32, (2, 3), 1, axes="OI", role="weight", attributes={"caffe.layer": "fc"})])
    store.metadata["epoch"] = 3
    store.attachments["caffe.net"] = b"\x00\xff"
    path = write(store, tmp_path)
    for mapped in (False, True):
        assert list(load(path, mmap=mapped)) == ["w"]
    back = porter.open(path)
    assert (back["w"].axes, back["w"].role, back["w"].attributes) == ("OI", "weight", {"caffe.layer": "fc"})
    assert (back.metadata, back.attachments) == ({"epoch": 3}, {"caffe.net": b"\x00\xff"})


def test_versions_of_modules_that_make_no_sense_are_kept_apart(tmp_path: Path) -> None:
    store = TensorStore([random_tensor("w", FLOAT32, (2,), 1)])
    for data in (b"not json", b"[1]", b'{"a": 3}', b'{"a": {"v": [1]}}', b'{"a": {"v": 1' + b"0" * 30 + b"}}", b"[" * 100_000):
        store.attachments["pytorch.metadata"] = data
        path = write(store, tmp_path)
        load(path)
        assert porter.open(path).attachments == {"pytorch.metadata": data}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=0, max_size=20),
        st.tuples(st.sampled_from(sorted(d.name for d in BY_TORCH.values() if d.name != "bool")), st.lists(st.integers(0, 4), max_size=4)),
        max_size=6,
    )
)
def test_round_trip(tmp_path: Path, entries: dict[str, tuple[str, list[int]]]) -> None:
    store = TensorStore(random_tensor(n, DTYPES[d], tuple(shape), i) for i, (n, (d, shape)) in enumerate(entries.items()))
    path = write(store, tmp_path)
    back = porter.open(path)
    assert list(back) == list(store)
    assert back.digest() == store.digest()
    theirs = load(path)
    assert {n: bits(t) for n, t in theirs.items()} == {n: t.tobytes() for n, t in store.items()}


def test_old_values_are_gathered_while_writing(tmp_path: Path) -> None:
    """A transposed view in a legacy stream, straight into an archive."""
    state = {"w": torch.randn(500, 700).t(), "b": torch.randn(9)}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    back = load(write(porter.open(tmp_path / "old.pth"), tmp_path))
    assert {n: bits(t) for n, t in back.items()} == {n: bits(t) for n, t in state.items()}


def test_spec_of_nothing(tmp_path: Path) -> None:
    path = write(TensorStore(), tmp_path)
    assert load(path) == OrderedDict()
    assert len(porter.open(path)) == 0


def test_strange_names(tmp_path: Path) -> None:
    names = ["", ".", "a/b", "\n", "\0", "\ud800", "x" * 70_000, "self", "größe"]
    store = TensorStore(Tensor(TensorSpec(n, FLOAT32, (1,)), random_tensor("t", FLOAT32, (1,), i).payload) for i, n in enumerate(names))
    path = write(store, tmp_path)
    assert list(load(path)) == names
    assert list(porter.open(path)) == names
