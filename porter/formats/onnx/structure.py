"""An ONNX file without its values: the scan that leaves payloads in the file, and the parsed remainder.

Source: onnx/onnx, `onnx/onnx.proto` (IR version 14); field numbers are those of `schemas/onnx_weights.proto`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from porter.errors import FormatError
from porter.io.protobuf_messages import message_classes, parse
from porter.io.protobuf_wire import Rule, scan
from porter.io.source import FileSource

FLOAT_DATA, INT32_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 7, 9, 10, 11
"""Fields of TensorProto that hold values."""

EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of TensorProto that say where values lie outside the model's file."""

ATTRIBUTE_F, ATTRIBUTE_I, ATTRIBUTE_FLOATS, ATTRIBUTE_INTS = 2, 3, 7, 8
"""Fields of AttributeProto that hold numbers."""

_SMALL_NODE = 1024
"""Nodes of at most this many bytes are parsed with their payloads: most hold none, and a model has thousands."""


@cache
def _rules(marked: bool) -> Rule:
    """What to look into. `marked`: tensors and attributes say where they lie, and every payload is left in the file."""
    tensor = Rule(
        cut={FLOAT_DATA: 4, INT32_DATA: 0, INT64_DATA: 0, RAW_DATA: 0, DOUBLE_DATA: 8, UINT64_DATA: 0},
        marked=marked,
    )
    sparse = Rule({1: tensor, 2: tensor})
    graph = Rule()
    attribute = Rule(
        {5: tensor, 6: graph, 10: tensor, 11: graph, 22: sparse, 23: sparse},
        # 4 is a string, which may hold a whole compiled network (EPContext nodes).
        cut={4: 0, ATTRIBUTE_FLOATS: 4, ATTRIBUTE_INTS: 0},
        marked=marked,
    )
    node = Rule({5: attribute}, whole=0 if marked else _SMALL_NODE)
    graph.descend.update({1: node, 5: tensor, 15: sparse})
    return Rule({7: graph, 20: Rule({1: graph, 2: graph}), 25: Rule({7: node, 11: attribute})})


def read_structure(source: FileSource, *, marked: bool = False) -> Any:
    """The `ModelProto` in `source` with every large payload left in the file.

    `marked` leaves small ones there too, and gives each tensor and attribute a `Cut` with field 0 that says where it
    lies: what replacing values in place needs.

    Raises:
        FormatError: the file is no protobuf message, or holds no graph.
    """
    skeleton = scan(source, _rules(marked))
    model = parse(message_classes("onnx_weights.binpb")["onnx_weights.ModelProto"], skeleton, "the model", source.path)
    if not model.HasField("graph"):
        raise FormatError(
            "F301",
            "the model has no graph",
            path=source.path,
            hint="a .onnx file is a ModelProto; single tensors (.pb) and graphs without a model are not read",
        )
    return model


def text(value: bytes) -> str:
    """A string of the file. Bytes that are not UTF-8 become lone surrogates, from which they can be had back."""
    return value.decode("utf-8", "surrogateescape")
