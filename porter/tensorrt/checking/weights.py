"""The weights that TensorRT holds, read back and compared bit for bit with what they have to be.

What they have to be is taken from the file that the weights came from, through a map that is proven (`porter.tensorrt.checking.origin`), or
computed once more from that file's tensors: the scale and the shift of a batch normalisation, in float64 and rounded once. What the
graph itself made, folded weights and constants of its own, is compared with the graph's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from porter.check.compare import TensorComparison, compare
from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.mapping.ops.rounding import rounded, widened
from porter.store import TensorStore
from porter.tensor import Json, Tensor
from porter.tensorrt.checking.origin import Origin
from porter.tensorrt.layers import BatchNorm, Layer, Network, Operation, Scale, Weights, weights_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Against = Literal["file", "formula", "graph"]


@dataclass(frozen=True, slots=True)
class Checked:
    """One weight of a layer.

    against: `file`, the file's values through the map; `formula`, computed from them; `graph`, what the graph made.
    comparison: `a` is what it has to be, `b` what TensorRT holds; None where TensorRT holds none.
    """

    layer: str
    type: str
    role: str
    weights: Weights
    against: Against
    comparison: TensorComparison | None

    @property
    def equal(self) -> bool:
        """Whether type and values agree, every bit of them."""
        return self.comparison is not None and self.comparison.verdict == "equal"

    @property
    def problem(self) -> str | None:
        """How they disagree, in a line."""
        if self.equal:
            return None
        what = f"{self.role} of '{self.layer}', which is '{self.weights.tensor.name}'"
        if self.comparison is None:
            return f"{what}: TensorRT holds none"
        a, b, d = self.comparison.a, self.comparison.b, self.comparison.difference
        if d is None or a.dtype != b.dtype:
            return f"{what}: {a.dtype} {list(a.shape)} in the {self.against}, {b.dtype} {list(b.shape)} in TensorRT"
        at = ", ".join(map(str, self.comparison.first or ()))
        sides = f"{d.first_a.value} ({d.first_a.bits}) in the {self.against}, {d.first_b.value} ({d.first_b.bits}) in TensorRT"
        return f"{what}: {d.differing:,} of {self.weights.tensor.size:,} values differ, by {d.max_ulp:,} ULP at most; [{at}] is {sides}"

    def to_json(self) -> dict[str, Json]:
        """The entry of the report."""
        return {
            "layer": self.layer,
            "type": self.type,
            "role": self.role,
            "tensor": self.weights.tensor.name,
            "sources": list(self.weights.sources),
            "formula": self.weights.formula,
            "against": self.against,
            "equal": self.equal,
            "bytes": self.weights.tensor.nbytes,
            "comparison": self.comparison.to_json() if self.comparison is not None else None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The check of a network.

    weights: in the order of the layers. others: what else is wrong, a line each: weights that TensorRT holds and nothing asked for,
    and weights that cannot be proven to be the file's.
    """

    weights: tuple[Checked, ...]
    others: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether TensorRT holds exactly these weights."""
        return not self.others and all(checked.equal for checked in self.weights)

    @property
    def problems(self) -> tuple[str, ...]:
        """All that disagrees, a line each."""
        return (*[c.problem for c in self.weights if c.problem is not None], *self.others)


def check(network: Network, held: Network, origin: Origin | None) -> Report:
    """Compare the weights of `held`, a live network that was read, with those of `network`, which it was built from. Reads both.

    origin: what the file makes of the weights; None where they come from no file.
    """
    made = origin.made if origin is not None else {}
    live = {layer.name: weights_of(layer.operation) for layer in held.layers}
    checked: list[Checked] = []
    for layer in network.layers:
        for role, weights in weights_of(layer.operation).items():
            found = live.get(layer.name, {}).pop(role, None)
            if found is None and not weights.tensor.size:
                # Of no values TensorRT holds none.
                found = weights
            checked += _checked(layer, role, weights, found, made)
    others = [f"TensorRT holds a {role} for '{name}', which the network has not" for name, roles in live.items() for role in roles]
    others += [f"'{name}' is not what the file makes of it" for name in (origin.unproven if origin is not None else ())]
    return Report(tuple(checked), tuple(others))


def _checked(layer: Layer, role: str, weights: Weights, held: Weights | None, made: Mapping[str, Tensor]) -> Iterator[Checked]:
    """Against what the record says and, where that comes from elsewhere, against that; what is equal is said once."""
    entries = []
    for against, wanted in _wanted(layer.operation, role, weights, made):
        comparison = _compared(wanted, held.tensor) if held is not None else None
        entries.append(Checked(layer.name, type(layer.operation).__name__, role, weights, against, comparison))
    different = [entry for entry in entries if not entry.equal]
    yield (different or entries)[0]


def _wanted(operation: Operation, role: str, weights: Weights, made: Mapping[str, Tensor]) -> Iterator[tuple[Against, Tensor]]:
    norm = operation.batch_norm if isinstance(operation, Scale) else None
    if weights.tensor.name in made:
        yield "file", made[weights.tensor.name]
    elif norm is not None and role in ("scale", "shift"):
        yield "formula", _recomputed(norm, role, weights.tensor, made)
    yield "graph", weights.tensor


def _compared(wanted: Tensor, held: Tensor) -> TensorComparison:
    """By their values in order: TensorRT keeps no shape of them."""
    if wanted.size == held.size:
        held = held.with_spec(shape=wanted.shape)
    pair = TensorStore([wanted]), TensorStore([held.with_spec(name=wanted.name)])
    return compare(*pair).tensors[0]


def _recomputed(norm: BatchNorm, role: str, like: Tensor, made: Mapping[str, Tensor]) -> Tensor:
    """The scale or the shift in the type that TensorRT computes in: in float64, and rounded once."""
    import numpy as np

    gamma, beta, mean, variance = (_wide(made.get(w.tensor.name, w.tensor)) for w in (norm.weight, norm.bias, norm.mean, norm.variance))
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + norm.epsilon)
        values = scale if role == "scale" else beta - mean * scale
    return Tensor.from_array(like.name, _narrow(values, like.dtype))


def _wide(tensor: Tensor) -> NDArray[np.float64]:
    return widened(tensor.numpy(), tensor.dtype)


def _narrow(values: NDArray[np.float64], dtype: DType) -> NDArray[Any]:
    return rounded(values, dtype)[0]
