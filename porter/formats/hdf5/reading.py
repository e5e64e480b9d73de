"""What the readers of all dialects share: the way through a file's groups, and tensors out of its datasets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from porter.dataclass import dataclass, field
from porter.errors import FormatError, UnsafeFileError
from porter.formats.hdf5.attributes import Attribute
from porter.formats.hdf5.elements import NAMES, element_of
from porter.formats.hdf5.messages import OPAQUE
from porter.formats.hdf5.names import Path
from porter.formats.hdf5.objects import Hdf5File, Header, Link
from porter.formats.hdf5.storage import Window
from porter.formats.hdf5.values import Values
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

_MAX_DEPTH = 200
_MOST_TURNS = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A dataset on the way through a file: its path from the root, its header, and that of its group."""

    path: Path
    header: Header
    parent: Header

    @property
    def text(self) -> str:
        return "/".join(self.path)


@dataclass(slots=True)
class Found:
    """Tensors in the order they were read, and the names of those that are hard links to another."""

    tensors: list[Tensor] = field(default_factory=list)
    ties: dict[str, str] = field(default_factory=dict)


class _AstrayError(Exception):
    """Internal: a link leads through `through` to nothing in this file; `why` goes on with what is said of it."""

    def __init__(self, through: Link, why: str) -> None:
        super().__init__(why)
        self.through = through
        self.why = why


