"""Options that several commands share, and how their values are parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from porter.cli.screen import Screen
from porter.errors import UsageError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

_SIZE = re.compile(r"-?[0-9]{1,9}", re.ASCII)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def byte_size(text: str) -> int:
    """The number of bytes that `5GB` (10^9), `512MiB` (2^20) or `1000000` says."""
    match = re.fullmatch(r"\s*([0-9]{1,18})(\.[0-9]{1,9})?\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[3].lower()) if match is not None else None
    if match is None or unit is None:
        raise click.BadParameter(f"{text!r} is no size; write it like 5GB, 512MiB or 1000000")
    return int(match[1]) * unit + int(float(match[2] or 0) * unit)


def find_command(name: str, commands: Iterable[str], group: str = "porter") -> None:
    """Raise a `UsageError` with the nearest of the `commands` of `group`, none of which is `name`."""
    hint = did_you_mean(name, commands) or f"'{group} --help' lists the commands"
    raise UsageError("U902", f"there is no command '{name}'", hint=hint)


def common_options(*, json: bool = True) -> Callable[[F], F]:
    """`--json`, `-q`, `-v` and `--color`, which set the screen and are not passed on."""

    def decorate(function: F) -> F:
        options = [
            click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set("quiet"), help="Print errors and losses only."),
            click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_set("verbose"), help="Spell out every name."),
            click.option(
                "--color",
                type=click.Choice(["auto", "always", "never"]),
                expose_value=False,
                callback=_set("color"),
                help="When to colour; auto: terminals, unless NO_COLOR is set.",
            ),
        ]
        if json:
            options.insert(0, click.option("--json", is_flag=True, expose_value=False, callback=_set("json"), help="Print JSON."))
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def shapes(minimum: int) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, tuple[int, ...]]]:
    """Parses `NAME=1x3x224x224`, each size `minimum` or -1 where that is allowed."""

    def parse(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for text in values:
            name, equals, sizes = text.rpartition("=")
            shape = shape_of(sizes)
            if not equals or not name or shape is None:
                raise click.BadParameter(f"{text!r} is no NAME=1x3x224x224")
            if min(shape) < minimum or 0 in shape:
                raise click.BadParameter(f"{text!r} has a size of {min(shape)}")
            if name in found:
                raise click.BadParameter(f"'{name}' is given twice")
            found[name] = shape
        return found

    return parse


def shape_of(text: str) -> tuple[int, ...] | None:
    """The shape that `1x3x224x224` says; None where it says none."""
    words = text.lower().replace("×", "x").split("x")
    return tuple(map(int, words)) if all(_SIZE.fullmatch(word) for word in words) else None


def map_options(function: F) -> F:
    """`--map MAP` and `--param NAME=VALUE`, passed on as `map_name` and `params`."""
    return click.option("--map", "map_name", metavar="MAP", help="Rename and change tensors by this map: a file, or a built-in one.")(
        map_params(function)
    )


def map_params(function: F) -> F:
    """`--param NAME=VALUE`, passed on as `params`."""
    return click.option(
        "--param",
        "params",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_pairs,
        help="The value of a parameter of the map; may be repeated.",
    )(function)


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is no NAME=VALUE")
        if name in pairs:
            raise click.BadParameter(f"'{name}' is given twice")
        pairs[name] = value
    return pairs


def read_options(function: F) -> F:
    """`-f/--from FORMAT`, `--select PATH` and `--net PROTOTXT` of one input, passed on as `source_format`, `select` and `net`."""
    function = click.option("--net", metavar="PROTOTXT", help="Layer types and parameters, for Caffe.")(function)
    function = click.option("--select", metavar="PATH", help="The dictionary of a nested checkpoint that holds the weights (model.ema).")(
        function
    )
    return click.option(
        "-f", "--from", "source_format", metavar="FORMAT", help="Format of the input (caffe, wts:nvidia-v1); by default its content tells."
    )(function)


def read_options_of_both(function: F) -> F:
    """The same for two inputs A and B: `--from-a` … `--net-b`, passed on as `from_a` … `net_b`."""
    for side in ("b", "a"):
        function = click.option(f"--net-{side}", metavar="PROTOTXT", help=f"Layer types for the Caffe weights {side.upper()}.")(function)
    for side in ("b", "a"):
        text = f"The dictionary of the nested checkpoint {side.upper()} that holds the weights."
        function = click.option(f"--select-{side}", metavar="PATH", help=text)(function)
    function = click.option("--from-b", metavar="FORMAT", help="Format of B.")(function)
    return click.option("--from-a", metavar="FORMAT", help="Format of A; by default its content tells.")(function)


def tolerance_options(function: F) -> F:
    """`--rtol X`, `--atol X` and `--ulp N` of a comparison."""
    text = "Allow N units in the last place, or what --rtol and --atol allow."
    function = click.option("--ulp", type=int, metavar="N", help=text)(function)
    for name in ("--atol", "--rtol"):
        function = click.option(name, type=float, metavar="X", help="Allow |a - b| <= atol + rtol * |b|.")(function)
    return function


def _set(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        # Given to the group or to the command: either counts.
        if isinstance(ctx.obj, Screen) and value:
            setattr(ctx.obj, attribute, value)

    return callback
