"""Casting a handful of integers without numpy: a network's step counters should not cost the time that importing it takes."""

from __future__ import annotations

import struct

from porter.dtypes import DType
from porter.tensor import Tensor

_MOST = 256
_CODES = {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "bool": "B"}


def stored(tensor: Tensor, target: DType) -> bytes | None:
    """The values of a small integer tensor as `target`, float32 or int32; None if there are many, or one does not fit."""
    code = _CODES.get(tensor.dtype.name)
    if code is None or tensor.size > _MOST:
        return None
    values = struct.unpack(f"<{tensor.size}{code}", tensor.tobytes())
    to = f"<{tensor.size}{'f' if target.kind == 'float' else 'i'}"
    try:
        data = struct.pack(to, *values)
    except struct.error:
        return None
    return data if struct.unpack(to, data) == values else None
