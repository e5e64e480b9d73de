"""Caffe's HDF5: weights as `/data/<layer>/<n>`, the state of a solver as `/history/<n>`.

The file knows neither the types of layers nor their order; a prototxt says them. Parameters that a layer shares with an
earlier one are missing.

Source: BVLC/caffe at 003704ae84a2: `src/caffe/net.cpp`, ToHDF5 and CopyTrainedLayersFromHDF5 (groups of all layers in `data`,
and in `diff` where gradients were saved); `src/caffe/solvers/sgd_solver.cpp`, SnapshotSolverStateToHDF5 (`iter`,
`learned_net`, `current_step`, `history/<n>`); `src/caffe/util/hdf5.cpp` (H5LT: a number is one int32, a string is of
fixed length).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.caffe.layer_types import BlobRole, blob_roles, numbered_roles
from porter.formats.hdf5 import description
from porter.formats.hdf5.messages import FIXED
from porter.formats.hdf5.objects import Header
from porter.formats.hdf5.reading import Entry, Reader

if TYPE_CHECKING:
    from porter.formats.caffe.net import CaffeLayer, CaffeNet

LAYER, TYPE, BLOB = "caffe.layer", "caffe.type", "caffe.blob"
HISTORY = "history."
_MAX_BLOBS = 1 << 16
_NUMBERS = ("iter", "current_step")


@dataclass(slots=True)
class LayerBlobs:
    """The datasets of one layer by blob index."""

    name: str
    entries: dict[int, Entry]


def read_weights(reader: Reader, net_path: str | None) -> description.Description:
    """Read the weights; `net_path` is a prototxt that says what the layers are."""
    described = description.load(reader.file)
    root = reader.table(reader.root)
    if "diff" in root:
        reader.store.note("skipped", "gradients ('diff') are no weights")
    layers = _layers(reader, root["data"])
    net = _net(reader, net_path)
    typed = net.by_name() if net is not None else {}
    order = {layer.name: i for i, layer in enumerate(net.layers)} if net is not None else {}
    assumed: list[str] = []
    for layer in sorted(layers, key=lambda found: order.get(found.name, len(order))):
        _add_layer(reader, described, layer, typed.get(layer.name), assumed)
    if net is not None:
        _tie_shared(reader, net, layers)
    if assumed:
        some = ", ".join(assumed[:3]) + (", …" if len(assumed) > 3 else "")
        counted = f"{len(assumed)} layer{'s are' if len(assumed) > 1 else ' is'}"
        reader.store.note("assumed", f"the file has no layer types; {counted} taken to hold a weight and a bias ({some})")
    return described


def _layers(reader: Reader, data: Header) -> list[LayerBlobs]:
    """Layers that have blobs. A layer's name may contain slashes and then lies deeper."""
    layers: dict[str, LayerBlobs] = {}
    for entry in reader.walk(data, ("data",)):
        name, number = "/".join(entry.path[1:-1]), entry.path[-1]
        if not name or not number.isascii() or not number.isdigit() or int(number) >= _MAX_BLOBS or number != str(int(number)):
            reader.store.note("skipped", f"'{entry.text}' is not the blob of a layer")
            continue
        layers.setdefault(name, LayerBlobs(name, {})).entries[int(number)] = entry
    return list(layers.values())


def _net(reader: Reader, path: str | None) -> CaffeNet | None:
    if path is None:
        return None
    from porter.formats.caffe.net import net_from_prototxt

    net = net_from_prototxt(path)
    for notice in net.notices:
        reader.store.note("changed", notice)
    return net


def _add_layer(reader: Reader, described: description.Description, layer: LayerBlobs, typed: CaffeLayer | None, assumed: list[str]) -> None:
    count = max(layer.entries) + 1
    shapes = [
        reader.file.dataset(layer.entries[i].header).space.shape or () if i in layer.entries else (0,)
        for i in range(min(count, _MAX_BLOBS))
    ]
    kind = typed.type if typed is not None else None
    roles = _roles(reader, layer.name, shapes, typed)
    if roles is None:
        roles = assumed_roles(shapes)
        if roles is not None and typed is None:
            assumed.append(layer.name)
        roles = roles or numbered_roles(shapes)
    for index, entry in sorted(layer.entries.items()):
        role = roles[index]
        name = described.name(entry.text, f"{layer.name}.{role.role}")
        attributes = {LAYER: layer.name, BLOB: index} | ({TYPE: kind} if kind else {})
        if role.notice:
            reader.store.note("assumed", f"{kind}: {role.notice}", name)
        reader.add(entry, name, axes=role.axes, role=role.role, attributes=attributes)


