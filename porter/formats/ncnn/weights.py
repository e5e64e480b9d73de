"""The values of an ncnn net: where each tensor lies in the `.bin` file, and how it is stored there.

A tagged tensor begins with four bytes: 0 and 0x0002C056 mean float32, 0x01306B47 float16, 0x000D4B38 int8, and 1, which
converters of 2017 wrote, a table of 256 float32 and one byte for each value. All are padded to four bytes.

Source: Tencent/ncnn 20260526, `src/modelbin.cpp` (ModelBinFromDataReader::load); 20180129, `tools/caffe/caffe2ncnn.cpp`
(what writes the table).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from porter.dtypes import DTYPES, FLOAT32, DType
from porter.errors import FormatError
from porter.formats.ncnn.layer_types import Blob, blobs
from porter.formats.ncnn.param import Layer
from porter.io.payloads import ComputedPayload
from porter.io.unindexed import Values
from porter.tensor import CHUNK, Payload, Tensor, TensorSpec

if TYPE_CHECKING:
    from porter.store import TensorStore

TYPE, STORAGE = "ncnn.type", "ncnn.storage"
"""Attributes of tensors: the layer's type, and "table" where the values came out of one."""

_FLAGS = {0: "float32", 0x0002C056: "float32", 0x01306B47: "float16", 0x000D4B38: "int8"}
_TABLE_FLAG, _TABLE_NBYTES = 1, 1024


def place(layers: Sequence[Layer], values: Values, store: TensorStore) -> None:
    """Add the tensors of all `layers` to `store`. Reads the flags, and nothing else.

    Layers of a type that porter does not know are taken to have no weights, which holds where the file ends with the
    last layer; otherwise they are what is refused.

    Raises:
        FormatError: the file has fewer or more bytes than the layers ask for, or one of them has an unknown type.
    """
    kept = [(layer, blobs(layer)) for layer in layers]
    unknown = [layer for layer, found in kept if found is None]
    try:
        for layer, found in kept:
            for blob in found or ():
                store.add(_tensor(layer, blob, values, store))
        values.finish()
    except FormatError as error:
        if unknown and error.code in ("F001", "F083", "F084"):
            raise _unknown_type(unknown) from error
        raise
    if unknown:
        types = ", ".join(sorted({layer.type for layer in unknown}))
        store.note(
            "assumed", f"layers of types that porter does not know have no weights ({types}): the file ends with those of the others"
        )


def _tensor(layer: Layer, blob: Blob, values: Values, store: TensorStore) -> Tensor:
    name = f"{layer.name}.{blob.role}"
    if name in store:
        raise FormatError(
            "F004",
            "two layers with weights have this name",
            path=layer.path,
            line=layer.line,
            tensor=name,
            hint="rename one of them in the .param file; only blobs' names matter to ncnn",
        )
    size = math.prod(blob.shape)
    attributes = {TYPE: layer.type}
    if not blob.tagged:
        return Tensor(TensorSpec(name, FLOAT32, blob.shape, blob.axes, blob.role, attributes), values.run(size * 4, name))
    dtype, payload = _tagged(size, values, name)
    if dtype is None:
        dtype, attributes[STORAGE] = FLOAT32, "table"
    return Tensor(TensorSpec(name, dtype, blob.shape, blob.axes, blob.role, attributes), payload)


def _tagged(size: int, values: Values, name: str) -> tuple[DType | None, Payload]:
    """The type (None for a table) and the values of a tensor that begins with a flag."""
    start = values.at
    flag = int.from_bytes(values.run(4, name).buffer(), "little")
    if flag == _TABLE_FLAG:
        table = values.run(_TABLE_NBYTES, name)
        codes = values.run(size, name)
        values.skip(-size % 4, name)
        return None, ComputedPayload(size * 4, lambda: _looked_up(table, codes))
    if flag not in _FLAGS:
        raise FormatError(
            "F084",
            f"the values begin with the flag 0x{flag:08x}, which ncnn does not have",
            path=values.source.path,
            offset=start,
            tensor=name,
            hint=f"{values.told_by} is of another net or another version of it, or the file is damaged",
        )
    dtype = DTYPES[_FLAGS[flag]]
    payload = values.run(dtype.nbytes(size), name)
    values.skip(-payload.nbytes % 4, name)
    return dtype, payload


def _looked_up(table: Payload, codes: Payload) -> Iterator[memoryview]:
    import numpy as np

    entries = np.frombuffer(table.buffer(), "<u4")
    for chunk in codes.chunks(CHUNK // 4):
        yield entries[np.frombuffer(chunk, np.uint8)].view(np.uint8).data


def _unknown_type(unknown: Sequence[Layer]) -> FormatError:
    first = unknown[0]
    others = sorted({layer.type for layer in unknown} - {first.type})
    more = f" (and so are {', '.join(others)})" if others else ""
    return FormatError(
        "F081",
        f"'{first.name}' has the type {first.type}, which is unknown{more}; where its weights end cannot be told",
        path=first.path,
        line=first.line,
        column=1,
        excerpt=first.text,
        width=len(first.type),
        hint="custom layers are known to the program that uses them; convert the model from its original instead",
    )
