"""What the `.wts` tests share: files from bytes, and the text that the usual scripts write."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import porter
from porter.store import TensorStore


def usual_text(tensors: Mapping[str, Iterable[Any]]) -> bytes:
    """What the usual per-float Python script writes for flat sequences of numbers."""
    text = f"{len(tensors)}\n"
    for name, values in tensors.items():
        words = [struct.pack(">f", float(v)).hex() for v in values]
        text += " ".join([name, str(len(words)), *words]) + "\n"
    return text.encode()


def open_bytes(folder: Path, data: bytes, name: str = "m.wts", format: str | None = None) -> TensorStore:
    path = folder / name
    path.write_bytes(data)
    return porter.open(path, format)


def words(store: TensorStore) -> dict[str, list[str]]:
    """The values of each tensor as hexadecimal words, most significant digit first."""
    found = {}
    for name, tensor in store.items():
        data, width = tensor.tobytes(), tensor.dtype.itemsize
        found[name] = [data[i : i + width][::-1].hex() for i in range(0, len(data), width)]
    return found
