"""Are two stores equal, and if not, where and by how much: what `porter diff` prints.

Tensors are paired by name. Equal bytes are told by comparing chunks as they come from the files, without numpy; only a
pair that differs is measured (`porter.check.difference`, where the formulas are).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

from porter.check.difference import Difference, Element, Tolerance, measure
from porter.check.encodings import common_type
from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.errors import UsageError
from porter.store import TensorStore, digest_of
from porter.tensor import Json, Tensor

__all__ = ["Comparison", "Difference", "Element", "Progress", "Side", "TensorComparison", "Tolerance", "Verdict", "compare"]

Verdict = Literal["equal", "within tolerance", "differs", "dtype differs", "shape differs"]

_WHOLE = ("int", "uint", "bool")
_INTEGERS_64 = {"int64", "uint64"}  # no float type holds all their values

Progress = Callable[[int], None]
"""Called with the number of bytes just read, of both sides together."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the two files says about a tensor. `digest` is the SHA-256 of its canonical bytes where asked for."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class TensorComparison:
    """One tensor that both stores have.

    verdict: "equal" means the same dtype, shape and bytes. "within tolerance": not equal, and every element passes. With no
        tolerance given, other dtypes are "dtype differs" whatever the values; with one, the values decide.
    difference: the measures, or None where no element differs or none could be paired (shapes of different sizes).
    first: index of the first element that the verdict rests on, in the shape of `a`; None where `difference` is.
    notes: what else a reader of the verdict should know, one sentence each.
    """

    name: str
    verdict: Verdict
    a: Side
    b: Side
    difference: Difference | None = None
    first: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether the comparison as a whole may be called equal as far as this tensor is concerned."""
        return self.verdict in ("equal", "within tolerance")

    def to_json(self) -> dict[str, Json]:
        """This tensor's part of `Comparison.to_json`."""
        d = self.difference
        measures: dict[str, Json] | None = None
        if d is not None:
            measures = {
                "differing": d.differing,
                "beyond": d.beyond,
                "max_abs": _number(d.max_abs),
                "max_ulp": d.max_ulp,
                "cosine": d.cosine,
                "needs": {"atol": d.needs_atol, "rtol": d.needs_rtol, "ulp": d.needs_ulp},
                "one_nan": d.one_nan,
                "nan_bits": d.nan_bits,
                "infinite": d.infinite,
                "signed_zeros": d.signed_zeros,
                "first": {"index": list(self.first or ()), "a": _element(d.first_a), "b": _element(d.first_b)},
            }
        return {
            "name": self.name,
            "verdict": self.verdict,
            "a": _side(self.a),
            "b": _side(self.b),
            "difference": measures,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two stores compared.

    tensors: those that both have, in the order of `a`. only_a, only_b: names that the other lacks.
    same_bytes: pairs of an `only_a` and an `only_b` name whose dtype, shape and bytes are equal: a tensor renamed.
    path_a, path_b, format_a, format_b: where the stores came from, or None. digest_a, digest_b: weights digests where asked for.
    """

    tolerance: Tolerance
    tensors: tuple[TensorComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    same_bytes: tuple[tuple[str, str], ...] = ()
    path_a: str | None = None
    path_b: str | None = None
    format_a: str | None = None
    format_b: str | None = None
    digest_a: str | None = None
    digest_b: str | None = None

    @property
    def equal(self) -> bool:
        """Whether both have the same names and every pair passes."""
        return not self.only_a and not self.only_b and all(t.passes for t in self.tensors)

    def __bool__(self) -> bool:
        return self.equal

    def to_json(self) -> dict[str, Json]:
        """The comparison as JSON values, in the form of `schemas/diff.schema.json`."""
        t = self.tolerance
        verdicts = [tensor.verdict for tensor in self.tensors]
        return {
            "equal": self.equal,
            "tolerance": {"rtol": t.rtol, "atol": t.atol, "ulp": t.ulp},
            "a": {"path": self.path_a, "format": self.format_a, "digest": self.digest_a},
            "b": {"path": self.path_b, "format": self.format_b, "digest": self.digest_b},
            "counts": {
                "compared": len(verdicts),
                "equal": verdicts.count("equal"),
                "within_tolerance": verdicts.count("within tolerance"),
                "differing": sum(not tensor.passes for tensor in self.tensors),
                "only_a": len(self.only_a),
                "only_b": len(self.only_b),
            },
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "same_bytes": [{"a": a, "b": b} for a, b in self.same_bytes],
        }


def compare(
    a: TensorStore, b: TensorStore, tolerance: Tolerance | None = None, *, digests: bool = False, progress: Progress | None = None
) -> Comparison:
    """Compare two stores by name; bit for bit unless `tolerance` allows more.

    Reads every paired tensor of both files once, a pair that differs once more from the start, in chunks. `digests` adds
    SHA-256 digests of every tensor and the weights digests of both stores. Order, ties and descriptions play no part.

    Raises:
        UsageError: a tolerance is negative or no number.
        PorterError: a file cannot be read.
    """
    tolerance = tolerance or Tolerance()
    _check_tolerance(tolerance)
    paired = tuple(_compare_tensors(a[name], b[name], tolerance, digests, progress) for name in a if name in b)
    only_a, only_b = tuple(n for n in a if n not in b), tuple(n for n in b if n not in a)
    return Comparison(
        tolerance=tolerance,
        tensors=paired,
        only_a=only_a,
        only_b=only_b,
        same_bytes=tuple(_same_bytes([a[n] for n in only_a], [b[n] for n in only_b])),
        path_a=a.source.path if a.source else None,
        path_b=b.source.path if b.source else None,
        format_a=a.source.format if a.source else None,
        format_b=b.source.format if b.source else None,
        digest_a=_weights_digest(a, {t.name: t.a.digest for t in paired}) if digests else None,
        digest_b=_weights_digest(b, {t.name: t.b.digest for t in paired}) if digests else None,
    )


def _check_tolerance(tolerance: Tolerance) -> None:
    for name, value in (("rtol", tolerance.rtol), ("atol", tolerance.atol), ("ulp", tolerance.ulp)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise UsageError("U801", f"{name} is {value}; a tolerance is a finite number of at least 0")


def _compare_tensors(a: Tensor, b: Tensor, tolerance: Tolerance, digests: bool, progress: Progress | None) -> TensorComparison:
    same_type, same_shape = a.dtype == b.dtype, a.shape == b.shape
    same_bytes = same_type and a.size == b.size and equal_bytes(a, b, progress)
    digest_a = a.digest() if digests else None
    digest_b = (digest_a if same_bytes else b.digest()) if digests else None
    side_a, side_b = Side(a.dtype.name, a.shape, a.nbytes, digest_a), Side(b.dtype.name, b.shape, b.nbytes, digest_b)
    if same_bytes and same_shape:
        return TensorComparison(a.name, "equal", side_a, side_b)
    if a.size != b.size:
        return TensorComparison(a.name, "shape differs", side_a, side_b)
    difference = None if same_bytes else measure(a, b, tolerance, progress)
    verdict: Verdict
    if not same_shape:
        verdict = "shape differs"
    elif not same_type and tolerance.exact:
        verdict = "dtype differs"
    elif difference is not None and difference.beyond:
        verdict = "differs"
    else:
        verdict = "equal" if same_type and difference is None else "within tolerance"
    first = _index(difference.first, a.shape) if difference is not None else None
    return TensorComparison(a.name, verdict, side_a, side_b, difference, first, tuple(_notes(a, b, same_bytes, difference)))


def _notes(a: Tensor, b: Tensor, same_bytes: bool, difference: Difference | None) -> Iterator[str]:
    if a.dtype != b.dtype:
        wide = common_type(a.dtype, b.dtype)
        if wide is None or _INTEGERS_64 & {a.dtype.name, b.dtype.name}:
            how = "as integers" if a.dtype.kind in _WHOLE and b.dtype.kind in _WHOLE else f"as {wide}"
        else:
            how = f"after widening {' and '.join(str(d) for d in (a.dtype, b.dtype) if d != wide)} to {wide}"
        yield f"values {'are equal' if difference is None else 'compared'} {how}"
    if a.shape != b.shape:
        yield f"same number of elements, {'equal' if difference is None else 'compared'} in flat order"
    if difference is None:
        if a.dtype == b.dtype and not same_bytes:
            yield "every element is equal; unused bits of the last byte differ"
        return
    for count, text in (
        (difference.one_nan, "NaN on one side only"),
        (difference.nan_bits, "NaN on both sides with different bits"),
        (difference.infinite, "infinite on one side, or with the other sign"),
        (difference.signed_zeros, "-0 against +0"),
    ):
        if count:
            yield f"{count} element{'s' if count > 1 else ''}: {text}"


def equal_bytes(a: Tensor, b: Tensor, progress: Progress | None) -> bool:
    """Whether two tensors of equal length have the same bytes; stops at the first chunk that differs."""
    left, right = a.chunks(), b.chunks()
    rest_a = rest_b = memoryview(b"")
    # A bytearray compares with memcmp, a memoryview element by element.
    room = bytearray()
    done = 0
    while done < a.nbytes:
        rest_a = rest_a if rest_a.nbytes else next(left)
        rest_b = rest_b if rest_b.nbytes else next(right)
        count = min(rest_a.nbytes, rest_b.nbytes)
        if len(room) != count:
            room = bytearray(count)
        memoryview(room)[:] = rest_a[:count]
        if room != rest_b[:count]:
            return False
        rest_a, rest_b, done = rest_a[count:], rest_b[count:], done + count
        if progress is not None:
            progress(2 * count)
    # What a file says too much shows behind the last byte.
    next(left, None)
    next(right, None)
    return True


def _same_bytes(only_a: list[Tensor], only_b: list[Tensor]) -> Iterator[tuple[str, str]]:
    """Pairs of tensors that differ in nothing but the name; reads only those whose dtype and shape occur on both sides."""
    kinds = {(t.dtype, t.shape) for t in only_b if t.size}
    candidates: dict[tuple[DType, tuple[int, ...], str], str] = {}
    for t in only_a:
        if (t.dtype, t.shape) in kinds:
            candidates.setdefault((t.dtype, t.shape, t.digest()), t.name)
    wanted = {(dtype, shape) for dtype, shape, _ in candidates}
    for t in only_b:
        if (t.dtype, t.shape) in wanted:
            name = candidates.pop((t.dtype, t.shape, t.digest()), None)
            if name is not None:
                yield name, t.name


def _weights_digest(store: TensorStore, known: dict[str, str | None]) -> str:
    return digest_of((t.name, t.dtype.name, t.shape, known.get(t.name) or t.digest()) for t in store.values())


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index = []
    for n in reversed(shape):
        flat, at = divmod(flat, n)
        index.append(at)
    return tuple(reversed(index))


def _number(value: float | int) -> float | int | str:
    """`value`, or "inf": float64 values may be further apart than float64 reaches, and JSON has no infinity."""
    return value if math.isfinite(value) else "inf"


def _side(side: Side) -> dict[str, Json]:
    entry: dict[str, Json] = {"dtype": side.dtype, "shape": list(side.shape), "bytes": side.nbytes}
    if side.digest is not None:
        entry["digest"] = side.digest
    return entry


def _element(e: Element) -> dict[str, Json]:
    return {"value": e.value, "bits": e.bits}
