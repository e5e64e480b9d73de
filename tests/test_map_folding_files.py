"""Folding through the text of a map: on blocks made here, on real files that were folded by others, and against Caffe's own runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_map_folding import exact, random, repvgg, statistics

from porter.api import open_store
from porter.errors import MapError
from porter.mapping.execution import apply
from porter.mapping.ops.batch_norm import BnStats
from porter.mapping.ops.folding import FoldBn
from porter.mapping.ops.reparameterisation import FoldBranches
from porter.mapping.parser import parse
from porter.store import TensorStore
from porter.tensor import Tensor


def store(arrays: Mapping[str, NDArray[Any]]) -> TensorStore:
    return TensorStore([Tensor.from_array(name, array) for name, array in arrays.items()])


def mapped(text: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in apply(parse(text), store(arrays)).items()}


BN = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
FOLD = """
[weight={p}.conv.weight, bias={p}.conv.bias?, gamma={p}.bn.weight?, beta={p}.bn.bias?,
 mean={p}.bn.running_mean, variance={p}.bn.running_var] | fold_bn(eps=1e-3) -> [bias={p}.b, weight={p}.w]
*.num_batches_tracked -> drop
"""


def block(prefix: str, seed: int, *, bias: bool, affine: bool) -> dict[str, NDArray[Any]]:
    bn = {f"{prefix}.bn.{BN[k]}": v for k, v in statistics(seed, 4).items() if affine or k in ("mean", "variance")}
    conv = {f"{prefix}.conv.weight": random(seed, 4, 3, 3, 3)} | ({f"{prefix}.conv.bias": random(seed + 9, 4)} if bias else {})
    return conv | bn | {f"{prefix}.bn.num_batches_tracked": np.array(7)}


def test_what_is_missing_is_left_out_block_by_block() -> None:
    blocks = {f"l{i}": block(f"l{i}", i, bias=bool(i & 1), affine=bool(i & 2)) for i in range(4)}
    got = mapped(FOLD, {k: v for arrays in blocks.values() for k, v in arrays.items()})
    assert sorted(got) == sorted(f"l{i}.{x}" for i in range(4) for x in "bw")
    labels = {"conv.weight": "weight", "conv.bias": "bias"} | {f"bn.{name}": label for label, name in BN.items()}
    for name, arrays in blocks.items():
        given = {labels[k.partition(".")[2]]: v for k, v in arrays.items() if not k.endswith("tracked")}
        expected = exact(FoldBn(eps=1e-3), **given)
        np.testing.assert_array_equal(got[f"{name}.w"], expected["weight"].astype(np.float32))
        np.testing.assert_array_equal(got[f"{name}.b"], expected["bias"].astype(np.float32))


def test_the_example_of_fold_branches_is_a_map() -> None:
    text = inspect.getdoc(FoldBranches) or ""
    rule = text[text.index("    [square_weight") : text.index("ACNet has")]
    names = {"square": "rbr_dense.bn", "point": "rbr_1x1.bn", "identity": "rbr_identity"}
    arrays: dict[str, NDArray[Any]] = {}
    given = {f"stage{i}": repvgg(i, 6, 6, 1, identity=i == 1) for i in (1, 2)}
    for block_name, labelled in given.items():
        for label, array in labelled.items():
            branch, _, part = label.partition("_")
            name = f"{names[branch].removesuffix('.bn')}.conv.weight" if part == "weight" else f"{names[branch]}.{BN[part]}"
            arrays[f"{block_name}.{name}"] = array
    got = mapped(rule, arrays)
    assert len(got) == 4
    for block_name, labelled in given.items():
        expected = exact(FoldBranches(), **labelled)
        np.testing.assert_array_equal(got[f"{block_name}.rbr_reparam.weight"], expected["weight"].astype(np.float32))
        np.testing.assert_array_equal(got[f"{block_name}.rbr_reparam.bias"], expected["bias"].astype(np.float32))


def test_bn_stats_with_factor_one_keeps_every_bit_of_a_file() -> None:
    bits = np.array([0x7FA00001, 0xFFC01234, 0x80000000, 0x00000001, 0x7F800000], np.uint32)
    arrays = {"bn.mean": bits.view(np.float32), "bn.variance": bits[::-1].copy().view(np.float32), "bn.scale_factor": np.float32([1])}
    text = "[{n}.mean, {n}.variance, {n}.scale_factor] | bn_stats -> [variance={n}.running_var, mean={n}.running_mean]"
    got = mapped(text, arrays)
    assert got["bn.running_mean"].view(np.uint32).tolist() == bits.tolist()
    assert got["bn.running_var"].view(np.uint32).tolist() == bits[::-1].tolist()


def test_preprocessing_in_a_map() -> None:
    weight, text = random(1, 4, 3, 3, 3), "fold_preprocess(mean=[104, 117.5, 123], std=[58, 57, 2], flip=true, padding=none)"
    got = mapped(f"[weight=conv1.weight] | {text} -> [weight=conv1.weight, bias=conv1.bias]", {"conv1.weight": weight})
    scaled = weight.astype(np.float64) / np.array([58, 57, 2]).reshape(3, 1, 1)
    np.testing.assert_array_equal(got["conv1.weight"], scaled[:, ::-1].astype(np.float32))
    np.testing.assert_allclose(got["conv1.bias"], -(scaled * np.array([104, 117.5, 123]).reshape(3, 1, 1)).sum((1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "code", "shown", "tensor"),
    [
        ({"variance=": "var="}, "M451", "var=", "l0.bn.running_var"),
        ({"variance=": ""}, "M450", "fold_bn", "l0.bn.running_var"),
        ({"eps=1e-3": "eps=-1"}, "M403", "eps=-1", None),
        ({"eps=1e-3": "output_axis=1"}, "M455", "fold_bn(output_axis=1)", "l0.bn.running_var"),
    ],
)
def test_wrong_folds_are_shown_in_the_map(change: dict[str, str], code: str, shown: str, tensor: str | None) -> None:
    text = FOLD
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(MapError) as caught:
        mapped(text, block("l0", 1, bias=False, affine=True))
    error = caught.value
    assert (error.code, error.where.line) == (code, 3)
    assert error.excerpt is not None
    assert error.where.column is not None
    assert error.excerpt[error.where.column - 1 :].startswith(shown)
    assert error.where.tensor == tensor
    assert error.hint is not None


def test_a_negative_variance_is_found_when_it_is_read() -> None:
    arrays = block("l0", 1, bias=False, affine=True)
    arrays["l0.bn.running_var"][2] = -1
    with pytest.raises(MapError) as caught:
        mapped(FOLD, arrays)
    assert (caught.value.code, caught.value.where.tensor, caught.value.where.line) == ("M458", "l0.bn.running_var", 3)


# ---- files that others folded ------------------------------------------------------------------------------------------


def distance(ours: NDArray[Any], theirs: NDArray[Any], unit: NDArray[Any] | None = None) -> float:
    """The largest distance in units in the last place of the larger of the two, or of `unit`."""
    size = np.maximum(np.abs(ours), np.abs(theirs)) if unit is None else np.maximum(np.abs(unit), np.abs(ours))
    return float((np.abs(ours.astype(np.float64) - theirs) / np.spacing(size.astype(np.float32))).max())


def rule(conv: str, bn: str, weight: str, bias: str, arithmetic: str) -> str:
    inputs = ", ".join(f'{label}="{bn}.{name}"' for label, name in BN.items())
    fold = f"fold_bn(eps=9.999999747378752e-06, arithmetic={arithmetic})"
    return f'[weight="{conv}.weight", bias="{conv}.bias"?, {inputs}] | {fold} -> [weight="{weight}", bias="{bias}"]'


def ultraface(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Convolution, batch normalisation, and the names of the folded weight and bias, by the order of the two graphs."""
    onnx = pytest.importorskip("onnx")
    full, simple = (onnx.load(folder / f"version-slim-320{s}.onnx").graph.node for s in ("", "_simplified"))
    followers = {n.input[0]: n for n in full if n.op_type == "BatchNormalization"}
    pairs = zip([n for n in full if n.op_type == "Conv"], [n for n in simple if n.op_type == "Conv"], strict=True)
    for conv, folded in pairs:
        if conv.output[0] in followers:
            names = [conv.input[1], followers[conv.output[0]].input[1]]
            yield (*[n.removesuffix(".weight") for n in names], folded.input[1], folded.input[2])


