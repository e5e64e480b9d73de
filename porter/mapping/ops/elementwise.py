"""Operations on each element by itself: a change of type, sums and products, the reciprocal square root, the sign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, replace
from porter.dtypes import DType
from porter.io.float_layouts import FLOAT_LAYOUTS, holds
from porter.mapping.ops.base import BitOperation, FloatOperation, Irreversible, Operand, OperationError
from porter.mapping.ops.checks import by_order, dimension, element_type, flag, floating, integer, number, only, same_shape, same_type
from porter.mapping.ops.rounding import rounded, widened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Cast(FloatOperation):
    """Another element type, `cast(f16)`: each value is rounded once to the nearest, ties to even.

    What a narrower float type cannot hold becomes what `porter.mapping.ops.rounding` says, and is counted and reported. To and
    from integers only exact values are taken, others refused. NaNs keep the upper bits of their payload.

    was: the type that the input has to have; needed where a map is inverted without tensors at hand.
    exact: refuse every value whose bits would not come back.

    Shape: as it is. Inverse: the cast back, exact, where the new type holds every value of the old one, or with `exact`.
    """

    dtype: str
    was: str | None = None
    exact: bool = False

    name = "cast"
    takes = "one tensor"
    undone = "cast, from a type that holds every value, or with 'exact'; else never: values are rounded"
    elementwise = True

    def __post_init__(self) -> None:
        flag(self.exact, "exact")
        for value, argument in ((self.dtype, "dtype"), (self.was, "was")):
            if value is not None and element_type(value, argument).kind == "complex":
                raise OperationError("M405", "there is no cast to or from complex numbers", argument=argument)

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        given = only(self.name, inputs)
        if given.dtype.kind == "complex":
            raise OperationError("M405", f"there is no cast to or from complex numbers, this is {given.dtype}", input=0)
        if self.was is not None and given.dtype != element_type(self.was, "was"):
            raise OperationError("M405", f"this is {given.dtype}, and 'was={self.was}' says otherwise", input=0)
        return (replace(given, dtype=self._target),)

    def inverse(self, inputs: Sequence[Operand] | None) -> Cast | Irreversible:
        source = inputs[0].dtype if inputs else element_type(self.was, "was") if self.was is not None else None
        if source is None:
            return Irreversible(f"the type before it is not known; 'cast({self.dtype}, was=…)' says it")
        if not self.exact and not _always_exact(source, self._target):
            why = f"{self._target} does not hold every value of {source}"
            return Irreversible(f"{why}; with 'exact=true' values that it does not hold are refused")
        return Cast(source.short, self._target.short, True)

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        (values,), source, target = inputs, operands[0].dtype, self._target
        integral = source.kind != "float" or target.kind != "float"
        if integral or (self.exact and not _holds_all(source, target)):
            self._refuse_changes(values, integral)
        elif FLOAT_LAYOUTS[target.name].special == "finite":
            self._refuse_nan(values)
        # Elsewhere rounding is what was asked for; whoever runs the chain does it and counts.
        return (values,)

    def _refuse_changes(self, values: NDArray[np.float64], integral: bool) -> None:
        import numpy as np

        result, _ = rounded(values, self._target)
        if self._target.kind == "float":
            lost = widened(result, self._target).view(np.uint64) != values.view(np.uint64)
        elif self.exact:
            # The cast back would make 0 of -0, and refuse what has more than 53 bits.
            lost = (result.astype(np.float64).view(np.uint64) != values.view(np.uint64)) | (np.abs(values) > 2.0**53)
        else:
            lost = result.astype(np.float64) != values
        if lost.any():
            hint = "cast to a type that holds it" if integral else "leave 'exact' out to have such values rounded"
            raise OperationError("M411", f"the value {values[lost].flat[0]!s} cannot be {self._target} exactly", input=0, hint=hint)

    def _refuse_nan(self, values: NDArray[np.float64]) -> None:
        import numpy as np

        if np.isnan(values).any():
            raise OperationError(
                "M412", f"there are NaNs, and {self._target} has none", input=0, hint="use a type that has, such as f8e5m2"
            )

    @property
    def _target(self) -> DType:
        return element_type(self.dtype, "dtype")


def _holds_all(source: DType, target: DType) -> bool:
    """Whether a cast from `source` to `target` changes no value whatever it is."""
    return target.kind == "float" and holds(target, source)


def _always_exact(source: DType, target: DType) -> bool:
    """Whether a cast either keeps every value or is refused, and so can be undone."""
    return source == target or _holds_all(source, target) or source.kind != "float"


@dataclass(frozen=True, slots=True)
class Add(FloatOperation):
    """`add(x)`: x + the number; `[a, b] | add`: a + b; `[a, v] | add(axis=0)`: a + v, the vector v along that dimension.

    Shape and type: those of the first. Inverse: none.
    """

    x: float | None = None
    axis: int | None = None

    name = "add"
    takes = "one tensor and a number, or two tensors"
    undone = "never: sums are rounded, so that several inputs give one output"

    def __post_init__(self) -> None:
        if self.x is not None:
            number(self.x, "x")
        if self.axis is not None:
            integer(self.axis, "axis")
            if self.x is not None:
                raise OperationError("M402", "a number is added to every element, 'axis' is for a second tensor", argument="axis")

    @property
    def elementwise(self) -> bool:
        return self.x is not None

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        if self.x is not None:
            return _float_output(self.name, inputs)
        by_order(self.name, inputs, 2, 2, "a number, or two tensors")
        _computable(self.name, inputs)
        if self.axis is None:
            same_shape(self.name, inputs)
        else:
            _check_vector(self.name, inputs, 1, self.axis)
        return (inputs[0],)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the sum is rounded, so that several inputs give one output")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        with _overflow_refused():
            if self.x is not None:
                return (inputs[0] + float(self.x),)
            return (inputs[0] + (inputs[1] if self.axis is None else _along(inputs[1], self.axis, operands[0])),)


@dataclass(frozen=True, slots=True)
class Mul(FloatOperation):
    """`mul(x)`: every element times the number; `[a, b] | mul`: a · b, element by element. Along a dimension: see `scale`.

    Shape and type: those of the first. Inverse: none, by powers of two neither: large values overflow, small ones lose bits.
    """

    x: float | None = None

    name = "mul"
    takes = "one tensor and a number, or two tensors"
    undone = "never: products are rounded, overflow or lose bits near zero, also by powers of two; for -1 use neg"

    def __post_init__(self) -> None:
        if self.x is not None:
            number(self.x, "x")

    @property
    def elementwise(self) -> bool:
        return self.x is not None

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        if self.x is not None:
            return _float_output(self.name, inputs)
        by_order(self.name, inputs, 2, 2, "a number, or two tensors")
        _computable(self.name, inputs)
        same_shape(self.name, inputs)
        return (inputs[0],)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        if self.x == -1:
            return Irreversible("products are rounded in general; 'neg' changes the sign and can be undone")
        if self.x is not None and _power_of_two(self.x):
            return Irreversible("large values overflow and small ones lose bits, even for a power of two")
        return Irreversible("the product is rounded, so that several inputs give one output")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        with _overflow_refused():
            return (inputs[0] * (inputs[1] if self.x is None else float(self.x)),)


@dataclass(frozen=True, slots=True)
class Scale(FloatOperation):
    """`[x, s] | scale(axis=0)`: x times the vector s along that dimension; `[x, s, t] | scale(axis=0)`: x · s + t.

    Shape: x as it is, s and t one element for each position of the dimension. All of one type. Inverse: none.
    """

    axis: int = 0

    name = "scale"
    takes = "a tensor, a vector of factors, perhaps a vector of shifts"
    undone = "never: products are rounded"

    def __post_init__(self) -> None:
        if isinstance(self.axis, float):
            raise OperationError(
                "M403", "'scale' takes its factors from a tensor", argument="axis", hint=f"'mul({self.axis})' multiplies by a number"
            )
        integer(self.axis, "axis")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        by_order(self.name, inputs, 2, 3, "a tensor, its factors, and perhaps its shifts; 'mul(x)' multiplies by a number")
        _computable(self.name, inputs)
        for index in range(1, len(inputs)):
            _check_vector(self.name, inputs, index, self.axis)
        return (inputs[0],)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the product is rounded, and a factor may be 0")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        factors, *shifts = [_along(v, self.axis, operands[0]) for v in inputs[1:]]
        with _overflow_refused():
            product = inputs[0] * factors
            return (product + shifts[0] if shifts else product,)


@dataclass(frozen=True, slots=True)
class Sum(FloatOperation):
    """`[a, b, c] | sum`: a + b + c, element by element, from left to right in float64.

    Shape and type: one for all. Inverse: none.
    """

    name = "sum"
    takes = "two tensors or more"
    undone = "never: one sum comes of many tensors"

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        by_order(self.name, inputs, 2, None, "two tensors or more")
        _computable(self.name, inputs)
        same_shape(self.name, inputs)
        return (inputs[0],)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("one sum comes of many tensors")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        with _overflow_refused():
            total = inputs[0] + inputs[1]
            for other in inputs[2:]:
                total = total + other
        return (total,)


@dataclass(frozen=True, slots=True)
class Rsqrt(FloatOperation):
    """1 / √x, of values above zero: what batch normalisation makes of a variance.

    Shape and type: as they are. Inverse: none.
    """

    name = "rsqrt"
    takes = "one tensor"
    undone = "never: the root is rounded"
    elementwise = True

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        return _float_output(self.name, inputs)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the root is rounded, so that several inputs give one output")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        (x,) = inputs
        bad = x <= 0
        if bad.any():
            hint = "add a small number before it, as batch normalisation does: 'add(1e-5) | rsqrt'"
            raise OperationError("M413", f"'rsqrt' of {x[bad].flat[0]!s}, which is not above zero", input=0, hint=hint)
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return (1 / np.sqrt(x),)


@dataclass(frozen=True, slots=True)
class Neg(BitOperation):
    """−x: the sign bit of floats turned, NaNs and zeros included; integers in two's complement.

    In types with one zero (`fnuz`) that and the NaN stay as they are. The smallest integer, which has no opposite, is refused.

    Shape and type: as they are. Inverse: `neg`.
    """

    name = "neg"
    takes = "one tensor"
    undone = "neg"
    elementwise = True

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        given = only(self.name, inputs)
        if given.dtype.kind in ("uint", "bool") or given.dtype.name == "float8_e8m0fnu":
            raise OperationError("M405", f"'neg' needs a type with a sign, this is {given.dtype}", input=0)
        return (given,)

    def inverse(self, inputs: Sequence[Operand] | None) -> Neg:
        return self

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        dtype = operands[0].dtype
        values = np.ascontiguousarray(inputs[0]).reshape(-1)
        if dtype.kind == "int":
            return (_opposite(values, dtype).reshape(inputs[0].shape),)
        lanes = 2 if dtype.kind == "complex" else 1
        codes = values.view(f"<u{dtype.itemsize // lanes}")
        sign = codes.dtype.type(1 << dtype.bits // lanes - 1)
        turned = codes ^ sign
        if dtype.kind == "float" and FLOAT_LAYOUTS[dtype.name].special == "fnuz":
            turned = np.where(codes & ~sign == 0, codes, turned)
        return (turned.view(values.dtype).reshape(inputs[0].shape),)


def _opposite(values: NDArray[Any], dtype: DType) -> NDArray[Any]:
    import numpy as np

    numbers = values.view(f"<i{dtype.itemsize}")
    smallest = -(1 << dtype.bits - 1)
    if (numbers == smallest).any():
        raise OperationError("M414", f"{smallest} has no opposite in {dtype}", input=0, hint="put 'cast' to a wider type before it")
    opposite: NDArray[Any] = np.negative(numbers).view(values.dtype)
    return opposite


def _float_output(operation: str, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
    """The output of an operation on one float tensor that keeps shape and type."""
    given = only(operation, inputs)
    floating(operation, inputs)
    return (given,)


def _computable(operation: str, inputs: Sequence[Operand]) -> None:
    floating(operation, inputs)
    same_type(operation, inputs)


def _check_vector(operation: str, inputs: Sequence[Operand], index: int, axis: int) -> None:
    """Check that an input is a vector with an element for each position of a dimension of the first."""
    length = inputs[0].shape[dimension(axis, inputs[0])]
    if inputs[index].shape != (length,):
        message = f"'{operation}' along axis {axis} of {list(inputs[0].shape)} takes {length} numbers, this is {list(inputs[index].shape)}"
        raise OperationError("M406", message, input=index)


def _along(vector: NDArray[Any], axis: int, operand: Operand) -> NDArray[Any]:
    """`vector` with dimensions of 1 around it, so that it lies along `axis` of the operand."""
    rank = len(operand.shape)
    at = axis % rank
    return vector.reshape((1,) * at + (-1,) + (1,) * (rank - at - 1))


@contextmanager
def _overflow_refused() -> Iterator[None]:
    """Arithmetic inside is refused where finite numbers give an infinite one, which rounding would not count.

    Raises:
        OperationError: the result is beyond float64.
    """
    import numpy as np

    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):  # invalid: signalling NaNs become quiet
            yield
    except FloatingPointError as error:
        raise OperationError("M415", "a result is beyond what float64 can hold", input=0) from error


def _power_of_two(x: float) -> bool:
    import math

    return abs(math.frexp(x)[0]) == 0.5
