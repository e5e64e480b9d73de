"""Every writable format: write, read, and only the declared losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conformance import (
    ALL_DTYPES,
    SHAPES,
    TARGETS,
    Target,
    assert_only_declared,
    exact_tensor,
    random_tensor,
    round_trip,
)

import porter
from porter.dtypes import DTYPES, FLOAT32, DType
from porter.errors import LossError
from porter.formats.registry import find_format
from porter.store import TensorStore
from porter.tensor import Tensor

every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.id)


@every_target
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_dtype(target: Target, dtype: DType, tmp_path: Path) -> None:
    capabilities = find_format(target.format)[0].adapter().CAPABILITIES
    random_bits = dtype.name in capabilities.dtypes or (dtype.name in capabilities.widened and dtype.kind == "float")
    make = random_tensor if random_bits or dtype.packed or dtype.name == "complex32" else exact_tensor
    store = TensorStore([make("layer.weight", dtype, (3, 5), 1), make("layer.bias", dtype, (3,), 2)])
    try:
        back, report = round_trip(store, target, tmp_path)
    except LossError as error:
        # L603: safetensors has packed types, for whole bytes only; tests/test_safetensors.py writes those.
        assert dtype.name not in capabilities.dtypes or (dtype.packed and error.code == "L603")
        assert error.hint
        assert not list(tmp_path.iterdir()), "refused, and yet something was written"
        return
    assert dtype.name in capabilities.dtypes or dtype.name in capabilities.widened or dtype.kind in ("int", "uint", "bool", "float")
    assert_only_declared(store, back, report)


@every_target
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape(target: Target, shape: tuple[int, ...], tmp_path: Path) -> None:
    store = TensorStore([random_tensor("layer.weight", FLOAT32, shape, 3), random_tensor("other.weight", FLOAT32, (2,), 4)])
    back, report = round_trip(store, target, tmp_path)
    assert_only_declared(store, back, report)


@every_target
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype="<f4").reshape(2, 3, 4)[:, ::2, ::-1],
        np.asfortranarray(np.arange(12, dtype="<f4").reshape(3, 4)),
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.broadcast_to(np.float32(2.5), (3, 4)),
    ],
    ids=["strided", "fortran", "big-endian", "broadcast"],
)
def test_array_layout(target: Target, array: np.ndarray, tmp_path: Path) -> None:
    store = TensorStore([Tensor.from_array("layer.weight", array)])
    back, report = round_trip(store, target, tmp_path)
    assert_only_declared(store, back, report)
    np.testing.assert_array_equal(back["layer.weight"].numpy().ravel(), array.ravel())


NAMES = (
    "weight",
    "layer1.0.bn1.running_mean",
    "module.conv.weight",
    "conv2d_1/kernel:0",
    "/leading",
    "trailing/",
    "a//b",
    "..",
    ".",
    "conv4-2.weight",
    "größe.重み.weight",
    "x" * 300 + ".weight",
    "a.npy",
    "two words.weight",
    "__metadata__",
    "data",
    "porter",
)


@every_target
@pytest.mark.parametrize("name", NAMES, ids=lambda n: n[:24])
def test_name(target: Target, name: str, tmp_path: Path) -> None:
    store = TensorStore([random_tensor(name, FLOAT32, (2, 3), 5), random_tensor("z.bias", FLOAT32, (2,), 6)])
    try:
        back, report = round_trip(store, target, tmp_path)
    except LossError as error:
        assert error.hint
        assert error.where.tensor == name
        assert not list(tmp_path.iterdir())
        return
    assert_only_declared(store, back, report)


@every_target
def test_order_and_many(target: Target, tmp_path: Path) -> None:
    names = [f"block{i}.{part}" for i in (10, 9, 2, 1) for part in ("weight", "bias")]
    store = TensorStore(random_tensor(n, FLOAT32, (i + 1, 2), i) for i, n in enumerate(names))
    back, report = round_trip(store, target, tmp_path)
    assert_only_declared(store, back, report)


@every_target
def test_no_tensors(target: Target, tmp_path: Path) -> None:
    try:
        back, report = round_trip(TensorStore(), target, tmp_path)
    except porter.PorterError as error:
        assert error.hint
        assert not list(tmp_path.iterdir())
        return
    assert len(back) == 0
    assert report.tensors == 0


@every_target
def test_everything_around_the_weights(target: Target, tmp_path: Path) -> None:
    shared = random_tensor(
        "embed.weight", FLOAT32, (4, 3), 7, axes="OI", role="weight", attributes={"caffe.layer": "embed", "caffe.blob": 0}
    )
    store = TensorStore([shared, random_tensor("mid.weight", FLOAT32, (2, 2), 8)])
    store.tie(shared.with_spec(name="head.weight"), "embed.weight")
    store.metadata.update({"epoch": "12", "lr": 0.5, "classes": ["a", "b"]})
    store.attachments["note"] = b"\x00\xff binary"
    back, report = round_trip(store, target, tmp_path)
    assert_only_declared(store, back, report)


@every_target
def test_mixed_dtypes(target: Target, tmp_path: Path) -> None:
    store = TensorStore(
        [
            random_tensor("a.weight", FLOAT32, (3, 3), 9),
            exact_tensor("bn.num_batches_tracked", DTYPES["int64"], (), 10),
            random_tensor("h.weight", DTYPES["float16"], (5,), 11),
            exact_tensor("mask", DTYPES["bool"], (3,), 12),
        ]
    )
    try:
        back, report = round_trip(store, target, tmp_path)
    except LossError as error:
        assert error.hint
        assert not list(tmp_path.iterdir())
        return
    assert_only_declared(store, back, report)


@every_target
def test_refuses_to_overwrite(target: Target, tmp_path: Path) -> None:
    store = TensorStore([random_tensor("layer.weight", FLOAT32, (2, 3), 13)])
    path = tmp_path / target.filename
    path.write_bytes(b"precious")
    with pytest.raises(porter.PorterError) as caught:
        porter.save(store, path, target.format, **target.options)
    assert caught.value.code == "I010"
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == [target.filename]


@every_target
def test_onto_its_own_input(target: Target, tmp_path: Path) -> None:
    store = TensorStore(random_tensor(f"layer{i}.weight", FLOAT32, (40, 50), i) for i in range(3))
    back, _ = round_trip(store, target, tmp_path)
    digest = back.digest()
    porter.save(back, tmp_path / target.filename, target.format, overwrite=True, **target.options)
    assert porter.open(tmp_path / target.filename).digest() == digest
