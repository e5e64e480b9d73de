"""Convolutions of Caffe nets, against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_nets import far_from_caffe, kinds, one_layer, out, ported
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from porter.errors import GraphError

RNG = np.random.default_rng(4)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def close(actual: np.ndarray, expected: torch.Tensor | np.ndarray) -> None:
    wanted = np.asarray(expected)
    assert actual.shape == wanted.shape
    np.testing.assert_allclose(actual, wanted, atol=1e-5 * max(1.0, float(np.abs(wanted).max())), rtol=0)


def test_recorded(shared: Path) -> None:
    assert not far_from_caffe(shared, "Convolution_", "Deconvolution_", "DepthwiseConvolution_", "Im2col_")


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(0, 2)] * 2),
    st.integers(1, 2),
    st.sampled_from([(4, 6, 1), (4, 6, 2), (3, 3, 3)]),
    st.booleans(),
    st.booleans(),
)
def test_two_spatial_axes(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilation: int,
    sizes: tuple[int, int, int],
    bias: bool,
    transposed: bool,
) -> None:
    channels, outputs, group = sizes
    x = random(2, channels, 9, 8)
    first, second = (channels, outputs) if transposed else (outputs, channels)
    weights = [random(first, second // group, *kernel), random(outputs)][: 2 if bias else 1]
    text = (
        f"num_output: {outputs} group: {group} bias_term: {str(bias).lower()} dilation: {dilation} "
        f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} "
        f"stride_h: {stride[0]} stride_w: {stride[1]} pad: {pad[0]} pad: {pad[1]}"
    )
    kind = "Deconvolution" if transposed else "Convolution"
    net = one_layer(f'type: "{kind}" convolution_param {{ {text} }}', x.shape)
    sides = zip(x.shape[2:], kernel, stride, pad, strict=True)
    if transposed and any(s * (n - 1) + dilation * (k - 1) + 1 - 2 * p < 1 for n, k, s, p in sides):
        return
    actual = out(ported(net, {"l": weights}), data=x)
    tensors = [torch.from_numpy(w) for w in weights]
    function = F.conv_transpose2d if transposed else F.conv2d
    close(actual, function(torch.from_numpy(x), *tensors, stride=stride, padding=pad, dilation=dilation, groups=group))


def test_other_numbers_of_spatial_axes() -> None:
    x, w, b = random(2, 3, 7), random(4, 3, 3), random(4)
    text = 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }'
    close(out(ported(one_layer(text, x.shape), {"l": [w, b]}), data=x), F.conv1d(*map(torch.from_numpy, (x, w, b)), 2, 1))
    x, w = random(1, 2, 4, 5, 6), random(2, 3, 2, 3, 2)
    text = 'type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 kernel_size: 3 kernel_size: 2 bias_term: false }'
    close(out(ported(one_layer(text, x.shape), {"l": [w]}), data=x), F.conv_transpose3d(torch.from_numpy(x), torch.from_numpy(w)))


def test_no_spatial_axis_is_a_product() -> None:
    x, w, b = random(5, 3), random(4, 3), random(4)
    text = 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 }'
    close(out(ported(one_layer(text, x.shape), {"l": [w, b]}), data=x), x @ w.T + b)


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3, 4, 6, 5)), (-3, (2, 3, 4, 6, 5)), (0, (4, 6, 5))])
def test_axes_before_the_channels_are_one_batch(axis: int, shape: tuple[int, ...]) -> None:
    x, w, b = random(*shape), random(2, 4, 3, 3), random(2)
    net = one_layer(f'type: "Convolution" convolution_param {{ num_output: 2 kernel_size: 3 axis: {axis} }}', shape)
    expected = F.conv2d(torch.from_numpy(x).reshape(-1, *shape[-3:]), torch.from_numpy(w), torch.from_numpy(b))
    close(out(ported(net, {"l": [w, b]}), data=x), expected.reshape(*shape[:-3], *expected.shape[1:]))


def test_an_open_batch_stays_open() -> None:
    w, b = random(2, 4, 3, 3), random(2)
    for axis, shape in ((1, (1, 4, 6, 5)), (2, (1, 3, 4, 6, 5))):
        net = one_layer(f'type: "Convolution" convolution_param {{ num_output: 2 kernel_size: 3 axis: {axis} }}', shape)
        x = random(5, *shape[1:])
        expected = F.conv2d(torch.from_numpy(x).reshape(-1, *shape[-3:]), torch.from_numpy(w), torch.from_numpy(b))
        close(out(ported(net, {"l": [w, b]}, dynamic_batch=True), data=x), expected.reshape(5, *shape[1:-3], *expected.shape[1:]))


def test_a_window_that_does_not_fit_is_padded_as_division_towards_zero_makes_it() -> None:
    x, w = random(1, 1, 4, 2), random(1, 1, 3, 3)
    net = one_layer('type: "Convolution" convolution_param { num_output: 1 kernel_size: 3 stride: 2 bias_term: false }', x.shape)
    close(out(ported(net, {"l": [w]}), data=x), F.conv2d(F.pad(torch.from_numpy(x), (0, 1)), torch.from_numpy(w), stride=2))
    with pytest.raises(GraphError, match="G016"):
        ported(one_layer('type: "Convolution" convolution_param { num_output: 1 kernel_size: 3 bias_term: false }', x.shape), {"l": [w]})


def test_depthwise_takes_its_groups_from_the_bottom() -> None:
    x, w = random(1, 4, 6, 6), random(4, 1, 3, 3)
    text = 'type: "ConvolutionDepthwise" convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false }'
    close(
        out(ported(one_layer(text, x.shape), {"l": [w]}), data=x), F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1, groups=4)
    )


def test_im2col_unfolds() -> None:
    x = random(2, 3, 6, 7)
    text = 'type: "Im2col" convolution_param { kernel_h: 2 kernel_w: 3 stride: 2 pad: 1 }'
    expected = F.unfold(torch.from_numpy(x), (2, 3), padding=1, stride=2).reshape(2, 18, 4, 4)
    assert np.array_equal(out(ported(one_layer(text, x.shape)), data=x), expected.numpy())


def test_windows_too_large_to_unfold_are_refused() -> None:
    with pytest.raises(GraphError, match="G018"):
        ported(one_layer('type: "Im2col" convolution_param { kernel_size: 5000 pad: 5000 }', (1, 1, 5, 5)))


def test_several_bottoms_share_weights() -> None:
    x, y, w = random(1, 2, 5, 5), random(1, 2, 5, 5), random(3, 2, 3, 3)
    text = (
        'input: "a" input: "b" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 } input_shape { dim: 1 dim: 2 dim: 5 dim: 5 } '
        'layer { name: "l" type: "Convolution" bottom: "a" bottom: "b" top: "c" top: "d" '
        "convolution_param { num_output: 3 kernel_size: 3 bias_term: false } }"
    )
    net = ported(text, {"l": [w]})
    assert kinds(net) == ["Conv", "Conv"]
    assert [v.name for v in net.model.graph.outputs] == ["c", "d"]
    assert list(net.model.graph.initializers) == ["l.blob0"]
    close(out(net, a=x, b=y), F.conv2d(torch.from_numpy(x), torch.from_numpy(w)))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("num_output: 0 kernel_size: 1", "G010"),
        ("num_output: 4 kernel_size: 0", "G010"),
        ("num_output: 4", "G015"),
        ("num_output: 4 kernel_size: 1 stride: 0", "G010"),
        ("num_output: 4 kernel_size: 1 pad: -1", "G010"),
        ("num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3", "G015"),
        ("num_output: 4 kernel_h: 3", "G010"),
        ("num_output: 4 kernel_size: 1 kernel_size: 1 kernel_size: 1", "G015"),
        ("num_output: 4 kernel_size: 1 group: 3", "G015"),
        ("num_output: 4 kernel_size: 1 group: 0", "G015"),
        ("num_output: 4 kernel_size: 9", "G016"),
        ("num_output: 4 kernel_size: 1 axis: 4", "G011"),
        ("num_output: 4 kernel_size: 1 sparsity: 2", "G013"),
        ("num_output: 4 kernel_size: 1.5", "G010"),
    ],
)
def test_what_caffe_refuses_is_refused(text: str, code: str) -> None:
    for kind in ("Convolution", "Deconvolution", "DepthwiseConvolution"):
        if kind == "Deconvolution" and code == "G016":
            continue
        with pytest.raises(GraphError, match=code):
            ported(one_layer(f'type: "{kind}" convolution_param {{ {text} }}', (1, 2, 5, 5)))
