"""Two files' tensors side by side, on one common range: how much of their distributions is the same."""

from __future__ import annotations

from porter.check.statistics.histograms import Linear, step_for
from porter.check.statistics.measure import Statistics, TensorStatistics
from porter.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Compared:
    """A tensor that both files have. `linear_a` and `linear_b` have bins of the same width.

    overlap: the part of the numbers that the two histograms share, from 0 to 1: the sum over the bins of the smaller of both parts.
    None where one of them has no finite number.
    """

    a: TensorStatistics
    b: TensorStatistics
    linear_a: Linear | None
    linear_b: Linear | None
    overlap: float | None


def side_by_side(a: Statistics, b: Statistics) -> list[Compared]:
    """Pairs of tensors of the same name, in the order of `a`; both must have been measured with their distributions."""
    others = {t.spec.name: t for t in b.tensors}
    return [_compared(t, others[t.spec.name]) for t in a.tensors if t.spec.name in others]


def _compared(a: TensorStatistics, b: TensorStatistics) -> Compared:
    assert a.distribution is not None
    assert b.distribution is not None
    step = step_for(max(a.distribution.largest, b.distribution.largest), a.distribution.levels, b.distribution.levels)
    left, right = a.distribution.on(step), b.distribution.on(step)
    return Compared(a, b, left, right, _overlap(left, right) if left is not None and right is not None else None)


def _overlap(a: Linear, b: Linear) -> float:
    here = {a.first + i: n for i, n in enumerate(a.count)}
    there = {b.first + i: n for i, n in enumerate(b.count)}
    total_a, total_b = sum(here.values()), sum(there.values())
    return sum(min(n / total_a, there[k] / total_b) for k, n in here.items() if k in there)
