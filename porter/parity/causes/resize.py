"""Resampling: where the positions of a larger plane lie in a smaller one, and what is taken between them."""

from __future__ import annotations

from collections.abc import Iterator

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial

_POSITIONS = ("align_corners", "half_pixel", "pytorch_half_pixel", "asymmetric")
_NEAREST = ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil")


def positions(trial: Trial) -> Iterator[Change]:
    """Corners aligned or not, pixels as points or as squares."""
    yield from _ways(trial, False)


def mode(trial: Trial) -> Iterator[Change]:
    """The nearest value instead of a mixture, or the other way round."""
    yield from _ways(trial, True)


def _ways(trial: Trial, other_mode: bool) -> Iterator[Change]:
    for number in fragment.numbers(trial.model, "Resize"):
        now = fragment.attribute(trial.model, number, "mode", "nearest")
        where = fragment.attribute(trial.model, number, "coordinate_transformation_mode", "half_pixel")
        rule = fragment.attribute(trial.model, number, "nearest_mode", "round_prefer_floor")
        for kind in ("linear", "nearest", "cubic"):
            for position in _POSITIONS if (kind != now) == other_mode else ():
                for nearest in _NEAREST if kind == "nearest" else (None,):
                    attributes = {"mode": kind, "coordinate_transformation_mode": position, "nearest_mode": nearest}
                    changed = fragment.edited(trial.model, number, attributes=attributes)
                    has = _said(now, where, rule if now == "nearest" else None)
                    yield Change(has, _said(kind, position, nearest), changed)


def _said(mode: str, where: str, nearest: str | None) -> str:
    return f"{mode}, {where}" + (f", {nearest}" if nearest is not None else "")
