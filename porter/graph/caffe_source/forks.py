"""The Caffes that a network can be written for: which layers each has beyond those that all of them have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from porter.errors import UsageError

FORKS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        # Source: BVLC/caffe src/caffe/layers at 9b891540183d, weiliu89/caffe (branch ssd), eric612/MobileNet-YOLO.
        "bvlc": frozenset({"Clip"}),
        "ssd": frozenset({"Permute"}),
        "mobilenet-yolo": frozenset({"Permute", "ReLU6"}),
    }
)
"""Layers by the name of the fork, of those that porter writes."""


def layers_of(fork: str) -> frozenset[str]:
    """The layers of `fork` that not every Caffe has.

    Raises:
        UsageError: porter does not know it.
    """
    if fork not in FORKS:
        raise UsageError("U934", f"there is no Caffe called '{fork}'", hint=f"porter knows {', '.join(FORKS)}")
    return FORKS[fork]