def yunet(source: TensorStore, target: TensorStore) -> Iterator[tuple[str, str, str, str]]:
    """The same by the order in the file, which is that of execution, and by shape."""
    inner = [n.removesuffix(".running_mean") for n in source if n.endswith(".running_mean")]
    numbered = [n for n in target if n.isdigit() and len(target[n].shape) == 4]
    for bn in inner:
        conv = bn.removesuffix("bn1") + "conv1" if bn.endswith("bn1") else bn.removesuffix("bn") + "conv2"
        weight = source[conv + ".weight"]
        scale = source[bn + ".weight"].numpy() / np.sqrt(source[bn + ".running_var"].numpy() + 1e-5)
        expected = weight.numpy() * scale.reshape(-1, 1, 1, 1)
        found = [n for n in numbered if target[n].shape == weight.shape and np.allclose(target[n].numpy(), expected, rtol=1e-4, atol=1e-6)]
        assert len(found) == 1
        yield conv, bn, found[0], str(int(found[0]) + 1)


def folded_by_others(shared: Path, net: str) -> tuple[TensorStore, TensorStore, list[tuple[str, str, str, str]]]:
    real = shared / "real"
    if net == "ultraface":
        folder = real / "ultraface" / "onnx"
        source, target = (open_store(folder / f"version-slim-320{s}.onnx") for s in ("", "_simplified"))
        return source, target, list(ultraface(folder))
    source, target = open_store(real / "yunet" / "yunet_n.pth"), open_store(real / "yunet" / "yunet_n_320_320.onnx")
    return source, target, list(yunet(source, target))


