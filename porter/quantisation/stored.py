"""A store with some of its tensors quantised, in the form that a file format holds; and the way back to numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES, DType
from porter.errors import LossError
from porter.formats.base import Capabilities
from porter.io.payloads import ComputedPayload
from porter.quantisation.arithmetic import decoded
from porter.quantisation.description import ATTRIBUTE, ORIGIN, SCHEMES, Described, described
from porter.quantisation.weights import Quantised
from porter.store import TensorStore
from porter.tensor import BytesPayload, Json, Payload, Tensor, TensorSpec, canonical_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stored(store: TensorStore, found: Mapping[str, Quantised], format: str, keeps: Capabilities) -> TensorStore:
    """`store` with the tensors in `found` quantised, each followed by its scales and zero points, as `format` holds them.

    Closing the result closes `store`.

    Raises:
        LossError: the format cannot say how codes and scales belong together.
    """
    if found and not keeps.description and keeps.sidecar is None:
        hint = "write pytorch, safetensors, onnx or hdf5"
        raise LossError("L821", f"{format} files cannot say which scales belong to which tensor", tensor=next(iter(found)), hint=hint)
    names = set(store)
    result = _Beside(store)
    for name, tensor in store.items():
        quantised = found.get(name)
        if quantised is None:
            result.take(tensor, store.ties.get(name))
            continue
        if name in store.ties or name in store.ties.values():
            result.store.note("changed", "quantised on its own: what it was tied to has scales of its own", name)
        for part in _parts(quantised, _free(f"{name}.scale", names), _free(f"{name}.zero_point", names), format, keeps):
            result.store.add(part)
    return result.store


class _Beside:
    """A store that is put together beside another."""

    def __init__(self, store: TensorStore) -> None:
        self.store = TensorStore(source=store.source)
        self.store.metadata, self.store.attachments = dict(store.metadata), dict(store.attachments)
        self.store.manage(store)
        self._placed: dict[str, str] = {}

    def take(self, tensor: Tensor, target: str | None) -> None:
        """Add a tensor that stays as it is, tied to the first of those that it was tied to and that stay too."""
        group = target or tensor.name
        first = self._placed.get(group)
        if first is not None:
            self.store.tie(tensor, first)
            return
        self.store.add(tensor)
        self._placed[group] = tensor.name


def _free(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    return name


def _parts(quantised: Quantised, scale: str, zero: str, format: str, keeps: Capabilities) -> list[Tensor]:
    """Codes, scales and, where there are such, zero points."""
    import numpy as np

    tensor, layout, kind = quantised.tensor, quantised.layout, quantised.way.type
    torch = format == "pytorch" and kind.name == "i8" and layout.granularity != "group"
    scheme = next(word for word, granularity in SCHEMES.items() if granularity == layout.granularity)
    said: dict[str, Json] = {"scheme": scheme, **({"torch_dtype": "qint8"} if torch else {"type": kind.name}), "scale": scale}
    if layout.granularity != "tensor":
        said["axis"] = layout.axis
    if layout.group:
        said["group"] = layout.group
    points = quantised.zero
    if points is None and torch:
        points = np.zeros(layout.scales, np.int64)
    if points is not None:
        said["zero_point"] = zero
    attributes = {**tensor.attributes, ATTRIBUTE: said}
    if tensor.dtype.name != "float32":
        attributes[ORIGIN] = tensor.dtype.name
    spec = TensorSpec(tensor.name, kind.dtype, tensor.shape, tensor.axes, tensor.role, attributes)
    if kind.dtype.name not in keeps.dtypes and kind.dtype.bits == 4:
        spec = _packed(spec, said)
    codes = Tensor(spec, _codes(quantised))
    found = [codes, Tensor.from_array(scale, quantised.scale.astype("<f8" if torch else "<f4"))]
    if points is not None:
        found.append(Tensor.from_array(zero, points.astype("<i8" if torch else "i1")))
    return found


def _packed(spec: TensorSpec, said: dict[str, Json]) -> TensorSpec:
    """The spec of the same bytes as uint8, rows kept apart where they end with a byte."""
    said |= {"packed": spec.dtype.name, "shape": list(spec.shape)}
    if spec.axes is not None:
        said["axes"] = spec.axes
    even = spec.shape[-1] % 2 == 0
    shape = (*spec.shape[:-1], spec.shape[-1] // 2) if even else (-(-spec.size // 2),)
    return TensorSpec(spec.name, DTYPES["uint8"], shape, None, spec.role, spec.attributes)


def _codes(quantised: Quantised) -> Payload:
    kind = quantised.way.type.dtype
    produce = _nibbles if kind.bits == 4 else _bytes
    return ComputedPayload(kind.nbytes(quantised.tensor.size), lambda: produce(quantised))


def _bytes(quantised: Quantised) -> Iterator[memoryview]:
    for codes in quantised.slabs():
        yield canonical_bytes(codes, quantised.way.type.dtype)


def _nibbles(quantised: Quantised) -> Iterator[memoryview]:
    """Two codes a byte, the first in the low half; what is left of a piece goes with the next."""
    import numpy as np

    rest = np.empty(0, np.uint8)
    for codes in quantised.slabs():
        halves = np.concatenate([rest, codes.view(np.uint8) & np.uint8(15)])
        even = halves.size & ~1
        rest = halves[even:]
        yield (halves[0:even:2] | halves[1:even:2] << np.uint8(4)).data
    if rest.size:
        yield rest.data


# Back to numbers


def dequantised(store: TensorStore) -> tuple[TensorStore, list[Described]]:
    """`store` with its quantised tensors as numbers, computed when they are read, and what these were. Closing it closes `store`.

    Raises:
        FormatError: a tensor's description does not fit it.
    """
    found = {name: d for name, tensor in store.items() if (d := described(store, tensor)) is not None}
    parts = {part.name for d in found.values() for part in (d.scale, d.zero) if part is not None}
    result = _Beside(store)
    for name, tensor in store.items():
        if name in found:
            result.store.add(Tensor(found[name].spec, _numbers(found[name])))
        elif name not in parts:
            result.take(tensor, store.ties.get(name))
    return result.store, list(found.values())


def _numbers(what: Described) -> Payload:
    import numpy as np

    def produce() -> Iterator[memoryview]:
        codes, scale = _elements(what), what.scale.numpy()
        if what.layout.granularity == "tensor":
            # PyTorch states it as float64, and computes with float32; those of channels it takes as they are.
            scale = scale.astype(np.float32)
        zero = what.zero.numpy() if what.zero is not None else None
        layout, to = what.layout, what.spec.dtype
        for rows, where in layout.slabs():
            s = layout.spread(scale, rows)
            z = layout.spread(zero, rows) if zero is not None else None
            values = decoded(layout.shaped(codes[where]), what.dtype, s, z, what.grid == "nf4", to)
            yield canonical_bytes(layout.flat(values, rows), to)

    return ComputedPayload(what.spec.nbytes, produce)


def _elements(what: Described) -> NDArray[Any]:
    """The codes, flat, an element a byte at least."""
    if what.codes.dtype == what.dtype:
        return what.codes.numpy().reshape(-1)
    return _unpacked(what.codes.buffer(), what.dtype, what.spec)


def _unpacked(data: memoryview, dtype: DType, spec: TensorSpec) -> NDArray[Any]:
    return Tensor(TensorSpec(spec.name, dtype, spec.shape), BytesPayload.of(data)).numpy().reshape(-1)
