"""What `porter tensorrt verify` shows: every value that was compared, the verdict, where it goes wrong, and what cannot be known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.cli.quantities import count, shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column

if TYPE_CHECKING:
    from porter.tensorrt.checking.values import Compared
    from porter.tensorrt.verifying import Verified, VerifyOptions

COLUMNS = (
    Column("VALUE", fit="shrink"),
    Column("LAYER", fit="shrink"),
    Column("TYPE", fit="drop"),
    Column("SHAPE", fit="drop"),
    Column("AGAINST", fit="drop"),
    Column("DIFFERENCE", align="right"),
    Column("VERDICT"),
)

LAYERS = (Column("TYPE"), Column("ONNX", fit="wrap"), Column("REFUSED", fit="wrap"))

AGAINST = {"original": "the original", "record": "the record", "engine": "the engine"}


def document(source: str, weights: str | None, options: VerifyOptions, verified: Verified) -> dict[str, Any]:
    """The result as JSON."""
    from porter.tensorrt.checking.values import UNKNOWN_WITHOUT_GPU, settings

    v, first = verified.verification, verified.verification.first
    return {
        "source": source,
        "weights": weights,
        "network": options.network,
        "package": {"name": verified.package.name, "version": verified.package.version},
        "same": verified.same,
        "tolerance": v.tolerance,
        "fed": {"input": options.inputs, "golden": options.golden, "seed": None if options.inputs or options.golden else options.seed},
        "first": {**_compared(first), "settings": settings(first.layer) if first.layer is not None else {}} if first is not None else None,
        "compared": [_compared(c) for c in v.compared],
        "left": list(v.left),
        "covered": dict(v.covered),
        "held": {"weights": verified.weights.held, "equal": verified.weights.equal, "others": list(verified.weights.others)},
        "engine": [_compared(c) for c in verified.engine] if verified.engine is not None else None,
        "notices": list(verified.notices),
        "unknown": list(UNKNOWN_WITHOUT_GPU),
    }


def _compared(c: Compared) -> dict[str, Any]:
    return {
        "value": c.value,
        "tensor": c.tensor,
        "layer": c.layer.name if c.layer is not None else None,
        "type": c.type,
        "against": c.against,
        "shape": list(c.shape),
        "difference": c.difference,
        "scale": c.scale,
        "relative": c.relative,
        "same": c.problem is None,
        "place": list(c.place) if c.place is not None else None,
        "wanted": c.wanted,
        "found": c.found,
        "problem": c.problem,
        "itself": c.itself,
        "follows": c.follows,
    }


def print_verified(screen: Screen, source: str, weights: str | None, options: VerifyOptions, verified: Verified) -> None:
    """What was compared, layer by layer, and what came of it."""
    from porter.tensorrt.checking.values import UNKNOWN_WITHOUT_GPU

    v = verified.verification
    if not screen.quiet:
        read = ", ".join(screen.name(path) for path in (source, weights, options.wts) if path)
        fed = screen.name(options.golden or options.inputs or "") or f"made-up values, seed {options.seed}"
        rows = [("read", read), ("built", str(verified.package)), ("fed", fed)]
        if options.network is not None:
            rows.insert(1, ("by hand", screen.name(options.network)))
        screen.aligned(rows)
        compared = [*v.compared, *(verified.engine or ())]
        if compared:
            screen.brief_table(COLUMNS, [_row(screen, c) for c in compared])
        screen.aligned([("layers", ", ".join(f"{number:,} {kind}" for kind, number in v.covered.items()))])
    _print_weights(screen, verified)
    _print_verdict(screen, verified)
    if screen.quiet:
        return
    if v.left:
        screen.aside("note", f"no tensor of TensorRT holds {count(len(v.left), 'value')} of the original: {screen.listed(v.left)}")
    for text in verified.notices:
        screen.aside("note", screen.name(text))
    if verified.engine is None:
        for text in UNKNOWN_WITHOUT_GPU:
            screen.aside("note", f"not known without a GPU: {text}")


def _row(screen: Screen, c: Compared) -> tuple[str | Cell, ...]:
    verdict = Cell("same", "good") if c.problem is None else Cell("follows", "dim") if c.follows else Cell("different", "bad")
    layer = screen.name(c.layer.name) if c.layer is not None else ""
    return screen.name(c.value), layer, c.type, shape_text(c.shape), c.against, f"{c.relative:.1e}", verdict


def _print_weights(screen: Screen, verified: Verified) -> None:
    found = verified.weights
    if not screen.quiet:
        where = "in the files, or in porter's layers" if verified.by_hand else "equal to the network's"
        screen.line(f"weights: {found.equal:,} of {found.held:,} are {where}, bit for bit")
    if not screen.quiet or not verified.by_hand:
        shown = found.others if screen.verbose else found.others[:10]
        for text in shown:
            screen.paragraph(screen.name(text), "other weights: ")
        if len(shown) < len(found.others):
            screen.line(f"…{len(found.others) - len(shown):,} more (-v)")


def _print_verdict(screen: Screen, verified: Verified) -> None:
    v = verified.verification
    wrong = [c for c in (*v.compared, *(verified.engine or ())) if c.problem is not None and not c.follows]
    if not v.compared:
        screen.line("different: the networks have no value in common")
    elif wrong:
        _print_first(screen, wrong, len(v.drifted))
    elif not screen.quiet:
        assert v.worst is not None
        most = f"by {v.worst.relative:.1e} of a value's largest magnitude at most, at '{screen.name(v.worst.value)}'"
        counts = [(kind, sum(c.against == kind for c in (*v.compared, *(verified.engine or ())))) for kind in AGAINST]
        said = ", ".join(f"{number:,} with {AGAINST[kind]}" for kind, number in counts if number)
        screen.paragraph(f"{count(len(v.compared) + len(verified.engine or ()), 'value')} ({said}), {most}", "same: ")
        if v.drifted:
            far = max(v.drifted, key=lambda c: c.relative)
            text = f"of these {count(len(v.drifted), 'value')} drift further apart, by {far.relative:.1e} at '{screen.name(far.value)}'"
            screen.paragraph(f"{text}: rounding adds up, and given the original's values every layer makes the same", "  ")


def _print_first(screen: Screen, wrong: Sequence[Compared], drifted: int) -> None:
    """Where it goes wrong first, with the layer's own parameters."""
    from porter.tensorrt.checking.values import settings

    c = wrong[0]
    screen.paragraph(f"'{screen.name(c.value)}', against {AGAINST[c.against]}: {c.problem}", "different: ")
    if c.place is not None:
        at = ", ".join(map(str, c.place))
        sides = f"{c.found:g} in TensorRT, {c.wanted:g} in {AGAINST[c.against]}"
        screen.paragraph(f"first at [{at}]: {sides}; {c.scale:g} is the largest magnitude", "  ")
    if c.layer is not None:
        said = ", ".join(f"{name} {value}" for name, value in settings(c.layer).items())
        screen.paragraph(screen.name(f"{c.type} '{c.layer.name}'{': ' if said else ''}{said}"), "  made by ")
    if len(wrong) > 1:
        few = screen.listed(list(dict.fromkeys(c.value for c in wrong[1:])))
        screen.paragraph(f"and {count(len(wrong) - 1, 'value')} that {'is' if len(wrong) == 2 else 'are'} wrong too: {few}", "  ")
    if drifted:
        said = "follows" if drifted == 1 else "follow"
        text = f"{count(drifted, 'value')} more {said} from what comes before"
        screen.paragraph(f"{text}: given the original's values, these layers make the same", "  ")


def print_layers(screen: Screen) -> None:
    """Every type of layer that can be verified."""
    from porter.tensorrt.expression.table import TABLE

    rows = sorted((kind, e.onnx, e.refused) for e in TABLE.values() for kind in (e.type, *e.read_as))
    if screen.json:
        screen.document({"layers": [{"type": kind, "onnx": onnx, "refused": refused} for kind, onnx, refused in rows]})
    else:
        screen.table(LAYERS, rows)
