"""What porter says about a file's tensors in an attribute of the root group, which every other reader passes over.

The attribute `porter` is a string of variable length with the document of `porter.manifest`, and under the key "hdf5"
what this format needs beyond it: {"names": {PATH: NAME} for tensors whose name is not what their path says, "order"?:
[NAME, …] where it is not the order of reading}. With that key the document is the only source of axes, roles,
attributes and ties: what the dialect says of them is left aside.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from porter import manifest
from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.hdf5.objects import Hdf5File
from porter.formats.hdf5.reading import Found
from porter.store import TensorStore
from porter.tensor import Json, Tensor

ATTRIBUTE = "porter"
WHERE = f"the attribute '{ATTRIBUTE}'"


@dataclass(frozen=True, slots=True)
class Description:
    """A parsed description; empty for a file that has none. `sole` says that what the dialect tells of tensors is left aside."""

    document: dict[str, Json] | None
    names: dict[str, str]
    order: list[str]
    sole: bool = False

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
    return Description(document, names, order, "hdf5" in document)


def fill_store(store: TensorStore, found: Found, description: Description) -> None:
    """Put what was read into `store`, in the order and with the additions that the description gives."""
    by_name = {t.name: t for t in found.tensors}
    if len(by_name) != len(found.tensors):
        (twice, _), *_ = Counter(t.name for t in found.tensors).most_common(1)
        raise FormatError("F004", "two tensors have this name", tensor=twice)
    ordered = [by_name.pop(name) for name in description.order if name in by_name]
    for tensor in (*ordered, *by_name.values()):
        bare = not description.sole or (tensor.axes is None and tensor.role is None and not tensor.attributes)
        store.add(tensor if bare else tensor.with_spec(axes=None, role=None, attributes={}))
    if not description.sole:
        store.ties.update(found.ties)
    if description.document is not None:
        manifest.apply(store, description.document, WHERE)


def describe(store: TensorStore, derived: TensorStore, names: dict[str, str]) -> str | None:
    """The description that makes of `derived`, which is what reading the file without one gives, what `store` is.

    `names` are the tensors' names by the paths of their datasets, those that the file gives them anyway left out. None
    where nothing has to be said.
    """
    document = manifest.describe(store, omit=("metadata", "attachments")) or {"porter": manifest.VERSION}
    if not names and list(store) == list(derived) and store.ties == derived.ties and _alike(store, derived):
        document = {"porter": manifest.VERSION}
    else:
        document["hdf5"] = {"names": names} | ({"order": list(store)} if list(store) != list(derived) else {})
    rest = TensorStore()
    rest.metadata = {k: v for k, v in store.metadata.items() if k not in derived.metadata or derived.metadata[k] != v}
    rest.attachments = {k: v for k, v in store.attachments.items() if derived.attachments.get(k) != v}
    document |= manifest.describe(rest) or {}
    return manifest.dumps(document) if len(document) > 1 else None


def _alike(store: TensorStore, derived: TensorStore) -> bool:
    def said(tensor: Tensor) -> tuple[object, ...]:
        return tensor.axes, tensor.role, dict(tensor.attributes)

    return all(said(tensor) == said(derived[name]) for name, tensor in store.items())
