"""DetectionOutput of SSD: boxes decoded, those of little confidence and those that lie on better ones left out."""

from __future__ import annotations

from porter.graph.builder import GraphBuilder, Named, merged
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers import adaptive_overlap
from porter.graph.caffe.layers.detections import FLOAT_MAX, column, rows, some

_P = "detection_output_param."


def detection_output(layer: Layer) -> None:
    """Rows [image, label, confidence, box] by image, label and falling confidence.

    Caffe takes the `top_k` most confident boxes of each class before it looks for overlaps, so all others are given a confidence
    that NonMaxSuppression leaves out; `keep_top_k` of those found are kept for each image. Of equal confidences the first box is
    first, as in Caffe's stable sort; where `keep_top_k` cuts between equal ones, Caffe's choice is its C++ library's.
    Source: weiliu89/caffe (ssd) detection_output_layer.cpp, util/bbox_util.cpp (DecodeBBox, ApplyNMSFast, JaccardOverlap).
    """
    # It takes no more and no fewer: RefineDet's form of the layer has five.
    layer.need_bottoms(3)
    parameters, b = layer.parameters, layer.builder
    # What is drawn or written to files while testing.
    parameters.ignore(*(_P + n for n in ("save_output_param", "visualize", "visualize_threshold", "save_file")), "transform_param")
    classes = parameters.integer(_P + "num_classes", 0)
    shared = parameters.flag(_P + "share_location", True)
    background = parameters.integer(_P + "background_label_id", 0)
    if classes < 1:
        raise layer.error("G010", "it needs num_classes")
    if shared and background == -1:
        raise layer.error(
            "G010", "background_label_id is -1 with a shared location, at which Caffe stops", hint="state share_location: false"
        )
    location, confidence, prior = layer.bottoms
    boxes = prior.shape[2] // 4 if prior.rank > 2 else 0
    _check(layer, boxes, classes, 1 if shared else classes)
    labels = [c for c in range(classes) if c != background]
    if not labels:
        raise layer.error("G010", "it has no class besides the background")
    corners = _decoded(layer, location, prior, boxes, 1 if shared else classes)
    scores = b.transpose(b.reshape(confidence, (confidence.shape[0], boxes, classes), hint="scores"), (0, 2, 1), hint="scores")
    scores = _only(b, scores, 1, labels)
    if shared:
        corners = b.reshape(corners, (location.shape[0], boxes, 4), hint="boxes")
    else:
        # Boxes of its own for each class: classes are taken for images.
        images = merged((location.shape[0], len(labels)))
        corners = _only(b, b.transpose(corners, (0, 2, 1, 3), hint="boxes"), 1, labels)
        corners, scores = b.reshape(corners, (images, boxes, 4), hint="boxes"), b.reshape(scores, (images, 1, boxes), hint="scores")
    selected = _selected(layer, corners, scores, len(labels))
    _put(layer, selected, corners, scores, labels, shared)


def _check(layer: Layer, boxes: int, classes: int, locations: int) -> None:
    for index, what, numbers in ((0, "locations", boxes * locations * 4), (1, "confidences", boxes * classes)):
        shape = layer.bottoms[index].shape
        count = 1
        for n in shape[1:]:
            count *= n
        if count != numbers:
            raise layer.error(
                "G001", f"there are {boxes} prior boxes, which need {numbers} {what}, and '{_bottom(layer, index)}' has {count}"
            )
    if layer.bottoms[0].shape[0] != layer.bottoms[1].shape[0]:
        raise layer.error("G001", "locations and confidences are of different numbers of images")


def _bottom(layer: Layer, index: int) -> str:
    return layer.parameters.layer.bottoms[index]


def _only(b: GraphBuilder, x: Named, axis: int, labels: list[int]) -> Named:
    """The positions `labels` along `axis`."""
    if labels == list(range(labels[0], labels[-1] + 1)):
        return b.slice(x, axis, labels[0], labels[-1] + 1, hint="classes")
    shape = (*x.shape[:axis], len(labels), *x.shape[axis + 1 :])
    return b.op("Gather", [x, b.constant(labels, "labels")], shape, {"axis": axis}, hint="classes")


