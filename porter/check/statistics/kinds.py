"""What a tensor is to its network: a parameter, a buffer that training fills, or a counter."""

from __future__ import annotations

import math
from typing import Literal

from porter.tensor import TensorSpec

Kind = Literal["parameter", "buffer", "counter"]

KINDS: tuple[Kind, ...] = ("parameter", "buffer", "counter")

BUFFERS = frozenset(
    (
        *("running_mean", "running_var", "mean", "variance", "var", "moving_mean", "moving_variance", "scale_factor"),
        *("position_ids", "inv_freq", "anchors", "anchor_grid", "relative_position_index", "attn_mask"),
    )
)
"""Roles, and last parts of names, of what is measured or laid down and not trained.

Source: pytorch `torch/nn/modules/batchnorm.py` (2.x); BVLC/caffe `src/caffe/layers/batch_norm_layer.cpp` at 9b891540183d, whose
three blobs porter calls mean, variance and scale_factor; keras `BatchNormalization` (2.x and 3.x).
"""

COUNTERS = frozenset(
    ("num_batches_tracked", "num_updates", "global_step", "iterations", "iteration", "step", "steps", "epoch", "n_averaged")
)


def kind_of(spec: TensorSpec) -> Kind:
    """What `spec` is, by its role, else by its name, else by its type.

    By its type: integers that are no weights, and booleans, are buffers, a single integer is a counter.
    """
    last = spec.name.replace("/", ".").rpartition(".")[2].partition(":")[0]
    words = {word for word in (spec.role, last) if word is not None}
    if words & COUNTERS:
        return "counter"
    if words & BUFFERS:
        return "buffer"
    if spec.dtype.kind in ("float", "complex") or words & {"weight", "kernel", "bias", "qweight"}:
        return "parameter"
    return "counter" if math.prod(spec.shape) == 1 and spec.dtype.kind in ("int", "uint") else "buffer"
