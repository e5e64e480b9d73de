"""How two arrays of weights are related: the same bits, the same values in another order, rounded, scaled, or different."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

from porter.parity.causes.weights import narrowed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLOSE = 1e-5
"""Of the largest magnitude: arithmetic of a conversion, such as a scale factor's, stays below."""


def related(a: NDArray[Any], b: NDArray[Any]) -> str:
    """What `b` is to `a`, in words that end `b is …`."""
    import numpy as np

    if a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return "bit-equal"
    if a.size != b.size:
        return f"of another size: {list(a.shape)} and {list(b.shape)}"
    if np.array_equal(a.reshape(-1), b.reshape(-1)):
        return "equal" if a.shape == b.shape else f"equal as {list(b.shape)}"
    if a.ndim <= 4:
        for order in list(permutations(range(a.ndim)))[1:]:
            if np.array_equal(a.transpose(order).reshape(-1), b.reshape(-1)):
                return f"equal with its axes as {list(order)}"
    if a.shape == b.shape:
        for axis in range(a.ndim):
            if np.array_equal(np.flip(a, axis), b):
                return f"equal with axis {axis} turned round"
    for dtype in ("float16", "bfloat16", "tf32") if a.dtype == np.float32 else ():
        if np.array_equal(narrowed(a, dtype).reshape(-1), b.reshape(-1)):
            return f"equal rounded to {dtype}"
    return _scaled(a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64))


def _scaled(a: NDArray[Any], b: NDArray[Any]) -> str:
    import numpy as np

    largest = float(np.abs(a).max(initial=0)) or 1.0
    with np.errstate(all="ignore"):
        far = float(np.abs(a - b).max(initial=0)) / largest
        factor = float(a @ b) / float(a @ a) if float(a @ a) else 0.0
        if far <= _CLOSE:
            return f"equal within {far:.1e} of its largest magnitude"
        if factor and float(np.abs(a * factor - b).max(initial=0)) <= _CLOSE * abs(factor) * largest:
            return f"{factor:.6g} times it"
    same = float((np.sort(a) == np.sort(b)).mean()) == 1.0
    alone = int(np.count_nonzero((np.isfinite(a) != np.isfinite(b)) | (np.isnan(a) != np.isnan(b))))
    if alone:
        return f"different: {alone:,} of {a.size:,} values are NaN or infinite in one alone"
    return "the same values in another order" if same else f"different, by up to {far:.2g} of its largest magnitude"
