"""placeholder"""

from dataclasses import dataclass

from porter.store import TensorStore


@dataclass(frozen=True, slots=True)
class Tolerance:
    rtol: float | None = None
    atol: float | None = None
    ulp: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    equal: bool


def compare(a: TensorStore, b: TensorStore, tolerance: Tolerance) -> Comparison:
    return Comparison(a.digest() == b.digest())
