"""Products of matrices.

The weights of a layer keep the file's order: which side is transposed is said to the layer that multiplies.

Source: onnx/onnx docs/Operators.md (Gemm, MatMul, Einsum); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (MatrixOperation, IEinsumLayer).
"""

from __future__ import annotations

import string

from porter.graph.analysis.values import Constant
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op


def gemm(op: Op) -> None:
    """alpha A B + beta C, as a constant, a product, a constant and a sum where B and C are weights."""
    _floats(op)
    transposed = ["TRANSPOSE" if op.attribute(name, 0) else "NONE" for name in ("transA", "transB")]
    alpha, beta = float(op.attribute("alpha", 1.0)), float(op.attribute("beta", 1.0))
    adds = op.has(2) and beta != 0
    held = op.constants_together({"weight": _ranked(op, 1, 2), "bias": _ranked(op, 2, 2) if adds else None})
    a, b = op.tensor(0), held.get("weight") or op.tensor(1, 2)
    last = not adds and alpha == 1
    made = op.put_or_add(layers.MatrixMultiply(*transposed), [a, b], "product", last)
    if alpha != 1:
        made = op.put_or_add(layers.Elementwise("PROD"), [made, op.scalar(alpha, made, "alpha")], "scaled", not adds)
    if not adds:
        return
    bias = held.get("bias") or op.tensor(2, 2)
    if beta != 1:
        bias = op.add(layers.Elementwise("PROD"), [bias, op.scalar(beta, bias, "beta")], "scaled_bias")
    op.put(layers.Elementwise("SUM"), [made, bias])


def _ranked(op: Op, index: int, rank: int) -> Constant | None:
    """An input whose values are known, with axes of size 1 in front up to some rank."""
    constant = op.constant(index)
    return constant.reshaped((1,) * (rank - len(constant.shape)) + constant.shape) if constant is not None else None


def matmul(op: Op) -> None:
    """A product of matrices, or of many; a third input is a bias that is added behind."""
    _floats(op)
    ranks = [op.rank(0), op.rank(1)]
    if 0 in ranks:
        raise op.refuse("a factor is a scalar")
    how = ["VECTOR" if r == 1 else "NONE" for r in ranks]
    outer = max(r - 1 if r == 1 else r - 2 for r in ranks)
    outer = max(outer, 0)
    wanted = [outer + (1 if r == 1 else 2) for r in ranks]
    rank = max(len(op.out_shape()), 1)
    held = op.constants_together({"weight": _ranked(op, 1, wanted[1]), "bias": _ranked(op, 2, rank)})
    sides = [op.tensor(0, wanted[0]), held.get("weight") or op.tensor(1, wanted[1])]
    product = op.put_or_add(layers.MatrixMultiply(*how), sides, "product", not op.has(2))
    if op.has(2):
        op.put(layers.Elementwise("SUM"), [product, held.get("bias") or op.tensor(2, rank)])


def einsum(op: Op) -> None:
    """As the equation says, with lower-case letters and its result stated, as TensorRT takes it."""
    _floats(op)
    terms, arrow, result = str(op.attribute("equation")).replace(" ", "").partition("->")
    if "." in terms:
        raise op.refuse("its equation has an ellipsis")
    letters = sorted({c for c in terms if c != ","})
    if not arrow:
        result = "".join([c for c in letters if terms.count(c) == 1])
    small = dict(zip(letters, string.ascii_lowercase, strict=False)) if any(c.isupper() for c in letters) else {c: c for c in letters}
    if len(small) < len(letters):
        raise op.refuse("its equation has more letters than there are lower-case ones")
    equation = "".join([small.get(c, c) for c in f"{terms}->{result}"])
    op.put(layers.Einsum(equation), [op.tensor(i) for i in range(len(op.node.inputs))])


def _floats(op: Op) -> None:
    if not op.is_float(0):
        raise op.refuse(f"TensorRT has no products of matrices of {op.dtype(0)}")
