"""porter as a library: open a weight file, save a store, convert, map, compare."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from porter.formats.base import ReadOptions, WriteOptions, WriteReport
from porter.formats.registry import open_store, save_store
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.check.compare import Comparison
    from porter.mapping.execution import MappedStore
    from porter.mapping.inference.infer import Inference
    from porter.mapping.scope import ParamValue
    from porter.mapping.syntax import Map
    from porter.tensor import TensorSpec

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


def convert(
    source: PathLike,
    target: PathLike,
    format: str | None = None,
    *,
    source_format: str | None = None,
    map: PathLike | None = None,
    params: Mapping[str, ParamValue] | None = None,
    raw: bool = False,
    select: str | None = None,
    net: PathLike | None = None,
    overwrite: bool = False,
    ints: Literal["cast", "drop", "error"] = "cast",
    allow_lossy: bool = False,
    into: PathLike | None = None,
    max_shard_size: int | None = None,
) -> WriteReport:
    """Convert the file `source` to the file `target`, as `porter convert` does: between some formats by a built-in map.

    Args:
        format: the format of `target`; otherwise its extension tells. source_format: that of `source`; otherwise its content does.
        map: rename and change tensors by this map, a file or the name of a built-in one; `params` are its parameters.
        raw: leave names and values as they are, even where a map is usual (Caffe to PyTorch).
        select, net: see `open`. The rest: see `save`.

    Raises:
        PorterError: with file, place and a way out; nothing is written.
    """
    from porter.conversion import convert as convert_file

    write = WriteOptions(
        overwrite=overwrite,
        ints=ints,
        allow_lossy=allow_lossy,
        into=os.fspath(into) if into is not None else None,
        max_shard_size=max_shard_size,
    )
    store, report = convert_file(
        source,
        target,
        source_format=source_format,
        target_format=format,
        select=select,
        net=net,
        write=write,
        map=os.fspath(map) if map is not None else None,
        params=params,
        raw=raw,
    )
    store.close()
    return report


def diff(
    a: TensorStore | PathLike,
    b: TensorStore | PathLike,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    ulp: int | None = None,
    map: Map | PathLike | None = None,
    params: Mapping[str, ParamValue] | None = None,
) -> Comparison:
    """Compare two stores or weight files tensor by tensor, by name; bit for bit unless a tolerance is given.

    With `map`, what it makes of `a` is compared with `b`.

    Raises:
        PorterError: a file cannot be read, or the map does not fit.
    """
    from porter.check.compare import Tolerance, compare

    with ExitStack() as opened:
        left, right = (s if isinstance(s, TensorStore) else opened.enter_context(open_(s)) for s in (a, b))
        if map is not None:
            left = _mapped(map, left, params, right)
        return compare(left, right, Tolerance(rtol=rtol, atol=atol, ulp=ulp))


def load_map(name_or_path: PathLike) -> Map:
    """The built-in map of this name ("caffe:torch"), or the one in a file, with its includes.

    `porter.mapping.render.dumps` gives its text, `porter.mapping.inverse.invert` and `composition.compose` make others of it.

    Raises:
        PorterError: there is no such map, or its text is wrong: with line, column and a way out.
    """
    from porter.mapping.library import load

    return load(os.fspath(name_or_path))


def apply_map(map: Map | PathLike, store: TensorStore, params: Mapping[str, ParamValue] | None = None) -> MappedStore:
    """What `map` (or the one of this name, or in this file) makes of `store`; closing the result closes `store`, too.

    It is checked against names, shapes and dtypes here; values are read and computed when they are asked for or written.

    Raises:
        PorterError: the map does not fit these tensors: with line, column, tensor and a way out.
    """
    return _mapped(map, store, params)


def infer_map(a: TensorStore | Sequence[TensorSpec] | PathLike, b: TensorStore | Sequence[TensorSpec] | PathLike) -> Inference:
    """The map that makes the tensors of `b` of those of `a`, found out from values, shapes and names: `.map`, and `.text()` to edit.

    Each side is a store, a weight file, or a list of names, dtypes and shapes where there are no values.

    Raises:
        PorterError: a file cannot be read, or nothing of `b` is found in `a`.
    """
    from porter.mapping.inference.infer import infer

    with ExitStack() as opened:
        return infer(*(opened.enter_context(open_(s)) if isinstance(s, str | os.PathLike) else s for s in (a, b)))


def _mapped(
    map: Map | PathLike, store: TensorStore, params: Mapping[str, ParamValue] | None, other: TensorStore | None = None
) -> MappedStore:
    from porter.mapping.execution import apply
    from porter.mapping.providers import provider_of

    loaded = load_map(map) if isinstance(map, str | os.PathLike) else map
    return apply(loaded, store, params=params, provider=provider_of(store, other))
