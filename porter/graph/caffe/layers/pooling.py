"""Pooling and spatial pyramid pooling.

ONNX's `ceil_mode` is left alone: runtimes disagree on its last window. Caffe's output size is worked out here, and what the
last window lacks is stated as padding at the end.

Source: BVLC/caffe pooling_layer.cpp, pooling_layer.cu (stochastic pooling at test time), spp_layer.cpp at 9b891540183d.
"""

from __future__ import annotations

import math

from porter.dataclass import dataclass
from porter.graph.builder import GraphBuilder, Named, Shape
from porter.graph.caffe.layer import Layer

_PARAM = "pooling_param"
_LOWEST = -3.4028234663852886e38
"""-FLT_MAX, where Caffe's maximum begins."""


@dataclass(frozen=True, slots=True)
class Side:
    """The windows along height or width.

    size: of the bottom. windows: how many windows Caffe makes, the last of which may be empty.
    """

    size: int
    kernel: int
    stride: int
    pad: int
    windows: int

    @property
    def filled(self) -> int:
        """How many windows hold something: without padding, the last may begin where the bottom ends."""
        return self.windows - ((self.windows - 1) * self.stride >= self.size + self.pad)

    @property
    def end(self) -> int:
        """What the last filled window needs behind the bottom."""
        return max(0, (self.filled - 1) * self.stride + self.kernel - self.size - self.pad)

    @property
    def empty_span(self) -> int:
        """The end of the empty window less its begin, zero or less, as Caffe counts its size."""
        return self.size - (self.windows - 1) * self.stride


Windows = tuple[Side, Side]
"""Along height and width."""


def pooling(layer: Layer) -> None:
    """MAX with an optional mask, AVE, and STOCHASTIC as the GPU code does it at test time: each value weighted by itself."""
    layer.need_bottoms(1)
    method = layer.parameters.choice(f"{_PARAM}.pool", ("MAX", "AVE", "STOCHASTIC"), "MAX")
    windows, everything = _windows(layer, method)
    (x,) = layer.bottoms
    mask = len(layer.top_names) > 1
    if mask and method != "MAX":
        raise layer.error("G014", f"it has {len(layer.top_names)} tops, and only MAX pooling has a mask to put there")
    if everything and not mask and method != "STOCHASTIC":
        operator = {"MAX": "GlobalMaxPool", "AVE": "GlobalAveragePool"}[method]
        layer.put(layer.builder.op(operator, [x], (*x.shape[:2], 1, 1)))
    elif mask:
        for value in _maximum_and_mask(layer.builder, x, windows):
            layer.put(value)
    else:
        layer.put(_pooled(layer.builder, x, method, windows, None))


