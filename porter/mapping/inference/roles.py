"""What names say of a tensor: the layer it is in, and its role there, in one vocabulary for all frameworks."""

from __future__ import annotations

import re
from functools import cache

from porter.tensor import TensorSpec

_ROLES = {
    "weight": "weight weights kernel kernels w filter filters depthwise_kernel pointwise_kernel",
    "bias": "bias biases b",
    "gamma": "gamma scale scales",
    "beta": "beta offset",
    "mean": "running_mean moving_mean mean rolling_mean",
    "variance": "running_var moving_variance moving_var variance var rolling_variance",
    "slope": "slope alpha slopes",
    "scale_factor": "scale_factor",
    "count": "num_batches_tracked",
}
"""What frameworks call the parts of layers. Source: torch.nn (PyTorch 2.x) `BatchNorm2d`, `PReLU`; Keras 2 and 3
`BatchNormalization`, `DepthwiseConv2D`; Caffe's blobs as porter names them; darknet `convolutional_layer` (`rolling_mean`)."""

ROLE_OF_WORD = {word: role for role, words in _ROLES.items() for word in words.split()}

_FAMILY = {"gamma": "weight", "slope": "weight", "beta": "bias"}
_LAST = re.compile(r"(?:(.*)[./|])?([^./|]*?)(?::\d+)?", re.DOTALL)
_WORDS = re.compile(r"\d+|[A-Za-z]+")


@cache
def layer_of(name: str) -> str:
    """What stands before the tensor's own name: `conv1` of `conv1.weight` and `conv1/kernel:0`; empty where there is no such thing."""
    match = _LAST.fullmatch(name)
    return (match[1] or "") if match else ""


def role_of(spec: TensorSpec) -> str | None:
    """What the tensor does in its layer, in one vocabulary for all frameworks; None where nothing says so."""
    known = ROLE_OF_WORD.get((spec.role or "").lower())
    if known is not None:
        return known
    match = _LAST.fullmatch(spec.name)
    return ROLE_OF_WORD.get(match[2].lower()) if match else None


def family_of(spec: TensorSpec) -> str | None:
    """The role, with those as one that frameworks call by the same word: PyTorch's `weight` is a kernel, a gamma or a slope."""
    role = role_of(spec)
    return _FAMILY.get(role or "", role)


@cache
def words(name: str) -> tuple[str, ...]:
    """The words and numbers of a name, in lower case; numbers without leading zeros."""
    return tuple([w.lstrip("0") or "0" if w.isdigit() else w.lower() for w in _WORDS.findall(name)])


def canonical(spec: TensorSpec) -> tuple[str, ...]:
    """The words of a name with what is only habit made equal: a leading `module` or `model`, and the word for the role."""
    found = list(words(layer_of(spec.name)))
    while found and found[0] in ("module", "model"):
        del found[0]
    return (*found, family_of(spec) or "/".join(words(spec.name)[-1:]))
