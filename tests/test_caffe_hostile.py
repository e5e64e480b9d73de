"""Damaged and hostile binary nets: read or refused, with PorterError alone, soon, and without large allocations."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from caffe_oracle import blob, conv, legacy_blob, plain
from hostile import byte_changes, growths, guarded, truncations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import porter
from porter.dtypes import DTYPES
from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.formats.caffe import binary
from porter.formats.registry import open_store
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec


def samples() -> dict[str, tuple[str, bytes]]:
    """Small files that between them have every structure: dialect to read them as, and their bytes."""
    inner = plain()["V0LayerParameter"](name="a", type="conv", num_output=1, blobs=[legacy_blob((1, 1, 1, 2))])
    old = [
        plain()["V1LayerParameter"](layer=inner, bottom=["x"]),
        plain()["V1LayerParameter"](name="b", type=14, param=["w"], blobs_lr=[1], blobs=[legacy_blob((1, 1, 2, 1))]),
    ]
    raw = plain()["BlobProto"](raw_data=b"\0\x3c\0\x40", raw_data_type=2, shape={"dim": [2]})
    double = plain()["BlobProto"](double_data=[1.0], shape={"dim": [1]})
    unpacked = plain()["UnpackedBlob"](data=[1.0, 2.0, 3.0], shape={"dim": [3]}).SerializeToString()
    layer = b"\x0a\x01u\x12\x04Bias\x3a" + bytes([len(unpacked)]) + unpacked
    new = [conv("c", blob((1, 1, 2, 1)), blob((1,)), param=[{"name": "w"}, {}]), conv("d", raw, double, param=[{"name": "w"}])]
    state = plain()["SolverState"](iter=9, learned_net="n", history=[blob((2,)), double], minimum_loss=0.5)
    net = plain()["NetParameter"](name="net", layers=old, layer=new).SerializeToString() + b"\xa2\x06" + bytes([len(layer)]) + layer
    document = b'{"porter":1,"names":["p","q"],"order":[1,0],"ties":{"q":"p"},"attachments":{"a":"AA=="}}'
    named = plain()["NetParameter"](layer=[conv("c", blob((1, 1, 1, 1)), blob((1,)))]).SerializeToString()
    named += b"\x8a\x80\xf4\xf8\x0f" + bytes([len(document)]) + document
    return {"net": ("caffe", net), "named": ("caffe", named), "solverstate": ("caffe:solverstate", state.SerializeToString())}


def survive(path: Path, dialect: str, variants: Iterator[tuple[str, bytes]], *, write: bool = False) -> int:
    refused = 0
    for what, data in variants:
        path.write_bytes(data)
        with guarded(what):
            try:
                with open_store(path, dialect) as store:
                    for tensor in store.values():
                        tensor.tobytes()
                    if write:
                        porter.save(store, path.with_suffix(".out"), "caffe", overwrite=True, allow_lossy=True)
            except PorterError as error:
                refused += 1
                assert error.where.path, what
    return refused


@pytest.mark.parametrize("name", ["net", "named", "solverstate"])
def test_truncations(name: str, tmp_path: Path) -> None:
    dialect, data = samples()[name]
    assert survive(tmp_path / "f", dialect, truncations(data))


@pytest.mark.parametrize("name", ["net", "named", "solverstate"])
def test_byte_changes(name: str, tmp_path: Path) -> None:
    dialect, data = samples()[name]
    assert survive(tmp_path / "f", dialect, byte_changes(data), write=name == "net")


@pytest.mark.parametrize("name", ["net", "named", "solverstate"])
def test_growths(name: str, tmp_path: Path) -> None:
    dialect, data = samples()[name]
    survive(tmp_path / "f", dialect, growths(data))


def test_splices(tmp_path: Path) -> None:
    """Parts of one file in the middle of another, which keeps many lengths right."""
    rng = random.Random(0)
    parts = [data for _, data in samples().values()]

    def variants() -> Iterator[tuple[str, bytes]]:
        for n in range(600):
            a, b = rng.choice(parts), rng.choice(parts)
            at, start = rng.randrange(len(a)), rng.randrange(len(b))
            size = rng.randrange(1, 40)
            yield f"splice {n}", a[:at] + b[start : start + size] + a[at + rng.choice((0, size)) :]

    survive(tmp_path / "f", "caffe", variants())


def _nested(number: int, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = bytes([number << 3 | 2]) + _varint(len(data)) + data
    return data


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


@pytest.mark.parametrize(
    "data",
    [
        b"\xa2\x06" + b"\xff" * 9 + b"\x01",
        b"\xa2\x06\x80\x80\x80\x80\x80\x01" + bytes(100),
        b"\xa2\x06\x04\x0a\xff\xff\xff\x7f",
        b"\x12\x04\x32\x02\x08\xff",
        _nested(2, 3000),
        b"\x0b" * 5000,
        b"\xa2\x06\x02\x3a\x00" * 30_000,
        b"\x82\x00" * 1000,
        bytes([0x80] * 11),
    ],
    ids=["size", "40-bit", "name", "type", "nested", "groups", "blobs", "long-tags", "endless"],
)
def test_lying_structure(data: bytes, tmp_path: Path) -> None:
    survive(tmp_path / "f", "caffe", iter([("as it is", data)]))
    survive(tmp_path / "f", "caffe:solverstate", iter([("as a solver state", data)]))


def test_more_layers_than_any_net_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_MAX_LAYERS", 1000)
    path = tmp_path / "f"
    layer = b"\xa2\x06\x03\x0a\x01c"
    path.write_bytes(layer * 1000)
    assert len(open_store(path, "caffe")) == 0
    path.write_bytes(layer * 1001)
    with pytest.raises(UnsafeFileError, match="more than 1,000 layers"):
        open_store(path, "caffe")


def test_claims_of_size_cost_nothing(tmp_path: Path) -> None:
    """Dimensions that promise an exabyte, or as many dimensions as there are bytes."""
    huge = plain()["BlobProto"](data=[1.0], shape={"dim": [1 << 40, 1 << 20]})
    many = plain()["BlobProto"](data=[1.0], shape={"dim": [1] * 200_000})
    for message in (huge, many):
        path = tmp_path / "f"
        path.write_bytes(plain()["NetParameter"](layer=[conv("c", message)]).SerializeToString())
        with guarded("size"), pytest.raises(FormatError):
            open_store(path, "caffe")


def test_attachments_from_anywhere(tmp_path: Path) -> None:
    """The net that a store brings may have passed through a file that anybody wrote."""
    _, data = samples()["net"]
    store = TensorStore([Tensor(TensorSpec("c.weight", DTYPES["float32"], (1,)), BytesPayload.of(bytes(4)))])
    for what, net in [*truncations(data, 150), *byte_changes(data, 150)]:
        store.attachments["caffe.net"] = net
        for dialect in ("caffe:v2", "caffe:v1"):
            with guarded(what):
                try:
                    porter.save(store, tmp_path / "out.caffemodel", dialect, overwrite=True)
                except PorterError:
                    continue


def test_attributes_from_anywhere(tmp_path: Path) -> None:
    for attributes in (
        {"caffe.layer": "a", "caffe.blob": -1},
        {"caffe.layer": "a", "caffe.blob": 1 << 40},
        {"caffe.layer": "a", "caffe.blob": True},
        {"caffe.layer": 3, "caffe.blob": 0},
        {"caffe.layer": "a", "caffe.blob": 0, "caffe.occurrence": "x"},
        {"caffe.layer": "a", "caffe.blob": 0, "caffe.shape": [1, 1, 1, -1]},
        {"caffe.layer": "a", "caffe.blob": 0, "caffe.shape": [1, 1, 3, 1]},
        {"caffe.layer": "a", "caffe.blob": 0, "caffe.shape": [1 << 40] * 4, "caffe.encoding": ["raw"]},
        {"caffe.layer": "a", "caffe.blob": 0, "caffe.encoding": "raw", "caffe.type": 5},
    ):
        spec = TensorSpec("a.weight", DTYPES["float32"], (2,), None, "weight", attributes)
        store = TensorStore([Tensor(spec, BytesPayload.of(bytes(8)))])
        porter.save(store, tmp_path / "out.caffemodel", overwrite=True)
        (back,) = porter.open(tmp_path / "out.caffemodel").values()
        assert (back.name, back.shape, back.tobytes()) == ("a.weight", (2,), bytes(8))


LAYER = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROLE = st.sampled_from(["weight", "bias", "blob0", "blob3", "running_mean", "slope", "", "a.b", "ä"])
KIND = st.tuples(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(["float32", "float64"]))


@pytest.mark.parametrize(("shape", "name"), [((0,), "\x1f.blob0"), ((), "\x1f.x"), ((2,), "\x7f"), ((0,), "\n.weight")])
def test_names_that_nothing_is_known_by(tmp_path: Path, shape: tuple[int, ...], name: str) -> None:
    """A file of one layer whose name could be anything's needs porter's own mark to be known for a net."""
    porter.save(TensorStore([Tensor.from_array(name, np.ones(shape, "f4"))]), tmp_path / "a.caffemodel")
    assert list(porter.open(tmp_path / "a.caffemodel")) == [name]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.dictionaries(
        st.tuples(LAYER, ROLE).map(".".join),
        st.tuples(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(["float32", "float64"])),
        max_size=8,
    )
)
def test_any_names_and_shapes_come_back(tmp_path: Path, entries: dict[str, tuple[list[int], str]]) -> None:
    store = TensorStore()
    for i, (name, (shape, dtype)) in enumerate(entries.items()):
        spec = TensorSpec(name, DTYPES[dtype], tuple(shape))
        store.add(Tensor(spec, BytesPayload.of(bytes((i + k) & 0xFF for k in range(spec.nbytes)))))
    porter.save(store, tmp_path / "a.caffemodel", overwrite=True)
    back = open_store(tmp_path / "a.caffemodel")
    assert back.source is not None
    assert back.source.format == "caffe"
    # Axes and roles may come from the names of layers and blobs, where the store said none.
    assert [(t.name, t.dtype, t.shape, t.tobytes()) for t in back.values()] == [
        (t.name, t.dtype, t.shape, t.tobytes()) for t in store.values()
    ]


def test_many_layers_of_one_name_take_no_longer_than_others(tmp_path: Path) -> None:
    def seconds(name: Callable[[int], bytes]) -> float:
        layers = (b"\x0a" + bytes([len(name(i))]) + name(i) + b"\x3a\x0b\x2a\x04\0\0\x80\x3f\x3a\x03\x0a\x01\x01" for i in range(4000))
        (tmp_path / "a.caffemodel").write_bytes(b"".join(b"\xa2\x06" + bytes([len(layer)]) + layer for layer in layers))
        started = time.process_time()
        store = porter.open(tmp_path / "a.caffemodel")
        porter.save(store, tmp_path / "b.caffemodel", overwrite=True)
        assert len(store) == 4000
        assert len(store.notices) < 4
        return time.process_time() - started

    usual = seconds(lambda i: b"c%d" % i)
    assert seconds(lambda i: b"c") < 3 * usual + 0.5
