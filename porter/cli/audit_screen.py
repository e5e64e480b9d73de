"""What `porter audit` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.check.precision.audit import Audit, TensorAudit
from porter.check.precision.costs import Cost
from porter.check.precision.epsilons import Epsilon
from porter.check.precision.equalisation import Advice
from porter.check.precision.folding import FoldedAudit
from porter.check.precision.targets import TARGETS
from porter.check.precision.verdicts import LOST, WATCHED_SNR, Judged, landing
from porter.cli.quantities import bytes_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column

DETAILS = (
    Column("TENSOR", fit="shrink"),
    Column("TYPE"),
    Column("WAY"),
    Column("OVERFLOW", "right"),
    Column("ZERO", "right"),
    Column("SUBNORMAL", "right"),
    Column("MAX REL", "right", fit="drop"),
    Column("RMS REL", "right", fit="drop"),
    Column("SNR", "right"),
)

TOTALS = (
    Column("TYPE"),
    Column("OVERFLOW", "right"),
    Column("ZERO", "right"),
    Column("SUBNORMAL", "right"),
    Column("SNR", "right"),
    Column("OK", "right"),
    Column("PER-CHANNEL", "right"),
    Column("KEEP F32", "right"),
    Column("BYTES", "right"),
)


OVERFLOW = "overflow"


def overview(screen: Screen, result: Audit, everything: bool) -> None:
    """One row for each tensor, one column for each type."""
    shown = screen.first(result.tensors, everything)
    if shown:
        columns = [Column("TENSOR", fit="shrink"), Column("SHAPE", fit="drop")]
        columns += [Column(t.name.upper(), fit="keep" if i < 4 else "drop") for i, t in enumerate(result.targets)]
        rows = [(screen.name(t.spec.name), shape_text(t.spec.shape), *(_cell(v) for v in t.verdicts)) for t in shown]
        remarks = [_remarks(t) for t in shown]
        if screen.terminal:
            screen.table(columns, rows, [screen.styled(_short(screen, f"  {r}"), "dim") if r else "" for r in remarks])
        else:
            screen.table([*columns, Column("NOTES")], [(*row, r) for row, r in zip(rows, remarks, strict=True)])
    screen.more(len(result.tensors) - len(shown))
    for what in dict.fromkeys(p.what for p in result.passed_over):
        names = [p.name for p in result.passed_over if p.what == what]
        screen.paragraph(f"{count(len(names), 'tensor')} of {what} left as they are ({screen.listed(names)})")


def _short(screen: Screen, text: str) -> str:
    return text if screen.width is None or len(text) <= screen.width else text[: screen.width - 1] + "…"


def _cell(judged: Judged) -> str | Cell:
    said = _snr(judged)
    # Of overflow the line below tells.
    snr = f" {said}" if said not in ("", OVERFLOW) else ""
    if judged.verdict == "keep f32":
        return Cell(f"keep f32{snr}", "bad")
    return Cell(f"{judged.verdict}{snr}", "good") if judged.verdict == "ok" else f"{judged.verdict}{snr}"


def _snr(judged: Judged) -> str:
    """That of the best way; where numbers overflow in a cast, or the type lacks NaN, what is left of the others says nothing."""
    best = judged.best
    return "" if best is None or judged.lacking else OVERFLOW if best.overflow and best.scheme is None else _decibels(best.snr)


def _decibels(snr: float | None) -> str:
    """`73.7`, or `exact`."""
    return "exact" if snr is None or math.isinf(snr) else f"{round(snr, 1) + 0:.1f}"


def _remarks(one: TensorAudit) -> str:
    """Why not, for each type, and what the tensor holds that is no number."""
    parts = [f"{v.target}: {v.reason}" for v in one.verdicts if v.verdict == "keep f32" and v.costs]
    c = one.summary.counts
    good = [v for v in one.verdicts if v.verdict != "keep f32" and v.best is not None]
    parts += [f"{v.target}: {said}" for v in good if v.best is not None and (said := landing(v.best, c.finite)) is not None]
    parts += [f"{n:,} {what}" for n, what in ((c.nan, "NaN"), (c.infinite, "Inf")) if n]
    return "; ".join(parts)


def details(screen: Screen, result: Audit, everything: bool) -> None:
    """A row for each way into each type."""
    screen.line()
    rows = [(screen.name(t.spec.name), *_costs(c)) for t in screen.first(result.tensors, everything) for v in t.verdicts for c in v.costs]
    if rows:
        screen.table(DETAILS, rows)


def _costs(cost: Cost) -> tuple[str, ...]:
    return (
        cost.target,
        str(cost.scheme) if cost.scheme is not None else "cast",
        *(f"{n:,}" if n else "" for n in (cost.overflow, cost.underflow, cost.subnormal)),
        f"{cost.max_relative:.2g}" if cost.max_relative is not None else "",
        f"{cost.relative:.2g}" if cost.relative is not None else "",
        _decibels(cost.snr) if not cost.overflow or cost.scheme is not None else "",
    )


def totals(screen: Screen, result: Audit, small: Sequence[Epsilon]) -> None:
    """All tensors together, by type, what the verdicts rest on, and what becomes of epsilons."""
    screen.line()
    rows = [
        (
            t.target,
            *(f"{n:,}" for n in (t.overflow, t.underflow, t.subnormal)),
            _decibels(t.snr) if not t.overflow or TARGETS[t.target].scaled else "",
            *(f"{n:,}" for n in (t.ok, t.per_channel, t.keep)),
            bytes_text(t.nbytes),
        )
        for t in result.totals
    ]
    screen.table(TOTALS, rows)
    watched = sum(t.watch is not None for t in result.tensors)
    rules = f"ok: no overflow, at most {LOST:.1%} become zero, SNR ≥ {result.least_snr:g} dB"
    if watched:
        rules += f"; {count(watched, 'variance and slope tensor')}: none lost or subnormal, SNR ≥ {max(WATCHED_SNR, result.least_snr):g} dB"
    screen.paragraph(rules)
    for e in small:
        if e.becomes != e.eps:
            how = "becomes zero" if not e.becomes else f"becomes {e.becomes:.6g}, subnormal" if e.subnormal else ""
            how = "overflows" if e.becomes is None else how
            if how:
                assumed = " (assumed; --eps states it, --fold reads an ONNX graph's)" if e.assumed else ""
                screen.paragraph(f"an epsilon of {e.eps:g}{assumed} {how} in {e.target}: add it in float32")


def folded(screen: Screen, result: Audit, tensors: Sequence[FoldedAudit], everything: bool, *, guessed: bool) -> None:
    """Weights and biases before and after their normalisation is folded in. guessed: by the order of the file."""
    screen.line()
    if not tensors:
        where = "stands behind a weight in this file" if guessed else "can be folded in this network"
        screen.line(f"no batch normalisation {where}")
        return
    shown = screen.first(tensors, everything)
    columns = [Column("FOLDED", fit="shrink")]
    columns += [Column(t.name.upper(), fit="keep" if i < 3 else "drop") for i, t in enumerate(result.targets)]
    rows = [(screen.name(f.after.spec.name), *_changes(f)) for f in shown]
    screen.table(columns, rows)
    screen.more(len(tensors) - len(shown))
    if guessed:
        screen.paragraph("a guess: the file does not say what follows what, and each normalisation is taken to follow the weight before it")
    else:
        screen.paragraph("what follows what is the graph's; SNR in dB before → after, and the verdict where it changes")


def _changes(one: FoldedAudit) -> list[str | Cell]:
    if one.before is None:
        return [_cell(after) for after in one.after.verdicts]
    return [_change(before, after) for before, after in zip(one.before.verdicts, one.after.verdicts, strict=True)]


def _change(before: Judged, after: Judged) -> str | Cell:
    """`73.7→73.9`, with the verdict where it changes."""
    changed = f" {after.verdict}" if after.verdict != before.verdict else ""
    if before.best is None or after.best is None:
        return after.verdict
    text = f"{_snr(before)}→{_snr(after)}{changed}"
    return Cell(text, "bad") if changed and after.verdict == "keep f32" else text


def equalisation(screen: Screen, advice: Sequence[Advice], *, guessed: bool) -> None:
    """Pairs of weights whose channels could be made more even. guessed: by the order of the file."""
    screen.line()
    if not advice:
        screen.line("no pair of weights would gain from equalisation")
        return
    columns = (Column("EQUALISE", fit="shrink"), Column("WITH", fit="shrink"), Column("SPREAD", "right"), Column("AFTER", "right"))
    screen.table(columns, [(screen.name(a.first), screen.name(a.second), f"{a.before:.1f}×", f"{a.after:.1f}×") for a in advice])
    if guessed:
        screen.paragraph(
            "a guess by the order of the file: it holds where the second takes what the first gives, through nothing but ReLU, PReLU or"
            " pooling, and nothing else reads it"
        )
    else:
        screen.paragraph("the second alone reads what the first gives, through nothing but ReLU, PReLU or pooling")
