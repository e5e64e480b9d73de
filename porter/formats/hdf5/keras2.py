"""Keras 1 and 2: weights by layer, alone or as part of a whole model.

A group has the attribute `layer_names`; the group of each layer has `weight_names`, each of them the path of a dataset
below it. Attributes over 64 kB are split into `layer_names0`, `layer_names1` …. A whole model has that group under
`model_weights`, with `model_config` and `training_config` as attributes of the root and the optimizer's variables in
`optimizer_weights`. Files from before Keras 1.0 number everything: `layer_0/param_0`.

Source: keras-team/keras at 0a54048b9961, `keras/src/legacy/saving/legacy_h5_format.py`; Keras 0.3.3, `keras/models.py`,
`Sequential.save_weights` (`nb_layers`, `nb_params`).
"""

from __future__ import annotations

import re
from collections import Counter

from porter.dataclass import dataclass
from porter.errors import FormatError, UsageError
from porter.formats.hdf5 import description
from porter.formats.hdf5.attributes import Attribute
from porter.formats.hdf5.keras_layers import KerasLayer, layers_by_name, parse_config, role_of
from porter.formats.hdf5.objects import Header
from porter.formats.hdf5.reading import Entry, Reader
from porter.formats.hdf5.recognition import LAYERS, MODEL, lists_layers

WEIGHTS, OPTIMIZER, TOP_LEVEL = "weight_names", "optimizer_weights", "top_level_model_weights"
CONFIGS = ("model_config", "training_config")
LAYER, WEIGHT, CLASS = "keras.layer", "keras.weight", "keras.class"


@dataclass(frozen=True, slots=True)
class Weight:
    """One weight: its layer's group, its name there, and its dataset."""

    layer: str
    name: str
    entry: Entry


def read(reader: Reader, select: str | None) -> description.Description:
    """Read the model's weights; `select="optimizer_weights"` reads the optimizer's variables instead."""
    described = description.load(reader.file)
    root = reader.table(reader.root)
    whole = MODEL in root and root[MODEL].is_group and not lists_layers(reader, reader.root)
    group, path = (root[MODEL], (MODEL,)) if whole else (reader.root, ())
    configs = _read_root(reader, group)
    optimizer = root.get(OPTIMIZER) if path else None
    if select not in (None, MODEL, OPTIMIZER) or (select == OPTIMIZER and optimizer is None):
        there = ", ".join(name for name in (MODEL, OPTIMIZER) if name in root) or "the weights alone"
        raise UsageError("U501", f"the file has no '{select}'", hint=f"it has {there}")
    if select == OPTIMIZER and optimizer is not None:
        weights = _weights_of(reader, optimizer, OPTIMIZER, (OPTIMIZER,))
        for weight in weights:
            reader.add(weight.entry, described.name(weight.entry.text, weight.name))
        return described
    weights = _model_weights(reader, group, path)
    layers = layers_by_name(configs)
    for weight, name in zip(weights, tensor_names([(w.layer, w.name) for w in weights]), strict=True):
        _add(reader, weight, described.name(weight.entry.text, name), layers)
    if optimizer is not None:
        count = len(_names(reader, optimizer, WEIGHTS, OPTIMIZER))
        reader.store.note("skipped", f"{count} variable{'s' * (count != 1)} of the optimizer; read them with --select {OPTIMIZER}")
    return described


def _read_root(reader: Reader, group: Header) -> object:
    """Take metadata and attachments from the attributes of the root and of the group; the parsed configuration."""
    config: object = None
    attributes = reader.file.attributes(group) | reader.file.attributes(reader.root)
    for name, attribute in attributes.items():
        if name in CONFIGS and attribute.is_text():
            data = b"".join(attribute.bytes())
            reader.store.attachments[f"keras.{name}"] = data
            if name == CONFIGS[0]:
                config = parse_config(data)
                if config is None:
                    reader.store.note("skipped", "the model's configuration is no JSON; roles come from names alone")
        elif name not in (description.ATTRIBUTE, "nb_layers") and not re.fullmatch(rf"({LAYERS}|{WEIGHTS})\d*", name):
            value = attribute.value()
            if value is None:
                reader.store.note("skipped", f"the attribute '{name}' is neither text nor numbers")
            else:
                reader.store.metadata[name] = value
    return config


