"""Writing a store as the zip archive of torch 1.6 and later, a state_dict.

Scale and zero point go back into the quantised tensors they came from, and the parts of sparse tensors into those, where
torch has a tensor that says the same; tied tensors share a storage.

Source: pytorch `torch/serialization.py` (`_save`), 2.13.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

from porter import manifest
from porter.errors import LossError, UsageError
from porter.formats.base import Loss, WriteOptions, WriteReport
from porter.formats.pytorch.archive import MANIFEST, METADATA
from porter.formats.pytorch.record_writer import RecordWriter
from porter.formats.pytorch.records import SPARSE_PARTS, TORCH_TYPES, TorchType
from porter.formats.pytorch.state_dict import (
    ChannelQuantizer,
    DenseEntry,
    Entry,
    QuantizedEntry,
    SparseEntry,
    TensorQuantizer,
    encode_state_dict,
)
from porter.io.atomic import OutputGroup
from porter.store import Notice, TensorStore
from porter.tensor import CHUNK, Json, Payload, Tensor

_ROOT = "archive"
_CHANNEL_TYPES = {"per_channel_affine": ("float64", "int64"), "per_channel_affine_float_qparams": ("float32", "float32")}


def write_archive(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write `store` to `path`. Streams.

    Raises:
        LossError: torch has no type for a tensor.
        UsageError: a dialect other than "zip" is asked for.
    """
    if options.dialect not in (None, "zip"):
        raise UsageError(
            "U203", f"pytorch:{options.dialect} can be read, not written", hint="write pytorch:zip, which every torch since 1.6 reads"
        )
    plan = _Plan(store)
    versions = _module_versions(store)
    pickle = encode_state_dict(plan.entries, versions)
    description = _description(store, plan.described, has_versions=versions is not None)
    with OutputGroup(progress=options.progress) as group:
        file = group.create(path)
        file.reserve(sum(payload.nbytes + 192 for payload in plan.storages) + len(pickle))
        records = RecordWriter(file, _ROOT)
        records.add("data.pkl", pickle)
        records.add(".format_version", b"1")
        records.add(".storage_alignment", b"64")
        records.add("byteorder", b"little")
        for number, payload in enumerate(plan.storages):
            records.add(f"data/{number}", payload)
        records.add("version", b"3\n")
        if description is not None:
            records.add(MANIFEST, description)
        records.finish()
        file.truncate()
    return WriteReport("pytorch", "zip", (path,), len(store), tuple(plan.losses), tuple(plan.notices))


