"""Resize, GridSample.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (ResizeCoordinateTransformation, ResizeSelector, ResizeRoundMode, IResizeLayer,
IGridSampleLayer); ONNX operators Resize 19, GridSample 20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.tensorrt.expression.graph import Op
from porter.tensorrt.layers import GridSample, Resize

if TYPE_CHECKING:
    import onnx_ir as ir

_MODES = {"NEAREST": "nearest", "LINEAR": "linear", "CUBIC": "cubic"}
_COORDINATES = {"ALIGN_CORNERS": "align_corners", "ASYMMETRIC": "asymmetric", "HALF_PIXEL": "half_pixel"}
_ROUNDING = {"HALF_UP": "round_prefer_ceil", "HALF_DOWN": "round_prefer_floor", "FLOOR": "floor", "CEIL": "ceil"}
_OUTSIDE = {"FILL": "zeros", "CLAMP": "border", "REFLECT": "reflection"}


def resize(op: Op) -> Sequence[ir.Value]:
    """To a size, or to floor(size * scale); positions go by the quotient of the two sizes, also where a scale was given.

    The selector says where the one pixel of an axis is taken from: by the formula, or the first. The two differ for HALF_PIXEL alone,
    and that is ONNX's pytorch_half_pixel.
    """
    operation = op.layer.operation
    assert isinstance(operation, Resize)
    mode, coordinates = _MODES.get(operation.mode), _COORDINATES.get(operation.coordinates)
    if mode is None or coordinates is None or operation.selector not in ("FORMULA", "UPPER"):
        op.refuse(f"a resize by {operation.mode}, {operation.coordinates}, {operation.selector}")
    if coordinates == "half_pixel" and operation.selector == "UPPER":
        coordinates = "pytorch_half_pixel"
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        if operation.rounding not in _ROUNDING:
            op.refuse(f"rounding by {operation.rounding}")
        attributes["nearest_mode"] = _ROUNDING[operation.rounding]
    if mode == "cubic":
        attributes["cubic_coeff_a"] = operation.cubic_coefficient
        attributes["exclude_outside"] = int(operation.exclude_outside)
    return [op.add("Resize", [op.real(), None, None, _sizes(op, operation)], attributes)]


def _sizes(op: Op, operation: Resize) -> ir.Value:
    if op.has(1):
        return op.integers(1)
    if operation.size is not None:
        return op.constant(list(operation.size))
    if operation.scales is None:
        op.refuse("it has neither a size nor scales")
    shape = op.shape()
    if -1 not in shape:
        import numpy as np

        # The scales are float32 in TensorRT, and so is the product.
        return op.constant([math.floor(np.float32(n) * np.float32(s)) for n, s in zip(shape, operation.scales, strict=True)])
    sizes = op.cast(op.add("Shape", [op.real()], dtype="int64"), "float32")
    return op.cast(op.add("Floor", [op.add("Mul", [sizes, op.constant(list(operation.scales), "float32")])]), "int64")


def grid_sample(op: Op) -> Sequence[ir.Value]:
    """Values at the places that a grid names, from -1 to 1 along each axis."""
    operation = op.layer.operation
    assert isinstance(operation, GridSample)
    if operation.interpolation not in _MODES or operation.mode not in _OUTSIDE:
        op.refuse(f"sampling by {operation.interpolation}, {operation.mode}")
    attributes = {
        "mode": _MODES[operation.interpolation],
        "padding_mode": _OUTSIDE[operation.mode],
        "align_corners": int(operation.align_corners),
    }
    return [op.add("GridSample", [op.real(0), op.real(1)], attributes)]
