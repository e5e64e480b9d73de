"""The scale and the shift that a batch normalisation comes to.

In float64, in the order that `porter.tensorrt.layers.BatchNorm` states, and rounded once; NaNs keep what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES
from porter.mapping.ops.rounding import Rounding, rounded, widened
from porter.tensor import BytesPayload, Tensor, TensorSpec, canonical_bytes
from porter.tensorrt.layers import BatchNorm, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def scale_and_shift(norm: BatchNorm, prefix: str, dtype: str) -> tuple[Weights, Weights]:
    """Both as weights of `dtype`, called `PREFIX.scale` and `PREFIX.shift`; computed when they are read."""
    scale = _weights(norm, f"{prefix}.scale", dtype, (norm.weight, norm.variance))
    shift = _weights(norm, f"{prefix}.shift", dtype, (norm.bias, norm.mean, norm.weight, norm.variance))
    return scale, shift


def _weights(norm: BatchNorm, name: str, dtype: str, made_of: tuple[Weights, ...]) -> Weights:
    shape = norm.weight.tensor.shape
    part = name.rpartition(".")[2]
    tensor = Tensor(TensorSpec(name, DTYPES[dtype], shape), _Computed(norm, part, dtype))
    sources = tuple(dict.fromkeys(s for w in made_of for s in w.sources))
    return Weights(tensor, sources, f"batch_norm.{part}")


def values(norm: BatchNorm, part: str) -> NDArray[np.float64]:
    """`scale` or `shift` in float64, not rounded. Reads what it is made of."""
    import numpy as np

    weight, bias, mean, variance = (
        np.asarray(widened(w.tensor.numpy(), w.tensor.dtype)) for w in (norm.weight, norm.bias, norm.mean, norm.variance)
    )
    with np.errstate(all="ignore"):
        scale: NDArray[np.float64] = weight / np.sqrt(variance + norm.epsilon)
        return scale if part == "scale" else bias - mean * scale


def rounding(norm: BatchNorm, part: str, dtype: str) -> Rounding:
    """What rounding to `dtype` changes."""
    return rounded(values(norm, part), DTYPES[dtype])[1]


class _Computed:
    """The bytes of a scale or a shift, computed for whoever asks."""

    location = None

    def __init__(self, norm: BatchNorm, part: str, dtype: str) -> None:
        self._norm = norm
        self._part = part
        self._dtype = DTYPES[dtype]
        self.nbytes = self._dtype.nbytes(norm.weight.tensor.size)

    def buffer(self) -> memoryview:
        """Reads the four tensors."""
        made: NDArray[Any] = rounded(values(self._norm, self._part), self._dtype)[0]
        return canonical_bytes(made, self._dtype).toreadonly()

    def chunks(self, limit: int) -> Iterator[memoryview]:
        """Reads the four tensors."""
        return BytesPayload(self.buffer()).chunks(limit)
