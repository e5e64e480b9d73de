"""Writing a state_dict as the zip archive of torch 1.6 and later.

The pickle is what torch's own pickler makes of an `OrderedDict` of tensors, opcode for opcode, so that
`torch.load(weights_only=True)` takes it. Types with a storage class of their own go through `_rebuild_tensor_v2`, the others
as untyped bytes through `_rebuild_tensor_v3`.

Source: pytorch `torch/serialization.py` (`_save`), `torch/_tensor.py` (`_reduce_ex_internal`), `torch/_weights_only_unpickler.py`,
2.13; CPython `Lib/pickle.py` (3.11), protocol 2.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from porter import manifest
from porter.dtypes import BY_TORCH
from porter.errors import LossError, UsageError
from porter.formats.base import Loss, WriteOptions, WriteReport
from porter.formats.pytorch.archive import MANIFEST
from porter.formats.pytorch.record_writer import RecordWriter
from porter.formats.pytorch.records import TORCH_TYPES, TorchType
from porter.io.atomic import OutputGroup
from porter.store import Notice, TensorStore
from porter.tensor import Json, Payload, Tensor

DTYPES_WRITTEN = frozenset(d.name for d in BY_TORCH.values())
METADATA = "pytorch.metadata"
"""The attachment that keeps a state_dict's `_metadata` (versions of modules), as JSON."""

