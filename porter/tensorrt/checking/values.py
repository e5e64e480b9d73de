"""What a network of TensorRT computes, compared with the network that it stands for, value by value, without a GPU.

Both run in onnxruntime on the CPU in the types that they have, with nothing optimised: the original, and what TensorRT holds, read back
and said as ONNX (`porter.tensorrt.expression`). So it shows whether every layer, setting, connection and weight means the same. It shows
nothing of the kernels that TensorRT will choose on a GPU: see `UNKNOWN_WITHOUT_GPU`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.measures import TOLERANCE, measured
from porter.dataclass import dataclass, field_names, replace
from porter.dtypes import DTYPES
from porter.errors import TensorRTError
from porter.graph.recording import Recorded
from porter.graph.runtime import Runnable
from porter.tensorrt.expression.express import express
from porter.tensorrt.expression.table import TABLE
from porter.tensorrt.layers import KernelInput, Layer, Network, Weights, agree

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

BUDGET = 1 << 28
"""Bytes of values that are held at once, of either network."""

_ROUNDED = (("float32", "float16"), ("float32", "bfloat16"))

UNKNOWN_WITHOUT_GPU = (
    "which kernels the engine runs, and how they round: TF32, the order of sums, what is kept in half precision between fused layers",
    "layers that TensorRT fuses: they have no value of their own in the engine",
    "the order of boxes, and of largest values, that are equal",
)
"""What this comparison cannot say."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One value of the original, and the tensor that holds it in TensorRT.

    layer: what makes the tensor, None for an input. against: `original`, `record` or `engine`. difference: the largest; NaN where one
    alone is NaN. scale: the largest finite magnitude. place: of the first beyond the tolerance, or None; wanted, found: what is there.
    problem: in a line, None where they agree. itself: where they do not, how far off the tensor is, as a part of the scale, if its layer is
    given the original's values; None where that cannot be tried. follows: that this is within the tolerance, so that the problem lies
    before it, or is nothing but rounding that adds up.
    """

    value: str
    tensor: str
    layer: Layer | None
    against: str
    shape: tuple[int, ...]
    difference: float = 0.0
    scale: float = 0.0
    place: tuple[int, ...] | None = None
    wanted: float | None = None
    found: float | None = None
    problem: str | None = None
    itself: float | None = None
    follows: bool = False

    @property
    def relative(self) -> float:
        """The difference as a part of the scale."""
        return self.difference / self.scale if self.scale else self.difference

    @property
    def type(self) -> str:
        """TensorRT's type of the layer."""
        return TABLE[type(self.layer.operation)].type if self.layer is not None else "INPUT"


