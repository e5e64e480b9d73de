"""Activations."""

from __future__ import annotations

from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op

_PLAIN = {"Relu": "RELU", "Sigmoid": "SIGMOID", "Tanh": "TANH", "Softsign": "SOFTSIGN"}


def activation(op: Op) -> None:
    """One layer, or a few where TensorRT has none."""
    op.put(layers.Activation(_PLAIN[op.node.op_type]), [op.tensor(0)])
