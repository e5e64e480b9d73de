"""The small number that batch normalisation adds to the variance: what a file says that it is, and what casts make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.precision.rounding import Rounder, limits
from porter.check.precision.targets import Target
from porter.dataclass import dataclass
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.tensor import TensorSpec

USUAL = 1e-5
"""Caffe's, ONNX's and PyTorch's, where nothing else is said."""

_KERAS = 1e-3
"""Source: keras `BatchNormalization` (2.x and 3.x), `epsilon`."""


@dataclass(frozen=True, slots=True)
class Epsilon:
    """What a cast makes of an epsilon. becomes: None where it overflows. assumed: nothing says that it is this one."""

    target: str
    eps: float
    becomes: float | None
    subnormal: bool
    assumed: bool


def epsilons(targets: Sequence[Target], eps: float, *, assumed: bool = True) -> list[Epsilon]:
    """What casts to these types make of `eps`."""
    import numpy as np

    found = []
    for target in targets:
        if target.layout is not None:
            at = limits(target.layout)
            fits = eps <= at.largest
            becomes = float(Rounder(target.layout, True).rounded(np.array([eps]), np.empty(1))[0]) if fits else None
            found.append(Epsilon(target.name, eps, becomes, at.zero < eps < at.subnormal, assumed))
    return found


class StatedEpsilons:
    """What the description of the layers beside the weights says, which Caffe's and Keras' files have."""

    def __init__(self, store: TensorStore, net: str | None) -> None:
        """net: the prototxt of a Caffe file.

        Raises:
            FormatError: it is no net.
        """
        self._by_layer = {**dict(_keras(store)), **dict(_caffe(store, net))}

    def of(self, spec: TensorSpec) -> float | None:
        """That of the normalisation whose tensor this is; None where nothing is said."""
        layer = spec.attributes.get("caffe.layer", spec.attributes.get("keras.layer"))
        return self._by_layer.get(layer) if isinstance(layer, str) else None


def _caffe(store: TensorStore, net: str | None) -> Iterator[tuple[str, float]]:
    import numpy as np

    from porter.graph.weight_file import caffe_net

    found = caffe_net(store, net)
    for layer in found.by_name().values() if found is not None else ():
        if layer.type == "BatchNorm":
            eps = layer.parameter("batch_norm_param.eps")
            yield layer.name, float(np.float32(eps)) if isinstance(eps, float | int) else USUAL


def _keras(store: TensorStore) -> Iterator[tuple[str, float]]:
    config = store.attachments.get("keras.model_config")
    if config:
        try:
            yield from _normalisations(json.loads(bytes(config)))
        except ValueError:
            return  # the reader of the weights has said what is wrong with it


def _normalisations(config: Any) -> Iterator[tuple[str, float]]:
    if isinstance(config, Mapping):
        inner = config.get("config")
        if config.get("class_name") == "BatchNormalization" and isinstance(inner, Mapping):
            yield str(inner.get("name")), float(inner.get("epsilon", _KERAS))
        for value in config.values():
            yield from _normalisations(value)
    elif isinstance(config, list):
        for value in config:
            yield from _normalisations(value)
