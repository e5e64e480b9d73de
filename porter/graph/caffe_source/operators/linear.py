"""Products with a constant matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.graph.caffe_source.net import Blob, Weight
from porter.graph.caffe_source.op import Op, Refused
from porter.graph.caffe_source.operators.arithmetic import added, following_addend, plus

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gemm(op: Op) -> None:
    """Factors go into the weights, in float64 and rounded once."""
    import numpy as np

    alpha, beta = float(op.attribute("alpha", 1.0)), float(op.attribute("beta", 1.0))
    if op.attribute("transA", 0):
        raise Refused("its first input is transposed")
    constant = op.constant(1)
    if constant is None:
        raise Refused("Caffe has no product of two matrices that the network computes")
    x = op.blob(0)
    transposed = bool(op.attribute("transB", 0))
    outputs = constant.shape[0 if transposed else 1]

    def weight(array: NDArray[Any]) -> NDArray[Any]:
        turned = array if transposed else array.T
        return turned if alpha == 1 else turned.astype(np.float64) * alpha

    inner = constant.shape[1 if transposed else 0]
    weights = [op.weight("weight", constant, (outputs, inner), weight)]
    x = _unflattened(x, inner)
    if not op.has(2):
        op.put(_product(op, x, 1, outputs, weights))
        return
    constant = op.constant(2)
    if constant is not None and (constant.size == 1 or constant.shape in ((outputs,), (1, outputs))):
        bias = np.broadcast_to(constant.array().astype(np.float64).reshape(-1) * beta, (outputs,))
        op.put(_product(op, x, 1, outputs, [*weights, Weight("bias", (outputs,), lambda: bias)]))
        return
    product = _product(op, x, 1, outputs, weights)
    if constant is not None:
        op.put(plus(op, product, constant.array().astype(np.float64) * beta))
    else:
        op.put(added(op, product, op.power(op.blob(2), scale=beta), op.shape()))


def matmul(op: Op) -> None:
    """Over the last axis, with a bias where an Add of one follows."""
    constant = op.constant(1)
    if constant is None or len(constant.shape) != 2:
        raise Refused("Caffe multiplies by a constant matrix only, from the right")
    x = op.blob(0)
    if x.rank < 2:
        raise Refused("its first input is a vector")
    inner, outputs = constant.shape
    weights = [op.weight("weight", constant, (outputs, inner), lambda a: a.T)]
    addend = following_addend(op)
    following = op.next()
    if addend is not None and following is not None and addend.shape in ((outputs,), (1,) * (x.rank - 1) + (outputs,)):
        flat = addend.reshape(-1)
        weights.append(Weight("bias", (outputs,), lambda: flat))
        op.absorb(following)
    axis = x.rank - 1
    op.put(_product(op, _unflattened(x, inner) if axis == 1 else x, axis, outputs, weights))


def _product(op: Op, x: Blob, axis: int, outputs: int, weights: list[Weight]) -> Blob:
    said: dict[str, Any] = (
        {"num_output": outputs} | ({} if len(weights) > 1 else {"bias_term": False}) | ({} if axis == 1 else {"axis": axis})
    )
    return op.layer("InnerProduct", [x], (*x.shape[:axis], outputs), {"inner_product_param": said}, weights)


def _unflattened(x: Blob, inner: int) -> Blob:
    """What `x` was flattened from: an InnerProduct flattens by itself."""
    while x.maker is not None and x.maker.kind in ("Flatten", "Reshape"):
        before = x.maker.bottoms[0]
        if before.rank < 2 or before.shape[0] != x.shape[0] or math.prod(before.shape[1:]) != inner:
            break
        x = before
    return x
