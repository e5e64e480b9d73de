"""What is known of a graph's values before anything runs: types, shapes, constants, and sizes that only running tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field, replace
from porter.dtypes import DTYPES as ELEMENT_TYPES
from porter.io.payloads import LoadedPayload
from porter.tensor import Payload, canonical_bytes

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

Dimension = int | str | None
Shape = tuple[Dimension, ...]

DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "BOOL": "bool",
    "FLOAT8E4M3FN": "float8_e4m3fn",
}
"""ONNX's element types whose values are looked at, by the names that PyTorch and numpy (with ml_dtypes) have for them."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size that is known when the network runs: axis `axis` of a value, or what `op` makes of two sizes.

    symbol: the dimension's name in the model, or None.
    """

    value: str = ""
    axis: int = 0
    symbol: str | None = None
    op: str = ""
    left: Element = 0
    right: Element = 0

    def values(self) -> list[str]:
        """The values whose sizes are needed."""
        if not self.op:
            return [self.value]
        return [name for side in (self.left, self.right) if isinstance(side, Size) for name in side.values()]


Element = int | Size


@dataclass(frozen=True, slots=True)
class Constant:
    """Values that are known, read when they are needed: `source` transposed by `perm` and reshaped to `shape`.

    source: the initialiser that they are, or None where they were computed. fill: the one number that all elements are, if so stated.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]
    source: str | None = None
    source_shape: tuple[int, ...] = ()
    perm: tuple[int, ...] | None = None
    fill: float | int | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def array(self) -> NDArray[Any]:
        """The values. Reads them."""
        return self.load().reshape(self.shape)

    def payload(self) -> Payload:
        """Their canonical bytes, loaded for whoever asks."""
        dtype = ELEMENT_TYPES[self.dtype]
        return LoadedPayload(dtype.nbytes(self.size), lambda: canonical_bytes(self.array(), dtype))

    def reshaped(self, shape: tuple[int, ...]) -> Constant:
        """The same values in another shape."""
        return self if shape == self.shape else replace(self, shape=shape)

    def transposed(self, perm: tuple[int, ...]) -> Constant:
        """The same values with their axes in another order; a constant that was reshaped before is one of its own then."""
        shape = tuple([self.shape[p] for p in perm])
        load = self.array
        if self.source is None or self.perm is not None or self.shape != self.source_shape:
            return Constant(self.dtype, shape, lambda: load().transpose(perm), fill=self.fill)
        return replace(self, shape=shape, perm=perm, load=lambda: load().transpose(perm))


def computed(array: NDArray[Any], dtype: str | None = None) -> Constant:
    """A constant that no initialiser is."""
    return Constant(dtype or str(array.dtype), array.shape, lambda: array)


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the graph. `elements`: what a short vector of sizes holds, where it is no constant."""

    name: str
    dtype: str | None = None
    shape: Shape | None = None
    constant: Constant | None = None
    elements: tuple[Element, ...] | None = None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape, where all of it is known."""
        return _all_known(self.shape) if self.shape is not None else None


def _all_known(shape: Shape) -> tuple[int, ...] | None:
    known = tuple([n for n in shape if isinstance(n, int)])
    return known if len(known) == len(shape) else None


@dataclass(frozen=True, slots=True)
class Node:
    """An operator at work. `version`: the opset that says what it means. `graphs`: its subgraphs by attribute."""

    op_type: str
    domain: str
    version: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    graphs: Mapping[str, Network] = field(default_factory=dict)


@dataclass(slots=True)
class Network:
    """A graph: names of what comes in and goes out, and nodes in order that something needs."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    values: dict[str, Value]


def dtype_of(data_type: ir.DataType | int | None) -> str | None:
    """The name of an ONNX element type; None for one whose values are not looked at."""
    import onnx_ir as ir

    return DTYPES.get(ir.DataType(int(data_type)).name) if data_type is not None else None


def shape_of(shape: ir.Shape | None) -> Shape | None:
    """A shape out of `onnx_ir`."""
    if shape is None:
        return None
    return tuple([int(n) if isinstance(n, int) else (str(n.value) if n.value is not None else None) for n in shape])
