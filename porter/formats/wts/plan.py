"""What each tensor becomes in a `.wts` file, decided and refused before the output is opened."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from porter.dataclass import dataclass
from porter.dtypes import DTYPES, FLOAT32, DType
from porter.errors import LossError, printable
from porter.formats.base import Loss, WriteOptions
from porter.formats.wts import few
from porter.formats.wts.rows import STORED, Dialect
from porter.tensor import Tensor

_INT32 = DTYPES["int32"]
_CODES = {dtype.name: code for code, dtype in STORED.items()}
_ALWAYS_EXACT = frozenset(d.name for d in DTYPES.values() if d.kind != "complex" and d.bits <= 16)
"""Types whose every value float32 has; the integers among them are int32 as well."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor on its way: the type its values are stored in, and whether each stays the number it is."""

    tensor: Tensor
    stored: DType
    exact: bool = True

    @property
    def code(self) -> int:
        """The nvidia dialects' code of `stored`."""
        return _CODES[self.stored.name]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored values."""
        return self.stored.nbytes(self.tensor.size)

    def chunks(self) -> Iterator[memoryview]:
        """The stored values, little-endian, in pieces of whole elements. Reads the tensor."""
        if self.tensor.dtype == self.stored:
            from porter.formats.wts.encode import BATCH, whole_elements

            yield from whole_elements(self.tensor.chunks(BATCH), self.stored.itemsize)
        elif (few_stored := few.stored(self.tensor, self.stored)) is not None:
            yield memoryview(few_stored)
        else:
            from porter.formats.wts.casts import Cast

            yield from Cast(self.tensor.dtype, self.stored).stored_chunks(self.tensor)


def plan(tensors: Iterable[Tensor], dialect: Dialect, options: WriteOptions, sidecar: str) -> tuple[list[Planned], list[Loss]]:
    """What is written, and what that loses. Reads the values of types that may not fit.

    Raises:
        LossError: a name or a value that the file cannot hold.
    """
    planned, dropped = [], []
    rounded: list[Loss] = []
    for tensor in tensors:
        check_name(tensor)
        if _is_float_only(tensor.dtype, dialect) and options.ints != "cast":
            if options.ints == "error":
                raise LossError("L402", f"{dialect} has no {tensor.dtype}", tensor=tensor.name, hint="use --ints cast or --ints drop")
            dropped.append(tensor.name)
            continue
        entry, loss = _place(tensor, dialect, options)
        planned.append(entry)
        if loss:
            rounded.append(loss)
    losses = list(_dtype_losses(planned, sidecar)) + rounded
    if dropped:
        losses.append(Loss("tensor", "integer tensors are left out (--ints drop)", tuple(dropped)))
    return planned, losses


def check_name(tensor: Tensor) -> None:
    """Raise a `LossError` if the tensor's name cannot stand in a line."""
    name = tensor.name
    hint = "rename it: names in a .wts are words without white space"
    if not name:
        raise LossError("L401", "a .wts file cannot hold an empty name", tensor=name, hint=hint)
    for character in name:
        if character.isspace():
            raise LossError("L401", f"the name has white space, {character!r}, which ends a name in a .wts", tensor=name, hint=hint)
        if unicodedata.category(character) == "Cc":
            raise LossError("L401", f"the name has the control character {printable(character)}", tensor=name, hint=hint)
    try:
        encode_name(name)
    except UnicodeEncodeError as error:
        raise LossError("L401", "the name is not valid Unicode", tensor=name, hint=hint) from error


def encode_name(name: str) -> bytes:
    """The name's bytes in the file; bytes that were no UTF-8 when it was read are the same again."""
    return name.encode("utf-8", "surrogateescape")


def _is_float_only(dtype: DType, dialect: Dialect) -> bool:
    """Whether `dtype` is an integer that becomes a number of another kind: all in tensorrtx, those over 32 bits in nvidia's."""
    if dtype.kind not in ("int", "uint", "bool"):
        return False
    return dialect == "tensorrtx" or (dtype.bits >= 32 and dtype != _INT32)


def _place(tensor: Tensor, dialect: Dialect, options: WriteOptions) -> tuple[Planned, Loss | None]:
    dtype = tensor.dtype
    if dtype == FLOAT32 or (dialect != "tensorrtx" and dtype.name in _CODES):
        return Planned(tensor, dtype), None
    if dtype.kind == "complex":
        hint = "write safetensors, pytorch or hdf5, which hold complex numbers"
        raise LossError("L001", f"a .wts file cannot hold {dtype}", tensor=tensor.name, hint=hint)
    whole = dtype.kind != "float" and dialect != "tensorrtx"
    if dtype.name in _ALWAYS_EXACT:
        return Planned(tensor, _INT32 if whole else FLOAT32), None
    changed, worst = (0, 0.0)
    for stored in (_INT32, FLOAT32) if whole else (FLOAT32,):
        changed, worst = _inexact(tensor, stored)
        if not changed:
            return Planned(tensor, stored), None
    detail = f"{changed} of {tensor.size} {dtype} values are rounded to float32, by at most {worst:.9g}"
    if not options.allow_lossy:
        code = "L403" if dtype.kind == "float" else "L404"
        message = f"{changed} of {tensor.size} {dtype} values do not fit float32; the largest change would be {worst:.9g}"
        hint = "add --allow-lossy to round them" + ("" if dtype.kind == "float" else ", or leave integers out with --ints drop")
        raise LossError(code, message, tensor=tensor.name, hint=hint)
    return Planned(tensor, FLOAT32, exact=False), Loss("value", detail, (tensor.name,))


def _inexact(tensor: Tensor, stored: DType) -> tuple[int, float]:
    """How many values change when they are stored, and by how much at most. Reads the tensor."""
    if few.stored(tensor, stored) is not None:
        return 0, 0.0
    from porter.formats.wts.casts import Cast
    from porter.formats.wts.encode import whole_elements

    cast = Cast(tensor.dtype, stored)
    changed, worst = 0, 0.0
    for chunk in whole_elements(tensor.chunks(), tensor.dtype.itemsize):
        more, error = cast.inexact(chunk)
        changed, worst = changed + more, max(worst, error)
    return changed, worst


def _dtype_losses(planned: list[Planned], sidecar: str) -> Iterator[Loss]:
    names: dict[tuple[str, str, bool], list[str]] = {}
    for entry in planned:
        if entry.tensor.dtype != entry.stored:
            names.setdefault((entry.tensor.dtype.name, entry.stored.name, entry.exact), []).append(entry.tensor.name)
    for (source, stored, exact), those in names.items():
        way = "written as" if exact else "rounded to"
        yield Loss("dtype", f"{source} {way} {stored}", tuple(those), saved_in=sidecar if exact else None)
