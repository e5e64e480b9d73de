"""Correlation of FlowNet against its definition, and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_nets import one_layer, out, ported

from porter.errors import GraphError

F = np.float32


def correlated(a: np.ndarray, b: np.ndarray, window: int, reach: int, pad: int, step: int, apart: int, products: bool) -> np.ndarray:
    a, b = (np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad))) for x in (a, b))
    border = reach + window // 2
    height, width = (-(-(n - 2 * border) // step) for n in a.shape[2:])
    moves = [n * apart for n in range(-(reach // apart), reach // apart + 1)]
    result = np.zeros((len(a), len(moves) ** 2, height, width))
    for c, (dy, dx) in enumerate((y, x) for y in moves for x in moves):
        for y, x in np.ndindex(height, width):
            top, left = y * step + reach, x * step + reach
            one = a[:, :, top : top + window, left : left + window]
            two = b[:, :, top + dy : top + dy + window, left + dx : left + dx + window]
            result[:, c, y, x] = (one * two if products else np.abs(one - two)).mean((1, 2, 3))
    return result


@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
@pytest.mark.parametrize(
    ("window", "reach", "pad", "step", "apart"), [(1, 3, 3, 1, 1), (1, 4, 4, 1, 2), (3, 2, 3, 1, 1), (3, 4, 5, 2, 3), (1, 0, 0, 2, 1)]
)
def test_correlation(window: int, reach: int, pad: int, step: int, apart: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2, 5, 8, 9)).astype(F)
    said = f"kernel_size: {window} max_displacement: {reach} pad: {pad} stride_1: {step} stride_2: {apart} correlation_type: {kind}"
    text = one_layer(f'type: "Correlation" correlation_param {{ {said} }}', a.shape, other=b.shape)
    wanted = correlated(a, b, window, reach, pad, step, apart, kind == "MULTIPLY")
    for dynamic in (False, True):
        found = out(ported(text, dynamic_batch=dynamic), data=a, other=b)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_as_opencv(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 6, 8, 9)).astype(F)
    said = "kernel_size: 1 max_displacement: 4 pad: 4 stride_1: 1 stride_2: 2"
    text = one_layer(f'type: "Correlation" correlation_param {{ {said} }}', a.shape, other=b.shape)
    (tmp_path / "net.prototxt").write_text(text)
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"))
    net.setInput(a, "data")
    net.setInput(b, "other")
    np.testing.assert_allclose(out(ported(text), data=a, other=b), net.forward("l"), atol=1e-6)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("kernel_size: 2 max_displacement: 1", "odd kernel_size"),
        ("kernel_size: 1", "max_displacement"),
        ("kernel_size: 1 max_displacement: 9", "do not fit"),
        ("kernel_size: 1 max_displacement: 1 pad: 4294967295", "more values than Caffe's can have"),
        ("kernel_size: 1 max_displacement: 1 do_abs: true", "do_abs"),
    ],
)
def test_correlation_refuses(said: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ported(one_layer(f'type: "Correlation" correlation_param {{ {said} }}', [1, 2, 8, 8], other=[1, 2, 8, 8]))
    with pytest.raises(GraphError):
        ported(one_layer(f'type: "Correlation" correlation_param {{ {said} }}', [1, 2, 8, 8]))
