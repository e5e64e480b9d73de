"""What a map makes of certain tensors: steps, one for each use of a statement. All that is known before a byte is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from porter.dataclass import dataclass, field
from porter.dtypes import DType
from porter.errors import MapError
from porter.mapping.scope import StageScope
from porter.mapping.syntax import Map, Statement
from porter.tensor import TensorSpec

if TYPE_CHECKING:
    from porter.mapping.computation import Program

Bindings = Mapping[str, int | str]
"""What captures stand for."""

Action = Literal["keep", "rename", "layout", "compute", "fill", "tie", "drop"]


@dataclass(frozen=True, slots=True)
class Step:
    """One use of a statement.

    sources: names of the tensors it takes, in the order of the statement; those of a drop are gone, a tie's is the tensor that
        gets a second name. targets: what it makes. bindings: the captures. program: None where bytes pass through.
    same_as: for a drop with a condition, the source tensor it has to equal, or the value that every element has to have.
    """

    action: Action
    statement: Statement
    sources: tuple[str, ...]
    targets: tuple[TensorSpec, ...]
    bindings: Bindings = field(default_factory=dict)
    program: Program | None = None
    same_as: str | Program | None = None

    @property
    def line(self) -> int:
        """The line of the map that says so; 0 for maps made in memory."""
        return self.statement.span.line

    @property
    def place(self) -> str:
        """`file:line` of the statement, as errors and listings show it."""
        span = self.statement.span
        return f"{span.text.path or '<map>'}:{span.line}"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage does.

    steps: in the order of their first source. result: name to the spec of each tensor that comes out, in order.
    maker: name of a result to the index of its step. left: sources that nothing mentions and `expect sources=any` leaves out.
    """

    steps: tuple[Step, ...]
    result: Mapping[str, TensorSpec]
    maker: Mapping[str, int]
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A map on certain tensors.

    scopes: for each stage of the map the values of its parameters and the rows of its tables.
    problems: everything that is wrong, in the order it was found; a plan with problems cannot be executed.
    missing: tensors of the target that nothing makes, where the map allows that.
    """

    map: Map
    stages: tuple[StagePlan, ...]
    scopes: tuple[StageScope, ...]
    problems: tuple[MapError, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def result(self) -> Mapping[str, TensorSpec]:
        """What comes out, by name, in order."""
        return self.stages[-1].result


@dataclass(frozen=True, slots=True)
class Described:
    """Name, shape and dtype of a tensor that the result should have; None where that is not known."""

    name: str
    shape: tuple[int, ...] | None = None
    dtype: DType | None = None


FORMAT_ATTRIBUTES = ("caffe.", "keras.", "onnx.", "pytorch.", "ncnn.", "darknet.")
"""Attributes that say where in its file a tensor was; under another name they would say something wrong."""


def renamed(spec: TensorSpec, name: str) -> TensorSpec:
    """`spec` under another name, without what its attributes said of the file it was in."""
    kept = spec.attributes
    if kept:
        kept = {k: v for k, v in kept.items() if not k.startswith(FORMAT_ATTRIBUTES)}
    return TensorSpec(name, spec.dtype, spec.shape, spec.axes, spec.role, kept)
