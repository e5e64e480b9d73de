"""A network in a lower precision: weights rounded once, casts behind the inputs and before the outputs."""

from __future__ import annotations

from porter.tensorrt.layers import Network


def narrowed(network: Network, dtype: str) -> Network:
    """`network` computing in `dtype`, float16 or bfloat16. Reads all weights."""
    raise NotImplementedError