@dataclass(frozen=True, slots=True)
class Verification:
    """The comparison of two networks.

    compared: in the order of TensorRT's layers. covered: how many layers there are of each type. left: values of the original that no
    tensor holds. batches: how often both networks ran.
    """

    compared: tuple[Compared, ...]
    covered: Mapping[str, int]
    left: tuple[str, ...]
    tolerance: float
    batches: int

    @property
    def same(self) -> bool:
        """Whether something was compared, and every layer makes the same of the same."""
        return bool(self.compared) and self.first is None

    @property
    def first(self) -> Compared | None:
        """The first that does not agree by itself: where it goes wrong."""
        return next((c for c in self.compared if c.problem is not None and not c.follows), None)

    @property
    def drifted(self) -> tuple[Compared, ...]:
        """What does not agree because of what comes before it."""
        return tuple([c for c in self.compared if c.follows])

    @property
    def worst(self) -> Compared | None:
        """Of those that agree the one that is furthest off."""
        return max((c for c in self.compared if c.problem is None), key=lambda c: c.relative, default=None)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Both networks, ready to run, and what is fed to each: `feeds` to the original, `fed` to the other.

    held: for tensors that hold a value of the original, that value. misshapen: those that do not have its shape. makers: of each tensor.
    """

    original: Runnable
    expressed: Runnable
    feeds: Mapping[str, NDArray[Any]]
    fed: Mapping[str, NDArray[Any]]
    held: Mapping[str, str]
    misshapen: set[str]
    makers: Mapping[str, Layer]


def verify(
    original: ir.Model,
    network: Network,
    feeds: Mapping[str, NDArray[Any]],
    *,
    values: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    records: Sequence[Recorded] = (),
    tolerance: float = TOLERANCE,
    budget: int = BUDGET,
) -> Verification:
    """Run both networks on `feeds` and compare what they make.

    network: as `porter.tensorrt.walk` read it. feeds: an array for each input of the original. values: for values of the original the
    tensor that holds it; by default those that are called the same. inputs: for each input of `network` the original's, where they are
    called otherwise. records: what is known to come out. budget: bytes of values held at once; both networks run again for more.

    Raises:
        TensorRTError: a layer has no ONNX, or onnxruntime cannot run one of them.
    """
    model = express(network)
    makers = {name: layer for layer in network.layers for name in layer.outputs}
    pairs, left = _pairs(original, network, makers, values)
    fed = renamed(network, feeds, inputs)
    sides = _Sides(
        Runnable(original, "the original"), Runnable(model, "what TensorRT holds"), feeds, fed, {t: v for v, t in pairs}, set(), makers
    )
    known: dict[str, list[Recorded]] = {}
    for record in records:
        known.setdefault(record.value, []).append(record)
    compared: list[Compared] = []
    batches = _batches(network, pairs, fed, budget)
    for batch in batches:
        compared += _compared(sides, network, batch, known, tolerance)
    counts: dict[str, int] = {}
    for layer in network.layers:
        kind = TABLE[type(layer.operation)].type
        counts[kind] = counts.get(kind, 0) + 1
    return Verification(tuple(compared), counts, tuple(left), tolerance, len(batches))


def renamed(network: Network, feeds: Mapping[str, NDArray[Any]], inputs: Mapping[str, str] | None = None) -> dict[str, NDArray[Any]]:
    """What is fed to the original as `network` takes it: by its names, and rounded where it takes half precision.

    Raises:
        TensorRTError: it takes another type.
    """
    found = {}
    for given in network.inputs:
        array = feeds[inputs[given.name] if inputs else given.name]
        dtype = DTYPES[given.dtype].numpy()
        if array.dtype != dtype and (array.dtype.name, given.dtype) not in _ROUNDED:
            raise TensorRTError("T342", f"input '{given.name}' is {given.dtype}, and the original's is {array.dtype}")
        found[given.name] = array.astype(dtype, copy=False)
    return found


def compare_outputs(
    original: ir.Model,
    network: Network,
    feeds: Mapping[str, NDArray[Any]],
    made: Mapping[str, NDArray[Any]],
    values: Mapping[str, str],
    tolerance: float = TOLERANCE,
) -> tuple[Compared, ...]:
    """What an engine made of `feeds`, by the names of its outputs, compared with what the original makes."""
    makers = {name: layer for layer in network.layers for name in layer.outputs}
    pairs = [(value, tensor) for value, tensor in values.items() if tensor in made and value in {v.name for v in original.graph.outputs}]
    wanted = Runnable(original, "the original").run(feeds, [value for value, _ in pairs])
    like = [Compared(value, tensor, makers.get(tensor), "engine", made[tensor].shape) for value, tensor in pairs]
    return tuple([compare(c, wanted[c.value], made[c.tensor], tolerance) for c in like])


def _pairs(
    original: ir.Model, network: Network, makers: Mapping[str, Layer], values: Mapping[str, str] | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """(value, tensor) of what both networks compute, in the order of TensorRT's layers; values of the original without a tensor."""
    computed = [v.name for node in original.graph for v in node.outputs if v.name]
    held = {v: v for v in computed} if values is None else values
    order = {name: number for number, name in enumerate(makers)}
    found = sorted([(v, held[v]) for v in computed if held.get(v) in makers], key=lambda pair: order[pair[1]])
    inputs = [i.name for i in network.inputs]
    left = [v for v in computed if held.get(v) not in makers and held.get(v) not in inputs]
    return found, left


def _batches(
    network: Network, pairs: Sequence[tuple[str, str]], feeds: Mapping[str, NDArray[Any]], budget: int
) -> list[list[tuple[str, str]]]:
    """The pairs in groups whose values take about `budget` bytes; an open size counts as the first of the inputs'."""
    opened = next((a.shape[0] for a in feeds.values() if a.ndim), 1)
    batches: list[list[tuple[str, str]]] = []
    room = 0
    for pair in pairs:
        size = 8 * math.prod(opened if n < 0 else n for n in network.shapes.get(pair[1], ()))
        if not batches or size > room:
            batches.append([])
            room = budget
        room -= size
        batches[-1].append(pair)
    return batches


