"""Repeated names as one row: `layers.{0..31}.weight`, only where type, shape and axes agree too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from porter.tensor import Tensor

_NUMBER = re.compile(r"(?<![0-9])([0-9]{1,15})(?![0-9])")


class Fold(NamedTuple):
    """Tensors that are shown as one row under `name`, in the order of the store."""

    name: str
    tensors: tuple[Tensor, ...]


Parts = tuple[tuple[str, ...], ...]
"""A name cut at its numbers: text, the numbers that stand there, text, …; text is a tuple of one."""


def folded(store: Mapping[str, Tensor]) -> list[Fold]:
    """The tensors of `store`, those whose names differ in numbers only together, in the order of their first member."""
    groups: dict[tuple[object, ...], dict[Parts, list[Tensor]]] = {}
    for tensor in store.values():
        parts = tuple((p,) for p in _NUMBER.split(tensor.name))
        texts = tuple(p[0] for p in parts[::2])
        key = (texts, tensor.dtype, tensor.shape, tensor.spec.axes)
        groups.setdefault(key, {})[parts] = [tensor]
    position = {name: i for i, name in enumerate(store)}
    folds = [
        Fold(_shown(parts), tuple(sorted(tensors, key=lambda t: position[t.name])))
        for group in groups.values()
        for parts, tensors in _merged(group).items()
    ]
    return sorted(folds, key=lambda f: position[f.tensors[0].name])


def _merged(group: dict[Parts, list[Tensor]]) -> dict[Parts, list[Tensor]]:
    """Entries that are equal but for one number become one entry with all of its values, number by number from the left."""
    places = range(1, len(next(iter(group))), 2)
    for place in places:
        merged: dict[Parts, list[Tensor]] = {}
        numbers: dict[Parts, list[str]] = {}
        for parts, tensors in group.items():
            rest = (*parts[:place], (), *parts[place + 1 :])
            numbers.setdefault(rest, []).extend(parts[place])
            merged.setdefault(rest, []).extend(tensors)
        group = {(*rest[:place], tuple(numbers[rest]), *rest[place + 1 :]): tensors for rest, tensors in merged.items()}
    return group


def _shown(parts: Parts) -> str:
    return "".join(p[0] if len(p) == 1 else "{" + ",".join(_ranges(p)) + "}" for p in parts)


def _ranges(numbers: Iterable[str]) -> list[str]:
    """`0 1 2 5` as `0..2`, `5`."""
    runs: list[list[str]] = []
    for number in sorted(numbers, key=lambda n: (int(n), n)):
        if runs and int(number) == int(runs[-1][-1]) + 1 and len(number) >= len(runs[-1][-1]):
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}..{run[-1]}" if len(run) > 2 else ",".join(run) for run in runs]
