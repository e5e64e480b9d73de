"""Values as float32, for formats that have nothing else: floats of fewer bits exactly, integers checked.

Conversion instructions of processors make signalling NaNs quiet, so floats of up to 16 bits go through tables of bit
patterns: the NaN with payload p becomes the float32 NaN with the same payload in its upper bits, or the default quiet
NaN where the type has a single one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES, FLOAT32, DType
from porter.io.float_layouts import FLOAT_LAYOUTS
from porter.io.payloads import ComputedPayload
from porter.tensor import CHUNK, Payload, Tensor, unpack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDENED_TO_FLOAT32 = {name: "float32" for name in FLOAT_LAYOUTS if DTYPES[name].bits <= 16}
"""For `Capabilities.widened` of formats that hold float32: every value of these types is a float32."""

_QUIET_NAN = 0x7FC00000


def as_float32(tensor: Tensor) -> Tensor:
    """`tensor` with float32 values, computed chunk by chunk when they are read.

    Floats of up to 16 bits keep every bit of information; integers and booleans are rounded to the nearest float32 (see
    `first_inexact`). float64 and complex types are not for this function.
    """
    if tensor.dtype.name == "float32":
        return tensor
    payload = ComputedPayload(tensor.size * 4, lambda: _pieces(tensor))
    return Tensor(_with_dtype(tensor), payload)


def first_inexact(tensor: Tensor) -> int | None:
    """The flat index of the first integer of `tensor` that is no float32, or None. Reads the values of 32 and 64 bits."""
    import numpy as np

    if tensor.dtype.kind not in ("int", "uint") or tensor.dtype.bits < 32:
        return None
    dtype = tensor.dtype.numpy()
    limit = np.float32(2.0 ** (tensor.dtype.bits - (tensor.dtype.kind == "int")))
    start = 0
    for chunk in whole_elements(tensor.payload, dtype.itemsize, CHUNK):
        values = np.frombuffer(chunk, dtype)
        rounded = values.astype("<f4")
        inside = rounded < limit  # the largest values round up to one that the integer type lacks
        exact = inside & (np.where(inside, rounded, np.float32(0)).astype(dtype) == values)
        if not exact.all():
            return start + int(np.argmin(exact))
        start += values.size
    return None


def whole_elements(payload: Payload, width: int, limit: int) -> Iterator[memoryview]:
    """The chunks of `payload`, cut at multiples of `width` bytes; each is valid until the next is asked for."""
    rest = b""
    for chunk in payload.chunks(max(limit // width, 1) * width):
        if not rest and chunk.nbytes % width == 0:
            yield chunk
            continue
        data = rest + bytes(chunk)
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            yield memoryview(data)[:whole]


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    import numpy as np

    dtype = tensor.dtype
    if dtype.packed:
        values: NDArray[Any] = unpack(tensor.buffer(), dtype, tensor.size)
        for start in range(0, tensor.size, CHUNK // 4):
            yield _bytes(_floats(values[start : start + CHUNK // 4], dtype))
        return
    for chunk in whole_elements(tensor.payload, dtype.itemsize, CHUNK // 4 * dtype.itemsize):
        yield _bytes(_floats(np.frombuffer(chunk, dtype.numpy()), dtype))


def small_floats(values: NDArray[Any], dtype: DType) -> NDArray[np.float32]:
    """Elements of a float type of up to 16 bits, or their codes, as float32 of the same shape."""
    import numpy as np

    found: NDArray[np.float32] = _table(dtype.name)[values.view(np.uint8 if dtype.bits <= 8 else "<u2")].view("<f4")
    return found


def _floats(values: NDArray[Any], dtype: DType) -> NDArray[Any]:
    """`values` (codes of small floats, or integers) as float32."""
    return small_floats(values, dtype) if dtype.name in WIDENED_TO_FLOAT32 else values.astype("<f4")


def _bytes(values: NDArray[Any]) -> memoryview:
    import numpy as np

    return values.view(np.uint8).data


def _with_dtype(tensor: Tensor) -> Any:
    from porter.dataclass import replace

    return replace(tensor.spec, dtype=FLOAT32)


@cache
def _table(name: str) -> NDArray[np.uint32]:
    """The float32 pattern of every code of the small float type `name`; codes of less than a byte at the low end."""
    import numpy as np

    layout = FLOAT_LAYOUTS[name]
    exponent_bits, mantissa_bits, bias, special = layout.exponent_bits, layout.mantissa_bits, layout.bias, layout.special
    bits = DTYPES[name].bits
    code = np.arange(1 << bits, dtype=np.uint32)
    mantissa = code & ((1 << mantissa_bits) - 1)
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    sign = np.zeros_like(code) if special == "scale" else (code >> (bits - 1)) << np.uint32(31)
    hidden = np.where((exponent > 0) | (special == "scale"), 1 << mantissa_bits, 0)
    power = np.where((exponent > 0) | (special == "scale"), exponent.astype(np.int64), 1) - bias - mantissa_bits
    with np.errstate(over="ignore"):  # codes of infinities, which are put right below
        pattern = np.ldexp((mantissa + hidden).astype(np.float64), power).astype("<f4").view(np.uint32) | sign
    top = exponent == (1 << exponent_bits) - 1
    if special == "ieee":
        pattern = np.where(top, sign | 0x7F800000 | mantissa << np.uint32(23 - mantissa_bits), pattern)
    elif special == "fn":
        pattern = np.where(top & (mantissa == (1 << mantissa_bits) - 1), sign | _QUIET_NAN, pattern)
    elif special == "fnuz":
        pattern = np.where(code == 1 << (bits - 1), sign | _QUIET_NAN, pattern)
    elif special == "scale":
        pattern = np.where(top, _QUIET_NAN, pattern)
    result: NDArray[np.uint32] = pattern.astype("<u4")
    return result
