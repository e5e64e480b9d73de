"""Operators that look for boxes, or take values from regions.

Source: onnx/onnx docs/Operators.md (NonMaxSuppression, MaxRoiPool, GridSample); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1
(INMSLayer, IGridSampleLayer).
"""

from __future__ import annotations

from porter.graph.analysis.values import Element, Size
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.selection import notice_open
from porter.tensorrt.lowering.operators.shape import multiplied, open_shape, sizes_of, slice_layer, typed

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
    if not isinstance(classes, int) or not isinstance(count, int):
        raise op.refuse("how many classes and boxes there are is known only when the network runs")
    if op.dtype(0) not in ("float32", "float16"):
        raise op.refuse(f"TensorRT's NMS takes no boxes of {op.dtype(0)}")
    centred = bool(op.attribute("center_point_box", 0))
    operation = layers.NonMaximumSuppression("CENTER_SIZES" if centred else "CORNER_PAIRS", min(count, LARGEST_LIMIT))
    several = multiplied(images, classes)
    if classes > 1:
        boxes = _repeated(op, boxes, images, classes, count, several)
    inputs = [boxes, _one_class(op, scores, several, count), _limit(op, count), *_thresholds(op)]
    found = op.step("found")
    op.layer(operation, inputs, (found, op.step("count")), op.assembly.layer_names.take(f"{op.name}/found"))
    _say(op, count)
    if classes == 1:
        op.put(layers.Cast("int64"), [found])
    else:
        _numbered(op, op.cast(found, "int64", "numbers"), classes)
    # What the graph states of it is not known to TensorRT.
    typed(op, op.node.outputs[0], (-1, 3))


def _say(op: Op, count: int) -> None:
    notice_open(op)
    op.notice("of boxes with equal scores ONNX looks at the first one first; TensorRT's order of them is not documented")
    if count > LARGEST_LIMIT:
        op.notice(f"there are {count} boxes, and TensorRT looks at the {LARGEST_LIMIT} of the highest scores of each class")


def _repeated(op: Op, boxes: str, images: Element, classes: int, count: int, several: Element) -> str:
    """The boxes once for each class: `(images * classes, count, 4)`."""
    if images == 1:
        start, stride = [0, 0, 0], [0, 1, 1]
        operation, inputs = slice_layer(op, boxes, start, [classes, count, 4], stride, "STRICT_BOUNDS", "", "boxes/")
        return op.add(operation, inputs, "boxes")
    rows = op.reshaped(boxes, (*open_shape([images]), 1, count, 4), "rows")
    size = [images, classes, count, 4]
    operation, inputs = slice_layer(op, rows, [0] * 4, size, [1, 0, 1, 1], "STRICT_BOUNDS", "", "boxes/")
    each = typed(op, op.add(operation, inputs, "boxes"), open_shape(size))
    return _merged(op, each, several, (count, 4), "box_images")


def _merged(op: Op, tensor: str, several: Element, rest: tuple[int, ...], part: str) -> str:
    """The first two axes as one."""
    lead = -1 if isinstance(several, Size) else several
    return typed(op, op.add(layers.Shuffle(shape=(lead, *rest)), [tensor], part), (lead, *rest))


def _one_class(op: Op, scores: str, several: Element, count: int) -> str:
    """The scores as `(images * classes, count, 1)`."""
    return _merged(op, scores, several, (count, 1), "scores")


def _limit(op: Op, count: int) -> str:
    """How many boxes of a class are kept, as an int32 tensor without axes."""
    import numpy as np

    given = op.array(2) if op.has(2) else np.zeros(1)
    if given is None:
        raise op.refuse("how many boxes it keeps is known only when the network runs")
    return op.constant_tensor(np.full((), min(int(given.reshape(-1)[0]), count), np.int32), "limit")


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

    count = Size(found, 0)
    op.assembly.tensors.setdefault(found, found)
    columns = []
    for axis, part in ((0, "both"), (2, "box")):
        operation, inputs = slice_layer(op, found, [0, axis], [count, 1], [1, 1], "STRICT_BOUNDS", "", f"{part}/")
        columns.append(typed(op, op.add(operation, inputs, part), (-1, 1)))
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
