"""What Caffe's messages have no field for, as a document in a field of porter's own, which other readers skip.

The document is `porter.manifest`'s. Where the names that a reader would give the blobs are not those of the tensors, it
also holds

    "names": [the tensors' names in the order of the file], "order": [their places in the store, where that is another]

and is then the only source of axes, roles, attributes and ties.
"""

from __future__ import annotations

import base64
from typing import Any

from porter import manifest
from porter.formats.caffe.layers import NET
from porter.store import TensorStore
from porter.tensor import Json, Tensor, TensorSpec

WHERE = "porter's field"
SOLVER_MARK = {"caffe": "solverstate"}
"""In the document of a solver state, which might have nothing else to be known by."""


def describe(store: TensorStore, placed: list[str], derived: TensorStore) -> dict[str, Json] | None:
    """The document for `store`, whose tensors lie in the file in the order `placed`; None when nothing has to be said.

    `derived` is what reading the file without the document gives.
    """
    document = manifest.describe(store, omit=("attachments",)) or {"porter": manifest.VERSION}
    attachments = {k: base64.b64encode(v).decode("ascii") for k, v in store.attachments.items() if k != NET}
    if attachments:
        document["attachments"] = attachments
    # Layers are what a file is recognised by, and those with names of control characters are none.
    plain = all(name.isprintable() for name in placed)
    if plain and list(store) == placed and list(derived) == placed and store.ties == derived.ties and _alike(store, derived):
        document.pop("tensors", None)
        document.pop("ties", None)
    else:
        document["names"] = placed
        place = {name: i for i, name in enumerate(store)}
        order = [place[name] for name in placed]
        if order != sorted(order):
            document["order"] = order
    return document if len(document) > 1 else None


def _alike(store: TensorStore, derived: TensorStore) -> bool:
    """Whether reading gives each tensor all that `store` says of it; it may know more, from the layers' types."""

    def said(tensor: Tensor, known: Tensor) -> bool:
        stated = tensor.axes in (None, known.axes) and tensor.role in (None, known.role)
        return stated and tensor.attributes.items() <= known.attributes.items()

    return all(said(store[name], derived[name]) for name in store)


def names_in(document: dict[str, Json]) -> bool:
    """Whether `document` names the tensors itself, so that what a reader would call them does not matter."""
    return "names" in document


def restore(store: TensorStore, document: dict[str, Json]) -> TensorStore:
    """`store` as read from a file's layers with `document` applied; a new store where it names the tensors.

    A document that no longer fits the file is applied as far as it does, with a notice.
    """
    if names_in(document):
        named = _named(store, document["names"], document.get("order"))
        if named is None:
            store.note("skipped", f"{WHERE} names other tensors than the file has; they keep the names of their layers")
        else:
            store = named
    manifest.apply(store, document, WHERE)
    return store


def _named(store: TensorStore, names: Any, order: Any) -> TensorStore | None:
    count = len(store)
    if not isinstance(names, list) or len(names) != count or len({n for n in names if isinstance(n, str)}) != count:
        return None
    places = list(range(count)) if order is None else order
    if not isinstance(places, list) or sorted(p for p in places if type(p) is int) != list(range(count)):
        return None
    tensors = [Tensor(TensorSpec(name, t.dtype, t.shape), t.payload) for name, t in zip(names, store.values(), strict=True)]
    ordered = TensorStore((tensor for _, tensor in sorted(zip(places, tensors, strict=True), key=lambda e: e[0])), source=store.source)
    ordered.metadata, ordered.attachments, ordered.notices = store.metadata, store.attachments, store.notices
    return ordered
