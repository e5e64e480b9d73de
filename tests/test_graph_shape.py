"""Layers that move values about, against numpy and torch."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from caffe_runs import run
from graph_nets import kinds, one_layer, out, ported
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import GraphError, PorterError


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def caffe_reshape(shape: list[int], dims: list[int], axis: int, num_axes: int) -> list[int] | None:
    """The shape that Caffe documents for a Reshape; None where it refuses one."""
    start = axis if axis >= 0 else len(shape) + axis + 1
    end = len(shape) if num_axes == -1 else start + num_axes
    if not 0 <= start <= end <= len(shape) or dims.count(-1) > 1:
        return None
    middle = []
    for i, d in enumerate(dims):
        if d == 0 and start + i >= len(shape):
            return None
        middle.append(shape[start + i] if d == 0 else d)
    new = shape[:start] + middle + shape[end:]
    known = math.prod(n for n in new if n != -1)
    if -1 in new:
        if math.prod(shape) % known:
            return None
        new[new.index(-1)] = math.prod(shape) // known
    return new if math.prod(new) == math.prod(shape) else None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.sampled_from([-1, 0, 1, 2, 3, 4, 6]), max_size=4),
    st.integers(-6, 5),
    st.integers(-1, 4),
)
def test_reshape_is_caffes(shape: list[int], dims: list[int], axis: int, num_axes: int) -> None:
    text = f"reshape_param {{ shape {{ {' '.join(f'dim: {d}' for d in dims)} }} axis: {axis} num_axes: {num_axes} }}"
    expected = caffe_reshape(shape, dims, axis, num_axes)
    if expected is None:
        with pytest.raises(GraphError):
            ported(one_layer(f'type: "Reshape" {text}', shape))
        return
    net = ported(one_layer(f'type: "Reshape" {text}', shape))
    x = values(*shape)
    np.testing.assert_array_equal(out(net, data=x), x.reshape(expected))


@pytest.mark.parametrize(
    ("dims", "symbol"),
    [("dim: 0 dim: -1", "N"), ("dim: -1 dim: 2", "6*N"), ("dim: 1 dim: -1 dim: 4", "3*N"), ("dim: 0 dim: 2 dim: -1", "N")],
)
def test_an_open_batch_goes_through_reshapes(dims: str, symbol: str) -> None:
    net = ported(one_layer(f'type: "Reshape" reshape_param {{ shape {{ {dims} }} }}', (2, 3, 4)), dynamic_batch=True)
    assert symbol in [str(n) for n in net.model.graph.outputs[0].shape or ()]
    for batch in (1, 2, 5):
        x = values(batch, 3, 4)
        assert out(net, data=x).size == x.size


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Reshape" reshape_param { shape { dim: 2 dim: 12 } }',
        'type: "Slice" slice_param { axis: 0 } top: "b"',
        'type: "CropCenter" crop_center_param { crop_size: 1 crop_size: 0 crop_size: 0 }',
    ],
)
def test_what_needs_the_size_of_the_batch_is_refused_with_an_open_one(layer: str) -> None:
    ported(one_layer(layer, (4, 3, 2) if "Reshape" not in layer else (2, 3, 4)))
    with pytest.raises(GraphError, match="G002"):
        ported(one_layer(layer, (4, 3, 2) if "Reshape" not in layer else (2, 3, 4)), dynamic_batch=True)


def test_flatten_merges_axes() -> None:
    x = values(2, 3, 4, 5)
    for text, shape in (
        ("", (2, 60)),
        ("axis: 2", (2, 3, 20)),
        ("axis: 0 end_axis: 1", (6, 4, 5)),
        ("axis: -2", (2, 3, 20)),
        ("end_axis: 1", x.shape),
    ):
        net = ported(one_layer(f'type: "Flatten" flatten_param {{ {text} }}', x.shape))
        np.testing.assert_array_equal(out(net, data=x), x.reshape(shape))
    with pytest.raises(GraphError, match="G011"):
        ported(one_layer('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', x.shape))


@given(st.permutations(range(4)), st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_permute_appends_what_is_not_named(order: list[int], count: int) -> None:
    x = values(2, 3, 4, 5)
    said = order[:count]
    text = " ".join(f"order: {n}" for n in said)
    net = ported(one_layer(f'type: "Permute" permute_param {{ {text} }}', x.shape))
    np.testing.assert_array_equal(out(net, data=x), x.transpose(said + sorted(set(range(4)) - set(said))))


def test_permute_names_each_axis_once() -> None:
    with pytest.raises(GraphError, match="G011"):
        ported(one_layer('type: "Permute" permute_param { order: 1 order: 1 }', (2, 3)))


def test_slices_and_joins_are_inverse() -> None:
    text = """
    input: "data" input_shape { dim: 2 dim: 7 dim: 3 }
    layer { name: "s" type: "Slice" bottom: "data" top: "a" top: "b" top: "c" slice_param { slice_point: 1 slice_point: 5 } }
    layer { name: "j" type: "Concat" bottom: "a" bottom: "b" bottom: "c" top: "out" }"""
    net = ported(text)
    x = values(2, 7, 3)
    np.testing.assert_array_equal(out(net, data=x), x)
    np.testing.assert_array_equal(run(net, {"data": x})[net.layers[0].tops["b"]], x[:, 1:5])


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Slice" top: "b" top: "c"',  # 7 is not divided by 3
        'type: "Slice" top: "b" slice_param { slice_point: 7 }',
        'type: "Slice" top: "b" slice_param { slice_point: 2 slice_point: 1 }',
        'type: "Slice" top: "b" slice_param { axis: 1 slice_dim: 1 slice_point: 2 }',
        'type: "Tile"',
        'type: "Tile" tile_param { tiles: 0 }',
        'type: "Reorg" reorg_param { stride: 2 }',
        'type: "Concat" concat_param { axis: 3 }',
        'type: "Upsample"',
        'type: "Interp"',
        'type: "ShuffleChannel" shuffle_channel_param { group: 2 }',
        'type: "Permute" permute_param { order: 1 } unknown_param { x: 1 }',
    ],
)
def test_what_caffe_refuses_is_refused(layer: str) -> None:
    with pytest.raises(GraphError) as caught:
        ported(one_layer(layer, (2, 7, 3)))
    assert "layer 'l'" in str(caught.value)


def test_joining_needs_equal_sizes_elsewhere() -> None:
    with pytest.raises(GraphError, match="axis 1 only"):
        ported(one_layer('type: "Concat"', (2, 3, 4), other=(2, 3, 5)))


def test_crop_takes_offsets() -> None:
    x = values(2, 3, 8, 9)
    net = ported(one_layer('type: "Crop" crop_param { offset: 2 offset: 3 }', x.shape, like=(2, 3, 4, 5)))
    np.testing.assert_array_equal(out(net, data=x, like=values(2, 3, 4, 5)), x[:, :, 2:6, 3:8])
    with pytest.raises(GraphError, match="G001"):
        ported(one_layer('type: "Crop" crop_param { offset: 5 }', x.shape, like=(2, 3, 4, 5)))


def test_flips_and_tiles() -> None:
    x = values(2, 3, 4, 5)
    np.testing.assert_array_equal(out(ported(one_layer('type: "Flip"', x.shape)), data=x), x[..., ::-1])
    both = 'type: "Flip" flip_param { flip_height: true flip_width: false }'
    np.testing.assert_array_equal(out(ported(one_layer(both, x.shape)), data=x), x[:, :, ::-1])
    net = ported(one_layer('type: "Tile" tile_param { axis: 2 tiles: 3 }', x.shape))
    np.testing.assert_array_equal(out(net, data=x), np.tile(x, (1, 1, 3, 1)))


def test_shuffled_channels_are_those_of_torch() -> None:
    x = values(2, 6, 3, 4)
    net = ported(one_layer('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', x.shape))
    np.testing.assert_array_equal(out(net, data=x), torch.channel_shuffle(torch.from_numpy(x), 3).numpy())


def test_reorg_forwards_and_backwards_are_inverse() -> None:
    text = """
    input: "data" input_shape { dim: 1 dim: 8 dim: 4 dim: 6 }
    layer { name: "f" type: "Reorg" bottom: "data" top: "f" reorg_param { stride: 2 } }
    layer { name: "r" type: "Reorg" bottom: "f" top: "out" reorg_param { stride: 2 reverse: true } }"""
    net = ported(text)
    x = values(1, 8, 4, 6)
    forward = np.zeros(x.size, np.float32)
    # Darknet's loop over its output, which it takes for the plane with as many channels as the bottom.
    flat, fewer = x.reshape(-1), 8 // 4
    for k in range(8):
        for j in range(4):
            for i in range(6):
                c2, offset = k % fewer, k // fewer
                w2, h2 = i * 2 + offset % 2, j * 2 + offset // 2
                forward[i + 6 * (j + 4 * k)] = flat[w2 + 6 * 2 * (h2 + 4 * 2 * c2)]
    values_now = run(net, {"data": x})
    np.testing.assert_array_equal(values_now["f"].reshape(-1), forward)
    assert values_now["out"].shape == x.shape


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("height: 9 width: 5", (9, 5)),
        ("zoom_factor: 3", (13, 19)),
        ("shrink_factor: 2", (3, 4)),
        ("shrink_factor: 2 zoom_factor: 3", (7, 10)),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_interp_aligns_corners(text: str, size: tuple[int, int], dynamic: bool) -> None:
    x = values(2, 3, 5, 7)
    net = ported(one_layer(f'type: "Interp" interp_param {{ {text} }}', x.shape), dynamic_batch=dynamic)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), size=size, mode="bilinear", align_corners=True).numpy()
    np.testing.assert_allclose(out(net, data=x), expected, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 70), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_interp_makes_every_size(old: int, new: int) -> None:
    net = ported(one_layer(f'type: "Interp" interp_param {{ height: {new} width: {old} }}', (1, 1, old, old)))
    assert out(net, data=values(1, 1, old, old)).shape == (1, 1, new, old)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("text", "size"), [("scale: 2", (6, 8)), ("upsample_h: 5 upsample_w: 7", (5, 7)), ("pad_out_h: true", (5, 8))])
def test_a_mask_puts_values_where_they_were(text: str, size: tuple[int, int], dynamic: bool) -> None:
    pooled, places = torch.nn.functional.max_pool2d(torch.from_numpy(values(2, 3, *size)), 2, ceil_mode=True, return_indices=True)
    expected = torch.nn.functional.max_unpool2d(pooled, places, 2, output_size=list(size)).numpy()
    net = ported(one_layer(f'type: "Upsample" upsample_param {{ {text} }}', pooled.shape, mask=pooled.shape), dynamic_batch=dynamic)
    np.testing.assert_array_equal(out(net, data=pooled.numpy(), mask=places.numpy().astype(np.float32)), expected)
    assert "Shape" not in kinds(net)


def test_without_a_mask_pixels_become_squares() -> None:
    x = values(1, 2, 3, 4)
    net = ported(one_layer('type: "Upsample" upsample_param { scale: 3 }', x.shape))
    np.testing.assert_array_equal(out(net, data=x), x.repeat(3, 2).repeat(3, 3))


def test_noop_and_parameter() -> None:
    text = """
    input: "data" input_shape { dim: 2 dim: 3 }
    layer { name: "n" type: "Noop" bottom: "data" top: "n" }
    layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }
    layer { name: "e" type: "Eltwise" bottom: "n" bottom: "p" top: "out" }"""
    x, p = values(2, 3), values(3, 2).T
    net = ported(text, {"p": [p]})
    np.testing.assert_array_equal(out(net, data=x), x + p)
    assert kinds(net) == ["Add"]


@given(st.text(alphabet="dim: -0123456789axis_{} shape", max_size=60))
@settings(max_examples=60, deadline=None)
def test_hostile_parameters(text: str) -> None:
    for kind, param in (("Reshape", "reshape_param"), ("Slice", "slice_param"), ("Tile", "tile_param"), ("Interp", "interp_param")):
        with contextlib.suppress(PorterError):
            ported(one_layer(f'type: "{kind}" {param} {{ {text} }}', (2, 3, 4, 5)))
