"""What the commands show of a map: its summary, its table, its text, its JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from porter.cli.quantities import shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column
from porter.mapping.execution import MappedStore
from porter.mapping.steps import Plan, StagePlan, Step
from porter.tensor import TensorSpec

ROWS = 40
"""Rows of a table that a terminal shows without `-v`."""

COLUMNS = (
    Column("SOURCE", fit="shrink"),
    Column("SHAPE"),
    Column("TARGET", fit="shrink"),
    Column("SHAPE"),
    Column("DTYPE", fit="drop"),
    Column("HOW"),
    Column("RULE", fit="drop"),
)

WORDS = {
    "keep": "kept",
    "rename": "renamed",
    "layout": "rearranged",
    "compute": "computed",
    "fill": "filled in",
    "tie": "tied",
    "drop": "dropped",
}
"""What the steps of a plan did with tensors; `rearranged`: in another layout."""


def summary(store: MappedStore) -> str:
    """What the map did, in a few words: `8 renamed, 5 rearranged`."""
    counts: Counter[str] = Counter()
    for stage in store.plan.stages:
        for step in stage.steps:
            counts[step.action] += len(step.sources) if step.action == "drop" else len(step.targets)
    left = sum(len(stage.left) for stage in store.plan.stages)
    said = [f"{counts[action]:,} {word}" for action, word in WORDS.items() if counts[action]]
    said += [f"{left:,} left out"] if left else []
    return ", ".join(said) or "nothing"


def table(screen: Screen, plan: Plan, specs: Mapping[str, TensorSpec]) -> None:
    """One row for each step's source and target, stage by stage; `specs` are the tensors that the first one is for."""
    for number, stage in enumerate(plan.stages, 1):
        if len(plan.stages) > 1:
            screen.line(screen.styled(f"stage {number} of {len(plan.stages)}", "head"))
        rows = list(_rows(screen, stage, specs))
        shown = rows if screen.verbose or not screen.terminal or len(rows) <= ROWS else rows[: ROWS - 5]
        screen.table(COLUMNS, shown)
        if len(shown) < len(rows):
            screen.line(f"…{len(rows) - len(shown):,} more (-v)")
        specs = stage.result


def _rows(screen: Screen, stage: StagePlan, specs: Mapping[str, TensorSpec]) -> Iterator[tuple[str | Cell, ...]]:
    for step in stage.steps:
        place = f"line {step.line}" if step.line else ""
        for i in range(max(len(step.sources), len(step.targets), 1)):
            source = step.sources[i] if i < len(step.sources) else ""
            target = step.targets[i] if i < len(step.targets) else None
            how: str | Cell = WORDS[step.action] if i == 0 else ""
            yield (
                screen.name(source),
                shape_text(specs[source].shape) if source in specs else "",
                screen.name(target.name) if target is not None else "",
                shape_text(target.shape) if target is not None else "",
                target.dtype.short if target is not None else "",
                Cell(str(how), "dim") if step.action == "drop" else how,
                place if i == 0 else "",
            )
    for name in stage.left:
        yield (screen.name(name), shape_text(specs[name].shape), "", "", "", Cell("left out", "dim"), "")


def text_for(plan: Plan) -> str:
    """The text of the planned map with everything written out that it took from the source, and without what did nothing there."""
    from porter.mapping.render import dumps
    from porter.mapping.settled import pruned

    return dumps(pruned(plan))


def steps_json(plan: Plan, store: MappedStore | None = None, digests: bool = False) -> list[dict[str, Any]]:
    """Every step as JSON, with the stage it is in; with `digests`, which reads the inputs, their SHA-256."""
    return [step_json(step, number, store, digests) for number, stage in enumerate(plan.stages) for step in stage.steps]


def step_json(step: Step, stage: int, store: MappedStore | None, digests: bool) -> dict[str, Any]:
    """One step of stage `stage` (from 0) as JSON."""
    from porter.mapping.render import statement_text

    document: dict[str, Any] = {
        "stage": stage + 1,
        "action": step.action,
        "sources": list(step.sources),
        "targets": [{"name": t.name, "dtype": t.dtype.name, "shape": list(t.shape)} for t in step.targets],
        "map": step.statement.span.text.path,
        "line": step.line or None,
        "rule": statement_text(step.statement),
    }
    if digests and store is not None and step.targets:
        origin = store.origins[stage][step.targets[0].name]
        document["sha256"] = [t.digest() for t in origin.inputs]
    return document
