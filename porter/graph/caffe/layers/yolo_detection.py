"""The detection layers of YOLO: boxes of a grid decoded, those of little confidence and those that lie on better ones left out.

All boxes compete, of whatever class and, as Caffe has it, of whatever image of the batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from porter.graph.builder import Batch, GraphBuilder, Named, Shape, merged
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.detections import check_constant, rows, some

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def yolo_detection_output(layer: Layer) -> None:
    """YOLO v2: for each cell and anchor the best class, its softmax times the box's own confidence.

    Source: eric612/MobileNet-YOLO yolo_detection_output_layer.cpp.
    """
    layer.need_bottoms(1, 2)
    p, b, parameters = "yolo_detection_output_param.", layer.builder, layer.parameters
    # Caffe takes the grid's side from the bottom, and has four coordinates; the map of labels is for files.
    parameters.ignore(p + "side", p + "coords", p + "label_map_file")
    classes, anchors = parameters.integer(p + "num_classes", 20), parameters.integer(p + "num_box", 5)
    sizes = _anchors(layer, p, anchors)
    boxes, scores, labels = [], [], []
    for index, x in enumerate(layer.bottoms):
        _check(layer, index, anchors * (5 + classes))
        side = x.shape[3]
        if x.shape[2] != side:
            raise layer.error("G001", f"it needs a square grid, and bottom {index} has {x.shape[2]} by {side} places")
        cells = _cells(b, x, anchors, 5 + classes)
        boxes.append(_boxes(b, cells, sizes, (side, side), (side, side)))
        likely = b.op("Softmax", [_part(b, cells, 5, 5 + classes)], (*cells.shape[:4], classes), {"axis": 4}, hint="classes")
        best = b.reduce("ReduceMax", likely, [4], True, hint="class")
        scores.append(b.binary("Mul", b.unary("Sigmoid", _part(b, cells, 4, 5), hint="object"), best, hint="score"))
        labels.append(b.op("ArgMax", [likely], best.shape, {"axis": 4}, dtype="int64", hint="label"))
    box, score = _together(b, boxes, 4), _together(b, scores, 1)
    label = b.op("Cast", [_together(b, labels, 1)], (score.shape[0], 1), {"to": 1}, hint="label")
    least = _below(parameters.number(p + "confidence_threshold", 0.01))
    _put(layer, box, score, label, least, parameters.number(p + "nms_threshold", 0.45))


def yolov3_detection_output(layer: Layer) -> None:
    """YOLO v3: for each cell, anchor and class the class's confidence times the box's own, above the threshold.

    Source: eric612/MobileNet-YOLO yolov3_detection_output_layer.cpp, bbox_util.cpp (get_region_box).
    """
    import numpy as np

    p, b, parameters = "yolov3_detection_output_param.", layer.builder, layer.parameters
    classes, anchors = parameters.integer(p + "num_classes", 20), parameters.integer(p + "num_box", 3)
    groups = parameters.integer(p + "mask_group_num", 2)
    layer.need_bottoms(groups)
    if parameters.flag(p + "gaussian_box", False):
        raise layer.error("G013", "gaussian_box is true, and porter does not honour that")
    stated, masks, strides = _biases(layer, p), parameters.integers(p + "mask"), parameters.integers(p + "anchors_scale")
    step = len(masks) // groups
    if len(strides) < groups or step * (groups - 1) + anchors > len(masks) or any(not 0 <= m < len(stated) for m in masks):
        raise layer.error("G010", "mask, anchors_scale and biases do not state anchors for each bottom")
    boxes, scores = [], []
    for index, x in enumerate(layer.bottoms):
        _check(layer, index, anchors * (5 + classes))
        grid = (x.shape[2], x.shape[3])
        cells = _cells(b, x, anchors, 5 + classes)
        sizes = stated[masks[index * step : index * step + anchors]]
        box = _boxes(b, cells, sizes, grid, (grid[0] * strides[index], grid[1] * strides[index]))
        boxes.append(b.op("Tile", [box, b.constant([1, 1, 1, 1, classes], "classes")], (*box.shape[:4], 4 * classes), hint="boxes"))
        likely = b.unary("Sigmoid", _part(b, cells, 4, 5 + classes), hint="confidence")
        scores.append(b.binary("Mul", _part(b, likely, 1, 1 + classes), _part(b, likely, 0, 1), hint="score"))
    box, score = _together(b, boxes, 4), _together(b, scores, 1)
    # The class goes round with each box; which it is follows from the place.
    names = b.constant(np.arange(classes, dtype=np.float32)[:, None], "label")
    _put(layer, box, score, names, parameters.number(p + "confidence_threshold", 0.01), parameters.number(p + "nms_threshold", 0.45))


def _biases(layer: Layer, prefix: str) -> NDArray[np.float32]:
    """Widths and heights of the anchors: [anchors, 2]."""
    import numpy as np

    stated = layer.parameters.numbers(prefix + "biases")
    return np.array(stated[: len(stated) // 2 * 2], dtype=np.float32).reshape(-1, 2)


def _anchors(layer: Layer, prefix: str, number: int) -> NDArray[np.float32]:
    found = _biases(layer, prefix)
    if len(found) < number:
        raise layer.error("G010", f"biases state {len(found)} anchors, and there are {number}")
    return found[:number]


def _check(layer: Layer, index: int, channels: int) -> None:
    shape = layer.bottoms[index].shape
    if len(shape) != 4 or shape[1] != channels:
        raise layer.error("G001", f"it needs {channels} channels for each place, and bottom {index} has the shape {list(shape)}")
    check_constant(layer, shape[2] * shape[3] * 2)


def _cells(b: GraphBuilder, x: Named, anchors: int, values: int) -> Named:
    """[images, height, width, anchors, values]."""
    n, _, h, w = x.shape
    return b.transpose(b.reshape(x, (n, anchors, values, h, w), hint="cells"), (0, 3, 4, 1, 2), hint="cells")


def _part(b: GraphBuilder, cells: Named, start: int, stop: int) -> Named:
    return b.slice(cells, 4, start, stop, hint="part")


def _boxes(b: GraphBuilder, cells: Named, anchors: NDArray[np.float32], grid: tuple[int, int], image: tuple[int, int]) -> Named:
    """Centre x and y, width and height of each box, in parts of the image: [images, height, width, anchors, 4]."""
    import numpy as np

    h, w = grid
    places = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)[None, :, :, None]
    moved = b.binary("Add", b.unary("Sigmoid", _part(b, cells, 0, 2), hint="move"), b.constant(places, "place"), hint="center")
    center = b.binary("Div", moved, b.constant([float(w), float(h)], "grid"), hint="center")
    grown = b.binary("Mul", b.unary("Exp", _part(b, cells, 2, 4), hint="growth"), b.constant(anchors, "anchors"), hint="size")
    size = b.binary("Div", grown, b.constant([float(image[1]), float(image[0])], "image"), hint="size")
    return b.concat([center, size], 4, hint="box")


def _together(b: GraphBuilder, parts: list[Named], width: int) -> Named:
    """All of the parts as [boxes, width], those of the first bottom first."""
    flat = []
    for part in parts:
        count = merged((*part.shape[:4], part.shape[4] // width))
        flat.append(b.reshape(part, (count, width), hint="flat"))
    if len(flat) == 1:
        return flat[0]
    total = _sum([f.shape for f in flat])
    return b.op("Concat", flat, (total, width), {"axis": 0}, dtype=flat[0].dtype, hint="all")


def _sum(shapes: list[Shape]) -> int:
    first = shapes[0][0]
    total = sum(int(s[0]) for s in shapes)
    if not isinstance(first, Batch):
        return total
    return Batch(total, sum(s[0].times for s in shapes if isinstance(s[0], Batch)), first.symbol)


def _put(layer: Layer, box: Named, score: Named, label: Named, least: float, overlap: float) -> None:
    """label: [boxes, 1], or the labels that go round."""
    b = layer.builder
    number = box.shape[0]
    # Boxes that overlap by as much as the threshold are left out, and NonMaxSuppression leaves out those that do by more. A threshold
    # that every pair reaches leaves one box.
    most, limit = (1, 0.0) if overlap <= 0 else (int(number), min(_below(overlap), 1.0))
    one = (b.reshape(box, (1, number, 4), hint="boxes"), b.reshape(score, (1, 1, number), hint="scores"))
    limits = [b.constant(_all(number, most), "most"), b.constant(limit, "overlap"), b.constant(least, "least")]
    kept = (some(int(number)), 3)
    selected = b.op("NonMaxSuppression", [*one, *limits], kept, {"center_point_box": 1}, dtype="int64", hint="kept")
    place = b.op("Reshape", [b.slice(selected, 1, 2, 3, hint="place"), b.constant([-1], "flat")], (kept[0],), dtype="int64", hint="place")
    found = b.op("Gather", [box, place], (kept[0], 4), {"axis": 0}, hint="box")
    confidence = b.op("Gather", [score, place], (kept[0], 1), {"axis": 0}, hint="confidence")
    which = place
    if label.value.const_value is not None:
        which = b.op("Mod", [place, b.constant(label.shape[0], "classes")], (kept[0],), dtype="int64", hint="class")
    name = b.op("Gather", [label, which], (kept[0], 1), {"axis": 0}, hint="label")
    name = b.scalar("Add", name, 1.0, hint="label")
    zero = b.op("Cast", [b.slice(selected, 1, 0, 1, hint="image")], (kept[0], 1), {"to": 1}, hint="image")
    center, half = b.slice(found, 1, 0, 2, hint="center"), b.scalar("Div", b.slice(found, 1, 2, 4, hint="size"), 2.0, hint="half")
    corners = [b.binary("Sub", center, half, hint="min"), b.binary("Add", center, half, hint="max")]
    rows(layer, [zero, name, confidence, *corners], selected, layer.bottoms[0])


def _all(number: int, most: int) -> int:
    """`most`, or no limit where the number of boxes is open."""
    return (1 << 31) - 1 if isinstance(number, Batch) and most > 1 else most


def _below(number: float) -> float:
    """The float32 before `number`: what is above it is at least `number`."""
    import numpy as np

    return float(np.nextafter(np.float32(number), np.float32(-math.inf)))
