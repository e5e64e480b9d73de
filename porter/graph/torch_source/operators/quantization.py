"""Quantised values, as networks hold them that were trained to be quantised: arithmetic with the scales of the file.

Source: onnx/onnx docs/Operators.md (QuantizeLinear, DequantizeLinear).
"""

from __future__ import annotations

from porter.graph.analysis.values import dtype_of
from porter.graph.python_layout import tuple_literal
from porter.graph.torch_source.op import Op

RANGES = {
    "int8": ("-128", "127"),
    "uint8": ("0", "255"),
    "int16": ("-32768", "32767"),
    "float8_e4m3fn": ("-448.0", "448.0"),
    "float8_e5m2": ("-57344.0", "57344.0"),
}
"""The types that PyTorch computes with, and what is put at their ends."""


def quantize(op: Op) -> None:
    """Divided by a scale, rounded to the nearest, ties to even, and put into the range of a narrow type."""
    if not op.attribute("saturate", 1):
        raise op.refuse("what is out of range becomes a NaN")
    dtype = op.dtype(2) if op.has(2) else dtype_of(op.attribute("output_dtype", 0) or 2) or "uint8"
    if dtype not in RANGES:
        raise op.refuse(f"PyTorch does not compute with {dtype}")
    text = f"{op.text(0)} / {_spread(op, 1)}"
    if not dtype.startswith("float"):
        text = f"torch.round({text})"
        if op.has(2):
            text = f"{text} + {_spread(op, 2)}"
    low, high = RANGES[dtype]
    op.put(f"torch.clamp({text}, {low}, {high}).to(torch.{dtype})")


def dequantize(op: Op) -> None:
    """Less the zero point, times a scale."""
    if op.dtype(0) not in (*RANGES, "int32"):
        raise op.refuse(f"PyTorch does not compute with {op.dtype(0)}")
    if op.dtype(1) != "float32":
        raise op.refuse(f"its scales are {op.dtype(1)}")
    x = f"{op.text(0)}.to(torch.float32)"
    if op.has(2) and not op.dtype(2).startswith("float"):
        x = f"torch.sub({x}, {_spread(op, 2)})"
    op.put(f"torch.mul({x}, {_spread(op, 1)})")


def _spread(op: Op, index: int) -> str:
    """Scales, or zero points, in a shape that goes over the values."""
    if op.attribute("block_size", 0):
        raise op.refuse("its scales are those of blocks")
    if not op.rank(index) or not op.rank(0):
        return op.text(index)
    shape = [1] * op.rank(0)
    size = op.shape(index)[0]
    if size != 1:
        shape[op.axis("axis", 1)] = -1
    return f"{op.text(index)}.reshape({tuple_literal(shape)})"
