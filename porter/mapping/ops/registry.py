"""The operations by name: porter's own, imported on use, and those of the entry-point group `porter.map_operations`.

Entry points are looked up for names that porter does not know itself, and for the list of all. Nothing takes a built-in's name.
"""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from porter.dataclass import dataclass
from porter.errors import MapError, did_you_mean, printable
from porter.mapping.ops.base import Binder, Operation, OperationError
from porter.mapping.syntax import Argument, Arithmetic, Call, Number, Variable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from inspect import Signature

_BUILT_IN = {
    "add": "porter.mapping.ops.elementwise:Add",
    "bn_stats": "porter.mapping.ops.batch_norm:BnStats",
    "cast": "porter.mapping.ops.elementwise:Cast",
    "copy": "porter.mapping.ops.structure:Copy",
    "fill": "porter.mapping.ops.structure:Fill",
    "flip": "porter.mapping.ops.structure:Flip",
    "fold_bn": "porter.mapping.ops.folding:FoldBn",
    "fold_branches": "porter.mapping.ops.reparameterisation:FoldBranches",
    "fold_preprocess": "porter.mapping.ops.preprocessing:FoldPreprocess",
    "mul": "porter.mapping.ops.elementwise:Mul",
    "neg": "porter.mapping.ops.elementwise:Neg",
    "pad": "porter.mapping.ops.structure:Pad",
    "reorder": "porter.mapping.ops.structure:Reorder",
    "rsqrt": "porter.mapping.ops.elementwise:Rsqrt",
    "scale": "porter.mapping.ops.elementwise:Scale",
    "slice": "porter.mapping.ops.structure:Slice",
    "sum": "porter.mapping.ops.elementwise:Sum",
}