class _Plan:
    """What is written for a store: entries in order, and the payloads of their storages by number.

    `described` holds the names of tensors whose attribute ("quantization", "sparse") the entries say themselves.
    """

    def __init__(self, store: TensorStore) -> None:
        self.entries: list[Entry] = []
        self.storages: list[Payload] = []
        self.losses: list[Loss] = []
        self.notices: list[Notice] = []
        self.described: dict[str, str] = {}
        self._store = store
        self._placed: dict[str, DenseEntry] = {}
        self._tied = set(store.ties) | set(store.ties.values())
        composites = self._composites()
        parts = {part for names, _ in composites.values() for part in names}
        order: list[str] = []
        for tensor in store.values():
            if tensor.name in composites:
                names, make = composites[tensor.name]
                self.entries.append(make())
                order.extend(names)
            elif tensor.name not in parts:
                self.entries.append(self._dense(tensor))
                order.append(tensor.name)
        if order != list(store):
            self.losses.append(Loss("order", "scales, zero points and parts of sparse tensors move to the tensors they belong to"))

    def _composites(self) -> dict[str, tuple[list[str], Callable[[], Entry]]]:
        """Tensors that become one: by the name of the first, all their names, and what makes the entry."""
        found: dict[str, tuple[list[str], Callable[[], Entry]]] = {}
        for tensor in self._store.values():
            for attribute, plan in (("quantization", self._quantized), ("sparse", self._sparse)):
                if attribute not in tensor.attributes:
                    continue
                described = tensor.attributes[attribute]
                planned = plan(tensor, described) if isinstance(described, dict) else "its description is not an object"
                if isinstance(planned, str):
                    what = "quantised" if attribute == "quantization" else "sparse"
                    self.notices.append(Notice("changed", f"not written as a {what} tensor, but as it is: {planned}", tensor.name))
                else:
                    self.described[tensor.name] = attribute
                    found[planned[0][0]] = planned
        return found

    # Dense tensors

    def _dense(self, tensor: Tensor) -> DenseEntry:
        kind, shape = _torch_form(tensor)
        # The tensor that others are tied to need not be the first of them.
        group = self._store.ties.get(tensor.name, tensor.name)
        target = self._placed.get(group)
        if target is not None and not self._same(tensor, target):
            message = "the values are not those of the tensor it was tied to, so it is stored on its own"
            self.losses.append(Loss("tie", message, (tensor.name,)))
            target = None
        number = target.storage if target is not None else self._storage(tensor.payload)
        entry = DenseEntry(tensor.name, kind, shape, number, tensor.nbytes)
        self._placed.setdefault(group, entry)
        return entry

    def _storage(self, payload: Payload) -> int:
        self.storages.append(payload)
        return len(self.storages) - 1

    def _same(self, tensor: Tensor, target: DenseEntry) -> bool:
        """Whether the storage of `target` holds the tensor's bytes. Reads them, unless both are the same run of a file."""
        payload = self.storages[target.storage]
        if target.type.dtype != tensor.dtype or payload.nbytes != tensor.nbytes:
            return False
        if payload is tensor.payload or (payload.location is not None and payload.location == tensor.location):
            return True
        return _digest(payload) == tensor.digest()

    # Tensors that are written as one

    def _plain(self, name: object) -> Tensor | None:
        """The tensor called `name`, if it is neither tied nor described, so that nothing is lost when it becomes a part."""
        tensor = self._store.get(name) if isinstance(name, str) else None
        if tensor is None or tensor.name in self._tied or tensor.axes or tensor.role:
            return None
        return tensor

    def _quantized(self, tensor: Tensor, described: Mapping[str, Json]) -> tuple[list[str], Callable[[], Entry]] | str:
        """The names and the entry's maker, or why torch has no tensor that says the same."""
        if "torch_dtype" not in described:
            return f"torch has none that are {described.get('type')} {described.get('scheme')}"
        kind = TORCH_TYPES.get(str(described.get("torch_dtype")))
        if kind is None or not kind.quantized or kind.dtype != tensor.dtype or kind.name == "quint2x4":
            return f"torch has no type {described.get('torch_dtype')!r} of {tensor.dtype}"
        scale, zero = self._plain(described.get("scale")), self._plain(described.get("zero_point"))
        if scale is None or zero is None or scale.attributes or zero.attributes or tensor.name in self._tied:
            return "it, its scale or its zero point is tied, described or not there"
        if (scale.name, zero.name) != (f"{tensor.name}.scale", f"{tensor.name}.zero_point"):
            return "its scale and zero point are not called after it"
        scheme, axis, types = described.get("scheme"), described.get("axis"), (scale.dtype.name, zero.dtype.name)
        names = [tensor.name, scale.name, zero.name]
        if scheme == "per_tensor_affine" and kind.name != "quint4x2":
            if types != ("float64", "int64") or scale.shape or zero.shape:
                return "scale and zero point are not one float64 and one int64"
            return names, lambda: QuantizedEntry(self._integers(tensor, kind), _tensor_quantizer(scale, zero))
        if types != _CHANNEL_TYPES.get(str(scheme)) or type(axis) is not int or not 0 <= axis < len(tensor.shape):
            return f"scheme {scheme!r} along axis {axis!r} with {types[0]} and {types[1]}"
        if kind.name == "quint4x2" and scheme != "per_channel_affine_float_qparams":
            return f"torch has no {kind.name} of scheme {scheme!r}"
        if not scale.shape == zero.shape == (tensor.shape[axis],):
            return "scale and zero point do not fit the axis"
        return names, lambda: QuantizedEntry(self._integers(tensor, kind), ChannelQuantizer(self._dense(scale), self._dense(zero), axis))

    def _integers(self, tensor: Tensor, kind: TorchType) -> DenseEntry:
        return DenseEntry(tensor.name, kind, tensor.shape, self._storage(tensor.payload), tensor.nbytes)

    def _sparse(self, tensor: Tensor, described: Mapping[str, Json]) -> tuple[list[str], Callable[[], Entry]] | str:
        layout, size, coalesced = described.get("layout"), described.get("size"), described.get("coalesced")
        wanted = SPARSE_PARTS.get(layout) if isinstance(layout, str) else None
        if wanted is None or not isinstance(layout, str):
            return f"torch has no layout {layout!r}"
        if (
            not isinstance(size, list)
            or not all(type(n) is int and 0 <= n < 1 << 62 for n in size)
            or not isinstance(coalesced, bool | None)
        ):
            return "its size or its flag is of the wrong type"
        name = tensor.name.removesuffix(".values")
        found = [self._plain(f"{name}.{part}") for part in wanted]
        parts = [part for part in found if part is not None]
        if len(parts) != len(wanted) or name in self._store or any(part.attributes for part in parts if part is not tensor):
            return "one of its parts is tied, described or not there"
        if any(part.dtype.name != "int64" for part in parts[:-1]) or not _sparse_fits(layout, parts, size):
            return "its parts do not fit its size"
        names = [part.name for part in parts]
        return names, lambda: SparseEntry(name, layout, tuple(self._dense(part) for part in parts), tuple(size), coalesced)


