"""Records out of a pickle as tensors of a store: bounds, strides, byte order, quantisation, ties.

What has no place in a plain tensor becomes several, with attributes that say how they belong together: a quantised tensor
NAME comes with NAME.scale and NAME.zero_point, a sparse one is NAME.indices and NAME.values.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from porter.dtypes import DTYPES, DType
from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.formats.pytorch.records import (
    ArrayTensor,
    Leaf,
    NoData,
    Parameter,
    SparseTensor,
    Storage,
    TensorView,
    WrappedTensor,
)
from porter.io.payloads import ComputedPayload, SwappedPayload, strided_extent
from porter.io.pickle_globals import Global, describe_value
from porter.io.pickled_numpy import PickledArray
from porter.io.source import FilePayload
from porter.store import TensorStore
from porter.tensor import CHUNK, BytesPayload, Json, Payload, Tensor, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXPANSION = 200
_EXPANSION_FREE = 64 << 20
_UNFOLDED = 250_000
_WRAPS = 4


class TensorBuilder:
    """Adds records to `store` as tensors. `names` are those of all records to come, so that derived names avoid them."""

    def __init__(self, store: TensorStore, names: frozenset[str], array_bytes: Callable[[object], Payload], file_size: int) -> None:
        self._store = store
        self._names = names
        self._array_bytes = array_bytes
        self._known: dict[tuple[object, ...], str] = {}
        self._extents: dict[int, list[tuple[int, int, str]]] = {}
        self._storages: list[Storage] = []
        self._room = max(_EXPANSION_FREE, _EXPANSION * file_size)
        self._unfolded = 0
        self._skipped: dict[str, list[str]] = {}

    def add(self, name: str, leaf: object, depth: int = 0) -> None:
        """Add what `leaf` is, under `name`.

        Raises:
            FormatError: it reaches outside its storage, or its parts disagree.
            UnsafeFileError: strides make it absurdly larger than its bytes.
        """
        if isinstance(leaf, Parameter):
            leaf = leaf.data
        try:
            if isinstance(leaf, TensorView) and leaf.quantizer is not None:
                self._add_quantized(name, leaf)
            elif isinstance(leaf, TensorView):
                self._add_view(name, leaf)
            elif isinstance(leaf, SparseTensor):
                self._add_sparse(name, leaf)
            elif isinstance(leaf, WrappedTensor) and depth < _WRAPS:
                self._add_wrapped(name, leaf, depth)
            elif isinstance(leaf, ArrayTensor | PickledArray):
                self._add_array(name, leaf)
            else:
                self._skip(leaf.why if isinstance(leaf, NoData) else "it is no tensor", name)
        except PorterError as error:
            raise error.located(tensor=name) from error.__cause__

    def finish(self) -> None:
        """Note what concerns several tensors: those that overlap, those that were skipped."""
        for why, names in self._skipped.items():
            self._store.note("skipped", f"{_listed(names)} left out: {why}", names[0] if len(names) == 1 else None)
        overlapping: list[str] = []
        for extents in self._extents.values():
            reach = 0
            for start, end, name in sorted(extents):
                if start < reach:
                    overlapping.append(name)
                reach = max(reach, end)
        if overlapping:
            overlap = "overlap" if len(overlapping) > 1 else "overlaps"
            self._store.note("note", f"{_listed(overlapping)} {overlap} other tensors in the file; each is a tensor of its own here")

    def _skip(self, why: str, name: str) -> None:
        self._skipped.setdefault(why, []).append(name)

    # Dense tensors

    def _add_view(self, name: str, view: TensorView, attributes: Mapping[str, Json] | None = None) -> Tensor:
        shape = view.shape
        if view.type.paired > 1:
            if not shape:
                raise FormatError("F206", f"a 0-dim tensor of {view.type.name}, whose elements are pairs")
            shape = (*shape[:-1], shape[-1] * view.type.paired)
        if view.type.assumed:
            self._store.note("assumed", f"raw bits ({view.type.name}) are read as {view.type.dtype}", name)
            attributes = {**(attributes or {}), "torch.dtype": view.type.name}
        spec = TensorSpec(name, view.type.dtype, shape, attributes=attributes or {})
        root, start, end = self._extent(view, spec)
        key = _identity(view, root, start)
        target = self._known.get(key) if end > start else None
        if target is not None:
            tensor = Tensor(spec, self._store[target].payload)
            self._store.tie(tensor, target)
            return tensor
        tensor = Tensor(spec, self._payload(view, root, start, end, spec.nbytes))
        self._store.add(tensor)
        self._known[key] = name
        if end > start:
            self._extents.setdefault(id(root), []).append((start, end, name))
        return tensor

    def _extent(self, view: TensorView, spec: TensorSpec) -> tuple[Storage, int, int]:
        """The storage that has the bytes, and the first and one past the last byte there that the view touches."""
        root, base = view.storage.resolved()
        width = view.type.width
        if view.type.dtype.packed and view.type.paired == 1:
            if view.offset or not _contiguous(view.shape, view.strides):
                raise FormatError("F206", f"a strided view of {view.type.name}, whose elements share bytes")
            reach = spec.nbytes
        else:
            reach = strided_extent(view.shape, view.strides)[1] * width
        if reach and view.offset * width + reach > view.storage.nbytes:
            raise FormatError(
                "F206",
                f"the tensor reaches byte {view.offset * width + reach} of storage {describe_value(view.storage.key)}, "
                f"which has {view.storage.nbytes}",
                hint="the file is damaged, or was made to read memory that is not its own",
            )
        if spec.nbytes > reach:
            self._room -= spec.nbytes
            if self._room < 0:
                raise UnsafeFileError("S203", f"strides expand {reach} bytes of the file to {spec.nbytes}", hint="no honest file does this")
        start = base + view.offset * width if reach else base
        return root, start, start + reach

    def _payload(self, view: TensorView, root: Storage, start: int, end: int, nbytes: int) -> Payload:
        if end == start:
            return BytesPayload.of(b"")
        if root.payload is None:
            raise FormatError("F202", f"storage {describe_value(root.key)} is not in the file")
        payload = part(root.payload, start, end - start)
        if view.type.dtype.packed:
            payload = _without_spare_bits(payload, nbytes * 8 - math.prod(view.shape) * view.type.paired * view.type.dtype.bits)
        lanes = 2 if view.type.dtype.kind == "complex" else 1
        if root.swap and view.type.width > lanes:
            payload = SwappedPayload(payload, view.type.width // lanes)
        if not _contiguous(view.shape, view.strides):
            payload = gathered(payload, view.type.width, view.shape, view.strides, nbytes)
        if view.conjugate or view.negative:
            payload = _with_signs(payload, view.type.dtype, conjugate=view.conjugate, negative=view.negative)
        return payload

    # Quantised tensors

    def _add_quantized(self, name: str, view: TensorView) -> None:
        scheme, *parameters = view.quantizer or ()
        if len(parameters) == 2:
            scale, zero_point = parameters
            if type(scale) not in (int, float) or type(zero_point) is not int or not -(1 << 63) <= zero_point < 1 << 63:
                raise FormatError("F206", "scale and zero point are no numbers")
            kind = "per_tensor_affine"
            scales = self._number(f"{name}.scale", "float64", (), [scale])
            zero_points = self._number(f"{name}.zero_point", "int64", (), [zero_point])
        else:
            scale, zero_point, axis = parameters
            if type(axis) is not int or not 0 <= axis < len(view.shape):
                raise FormatError("F206", f"quantised along axis {describe_value(axis)} of {len(view.shape)}")
            scales = self._numbers(f"{name}.scale", "float64", scale, view.shape[axis])
            zero_points = self._numbers(f"{name}.zero_point", "int64", zero_point, view.shape[axis])
            # torch 2.13 writes per_channel_affine for both; only the type of the zero points tells them apart.
            kind = "per_channel_affine" if zero_points.dtype.kind == "int" else "per_channel_affine_float_qparams"
        if not isinstance(scheme, Global) or not scheme.name.startswith(kind.partition("_affine")[0]):
            raise FormatError("F206", f"the quantisation scheme {describe_value(scheme)} with {len(parameters)} parameters")
        described: dict[str, Json] = {"scheme": kind, "torch_dtype": view.type.name, "scale": scales.name, "zero_point": zero_points.name}
        if kind != "per_tensor_affine":
            described["axis"] = parameters[2]
        self._add_view(name, view, {"quantization": described})
        for tensor in (scales, zero_points):
            if tensor.name not in self._store:
                self._store.add(tensor)

    def _number(self, name: str, dtype: str, shape: tuple[int, ...], values: list[Any]) -> Tensor:
        code = "d" if dtype == "float64" else "q"
        return Tensor(TensorSpec(self._free(name), DTYPES[dtype], shape), BytesPayload.of(struct.pack(f"<{len(values)}{code}", *values)))

    def _numbers(self, name: str, dtype: str, values: object, count: int) -> Tensor:
        """Scales or zero points of `count` channels: a list of numbers, or a tensor."""
        if isinstance(values, list) and len(values) == count:
            kinds = (int, float) if dtype == "float64" else (int,)
            if all(type(v) in kinds and abs(v) < 1 << 63 for v in values):
                return self._number(name, dtype, (count,), values)
        if isinstance(values, TensorView) and values.shape == (count,) and values.type.dtype.kind in ("int", "float"):
            spec = TensorSpec(self._free(name), values.type.dtype, values.shape)
            return Tensor(spec, self._payload(values, *self._extent(values, spec), spec.nbytes))
        raise FormatError("F206", f"scales or zero points are not {count} numbers")

    def _free(self, name: str) -> str:
        while name in self._names or name in self._store:
            name += "_"
        return name

    # What consists of several tensors

    def _add_sparse(self, name: str, sparse: SparseTensor) -> None:
        parts = {part: self._free(f"{name}.{part}") for part in sparse.parts}
        described = {"layout": sparse.layout, "size": list(sparse.shape), "parts": parts, "coalesced": sparse.coalesced}
        for part_name, view in sparse.parts.items():
            self._add_view(parts[part_name], view, {"sparse": described} if part_name == "values" else None)
        self._store.note(
            "changed", f"a {sparse.layout} tensor, read as the dense tensors it consists of: {', '.join(parts.values())}", name
        )

    def _add_wrapped(self, name: str, wrapped: WrappedTensor, depth: int) -> None:
        found: list[str] = []
        attributes = dict(wrapped.attributes)
        if isinstance(attributes.get("kwargs"), dict):
            attributes = attributes["kwargs"]  # type: ignore[assignment]
        for attribute, value in attributes.items():
            if isinstance(value, Leaf):
                self._unfolded += 1 + (len(name) + (len(attribute) if isinstance(attribute, str) else 0)) // 64
                if self._unfolded > _UNFOLDED:
                    hint = "no honest checkpoint does this"
                    raise UnsafeFileError("S204", "tensors that wrap each other unfold to more than a file can hold", hint=hint)
                found.append(self._free(f"{name}.{attribute}" if isinstance(attribute, str) else f"{name}.{len(found)}"))
                self.add(found[-1], value, depth + 1)
        if found:
            self._store.note("changed", f"a {wrapped.of}, read as the tensors it wraps: {', '.join(found)}", name)
        else:
            self._skip(f"a {wrapped.of}, without tensors that could be read", name)

    def _add_array(self, name: str, leaf: ArrayTensor | PickledArray) -> None:
        array = leaf.array if isinstance(leaf, ArrayTensor) else leaf
        tensor = array.tensor(name, self._array_bytes)
        if tensor is None:
            self._skip("arrays of a type that porter does not have", name)
            return
        if isinstance(leaf, ArrayTensor) and leaf.wanted is not None and leaf.wanted.dtype != tensor.dtype:
            message = f"saved as {tensor.dtype} for a tensor of {leaf.wanted.name} on another device; the saved values are kept"
            self._store.note("changed", message, name)
        self._store.add(tensor)


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n == 0:
            return True
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


def _identity(view: TensorView, root: Storage, start: int) -> tuple[object, ...]:
    """Equal for views that show the same bytes in the same order."""
    layout: object = math.prod(view.shape)
    if not _contiguous(view.shape, view.strides):
        layout = tuple((n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1)
    return id(root), start, view.type.name, layout, view.conjugate, view.negative


def part(payload: Payload, start: int, nbytes: int) -> Payload:
    """Bytes `start` to `start + nbytes` of `payload`; a range of the file where that is one."""
    if start == 0 and nbytes == payload.nbytes:
        return payload
    if start + nbytes > payload.nbytes:
        raise FormatError("F202", f"a storage has {payload.nbytes} bytes, {start + nbytes} are wanted")
    if isinstance(payload, FilePayload):
        return payload.source.payload(payload.offset + start, nbytes)
    if isinstance(payload, BytesPayload):
        return BytesPayload(payload.data[start : start + nbytes])

    def produce() -> Iterator[memoryview]:
        at, end = 0, start + nbytes
        for chunk in payload.chunks(CHUNK):
            low, high = max(start - at, 0), min(end - at, chunk.nbytes)
            if low < high:
                yield chunk[low:high]
            at += chunk.nbytes
            if at >= end:
                return

    return ComputedPayload(nbytes, produce)


def gathered(base: Payload, width: int, shape: tuple[int, ...], strides: tuple[int, ...], nbytes: int) -> Payload:
    """The elements of a strided view, in C order. `base` starts at the view's first element; `strides` count elements."""

    def produce() -> Iterator[memoryview]:
        import numpy as np

        element = np.dtype({1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}.get(width, f"V{width}"))
        view: NDArray[Any] = np.ndarray(shape, element, base.buffer(), 0, tuple(s * width for s in strides))
        rows = max(1, shape[0] * CHUNK // nbytes)
        for row in range(0, shape[0], rows):
            yield np.ascontiguousarray(view[row : row + rows]).reshape(-1).view(np.uint8).data

    return ComputedPayload(nbytes, produce)


def _without_spare_bits(base: Payload, spare: int) -> Payload:
    """`base` with the `spare` highest bits of its last byte zero, which belong to no element: torch leaves anything there."""
    if not spare:
        return base

    def produce() -> Iterator[memoryview | bytes]:
        left = base.nbytes
        for chunk in base.chunks(CHUNK):
            left -= chunk.nbytes
            yield chunk if left else bytes(chunk[:-1]) + bytes([chunk[-1] & 0xFF >> spare])

    return ComputedPayload(base.nbytes, produce)


def _with_signs(base: Payload, dtype: DType, *, conjugate: bool, negative: bool) -> Payload:
    """Values conjugated, negated, or both: the sign bits of the lanes concerned flipped, NaN payloads kept."""
    complex_ = dtype.kind == "complex"
    width = dtype.itemsize // (2 if complex_ else 1)
    if (conjugate and not complex_) or dtype.kind not in ("float", "complex"):
        raise FormatError("F206", f"{dtype} values cannot be conjugated or negated by their sign bits")

    def produce() -> Iterator[memoryview]:
        import numpy as np

        lanes = np.frombuffer(base.buffer(), f"<u{width}").copy()
        sign = lanes.dtype.type(1 << (8 * width - 1))
        if conjugate:
            lanes[1::2] ^= sign
        if negative:
            lanes ^= sign
        yield lanes.view(np.uint8).data

    return ComputedPayload(base.nbytes, produce)