GROUP = "porter.map_operations"


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation in the list of all: how it is called, what goes in and comes out, how it is undone, what it does in a sentence."""

    name: str
    arguments: str
    takes: str
    undone: str
    summary: str


def bind(call: Call, values: Mapping[str, int | float | bool | str]) -> Operation:
    """The operation that `call` names, with its arguments. `values` are those of the parameters.

    Raises:
        MapError: there is no such operation, or it does not take these arguments.
    """
    binder = _binder(call)
    given = [(a, _value(a.value, values, a)) for a in call.arguments]
    seen = set[str]()
    for position, (argument, _) in enumerate(given):
        if argument.name is None and position and given[position - 1][0].name is not None:
            raise argument.span.error("M402", f"an argument of '{call.name}' without a name comes after one with a name")
        if argument.name is not None and argument.name in seen:
            raise argument.span.error("M402", f"'{call.name}' is given '{argument.name}' twice")
        seen.add(argument.name or "")
    try:
        return binder(*[v for a, v in given if a.name is None], **{a.name: v for a, v in given if a.name is not None})
    except OperationError as error:
        span = _argument_of(call, error.argument).span if error.argument else call.span
        raise span.error(error.code, error.message, hint=error.hint) from error
    except TypeError as error:
        raise _misfit(call, binder, error) from error


def call_of(operation: Operation, params: Container[str] = ()) -> Call:
    """The call that makes an operation equal to this one. Arguments that have their default are left out.

    `params` are names that the map gives to parameters: a word that is one of them is written in quotes.
    """
    from inspect import Parameter

    parameters = _signature(_binder(Call(operation.name))).parameters
    written, leading = [], True
    for place, (name, value) in enumerate(operation.arguments().items()):
        default = parameters[name].default if name in parameters else Parameter.empty
        if repr(default) == repr(value):  # not `==`: 0 is not False, nor 0.0 the same as -0.0
            leading = False
            continue
        # The first argument and those that have to be there need no name.
        leading = leading and name in parameters and (place == 0 or default is Parameter.empty)
        written.append(Argument(None if leading else name, _written(value, params)))
    return Call(operation.name, tuple(written))


def names() -> list[str]:
    """The names of all operations, sorted. Looks at what packages are installed."""
    return sorted([*_BUILT_IN, *_entry_points()])


def describe() -> list[OperationRow]:
    """A row for every operation, by name. Imports them all."""
    rows = []
    for name in names():
        binder = _binder(Call(name))
        summary = " ".join((binder.__doc__ or "").strip().split("\n\n")[0].split())
        rows.append(OperationRow(name, _listed(binder), getattr(binder, "takes", ""), getattr(binder, "undone", ""), summary))
    return rows


def _binder(call: Call) -> Binder:
    place = _BUILT_IN.get(call.name)
    if place is not None:
        module, _, name = place.partition(":")
        return cast(Binder, getattr(importlib.import_module(module), name))
    point = _entry_points().get(call.name)
    if point is None:
        raise call.span.error("M400", f"there is no operation '{printable(call.name)}'", hint=_nearest(call.name, names()))
    try:
        return cast(Binder, point.load())
    except Exception as error:  # whatever a package does when it is imported
        message = f"the operation '{call.name}' cannot be loaded from {point.value}: {error}"
        raise call.span.error("M401", message, hint="install its package again, or remove it") from error


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    """The operations of other packages by name.

    Raises:
        MapError: one has a name that is taken.
    """
    from importlib.metadata import entry_points

    found = dict[str, "EntryPoint"]()
    for point in entry_points(group=GROUP):
        other = "porter itself" if point.name in _BUILT_IN else found[point.name].value if point.name in found else None
        if other is not None and other != point.value:
            hint = "remove the package, or ask its author for another name"
            raise MapError("M401", f"{point.value} is an operation called '{point.name}', and so is one of {other}", hint=hint)
        found[point.name] = point
    return MappingProxyType(found)


def _value(value: object, values: Mapping[str, int | float | bool | str], argument: Argument) -> Any:
    """What an operation gets for a value as the tree has it."""
    if isinstance(value, tuple):
        return tuple([_value(v, values, argument) for v in value])
    if isinstance(value, Variable):
        return values.get(value.name, value.name)
    if isinstance(value, Number):
        return value.value
    if isinstance(value, Arithmetic):
        from porter.mapping.names import evaluate

        return evaluate(value, values)
    return value


def _written(value: Any, params: Container[str]) -> Any:
    """`value` as the tree has it: words bare where they can be read back as such."""
    if isinstance(value, tuple | list):
        return tuple([_written(v, params) for v in value])
    if isinstance(value, str) and value.isascii() and value.isidentifier() and value not in params and value not in ("true", "false"):
        return Variable(value)
    return value


def _misfit(call: Call, binder: Binder, error: TypeError) -> MapError:
    """What is wrong with arguments that a binder did not take."""
    from inspect import Parameter

    parameters = _signature(binder).parameters
    usage = f"it is used as {_usage(call.name, binder)}"
    if any(p.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL) for p in parameters.values()):
        return call.span.error("M402", f"'{call.name}' does not take these arguments: {error}")
    unnamed = [a for a in call.arguments if a.name is None]
    if len(unnamed) > len(parameters):
        count = f"{len(parameters)} argument{'s' if len(parameters) != 1 else ''}" if parameters else "no arguments"
        given = f"{len(call.arguments)} {'are' if len(call.arguments) > 1 else 'is'} given"
        return unnamed[len(parameters)].span.error("M402", f"'{call.name}' takes {count}, {given}", hint=usage)
    taken = list(parameters)[: len(unnamed)]
    for argument in call.arguments:
        if argument.name is not None and argument.name not in parameters:
            hint = _nearest(argument.name, list(parameters)) if parameters else usage
            return argument.span.error("M402", f"'{call.name}' has no argument '{printable(argument.name)}'", hint=hint)
        if argument.name in taken:
            return argument.span.error("M402", f"'{call.name}' is given '{argument.name}' twice", hint=usage)
    named = {*taken, *(a.name for a in call.arguments)}
    missing = [n for n, p in parameters.items() if n not in named and p.default is Parameter.empty]
    if missing:
        return call.span.error("M402", f"'{call.name}' needs a value for '{missing[0]}'", hint=usage)
    return call.span.error("M402", f"'{call.name}' does not take these arguments: {error}", hint=usage)


def _argument_of(call: Call, name: str) -> Argument | Call:
    """The argument of this name, also where it is given by its place alone; the call where it is not given."""
    for argument in call.arguments:
        if argument.name == name:
            return argument
    position = list(_signature(_binder(call)).parameters).index(name)
    unnamed = [a for a in call.arguments if a.name is None]
    return unnamed[position] if position < len(unnamed) else call


def _usage(name: str, binder: Binder) -> str:
    arguments = _listed(binder)
    return f"'{name}({arguments})'" if arguments else f"'{name}'"


def _listed(binder: Binder) -> str:
    """The arguments with their defaults, as maps write them: `axis, start=0, stop=…`."""
    from inspect import Parameter

    shown = []
    for name, parameter in _signature(binder).parameters.items():
        default = parameter.default
        written = "…" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        shown.append(name if default is Parameter.empty else f"{name}={written}")
    return ", ".join(shown)


def _signature(binder: Binder) -> Signature:
    from inspect import signature

    return signature(binder)


def _nearest(word: str, known: Iterable[str]) -> str:
    choices = list(known)
    return did_you_mean(word, choices) or f"known: {', '.join(choices)}"
