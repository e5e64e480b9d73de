"""Statistics as JSON values, in the form of `schemas/stats.schema.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.check.statistics.channels import ChannelRanges
from porter.check.statistics.comparison import Compared
from porter.check.statistics.levels import Quantiles
from porter.check.statistics.measure import Distribution, Group, Statistics, TensorStatistics
from porter.check.statistics.summary import Extreme
from porter.tensor import Json


def document(result: Statistics, *, channels: bool = False) -> dict[str, Json]:
    """Everything but where it was read from. `channels`: the ranges of every channel too."""
    return {
        "groups": [_group(g) for g in result.groups],
        "tensors": [_tensor(t, channels) for t in result.tensors],
        "equal": [{"names": list(e.names), "tied": e.tied, "constant": e.constant} for e in result.equal],
    }


def compared_document(found: Sequence[Compared]) -> list[dict[str, Json]]:
    """The comparison of two files' tensors on common ranges."""
    return [
        {
            "name": c.a.spec.name,
            "overlap": c.overlap,
            "a": {**_moments(c.a), "linear": c.linear_a.to_json() if c.linear_a is not None else None},
            "b": {**_moments(c.b), "linear": c.linear_b.to_json() if c.linear_b is not None else None},
        }
        for c in found
    ]


def _moments(one: TensorStatistics) -> dict[str, Json]:
    s = one.summary
    return {
        "dtype": one.spec.dtype.name,
        "shape": list(one.spec.shape),
        "mean": _number(s.mean),
        "std": _number(s.std),
        "min": _extreme(one, s.minimum),
        "max": _extreme(one, s.maximum),
    }


def _tensor(one: TensorStatistics, channels: bool) -> dict[str, Json]:
    s = one.summary
    return {
        "name": one.spec.name,
        "kind": one.kind,
        **_moments(one),
        "counts": s.counts.to_json(),
        "smallest": s.smallest,
        "channels": _channels(s.channels, channels) if s.channels is not None else None,
        **_distribution(one.distribution),
    }


def _group(group: Group) -> dict[str, Json]:
    low, high = group.minimum, group.maximum
    return {
        "kind": group.kind,
        "tensors": group.tensors,
        "elements": group.elements,
        "bytes": group.nbytes,
        "counts": group.counts.to_json(),
        "mean": _number(group.mean),
        "std": _number(group.std),
        "min": {"value": low.value, "tensor": low.tensor} if low is not None else None,
        "max": {"value": high.value, "tensor": high.tensor} if high is not None else None,
        "smallest": group.smallest,
        **_distribution(group.distribution),
    }


def _distribution(spread: Distribution | None) -> dict[str, Json]:
    if spread is None:
        return {"quantiles": None, "linear": None, "octaves": None}
    return {
        "quantiles": _quantiles(spread.quantiles) if spread.quantiles is not None else None,
        "linear": spread.linear.to_json() if spread.linear is not None else None,
        "octaves": spread.octaves.to_json() if spread.octaves is not None else None,
    }


def _quantiles(found: Quantiles) -> dict[str, Json]:
    return {"probability": list(found.probability), "value": list(found.value), "error": found.error}


def _channels(ranges: ChannelRanges, everything: bool) -> dict[str, Json]:
    entry: dict[str, Json] = {
        "axis": ranges.axis,
        "assumed": ranges.assumed,
        "count": ranges.count,
        "spread": ranges.spread,
        "widest": ranges.widest,
        "dead": list(ranges.dead),
    }
    if everything:
        entry["min"] = [_number(x) for x in ranges.minimum.tolist()]
        entry["max"] = [_number(x) for x in ranges.maximum.tolist()]
    return entry


def _extreme(one: TensorStatistics, at: Extreme | None) -> dict[str, Json] | None:
    return {"value": at.value, "index": one.index(at)} if at is not None else None


def _number(value: float | None) -> float | None:
    """None for NaN, and where float64 does not reach."""
    return value if value is not None and math.isfinite(value) else None
