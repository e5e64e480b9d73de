"""Where a network's weights come from: the map from the file that they were read from, proven by applying it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from porter.dataclass import dataclass, replace
from porter.graph.analysis.values import Constant
from porter.graph.state_map import Stored, map_of
from porter.graph.weights_map import weights_map
from porter.mapping.execution import apply
from porter.mapping.syntax import Map
from porter.store import TensorStore
from porter.tensor import Tensor
from porter.tensorrt.layers import Network, Weights, stored

if TYPE_CHECKING:
    import onnx_ir as ir

_STEPS = re.compile(r"(?:transpose\(([0-9, ]+)\))?(?:, )?(?:cast)?")
"""Formulas that move values or give them another type, and compute nothing of them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the file makes of the weights.

    maps: from the file to the names of `stored`; one, and another for tensors that are taken a second time, and so on. made: what they
    make, read from the file when it is asked for. unproven: weights that are the file's as the graph has them, and that no map makes:
    something is wrong with them.
    """

    maps: tuple[Map, ...]
    made: Mapping[str, Tensor]
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Made:
    map: Map
    state: TensorStore


def origin(network: Network, model: ir.Model, file: TensorStore) -> Origin:
    """The map from `file` to the weights of a network that was lowered from `model`. Reads both.

    What the graph computed (folded weights, constants of its own) is not in it.
    """
    held = stored(network)
    constants = {name: made for name, w in held.items() if (made := _constant(w, model)) is not None}
    found = _proven(model, constants, held, file)
    missing = [name for name in constants if name not in found.made and _is_as_in(file, model, held[name].sources[0])]
    return replace(found, unproven=tuple(missing))


def origin_by_name(network: Network, model: ir.Model, file: TensorStore) -> Origin:
    """The same for a file that has the weights under the names of `stored`, in whatever shape."""
    held = stored(network)
    given = {name: (w.tensor, file[name].shape) for name, w in held.items() if name in file}
    constants = {name: Constant(t.dtype.name, t.shape, t.numpy, name, shape) for name, (t, shape) in given.items()}
    found = _proven(model, constants, held, file)
    return replace(found, unproven=tuple([name for name in constants if name not in found.made]))


def _proven(model: ir.Model, constants: Mapping[str, Constant], held: Mapping[str, Weights], file: TensorStore) -> Origin:
    """Maps that make as many of the constants as they can; each takes a tensor of the graph once."""
    state = TensorStore([w.tensor for w in held.values()])
    maps, made = [], {}
    for names in _rounds(constants):
        rules = map_of(model, {name: Stored(constants[name]) for name in names})
        found = weights_map(model, _Made(rules, state), file)
        maps.append(found.map)
        made.update({name: tensor for name, tensor in apply(found.map, file).items() if name in names and name not in found.without})
    return Origin(tuple(maps), made)


def _rounds(constants: Mapping[str, Constant]) -> list[list[str]]:
    """The names in lists, in none of which two have one source."""
    rounds: list[list[str]] = [[]]
    taken: dict[str | None, int] = {}
    for name, constant in constants.items():
        number = taken[constant.source] = taken.get(constant.source, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(name)
    return rounds


def _is_as_in(file: TensorStore, model: ir.Model, name: str) -> bool:
    """Whether the graph has a tensor of the file unchanged: folding gives other values to the same names."""
    value = model.graph.initializers[name].const_value
    return name in file and value is not None and value.nbytes == file[name].nbytes and value.tobytes() == file[name].tobytes()


def _constant(weights: Weights, model: ir.Model) -> Constant | None:
    """Weights that are one tensor of the graph with its axes in another order, in another shape or type."""
    steps = _STEPS.fullmatch(weights.formula or "")
    initializer = model.graph.initializers.get(weights.sources[0]) if len(weights.sources) == 1 else None
    if steps is None or initializer is None or initializer.const_value is None:
        return None
    shape = tuple(initializer.const_value.shape.numpy())
    perm = tuple([int(n) for n in steps[1].split(",")]) if steps[1] else None
    tensor = weights.tensor
    return Constant(tensor.dtype.name, tensor.shape, tensor.numpy, weights.sources[0], shape, perm)
