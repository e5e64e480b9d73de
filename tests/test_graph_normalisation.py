"""Layers of Caffe nets that normalise, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_runs import run
from graph_nets import far_from_caffe, kinds, one_layer, out, ported

from porter.errors import GraphError

RNG = np.random.default_rng(6)
SHAPE = (2, 3, 4, 5)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return (RNG.random(shape) + 0.5).astype(np.float32)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


def each(values: np.ndarray, rank: int = 4) -> np.ndarray:
    return values.astype(np.float64).reshape(-1, *[1] * (rank - 2))


def normalised(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    return (x - each(mean, x.ndim)) / np.sqrt(each(variance, x.ndim) + eps)


def by_batch(x: np.ndarray, eps: float) -> np.ndarray:
    axes = (0, *range(2, x.ndim))
    wide = x.astype(np.float64)
    return (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + eps)


def test_recorded(shared: Path) -> None:
    assert not far_from_caffe(shared, "BatchNorm_", "BN_", "LRN_", "MVN_", "Normalize_")


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), SHAPE, (1, 3, 2, 2, 2)])
@pytest.mark.parametrize("factor", [1.0, 999.98, 0.0])
def test_stored_statistics_are_divided_by_the_factor(shape: tuple[int, ...], factor: float) -> None:
    x, mean, variance = random(*shape), random(3), positive(3)
    net = ported(one_layer('type: "BatchNorm" batch_norm_param { eps: 0.01 }', shape), {"l": [mean, variance, np.float32([factor])]})
    assert kinds(net) == ["BatchNormalization"]
    scale = 1 / factor if factor else 0
    close(out(net, data=x), normalised(x, mean * scale, variance * scale, 0.01))
    assert ("l.blob0" in net.model.graph.initializers) == (factor == 1)


def test_statistics_of_the_batch() -> None:
    x = random(*SHAPE)
    net = one_layer('type: "BatchNorm" batch_norm_param { use_global_stats: false }', SHAPE)
    close(out(ported(net, {"l": [random(3), positive(3), np.float32([1])]}), data=x), by_batch(x, 1e-5))
    more = random(5, *SHAPE[1:])
    close(out(ported(net, dynamic_batch=True), data=more), by_batch(more, 1e-5))


def test_forks_with_scale_and_bias() -> None:
    x, mean, variance, scale, bias = random(*SHAPE), random(3), positive(3), random(3), random(3)
    factor = np.float32([2])
    plain = one_layer('type: "BatchNorm"', SHAPE)
    expected = normalised(x, mean / 2, variance / 2) * each(scale)
    close(out(ported(plain, {"l": [mean, variance, factor, scale]}), data=x), expected)
    close(out(ported(plain, {"l": [mean, variance, factor, scale, bias]}), data=x), expected + each(bias))
    close(out(ported(plain, {"l": [scale, bias, mean, variance, factor]}), data=x), expected + each(bias))
    nvidia = one_layer('type: "BatchNorm" batch_norm_param { scale_bias: true eps: 0 use_global_stats: false }', SHAPE)
    close(
        out(ported(nvidia, {"l": [mean, variance, factor, scale, bias]}), data=x),
        normalised(x, mean, variance) * each(scale) + each(bias),
    )
    batch = one_layer('type: "BatchNorm" batch_norm_param { use_global_stats: false }', SHAPE)
    close(out(ported(batch, {"l": [mean, variance, factor, scale, bias]}), data=x), by_batch(x, 1e-5) * each(scale) + each(bias))


@pytest.mark.parametrize("blob", [(3,), (1, 3), (1, 3, 1, 1)])
def test_the_two_kinds_of_bn(blob: tuple[int, ...]) -> None:
    x, scale, shift, mean, variance = random(*SHAPE), random(*blob), random(*blob), random(*blob), positive(*blob)
    segnet = one_layer('type: "BN" bn_param { bn_mode: INFERENCE }', SHAPE)
    close(out(ported(segnet, {"l": [scale, shift]}), data=x), x * each(scale) + each(shift))
    tops = 'top: "mean" top: "variance"'
    learning = ported(one_layer(f'{tops} type: "BN" bn_param {{ shift_filler {{ value: 0 }} }}', SHAPE), {"l": [scale, shift]})
    close(out(learning, data=x), by_batch(x, 1e-9) * each(scale) + each(shift))
    values = run(learning, {"data": x})
    close(values["mean"], x.astype(np.float64).mean((0, 2, 3), keepdims=True))
    close(values["variance"], x.astype(np.float64).var((0, 2, 3), keepdims=True))
    blobs = {"l": [scale, shift, mean, variance]}
    expected = normalised(x, mean, variance, 0.3) * each(scale) + each(shift)
    close(out(ported(one_layer('type: "BN" bn_param { frozen: true eps: 0.3 momentum: 0.9 }', SHAPE), blobs), data=x), expected)
    close(out(ported(one_layer('type: "BN" bn_param { var_eps: 0.3 decay: 0.9 }', SHAPE), blobs), data=x), expected)
    batch = one_layer('type: "BN" bn_param { var_eps: 0.3 moving_average: false }', SHAPE)
    close(out(ported(batch, blobs), data=x), by_batch(x, 0.3) * each(scale) + each(shift))


def test_bn_without_weights_says_which_it_takes() -> None:
    assert "SegNet" in ported(one_layer('type: "BN" bn_param { bn_mode: LEARN }', SHAPE)).assumed[0]
    assert "PSPNet" in ported(one_layer('type: "BN"', SHAPE)).assumed[0]


def test_response_normalisation() -> None:
    x = random(2, 6, 5, 4)
    squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    across = x / (2 + 1.5 / 3 * sum(squares[:, i : i + 6] for i in range(3))) ** 0.5
    said = "local_size: 3 alpha: 1.5 beta: 0.5 k: 2"
    close(out(ported(one_layer(f'type: "LRN" lrn_param {{ {said} }}', x.shape)), data=x), across)
    squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    near = sum(squares[:, :, i : i + 5, j : j + 4] for i in range(3) for j in range(3))
    within = one_layer(f'type: "LRN" lrn_param {{ {said} norm_region: WITHIN_CHANNEL }}', x.shape)
    close(out(ported(within, dynamic_batch=True), data=x), x / (1 + 1.5 / 9 * near) ** 0.5)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 4)])
def test_mean_and_variance(across: bool, shape: tuple[int, ...]) -> None:
    """The top has four axes even where the bottom has three."""
    x = random(*shape)
    wide = x.astype(np.float64).reshape(*shape, *[1] * (4 - len(shape)))
    axes = (1, 2, 3) if across else (2, 3)
    centred = wide - wide.mean(axes, keepdims=True)
    said = f"across_channels: {str(across).lower()} eps: 0.5"
    close(out(ported(one_layer(f'type: "MVN" mvn_param {{ {said} }}', shape)), data=x), centred / (wide.std(axes, keepdims=True) + 0.5))
    net = ported(one_layer(f'type: "MVN" mvn_param {{ {said} normalize_variance: false }}', shape))
    close(out(net, data=x), centred)


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), SHAPE])
def test_length(everything: bool, shape: tuple[int, ...]) -> None:
    x, scale = random(*shape), random(3)
    axes = tuple(range(1, len(shape))) if everything else (1,)
    length = np.sqrt((x.astype(np.float64) ** 2).sum(axes, keepdims=True) + 0.1)
    said = f"across_spatial: {str(everything).lower()} eps: 0.1"
    net = one_layer(f'type: "Normalize" norm_param {{ {said} channel_shared: false }}', shape)
    close(out(ported(net, {"l": [scale]}), data=x), x / length * each(scale, len(shape)))
    net = one_layer(f'type: "Normalize" norm_param {{ {said} scale_filler {{ value: 20 }} }}', shape)
    close(out(ported(net, {"l": [np.float32(20)]}), data=x), x / length * 20)


@pytest.mark.parametrize(
    ("layer", "count", "code"),
    [
        ('type: "BatchNorm"', 6, "G025"),
        ('type: "BatchNorm"', 2, "G021"),
        ('type: "BatchNorm" batch_norm_param { use_weight_bias: true }', 3, "G021"),
        ('type: "BatchNorm" batch_norm_param { relu: true }', 3, "G013"),
        ('type: "BN"', 3, "G025"),
        ('type: "BN" bn_param { axis: 2 var_eps: 1 }', 4, "G010"),
        ('type: "LRN" lrn_param { local_size: 4 }', 0, "G010"),
        ('type: "LRN" lrn_param { norm_region: SOMEWHERE }', 0, "G010"),
    ],
)
def test_what_cannot_be_honoured_is_refused(layer: str, count: int, code: str) -> None:
    blobs = [random(3), positive(3), np.float32([1]), random(3), random(3), random(3)]
    with pytest.raises(GraphError, match=code):
        ported(one_layer(layer, SHAPE), {"l": blobs[:count]})


@pytest.mark.parametrize("kind", ["BatchNorm", "BN", "LRN", "MVN", "Normalize"])
def test_another_number_of_axes_is_refused(kind: str) -> None:
    with pytest.raises(GraphError, match="G017"):
        ported(one_layer(f'type: "{kind}"', (3,) if kind != "MVN" else (1, 1, 1, 1, 1)))
