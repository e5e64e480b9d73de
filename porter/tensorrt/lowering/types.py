"""Types of tensors: what each layer makes of its inputs' shapes and element types, as TensorRT documents it.

A size of -1 is open until the network runs.
Source: NVIDIA/TensorRT, include/NvInfer.h, tag v11.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from porter.dataclass import dataclass
from porter.graph.analysis.resampling import scaled
from porter.tensorrt import layers

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape, -1 for an open size, and element type, by porter's names."""

    shape: Shape
    dtype: str


def broadcast(*shapes: Shape) -> Shape:
    """The shape that all of them, of one rank, broadcast to.

    Raises:
        ValueError: they do not.
    """
    if len({len(s) for s in shapes}) != 1:
        raise ValueError(f"the shapes {' and '.join(str(list(s)) for s in shapes)} are not of one rank")
    result = []
    for sizes in zip(*shapes, strict=True):
        wide = {n for n in sizes if n != 1}
        known = wide - {-1}
        if len(known) > 1:
            raise ValueError(f"the shapes {' and '.join(str(list(s)) for s in shapes)} do not go together")
        result.append(known.pop() if known else -1 if wide else 1)
    return tuple(result)


def reshaped(shape: Shape, wanted: Sequence[int], zero_copies: bool = True) -> Shape:
    """`shape` reshaped as `Shuffle.shape` states it, as far as it is known."""
    found = [shape[i] if n == 0 and zero_copies else n for i, n in enumerate(wanted)]
    # Open sizes that are copied take no part in what is left for the -1.
    rest = list(shape)
    free = None
    for i, n in enumerate(wanted):
        if n == 0 and zero_copies:
            rest.remove(shape[i])
        elif n == -1:
            free = i
    if free is not None and -1 not in rest:
        others = math.prod(n for n in wanted if n > 0)
        found[free] = math.prod(rest) // others if others else 0
    return tuple(found)


def infer(operation: layers.Operation, inputs: Sequence[TensorType | None]) -> list[TensorType]:
    """The types of a layer's outputs; None stands for an input that is not given.

    Raises:
        ValueError: the inputs do not fit.
    """
    rule = _RULES.get(type(operation))
    if rule is None:
        first = inputs[0]
        assert first is not None
        return [first]
    found: TensorType | list[TensorType] = rule(operation, *inputs)
    return found if isinstance(found, list) else [found]


def _window(size: int, extent: int, stride: int, before: int, after: int) -> int:
    return -1 if size < 0 else (size + before + after - extent) // stride + 1


def _windows(shape: Shape, kernel: Shape, operation: Any, dilation: Shape) -> Shape:
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    found = tuple(
        [_window(*n) for n in zip(shape[2:], extent, operation.stride, operation.pre_padding, operation.post_padding, strict=True)]
    )
    if any(n == 0 or n < -1 for n in found):
        raise ValueError(f"its window is larger than what it slides over, {list(shape)}")
    return found


def _convolution(operation: layers.Convolution, x: TensorType, *_: Any) -> TensorType:
    kernel = operation.kernel.shape
    return TensorType((x.shape[0], kernel[0], *_windows(x.shape, kernel[2:], operation, operation.dilation)), x.dtype)


def _deconvolution(operation: layers.Deconvolution, x: TensorType, *_: Any) -> TensorType:
    kernel = operation.kernel.shape
    sizes = []
    for n, k, s, d, b, e in zip(
        x.shape[2:], kernel[2:], operation.stride, operation.dilation, operation.pre_padding, operation.post_padding, strict=True
    ):
        sizes.append(-1 if n < 0 else (n - 1) * s + d * (k - 1) + 1 - b - e)
    return TensorType((x.shape[0], kernel[1] * operation.groups, *sizes), x.dtype)


def _pooling(operation: layers.Pooling, x: TensorType) -> TensorType:
    ones = (1,) * len(operation.window)
    return TensorType((*x.shape[:2], *_windows(x.shape, operation.window, operation, ones)), x.dtype)


def _elementwise(operation: layers.Elementwise, a: TensorType, b: TensorType) -> TensorType:
    if a.dtype != b.dtype:
        raise ValueError(f"its inputs are {a.dtype} and {b.dtype}")
    return TensorType(broadcast(a.shape, b.shape), "bool" if operation.kind in ("EQUAL", "GREATER", "LESS") else a.dtype)


def _parametric_relu(operation: layers.ParametricRelu, x: TensorType, slopes: TensorType) -> TensorType:
    broadcast(x.shape, slopes.shape)
    return x


def _unary(operation: layers.Unary, x: TensorType) -> TensorType:
    return TensorType(x.shape, "bool" if operation.kind in ("ISINF", "ISNAN", "NOT") else x.dtype)


def _concatenation(operation: layers.Concatenation, *inputs: TensorType) -> TensorType:
    sizes = [t.shape[operation.axis] for t in inputs]
    first = list(inputs[0].shape)
    for t in inputs[1:]:
        first = [a if a != -1 else b for a, b in zip(first, t.shape, strict=True)]
    first[operation.axis] = -1 if -1 in sizes else sum(sizes)
    return TensorType(tuple(first), inputs[0].dtype)


