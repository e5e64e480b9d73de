"""The channels of a layer's weight, and the vectors that have one element for each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.mapping.ops.base import Operand, OperationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Channels:
    """Where a weight of `shape` has its channels.

    axis: the axis that counts them, from 0. groups: on axis 1, how many groups axis 0 holds one after the other; axis 1
    counts the channels of one group, so that there are `groups` times as many. That is how Caffe, torch and ONNX lay out
    a grouped convolution's inputs (O, I/groups, …) and a grouped deconvolution's outputs (I, O/groups, …).
    """

    shape: tuple[int, ...]
    axis: int
    groups: int = 1

    @property
    def size(self) -> int:
        """How many channels there are."""
        return self.shape[self.axis] * self.groups

    def apart(self, weight: NDArray[Any]) -> NDArray[Any]:
        """The weight with the groups as an axis of their own, where there are several: (groups, n, m, …) for (groups n, m, …)."""
        if self.groups == 1:
            return weight
        return weight.reshape(self.groups, self.shape[0] // self.groups, *self.shape[1:])

    def along(self, vector: NDArray[Any]) -> NDArray[Any]:
        """A vector of `size` elements, shaped to be broadcast against `apart(weight)`."""
        if self.groups == 1:
            return vector.reshape([n if i == self.axis else 1 for i, n in enumerate(self.shape)])
        return vector.reshape(self.groups, 1, self.shape[1], *[1] * (len(self.shape) - 2))


def channels_of(operation: str, operand: Operand, axis: int, groups: int, index: int) -> Channels:
    """The channels of `operand`, input `index`, on `axis` (which may count from the end).

    Raises:
        OperationError: it has no such axis, or its first axis does not hold so many groups.
    """
    shape, rank = operand.shape, len(operand.shape)
    if not -rank <= axis < rank:
        raise OperationError("M456", f"a weight of shape {list(shape)} has no axis {axis}", input=index)
    if groups > 1 and shape[0] % groups:
        raise OperationError("M456", f"{shape[0]}, the first axis of {list(shape)}, does not divide into {groups} groups", input=index)
    return Channels(shape, axis % rank, groups)


def check_vector(operand: Operand, index: int, size: int, whose: str) -> None:
    """Refuse a tensor that does not have one element for each of `size` channels; axes of 1, as in old Caffe files, do not matter."""
    shape = operand.shape
    if math.prod(shape) != size or (size and max(shape, default=1) != size):
        message = f"'{operand.label}' has the shape {list(shape)}, not one element for each of the {size} {whose}"
        raise OperationError("M455", message, input=index)


def shape_or(operands: Sequence[Operand], index: int | None, size: int) -> tuple[int, ...]:
    """The shape of operand `index`, or that of a plain vector where it is None."""
    return (size,) if index is None else operands[index].shape
