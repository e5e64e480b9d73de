"""Products, scales and biases of Caffe nets, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_nets import far_from_caffe, kinds, one_layer, out, ported

from porter.errors import GraphError

RNG = np.random.default_rng(5)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_recorded(shared: Path) -> None:
    assert not far_from_caffe(shared, "InnerProduct_", "Embed_", "Scale_", "Bias_")


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 1), ((3, 2, 5, 2), 1), ((3, 2, 5, 2), 2), ((3, 2, 5), -1), ((3, 4), 0)])
def test_products(shape: tuple[int, ...], axis: int, bias: bool, transpose: bool) -> None:
    x = random(*shape)
    lead, inner = shape[:axis], int(np.prod(shape[axis:]))
    w, b = random(6, inner), random(6)
    text = f"num_output: 6 axis: {axis} transpose: {str(transpose).lower()} bias_term: {str(bias).lower()}"
    blobs = [w.T if transpose else w, b][: 1 + bias]
    actual = out(ported(one_layer(f'type: "InnerProduct" inner_product_param {{ {text} }}', shape), {"l": blobs}), data=x)
    close(actual, (x.reshape(-1, inner) @ w.T + (b if bias else 0)).reshape(*lead, 6))


def test_a_product_of_rows_is_one_node() -> None:
    assert kinds(ported(one_layer('type: "InnerProduct" inner_product_param { num_output: 3 }', (2, 4)))) == ["Gemm"]
    assert kinds(ported(one_layer('type: "InnerProduct" inner_product_param { num_output: 3 }', (2, 4, 2, 2)))) == ["Flatten", "Gemm"]


def test_an_open_batch_stays_open_or_is_refused() -> None:
    w, x = random(6, 10), random(7, 3, 5, 2)
    net = one_layer('type: "InnerProduct" inner_product_param { num_output: 6 axis: 2 bias_term: false }', (2, 3, 5, 2))
    close(out(ported(net, {"l": [w]}, dynamic_batch=True), data=x), x.reshape(7, 3, 10) @ w.T)
    for spanning in (
        'type: "InnerProduct" inner_product_param { num_output: 6 axis: 0 }',
        'type: "Scale" scale_param { axis: 0 }',
        'type: "Bias" bias_param { axis: 0 num_axes: -1 }',
    ):
        ported(one_layer(spanning, (2, 3)))
        with pytest.raises(GraphError, match="G002"):
            ported(one_layer(spanning, (2, 3)), dynamic_batch=True)


def test_embedding() -> None:
    w, b = random(5, 3), random(3)
    x = np.array([[0, 4, 2.0], [1, 1, 3]], np.float32)
    net = one_layer('type: "Embed" embed_param { input_dim: 5 num_output: 3 }', (2, 3))
    close(out(ported(net, {"l": [w, b]}), data=x), w[x.astype(int)] + b)


@pytest.mark.parametrize(
    ("axis", "count", "over"),
    [(1, 1, (3,)), (1, 2, (3, 4)), (1, -1, (3, 4, 5)), (-1, 1, (5,)), (0, 2, (2, 3)), (1, 0, ()), (2, -1, (4, 5))],
)
def test_scale_and_bias_lie_over_some_axes(axis: int, count: int, over: tuple[int, ...]) -> None:
    x, factor, addend = random(2, 3, 4, 5), random(*over), random(*over)
    first = axis % 4
    tail = (1,) * (4 - first - len(over)) if over else ()
    f, a = factor.reshape((*over, *tail)), addend.reshape((*over, *tail))
    said = f"axis: {axis} num_axes: {count}"
    scaled = one_layer(f'type: "Scale" scale_param {{ {said} bias_term: true }}', x.shape)
    close(out(ported(scaled, {"l": [factor, addend]}), data=x), x * f + a)
    shifted = one_layer(f'type: "Bias" bias_param {{ {said} }}', x.shape)
    close(out(ported(shifted, {"l": [addend]}), data=x), x + a)


@pytest.mark.parametrize(("shape", "axis"), [((2, 3), 0), ((3,), 1), ((4, 5), -2), ((), 0), ((2, 3, 4, 5), 0)])
def test_a_second_bottom_gives_the_factor(shape: tuple[int, ...], axis: int) -> None:
    x, y = random(2, 3, 4, 5), random(*shape)
    first = axis % 4
    laid = y.reshape(*shape, *[1] * (4 - first - len(shape))) if shape else y
    addend = random(*shape)
    net = one_layer(f'type: "Scale" scale_param {{ axis: {axis} bias_term: true }}', x.shape, y=shape)
    close(out(ported(net, {"l": [addend]}), data=x, y=y), x * laid + addend.reshape(laid.shape))
    net = one_layer(f'type: "Bias" bias_param {{ axis: {axis} }}', x.shape, y=shape)
    close(out(ported(net), data=x, y=y), x + laid)


def test_two_layers_may_share_a_blob_in_different_shapes() -> None:
    x, factor = random(2, 3, 4, 5), random(3)
    text = (
        'input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 } '
        'layer { name: "a" type: "Scale" bottom: "data" top: "a" param { name: "shared" } } '
        'layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { pool: AVE global_pooling: true } } '
        'layer { name: "f" type: "Flatten" bottom: "p" top: "f" } '
        'layer { name: "b" type: "Scale" bottom: "f" top: "b" param { name: "shared" } }'
    )
    net = ported(text, {"a": [factor]})
    close(out(net, data=x), (x * factor.reshape(3, 1, 1)).mean((2, 3)) * factor)
    assert "a.blob0" in net.model.graph.initializers


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ('type: "InnerProduct" inner_product_param { num_output: 0 }', "G010"),
        ('type: "InnerProduct" inner_product_param { num_output: 3 axis: 2 }', "G011"),
        ('type: "Embed" embed_param { num_output: 3 }', "G010"),
        ('type: "Scale" scale_param { num_axes: 3 }', "G015"),
        ('type: "Scale" scale_param { num_axes: -2 }', "G015"),
        ('type: "Bias" bias_param { axis: 3 }', "G011"),
    ],
)
def test_what_caffe_refuses_is_refused(layer: str, code: str) -> None:
    with pytest.raises(GraphError, match=code):
        ported(one_layer(layer, (2, 3)))


def test_a_second_bottom_that_does_not_fit_is_refused() -> None:
    with pytest.raises(GraphError, match="G017"):
        ported(one_layer('type: "Scale"', (2, 3, 4), y=(4,)))
    with pytest.raises(GraphError, match="G017"):
        ported(one_layer('type: "Bias"', (2, 3), y=(3, 4)))


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(GraphError, match="G023"):
        ported(one_layer('type: "InnerProduct" inner_product_param { num_output: 3 }', (2, 4)), {"l": [random(3, 5), random(3)]})
