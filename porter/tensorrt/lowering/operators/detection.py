"""Operators that look for boxes, or take values from regions.

Source: onnx/onnx docs/Operators.md (NonMaxSuppression, MaxRoiPool, GridSample); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1
(INMSLayer, IGridSampleLayer).
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.graph.analysis.values import Element, Size
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.selection import notice_open
from porter.tensorrt.lowering.operators.shape import multiplied, open_shape, sizes_of, slice_layer, typed
from porter.tensorrt.lowering.types import Shape

LARGEST_LIMIT = 5000
"""The most boxes of an image that an NMS layer looks at; 2000 on devices of compute capability 5.3 and 6.2. Source: its comment."""

_LOWEST = -3.4028234663852886e38
"""The threshold where none is stated: ONNX leaves out no box then."""


def non_maximum_suppression(op: Op) -> None:
    """Indices `(n, 3)` of boxes that no better one overlaps, by image, class and falling score.

    TensorRT sorts the boxes of an image by score alone, and looks at so many of an image. Therefore each class of an image is made
    an image of its own: then the order, and what is looked at, are ONNX's.
    """
    boxes, scores = op.tensor(0), op.tensor(1)
    images, classes, count = sizes_of(op, scores)
    if not isinstance(classes, int):
        raise op.refuse("how many classes there are is known only when the network runs")
    if isinstance(images, Size) and isinstance(count, Size):
        raise op.refuse("how many images and how many boxes there are are both known only when the network runs")
    if op.dtype(0) not in ("float32", "float16"):
        raise op.refuse(f"TensorRT's NMS takes no boxes of {op.dtype(0)}")
    centred = bool(op.attribute("center_point_box", 0))
    most = LARGEST_LIMIT if isinstance(count, Size) else min(count, LARGEST_LIMIT)
    operation = layers.NonMaximumSuppression("CENTER_SIZES" if centred else "CORNER_PAIRS", most)
    single = open_shape([multiplied(images, classes), count])
    if classes > 1:
        boxes = _repeated(op, boxes, [images, classes, count, 4], single)
    inputs = [boxes, _shuffled(op, scores, (*single, 1), "scores"), _limit(op, count), *_thresholds(op)]
    found = op.step("found")
    op.layer(operation, inputs, (found, op.step("count")), op.assembly.layer_names.take(f"{op.name}/found"))
    _say(op, count)
    if classes == 1:
        op.put(layers.Cast("int64"), [found])
    else:
        _numbered(op, op.cast(found, "int64", "numbers"), classes)
    # What the graph states of it is not known to TensorRT.
    typed(op, op.node.outputs[0], (-1, 3))


def _say(op: Op, count: Element) -> None:
    notice_open(op)
    op.notice("of boxes with equal scores ONNX looks at the first one first; TensorRT's order of them is not documented")
    if isinstance(count, Size) or count > LARGEST_LIMIT:
        op.notice(f"of more than {LARGEST_LIMIT} boxes TensorRT looks at those with the highest scores of each class alone")


def _repeated(op: Op, boxes: str, size: Sequence[Element], single: Shape) -> str:
    """The boxes once for each class, classes and images as one axis."""
    images, classes, count, four = size
    if images == 1:
        operation, inputs = slice_layer(op, boxes, [0] * 3, [classes, count, four], [0, 1, 1], "STRICT_BOUNDS", "", "boxes/")
        return typed(op, op.add(operation, inputs, "boxes"), (*single, 4))
    rows = op.reshaped(boxes, open_shape([images, 1, count, four]), "rows")
    operation, inputs = slice_layer(op, rows, [0] * 4, size, [1, 0, 1, 1], "STRICT_BOUNDS", "", "boxes/")
    return _shuffled(op, typed(op, op.add(operation, inputs, "boxes"), open_shape(size)), (*single, 4), "box_images")


def _shuffled(op: Op, tensor: str, shape: Shape, part: str) -> str:
    """The tensor in a shape, of which one size may be open."""
    return typed(op, op.add(layers.Shuffle(shape=shape), [tensor], part), shape)


def _limit(op: Op, count: Element) -> str:
    """How many boxes of a class are kept, as an int32 tensor without axes."""
    import numpy as np

    given = op.array(2) if op.has(2) else np.zeros(1)
    if given is None:
        raise op.refuse("how many boxes it keeps is known only when the network runs")
    bound = count if isinstance(count, int) else (1 << 31) - 1
    return op.constant_tensor(np.full((), min(int(given.reshape(-1)[0]), bound), np.int32), "limit")


def _thresholds(op: Op) -> list[str]:
    """The overlap above which a box is left out, and the score above which it is looked at."""
    import numpy as np

    tensors = []
    for index, default, part in ((3, 0.0, "overlap"), (4, _LOWEST, "least")):
        given = op.array(index) if op.has(index) else np.full((), default)
        if given is None:
            raise op.refuse(f"its threshold '{op.node.inputs[index]}' is known only when the network runs")
        tensors.append(op.constant_tensor(given.reshape(()).astype(np.float32), part))
    return tensors


def _numbered(op: Op, found: str, classes: int) -> None:
    """Rows `(image * classes + class, 0, box)` as `(image, class, box)`."""
    import numpy as np

    columns = []
    for axis, part in ((0, "both"), (2, "box")):
        column = op.constant_tensor(np.asarray([axis], np.int64), f"{part}/column")
        columns.append(op.add(layers.Gather("DEFAULT", 1), [found, column], part))
    both, box = columns
    number = op.constant_tensor(np.full((1, 1), classes, np.int64), "classes")
    image = op.add(layers.Elementwise("FLOOR_DIV"), [both, number], "image")
    first = op.add(layers.Elementwise("PROD"), [image, number], "first")
    label = op.add(layers.Elementwise("SUB"), [both, first], "class")
    op.put(layers.Concatenation(1), [image, label, box])


def max_roi_pool(op: Op) -> None:
    """TensorRT takes averages of regions, and only by a plugin."""
    raise op.refuse("no layer of TensorRT; a plugin ROIPooling, the maximum of each part of a region, would be needed")


def grid_sample(op: Op) -> None:
    """Values between those of an image, at places of a grid."""
    modes = {"bilinear": "LINEAR", "linear": "LINEAR", "nearest": "NEAREST", "bicubic": "CUBIC", "cubic": "CUBIC"}
    outside = {"zeros": "FILL", "border": "CLAMP", "reflection": "REFLECT"}
    mode, padding = modes[op.attribute("mode", "bilinear")], outside[op.attribute("padding_mode", "zeros")]
    corners = bool(op.attribute("align_corners", 0))
    if op.rank(0) != 4:
        raise op.refuse(f"TensorRT's GridSample takes 4 axes, and there are {op.rank(0)}")
    if padding == "REFLECT" and not corners:
        raise op.refuse("it reflects at the edges of the outer pixels, and TensorRT at their middles")
    if mode == "NEAREST":
        op.notice("a place in the middle between two is the even one's in ONNX; TensorRT does not document whose it is")
    op.put(layers.GridSample(mode, corners, padding), [op.tensor(0), op.tensor(1)])
