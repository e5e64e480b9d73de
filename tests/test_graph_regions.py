"""Layers of Faster R-CNN and R-FCN: against the real Caffe's values, and against their definitions written out here with loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from caffe_runs import compare, imported, run
from graph_nets import one_layer, out, ported

from porter.errors import GraphError
from porter.formats.caffe.net import net_from_prototxt
from porter.graph.caffe.importer import ImportOptions, import_net

F = np.float32
CASES = ["ROIPooling_basic", "ROIPooling_inverted", "ROIPooling_outside", "ROIPooling_scale16", "PSROIPooling_g2", "PSROIPooling_g3_scale"]


@pytest.mark.parametrize("case", [*CASES, "PSROIPooling_vote"])
def test_recorded(shared: Path, case: str) -> None:
    folder = shared / "oracle" / "zoo" / case
    found = compare(folder, imported(folder))
    assert found
    assert max(d.relative for d in found) <= 1e-5


def away(x: np.float32) -> int:
    """C's round: half away from zero."""
    return int(math.copysign(math.floor(abs(float(x)) + 0.5), x))


def regions(seed: int, number: int, images: int, size: float) -> np.ndarray:
    """Some at halves, some outside of the image, some turned over."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.3 * size, 1.3 * size, (number, 4))
    corners[::2] = np.round(corners[::2] * 2) / 2
    corners[1::2] = np.concatenate([np.sort(corners[1::2, ::2], 1), np.sort(corners[1::2, 1::2], 1)], 1)[:, [0, 2, 1, 3]]
    return np.concatenate([rng.integers(0, images, (number, 1)), corners], 1).astype(F)


def roi_pooled(x: np.ndarray, rois: np.ndarray, bins: tuple[int, int], scale: float) -> np.ndarray:
    size = x.shape[2:]
    result = np.zeros((len(rois), x.shape[1], *bins), F)
    for n, roi in enumerate(rois):
        first, last = ([away(v * F(scale)) for v in roi[at : at + 2][::-1]] for at in (1, 3))
        step = [F(max(last[a] - first[a] + 1, 1)) / F(bins[a]) for a in (0, 1)]
        for cell in np.ndindex(*bins):
            span = []
            for a in (0, 1):
                low, high = math.floor(F(cell[a]) * step[a]) + first[a], math.ceil(F(cell[a] + 1) * step[a]) + first[a]
                span.append(slice(min(max(low, 0), size[a]), min(max(high, 0), size[a])))
            values = x[int(roi[0]), :, span[0], span[1]]
            if values.size:
                result[(n, slice(None), *cell)] = values.max((1, 2))
    return result


@pytest.mark.parametrize(("bins", "scale", "images"), [((2, 3), 1.0, 1), ((3, 3), 0.5, 2), ((6, 6), 0.0625, 1), ((1, 1), 0.3, 3)])
def test_roi_pooling(bins: tuple[int, int], scale: float, images: int) -> None:
    x = np.random.default_rng(1).normal(size=(images, 3, 9, 12)).astype(F)
    rois = regions(2, 40, images, 12 / scale)
    layer = f'type: "ROIPooling" roi_pooling_param {{ pooled_h: {bins[0]} pooled_w: {bins[1]} spatial_scale: {scale} }}'
    net = ported(one_layer(layer, x.shape, rois=rois.shape))
    np.testing.assert_array_equal(out(net, data=x, rois=rois), roi_pooled(x, rois, bins, scale))


def ps_pooled(x: np.ndarray, rois: np.ndarray, dim: int, group: int, scale: float) -> np.ndarray:
    result = np.zeros((len(rois), dim, group, group), F)
    for n, roi in enumerate(rois):
        first = [F(away(roi[2])) * F(scale), F(away(roi[1])) * F(scale)]
        last = [F(away(roi[4]) + 1) * F(scale), F(away(roi[3]) + 1) * F(scale)]
        step = [max(last[a] - first[a], F(0.1)) / F(group) for a in (0, 1)]
        for d, ph, pw in np.ndindex(dim, group, group):
            span = []
            for a, cell in ((0, ph), (1, pw)):
                low, high = math.floor(F(cell) * step[a] + first[a]), math.ceil(F(cell + 1) * step[a] + first[a])
                span.append(slice(min(max(low, 0), x.shape[2 + a]), min(max(high, 0), x.shape[2 + a])))
            values = x[int(roi[0]), (d * group + ph) * group + pw, span[0], span[1]]
            if values.size:
                result[n, d, ph, pw] = values.mean(dtype=np.float64)
    return result


@pytest.mark.parametrize(("dim", "group", "scale", "images"), [(2, 3, 1.0, 1), (3, 2, 0.5, 2), (1, 7, 0.0625, 1), (4, 1, 0.25, 3)])
def test_psroi_pooling(dim: int, group: int, scale: float, images: int) -> None:
    x = np.random.default_rng(1).normal(size=(images, dim * group * group, 9, 12)).astype(F)
    rois = regions(3, 30, images, 12 / scale)
    layer = f'type: "PSROIPooling" psroi_pooling_param {{ output_dim: {dim} group_size: {group} spatial_scale: {scale} }}'
    text = one_layer(layer, x.shape, rois=rois.shape)
    wanted = ps_pooled(x, rois, dim, group, scale)
    np.testing.assert_allclose(out(ported(text), data=x, rois=rois), wanted, atol=2e-6)


def test_psroi_pooling_of_an_open_batch() -> None:
    """The regions are constant here, so that only the images are open."""
    x = np.random.default_rng(1).normal(size=(3, 8, 5, 6)).astype(F)
    rois = regions(3, 10, 3, 6)
    text = """
        input: "data" input_shape { dim: 1 dim: 8 dim: 5 dim: 6 }
        layer { name: "rois" type: "Parameter" top: "rois" parameter_param { shape { dim: 10 dim: 5 } } }
        layer { name: "l" type: "PSROIPooling" bottom: "data" bottom: "rois" top: "out"
                psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 1 } }"""
    net = ported(text, {"rois": [rois]}, dynamic_batch=True)
    np.testing.assert_allclose(out(net, data=x), ps_pooled(x, rois, 2, 2, 1.0), atol=2e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ('type: "ROIPooling" roi_pooling_param { pooled_h: 2 }', "pooled_w"),
        ('type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 pad_ratio: 0.1 }', "pad_ratio"),
        ('type: "PSROIPooling" psroi_pooling_param { output_dim: 2 group_size: 2 }', "spatial_scale"),
        ('type: "PSROIPooling" psroi_pooling_param { output_dim: 3 group_size: 2 spatial_scale: 1 }', "12 channels"),
    ],
)
def test_pooling_refuses(layer: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ported(one_layer(layer, [1, 8, 5, 5], rois=[3, 5]))
    with pytest.raises(GraphError):
        ported(one_layer(layer, [1, 8, 5, 5], rois=[3, 4]))


# ---- proposals --------------------------------------------------------------------------------------------------------------------

# As the comment in py-faster-rcnn's generate_anchors.py lists them, taken to start at 0.
FIRST = [[-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199]]
SECOND = [[-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263]]
THIRD = [[-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359]]
ANCHORS = np.array([*FIRST, *SECOND, *THIRD], F)


def proposed(scores: np.ndarray, deltas: np.ndarray, info: np.ndarray, *, left_out: bool = True) -> tuple[np.ndarray, np.ndarray]:
    height, width = scores.shape[2:]
    found: list[tuple[np.float32, np.ndarray]] = []
    scale = (info[0, 2], info[0, 2]) if left_out else (info[0, 3], info[0, 2])
    for y, x, a in np.ndindex(height, width, 9):
        box = ANCHORS[a] + np.array([x, y, x, y], F) * 16
        size = box[2:] - box[:2] + 1
        move = deltas[0, 4 * a : 4 * a + 4, y, x]
        center, half = move[:2] * size + box[:2] + F(0.5) * size, F(0.5) * np.exp(move[2:]) * size
        last = np.array([info[0, 1] - 1, info[0, 0] - 1] * 2, F)
        box = np.maximum(np.minimum(np.concatenate([center - half, center + half]), last), 0)
        large = all(box[i + 2] - box[i] + 1 >= 16 * scale[i] for i in (0, 1))
        if large or not left_out:
            found.append((scores[0, 9 + a, y, x] if large else F(0), box))
    order = sorted(range(len(found)), key=lambda i: -found[i][0])[:6000]
    rows: list[int] = []
    for i in order:
        box = found[i][1]
        kept = True
        for j in rows:
            other = found[j][1]
            sides = [max(min(box[k + 2], other[k + 2]) - max(box[k], other[k]) + 1, 0) for k in (0, 1)]
            areas = [float((b[2] - b[0] + 1) * (b[3] - b[1] + 1)) for b in (box, other)]
            kept = kept and sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1]) <= 0.7
        if kept:
            rows.append(i)
    rows = rows[:300]
    return np.array([[0, *found[i][1]] for i in rows], F), np.array([found[i][0] for i in rows], F)


def rpn(seed: int, height: int, width: int, info: list[float]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = {"data": rng.uniform(0, 1, (1, 18, height, width)), "deltas": rng.normal(0, 0.4, (1, 36, height, width)), "info": [info]}
    return {k: np.array(v, F) for k, v in values.items()}


PARAM_STRS = ["'feat_stride': 16", "{'feat_stride': 16}", "feat_stride: 16\\n", "{feat_stride: 16, scales: !!python/tuple [8, 16, 32]}"]


@pytest.mark.parametrize("said", [*PARAM_STRS, "'scales': (8, 16, 32)\\n'feat_stride': 16"])
def test_python_proposals(said: str) -> None:
    values = rpn(1, 9, 11, [144, 176, 1.6])
    layer = f'type: "Python" python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{said}" }}'
    shapes = {k: v.shape for k, v in values.items()}
    text = one_layer(layer, shapes.pop("data"), **shapes).replace('top: "out"', 'top: "out" top: "scores"')
    net = ported(text)
    made = run(net, values)
    rois, scores = proposed(values["data"], values["deltas"], values["info"])
    assert len(rois) > 30
    np.testing.assert_allclose(made["out"], rois, atol=1e-3)
    np.testing.assert_array_equal(made["scores"], scores[:, None])
    assert "of 6000 boxes at most 300 are proposed" in net.assumed[0]


def test_proposals_in_cpp() -> None:
    """Boxes that are too small stay, with confidence 0; those are behind all others, and of equal ones Caffe's order is its own."""
    said = "ratio: 0.5 ratio: 1 ratio: 2 scale: 8 scale: 16 scale: 32 base_size: 16 feat_stride: 16 min_size: 16"
    values = rpn(2, 8, 12, [128, 192, 1.5, 3.0])
    shapes = {k: v.shape for k, v in values.items()}
    found = out(ported(one_layer(f'type: "Proposal" proposal_param {{ {said} }}', shapes.pop("data"), **shapes)), **values)
    rois, scores = proposed(values["data"], values["deltas"], values["info"], left_out=False)
    assert len(found) == len(rois)
    sure = scores > 0
    assert sure.sum() > 20
    np.testing.assert_allclose(found[sure], rois[sure], atol=1e-3)


