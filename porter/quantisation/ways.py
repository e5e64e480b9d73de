"""How weights are quantised: into which type, with a scale for how many numbers, over which range.

    q = round(clip(x, low, high) / s) + z        x ≈ (q - z) · s        ties to even; z = 0 where the range is symmetric

For the types of 8 bits of floating point q is the nearest number of the type, for `nf4` the index of the nearest of its 16 values,
which are multiplied by s. Ranges always hold zero, and so zero is exact.

Source: onnx `docs/Operators.md`, QuantizeLinear and DequantizeLinear (opset 21); arXiv 2305.14314, section 3 (NF4, groups of 64).
"""

from __future__ import annotations

from porter.check.precision.targets import TARGETS, Granularity, Range, Scheme
from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import UsageError, did_you_mean
from porter.io.float_layouts import FLOAT_LAYOUTS

RANGES: tuple[Range, ...] = ("minmax", "percentile", "mse", "kl")


@dataclass(frozen=True, slots=True)
class Type:
    """A type to quantise into: its name, the type of the elements that are stored, the largest number on each side of the grid.

    granularity, group: how it is used unless told otherwise.
    """

    name: str
    dtype: DType
    top: float
    granularity: Granularity = "channel"
    group: int = 0

    @property
    def integers(self) -> bool:
        """Whether the grid is even: a zero point makes sense, and ranges may be cut."""
        return self.dtype.kind == "int"


def _float(name: str) -> Type:
    from porter.check.precision.rounding import limits

    dtype = DTYPES[str(TARGETS[name].dtype)]
    return Type(name, dtype, limits(FLOAT_LAYOUTS[dtype.name]).largest)


TYPES = {
    t.name: t
    for t in (
        Type("i8", DTYPES["int8"], TARGETS["i8"].top),
        Type("i4", DTYPES["int4"], TARGETS["i4"].top, "group", 32),
        _float("f8_e4m3"),
        _float("f8_e5m2"),
        Type("nf4", DTYPES["uint4"], TARGETS["nf4"].top, "group", 64),
    )
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way into one type."""

    type: Type
    scheme: Scheme

    def __str__(self) -> str:
        return f"{self.type.name} {self.scheme}"


def settle(name: str, granularity: Granularity | None = None, group: int | None = None, affine: bool = False, range: str = "minmax") -> Way:
    """The way that these words say, the type's usual one where they say nothing.

    Raises:
        UsageError: there is no such type, or it is not used so.
    """
    kind = TYPES.get(name)
    if kind is None:
        raise UsageError(
            "U821", f"there is no type '{name}' to quantise to", hint=did_you_mean(name, TYPES) or f"one of {', '.join(TYPES)}"
        )
    granularity = granularity or ("group" if group is not None else kind.granularity)
    if group is not None and (granularity != "group" or group < 2):
        raise UsageError("U822", f"a group of {group} numbers and a scale for each {granularity}", hint="a group has at least 2 numbers")
    if not kind.integers and (affine or range != "minmax"):
        what = "a zero point" if affine else f"a range by '{range}'"
        raise UsageError("U822", f"{name} is not quantised with {what}", hint="its grid is finest about zero; i8 and i4 are even")
    if granularity == "group" and range != "minmax":
        raise UsageError(
            "U822", f"the range of a group is too small a sample for '{range}'", hint="leave --range out, or say --per channel"
        )
    cut = next((r for r in RANGES if r == range), None)
    if cut is None:
        raise UsageError("U822", f"there is no range by '{range}'", hint=f"one of {', '.join(RANGES)}")
    return Way(kind, Scheme(granularity, not affine, cut, (group or kind.group or 32) if granularity == "group" else 0))
