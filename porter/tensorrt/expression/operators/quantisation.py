"""Quantize, Dequantize.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (IQuantizeLayer, IDequantizeLayer); ONNX operators QuantizeLinear, DequantizeLinear 21.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.tensorrt.expression.graph import ONNX, Op, ir_dtype
from porter.tensorrt.layers import Dequantize, Quantize

if TYPE_CHECKING:
    import onnx_ir as ir


def quantize(op: Op) -> Sequence[ir.Value]:
    """clamp(round(x / scale) + zero point), half to even."""
    operation = op.layer.operation
    assert isinstance(operation, Quantize)
    if operation.dtype not in ONNX:
        op.refuse(f"values of {operation.dtype}")
    scales, attributes = _scales(op, operation.axis)
    inputs = [op.real(0), scales, *_zeros(op)]
    return [op.add("QuantizeLinear", inputs, {**attributes, "output_dtype": int(ir_dtype(operation.dtype))}, operation.dtype)]


def dequantize(op: Op) -> Sequence[ir.Value]:
    """(x - zero point) * scale, in float32, then rounded to the layer's type."""
    operation = op.layer.operation
    assert isinstance(operation, Dequantize)
    scales, attributes = _scales(op, operation.axis)
    made = op.add("DequantizeLinear", [op.input(0), scales, *_zeros(op)], attributes, "float32")
    return [op.cast(made, operation.dtype)]


def _scales(op: Op, axis: int | None) -> tuple[ir.Value, dict[str, Any]]:
    """The scales as ONNX takes them: one, or one for each position along an axis."""
    scales, shape = op.real(1), op.shape(1)
    if len(shape) > 1 or (axis is None and shape not in ((), (1,))):
        op.refuse(f"scales of the shape {list(shape)}")
    if axis is None or shape == ():
        return op.reshape(scales, []), {}
    return scales, {"axis": axis}


def _zeros(op: Op) -> list[ir.Value]:
    if not op.has(2):
        return []
    # In the shape of the scales, which may have been made a scalar.
    single = op.layer.operation.axis is None or op.shape(1) == ()  # type: ignore[union-attr]
    return [op.reshape(op.input(2), []) if single else op.input(2)]
