"""Layers that find boxes: against the real Caffe's values, and against their definitions written out here with loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_runs import compare, imported
from graph_nets import kinds, one_layer, out, ported

from porter.errors import GraphError

F = np.float32
CASES = [
    *(f"DetectionOutput_{n}" for n in ("background_m1", "batch2", "center", "corner", "none_found", "ssd_head", "topk5_keep8")),
    "DetectionOutput_variance_in_target",
    *(f"PriorBox_{n}" for n in ("min", "min_max_ar", "multi_min", "noflip_clip", "step_offset")),
    *("YoloDetectionOutput_basic", "Yolov3DetectionOutput_two_maps"),
]


@pytest.mark.parametrize("case", CASES)
def test_recorded(shared: Path, case: str) -> None:
    folder = shared / "oracle" / "zoo" / case
    found = compare(folder, imported(folder))
    assert found
    assert max(d.relative for d in found) <= 1e-5
    assert case.startswith("PriorBox") <= all(d.relative == 0 for d in found), "boxes calculated at import are equal to the last bit"


# ---- DetectionOutput --------------------------------------------------------------------------------------------------------------


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Of two boxes, in float32; none where either is turned over."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return F(0)
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def decoded(offset: np.ndarray, prior: np.ndarray, variance: np.ndarray, code: str, in_target: bool) -> np.ndarray:
    d = offset if in_target else variance * offset
    size = prior[2:] - prior[:2]
    if code == "CORNER":
        return prior + d
    if code == "CORNER_SIZE":
        return prior + d * np.concatenate([size, size])
    center = d[:2] * size + (prior[:2] + prior[2:]) / F(2)
    half = np.exp(d[2:]) * size / F(2)
    return np.concatenate([center - half, center + half])


def kept(boxes: np.ndarray, scores: np.ndarray, threshold: float, top: int, limit: float, eta: float) -> list[int]:
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > F(threshold)]
    found: list[int] = []
    for i in order[: top if top > -1 else None]:
        if all(overlap(boxes[i], boxes[j]) <= F(limit) for j in found):
            found.append(int(i))
            limit = F(limit) * F(eta) if limit > 0.5 else limit
    return found


def detections(loc: np.ndarray, conf: np.ndarray, prior: np.ndarray, p: dict[str, Any]) -> np.ndarray:
    """The rows that Caffe makes."""
    count, classes = prior.shape[2] // 4, p["num_classes"]
    shared = p.get("share_location", True)
    around, variance = prior.reshape(2, count, 4)
    result = []
    for image in range(len(loc)):
        offsets = loc[image].reshape(count, 1 if shared else classes, 4)
        scores = conf[image].reshape(count, classes)
        found = []
        for c in range(classes):
            if c == p.get("background_label_id", 0):
                continue
            mine = offsets[:, 0 if shared else c]
            code, in_target = p.get("code_type", "CORNER"), p.get("variance_encoded_in_target", False)
            boxes = np.array([decoded(mine[i], around[i], variance[i], code, in_target) for i in range(count)])
            least, top = p.get("confidence_threshold", -3.4028234663852886e38), p.get("top_k", -1)
            best = kept(boxes, scores[:, c], least, top, p.get("nms_threshold", 0.3), p.get("eta", 1.0))
            found += [(c, scores[i, c], boxes[i]) for i in best]
        keep = p.get("keep_top_k", -1)
        if -1 < keep < len(found):
            best = sorted(range(len(found)), key=lambda i: -found[i][1])[:keep]
            found = [found[i] for i in sorted(best)]
        result += [[image, c, s, *box] for c, s, box in found]
    if not result:
        result = [[image, *[-1] * 6] for image in range(len(loc))]
    return np.array(result, dtype=F)[None, None]


def prototxt(p: dict[str, Any], images: int, boxes: int) -> str:
    inner = {k: v for k, v in p.items() if k not in ("top_k", "nms_threshold", "eta")}
    nms = {k: v for k, v in p.items() if k in ("top_k", "nms_threshold", "eta")}
    said = " ".join(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in inner.items())
    said += " nms_param { " + " ".join(f"{k}: {v}" for k, v in nms.items()) + " }"
    each = 4 * boxes * (1 if p.get("share_location", True) else p["num_classes"])
    layer = f'type: "DetectionOutput" detection_output_param {{ {said} }}'
    return one_layer(layer, [images, each], conf=[images, boxes * p["num_classes"]], prior=[1, 2, boxes * 4])


def drawn(seed: int, p: dict[str, Any], images: int, boxes: int, steps: int = 0) -> dict[str, np.ndarray]:
    """steps: confidences are multiples of 1/steps, so that many are equal."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.7, (boxes, 2))
    prior = np.concatenate([low, low + rng.uniform(0.05, 0.4, (boxes, 2))], 1)
    variance = np.broadcast_to([0.1, 0.1, 0.2, 0.2], (boxes, 4))
    conf = rng.uniform(0, 1, (images, boxes * p["num_classes"]))
    if steps:
        conf = np.round(conf * steps) / steps
    each = 4 * boxes * (1 if p.get("share_location", True) else p["num_classes"])
    values = {"data": rng.normal(0, 1, (images, each)), "conf": conf, "prior": np.stack([prior, variance]).reshape(1, 2, -1)}
    return {k: v.astype(F) for k, v in values.items()}