def _shuffle(operation: layers.Shuffle, x: TensorType, sizes: TensorType | None = None) -> TensorType:
    shape = x.shape
    if operation.first is not None:
        shape = tuple([shape[p] for p in operation.first])
    if sizes is not None:
        shape = (-1,) * sizes.shape[0]
    elif operation.shape is not None:
        shape = reshaped(shape, operation.shape, operation.zero_copies)
    if operation.second is not None:
        shape = tuple([shape[p] for p in operation.second])
    return TensorType(shape, x.dtype)


def _matrix_multiply(operation: layers.MatrixMultiply, a: TensorType, b: TensorType) -> TensorType:
    sides = []
    for shape, how, column in ((a.shape, operation.first, False), (b.shape, operation.second, True)):
        if how == "VECTOR":
            shape = (*shape, 1) if column else (*shape[:-1], 1, shape[-1])
        elif how == "TRANSPOSE":
            shape = (*shape[:-2], shape[-1], shape[-2])
        sides.append(shape)
    (*outer, rows, inner), (*others, depth, columns) = sides
    if inner != depth and -1 not in (inner, depth):
        raise ValueError(f"its matrices share an axis of {inner} and of {depth}")
    matrix = [rows] * (operation.first != "VECTOR") + [columns] * (operation.second != "VECTOR")
    return TensorType((*broadcast(tuple(outer), tuple(others)), *matrix), a.dtype)


def _reduce(operation: layers.Reduce, x: TensorType) -> TensorType:
    kept = [1 if i in operation.axes else n for i, n in enumerate(x.shape) if operation.keep or i not in operation.axes]
    return TensorType(tuple(kept), x.dtype)


def _slice(operation: layers.Slice, x: TensorType, *given: TensorType | None) -> TensorType:
    return TensorType(operation.size if operation.size is not None else (-1,) * len(x.shape), x.dtype)


def _resize(operation: layers.Resize, x: TensorType, *_: Any) -> TensorType:
    if operation.size is not None:
        shape = tuple([n if w == -1 else w for n, w in zip(x.shape, operation.size, strict=True)])
    elif operation.scales is not None:
        # TensorRT for RTX 1.7 was seen to round down what ONNX does: a product in float32.
        shape = tuple([n if n < 0 else scaled(n, s) for n, s in zip(x.shape, operation.scales, strict=True)])
    else:
        shape = (-1,) * len(x.shape)
    return TensorType(shape, x.dtype)


def _gather(operation: layers.Gather, x: TensorType, indices: TensorType) -> TensorType:
    axis, batch = operation.axis, operation.batch_axes
    if operation.mode == "ELEMENT":
        shape = indices.shape
    elif operation.mode == "ND":
        shape = (*indices.shape[:-1], *x.shape[batch + indices.shape[-1] :])
    else:
        shape = (*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :])
    return TensorType(shape, x.dtype)


def _top_k(operation: layers.TopK, x: TensorType, *_: Any) -> list[TensorType]:
    shape = tuple([operation.k if i == operation.axis else n for i, n in enumerate(x.shape)])
    return [TensorType(shape, x.dtype), TensorType(shape, "int32")]


def _select(operation: layers.Select, condition: TensorType, yes: TensorType, no: TensorType) -> TensorType:
    return TensorType(broadcast(condition.shape, yes.shape, no.shape), yes.dtype)


def _einsum(operation: layers.Einsum, *inputs: TensorType) -> TensorType:
    terms, _, result = operation.equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, x in zip(terms.split(","), inputs, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, n))
    return TensorType(tuple([sizes[letter] for letter in result]), inputs[0].dtype)


def _one_hot(operation: layers.OneHot, indices: TensorType, values: TensorType, *_: Any) -> TensorType:
    shape = (*indices.shape[: operation.axis], -1, *indices.shape[operation.axis :])
    return TensorType(shape, values.dtype)


def _grid_sample(operation: layers.GridSample, x: TensorType, grid: TensorType) -> TensorType:
    return TensorType((*x.shape[:2], *grid.shape[1:-1]), x.dtype)


_RULES: dict[type, Callable[..., TensorType | list[TensorType]]] = {
    layers.Convolution: _convolution,
    layers.Deconvolution: _deconvolution,
    layers.Pooling: _pooling,
    layers.Elementwise: _elementwise,
    layers.ParametricRelu: _parametric_relu,
    layers.Unary: _unary,
    layers.Concatenation: _concatenation,
    layers.Shuffle: _shuffle,
    layers.MatrixMultiply: _matrix_multiply,
    layers.Constant: lambda o: TensorType(o.weights.tensor.shape, o.weights.tensor.dtype.name),
    layers.Reduce: _reduce,
    layers.Slice: _slice,
    layers.Resize: _resize,
    layers.Gather: _gather,
    layers.TopK: _top_k,
    layers.Select: _select,
    layers.Cast: lambda o, x: TensorType(x.shape, o.dtype),
    layers.Quantize: lambda o, x, *_: TensorType(x.shape, o.dtype),
    layers.Dequantize: lambda o, x, *_: TensorType(x.shape, o.dtype),
    layers.NonMaximumSuppression: lambda o, *_: [TensorType((-1, 3), "int32"), TensorType((), "int32")],
    layers.NonZero: lambda o, x: TensorType((len(x.shape), -1), "int32"),
    layers.Shape: lambda o, x: TensorType((len(x.shape),), "int64"),
    layers.Einsum: _einsum,
    layers.OneHot: _one_hot,
    layers.GridSample: _grid_sample,
}
"""Those that are not here make a tensor of the type of their first input."""
