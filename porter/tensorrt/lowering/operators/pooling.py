"""Pooling.

TensorRT counts windows rounding down, or up without Caffe's rule and ONNX's that no window begins behind the input and the padding
before it. So the number of windows is worked out here and put into the padding behind, with which rounding down gives it.

Source: onnx/onnx docs/Operators.md (MaxPool, AveragePool); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1: max pooling pads with -inf.
"""

from __future__ import annotations

from porter.dataclass import replace
from porter.graph.analysis.values import Size, Value
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.convolution import Windows, lifted, put_plane, two_dimensional, windows_of


def max_pool(op: Op) -> None:
    """The largest of each window; what is padded never wins."""
    if op.used(1):
        raise op.refuse("the places of the maxima are asked for, which TensorRT does not tell; a plugin would be needed")
    windows = _rounded_up(op, _windows(op))
    x, windows = _plane(op, windows)
    put_plane(op, _pooling("MAX", windows), x)


def average_pool(op: Op) -> None:
    """The mean of each window, over the elements that ONNX counts: without padding, or with the padding that is stated."""
    stated = _windows(op)
    windows = _rounded_up(op, stated)
    x, windows = _plane(op, windows)
    includes = bool(op.attribute("count_include_pad", 0)) and any((*stated.begin, *stated.end))
    if includes and windows.end[: len(stated.end)] == stated.end:
        put_plane(op, _pooling("AVERAGE", windows, excludes=False), x)
        return
    if includes:
        # Padding that is stated counts, what rounding up adds behind it does not: the first becomes zeros of the input.
        over = tuple([w - s for w, s in zip(windows.end, stated.end + (0,) * (len(windows.end) - len(stated.end)), strict=True)])
        x = _padded(op, x, windows.begin, tuple([w - o for w, o in zip(windows.end, over, strict=True)]))
        windows = replace(windows, begin=(0,) * len(over), end=over)
    if any(p >= k for p, k in zip((*windows.begin, *windows.end), windows.kernel * 2, strict=True)):
        raise op.refuse("its padding is as large as its window, so that some windows would be of padding alone")
    put_plane(op, _pooling("AVERAGE", windows), x)


def global_pool(op: Op) -> None:
    """The mean or the maximum of each plane."""
    kind = "AVG" if op.node.op_type == "GlobalAveragePool" else "MAX"
    op.put(layers.Reduce(kind, tuple(range(2, op.rank(0))), True), [op.tensor(0)])


def _windows(op: Op) -> Windows:
    windows = windows_of(op, op.attribute("kernel_shape") or ())
    if set(windows.dilation) != {1}:
        raise op.refuse("TensorRT has no pooling with dilation")
    if not op.is_float(0):
        raise op.refuse(f"TensorRT has no pooling of {op.dtype(0)}")
    return windows


def _rounded_up(op: Op, windows: Windows) -> Windows:
    """`ceil_mode` as padding behind the input."""
    if not windows.ceil or set(windows.stride) == {1}:
        return windows
    if windows.open:
        raise op.refuse("with ceil_mode, its padding depends on sizes that are known only when the network runs")
    ends = []
    for n, k, s, b, e in zip(windows.sizes, windows.kernel, windows.stride, windows.begin, windows.end, strict=True):
        count = -(-(n + b + e - k) // s) + 1
        if (count - 1) * s >= n + b:
            if op.version < 22:
                raise op.refuse("its last window begins behind the input: before opset 22 ONNX counts it, and runtimes do not")
            count -= 1
        ends.append(max(e, (count - 1) * s + k - n - b))
    return replace(windows, end=tuple(ends), ceil=False)


def _plane(op: Op, windows: Windows) -> tuple[str, Windows]:
    rank = len(windows.kernel)
    if rank not in (1, 2, 3):
        raise op.refuse(f"TensorRT has no form of it for {rank} spatial axes")
    return (lifted(op), two_dimensional(windows)) if rank == 1 else (op.tensor(0), windows)


def _pooling(kind: str, windows: Windows, *, excludes: bool = True) -> layers.Pooling:
    return layers.Pooling(kind, windows.kernel, windows.stride, windows.begin, windows.end, excludes)


def _padded(op: Op, x: str, begin: tuple[int, ...], end: tuple[int, ...]) -> str:
    """The tensor with zeros around its spatial axes."""
    shape = op.type_of(x).shape
    ones = (1,) * len(shape)
    start = (0, 0, *(-b for b in begin))
    added = (0, 0, *(b + e for b, e in zip(begin, end, strict=True)))
    size = tuple([n + a if n >= 0 else -1 for n, a in zip(shape, added, strict=True)])
    if -1 not in size:
        return op.add(layers.Slice(start, size, ones, "FILL"), [x], "pad")
    if -1 in size[2:]:
        raise op.refuse("its padding counts, and its sizes are known only when the network runs")
    sizes = [n if n >= 0 else Size(op.value_of(x), i) for i, n in enumerate(size)]
    vector = op.assembly.sizes(sizes, Value("", "int64", (len(sizes),)), f"{op.name}/pad")
    padded = op.add(layers.Slice(start, None, ones, "FILL"), [x, "", vector], "pad")
    op.assembly.types[padded] = replace(op.type_of(padded), shape=size)
    return padded
