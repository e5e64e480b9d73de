"""How the bits of each float type are laid out.

Source: IEEE 754-2019, 3.4; OCP Microscaling Formats 1.0, 5.3 (E5M2, E4M3, E2M3, E3M2, E2M1, E8M0); the types whose names
end in `fnuz`: arXiv 2206.02915.
"""

from __future__ import annotations

from typing import Literal

from porter.dataclass import dataclass
from porter.dtypes import DType


@dataclass(frozen=True, slots=True)
class FloatLayout:
    """Bits of exponent and mantissa, the exponent's bias, and which codes are infinite or no number.

    special: "ieee": the top exponent holds infinities and NaNs. "fn": NaN is the code with all ones, there are no infinities.
        "fnuz": the code of −0 is the only NaN, there are neither infinities nor −0. "finite": every code is a number.
        "scale": an exponent alone, without sign, zero or infinity; all ones is NaN.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    special: Literal["ieee", "fn", "fnuz", "finite", "scale"]

    @property
    def precision(self) -> int:
        """Bits of the significand, the hidden one among them."""
        return self.mantissa_bits + 1

    @property
    def smallest(self) -> int:
        """The exponent of the smallest positive value."""
        return -self.bias if self.special == "scale" else 1 - self.bias - self.mantissa_bits

    @property
    def largest(self) -> int:
        """The exponent of the largest value."""
        return (1 << self.exponent_bits) - 1 - (self.special in ("ieee", "scale")) - self.bias

    @property
    def top(self) -> int:
        """The code of the largest value, without its sign."""
        ones = (1 << self.exponent_bits + self.mantissa_bits) - 1
        return {"ieee": ones - (1 << self.mantissa_bits), "fn": ones - 1, "scale": ones - 1}.get(self.special, ones)


FLOAT_LAYOUTS = {
    "float64": FloatLayout(11, 52, 1023, "ieee"),
    "float32": FloatLayout(8, 23, 127, "ieee"),
    "float16": FloatLayout(5, 10, 15, "ieee"),
    "bfloat16": FloatLayout(8, 7, 127, "ieee"),
    "float8_e5m2": FloatLayout(5, 2, 15, "ieee"),
    "float8_e4m3fn": FloatLayout(4, 3, 7, "fn"),
    "float8_e4m3fnuz": FloatLayout(4, 3, 8, "fnuz"),
    "float8_e5m2fnuz": FloatLayout(5, 2, 16, "fnuz"),
    "float8_e8m0fnu": FloatLayout(8, 0, 127, "scale"),
    "float6_e2m3fn": FloatLayout(2, 3, 1, "finite"),
    "float6_e3m2fn": FloatLayout(3, 2, 3, "finite"),
    "float4_e2m1fn": FloatLayout(2, 1, 1, "finite"),
}


def holds(wide: DType, narrow: DType) -> bool:
    """Whether float type `wide` has every value of `narrow` (a float, an integer or a boolean), its NaNs and infinities included."""
    if wide.name == narrow.name:
        return True
    if wide.bits < 16:  # these lack infinities, NaN or a sign; only equal types are sure
        return False
    layout = FLOAT_LAYOUTS[wide.name]
    if narrow.kind != "float":
        bits = narrow.bits - (narrow.kind == "int")
        return bits <= layout.precision and bits <= layout.largest
    other = FLOAT_LAYOUTS[narrow.name]
    return other.precision <= layout.precision and other.smallest >= layout.smallest and other.largest <= layout.largest
