"""What layers that find boxes have in common: a row of seven numbers for each box, and one for each image where there is none.

A row is [image, label, confidence, xmin, ymin, xmax, ymax]. Source: weiliu89/caffe (ssd) detection_output_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.graph.builder import Batch, GraphBuilder, Named
from porter.graph.caffe.layer import Layer

FLOAT_MAX = 3.4028234663852886e38
"""FLT_MAX, whose negative stands for "no score"."""


def some(number: int) -> Batch:
    """A dimension that only running the graph gives, and that is equal to no other."""
    return Batch(number, symbol="")


def check_constant(layer: Layer, values: int) -> None:
    """Refuse to calculate a constant of more float32 values than an ONNX file holds, before any memory is taken for it."""
    if values > 1 << 29:
        raise layer.error("G010", f"it needs a constant of {values:,} values, and an ONNX file holds {1 << 29:,}")


def rows(layer: Layer, columns: Sequence[Named], selected: Named, images: Named) -> None:
    """Put the top: the `columns` beside each other as [1, 1, n, 7].

    selected: the output of NonMaxSuppression that the columns were made from; where it is empty, there is a row [image, -1, …] for
    each image. images: a bottom whose first dimension counts the images.
    """
    b = layer.builder
    found = b.concat(columns, 1, hint="found")
    none = _none(b, images)
    empty = b.op(
        "Equal", [b.op("Size", [selected], (), dtype="int64", hint="count"), b.constant(0, "zero")], (), dtype="bool", hint="empty"
    )
    number = none.shape[0]
    if isinstance(number, Batch):
        ids = b.slice(none, 1, 0, 1, hint="ids")
        everyone = b.op("Equal", [ids, ids], ids.shape, dtype="bool", hint="every")
        condition = b.op("And", [b.reshape(everyone, (number,), hint="every"), empty], (number,), dtype="bool", hint="none")
    else:
        condition = b.op("Expand", [empty, b.constant([number], "images")], (number,), dtype="bool", hint="none")
    instead = b.op("Compress", [none, condition], (some(number), 7), {"axis": 0}, hint="instead")
    total = Batch(max(int(found.shape[0]), 1), symbol=f"{next(iter(layer.top_names), '')}_rows")
    both = b.op("Concat", [found, instead], (total, 7), {"axis": 0}, hint="rows")
    layer.put(b.op("Reshape", [both, b.constant([1, 1, -1, 7], "shape")], (1, 1, total, 7)))


def column(b: GraphBuilder, selected: Named, position: int, hint: str) -> Named:
    """One of the three columns of NonMaxSuppression's output as float32 [n, 1]."""
    return b.op("Cast", [b.slice(selected, 1, position, position + 1, hint=hint)], (selected.shape[0], 1), {"to": 1}, hint=hint)


def image_numbers(b: GraphBuilder, source: Named) -> Named:
    """0, 1, 2 … for each image of an open batch as float32 [N, 1], without asking for its shape."""
    batch = source.shape[0]
    size = 1
    for n in source.shape[1:]:
        size *= n
    first = b.slice(b.reshape(source, (batch, size), hint="flat"), 1, 0, 1, hint="first")
    ones = b.op("Clip", [first, b.constant(1.0, "one"), b.constant(1.0, "one")], first.shape, hint="ones")
    return b.op("CumSum", [ones, b.constant(0, "axis")], first.shape, {"exclusive": 1}, hint="image")


def _none(b: GraphBuilder, images: Named) -> Named:
    """[image, -1, -1, -1, -1, -1, -1] for each image."""
    import numpy as np

    batch = images.shape[0]
    if isinstance(batch, Batch):
        pads = [b.constant([0, 0, 0, 6], "pads"), b.constant(-1.0, "minus_one")]
        return b.op("Pad", [image_numbers(b, images), *pads], (batch, 7), hint="nothing")
    values = np.full((batch, 7), -1, dtype=np.float32)
    values[:, 0] = np.arange(batch)
    return b.constant(values, "nothing")
