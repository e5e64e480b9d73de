"""Inputs that an operation tells apart by label: `mean=…`, `variance=…`, which no shape tells apart."""

from __future__ import annotations

from collections.abc import Sequence

from porter.errors import did_you_mean
from porter.mapping.ops.base import Operand, OperationError

NEAR = 0.5
"""How near a label has to be to what may be meant, see `did_you_mean`: labels are short."""


def by_label(operation: str, inputs: Sequence[Operand], required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, int]:
    """For each label among `inputs` the index of its input.

    Raises:
        OperationError: an input has no label or one that `operation` does not know, two have the same, or a required one is missing.
    """
    known = f"labels: {', '.join(required)}" + (f"; may be missing: {', '.join(optional)}" if optional else "")
    found: dict[str, int] = {}
    for index, operand in enumerate(inputs):
        label = operand.label
        if label is None:
            raise unlabelled(operation, inputs, index, known)
        if label not in required and label not in optional:
            hint = did_you_mean(label, (*required, *optional), NEAR) or known
            raise OperationError("M451", f"'{operation}' has no input '{label}'", input=index, hint=hint)
        add(operation, found, label, index)
    for label in required:
        if label not in found:
            raise missing(operation, label, known)
    return found


def add(operation: str, found: dict[str, int], label: str, index: int) -> None:
    """Note that input `index` has this label, unless another one has it."""
    if label in found:
        raise OperationError("M452", f"'{operation}' is given two tensors with the label '{label}'", input=index)
    found[label] = index


def unlabelled(operation: str, inputs: Sequence[Operand], index: int, known: str) -> OperationError:
    """An input has no label, where its place alone does not say what it is."""
    which = f"input {index + 1} of {len(inputs)}" if len(inputs) > 1 else "its input"
    message = f"'{operation}' takes tensors by label, {which} has none"
    return OperationError("M450", message, input=index, hint=f"write 'label=' before each name of the list; {known}")


def missing(operation: str, label: str, known: str) -> OperationError:
    """An input that has to be there is not."""
    return OperationError("M453", f"'{operation}' needs a tensor with the label '{label}'", hint=known)
