"""Convolutions, their transposes, padding with zeros, and what a convolution with weights of ones and zeros does.

Caffe pads both ends alike. Where ONNX does not, the kernel gets zeros at one end: the same sums, and the same number of windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.graph.analysis.windows import halves, same_padding, transposed_total
from porter.graph.caffe_source.net import Blob, Padded, Weight
from porter.graph.caffe_source.op import Op, Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_PLACES = 1 << 28
"""Values of weights that only move channels: 1 GiB."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How windows go over the spatial axes in Caffe, a number for each. front, back: zeros that the kernel gets at its ends."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    front: tuple[int, ...]
    back: tuple[int, ...]

    def changed(self, weights: NDArray[Any]) -> NDArray[Any]:
        """The weights with a kernel of this size."""
        import numpy as np

        pads = [(0, 0), (0, 0), *zip(self.front, self.back, strict=True)]
        return np.pad(weights, pads)

    @property
    def change(self) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
        return self.changed if any((*self.front, *self.back)) else None

    def parameters(self, outputs: int, group: int, bias: bool) -> dict[str, Any]:
        """The layer's message; what has its default is not stated."""
        said: dict[str, Any] = {"num_output": outputs}
        said |= {} if bias else {"bias_term": False}
        for name, numbers, usual in (("pad", self.pad, 0), ("kernel_size", self.size, None), ("stride", self.stride, 1)):
            if len(set(numbers)) == 1:
                said |= {name: numbers[0]} if numbers[0] != usual else {}
            elif len(numbers) == 2:
                stem = name.removesuffix("_size")
                said |= {f"{stem}_h": numbers[0], f"{stem}_w": numbers[1]}
            else:
                said[name] = list(numbers)
        said |= {"group": group} if group != 1 else {}
        if set(self.dilation) != {1}:
            said["dilation"] = self.dilation[0] if len(set(self.dilation)) == 1 else list(self.dilation)
        return {"convolution_param": said}


def conv(op: Op) -> None:
    """Zeros that a Pad puts around the input become the convolution's own padding."""
    x, weight = op.blob(0), op.constant(1)
    if weight is None:
        raise Refused("its weights are computed while the network runs")
    begin, end = pads(op, x.shape[2:], weight.shape[2:])
    if x.padded is not None:
        begin, end = _added(begin, x.padded.begin), _added(end, x.padded.end)
        x = x.padded.blob
    kernel = _kernel(op, weight.shape[2:], begin, end)
    shape = (*weight.shape[:2], *kernel.size)
    weights = [op.weight("weight", weight, shape, kernel.change), *_bias(op)]
    parameters = kernel.parameters(weight.shape[0], op.attribute("group", 1), len(weights) > 1)
    op.put(op.layer("Convolution", [x], op.shape(), parameters, weights))


def conv_transpose(op: Op) -> None:
    """Caffe's weights lie as ONNX's do. Padding of the output is taken off the end's padding."""
    x, weight = op.blob(0), op.constant(1)
    if weight is None:
        raise Refused("its weights are computed while the network runs")
    spatial = len(weight.shape) - 2
    group = op.attribute("group", 1)
    begin, end = _transposed_pads(op, x.shape[2:], weight.shape[2:], op.shape()[2:])
    kernel = _kernel(op, weight.shape[2:], begin, end)
    if min(begin) < 0:
        raise Refused("its output is larger at the front than its windows reach")
    if len(kernel.size) != spatial:
        raise Refused("its kernel and its strides have different numbers of axes")
    weights = [op.weight("weight", weight, (*weight.shape[:2], *kernel.size), kernel.change), *_bias(op)]
    parameters = kernel.parameters(weight.shape[1] * group, group, len(weights) > 1)
    op.put(op.layer("Deconvolution", [x], op.shape(), parameters, weights))


def pad(op: Op) -> None:
    """Zeros around the planes, by a convolution of each channel that changes nothing else; negative ones cut."""
    x = op.blob(0)
    mode = op.text("mode", "constant")
    numbers = op.integers(1, "pads") or []
    axes = [a % x.rank for a in op.integers(3, "axes") or range(x.rank)]
    value = op.attribute("value", 0.0) if op.version < 11 else (op.number_at(2) if op.has(2) else 0.0)
    around = {axis: (numbers[i], numbers[i + len(axes)]) for i, axis in enumerate(axes) if (numbers[i], numbers[i + len(axes)]) != (0, 0)}
    for axis, (begin, end) in around.items():
        x = op.cut(x, axis, max(0, -begin), x.shape[axis] - max(0, -end))
    before, behind = ([max(0, around.get(axis, (0, 0))[side]) for axis in range(x.rank)] for side in (0, 1))
    if not any((*before, *behind)):
        op.put(x)
        return
    if mode != "constant" or value != 0:
        raise Refused(f"Caffe pads with zeros only, not with {mode if mode != 'constant' else value}")
    if x.rank < 3 or any((*before[:2], *behind[:2])):
        raise Refused("Caffe pads planes only, not the batch and not the channels")
    padded = Padded(x, tuple(before[2:]), tuple(behind[2:]))
    made = _identity(op, x, padded)
    made.padded = padded
    op.put(made)


def depth_to_space(op: Op) -> None:
    """A Deconvolution that puts each channel into its place in the block."""
    x, block = op.blob(0), op.attribute("blocksize")
    fewer = x.shape[1] // (block * block)
    depth_first = op.text("mode", "DCR") == "DCR"
    shape = (x.shape[1], fewer, block, block)
    _check_places(block, fewer)
    weight = Weight("weight", shape, lambda: _places(block, fewer, depth_first))
    op.put(op.layer("Deconvolution", [x], op.shape(), _block(fewer, block), [weight]))


