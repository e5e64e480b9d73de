"""Quantised values: TensorRT's are symmetric, their zero point is 0.

Source: onnx/onnx docs/Operators.md (QuantizeLinear, DequantizeLinear); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1
(IQuantizeLayer, IDequantizeLayer).
"""

from __future__ import annotations

from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op

_TYPES = ("int8", "float8_e4m3fn")


def quantize(op: Op) -> None:
    """Divided by a scale, rounded to the nearest, ties to even, and put into the range of a narrow type."""
    if not op.attribute("saturate", 1):
        raise op.refuse("TensorRT puts what is out of range at its end, and this one makes it a NaN")
    dtype = op.dtype(2) if op.has(2) else _stated(op)
    axis = _checked(op, dtype)
    op.put(layers.Quantize(axis, dtype), [op.tensor(0), op.tensor(1)])


def dequantize(op: Op) -> None:
    """Times a scale."""
    axis = _checked(op, op.dtype(0))
    if axis is not None and op.constant(0) is None:
        raise op.refuse("TensorRT has scales for each channel of weights only")
    op.put(layers.Dequantize(axis, op.dtype(1)), [op.tensor(0), op.tensor(1)])


def _stated(op: Op) -> str:
    """The type of the result where there is no zero point."""
    import onnx_ir as ir

    from porter.graph.analysis.values import dtype_of

    code = op.attribute("output_dtype", 0)
    return (dtype_of(code) if code else "uint8") or ir.DataType(code).name


def _checked(op: Op, dtype: str) -> int | None:
    """The axis of the scales, or None for one scale.

    Raises:
        Refusal: TensorRT quantises otherwise.
    """
    if dtype not in _TYPES:
        raise op.refuse(f"TensorRT quantises to {' or '.join(_TYPES)}, and this is {dtype}")
    if not op.rank(0):
        raise op.refuse("its input has no axes")
    if op.attribute("block_size", 0):
        raise op.refuse("its scales are those of blocks")
    scale = op.array(1)
    if scale is None or not (scale > 0).all():
        raise op.refuse("its scales are not all above 0, or known only when the network runs")
    zero = op.array(2) if op.has(2) else None
    if op.has(2) and (zero is None or zero.astype("float32").any()):
        raise op.refuse("its zero point is not 0; TensorRT's quantised values are symmetric")
    if scale.size == 1 and scale.ndim == 0:
        return None
    if op.node.op_type == "QuantizeLinear" and op.constant(0) is None:
        raise op.refuse("TensorRT has scales for each channel of weights only")
    return op.axis("axis", 1)
