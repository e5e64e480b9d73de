"""What a map does with every tensor of A, and whether it makes what B holds: the map part of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from porter.dataclass import dataclass
from porter.errors import MapError
from porter.mapping import library
from porter.mapping.execution import execute
from porter.mapping.plan import examine
from porter.mapping.providers import provider_of
from porter.mapping.steps import Plan
from porter.mapping.ways import Way, ways
from porter.report.request import Inputs, MapInput
from porter.store import TensorStore
from porter.tensor import Json, TensorSpec


@dataclass(frozen=True, slots=True)
class Coverage:
    """The map's part of the document, and what the map makes of A; None where it does not fit."""

    document: dict[str, Json]
    mapped: TensorStore | None


def cover(use: MapInput, inputs: Inputs) -> Coverage:
    """Check the map against A, and carry it out if it fits. Only drops with a condition read values here.

    Raises:
        MapError: the map cannot be checked: a parameter has no value, or a table no rows.
        UsageError: a parameter that the map does not have.
    """
    provider = provider_of(inputs.a, inputs.b)
    plan = examine(use.map, inputs.a.values(), params=use.params, provider=provider)
    problems = list(plan.problems)
    mapped: TensorStore | None = None
    if not problems:
        try:
            mapped = execute(plan, inputs.a)
        except MapError as error:
            problems.append(error)
    specs = {t.name: t.spec for t in inputs.a.values()}
    found = ways(plan, specs) if mapped is not None else []
    text = library.text(use.name)
    return Coverage(
        {
            "name": use.name,
            "params": {k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in use.params.items()},
            "text": text.text,
            "fits": not problems,
            "problems": [_problem(p) for p in problems],
            "sources": len(specs),
            "results": len(plan.result) if mapped is not None else None,
            "actions": _actions(found),
            "missing": _missing(plan, inputs.b) if mapped is not None else [],
            "ways": [_way(w, specs) for w in found],
        },
        mapped,
    )


def _problem(error: MapError) -> dict[str, Json]:
    where = error.where
    return {"code": error.code, "message": error.message, "line": where.line, "tensor": where.tensor, "hint": error.hint}


def _actions(found: list[Way]) -> dict[str, Json]:
    counts: Counter[str] = Counter()
    for way in found:
        counts[way.action] += len(way.targets) or len(way.sources)
    return dict(counts)


def _missing(plan: Plan, other: TensorStore | None) -> list[Json]:
    return [name for name in other or () if name not in plan.result]


def _way(way: Way, specs: Mapping[str, TensorSpec]) -> dict[str, Json]:
    return {
        "action": way.action,
        "sources": [_spec(specs[n]) for n in way.sources],
        "targets": [_spec(t) for t in way.targets],
        "lines": [n for n in way.lines if n],
    }


def _spec(spec: TensorSpec) -> dict[str, Json]:
    return {"name": spec.name, "dtype": spec.dtype.name, "shape": list(spec.shape)}