@pytest.mark.parametrize(("net", "layers"), [("ultraface", 25), ("yunet", 18)])
@pytest.mark.parametrize("arithmetic", ["f32", "f64"])
def test_files_folded_by_torchs_exporter(shared: Path, net: str, layers: int, arithmetic: str) -> None:
    """In float32 ours are theirs, bit for bit; in float64 they are within 4 ULP, biases of the larger number they are the sum of."""
    source, target, rules = folded_by_others(shared, net)
    assert len(rules) == layers
    text = "\n".join(rule(*names, arithmetic) for names in rules) + "\nrest -> drop\n"
    made = apply(parse(text), source)
    assert len(made) == 2 * layers
    for _, bn, weight, bias in rules:
        ours, theirs = [made[n].numpy() for n in (weight, bias)], [target[n].numpy() for n in (weight, bias)]
        if arithmetic == "f32":
            assert [a.tobytes() for a in ours] == [a.tobytes() for a in theirs]
        assert distance(ours[0], theirs[0]) <= 2
        assert distance(ours[1], theirs[1], source[f"{bn}.bias"].numpy()) <= 4


@pytest.mark.parametrize(
    ("net", "eps"), [("BatchNorm_factor1", 1e-5), ("BatchNorm_factor999", 1e-5), ("BatchNorm_factor0", 0.1), ("BatchNorm_scale_bias", 1e-5)]
)
def test_what_caffe_computed(shared: Path, net: str, eps: float) -> None:
    """Caffe's recorded output is that of the folded layer, the layer before being one that changes nothing."""
    folder = shared / "oracle" / "zoo" / net
    weights = {name: tensor.numpy() for name, tensor in open_store(folder / "model.caffemodel").items()}
    golden = np.load(folder / "golden.npz")
    x = golden["input/data"].astype(np.float64)
    (name,) = golden["outputs"]
    output = golden[f"output/{name}"].astype(np.float64)
    scale = {"gamma": weights["scale.weight"], "beta": weights["scale.bias"]} if "scale.bias" in weights else {}
    blobs = {part: weights[f"bn.{part}"] for part in ("mean", "variance", "scale_factor")}
    folded = exact(FoldBn(eps=float(np.float32(eps))), weight=np.ones((x.shape[1], 1, 1), np.float32), **blobs, **scale)
    np.testing.assert_allclose(x * folded["weight"] + folded["bias"].reshape(-1, 1, 1), output, atol=1e-5 * np.abs(output).max(), rtol=0)
    stats = exact(BnStats(), **blobs)
    normalised = (x - stats["mean"].reshape(-1, 1, 1)) / np.sqrt(stats["variance"].reshape(-1, 1, 1) + eps)
    if scale:
        normalised = normalised * scale["gamma"].reshape(-1, 1, 1) + scale["beta"].reshape(-1, 1, 1)
    np.testing.assert_allclose(normalised, output, atol=1e-5 * np.abs(output).max(), rtol=0)
