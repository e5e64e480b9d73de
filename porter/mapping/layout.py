"""Axis patterns: sizes solved from shapes, and the movement of elements they stand for. Interface; see `solve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from porter.dataclass import dataclass, field
from porter.mapping.syntax import Axes, Span
from porter.tensor import Payload, Tensor


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor on one side of a rule: its name, shape (None: not known, to be worked out), axis pattern (None: as the other
    side's, dimension by dimension), and, where it is one slice of the other side's tensor, `at`: the index on those axes
    (`{"e": 3}` for the capture `e`).

    `block` is its place in its list, None outside one.
    """

    name: str
    shape: tuple[int, ...] | None
    axes: Axes | None
    at: Mapping[str, int] = field(default_factory=dict)
    block: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The answer of `solve`: shapes of all sources and targets, sizes of all axes, and the moves."""

    source_shapes: tuple[tuple[int, ...], ...]
    target_shapes: tuple[tuple[int, ...], ...]
    sizes: Mapping[str, int]

    def payloads(self, sources: Sequence[Tensor]) -> tuple[Payload, ...]:
        """The targets' bytes, lazily, from the sources' in the order given to `solve`."""
        raise NotImplementedError


def solve(
    sources: Sequence[Operand],
    targets: Sequence[Operand],
    sizes: Mapping[str, int],
    span: Span,
    *,
    counts: Mapping[str, int] | None = None,
) -> Layout:
    """Work out every axis and every shape. See the brief."""
    raise NotImplementedError
