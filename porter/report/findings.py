"""What a reader should look at first, tensor by tensor: numbers that are none, channels that do nothing, tensors that are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from porter.dataclass import dataclass
from porter.tensor import Json


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing to look at. `applies` says whether a tensor's statistics show it."""

    kind: str
    text: str
    grave: bool
    applies: Callable[[dict[str, Any]], bool]


FINDINGS = (
    Finding("nan", "holds NaN", True, lambda s: s["counts"]["nan"] > 0),
    Finding("infinite", "holds infinities", True, lambda s: s["counts"]["positive_infinite"] + s["counts"]["negative_infinite"] > 0),
    Finding("zero", "is all zeros", False, lambda s: s["counts"]["numbers"] > 1 and s["counts"]["zeros"] == s["counts"]["numbers"]),
    Finding("dead", "has dead output channels", False, lambda s: bool(s["channels"] and s["channels"]["dead"])),
    Finding("subnormal", "holds subnormal numbers", False, lambda s: s["counts"]["subnormal"] > 0),
)


def findings(rows: Sequence[dict[str, Any]], equal: Sequence[dict[str, Any]]) -> list[dict[str, Json]]:
    """Those that occur, the grave ones first, with the names of the tensors of A in the order of the file; of B the grave ones alone,
    in what A lacks or has otherwise.
    """
    return list(_found(rows, equal))


def _of_b(row: dict[str, Any]) -> dict[str, Any] | None:
    """The statistics of B's tensor, where they are not A's."""
    if row["in"] == "b":
        return row["statistics"]  # type: ignore[no-any-return]
    return row["comparison"]["b_statistics"] if row["comparison"] is not None else None


def _found(rows: Sequence[dict[str, Any]], equal: Sequence[dict[str, Any]]) -> Iterator[dict[str, Json]]:
    for finding in FINDINGS:
        names = [r["name"] for r in rows if r["in"] != "b" and finding.applies(r["statistics"])]
        if names:
            yield {"kind": finding.kind, "text": finding.text, "grave": finding.grave, "tensors": names}
        names = [r["name"] for r in rows if finding.grave and (s := _of_b(r)) is not None and finding.applies(s)]
        if names:
            yield {"kind": f"{finding.kind} in b", "text": f"{finding.text} in B", "grave": True, "tensors": names}
    alike = {name for e in equal if not e["tied"] and not e["constant"] for name in e["names"]}
    if alike:
        names = [r["name"] for r in rows if r["in"] != "b" and r["name"] in alike]
        yield {"kind": "equal", "text": "has the same bytes as another, and the file does not tie them", "grave": False, "tensors": names}
