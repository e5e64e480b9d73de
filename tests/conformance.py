"""What every writable format must do: write a store, read it back, and differ only in what it declared.

`TARGETS` lists each writable format and dialect with a file name for it. `round_trip` writes and reads; `differences`
says what came back otherwise; `assert_only_declared` holds one against the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import porter
from porter.dtypes import DTYPES, DType
from porter.formats.base import Loss, WriteReport
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec


@dataclass(frozen=True, slots=True)
class Target:
    """One way of writing: what `-t` says, the file's name, and further options of `porter.save`."""

    format: str
    filename: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        extra = "".join(f",{k}={v}" for k, v in self.options.items())
        return self.format + extra


TARGETS = (
    Target("safetensors", "m.safetensors"),
    Target("safetensors:sharded", "m.safetensors.index.json", {"max_shard_size": 64}),
    Target("pytorch", "m.pth"),
    Target("npz", "m.npz"),
    Target("hdf5:porter", "m.h5"),
    Target("hdf5:keras2", "m.k2.h5"),
    Target("hdf5:keras3", "m.weights.h5"),
    Target("hdf5:caffe", "m.caffemodel.h5"),
    Target("wts:tensorrtx", "m.wts"),
    Target("wts:nvidia-v1", "m.v1.wts"),
    Target("wts:nvidia-v2", "m.wts2"),
    Target("onnx", "m.onnx"),
    Target("caffe", "m.caffemodel"),
)

Difference = tuple[str, str]
"""A kind of `Loss` and the name of the tensor concerned, or "" for the file as a whole."""


def random_tensor(name: str, dtype: DType, shape: tuple[int, ...], seed: int = 0, **spec: Any) -> Tensor:
    """A tensor of random bits: NaN payloads, infinities, subnormals and negative zeros come along. Booleans are 0 or 1."""
    size = int(np.prod(shape))
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, dtype.nbytes(size), dtype=np.uint8)
    if dtype.name == "bool":
        data &= 1
    spare = data.size * 8 - size * dtype.bits
    if spare and data.size:
        data[-1] &= 0xFF >> spare
    return Tensor(TensorSpec(name, dtype, shape, **spec), BytesPayload.of(data.tobytes()))


def exact_tensor(name: str, dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A tensor of small integers, which every numeric dtype of 8 bits or more, and a float32 on the way, holds exactly."""
    values = np.random.default_rng(seed).integers(0, 2, shape)
    return Tensor.from_array(name, values.astype(dtype.numpy()))


def round_trip(store: TensorStore, target: Target, folder: Path) -> tuple[TensorStore, WriteReport]:
    """Write `store` into `folder` and open what was written, its format guessed by content."""
    path = folder / target.filename
    report = porter.save(store, path, target.format, overwrite=True, **target.options)
    back = porter.open(path)
    assert back.source is not None
    assert back.source.format == target.format.partition(":")[0], "the written file is taken for another format"
    return back, report


def differences(before: TensorStore, after: TensorStore) -> Iterator[Difference]:
    """What `after` does not have as `before` had it."""
    for name, tensor in before.items():
        if name not in after:
            yield "tensor", name
            continue
        other = after[name]
        if other.dtype != tensor.dtype:
            yield "dtype", name
        if other.shape != tensor.shape:
            yield "shape", name
        if other.dtype == tensor.dtype and other.tobytes() != tensor.tobytes():
            yield "value", name
        # A format may know more than it was told: axes and roles follow from Caffe's layer types.
        said = tensor.axes in (None, other.axes) and tensor.role in (None, other.role)
        if not said or not tensor.attributes.items() <= other.attributes.items():
            yield "description", name
    for name in after:
        if name not in before:
            yield "name", name
    common = [n for n in before if n in after]
    if common != [n for n in after if n in before]:
        yield "order", ""
    for alias in before.ties:
        if alias not in after.ties and alias not in after.ties.values():
            yield "tie", alias
    if not before.metadata.items() <= after.metadata.items():
        yield "metadata", ""
    if not before.attachments.items() <= after.attachments.items():
        yield "attachment", ""


def declared(losses: tuple[Loss, ...]) -> set[Difference]:
    """What the report says is gone, the parts saved beside the file left out."""
    return {(loss.kind, name) for loss in losses if loss.saved_in is None for name in loss.tensors or ("",)}


def assert_only_declared(before: TensorStore, after: TensorStore, report: WriteReport) -> None:
    """Nothing came back differently without a word, and no loss of a tensor was declared that did not happen."""
    found, said = set(differences(before, after)), declared(report.losses)
    assert not found - said, f"lost without a word: {sorted(found - said)}"
    idle = {d for d in said - found if d[0] in ("tensor", "dtype", "shape", "value")}
    assert not idle, f"declared as lost, and not lost: {sorted(idle)}"


ALL_DTYPES = tuple(DTYPES.values())
SHAPES = ((), (1,), (7,), (0,), (3, 0, 2), (2, 3), (4, 1, 3, 3), (2, 1, 2, 1, 3), (1, 1, 1, 5))
