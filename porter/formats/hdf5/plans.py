"""What an HDF5 file that is to be written looks like, before any of it is written."""

from __future__ import annotations

from porter.dataclass import dataclass, field
from porter.formats.base import Loss
from porter.formats.hdf5.names import Path
from porter.store import Notice

AttributeOut = str | bytes | int | list[bytes] | list[int]
"""An attribute to write: text and bytes become strings of variable length, a list of bytes one array of fixed strings."""


@dataclass(slots=True)
class Plan:
    """A file to be written.

    `places` gives each tensor's path by its name; `groups` are groups with their attributes, those that the tensors need
    included or not; `values` are small datasets beside the tensors: an int (one int32) or bytes (a fixed string).
    `links` are the names that become hard links, with those they are linked to. `keras_types` writes types that HDF5
    lacks as Keras would.
    """

    dialect: str
    places: dict[str, Path]
    groups: dict[Path, dict[str, AttributeOut]] = field(default_factory=dict)
    values: dict[Path, int | bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    keras_types: bool = False
    notices: list[Notice] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
