"""Layers that resample planes or move values between channels and planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.graph.builder import Batch, Named
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.shape import cut_out

if TYPE_CHECKING:
    from collections.abc import Sequence


def shuffle_channel(layer: Layer) -> None:
    """Channels read by columns where they lie in rows, one row for each group. Source: farmingyard/ShuffleNet shuffle_channel_layer.cpp."""
    layer.need_bottoms(1)
    x = _planes(layer)
    n, channels, height, width = x.shape
    group = layer.parameters.integer("shuffle_channel_param.group", 1)
    if group < 1 or channels % group:
        raise layer.error("G010", f"{channels} channels are not divided by {group} groups")
    if group == 1:
        layer.put(x)
        return
    rows = layer.builder.reshape(x, (n, group, channels // group, height, width), hint="groups")
    layer.put(layer.builder.reshape(layer.builder.transpose(rows, (0, 2, 1, 3, 4)), x.shape, hint=None))


def reorg(layer: Layer) -> None:
    """Darknet's reorg: blocks of pixels become channels, the block's place counted before the channel; `reverse` the other way round.

    Forwards it reads its bottom as if it were the larger plane of fewer channels, as Darknet does, hence the first Reshape.
    Source: pjreddie/darknet blas.c (reorg_cpu), eric612/MobileNet-YOLO reorg_layer.cpp.
    """
    layer.need_bottoms(1)
    x = _planes(layer)
    n, channels, height, width = x.shape
    stride = layer.parameters.optional_integer("reorg_param.stride")
    reverse = layer.parameters.flag("reorg_param.reverse", False)
    if stride is None or stride < 1:
        raise layer.error("G010", "reorg_param.stride has to be stated, and at least 1")
    if channels % (stride * stride):
        raise layer.error("G010", f"{channels} channels are not divided by the square of the stride {stride}")
    fewer = channels // (stride * stride)
    builder = layer.builder
    if reverse:
        shape = (n, fewer, height * stride, width * stride)
        layer.put(builder.op("DepthToSpace", [x], shape, {"blocksize": stride, "mode": "DCR"}))
        return
    if height % stride or width % stride:
        raise layer.error("G010", f"a plane of {height} x {width} is not divided by the stride {stride}")
    large = builder.reshape(x, (n, fewer, height * stride, width * stride), hint="plane")
    blocks = builder.op("SpaceToDepth", [large], x.shape, {"blocksize": stride}, hint="blocks")
    layer.put(builder.reshape(blocks, (n, channels * stride * stride, height // stride, width // stride), hint=None))


def upsample(layer: Layer) -> None:
    """Two layers of one name: with a mask SegNet's, which puts each value where pooling found it; without one YOLO's nearest neighbour."""
    layer.need_bottoms(1, 2)
    if len(layer.bottoms) == 2:
        _unpool(layer)
    else:
        _nearest(layer)


def _nearest(layer: Layer) -> None:
    """Each pixel as a square of `scale` by `scale`. Source: eric612/MobileNet-YOLO upsample_layer.cpp."""
    x = _planes(layer)
    scale = layer.parameters.optional_integer("upsample_param.scale")
    if scale is None or scale < 1:
        raise layer.error("G010", "upsample_param.scale has to be stated, and at least 1: forks differ in its default")
    n, channels, height, width = x.shape
    scales = layer.builder.constant([1.0, 1.0, float(scale), float(scale)], "scales")
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    layer.put(layer.builder.op("Resize", [x, None, scales], (n, channels, height * scale, width * scale), attributes))


def _unpool(layer: Layer) -> None:
    """Zeros, and each value at the place in its plane that the mask says. Source: alexgkendall/caffe-segnet upsample_layer.cpp."""
    x, mask = _planes(layer), layer.bottoms[1]
    if mask.shape != x.shape:
        raise layer.error("G001", f"its mask is {list(mask.shape)}, and its first bottom {list(x.shape)}")
    n, channels, height, width = x.shape
    high, wide = _unpooled_size(layer, height, width)
    builder = layer.builder
    flat = (n, channels, height * width)
    places = builder.op("Cast", [builder.reshape(mask, flat, hint="mask")], flat, {"to": 7}, dtype="int64", hint="places")
    plane = (n, channels, high * wide)
    if isinstance(n, Batch):
        # As many planes as the batch has: the mask knows how many.
        first = cut_out(builder, places, {2: (0, 1)}, hint="first")
        none = builder.op("Mul", [first, builder.constant(0, "no")], (n, channels, 1), dtype="int64", hint="none")
        zero = builder.op("Cast", [none], (n, channels, 1), {"to": 1}, hint="zero")
    else:
        zero = builder.constant(0.0, "zero")
    target = builder.constant([1 if isinstance(d, Batch) else d for d in plane], "plane")
    zeros = builder.op("Expand", [zero, target], plane, hint="zeros")
    spread = builder.op("ScatterElements", [zeros, places, builder.reshape(x, flat, hint="values")], plane, {"axis": 2}, hint="spread")
    layer.put(builder.reshape(spread, (n, channels, high, wide), hint=None))


def _unpooled_size(layer: Layer, height: int, width: int) -> tuple[int, int]:
    read = layer.parameters.optional_integer
    high, wide = read("upsample_param.upsample_h"), read("upsample_param.upsample_w")
    scale, scale_h, scale_w = (read(f"upsample_param.{name}") for name in ("scale", "scale_h", "scale_w"))
    pads = [layer.parameters.flag(f"upsample_param.{name}", False) for name in ("pad_out_h", "pad_out_w")]
    if high is None or wide is None:
        if (scale_h is None) != (scale_w is None) or (scale is not None and scale_h is not None):
            raise layer.error("G010", "upsample_param needs upsample_h and upsample_w, or scale, or scale_h and scale_w")
        scales = (scale_h, scale_w) if scale_h is not None and scale_w is not None else (2 if scale is None else scale,) * 2
        if any(pad and s != 2 for pad, s in zip(pads, scales, strict=True)):
            raise layer.error("G010", "upsample_param.pad_out_h and pad_out_w go with a scale of 2 only")
        high, wide = height * scales[0] - pads[0], width * scales[1] - pads[1]
    if high < 2 or wide < 2:
        raise layer.error("G010", f"upsample_param makes a plane of {high} x {wide}")
    return high, wide


def interp(layer: Layer) -> None:
    """Bilinear, with the corners aligned; a negative padding cuts the bottom first.

    Source: hszhao/PSPNet interp_layer.cpp, util/interp.cpp.
    """
    layer.need_bottoms(1)
    x = _planes(layer)
    begin, end = (layer.parameters.integer(f"interp_param.{name}", 0) for name in ("pad_beg", "pad_end"))
    if begin > 0 or end > 0:
        raise layer.error("G010", "interp_param.pad_beg and pad_end are 0 or less: Caffe only cuts")
    bounds = {axis: (-begin, x.shape[axis] + end) for axis in (2, 3)}
    if any(stop <= start for start, stop in bounds.values()):
        raise layer.error("G001", f"nothing is left of a plane of {x.shape[2]} x {x.shape[3]}")
    x = cut_out(layer.builder, x, bounds, hint="cut")
    shape = (*x.shape[:2], *_interp_size(layer, x.shape[2:]))
    if shape == tuple(x.shape):
        layer.put(x)
        return
    scales = [1.0, 1.0, *(_scale(old, new) for old, new in zip(x.shape[2:], shape[2:], strict=True))]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    layer.put(layer.builder.op("Resize", [x, None, layer.builder.constant(scales, "scales")], shape, attributes))


def _interp_size(layer: Layer, size: Sequence[int]) -> list[int]:
    read = layer.parameters.optional_integer
    height, width, zoom, shrink = (read(f"interp_param.{name}") for name in ("height", "width", "zoom_factor", "shrink_factor"))
    if any(factor is not None and factor < 1 for factor in (height, width, zoom, shrink)):
        raise layer.error("G010", "sizes and factors of interp_param are at least 1")
    # Caffe looks at one factor alone first, then at height and width, then at both factors.
    if height is not None and width is not None and (zoom is None) == (shrink is None):
        return [height, width]
    if zoom is None and shrink is None:
        raise layer.error("G010", "interp_param has neither height and width nor zoom_factor nor shrink_factor")
    smaller = [(n - 1) // (shrink or 1) + 1 for n in size]
    return [n + (n - 1) * ((zoom or 1) - 1) for n in smaller]


def _scale(old: int, new: int) -> float:
    """A float32 that `old` times it, rounded down, is `new`; where corners are aligned, only this size says how values are read."""
    import numpy as np

    scale = np.float32(new / old)
    while float(scale) * old < new:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


def _planes(layer: Layer) -> Named:
    x = layer.bottoms[0]
    if x.rank != 4:
        raise layer.error("G011", f"it takes a blob of 4 dimensions, and its bottom has {x.rank}")
    for axis in (1, 2, 3):
        layer.need_fixed(x, axis, "it works on channels and planes of a known size")
    return x
