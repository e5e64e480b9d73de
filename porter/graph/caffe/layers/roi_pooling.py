"""Pooling of regions: ROIPooling of Fast R-CNN, PSROIPooling of R-FCN. A region is [image, xmin, ymin, xmax, ymax] in pixels."""

from __future__ import annotations

from porter.graph.builder import Batch, GraphBuilder, Named
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.detections import image_numbers


def roi_pooling(layer: Layer) -> None:
    """The largest value of each bin of each region; 0 where a bin is empty.

    MaxRoiPool is this layer: regions rounded to whole places, half away from zero, and bins from floor to ceil.
    Source: rbgirshick/caffe-fast-rcnn roi_pooling_layer.cpp; microsoft/onnxruntime roi_pool.cc.
    """
    layer.need_bottoms(2)
    p, parameters = "roi_pooling_param.", layer.parameters
    height, width = parameters.integer(p + "pooled_h", 0), parameters.integer(p + "pooled_w", 0)
    if height < 1 or width < 1:
        raise layer.error("G010", "it needs pooled_h and pooled_w above 0")
    scale = parameters.number(p + "spatial_scale", 1.0)
    x, regions = _bottoms(layer)
    shape = (regions.shape[0], x.shape[1], height, width)
    layer.put(layer.builder.op("MaxRoiPool", [x, regions], shape, {"pooled_shape": [height, width], "spatial_scale": scale}))


def psroi_pooling(layer: Layer) -> None:
    """The mean of each bin of each region, each bin in channels of its own; 0 where a bin is empty.

    ONNX has no such operator. The places of a bin are those of its rows and its columns, so a mask of ones and zeros is made for each
    bin, and a matrix product adds up what it shows. The mean differs from Caffe's by the order of the additions alone; infinite or NaN
    features would reach regions that they do not lie in, as 0 times them is NaN.
    Source: intel/caffe psroi_pooling_layer.cpp (the layer of daijifeng001/caffe-rfcn on the CPU).
    """
    layer.need_bottoms(2)
    p, b, parameters = "psroi_pooling_param.", layer.builder, layer.parameters
    scale = parameters.number(p + "spatial_scale", 0.0)
    dim, group = parameters.integer(p + "output_dim", 0), parameters.integer(p + "group_size", 0)
    if dim < 1 or group < 1 or not parameters.stated(p + "spatial_scale"):
        raise layer.error("G010", "it needs spatial_scale, and output_dim and group_size above 0")
    x, regions = _bottoms(layer)
    images, channels, height, width = x.shape
    if channels != dim * group * group:
        raise layer.error("G001", f"it needs {dim * group * group} channels, and its bottom has {channels}")
    if isinstance(images, Batch) and isinstance(regions.shape[0], Batch):
        raise layer.error("G002", "the numbers of images and of regions are both open", hint="leave '--dynamic-batch' out")
    number = regions.shape[0]
    rows = _inside(layer, regions, 2, height, scale, group)
    columns = _inside(layer, regions, 1, width, scale, group)
    # [group, 1, regions, height, 1] and [1, group, regions, 1, width]
    places = b.binary(
        "And",
        b.reshape(rows, (group, 1, number, height, 1), hint="rows"),
        b.reshape(columns, (1, group, number, 1, width), hint="columns"),
        hint="places",
    )
    mask = b.op("Cast", [places], places.shape, {"to": 1}, hint="mask")
    area = b.scalar("Max", b.reduce("ReduceSum", mask, [3, 4], True, hint="area"), 1.0, hint="area")
    mask = b.reshape(mask, (group * group, number, height * width), hint="mask")
    area = b.reshape(area, (group * group, number, 1), hint="area")
    total = _totals(layer, x, regions, mask, dim, group)
    mean = b.binary("Div", total, area, hint="mean")
    cells = b.reshape(mean, (group, group, number, dim), hint="bins")
    layer.put(b.transpose(cells, (2, 3, 0, 1), hint=None))


