"""Normalisations.

Source: onnx/onnx docs/Operators.md; NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (IScaleLayer, INormalizationLayer, ILRNLayer).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES
from porter.graph.analysis.values import Constant
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op

if TYPE_CHECKING:
    import numpy as np


def batch_normalization(op: Op) -> None:
    """A scale of each channel, computed from the statistics."""
    if op.attribute("training_mode", 0) or (op.version < 7 and not op.attribute("is_test", 0)):
        raise op.refuse("it normalises by statistics of the batch, as in training")
    if op.attribute("spatial", 1) != 1:
        raise op.refuse("it has statistics for each position")
    if any(op.used(i) for i in range(1, len(op.node.outputs))):
        raise op.refuse("the statistics that come out of it are read")
    state = [op.constant(i) for i in range(1, 5)]
    if any(c is None for c in state):
        raise op.refuse("its weights are computed by the network")
    held = op.weights_together(dict(zip(("weight", "bias", "running_mean", "running_var"), state, strict=True)))
    weight, bias, mean, variance = held.values()
    norm = layers.BatchNorm(weight, bias, mean, variance, float(op.attribute("epsilon", 1e-5)))
    scale, shift = op.assembly.scale_and_shift(norm, op.dtype(0))
    put_scaled(op, op.tensor(0), layers.Scale("CHANNEL", shift, scale, batch_norm=norm))


def put_scaled(op: Op, x: str, operation: layers.Scale) -> None:
    """The scale that makes the output. TensorRT wants four axes: of fewer, the tensor is given more, and they are taken away again."""
    shape = op.type_of(x).shape
    if len(shape) >= 4:
        op.put(operation, [x])
        return
    lifted = op.reshaped(x, (*shape, *([1] * (4 - len(shape)))), "lifted")
    scaled = op.add(operation, [lifted], "scaled")
    back, inputs = op.shuffle(scaled, shape, "shape")
    op.put(back, inputs)


def instance_normalization(op: Op) -> None:
    """Each plane by its own mean and variance."""
    rank = op.rank(0)
    weight, bias = (_over_channels(op, i, rank) for i in (1, 2))
    operation = layers.Normalization(tuple(range(2, rank)), float(op.attribute("epsilon", 1e-5)))
    op.put(operation, [op.tensor(0), weight, bias])


def _over_channels(op: Op, index: int, rank: int) -> str:
    constant = op.constant(index)
    if constant is None:
        raise op.refuse("its weights are computed by the network")
    shape = (1, constant.size, *([1] * (rank - 2)))
    return op.constant_tensor(constant.reshaped(shape), {1: "weight", 2: "bias"}[index])


def group_normalization(op: Op) -> None:
    """Each group of channels by its own mean and variance, then a scale of each channel.

    TensorRT's own form of it takes one scale for each group until 10.14 and one for each channel since: so the groups are normalised
    as planes of their own, which all versions do alike.
    """
    import numpy as np

    if op.attribute("stash_type", 1) != 1:
        raise op.refuse("it computes in another type")
    shape, groups, dtype = op.shape(0), int(op.attribute("num_groups")), op.dtype(0)
    channels, *rest = op.static(0, range(1, len(shape)))
    weight, bias = (_of_channels(op, i, channels, groups) for i in (1, 2))
    planes = op.reshaped(op.tensor(0), (shape[0], groups, channels // groups * math.prod(rest), 1), "groups")
    one = op.constant_tensor(np.ones((1, groups, 1, 1), _numpy(dtype)), "one")
    zero = op.constant_tensor(np.zeros((1, groups, 1, 1), _numpy(dtype)), "zero")
    operation = layers.Normalization((2, 3), float(op.attribute("epsilon", 1e-5)))
    normal = op.add(operation, [planes, one, zero], "normalised")
    held = op.weights_together({"weight": weight, "bias": bias})
    put_scaled(op, op.reshaped(normal, shape, "channels"), layers.Scale("CHANNEL", held["bias"], held["weight"]))


def _of_channels(op: Op, index: int, channels: int, groups: int) -> Constant:
    """A scale or bias with one element for each channel; before opset 21 the graph has one for each group."""
    import numpy as np

    from porter.graph.analysis.values import computed

    constant = op.constant(index)
    if constant is None:
        raise op.refuse("its weights are computed by the network")
    if op.version >= 21 or groups == channels:
        return constant
    return computed(np.repeat(constant.array(), channels // groups), constant.dtype)


def _numpy(dtype: str) -> np.dtype[Any]:
    return DTYPES[dtype].numpy()


def layer_normalization(op: Op) -> None:
    """Over the last axes."""
    import numpy as np

    if op.used(1) or op.used(2):
        raise op.refuse("the mean or deviation that comes out of it is read")
    rank, axis = op.rank(0), op.axis("axis", -1)
    if axis == 0:
        raise op.refuse("it is over the batch, too")
    weight = op.constant(1)
    if weight is None or (op.has(2) and op.constant(2) is None):
        raise op.refuse("its weights are computed by the network")
    bias = op.constant(2)
    shape = (1,) * (rank - len(weight.shape)) + weight.shape
    scale = op.constant_tensor(weight.reshaped(shape), "weight")
    if bias is not None:
        shift = op.constant_tensor(bias.reshaped((1,) * (rank - len(bias.shape)) + bias.shape), "bias")
    else:
        shift = op.constant_tensor(np.zeros(shape, _numpy(op.dtype(0))), "bias")
    op.put(layers.Normalization(tuple(range(axis, rank)), float(op.attribute("epsilon", 1e-5))), [op.tensor(0), scale, shift])


def lrn(op: Op) -> None:
    """Across channels; alpha is divided by the size of the window, as TensorRT does."""
    window, k = int(op.attribute("size")), float(op.attribute("bias", 1.0))
    alpha, beta = float(op.attribute("alpha", 1e-4)), float(op.attribute("beta", 0.75))
    if window % 2 == 0 or not 1 <= window <= 15:
        raise op.refuse(f"its window is {window}, and TensorRT's are odd and at most 15")
    if not (1e-5 <= k <= 1e10 and 0.01 <= beta <= 1e5 and -1e20 <= alpha <= 1e20):
        raise op.refuse("its numbers are outside TensorRT's limits")
    x = op.tensor(0)
    shape = op.shape(0)
    if len(shape) >= 4:
        op.put(layers.Lrn(window, alpha, beta, k), [x])
        return
    lifted = op.reshaped(x, (*shape, *([1] * (4 - len(shape)))), "lifted")
    normal = op.add(layers.Lrn(window, alpha, beta, k), [lifted], "normalised")
    back, inputs = op.shuffle(normal, shape, "shape")
    op.put(back, inputs)


def lp_normalization(op: Op) -> None:
    """Over the norm along one axis; where that is 0, so is the result."""
    axis, p = op.axis("axis", -1), int(op.attribute("p", 2))
    if p not in (1, 2):
        raise op.refuse(f"p is {p}")
    x = op.tensor(0)
    if p == 1:
        norm = op.add(layers.Reduce("SUM", (axis,), True), [op.add(layers.Unary("ABS"), [x], "abs")], "norm")
    else:
        squares = op.add(layers.Elementwise("PROD"), [x, x], "squares")
        norm = op.add(layers.Unary("SQRT"), [op.add(layers.Reduce("SUM", (axis,), True), [squares], "sum")], "norm")
    nothing = op.add(layers.Elementwise("EQUAL"), [norm, op.scalar(0, norm, "zero")], "is_zero")
    divisor = op.add(layers.Select(), [nothing, op.scalar(1, norm, "one"), norm], "divisor")
    op.put(layers.Elementwise("DIV"), [x, divisor])


def mean_variance(op: Op) -> None:
    """Less the mean, over the standard deviation."""
    axes = tuple(op.axes(op.attribute("axes") or [0, 2, 3]))
    x = op.tensor(0)
    mean = op.add(layers.Reduce("AVG", axes, True), [x], "mean")
    centred = op.add(layers.Elementwise("SUB"), [x, mean], "centred")
    squares = op.add(layers.Elementwise("PROD"), [centred, centred], "squares")
    variance = op.add(layers.Reduce("AVG", axes, True), [squares], "variance")
    deviation = op.add(layers.Unary("SQRT"), [variance], "deviation")
    divisor = op.add(layers.Elementwise("SUM"), [deviation, op.scalar(1e-9, deviation, "epsilon")], "divisor")
    op.put(layers.Elementwise("DIV"), [centred, divisor])
