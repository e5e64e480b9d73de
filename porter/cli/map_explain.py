"""`porter map explain`: the path of one tensor through a map, either way."""

from __future__ import annotations

import difflib
from typing import Any

import click

from porter.cli.options import common_options, from_option, map_params
from porter.cli.quantities import shape_text
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.mapping import library
from porter.mapping.execution import MappedStore, apply
from porter.mapping.render import statement_text
from porter.mapping.steps import Plan, Step
from porter.store import TensorStore


@click.command("explain", short_help="Follow one tensor through a map.")
@click.argument("map_name", metavar="MAP")
@click.argument("source", metavar="SRC")
@click.argument("name", metavar="NAME")
@from_option
@click.option("--select", metavar="PATH", help="The dictionary of a nested checkpoint that holds the weights (model.ema).")
@click.option("--net", metavar="PROTOTXT", help="Layer types and parameters, for Caffe.")
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
        steps = _steps(mapped, store, name)
        if screen.json:
            screen.document({"map": map_name, "name": name, "steps": [_document(mapped, *s, digest) for s in steps]})
            return ExitCode.YES
        for number, step in steps:
            _print(screen, mapped, number, step, digest)
    return ExitCode.YES


def _steps(mapped: MappedStore, store: TensorStore, name: str) -> list[tuple[int, Step]]:
    """The steps that `name` goes through, by stage: forwards where it is a source, backwards where it is a result, both where both."""
    plan = mapped.plan
    if name not in store and name not in mapped:
        known = [*store, *mapped]
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else "'porter map check' lists the tensors of both sides"
        raise UsageError("U924", f"neither the source nor the result has a tensor '{name}'", hint=hint)
    found = _forward(plan, name) if name in store else []
    if name in mapped:
        found += [s for s in _backward(plan, name) if s not in found]
    return sorted(found, key=lambda s: s[0])


def _forward(plan: Plan, name: str) -> list[tuple[int, Step]]:
    found, names = [], {name}
    for number, stage in enumerate(plan.stages):
        steps = [s for s in stage.steps if names & set(s.sources) and s.action != "tie"]
        made = {t.name for s in steps for t in s.targets}
        ties = [s for s in stage.steps if s.action == "tie" and made & set(s.sources)]
        found += [(number, s) for s in (*steps, *ties)]
        names = made | {t.name for s in ties for t in s.targets}
    return found


def _backward(plan: Plan, name: str) -> list[tuple[int, Step]]:
    found, names = [], {name}
    for number, stage in reversed(list(enumerate(plan.stages))):
        steps = [stage.steps[stage.maker[n]] for n in names if n in stage.maker]
        tied = [n for s in steps if s.action == "tie" for n in s.sources]
        steps += [stage.steps[stage.maker[n]] for n in tied]
        found += [(number, step) for i, step in enumerate(steps) if not any(step is other for other in steps[:i])]
        names = {n for s in steps if s.action != "tie" for n in s.sources}
    return found


def _print(screen: Screen, mapped: MappedStore, number: int, step: Step, digest: bool) -> None:
    specs = {t.name: t for o in _origins(mapped, number, step) for t in o.inputs}
    screen.line(screen.styled(screen.name(step.place), "dim") + f"  {step.action}")
    screen.line(f"  {screen.name(statement_text(step.statement))}")
    if step.bindings:
        screen.line("  with " + ", ".join(f"{k} = {screen.name(str(v))}" for k, v in step.bindings.items()))
    for name in step.sources:
        tensor = specs.get(name)
        what = f"  {shape_text(tensor.shape)}  {tensor.dtype.short}" if tensor is not None else ""
        screen.line(f"    {screen.name(name)}{what}" + (f"  sha256 {tensor.digest()}" if digest and tensor is not None else ""))
    if not step.targets:
        screen.line("  → nothing")
    for spec in step.targets:
        screen.line(f"  → {screen.name(spec.name)}  {shape_text(spec.shape)}  {spec.dtype.short}")


def _origins(mapped: MappedStore, number: int, step: Step) -> list[Any]:
    return [mapped.origins[number][t.name] for t in step.targets if t.name in mapped.origins[number]]


def _document(mapped: MappedStore, number: int, step: Step, digest: bool) -> dict[str, Any]:
    from porter.cli.map_screen import step_json

    return {**step_json(step, number, mapped, digest), "bindings": dict(step.bindings)}
