"""A tensor of the store as an initialiser: its values stay in their file until the model is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from porter.tensor import Tensor


def lazy_tensor(tensor: Tensor) -> ir.LazyTensor:
    """`tensor` for `onnx_ir`, named as in the store. Float types other than float32 become float32, which is what Caffe computes in."""
    import onnx_ir as ir

    def values() -> ir.TensorProtocol:
        import numpy as np

        return ir.tensor(np.asarray(tensor.numpy()).astype(np.float32, copy=False), name=tensor.name)

    return ir.LazyTensor(values, dtype=ir.DataType.FLOAT, shape=ir.Shape(tensor.shape), name=tensor.name)
