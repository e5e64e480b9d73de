"""The tensors of a report: statistics, comparison and precision of each, measured one after the other in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping

from porter.check.compare import Comparison, TensorComparison
from porter.check.precision.audit import Audit, audit
from porter.check.precision.document import document as audit_document
from porter.check.precision.epsilons import epsilons
from porter.check.statistics.document import document as statistics_document
from porter.check.statistics.histograms import step_for
from porter.check.statistics.measure import Statistics, TensorStatistics, measure, measure_tensor
from porter.dataclass import dataclass
from porter.report.request import Advance, Request
from porter.store import TensorStore
from porter.tensor import Json, TensorSpec

Row = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of all tensors, those of B alone last, and what they come to together."""

    rows: list[Row]
    groups: Json
    equal: Json
    precision: dict[str, Json] | None


def measure_all(
    store: TensorStore, other: TensorStore | None, comparison: Comparison | None, request: Request, advance: Advance | None
) -> Measured:
    """Measure the tensors of `store`, and of `other` those that differ or that `store` lacks.

    Raises:
        PorterError: a file cannot be read.
    """
    compared = {t.name: t for t in comparison.tensors} if comparison is not None else {}
    rows: list[Row] = []

    def take(one: TensorStatistics) -> None:
        found = compared.get(one.spec.name)
        row = _row(one, "both" if found is not None else "a")
        if found is not None:
            row["comparison"] = _compared(found, one, other, request.histograms)
        rows.append(row)

    measured = measure(store, distribution=request.histograms, advance=advance, take=take)
    if comparison is not None and other is not None:
        rows += [_row(measure_tensor(other[name], distribution=request.histograms), "b") for name in comparison.only_b]
    together = statistics_document(measured)
    return Measured(rows, together["groups"], together["equal"], _precision(store, rows, measured, request, advance))


def _row(one: TensorStatistics, side: str) -> Row:
    spec = one.spec
    return {
        "name": spec.name,
        "in": side,
        "dtype": spec.dtype.name,
        "shape": list(spec.shape),
        "bytes": spec.nbytes,
        "role": role_of(spec),
        "axes": spec.axes,
        "kind": one.kind,
        "statistics": _statistics(one),
        "comparison": None,
        "precision": None,
    }


def _statistics(one: TensorStatistics) -> dict[str, Json]:
    found = statistics_document(Statistics((one,), (), ()))["tensors"]
    assert isinstance(found, list)
    (entry,) = found
    assert isinstance(entry, dict)
    return {k: v for k, v in entry.items() if k not in ("name", "kind", "dtype", "shape")}


def role_of(spec: TensorSpec) -> str:
    """The role that the file states, else the last part of the name."""
    return spec.role or spec.name.replace("/", ".").rpartition(".")[2].partition(":")[0]


def _compared(found: TensorComparison, one: TensorStatistics, other: TensorStore | None, histograms: bool) -> dict[str, Json]:
    """The comparison of a pair; where it is not equal, B's statistics, and both histograms with bins of one width."""
    entry = {k: v for k, v in found.to_json().items() if k not in ("name", "a")}
    entry |= {"b_statistics": None, "common": None}
    if found.verdict == "equal" or other is None:
        return entry
    second = measure_tensor(other[found.name], distribution=histograms)
    entry["b_statistics"] = _statistics(second)
    if one.distribution is not None and second.distribution is not None:
        a, b = one.distribution, second.distribution
        step = step_for(max(a.largest, b.largest), a.levels, b.levels)
        left, right = a.on(step), b.on(step)
        if left is not None and right is not None:
            entry["common"] = {"a": left.to_json(), "b": right.to_json()}
    return entry


def _precision(
    store: TensorStore, rows: list[Row], measured: Statistics, request: Request, advance: Advance | None
) -> dict[str, Json] | None:
    """The audit as a whole; each tensor's verdicts go into its row."""
    if not request.targets:
        return None
    summaries = {t.spec.name: t.summary for t in measured.tensors}
    result: Audit = audit(store, request.targets, summaries=summaries, advance=advance)
    watched = any(t.watch == "variance" for t in result.tensors)
    document = audit_document(result, epsilons(result.targets, 1e-5) if watched else [], None, None)
    tensors = document["tensors"]
    assert isinstance(tensors, list)
    by_name: Mapping[object, dict[str, Json]] = {t["name"]: t for t in tensors if isinstance(t, dict)}
    for row in rows:
        found = by_name.get(row["name"]) if row["in"] != "b" else None
        if found is not None:
            row["precision"] = {"watch": found["watch"], "verdicts": found["verdicts"]}
    return {key: document[key] for key in ("targets", "thresholds", "totals", "epsilons", "passed_over")}
