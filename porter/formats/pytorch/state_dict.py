"""A state_dict as the pickle that torch's own pickler would make of it, opcode for opcode and memo number for memo number.

Types with a storage class of their own go through `_rebuild_tensor_v2`, the others as untyped bytes through
`_rebuild_tensor_v3`; quantised and sparse tensors through functions of their own. All of them are among those that
`torch.load(weights_only=True)` takes.

Source: pytorch `torch/_tensor.py` (`_reduce_ex_internal`), `torch/_weights_only_unpickler.py`, 2.13; CPython `Lib/pickle.py`
(3.11), protocol 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from porter.dataclass import dataclass
from porter.formats.pytorch.records import TorchType
from porter.tensor import Json

_BATCH = 1000
_QUANTIZED_STORAGES = {"qint8": "QInt8Storage", "quint8": "QUInt8Storage", "qint32": "QInt32Storage", "quint4x2": "QUInt4x2Storage"}


@dataclass(frozen=True, slots=True)
class DenseEntry:
    """A tensor: torch's type and shape for it, and the number and bytes of its storage."""

    name: str
    type: TorchType
    shape: tuple[int, ...]
    storage: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class TensorQuantizer:
    """Quantisation per tensor: the scale's float64 as 8 canonical bytes, and the zero point."""

    scale: bytes
    zero_point: int


@dataclass(frozen=True, slots=True)
class ChannelQuantizer:
    """Quantisation along `axis`: scales and zero points, `(shape[axis],)` each."""

    scale: DenseEntry
    zero_point: DenseEntry
    axis: int


@dataclass(frozen=True, slots=True)
class QuantizedEntry:
    """A quantised tensor: its integers, and what they mean."""

    values: DenseEntry
    quantizer: TensorQuantizer | ChannelQuantizer


@dataclass(frozen=True, slots=True)
class SparseEntry:
    """A sparse tensor of `shape`: the layout's name in torch, and its parts in the order in which torch has them."""

    name: str
    layout: str
    parts: tuple[DenseEntry, ...]
    shape: tuple[int, ...]
    coalesced: bool | None


Entry = DenseEntry | QuantizedEntry | SparseEntry


def encode_state_dict(entries: Sequence[Entry], metadata: Mapping[str, Mapping[str, Json]] | None) -> bytes:
    """The pickle of an `OrderedDict` of `entries`, with `_metadata` set on it where there is some."""
    pickler = _Pickler()
    pickler.ordered_dict()

    def step(entry: Entry) -> Callable[[], None]:
        def emit() -> None:
            pickler.text(entry.values.name if isinstance(entry, QuantizedEntry) else entry.name)
            if isinstance(entry, DenseEntry):
                _dense(pickler, entry)
            elif isinstance(entry, QuantizedEntry):
                _quantized(pickler, entry)
            else:
                _sparse(pickler, entry)

        return emit

    pickler.items([step(entry) for entry in entries])
    if metadata is not None:
        _state(pickler, metadata)
    return bytes(pickler.out + b".")


def _dense(pickler: _Pickler, entry: DenseEntry) -> None:
    typed = entry.type.dtype.torch_storage is not None and entry.type.name != "complex32"
    pickler.name("torch._utils", "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
    pickler.out += b"("
    _view(pickler, entry, entry.type.dtype.torch_storage if typed else None)
    pickler.out += b"\x89"
    pickler.ordered_dict()
    if not typed:
        pickler.name("torch", entry.type.name)
    pickler.result(b"t")


def _view(pickler: _Pickler, entry: DenseEntry, storage: str | None) -> None:
    """Storage (of a class, or untyped), offset, size and strides."""
    pickler.out += b"("
    pickler.text("storage", shared=True)
    pickler.name(*(("torch", storage) if storage else ("torch.storage", "UntypedStorage")))
    pickler.text(str(entry.storage), shared=True)
    pickler.text("cpu", shared=True)
    pickler.integer(entry.nbytes // entry.type.width if storage else entry.nbytes)
    pickler.out += b"t"
    pickler.put()
    pickler.out += b"Q"
    pickler.integer(0)
    pickler.counts(entry.shape)
    pickler.counts(_strides(entry.shape))


def _quantized(pickler: _Pickler, entry: QuantizedEntry) -> None:
    pickler.name("torch._utils", "_rebuild_qtensor")
    pickler.out += b"("
    _view(pickler, entry.values, _QUANTIZED_STORAGES[entry.values.type.name])
    quantizer = entry.quantizer
    if isinstance(quantizer, ChannelQuantizer):
        # torch 2.13 names this scheme for float zero points too; their type tells the two apart on loading.
        pickler.out += b"("
        pickler.name("torch", "per_channel_affine")
        _dense(pickler, quantizer.scale)
        _dense(pickler, quantizer.zero_point)
        pickler.integer(quantizer.axis)
        pickler.out += b"t"
    else:
        pickler.name("torch", "per_tensor_affine")
        pickler.out += b"G" + quantizer.scale[::-1]
        pickler.integer(quantizer.zero_point)
        pickler.out += b"\x87"
    pickler.put()
    pickler.out += b"\x89"
    pickler.ordered_dict()
    pickler.result(b"t")


def _sparse(pickler: _Pickler, entry: SparseEntry) -> None:
    pickler.name("torch._utils", "_rebuild_sparse_tensor")
    pickler.name("torch.serialization", "_get_layout")
    pickler.text(f"torch.{entry.layout}")
    pickler.result(b"\x85")
    pickler.out += b"("
    for part in entry.parts:
        _dense(pickler, part)
    pickler.name("torch", "Size")
    pickler.counts(entry.shape)
    pickler.result(b"\x85")
    if entry.layout == "sparse_coo":
        pickler.scalar(entry.coalesced)
    pickler.out += b"t"
    pickler.put()
    pickler.result(b"\x86")


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

    def result(self, arguments: bytes) -> None:
        """Make a tuple of what is on the stack, by the opcode `arguments`, and call with it."""
        self.out += arguments
        self.put()
        self.out += b"R"
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
