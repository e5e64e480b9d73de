"""The maps of the examples: the mapped networks compute what the networks did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray

import porter

DIGITS = ROOT / "examples" / "digits"

Array = NDArray[np.float64]


def _pooled(x: Array) -> Array:
    """Maxima of 2×2, channels last."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def _convolved(x: Array, kernel: Array, bias: Array) -> Array:
    """A 3×3 convolution, padded by 1, channels last: kernels H×W×I×O."""
    h, w = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return bias + sum(np.einsum("nhwi,io->nhwo", padded[:, dy : dy + h, dx : dx + w], kernel[dy, dx]) for dy in range(3) for dx in range(3))


def test_digits_channels_last_computes_what_digits_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    porter.convert(DIGITS / "digits.caffemodel", tmp_path / "digits.pth")
    state = torch.load(tmp_path / "digits.pth", weights_only=True)
    nn = torch.nn
    layers = {
        "conv1": nn.Conv2d(1, 16, 3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(16),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(16, 32, 3, padding=1),
        "prelu2": nn.PReLU(32),
        "pool2": nn.MaxPool2d(2),
        "flat": nn.Flatten(),
        "fc1": nn.Linear(128, 64),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(64, 10),
    }
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    net.load_state_dict(state, strict=True)
    net.eval().double()

    with porter.open(DIGITS / "digits.caffemodel") as store, porter.apply_map(str(DIGITS / "channels-last.pmap"), store) as mapped:
        w = {name: tensor.numpy().astype("f8") for name, tensor in mapped.items()}
    images = np.random.default_rng(0).uniform(0, 1, (5, 1, 8, 8))
    x = images.transpose(0, 2, 3, 1)
    x = _pooled(np.maximum(_convolved(x, w["conv1/kernel"], w["conv1/bias"]), 0))
    x = _convolved(x, w["conv2/kernel"], w["conv2/bias"])
    x = _pooled(np.where(x > 0, x, x * w["prelu2/alpha"])).reshape(5, -1)
    x = np.maximum(x @ w["fc1/kernel"] + w["fc1/bias"], 0) @ w["fc2/kernel"] + w["fc2/bias"]
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    assert np.abs(x - expected).max() <= 1e-5 * np.abs(expected).max()