def _model_weights(reader: Reader, group: Header, path: tuple[str, ...]) -> list[Weight]:
    """The weights of all layers in the order of `layer_names`."""
    table = reader.table(group, "/".join(path))
    if "nb_layers" in reader.file.attributes(group):
        return _numbered(reader, group, path)
    names = _names(reader, group, LAYERS, "/".join(path) or "the root group")
    if TOP_LEVEL in table and TOP_LEVEL not in names:
        names.append(TOP_LEVEL)
    weights, seen = [], set()
    unlisted: list[str] = []
    for name in names:
        parts = tuple(p for p in name.split("/") if p)
        header = table.get(parts[0]) if len(parts) == 1 else reader.lookup(group, parts)
        if header is None or header.is_dataset:
            raise FormatError("F510", f"'{LAYERS}' lists the layer '{name}', which has no group", path=reader.file.window.path)
        if name in seen:
            raise FormatError("F510", f"'{LAYERS}' lists the layer '{name}' twice", path=reader.file.window.path)
        seen.add(name)
        of_layer = _weights_of(reader, header, name, (*path, *parts))
        weights += of_layer
        known = {weight.entry.header.address for weight in of_layer}
        unlisted += [e.text for e in reader.walk(header, (*path, *parts)) if e.header.address not in known]
    if unlisted:
        shown = ", ".join(unlisted[:3]) + (", …" if len(unlisted) > 3 else "")
        what = "datasets" if len(unlisted) > 1 else "dataset"
        reader.store.note("skipped", f"{len(unlisted)} {what} that '{WEIGHTS}' does not list ({shown})")
    listed = {name.split("/")[0] for name in names} | ({OPTIMIZER, MODEL} if not path else set())
    strays = [name for name in table if name not in listed]
    if strays:
        reader.store.note(
            "skipped", f"{len(strays)} group{'s' * (len(strays) > 1)} that '{LAYERS}' does not list ({', '.join(strays[:3])})"
        )
    return weights


def _numbered(reader: Reader, group: Header, path: tuple[str, ...]) -> list[Weight]:
    """The weights of a file from before Keras 1.0."""

    def number(text: str) -> tuple[int, str]:
        digits = text.rpartition("_")[2]
        return (int(digits) if digits.isdigit() and len(digits) < 10 else 1 << 30, text)

    weights = []
    for layer, header in sorted(reader.table(group).items(), key=lambda item: number(item[0])):
        if not header.is_group:
            reader.store.note("skipped", f"'{layer}' is not the group of a layer")
            continue
        for name, inner in sorted(reader.table(header, layer).items(), key=lambda item: number(item[0])):
            weights.append(Weight(layer, name, Entry((*path, layer, name), inner, header)))
    return weights


def _weights_of(reader: Reader, group: Header, layer: str, path: tuple[str, ...]) -> list[Weight]:
    names = _names(reader, group, WEIGHTS, layer)
    tables: dict[tuple[str, ...], dict[str, Header]] = {}
    weights = []
    for name in names:
        *folder, last = (p for p in name.split("/") if p) if name.strip("/") else ("",)
        key = tuple(folder)
        if key not in tables:
            inner = reader.lookup(group, key)
            tables[key] = reader.table(inner, "/".join((*path, *key))) if inner is not None and not inner.is_dataset else {}
        header = tables[key].get(last)
        if header is None or not header.is_dataset:
            raise FormatError("F510", f"'{WEIGHTS}' of layer '{layer}' lists '{name}', which is not there", path=reader.file.window.path)
        weights.append(Weight(layer, name, Entry((*path, *key, last), header, group)))
    return weights


def _names(reader: Reader, group: Header, attribute: str, where: str) -> list[str]:
    """A list of names, put together from its parts where it was split."""
    attributes = reader.file.attributes(group)
    parts = [attributes[attribute]] if attribute in attributes else _split(attributes, attribute)
    if not parts and attribute == LAYERS:
        raise FormatError("F510", f"{where} has no attribute '{LAYERS}'", path=reader.file.window.path)
    return [name for part in parts for name in part.strings()]


def _split(attributes: dict[str, Attribute], name: str) -> list[Attribute]:
    parts: list[Attribute] = []
    while (key := f"{name}{len(parts)}") in attributes:
        parts.append(attributes[key])
    return parts


def tensor_names(weights: list[tuple[str, str]]) -> list[str]:
    """The tensors' names for weights given as layer and name: the weight's own where all of those that share it agree,
    with the layer in front where two layers have the same.
    """
    often = Counter(name for _, name in weights)
    if all(count == 1 for count in often.values()):
        return [name for _, name in weights]
    names = [name if often[name] == 1 and name.startswith(layer + "/") else f"{layer}/{name}" for layer, name in weights]
    return names if len(set(names)) == len(names) else [f"{layer}/{name}" for layer, name in weights]


def _add(reader: Reader, weight: Weight, name: str, layers: dict[str, KerasLayer]) -> None:
    layer = _layer_of(weight, layers)
    role = role_of(weight.name, weight.layer)
    attributes = {LAYER: weight.layer, WEIGHT: weight.name} | ({CLASS: layer.kind} if layer is not None else {})
    axes = layer.axes(role) if layer is not None else None
    reader.add(weight.entry, name, role=role, axes=axes, attributes=attributes)


def _layer_of(weight: Weight, layers: dict[str, KerasLayer]) -> KerasLayer | None:
    """The layer of the configuration that a weight belongs to: the innermost that its name mentions, else its group's."""
    for part in reversed(weight.name.split("/")[:-1]):
        if part in layers:
            return layers[part]
    return layers.get(weight.layer)
