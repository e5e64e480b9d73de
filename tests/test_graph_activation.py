"""Layers that change each element by itself, against their formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graph_nets import far_from_caffe, kinds, one_layer, out, ported

from porter.errors import GraphError

X = np.concatenate([np.linspace(-9, 9, 77), [0.0, -0.0, 1e-30, -1e-30, 30, -30, 80]]).astype(np.float32).reshape(1, 3, 4, 7)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'type: "ReLU"': lambda x: np.maximum(x, 0),
    'type: "ReLU" relu_param { negative_slope: 0.1 }': lambda x: np.where(x > 0, x, 0.1 * x),
    'type: "ReLU" relu_param { negative_slope: -2 engine: CAFFE }': lambda x: np.where(x > 0, x, -2 * x),
    'type: "ReLU6"': lambda x: np.clip(x, 0, 6),
    'type: "ReLU6" relu6_param { negative_slope: 0.5 }': lambda x: np.minimum(np.where(x > 0, x, 0.5 * x), 6),
    'type: "Sigmoid"': sigmoid,
    'type: "TanH"': np.tanh,
    'type: "ELU" elu_param { alpha: 0.3 }': lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))),
    'type: "AbsVal"': np.abs,
    'type: "BNLL"': softplus,
    'type: "Swish" swish_param { beta: 1.7 }': lambda x: x * sigmoid(1.7 * x),
    'type: "Mish"': lambda x: x * np.tanh(softplus(x)),
    'type: "HardSwish"': lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    'type: "Clip" clip_param { min: -1 max: 2 }': lambda x: np.clip(x, -1, 2),
    'type: "Clip" clip_param { min: 3 max: 2 }': lambda x: np.full_like(x, 3),
    'type: "Threshold" threshold_param { threshold: 0.5 }': lambda x: (x > 0.5).astype(x.dtype),
    'type: "Power"': lambda x: x,
    'type: "Power" power_param { power: 3 scale: 0.5 shift: -1 }': lambda x: (0.5 * x - 1) ** 3,
    'type: "Power" power_param { power: 0 scale: 3 }': np.ones_like,
    'type: "Power" power_param { power: 2 scale: 0 shift: -3 }': lambda x: np.full_like(x, 9),
    'type: "Power" power_param { power: -1 scale: 0 }': lambda x: np.full_like(x, np.inf),
    'type: "Power" power_param { power: 0.5 scale: 0 shift: -1 }': lambda x: np.full_like(x, np.nan),
    'type: "Exp" exp_param { base: 2 scale: 0.7 shift: -1.5 }': lambda x: 2 ** (0.7 * x - 1.5),
    'type: "Exp" exp_param { scale: 0.5 }': lambda x: np.exp(0.5 * x),
    'type: "Log" log_param { base: 10 scale: 0.01 shift: 4 }': lambda x: np.log10(0.01 * x + 4),
    'type: "Softmax"': lambda x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True),
    'type: "Softmax" softmax_param { axis: -1 }': lambda x: (
        np.exp(x - x.max(3, keepdims=True)) / np.exp(x - x.max(3, keepdims=True)).sum(3, keepdims=True)
    ),
}


def test_recorded(shared: Path) -> None:
    kinds = ["AbsVal", "BNLL", "Clip", "ELU", "Exp", "Log_", "PReLU", "Power", "ReLU", "Sigmoid", "Softmax", "Swish", "TanH", "Threshold"]
    assert not far_from_caffe(shared, *kinds)


@pytest.mark.parametrize("layer", FORMULAS)
@pytest.mark.parametrize("batch", [1, 4])
def test_formulas(layer: str, batch: int) -> None:
    """With the batch open and another one fed."""
    with np.errstate(all="ignore"):
        expected = FORMULAS[layer](X.astype(np.float64))
    actual = out(ported(one_layer(layer, X.shape), dynamic_batch=True), data=np.repeat(X, batch, 0))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, np.repeat(expected, batch, 0), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_prelu(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    slope = np.array([0.1, -0.5, 2], np.float32)
    each = np.where(x > 0, x, x * slope.reshape(3, *[1] * (len(shape) - 2)))
    assert np.array_equal(out(ported(one_layer('type: "PReLU"', shape), {"l": [slope]}), data=x), each)
    shared = ported(one_layer('type: "PReLU" prelu_param { channel_shared: true }', shape), {"l": [np.float32(0.3)]})
    assert np.array_equal(out(shared, data=x), np.where(x > 0, x, x * np.float32(0.3)))


def test_simplest_forms() -> None:
    assert kinds(ported(one_layer('type: "ReLU6"', X.shape))) == ["Clip"]
    assert kinds(ported(one_layer('type: "Power" power_param { shift: 1 }', X.shape))) == ["Add"]
    assert kinds(ported(one_layer('type: "Exp"', X.shape))) == ["Exp"]


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ('type: "Clip" clip_param { min: 1 }', "G010"),
        ('type: "Exp" exp_param { base: 0 }', "G010"),
        ('type: "Log" log_param { base: 1 }', "G010"),
        ('type: "Log" log_param { base: -2 }', "G010"),
        ('type: "Softmax" softmax_param { axis: 4 }', "G011"),
        ('type: "Sigmoid" sigmoid_param { steepness: 2 }', "G013"),
        ('type: "ReLU" relu_param { negative_slope: STEEP }', "G010"),
    ],
)
def test_what_cannot_be_honoured_is_refused(layer: str, code: str) -> None:
    with pytest.raises(GraphError, match=code):
        ported(one_layer(layer, X.shape))
