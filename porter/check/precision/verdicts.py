"""What to do with a tensor: `ok`, `per-channel` or `keep f32`, by thresholds that are told.

- NaNs or infinities that the type does not have (integers have neither): `keep f32`.
- A number that overflows, or more than one in a thousand that become zero: `keep f32`.
- Noise of more than a tenth of the signal (an SNR below 20 dB) by the best way into the type: `keep f32`.
- Into integers: biases, slopes, statistics and other vectors: `keep f32`, for they are few and added to wide sums. Weights where only a
  scale for each channel reaches the SNR, or gains 6 dB (a bit): `per-channel`. One channel of large numbers hides what becomes of the
  others, so the SNR with one scale counts as no more than 10 dB above that of the worst channel.
- Into a float type of 8 bits or fewer that a cast is not enough for, but scales are (looked for with `--schemes`): as for integers.
- What is watched (variances, slopes of PReLU) may not lose a single number to zero, overflow or subnormal numbers, and must keep 40 dB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from porter.check.precision.costs import Cost
from porter.check.precision.targets import Target
from porter.check.statistics.summary import Counts
from porter.dataclass import dataclass
from porter.tensor import Json, TensorSpec

Verdict = Literal["ok", "per-channel", "keep f32"]

SNR = 20.0
WATCHED_SNR = 40.0
LOST = 1e-3
SUBNORMAL = 0.1
GAIN = 6.0
SLACK = 10.0

_WATCHED = {
    "variance": ("variance", "running_var", "moving_variance", "var"),
    "slope": ("slope", "prelu", "alpha"),
}


def watched(spec: TensorSpec) -> str | None:
    """Why a tensor is watched: "variance", of batch normalisation, or "slope", of PReLU; None for others."""
    parts = spec.name.replace("/", ".").lower().split(".")
    words = {spec.role, parts[-1].partition(":")[0]}
    for what, known in _WATCHED.items():
        if words & set(known):
            return what
    if any("prelu" in part for part in parts[:-1]) and parts[-1] in ("weight", "slope"):
        return "slope"
    return None


@dataclass(frozen=True, slots=True)
class Judged:
    """A tensor's verdict for one type: why, the costs it rests on, and the best of them (None where none was computed).

    lacking: it holds NaNs or infinities that the type does not have, so that what becomes of its other numbers says little.
    """

    target: str
    verdict: Verdict
    reason: str
    costs: tuple[Cost, ...]
    best: Cost | None
    lacking: bool = False

    def to_json(self) -> dict[str, Json]:
        """This verdict as JSON values."""
        scheme = str(self.best.scheme) if self.best is not None and self.best.scheme is not None else None
        return {
            "to": self.target,
            "verdict": self.verdict,
            "reason": self.reason,
            "best": scheme,
            "costs": [c.to_json() for c in self.costs],
        }


def judge(target: Target, costs: Sequence[Cost], counts: Counts, watch: str | None, least: float = SNR) -> Judged:
    """The verdict on a tensor of these numbers; `least` is the SNR in dB that is enough."""
    if not costs:
        what = f"a {watch}, which " if watch else "no weight of two dimensions: "
        return Judged(target.name, "keep f32", f"{what}integers are not for", (), None)
    numbers = counts.finite
    if lacking := _lacking(target, counts):
        return Judged(target.name, "keep f32", lacking, tuple(costs), costs[0], lacking=True)
    if target.scaled:
        return _judge_scaled(target, costs, least)
    cast = _judge_cast(target, costs[0], numbers, watch, least)
    scaled = _judge_scaled(target, costs[1:], least) if cast.verdict == "keep f32" and len(costs) > 1 else None
    found = scaled if scaled is not None and scaled.verdict != "keep f32" else cast
    reason = f"scaled, {found.reason}" if found is scaled else found.reason
    return Judged(target.name, found.verdict, reason, tuple(costs), found.best)


def _lacking(target: Target, counts: Counts) -> str | None:
    """What the tensor holds and the type has no code for."""
    special = target.layout.special if target.layout is not None else "finite"
    nans = counts.nan if special == "finite" else 0
    infinite = counts.infinite if special != "ieee" else 0
    if not nans and not infinite:
        return None
    lost = [f"{nans:,} NaN"] if nans else []
    lost += [f"{infinite:,} infinite"] if infinite else []
    return f"{' and '.join(lost)}, which {target.name} lacks"


def _judge_cast(target: Target, cost: Cost, numbers: int, watch: str | None, least: float) -> Judged:
    verdict: Verdict = "keep f32"
    lost = cost.underflow + (cost.subnormal if watch else 0)
    snr = math.inf if cost.snr is None else cost.snr
    enough = max(WATCHED_SNR, least) if watch else least
    if cost.overflow:
        reason = _happens(cost.overflow, numbers, "overflow", "overflows")
    elif lost > (0 if watch else LOST * numbers):
        some, what = (cost.underflow, "zero") if cost.underflow else (cost.subnormal, "subnormal")
        reason = _happens(some, numbers, f"become {what}", f"becomes {what}")
    elif snr < enough:
        reason = f"an SNR of {_decibels(snr)} dB, below {enough:g}"
    else:
        verdict, reason = "ok", "exact" if math.isinf(snr) else f"an SNR of {_decibels(snr)} dB"
    if watch and verdict != "ok":
        reason = f"{reason}, and a {watch} is watched"
    return Judged(target.name, verdict, reason, (cost,), cost)


def _decibels(snr: float) -> str:
    return f"{round(snr, 1) + 0:.1f}"  # no -0.0


def _happens(some: int, numbers: int, many: str, one: str) -> str:
    return f"{some:,} of {numbers:,} numbers {one if some == 1 else many}"


def landing(cost: Cost, numbers: int) -> str | None:
    """What is to be said of a cast though it is good enough: that much of the tensor becomes subnormal, which some processors flush."""
    if cost.scheme is not None or cost.subnormal < SUBNORMAL * numbers or not cost.subnormal:
        return None
    return _happens(cost.subnormal, numbers, "become subnormal", "becomes subnormal")


def _judge_scaled(target: Target, costs: Sequence[Cost], least: float) -> Judged:
    def snr(cost: Cost) -> float:
        whole = math.inf if cost.snr is None else cost.snr
        return whole if cost.worst_channel is None else min(whole, cost.worst_channel + SLACK)

    best = max(costs, key=snr)
    whole = [c for c in costs if c.scheme is not None and c.scheme.granularity == "tensor"]
    finer = [c for c in costs if c.scheme is not None and c.scheme.granularity != "tensor"]
    top, fine = max(map(snr, whole), default=-math.inf), max(map(snr, finer), default=-math.inf)
    if snr(best) < least:
        return Judged(target.name, "keep f32", f"an SNR of {_decibels(snr(best))} dB at best, below {least:g}", tuple(costs), best)
    if finer and (top < least or fine - top >= GAIN):
        gained = f"{_decibels(fine)} dB" + (f", {_decibels(top)} with one scale" if whole else "")
        verdict: Verdict = "per-channel" if whole else "ok"
        return Judged(target.name, verdict, gained, tuple(costs), max(finer, key=snr))
    reason = "exact" if math.isinf(snr(best)) else f"an SNR of {_decibels(snr(best))} dB"
    return Judged(target.name, "ok", reason, tuple(costs), max(whole, key=snr) if whole else best)
