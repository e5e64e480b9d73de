"""An audit as JSON values, in the form of `schemas/audit.schema.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.check.precision.audit import Audit, TensorAudit, Total
from porter.check.precision.epsilons import Epsilon
from porter.check.precision.equalisation import Advice
from porter.check.precision.folding import FoldedAudit
from porter.check.precision.verdicts import LOST, WATCHED_SNR
from porter.dataclass import field_names
from porter.tensor import Json


def document(
    result: Audit,
    epsilons: Sequence[Epsilon],
    folded: Sequence[FoldedAudit] | None = None,
    advice: Sequence[Advice] | None = None,
    known: str | None = None,
) -> dict[str, Json]:
    """Everything but where it was read from; None where it was not asked for. known: by what it is known what follows what."""
    return {
        "targets": [t.name for t in result.targets],
        "thresholds": {"snr": result.least_snr, "watched_snr": max(WATCHED_SNR, result.least_snr), "lost": LOST},
        "totals": [_total(t) for t in result.totals],
        "tensors": [_tensor(t) for t in result.tensors],
        "passed_over": [p.name for p in result.passed_over],
        "epsilons": [_epsilon(e) for e in epsilons],
        "order_of_layers": known,
        "folded": None if folded is None else [_folded(f) for f in folded],
        "equalisation": None
        if advice is None
        else [{"first": a.first, "second": a.second, "before": a.before, "after": a.after} for a in advice],
    }


def _total(total: Total) -> dict[str, Json]:
    entry = {name: getattr(total, name) for name in field_names(total)}
    return {"to": entry.pop("target"), **entry}


def _epsilon(one: Epsilon) -> dict[str, Json]:
    relative = None if one.becomes is None else abs(one.becomes - one.eps) / one.eps if one.eps else 0.0
    return {
        "to": one.target,
        "eps": one.eps,
        "assumed": one.assumed,
        "becomes": one.becomes,
        "subnormal": one.subnormal,
        "relative": relative,
    }


def _folded(folded: FoldedAudit) -> dict[str, Json]:
    return {
        "name": folded.after.spec.name,
        "with": list(folded.names),
        "before": [v.to_json() for v in folded.before.verdicts] if folded.before is not None else None,
        "after": [v.to_json() for v in folded.after.verdicts],
    }


def _tensor(one: TensorAudit) -> dict[str, Json]:
    s = one.summary
    largest = float(s.largest)
    return {
        "name": one.spec.name,
        "dtype": one.spec.dtype.name,
        "shape": list(one.spec.shape),
        "kind": one.kind,
        "watch": one.watch,
        "largest": largest if math.isfinite(largest) else None,
        "smallest": s.smallest,
        "nan": s.counts.nan,
        "infinite": s.counts.infinite,
        "verdicts": [v.to_json() for v in one.verdicts],
    }