class Reader:
    """One HDF5 file while it is being read into a store.

    `outer` is the window that libhdf5 would open: the file, or the member of an archive. `sources` tells where each tensor
    was found.
    """

    def __init__(self, outer: Window, store: TensorStore) -> None:
        self.file = Hdf5File(outer)
        self.store = store
        self.found = Found()
        self.sources: dict[Entry, Tensor] = {}
        self._values = Values(self.file, outer)
        self._by_address: dict[int, Tensor] = {}
        self._places: dict[int, dict[str, int | None]] = {}
        self._links: dict[int, dict[str, Link]] = {}
        self._destinations: dict[tuple[int, str], Header] = {}
        if self.file.writing:
            store.note("assumed", "the program that wrote the file did not close it; what it had written is read")

    @property
    def root(self) -> Header:
        return self.file.root

    def links(self, group: Header, where: str) -> list[Link]:
        """The links of a group, soft ones followed to the object in this file that they lead to.

        Raises:
            UnsafeFileError: one leads out of the file, nowhere, or in circles.
        """
        return [self._followed(group, where, link) if link.address is None else link for link in self.file.links(group)]

    def _followed(self, group: Header, where: str, link: Link) -> Link:
        """The soft `link` in `group` as a hard one."""
        try:
            return link._replace(address=self._destination(group, link, 0).address)
        except _AstrayError as error:
            raise UnsafeFileError(
                "S504" if error.through.kind == "soft" else "S501",
                f"'{where}/{link.name}' is a{'n' if link.kind == 'external' else ''} {link.kind} link to '{link.target}'{error.why}",
                path=self.file.window.path,
                hint="if you trust the file, copy it into one self-contained file first (h5repack)",
            ) from None

    def _destination(self, group: Header, link: Link, turns: int) -> Header:
        """What `link` in `group` leads to. Each link is followed once, however many lead through it."""
        if link.address is not None:
            return self.file.header(link.address)
        key = (group.address, link.name)
        if key in self._destinations:
            return self._destinations[key]
        if link.kind != "soft":
            raise _AstrayError(link, "" if not turns else f", through a link of kind {link.kind}")
        names = [name for name in link.target.split("/") if name not in ("", ".")]
        if turns > _MOST_TURNS or len(names) > _MAX_DEPTH:
            raise _AstrayError(link, ", which goes a long way round, or in circles")
        here = self.root if link.target.startswith("/") else group
        for name in names:
            found = None if here.is_dataset else self._raw(here).get(name)
            if found is None:
                raise _AstrayError(link, ", which is not in the file")
            here = self._destination(here, found, turns + 1)
        self._destinations[key] = here
        return here

    def _raw(self, group: Header) -> dict[str, Link]:
        if group.address not in self._links:
            self._links[group.address] = {link.name: link for link in self.file.links(group)}
        return self._links[group.address]

    def child(self, group: Header, name: str) -> Header | None:
        """The object called `name` in `group`."""
        if group.address not in self._places:
            self._places[group.address] = {link.name: link.address for link in self.links(group, "")}
        address = self._places[group.address].get(name)
        return self.file.header(address) if address is not None else None

    def table(self, group: Header, where: str = "") -> dict[str, Header]:
        """The objects in `group` by name."""
        return {link.name: self.file.header(link.address) for link in self.links(group, where) if link.address is not None}

    def walk(self, group: Header, path: Path = ()) -> Iterator[Entry]:
        """The datasets below `group`, depth first, in the order of the links. A group that is there twice is walked once."""
        seen = {group.address: path}
        stack = [(path, group, iter(self.links(group, "/".join(path))))]
        while stack:
            here, parent, links = stack[-1]
            link = next(links, None)
            if link is None or link.address is None:
                stack.pop()
                continue
            header, below = self.file.header(link.address), (*here, link.name)
            if header.is_dataset:
                yield Entry(below, header, parent)
            elif header.address in seen:
                self.store.note("skipped", f"the group '{'/'.join(below)}' is '{'/'.join(seen[header.address])}' again")
            elif header.is_group:
                seen[header.address] = below
                if len(below) > _MAX_DEPTH:
                    raise FormatError("F507", f"groups are nested more than {_MAX_DEPTH} deep", path=self.file.window.path)
                stack.append((below, header, iter(self.links(header, "/".join(below)))))

    def lookup(self, group: Header, path: Path) -> Header | None:
        """The object that `path` leads to from `group`."""
        here: Header | None = group
        for part in path:
            if here is None or here.is_dataset:
                return None
            here = self.child(here, part)
        return here

    def add(self, entry: Entry, name: str, **spec: Any) -> Tensor | None:
        """Read the dataset of `entry` as the tensor `name`; None, and a notice, where it holds no numbers.

        `spec` are the fields of `TensorSpec` that the dialect knows (`axes`, `role`, `attributes`). `axes` that do not fit
        the shape are left out.
        """
        try:
            tensor = self._tensor(entry, name)
        except FormatError as error:
            raise error.located(tensor=name) from error.__cause__
        if tensor is None:
            return None
        if spec.get("axes") is not None and len(spec["axes"]) != len(tensor.shape):
            spec["axes"] = None
        if spec:
            tensor = tensor.with_spec(**spec)
        twin = self._by_address.setdefault(entry.header.address, tensor)
        if twin is not tensor:
            self.found.ties[name] = twin.name
        self.found.tensors.append(tensor)
        self.sources[entry] = tensor
        return tensor

    def _tensor(self, entry: Entry, name: str) -> Tensor | None:
        dataset = self.file.dataset(entry.header)
        if dataset.space.shape is None:
            self.store.note("skipped", f"the dataset '{entry.text}' is empty (a null dataspace)", name)
            return None
        attributes = self.file.attributes(entry.header) if dataset.type.kind == OPAQUE else {}
        element = element_of(dataset.type, dtype_name(attributes))
        if element is None:
            self.store.note("skipped", f"the dataset '{entry.text}' holds no numbers that porter knows ({dataset.type})", name)
            return None
        if element.notice:
            self.store.note("assumed", element.notice, name)
        twin = self._by_address.get(entry.header.address)
        if twin is not None:
            return twin.with_spec(name=name, role=None, attributes={})
        if dataset.layout.address is None and dataset.space.elements:
            self.store.note("assumed", "nothing was ever written to it; its values are the fill value", name)
        payload = self._values.payload(dataset, element, entry.path)
        shape = dataset.space.shape + element.dims
        if element.dtype.packed:
            shape = self._packed_shape(attributes.get("porter_shape"), shape, element.dtype.bits)
        return Tensor(TensorSpec(name, element.dtype, shape), payload)

    def _packed_shape(self, attribute: Attribute | None, stored: tuple[int, ...], bits: int) -> tuple[int, ...]:
        """The shape of a tensor whose elements are packed into bytes; without porter's own word for it all that fit."""
        shape = attribute.value() if attribute is not None else None
        if isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape):
            return tuple(int(n) for n in shape)
        return (*stored[:-1], stored[-1] * 8 // bits) if stored else ()

    def finish(self) -> None:
        """What can be checked only when everything is known."""
        self._values.refuse_overlaps()


def dtype_name(attributes: dict[str, Attribute]) -> str | None:
    """The element type that the attributes of a dataset of opaque bytes name."""
    return next((text for key in NAMES if (text := first_text(attributes.get(key)))), None)


def first_text(attribute: Attribute | None) -> str | None:
    """The first string of an attribute, or None where it is not there or holds none."""
    if attribute is None or not attribute.is_text():
        return None
    texts = attribute.strings()
    return texts[0] if texts else None
