"""Inference between the same trained nets in several formats: every tensor found, the map exact, and short enough to read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from porter.api import open_
from porter.mapping.execution import apply
from porter.mapping.inference.infer import Inference, infer
from porter.mapping.parser import parse
from porter.mapping.plan import plan
from porter.mapping.render import statement_text
from porter.store import TensorStore

CAFFE, PT, NPY, NCNN = "mtcnn/caffe/", "mtcnn/pytorch/", "mtcnn/npy_facenet/", "mtcnn/ncnn/"
SLIM = {
    "pth": "ultraface/pytorch/version-slim-320.pth",
    "onnx": "ultraface/onnx/version-slim-320.onnx",
    "simplified": "ultraface/onnx/version-slim-320_simplified.onnx",
    "caffe": "ultraface/caffe/slim-320.caffemodel",
    "ncnn": "ultraface/ncnn/slim_320.param",
}
LPR, LPR16, LPRK = "hyperlpr/HorizonalFinemapping.caffemodel", "hyperlpr/lpr_HorizonalFinemapping.caffemodel", "keras_hyperlpr/model12.h5"
YOLOFACE = "yoloface/yoloface-500k_v2_yoloface-500k-v2"

EXACT = [
    # source, target, tensors of the target that are made of tensors of the source, rules at most
    (f"{CAFFE}det1.caffemodel", f"{PT}pnet.pt", 13, 5),
    (f"{CAFFE}det2.caffemodel", f"{PT}rnet.pt", 16, 7),
    (f"{CAFFE}det3.caffemodel", f"{PT}onet.pt", 21, 6),
    (f"{PT}onet.pt", f"{CAFFE}det3.caffemodel", 21, 7),
    (f"{CAFFE}det1.caffemodel", f"{NPY}det1.npy", 13, 3),
    (f"{CAFFE}det2.caffemodel", f"{NPY}det2.npy", 16, 7),
    (f"{CAFFE}det3.caffemodel", f"{NPY}det3.npy", 21, 5),
    (f"{NPY}det3.npy", f"{PT}onet.pt", 21, 7),
    (f"{CAFFE}det3.caffemodel", f"{NCNN}det3.param", 21, 3),
    (f"{PT}onet.pt", f"{NCNN}det3.param", 21, 5),
    (SLIM["pth"], SLIM["onnx"], 184, 1),
    (SLIM["pth"], SLIM["simplified"], 84, 5),
    (SLIM["pth"], SLIM["caffe"], 84, 18),
    (SLIM["pth"], SLIM["ncnn"], 84, 18),
    (SLIM["onnx"], SLIM["simplified"], 84, 6),
    (SLIM["simplified"], SLIM["caffe"], 84, 12),
    (SLIM["caffe"], SLIM["simplified"], 84, 11),
    (SLIM["caffe"], SLIM["ncnn"], 84, 1),
    ("yunet/yunet_n.pth", "yunet/yunet_n_320_320.onnx", 118, 9),
    (LPR, LPR16, 8, 1),
    (LPR, LPRK, 8, 4),
    (LPRK, LPR, 8, 4),
    (f"{YOLOFACE}.caffemodel", f"{YOLOFACE}.weights", 278, 4),
    (f"{YOLOFACE}.weights", f"{YOLOFACE}.caffemodel", 278, 4),
    ("minivision/2.7_80x80_MiniFASNetV2.pth", "minivision/ncnn/model_1.param", 284, 26),
]

LEFT = {
    SLIM["onnx"]: lambda n: n.isdigit(),  # constants of the graph, not weights
    SLIM["simplified"]: lambda n: n.isdigit(),
    "yunet/yunet_n_320_320.onnx": lambda n: n in ("512", "513", "267", "329", "401", "434"),
}
"""Tensors of targets that come from no weight of the source."""


@cache
def sides(shared: Path, source: str, target: str) -> tuple[TensorStore, TensorStore, Inference]:
    a, b = (open_(shared / "real" / path) for path in (source, target))
    return a, b, infer(a, b)


@pytest.mark.parametrize(("source", "target", "matched", "rules"), EXACT, ids=[f"{Path(a).name}-{Path(b).name}" for a, b, *_ in EXACT])
def test_parity_groups_are_equal_bit_for_bit(shared: Path, source: str, target: str, matched: int, rules: int) -> None:
    a, b, inference = sides(shared, source, target)
    assert inference.matched == matched
    assert len(inference.rules) <= rules
    assert all(LEFT[target](n) for n in inference.unmatched_targets)
    checked = plan(inference.map, a.values(), targets=b.values())
    assert set(checked.result) == set(b) - set(inference.unmatched_targets)
    made = apply(inference.map, a)
    for name, tensor in made.items():
        assert (tensor.dtype, tensor.shape, tensor.tobytes()) == (b[name].dtype, b[name].shape, b[name].tobytes()), name
    assert parse(inference.text()) == inference.map
    assert min(r.confidence for r in inference.rules if r.matches) >= 0.9


def statements(inference: Inference) -> list[str]:
    return [statement_text(s) for stage in inference.map.stages for s in stage.statements]


def test_mtcnn_is_written_as_one_would_write_it(shared: Path) -> None:
    _, _, inference = sides(shared, f"{CAFFE}det3.caffemodel", f"{PT}onet.pt")
    assert statements(inference) == [
        "conv{i:1..4}.weight : o i h w <-> conv{i}.weight : o i w h",
        "conv{i:1..4}.bias <-> conv{i}.bias",
        "prelu{i:int}.slope <-> prelu{i}.weight",
        "conv5.weight : o (c hw) <-> dense5.weight : o (hw c)  where hw=9",
        "conv5.bias <-> dense5.bias",
        "conv6-{i:int}.{a:weight|bias} <-> dense6_{i}.{a}",
    ]


def test_both_ways(shared: Path) -> None:
    """What `<->` says is so: B gives A back, by a map that was inferred from A to B."""
    from porter.mapping.inverse import invert

    a, b, inference = sides(shared, LPR, LPRK)
    back = apply(invert(inference.map), b)
    assert {n: t.tobytes() for n, t in back.items()} == {n: t.tobytes() for n, t in a.items()}


def test_a_source_in_half_precision_is_matched_and_not_said_to_be_equal(shared: Path) -> None:
    _, b, inference = sides(shared, LPR16, LPRK)
    assert inference.matched == len(b) == 8
    assert all("only as f16" in r.reason for r in inference.rules)
    assert max(r.confidence for r in inference.rules) <= 0.8


def test_folded_and_cut_to_half_precision(shared: Path) -> None:
    """ncnn's converter cuts float32 to float16 instead of rounding it: nothing gives its bits, but a unit in the last place does."""
    a, b, inference = sides(shared, "yolofastest/darknet/yolo-fastest-1.1.weights", "yolofastest/ncnn/yolo-fastest-1.1.param")
    assert inference.matched == len(b) == 168
    assert len(inference.rules) <= 8
    made = apply(inference.map, a, targets=b.values())
    for name, tensor in b.items():
        x, y = made[name].numpy().astype(np.float64), tensor.numpy().astype(np.float64)
        size = max(np.abs(y).max(), 2.0**-14)
        assert np.abs(x - y).max() <= size * (2.0**-10 if tensor.dtype.name == "float16" else 1e-6), name


