"""What porter says about a file's tensors in an attribute of the root group, which every other reader passes over.

The attribute `porter` is a string of variable length with the document of `porter.manifest`, and under the key "hdf5"
what this format needs beyond it: {"names"?: {PATH: NAME} for tensors whose name is not what their path says, "order"?:
[NAME, …] where it is not the order of reading}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from porter import manifest
from porter.errors import FormatError
from porter.formats.hdf5.objects import Hdf5File
from porter.formats.hdf5.reading import Found
from porter.store import TensorStore
from porter.tensor import Json

ATTRIBUTE = "porter"
WHERE = f"the attribute '{ATTRIBUTE}'"


@dataclass(frozen=True, slots=True)
class Description:
    """A parsed description; empty for a file that has none."""

    document: dict[str, Json] | None
    names: dict[str, str]
    order: list[str]

    def name(self, path: str, default: str) -> str:
        """The name of the tensor at `path`."""
        return self.names.get(path, default)


def load(file: Hdf5File) -> Description:
    """The description in `file`.

    Raises:
        FormatError: it is damaged, or of a later porter.
    """
    attribute = file.attributes(file.root).get(ATTRIBUTE)
    if attribute is None or not attribute.is_text() or not (texts := attribute.bytes()):
        return Description(None, {}, [])
    document = manifest.loads(texts[0], WHERE)
    own: Any = document.get("hdf5", {})
    names, order = (own.get("names", {}), own.get("order", [])) if isinstance(own, dict) else (None, None)
    if not isinstance(names, dict) or not isinstance(order, list) or not all(isinstance(n, str) for n in (*names.values(), *order)):
        raise FormatError("F006", f"{WHERE} has fields of the wrong types", path=file.window.path)
    return Description(document, names, order)


def fill_store(store: TensorStore, found: Found, description: Description) -> None:
    """Put what was read into `store`, in the order and with the additions that the description gives."""
    by_name = {t.name: t for t in found.tensors}
    if len(by_name) != len(found.tensors):
        names = [t.name for t in found.tensors]
        twice = next(n for n in names if names.count(n) > 1)
        raise FormatError("F004", "two tensors have this name", tensor=twice)
    ordered = [by_name.pop(name) for name in description.order if name in by_name]
    for tensor in (*ordered, *by_name.values()):
        store.add(tensor)
    told = description.document.get("ties") if description.document is not None else None
    known = {*told, *told.values()} if isinstance(told, dict) and all(isinstance(v, str) for v in told.values()) else set()
    store.ties.update((alias, target) for alias, target in found.ties.items() if not {alias, target} <= known)
    if description.document is not None:
        manifest.apply(store, description.document, WHERE)


def dump(store: TensorStore, omit: tuple[str, ...], names: dict[str, str], read_order: list[str]) -> str | None:
    """The description of `store` for a file that gives its tensors back in `read_order`, or None where nothing is to say.

    `names` holds those that their paths do not give; `omit` the parts that the file states in its own way.
    """
    document = manifest.describe(store, omit=omit) or {"porter": manifest.VERSION}
    own: dict[str, Json] = {}
    if names:
        own["names"] = names
    if read_order != list(store):
        own["order"] = list(store)
    if own:
        document["hdf5"] = own
    return manifest.dumps(document) if len(document) > 1 else None
