"""Where tensors go in Caffe's HDF5 files."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from porter.errors import LossError
from porter.formats.caffe.layer_types import blob_roles
from porter.formats.hdf5.caffe import BLOB, HISTORY, LAYER, TYPE
from porter.formats.hdf5.names import Path
from porter.formats.hdf5.plans import Plan
from porter.store import Notice, TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from porter.formats.caffe.binary import LayerRecord
    from porter.formats.caffe.net import CaffeLayer

_FIRST = {"weight": 0, "bias": 1}
_MAX_BLOBS = 1 << 16
_MOST_PERMUTED = 6


def shaped(store: TensorStore, net_path: str | None) -> tuple[TensorStore, list[Notice]]:
    """`store` with the shapes that the net says for tensors which come flat, and what to say of that."""
    if net_path is None or all(len(tensor.shape) != 1 for tensor in store.values()):
        return store, []
    from porter.formats.caffe.net_shapes import notice_of, weight_of

    records = {record.name: record for record in _records(net_path)}
    changed: dict[str, Tensor] = {}
    for name, tensor in store.items():
        layer, role = split_name(name)
        found = weight_of(records[layer], tensor) if layer in records and role == "weight" else None
        if found is not None:
            changed[name] = found
    if not changed:
        return store, []
    result = TensorStore((changed.get(name, tensor) for name, tensor in store.items()), source=store.source)
    result.ties, result.metadata, result.attachments = store.ties, store.metadata, store.attachments
    return result, [notice_of(changed)]


def _records(net_path: str) -> Iterator[LayerRecord]:
    """The layers of the net at `net_path`."""
    from porter.formats.caffe.binary import V2_LAYERS, LayerRecord
    from porter.formats.caffe.fields import fields
    from porter.formats.caffe.net import net_from_prototxt
    from porter.formats.caffe.net_bytes import serialise

    data = serialise(net_from_prototxt(net_path), [])
    for position, field in enumerate(f for f in fields(data) if f.number == V2_LAYERS):
        yield LayerRecord(data[field.body : field.end], V2_LAYERS, position)


def weights(store: TensorStore, net_path: str | None) -> Plan:
    """A file of weights; `net_path` is a prototxt that says which blob of its layer a role is, and which layers have none."""
    typed = _layers(net_path)
    layers: dict[str, dict[int, str]] = {name: {} for name in typed}
    loose: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in store.items():
        layer, index = _remembered(tensor)
        if index is not None and index not in layers.setdefault(layer, {}):
            layers[layer][index] = name
        else:
            layer, role = split_name(name)
            loose.setdefault(layer, []).append((role, tensor))
    guessed = []
    for layer, entries in loose.items():
        if not _settle(layers.setdefault(layer, {}), entries, layer, typed.get(layer)):
            guessed.append(layer)
    places = {name: _path(layer, index) for layer, blobs in layers.items() for index, name in blobs.items()}
    plan = Plan("caffe", {name: places[name] for name in store}, groups={("data",): {}})
    plan.groups |= {_path(layer): {} for layer in layers if all(layer.split("/"))}
    _notices(plan, store, layers, guessed)
    return plan


def _layers(net_path: str | None) -> dict[str, CaffeLayer]:
    if net_path is None:
        return {}
    from porter.formats.caffe.net import net_from_prototxt

    return net_from_prototxt(net_path).by_name()


def _remembered(tensor: Tensor) -> tuple[str, int | None]:
    """The place that the tensor's attributes give it, unless it has been renamed since."""
    layer, index = tensor.attributes.get(LAYER), tensor.attributes.get(BLOB)
    if isinstance(layer, str) and type(index) is int and 0 <= index < _MAX_BLOBS and split_name(tensor.name)[0] == layer:
        return layer, index
    return "", None


