"""Non-maximum suppression.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (BoundingBoxFormat, INMSLayer); ONNX operator NonMaxSuppression 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.tensorrt.expression.graph import Op
from porter.tensorrt.layers import NonMaximumSuppression

if TYPE_CHECKING:
    import onnx_ir as ir

_FORMATS = {"CORNER_PAIRS": 0, "CENTER_SIZES": 1}


def non_maximum_suppression(op: Op) -> Sequence[ir.Value]:
    """Boxes of each class that overlap no better one; rows (image, class, box), by image and then from the best score on.

    Inputs: boxes `(N, B, 4)` or `(N, B, C, 4)`, scores `(N, B, C)`, the most boxes a class, and thresholds, 0 where not given. Only the
    best `limit` pairs of box and class of an image are looked at. Of equal scores TensorRT leaves the order open: here the class
    decides, then the box.
    """
    operation = op.layer.operation
    assert isinstance(operation, NonMaximumSuppression)
    if operation.box_format not in _FORMATS:
        op.refuse(f"boxes as {operation.box_format}")
    scores = op.add("Transpose", [_best(op, op.real(1), operation.limit)], {"perm": [0, 2, 1]})
    most = op.reshape(op.integers(2), [1])
    overlap, least = (op.reshape(op.real(i), [1]) if op.has(i) else op.constant([0.0], "float32") for i in (3, 4))
    attributes = {"center_point_box": _FORMATS[operation.box_format]}
    if len(op.shape(0)) == 3:
        found = op.add("NonMaxSuppression", [op.real(0), scores, most, overlap, least], attributes, "int64")
    else:
        found = _by_class(op, scores, [most, overlap, least], attributes)
    count = op.add("Gather", [op.add("Shape", [found], dtype="int64"), op.constant(0)], {"axis": 0})
    return [op.cast(_ordered(op, found, scores, count), "int32"), op.cast(count, "int32")]


def _best(op: Op, scores: ir.Value, limit: int) -> ir.Value:
    """Scores below the `limit` best of their image become minus infinity, which is above no threshold."""
    shape = op.shape(1)
    if -1 not in shape[1:] and shape[1] * shape[2] <= limit:
        return scores
    flat = op.add("Flatten", [scores], {"axis": 1})
    width = op.add("Slice", [op.add("Shape", [flat], dtype="int64"), op.constant([1]), op.constant([2])])
    best, _ = op.add_all("TopK", [flat, op.add("Min", [width, op.constant([limit])])], {"axis": 1}, ["float32", "int64"])
    least = op.add("ReduceMin", [best, op.constant([1])], {"keepdims": 1})
    bound = op.add("Unsqueeze", [least, op.constant([2])])
    kept = op.add("GreaterOrEqual", [scores, bound], dtype="bool")
    return op.add("Where", [kept, scores, op.constant(float("-inf"), "float32")], dtype="float32")


def _by_class(op: Op, scores: ir.Value, limits: Sequence[ir.Value], attributes: dict[str, int]) -> ir.Value:
    """Where each class has boxes of its own, each class of an image is an image to ONNX."""
    boxes = op.add("Transpose", [op.real(0)], {"perm": [0, 2, 1, 3]})
    size = op.add("Shape", [boxes], dtype="int64")
    classes = op.add("Slice", [size, op.constant([1]), op.constant([2])])
    number = op.add("Slice", [size, op.constant([2]), op.constant([3])])
    flat = op.add("Reshape", [boxes, op.add("Concat", [op.constant([-1]), number, op.constant([4])], {"axis": 0})])
    single = op.add("Reshape", [scores, op.add("Concat", [op.constant([-1, 1]), number], {"axis": 0})])
    found = op.add("NonMaxSuppression", [flat, single, *limits], attributes, "int64")
    image, _, box = op.add_all("Split", [found], {"axis": 1, "num_outputs": 3}, ["int64"] * 3)
    return op.add("Concat", [op.add("Div", [image, classes]), op.add("Mod", [image, classes]), box], {"axis": 1})


def _ordered(op: Op, found: ir.Value, scores: ir.Value, count: ir.Value) -> ir.Value:
    """Rows sorted by score, and then by image; TopK keeps the order of what is equal."""
    every = op.reshape(count, [1])
    _, order = op.add_all("TopK", [op.add("GatherND", [scores, found], dtype="float32"), every], {"axis": 0}, ["float32", "int64"])
    by_score = op.add("Gather", [found, order], {"axis": 0})
    image = op.add("Gather", [by_score, op.constant(0)], {"axis": 1})
    _, order = op.add_all("TopK", [image, every], {"axis": 0, "largest": 0}, ["int64", "int64"])
    return op.add("Gather", [by_score, order], {"axis": 0})