DETECTIONS: list[dict[str, Any]] = [
    {"num_classes": 3, "code_type": "CENTER_SIZE"},
    {"num_classes": 4, "code_type": "CENTER_SIZE", "background_label_id": 2, "keep_top_k": 7, "confidence_threshold": 0.1},
    {"num_classes": 3, "code_type": "CENTER_SIZE", "background_label_id": 9, "top_k": 9, "nms_threshold": 0.45},
    {"num_classes": 3, "code_type": "CENTER_SIZE", "top_k": 0},
    {"num_classes": 2, "code_type": "CORNER", "nms_threshold": 0.0, "keep_top_k": 3},
    {"num_classes": 3, "code_type": 3, "top_k": 11, "keep_top_k": 6},
    {"num_classes": 3, "share_location": False, "code_type": "CORNER", "top_k": 12, "keep_top_k": 10},
    {"num_classes": 4, "share_location": False, "code_type": "CENTER_SIZE", "background_label_id": 1, "keep_top_k": 12, "top_k": 5},
    {"num_classes": 3, "code_type": "CENTER_SIZE", "nms_threshold": 1.5, "keep_top_k": 1000},
    {"num_classes": 3, "code_type": "CORNER_SIZE", "variance_encoded_in_target": True, "confidence_threshold": 0.9, "keep_top_k": 2},
    {"num_classes": 2, "code_type": "CENTER_SIZE", "confidence_threshold": 0.995, "share_location": False},
    {"num_classes": 2, "code_type": "CENTER_SIZE", "eta": 0.5, "nms_threshold": 0.5},
    {"num_classes": 3, "code_type": "CENTER_SIZE", "eta": 0.9, "nms_threshold": 0.9, "keep_top_k": 20, "confidence_threshold": 0.1},
    {"num_classes": 3, "code_type": "CORNER", "eta": 0.95, "nms_threshold": 0.7, "top_k": 11, "share_location": False},
    {"num_classes": 2, "code_type": "CENTER_SIZE", "eta": 0.9, "nms_threshold": 0.9, "confidence_threshold": 1.0},
    {"num_classes": 2, "code_type": "CENTER_SIZE", "keep_top_k": 0},
]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("number", range(len(DETECTIONS)))
def test_detection_output(number: int, images: int) -> None:
    p = DETECTIONS[number]
    values = drawn(number, p, images, 30)
    named = {**p, "code_type": "CORNER_SIZE"} if p.get("code_type") == 3 else p
    wanted = detections(values["data"], values["conf"], values["prior"], named)
    found = out(ported(prototxt(p, images, 30)), **values)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("top", [-1, 8])
def test_detections_of_equal_confidence_keep_their_order(top: int) -> None:
    """Caffe sorts the boxes of a class stably: of equal confidences the first box comes first, and counts for top_k first."""
    p = {"num_classes": 3, "code_type": "CENTER_SIZE", "top_k": top, "confidence_threshold": 0.1}
    for seed in range(6):
        values = drawn(seed, p, 1, 40, steps=4)
        np.testing.assert_allclose(
            out(ported(prototxt(p, 1, 40)), **values), detections(values["data"], values["conf"], values["prior"], p), atol=2e-6
        )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("least", "eta"), [(0.2, 1.0), (2.0, 1.0), (0.2, 0.9), (2.0, 0.9)])
def test_detections_of_an_open_batch(shared: bool, least: float, eta: float) -> None:
    p = {
        "num_classes": 3,
        "code_type": "CENTER_SIZE",
        "keep_top_k": 9,
        "top_k": 20,
        "confidence_threshold": least,
        "share_location": shared,
    }
    p |= {"eta": eta, "nms_threshold": 0.8 if eta < 1 else 0.3}
    text = prototxt(p, 1, 24)
    parameter = 'layer { name: "prior" type: "Parameter" top: "prior" parameter_param { shape { dim: 1 dim: 2 dim: 96 } } }'
    values = drawn(5, p, 4, 24)
    text = text[: text.index('input: "prior"')] + parameter + "\n" + text[text.index("layer {") :]
    net = ported(text, {"prior": [values["prior"]]}, dynamic_batch=True)
    assert str(net.model.graph.inputs[0].shape[0]) == "N"
    wanted = detections(values["data"], values["conf"], values["prior"], p)
    found = out(net, data=values["data"], conf=values["conf"])
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert "Shape" not in kinds(net)