def _totals(layer: Layer, x: Named, regions: Named, mask: Named, dim: int, group: int) -> Named:
    """Sums over the bins: [group · group, regions, dim]."""
    b = layer.builder
    images, _, height, width = x.shape
    number, plane = regions.shape[0], height * width
    features = b.reshape(x, (images, dim, group * group, plane), hint="features")
    if images == 1 and not isinstance(images, Batch):
        features = b.reshape(b.transpose(features, (0, 2, 3, 1), hint="features"), (group * group, plane, dim), hint="features")
        return b.op("MatMul", [mask, features], (group * group, number, dim), hint="total")
    # One product an image, and of these the one of the region's image.
    features = b.transpose(features, (0, 2, 3, 1), hint="features")
    every = b.op("MatMul", [b.reshape(mask, (1, *mask.shape), hint="mask"), features], (images, group * group, number, dim), hint="totals")
    own = b.op("Cast", [b.slice(regions, 1, 0, 1, hint="image")], (number, 1), {"to": 7}, dtype="int64", hint="image")
    whole = b.op("Cast", [own], (number, 1), {"to": 1}, hint="image")
    ids = _images(b, x)
    mine = b.op("Equal", [ids, whole], (images, 1, number, 1), dtype="bool", hint="own")
    zero = b.constant(0.0, "zero")
    return b.reduce("ReduceSum", b.op("Where", [mine, every, zero], every.shape, hint="own"), [0], False, hint="total")


def _images(b: GraphBuilder, x: Named) -> Named:
    """The numbers of the images: [images, 1, 1, 1]."""
    import numpy as np

    images = x.shape[0]
    if isinstance(images, Batch):
        return b.reshape(image_numbers(b, x), (images, 1, 1, 1), hint="images")
    return b.constant(np.arange(images, dtype=np.float32).reshape(-1, 1, 1, 1), "images")


def _bottoms(layer: Layer) -> tuple[Named, Named]:
    """The features [images, channels, height, width], and the regions [regions, 5]."""
    x, regions = layer.bottoms
    count = 1
    for n in regions.shape[1:]:
        count *= n
    if x.rank != 4 or count != 5:
        raise layer.error(
            "G001", f"it needs features of 4 dimensions and regions of 5 numbers, not {list(x.shape)} and {list(regions.shape)}"
        )
    return x, layer.builder.reshape(regions, (regions.shape[0], 5), hint="regions")


def _inside(layer: Layer, regions: Named, column: int, length: int, scale: float, group: int) -> Named:
    """Which places along one axis lie in each bin: [group, regions, length]."""
    import numpy as np

    b = layer.builder
    number = regions.shape[0]
    first = b.scalar("Mul", _rounded(b, b.slice(regions, 1, column, column + 1, hint="first")), scale, hint="first")
    last = b.scalar("Add", _rounded(b, b.slice(regions, 1, column + 2, column + 3, hint="last")), 1.0, hint="last")
    last = b.scalar("Mul", last, scale, hint="last")
    size = b.scalar("Max", b.binary("Sub", last, first, hint="length"), 0.1, hint="length")
    step = b.scalar("Div", size, float(group), hint="step")
    bins = np.arange(group + 1, dtype=np.float32)[:, None, None]
    start = b.binary("Add", b.binary("Mul", b.constant(bins[:-1], "bin"), step, hint="start"), first, hint="start")
    stop = b.binary("Add", b.binary("Mul", b.constant(bins[1:], "bin"), step, hint="stop"), first, hint="stop")
    places = b.constant(np.arange(length, dtype=np.float32), "places")
    shape = (group, number, length)
    after = b.op("GreaterOrEqual", [places, b.unary("Floor", start, hint="start")], shape, dtype="bool", hint="after")
    before = b.op("Less", [places, b.unary("Ceil", stop, hint="stop")], shape, dtype="bool", hint="before")
    return b.op("And", [after, before], shape, dtype="bool", hint="inside")


def _rounded(b: GraphBuilder, x: Named) -> Named:
    """Half away from zero, as C's round does; ONNX's Round goes to even."""
    size = b.unary("Abs", x, hint="round")
    floor = b.unary("Floor", size, hint="round")
    rest = b.binary("Sub", size, floor, hint="round")
    up = b.op("GreaterOrEqual", [rest, b.constant(0.5, "half")], x.shape, dtype="bool", hint="round")
    whole = b.binary("Add", floor, b.op("Cast", [up], x.shape, {"to": 1}, hint="round"), hint="round")
    return b.binary("Mul", whole, b.unary("Sign", x, hint="round"), hint="round")
