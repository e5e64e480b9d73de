"""Names of layers, tensors and weights: those of the graph where they can be, and each of them once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import chain, count

_ROLE = re.compile(
    r"(^|[._/])(weight|bias|slope|slopes|gamma|beta|scale|shift|kernel|running_mean|running_var|mean|var|param|coeff|blob_[0-9]+)$"
)


class Names:
    """Names that were given, none of them twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def reserve(self, name: str) -> None:
        """Keep `name` for what has it already."""
        self._taken.add(name)

    def take(self, wanted: str) -> str:
        """`wanted`, with a number behind it if it is taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


class WeightNames:
    """Names of weights: none of them twice, and none that the graph has for something else."""

    def __init__(self, initializers: Collection[str]) -> None:
        self._initializers = initializers
        self._taken: set[str] = set()

    def is_free(self, name: str, source: str | None) -> bool:
        """Whether what `source` of the graph holds can be called `name`."""
        return name not in self._taken and (name == source or name not in self._initializers)

    def take(self, wanted: str, source: str | None) -> str:
        """`wanted`, with a number behind it if it is not free."""
        name, number = wanted, 1
        while not self.is_free(name, source):
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def prefix(self, sources: Mapping[str, str | None], layer: str) -> str:
        """What the names of a layer's weights begin with; sources: what the graph calls each, by role."""
        stated = {s.removesuffix(f".{role}") if s is not None and s.endswith(f".{role}") else "" for role, s in sources.items()}
        wanted = [p for p in stated if len(stated) == 1 and p and not any(c.isspace() for c in p)]
        numbered = (layer if number == 1 else f"{layer}_{number}" for number in count(1))
        return next(p for p in chain(wanted, numbered) if all(self.is_free(f"{p}.{role}", s) for role, s in sources.items()))


def is_good(name: str) -> bool:
    """Whether a tensor of the graph can be called so in a file of weights: it says what the tensor is, and has no white space."""
    return bool(_ROLE.search(name)) and not any(c.isspace() for c in name)


def without_spaces(name: str) -> str:
    """`name` as a file of weights can hold it."""
    return re.sub(r"\s+", "_", name)