@pytest.mark.parametrize(
    ("said", "message"),
    [("'scales': [8]", "feat_stride"), ("feat_stride 16", "no names with numbers"), ("{'feat_stride': 16, 'ratios': [1]}", "ratios")],
)
def test_proposals_refuse(said: str, message: str) -> None:
    layer = f'type: "Python" python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{said}" }}'
    with pytest.raises(GraphError, match=message):
        ported(one_layer(layer, [1, 18, 5, 5], deltas=[1, 36, 5, 5], info=[1, 3]))


def test_proposals_of_several_images_are_refused() -> None:
    layer = 'type: "Python" python_param { layer: "ProposalLayer" param_str: "feat_stride: 16" }'
    with pytest.raises(GraphError, match="one image") as caught:
        ported(one_layer(layer, [2, 18, 5, 5], deltas=[2, 36, 5, 5], info=[2, 3]))
    assert caught.value.code == "G002"


def test_python_layers_of_other_classes_are_unknown() -> None:
    with pytest.raises(GraphError, match=r"Python 'l' of data .*python_param\.layer") as caught:
        ported(one_layer('type: "Python" python_param { module: "mine" layer: "MyLayer" }', [1, 2]))
    assert caught.value.code == "G033"


def test_faster_rcnn(shared: Path) -> None:
    """The whole network: as many rows as there are proposals go through its fully connected layers."""
    net = import_net(net_from_prototxt(str(shared / "real/prototxt/faster_rcnn_zf_test.pt.prototxt")), None, ImportOptions())
    data = np.random.default_rng(0).normal(0, 50, (1, 3, 224, 224)).astype(F)
    values = run(net, {"data": data, "im_info": np.array([[224, 224, 1]], F)})
    rows = len(values[next(r.tops["rois"] for r in net.layers if r.name == "proposal")])
    assert rows >= 1
    assert values["cls_prob"].shape == (rows, 21)
    assert values["bbox_pred"].shape == (rows, 84)
    np.testing.assert_allclose(values["cls_prob"].sum(1), 1, atol=1e-5)
