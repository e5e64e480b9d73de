"""What `porter verify` shows of the first divergence: the guilty layer as both sides have it, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.cli.quantities import count
from porter.cli.screen import Screen

if TYPE_CHECKING:
    from porter.parity.causes.table import Explained
    from porter.parity.divergence import Divergence, Examined, Guilty
    from porter.parity.pieces import Piece
    from porter.parity.side import Step


def divergence_document(found: Divergence) -> dict[str, Any]:
    """The search as JSON."""
    return {
        "verdict": found.verdict,
        "replayed": found.replayed,
        "guilty": _guilty(found.guilty) if found.guilty is not None else None,
        "others": [_examined(entry) for entry in found.others],
        "examined": [_examined(entry) for entry in found.examined],
    }


def _guilty(guilty: Guilty) -> dict[str, Any]:
    return {
        **_examined(guilty.examined),
        "layers_a": _layers(guilty.a),
        "layers_b": _layers(guilty.b),
        "causes": [_cause(cause) for cause in guilty.causes],
        "weights": [{"a": a, "b": b, "relation": relation} for a, b, relation in guilty.weights],
    }


def _cause(found: Explained) -> dict[str, Any]:
    return {
        "id": found.cause.id,
        "name": found.cause.name,
        "a": found.a,
        "b": found.b,
        "before": _number(found.before),
        "after": _number(found.after),
        "fix": found.cause.fix,
    }


def _layers(piece: Piece | None) -> list[dict[str, Any]]:
    return [{"name": s.name, "type": s.type, "settings": dict(s.settings)} for s in (piece.steps if piece is not None else ())]


def _examined(entry: Examined) -> dict[str, Any]:
    return {
        "a": entry.pair.a,
        "b": entry.pair.b,
        "layer": entry.piece.name if entry.piece is not None else None,
        "total": _number(entry.total.relative) if entry.total is not None else None,
        "own": _number(entry.own.relative) if entry.own is not None else None,
        "inherited": _number(entry.inherited) if entry.inherited is not None else None,
        "forced": entry.forced,
        "wrong": entry.is_wrong(),
        "problem": entry.problem,
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity"


def print_divergence(screen: Screen, found: Divergence) -> None:
    """Where it goes wrong first, why, and what else does."""
    if found.verdict == "accumulated":
        worst = max(found.examined, key=lambda e: e.own.relative if e.own is not None else 0)
        own = f"{worst.own.relative:.1e} at '{screen.name(worst.pair.b)}'" if worst.own is not None else "little"
        screen.paragraph(
            f"given the other side's values each agrees, by {own} at most: small differences add up", "no layer is off by itself: "
        )
    if found.verdict == "unknown" and found.examined:
        first = next((e for e in found.examined if e.own is None), found.examined[0])
        why = f": {screen.name(first.problem)}" if first.problem else ""
        screen.paragraph(
            f"'{screen.name(first.pair.b)}' is the first that could not be run again{why}", "which layer is off by itself is not known: "
        )
    if found.guilty is not None:
        _print_guilty(screen, found.guilty, found.replayed)
        if found.others:
            names = [e.pair.b for e in found.others]
            screen.paragraph(f"off by themselves as well: {screen.listed(names)}", f"  and {count(len(names), 'more layer')} ")


def _print_guilty(screen: Screen, guilty: Guilty, replayed: str) -> None:
    entry = guilty.examined
    name = entry.piece.name if entry.piece is not None else entry.pair.b
    screen.line(screen.styled("first off by itself", "bad") + f": '{screen.name(name)}'")
    rows = [("its own error", _own(entry, replayed))]
    if entry.inherited:
        rows.append(("inherited", f"{entry.inherited:.1e}"))
    rows += [("in A", _said(screen, guilty.a)), ("in B", _said(screen, guilty.b))]
    rows += [("weights", screen.name(f"{b} is {relation} ({a} in A)")) for a, b, relation in guilty.weights]
    screen.aligned([("", *row) for row in rows])
    _print_causes(screen, guilty.causes)


def _own(entry: Examined, replayed: str) -> str:
    if entry.misshapen or entry.own is None:
        return entry.problem or "the shapes differ"
    given = f"of the largest magnitude, given {'A' if replayed == 'b' else 'B'}'s own inputs"
    return f"{entry.own.relative:.1e} {given if entry.forced else 'of the largest magnitude; its inputs are the same'}"


def _said(screen: Screen, piece: Piece | None) -> str:
    return "; ".join(_step(screen, step) for step in piece.steps) if piece is not None else "not known"


def _step(screen: Screen, step: Step) -> str:
    said = ", ".join(f"{name} {value}" for name, value in step.settings.items())
    return screen.name(f"{step.type} '{step.name}'{': ' if said else ''}{said}")


def _print_causes(screen: Screen, causes: Sequence[Explained]) -> None:
    if not causes:
        screen.line("  no known cause: none of the experiments brings the two together")
        return
    cause = causes[0]
    screen.paragraph(screen.name(f"{cause.a} in A, {cause.b} in B"), f"  {screen.styled(cause.cause.name, 'head')}: ")
    changed = "A's" if cause.changed == "a" else "B's"
    screen.line(f"    tried: with {changed} layer changed so, the difference is {cause.after:.1e} instead of {cause.before:.1e}")
    screen.paragraph(cause.cause.fix, "    fix: ")
    if len(causes) > 1:
        also = ", ".join(c.cause.name for c in causes[1:])
        screen.paragraph(also, "    as well explained by: ")
