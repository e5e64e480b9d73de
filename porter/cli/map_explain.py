"""`porter map explain`: the path of one tensor through a map, either way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from porter.cli.map_screen import WORDS, step_json
from porter.cli.options import common_options, map_params, read_options
from porter.cli.quantities import shape_text
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError, did_you_mean
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.mapping import library
from porter.mapping.execution import MappedStore, apply
from porter.mapping.render import statement_text
from porter.mapping.steps import Plan, Step
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

Numbered = tuple[int, Step]
"""A step and the stage it is in, from 0."""


@click.command("explain", short_help="Follow one tensor through a map.")
@click.argument("map_name", metavar="MAP")
@click.argument("source", metavar="SRC")
@click.argument("name", metavar="NAME")
@read_options
@click.option("--digest", is_flag=True, help="Print the SHA-256 of what goes in. Reads the values.")
@map_params
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    map_name: str,
    source: str,
    name: str,
    source_format: str | None,
    select: str | None,
    net: str | None,
    digest: bool,
    params: dict[str, str],
) -> ExitCode:
    """Print what MAP makes of the tensor NAME of SRC, or what it makes the tensor NAME of the result of: rule by rule."""
    loaded = library.load(map_name)
    with open_store(source, source_format, options=ReadOptions(select=select, net=net)) as store:
        screen.notices(store.notices)
        mapped = apply(loaded, store, params=params)
        steps, left = _steps(mapped, store, name)
        if screen.json:
            documents = [_document(mapped, store, number, step, digest) for number, step in steps]
            screen.document({"map": map_name, "name": name, "steps": documents, "left_out": list(left)})
            return ExitCode.YES
        for position, (number, step) in enumerate(steps):
            if position:
                screen.line()
            _print(screen, mapped, store, number, step, digest)
        for tensor in left:
            screen.paragraph(f"{screen.name(tensor)} is left out: no statement mentions it, as 'expect sources=any' allows")
    return ExitCode.YES


def _steps(mapped: MappedStore, store: TensorStore, name: str) -> tuple[list[Numbered], tuple[str, ...]]:
    """The steps that `name` goes through, by stage: forwards where it is a source, backwards where it is a result, both where both.

    With them the tensors on the way that nothing mentions.
    """
    if name not in store and name not in mapped:
        hint = did_you_mean(name, [*store, *mapped]) or "'porter map check' lists the tensors of both sides"
        raise UsageError("U924", f"neither the source nor the result has a tensor '{name}'", hint=hint)
    found, left = _forward(mapped.plan, name) if name in store else ([], ())
    if name in mapped:
        found += [s for s in _backward(mapped.plan, name) if not any(s[1] is other for _, other in found)]
    return sorted(found, key=lambda s: s[0]), left


def _forward(plan: Plan, name: str) -> tuple[list[Numbered], tuple[str, ...]]:
    found: list[Numbered] = []
    left: list[str] = []
    names = {name}
    for number, stage in enumerate(plan.stages):
        steps = [s for s in stage.steps if names & set(s.sources) and s.action != "tie"]
        made = {t.name for s in steps for t in s.targets}
        ties = [s for s in stage.steps if s.action == "tie" and made & set(s.sources)]
        found += [(number, s) for s in (*steps, *ties)]
        left += [n for n in stage.left if n in names]
        names = made | {t.name for s in ties for t in s.targets}
    return found, tuple(left)


def _backward(plan: Plan, name: str) -> list[Numbered]:
    found: list[Numbered] = []
    names = {name}
    for number, stage in reversed(list(enumerate(plan.stages))):
        steps = [stage.steps[stage.maker[n]] for n in sorted(names) if n in stage.maker]
        tied = [n for s in steps if s.action == "tie" for n in s.sources]
        steps = [*(stage.steps[stage.maker[n]] for n in tied), *steps]
        found += [(number, step) for i, step in enumerate(steps) if not any(step is other for other in steps[:i])]
        names = {n for s in steps if s.action != "tie" for n in s.sources}
    return found


def _document(mapped: MappedStore, store: TensorStore, number: int, step: Step, digest: bool) -> dict[str, Any]:
    inputs = _inputs(mapped, store, number, step)
    digests = {"sha256": [t.digest() for t in inputs]} if digest and len(inputs) == len(step.sources) else {}
    return {**step_json(step, number), **digests, "bindings": dict(step.bindings)}


def _print(screen: Screen, mapped: MappedStore, store: TensorStore, number: int, step: Step, digest: bool) -> None:
    stages = mapped.plan.stages
    stage = f", stage {number + 1} of {len(stages)}" if len(stages) > 1 else ""
    screen.line(screen.styled(f"{screen.name(step.place)}{stage}", "head") + f"  {WORDS[step.action]}")
    for line in statement_text(step.statement).splitlines():
        screen.line(f"  {screen.name(line)}")
    if step.bindings:
        screen.line("  where " + ", ".join(f"{k} = {screen.name(str(v))}" for k, v in step.bindings.items()))
    before: Mapping[str, TensorSpec] = {n: t.spec for n, t in store.items()} if number == 0 else stages[number - 1].result
    before = stages[number].result if step.action == "tie" else before
    rows = [("←", before[n]) for n in step.sources] + [("→", spec) for spec in step.targets]
    digests = [t.digest() for t in _inputs(mapped, store, number, step)] if digest else []
    lines = _aligned(screen, rows)
    for position, line in enumerate(lines):
        screen.line(line)
        if position < len(digests):
            screen.line(f"      sha256 {digests[position]}")
    if not step.targets:
        screen.line("  → nothing")


def _aligned(screen: Screen, rows: list[tuple[str, TensorSpec]]) -> Iterator[str]:
    from porter.cli.table import aligned

    cells = [(f"  {arrow} {screen.name(spec.name)}", shape_text(spec.shape), spec.dtype.short) for arrow, spec in rows]
    yield from aligned(cells) if cells else ()


def _inputs(mapped: MappedStore, store: TensorStore, number: int, step: Step) -> tuple[Tensor, ...]:
    """The tensors that go into a step, as far as they are still at hand: those of a drop only in the first stage."""
    if step.targets:
        return mapped.origins[number][step.targets[0].name].inputs
    return tuple([store[n] for n in step.sources]) if number == 0 else ()
