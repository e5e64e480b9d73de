"""Operators that change each element by itself, and Softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

from porter.graph.caffe_source.net import Blob
from porter.graph.caffe_source.op import Op, Refused, covered

_INFINITE = 3.4e38
"""Bounds from here on leave every float32 as it is."""


def plain(kind: str) -> Callable[[Op], None]:
    """A layer without parameters."""
    return lambda op: op.put(_plain(op, kind, op.blob(0)))


def powers(power: float = 1.0, scale: float = 1.0) -> Callable[[Op], None]:
    """(scale · x) ^ power."""
    return lambda op: op.put(op.power(op.blob(0), power=power, scale=scale))


def leaky_relu(op: Op) -> None:
    """x, or alpha · x below zero."""
    x = op.blob(0)
    op.put(op.layer("ReLU", [x], x.shape, {"relu_param": {"negative_slope": float(op.attribute("alpha", 0.01))}}))


def prelu(op: Op) -> None:
    """Caffe has a slope for each channel, or one for all."""
    x, slope = op.blob(0), op.constant(1)
    if slope is None:
        raise Refused("its slope is computed while the network runs")
    axis, over = covered(x.shape, slope.shape)
    if over and (axis != 1 or len(over) != 1):
        raise Refused(f"its slope has the shape {list(slope.shape)}, and Caffe's has one number for each channel, or one for all")
    shared = not over
    weight = op.weight("slope", slope, () if shared else over, lambda a: a.reshape(() if shared else over))
    op.put(op.layer("PReLU", [x], x.shape, {"prelu_param": {"channel_shared": True}} if shared else {}, [weight]))


def elu(op: Op) -> None:
    """x, or alpha · (exp(x) - 1) below zero."""
    op.put(_elu(op, op.blob(0), op.attribute("alpha", 1.0)))


def selu(op: Op) -> None:
    """gamma times an ELU. The constants are ONNX's defaults."""
    alpha, gamma = op.attribute("alpha", 1.6732632423543772), op.attribute("gamma", 1.0507009873554805)
    op.put(op.power(_elu(op, op.blob(0), alpha), scale=gamma))


def mish(op: Op) -> None:
    """x · tanh(log(1 + exp(x)))."""
    x = op.blob(0)
    gate = _plain(op, "TanH", _plain(op, "BNLL", x))
    op.put(op.layer("Eltwise", [x, gate], x.shape, {"eltwise_param": {"operation": "PROD"}}))


def hard_sigmoid(op: Op) -> None:
    """alpha · x + beta between 0 and 1."""
    op.put(_hard_sigmoid(op, op.blob(0), op.attribute("alpha", 0.2), op.attribute("beta", 0.5)))


def hard_swish(op: Op) -> None:
    """x · (x / 6 + 1/2), the second factor between 0 and 1."""
    x = op.blob(0)
    gate = _hard_sigmoid(op, x, 1 / 6, 0.5)
    op.put(op.layer("Eltwise", [x, gate], x.shape, {"eltwise_param": {"operation": "PROD"}}))


def clip(op: Op) -> None:
    """Bounds are inputs from opset 11 on."""
    bounds = []
    for i, (name, usual) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        stated = op.attribute(name)
        if stated is None and op.has(i):
            stated = op.array(i, name).reshape(-1)[0]
        bounds.append(usual if stated is None else float(stated))
    op.put(clipped(op, op.blob(0), *bounds))


def clipped(op: Op, x: Blob, low: float, high: float) -> Blob:
    """No less than `low`, no more than `high`; infinite ones bound nothing."""
    if low <= -_INFINITE and high >= _INFINITE:
        return x
    if low == 0 and high >= _INFINITE:
        return _plain(op, "ReLU", x)
    if (low, high) == (0, 6) and "ReLU6" in op.context.extra:
        return _plain(op, "ReLU6", x)
    if "Clip" not in op.context.extra:
        raise Refused(f"it bounds values by {low:g} and {high:g}, for which this Caffe has no layer")
    return op.layer("Clip", [x], x.shape, {"clip_param": {"min": low, "max": high}})


def threshold(op: Op) -> None:
    """`x > number`, made a float: what Caffe's Threshold does."""
    number, following = op.number_at(1), op.next()
    cast = following is not None and following.op_type == "Cast" and following.attributes.get("to") == 1
    if number is None or not cast or following is None:
        raise Refused("Caffe compares with one number only, and gives a float: a Cast to float32 has to follow")
    x = op.blob(0)
    op.absorb(following)
    op.put(op.layer("Threshold", [x], x.shape, {"threshold_param": {"threshold": number}} if number else {}))


def softmax(op: Op) -> None:
    """Along one axis; until opset 12 along all from `axis` on, taken as one."""
    x = op.blob(0)
    axis = op.attribute("axis", 1 if op.version < 13 else -1) % max(x.rank, 1)
    inner = x.shape[axis:] if op.version < 13 else x.shape[axis : axis + 1]
    large = [i for i, n in enumerate(inner) if n != 1]
    if len(large) <= 1:
        op.put(_softmax(op, x, axis + (large[0] if large else 0)))
        return
    lead, size = math.prod(x.shape[:axis]), math.prod(inner)
    op.put(op.reshape(_softmax(op, op.reshape(x, (lead, size)), 1), x.shape))


def _softmax(op: Op, x: Blob, axis: int) -> Blob:
    return op.layer("Softmax", [x], x.shape, {"softmax_param": {"axis": axis}} if axis != 1 else {}, main=True)


def _plain(op: Op, kind: str, x: Blob) -> Blob:
    return op.layer(kind, [x], x.shape)


def _elu(op: Op, x: Blob, alpha: float) -> Blob:
    return op.layer("ELU", [x], x.shape, {"elu_param": {"alpha": float(alpha)}} if alpha != 1 else {})


def _hard_sigmoid(op: Op, x: Blob, alpha: float, beta: float) -> Blob:
    return clipped(op, op.power(x, scale=alpha, shift=beta), 0.0, 1.0)
