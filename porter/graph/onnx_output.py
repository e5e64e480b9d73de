"""A graph as a `.onnx` file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.errors import GraphError
from porter.io.atomic import AtomicFile

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST = (1 << 31) - (1 << 20)
"""Bytes of weights that fit into one protobuf message."""


def write_onnx(model: ir.Model, file: AtomicFile) -> None:
    """Write `model` into `file`, checked by the official checker with shape inference first. Holds the weights twice.

    Raises:
        GraphError: the weights are larger than one file can hold.
    """
    import onnx
    import onnx_ir as ir

    total = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if total > LARGEST:
        raise GraphError("G040", f"{total:,} bytes of weights do not fit into one ONNX file", path=file.path)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    file.write(proto.SerializeToString())
