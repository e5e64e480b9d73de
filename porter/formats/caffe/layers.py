"""Layers with their blobs, as every Caffe reader finds them, and the tensors that they become.

A tensor is called `<layer>.<role>`. What Caffe knows of it and the name does not say goes into its attributes, so that a
writer can put it back where it was:

    caffe.layer       the layer's name
    caffe.type        its type, in the spelling of V2 ("Convolution")
    caffe.blob        the blob's index in the layer
    caffe.occurrence  the layer is the n-th of this name in the net, from 2 on
    caffe.shape       num, channels, height, width where the file had those; empty where it had no shape at all
    caffe.encoding    how the values were stored, where not as packed floats: "unpacked", "double" or "raw"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.errors import FormatError, PorterError
from porter.formats.caffe.layer_types import KNOWN_TYPES, BlobRole, Parameter, blob_roles, numbered_roles
from porter.store import TensorStore
from porter.tensor import Json, Payload, Tensor, TensorSpec

LAYER, TYPE, BLOB, OCCURRENCE, SHAPE, ENCODING = (
    "caffe.layer",
    "caffe.type",
    "caffe.blob",
    "caffe.occurrence",
    "caffe.shape",
    "caffe.encoding",
)
NET = "caffe.net"
"""The attachment that holds the net without its weights: a serialised NetParameter as it was in the file."""

MAX_AXES = 32
"""Source: BVLC/caffe `include/caffe/blob.hpp`, kMaxBlobAxes."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The values of one blob.

    `shape` is the file's; `legacy` says that it is made of num, channels, height and width, `shapeless` that the file
    has none and the number of values was taken.
    """

    dtype: DType
    shape: tuple[int, ...]
    payload: Payload
    legacy: bool = False
    shapeless: bool = False
    encoding: str | None = None


def no_parameter(path: str) -> None:
    """A layer that states no parameters."""
    return


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a net: `type` in the spelling of V2, None where the file does not say one.

    `blobs` has None where a blob has no values. `shared` names the layer's parameters in order, "" for an unnamed one.
    """

    name: str
    type: str | None
    blobs: tuple[Blob | None, ...] = ()
    shared: tuple[str, ...] = ()
    parameter: Parameter = no_parameter
    bottoms: int | None = None


def add_layers(store: TensorStore, layers: Sequence[Layer]) -> None:
    """Append the tensors of `layers` to `store`, with their ties and notices.

    Raises:
        FormatError: a blob's values do not fill its shape.
    """
    _Builder(store, layers).run()


class _Builder:
    def __init__(self, store: TensorStore, layers: Sequence[Layer]) -> None:
        self.store = store
        self.layers = layers
        self._occurrences: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._used: dict[str, int] = {}
        self._renamed: dict[str, list[str]] = {}
        self._owners: dict[str, str] = {}
        self._unknown: Counter[tuple[str, int]] = Counter()

    def run(self) -> None:
        self._reserved = {layer.name for layer in self.layers}
        for position, layer in enumerate(self.layers):
            self._occurrences[layer.name] += 1
            if any(blob is not None for blob in layer.blobs):
                self._add(layer, position)
        for base, keys in self._renamed.items():
            others = f"one of them are called '{keys[0]}.…'" if len(keys) == 1 else f"others are called '{keys[0]}.…' to '{keys[-1]}.…'"
            self.store.note("changed", f"several layers are called '{base}'; the tensors of {others}")
        for (kind, blobs), count in self._unknown.items():
            what = f"layer type '{kind}' is not known" if kind else "a layer without a type is not known"
            if blobs:
                what = f"layers of type '{kind}' with {blobs} blobs of these shapes are not known"
            times = f" ({count} layers)" if count > 1 else ""
            self.store.note("assumed", f"{what}{times}; its blobs are called blob0, blob1, …")

    def _add(self, layer: Layer, position: int) -> None:
        key = self._key(layer, position)
        present = [(i, blob) for i, blob in enumerate(layer.blobs) if blob is not None]
        for (index, blob), role in zip(present, self._roles(layer, present), strict=True):
            name = f"{key}.{role.role}"
            attributes: dict[str, Json] = {LAYER: layer.name, BLOB: index}
            if layer.type:
                attributes[TYPE] = layer.type
            if self._occurrences[layer.name] > 1:
                attributes[OCCURRENCE] = self._occurrences[layer.name]
            attributes |= shape_attributes(blob, role.shape)
            if role.notice:
                self.store.note("assumed", f"{layer.type}: {role.notice}", name)
            self._append(layer, index, Tensor(_spec(name, blob, role, attributes), blob.payload))

    def _key(self, layer: Layer, position: int) -> str:
        """What stands before the dot in the names of the layer's tensors, unlike that of any other layer."""
        base = layer.name or f"layer{position}"
        n = self._used.get(base, 0) + 1
        key = base if n == 1 else f"{base}#{n}"
        while key in self._keys or (n > 1 and key in self._reserved):
            n += 1
            key = f"{base}#{n}"
        self._used[base] = n
        if n > 1:
            self._renamed.setdefault(base, []).append(key)
        elif not layer.name:
            self.store.note("assumed", f"a layer without a name is called '{key}'")
        self._keys.add(key)
        return key

    def _roles(self, layer: Layer, present: Sequence[tuple[int, Blob]]) -> Sequence[BlobRole]:
        """The role of each blob that is there."""
        shapes = [blob.shape if blob is not None else (0,) for blob in layer.blobs]
        legacy = [blob is not None and blob.legacy for blob in layer.blobs]
        roles = blob_roles(layer.type or "", shapes, legacy=legacy, parameter=layer.parameter, bottoms=layer.bottoms)
        if roles is None:
            self._unknown[layer.type or "", len(shapes) if layer.type in KNOWN_TYPES else 0] += 1
            roles = numbered_roles(shapes)
        return [roles[i] for i, _ in present]

    def _append(self, layer: Layer, index: int, tensor: Tensor) -> None:
        shared = layer.shared[index] if index < len(layer.shared) else ""
        owner = self._owners.setdefault(shared, tensor.name) if shared else tensor.name
        if owner == tensor.name:
            self.store.add(tensor)
            return
        other = self.store[owner]
        if (other.dtype, other.size) != (tensor.dtype, tensor.size):
            self.store.note("changed", f"shares the parameter '{shared}' with '{owner}', which has another size; kept apart", tensor.name)
            self.store.add(tensor)
        else:
            self.store.tie(tensor, owner)


def shape_attributes(blob: Blob, natural: tuple[int, ...]) -> dict[str, Json]:
    """What has to be remembered so that the blob can be written as it was; `natural` is the shape that the tensor gets."""
    attributes: dict[str, Json] = {}
    if blob.legacy:
        attributes[SHAPE] = list(blob.shape)
    elif blob.shapeless:
        attributes[SHAPE] = []
    if blob.encoding:
        attributes[ENCODING] = blob.encoding
    return attributes


def _spec(name: str, blob: Blob, role: BlobRole, attributes: dict[str, Json]) -> TensorSpec:
    try:
        return TensorSpec(name, blob.dtype, role.shape, role.axes, role.role, attributes)
    except PorterError as error:
        raise error.located(tensor=name) from error.__cause__


def check_axes(count: int, where: str) -> None:
    """Raise a `FormatError` if a blob has more dimensions than Caffe allows."""
    if count > MAX_AXES:
        raise FormatError("F101", f"{where} has more than the {MAX_AXES} dimensions that Caffe allows")


def decoded(name: bytes) -> str:
    """A layer's name as text: UTF-8, or with escapes for the bytes that are none."""
    return name.decode("utf-8", "backslashreplace")
