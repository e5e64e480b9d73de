"""One side of a comparison: a network that can be run, layer by layer, whatever framework it is of.

`porter.parity.sides` has one module for each kind. A side names its values as its framework does; `porter.parity.matching` says
which value of the one is which of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from porter.dataclass import dataclass, field
from porter.graph.feeds import Given, Shape
from porter.tensor import Json, Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

BUDGET = 1 << 26
"""Bytes of values that a side, and a comparison, hold at once."""


@dataclass(frozen=True, slots=True)
class Step:
    """One layer, as a reader would compare it with another. Layers that change nothing (Dropout in a test) are none.

    name, type: as the side's framework calls them (`conv1`, `Convolution`). inputs, outputs: names of the values it reads and makes,
    weights not among them. settings: its parameters. weights: names of its tensors, for `Side.weight`.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Json] = field(default_factory=dict)
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A value as a side computed or recorded it.

    array: all of it; or, where `indices` is given, its elements at these flat indices (C order), as recordings keep of large values.
    shape: of the whole value. scale: the largest magnitude of the whole, where it is known better than from `array`.
    """

    name: str
    array: NDArray[Any]
    shape: tuple[int, ...]
    indices: NDArray[Any] | None = None
    scale: float | None = None


class Side(Protocol):
    """A network that was opened. Its files are open until the end of the `with` block.

    Values are made again whenever they are asked for; none is kept. Errors of the framework that runs it come as `PorterError`.
    """

    @property
    def label(self) -> str:
        """What the user called it: the paths."""
        ...

    @property
    def kind(self) -> str:
        """`caffe`, `onnx`, `torch`, `tensorrt` or `golden`."""
        ...

    @property
    def runner(self) -> str:
        """What computes: `onnxruntime`, `torch`, `opencv`, `engine`; `recorded` where nothing does."""
        ...

    @property
    def inputs(self) -> Mapping[str, Given]:
        """The inputs, in order."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The values that the network is run for, in order."""
        ...

    @property
    def steps(self) -> tuple[Step, ...]:
        """The layers in an order in which they can run."""
        ...

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of values as far as they are known before the network runs."""
        ...

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """By value, the other names that it goes by, the best first: of its layer, `layer/top`, of a variable. Need not be unique."""
        ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader has to know of it, a line each."""
        ...

    def recorded_inputs(self) -> Mapping[str, NDArray[Any]]:
        """What the network is known to have been fed; empty where nothing is."""
        ...

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Is told what will be fed, before values are matched: some networks show their layers and outputs only when they run."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        """Yield the values in `wanted`, in the order in which they are computed, about `BUDGET` bytes of them alive at a time.

        A value is good until the next one is asked for. What cannot be observed (optimised away, not recorded) is left out.
        """
        ...

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]] | None:
        """What `step` alone makes of the values in `given`, one for each of its inputs; None where it cannot be run alone."""
        ...

    def fragment(self, step: Step) -> ir.Model | None:
        """`step` alone as an ONNX model, its weights as initialisers, its values as inputs and outputs; None where that is not known."""
        ...

    def weight(self, name: str) -> Tensor | None:
        """A tensor of the network, read when it is asked for."""
        ...

    def __enter__(self) -> Side: ...

    def __exit__(self, *exception: object) -> None: ...
