"""Convolutions and pooling.

Padding that differs at the two ends is stated by `F.pad`; where Caffe's rounding up is meant, `ceil_mode` says so.

Source: onnx/onnx docs/Operators.md (Conv, ConvTranspose, MaxPool, AveragePool, LpPool), PyTorch 2.13 torch/nn/functional.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass, replace
from porter.graph.analysis.windows import halves, same_padding, transposed_total
from porter.graph.python_layout import tuple_literal
from porter.graph.torch_source.op import Op, options, spatial


@dataclass(frozen=True, slots=True)
class Windows:
    """How a window goes over the spatial axes: a number for each of them. sizes: of the input. count: how many windows there are."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    ceil: bool = False
    sizes: tuple[int, ...] | None = None

    @property
    def extent(self) -> tuple[int, ...]:
        """How many positions a dilated window covers."""
        return tuple([d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)])

    @property
    def even(self) -> bool:
        """Whether both ends are padded alike."""
        return self.begin == self.end

    def count(self) -> tuple[int, ...] | None:
        """How many windows there are along each axis; None where that depends on open sizes."""
        if self.sizes is None:
            return None
        found = []
        for n, e, s, b, z in zip(self.sizes, self.extent, self.stride, self.begin, self.end, strict=True):
            room = n + b + z - e
            windows = -(-room // s) + 1 if self.ceil else room // s + 1
            # A window that would begin behind the input and the padding before it is none.
            found.append(windows - 1 if self.ceil and (windows - 1) * s >= n + b else windows)
        return tuple(found)

    def padded(self) -> str:
        """The padding as `F.pad` takes it: last axis first."""
        return tuple_literal([n for b, e in zip(self.begin[::-1], self.end[::-1], strict=True) for n in (b, e)])

    def unpadded(self) -> Windows:
        """The same windows over an input that was padded."""
        zeros = (0,) * len(self.kernel)
        sizes = self.sizes and tuple([n + b + e for n, b, e in zip(self.sizes, self.begin, self.end, strict=True)])
        return replace(self, begin=zeros, end=zeros, sizes=sizes)


def windows_of(op: Op, kernel: Sequence[int]) -> Windows:
    """The windows that a node states."""
    rank = len(kernel)
    ones, zeros = [1] * rank, [0] * (2 * rank)
    pads = op.attribute("pads") or zeros
    if len(pads) != 2 * rank:
        raise op.refuse(f"it has {rank} spatial axes and {len(pads)} pads")
    shape = op.shape(0)[2:]
    known = [n for n in shape if isinstance(n, int)]
    windows = Windows(
        tuple(kernel),
        tuple(op.attribute("strides") or ones),
        tuple(op.attribute("dilations") or ones),
        tuple(pads[:rank]),
        tuple(pads[rank:]),
        bool(op.attribute("ceil_mode", 0)),
        tuple(known) if len(known) == rank else None,
    )
    if min((*windows.kernel, *windows.stride, *windows.dilation), default=1) < 1 or min(pads, default=0) < 0:
        raise op.refuse("a kernel, stride or dilation is less than one, or a pad less than zero")
    return _auto_padded(op, windows)


def _auto_padded(op: Op, windows: Windows) -> Windows:
    """`auto_pad` worked out."""
    auto = op.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return windows
    zeros = (0,) * len(windows.kernel)
    if auto == "VALID":
        return replace(windows, begin=zeros, end=zeros)
    padding = same_padding(auto, windows.sizes or [None] * len(zeros), windows.extent, windows.stride)
    if padding is None:
        raise op.refuse(f"auto_pad {auto} depends on sizes that are known only when the network runs")
    return replace(windows, begin=padding[0], end=padding[1], ceil=False)


def _dimensions(op: Op) -> int:
    rank = op.rank(0) - 2
    if rank not in (1, 2, 3):
        raise op.refuse(f"PyTorch has no form of it for {rank} spatial axes")
    return rank


def conv(op: Op) -> None:
    """`nn.Conv2d`, or `F.conv2d` where the weights are no layer's own."""
    rank = _dimensions(op)
    kernel = op.attribute("kernel_shape") or op.static(1, range(2, rank + 2))
    windows = windows_of(op, kernel)
    group = int(op.attribute("group", 1))
    x = op.text(0)
    if not windows.even:
        x = op.let(f"F.pad({x}, {windows.padded()})", "pad")
        windows = windows.unpadded()
    given = options(
        stride=spatial(windows.stride) if set(windows.stride) != {1} else None,
        padding=spatial(windows.begin) if any(windows.begin) else None,
        dilation=spatial(windows.dilation) if set(windows.dilation) != {1} else None,
        groups=str(group) if group != 1 else None,
    )
    bias = op.has(2)
    if op.constant(1) is not None and (not bias or op.constant(2) is not None):
        outputs, inputs = op.static(1, [0, 1])
        last = options(bias=None if bias else "False", dtype=_dtype(op))
        made = f"nn.Conv{rank}d({inputs * group}, {outputs}, {spatial(kernel)}{given}{last})"
        layer = op.layer(made, {"weight": 1, "bias": 2} if bias else {"weight": 1})
        if layer is not None:
            op.put(f"{layer}({x})")
            return
    op.put(f"F.conv{rank}d({x}, {op.text(1)}{f', {op.text(2)}' if bias else ''}{given})")


def conv_transpose(op: Op) -> None:
    """`nn.ConvTranspose2d`; padding that differs at the two ends is cut off behind it."""
    rank = _dimensions(op)
    kernel = op.attribute("kernel_shape") or op.static(1, range(2, rank + 2))
    windows = windows_of_transpose(op, kernel)
    group = int(op.attribute("group", 1))
    extra = tuple(op.attribute("output_padding") or [0] * rank)
    extra, begin, end = _transposed_sizes(op, windows, extra)
    crop = begin != end or min(begin) < 0
    if any(e >= max(s, d) for e, s, d in zip(extra, windows.stride, windows.dilation, strict=True) if e):
        raise op.refuse("its output_padding is not smaller than its stride or dilation")
    given = options(
        stride=spatial(windows.stride) if set(windows.stride) != {1} else None,
        padding=spatial(begin) if any(begin) and not crop else None,
        output_padding=spatial(extra) if any(extra) else None,
        groups=str(group) if group != 1 else None,
        dilation=spatial(windows.dilation) if set(windows.dilation) != {1} else None,
    )
    bias, x = op.has(2), op.text(0)
    made = None
    if op.constant(1) is not None and (not bias or op.constant(2) is not None):
        inputs, outputs = op.static(1, [0, 1])
        last = options(bias=None if bias else "False", dtype=_dtype(op))
        text = f"nn.ConvTranspose{rank}d({inputs}, {outputs * group}, {spatial(kernel)}{given}{last})"
        layer = op.layer(text, {"weight": 1, "bias": 2} if bias else {"weight": 1})
        made = f"{layer}({x})" if layer is not None else None
    if made is None:
        made = f"F.conv_transpose{rank}d({x}, {op.text(1)}{f', {op.text(2)}' if bias else ''}{given})"
    if not crop:
        op.put(made)
        return
    whole = op.let(made, "whole")
    negative = tuple_literal([-n for b, e in zip(begin[::-1], end[::-1], strict=True) for n in (b, e)])
    op.put(f"F.pad({whole}, {negative})")


def windows_of_transpose(op: Op, kernel: Sequence[int]) -> Windows:
    """The windows of a transposed convolution, its padding as stated."""
    rank = len(kernel)
    pads = op.attribute("pads") or [0] * (2 * rank)
    ones = [1] * rank
    return Windows(
        tuple(kernel),
        tuple(op.attribute("strides") or ones),
        tuple(op.attribute("dilations") or ones),
        tuple(pads[:rank]),
        tuple(pads[rank:]),
    )


def _transposed_sizes(op: Op, windows: Windows, extra: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The output padding, and what is cut off at the begin and the end, with `output_shape` and `auto_pad` worked out."""
    auto, wanted = op.attribute("auto_pad", "NOTSET"), op.attribute("output_shape")
    if auto in ("NOTSET", "VALID") and wanted is None:
        zeros = (0,) * len(extra)
        return extra, *((zeros, zeros) if auto == "VALID" else (windows.begin, windows.end))
    rank = len(extra)
    sizes = op.static(0, range(2, rank + 2))
    outputs = wanted[-rank:] if wanted is not None else [n * s for n, s in zip(sizes, windows.stride, strict=True)]
    return extra, *halves(auto, transposed_total(sizes, windows.extent, windows.stride, extra, outputs))


def _dtype(op: Op) -> str | None:
    dtype = op.dtype(1)
    return None if dtype == "float32" else f"torch.{dtype}"


# ---- pooling ---------------------------------------------------------------------------------------------------------


def max_pool(op: Op) -> None:
    """`F.max_pool2d`; the places of the maxima are counted through the whole tensor, as ONNX does, where something reads them."""
    rank = _dimensions(op)
    windows = windows_of(op, op.attribute("kernel_shape"))
    x = op.text(0)
    plain = _as_torch_pads(windows)
    left = windows
    if plain is None:
        low = 'float("-inf")' if op.dtype(0).startswith(("float", "bfloat")) else str(-128 if op.dtype(0) == "int8" else 0)
        counted = windows.count()
        if windows.ceil and counted is not None:
            windows = replace(windows, end=_ends(windows, counted), ceil=False)
        x = op.let(f"F.pad({x}, {windows.padded()}, value={low})", "pad")
        left, plain = windows, windows.unpadded()
    dilation = spatial(plain.dilation) if set(plain.dilation) != {1} else None
    given = f"{spatial(plain.kernel)}, {spatial(plain.stride)}{_pool_options(plain)}{options(dilation=dilation)}"
    if not op.used(1):
        op.put(f"F.max_pool{rank}d({x}, {given})")
        return
    if op.attribute("storage_order", 0):
        raise op.refuse("it counts its indices by columns")
    values, places = op.source.variable(op.node.outputs[0]), op.source.names.take(f"{op.node.outputs[1]}_places")
    op.source.line(f"{values}, {places} = F.max_pool{rank}d({x}, {given}, return_indices=True)")
    if any(left.begin) and plain.sizes != left.sizes and left is not plain:
        raise op.refuse("its indices are asked for, and its padding differs at the two ends")
    first = op.text(0)
    planes = op.let(f"torch.arange(0, {first}.numel(), {first}[0, 0].numel(), device={first}.device)", "planes")
    shape = f"{values}.shape[0], {values}.shape[1]"
    op.put(f"{places} + {planes}.reshape({shape}, {', '.join(['1'] * rank)})", 1)


def average_pool(op: Op) -> None:
    """`F.avg_pool2d`, with the divisor that the graph states."""
    rank = _dimensions(op)
    windows = windows_of(op, op.attribute("kernel_shape"))
    if set(windows.dilation) != {1}:
        raise op.refuse("PyTorch has no average pooling with dilation")
    x = op.text(0)
    counts_padding = bool(op.attribute("count_include_pad", 0))
    unpadded = not any(windows.begin) and not any(windows.end)
    if counts_padding or unpadded:
        fits = windows.even and _half(windows)
        if not fits:
            x = op.let(f"F.pad({x}, {windows.padded()})", "pad")
            windows = windows.unpadded()
        op.put(f"F.avg_pool{rank}d({x}, {spatial(windows.kernel)}, {spatial(windows.stride)}{_pool_options(windows)})")
        return
    if (
        windows.sizes is not None
        and windows.count() == (1,) * rank
        and all(b + n <= k for n, b, k in zip(windows.sizes, windows.begin, windows.kernel, strict=True))
    ):
        op.put(f"{x}.mean({tuple_literal(range(2, rank + 2))}, keepdim=True)")
        return
    plain = _as_torch_pads(windows)
    if plain is not None:
        excluded = options(count_include_pad="False" if any(plain.begin) else None)
        op.put(f"F.avg_pool{rank}d({x}, {spatial(plain.kernel)}, {spatial(plain.stride)}{_pool_options(plain)}{excluded})")
        return
    counted = windows.count()
    if windows.ceil and counted is not None:
        windows = replace(windows, end=_ends(windows, counted), ceil=False)
    inner = windows.unpadded()
    given = f"{spatial(inner.kernel)}, {spatial(inner.stride)}{_pool_options(inner)}"
    padded = op.let(f"F.pad({x}, {windows.padded()})", "pad")
    inside = op.let(f"F.pad(torch.ones_like({x}), {windows.padded()})", "inside")
    mean = op.let(f"F.avg_pool{rank}d({padded}, {given})", "mean")
    share = op.let(f"F.avg_pool{rank}d({inside}, {given})", "share")
    op.put(f"{mean} / {share}")


def lp_pool(op: Op) -> None:
    """The p-norm of each window."""
    rank = _dimensions(op)
    windows = windows_of(op, op.attribute("kernel_shape"))
    p = op.attribute("p", 2)
    if set(windows.dilation) != {1} or windows.ceil or rank == 3:
        raise op.refuse("PyTorch has no such pooling with dilation or rounding up")
    x = op.let(f"{op.text(0)}.abs().pow({p})", "powers")
    if any(windows.begin) or any(windows.end):
        x = op.let(f"F.pad({x}, {windows.padded()})", "pad")
    size = 1
    for k in windows.kernel:
        size *= k
    mean = op.let(f"F.avg_pool{rank}d({x}, {spatial(windows.kernel)}, {spatial(windows.stride)})", "mean")
    op.put(f"({mean} * {size}).pow({1 / p!r})")


def global_pool(op: Op) -> None:
    """The mean or the maximum of each plane."""
    axes = tuple_literal(range(2, op.rank(0)))
    if op.node.op_type == "GlobalAveragePool":
        op.put(f"{op.text(0)}.mean({axes}, keepdim=True)")
    elif op.node.op_type == "GlobalMaxPool":
        op.put(f"{op.text(0)}.amax({axes}, keepdim=True)")
    else:
        op.put(f"torch.linalg.vector_norm({op.text(0)}, {op.attribute('p', 2)}, {axes}, keepdim=True)")


def _half(windows: Windows) -> bool:
    """Whether PyTorch takes this padding: at most half of the window."""
    return all(b <= k // 2 for b, k in zip(windows.begin, windows.kernel, strict=True))


def _pool_options(windows: Windows) -> str:
    return options(padding=spatial(windows.begin) if any(windows.begin) else None, ceil_mode="True" if windows.ceil else None)


def _as_torch_pads(windows: Windows) -> Windows | None:
    """The same windows with the padding alike at both ends, rounded up or down, where what they lack at the end counts for nothing."""
    if not _half(windows):
        return None
    if windows.even and not windows.ceil:
        return windows
    wanted = windows.count()
    if wanted is None:
        return windows if windows.even else None
    for ceil in (False, True):
        candidate = replace(windows, end=windows.begin, ceil=ceil)
        fits = all(n + 2 * b >= e for n, b, e in zip(candidate.sizes or (), candidate.begin, candidate.extent, strict=True))
        if (fits or ceil) and candidate.count() == wanted and _within(candidate, wanted):
            return candidate
    return None


def _within(windows: Windows, count: tuple[int, ...]) -> bool:
    """Whether every window has something of the input."""
    sides = zip(count, windows.stride, windows.begin, windows.sizes or (), strict=True)
    return all((c - 1) * s - b < n for c, s, b, n in sides)


def _ends(windows: Windows, counted: tuple[int, ...]) -> tuple[int, ...]:
    """Padding at the end such that rounding down gives so many windows."""
    sides = zip(counted, windows.stride, windows.extent, windows.begin, windows.sizes or (), windows.end, strict=True)
    return tuple([max(z, (c - 1) * s + e - b - n) for c, s, e, b, n, z in sides])
