"""Quantised values: TensorRT's are symmetric, their zero point is 0.

Source: onnx/onnx docs/Operators.md (QuantizeLinear, DequantizeLinear); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1
(IQuantizeLayer, IDequantizeLayer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from porter.graph.analysis.values import Constant, Value
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op, Refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = ("int8", "float8_e4m3fn")


def quantize(op: Op) -> None:
    """Divided by a scale, rounded to the nearest, ties to even, and put into the range of a narrow type."""
    if not op.attribute("saturate", 1):
        raise op.refuse("TensorRT puts what is out of range at its end, and this one makes it a NaN")
    dtype = op.dtype(2) if op.has(2) else _stated(op)
    if dtype == "int8" and _is_known(op):
        over = _over(op)
        _know(op, dtype, lambda: _quantized(op, over))
        return
    axis = _checked(op, dtype)
    op.put(layers.Quantize(axis, dtype), [op.tensor(0), op.tensor(1)])


def dequantize(op: Op) -> None:
    """Times a scale. Known values stay int8 where they are the weights of layers that multiply, else they become what they stand for."""
    if _is_known(op):
        over, why = _over(op), _not_as_codes(op)
        if why is not None:
            op.notice(f"its values are given to TensorRT as the floating-point numbers that they stand for: {why}")
            _know(op, op.dtype(1), lambda: _dequantized(op, over))
            return
        op.assembly.dequantized.add(op.node.outputs[0])
    axis = _checked(op, op.dtype(0))
    op.put(layers.Dequantize(axis, op.dtype(1)), [op.tensor(0), op.tensor(1)])


def _not_as_codes(op: Op) -> str | None:
    """Why known values cannot go in as they are stored, or None."""
    if op.assembly.codes is None:
        return "the file of the weights holds no int8"
    if op.dtype(0) != "int8":
        return f"they are {op.dtype(0)}"
    if op.node.outputs[0] not in op.assembly.codes:
        return "TensorRT takes integers as the weights of convolutions and products of matrices alone"
    try:
        _checked(op, "int8")
    except Refusal as refusal:
        return str(refusal)
    return None


def _is_known(op: Op) -> bool:
    return all(op.constant(i) is not None for i in range(len(op.node.inputs)) if op.has(i)) and not op.attribute("block_size", 0)


def _know(op: Op, dtype: str, load: Callable[[], NDArray[Any]]) -> None:
    """An output whose values are known, computed when they are read."""
    constant, output = op.constant(0), op.node.outputs[0]
    assert constant is not None
    op.assembly.network.values[output] = Value(output, dtype, constant.shape, Constant(dtype, constant.shape, load))


def _over(op: Op) -> list[int]:
    """The shape in which known scales go over known values. PyTorch exports the one scale of a tensor as an array of one."""
    x, scale = op.constant(0), op.constant(1)
    assert x is not None
    assert scale is not None
    over = [1] * len(x.shape)
    if scale.size != 1:
        axis = op.axis("axis", 1)
        over[axis] = x.shape[axis]
        if scale.shape != (over[axis],):
            raise op.refuse(f"its scales are {list(scale.shape)}, and its values have {over[axis]} along axis {axis}")
    return over


def _parts(op: Op, over: list[int]) -> list[NDArray[Any]]:
    """Values, scales and zero points; the latter two of shapes that go over the values."""
    import numpy as np

    x, scale = op.array(0), op.array(1)
    assert x is not None
    assert scale is not None
    zero = op.array(2) if op.has(2) else np.zeros(scale.shape, np.int8)
    assert zero is not None
    return [x, *(a.reshape(over) for a in (scale, zero))]


def _dequantized(op: Op, over: list[int]) -> NDArray[Any]:
    import numpy as np

    x, scale, zero = _parts(op, over)
    difference = x.astype(scale.dtype) if op.dtype(0).startswith("float") else x.astype(np.int64) - zero.astype(np.int64)
    return np.asarray(difference.astype(scale.dtype) * scale)


def _quantized(op: Op, over: list[int]) -> NDArray[Any]:
    import numpy as np

    x, scale, zero = _parts(op, over)
    return np.asarray(np.clip(np.rint(x / scale) + zero.astype(np.float32), -128, 127).astype(np.int8))


def _stated(op: Op) -> str:
    """The type of the result where there is no zero point."""
    import onnx_ir as ir

    from porter.graph.analysis.values import dtype_of

    code = op.attribute("output_dtype", 0)
    return (dtype_of(code) if code else "uint8") or ir.DataType(code).name


def _checked(op: Op, dtype: str) -> int | None:
    """The axis of the scales, or None for one scale.

    Raises:
        Refusal: TensorRT quantises otherwise.
    """
    if dtype not in _TYPES:
        raise op.refuse(f"TensorRT quantises to {' or '.join(_TYPES)}, and this is {dtype}")
    if not op.rank(0):
        raise op.refuse("its input has no axes")
    if op.attribute("block_size", 0):
        raise op.refuse("its scales are those of blocks")
    scale = op.array(1)
    if scale is None or not (scale > 0).all():
        raise op.refuse("its scales are not all above 0, or known only when the network runs")
    zero = op.array(2) if op.has(2) else None
    if op.has(2) and (zero is None or zero.astype("float32").any()):
        raise op.refuse("its zero point is not 0; TensorRT's quantised values are symmetric")
    if scale.size == 1:
        return None
    if op.constant(0) is None:
        raise op.refuse("TensorRT has scales for each channel of weights only")
    return op.axis("axis", 1)
