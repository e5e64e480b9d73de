"""What an operation of the map language is; `porter.mapping.ops.registry` has them by name.

An operation is bound to its arguments once, when a map is checked; it then says what it makes of inputs it knows by
dtype and shape alone, how it is undone, and, when a tensor is written, computes.

Others add operations through the entry-point group `porter.map_operations`: an entry point's name is the operation's, its
object a `Binder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from porter.dataclass import dataclass, field_names
from porter.dtypes import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

Domain = Literal["bits", "float64"]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that goes into or comes out of an operation: its label (`weight`, `mean`; None in the middle of a chain or where
    the map gives none), dtype and shape. `name` is the tensor's, for messages.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Irreversible:
    """Why an operation has no inverse, as a clause: "the sum is rounded, so that several inputs give one output"."""

    reason: str


@runtime_checkable
class Operation(Protocol):
    """An operation with its arguments.

    Attributes:
        name: as written in maps.
        domain: "bits": `compute` gets and gives arrays of the operands' own dtype (`DType.numpy()`) and moves elements or
            changes bits, so NaN payloads survive. "float64": it gets float64 arrays, and what it gives is rounded once, to
            nearest even, to the dtype that `outputs` stated, after the last operation of the chain.
        elementwise: one input, one output of the same shape, each element from the element at its place alone: can be
            computed in chunks of any length, as flat arrays.
    """

    name: str
    domain: Domain

    @property
    def elementwise(self) -> bool: ...

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        """What comes out for these inputs, in order, with labels where there is more than one. Reads no values.

        Raises:
            OperationError: the inputs are too few or too many, or their shapes, dtypes or labels do not go together.
        """
        ...

    def inverse(self, inputs: Sequence[Operand] | None) -> Operation | Irreversible:
        """The operation that gives back every input bit for bit from the outputs, or why there is none.

        `inputs` is None when a map is inverted without tensors at hand; the answer must then hold for all that `outputs` takes.
        """
        ...

    def arguments(self) -> Mapping[str, Any]:
        """The arguments, as plain values by name, from which `Binder` makes an equal operation: how a map is printed."""
        ...

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        """The outputs for these inputs, which are described by `operands` in the same order. Must not change the inputs."""
        ...


class _Bound:
    """What operations share: a frozen dataclass of the arguments, with `BitOperation` or `FloatOperation` as its base, states no
    more than `name`, `outputs`, `inverse` and `compute`.

    takes, undone: for the list of operations: what goes in and comes out, and how it is undone or why it cannot be.
    """

    __slots__ = ()

    takes: str = ""
    undone: str = ""

    @property
    def elementwise(self) -> bool:
        """Whether each element comes from the element at its place alone, see `Operation`; a plain attribute where it always does."""
        return False

    def arguments(self) -> Mapping[str, Any]:
        """The fields."""
        return {name: getattr(self, name) for name in field_names(self)}


class BitOperation(_Bound):
    """An operation that moves elements or changes bits."""

    __slots__ = ()

    domain: Domain = "bits"


class FloatOperation(_Bound):
    """An operation that computes in float64."""

    __slots__ = ()

    domain: Domain = "float64"


class Binder(Protocol):
    """Makes an operation of its arguments; one for each name. A class with the arguments as its parameters is a binder.

    Arguments are Python values: int, float, bool, str (also for bare words, such as `f16`), tuples of these.

    Raises:
        OperationError: an argument means nothing.
        TypeError: too many arguments, one missing, or of an unknown name, as calling a Python function does.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Operation: ...


class OperationError(Exception):
    """What is wrong with an operation's arguments or inputs; the checker adds the place in the map.

    `code` is a porter error code (M4…), `input` the index of the input concerned, `argument` the name of the argument, or None.
    """

    def __init__(self, code: str, message: str, *, input: int | None = None, argument: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.input = input
        self.argument = argument
        self.hint = hint
