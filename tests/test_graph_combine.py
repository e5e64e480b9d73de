"""Layers that combine or reduce values, and recurrent ones, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from caffe_runs import run
from graph_nets import kinds, one_layer, out, ported
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import GraphError


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", lambda a, b, c: a + b + c),
        ("operation: PROD", lambda a, b, c: a * b * c),
        ("operation: MAX", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
        ("operation: 2", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
        ("coeff: 1 coeff: -1 coeff: 0.5", lambda a, b, c: a - b + np.float32(0.5) * c),
        ("coeff: -1 coeff: 2 coeff: 1", lambda a, b, c: -a + 2 * b + c),
    ],
)
def test_eltwise(text: str, expected: object) -> None:
    a, b, c = values(2, 3, 4), values(2, 3, 4) + 1, values(2, 3, 4) * 2
    net = ported(one_layer(f'type: "Eltwise" eltwise_param {{ {text} }}', a.shape, b=b.shape, c=c.shape))
    np.testing.assert_allclose(out(net, data=a, b=b, c=c), expected(a, b, c), rtol=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["coeff: 1", "operation: PROD coeff: 1 coeff: 1", "operation: MIN", "operation: 7", 'coeff: "a" coeff: 2'])
def test_eltwise_refuses(text: str) -> None:
    with pytest.raises(GraphError, match="G010"):
        ported(one_layer(f'type: "Eltwise" eltwise_param {{ {text} }}', (2, 3), b=(2, 3)))


def test_eltwise_does_not_broadcast() -> None:
    with pytest.raises(GraphError, match="G001"):
        ported(one_layer('type: "Eltwise"', (2, 3, 4), b=(2, 3, 1)))


def test_axpy() -> None:
    a, x, y = values(2, 3, 1, 1), values(2, 3, 4, 5), values(2, 3, 4, 5) + 1
    net = ported(one_layer('type: "Axpy"', a.shape, x=x.shape, y=y.shape))
    np.testing.assert_allclose(out(net, data=a, x=x, y=y), a * x + y, rtol=1e-6)


def caffe_argmax(x: np.ndarray, axis: int | None, top_k: int, max_val: bool) -> np.ndarray:
    """Pairs of value and place, sorted from the largest on: of equal values the one with the larger place comes first."""
    rows = x.reshape(x.shape[0], -1) if axis is None else np.moveaxis(x, axis, -1)
    order = np.lexsort((np.broadcast_to(np.arange(rows.shape[-1]), rows.shape), rows))[..., ::-1][..., :top_k]
    largest = np.take_along_axis(rows, order, -1)
    if axis is not None:
        return np.moveaxis(largest if max_val else order.astype(np.float32), -1, axis)
    ones = [1] * (max(x.ndim, 3) - 3)
    parts = [order.astype(np.float32), largest] if max_val else [order.astype(np.float32)]
    return np.stack(parts, 1).reshape(x.shape[0], len(parts), top_k, *ones)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data(), st.booleans())
def test_argmax_is_caffes_with_ties(shape: list[int], data: st.DataObject, max_val: bool) -> None:
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    size = int(np.prod(shape[1:])) if axis is None else shape[axis]
    top_k = data.draw(st.integers(1, size))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape).astype(np.float32)
    text = f"top_k: {top_k} {'' if axis is None else f'axis: {axis}'} {'out_max_val: true' if max_val else ''}"
    net = ported(one_layer(f'type: "ArgMax" argmax_param {{ {text} }}', shape))
    np.testing.assert_array_equal(out(net, data=x), caffe_argmax(x, axis if axis is None else axis % len(shape), top_k, max_val))


def test_argmax_refuses_too_many() -> None:
    with pytest.raises(GraphError, match="G010"):
        ported(one_layer('type: "ArgMax" argmax_param { top_k: 4 axis: 1 }', (2, 3)))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize(("operation", "number"), [("SUM", 1), ("ASUM", 2), ("SUMSQ", 3), ("MEAN", 4)])
def test_reductions(operation: str, number: int, axis: int) -> None:
    x = values(2, 3, 4)
    rows = x.astype(np.float64).reshape(*x.shape[: axis % 3], -1)
    total = {"SUM": rows.sum, "MEAN": rows.mean, "ASUM": np.abs(rows).sum, "SUMSQ": np.square(rows).sum}[operation](-1) * 0.5
    for said in (operation, number):
        net = ported(one_layer(f'type: "Reduction" reduction_param {{ operation: {said} axis: {axis} coeff: 0.5 }}', x.shape))
        np.testing.assert_allclose(out(net, data=x), total, rtol=1e-5, atol=1e-6)


def test_batch_reindex_picks_items() -> None:
    x = values(4, 2, 3)
    net = ported(one_layer('type: "BatchReindex"', x.shape, index=(3,)))
    np.testing.assert_array_equal(out(net, data=x, index=np.float32([3, 0, 3])), x[[3, 0, 3]])


def test_filter_keeps_chosen_items() -> None:
    text = """
    input: "data" input_shape { dim: 4 dim: 2 }
    input: "other" input_shape { dim: 4 dim: 3 dim: 2 }
    input: "chosen" input_shape { dim: 4 dim: 1 }
    layer { name: "l" type: "Filter" bottom: "data" bottom: "other" bottom: "chosen" top: "a" top: "b" }
    layer { name: "f" type: "Flatten" bottom: "b" top: "out" }"""
    net = ported(text)
    x, y, chosen = values(4, 2), values(4, 3, 2), np.float32([[0], [1], [0.5], [0]])
    found = run(net, {"data": x, "other": y, "chosen": chosen})
    np.testing.assert_array_equal(found["a"], x[1:3])
    np.testing.assert_array_equal(found["out"], y[1:3].reshape(2, 6))
    assert [str(n) for n in net.model.graph.outputs[0].shape or ()] == ["l_items", "2"]


def test_dropout() -> None:
    x = values(2, 3)
    assert kinds(ported(one_layer('type: "Dropout" dropout_param { dropout_ratio: 0.7 }', x.shape))) == ["Identity"]
    net = ported(one_layer('type: "Dropout" dropout_param { dropout_ratio: 0.75 scale_train: false }', x.shape))
    np.testing.assert_allclose(out(net, data=x), x * 0.25, rtol=1e-6)
    with pytest.raises(GraphError, match="random"):
        ported(one_layer('type: "Dropout" dropout_param { sample_weights_test: true }', x.shape))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("steps", [1, 3])
def test_recurrent_layers(kind: str, exposed: bool, static: bool, steps: int) -> None:
    streams, size, units = 2, 5, 3
    gates = 4 if kind == "LSTM" else 1
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {"cont": (steps, streams)}
    shapes |= {"fixed": (streams, 4)} if static else {}
    states = ["h", "c"][: 2 if kind == "LSTM" else 1]
    shapes |= {f"{s}0": (1, streams, units) for s in states} if exposed else {}
    blobs = [rng.standard_normal(s) for s in ((gates * units, size), (gates * units,))]
    blobs += [rng.standard_normal((gates * units, 4))] if static else []
    blobs += [rng.standard_normal((gates * units, units))]
    blobs += [] if kind == "LSTM" else [rng.standard_normal((units, units)), rng.standard_normal(units)]
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in {"data": (steps, streams, size), **shapes}.items()}
    feeds["cont"] = (rng.random((steps, streams)) > 0.4).astype(np.float32)

    h = feeds["h0"][0].astype(np.float64) if exposed else np.zeros((streams, units))
    c = feeds["c0"][0].astype(np.float64) if exposed and kind == "LSTM" else np.zeros((streams, units))
    expected = []
    for t in range(steps):
        cont = feeds["cont"][t][:, None]
        gate = feeds["data"][t] @ blobs[0].T + blobs[1] + (h * cont) @ blobs[3 if static else 2].T
        gate = gate + feeds["fixed"] @ blobs[2].T if static else gate
        if kind == "LSTM":
            i, f, o, g = np.split(gate, 4, axis=1)
            c = cont * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            expected.append(h)
        else:
            h = np.tanh(gate)
            expected.append(np.tanh(h @ blobs[-2].T + blobs[-1]))

    tops = 'top: "h1"' + (' top: "c1"' if kind == "LSTM" else "") if exposed else ""
    param = f"recurrent_param {{ num_output: {units} expose_hidden: {str(exposed).lower()} }}"
    text = one_layer(f'type: "{kind}" {param}', (steps, streams, size), **shapes).replace('top: "out"', f'top: "out" {tops}')
    net = ported(text, {"l": blobs})
    found = run(net, feeds)
    np.testing.assert_allclose(found["out"], np.stack(expected), rtol=1e-4, atol=1e-5)
    if exposed:
        np.testing.assert_allclose(found["h1"][0], h, rtol=1e-4, atol=1e-5)
    else:
        assert "the state before the first step is 0" in net.assumed[0]


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        ('type: "LSTM"', {"cont": (3, 2)}),
        ('type: "LSTM" recurrent_param { num_output: 4 }', {"cont": (2, 3)}),
        ('type: "LSTM" recurrent_param { num_output: 4 }', {"cont": (3, 2), "fixed": (3, 4)}),
        ('type: "LSTM" recurrent_param { num_output: 4 expose_hidden: true }', {"cont": (3, 2), "h": (1, 2, 4), "c": (2, 4)}),
        ('type: "RNN" recurrent_param { num_output: 4 }', {}),
    ],
)
def test_recurrent_layers_refuse(layer: str, inputs: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(GraphError, match="layer 'l'"):
        ported(one_layer(layer, (3, 2, 5), **inputs))
