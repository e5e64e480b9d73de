"""Names, shapes and dtypes of tensors from a JSON list, written by hand or by another program."""

from __future__ import annotations

from typing import Any

from porter.dtypes import DTYPES, DType
from porter.errors import FormatError, printable
from porter.io.source import FileSource
from porter.mapping.steps import Described

LARGEST = 100_000_000
"""Bytes of the largest JSON list that is read."""


def read_list(path: str) -> list[Described] | None:
    """The tensors of a JSON list, or None where the file is no JSON.

    The JSON is a list of objects with `name` and, where known, `shape` and `dtype` (porter's names, or torch's); or an object
    with such a list under `tensors`, as `porter inspect --json` prints it; or an object of shapes by name.

    Raises:
        FormatError: it is JSON, and no such list.
        FileAccessError: it cannot be read.
    """
    source = FileSource(path)
    try:
        head = source.read_up_to(0, 512).lstrip(b"\xef\xbb\xbf \t\r\n")
        if head[:1] not in (b"[", b"{"):
            return None
        data = source.read_up_to(0, LARGEST + 1)
    finally:
        source.close()
    return _of_json(data, path)


def _of_json(data: bytes, path: str) -> list[Described]:
    import json

    hint = 'write [{"name": "conv1.weight", "shape": [16, 3, 3, 3], "dtype": "float32"}, …]'
    if len(data) > LARGEST:
        raise FormatError("F002", f"a list of tensors of more than {LARGEST:,} bytes", path=path, hint=hint)
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FormatError("F002", f"this is no JSON: {error}", path=path, hint=hint) from error
    if isinstance(document, dict):
        listed = document.get("tensors")
        document = listed if isinstance(listed, list) else [{"name": k, "shape": v} for k, v in document.items()]
    if not isinstance(document, list):
        raise FormatError("F002", "this is no list of tensors", path=path, hint=hint)
    found: dict[str, Described] = {}
    for entry in document:
        tensor = _entry(entry)
        if tensor is None:
            raise FormatError("F002", f"this is no entry of a list of tensors: {entry!r:.80}", path=path, hint=hint)
        if tensor.name in found:
            raise FormatError("F002", "this tensor is listed twice", path=path, tensor=tensor.name, hint="a name stands for one tensor")
        found[tensor.name] = tensor
    return list(found.values())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; the second of two values of one name is not taken for both.

    Raises:
        ValueError: a name stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"'{printable(twice)}' stands twice in one object")
    return found


def _entry(entry: Any) -> Described | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return None
    shape, dtype = entry.get("shape"), entry.get("dtype")
    if shape is not None and not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
        return None
    known = _dtype(dtype) if isinstance(dtype, str) else None
    if dtype is not None and known is None:
        return None
    return Described(entry["name"], tuple(shape) if shape is not None else None, known)


def _dtype(word: str) -> DType | None:
    word = word.removeprefix("torch.")
    if word in DTYPES:
        return DTYPES[word]
    return next((d for d in DTYPES.values() if word in (d.short, d.torch, d.safetensors)), None)
