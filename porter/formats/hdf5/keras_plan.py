"""Where tensors go in Keras' files."""

from __future__ import annotations

import re
from collections import Counter

from porter.formats.hdf5.keras2 import CONFIGS, LAYER, WEIGHT, WEIGHTS, tensor_names
from porter.formats.hdf5.names import Path
from porter.formats.hdf5.plans import AttributeOut, Plan
from porter.formats.hdf5.recognition import LAYERS, MODEL, VARS
from porter.store import Notice, TensorStore
from porter.tensor import Tensor

_HEADER_LIMIT = 64512
"""Bytes of the largest attribute that Keras writes in one piece. Source: legacy_h5_format.py, HDF5_OBJECT_HEADER_LIMIT."""

_EXOTIC = "Keras reads the types of these as opaque bytes: "


def keras2(store: TensorStore) -> Plan:
    """A file of weights, or a whole model where the store has the configuration of one."""
    slots = _slots(store)
    whole = f"keras.{CONFIGS[0]}" in store.attachments
    base: Path = (MODEL,) if whole else ()
    layers: dict[str, list[str]] = {}
    places: dict[str, Path] = {}
    for name, (layer, weight) in slots.items():
        layers.setdefault(layer, []).append(weight)
        places[name] = (*base, *_parts(layer), *_parts(weight))
    plan = Plan("keras2", places, keras_types=True)
    said: dict[str, AttributeOut] = {
        key: _text(store, key, default) for key, default in (("keras_version", "2.15.0"), ("backend", "tensorflow"))
    }
    plan.groups[()] = dict(said)
    plan.groups.setdefault(base, {}).update(said)
    plan.groups[base] |= _split(LAYERS, list(layers))
    for layer, weights in layers.items():
        plan.groups.setdefault((*base, *_parts(layer)), {}).update(_split(WEIGHTS, weights))
    for key in CONFIGS if whole else ():
        data = store.attachments.get(f"keras.{key}")
        if data and b"\0" not in data:
            plan.groups[()][key] = data
    _note_exotic(plan, store)
    return plan


def _slots(store: TensorStore) -> dict[str, tuple[str, str]]:
    """Layer and weight name of each tensor, so that reading gives back the names: as they were, else by their names."""
    known = {name: _remembered(tensor) for name, tensor in store.items()}
    slots = {name: slot or _by_name(name) for name, slot in known.items()}
    if tensor_names(list(slots.values())) != list(slots):
        slots = {name: _by_name(name) for name in store}
    return slots


def _remembered(tensor: Tensor) -> tuple[str, str] | None:
    layer, weight = tensor.attributes.get(LAYER), tensor.attributes.get(WEIGHT)
    if isinstance(layer, str) and isinstance(weight, str) and tensor.name in (weight, f"{layer}/{weight}"):
        return layer, weight
    return None


def _by_name(name: str) -> tuple[str, str]:
    """The layer is what stands before the first slash, else before the last dot, else all of the name."""
    layer = name.partition("/")[0] if "/" in name.strip("/") else name.rpartition(".")[0]
    return layer or name, name


def _parts(name: str) -> Path:
    """The links that lead to `name` in an HDF5 file. Slashes too many mean nothing there, but one in front would leave the
    group; the empty part then has the plan refused.
    """
    parts = tuple(part for part in name.split("/") if part)
    return ("", *parts) if name.startswith("/") or not parts else parts


def _text(store: TensorStore, key: str, default: str) -> bytes:
    value = store.metadata.get(key)
    return (value if isinstance(value, str) and value and "\0" not in value else default).encode("utf-8", "surrogateescape")


def _split(name: str, texts: list[str]) -> dict[str, AttributeOut]:
    """A list of names as one attribute, or as several numbered ones where it is long."""
    data = [text.encode("utf-8", "surrogateescape") for text in texts]
    width = max((len(d) for d in data), default=1) or 1
    most = max(_HEADER_LIMIT // width, 1)
    if len(data) <= most:
        return {name: data}
    return {f"{name}{i}": data[start : start + most] for i, start in enumerate(range(0, len(data), most))}


def keras3(store: TensorStore) -> Plan:
    """A `.weights.h5` file: each tensor at the path that is its name."""
    plan = Plan("keras3", {name: tuple(name.split("/")) for name in store}, keras_types=True)
    if not any(VARS in path for path in plan.places.values()):
        plan.groups[VARS,] = {}
    for name, path in plan.places.items():
        layer = store[name].attributes.get(LAYER)
        if len(path) > 1 and path[-2] == VARS and isinstance(layer, str) and layer and "\0" not in layer and layer.isprintable():
            plan.groups.setdefault(path[:-1], {})["name"] = layer
    strange = [name for name, path in plan.places.items() if len(path) < 2 or path[-2] != VARS or not re.fullmatch(r"\d+", path[-1])]
    if strange:
        some = ", ".join(strange[:3]) + (", …" if len(strange) > 3 else "")
        plan.notices.append(Notice("note", f"Keras looks for variables at '<layer>/vars/<n>' and will not find {some}"))
    _note_exotic(plan, store)
    return plan


def _note_exotic(plan: Plan, store: TensorStore) -> None:
    exotic = Counter(t.dtype.name for t in store.values() if t.dtype.numpy_str is None and t.dtype.name not in ("bfloat16", "complex32"))
    if exotic:
        plan.notices.append(Notice("note", _EXOTIC + ", ".join(sorted(exotic))))
