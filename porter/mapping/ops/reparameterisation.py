"""`fold_branches`: parallel convolutions, each with its batch normalisation, as one convolution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.errors import did_you_mean
from porter.mapping.ops.base import FloatOperation, Irreversible, Operand, OperationError
from porter.mapping.ops.batch_norm import PARAMETERS, STATISTICS, batch_norm, check_batch_norm, check_eps
from porter.mapping.ops.channels import channels_of, check_vector, shape_or
from porter.mapping.ops.checks import floating, integer
from porter.mapping.ops.labels import NEAR, add, missing, unlabelled

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PARTS = ("weight", "bias", *STATISTICS, *PARAMETERS)
_IDENTITY = "identity"
_KNOWN = f"labels: a name for the branch and one of {', '.join(_PARTS)}, as in 'square_weight'; 'identity' is the branch without a weight"

_GROWTH = 64
"""How many times as large as the branches together their sum may be: 1×k and k×1 make k×k."""

Branches = Mapping[str, Mapping[str, int]]
"""The index of each input, by branch and part."""


@dataclass(frozen=True, slots=True)
class FoldBranches(FloatOperation):
    """Parallel convolutions and a shortcut, each with its batch normalisation, as one convolution (RepVGG, ACNet, MobileOne).

    Each input's label is the name of a branch, any, and what it is in that branch: `square_weight`, `point_gamma`,
    `horizontal_mean`; the parts are those of `fold_bn`. Statistics may be missing altogether: then the branch has no batch
    normalisation. `identity` is the branch without a weight, whose input goes straight into its batch normalisation:

        [square_weight={p}.rbr_dense.conv.weight, square_gamma={p}.rbr_dense.bn.weight, square_beta={p}.rbr_dense.bn.bias,
         square_mean={p}.rbr_dense.bn.running_mean, square_variance={p}.rbr_dense.bn.running_var,
         point_weight={p}.rbr_1x1.conv.weight, point_gamma={p}.rbr_1x1.bn.weight, point_beta={p}.rbr_1x1.bn.bias,
         point_mean={p}.rbr_1x1.bn.running_mean, point_variance={p}.rbr_1x1.bn.running_var,
         identity_gamma={p}.rbr_identity.weight?, identity_beta={p}.rbr_identity.bias?,
         identity_mean={p}.rbr_identity.running_mean?, identity_variance={p}.rbr_identity.running_var?] |
          fold_branches(eps=1e-5)  ->  [weight={p}.rbr_reparam.weight, bias={p}.rbr_reparam.bias]

    ACNet has `square_` (k×k), `horizontal_` (1×k) and `vertical_` (k×1). The result is as large as the largest kernel in
    each direction; smaller ones go into its middle, so sizes have to differ by even numbers. It stands for the branches where
    each pads so that all give outputs of one size, and all have the same stride; an identity needs stride 1.

    groups: of the convolutions (O, I/groups, …), checked where there is an identity.

    Exactness: each branch as in `fold_bn`, added up in float64. With n branches and t the sum of the sizes of what is added
    up, a float32 is at most 0.5 + (n + 5) · 2**-29 · |t / value| ULP from the true value, a float64 n + 5 ULP of t.

    Source: DingXiaoH/RepVGG repvgg.py and DingXiaoH/ACNet for how the blocks are built; checked by running such blocks.
    """

    eps: float = 1e-5
    groups: int = 1

    name = "fold_branches"
    takes = "<branch>_weight, <branch>_gamma … of two branches or more"
    undone = "never: a sum does not say what was added"

    def __post_init__(self) -> None:
        check_eps(self.eps)
        if integer(self.groups, "groups") < 1:
            raise OperationError("M403", f"'groups' is 1 or more, not {self.groups}", argument="groups")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        branches = _branches(self.name, inputs)
        floating(self.name, inputs)
        shape = self._shape(inputs, branches)
        for name, branch in branches.items():
            self._check(inputs, name, branch, shape)
        weight = inputs[_first(branches, "weight")]
        bias = _first(branches, "bias", default=-1)
        of = weight if bias < 0 else inputs[bias]
        return (
            Operand(weight.name, weight.dtype, shape, "weight"),
            Operand(of.name, of.dtype, shape_or(inputs, None if bias < 0 else bias, shape[0]), "bias"),
        )

    def _shape(self, inputs: Sequence[Operand], branches: Branches) -> tuple[int, ...]:
        """The shape of the one weight."""
        indices = [b["weight"] for b in branches.values() if "weight" in b]
        first = inputs[indices[0]]
        if len(first.shape) < 3:
            message = f"a convolution's weight has 3 dimensions or more, not {list(first.shape)}"
            raise OperationError("M456", message, input=indices[0])
        for index in indices[1:]:
            other = inputs[index]
            if other.shape[:2] != first.shape[:2] or len(other.shape) != len(first.shape) or other.dtype != first.dtype:
                message = f"the branches' weights do not go together: {_shown(first)} and {_shown(other)}"
                raise OperationError("M462", message, input=index)
        kernel = tuple([max(sizes) for sizes in zip(*[inputs[i].shape[2:] for i in indices], strict=True)])
        for index in indices:
            if any((large - small) % 2 for large, small in zip(kernel, inputs[index].shape[2:], strict=True)):
                message = f"a kernel of {list(inputs[index].shape[2:])} has no place in the middle of {list(kernel)}"
                raise OperationError("M462", message, input=index, hint="sizes of kernels have to differ by even numbers")
        shape = first.shape[:2] + kernel
        if math.prod(shape) > _GROWTH * sum(math.prod(inputs[i].shape) for i in indices):
            message = f"kernels of such different sizes make one of {list(kernel)}"
            raise OperationError("M462", message, input=indices[0])
        return shape

    def _check(self, inputs: Sequence[Operand], name: str, branch: Mapping[str, int], shape: tuple[int, ...]) -> None:
        """Refuse vectors that do not fit, and an identity where inputs and outputs are not the same channels."""
        if name == _IDENTITY:
            index = branch["mean"]
            size = channels_of(self.name, Operand("", inputs[0].dtype, shape), 1, self.groups, index).size
            if size != shape[0] or any(n % 2 == 0 for n in shape[2:]):
                message = f"a convolution {list(shape)} with groups={self.groups} cannot pass its input on: "
                message += f"{size} channels go in, {shape[0]} come out" if size != shape[0] else "its kernel has no middle"
                hint = f"'groups={shape[0] // shape[1]}' would fit" if shape[1] and size != shape[0] and shape[0] % shape[1] == 0 else None
                raise OperationError("M463", message, input=index, hint=hint)
        check_batch_norm(inputs, branch, shape[0])
        if "bias" in branch:
            check_vector(inputs[branch["bias"]], branch["bias"], shape[0], "output channels")

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the branches are added up, and many branches have the same sum")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        branches = _branches(self.name, operands)
        weight_out, bias_out = self.outputs(operands)
        weight, bias = np.zeros(weight_out.shape), np.zeros(weight_out.shape[:1])
        with np.errstate(all="ignore"):
            for branch in branches.values():
                values = {part: inputs[index] for part, index in branch.items()}
                scale: Any = 1.0
                if "mean" in values:
                    norm = batch_norm(values, self.eps, branch["variance"])
                    scale = norm.scale.reshape(-1, *[1] * (weight.ndim - 1))
                    bias += norm.bias(values.get("bias"))
                elif "bias" in values:
                    bias += values["bias"].reshape(-1)
                if "weight" in values:
                    weight[_middle(weight.shape, values["weight"].shape)] += values["weight"] * scale
                else:
                    kernels = weight.reshape(*weight.shape[:2], math.prod(weight.shape[2:]))
                    outputs = np.arange(weight.shape[0])
                    kernels[outputs, outputs % weight.shape[1], kernels.shape[2] // 2] += scale.reshape(-1)
        return [weight, bias.reshape(bias_out.shape)]


def _branches(operation: str, inputs: Sequence[Operand]) -> Branches:
    """The inputs by branch and part.

    Raises:
        OperationError: a label says neither, or a branch lacks a part.
    """
    branches: dict[str, dict[str, int]] = {}
    seen: dict[str, int] = {}
    for index, operand in enumerate(inputs):
        if operand.label is None:
            raise unlabelled(operation, inputs, index, _KNOWN)
        add(operation, seen, operand.label, index)
        owner, part = _parted(operand.label)
        if not owner:
            close = did_you_mean(operand.label, [f"{b}_{p}" for b in (*branches, "square") for p in _PARTS], NEAR)
            raise OperationError("M451", f"'{operation}' does not know what '{operand.label}' is", input=index, hint=close or _KNOWN)
        branches.setdefault(owner, {})[part] = index
    for name, branch in branches.items():
        if (name == _IDENTITY) == ("weight" in branch):
            _refuse_weight(operation, name, branch)
        partial = any(p in branch for p in (*PARAMETERS, *STATISTICS))
        for part in STATISTICS:
            if (partial or name == _IDENTITY) and part not in branch:
                raise missing(operation, f"{name}_{part}", _KNOWN)
    if not any("weight" in b for b in branches.values()):
        raise missing(operation, "square_weight", _KNOWN)
    return branches


def _parted(label: str) -> tuple[str, str]:
    """The branch and the part that a label names; no branch where it names none."""
    for part in _PARTS:
        if label.endswith("_" + part):
            return label[: -len(part) - 1], part
    return "", label


def _refuse_weight(operation: str, name: str, branch: Mapping[str, int]) -> None:
    if name != _IDENTITY:
        raise missing(operation, f"{name}_weight", _KNOWN)
    raise OperationError("M451", f"'{operation}' has no input 'identity_weight'", input=branch["weight"], hint=_KNOWN)


def _first(branches: Branches, part: str, *, default: int | None = None) -> int:
    found = [b[part] for b in branches.values() if part in b]
    return found[0] if found or default is None else default


def _shown(operand: Operand) -> str:
    return f"{operand.dtype.short} {list(operand.shape)}"


def _middle(shape: tuple[int, ...], part: tuple[int, ...]) -> tuple[slice, ...]:
    """Where something of shape `part` lies in the middle of `shape`."""
    starts = [(n - m) // 2 for n, m in zip(shape, part, strict=True)]
    return tuple([slice(s, s + m) for s, m in zip(starts, part, strict=True)])