def _settle(blobs: dict[int, str], entries: list[tuple[str, Tensor]], layer: str, typed: CaffeLayer | None) -> bool:
    """Give tensors that came by name their indices; False where their order is a guess."""
    kind = (typed.type if typed is not None else None) or next((str(t.attributes[TYPE]) for _, t in entries if TYPE in t.attributes), None)
    if kind is not None and not blobs and _by_type(blobs, entries, kind, typed):
        return True
    if typed is not None and kind is not None and blob_roles(kind, [t.shape for _, t in entries], parameter=typed.parameter) is not None:
        role, tensor = entries[0]
        raise LossError(
            "L505",
            f"layer '{layer}' is a {kind}, in which '{', '.join(r for r, _ in entries)}' have no place",
            tensor=tensor.name,
            hint="rename the tensors with a map, or leave --net out",
        )
    sure = all(role in _FIRST or re.fullmatch(r"blob(0|[1-9]\d{0,3})", role) or not role for role, _ in entries)
    left = []
    for role, tensor in entries:
        match = re.fullmatch(r"blob(0|[1-9]\d{0,3})", role)
        if match and int(match[1]) not in blobs:
            blobs[int(match[1])] = tensor.name
        else:
            left.append((role, tensor))
    free = (i for i in itertools.count() if i not in blobs)
    for _, tensor in sorted(left, key=lambda entry: _FIRST.get(entry[0], 2)):
        blobs[next(free)] = tensor.name
    return sure


def _by_type(blobs: dict[int, str], entries: list[tuple[str, Tensor]], kind: str, typed: CaffeLayer | None) -> bool:
    """Order the tensors as the layer's type has their roles, if it has exactly those."""
    orders = itertools.permutations(entries) if len(entries) <= _MOST_PERMUTED else [tuple(entries)]
    for order in orders:
        shapes = [tensor.shape for _, tensor in order]
        if typed is not None:
            roles = blob_roles(kind, shapes, parameter=typed.parameter, bottoms=len(typed.bottoms))
        else:
            roles = blob_roles(kind, shapes)
        if roles is not None and [r.role for r in roles] == [role for role, _ in order]:
            blobs.update(enumerate(tensor.name for _, tensor in order))
            return True
    return False


def split_name(name: str) -> tuple[str, str]:
    """Layer and role of a tensor by its name; all of it is the layer where nothing stands on one side of the last dot."""
    layer, _, role = name.rpartition(".")
    return (layer, role) if layer and role else (name, "")


def _path(layer: str, index: int | None = None) -> Path:
    return ("data", *layer.split("/"), *(() if index is None else (str(index),)))


def _notices(plan: Plan, store: TensorStore, layers: dict[str, dict[int, str]], guessed: list[str]) -> None:
    if guessed:
        plan.notices.append(Notice("assumed", f"the order of the blobs is a guess in {_some(guessed)}; a net given with --net settles it"))
    gaps = [layer for layer, blobs in layers.items() if blobs and max(blobs) >= len(blobs)]
    if gaps:
        plan.notices.append(Notice("note", f"blobs are missing in {_some(gaps)}; Caffe loads that only where it shares them"))
    slashes = [layer for layer in layers if "/" in layer]
    if slashes:
        plan.notices.append(Notice("note", f"Caffe itself does not find layers with a slash in their names in HDF5: {_some(slashes)}"))
    odd = [
        t.name
        for t in store.values()
        if t.dtype.kind not in ("float", "int", "uint") or (t.dtype.numpy_str is None and t.dtype.name != "bfloat16")
    ]
    if odd:
        plan.notices.append(Notice("note", f"Caffe itself does not load the types of {_some(odd)}"))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def solver_state(store: TensorStore) -> Plan:
    """A solver's state: the tensors are its history, in the order of their numbers, or of the store."""
    numbers = {name: _history_index(tensor) for name, tensor in store.items()}
    if {n for n in numbers.values() if n is not None} != set(range(len(numbers))):
        numbers = {name: i for i, name in enumerate(store)}
    plan = Plan("caffe-solverstate", {name: ("history", str(n)) for name, n in numbers.items()}, groups={("history",): {}})
    for key in ("iter", "current_step"):
        value = store.metadata.get(key)
        if type(value) is int and -(1 << 31) <= value < 1 << 31:
            plan.values[key,] = value
        else:
            plan.values[key,] = 0
            plan.notices.append(Notice("assumed", f"the store does not say '{key}', which a solver's state must have; 0 is written"))
    net = store.metadata.get("learned_net")
    if isinstance(net, str) and "\0" not in net:
        plan.values["learned_net",] = net.encode("utf-8", "surrogateescape")
    return plan


def _history_index(tensor: Tensor) -> int | None:
    found = re.fullmatch(re.escape(HISTORY) + r"(0|[1-9]\d{0,8})", tensor.name)
    return int(found[1]) if found else None
