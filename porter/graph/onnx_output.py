"""A graph as a `.onnx` file, written tensor by tensor: never more than one tensor's values are in memory beside the source's.

The official checker and shape inference see the model without its large weights, each an input of the same type and shape in
their place, which is all that they look at.

Source: onnx/onnx, `onnx/onnx.proto` (fields of ModelProto, GraphProto and TensorProto), `docs/ExternalData.md`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from porter.errors import GraphError
from porter.formats.base import WriteOptions, refuse_overwrite
from porter.formats.onnx.weights_model import LIMIT, alignment_of, external_entries
from porter.graph.network import Network
from porter.io.atomic import OutputGroup
from porter.io.payloads import LoadedPayload
from porter.io.protobuf_wire import delimited
from porter.tensor import Payload

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

FILE = "model.onnx"
DATA_SUFFIX = ".data"
"""What is appended to the model's name for the file with the values that one protobuf message cannot hold."""

SMALL = 1024
"""Bytes of the largest tensor that checkers see with its values: shapes and axes, which they need."""

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Fields of ModelProto, GraphProto and TensorProto."""


def write(network: Network, folder: str) -> None:
    """Write `model.onnx` into `folder`, and `model.onnx.data` where one file cannot hold the weights.

    Raises:
        GraphError: the official checker or shape inference refuses the model.
    """
    write_model(network.model, os.path.join(folder, FILE))


def write_model(model: ir.Model, path: str, *, overwrite: bool = True) -> tuple[str, ...]:
    """Write `model` to `path`, and to `path.data` where one file cannot hold the weights; the files that were written.

    Raises:
        GraphError: the official checker or shape inference refuses the model.
        FileAccessError: a file exists, and may not be overwritten.
    """
    options = WriteOptions(overwrite=overwrite)
    refuse_overwrite(path, options)
    skeleton, large = without_values(model)
    _check(skeleton, set(large))
    body, data_path = _model(skeleton, large, None), path + DATA_SUFFIX
    outside = _nbytes(body) > LIMIT
    if outside:
        refuse_overwrite(data_path, options)
        body = _model(skeleton, large, os.path.basename(data_path))
        if _nbytes(body) > LIMIT:
            raise GraphError("G041", "the graph alone, without its weights, is larger than the 2 GB that one ONNX file can hold")
    with OutputGroup() as group:
        if outside:
            data = group.create(data_path)
            for values in large.values():
                data.pad_to(alignment_of(values.nbytes))
                data.write_payload(values)
        file = group.create(path)
        file.reserve(_nbytes(body))
        for payload in body:
            file.write_payload(payload)
    return (path, data_path) if outside else (path,)


def _values(tensor: ir.TensorProtocol) -> memoryview:
    """The bytes of a tensor, as `raw_data` has them."""
    import sys

    import numpy as np

    if tensor.dtype.itemsize < 1 or sys.byteorder == "big":
        return memoryview(tensor.tobytes())
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data


def without_values(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, Payload]]:
    """The model with large weights empty, and the values of these by name."""
    import onnx
    import onnx_ir as ir

    large: dict[str, Payload] = {}
    held: list[tuple[ir.Value, ir.TensorProtocol]] = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= SMALL or tensor.dtype == ir.DataType.STRING:
            continue
        large[name] = LoadedPayload(tensor.nbytes, partial(_values, tensor))
        held.append((value, tensor))
    try:
        for value, tensor in held:
            empty = onnx.TensorProto(name=value.name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))
            value.const_value = ir.serde.TensorProtoTensor(empty)
        return ir.to_proto(model), large
    finally:
        for value, tensor in held:
            value.const_value = tensor


def _check(skeleton: onnx.ModelProto, large: set[str]) -> None:
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    given = {i.name for i in model.graph.input}
    for tensor in [t for t in model.graph.initializer if t.name in large]:
        model.graph.initializer.remove(tensor)
        if tensor.name not in given:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        said = " ".join(str(error).split())[:300]
        raise GraphError("G040", f"onnx's own checker refuses the model: {said}") from error


def _model(skeleton: onnx.ModelProto, large: dict[str, Payload], location: str | None) -> list[Payload]:
    """The model as payloads to be written one after the other; `location`: the file that large values lie in."""
    import onnx

    graph, model = onnx.GraphProto(), onnx.ModelProto()
    graph.CopyFrom(skeleton.graph)
    tensors = list(skeleton.graph.initializer)
    del graph.initializer[:]
    model.CopyFrom(skeleton)
    model.ClearField("graph")
    parts: list[Payload] = []
    at = 0
    for tensor in tensors:
        spec = tensor.SerializeToString()
        values = large.get(tensor.name)
        if values is not None and location is not None:
            at += -at % alignment_of(values.nbytes)
            spec += external_entries(os.fsencode(location), at, values.nbytes)
            at += values.nbytes
        elif values is not None:
            parts += delimited(_INITIALIZER, spec, *delimited(_RAW_DATA, values))
            continue
        parts += delimited(_INITIALIZER, spec)
    return [*delimited(_GRAPH, graph.SerializeToString(), *parts), *_bytes(model.SerializeToString())]


def _bytes(data: bytes) -> list[Payload]:
    from porter.tensor import BytesPayload

    return [BytesPayload.of(data)]


def _nbytes(payloads: Sequence[Payload]) -> int:
    return sum(p.nbytes for p in payloads)