def test_one_image_of_which_nothing_is_found_has_no_row_if_another_has() -> None:
    p = {"num_classes": 2, "code_type": "CENTER_SIZE", "confidence_threshold": 0.5}
    values = drawn(1, p, 2, 10)
    values["conf"][0] = 0
    found = out(ported(prototxt(p, 2, 10)), **values)
    assert set(found[0, 0, :, 0]) == {1.0}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"eta": 0.0}, "G010", "eta is 0.0"),
        ({"nms_threshold": -0.1}, "G010", "below 0"),
        ({"background_label_id": -1}, "G010", "shared location"),
        ({"num_classes": 1}, "G010", "no class besides the background"),
        ({"code_type": 0}, "G010", "code_type"),
        ({"code_type": "MIDDLE"}, "G010", "MIDDLE"),
        ({"objectness_score": 0.1}, "G013", "objectness_score"),
    ],
)
def test_detection_output_refuses(change: dict[str, Any], code: str, message: str) -> None:
    p = {"num_classes": 2, "code_type": "CENTER_SIZE", **change}
    with pytest.raises(GraphError, match=message) as caught:
        ported(prototxt(p, 1, 10))
    assert caught.value.code == code


def test_numbers_of_boxes_have_to_fit() -> None:
    text = prototxt({"num_classes": 2}, 1, 10).replace("dim: 20", "dim: 18")
    with pytest.raises(GraphError, match="10 prior boxes, which need 20 confidences, and 'conf' has 18"):
        ported(text)


def test_a_layer_behind_the_detections_is_refused() -> None:
    behind = '\nlayer { name: "r" type: "ReLU" bottom: "out" top: "r" }'
    with pytest.raises(GraphError, match="how large that is shows only when the net runs") as caught:
        ported(prototxt({"num_classes": 2}, 1, 10) + behind)
    assert caught.value.code == "G056"


# ---- PriorBox ---------------------------------------------------------------------------------------------------------------------