def _roles(reader: Reader, name: str, shapes: Sequence[tuple[int, ...]], typed: CaffeLayer | None) -> Sequence[BlobRole] | None:
    if typed is None:
        return None
    roles = blob_roles(typed.type or "", shapes, parameter=typed.parameter, bottoms=len(typed.bottoms))
    if roles is None:
        reader.store.note(
            "assumed", f"layer '{name}' has type '{typed.type}', which porter does not know; its blobs are called blob0, blob1, …"
        )
        return numbered_roles(shapes)
    return roles


def assumed_roles(shapes: Sequence[tuple[int, ...]]) -> tuple[BlobRole, ...] | None:
    """Weight and bias for a matrix or kernel, alone or with a vector behind it; None for any other set of blobs."""
    if len(shapes) in (1, 2) and len(shapes[0]) >= 2 and all(len(s) == 1 for s in shapes[1:]):
        return tuple(BlobRole(role, shape) for role, shape in zip(("weight", "bias"), shapes, strict=False))
    return None


def _tie_shared(reader: Reader, net: CaffeNet, layers: list[LayerBlobs]) -> None:
    """Parameters that the net shares by name, and that Caffe therefore did not write, are ties to the one that it wrote."""
    present = {layer.name: layer.entries for layer in layers}
    by_place = {(t.attributes.get(LAYER), t.attributes.get(BLOB)): t for t in reader.found.tensors}
    owners: dict[str, tuple[str, int]] = {}
    for layer in net.layers:
        for index, param in enumerate(layer.params):
            if not param.name:
                continue
            owner = owners.setdefault(param.name, (layer.name, index))
            source = by_place.get(owner)
            if owner == (layer.name, index) or source is None or index in present.get(layer.name, {}):
                continue
            attributes = {LAYER: layer.name, BLOB: index} | ({TYPE: layer.type} if layer.type else {})
            alias = source.with_spec(name=f"{layer.name}.{source.role}", attributes=attributes)
            reader.found.tensors.append(alias)
            reader.found.ties[alias.name] = source.name


def read_solver_state(reader: Reader) -> description.Description:
    """Read the history of a solver as `history.0`, `history.1`, …; iteration, net and step are metadata."""
    described = description.load(reader.file)
    for name, header in reader.table(reader.root).items():
        if header.is_dataset and name in _NUMBERS:
            reader.store.metadata[name] = _number(reader, name, header)
        elif header.is_dataset and name == "learned_net":
            reader.store.metadata[name] = _string(reader, header)
        elif name != "history":
            reader.store.note("skipped", f"'{name}' is nothing that a solver's state is known to have")
    entries = list(reader.walk(reader.table(reader.root)["history"], ("history",)))
    numbered = sorted(entries, key=lambda e: (not e.path[-1].isdigit(), len(e.path[-1]), e.path[-1]))
    for entry in numbered:
        index = entry.path[-1]
        attributes = {BLOB: int(index)} if index.isascii() and index.isdigit() and len(index) < 7 else {}
        reader.add(entry, described.name(entry.text, HISTORY + "/".join(entry.path[1:])), attributes=attributes)
    return described


def _raw(reader: Reader, header: Header) -> bytes:
    """The bytes of a small dataset."""
    dataset = reader.file.dataset(header)
    size = dataset.space.elements * dataset.type.size
    if dataset.layout.kind == "chunked" or dataset.layout.address is None or size > 1 << 16:
        raise FormatError("F508", "a solver's state keeps a number or a name in an unusual way", path=reader.file.window.path)
    return reader.file.window.read(dataset.layout.address, size, "a value of the solver's state")


def _number(reader: Reader, name: str, header: Header) -> int:
    kind = reader.file.dataset(header).type
    data = _raw(reader, header)
    if kind.kind != FIXED or kind.size not in (1, 2, 4, 8) or len(data) != kind.size:
        raise FormatError("F508", f"'{name}' is not one whole number", path=reader.file.window.path)
    return int.from_bytes(data, "big" if kind.big_endian else "little", signed=bool(kind.fields[2]))


def _string(reader: Reader, header: Header) -> str:
    return reader.file.text(_raw(reader, header), reader.file.dataset(header).type).decode("utf-8", "backslashreplace")
