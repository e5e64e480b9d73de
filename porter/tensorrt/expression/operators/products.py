"""Constant, MatrixMultiply, Einsum.

Source: NVIDIA/TensorRT include/NvInfer.h, v11.1 (IConstantLayer, MatrixOperation, IMatrixMultiplyLayer, IEinsumLayer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.tensorrt.expression.graph import Op
from porter.tensorrt.layers import Constant, Einsum, MatrixMultiply

if TYPE_CHECKING:
    import onnx_ir as ir


def constant(op: Op) -> Sequence[ir.Value]:
    """Its weights, of their type and shape."""
    operation = op.layer.operation
    assert isinstance(operation, Constant)
    return [op.weights(operation.weights, wide=False)]


def matrix_multiply(op: Op) -> Sequence[ir.Value]:
    """Products of the last two axes, the others broadcast. A vector is a row on the left and a column on the right, and stays a vector."""
    operation = op.layer.operation
    assert isinstance(operation, MatrixMultiply)
    left = _operand(op, 0, operation.first, -2)
    right = _operand(op, 1, operation.second, -1)
    product = op.add("MatMul", [left, right])
    gone = [axis for axis, kind in ((-2, operation.first), (-1, operation.second)) if kind == "VECTOR"]
    return [op.add("Squeeze", [product, op.constant(gone)]) if gone else product]


def _operand(op: Op, index: int, kind: str, axis: int) -> ir.Value:
    x = op.number(index)
    if kind == "VECTOR":
        return op.add("Unsqueeze", [x, op.constant([axis])])
    if kind == "TRANSPOSE":
        rank = len(op.shape(index))
        return op.add("Transpose", [x], {"perm": [*range(rank - 2), rank - 1, rank - 2]})
    if kind != "NONE":
        op.refuse(f"a matrix taken as {kind}")
    return x


def einsum(op: Op) -> Sequence[ir.Value]:
    """As the equation says, which is written as in numpy."""
    operation = op.layer.operation
    assert isinstance(operation, Einsum)
    return [op.add("Einsum", [op.real(i) for i in range(len(op.layer.inputs))], {"equation": operation.equation})]