def _decoded(layer: Layer, location: Named, prior: Named, boxes: int, locations: int) -> Named:
    """Corners [images, boxes, locations, 4] in the order xmin, ymin, xmax, ymax."""
    b, parameters = layer.builder, layer.parameters
    code = parameters.choice(_P + "code_type", ("", "CORNER", "CENTER_SIZE", "CORNER_SIZE"), "CORNER")
    in_target = parameters.flag(_P + "variance_encoded_in_target", False)
    shape = (location.shape[0], boxes, locations, 4)
    offsets = b.reshape(location, shape, hint="offsets")
    # Caffe reads the first item only.
    prior = b.slice(prior, 0, 0, 1, hint="prior")
    both = b.reshape(prior, (2, boxes, 1, 4), hint="prior")
    around = b.slice(both, 0, 0, 1, hint="prior")
    if not in_target:
        offsets = b.binary("Mul", b.slice(both, 0, 1, 2, hint="variance"), offsets, hint="offsets")
    if code == "CORNER":
        return b.binary("Add", around, offsets, hint="boxes")
    low, high = b.slice(around, 3, 0, 2, hint="low"), b.slice(around, 3, 2, 4, hint="high")
    size = b.binary("Sub", high, low, hint="prior_size")
    if code == "CORNER_SIZE":
        twice = b.concat([size, size], 3, hint="prior_sizes")
        return b.binary("Add", around, b.binary("Mul", offsets, twice, hint="offsets"), hint="boxes")
    if code != "CENTER_SIZE":
        raise layer.error("G010", "code_type is 0, which is none of CORNER, CENTER_SIZE and CORNER_SIZE")
    middle = b.scalar("Div", b.binary("Add", low, high, hint="prior_sum"), 2.0, hint="prior_center")
    moved = b.binary("Mul", b.slice(offsets, 3, 0, 2, hint="move"), size, hint="move")
    center = b.binary("Add", moved, middle, hint="center")
    grown = b.binary("Mul", b.unary("Exp", b.slice(offsets, 3, 2, 4, hint="growth"), hint="growth"), size, hint="size")
    half = b.scalar("Div", grown, 2.0, hint="half")
    return b.concat([b.binary("Sub", center, half, hint="min"), b.binary("Add", center, half, hint="max")], 3, hint="boxes")


def _selected(layer: Layer, corners: Named, scores: Named, labels: int) -> Named:
    """NonMaxSuppression's output [n, 3]: what is kept, by image, class and falling confidence."""
    b, parameters = layer.builder, layer.parameters
    overlap = parameters.number(_P + "nms_param.nms_threshold", 0.3)
    eta = parameters.number(_P + "nms_param.eta", 1.0)
    top = parameters.optional_integer(_P + "nms_param.top_k")
    least = parameters.number(_P + "confidence_threshold", -FLOAT_MAX)
    if overlap < 0:
        raise layer.error("G010", f"nms_threshold is {overlap}, which is below 0")
    if not 0 < eta <= 1:
        raise layer.error("G010", f"eta is {eta}, which is not above 0 and at most 1")
    boxes = corners.shape[1]
    looked_at = boxes if top is None or top < 0 else min(top, boxes)
    keep = parameters.integer(_P + "keep_top_k", -1)
    least = max(least, -FLOAT_MAX)
    if looked_at == 0 or keep == 0:
        # Nothing is found, which no operator says but a threshold that nothing reaches.
        looked_at, keep, least = boxes, -1, FLOAT_MAX
    if eta < 1 and overlap > 0.5:
        # At a half and below Caffe leaves the threshold alone.
        selected = adaptive_overlap.selected(b, corners, scores, overlap=overlap, eta=eta, least=least, top=looked_at)
    else:
        candidates = scores if looked_at == boxes else _most_confident(b, scores, looked_at)
        limits = [b.constant(boxes, "most"), b.constant(min(overlap, 1.0), "overlap"), b.constant(least, "least")]
        inputs = [_upright(layer, corners), candidates, *limits]
        selected = b.op("NonMaxSuppression", inputs, (some(boxes), 3), dtype="int64", hint="kept")
    return _kept(layer, selected, scores, keep, labels) if -1 < keep < looked_at * labels else selected


