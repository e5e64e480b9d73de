"""What operations ask of their arguments and inputs, and the errors they say it with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porter.dtypes import DTYPES, DType
from porter.errors import did_you_mean
from porter.mapping.ops.base import Operand, OperationError


def integer(value: object, argument: str) -> int:
    """`value`, which has to be an integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < 1 << 63:
            return value
        raise OperationError("M403", f"'{argument}' is beyond 64 bits", argument=argument)
    raise OperationError("M403", f"'{argument}' is an integer, {_shown(value)} is none", argument=argument, hint=_declare(value, "int"))


def integers(value: object, argument: str) -> tuple[int, ...]:
    """`value`, which has to be a list of integers."""
    if not isinstance(value, tuple):
        raise OperationError("M403", f"'{argument}' is a list of integers, {_shown(value)} is none", argument=argument)
    return tuple([integer(v, argument) for v in value])


def number(value: object, argument: str) -> float:
    """`value`, which has to be a number, finite as a float64."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return value
        except OverflowError:
            pass
        raise OperationError("M403", f"'{argument}' is beyond what float64 can hold", argument=argument)
    raise OperationError("M403", f"'{argument}' is a number, {_shown(value)} is none", argument=argument, hint=_declare(value, "float"))


def flag(value: object, argument: str) -> bool:
    """`value`, which has to be true or false."""
    if isinstance(value, bool):
        return value
    raise OperationError("M403", f"'{argument}' is true or false, {_shown(value)} is neither", argument=argument)


def element_type(value: object, argument: str) -> DType:
    """The element type that `value` names: `f16` or `float16`."""
    if isinstance(value, str):
        for dtype in DTYPES.values():
            if value in (dtype.name, dtype.short):
                return dtype
    known = [d.short for d in DTYPES.values()]
    near = did_you_mean(value, [*known, *DTYPES]) if isinstance(value, str) else None
    hint = near or f"known: {', '.join(known)}"
    raise OperationError("M403", f"there is no element type {_shown(value)}", argument=argument, hint=hint)


def only(operation: str, inputs: Sequence[Operand]) -> Operand:
    """The input of an operation that takes one."""
    if len(inputs) != 1:
        raise OperationError("M404", f"'{operation}' takes one tensor, {len(inputs)} are given", input=1 if inputs else None)
    return inputs[0]


def by_order(operation: str, inputs: Sequence[Operand], least: int, most: int | None, what: str) -> None:
    """Check that there are `least` to `most` inputs without labels, which are `what`."""
    if len(inputs) < least or (most is not None and len(inputs) > most):
        raise OperationError("M404", f"'{operation}' takes {what}, {len(inputs)} {'is' if len(inputs) == 1 else 'are'} given")
    for i, operand in enumerate(inputs):
        if operand.label is not None and len(inputs) > 1:
            hint = f"leave '{operand.label}=' out"
            message = f"'{operation}' takes its tensors by their order, and has none called '{operand.label}'"
            raise OperationError("M404", message, input=i, hint=hint)


def floating(operation: str, inputs: Sequence[Operand]) -> None:
    """Check that the inputs are real floats."""
    for i, operand in enumerate(inputs):
        if operand.dtype.kind != "float":
            hint = "put 'cast(f32)' before it" if operand.dtype.kind != "complex" else None
            raise OperationError("M405", f"'{operation}' computes with floats, this is {operand.dtype}", input=i, hint=hint)


def same_type(operation: str, inputs: Sequence[Operand]) -> None:
    """Check that all inputs have the first one's dtype."""
    for i, operand in enumerate(inputs):
        if operand.dtype != inputs[0].dtype:
            message = f"'{operation}' takes tensors of one type, these are {inputs[0].dtype} and {operand.dtype}"
            raise OperationError("M405", message, input=i, hint=f"put 'cast({inputs[0].dtype.short})' into a stage before this")


def same_shape(operation: str, inputs: Sequence[Operand]) -> None:
    """Check that all inputs have the first one's shape."""
    for i, operand in enumerate(inputs):
        if operand.shape != inputs[0].shape:
            message = f"'{operation}' takes tensors of one shape, these are {list(inputs[0].shape)} and {list(operand.shape)}"
            raise OperationError("M406", message, input=i)


def dimension(axis: int, operand: Operand, *, input: int = 0) -> int:
    """The dimension, counted from 0, that `axis` is of this operand; negative ones count from the end."""
    rank = len(operand.shape)
    if not -rank <= axis < rank:
        message = f"there is no axis {axis}: this tensor has {rank} dimension{'s' if rank != 1 else ''}, {list(operand.shape)}"
        hint = f"axes are counted from 0: 0 to {rank - 1}, or -1 for the last" if rank else None
        raise OperationError("M407", message, input=input, argument="axis", hint=hint)
    return axis % rank


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value:.40}'" if isinstance(value, str) else f"{value!r:.40}"


def _declare(value: object, kind: str) -> str | None:
    """The way out where a word stands for a number: a parameter."""
    if isinstance(value, str) and value.isidentifier():
        return f"if it is a parameter, declare it: 'param {value} : {kind}'"
    return None
