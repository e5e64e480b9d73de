"""Proposals of Faster R-CNN: the boxes that a region proposal network thinks something is in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.graph.builder import Batch, GraphBuilder, Named
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.detections import FLOAT_MAX, check_constant, some

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What is proposed: of the `before` most confident boxes those that overlap by no more than `overlap`, at most `after` of them.

    least: sides below it, in pixels of the image before it was scaled, make a box too small.
    """

    before: int
    after: int
    overlap: float
    least: float


def python_proposal(layer: Layer) -> None:
    """The layer ProposalLayer of py-faster-rcnn: what it takes from Python's settings, the prototxt does not say.

    Boxes that are too small are left out. Overlaps are compared as on the GPU, `>`; on the CPU it is `>=`.
    Source: rbgirshick/py-faster-rcnn lib/rpn/proposal_layer.py, generate_anchors.py, fast_rcnn/bbox_transform.py, config.py, nms/.
    """
    # What it is run on.
    layer.parameters.ignore("python_param.module", "python_param.layer", "python_param.share_in_parallel")
    stated = _param_str(layer)
    stride = stated.get("feat_stride", [])
    if len(stride) != 1:
        raise layer.error("G010", "its param_str needs one 'feat_stride'")
    limits = Limits(6000, 300, 0.7, 16.0)
    layer.assume(
        f"the settings of py-faster-rcnn for tests: of {limits.before} boxes at most {limits.after} are proposed, those that overlap by "
        f"no more than {limits.overlap} and are not smaller than {limits.least:g}"
    )
    anchors = _anchors(16, [0.5, 1.0, 2.0], stated.get("scales", [8.0, 16.0, 32.0]))
    _put(layer, *_propose(layer, anchors, stride[0], limits, small_are_left_out=True), scores_rank=2)


def proposal(layer: Layer) -> None:
    """The layer Proposal that forks have in C++: boxes that are too small stay, with confidence 0.

    Source: sanghoon/caffe (PVANet) proposal_layer.cpp, as in oylz/caffe-pvanet-shufflenet.
    """
    p, parameters = "proposal_param.", layer.parameters
    limits = Limits(
        parameters.integer(p + "pre_nms_topn", 6000),
        parameters.integer(p + "post_nms_topn", 300),
        parameters.number(p + "nms_thresh", 0.7),
        float(parameters.integer(p + "min_size", 16)),
    )
    ratios, scales = parameters.numbers(p + "ratio"), parameters.numbers(p + "scale")
    base = parameters.integer(p + "base_size", 16)
    if not ratios or not scales or not all(0 < n < 1e6 for n in (base, *ratios, *scales)):
        raise layer.error("G010", "it needs a ratio and a scale, and these and base_size have to be above 0")
    anchors = _anchors(base, ratios, scales, half_up=True)
    stride = parameters.integer(p + "feat_stride", 16)
    _put(layer, *_propose(layer, anchors, stride, limits, small_are_left_out=False), scores_rank=1)


def _put(layer: Layer, boxes: Named, scores: Named, place: Named, scores_rank: int) -> None:
    """The regions [n, 5], all of image 0, and for a second top their scores [n] or [n, 1]. place: which boxes they are."""
    b = layer.builder
    number = Batch(int(place.shape[0]), symbol=f"{layer.top_names[0]}_rows")
    found = b.op("Gather", [boxes, place], (number, 4), {"axis": 0}, hint="found")
    pads = [b.constant([0, 1, 0, 0], "pads"), b.constant(0.0, "image")]
    layer.put(b.op("Pad", [found, *pads], (number, 5)))
    if len(layer.top_names) > 1:
        score = b.reshape(scores, (scores.shape[0], 1)[:scores_rank], hint="score")
        layer.put(b.op("Gather", [score, place], (number, 1)[:scores_rank], {"axis": 0}, hint="scores"))


