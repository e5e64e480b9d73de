"""Which tensor is which blob of which layer, when a net is written.

A tensor that came from a Caffe file knows its place. Any other is placed by its name, `<layer>.<role>`: in the layer of
that name, at the index that the layer's type gives the role, or for a layer of no known type weights first, then biases,
then the others as they come.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from porter.dataclass import dataclass, field
from porter.errors import LossError
from porter.formats.caffe.binary import LayerRecord, parameter_of
from porter.formats.caffe.blobs import legacy_shape, stored_as
from porter.formats.caffe.layer_types import blob_roles
from porter.formats.caffe.layers import BLOB, LAYER, OCCURRENCE, TYPE, Blob, Layer, no_parameter
from porter.tensor import Tensor

_MAX_BLOBS = 1 << 16
_MOST_PERMUTED = 6
_FIRST = {"weight": 0, "bias": 1}


@dataclass(slots=True)
class Slot:
    """One layer of the net to be written, and the tensors that are its blobs, by index.

    `record` is the layer as it is in the net, None for one that the net lacks; `kept` are serialised blobs without
    values that it has there.
    """

    name: str
    type: str | None
    record: LayerRecord | None = None
    kept: list[bytes] = field(default_factory=list)
    blobs: dict[int, Tensor] = field(default_factory=dict)
    loose: list[tuple[str, Tensor]] = field(default_factory=list)

    def entries(self) -> list[Tensor | bytes]:
        """All blobs in order: tensors at their indices, and the serialised ones without values where nothing else is."""
        kept = list(self.kept)
        found: list[Tensor | bytes] = []
        last = max(self.blobs, default=-1)
        while len(found) <= last or kept:
            tensor = self.blobs.get(len(found))
            found.append(tensor if tensor is not None else kept.pop(0) if kept else b"")
        return found

    def layer(self) -> Layer:
        """The layer as a reader will find it."""
        blobs = tuple(None if isinstance(entry, bytes) else as_read(entry) for entry in self.entries())
        if self.record is None:
            return Layer(self.name, self.type, blobs)
        return Layer(self.name, self.type, blobs, self.record.shared, parameter_of(self.record), self.record.bottoms)


def as_read(tensor: Tensor) -> Blob:
    """The blob that a reader finds where `tensor` was written."""
    old = legacy_shape(tensor)
    encoding = stored_as(tensor) or ("double" if tensor.dtype.name == "float64" else None)
    if encoding == "unpacked" and not tensor.nbytes:
        encoding = None
    shape = old or tensor.shape
    if old == () and tensor.size == 1:  # one value without a shape is a blob of no dimensions
        shape = ()
    return Blob(tensor.dtype, shape, tensor.payload, bool(old), old == (), encoding)


class Placing:
    """Puts tensors into the slots of a net, and makes slots for layers that it lacks.

    Where a layer's type is known, a tensor that is none of its blobs is an error: any place would be a wrong one.
    """

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.slots = list(slots)
        self.added: list[Slot] = []
        self.guessed: list[str] = []
        self._found: dict[tuple[str, int], Slot] = {}
        occurrences: dict[str, int] = {}
        for slot in self.slots:
            occurrences[slot.name] = n = occurrences.get(slot.name, 0) + 1
            self._found[slot.name, n] = slot

    def place(self, tensors: Iterable[Tensor]) -> None:
        """Give every tensor its place.

        Raises:
            LossError: a layer's type has no blob of this role.
        """
        for tensor in tensors:
            if not self._by_attributes(tensor):
                layer, role = split_name(tensor.name)
                self._slot(layer, 1, None).loose.append((role, tensor))
        for slot in self.slots + self.added:
            if slot.loose:
                self._settle(slot)

    def _by_attributes(self, tensor: Tensor) -> bool:
        """Place `tensor` where its attributes say that it was, unless it has been renamed since, or the place is taken."""
        layer, index, kind = (tensor.attributes.get(key) for key in (LAYER, BLOB, TYPE))
        occurrence = tensor.attributes.get(OCCURRENCE, 1)
        if not isinstance(layer, str) or type(index) is not int or not 0 <= index < _MAX_BLOBS or type(occurrence) is not int:
            return False
        prefix, role = split_name(tensor.name)
        same = prefix == layer or prefix.startswith(f"{layer}#") or (not layer and re.fullmatch(r"layer\d+(#\d+)?", prefix) is not None)
        if not same or role != tensor.role:
            return False
        slot = self._slot(layer, occurrence, kind if isinstance(kind, str) else None)
        if index in slot.blobs:
            return False
        slot.blobs[index] = tensor
        return True

    def _slot(self, name: str, occurrence: int, kind: str | None) -> Slot:
        slot = self._found.get((name, occurrence))
        if slot is None:
            slot = Slot(name, kind)
            self._found[name, occurrence] = slot
            self.added.append(slot)
        return slot

    def _settle(self, slot: Slot) -> None:
        """Give the tensors that came by name their indices."""
        if slot.type is None and slot.record is None and self._by_former_type(slot):
            return
        if slot.type and self._by_type(slot):
            return
        roles = expected_roles(slot)
        if roles is not None:
            role, tensor = next(((r, t) for r, t in slot.loose if r not in roles), slot.loose[0])
            raise LossError(
                "L103",
                f"layer '{slot.name}' is a {slot.type}, whose blobs are {', '.join(roles)}; '{role}' has no place among them",
                tensor=tensor.name,
                hint="rename the tensors with a map, or give the net that they belong to with --net",
            )
        free = (i for i in itertools.count() if i not in slot.blobs)
        numbered = {int(r[4:]): (r, t) for r, t in slot.loose if re.fullmatch(r"blob(0|[1-9]\d{0,3})", r)}
        for index, (role, tensor) in list(numbered.items()):
            if index not in slot.blobs:
                slot.blobs[index] = tensor
                slot.loose.remove((role, tensor))
        for _, tensor in sorted(slot.loose, key=lambda entry: _FIRST.get(entry[0], 2)):
            slot.blobs[next(free)] = tensor
        self.guessed.append(slot.name)

    def _by_former_type(self, slot: Slot) -> bool:
        """Place tensors that came from a layer of another name, all with the roles that they had there: the layer was renamed."""
        kinds = {tensor.attributes.get(TYPE) if role == tensor.role else None for role, tensor in slot.loose}
        kind = kinds.pop() if len(kinds) == 1 else None
        if not isinstance(kind, str):
            return False
        slot.type = kind
        if self._by_type(slot):
            return True
        slot.type = None
        return False

    def _by_type(self, slot: Slot) -> bool:
        """Place the tensors in the order in which the layer's type has their roles, if it has exactly those.

        Those that know their places stay there: one of a layer may have been replaced by a tensor that has nothing but a name.
        """
        loose, placed = slot.loose, {i: (split_name(t.name)[1], t) for i, t in slot.blobs.items()}
        if any(i >= len(placed) + len(loose) for i in placed):
            return False
        orders = itertools.permutations(loose) if len(loose) <= _MOST_PERMUTED else [tuple(loose)]
        parameter = parameter_of(slot.record) if slot.record is not None else no_parameter
        for order in orders:
            rest = iter(order)
            entries = [placed[i] if i in placed else next(rest) for i in range(len(placed) + len(loose))]
            shapes = [tensor.shape for _, tensor in entries]
            roles = blob_roles(slot.type or "", shapes, parameter=parameter, bottoms=_bottoms(slot))
            if roles is not None and [r.role for r in roles] == [role for role, _ in entries]:
                slot.blobs.update(enumerate(tensor for _, tensor in entries))
                return True
        return False


def expected_roles(slot: Slot) -> list[str] | None:
    """The roles that the layer's type has for as many blobs as there are tensors, None for a type that is not known."""
    tensors = [*slot.blobs.values(), *(t for _, t in slot.loose)]
    roles = blob_roles(slot.type or "", [t.shape for t in tensors], bottoms=_bottoms(slot))
    return [r.role for r in roles] if roles is not None else None


def _bottoms(slot: Slot) -> int | None:
    return slot.record.bottoms if slot.record is not None else None


def split_name(name: str) -> tuple[str, str]:
    """Layer and role of a tensor by its name; all of it is the layer where nothing stands on one side of the last dot."""
    layer, _, role = name.rpartition(".")
    return (layer, role) if layer and role else (name, "")
