"""The `.npy` layout of one array: its header as text, and its bytes as a payload. Needs no numpy until bytes are read.

Source: numpy, "NEP 1 — A simple file format for NumPy arrays" and `numpy/lib/_format_impl.py` (2.4): magic, version, header
length (2 bytes in version 1, 4 in versions 2 and 3), a Python literal with `descr`, `fortran_order` and `shape`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import FormatError, UnsafeFileError
from porter.io.payloads import FortranPayload, SwappedPayload
from porter.tensor import Payload

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
"""Bytes of the longest header: numpy's own limit for files that it is not told to trust."""
MAX_DIMENSIONS = 64
_USUAL_HEADER = 256
"""Bytes that hold the header of almost any array, read at once."""

OBJECT = "O"
RECORD = "record"

# Compiled when there is an array: checkpoints may hold some, and mostly hold none.
_ENTRY = r"""(?xs)
    \s*(?P<q>['"])(?P<key>descr|fortran_order|shape)(?P=q)\s*:\s*
    (?:(?P<r>['"])(?P<text>[^'"\\]*)(?P=r) | (?P<flag>True|False) | \((?P<tuple>[0-9L,\s]*)\) | (?P<record>\[.*\]))
    \s*(?P<end>,\s*\}|,|\})"""
_SHAPE = r"\s*(?:(?:[0-9]+L?\s*,\s*)+(?:[0-9]+L?)?)?\s*"
_DESCR = r"([<>|=]?)([biufcV?])([0-9]{0,3})"
_GROWTH_DIGITS = 21
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """One array's header: numpy's dtype string (or `OBJECT`, or `RECORD`), order, shape, and bytes up to the data."""

    descr: str
    fortran_order: bool
    shape: tuple[int, ...]
    nbytes: int


def read_header(start: Callable[[int], bytes], path: str, offset: int = 0) -> ArrayHeader:
    """The header of the array at `offset` of `path`; `start(n)` gives its first `n` bytes, or fewer where there are fewer.

    Raises:
        FormatError: it is broken, of an unknown version, or cut off.
        UnsafeFileError: it is longer than numpy itself would read.
    """
    head = start(_USUAL_HEADER)
    if not head.startswith(MAGIC):
        raise FormatError("F701", "no .npy array: the magic bytes are missing", path=path, offset=offset)
    if len(head) < 12:
        raise FormatError("F001", "the array ends within its header", path=path, offset=offset + len(head))
    version, wide = head[6], head[6] > 1
    if version not in (1, 2, 3) or head[7]:
        raise FormatError("F702", f".npy version {version}.{head[7]} is unknown", path=path, offset=offset + 6)
    begin = 12 if wide else 10
    length = int.from_bytes(head[8:begin], "little")
    if length > MAX_HEADER:
        raise UnsafeFileError(
            "S701",
            f"the array's header claims {length} bytes; numpy reads at most {MAX_HEADER} of files it does not trust",
            path=path,
            offset=offset + 8,
        )
    text = head[begin : begin + length] if begin + length <= len(head) else start(begin + length)[begin:]
    if len(text) < length:
        raise FormatError(
            "F001",
            f"the array's header claims {length} bytes, the file has {len(text)}",
            path=path,
            offset=offset + begin,
            hint="the file looks truncated; fetch it again, or check that the download finished",
        )
    try:
        descr, fortran_order, shape = _parse(text.decode("utf-8" if version == 3 else "latin-1"))
    except ValueError as error:
        raise FormatError("F703", f"broken .npy header: {error}", path=path, offset=offset + begin) from error
    return ArrayHeader(descr, fortran_order, shape, begin + length)


