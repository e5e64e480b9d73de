"""porter as a library: open a weight file, save a store, compare two."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from porter.formats.base import ReadOptions, WriteOptions, WriteReport
from porter.formats.registry import open_store, save_store
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.check.compare import Comparison

PathLike = str | os.PathLike[str]


def open_(path: PathLike, format: str | None = None, *, select: str | None = None, net: PathLike | None = None) -> TensorStore:
    """Open a weight file of any known format.

    Reads the file's index; values stay in the file until they are asked for, so keep the file where it is.

    Args:
        path: the file; its content says what format it is.
        format: the format ("caffe", "wts:nvidia-v1"), where the content alone does not tell.
        select: for nested checkpoints, the path of the dictionary that holds the weights ("model.ema").
        net: a `.prototxt` that names the layer types, for Caffe files that do not.

    Raises:
        PorterError: with file, place and a way out.
    """
    options = ReadOptions(select=select, net=os.fspath(net) if net is not None else None)
    return open_store(path, format, options=options)


def save(
    store: TensorStore,
    path: PathLike,
    format: str | None = None,
    *,
    overwrite: bool = False,
    ints: Literal["cast", "drop", "error"] = "cast",
    allow_lossy: bool = False,
    into: PathLike | None = None,
    net: PathLike | None = None,
    max_shard_size: int | None = None,
) -> WriteReport:
    """Write `store` to `path`, in the format that `format` or the extension names. Streams tensor by tensor.

    The output appears whole or not at all. The report lists what the format does not keep.

    Args:
        overwrite: replace an existing file.
        ints: integers in formats that have only floats (`.wts`, Caffe): cast where exact, drop, or refuse.
        allow_lossy: write values that the format cannot hold exactly.
        into: an existing ONNX or Keras model whose values are replaced, and nothing else.
        net: a `.prototxt` that gives layer types and parameters to a Caffe file.
        max_shard_size: bytes of the largest safetensors file.

    Raises:
        PorterError: with the tensor and a way out; nothing is written.
    """
    options = WriteOptions(
        overwrite=overwrite,
        ints=ints,
        allow_lossy=allow_lossy,
        into=os.fspath(into) if into is not None else None,
        net=os.fspath(net) if net is not None else None,
        max_shard_size=max_shard_size,
    )
    return save_store(store, path, format, options=options)


def diff(
    a: TensorStore | PathLike,
    b: TensorStore | PathLike,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    ulp: int | None = None,
) -> Comparison:
    """Compare two stores or weight files tensor by tensor, by name; bit for bit unless a tolerance is given.

    Raises:
        PorterError: a file cannot be read.
    """
    from porter.check.compare import Tolerance, compare

    left = a if isinstance(a, TensorStore) else open_(a)
    right = b if isinstance(b, TensorStore) else open_(b)
    return compare(left, right, Tolerance(rtol=rtol, atol=atol, ulp=ulp))
