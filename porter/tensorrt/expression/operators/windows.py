"""Convolution, Deconvolution, Pooling.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (PaddingMode, IConvolutionLayer, IDeconvolutionLayer, IPoolingLayer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.tensorrt.expression.graph import Op
from porter.tensorrt.layers import Convolution, Deconvolution, Pooling, Weights

if TYPE_CHECKING:
    import onnx_ir as ir


def convolution(op: Op) -> Sequence[ir.Value]:
    """Cross-correlation: the size is floor((padded - dilated kernel) / stride) + 1, as ONNX has it."""
    return [_convolution(op, op.layer.operation, "Conv", op.layer.operation.kernel.shape[0])]  # type: ignore[union-attr]


def deconvolution(op: Op) -> Sequence[ir.Value]:
    """The size is (n - 1) * stride + dilated kernel - padding. Kernel: input channels first, as in ONNX."""
    operation = op.layer.operation
    assert isinstance(operation, Deconvolution)
    return [_convolution(op, operation, "ConvTranspose", operation.kernel.shape[1] * operation.groups)]


def _convolution(op: Op, operation: Any, op_type: str, outputs: int) -> ir.Value:
    assert isinstance(operation, Convolution | Deconvolution)
    kernel = op.weights(operation.kernel) if isinstance(operation.kernel, Weights) else op.real(1)
    inputs = [op.real(), kernel]
    if operation.bias is not None:
        inputs.append(op.weights(operation.bias, (outputs,)))
    attributes = {
        "kernel_shape": list(operation.kernel.shape[2:]),
        "strides": list(operation.stride),
        "dilations": list(operation.dilation),
        "pads": [*operation.pre_padding, *operation.post_padding],
        "group": operation.groups,
    }
    return op.add(op_type, inputs, attributes)


def pooling(op: Op) -> Sequence[ir.Value]:
    """Maximum, or average over the window: over all of it, or over what of it is in the tensor.

    onnxruntime takes no padding as large as the window, so that is put around the tensor by a node of its own.
    """
    operation = op.layer.operation
    assert isinstance(operation, Pooling)
    if operation.kind not in ("MAX", "AVERAGE"):
        op.refuse(f"pooling of the type {operation.kind}")
    x = op.real()
    pads = [*operation.pre_padding, *operation.post_padding]
    outside = any(n >= k for n, k in zip(pads, operation.window * 2, strict=True))
    if outside and operation.kind == "MAX":
        _refuse_empty_windows(op, operation)
    elif outside and operation.count_excludes_padding:
        op.refuse("padding as large as the window, which is not counted")
    attributes: dict[str, Any] = {
        "kernel_shape": list(operation.window),
        "strides": list(operation.stride),
        "pads": [0] * len(pads) if outside else pads,
    }
    if operation.kind == "MAX":
        return [op.add("MaxPool", [_padded(op, x, pads, float("-inf")) if outside else x], attributes)]
    attributes["count_include_pad"] = int(not operation.count_excludes_padding)
    return [op.add("AveragePool", [_padded(op, x, pads, 0.0) if outside else x], attributes)]


def _refuse_empty_windows(op: Op, operation: Pooling) -> None:
    """What a window of padding alone gives is written nowhere."""
    sizes = op.shape()[-len(operation.window) :]
    settings = zip(sizes, operation.window, operation.stride, operation.pre_padding, operation.post_padding, strict=True)
    for size, window, stride, before, after in settings:
        last = (size + before + after - window) // stride * stride
        if size < 0 or window <= before or last >= before + size:
            op.refuse("it has windows that lie in the padding alone")


def _padded(op: Op, x: ir.Value, pads: Sequence[int], value: float) -> ir.Value:
    half = len(pads) // 2
    before = [0] * (len(op.shape()) - half)
    return op.add("Pad", [x, op.constant([*before, *pads[:half], *before, *pads[half:]]), op.constant(value, "float32")])
