"""Names of layers, tensors and weights: those of the graph where they can be, and each of them once."""

from __future__ import annotations

import re

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


def is_good(name: str) -> bool:
    """Whether a tensor of the graph can be called so in a file of weights: it says what the tensor is, and has no white space."""
    return bool(_ROLE.search(name)) and not any(c.isspace() for c in name)


def without_spaces(name: str) -> str:
    """`name` as a file of weights can hold it."""
    return re.sub(r"\s+", "_", name)
