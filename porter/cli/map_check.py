"""`porter map check`: does a map fit these tensors, and does it make those?"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from porter.cli import map_screen
from porter.cli.options import common_options, from_option, map_params
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.mapping import library
from porter.mapping.described import listed
from porter.mapping.plan import examine
from porter.mapping.providers import provider_of
from porter.mapping.steps import Described, Plan
from porter.store import TensorStore


@click.command("check", short_help="Check a map against the tensors of one file, or of two.")
@click.argument("map_name", metavar="MAP")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="[DST]", required=False)
@from_option
@click.option("--select", metavar="PATH", help="The dictionary of a nested checkpoint that holds the weights (model.ema).")
@click.option("--net", metavar="PROTOTXT", help="Layer types and parameters, for Caffe.")
@map_params
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    map_name: str,
    source: str,
    target: str | None,
    source_format: str | None,
    select: str | None,
    net: str | None,
    params: dict[str, str],
) -> ExitCode:
    """Check MAP against the names, types and shapes in SRC, and what it makes against those in DST. Reads no values.

    DST is a weight file or a JSON list of {"name": …, "shape": …, "dtype": …}. Exits with 0 if everything fits, with 1 and a list
    of all problems if not.
    """
    loaded = library.load(map_name)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(source, source_format, options=ReadOptions(select=select, net=net)))
        screen.notices(store.notices)
        targets, goal = _goal(stack, target)
        plan = examine(loaded, store.values(), params=params, targets=targets, provider=provider_of(store, goal))
        if screen.json:
            screen.document(_document(map_name, plan))
        else:
            _print(screen, map_name, plan, store, target)
    return ExitCode.NO if plan.problems else ExitCode.YES


def _goal(stack: ExitStack, path: str | None) -> tuple[list[Described] | None, TensorStore | None]:
    """What should come out, and the store that it is read from where `path` is a weight file."""
    if path is None:
        return None, None
    entries = listed(path)
    if entries is not None:
        return entries, None
    store = stack.enter_context(open_store(path))
    return [Described(t.name, t.shape, t.dtype) for t in store.values()], store


def _print(screen: Screen, name: str, plan: Plan, store: TensorStore, target: str | None) -> None:
    if plan.problems:
        for problem in plan.problems:
            screen.problem(problem, sys.stdout)
        screen.line(f"{screen.name(name)}: {len(plan.problems):,} problem{'s' if len(plan.problems) > 1 else ''}")
        return
    if screen.quiet:
        return
    map_screen.table(screen, plan, store)
    against = f", as in {screen.name(target)}" if target is not None else ""
    screen.line(f"{screen.name(name)} fits: {map_screen.plan_count(plan, store)}{against}")
    if plan.missing:
        screen.paragraph(f"not made, as 'expect targets=any' allows: {screen.listed(plan.missing)}")


def _document(name: str, plan: Plan) -> dict[str, Any]:
    return {
        "map": name,
        "fits": not plan.problems,
        "problems": [
            {
                "code": p.code,
                "message": p.message,
                "path": p.where.path,
                "line": p.where.line,
                "column": p.where.column,
                "tensor": p.where.tensor,
                "hint": p.hint,
            }
            for p in plan.problems
        ],
        "steps": map_screen.steps_json(plan),
        "missing": list(plan.missing),
    }
