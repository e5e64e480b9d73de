"""`porter map infer`: a map from two files alone."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from porter.cli.map_output import output_option, write_text
from porter.cli.map_sides import side_of
from porter.cli.options import common_options, read_options_of_both
from porter.cli.quantities import count
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.formats.base import ReadOptions
from porter.mapping.inference.infer import Inference, infer
from porter.mapping.render import statement_text
from porter.mapping.syntax import Fill, Tie
from porter.store import TensorStore


@click.command("infer", short_help="Write the map that leads from one file to another.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@output_option
@read_options_of_both
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    a: str,
    b: str,
    output: str | None,
    overwrite: bool,
    from_a: str | None,
    from_b: str | None,
    select_a: str | None,
    select_b: str | None,
    net_a: str | None,
    net_b: str | None,
) -> ExitCode:
    """Find out which tensors of A make those of B, by values, shapes and names, and print the map that says so.

    A and B are weight files, or JSON lists of {"name": …, "shape": …, "dtype": …} where only names and shapes are known. Behind
    each rule stand its confidence and the reason. Exits with 0 if everything was matched, with 1 if something of A or B is left
    over: the map says what.
    """
    with ExitStack() as stack:
        sides = [
            side_of(screen, stack, path, source_format, ReadOptions(select=select, net=net))
            for path, source_format, select, net in ((a, from_a, select_a, net_a), (b, from_b, select_b, net_b))
        ]
        for side in sides:
            screen.notices(side.notices if isinstance(side, TensorStore) else ())
        found = infer(*sides)
    write_text(screen, found.text(), output, overwrite, _document(found))
    if output is not None and not screen.json and not screen.quiet:
        _summary(screen, found)
    return ExitCode.NO if found.unmatched_sources or found.unmatched_targets else ExitCode.YES


def _summary(screen: Screen, found: Inference) -> None:
    rules = sum(bool(r.matches) for r in found.rules)
    added = {word: sum(r.tensors for r in found.rules if isinstance(r.statement, kind)) for word, kind in (("filled", Fill), ("tied", Tie))}
    more = "".join(f", {number:,} {word}" for word, number in added.items() if number)
    screen.line(f"{found.matched:,} of {count(found.targets, 'tensor')} of B matched, by {count(rules, 'rule')}{more}")
    for names, what in ((found.unmatched_targets, "not made, of B"), (found.unmatched_sources, "dropped, of A")):
        if names:
            screen.paragraph(f"{what}: {screen.listed(names)}")
    if found.ambiguous:
        unsure = [m.targets[0] for m in found.ambiguous]
        screen.paragraph(f"ambiguous, as the map says at its end: {screen.listed(unsure)}")


def _document(found: Inference) -> dict[str, Any]:
    return {
        "sources": found.sources,
        "targets": found.targets,
        "matched": found.matched,
        "rules": [
            {"rule": statement_text(r.statement), "confidence": r.confidence, "reason": r.reason, "tensors": r.tensors} for r in found.rules
        ],
        "unmatched_sources": list(found.unmatched_sources),
        "unmatched_targets": list(found.unmatched_targets),
        "ambiguous": [
            {"sources": list(m.sources), "targets": list(m.targets), "rivals": list(m.rivals), "reason": m.reason} for m in found.ambiguous
        ],
    }
