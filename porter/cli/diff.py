"""`porter diff`: are the weights of two files the same, and if not, where and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from porter.check.compare import Comparison, TensorComparison, Tolerance, compare
from porter.cli.options import common_options, map_options, read_options_of_both, tolerance_options
from porter.cli.quantities import amount_text, cosine_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.table import Cell, Column
from porter.dtypes import DTYPES
from porter.errors import UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.check.layout_blind.records import LayoutBlind

COLUMNS = (
    Column("TENSOR", fit="shrink"),
    Column("SHAPE"),
    Column("MAX|Δ|", "right"),
    Column("ULP", "right"),
    Column("COSINE", fit="drop"),
    Column("NEEDS"),
    Column("VERDICT"),
)


@click.command("diff", short_help="Compare the weights of two files, bit for bit.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@tolerance_options
@click.option("--layout-blind", "blind", is_flag=True, help="Say what the two are equal up to, whatever their names and layouts.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show the tensors that are equal too.")
@click.option("--digest", is_flag=True, help="Print both weights digests; with --json each tensor's too.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 even if they differ.")
@map_options
@read_options_of_both
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    a: str,
    b: str,
    rtol: float | None,
    atol: float | None,
    ulp: int | None,
    blind: bool,
    everything: bool,
    digest: bool,
    exit_zero: bool,
    map_name: str | None,
    params: dict[str, str],
    from_a: str | None,
    from_b: str | None,
    select_a: str | None,
    select_b: str | None,
    net_a: str | None,
    net_b: str | None,
) -> ExitCode:
    """Compare the weights of A and B by name, whatever their formats: bit for bit unless a tolerance is given.

    With --map, what the map makes of A is compared with B: the two may have other names and layouts. Exits with 0 if they are
    equal, with 1 if they differ.

    With --layout-blind, names play no part: A and B may be equal up to transposes, flips, permutations of channels, batch normalisation
    folded in, a scale, padding, or rounding to a type. What it is stands in the verdict.
    """
    tolerance = Tolerance(rtol, atol, ulp)
    if blind and (digest or not tolerance.exact):
        hint = "leave out --rtol, --atol, --ulp and --digest"
        raise UsageError("U810", "--layout-blind compares exactly, and has no tolerance or digests", hint=hint)
    with (
        open_store(a, from_a, options=ReadOptions(select=select_a, net=net_a)) as left,
        open_store(b, from_b, options=ReadOptions(select=select_b, net=net_b)) as right,
    ):
        screen.notices([*left.notices, *right.notices])
        mapped = _mapped(left, right, map_name, params)
        seen = len(mapped.notices), len(right.notices)
        if mapped is not left:
            # Weights alone are compared: what else the map had to leave out is of no interest here.
            screen.notices([n for n in mapped.notices if n.kind != "skipped" or n.tensor is not None])
        work = mapped.nbytes + right.nbytes
        with screen.progress("comparing", work) as advance:
            result = _blind(mapped, right, advance) if blind else compare(mapped, right, tolerance, digests=digest, progress=advance)
        screen.notices([*mapped.notices[seen[0] :], *right.notices[seen[1] :]])
    if screen.json:
        screen.document(result.to_json())
    elif not screen.quiet:
        _print(screen, result, everything) if isinstance(result, Comparison) else _print_blind(screen, result, everything)
    return ExitCode.YES if result.equal or exit_zero else ExitCode.NO


def _blind(a: TensorStore, b: TensorStore, advance: Callable[[int], None] | None) -> LayoutBlind:
    # Only this needs what finds out about maps.
    from porter.check.layout_blind.matching import compare as compare_blind

    return compare_blind(a, b, advance)


def _print_blind(screen: Screen, result: LayoutBlind, everything: bool) -> None:
    from porter.cli.diff_blind_screen import print_blind

    print_blind(screen, result, everything)


def _mapped(store: TensorStore, other: TensorStore, map_name: str | None, params: dict[str, str]) -> TensorStore:
    """What the map makes of `store`; tables that it takes from a file may also come from the `other` one."""
    if map_name is None:
        if params:
            raise UsageError("U922", "a parameter is given, and no map that could have it", hint="say '--map MAP'")
        return store
    from porter.mapping import library
    from porter.mapping.execution import apply
    from porter.mapping.providers import provider_of

    return apply(library.load(map_name), store, params=params, provider=provider_of(store, other))


def _print(screen: Screen, result: Comparison, everything: bool) -> None:
    rows = [t for t in result.tensors if everything or t.verdict != "equal"]
    shown = screen.first(rows, everything)
    if shown:
        # The particulars are as wide as the rest together: in a terminal it has a line of its own.
        below = [_indented(screen, _particulars(t)) for t in shown] if screen.terminal else ()
        screen.table(COLUMNS, [_row(screen, t, result.tolerance) for t in shown], below)
    screen.more(len(rows) - len(shown))
    hidden = len(result.tensors) - len(rows)
    if hidden and rows:
        screen.line(f"…{hidden:,} equal (--all)")
    _print_notes(screen, result)
    _print_unpaired(screen, result)
    if result.digest_a is not None:
        screen.line(f"digest of a     {result.digest_a}")
        screen.line(f"digest of b     {result.digest_b}")
    screen.line(screen.styled(_verdict(result), "good" if result.equal else "bad"))


def _row(screen: Screen, t: TensorComparison, tolerance: Tolerance) -> tuple[str | Cell, ...]:
    d = t.difference
    measures = ("", "", "", "")
    if d is not None:
        cosine = "" if d.cosine is None else cosine_text(d.cosine)
        measures = (amount_text(d.max_abs), f"{d.max_ulp:,}", cosine, _needs(screen, t, tolerance))
    return (screen.name(t.name), shape_text(t.a.shape), *measures, _verdict_cell(screen, t))


def _verdict_cell(screen: Screen, t: TensorComparison) -> str | Cell:
    if t.verdict == "equal":
        return Cell("equal", "dim")
    text = {"within tolerance": "within", "differs": "DIFFERS", "dtype differs": "DTYPE", "shape differs": "SHAPE"}[t.verdict]
    if t.a.dtype != t.b.dtype:
        text += f" {DTYPES[t.a.dtype].short}→{DTYPES[t.b.dtype].short}"
    if not screen.terminal:
        text += f" {_particulars(t)}".rstrip()
    return Cell(text, "bad") if not t.passes else text


def _particulars(t: TensorComparison) -> str:
    """The two shapes where they differ; where the first difference is, what stands there, and how many there are."""
    if t.a.shape != t.b.shape:
        return f"{shape_text(t.a.shape)}→{shape_text(t.b.shape)}"
    d = t.difference
    if d is None or t.first is None:
        return ""
    differing = d.beyond if t.verdict == "differs" else d.differing
    # Values that read the same differ in bits that only hex shows, such as those of NaN.
    a, b = (d.first_a.value, d.first_b.value) if d.first_a.value != d.first_b.value else (d.first_a.bits, d.first_b.bits)
    where = f"at [{','.join(map(str, t.first))}] {a}→{b}"
    return f"{differing:,} of {math.prod(t.a.shape):,} elements, first {where}" if differing > 1 else where


def _indented(screen: Screen, text: str) -> str:
    return screen.styled(f"  {text}", "dim") if text else ""


def _needs(screen: Screen, t: TensorComparison, tolerance: Tolerance) -> str:
    """The tolerance that would have passed: every one of the three in a pipe, the most telling one in a terminal."""
    d = t.difference
    if d is None:
        return ""
    parts = {
        "atol": None if d.needs_atol is None else f"atol≥{_rounded_up(d.needs_atol)}",
        "rtol": None if d.needs_rtol is None else f"rtol≥{_rounded_up(d.needs_rtol)}",
        "ulp": None if d.needs_ulp is None else f"ulp≥{d.needs_ulp}",
    }
    able = [text for text in parts.values() if text is not None]
    if not able:
        return "–"
    if not screen.terminal or screen.verbose:
        return " ".join(able)
    given = [parts[k] for k in ("rtol", "atol", "ulp") if getattr(tolerance, k) is not None]
    return next((text for text in (*given, *able) if text is not None), "–")


def _print_notes(screen: Screen, result: Comparison) -> None:
    about: dict[str, list[str]] = {}
    for t in result.tensors:
        for note in t.notes:
            about.setdefault(note, []).append(t.name)
    for note, names in about.items():
        screen.line(f"{screen.name(note)} ({screen.listed(names)})")


def _print_unpaired(screen: Screen, result: Comparison) -> None:
    renamed = dict(result.same_bytes)
    few = len(result.only_a) + len(result.only_b) if not screen.terminal else 3
    for a, b in list(renamed.items()) if not screen.terminal or screen.verbose else list(renamed.items())[:3]:
        screen.line(f"same bytes, other name: {screen.name(a)} → {screen.name(b)}")
    if screen.terminal and not screen.verbose and len(renamed) > 3:
        screen.line(f"…{len(renamed) - 3:,} more pairs with the same bytes (-v)")
    for side, names in (("a", result.only_a), ("b", result.only_b)):
        if names:
            screen.line(f"only in {side}: {screen.listed(names, few)}")


def _verdict(result: Comparison) -> str:
    differing = sum(not t.passes for t in result.tensors)
    unpaired = len(result.only_a) + len(result.only_b)
    total = len(result.tensors)
    if result.equal:
        if all(t.verdict == "equal" for t in result.tensors):
            return f"equal: {count(total, 'tensor')}, bit for bit"
        inexact = sum(t.verdict != "equal" for t in result.tensors)
        return f"equal within tolerance: {count(total, 'tensor')}, {inexact:,} of them not bit for bit"
    parts = []
    if differing:
        parts.append(f"{differing:,} of {count(total, 'tensor')}" + ("" if result.tolerance.exact else " beyond tolerance"))
    if unpaired:
        parts.append(f"{unpaired:,} unpaired")
    return f"DIFFERS: {', '.join(parts)}"


def _rounded_up(value: float) -> str:
    """Two digits, never below `value`, so that the tolerance printed is one that passes."""
    text = f"{value:.1e}"
    if float(text) >= value:
        return "0" if not value else text
    mantissa, _, exponent = text.partition("e")
    raised = (round(float(mantissa) * 10) + 1) / 10
    return f"{raised:.1f}e{exponent}" if raised < 10 else f"1.0e{int(exponent) + 1:+03d}"
