"""What a container has no place for, as one JSON document that it can carry as a string.

Axes, roles and attributes of tensors, ties, metadata and attachments go through formats that know none of them
(safetensors metadata, a record in a `.pth`, `metadata_props` in ONNX, a sidecar) as this document:

    {"porter": 1, "tensors": {NAME: {"axes"?, "role"?, "attributes"?}}, "ties"?: {ALIAS: NAME},
     "metadata"?: {...}, "attachments"?: {KEY: BASE64}}

It never holds names, dtypes, shapes or values of tensors that the container itself states.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from porter.errors import FormatError
from porter.store import TensorStore
from porter.tensor import Json

VERSION = 1
KEY = "porter"
"""The key under which containers with string metadata carry the document."""


def describe(store: TensorStore, *, omit: Iterable[str] = ()) -> dict[str, Json] | None:
    """The document for `store`, or None when there is nothing to say.

    `omit` names parts ("ties", "metadata", "attachments") that the container keeps in its own way.
    """
    skip = set(omit)
    tensors: dict[str, Json] = {}
    for tensor in store.values():
        entry: dict[str, Json] = {}
        if tensor.axes is not None:
            entry["axes"] = tensor.axes
        if tensor.role is not None:
            entry["role"] = tensor.role
        if tensor.attributes:
            entry["attributes"] = dict(tensor.attributes)
        if entry:
            tensors[tensor.name] = entry
    document: dict[str, Json] = {}
    if tensors:
        document["tensors"] = tensors
    if store.ties and "ties" not in skip:
        document["ties"] = dict(store.ties)
    if store.metadata and "metadata" not in skip:
        document["metadata"] = dict(store.metadata)
    if store.attachments and "attachments" not in skip:
        import base64

        document["attachments"] = {k: base64.b64encode(v).decode("ascii") for k, v in store.attachments.items()}
    return {"porter": VERSION, **document} if document else None


def dumps(document: dict[str, Json]) -> str:
    """`document` as compact JSON, ASCII only."""
    return json.dumps(document, separators=(",", ":"))


def loads(text: str | bytes, where: str) -> dict[str, Json]:
    """The document in `text`, which was found at `where` ("__metadata__.porter", a sidecar's path).

    Raises:
        FormatError: it is no such document, or a later version.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError("F006", f"porter's own description in {where} is not valid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("porter"), int):
        raise FormatError("F006", f"{where} is not a description that porter wrote")
    if document["porter"] > VERSION:
        raise FormatError("F007", f"{where} was written by a later porter (version {document['porter']})", hint="upgrade porter to read it")
    return document


def apply(store: TensorStore, document: dict[str, Json], where: str) -> None:
    """Put what `document` says onto the tensors of `store`; notes what no longer fits instead of guessing.

    Raises:
        FormatError: a part of the document has the wrong type.
    """
    strays = 0
    for name, entry in _table(document, "tensors", where).items():
        if not isinstance(entry, dict):
            raise FormatError("F006", f"{where}: the entry is not an object", tensor=name)
        if name in store:
            _apply_entry(store, name, entry, where)
        else:
            strays += 1
    if strays:
        store.note("skipped", f"{where} describes {strays} tensors that are not in the file")
    for alias, target in _table(document, "ties", where).items():
        if not _apply_tie(store, alias, target):
            store.note("skipped", f"{where} ties '{alias}' to '{target}', which the file no longer allows", alias)
    for alias in store.ties:
        _last_target(store.ties, alias)
    store.metadata.update(_table(document, "metadata", where))
    for key, text in _table(document, "attachments", where).items():
        import base64

        try:
            store.attachments[key] = base64.b64decode(text, validate=True)
        except (TypeError, ValueError) as error:
            raise FormatError("F006", f"{where}: attachment {key!r} is not base64") from error


def _apply_tie(store: TensorStore, alias: str, target: Any) -> bool:
    """Tie the two where the store allows it. Ties may chain until all are known, and never go round."""
    target = _last_target(store.ties, target) if isinstance(target, str) else None
    if alias not in store or target not in store or alias == target:
        return False
    if store[alias].dtype != store[target].dtype or store[alias].size != store[target].size:
        return False
    store.ties[alias] = target
    return True


def _last_target(ties: dict[str, str], name: str) -> str:
    """The end of the chain of ties that begins at `name`; every name on the way is tied to it directly from now on."""
    chain = []
    while name in ties:
        chain.append(name)
        name = ties[name]
    ties.update(dict.fromkeys(chain, name))
    return name


def _apply_entry(store: TensorStore, name: str, entry: dict[str, Any], where: str) -> None:
    tensor = store[name]
    axes, role = entry.get("axes"), entry.get("role")
    attributes = entry.get("attributes", {})
    if not isinstance(attributes, dict) or not isinstance(role, str | None) or not isinstance(axes, str | None):
        raise FormatError("F006", f"{where}: the entry's fields have the wrong types", tensor=name)
    if axes is not None and len(axes) != len(tensor.shape):
        store.note("skipped", f"{where} names axes {axes!r} for shape {list(tensor.shape)}", name)
        axes = None
    store.replace(tensor.with_spec(axes=axes or tensor.axes, role=role or tensor.role, attributes={**tensor.attributes, **attributes}))


def _table(document: dict[str, Json], key: str, where: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise FormatError("F006", f"{where}: {key!r} is not an object")
    return value