def _param_str(layer: Layer) -> dict[str, list[float]]:
    """The numbers in a `param_str`, by name: YAML of one level, in whichever of its forms (`'feat_stride': 16`, `{scales: [8, 16]}`)."""
    text = layer.parameters.text("python_param.param_str", "").strip()
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    found: dict[str, list[float]] = {}
    entry = re.compile(r"""\s*(['"]?)(\w+)\1\s*:\s*(?:!!python/tuple\s*)?([-+.\w]+|\[[^\]]*\]|\([^)]*\))\s*(?:[,\n]|$)""")
    at = 0
    while inner[at:].strip():
        match = entry.match(inner, at)
        numbers = [n for n in re.split(r"[\s,\[\]()]+", match[3]) if n] if match else []
        if match is None or not all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", n) for n in numbers):
            raise layer.error("G010", f"its param_str is {text!r}, in which porter finds no names with numbers")
        found[match[2]] = [float(n) for n in numbers]
        at = match.end()
    unknown = sorted(set(found) - {"feat_stride", "scales"})
    if unknown:
        raise layer.error("G013", f"'{unknown[0]}' is stated in its param_str, and porter does not honour that")
    return found


def _anchors(base: int, ratios: Sequence[float], scales: Sequence[float], half_up: bool = False) -> NDArray[np.float64]:
    """Boxes around the first place, [ratios · scales, 4]: xmin, ymin, xmax, ymax."""
    import numpy as np

    shape = np.array(ratios, dtype=np.float64)
    widths = _whole(np.sqrt(base * base / shape), half_up)
    heights = _whole(widths * shape, half_up)
    sides = np.stack([widths, heights], -1)[:, None] * np.array(scales, dtype=np.float64)[None, :, None]
    half = 0.5 * (sides.reshape(-1, 2) - 1)
    center = 0.5 * (base - 1)
    return np.concatenate([center - half, center + half], -1)


def _whole(sides: NDArray[np.float64], half_up: bool) -> NDArray[np.float64]:
    """Rounded as C++ code does by adding a half, or to even."""
    import numpy as np

    return np.floor(sides + 0.5) if half_up else np.round(sides)


def _propose(
    layer: Layer, anchors: NDArray[np.float64], stride: float, limits: Limits, *, small_are_left_out: bool
) -> tuple[Named, Named, Named]:
    """All boxes [boxes, 4], their scores [boxes], and which of them are proposed, most confident first."""
    layer.need_bottoms(3)
    b = layer.builder
    scores, deltas, image = layer.bottoms
    count = len(anchors)
    if isinstance(scores.shape[0], Batch) or scores.shape[0] != 1:
        raise layer.error("G002", "it takes one image at a time", hint="leave '--dynamic-batch' out, and state inputs of one image")
    if scores.shape[1] != 2 * count or deltas.shape[1] != 4 * count or scores.shape[2:] != deltas.shape[2:] or scores.rank != 4:
        raise layer.error("G001", f"{count} anchors do not go with {list(scores.shape)} scores and {list(deltas.shape)} boxes")
    height, width = scores.shape[2:]
    number = count * height * width
    score = b.transpose(b.slice(scores, 1, count, 2 * count, hint="objects"), (0, 2, 3, 1), hint="objects")
    low, high = _boxes(layer, anchors, stride, (height, width))
    low, high = _clipped(b, low, image), _clipped(b, high, image)
    big = _big(layer, low, high, image, limits.least)
    instead = b.constant(-FLOAT_MAX if small_are_left_out else 0.0, "too_small")
    score = b.op("Where", [big, b.reshape(score, (number, 1), hint="score"), instead], (number, 1), hint="score")
    score = b.reshape(score, (number,), hint="score")
    boxes = b.concat([low, high], 1, hint="boxes")
    if 0 < limits.before < number:
        number, k = limits.before, b.constant([limits.before], "before")
        score, order = b.ops("TopK", [score, k], [(number,), (number,)], {"axis": 0}, dtypes=["float32", "int64"], hint="best")
        boxes = b.op("Gather", [boxes, order], (number, 4), {"axis": 0}, hint="best")
    after = min(limits.after, number) if limits.after > 0 else number
    # A box reaches to the end of its last pixel.
    whole = b.binary("Add", boxes, b.constant([0.0, 0.0, 1.0, 1.0], "pixel"), hint="whole")
    both = (b.reshape(whole, (1, number, 4), hint="whole"), b.reshape(score, (1, 1, number), hint="scores"))
    values = [b.constant(after, "after"), b.constant(min(max(limits.overlap, 0.0), 1.0), "overlap"), b.constant(-FLOAT_MAX, "least")]
    selected = b.op("NonMaxSuppression", [*both, *values], (some(after), 3), dtype="int64", hint="kept")
    rows = selected.shape[0]
    flat = b.constant([-1], "flat")
    place = b.op("Reshape", [b.slice(selected, 1, 2, 3, hint="place"), flat], (rows,), dtype="int64", hint="place")
    return boxes, score, place