def _parse(text: str) -> tuple[str, bool, tuple[int, ...]]:
    opening = re.match(r"\s*\{", text)
    if opening is None:
        raise ValueError("it is no dictionary")
    at, found = opening.end(), dict[str, re.Match[str]]()
    pattern, closed = re.compile(_ENTRY), False
    while not closed:
        entry = pattern.match(text, at)
        if entry is None or entry["key"] in found:
            raise ValueError(f"unexpected {text[at : at + 40].strip()!r}")
        found[entry["key"]] = entry
        at, closed = entry.end(), entry["end"].endswith("}")
    if len(found) != 3 or text[at:].strip(" \n\r\t\0"):
        raise ValueError("it does not hold descr, fortran_order and shape, and nothing else")
    if found["fortran_order"]["flag"] is None or found["shape"]["tuple"] is None or found["descr"]["flag"] or found["descr"]["tuple"]:
        raise ValueError("descr, fortran_order or shape has the wrong type")
    return _descr(found["descr"]), found["fortran_order"]["flag"] == "True", _shape(found["shape"]["tuple"])


def _descr(entry: re.Match[str]) -> str:
    if entry["record"] is not None:
        return RECORD
    return OBJECT if entry["text"] in ("|O", "O", "|O8", "|O4", "object") else str(entry["text"])


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(_SHAPE, text):
        raise ValueError(f"({text.strip()[:40]}) is no shape")
    # numpy writes an int of Python 2 as 3L.
    digits = [part.strip().rstrip("L") for part in text.split(",") if part.strip()]
    if len(digits) > MAX_DIMENSIONS:
        raise ValueError(f"{len(digits)} dimensions; numpy has at most {MAX_DIMENSIONS}")
    if any(len(d.lstrip("0")) > 18 for d in digits):
        raise ValueError("a dimension is larger than any array")
    return tuple(int(d) for d in digits)


def element_type(descr: str) -> tuple[DType, int] | None:
    """The type that numpy's string names, and the width of the numbers to swap (0: none); None where porter has no such type.

    Types of ml_dtypes are written by numpy as `V1` and `V2`, raw bytes: see `opaque_type`.
    """
    match = re.fullmatch(_DESCR, descr)
    if match is None or match[2] == "V":
        return None
    order, kind, size = match.groups()
    bits = 8 * int(size or 0)
    names = {"i": f"int{bits}", "u": f"uint{bits}", "f": f"float{bits}", "c": f"complex{bits}", "b": "bool" if bits == 8 else ""}
    dtype = DTYPES.get("bool" if kind == "?" else names[kind])
    if dtype is None or dtype.numpy_str is None or (kind == "?" and size):
        return None
    width = dtype.itemsize // 2 if kind == "c" else dtype.itemsize
    big = order == ">" or (order in "|=" and sys.byteorder == "big")
    return dtype, width if big and width > 1 else 0


def opaque_type(descr: str) -> DType | None:
    """What raw bytes of width 1 or 2 are read as: `V2` is bfloat16, the one 2-byte type that numpy writes so; `V1` is uint8.

    Both are assumptions that the reader has to state: one of seven 8-bit float types or a 4-bit type may be behind `V1`.
    """
    return {"V1": DTYPES["uint8"], "V2": DTYPES["bfloat16"]}.get(descr.lstrip("<|"))


def canonical(header: ArrayHeader, data: Payload, dtype: DType, swap: int) -> Payload:
    """The array's bytes, `data`, as canonical ones: swapped and transposed when they are read, where that is needed."""
    if swap:
        data = SwappedPayload(data, swap)
    if not header.fortran_order or sum(n != 1 for n in header.shape) < 2 or 0 in header.shape:
        return data
    return FortranPayload(data, dtype.itemsize, header.shape)


def encode_header(dtype: DType, shape: tuple[int, ...]) -> bytes:
    """The header that numpy writes for a C-order array, byte for byte; its length is a multiple of 64.

    It leaves room for the first dimension to grow, as numpy's does.
    """
    text = f"{{'descr': '{dtype.numpy_str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    if shape:
        text += " " * (_GROWTH_DIGITS - len(repr(shape[0])))
    length = len(text) + 1
    length += _ALIGNMENT - (10 + length) % _ALIGNMENT
    return MAGIC + b"\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode("ascii") + b"\n"
