"""The same audit after batch normalisation is folded into the weights before it: what an engine's builder will round.

Where the file has a graph, or belongs to one, `topology` tells what follows what. A file that only lists tensors does not say it: here
a normalisation is then taken to belong to the weight that stands before it in the file with as many output channels, which is how
frameworks list them. That is a guess, and whoever shows what comes of it has to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from porter.check.precision.audit import TensorAudit, audit_tensor
from porter.check.precision.targets import Target
from porter.check.statistics.channels import channel_axis
from porter.dataclass import dataclass
from porter.mapping.ops.base import Operand, OperationError
from porter.mapping.ops.folding import FoldBn
from porter.mapping.ops.rounding import rounded, widened
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MEANS = ("running_mean", "mean", "moving_mean")
_VARIANCES = ("running_var", "variance", "moving_variance")


@dataclass(frozen=True, slots=True)
class Pair:
    """A weight, perhaps its bias, and the normalisation after it: tensors by the labels of `fold_bn`."""

    parts: Mapping[str, Tensor]

    @property
    def weight(self) -> Tensor:
        """The weight that takes the normalisation in."""
        return self.parts["weight"]


@dataclass(frozen=True, slots=True)
class FoldedTensor:
    """A weight or a bias with the normalisation folded in. old: as the file has it, None for a bias that there was not.

    names: the tensors that went in.
    """

    new: Tensor
    old: Tensor | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoldedAudit:
    """A weight or a bias before and after folding; before: None for a bias that there was not. names: what was folded into it."""

    names: tuple[str, ...]
    before: TensorAudit | None
    after: TensorAudit


def pairs(store: TensorStore) -> Iterator[Pair]:
    """The weights of `store` that a normalisation follows."""
    names = list(store)
    layers: dict[str, dict[str, Tensor]] = {}
    for name in names:
        layers.setdefault(_split(name)[0], {})[_split(name)[1]] = store[name]
    for at, name in enumerate(names):
        prefix, last = _split(name)
        if last not in _VARIANCES or store[name].dtype.kind != "float":
            continue
        beside = layers[prefix]
        mean = next((beside[m] for m in _MEANS if m in beside), None)
        found = next((p for p in _before(store, names, at) if _channels(store[p]) == store[name].size), None)
        if mean is None or found is None:
            continue
        parts = {"weight": store[found], "mean": mean, "variance": store[name]}
        if (bias := store.get(_joined(found, "bias"))) is not None and bias.size == mean.size:
            parts["bias"] = bias
        if "scale_factor" in beside:
            parts["scale_factor"] = beside["scale_factor"]
        parts |= _affine(names, at, prefix, layers, store[name].size)
        yield Pair(parts)


def _affine(names: Sequence[str], at: int, prefix: str, layers: Mapping[str, Mapping[str, Tensor]], size: int) -> dict[str, Tensor]:
    """gamma and beta: of the normalisation itself, or of Caffe's Scale layer right after it."""
    beside = layers[prefix]
    gamma, beta = beside.get("weight", beside.get("gamma")), beside.get("bias", beside.get("beta"))
    if gamma is None and "scale_factor" in beside:
        after = [n for n in names[at + 1 : at + 4] if _split(n)[0] != prefix]
        own = layers[_split(after[0])[0]] if after else {}
        gamma, beta = own.get("weight"), own.get("bias")
    found = {label: t for label, t in (("gamma", gamma), ("beta", beta)) if t is not None}
    return found if all(t.shape == (size,) for t in found.values()) else {}


def _split(name: str) -> tuple[str, str]:
    prefix, _, last = name.replace("/", ".").rpartition(".")
    return prefix, last.partition(":")[0]


def _joined(name: str, last: str) -> str:
    """`name` with another last part: `conv/bias:0` for `conv/kernel:0`."""
    begin = max(name.rfind("."), name.rfind("/")) + 1
    _, colon, number = name[begin:].partition(":")
    return f"{name[:begin]}{last}{colon}{number}"


def _before(store: TensorStore, names: Sequence[str], at: int) -> Iterator[str]:
    """The nearest weight before a place, and no other."""
    for name in reversed(names[:at]):
        if len(store[name].shape) >= 2 and store[name].dtype.kind == "float":
            yield name
            return


def _channels(tensor: Tensor) -> int | None:
    axis = channel_axis(tensor.spec)
    return tensor.shape[axis.axis] if axis is not None else None


def fold(pair: Pair, eps: float) -> tuple[Tensor, Tensor]:
    """The weight and the bias with the normalisation folded in, computed in float64 and rounded once. Reads all tensors of the pair.

    Raises:
        OperationError: they do not go together.
    """
    axis = channel_axis(pair.weight.spec)
    assert axis is not None
    operands = [Operand(t.name, t.dtype, t.shape, label) for label, t in pair.parts.items()]
    operation = FoldBn(eps, axis.axis)
    described = operation.outputs(operands)
    arrays: list[NDArray[np.float64]] = [widened(t.numpy(), t.dtype) for t in pair.parts.values()]
    weight, bias = (rounded(a, o.dtype)[0] for a, o in zip(operation.compute(arrays, operands), described, strict=True))
    spec, old = pair.weight.spec, pair.parts.get("bias")
    name = old.name if old is not None else _joined(spec.name, "bias")
    made = Tensor.from_array(spec.name, weight, axes=spec.axes, role=spec.role, attributes=spec.attributes)
    return made, Tensor.from_array(name, bias, role="bias")


def folded_by_order(store: TensorStore, eps: Callable[[TensorSpec], float]) -> Iterator[FoldedTensor]:
    """What the weights and biases of `store` become. eps: of a normalisation, by its variance. Those that do not fit are noted there."""
    for pair in pairs(store):
        try:
            weight, bias = fold(pair, eps(pair.parts["variance"].spec))
        except OperationError as error:
            store.note("skipped", f"the normalisation after it is not folded: {error}", pair.weight.name)
            continue
        names = tuple([t.name for label, t in pair.parts.items() if label not in ("weight", "bias")])
        yield FoldedTensor(weight, pair.weight, names)
        yield FoldedTensor(bias, pair.parts.get("bias"), names)


def audit_folded(
    found: Iterable[FoldedTensor], before: Sequence[TensorAudit], targets: Sequence[Target], *, every_scheme: bool, least_snr: float
) -> tuple[FoldedAudit, ...]:
    """Audit what became of the tensors of `before`, and biases that are new. Holds one tensor in memory at a time."""
    known = {a.spec.name: a for a in before}
    audited, chosen = [], False
    for one in found:
        # A bias that there was not follows its weight.
        chosen = one.old.name in known if one.old is not None else chosen
        if chosen:
            after = audit_tensor(one.new, targets, every_scheme=every_scheme, least_snr=least_snr)
            audited.append(FoldedAudit(one.names, known[one.old.name] if one.old is not None else None, after))
    return tuple(audited)