def test_another_state_of_the_same_training(shared: Path) -> None:
    """The two files are of different epochs: heads without batch normalisation differ in the fourth digit."""
    a, b, inference = sides(shared, "retinaface_1mb/RBF_Final.pth", "retinaface_1mb/ncnn/face.param")
    assert inference.matched == len(b) == 118
    assert all(r.confidence <= 0.8 for r in inference.rules)
    assert any("values near, not equal" in r.reason for r in inference.rules)
    made = apply(inference.map, a, targets=b.values())
    apart = [np.sqrt(((made[n].numpy() - t.numpy()) ** 2).mean() / (t.numpy() ** 2).mean()) for n, t in b.items()]
    assert max(apart) < 0.15


NAMED = [
    (f"{CAFFE}det3.caffemodel", f"{PT}onet.pt"),
    (f"{CAFFE}det3.caffemodel", f"{NPY}det3.npy"),
    (LPR, LPRK),
    (SLIM["pth"], SLIM["onnx"]),
    (SLIM["pth"], SLIM["simplified"]),
    (SLIM["pth"], SLIM["ncnn"]),
    ("yolofastest/darknet/yolo-fastest-1.1.weights", "yolofastest/ncnn/yolo-fastest-1.1.param"),
    (f"{YOLOFACE}.caffemodel", f"{YOLOFACE}.weights"),
]


# Folded batch normalisation too: B has none, and each layer has a bias instead.
@pytest.mark.parametrize(("source", "target"), NAMED, ids=[f"{Path(a).name}-{Path(b).name}" for a, b in NAMED])
def test_names_and_shapes_alone_lead_to_the_same_pairs(shared: Path, source: str, target: str) -> None:
    a, b, known = sides(shared, source, target)
    specs = [t.spec for t in b.values()]
    inference = infer(a, specs)
    plan(inference.map, a.values(), targets=specs)
    assert {(m.sources, m.targets) for m in inference.matches} == {(m.sources, m.targets) for m in known.matches}
    assert all(m.confidence < 0.8 and "values unknown" in m.reason for m in inference.matches)
