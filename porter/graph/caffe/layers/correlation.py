"""Correlation of FlowNet: how alike each place of one blob is to the places around it in another."""

from __future__ import annotations

from porter.graph.builder import Named
from porter.graph.caffe.layer import Layer

_P = "correlation_param."


def correlation(layer: Layer) -> None:
    """For each displacement the mean over channels and window of the products, or of the absolute differences.

    ONNX has no such operator. The displacements of one row are taken at once, and those of all rows joined.
    Source: lmb-freiburg/flownet2 correlation_layer.cpp, correlation_layer.cu.
    """
    import numpy as np

    layer.need_bottoms(2)
    parameters, b = layer.parameters, layer.builder
    window, reach = parameters.integer(_P + "kernel_size", 0), parameters.integer(_P + "max_displacement", -1)
    pad, step, apart = (parameters.integer(_P + n, d) for n, d in (("pad", 0), ("stride_1", 1), ("stride_2", 1)))
    products = parameters.choice(_P + "correlation_type", ("MULTIPLY", "SUBTRACT"), "MULTIPLY") == "MULTIPLY"
    if window < 1 or window % 2 == 0 or reach < 0 or pad < 0 or step < 1 or apart < 1:
        raise layer.error("G010", "it needs an odd kernel_size, a max_displacement, and strides above 0")
    first, second = layer.bottoms
    if first.rank != 4 or tuple(first.shape) != tuple(second.shape):
        raise layer.error("G001", f"it needs two blobs of one shape and 4 dimensions, not {list(first.shape)} and {list(second.shape)}")
    images, channels, height, width = first.shape
    # Where windows begin, in the padded blobs.
    ends = [-(-(n + 2 * pad - 2 * reach - window + 1) // step) for n in (height, width)]
    if images * channels * (height + 2 * pad) * (width + 2 * pad) >= 1 << 31:
        raise layer.error("G010", f"pad is {pad}, which makes a blob of more values than Caffe's can have")
    if min(ends) < 1:
        raise layer.error("G001", f"displacements of {reach} and a window of {window} do not fit into {height} by {width} places")
    rows, columns = ((n - 1) * step + window for n in ends)
    moves = [n * apart for n in range(-(reach // apart), reach // apart + 1)]
    count = len(moves)
    first, second = (_padded(layer, x, pad) for x in (first, second))
    still = b.slice(b.slice(first, 2, reach, reach + rows, hint="rows"), 3, reach, reach + columns, hint="columns")
    still = b.reshape(still, (images, channels, rows, 1, columns), hint="still")
    places = np.array(moves, dtype=np.int64)[:, None] + np.arange(reach, reach + columns)
    aside = (images, channels, second.shape[2], count, columns)
    moved = b.op("Gather", [second, b.constant(places, "places")], aside, {"axis": 3}, hint="moved")
    parts = []
    for move in moves:
        part = b.slice(moved, 2, reach + move, reach + move + rows, hint="row")
        alike = b.binary("Mul" if products else "Sub", still, part, hint="compared")
        parts.append(b.reduce("ReduceMean", alike if products else b.unary("Abs", alike, hint="compared"), [1], False, hint="mean"))
    joined = b.concat(parts, 2, hint="displacements")
    if window == step == 1:
        layer.put(b.transpose(joined, (0, 2, 1, 3), hint=None))
        return
    joined = b.transpose(joined, (0, 2, 1, 3), hint="displacements")
    attributes = {"kernel_shape": [window, window], "strides": [step, step]}
    layer.put(b.op("AveragePool", [joined], (images, count * count, *ends), attributes))


def _padded(layer: Layer, x: Named, pad: int) -> Named:
    if not pad:
        return x
    b = layer.builder
    n, c, h, w = x.shape
    return b.op("Pad", [x, b.constant([0, 0, pad, pad, 0, 0, pad, pad], "pads")], (n, c, h + 2 * pad, w + 2 * pad), hint="padded")