def spp(layer: Layer) -> None:
    """Pools into 1, 2 x 2, 4 x 4 … parts, flattened one after the other; a pyramid of one level is not flattened."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    _need_planes(layer)
    levels = layer.parameters.integer("spp_param.pyramid_height", 0)
    method = layer.parameters.choice("spp_param.pool", ("MAX", "AVE", "STOCHASTIC"), "MAX")
    if levels < 1:
        raise layer.error("G010", f"pyramid_height is {levels}, and there must be a level")
    parts = []
    for level in range(levels):
        height, width = (_pyramid_side(layer, n, 2**level, method) for n in x.shape[2:])
        pooled = _pooled(layer.builder, x, method, (height, width), f"level{level}" if levels > 1 else None)
        parts.append(layer.builder.reshape(pooled, (x.shape[0], math.prod(pooled.shape[1:])), "flatten") if levels > 1 else pooled)
    layer.put(layer.builder.concat(parts, 1))


def _pyramid_side(layer: Layer, size: int, bins: int, method: str) -> Side:
    """Windows that lie side by side, padded so that `bins` of them cover everything."""
    kernel = -(-size // bins)
    pad = (kernel * bins - size + 1) // 2
    return _side(layer, method, size, kernel, kernel, pad, True, pad > 0)


def _windows(layer: Layer, method: str) -> tuple[Windows, bool]:
    """The windows along height and width, and whether one covers everything because the layer says so."""
    _need_planes(layer)
    x = layer.bottoms[0]
    everything = layer.parameters.flag(f"{_PARAM}.global_pooling", False)
    kernel = _pair(layer, "kernel_size", ("kernel_h", "kernel_w"), 0)
    pad = _pair(layer, "pad", ("pad_h", "pad_w"), 0)
    stride = _pair(layer, "stride", ("stride_h", "stride_w"), 1)
    ceil = _rounds_up(layer)
    if everything:
        if kernel != (0, 0) or pad != (0, 0) or stride != (1, 1):
            raise layer.error("G015", "global_pooling stands beside a kernel, pad or stride, which Caffe refuses")
        kernel = (int(x.shape[2]), int(x.shape[3]))
    padded = pad != (0, 0)
    sides = [_side(layer, method, int(x.shape[2 + i]), kernel[i], stride[i], pad[i], ceil, padded) for i in (0, 1)]
    return (sides[0], sides[1]), everything


def _side(layer: Layer, method: str, size: int, kernel: int, stride: int, pad: int, ceil: bool, padded: bool) -> Side:
    """`padded`: whether height or width is padded; then the last window is dropped where it would begin behind the bottom."""
    if kernel < 1 or stride < 1 or pad < 0:
        raise layer.error("G010", f"a kernel of {kernel}, a stride of {stride} and a pad of {pad} make no windows")
    if padded and method == "STOCHASTIC":
        raise layer.error("G015", "stochastic pooling takes no padding")
    if pad >= kernel and padded:
        raise layer.error("G015", f"a pad of {pad} leaves a kernel of {kernel} nothing of the bottom, which Caffe refuses")
    room = size + 2 * pad - kernel
    windows = (-(-room // stride) if ceil else room // stride) + 1
    if padded and (windows - 1) * stride >= size + pad:
        windows -= 1
    if windows < 1:
        raise layer.error("G016", f"its top would be of size {windows}: the bottom is smaller than the window")
    return Side(size, kernel, stride, pad, windows)


def _rounds_up(layer: Layer) -> bool:
    """`round_mode`, or `ceil_mode` of forks. Source: synopsys-caffe caffe.proto (PoolingParameter.ceil_mode, true by default)."""
    mode = layer.parameters.choice(f"{_PARAM}.round_mode", ("CEIL", "FLOOR"), "CEIL")
    ceil = layer.parameters.flag(f"{_PARAM}.ceil_mode", True)
    if not ceil and layer.parameters.stated(f"{_PARAM}.round_mode") and mode == "CEIL":
        raise layer.error("G015", "ceil_mode is false, and round_mode is CEIL")
    return mode == "CEIL" and ceil


def _pair(layer: Layer, name: str, sides: tuple[str, str], default: int) -> tuple[int, int]:
    """A number for height and width: one for both, or one each."""
    both = layer.parameters.optional_integer(f"{_PARAM}.{name}")
    height, width = (layer.parameters.optional_integer(f"{_PARAM}.{side}") for side in sides)
    if height is None and width is None:
        number = default if both is None else both
        return number, number
    if both is not None or height is None or width is None:
        raise layer.error("G015", f"{name} is stated once for both sides, or {sides[0]} and {sides[1]} are, and nothing else")
    return height, width


def _need_planes(layer: Layer) -> None:
    rank = layer.bottoms[0].rank
    if rank != 4:
        raise layer.error("G017", f"its bottom has {rank} axes, and Caffe pools over the last two of four")


def _pooled(builder: GraphBuilder, x: Named, method: str, windows: Windows, hint: str | None) -> Named:
    if method == "MAX":
        return _filled(builder, _maximum(builder, x, windows, hint), windows, _LOWEST, hint)
    if method == "AVE":
        return _average_with_empty(builder, x, windows, hint)
    return _filled(builder, _weighted(builder, x, windows, "filled" if _has_empty(windows) else hint), windows, 0.0, hint)


def _weighted(builder: GraphBuilder, x: Named, windows: Windows, hint: str | None) -> Named:
    """The mean of the squares over the mean, or zero where that is not positive."""
    squares = _average(builder, builder.binary("Mul", x, x, hint="square"), windows, "squares")
    sums = _average(builder, x, windows, "sums")
    zero = builder.constant(0.0, "zero")
    positive = builder.op("Greater", [sums, zero], sums.shape, dtype="bool", hint="positive")
    ratio = builder.binary("Div", squares, sums, hint="ratio")
    return builder.op("Where", [positive, ratio, zero], sums.shape, hint=hint)


def _attributes(windows: Windows) -> dict[str, list[int]]:
    return {
        "kernel_shape": [s.kernel for s in windows],
        "strides": [s.stride for s in windows],
        "pads": [*(s.pad for s in windows), *(s.end for s in windows)],
    }


def _shape(x: Named, windows: Windows) -> Shape:
    return (*x.shape[:2], windows[0].filled, windows[1].filled)


def _has_empty(windows: Windows) -> bool:
    return any(s.filled != s.windows for s in windows)


def _maximum(builder: GraphBuilder, x: Named, windows: Windows, hint: str | None) -> Named:
    return builder.op("MaxPool", [x], _shape(x, windows), _attributes(windows), hint="filled" if _has_empty(windows) else hint)


def _maximum_and_mask(builder: GraphBuilder, x: Named, windows: Windows) -> list[Named]:
    """The maxima, and where each was found: its index in its own plane, as a float."""
    shape = _shape(x, windows)
    empty = _has_empty(windows)
    attributes = _attributes(windows)
    top, places = builder.ops("MaxPool", [x], [shape, shape], attributes, dtypes=["float32", "int64"], hint="filled" if empty else None)
    # ONNX counts through the whole tensor.
    inside = builder.op("Mod", [places, builder.constant(math.prod(x.shape[2:]), "plane")], shape, dtype="int64", hint="place")
    mask = builder.op("Cast", [inside], shape, {"to": 1}, hint="mask")
    return [_filled(builder, top, windows, _LOWEST, None), _filled(builder, mask, windows, -1.0, "mask")]


def _average_with_empty(builder: GraphBuilder, x: Named, windows: Windows, hint: str | None) -> Named:
    """The mean, and for an empty window the sum of nothing over the size that Caffe works out for it: 0 / 0, or zero."""
    value = _average(builder, x, windows, "filled" if _has_empty(windows) else hint)
    height, width = windows
    none = [s.filled != s.windows and s.empty_span == 0 for s in windows]
    if any(none):
        # Where the sides differ, the one of size zero comes last and takes the corner.
        first = (_full(height) if none[0] else height, _full(width) if none[1] else width)
        return _filled(builder, _filled(builder, value, first, 0.0, "zero"), windows, math.nan, hint)
    return _filled(builder, value, windows, 0.0, hint)


def _full(side: Side) -> Side:
    return Side(side.size, side.kernel, side.stride, side.pad, side.filled)


def _average(builder: GraphBuilder, x: Named, windows: Windows, hint: str | None) -> Named:
    """The mean as Caffe takes it: padding counts, but not what lies behind it."""
    inside = [min(s.end, s.pad) for s in windows]
    behind = [s.end - n for s, n in zip(windows, inside, strict=True)]
    attributes: dict[str, object] = dict(_attributes(windows))
    shape = _shape(x, windows)
    padded = any(s.pad for s in windows)
    if not any(behind):
        return builder.op("AveragePool", [x], shape, attributes | ({"count_include_pad": 1} if padded else {}), hint=hint)
    if padded:
        x = _pad(builder, x, [s.pad for s in windows], inside, 0.0, "pad")
    attributes["pads"] = [0, 0, *behind]
    return builder.op("AveragePool", [x], shape, attributes, hint=hint)


def _filled(builder: GraphBuilder, value: Named, windows: Windows, number: float, hint: str | None) -> Named:
    """`value` with `number` for the windows that it lacks."""
    missing = [s.windows - n for s, n in zip(windows, value.shape[2:], strict=True)]
    return _pad(builder, value, [0, 0], missing, number, hint) if any(missing) else value


def _pad(builder: GraphBuilder, x: Named, begin: list[int], end: list[int], number: float, hint: str | None) -> Named:
    height, width = (n + b + e for n, b, e in zip(x.shape[2:], begin, end, strict=True))
    pads = builder.constant([0, 0, *begin, 0, 0, *end], "pads")
    return builder.op("Pad", [x, pads, builder.constant(number, "value")], (*x.shape[:2], height, width), hint=hint)
