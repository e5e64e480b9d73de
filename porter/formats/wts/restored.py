"""Stored values as the type that their tensor had before the file was written."""

from __future__ import annotations

from collections.abc import Iterator

from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.errors import FormatError
from porter.tensor import Payload


@dataclass(frozen=True, slots=True)
class RestoredPayload:
    """`size` values of `stored`, read as `dtype`.

    Raises, from `chunks` and `buffer`:
        FormatError: a stored value is none of `dtype`.
    """

    base: Payload
    dtype: DType
    stored: DType
    size: int
    path: str

    @property
    def nbytes(self) -> int:
        return self.dtype.nbytes(self.size)

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        from porter.formats.wts.casts import Cast
        from porter.formats.wts.encode import whole_elements

        cast, width = Cast(self.dtype, self.stored), self.stored.itemsize
        elements = max(limit * 8 // self.dtype.bits, 8)
        # Eight elements of a packed type are whole bytes.
        for chunk in whole_elements(self.base.chunks(elements * width), 8 * width if self.dtype.packed else width):
            restored = cast.restore(chunk)
            if restored is None:
                message = f"the sidecar says {self.dtype}, and a value is none"
                raise FormatError("F409", message, path=self.path, hint="delete the sidecar to read the values as they are stored")
            for start in range(0, restored.nbytes, limit):
                yield restored[start : start + limit]

    def buffer(self) -> memoryview:
        return memoryview(b"".join(self.chunks(1 << 20))).toreadonly()
