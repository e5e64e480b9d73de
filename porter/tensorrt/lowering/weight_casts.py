"""Weights of a network in narrower types, rounded once, and what that changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.dataclass import replace
from porter.dtypes import DTYPES, DType
from porter.mapping.ops.rounding import Rounding, rounded, widened
from porter.tensor import BytesPayload, Tensor, TensorSpec, canonical_bytes
from porter.tensorrt import layers
from porter.tensorrt.layers import Operation, Weights, weights_of
from porter.tensorrt.lowering.batch_norm import rounding, scale_and_shift

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDE = "float32"
"""What is narrowed. What has another type keeps it."""

_BLOCK = 1 << 20
"""Values that are wide at a time."""


class WeightCasts:
    """Makes weights of other types; each is made once. roundings: what that changed, by name and type."""

    def __init__(self) -> None:
        self.roundings: dict[tuple[str, str], Rounding] = {}
        self._cast: dict[tuple[str, str], Weights] = {}

    def operation(self, operation: Operation, dtype: str) -> Operation:
        """`operation` with its float32 weights in `dtype`."""
        if dtype == WIDE:
            return operation
        if isinstance(operation, layers.Scale) and operation.batch_norm is not None and operation.scale is not None:
            return self._batch_norm(operation, operation.batch_norm, operation.scale, dtype)
        changed = {role: self.weights(w, dtype) for role, w in weights_of(operation).items() if w.tensor.dtype.name == WIDE}
        if not changed:
            return operation
        made: Operation = replace(operation, **changed)
        return made

    def _batch_norm(self, operation: layers.Scale, norm: layers.BatchNorm, scale: Weights, dtype: str) -> layers.Scale:
        """Computed from what it was computed from, so that it is rounded once."""
        if scale.tensor.dtype.name != WIDE:
            return operation
        prefix = scale.tensor.name.removesuffix(".scale")
        for part in ("scale", "shift"):
            self.roundings[f"{prefix}.{part}", dtype] = rounding(norm, part, dtype)
        new_scale, new_shift = scale_and_shift(norm, prefix, dtype)
        return replace(operation, scale=new_scale, shift=new_shift)

    def weights(self, weights: Weights, dtype: str, name: str | None = None) -> Weights:
        """`weights` in `dtype`, by the same name unless another is given. Reads them."""
        name = name or weights.tensor.name
        if (name, dtype) not in self._cast:
            payload = _Cast(weights.tensor, DTYPES[dtype])
            self.roundings[name, dtype] = payload.rounded()[1]
            tensor = Tensor(TensorSpec(name, DTYPES[dtype], weights.tensor.shape), payload)
            self._cast[name, dtype] = Weights(tensor, weights.sources, "cast" if weights.formula is None else f"{weights.formula}, cast")
        return self._cast[name, dtype]

    @property
    def inexact(self) -> int:
        """How many values were rounded."""
        return sum(found.inexact for found in self.roundings.values())

    def losses(self) -> Iterator[str]:
        """A line for each tensor of which values became infinite or zero."""
        for (name, dtype), found in self.roundings.items():
            if found.overflowed:
                yield f"{name}: {found.overflowed} values are too large for {dtype} and became infinite"
            if found.underflowed:
                yield f"{name}: {found.underflowed} values are too small for {dtype} and became zero"


class _Cast:
    """The bytes of a tensor in another type, computed for whoever asks."""

    location = None

    def __init__(self, tensor: Tensor, dtype: DType) -> None:
        self._tensor = tensor
        self._dtype = dtype
        self.nbytes = dtype.nbytes(tensor.size)

    def rounded(self) -> tuple[NDArray[Any], Rounding]:
        """The values, and what rounding changed. Reads the tensor; few of its values are wide at a time."""
        import numpy as np

        values = self._tensor.numpy()
        flat, result, total = values.reshape(-1), np.empty(values.size, self._dtype.numpy()), Rounding()
        for start in range(0, values.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block], changed = rounded(widened(flat[block], self._tensor.dtype), self._dtype)
            total += changed
        return result.reshape(values.shape), total

    def buffer(self) -> memoryview:
        """Reads the tensor."""
        return canonical_bytes(self.rounded()[0], self._dtype).toreadonly()

    def chunks(self, limit: int) -> Iterator[memoryview]:
        """Reads the tensor."""
        return BytesPayload(self.buffer()).chunks(limit)
