"""Pooling of Caffe nets, against Caffe's rules written out window by window."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from caffe_runs import run
from graph_nets import far_from_caffe, kinds, one_layer, out, ported
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import GraphError

LOWEST = -np.finfo(np.float32).max


def windows(size: int, kernel: int, stride: int, pad: int, padded: bool, ceil: bool) -> int:
    exact = (size + 2 * pad - kernel) / stride
    count = (math.ceil(exact) if ceil else math.floor(exact)) + 1
    return count - (padded and (count - 1) * stride >= size + pad)


def pooled(x: np.ndarray, method: str, kernel: list[int], stride: list[int], pad: list[int], ceil: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask as Caffe's loops make them, for one plane at a time."""
    size = x.shape[2:]
    shape = [windows(*a, any(pad), ceil) for a in zip(size, kernel, stride, pad, strict=True)]
    values, mask = np.empty((*x.shape[:2], *shape)), np.full((*x.shape[:2], *shape), -1.0)
    for at in np.ndindex(*values.shape):
        starts = [i * s - p for i, s, p in zip(at[2:], stride, pad, strict=True)]
        cut = [min(b + k, n + p) for b, k, n, p in zip(starts, kernel, size, pad, strict=True)]
        count = math.prod(e - b for b, e in zip(starts, cut, strict=True))
        h, w = (range(max(b, 0), min(e, n)) for b, e, n in zip(starts, cut, size, strict=True))
        cells = {(i, j): float(x[at[0], at[1], i, j]) for i in h for j in w}
        if method == "MAX":
            values[at] = max(cells.values(), default=LOWEST)
            if cells:
                first = max(cells, key=lambda c: (cells[c], -c[0], -c[1]))
                mask[at] = first[0] * size[1] + first[1]
        elif method == "AVE":
            values[at] = sum(cells.values()) / count if count else math.nan
        else:
            total = sum(cells.values())
            values[at] = sum(c * c for c in cells.values()) / total if total > 0 else 0.0
    return values, mask


def test_recorded(shared: Path) -> None:
    assert not far_from_caffe(shared, "Pooling_", "SPP_")


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 5)] * 2),
    st.tuples(*[st.integers(0, 3)] * 2),
    st.booleans(),
    st.sampled_from(["MAX", "AVE", "STOCHASTIC"]),
    st.booleans(),
)
def test_any_windows(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil: bool,
    method: str,
    mask: bool,
) -> None:
    if method == "STOCHASTIC":
        pad = (0, 0)
    mask = mask and method == "MAX"
    x = np.random.default_rng(sum(size)).integers(-9, 9, (2, 2, *size)).astype(np.float32)
    counts = [windows(*a, any(pad), ceil) for a in zip(size, kernel, stride, pad, strict=True)]
    text = (
        f"pool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
        f"pad_h: {pad[0]} pad_w: {pad[1]} {'' if ceil else 'round_mode: FLOOR'}"
    )
    top = 'top: "mask"' if mask else ""
    net = one_layer(f'{top} type: "Pooling" pooling_param {{ {text} }}', x.shape)
    if min(counts) < 1 or (any(pad) and any(p >= k for p, k in zip(pad, kernel, strict=True))):
        with pytest.raises(GraphError):
            ported(net)
        return
    imported = ported(net)
    made = run(imported, {"data": x})
    tops = {top: made[name] for top, name in imported.layers[-1].tops.items()}
    values, places = pooled(x, method, list(kernel), list(stride), list(pad), ceil)
    np.testing.assert_allclose(tops["out"], values.astype(np.float32), rtol=1e-5, atol=1e-5)
    if mask:
        assert np.array_equal(tops["mask"], places)


def test_a_window_that_begins_behind_the_bottom_divides_by_less_than_nothing() -> None:
    """Sizes of empty windows as Caffe counts them: 0 x 1 gives no number, -2 x 1 gives zero, 0 x -2 no number."""
    x = np.ones((1, 1, 6, 6), np.float32)
    for kernel, stride in (((2, 1), (3, 4)), ((1, 2), (4, 3)), ((1, 1), (4, 4)), ((2, 2), (3, 3))):
        text = f"pool: AVE kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}"
        actual = out(ported(one_layer(f'type: "Pooling" pooling_param {{ {text} }}', x.shape)), data=x)
        assert np.array_equal(actual, pooled(x, "AVE", list(kernel), list(stride), [0, 0], True)[0], equal_nan=True)


def test_global_pooling_is_global_in_onnx() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    for method, operator in (("MAX", "GlobalMaxPool"), ("AVE", "GlobalAveragePool")):
        net = ported(one_layer(f'type: "Pooling" pooling_param {{ pool: {method} global_pooling: true }}', x.shape))
        assert kinds(net) == [operator]
        np.testing.assert_allclose(out(net, data=x), pooled(x, method, [5, 4], [1, 1], [0, 0], True)[0], rtol=1e-5, atol=1e-6)


def test_ceil_mode_of_forks() -> None:
    x = np.zeros((1, 1, 6, 6), np.float32)
    for said, size in (("ceil_mode: true", 3), ("ceil_mode: false", 2), ("", 3), ("round_mode: FLOOR", 2)):
        text = f'type: "Pooling" pooling_param {{ kernel_size: 3 stride: 2 {said} }}'
        assert out(ported(one_layer(text, x.shape)), data=x).shape == (1, 1, size, size)


def test_a_pyramid() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 7)).astype(np.float32)
    parts = []
    for bins in (1, 2, 4):
        kernel = [-(-n // bins) for n in x.shape[2:]]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, x.shape[2:], strict=True)]
        parts.append(pooled(x, "AVE", kernel, kernel, pad, True)[0].reshape(2, -1))
    net = ported(one_layer('type: "SPP" spp_param { pyramid_height: 3 pool: AVE }', x.shape), dynamic_batch=True)
    np.testing.assert_allclose(out(net, data=x), np.concatenate(parts, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "G010"),
        ("kernel_size: 0", "G010"),
        ("kernel_size: 2 stride: 0", "G010"),
        ("kernel_size: 2 pad: 2", "G015"),
        ("kernel_h: 2", "G015"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "G015"),
        ("kernel_size: 9", "G016"),
        ("global_pooling: true kernel_size: 2", "G015"),
        ("global_pooling: true stride: 2", "G015"),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", "G015"),
        ("pool: MEDIAN kernel_size: 2", "G010"),
        ("kernel_size: 2 ceil_mode: false round_mode: CEIL", "G015"),
        ("kernel_size: 2 torch_pooling: true", "G013"),
    ],
)
def test_what_caffe_refuses_is_refused(text: str, code: str) -> None:
    with pytest.raises(GraphError, match=code):
        ported(one_layer(f'type: "Pooling" pooling_param {{ {text} }}', (1, 2, 5, 5)))


def test_only_four_axes_and_only_a_maximum_has_a_mask() -> None:
    with pytest.raises(GraphError, match="G017"):
        ported(one_layer('type: "Pooling" pooling_param { kernel_size: 2 }', (2, 5, 5)))
    with pytest.raises(GraphError, match="G014"):
        ported(one_layer('top: "mask" type: "Pooling" pooling_param { pool: AVE kernel_size: 2 }', (1, 2, 5, 5)))
