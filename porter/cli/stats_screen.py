"""What `porter stats` prints: tables, lines that sum up, histograms of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.check.statistics.comparison import Compared
from porter.check.statistics.histograms import Linear, Octaves
from porter.check.statistics.levels import Quantiles
from porter.check.statistics.measure import EqualTensors, Group, Statistics, TensorStatistics
from porter.check.statistics.summary import Counts, Number
from porter.cli.quantities import bytes_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column
from porter.store import TensorStore

COLUMNS = (
    Column("TENSOR", fit="shrink"),
    Column("SHAPE", fit="drop"),
    Column("DTYPE", fit="drop"),
    Column("KIND", fit="drop"),
    Column("MEAN", "right"),
    Column("STD", "right"),
    Column("MIN", "right"),
    Column("MAX", "right"),
    Column("|MIN|>0", "right", fit="drop"),
    Column("ZEROS", "right"),
    Column("SPREAD", "right", fit="drop"),
)

PAIRS = (
    Column("TENSOR", fit="shrink"),
    Column("MEAN A", "right", fit="drop"),
    Column("MEAN B", "right", fit="drop"),
    Column("STD A", "right"),
    Column("STD B", "right"),
    Column("RANGE A"),
    Column("RANGE B"),
    Column("OVERLAP", "right"),
)

WIDTH = 80
"""Characters of a line of a histogram."""

FEW = 8
"""Places that a line names before it only counts the rest."""


def overview(screen: Screen, result: Statistics, everything: bool, quantiles: bool) -> None:
    """One row for each tensor, then the whole by kind, then equal tensors."""
    if screen.quiet:
        return
    shown = screen.first(result.tensors, everything)
    remarks = [_remarks(t) for t in shown]
    rows: list[tuple[str | Cell, ...]]
    if quantiles:
        rows = [(screen.name(t.spec.name), *_quantile_row(t)) for t in shown]
        columns = _quantile_columns()
    else:
        rows, columns = [_row(screen, t) for t in shown], list(COLUMNS)
    if rows and screen.terminal:
        screen.table(columns, rows, [screen.styled(f"  {r}", "dim") if r else "" for r in remarks])
    elif rows:
        screen.table([*columns, Column("NOTES")], [(*row, remark) for row, remark in zip(rows, remarks, strict=True)])
    screen.more(len(result.tensors) - len(shown))
    for group in result.groups:
        _group(screen, group)
    _equal(screen, result.equal)


def _row(screen: Screen, one: TensorStatistics) -> tuple[str | Cell, ...]:
    s = one.summary
    channels = s.channels
    return (
        screen.name(one.spec.name),
        shape_text(one.spec.shape),
        one.spec.dtype.short,
        "" if one.kind == "parameter" else one.kind,
        _amount(s.mean),
        _amount(s.std),
        _amount(s.minimum.value if s.minimum else None),
        _amount(s.maximum.value if s.maximum else None),
        _amount(s.smallest),
        _part(s.counts.zeros, s.counts.numbers),
        f"{channels.spread:.1f}×" if channels is not None and channels.spread is not None else "",
    )


def _quantile_columns() -> list[Column]:
    from porter.check.statistics.measure import PROBABILITIES

    ends = (PROBABILITIES[0], PROBABILITIES[-1])
    parts = [Column(f"{100 * p:g}%", "right", fit="drop" if p in ends else "keep") for p in PROBABILITIES]
    return [Column("TENSOR", fit="shrink"), Column("MIN", "right", fit="drop"), *parts, Column("MAX", "right", fit="drop")]


def _quantile_row(one: TensorStatistics) -> tuple[str, ...]:
    from porter.check.statistics.measure import PROBABILITIES

    s = one.summary
    found: Quantiles | None = one.distribution.quantiles if one.distribution is not None else None
    values = [_short(v) for v in found.value] if found is not None else [""] * len(PROBABILITIES)
    return (_amount(s.minimum.value if s.minimum else None), *values, _amount(s.maximum.value if s.maximum else None))


def _remarks(one: TensorStatistics) -> str:
    """What is out of the ordinary, in words."""
    c, channels = one.summary.counts, one.summary.channels
    parts = _strange(c)
    if channels is not None and channels.dead:
        which = ", ".join(map(str, channels.dead[:FEW])) + (f" and {len(channels.dead) - FEW:,} more" if len(channels.dead) > FEW else "")
        parts.append(f"{len(channels.dead):,} of {count(channels.count, 'channel')} dead ({which})")
    return ", ".join(parts)


def _strange(c: Counts) -> list[str]:
    named = ((c.nan, "NaN"), (c.positive_infinite, "+Inf"), (c.negative_infinite, "-Inf"), (c.subnormal, "subnormal"))
    return [f"{n:,} {what}" for n, what in (*named, (c.negative_zeros, "-0")) if n]


def _group(screen: Screen, group: Group) -> None:
    size = f"{count(group.elements, 'element')} in {count(group.tensors, 'tensor')}, {bytes_text(group.nbytes)}"
    parts = [size]
    if group.minimum is not None and group.maximum is not None and group.kind != "counter":
        parts.append(f"mean {_amount(group.mean)}, std {_amount(group.std)}")
        parts.append(f"min {_amount(group.minimum.value)} in {screen.name(group.minimum.tensor)}")
        parts.append(f"max {_amount(group.maximum.value)} in {screen.name(group.maximum.tensor)}")
        zeros = f"{_part(group.counts.zeros, group.counts.numbers) or '0%'} zeros"
        parts.append(f"smallest {_amount(group.smallest)}, {zeros}" if group.smallest is not None else zeros)
    strange = _strange(group.counts)
    if strange and group.kind != "counter":
        parts.append(", ".join(strange))
    screen.paragraph(" · ".join(parts), f"{group.kind + 's':<12}")


def _equal(screen: Screen, groups: Sequence[EqualTensors]) -> None:
    constant = [g for g in groups if g.constant and not g.tied]
    telling = [g for g in groups if not g.constant or g.tied]
    for group in telling if screen.verbose or not screen.terminal else telling[:5]:
        screen.paragraph(screen.listed(group.names, 6), "tied        " if group.tied else "equal       ")
    if screen.terminal and not screen.verbose and len(telling) > 5:
        screen.line(f"…{len(telling) - 5:,} more groups of equal tensors (-v)")
    if constant:
        tensors = sum(len(g.names) for g in constant)
        screen.paragraph(f"{count(tensors, 'tensor')} in {count(len(constant), 'group')}, each one number all through", "equal       ")


def histograms(screen: Screen, result: Statistics, scale: str, everything: bool) -> None:
    """A histogram of text for each tensor that the table shows."""
    for one in screen.first(result.tensors, everything):
        spread = one.distribution
        if spread is None or spread.linear is None or spread.octaves is None:
            continue
        screen.line()
        screen.line(screen.styled(f"{screen.name(one.spec.name)}  {shape_text(one.spec.shape)}", "head"))
        lines = _linear_lines(spread.linear) if scale == "linear" else _octave_lines(spread.octaves)
        most = max((n for _, n in lines), default=1) or 1
        labels, counts = max((len(label) for label, _ in lines), default=0), len(f"{most:,}")
        room = WIDTH - labels - counts - 3
        for label, n in lines:
            bar = "█" * (max(round(room * n / most), 1) if n else 0)
            screen.line(f"{label:<{labels}}  {bar:<{room}} {n:>{counts},}")


def _linear_lines(found: Linear) -> list[tuple[str, int]]:
    """Label and count of each bin, two bins taken together where there are many."""
    step, first, counts = found.step, found.first, list(found.count)
    while len(counts) > 24:
        if first % 2:
            first, counts = first - 1, [0, *counts]
        if len(counts) % 2:
            counts.append(0)
        step, first, counts = step * 2, first // 2, [a + b for a, b in zip(counts[::2], counts[1::2], strict=True)]
    edges = [_amount((first + i) * step) for i in range(len(counts) + 1)]
    width = max(map(len, edges))
    return [(f"{low:>{width}} … {high:>{width}}", n) for low, high, n in zip(edges, edges[1:], counts, strict=False)]


def _octave_lines(found: Octaves) -> list[tuple[str, int]]:
    both = [a + b for a, b in zip(found.negative, found.positive, strict=True)]
    rows = [(f"2^{found.first + i:<5} ≤ |x| < 2^{found.first + i + 1}", n) for i, n in enumerate(both)]
    rows = [("nearer to 0", found.below)] * bool(found.below) + rows
    return [("0", found.zeros)] * bool(found.zeros) + rows


def comparison(screen: Screen, found: Sequence[Compared], everything: bool) -> None:
    """One row for each pair."""
    if screen.quiet:
        return
    shown = screen.first(found, everything)
    screen.table(PAIRS, [_pair(screen, c) for c in shown])
    screen.more(len(found) - len(shown))


def _pair(screen: Screen, c: Compared) -> tuple[str | Cell, ...]:
    a, b = c.a.summary, c.b.summary
    overlap = "" if c.overlap is None else f"{c.overlap:.1%}"
    return (
        screen.name(c.a.spec.name),
        *(_short(x) if x is not None else "" for x in (a.mean, b.mean, a.std, b.std)),
        *(f"{_short(s.minimum.value)}…{_short(s.maximum.value)}" if s.minimum and s.maximum else "" for s in (a, b)),
        overlap,
    )


def unpaired(screen: Screen, a: TensorStore, b: TensorStore) -> None:
    """Names that only one of the files has."""
    if screen.quiet:
        return
    for side, names in (("a", [n for n in a if n not in b]), ("b", [n for n in b if n not in a])):
        if names:
            screen.line(f"only in {side}: {screen.listed(names)}")


def _amount(value: Number | None) -> str:
    """Four digits; whole numbers as they are up to seven."""
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e7):
        return f"{int(value):,}" if abs(value) < 1e7 else f"{value:.3e}"
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e7 else f"{value:.2e}"


def _short(value: Number) -> str:
    """Three digits, two of small numbers, in at most nine characters."""
    return f"{value:.3g}" if not value or not math.isfinite(value) or abs(value) >= 1e-3 else f"{value:.1e}"


def _part(some: int, whole: int) -> str:
    """A part in percent, "" for none; what is not all is never 100%."""
    if not some:
        return ""
    percent = 100 * some / whole
    return "100%" if some == whole else f"{min(percent, 99.9):.1f}%" if percent >= 0.05 else "<0.1%"
