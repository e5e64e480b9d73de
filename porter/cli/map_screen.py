"""What the commands show of a map: its summary, its table, its text, its JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from porter.cli.quantities import shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column
from porter.mapping.execution import MappedStore
from porter.mapping.steps import Plan, Step
from porter.mapping.ways import Way, ways, ways_of_stage
from porter.tensor import TensorSpec

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
    "left out": "left out",
}
"""What is said of what a map did with tensors; `rearranged`: in another layout."""


def summary(store: MappedStore, names: Iterable[str]) -> str:
    """What the map did to the tensors `names`, in a few words: `8 renamed, 5 rearranged`."""
    counts: Counter[str] = Counter()
    stages = store.plan.stages
    for way in ways_of_stage(stages[0]) if len(stages) == 1 else ways(store.plan, names):
        counts[way.action] += len(way.targets) or len(way.sources)
    return ", ".join(f"{counts[action]:,} {word}" for action, word in WORDS.items() if counts[action]) or "nothing"


def table(screen: Screen, plan: Plan, specs: Mapping[str, TensorSpec]) -> None:
    """What becomes of the tensors `specs`; with `-v` stage by stage."""
    if len(plan.stages) < 2 or not screen.verbose:
        _table(screen, ways(plan, specs), specs)
        return
    for number, stage in enumerate(plan.stages, 1):
        screen.line(screen.styled(f"stage {number} of {len(plan.stages)}", "head"))
        _table(screen, ways_of_stage(stage), specs)
        specs = stage.result


def _table(screen: Screen, found: Sequence[Way], specs: Mapping[str, TensorSpec]) -> None:
    screen.brief_table(COLUMNS, [row for way in found for row in _rows(screen, way, specs)])


def _rows(screen: Screen, way: Way, specs: Mapping[str, TensorSpec]) -> Iterator[tuple[str | Cell, ...]]:
    lines = ", ".join(str(line) for line in way.lines if line)
    for i in range(max(len(way.sources), len(way.targets))):
        source = way.sources[i] if i < len(way.sources) else ""
        target = way.targets[i] if i < len(way.targets) else None
        how = WORDS[way.action] if i == 0 else ""
        yield (
            screen.name(source),
            shape_text(specs[source].shape) if source in specs else "",
            screen.name(target.name) if target is not None else "",
            shape_text(target.shape) if target is not None else "",
            target.dtype.short if target is not None else "",
            how if way.targets else Cell(how, "dim"),
            f"line{'s' if ',' in lines else ''} {lines}" if lines and i == 0 else "",
        )


def text_for(plan: Plan) -> str:
    """The text of the planned map with everything written out that it took from the source, and without what did nothing there."""
    from porter.mapping.render import dumps
    from porter.mapping.settled import pruned

    return dumps(pruned(plan))


def steps_json(plan: Plan) -> list[dict[str, Any]]:
    """Every step as JSON, with the stage it is in."""
    return [step_json(step, number) for number, stage in enumerate(plan.stages) for step in stage.steps]


def step_json(step: Step, stage: int) -> dict[str, Any]:
    """One step of stage `stage` (from 0) as JSON."""
    from porter.mapping.render import statement_text

    return {
        "stage": stage + 1,
        "action": step.action,
        "sources": list(step.sources),
        "targets": [{"name": t.name, "dtype": t.dtype.name, "shape": list(t.shape)} for t in step.targets],
        "map": step.statement.span.text.path,
        "line": step.line or None,
        "rule": statement_text(step.statement),
    }
