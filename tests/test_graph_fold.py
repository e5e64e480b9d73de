"""Batch normalisation folded away, and left alone where something else reads what lies between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_runs import cases, compare, imported, run
from graph_nets import kinds, ported

from porter.dataclass import replace
from porter.graph.caffe.importer import ImportedNet
from porter.graph.fold import Folded, fold_batch_norm, still_there

RNG = np.random.default_rng(7)
NORMALISED = (
    'layer {{ name: "bn" type: "BatchNorm" bottom: "{0}" top: "bn" }} '
    'layer {{ name: "sc" type: "Scale" bottom: "bn" top: "sc" scale_param {{ bias_term: true }} }}'
)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def statistics() -> dict[str, list[np.ndarray]]:
    return {"bn": [random(6), np.abs(random(6)) + np.float32(0.1), np.float32([1.5])], "sc": [random(6), random(6)]}


def folded(net: ImportedNet) -> tuple[ImportedNet, tuple[Folded, ...]]:
    done = fold_batch_norm(net.model)
    return replace(net, layers=still_there(net.layers, net.model)), done


def test_every_recorded_net_stays_within_1e_5(shared: Path) -> None:
    worst = {}
    for folder in cases(shared / "oracle" / "zoo") + cases(shared / "oracle"):
        if 'type: "BatchNorm"' not in (folder / "deploy.prototxt").read_text("utf-8", "replace"):
            continue
        net, done = folded(imported(folder))
        if done:
            worst[folder.name] = max(d.relative for d in compare(folder, net))
    assert len(worst) >= 9
    assert max(worst.values()) <= 1e-5, worst


LAYERS = {
    "convolution": ('type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 group: 2 }', (2, 4, 5, 5), [(6, 2, 3, 3), (6,)]),
    "no bias": ('type: "Convolution" convolution_param { num_output: 6 kernel_size: 1 bias_term: false }', (2, 4, 5), [(6, 4, 1)]),
    "deconvolution": ('type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 2 }', (2, 4, 3, 3), [(4, 6, 2, 2), (6,)]),
    "groups": ('type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 2 group: 2 }', (2, 4, 3, 3), [(4, 3, 2, 2), (6,)]),
    "product": ('type: "InnerProduct" inner_product_param { num_output: 6 }', (2, 4, 3), [(6, 12), (6,)]),
    "transposed": ('type: "InnerProduct" inner_product_param { num_output: 6 transpose: true }', (2, 12), [(12, 6), (6,)]),
}


@pytest.mark.parametrize("which", LAYERS)
def test_everything_with_weights_takes_it_in(which: str) -> None:
    layer, shape, blobs = LAYERS[which]
    text = f'input: "data" input_shape {{ {" ".join(f"dim: {n}" for n in shape)} }} layer {{ name: "c" bottom: "data" top: "c" {layer} }}'
    net = ported(text + NORMALISED.format("c"), {"c": [random(*b) for b in blobs], **statistics()})
    x = random(*shape)
    before = run(net, {"data": x})["sc"]
    after, done = folded(net)
    assert done == (Folded("c", ("bn", "sc/scaled", "sc")),)
    assert len([k for k in kinds(after) if k != "Flatten"]) == 1
    assert set(after.model.graph.initializers) == {"c.blob0", "c.blob1" if len(blobs) > 1 else "c.blob0.bias"}
    assert [r.tops for r in after.layers] == [{}, {}, {"sc": "sc"}]
    np.testing.assert_allclose(run(after, {"data": x})["sc"], before, atol=1e-5 * float(np.abs(before).max()), rtol=0)


CONVOLUTION = (
    'input: "data" input_shape { dim: 2 dim: 4 dim: 5 dim: 5 } '
    'layer { name: "c" bottom: "data" top: "c" type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 } } '
)


@pytest.mark.parametrize(("read", "left"), [("c", ["Conv", "BatchNormalization", "Sigmoid"]), ("bn", ["Conv", "Sigmoid", "Mul", "Add"])])
def test_another_reader_prevents_it(read: str, left: list[str]) -> None:
    text = CONVOLUTION + NORMALISED.format("c") + f'layer {{ name: "s" type: "Sigmoid" bottom: "{read}" top: "s" }}'
    net = ported(text, {"c": [random(6, 4, 3, 3), random(6)], **statistics()})
    x = random(2, 4, 5, 5)
    before = run(net, {"data": x})
    after, _ = folded(net)
    assert sorted(kinds(after)) == sorted(left)
    values = run(after, {"data": x})
    for name in ("sc", "s"):
        np.testing.assert_allclose(values[name], before[name], atol=1e-5 * float(np.abs(before[name]).max()), rtol=0)


def test_an_output_of_the_graph_is_kept() -> None:
    net = ported(CONVOLUTION + NORMALISED.format("c"), {"c": [random(6, 4, 3, 3), random(6)], **statistics()})
    graph = net.model.graph
    graph.outputs.append(next(iter(graph)).outputs[0])
    after, done = folded(net)
    assert done == (Folded("bn", ("sc/scaled", "sc")),)
    assert kinds(after) == ["Conv", "BatchNormalization"]


def test_padding_comes_after_a_normalisation_that_stands_before() -> None:
    text = (
        'input: "data" input_shape { dim: 2 dim: 6 dim: 5 dim: 5 } '
        + NORMALISED.format("data")
        + 'layer { name: "c" bottom: "sc" top: "c" type: "Convolution" convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }'
    )
    after, _ = folded(ported(text, {"c": [random(3, 6, 3, 3), random(3)], **statistics()}))
    assert kinds(after) == ["BatchNormalization", "Conv"]


def test_weights_that_two_layers_share_are_not_changed_for_both() -> None:
    text = (
        'input: "data" input_shape { dim: 2 dim: 4 dim: 5 dim: 5 } '
        'layer { name: "c" bottom: "data" top: "c" type: "Convolution" param { name: "w" } '
        "convolution_param { num_output: 6 kernel_size: 3 bias_term: false } } "
        'layer { name: "d" bottom: "data" top: "d" type: "Convolution" param { name: "w" } '
        "convolution_param { num_output: 6 kernel_size: 3 bias_term: false } } "
    ) + NORMALISED.format("c")
    weight = random(6, 4, 3, 3)
    net = ported(text, {"c": [weight], **statistics()})
    x = random(2, 4, 5, 5)
    before = run(net, {"data": x})
    after, _ = folded(net)
    values = run(after, {"data": x})
    assert np.array_equal(values["d"], before["d"])
    np.testing.assert_allclose(values["sc"], before["sc"], atol=1e-5 * float(np.abs(before["sc"]).max()), rtol=0)
    assert set(after.model.graph.initializers) == {"c.blob0", "c.blob0_folded", "c.blob0.bias"}


def test_numbers_that_are_none_are_left_alone() -> None:
    weights = {**statistics(), "c": [random(6, 4, 3, 3), random(6)], "bn": [random(6), np.full(6, -1.0), np.float32([1])]}
    _, done = folded(ported(CONVOLUTION + NORMALISED.format("c"), weights))
    assert [d.into for d in done] == ["bn"]


def test_each_weight_is_rounded_once() -> None:
    weights = {"c": [random(6, 4, 3, 3), random(6)], **statistics()}
    net, _ = folded(ported(CONVOLUTION + NORMALISED.format("c"), weights))
    held = {n: v.const_value.numpy() for n, v in net.model.graph.initializers.items() if v.const_value is not None}
    (weight, bias), (mean, variance, factor), (scale, shift) = weights["c"], weights["bn"], weights["sc"]
    share = np.float32(1) / factor
    by = scale.astype(np.float64) / np.sqrt((variance * share).astype(np.float64) + np.float64(np.float32(1e-5)))
    assert np.array_equal(held["c.blob0"], (weight * by.reshape(-1, 1, 1, 1)).astype(np.float32))
    expected = (bias - (mean * share).astype(np.float64)) * by + shift
    np.testing.assert_allclose(held["c.blob1"], expected, rtol=1e-6, atol=1e-7)
    assert held["c.blob1"].dtype == np.float32
