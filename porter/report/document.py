"""A report as one JSON document, in the form of `schemas/report.schema.json`: what `porter report --json` prints and the page shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

from porter import __version__
from porter.check.compare import Comparison, compare
from porter.report.coverage import cover
from porter.report.findings import findings
from porter.report.origins import commands, digest_of_map, environment, file_of
from porter.report.request import Advance, Inputs, Request
from porter.report.tensors import measure_all
from porter.store import Notice, TensorStore
from porter.tensor import Json

Answer = Literal["equal", "within tolerance", "differs", "map does not fit", ""]
"""What a report answers; nothing where nothing was asked."""


def report(request: Request, inputs: Inputs, advance: Advance | None = None) -> dict[str, Any]:
    """Measure, audit, map and compare; everything that the report says. Tensors are read block by block, several times.

    With a map the tensors are those that it makes of A, if it fits; else those of A.

    Raises:
        PorterError: a file cannot be read, or the map cannot be checked.
    """
    coverage = cover(inputs.map, inputs) if inputs.map is not None else None
    fits = coverage is None or coverage.mapped is not None
    store = coverage.mapped if coverage is not None and coverage.mapped is not None else inputs.a
    comparison = None
    if inputs.b is not None and fits:
        comparison = compare(store, inputs.b, request.tolerance, progress=advance)
    measured = measure_all(store, inputs.b, comparison, request, advance)
    mapping = None
    if coverage is not None and inputs.map is not None:
        mapping = {**coverage.document, "sha256": digest_of_map(inputs.map.name)}
    answer, text = _verdict(comparison, fits, mapping)
    return {
        "porter": __version__,
        "kind": "report",
        "title": request.title,
        "date": request.date,
        "verdict": {"answer": answer, "text": text},
        "a": file_of(inputs.a),
        "b": file_of(inputs.b) if inputs.b is not None else None,
        "findings": findings(measured.rows, cast("list[dict[str, Any]]", measured.equal)),
        "groups": measured.groups,
        "equal": measured.equal,
        "comparison": _comparison(comparison),
        "map": mapping,
        "precision": measured.precision,
        "notices": _notices(store, inputs),
        "environment": environment(),
        "commands": commands(request, inputs),
        "tensors": measured.rows,
    }


def _verdict(comparison: Comparison | None, fits: bool, mapping: dict[str, Any] | None) -> tuple[Answer, str]:
    if not fits and mapping is not None:
        n = len(mapping["problems"])
        return "map does not fit", f"The map does not fit A: {n:,} problem{'' if n == 1 else 's'}"
    if comparison is None:
        return "", ""
    total = len(comparison.tensors)
    tensors = f"{total:,} tensor{'' if total == 1 else 's'}"
    if comparison.equal:
        inexact = sum(t.verdict != "equal" for t in comparison.tensors)
        if not inexact:
            return "equal", f"Equal, bit for bit: {tensors}"
        return "within tolerance", f"Equal within tolerance: {tensors}, {inexact:,} of them not bit for bit"
    differing = sum(not t.passes for t in comparison.tensors)
    parts = [f"{differing:,} of {tensors}"] if differing else []
    parts += [f"{len(names):,} only in {side}" for side, names in (("A", comparison.only_a), ("B", comparison.only_b)) if names]
    return "differs", f"Different: {', '.join(parts)}"


def _comparison(comparison: Comparison | None) -> dict[str, Json] | None:
    """The comparison as a whole; the tensors' own parts are in their rows."""
    if comparison is None:
        return None
    document = comparison.to_json()
    return {key: document[key] for key in ("tolerance", "counts", "only_a", "only_b", "same_bytes")}


def _notices(store: TensorStore, inputs: Inputs) -> list[Json]:
    """What was skipped, assumed or changed while A, B and what the map makes were read."""
    stores: Iterable[tuple[str, TensorStore | None]] = (("A", inputs.a), ("map", store if store is not inputs.a else None), ("B", inputs.b))
    return [_notice(where, n) for where, found in stores if found is not None for n in found.notices]


def _notice(where: str, notice: Notice) -> dict[str, Json]:
    return {"of": where, "kind": notice.kind, "message": notice.message, "tensor": notice.tensor}
