"""Overlapping boxes left out by a threshold that falls with each box that is kept: `eta` of SSD's nms_param.

ONNX's NonMaxSuppression has one threshold, so a Loop goes through the boxes, all images and classes at once.
"""

from __future__ import annotations

from porter.dataclass import replace
from porter.graph.builder import GraphBuilder, Named
from porter.graph.caffe.layers.detections import some


def selected(b: GraphBuilder, corners: Named, scores: Named, *, overlap: float, eta: float, least: float, top: int) -> Named:
    """What is kept, as NonMaxSuppression says it: [n, 3] of image, class and box, by falling confidence within a class.

    corners: [images, boxes, 4]. scores: [images, classes, boxes], of which the `top` highest above `least` are looked at.
    Source: weiliu89/caffe (ssd) util/bbox_util.cpp (ApplyNMSFast, JaccardOverlap).
    """
    images, classes, _ = scores.shape
    best = (images, classes, top)
    values, order = b.ops("TopK", [scores, b.constant([top], "top_k")], [best, best], {"axis": 2}, dtypes=["float32", "int64"], hint="best")
    places = b.reshape(order, (images, classes * top, 1), hint="places")
    sorted_ = b.op("GatherND", [corners, places], (images, classes * top, 4), {"batch_dims": 1}, hint="sorted")
    boxes = b.reshape(sorted_, (images, classes, top, 4), hint="sorted")
    one = (images, classes, top, 1)
    score = b.reshape(values, one, hint="score")
    valid = b.op("Greater", [score, b.constant(least, "least")], one, dtype="bool", hint="valid")
    # Nothing is kept yet, and the threshold is where it starts, in a size that may be open.
    nothing = b.binary("And", valid, b.op("Not", [valid], one, dtype="bool", hint="nothing"), hint="nothing")
    first = b.slice(score, 2, 0, 1, hint="first")
    start = b.op("Clip", [first, b.constant(overlap, "overlap"), b.constant(overlap, "overlap")], first.shape, hint="threshold")
    kept = _loop(b, boxes, valid, nothing, start, eta)
    found = some(top)
    where = b.transpose(b.op("NonZero", [kept], (4, found), dtype="int64", hint="kept"), (1, 0), hint="kept")
    number = b.op("GatherND", [order, b.slice(where, 1, 0, 3, hint="kept")], (found,), dtype="int64", hint="box")
    column = b.op("Reshape", [number, b.constant([-1, 1], "column")], (found, 1), dtype="int64", hint="box")
    return b.concat([b.slice(where, 1, 0, 2, hint="class"), column], 1, hint="selected")


def _loop(b: GraphBuilder, boxes: Named, valid: Named, nothing: Named, start: Named, eta: float) -> Named:
    """Which boxes are kept: bool [images, classes, boxes, 1]."""
    import numpy as np
    import onnx_ir as ir

    low, high = b.slice(boxes, 3, 0, 2, hint="low"), b.slice(boxes, 3, 2, 4, hint="high")
    area = _product(b, b.binary("Sub", high, low, hint="sides"))
    body = replace(b, nodes=[])
    turn, going, kept, threshold = (
        _value(body, name, shape, dtype)
        for name, shape, dtype in (
            ("turn", (), "int64"),
            ("going", (), "bool"),
            ("kept", nothing.shape, "bool"),
            ("threshold", start.shape, "float32"),
        )
    )
    index = body.reshape(turn, (1,), hint="turn")
    keep = _fits(body, index, (low, high, area), valid, kept, threshold)
    numbers = body.constant(np.arange(boxes.shape[2])[:, None], "number")
    here = body.op("Equal", [numbers, index], numbers.shape, dtype="bool", hint="here")
    then = body.binary("Or", kept, body.binary("And", here, keep, hint="new"), hint="kept")
    above = body.op("Greater", [threshold, body.constant(0.5, "half")], threshold.shape, dtype="bool", hint="above")
    fallen = body.scalar("Mul", threshold, eta, hint="fallen")
    after = body.op("Where", [body.binary("And", keep, above, hint="fall"), fallen, threshold], threshold.shape, hint="threshold")
    on = body.op("Identity", [going], (), dtype="bool", hint="going")
    inputs, outputs = ([n.value for n in some_] for some_ in ((turn, going, kept, threshold), (on, then, after)))
    graph = ir.Graph(inputs, outputs, nodes=body.nodes, name=b.name(f"{b.scope}/each_box"))
    trips = b.constant(boxes.shape[2], "boxes")
    states = [nothing.shape, start.shape]
    made = b.ops("Loop", [trips, None, nothing, start], states, {"body": graph}, dtypes=["bool", "float32"], hint="each_box")
    return made[0]


def _fits(b: GraphBuilder, index: Named, boxes: tuple[Named, Named, Named], valid: Named, kept: Named, threshold: Named) -> Named:
    """Whether the box of this turn overlaps with none of those kept by more than the threshold: [images, classes, 1, 1]."""
    low, high, area = boxes
    mine = [_at(b, x, index) for x in boxes]
    inner = b.binary("Sub", b.binary("Min", mine[1], high, hint="right"), b.binary("Max", mine[0], low, hint="left"), hint="common")
    common = _product(b, b.unary("Relu", inner, hint="common"))
    union = b.binary("Sub", b.binary("Add", mine[2], area, hint="areas"), common, hint="union")
    touching = b.op("Greater", [common, b.constant(0.0, "zero")], common.shape, dtype="bool", hint="touching")
    ratio = b.binary("Div", common, union, hint="ratio")
    counted = b.op("Where", [b.binary("And", kept, touching, hint="counts"), ratio, b.constant(0.0, "zero")], ratio.shape, hint="overlap")
    most = b.reduce("ReduceMax", counted, [2], True, hint="overlap")
    little = b.op("LessOrEqual", [most, threshold], most.shape, dtype="bool", hint="little")
    return b.binary("And", _at(b, valid, index), little, hint="keep")


def _at(b: GraphBuilder, x: Named, index: Named) -> Named:
    return b.op("Gather", [x, index], (*x.shape[:2], 1, x.shape[3]), {"axis": 2}, dtype=x.dtype, hint="this")


def _product(b: GraphBuilder, sides: Named) -> Named:
    """Width times height."""
    return b.binary("Mul", b.slice(sides, 3, 0, 1, hint="width"), b.slice(sides, 3, 1, 2, hint="height"), hint="area")


def _value(b: GraphBuilder, name: str, shape: tuple[int, ...], dtype: str) -> Named:
    """An input of a loop's body."""
    inner = replace(b, inputs=[])
    return inner.input(b.name(f"{b.scope}/{name}"), shape, dtype)