def space_to_depth(op: Op) -> None:
    """A Convolution that picks one place of the block for each channel."""
    x, block = op.blob(0), op.attribute("blocksize")
    channels = x.shape[1]
    _check_places(block, channels)
    weight = Weight("weight", (channels * block * block, channels, block, block), lambda: _places(block, channels, True))
    op.put(op.layer("Convolution", [x], op.shape(), _block(channels * block * block, block), [weight]))


def repeated(op: Op, x: Blob, factors: Sequence[int]) -> Blob:
    """Each pixel as a block of `factors` pixels: a Deconvolution of each channel with ones."""
    import numpy as np

    channels, spatial = x.shape[1], tuple([n * f for n, f in zip(x.shape[2:], factors, strict=True)])
    none = (0,) * len(factors)
    kernel = Kernel(tuple(factors), tuple(factors), none, (1,) * len(factors), none, none)
    shape = (channels, 1, *factors)
    weight = Weight("weight", shape, lambda: np.ones(shape, np.float32))
    return op.layer("Deconvolution", [x], (*x.shape[:2], *spatial), kernel.parameters(channels, channels, False), [weight])


def pads(op: Op, spatial: Sequence[int], kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and behind each spatial axis, as the node states it or `auto_pad` works it out."""
    count = len(kernel)
    mode = op.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        stated = op.attribute("pads") or [0] * (2 * count)
        return tuple(stated[:count]), tuple(stated[count:])
    if mode == "VALID":
        return (0,) * count, (0,) * count
    stride, dilation = (op.attribute(name) or [1] * count for name in ("strides", "dilations"))
    padding = same_padding(mode, spatial, _reach(kernel, dilation), stride)
    assert padding is not None
    return padding


def _reach(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]


def _transposed_pads(op: Op, spatial: Sequence[int], kernel: Sequence[int], out: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is cut off a transposed convolution at both ends, less what is put behind it: it follows from the size of the result."""
    count = len(kernel)
    stride, dilation = (op.attribute(name) or [1] * count for name in ("strides", "dilations"))
    none = [0] * count
    whole = transposed_total(spatial, _reach(kernel, dilation), stride, none, none)
    mode = op.text("auto_pad", "NOTSET")
    if mode.startswith("SAME") or op.attribute("output_shape"):
        extra = op.attribute("output_padding") or [0] * count
        total = [max(0, w + e - n) for w, e, n in zip(whole, extra, out, strict=True)]
        begin = halves(mode, total)[0]
    else:
        begin = tuple((op.attribute("pads") or [0] * count)[:count]) if mode != "VALID" else (0,) * count
    return begin, tuple([w - b - n for w, b, n in zip(whole, begin, out, strict=True)])


def _kernel(op: Op, size: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> Kernel:
    count = len(size)
    stride, dilation = (tuple(op.attribute(name) or [1] * count) for name in ("strides", "dilations"))
    pad = tuple([max(b, e) for b, e in zip(begin, end, strict=True)])
    rows = list(zip(pad, begin, end, dilation, strict=True))
    if any((p - b) % d or (p - e) % d for p, b, e, d in rows) or min(pad, default=0) < 0:
        raise Refused(f"its padding, {list(begin)} and {list(end)}, differs at the ends by what its dilation does not divide")
    front, back = tuple([(p - b) // d for p, b, _, d in rows]), tuple([(p - e) // d for p, _, e, d in rows])
    grown = tuple([k + f + g for k, f, g in zip(size, front, back, strict=True)])
    return Kernel(grown, stride, pad, dilation, front, back)


def _bias(op: Op) -> list[Weight]:
    if not op.has(2):
        return []
    bias = op.constant(2)
    if bias is None:
        raise Refused("its bias is computed while the network runs")
    return [op.weight("bias", bias, bias.shape)]


def _identity(op: Op, x: Blob, padded: Padded) -> Blob:
    """A convolution of each channel by itself, with a one among zeros."""
    import numpy as np

    ones = (1,) * len(padded.begin)
    pad = tuple([max(b, e) for b, e in zip(padded.begin, padded.end, strict=True)])
    front = tuple([p - b for p, b in zip(pad, padded.begin, strict=True)])
    back = tuple([p - e for p, e in zip(pad, padded.end, strict=True)])
    kernel = Kernel(tuple([1 + f + g for f, g in zip(front, back, strict=True)]), ones, pad, ones, front, back)
    channels = x.shape[1]
    weight = Weight("weight", (channels, 1, *kernel.size), lambda: kernel.changed(np.ones((channels, 1, *ones), np.float32)))
    grown = [n + b + e for n, b, e in zip(x.shape[2:], padded.begin, padded.end, strict=True)]
    return op.layer("Convolution", [x], (*x.shape[:2], *grown), kernel.parameters(channels, channels, False), [weight])


def _block(outputs: int, block: int) -> dict[str, Any]:
    none, sides = (0, 0), (block, block)
    return Kernel(sides, sides, none, (1, 1), none, none).parameters(outputs, 1, False)


def _check_places(block: int, channels: int) -> None:
    if (block * block * channels) ** 2 > _MOST_PLACES:
        raise Refused(f"the weights that move {channels} channels would have more than {_MOST_PLACES:,} values")


def _places(block: int, channels: int, depth_first: bool) -> NDArray[Any]:
    """Ones where a channel of the deep side belongs: (deep, channels, block, block). `depth_first`: the place counts before the channel."""
    import numpy as np

    eye = np.eye(block * block * channels, dtype=np.float32)
    if depth_first:
        return np.ascontiguousarray(eye.reshape(-1, block, block, channels).transpose(0, 3, 1, 2))
    return eye.reshape(-1, channels, block, block)


def _added(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple([m + n for m, n in zip(a, b, strict=True)])
