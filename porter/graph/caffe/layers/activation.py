"""Layers that change each element by itself, and Softmax.

Source: BVLC/caffe src/caffe/layers at 9b891540183d, the file of each type (`relu_layer.cpp` …); forks are named where they differ.
"""

from __future__ import annotations

import math

from porter.graph.builder import Named
from porter.graph.caffe.layer import Layer


def relu(layer: Layer) -> None:
    """max(x, 0), or x · negative_slope below zero."""
    layer.put(_relu(layer, "relu_param.negative_slope", None))


def relu6(layer: Layer) -> None:
    """min(relu(x), 6), with a slope below zero as in ReLU. Source: eric612/MobileNet-YOLO relu6_layer.cpp."""
    slope = layer.parameters.number("relu6_param.negative_slope", 0.0)
    if slope == 0:
        layer.put(_clip(layer, _only(layer), 0.0, 6.0))
        return
    sloped = _relu(layer, "relu6_param.negative_slope", "slope")
    layer.put(layer.builder.scalar("Min", sloped, 6.0))


def prelu(layer: Layer) -> None:
    """x, or below zero x times a learned slope: one for each channel, or one for all."""
    x = _only(layer)
    if x.rank < 2:
        raise layer.error("G017", f"its bottom has {x.rank} axes, and the second is that of the channels")
    shared = layer.parameters.flag("prelu_param.channel_shared", False)
    channels = int(x.shape[1])
    slope = layer.weight(0, (), aligned=(1,)) if shared else layer.weight(0, (channels,), aligned=(channels, *[1] * (x.rank - 2)))
    layer.put(layer.builder.op("PRelu", [x, slope], x.shape))


def sigmoid(layer: Layer) -> None:
    """1 / (1 + exp(-x))."""
    layer.put(layer.builder.unary("Sigmoid", _only(layer)))


def tanh(layer: Layer) -> None:
    """The hyperbolic tangent."""
    layer.put(layer.builder.unary("Tanh", _only(layer)))


def elu(layer: Layer) -> None:
    """x, or below zero alpha · (exp(x) - 1)."""
    layer.put(layer.builder.unary("Elu", _only(layer), {"alpha": layer.parameters.number("elu_param.alpha", 1.0)}))


def absval(layer: Layer) -> None:
    """The magnitude."""
    layer.put(layer.builder.unary("Abs", _only(layer)))


def bnll(layer: Layer) -> None:
    """log(1 + exp(x))."""
    layer.put(layer.builder.unary("Softplus", _only(layer)))


def swish(layer: Layer) -> None:
    """x · sigmoid(beta · x)."""
    x = _only(layer)
    gate = _times(layer, x, layer.parameters.number("swish_param.beta", 1.0), "beta")
    layer.put(layer.builder.binary("Mul", x, layer.builder.unary("Sigmoid", gate, hint="gate")))


def mish(layer: Layer) -> None:
    """x · tanh(log(1 + exp(x))). Source: synopsys-caffe mish_layer.cpp."""
    x = _only(layer)
    gate = layer.builder.unary("Tanh", layer.builder.unary("Softplus", x, hint="softplus"), hint="gate")
    layer.put(layer.builder.binary("Mul", x, gate))


def hard_swish(layer: Layer) -> None:
    """x · min(max(x / 6 + 1/2, 0), 1). Source: synopsys-caffe hard_swish_layer.cpp."""
    x = _only(layer)
    layer.assume("HardSwish is x * min(max(x / 6 + 0.5, 0), 1); one fork (micronet-caffe) has another, with x / 5")
    layer.put(layer.builder.binary("Mul", x, layer.builder.unary("HardSigmoid", x, {"alpha": 1 / 6, "beta": 0.5}, hint="gate")))


def clip(layer: Layer) -> None:
    """No less than min, no more than max."""
    low, high = (layer.parameters.optional_number(f"clip_param.{side}") for side in ("min", "max"))
    if low is None or high is None:
        raise layer.error("G010", "min and max must both be stated")
    layer.put(_clip(layer, _only(layer), low, high))


def threshold(layer: Layer) -> None:
    """1 above the threshold, else 0."""
    x = _only(layer)
    limit = layer.builder.constant(layer.parameters.number("threshold_param.threshold", 0.0), "threshold")
    above = layer.builder.op("Greater", [x, limit], x.shape, dtype="bool", hint="above")
    layer.put(layer.builder.op("Cast", [above], x.shape, {"to": 1}))


