"""Numbers to codes and back, exactly: every number goes to the nearest of its grid, ties to even, and comes back rounded once.

With the scales of `porter.check.precision.scales`, |x - (q - z) · s| ≤ s / 2 for every x of the range, before the product is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.check.precision.grids import NF4
from porter.dtypes import DTYPES, FLOAT32, DType
from porter.mapping.ops.rounding import rounded
from porter.quantisation.ways import Type

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def encoded(
    x: NDArray[np.float64], kind: Type, scale: NDArray[np.float32], zero: NDArray[np.int64] | None, *, wide: bool = True
) -> NDArray[Any]:
    """The codes of finite numbers: an array of `kind.dtype.numpy()`; what lies beyond the range gets its end.

    scale, zero: of shapes that go over `x`; zero None for symmetric ranges. wide: numbers may have more bits than float32 has.
    """
    import numpy as np

    s = scale.astype(np.float64)
    if kind.name == "nf4":
        values = np.array(NF4)
        return np.asarray(np.searchsorted((values[1:] + values[:-1]) / 2, x / s).astype(kind.dtype.numpy()))
    if not kind.integers:
        # The quotient may be rounded beyond the largest number, by the last bit.
        return rounded(np.clip(x / s, -kind.top, kind.top), kind.dtype)[0]
    q = np.asarray(np.rint(x / s))
    if wide:
        q = _corrected(q, x, s)
    least = -kind.top if zero is None else -kind.top - 1
    if zero is not None:
        q += zero
    return np.asarray(np.clip(q, least, kind.top).astype(np.int8).astype(kind.dtype.numpy()))


def _corrected(q: NDArray[np.float64], x: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
    """`q`, which is x / s rounded twice, as if it had been rounded once.

    Of two numbers of 24 bits the quotient is either half-way between integers or further from that than float64 rounds it; of others
    it need not be. Half steps have few bits, so that their products with a float32 are exact, and so are the comparisons.
    """
    import numpy as np

    above, below, odd = (q + 0.5) * s, (q - 0.5) * s, q % 2 == 1
    return np.asarray(q + ((x > above) | ((x == above) & odd)) - ((x < below) | ((x == below) & odd)))


def decoded(
    codes: NDArray[Any], dtype: DType, scale: NDArray[Any], zero: NDArray[Any] | None, nf4: bool, to: DType = FLOAT32
) -> NDArray[Any]:
    """What codes stand for: (q - z) · s, rounded once to `to`. dtype: of the codes."""
    import numpy as np

    if nf4:
        q = np.array(NF4)[codes.astype(np.intp)]
    else:
        from porter.mapping.ops.rounding import widened

        q = np.array(widened(codes, dtype))
    if zero is not None:
        q = q - zero
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = q * scale.astype(np.float64)
    return rounded(np.asarray(product), to)[0]


FLOATS = frozenset(d.name for d in DTYPES.values() if d.kind == "float" and d.bits >= 16)
"""Types that are quantised, and that codes become again."""