def _boxes(layer: Layer, anchors: NDArray[np.float64], stride: float, plane: tuple[int, int]) -> tuple[Named, Named]:
    """Lower and upper corners of all boxes, by row, column and anchor: twice [boxes, 2]."""
    import numpy as np

    b = layer.builder
    deltas = layer.bottoms[1]
    number = len(anchors) * plane[0] * plane[1]
    check_constant(layer, number * 4)
    x, y = np.meshgrid(np.arange(plane[1]) * stride, np.arange(plane[0]) * stride)
    shifted = (np.stack([x, y, x, y], -1)[:, :, None] + anchors).reshape(-1, 4).astype(np.float32)
    size = shifted[:, 2:] - shifted[:, :2] + np.float32(1)
    middle = shifted[:, :2] + np.float32(0.5) * size
    moves = b.reshape(b.transpose(deltas, (0, 2, 3, 1), hint="deltas"), (number, 4), hint="deltas")
    sizes = b.constant(size, "anchor_size")
    moved = b.binary("Mul", b.slice(moves, 1, 0, 2, hint="move"), sizes, hint="move")
    center = b.binary("Add", moved, b.constant(middle, "anchor_center"), hint="center")
    grown = b.binary("Mul", b.unary("Exp", b.slice(moves, 1, 2, 4, hint="growth"), hint="growth"), sizes, hint="size")
    half = b.scalar("Mul", grown, 0.5, hint="half")
    return b.binary("Sub", center, half, hint="min"), b.binary("Add", center, half, hint="max")


def _clipped(b: GraphBuilder, corners: Named, image: Named) -> Named:
    """Corners inside the image, whose height and width are the first two numbers of `image`."""
    turned = b.op("Gather", [_info(b, image), b.constant([1, 0], "width_height")], (1, 2), {"axis": 1}, hint="image")
    last = b.scalar("Sub", turned, 1.0, hint="last")
    return b.scalar("Max", b.binary("Min", corners, last, hint="clip"), 0.0, hint="clip")


def _info(b: GraphBuilder, image: Named) -> Named:
    """The numbers about the image: [1, numbers]."""
    count = 1
    for n in image.shape:
        count *= n
    return b.reshape(image, (1, count), hint="info")


def _big(layer: Layer, low: Named, high: Named, image: Named, least: float) -> Named:
    """Which boxes are large enough, in the scale of the image: bool [boxes, 1]."""
    b = layer.builder
    info = _info(b, image)
    if info.shape[1] < 3:
        raise layer.error("G001", f"it needs height, width and scale of the image, and its third bottom has {info.shape[1]} numbers")
    # Forks in C++ have a scale for each side, height first.
    scale = b.slice(info, 1, 2, 3, hint="scale")
    if layer.type == "Proposal":
        if info.shape[1] < 4:
            layer.assume("its third bottom states one scale of the image, and it holds for both sides")
        else:
            scale = b.op("Gather", [info, b.constant([3, 2], "scales")], (1, 2), {"axis": 1}, hint="scale")
    size = b.scalar("Add", b.binary("Sub", high, low, hint="sides"), 1.0, hint="sides")
    enough = b.op("GreaterOrEqual", [size, b.scalar("Mul", scale, least, hint="least")], size.shape, dtype="bool", hint="enough")
    wide, tall = b.slice(enough, 1, 0, 1, hint="wide"), b.slice(enough, 1, 1, 2, hint="tall")
    return b.binary("And", wide, tall, hint="big")
