"""`net.json`: which weights each layer of a network of TensorRT holds, so that any program that has the network can check them.

    {"porter": 1, "kind": "tensorrt-network", "package": {"name": "tensorrt_rtx", "version": "1.7.1"} | null,
     "inputs": [{"name": "data", "dtype": "float32", "shape": [-1, 3, 224, 224]}], "outputs": […],
     "layers": [
       {"name": "conv1", "type": "Convolution",
        "weights": [
          {"role": "kernel", "tensor": "conv1.weight", "sources": ["conv1.weight"], "formula"?: "cast",
           "shape": [64, 3, 7, 7], "dtype": "float32", "count": 9408, "crc32": "0badc0de", "sha256": "…"}, …]}, …]}

- `layers` are in the order in which they run; one without weights has an empty list. `type` is the name of porter's record.
- `tensor` is what the weights are called in a file of the network's weights, `sources` the tensors that they were made of.
- `crc32` (8 small hexadecimal digits; zlib's polynomial) and `sha256` are over the bytes that TensorRT holds, little-endian.
- -1 is a size that is open. `package` is null where no live network was built.

The schema is `schemas/tensorrt_net.schema.json`. Unknown fields are ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.errors import TensorRTError, access_error
from porter.tensor import Json, Tensor
from porter.tensorrt.layers import Layer, Network, Weights, weights_of
from porter.tensorrt.package import Package

VERSION, KIND = 1, "tensorrt-network"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one weight of a layer."""

    layer: str
    type: str
    role: str
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    crc32: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was read: types of the layers by name, and the weights, in order."""

    path: str
    layers: Mapping[str, str]
    weights: tuple[Entry, ...]


def document(network: Network, package: Package | None) -> dict[str, Json]:
    """The manifest of a network whose weights are those that TensorRT holds. Reads all of them once."""
    return {
        "porter": VERSION,
        "kind": KIND,
        "package": {"name": package.name, "version": package.version} if package is not None else None,
        "inputs": [_value(given.name, given.dtype, given.shape) for given in network.inputs],
        "outputs": [_value(name, network.dtypes.get(name), network.shapes.get(name)) for name in network.outputs],
        "layers": [_layer(layer) for layer in network.layers],
    }


def dumps(document: Mapping[str, Json]) -> bytes:
    """The manifest as the file has it: a line for each layer without weights, and one for each weight of the others."""
    members = [f' "{key}": {_json(value)}' for key, value in document.items() if key != "layers"]
    layers = ",\n".join(map(_lines, document["layers"]))
    members.append(f' "layers": [\n{layers}\n ]' if layers else ' "layers": []')
    return ("{\n" + ",\n".join(members) + "\n}\n").encode()


def _lines(layer: Mapping[str, Json]) -> str:
    if not layer["weights"]:
        return f"  {_json(layer)}"
    weights = ",\n".join(f"    {_json(weights)}" for weights in layer["weights"])
    return f'  {{"name": {_json(layer["name"])}, "type": {_json(layer["type"])}, "weights": [\n{weights}\n  ]}}'


def _json(value: Json) -> str:
    return json.dumps(value)


def _value(name: str, dtype: str | None, shape: Sequence[int] | None) -> dict[str, Json]:
    return {"name": name, "dtype": dtype, "shape": None if shape is None else list(shape)}


def _layer(layer: Layer) -> dict[str, Json]:
    weights = [_weights(role, held) for role, held in weights_of(layer.operation).items()]
    return {"name": layer.name, "type": type(layer.operation).__name__, "weights": weights}


def _weights(role: str, held: Weights) -> dict[str, Json]:
    entry: dict[str, Json] = {"role": role, "tensor": held.tensor.name, "sources": list(held.sources)}
    if held.formula is not None:
        entry["formula"] = held.formula
    crc, sha = digests(held.tensor)
    spec = held.tensor.spec
    return {**entry, "shape": list(spec.shape), "dtype": spec.dtype.name, "count": spec.size, "crc32": crc, "sha256": sha}


def digests(tensor: Tensor) -> tuple[str, str]:
    """CRC-32 and SHA-256 of a tensor's bytes, in hex. Reads them once."""
    import hashlib
    import zlib

    crc, sha = 0, hashlib.sha256()
    for chunk in tensor.chunks():
        crc = zlib.crc32(chunk, crc)
        sha.update(chunk)
    return f"{crc:08x}", sha.hexdigest()