def _sparse_fits(layout: str, parts: list[Tensor], size: list[int]) -> bool:
    """Whether shapes fit; what the indices say is not looked at, as torch does not look either."""
    values = parts[-1].shape
    if layout == "sparse_coo":
        indices = parts[0].shape
        return len(indices) == 2 and len(values) >= 1 and values[0] == indices[1] and indices[0] + len(values) - 1 == len(size)
    return len(size) >= 2 and len(parts[0].shape) == len(parts[1].shape) <= len(values)


def _tensor_quantizer(scale: Tensor, zero_point: Tensor) -> TensorQuantizer:
    return TensorQuantizer(scale.tobytes(), int.from_bytes(zero_point.tobytes(), "little", signed=True))


def _torch_form(tensor: Tensor) -> tuple[TorchType, tuple[int, ...]]:
    """The torch type and shape of `tensor`.

    Raises:
        LossError: torch has no type for it.
    """
    if math.prod(max(n, 1) for n in tensor.shape) >= 1 << 62:
        message = f"torch counts strides in 64 bits, too few for the shape {list(tensor.shape)}"
        raise LossError("L202", message, tensor=tensor.name, hint="write safetensors, or reshape the tensor, which has no elements")
    if tensor.dtype.name == "float4_e2m1fn" and tensor.shape and tensor.shape[-1] % 2 == 0:
        return TORCH_TYPES["float4_e2m1fn_x2"], (*tensor.shape[:-1], tensor.shape[-1] // 2)
    if tensor.dtype.name == "float4_e2m1fn":
        message = f"torch holds {tensor.dtype} in pairs along the last axis, which has no even length"
        raise LossError("L201", message, tensor=tensor.name, hint="write safetensors, which counts single elements")
    if tensor.dtype.torch is None:
        hint = "write safetensors, onnx or hdf5, which hold more types (see 'porter formats')"
        raise LossError("L001", f"pytorch cannot hold {tensor.dtype}", tensor=tensor.name, hint=hint)
    return TORCH_TYPES[tensor.dtype.torch], tensor.shape


def _digest(payload: Payload) -> str:
    import hashlib

    state = hashlib.sha256()
    for chunk in payload.chunks(CHUNK):
        state.update(chunk)
    return state.hexdigest()


# What stands beside the tensors


def _module_versions(store: TensorStore) -> Mapping[str, Mapping[str, Json]] | None:
    """The `_metadata` of the state_dict that the store came from; None where there is none, or none that torch could have written."""
    data = store.attachments.get(METADATA)
    try:
        table = json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(table, dict) or not all(isinstance(v, dict) for v in table.values()):
        return None
    return table if all(_is_scalar(x) for v in table.values() for x in v.values()) else None


def _is_scalar(value: Json) -> bool:
    return value is None or type(value) in (bool, float, str) or (type(value) is int and -(1 << 63) <= value < 1 << 63)


def _description(store: TensorStore, described: Mapping[str, str], *, has_versions: bool) -> bytes | None:
    """porter's own description, less what the pickle says itself."""
    document = manifest.describe(store, omit=("ties",)) or {"porter": manifest.VERSION}
    tensors = document.get("tensors", {})
    for name, attribute in described.items():
        entry = tensors[name]
        del entry["attributes"][attribute]
        if not entry["attributes"]:
            del entry["attributes"]
        if not entry:
            del tensors[name]
    if has_versions:
        document["attachments"].pop(METADATA)
    left = {k: v for k, v in document.items() if v != {}}
    return manifest.dumps(left).encode("ascii") if len(left) > 1 else None
