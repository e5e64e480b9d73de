"""The lazy tensor: a description (`TensorSpec`) and a place its bytes come from (`Payload`).

Name, dtype, shape and attributes are always at hand; bytes are read when `chunks`, `tobytes`, `numpy` or `digest` is
called, and only then. A payload yields canonical bytes (see `porter.dtypes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

from porter.dataclass import dataclass, field, replace
from porter.dtypes import DType, from_numpy
from porter.errors import FormatError, PorterError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Json = Any
"""What JSON can hold. Attributes of tensors and stores are limited to it, so that any container can carry them."""

CHUNK = 1 << 20
"""Bytes of one chunk unless told otherwise: large enough to hide call overhead, small enough to stay in cache."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor is, without its values.

    `axes` names the axes, one letter each (`OIHW`), or is None. `role` says what the tensor does in its layer
    (`weight`, `bias`, `running_mean`), or is None. `attributes` holds what else the source said, as JSON values.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    axes: str | None = None
    role: str | None = None
    attributes: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shape and min(self.shape) < 0:
            raise FormatError("F002", f"negative dimension in shape {list(self.shape)}", tensor=self.name)
        if self.axes is not None and len(self.axes) != len(self.shape):
            raise UsageError("U010", f"axes {self.axes!r} for {len(self.shape)} dimensions", tensor=self.name)

    @property
    def size(self) -> int:
        """Number of elements; 1 for a 0-dim tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Canonical bytes."""
        return self.dtype.nbytes(math.prod(self.shape))


@dataclass(frozen=True, slots=True)
class Location:
    """A run of a file that holds exactly a tensor's canonical bytes: open file descriptor, offset and length in bytes.

    `verify` says that the file has a checksum of them: they are only to be taken through `chunks` and `buffer`, which check it.
    """

    path: str
    fd: int
    offset: int
    nbytes: int
    verify: bool = False


