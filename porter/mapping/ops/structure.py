"""Operations that move elements, cut and join tensors, or make new ones: on bits, for every type, those of less than a byte too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, replace
from porter.dtypes import DType
from porter.mapping.ops.base import BitOperation, Irreversible, Operand, OperationError
from porter.mapping.ops.checks import dimension, element_type, integer, integers, number, only

if TYPE_CHECKING:
    from numpy.typing import NDArray


_MOST = 1 << 36
"""Elements that a tensor which a map makes up has less of."""


@dataclass(frozen=True, slots=True)
class Flip(BitOperation):
    """`flip(axis)`: the dimension in reverse, y[i] = x[n-1-i]: BGR to RGB and back on the input channels, kernels turned round.

    Shape: as it is. Inverse: the same.
    """

    axis: int

    name = "flip"
    takes = "one tensor"
    undone = "flip"

    def __post_init__(self) -> None:
        integer(self.axis, "axis")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        given = only(self.name, inputs)
        dimension(self.axis, given)
        return (given,)

    def inverse(self, inputs: Sequence[Operand] | None) -> Flip:
        return self

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        return (np.flip(inputs[0], self.axis),)


@dataclass(frozen=True, slots=True)
class Reorder(BitOperation):
    """`reorder(axis, [0, 1, 3, 2])`: the dimension cut into as many equal blocks as the list is long, put into its order: block j
    of the output is block `blocks[j]` of the input. Gates of recurrent layers; with as many blocks as positions, any permutation.

    Shape: as it is; the number of blocks divides the dimension. Inverse: `reorder` by the inverse permutation.
    """

    axis: int
    blocks: tuple[int, ...]

    name = "reorder"
    takes = "one tensor"
    undone = "reorder"

    def __post_init__(self) -> None:
        integer(self.axis, "axis")
        blocks = integers(self.blocks, "blocks")
        if sorted(blocks) != list(range(len(blocks))) or not blocks:
            message = f"'blocks' holds each of 0 to {max(len(blocks) - 1, 0)} once, in the new order"
            raise OperationError("M403", message, argument="blocks")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        given = only(self.name, inputs)
        length = given.shape[dimension(self.axis, given)]
        if length % len(self.blocks):
            raise OperationError(
                "M406", f"axis {self.axis} of {list(given.shape)} cannot be cut into {len(self.blocks)} equal blocks", input=0
            )
        return (given,)

    def inverse(self, inputs: Sequence[Operand] | None) -> Reorder:
        undone = [0] * len(self.blocks)
        for new, old in enumerate(self.blocks):
            undone[old] = new
        return Reorder(self.axis, tuple(undone))

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        (x,) = inputs
        axis = self.axis % x.ndim
        shape = (*x.shape[:axis], len(self.blocks), x.shape[axis] // len(self.blocks), *x.shape[axis + 1 :])
        return (np.take(x.reshape(shape), self.blocks, axis).reshape(x.shape),)


@dataclass(frozen=True, slots=True)
class Slice(BitOperation):
    """`slice(axis, start, stop)`: positions start to stop - 1 of a dimension; negative ones count from its end, without `stop` to
    its end. Both have to lie inside.

    rest: what is cut off has to be this number, bit for bit; other tensors are refused.

    Shape: stop - start in place of the dimension. Inverse: none, unless nothing is cut off; with `rest`, `pad`, where start
    counts from the beginning and stop from the end.
    """

    axis: int
    start: int = 0
    stop: int | None = None
    rest: float | None = None

    name = "slice"
    takes = "one tensor"
    undone = "never: what is cut off is lost; with 'rest' by pad"

    def __post_init__(self) -> None:
        integer(self.axis, "axis")
        integer(self.start, "start")
        if self.stop is not None:
            integer(self.stop, "stop")
        if self.rest is not None:
            _check_value(self.rest, "rest")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        given = only(self.name, inputs)
        axis = dimension(self.axis, given)
        start, stop = self._bounds(given)
        if self.rest is not None:
            element(self.rest, given.dtype, "rest")
        return (replace(given, shape=_with_length(given.shape, axis, stop - start)),)

    def _bounds(self, given: Operand) -> tuple[int, int]:
        length = given.shape[dimension(self.axis, given)]
        start = self.start + length if self.start < 0 else self.start
        stop = length if self.stop is None else self.stop + length if self.stop < 0 else self.stop
        if not 0 <= start <= stop <= length:
            asked = f"{self.start} to {self.stop if self.stop is not None else 'the end'}"
            hint = f"it has {length}: 0 to {length}, or counted from the end -{length} to -1" if length else None
            raise OperationError("M407", f"axis {self.axis} of {list(given.shape)} has no positions {asked}", input=0, hint=hint)
        return start, stop

    def inverse(self, inputs: Sequence[Operand] | None) -> Slice | Pad | Irreversible:
        before, after = self.start, -(self.stop or 0)
        if inputs is not None:
            start, stop = self._bounds(inputs[0])
            before, after = start, inputs[0].shape[dimension(self.axis, inputs[0])] - stop
        if before == after == 0 and self.stop != 0:
            return Slice(self.axis)
        if self.rest is None:
            return Irreversible("what is cut off is lost; with 'rest=0' tensors that hold anything else there are refused")
        if before < 0 or after < 0 or self.stop == 0:
            return Irreversible("how much is cut off depends on the tensor; count 'start' from the beginning and 'stop' from the end")
        return Pad(self.axis, before, after, self.rest)

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        (x,), (given,) = inputs, operands
        axis = dimension(self.axis, given)
        start, stop = self._bounds(given)
        before, kept, after = (x[_part(axis, a, b)] for a, b in ((0, start), (start, stop), (stop, x.shape[axis])))
        if self.rest is not None:
            self._check_rest((before, after), given.dtype)
        return (kept,)

    def _check_rest(self, parts: Sequence[NDArray[Any]], dtype: DType) -> None:
        import numpy as np

        expected = element(self.rest, dtype, "rest")
        one, *codes = (np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(-1, dtype.itemsize) for a in (expected, *parts))
        found = sum([int(np.count_nonzero((c != one).any(axis=1))) for c in codes])
        if found:
            count = f"{found:,} value{'s' if found > 1 else ''}"
            message = f"{count} of what would be cut off {'are' if found > 1 else 'is'} not {self.rest}"
            raise OperationError("M416", message, input=0, hint="leave 'rest' out to cut them off all the same; that goes one way")


@dataclass(frozen=True, slots=True)
class Pad(BitOperation):
    """`pad(axis, before, after)`: that many positions more at the beginning and the end of a dimension, filled with `value`.

    Shape: before + n + after in place of the dimension. Inverse: `slice`, which checks what it cuts off.
    """

    axis: int
    before: int = 0
    after: int = 0
    value: float = 0

    name = "pad"
    takes = "one tensor"
    undone = "slice"

    def __post_init__(self) -> None:
        integer(self.axis, "axis")
        for count, argument in ((self.before, "before"), (self.after, "after")):
            if integer(count, argument) < 0:
                raise OperationError(
                    "M403", f"'{argument}' is how many to add, {count} is none", argument=argument, hint="'slice' cuts off"
                )
        _check_value(self.value, "value")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        given = only(self.name, inputs)
        axis = dimension(self.axis, given)
        element(self.value, given.dtype, "value")
        return (replace(given, shape=_checked(_with_length(given.shape, axis, self.before + given.shape[axis] + self.after), self.name)),)

    def inverse(self, inputs: Sequence[Operand] | None) -> Slice:
        return Slice(self.axis, self.before, -self.after if self.after else None, self.value)

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        (x,), (given,) = inputs, operands
        axis = dimension(self.axis, given)
        padded = np.empty(_with_length(x.shape, axis, self.before + x.shape[axis] + self.after), x.dtype)
        padded[...] = element(self.value, given.dtype, "value")
        padded[_part(axis, self.before, self.before + x.shape[axis])] = x
        return (padded,)


@dataclass(frozen=True, slots=True)
class Fill(BitOperation):
    """`fill(0, shape=[c], dtype=f32)`: a tensor of one value, rounded once to the type. Without shape and dtype, or with `like` in
    place of the shape, those of the input.

    Shape: as said. Inverse: none for a tensor that goes in, its values are not looked at.
    """

    value: float
    shape: tuple[int, ...] | str | None = None
    dtype: str | None = None

    name = "fill"
    takes = "none, or a tensor for its shape and type"
    undone = "never: the input's values are not kept"

    def __post_init__(self) -> None:
        _check_value(self.value, "value")
        if self.shape is not None and self.shape != "like":
            for length in integers(self.shape, "shape"):
                if length < 0:
                    raise OperationError("M403", f"'shape' has the negative length {length}", argument="shape")
        if self.dtype is not None:
            element(self.value, element_type(self.dtype, "dtype"), "value")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        if len(inputs) > 1:
            only(self.name, inputs)
        if not inputs and (self.dtype is None or self.shape is None or self.shape == "like"):
            what = "'dtype=…'" if self.dtype is None else "'shape=[…]'"
            raise OperationError(
                "M404", f"'fill' has no tensor to take it from, and needs {what}", hint="such as fill(0, shape=[64], dtype=f32)"
            )
        shape, dtype = self._made(inputs)
        element(self.value, dtype, "value")
        made = Operand("", dtype, shape) if not inputs else replace(inputs[0], dtype=dtype, shape=shape)
        return (replace(made, shape=_checked(shape, self.name)),)

    def _made(self, inputs: Sequence[Operand]) -> tuple[tuple[int, ...], DType]:
        shape = self.shape if isinstance(self.shape, tuple) else inputs[0].shape
        return shape, inputs[0].dtype if self.dtype is None else element_type(self.dtype, "dtype")

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the input's values are not kept")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        shape, dtype = self._made(operands)
        return (np.broadcast_to(element(self.value, dtype, "value"), shape),)


@dataclass(frozen=True, slots=True)
class Copy(BitOperation):
    """`copy(n)`: the tensor n times.

    Shape: as it is, n outputs. Inverse: none, copies that were changed afterwards would not be one tensor.
    """

    n: int = 2

    name = "copy"
    takes = "one tensor, gives n"
    undone = "never: the copies could be made to differ"

    def __post_init__(self) -> None:
        if not 1 <= integer(self.n, "n") <= 65536:
            raise OperationError("M403", f"'n' is a number of copies, {self.n} is none", argument="n")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        return (only(self.name, inputs),) * self.n

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the copies could differ; a tie, 'copy = original', keeps them one")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        return (inputs[0],) * self.n


def element(value: float | None, dtype: DType, argument: str) -> NDArray[Any]:
    """An array of no dimensions that holds `value` as an element of `dtype`: floats are rounded once, integers have to be exact.

    Raises:
        OperationError: the type cannot hold it, or not nearly.
    """
    import numpy as np

    assert value is not None
    if dtype.kind in ("int", "uint"):
        low, high = (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)
        if not math.isfinite(value) or value != int(value) or not low <= value <= high:
            raise OperationError("M417", f"{value} is no {dtype}", argument=argument)
        made = np.array(int(value), f"<{dtype.kind[0]}{dtype.itemsize}")
        return made.view(dtype.numpy())
    if dtype.kind == "bool":
        if value not in (0, 1):
            raise OperationError("M417", f"{value} is no {dtype}", argument=argument)
        return np.array(bool(value))
    if dtype.kind == "complex":
        return _complex(value, dtype)
    from porter.mapping.ops.rounding import rounded

    made, counts = rounded(np.array(float(value)), dtype)
    if counts.overflowed or counts.underflowed:
        raise OperationError("M417", f"{value} is too {'large' if counts.overflowed else 'small'} for {dtype}", argument=argument)
    return made


def _complex(value: float, dtype: DType) -> NDArray[Any]:
    """`value` with the imaginary part 0."""
    import numpy as np

    from porter.dtypes import DTYPES

    part = DTYPES[f"float{dtype.bits // 2}"]
    parts = [element(v, part, "value") for v in (value, 0.0)]
    return np.array(parts, part.numpy()).view(dtype.numpy()).reshape(())


def _check_value(value: object, argument: str) -> None:
    """Check that `value` is a number or a boolean; infinities and NaN may be one."""
    if not isinstance(value, bool) and not (isinstance(value, float) and not math.isfinite(value)):
        number(value, argument)


def _checked(shape: tuple[int, ...], operation: str) -> tuple[int, ...]:
    """`shape`, which a map may have made up: refused where no tensor could have it."""
    if math.prod(shape) >= _MOST or len(shape) > 64:
        raise OperationError("M406", f"'{operation}' would make a tensor of the shape {list(shape[:8])}, which is larger than any weight")
    return shape


def _with_length(shape: tuple[int, ...], axis: int, length: int) -> tuple[int, ...]:
    return (*shape[:axis], length, *shape[axis + 1 :])


def _part(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """The index of positions `start` to `stop` of a dimension."""
    return (slice(None),) * axis + (slice(start, stop),)
