"""Operations of a rule applied to tensors known by dtype and shape: what comes out, and whether it can be undone."""

from __future__ import annotations

from collections.abc import Sequence

from porter.mapping.computation import Applied
from porter.mapping.ops.base import Irreversible, Operand, Operation, OperationError
from porter.mapping.syntax import Call, Side


def applied_to(side: Side, operations: Sequence[Operation], operands: Sequence[Operand], invertible: bool) -> list[tuple[Applied, ...]]:
    """The operations before the arrow on the tensors of a rule. One that takes a single tensor stands once for each of several.

    Raises:
        MapError: an operation does not take them, or has no inverse though the rule is `invertible`.
    """
    stages = []
    for operation, call in zip(operations, side.calls, strict=True):
        stage = _each(operation, call, operands) if len(operands) > 1 else None
        stage = stage or (_one(operation, call, tuple(operands), side),)
        for applied in stage if invertible else ():
            _refuse_irreversible(applied)
        stages.append(stage)
        operands = [o for applied in stage for o in applied.outputs]
    return stages


def _each(operation: Operation, call: Call, operands: Sequence[Operand]) -> tuple[Applied, ...] | None:
    """`operation` once for each operand, or None where it takes them together."""
    try:
        outputs = operation.outputs(tuple(operands))
    except OperationError:
        try:
            stage = tuple([Applied(operation, call, (o,), operation.outputs((o,))) for o in operands])
        except OperationError:
            return None
        return stage if all(len(a.outputs) == 1 for a in stage) else None
    return (Applied(operation, call, tuple(operands), outputs),)


def _one(operation: Operation, call: Call, operands: tuple[Operand, ...], side: Side) -> Applied:
    try:
        return Applied(operation, call, operands, operation.outputs(operands))
    except OperationError as error:
        name = operands[error.input].name if error.input is not None and error.input < len(operands) else None
        tensor = name if name is not None else operands[0].name if operands else None
        # A label that the operation does not know stands with its tensor.
        label = operands[error.input].label if error.code == "M451" and error.input is not None and name is not None else None
        span = next((t.span for t in side.terms if label is not None and t.label == label), call.span)
        raise span.error(error.code, error.message, hint=error.hint, tensor=tensor) from error


def _refuse_irreversible(applied: Applied) -> None:
    inverse = applied.operation.inverse(applied.inputs)
    if isinstance(inverse, Irreversible):
        raise applied.call.span.error(
            "M215",
            f"'{applied.operation.name}' cannot be undone here: {inverse.reason}",
            tensor=applied.inputs[0].name if applied.inputs else None,
            hint="write '->' instead of '<->' for a rule that goes one way",
        )


def applied_after(side: Side, operations: Sequence[Operation], operand: Operand, invertible: bool) -> tuple[Applied, ...]:
    """The operations after the arrow on one tensor.

    Raises:
        MapError: as `applied_to`, or one gives several tensors.
    """
    chain = []
    for operation, call in zip(operations, side.calls, strict=True):
        applied = _one(operation, call, (operand,), side)
        if len(applied.outputs) != 1:
            raise call.span.error(
                "M216", f"'{operation.name}' gives {len(applied.outputs)} tensors; after the arrow an operation takes one and gives one"
            )
        if invertible:
            _refuse_irreversible(applied)
        chain.append(applied)
        operand = applied.outputs[0]
    return tuple(chain)