def _compared(
    sides: _Sides, network: Network, batch: Sequence[tuple[str, str]], known: Mapping[str, Sequence[Recorded]], tolerance: float
) -> Iterator[Compared]:
    wanted = sides.original.run(sides.feeds, list(dict.fromkeys(value for value, _ in batch)))
    found = sides.expressed.run(sides.fed, list(dict.fromkeys(tensor for _, tensor in batch)))
    entries = [_entry(sides, network, pair, wanted, found, tolerance) for pair in batch]
    # What comes before is compared before.
    sides.misshapen.update(entry.tensor for entry in entries if entry.problem is not None and entry.place is None)
    entries = _alone(sides, entries, wanted, tolerance)
    for entry in entries:
        yield entry
        for record in known.get(entry.value, ()):
            against = _against(replace(entry, against="record"), record, found[entry.tensor], tolerance)
            # What is off because of what comes before it is off from what was recorded, too.
            yield replace(against, follows=entry.follows and against.problem is not None)


def _entry(
    sides: _Sides,
    network: Network,
    pair: tuple[str, str],
    wanted: Mapping[str, NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    tolerance: float,
) -> Compared:
    value, tensor = pair
    made, said = found[tensor], network.shapes.get(tensor)
    like = Compared(value, tensor, sides.makers.get(tensor), "original", made.shape)
    if said is not None and not agree(said, made.shape):
        # Both come from TensorRT: its own idea of the shape, and what its layers make as porter reads them.
        return replace(like, problem=f"TensorRT says that it has the shape {list(said)}, and its layers make {list(made.shape)}")
    return compare(like, wanted[value], made, tolerance)


def _alone(sides: _Sides, entries: list[Compared], wanted: Mapping[str, NDArray[Any]], tolerance: float) -> list[Compared]:
    """`entries`, with what becomes of those that are off if their layers are given the original's values."""
    wrong = [entry for entry in entries if entry.place is not None]
    if not wrong:
        return entries
    known = {tensor: value for tensor, value in sides.held.items() if tensor not in sides.misshapen}
    taken = {tensor: known[tensor] for tensor in sides.expressed.needs([e.tensor for e in wrong], known.keys())}
    original = dict(wanted) | sides.original.run(sides.feeds, [value for value in dict.fromkeys(taken.values()) if value not in wanted])
    given = {tensor: original[value] for tensor, value in taken.items()}
    made = sides.expressed.run(sides.fed, list(dict.fromkeys(e.tensor for e in wrong)), given)
    tried = {e.value: compare(e, wanted[e.value], made[e.tensor], tolerance) for e in wrong}
    return [_tried(entry, tried[entry.value]) if entry.value in tried else entry for entry in entries]


def _tried(entry: Compared, alone: Compared) -> Compared:
    return replace(entry, itself=alone.relative, follows=alone.place is None)


def _against(like: Compared, record: Recorded, made: NDArray[Any], tolerance: float) -> Compared:
    import numpy as np

    if made.shape != record.shape:
        return replace(like, problem=f"its shape is {list(made.shape)}, and {list(record.shape)} was recorded")
    flat = made.reshape(-1)
    compared = compare(like, record.data, flat if record.index is None else flat[record.index], tolerance, record.scale)
    if compared.place is None:
        return compared
    number = compared.place[0] if record.index is None else int(record.index[compared.place[0]])
    return replace(compared, place=tuple([int(n) for n in np.unravel_index(number, record.shape)]))


def compare(like: Compared, wanted: NDArray[Any], found: NDArray[Any], tolerance: float, scale: float | None = None) -> Compared:
    """`like` with how far `found` is from `wanted`, and nothing else of what it said. Integers and booleans have to be equal.

    scale: the largest magnitude; by default that of `wanted`. Numbers as `porter.check.measures` has them.
    """
    import numpy as np

    if wanted.shape != found.shape:
        return replace(like, problem=f"its shape is {list(found.shape)}, and the original's {list(wanted.shape)}")
    m = measured(wanted, found, tolerance, scale)
    difference = math.nan if m.apart else m.max_abs
    like = replace(like, difference=difference, scale=m.scale, place=None, wanted=None, found=None, problem=None)
    if m.first is None:
        return like
    place = tuple([int(n) for n in np.unravel_index(m.first, wanted.shape)])
    return replace(like, place=place, wanted=m.first_a, found=m.first_b, problem=f"{m.beyond:,} of {m.count:,} values differ")


def settings(layer: Layer) -> dict[str, object]:
    """A layer's own parameters, of weights the type and the shape."""
    found: dict[str, object] = {}
    for name in field_names(type(layer.operation)):
        value = getattr(layer.operation, name)
        if isinstance(value, Weights):
            found[name] = f"{value.tensor.dtype} {list(value.tensor.shape)}"
        elif isinstance(value, KernelInput):
            found[name] = f"input {list(value.shape)}"
        elif value is not None:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found