def verify(manifest: Manifest, network: Network) -> tuple[str, ...]:
    """In what a network, such as one that was read back, is not the one of the manifest: a line each. Reads all weights once."""
    layers = {layer.name: layer.operation for layer in network.layers}
    found = [f"there is no layer '{name}'" for name in manifest.layers if name not in layers]
    found += [f"the layer '{name}' is not in the manifest" for name in layers if name not in manifest.layers]
    for name, kind in manifest.layers.items():
        if name in layers and type(layers[name]).__name__ != kind:
            found.append(f"the layer '{name}' is {type(layers[name]).__name__}, the manifest says {kind}")
    held = {(name, role): w.tensor for name, operation in layers.items() for role, w in weights_of(operation).items()}
    said = {(entry.layer, entry.role) for entry in manifest.weights}
    found += [f"'{layer}' holds a {role}, which the manifest has not" for layer, role in held if (layer, role) not in said]
    for entry in manifest.weights:
        tensor = held.get((entry.layer, entry.role))
        found += [f"'{entry.layer}', {entry.role}: {text}" for text in _disagreements(entry, tensor)]
    return tuple(found)


def _disagreements(entry: Entry, tensor: Tensor | None) -> Iterable[str]:
    if tensor is None:
        return ["it is not there"]
    if (tensor.dtype.name, tensor.size) != (entry.dtype, entry.count):
        return [f"{tensor.size} values of {tensor.dtype.name}, the manifest says {entry.count} of {entry.dtype}"]
    crc, sha = digests(tensor)
    if (crc, sha) != (entry.crc32, entry.sha256):
        return [f"other values: CRC-32 {crc}, the manifest says {entry.crc32}"]
    return []


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(path: str) -> Manifest:
    """The manifest in a file.

    Raises:
        TensorRTError: it is none, or contradicts itself.
        FileAccessError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise access_error(error, path, "reading") from error
    try:
        made = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"it is no JSON: {error}") from error
    if not isinstance(made, dict) or made.get("kind") != KIND:
        raise _broken(path, f'its "kind" is not "{KIND}"')
    if made.get("porter") != VERSION:
        raise _broken(path, f"it is of version {made.get('porter')!r}, and this porter reads version {VERSION}")
    return _Reader(path).manifest(made)


def _broken(path: str, what: str) -> TensorRTError:
    return TensorRTError("T201", f"this is no manifest of a network: {what}", path=path)


class _Reader:
    """Takes a document apart, and says where something in it is not what it has to be."""

    def __init__(self, path: str) -> None:
        self.path = path

    def manifest(self, made: dict[str, Any]) -> Manifest:
        layers: dict[str, str] = {}
        weights: list[Entry] = []
        for number, layer in enumerate(self._list(made, "layers", "the manifest")):
            where = f"layer {number}"
            name = self._text(layer, "name", where)
            if name in layers:
                self._fail(f"two layers are called '{name}'")
            layers[name] = self._text(layer, "type", where)
            entries = [self._entry(name, layers[name], entry) for entry in self._list(layer, "weights", where)]
            if len({entry.role for entry in entries}) < len(entries):
                self._fail(f"the layer '{name}' has a role twice")
            weights += entries
        return Manifest(self.path, layers, tuple(weights))

    def _entry(self, layer: str, kind: str, made: Any) -> Entry:
        where = f"a weight of the layer '{layer}'"
        role, tensor, dtype = (self._text(made, key, where) for key in ("role", "tensor", "dtype"))
        shape = self._list(made, "shape", where)
        count = made.get("count")
        sizes = [*shape, count]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes) or math.prod(shape) != count:
            self._fail(f"{where}: its shape and its count do not go together")
        if dtype not in DTYPES:
            self._fail(f"{where}: there is no type '{dtype}'")
        crc, sha = self._text(made, "crc32", where), self._text(made, "sha256", where)
        if not re.fullmatch("[0-9a-f]{8}", crc) or not re.fullmatch("[0-9a-f]{64}", sha):
            self._fail(f"{where}: its digests are not 8 and 64 hexadecimal digits")
        return Entry(layer, kind, role, tensor, tuple(shape), dtype, sizes[-1], crc, sha)

    def _list(self, made: Any, key: str, where: str) -> list[Any]:
        found = made.get(key) if isinstance(made, dict) else None
        if not isinstance(found, list):
            self._fail(f'{where} has no list "{key}"')
        return found

    def _text(self, made: Any, key: str, where: str) -> str:
        found = made.get(key) if isinstance(made, dict) else None
        if not isinstance(found, str):
            self._fail(f'{where} has no text "{key}"')
        return found

    def _fail(self, what: str) -> NoReturn:
        raise _broken(self.path, what)
