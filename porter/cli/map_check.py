"""`porter map check`: does a map fit these tensors, and does it make those?"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from porter.cli import map_screen
from porter.cli.map_sides import side_of
from porter.cli.options import common_options, map_params, read_options
from porter.cli.quantities import count
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import MapError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.mapping import library
from porter.mapping.described import read_list
from porter.mapping.plan import examine
from porter.mapping.providers import provider_of
from porter.mapping.steps import Described, Plan
from porter.store import TensorStore
from porter.tensor import TensorSpec


@click.command("check", short_help="Check a map against the tensors of one file, or of two.")
@click.argument("map_name", metavar="MAP")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="[DST]", required=False)
@read_options
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

    SRC and DST are weight files, or JSON lists of {"name": …, "shape": …, "dtype": …} where there are none. Exits with 0 if
    everything fits, with 1 and a list of all problems if not.
    """
    loaded = library.load(map_name)
    with ExitStack() as stack:
        given = side_of(screen, stack, source, source_format, ReadOptions(select=select, net=net))
        store = given if isinstance(given, TensorStore) else None
        specs = {s.name: s for s in (given if isinstance(given, list) else [t.spec for t in given.values()])}
        targets, goal = _goal(stack, target)
        provider = provider_of(store, goal) if store is not None else None
        plan = examine(loaded, specs.values(), params=params, targets=targets, provider=provider)
        if store is not None:
            screen.notices(store.notices)
    if screen.json:
        screen.document(_document(map_name, plan))
    else:
        _print(screen, map_name, plan, specs, target)
    return ExitCode.NO if plan.problems else ExitCode.YES


def _goal(stack: ExitStack, path: str | None) -> tuple[list[Described] | None, TensorStore | None]:
    """What should come out, and the store that it is read from where `path` is a weight file."""
    if path is None:
        return None, None
    entries = read_list(path)
    if entries is not None:
        return entries, None
    store = stack.enter_context(open_store(path))
    return [Described(t.name, t.shape, t.dtype) for t in store.values()], store


def _print(screen: Screen, name: str, plan: Plan, specs: dict[str, TensorSpec], target: str | None) -> None:
    if plan.problems:
        groups: dict[tuple[object, ...], list[MapError]] = {}
        for problem in plan.problems:
            where = problem.where
            groups.setdefault((problem.code, where.path, where.line, where.column), []).append(problem)
        for first, *others in groups.values():
            screen.problem(first, sys.stdout)
            if others:
                # One line of a map goes wrong in one way for tensor after tensor: layer by layer it would fill the screen.
                names = [p.where.tensor for p in others if p.where.tensor is not None]
                listed = f": {screen.listed(names)}" if names else ""
                screen.line(f"   = and so {count(len(others), 'more time')}{listed}")
        screen.line(f"{screen.name(name)} does not fit: {count(len(groups), 'problem')}")
        return
    if screen.quiet:
        return
    map_screen.table(screen, plan, specs)
    against = f", as in {screen.name(target)}" if target is not None else ""
    screen.line(f"{screen.name(name)} fits: {count(len(specs), 'tensor')} → {len(plan.result):,}{against}")
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
