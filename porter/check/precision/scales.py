"""Scales and zero points for ranges: what an audit reckons with, and what `quantize` writes.

Scales are float32, which is what every file format and runtime has for them, and at least as large as the range asks for: rounded up,
so that nothing of the range is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def scale_of(low: NDArray[np.float64], high: NDArray[np.float64], top: float, symmetric: bool) -> NDArray[np.float32]:
    """Scales for ranges that hold zero; 1 for a range of nothing but zero. Infinite where float32 has none large enough."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore"):
        width = np.maximum(-low, high) / top if symmetric else high / (2 * top + 1) - low / (2 * top + 1)
        scale = np.asarray(width.astype(np.float32))
        short = scale.astype(np.float64) < width
        scale = np.where(short, np.nextafter(scale, np.float32(np.inf)), scale)
    scale[(low == 0) & (high == 0)] = 1
    return scale


def zero_of(low: NDArray[np.float64], scale: NDArray[np.float32], top: float) -> NDArray[np.int64]:
    """The codes of zero, of ranges that begin at `low` and go from -top - 1 to top."""
    import numpy as np

    return np.rint(-top - 1 - low / scale.astype(np.float64)).astype(np.int64)