def test_priors_by_hand() -> None:
    """One place, in the middle of an image of 40 by 80: 16 wide; with max_size the root of 16 · 25; ratio 4 and its inverse."""
    said = "min_size: 16.9 max_size: 25 aspect_ratio: [4, 4, 1] variance: [0.1, 0.2, 0.3, 0.4]"
    net = ported(one_layer(f'type: "PriorBox" prior_box_param {{ {said} }}', [1, 2, 1, 1], image=[1, 3, 40, 80]))
    found = out(net, data=np.zeros((1, 2, 1, 1), F), image=np.zeros((1, 3, 40, 80), F))
    sides = [(16, 16), (20, 20), (32, 8), (8, 32)]
    corners = [c for w, h in sides for c in ((40 - w / 2) / 80, (20 - h / 2) / 40, (40 + w / 2) / 80, (20 + h / 2) / 40)]
    np.testing.assert_array_equal(found, np.array([[corners, [0.1, 0.2, 0.3, 0.4] * 4]], F))
    assert kinds(net) == ["Identity"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "min_size"),
        ("min_size: -1", "min_size"),
        ("min_size: 4 max_size: 3", "max_size"),
        ("min_size: 4 max_size: 9 max_size: 10", "max_size"),
        ("min_size: 4 aspect_ratio: 0", "aspect_ratio"),
        ("min_size: 4 variance: 1 variance: 2", "variance"),
        ("min_size: 4 step: 2 step_w: 3", "step"),
        ("min_size: 4 step_w: 3", "steps"),
        ("min_size: 4 img_size: 2 img_w: 3", "img_size"),
        ("min_size: 4 img_w: 3", "img_h"),
        ("min_size: 4 density: 3", "density"),
        ("min_size: 3e9", "integer's range"),
        ("min_size: nan", "is 'nan'"),
    ],
)
def test_prior_box_refuses(said: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ported(one_layer(f'type: "PriorBox" prior_box_param {{ {said} }}', [1, 2, 3, 3], image=[1, 3, 30, 30]))


def test_priors_that_no_file_holds_take_no_memory() -> None:
    with pytest.raises(GraphError, match="an ONNX file holds"):
        ported(one_layer('type: "PriorBox" prior_box_param { min_size: 4 }', [1, 1, 30000, 30000], image=[1, 1, 40000, 40000]))


# ---- YOLO -------------------------------------------------------------------------------------------------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return F(1) / (F(1) + np.exp(-x))


def best_boxes(found: list[tuple[float, int, np.ndarray]], limit: float, images: int) -> np.ndarray:
    """Rows of (confidence, class, centre and size), of which boxes that overlap by `limit` or more with better ones are left out."""
    order = sorted(range(len(found)), key=lambda i: -found[i][0])
    rows: list[tuple[float, int, np.ndarray]] = []
    for i in order:
        box = found[i][2]
        corners = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
        if all(overlap(corners, other[2]) < F(limit) for other in rows):
            rows.append((found[i][0], found[i][1], corners))
    if not rows:
        return np.array([[i, *[-1] * 6] for i in range(images)], F)[None, None]
    return np.array([[0, c + 1, s, *box] for s, c, box in rows], F)[None, None]


@pytest.mark.parametrize(("least", "limit", "images"), [(0.2, 0.4, 1), (0.3, 0.0, 1), (0.1, 1.0, 2), (0.99, 0.5, 3), (0.1, 1.2, 1)])
def test_yolo(least: float, limit: float, images: int) -> None:
    biases = np.array([[1.0, 2.0], [0.5, 0.5]], F)
    said = f"num_classes: 3 num_box: 2 confidence_threshold: {least} nms_threshold: {limit} biases: 1 biases: 2 biases: 0.5 biases: 0.5"
    x = np.random.default_rng(3).normal(0, 1.5, (images, 16, 4, 4)).astype(F)
    found = []
    cells = x.reshape(images, 2, 8, 4, 4)
    for n, j, i, a in np.ndindex(images, 4, 4, 2):
        v = cells[n, a, :, j, i]
        likely = np.exp(v[5:] - v[5:].max()) / np.exp(v[5:] - v[5:].max()).sum()
        score = sigmoid(v[4]) * likely.max()
        if score >= F(least):
            center = (sigmoid(v[:2]) + np.array([i, j], F)) / F(4)
            found.append((score, int(likely.argmax()), np.concatenate([center, np.exp(v[2:4]) * biases[a] / F(4)])))
    layer = f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {said} }}'
    for dynamic in (False, True):
        got = out(ported(one_layer(layer, x.shape), dynamic_batch=dynamic), data=x)
        np.testing.assert_allclose(got, best_boxes(found, limit, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("least", "images"), [(0.2, 1), (0.25, 2), (0.99, 2)])
def test_yolo_v3_on_grids_that_are_not_square(least: float, images: int) -> None:
    said = (
        f"num_classes: 2 num_box: 2 mask_group_num: 2 confidence_threshold: {least} nms_threshold: 0.4 anchors_scale: 32 anchors_scale: 16 "
        "biases: 10 biases: 20 biases: 30 biases: 20 biases: 40 biases: 50 mask: 1 mask: 2 mask: 0 mask: 1"
    )
    sizes, masks = np.array([[10, 20], [30, 20], [40, 50]], F), [[1, 2], [0, 1]]
    rng = np.random.default_rng(4)
    maps = [rng.normal(0, 1, (images, 14, 2, 3)).astype(F), rng.normal(0, 1, (images, 14, 4, 6)).astype(F)]
    found = []
    for m, x in enumerate(maps):
        h, w = x.shape[2:]
        stride = (32, 16)[m]
        cells = x.reshape(images, 2, 7, h, w)
        for n, j, i, a in np.ndindex(images, h, w, 2):
            v = cells[n, a, :, j, i]
            center = (sigmoid(v[:2]) + np.array([i, j], F)) / np.array([w, h], F)
            size = np.exp(v[2:4]) * sizes[masks[m][a]] / np.array([w * stride, h * stride], F)
            scores = sigmoid(v[5:]) * sigmoid(v[4])
            found += [(scores[c], c, np.concatenate([center, size])) for c in range(2) if scores[c] > F(least)]
    layer = f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ {said} }}'
    for dynamic in (False, True):
        net = ported(one_layer(layer, maps[0].shape, other=maps[1].shape), dynamic_batch=dynamic)
        np.testing.assert_allclose(out(net, data=maps[0], other=maps[1]), best_boxes(found, 0.4, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("num_classes: 3 num_box: 2 biases: 1 biases: 2", "1 anchors, and there are 2"),
        ("num_classes: 4 num_box: 2 biases: 1 biases: 2 biases: 1 biases: 2", "18 channels"),
        ("num_classes: 3 num_box: 2 biases: 1 biases: 2 biases: 1 biases: 2 tiny: 1", "tiny"),
    ],
)
def test_yolo_refuses(said: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ported(one_layer(f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {said} }}', [1, 16, 4, 4]))


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("number", [1, 12])
def test_later_opsets(opset: int, number: int) -> None:
    p = DETECTIONS[number]
    values = drawn(1, p, 1, 30)
    found = out(ported(prototxt(p, 1, 30), opset=opset), **values)
    np.testing.assert_allclose(found, detections(values["data"], values["conf"], values["prior"], p), atol=2e-6)
    assert math.isfinite(found.sum())