def power(layer: Layer) -> None:
    """(shift + scale · x) ^ power; a constant where scale or power is zero."""
    x = _only(layer)
    exponent, factor, shift = (layer.parameters.number(f"power_param.{n}", d) for n, d in (("power", 1.0), ("scale", 1.0), ("shift", 0.0)))
    if exponent * factor == 0:
        layer.put(_everywhere(layer, x, 1.0 if exponent == 0 else _power(shift, exponent)))
        return
    todo: list[tuple[str, float | None, str]] = [("Mul", factor, "scale")] if factor != 1 else []
    todo += [("Add", shift, "shift")] if shift != 0 else []
    todo += [("Pow", exponent, "power")] if exponent != 1 else []
    layer.put(_chain(layer, x, todo))


def exp(layer: Layer) -> None:
    """base ^ (shift + scale · x); base -1 stands for e."""
    x = _only(layer)
    base, factor, shift = _base(layer, "exp_param")
    inner, outer = math.log(base) * factor if base != math.e else factor, _power(base, shift)
    todo: list[tuple[str, float | None, str]] = [("Mul", inner, "scale")] if inner != 1 else []
    todo += [("Exp", None, "exp")]
    todo += [("Mul", outer, "outer")] if outer != 1 else []
    layer.put(_chain(layer, x, todo))


def log(layer: Layer) -> None:
    """The logarithm of shift + scale · x to a base; base -1 stands for e."""
    x = _only(layer)
    base, factor, shift = _base(layer, "log_param")
    if base == 1:
        raise layer.error("G010", "there is no logarithm to the base 1")
    todo: list[tuple[str, float | None, str]] = [("Mul", factor, "scale")] if factor != 1 else []
    todo += [("Add", shift, "shift")] if shift != 0 else []
    todo += [("Log", None, "log")]
    todo += [("Mul", 1 / math.log(base), "base")] if base != math.e else []
    layer.put(_chain(layer, x, todo))


def softmax(layer: Layer) -> None:
    """Exponentials over their sum along one axis, the second unless stated."""
    x = _only(layer)
    axis = layer.axis(layer.parameters.integer("softmax_param.axis", 1))
    layer.put(layer.builder.unary("Softmax", x, {"axis": axis}))


def _only(layer: Layer) -> Named:
    layer.need_bottoms(1)
    return layer.bottoms[0]


def _relu(layer: Layer, path: str, hint: str | None) -> Named:
    slope = layer.parameters.number(path, 0.0)
    x = _only(layer)
    return layer.builder.unary("LeakyRelu", x, {"alpha": slope}, hint=hint) if slope else layer.builder.unary("Relu", x, hint=hint)


def _clip(layer: Layer, x: Named, low: float, high: float) -> Named:
    """Caffe's order: where the limits are the wrong way round, the lower one wins, and ONNX's Clip gives the upper one."""
    bounds = [layer.builder.constant(n, what) for n, what in ((low, "min"), (max(low, high), "max"))]
    return layer.builder.op("Clip", [x, *bounds], x.shape)


def _times(layer: Layer, x: Named, factor: float, hint: str) -> Named:
    return x if factor == 1 else layer.builder.scalar("Mul", x, factor, hint=hint)


def _chain(layer: Layer, x: Named, todo: list[tuple[str, float | None, str]]) -> Named:
    """One operator after the other, each alone or with a number. The last bears the layer's name."""
    for i, (op_type, number, hint) in enumerate(todo, 1):
        name = hint if i < len(todo) else None
        x = layer.builder.unary(op_type, x, hint=name) if number is None else layer.builder.scalar(op_type, x, number, hint=name)
    return x


def _everywhere(layer: Layer, x: Named, number: float) -> Named:
    """`number` for every element of `x`, of whatever batch."""
    if math.isnan(number):
        return layer.builder.scalar("Mul", x, number)
    return _clip(layer, x, number, number)


def _power(base: float, exponent: float) -> float:
    """C's pow in float32: infinite or not a number where Python raises."""
    import numpy as np

    with np.errstate(all="ignore"):
        return float(np.power(np.float32(base), np.float32(exponent)))


def _base(layer: Layer, param: str) -> tuple[float, float, float]:
    """Base, scale and shift."""
    base, factor, shift = (layer.parameters.number(f"{param}.{n}", d) for n, d in (("base", -1.0), ("scale", 1.0), ("shift", 0.0)))
    if base == -1:
        return math.e, factor, shift
    if not 0 < base < math.inf:
        raise layer.error("G010", f"base is {base:g}, and must be positive, or -1 for e")
    return base, factor, shift