class Payload(Protocol):
    """Where canonical bytes come from."""

    @property
    def nbytes(self) -> int:
        """Length in bytes, known without reading."""
        ...

    @property
    def location(self) -> Location | None:
        """The run of a file that holds these bytes as they are, or None where they must be computed. Reads nothing."""
        ...

    def chunks(self, limit: int) -> Iterator[memoryview]:
        """Yield the bytes in order, at most `limit` at a time. A chunk is valid until the next one is asked for."""
        ...

    def buffer(self) -> memoryview:
        """All the bytes at once, read-only: a mapped view where there is one, a copy otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class BytesPayload:
    """Canonical bytes that are in memory already."""

    data: memoryview

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        return cls(memoryview(data).cast("B").toreadonly())

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        for start in range(0, self.data.nbytes, limit):
            yield self.data[start : start + limit]

    def buffer(self) -> memoryview:
        return self.data


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor whose bytes are read when they are needed.

    Raises:
        FormatError: the payload's length disagrees with dtype and shape.
    """

    spec: TensorSpec
    payload: Payload

    def __post_init__(self) -> None:
        if self.payload.nbytes != self.spec.nbytes:
            raise FormatError(
                "F003",
                f"{self.spec.dtype} {list(self.spec.shape)} takes {self.spec.nbytes} bytes, the file has {self.payload.nbytes}",
                tensor=self.spec.name,
            )

    @classmethod
    def from_array(
        cls,
        name: str,
        array: NDArray[Any] | np.generic,
        *,
        axes: str | None = None,
        role: str | None = None,
        attributes: Mapping[str, Json] | None = None,
    ) -> Self:
        """A tensor that holds a C-order, little-endian copy of `array` if it is not already so, the array itself otherwise.

        Raises:
            UsageError: porter has no type for the array's dtype (objects, strings, dates, records), or some of it is masked.
        """
        import numpy as np

        if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
            raise UsageError("U011", "masked elements have no value to be kept", tensor=name, hint="say which with 'array.filled(value)'")
        values = np.asarray(array)
        dtype = from_numpy(values.dtype)
        if dtype is None:
            raise UsageError("U011", f"arrays of {values.dtype} hold no weights", tensor=name)
        spec = TensorSpec(name, dtype, values.shape, axes, role, attributes or {})
        return cls(spec, BytesPayload.of(canonical_bytes(values, dtype)))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def dtype(self) -> DType:
        return self.spec.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def axes(self) -> str | None:
        return self.spec.axes

    @property
    def role(self) -> str | None:
        return self.spec.role

    @property
    def attributes(self) -> Mapping[str, Json]:
        return self.spec.attributes

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    @property
    def location(self) -> Location | None:
        """Where the bytes lie as they are in a file, or None. Reads nothing."""
        return self.payload.location

    def with_spec(self, **changes: Any) -> Self:
        """The same bytes under a spec with some fields changed (`name=`, `role=`, `attributes=`, `shape=` …)."""
        return type(self)(replace(self.spec, **changes), self.payload)

    def chunks(self, limit: int = CHUNK) -> Iterator[memoryview]:
        """Yield canonical bytes, at most `limit` at a time; a chunk is valid until the next is asked for. Reads the file."""
        try:
            yield from self.payload.chunks(limit)
        except PorterError as error:
            raise error.located(tensor=self.name) from error.__cause__

    def buffer(self) -> memoryview:
        """All canonical bytes, read-only; mapped from the file where they lie there as they are."""
        try:
            return self.payload.buffer()
        except PorterError as error:
            raise error.located(tensor=self.name) from error.__cause__

    def tobytes(self) -> bytes:
        """A copy of all canonical bytes. Reads the file."""
        return self.buffer().tobytes()

    def numpy(self) -> NDArray[Any]:
        """The values as a read-only array of `shape`, dtype `self.dtype.numpy()`.

        Mapped from the file where the bytes lie there as they are; the array keeps the mapping alive. Types narrower
        than a byte are unpacked, one element a byte.
        """
        import numpy as np

        data = self.buffer()
        if self.dtype.packed:
            return unpack(data, self.dtype, self.size).reshape(self.shape)
        if not self.size:
            try:
                return np.empty(self.shape, self.dtype.numpy())
            except ValueError as error:
                hint = "the tensor is empty and can be converted; it is numpy that cannot index such dimensions"
                raise UsageError("U016", f"no array can have the shape {list(self.shape)}", tensor=self.name, hint=hint) from error
        return np.frombuffer(data, self.dtype.numpy()).reshape(self.shape)

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hex. Streams the file."""
        import hashlib

        state = hashlib.sha256()
        for chunk in self.chunks():
            state.update(chunk)
        return state.hexdigest()


def canonical_bytes(values: NDArray[Any], dtype: DType) -> memoryview:
    """`values` (any strides, either byte order) as canonical bytes; shares memory where it already has that form."""
    import numpy as np

    if dtype.packed:
        return _pack(np.ascontiguousarray(values).reshape(-1), dtype).data
    little = values.astype(dtype.numpy(), order="C", copy=False)
    if not little.flags.c_contiguous:
        little = np.ascontiguousarray(little)
    return little.reshape(-1).view(np.uint8).data


def _pack(values: NDArray[Any], dtype: DType) -> NDArray[np.uint8]:
    """One element a byte into packed bits, first element in the low bits, the last byte's unused bits zero."""
    import numpy as np

    codes = values.view(np.uint8) & np.uint8((1 << dtype.bits) - 1)
    bits = np.unpackbits(codes.reshape(-1, 1), axis=1, bitorder="little")[:, : dtype.bits]
    return np.packbits(bits.reshape(-1), bitorder="little")


def unpack(data: memoryview, dtype: DType, size: int) -> NDArray[Any]:
    """`size` packed elements as an array with one element a byte, signed types sign-extended as ml_dtypes wants."""
    import numpy as np

    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: size * dtype.bits]
    wide = np.zeros((size, 8), np.uint8)
    wide[:, : dtype.bits] = bits.reshape(size, dtype.bits)
    if dtype.kind == "int":
        wide[:, dtype.bits :] = wide[:, dtype.bits - 1 : dtype.bits]
    values = np.packbits(wide, axis=1, bitorder="little").reshape(size).view(dtype.numpy())
    values.flags.writeable = False
    return values
