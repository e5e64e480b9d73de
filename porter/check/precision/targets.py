"""The types that `porter audit` tells the cost of, and the ways to bring numbers into them.

A *cast* rounds each number to the nearest of the type. A *scaled* type multiplies what it holds by a factor that is kept beside it,
one for a tensor, for each output channel, or for each group of neighbours within a channel:

    symmetric   q = clip(round(x / s), -m, m)              s = range / m        m = 127 for i8, 7 for i4
    affine      q = clip(round(x / s) + z, -m - 1, m)      s = (max - min) / (2m + 1), z = round(-m - 1 - min / s)

as ONNX's QuantizeLinear computes them, in float32 for float32 tensors, ties to even. Ranges always hold zero; scales are float32,
rounded up, as `scales` has them for `quantize` too.

Source: onnx `docs/Operators.md`, QuantizeLinear and DequantizeLinear (opset 21); OCP Microscaling Formats 1.0, 5.3 and 6.3;
arXiv 2305.14314, appendix E (the 16 values of NF4); TensorFloat-32: NVIDIA A100 whitepaper 1.0, p. 27 (8 bits of exponent, 10 of mantissa).
"""

from __future__ import annotations

from typing import Literal

from porter.check.precision.rounding import limits
from porter.dataclass import dataclass
from porter.errors import UsageError, did_you_mean
from porter.io.float_layouts import FLOAT_LAYOUTS, FloatLayout

Granularity = Literal["tensor", "channel", "group"]
Range = Literal["minmax", "percentile", "mse", "kl"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a scaled type is used. `group` counts the numbers of a group, 0 elsewhere."""

    granularity: Granularity = "tensor"
    symmetric: bool = True
    range: Range = "minmax"
    group: int = 0

    def __str__(self) -> str:
        text = f"group {self.group}" if self.group else self.granularity
        return text + ("" if self.symmetric else " affine") + ("" if self.range == "minmax" else f" {self.range}")


@dataclass(frozen=True, slots=True)
class Target:
    """A type. `dtype`: porter's name of it, or None where it has no such tensors. `bits`: of an element.

    layout: of a type to cast to. most: the largest integer, of a type to scale into. grid: another grid to scale into.
    schemes: how it is used unless told otherwise; empty for casts.
    """

    name: str
    bits: int
    dtype: str | None = None
    layout: FloatLayout | None = None
    most: int = 0
    grid: Literal["nf4", "pow2", "log"] | None = None
    schemes: tuple[Scheme, ...] = ()

    @property
    def scaled(self) -> bool:
        """Whether it needs a scale."""
        return self.layout is None

    @property
    def top(self) -> float:
        """The largest number of the grid that is scaled."""
        if self.layout is not None:
            return limits(self.layout).largest
        return float(self.most) if self.most else 1.0


_TENSOR_AND_CHANNEL = (Scheme(), Scheme("channel"))
GROUPS = (32, 64, 128)
CUTS: tuple[Range, ...] = ("percentile", "mse", "kl")
WITH_CUTS: tuple[Granularity, ...] = ("tensor", "channel")
"""What has enough numbers for one scale that their distribution says where to cut; groups have not."""

_ALL = (
    Target("f16", 16, "float16", FLOAT_LAYOUTS["float16"]),
    Target("bf16", 16, "bfloat16", FLOAT_LAYOUTS["bfloat16"]),
    Target("tf32", 19, None, FloatLayout(8, 10, 127, "ieee")),
    Target("f8_e4m3", 8, "float8_e4m3fn", FLOAT_LAYOUTS["float8_e4m3fn"]),
    Target("f8_e5m2", 8, "float8_e5m2", FLOAT_LAYOUTS["float8_e5m2"]),
    Target("f6_e2m3", 6, "float6_e2m3fn", FLOAT_LAYOUTS["float6_e2m3fn"]),
    Target("f6_e3m2", 6, "float6_e3m2fn", FLOAT_LAYOUTS["float6_e3m2fn"]),
    Target("f4_e2m1", 4, "float4_e2m1fn", FLOAT_LAYOUTS["float4_e2m1fn"]),
    Target("i8", 8, "int8", most=127, schemes=_TENSOR_AND_CHANNEL),
    Target("i4", 4, "int4", most=7, schemes=_TENSOR_AND_CHANNEL),
    Target("nf4", 4, None, grid="nf4", schemes=(Scheme("group", group=64),)),
    Target("pow2", 8, None, grid="pow2", schemes=(Scheme(),)),
    Target("log", 8, None, grid="log", schemes=(Scheme(),)),
)

TARGETS = {t.name: t for t in _ALL}

USUAL = ("f16", "bf16", "i8")
"""What an audit tells unless told otherwise."""


def all_schemes(target: Target) -> tuple[Scheme, ...]:
    """Every way to use a scaled type, or a float type of at most 8 bits with scales.

    Ranges of even grids alone are cut: others have their finest steps about zero anyway.
    """
    groups = tuple([Scheme("group", group=n) for n in GROUPS])
    if target.bits > 8:
        return ()
    if not target.most:
        return (*_TENSOR_AND_CHANNEL, *groups)
    sides: tuple[bool, ...] = (True, False)
    ranges = [Scheme(g, even, r) for r in CUTS for g in WITH_CUTS for even in sides]
    affine = (Scheme(symmetric=False), Scheme("channel", symmetric=False), *[Scheme("group", False, "minmax", n) for n in GROUPS])
    return (*_TENSOR_AND_CHANNEL, *groups, *affine, *ranges)


def parse_targets(text: str) -> tuple[Target, ...]:
    """The types of a list such as `f16,bf16,i8`.

    Raises:
        UsageError: one of them is unknown.
    """
    found: dict[str, Target] = {}
    for word in text.split(","):
        name = word.strip()
        if name not in TARGETS:
            hint = did_you_mean(name, TARGETS) or f"one of {', '.join(TARGETS)}"
            raise UsageError("U806", f"there is no type '{name}' to audit", hint=hint)
        found[name] = TARGETS[name]
    return tuple(found.values())
