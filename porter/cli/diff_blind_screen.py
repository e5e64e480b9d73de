"""What `porter diff --layout-blind` prints: a line for each tensor, or for all whose names differ in their numbers alone; a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from porter.check.layout_blind.records import WORDS, Excused, LayoutBlind, Permutation, Relation
from porter.cli.quantities import count
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column
from porter.dtypes import DTYPES

COLUMNS = (
    Column("A", fit="shrink"),
    Column("B", fit="shrink"),
    Column("TENSORS", "right"),
    Column("RELATION", fit="wrap"),
)

_NUMBER = re.compile(r"\d+")


def print_blind(screen: Screen, result: LayoutBlind, everything: bool) -> None:
    """Groups, permutations, what is left over, and the verdict."""
    groups = _groups(result.relations)
    plain = [g for g in groups if not g[0].steps]
    rows = groups if everything else [g for g in groups if g[0].steps]
    shown = screen.first(rows, everything)
    if shown:
        screen.table(COLUMNS, [_row(screen, g) for g in shown])
    screen.more(len(rows) - len(shown))
    if plain and not everything and rows:
        screen.line(f"…{sum(map(len, plain)):,} equal, names included (--all)")
    for permutation in result.permutations:
        screen.paragraph(_permutation(screen, permutation))
    _print_ambiguous(screen, result.relations)
    _print_excused(screen, result.excused)
    for side, names in (("a", result.only_a), ("b", result.only_b)):
        if names:
            screen.line(f"only in {side}: {screen.listed(names)}")
    screen.paragraph(verdict(result), style="good" if result.equal else "bad")


def _groups(relations: Sequence[Relation]) -> list[list[Relation]]:
    """Relations with the same steps, whose names are alike but for numbers; in the order of the first of each."""
    found: dict[tuple[object, ...], list[Relation]] = {}
    for r in relations:
        names = tuple([_NUMBER.sub("#", n) for n in (*r.a, "", *r.b)])
        # Names alone are shown as names; a reshape of other sizes is the same reshape.
        steps = tuple([s.kind if s.kind in ("name", "reshape") else s.text for s in r.steps])
        found.setdefault((names, steps), []).append(r)
    return list(found.values())


def _row(screen: Screen, group: Sequence[Relation]) -> tuple[str | Cell, ...]:
    a, b = (_name(screen, [getattr(r, side) for r in group]) for side in "ab")
    steps = [s.text for s in group[0].steps if s.kind != "name"]
    zero = sum(int(str(s.detail.get("zero", 0))) for r in group for s in r.steps)
    if zero and group[0].equal:
        steps.append(f"{zero:,} become zero" if zero > 1 else "1 becomes zero")
    if not steps:
        text: str | Cell = Cell("equal" if group[0].steps else "equal, names included", "dim")
    else:
        text = "; ".join(steps)
    return a, b, f"{len(group):,}", text if group[0].equal else Cell(f"DIFFERS: {'; '.join(steps)}", "bad")


def _name(screen: Screen, names: Sequence[tuple[str, ...]]) -> str:
    """The names of a group as one: `conv{1,2,3}.weight`, `layers.{1…24}.mlp.{0,2}.weight`; of a batch normalisation, the first and `…`."""
    first = [n[0] for n in names]
    more = f" +{len(names[0]) - 1}" if len(names[0]) > 1 else ""
    numbers = list(zip(*(_NUMBER.findall(n) for n in first), strict=True))
    parts = _NUMBER.split(first[0])
    text = parts[0]
    for values, part in zip(numbers, parts[1:], strict=True):
        text += _values(list(dict.fromkeys(values))) + part
    return screen.name(text + more)


def _values(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    return f"{{{','.join(values)}}}" if len(values) < 4 else f"{{{values[0]}…{values[-1]}}}"


def _permutation(screen: Screen, permutation: Permutation) -> str:
    order = permutation.order
    few = ", ".join(map(str, order[:8])) + (", …" if len(order) > 8 else "")
    uses = screen.listed([f"axis {u.axis} of {u.tensor}" for u in permutation.uses], 4)
    text = f"{permutation.name}: {len(order):,} channels, B's are A's [{few}]: {uses}"
    if permutation.stray:
        return f"{text}; another network, since these are not: {screen.listed(permutation.stray, 4)}"
    return text if permutation.followed else f"{text}; no other axis is seen to follow this order"


def _print_ambiguous(screen: Screen, relations: Iterable[Relation]) -> None:
    """Pairs that could as well be others."""
    by_reason: dict[str, list[str]] = {}
    for r in relations:
        if r.rivals or r.why:
            by_reason.setdefault(r.why or "one of several alike", []).append(r.b[0])
    for reason, names in by_reason.items():
        screen.paragraph(f"told by names or order alone, since values do not tell: {reason} ({screen.listed(names)})")


def _print_excused(screen: Screen, excused: Iterable[Excused]) -> None:
    by_text: dict[tuple[str, str, str], list[str]] = {}
    for e in excused:
        by_text.setdefault((e.side, e.kind, "" if e.kind == "tied" else e.text), []).append(e.name)
    for (side, kind, text), names in by_text.items():
        screen.paragraph(f"only in {side}, no difference: {text or WORDS[kind]} ({screen.listed(names)})")


def _kind(result: LayoutBlind, kind: str) -> str:
    """A kind in words, with what it is where that is one thing, how many tensors it is about, and how far from exact it may be."""
    steps = [s for r in result.relations if r.equal for s in r.steps if s.kind == kind]
    word = WORDS[kind]
    if kind == "rounding":
        types = dict.fromkeys(str(s.detail["to"]) for s in steps)
        word += f" to {' and '.join(DTYPES[t].short if t in DTYPES else t for t in types)}"
    elif kind == "scale":
        factors = dict.fromkeys(s.text.partition("× ")[2] for s in steps)
        word = f"a scale of {next(iter(factors))}" if len(factors) == 1 else "scales"
    apart = max([int(str(s.detail.get("ulp", 0))) for s in steps], default=0)
    return f"{word} ({result.counts[kind]:,}{f', within {apart} ULP' if apart else ''})"


def verdict(result: LayoutBlind) -> str:
    """One line: equal, and up to what; or not."""
    kinds = ", ".join(_kind(result, k) for k in result.up_to)
    pairs = count(sum(len(r.b) for r in result.relations if r.equal), "tensor")
    if result.equal:
        return f"equal up to {kinds}: {pairs} of B" if kinds else f"equal: {pairs}, names included"
    parts = []
    near = sum(any(s.kind == "near" for s in r.steps) for r in result.relations)
    other = sum(any(s.kind == "different" for s in r.steps) for r in result.relations)
    lost = sum(any(s.kind == "lost" for s in r.steps) for r in result.relations)
    for number, text in ((lost, "with numbers lost"), (near, "near, not equal"), (other, "with other values")):
        if number:
            parts.append(f"{number:,} {text}")
    astray = [p.name for p in result.permutations if p.stray]
    if astray:
        parts.append(f"{', '.join(astray)} not followed by all")
    unpaired = len(result.only_a) + len(result.only_b)
    if unpaired:
        parts.append(f"{unpaired:,} unpaired")
    if result.verdict == "unrelated":
        some = f"tensors with {result.shared:.1%} of B's numbers are" if result.shared else "no tensor of B is"
        return f"UNRELATED: {some} equal to one of A; {', '.join(parts)}"
    up_to = f" up to {kinds}" if kinds else ""
    return f"DIFFERS: {', '.join(parts)}; tensors with {result.shared:.1%} of B's numbers are equal{up_to}"