_ROOT = "archive"
_BATCH = 1000
_STORAGE_CLASSES = {
    t: f"{name}Storage" for name, t in {"QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2"}.items()
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the state_dict: how torch calls its type, its shape there, the number of its storage, its quantisation."""

    name: str
    type: TorchType
    shape: tuple[int, ...]
    storage: int
    quantizer: tuple[str, object, object, int] | None = None


class _Plan:
    """What is written for a store: entries in order and the payloads of their storages. Raises what has to be refused."""

    def __init__(self, store: TensorStore) -> None:
        self.store = store
        self.entries: list[_Entry] = []
        self.storages: list[tuple[TorchType, Payload]] = []
        self.losses: list[Loss] = []
        self.notices: list[Notice] = []
        self.recombined: list[str] = []
        self._numbers: dict[str, int] = {}
        parts: dict[str, str] = {}
        for tensor in store.values():
            if "quantization" in tensor.attributes:
                parts |= self._parts(tensor)
        for tensor in store.values():
            if tensor.name not in parts:
                self._add(tensor, {k: v for k, v in parts.items() if v == tensor.name})
        order = [n for e in self.entries for n in (e.name, *(p for p, of in parts.items() if of == e.name))]
        if order != list(store):
            self.losses.append(Loss("order", "scales and zero points follow the tensors that they belong to"))

    # Placing

    def _add(self, tensor: Tensor, parts: Mapping[str, str]) -> None:
        kind, shape = _torch_form(tensor, quantized=bool(parts))
        quantizer = self._quantizer(tensor) if parts else None
        target = self.store.ties.get(tensor.name)
        number = self._numbers.get(target) if target is not None else None
        if number is not None and not self._same(tensor, number, kind):
            self.losses.append(
                Loss("tie", "the values are not those of the tensor it was tied to, so it is stored on its own", (tensor.name,))
            )
            number = None
        if number is None:
            number = len(self.storages)
            self.storages.append((kind, tensor.payload))
        self._numbers[tensor.name] = number
        self.entries.append(_Entry(tensor.name, kind, shape, number, quantizer))

    def _same(self, tensor: Tensor, number: int, kind: TorchType) -> bool:
        """Whether the storage holds the tensor's bytes. Reads them, unless both are the same run of a file."""
        stored, payload = self.storages[number]
        if stored != kind or payload.nbytes != tensor.nbytes:
            return False
        if payload is tensor.payload or (payload.location is not None and payload.location == tensor.location):
            return True
        return payload.nbytes == tensor.nbytes and _digest(payload) == tensor.digest()

    # Quantisation

    def _parts(self, tensor: Tensor) -> dict[str, str]:
        """The names of scale and zero point, each with `tensor`'s; empty where torch has no tensor that says the same."""
        found = tensor.attributes["quantization"]
        why = self._cannot_recombine(tensor, found) if isinstance(found, dict) else "its description is not an object"
        if why:
            message = f"not written as a quantised tensor: {why}; the integers are written, and scale and zero point beside them"
            self.notices.append(Notice("changed", message, tensor.name))
            return {}
        self.recombined.append(tensor.name)
        return {found["scale"]: tensor.name, found["zero_point"]: tensor.name}

    def _cannot_recombine(self, tensor: Tensor, found: Mapping[str, Json]) -> str | None:
        kind = TORCH_TYPES.get(str(found.get("torch_dtype")))
        if kind is None or not kind.quantized or kind.dtype != tensor.dtype or kind.name == "quint2x4":
            return f"no torch type {found.get('torch_dtype')!r} of {tensor.dtype}"
        scale, zero = self.store.get(str(found.get("scale"))), self.store.get(str(found.get("zero_point")))
        if scale is None or zero is None or scale.name != f"{tensor.name}.scale" or zero.name != f"{tensor.name}.zero_point":
            return "its scale and zero point are not there under its name"
        if any(t.attributes or t.axes or t.role or t.name in self.store.ties or t.name in self.store.ties.values() for t in (scale, zero)):
            return "its scale or zero point is described or tied"
        if tensor.name in self.store.ties or tensor.name in self.store.ties.values():
            return "it is tied"
        scheme, axis, types = found.get("scheme"), found.get("axis"), (scale.dtype.name, zero.dtype.name)
        if scheme == "per_tensor_affine":
            fits = scale.shape == zero.shape == () and types == ("float64", "int64") and kind.name != "quint4x2"
            return None if fits else "scale and zero point are not one float64 and one int64"
        wanted = {"per_channel_affine": ("float64", "int64"), "per_channel_affine_float_qparams": ("float32", "float32")}.get(str(scheme))
        if wanted is None or types != wanted or type(axis) is not int or not 0 <= axis < len(tensor.shape):
            return f"scheme {scheme!r} along axis {axis!r} with {types[0]} and {types[1]}"
        return None if scale.shape == zero.shape == (tensor.shape[axis],) else "scale and zero point do not fit the axis"

    def _quantizer(self, tensor: Tensor) -> tuple[str, object, object, int]:
        found = tensor.attributes["quantization"]
        scale, zero = self.store[found["scale"]], self.store[found["zero_point"]]
        if found["scheme"] == "per_tensor_affine":
            return "per_tensor_affine", scale.tobytes(), int.from_bytes(zero.tobytes(), "little", signed=True), 0
        numbers = []
        for part in (scale, zero):
            numbers.append(len(self.storages))
            self.storages.append((TORCH_TYPES[part.dtype.name], part.payload))
        shapes = (scale.shape, zero.shape)
        types = (TORCH_TYPES[scale.dtype.name], TORCH_TYPES[zero.dtype.name])
        entries = [_Entry(part, t, s, n) for part, t, s, n in zip((scale.name, zero.name), types, shapes, numbers, strict=True)]
        # torch 2.13 names per_channel_affine for both kinds; the type of the zero points tells them apart on loading.
        return "per_channel_affine", entries[0], entries[1], found["axis"]


def _torch_form(tensor: Tensor, *, quantized: bool) -> tuple[TorchType, tuple[int, ...]]:
    """The torch type and shape of `tensor`.

    Raises:
        LossError: torch has no type for it.
    """
    if quantized:
        return TORCH_TYPES[tensor.attributes["quantization"]["torch_dtype"]], tensor.shape
    if tensor.dtype.name == "float4_e2m1fn" and tensor.shape and tensor.shape[-1] % 2 == 0:
        return TORCH_TYPES["float4_e2m1fn_x2"], (*tensor.shape[:-1], tensor.shape[-1] // 2)
    if tensor.dtype.name == "float4_e2m1fn":
        raise LossError("L201", "torch holds float4_e2m1fn in pairs along the last axis", tensor=tensor.name, hint="write safetensors")
    if tensor.dtype.torch is None:
        raise LossError(
            "L001", f"pytorch cannot hold {tensor.dtype}", tensor=tensor.name, hint="write safetensors, onnx or hdf5 (see 'porter formats')"
        )
    return TORCH_TYPES[tensor.dtype.torch], tensor.shape


def _digest(payload: Payload) -> str:
    import hashlib

    state = hashlib.sha256()
    for chunk in payload.chunks(1 << 20):
        state.update(chunk)
    return state.hexdigest()


def write_archive(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write `store` to `path`. Streams; ties share a storage.

    Raises:
        LossError: torch has no type for a tensor.
        UsageError: a dialect other than "zip" is asked for.
    """
    if options.dialect not in (None, "zip"):
        raise UsageError(
            "U203", f"pytorch:{options.dialect} can be read, not written", hint="write pytorch:zip, which every torch since 1.6 reads"
        )
    plan = _Plan(store)
    pickle = encode_state_dict(plan.entries, plan.storages, _metadata(store))
    description = _description(plan)
    with OutputGroup(progress=options.progress) as group:
        file = group.create(path)
        file.reserve(sum(payload.nbytes + 192 for _, payload in plan.storages) + len(pickle))
        records = RecordWriter(file, _ROOT)
        records.add("data.pkl", pickle)
        records.add(".format_version", b"1")
        records.add(".storage_alignment", b"64")
        records.add("byteorder", b"little")
        for number, (_, payload) in enumerate(plan.storages):
            records.add(f"data/{number}", payload)
        records.add("version", b"3\n")
        if description is not None:
            records.add(MANIFEST, description)
        records.finish()
        file.truncate()
    return WriteReport("pytorch", "zip", (path,), len(store), tuple(plan.losses), tuple(plan.notices))


def _metadata(store: TensorStore) -> Mapping[str, Mapping[str, Json]] | None:
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


def _description(plan: _Plan) -> bytes | None:
    """porter's own description, less what the pickle says itself."""
    document = manifest.describe(plan.store, omit=("ties",)) or {"porter": manifest.VERSION}
    tensors = document.get("tensors", {})
    for name in plan.recombined:
        attributes = {k: v for k, v in tensors[name]["attributes"].items() if k != "quantization"}
        tensors[name] = (
            {**tensors[name], "attributes": attributes} if attributes else {k: v for k, v in tensors[name].items() if k != "attributes"}
        )
        if not tensors[name]:
            del tensors[name]
    attachments = document.get("attachments", {})
    if _metadata(plan.store) is not None:
        attachments.pop(METADATA, None)
    left = {k: v for k, v in document.items() if v not in ({}, None)}
    return manifest.dumps(left).encode("ascii") if len(left) > 1 else None


# The pickle


class _Pickler:
    """Emits opcodes of protocol 2 with the memo numbers that Python's pickler would give."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self._memo: dict[object, int] = {}
        self._puts = 0

    def put(self, key: object = None) -> None:
        """Store the top of the stack in the memo; `get(key)` recalls it."""
        self.out += b"q" + bytes([self._puts]) if self._puts < 256 else b"r" + struct.pack("<I", self._puts)
        if key is not None:
            self._memo[key] = self._puts
        self._puts += 1

    def get(self, key: object) -> bool:
        """Recall what was stored as `key`; False if nothing was."""
        number = self._memo.get(key)
        if number is None:
            return False
        self.out += b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)
        return True

    def name(self, module: str, name: str) -> None:
        key = ("global", module, name)
        if not self.get(key):
            self.out += f"c{module}\n{name}\n".encode()
            self.put(key)

    def text(self, value: str, *, shared: bool = False) -> None:
        """A string; `shared` ones are one object in torch's pickles, the others one each."""
        key = ("text", value) if shared else None
        if key is not None and self.get(key):
            return
        data = value.encode("utf-8", "surrogatepass")
        self.out += b"X" + struct.pack("<I", len(data)) + data
        self.put(key)

    def integer(self, value: int) -> None:
        if 0 <= value < 1 << 8:
            self.out += b"K" + bytes([value])
        elif 0 <= value < 1 << 16:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out += b"\x8a" + bytes([len(data)]) + data

    def counts(self, values: Sequence[int]) -> None:
        """A tuple of integers."""
        if not values:
            self.out += b")"
            return
        if len(values) > 3:
            self.out += b"("
        for value in values:
            self.integer(value)
        self.out += b"t" if len(values) > 3 else bytes([0x84 + len(values)])
        self.put()

    def ordered_dict(self) -> None:
        self.name("collections", "OrderedDict")
        self.out += b")R"
        self.put()

    def items(self, steps: Sequence[Callable[[], None]]) -> None:
        """Put pairs into the dictionary on top; each step emits a key and a value. In batches, as Python does."""
        for start in range(0, len(steps), _BATCH):
            batch = steps[start : start + _BATCH]
            self.out += b"(" if len(batch) > 1 else b""
            for step in batch:
                step()
            self.out += b"u" if len(batch) > 1 else b"s"

    def scalar(self, value: Json) -> None:
        if isinstance(value, str):
            self.text(value)
        elif isinstance(value, float):
            self.out += b"G" + struct.pack(">d", value)
        elif value is None or isinstance(value, bool):
            self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        else:
            self.integer(value)


def encode_state_dict(
    entries: Sequence[_Entry], storages: Sequence[tuple[TorchType, Payload]], metadata: Mapping[str, Mapping[str, Json]] | None
) -> bytes:
    """The pickle of an `OrderedDict` of `entries`, with `_metadata` set on it where there is some."""
    pickler = _Pickler()
    pickler.ordered_dict()

    def step(entry: _Entry) -> Callable[[], None]:
        def emit() -> None:
            pickler.text(entry.name)
            _tensor(pickler, entry, storages[entry.storage][1].nbytes)

        return emit

    pickler.items([step(entry) for entry in entries])
    if metadata is not None:
        _state(pickler, metadata)
    return bytes(pickler.out + b".")


def _tensor(pickler: _Pickler, entry: _Entry, nbytes: int) -> None:
    storage = entry.type.dtype.torch_storage if not entry.type.quantized else _STORAGE_CLASSES[entry.type.name]
    typed = storage is not None and entry.type.name != "complex32"
    pickler.name("torch._utils", "_rebuild_qtensor" if entry.quantizer else "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
    pickler.out += b"(("
    pickler.text("storage", shared=True)
    pickler.name(*(("torch", str(storage)) if typed else ("torch.storage", "UntypedStorage")))
    pickler.text(str(entry.storage), shared=True)
    pickler.text("cpu", shared=True)
    pickler.integer(nbytes // entry.type.width if typed else nbytes)
    pickler.out += b"t"
    pickler.put()
    pickler.out += b"Q"
    pickler.integer(0)
    pickler.counts(entry.shape)
    pickler.counts(_strides(entry.shape))
    if entry.quantizer is not None:
        _quantizer(pickler, entry.quantizer)
    pickler.out += b"\x89"
    pickler.ordered_dict()
    if not typed:
        pickler.name("torch", entry.type.name)
    pickler.out += b"t"
    pickler.put()
    pickler.out += b"R"
    pickler.put()


def _quantizer(pickler: _Pickler, quantizer: tuple[str, object, object, int]) -> None:
    scheme, scale, zero_point, axis = quantizer
    if isinstance(scale, _Entry) and isinstance(zero_point, _Entry):
        pickler.out += b"("
        pickler.name("torch", scheme)
        for part in (scale, zero_point):
            _tensor(pickler, part, part.type.width * part.shape[0])
        pickler.integer(axis)
        pickler.out += b"t"
    else:
        assert isinstance(scale, bytes)
        assert isinstance(zero_point, int)
        pickler.name("torch", scheme)
        pickler.out += b"G" + scale[::-1]
        pickler.integer(zero_point)
        pickler.out += b"\x87"
    pickler.put()


def _state(pickler: _Pickler, metadata: Mapping[str, Mapping[str, Json]]) -> None:
    pickler.out += b"}"
    pickler.put()
    pickler.text("_metadata")
    pickler.ordered_dict()

    def step(module: str, values: Mapping[str, Json]) -> Callable[[], None]:
        def emit() -> None:
            pickler.text(module)
            pickler.out += b"}"
            pickler.put()
            pickler.items([pair(key, value) for key, value in values.items()])

        return emit

    def pair(key: str, value: Json) -> Callable[[], None]:
        def emit() -> None:
            pickler.text(key, shared=True)
            pickler.scalar(value)

        return emit

    pickler.items([step(module, values) for module, values in metadata.items()])
    pickler.out += b"sb"


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a C-order tensor, as torch counts them: a dimension of 0 counts as 1."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))
