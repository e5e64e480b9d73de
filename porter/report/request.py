"""What a report is asked for, and the inputs that it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from porter.check.difference import Tolerance
from porter.check.precision.targets import Target
from porter.dataclass import dataclass, field
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.mapping.scope import ParamValue
    from porter.mapping.syntax import Map

Advance = Callable[[int], None]
"""Called with the number of bytes just read."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to put into a report.

    targets: types to audit for; none leaves the audit out. histograms: quantiles and histograms too. date: as ISO 8601.
    options: the words of the command line that say how A and B are to be read, for the commands that reproduce the report.
    """

    title: str
    date: str
    targets: tuple[Target, ...] = ()
    histograms: bool = True
    tolerance: Tolerance = field(default_factory=Tolerance)
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MapInput:
    """The map between A and B: its name or path as given, the map itself, and the parameters as given."""

    name: str
    map: Map
    params: Mapping[str, ParamValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a report, open."""

    a: TensorStore
    b: TensorStore | None = None
    map: MapInput | None = None
