"""Pooling. Caffe rounds the number of windows up and pads both ends alike; windows that ONNX does not have are cut off again.

Source: BVLC/caffe pooling_layer.cpp at 9b891540183d. `round_mode` is left alone: forks and OpenCV do not know it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.graph.caffe_source.net import Blob
from porter.graph.caffe_source.op import Op, Refused
from porter.graph.caffe_source.operators.convolution import pads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Side:
    """Windows along height or width. size: of the bottom; begin, end: ONNX's padding; windows: how many ONNX makes."""

    size: int
    kernel: int
    stride: int
    begin: int
    end: int
    windows: int

    def in_caffe(self, pad: int, padded: bool) -> int:
        """How many windows Caffe makes. `padded`: whether height or width is padded."""
        made = -(-(self.size + 2 * pad - self.kernel) // self.stride) + 1
        return made - (padded and (made - 1) * self.stride >= self.size + pad)

    def first(self, pad: int) -> int:
        """Which of Caffe's windows is ONNX's first one."""
        return (pad - self.begin) // self.stride

    def choices(self) -> list[int]:
        """Paddings with which Caffe has a window where ONNX has its first one."""
        return [p for p in range(self.begin, self.kernel) if (p - self.begin) % self.stride == 0]

    def divisors(self, begin: int, end: int) -> NDArray[np.int64]:
        """How many positions each of ONNX's windows has, where those from -begin to size + end - 1 count."""
        import numpy as np

        start = np.arange(self.windows) * self.stride - self.begin
        return np.minimum(start + self.kernel, self.size + end) - np.maximum(start, -begin)


def max_pool(op: Op) -> None:
    """The largest of each window."""
    if op.used(1):
        raise Refused("its indices are used, and Caffe's count otherwise")
    if any(n != 1 for n in op.attribute("dilations") or ()):
        raise Refused("its windows are dilated")
    x, sides = _planes(op)
    chosen = _paddings(sides)
    op.put(op.reshape(_pool(op, x, "MAX", sides, chosen), op.shape()))


def average_pool(op: Op) -> None:
    """Where Caffe's divisors differ, because ONNX does not count padding, factors after it make up for that."""
    import numpy as np

    if any(n != 1 for n in op.attribute("dilations") or ()):
        raise Refused("its windows are dilated")
    x, sides = _planes(op)
    chosen = _paddings(sides)
    pooled = _pool(op, x, "AVE", sides, chosen)
    padding = bool(op.attribute("count_include_pad", 0))
    ratios = []
    for side, pad in zip(sides, chosen, strict=True):
        caffe = side.divisors(pad, pad)
        ours = _counted(side, padding, op) if padding else side.divisors(0, 0)
        if (ours < 1).any():
            raise Refused("a window lies in the padding only")
        ratios.append(caffe / ours)
    factors = np.outer(*ratios)
    if (factors != 1).any():
        pooled = op.scale(pooled, 2, factors)
    op.put(op.reshape(pooled, op.shape()))


def global_pool(op: Op) -> None:
    """Over all spatial axes."""
    x = op.blob(0)
    method = "AVE" if op.node.op_type == "GlobalAveragePool" else "MAX"
    op.put(op.reshape(everything(op, x, method), op.shape()))


def everything(op: Op, x: Blob, method: str) -> Blob:
    """All axes from the third on as one: shape (N, C, 1, 1)."""
    if x.rank != 4:
        x = op.reshape(x, (*x.shape[:2], _product(x.shape[2:]), 1))
    return op.layer("Pooling", [x], (*x.shape[:2], 1, 1), _parameters(method, {"global_pooling": True}), main=True)


def column(op: Op, x: Blob, method: str) -> Blob:
    """The mean or the largest of the third axis of a blob (A, 1, R, B): shape (A, 1, 1, B)."""
    rows, width = x.shape[2:]
    if width == 1:
        return everything(op, x, method)
    return op.layer("Pooling", [x], (*x.shape[:2], 1, width), _parameters(method, {"kernel_h": rows, "kernel_w": 1}), main=True)


def _counted(side: Side, padding: bool, op: Op) -> NDArray[np.int64]:
    """The divisors of windows that count padding. What lies behind the padding counts only in early opsets."""
    import numpy as np

    if op.version < 19 or not op.attribute("ceil_mode", 0):
        return np.full(side.windows, side.kernel)
    return side.divisors(side.begin, side.end)


def _planes(op: Op) -> tuple[Blob, tuple[Side, Side]]:
    x, kernel = op.blob(0), list(op.attribute("kernel_shape"))
    if x.rank not in (3, 4):
        raise Refused(f"it pools over {x.rank - 2} axes, and Caffe over two")
    begin, end = pads(op, x.shape[2:], kernel)
    rows = [x.shape[2:], kernel, op.attribute("strides") or [1] * len(kernel), begin, end, op.shape()[2:]]
    if x.rank == 3:
        x = op.reshape(x, (*x.shape, 1))
        rows = [[*row, usual] for row, usual in zip(rows, (1, 1, 1, 0, 0, 1), strict=True)]
    height, width = (Side(*numbers) for numbers in zip(*rows, strict=True))
    return x, (height, width)


def _paddings(sides: Sequence[Side]) -> tuple[int, int]:
    """The smallest padding of height and width with which Caffe has all the windows."""
    for chosen in sorted(itertools.product(*(side.choices() for side in sides)), key=sum):
        padded = any(chosen)
        if all(side.in_caffe(p, padded) - side.first(p) >= side.windows for side, p in zip(sides, chosen, strict=True)):
            return chosen[0], chosen[1]
    stated = [[s.begin for s in sides], [s.end for s in sides]]
    raise Refused(f"with its padding, {stated[0]} and {stated[1]}, it has a window that Caffe has with no padding smaller than the kernel")


def _pool(op: Op, x: Blob, method: str, sides: Sequence[Side], chosen: Sequence[int]) -> Blob:
    """Caffe's pooling, less the windows that ONNX does not have."""
    said: dict[str, Any] = {}
    columns = {"kernel": [s.kernel for s in sides], "stride": [s.stride for s in sides], "pad": list(chosen)}
    for name, (height, width) in columns.items():
        if height == width:
            usual = {"kernel": 0, "stride": 1, "pad": 0}[name]
            said |= {"kernel_size" if name == "kernel" else name: height} if height != usual else {}
        else:
            said |= {f"{name}_h": height, f"{name}_w": width}
    made = [side.in_caffe(p, any(chosen)) for side, p in zip(sides, chosen, strict=True)]
    pooled = op.layer("Pooling", [x], (*x.shape[:2], *made), _parameters(method, said), main=True)
    for axis, (side, p) in enumerate(zip(sides, chosen, strict=True), 2):
        pooled = op.cut(pooled, axis, side.first(p), side.first(p) + side.windows)
    return pooled


def _parameters(method: str, said: dict[str, Any]) -> dict[str, Any]:
    return {"pooling_param": {"pool": method, **said}}


def _product(numbers: Sequence[int]) -> int:
    import math

    return math.prod(numbers)