def _upright(layer: Layer, corners: Named) -> Named:
    """Boxes for NonMaxSuppression, which turns those with min above max over; Caffe says that they overlap with nothing."""
    b = layer.builder
    if layer.parameters.choice(_P + "code_type", ("", "CORNER", "CENTER_SIZE", "CORNER_SIZE"), "CORNER") == "CENTER_SIZE":
        return corners
    low, high = b.slice(corners, 2, 0, 2, hint="low"), b.slice(corners, 2, 2, 4, hint="high")
    return b.concat([low, b.binary("Max", low, high, hint="high")], 2, hint="upright")


def _none_of(b: GraphBuilder, scores: Named) -> Named:
    """-FLT_MAX in the shape of `scores`, whose first dimension may be open."""
    lowest = b.constant(-FLOAT_MAX, "lowest")
    return b.op("Clip", [scores, lowest, lowest], scores.shape, hint="nothing")


def _most_confident(b: GraphBuilder, scores: Named, top: int) -> Named:
    """`scores` [images, classes, boxes] with all but the `top` highest of each class below every threshold."""
    best = (*scores.shape[:2], top)
    values, places = b.ops(
        "TopK", [scores, b.constant([top], "top_k")], [best, best], {"axis": 2}, dtypes=["float32", "int64"], hint="best"
    )
    return b.op("ScatterElements", [_none_of(b, scores), places, values], scores.shape, {"axis": 2}, hint="candidates")


def _kept(layer: Layer, selected: Named, scores: Named, keep: int, labels: int) -> Named:
    """The rows of `selected` that are among the `keep` most confident ones of their image, in their order."""
    b = layer.builder
    found = b.op("GatherND", [scores, selected], (selected.shape[0],), hint="confidence")
    dense = b.op("ScatterND", [_none_of(b, scores), selected, found], scores.shape, hint="found")
    images = layer.bottoms[0].shape[0]
    flat = b.reshape(dense, (images, labels * scores.shape[2]), hint="flat")
    best = (images, keep)
    values, places = b.ops("TopK", [flat, b.constant([keep], "keep")], [best, best], {"axis": 1}, dtypes=["float32", "int64"], hint="best")
    # What is no detection may be marked as well: nothing asks for it.
    marks = b.op("Clip", [values, b.constant(1.0, "one"), b.constant(1.0, "one")], best, hint="marks")
    zero = b.op("Clip", [flat, b.constant(0.0, "zero"), b.constant(0.0, "zero")], flat.shape, hint="unmarked")
    marked = b.op("ScatterElements", [zero, places, marks], flat.shape, {"axis": 1}, hint="marked")
    mine = b.op("GatherND", [b.reshape(marked, scores.shape, hint="marked"), selected], (selected.shape[0],), hint="mark")
    condition = b.op("Cast", [mine], (selected.shape[0],), {"to": 9}, dtype="bool", hint="keep")
    return b.op("Compress", [selected, condition], (some(keep), 3), {"axis": 0}, dtype="int64", hint="best")


def _put(layer: Layer, selected: Named, corners: Named, scores: Named, labels: list[int], shared: bool) -> None:
    b = layer.builder
    number = selected.shape[0]
    confidence = b.op("GatherND", [scores, selected], (number,), hint="confidence")
    where = b.op("Gather", [selected, b.constant([0, 2], "places")], (number, 2), {"axis": 1}, dtype="int64", hint="place")
    box = b.op("GatherND", [corners, where], (number, 4), hint="box")
    if shared:
        image, index = column(b, selected, 0, "image"), b.slice(selected, 1, 1, 2, hint="class")
    else:
        both, count = b.slice(selected, 1, 0, 1, hint="image_class"), b.constant([len(labels)], "labels")
        quotient = b.op("Div", [both, count], (number, 1), dtype="int64", hint="image")
        image = b.op("Cast", [quotient], (number, 1), {"to": 1}, hint="image")
        index = b.op("Mod", [both, count], (number, 1), dtype="int64", hint="class")
    names = b.constant([float(n) for n in labels], "label")
    label = b.op("Gather", [names, index], (number, 1), {"axis": 0}, hint="label")
    rows(
        layer,
        [image, label, b.op("Reshape", [confidence, b.constant([-1, 1], "shape")], (number, 1), hint="score"), box],
        selected,
        layer.bottoms[0],
    )
