"""What `porter verify` shows: the values that were compared, the verdict, the layer that goes wrong first, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from porter.cli.quantities import amount_text, cosine_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column
from porter.graph.feeds import FILLS

if TYPE_CHECKING:
    from porter.check.measures import Measured
    from porter.parity.comparison import Compared, Comparison
    from porter.parity.divergence import Divergence, Examined, Guilty
    from porter.parity.pieces import Piece
    from porter.parity.verifying import SideInfo, Verified, VerifyOptions
    from porter.parity.weights import Beside

ROWS = 12
"""Rows that a table of the worst values has."""

COLUMNS = (
    Column("VALUE", fit="shrink"),
    Column("IN B", fit="drop"),
    Column("TYPE", fit="drop"),
    Column("SHAPE", fit="drop"),
    Column("MAX|Δ|", "right"),
    Column("OF SCALE", "right"),
    Column("SNR", "right"),
    Column("ULP", "right", "drop"),
    Column("COSINE", "right", "drop"),
    Column("VERDICT"),
)


def document(verified: Verified, options: VerifyOptions) -> dict[str, Any]:
    """The result as JSON."""
    c, feeding = verified.comparison, options.feeding
    made_up = not (feeding.inputs or feeding.image or "golden" in (verified.a.kind, verified.b.kind))
    return {
        "a": _side(verified.a),
        "b": _side(verified.b),
        "same": verified.same,
        "tolerance": c.tolerance,
        "fed": {
            "input": feeding.inputs,
            "image": feeding.image,
            "seed": feeding.seed or 0 if made_up else None,
            "fill": feeding.fill or FILLS[0] if made_up else None,
        },
        "matched": {
            "ways": dict(c.matching.ways),
            "only_a": list(c.matching.only_a),
            "only_b": list(c.matching.only_b),
            "ambiguous": list(c.matching.ambiguous),
            "unobserved": [{"a": p.a, "b": p.b} for p in c.missing],
        },
        "uncompared": dict(zip("ab", map(list, c.lost), strict=True)),
        "weights": _weights(verified.weights) if verified.weights is not None else None,
        "failed": verified.failed,
        "compared": [_compared(entry) for entry in c.compared],
        "divergence": _divergence(verified.divergence) if verified.divergence is not None else None,
        "notices": list(verified.notices),
    }


def _weights(weights: Beside) -> dict[str, Any]:
    return {
        "equal": weights.equal,
        "moved": weights.moved,
        "scaled": weights.scaled,
        "apart": [{"a": apart.a, "b": apart.b, "relative": apart.relative} for apart in weights.apart],
        "alone": list(weights.alone),
    }


def _side(side: SideInfo) -> dict[str, Any]:
    return {"label": side.label, "kind": side.kind, "runner": side.runner, "layers": side.steps}


def _compared(c: Compared) -> dict[str, Any]:
    return {
        "a": c.pair.a,
        "b": c.pair.b,
        "matched": c.pair.way,
        "layer_a": c.a.name if c.a is not None else None,
        "layer_b": c.b.name if c.b is not None else None,
        "type_a": c.a.type if c.a is not None else None,
        "type_b": c.b.type if c.b is not None else None,
        "shape_a": list(c.shapes[0]),
        "shape_b": list(c.shapes[1]),
        "sampled": c.sampled,
        "same": c.problem is None,
        "problem": c.problem,
        "measured": _measured(c.measured),
    }


def _measured(m: Measured | None) -> dict[str, Any] | None:
    if m is None:
        return None
    return {
        "count": m.count,
        "max_abs": m.max_abs,
        "scale": m.scale,
        "relative": m.relative,
        "max_ulp": m.max_ulp,
        "cosine": m.cosine,
        "snr": m.snr,
        "apart": m.apart,
        "beyond": m.beyond,
        "first": m.first,
        "first_a": m.first_a,
        "first_b": m.first_b,
    }


def _divergence(d: Divergence) -> dict[str, Any]:
    return {
        "verdict": d.verdict,
        "replayed": d.replayed,
        "guilty": _guilty(d.guilty) if d.guilty is not None else None,
        "others": [{"a": e.pair.a, "b": e.pair.b, "own": _measured(e.own)} for e in d.others],
        "examined": [_examined(e) for e in d.examined],
    }


def _examined(e: Examined) -> dict[str, Any]:
    return {
        "a": e.pair.a,
        "b": e.pair.b,
        "replayed": e.forced,
        "own": e.own.relative if e.own is not None else None,
        "inherited": e.inherited,
        "wrong": e.is_wrong(),
        "problem": e.problem,
    }


def _guilty(g: Guilty) -> dict[str, Any]:
    return {
        **_examined(g.examined),
        "layer_a": _piece(g.a) if g.a is not None else None,
        "layer_b": _piece(g.b) if g.b is not None else None,
        "tried": g.tried,
        "causes": [
            {"id": e.cause.id, "name": e.cause.name, "fix": e.cause.fix, "a": e.a, "b": e.b, "before": e.before, "after": e.after}
            for e in g.causes
        ],
        "weights": [{"a": a, "b": b, "relation": relation} for a, b, relation in g.weights],
    }


def _piece(piece: Piece) -> dict[str, Any]:
    steps = [{"name": s.name, "type": s.type, "settings": dict(s.settings), "weights": list(s.weights)} for s in piece.steps]
    return {"name": piece.name, "inputs": list(piece.inputs), "steps": steps}


def print_verified(screen: Screen, verified: Verified, options: VerifyOptions, everything: bool) -> None:
    """What was compared, layer by layer, and what came of it."""
    c = verified.comparison
    if not screen.quiet:
        rows = [*_sides(screen, verified), ("fed", _fed(screen, verified, options)), ("matched", _ways(c.matching.ways))]
        screen.aligned([*rows, *([("weights", _beside(screen, verified.weights))] if verified.weights is not None else [])])
        _print_table(screen, verified, everything)
    _print_verdict(screen, verified)
    if verified.divergence is not None:
        _print_divergence(screen, verified.divergence, everything)
    if screen.quiet:
        return
    for label, names in (("A", c.matching.only_a), ("B", c.matching.only_b)):
        if names:
            screen.aside("note", f"{count(len(names), 'value')} of {label} without a partner: {screen.listed(names)}")
    if c.matching.ambiguous:
        screen.aside("note", f"made alike, and matched in their order: {screen.listed(c.matching.ambiguous)}")
    if c.missing and verified.failed is None:
        screen.aside("note", f"not seen when run: {screen.listed([p.a for p in c.missing])}")
    for text in verified.notices:
        screen.aside("note", screen.name(text))


def _sides(screen: Screen, verified: Verified) -> list[tuple[str, str]]:
    return [
        (letter, f"{screen.name(side.label.replace(',', ', '))}: {side.kind}, {count(side.steps, 'layer')}, {_ran(side)}")
        for letter, side in (("A", verified.a), ("B", verified.b))
    ]


def _ran(side: SideInfo) -> str:
    return "recorded" if side.runner == "recorded" else f"run by {side.runner}"


def _fed(screen: Screen, verified: Verified, options: VerifyOptions) -> str:
    feeding = options.feeding
    if feeding.inputs or feeding.image:
        return screen.name(feeding.inputs or feeding.image or "")
    if "golden" in (verified.a.kind, verified.b.kind):
        return "what was recorded"
    kind = "normal, mean 0 and variance 1" if feeding.fill != "uniform" else "uniform from 0 to 1"
    return f"made-up values, {kind}, seed {feeding.seed or 0}"


def _ways(ways: Mapping[str, int]) -> str:
    words = {"name": "by name", "layers.json": "by layers.json", "output": "as outputs", "structure": "by structure", "order": "by order"}
    return ", ".join(f"{number:,} {words[way]}" for way, number in ways.items())


def _beside(screen: Screen, weights: Beside) -> str:
    words = [
        (weights.moved, "the same values in another order"),
        (weights.scaled, "a number times A's"),
        (len(weights.apart), "different"),
    ]
    said = [f"{weights.equal:,} of {weights.count:,} equal bit for bit", *(f"{number:,} {what}" for number, what in words if number)]
    if (worst := weights.worst) is not None:
        said.append(f"'{screen.name(worst.b)}' most, by {worst.relative:.1e} of its largest magnitude")
    return ", ".join(said) + (f"; {len(weights.alone):,} of B's have no like in A" if weights.alone else "")


def _print_table(screen: Screen, verified: Verified, everything: bool) -> None:
    compared = verified.comparison.compared
    # Of equal ones the first, of the others the worst.
    rows = compared if everything else sorted(compared, key=lambda c: -c.relative if not math.isnan(c.relative) else -math.inf)[:ROWS]
    if not rows:
        return
    screen.table(COLUMNS, [_row(screen, c) for c in rows])
    if len(rows) < len(compared):
        screen.line(f"…{len(compared) - len(rows):,} that are nearer (--all, in the order of the layers)")


def _row(screen: Screen, c: Compared) -> tuple[str | Cell, ...]:
    verdict = Cell("same", "good") if c.problem is None else Cell("different", "bad")
    name, other = screen.name(c.pair.a), screen.name(c.pair.b) if c.pair.b != c.pair.a else ""
    kind = c.a.type if c.a is not None else c.b.type if c.b is not None else ""
    shape = shape_text(c.shapes[0]) + ("" if c.shapes[0] == c.shapes[1] else f" ({shape_text(c.shapes[1])})")
    m = c.measured
    if m is None:
        return name, other, kind, shape, "", "", "", "", "", Cell("other shape", "bad")
    cosine = "" if m.cosine is None else cosine_text(m.cosine)
    snr = "∞" if m.snr == math.inf else f"{m.snr:.0f} dB"
    return name, other, kind, shape, amount_text(m.max_abs), amount_text(m.relative), snr, f"{m.max_ulp:,}", cosine, verdict


def _print_verdict(screen: Screen, verified: Verified) -> None:
    c = verified.comparison
    if verified.failed is not None:
        screen.paragraph(f"B cannot be run as a whole: {screen.name(verified.failed)}", "different: ")
        return
    first = c.first
    if first is None and any(c.lost):
        _print_lost(screen, c)
        return
    if first is None:
        assert c.worst is not None
        if not screen.quiet:
            equal = sum(entry.measured is not None and entry.measured.max_abs == 0 for entry in c.compared)
            most = f"{c.worst.relative:.1e} of a value's largest magnitude at most, at '{screen.name(c.worst.pair.a)}'"
            rest = f"{equal:,} of them equal, the others within {most}; {c.tolerance:g} is allowed"
            screen.paragraph(f"{count(len(c.compared), 'value')}, {'all of them equal' if equal == len(c.compared) else rest}", "same: ")
        return
    wrong = sum(entry.problem is not None for entry in c.compared)
    screen.paragraph(
        f"{wrong:,} of {count(len(c.compared), 'value')}, '{screen.name(first.pair.a)}' the first: {_said(first)}", "different: "
    )


def _print_lost(screen: Screen, c: Comparison) -> None:
    lost = [f"'{screen.name(name)}' of {letter}" for letter, names in zip("AB", c.lost, strict=True) for name in names]
    agree = f"{count(len(c.compared), 'value')} {'agrees' if len(c.compared) == 1 else 'agree'}"
    were = f"{count(len(lost), 'output')} {'was' if len(lost) == 1 else 'were'}"
    said = f"{agree}, and {were} compared with no output of the other network: {', '.join(lost)}"
    screen.paragraph(said, "not the same: ")
    screen.paragraph("call outputs alike, or say '--layers layers.json', if the other network makes them too", "  to do: ")


def _said(c: Compared) -> str:
    if c.measured is None:
        return f"{c.problem}, {shape_text(c.shapes[0])} and {shape_text(c.shapes[1])}"
    apart = f", {c.measured.apart:,} of them NaN or infinite in one alone" if c.measured.apart else f" by {c.relative:.1e} at most"
    return f"{c.problem}{apart}"


def _print_divergence(screen: Screen, d: Divergence, everything: bool) -> None:
    if d.verdict == "accumulated":
        screen.paragraph("given the other side's values every layer makes the same: rounding adds up, and no layer is wrong", "  ")
        return
    if d.guilty is None:
        reasons = list(dict.fromkeys(e.problem for e in d.examined if e.problem))
        screen.paragraph(f"which layer is wrong cannot be told: {screen.name('; '.join(reasons[:3])) or 'none can be run alone'}", "  ")
        ways = "a Caffe net, an ONNX model, one of TensorRT, or a module that torch.fx can trace"
        screen.paragraph(f"compare with a network whose layers can be run: {ways}", "  to do: ")
        return
    _print_guilty(screen, d.guilty, d.replayed.upper())
    if d.others:
        names = [e.pair.a for e in d.others]
        screen.paragraph(f"{count(len(names), 'layer')} more {'is' if len(names) == 1 else 'are'} wrong too: {screen.listed(names)}", "  ")
    inherits = sum(e.own is not None and not e.is_wrong() for e in d.examined)
    if everything and inherits:
        screen.line(f"  {count(inherits, 'more value')} only inherit it: given the other side's values, the same comes out")


def _print_guilty(screen: Screen, g: Guilty, replayed: str) -> None:
    e = g.examined
    own = e.problem or "of another shape"
    if e.own is not None:
        own = f"{e.own.apart:,} numbers are NaN or infinite in one alone" if e.own.apart else f"off by {e.own.relative:.1e} of the scale"
    how = f", {replayed}'s layer run on the other's inputs" if e.forced else ", its inputs being the same"
    screen.paragraph(f"'{screen.name(e.pair.a)}' is wrong by itself: {own}{how}", "  ")
    for letter, piece in (("A", g.a), ("B", g.b)):
        for step in piece.steps if piece is not None else ():
            said = ", ".join(f"{name} {value}" for name, value in step.settings.items())
            screen.paragraph(screen.name(f"{step.type} '{step.name}'{': ' if said else ''}{said}"), f"  {letter}  ")
    for a, b, relation in g.weights:
        screen.paragraph(f"B's '{screen.name(b)}' beside A's '{screen.name(a)}': {screen.name(relation)}", "  weights: ")
    if not g.tried:
        screen.paragraph("no cause can be tried: neither side's layer is known as ONNX, and seen with all it reads", "  ")
        screen.paragraph("compare with the Caffe net or the ONNX model, where there is one", "  to do: ")
    elif not g.causes:
        screen.line("  no known cause explains it")
    for number, cause in enumerate(g.causes):
        screen.paragraph(
            f"{cause.cause.name}. A: {screen.name(cause.a)}. B: {screen.name(cause.b)}. With that {cause.after:.1e} is left.",
            "  or, which explains it as well: " if number else "  cause: ",
        )
        screen.paragraph(cause.cause.fix, "  to do: ")
