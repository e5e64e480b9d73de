"""A network as calls of functions, as both languages print it: one for each layer, or for a few layers that people write as one."""

from __future__ import annotations

from collections.abc import Mapping

from porter.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A member of one of TensorRT's enumerations, or with no `kind` a text that is no name."""

    kind: str
    member: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A parameter of the block that a call stands in; for a text what stands before and behind it."""

    parameter: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values that are written into the source. dtype: porter's name."""

    dtype: str
    shape: tuple[int, ...]
    values: tuple[int | float | bool, ...]


Value = str | bool | int | float | tuple[int, ...] | tuple[float, ...] | Word | Numbers | Reference | None
"""A setting. A `str` is a name, of a layer or of weights; the first setting of each call is its layer's name."""


EXPORTED = "_output_0"
"""What PyTorch's exporter puts behind a node's name to name its first tensor."""

DOUBLES = frozenset([("batch_norm", "epsilon")])
"""Functions and settings that are not rounded to float."""

_WEIGHTED = frozenset(["convolution", "deconvolution", "batch_norm", "scale", "general_scale", "linear", "prelu", "constant", "numbers"])
"""Functions of layers that are given the weights; `numbers` for their type."""


@dataclass(frozen=True, slots=True)
class Call:
    """function: `convolution`, `activation` …, or the name of a block. inputs, outputs: tensors, "" for one that is not given.

    weights: for a block, whether it takes any.
    """

    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Value]
    block: bool = False
    weights: bool = False

    @property
    def takes_weights(self) -> bool:
        return self.weights if self.block else self.function in _WEIGHTED

    @property
    def numbers(self) -> Numbers:
        """The values of a call that writes them into the source."""
        values = self.settings["values"]
        assert isinstance(values, Numbers)
        return values


@dataclass(frozen=True, slots=True)
class Parameter:
    """What differs between the uses of a block. kind: `text`, `int`, `float`, `ints` or `floats`."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Block:
    """A function that stands for layers that the network repeats. inputs: variables that it is given; output: what it returns."""

    name: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    output: str
    body: tuple[Call, ...]

    @property
    def takes_weights(self) -> bool:
        return any(call.takes_weights for call in self.body)


@dataclass(frozen=True, slots=True)
class Program:
    """blocks: in the order in which they are defined."""

    blocks: tuple[Block, ...]
    body: tuple[Call, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, those of blocks first."""
        return (*(call for block in self.blocks for call in block.body), *self.body)
