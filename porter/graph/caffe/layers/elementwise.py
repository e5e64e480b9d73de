"""Layers that work on each element by itself."""

from __future__ import annotations

from porter.graph.caffe.layer import Layer


def relu(layer: Layer) -> None:
    """max(x, 0), or x · negative_slope below zero. Source: BVLC relu_layer.cpp."""
    layer.need_bottoms(1)
    slope = layer.parameters.number("relu_param.negative_slope", 0.0)
    (x,) = layer.bottoms
    if slope == 0:
        layer.put(layer.builder.unary("Relu", x))
    else:
        layer.put(layer.builder.unary("LeakyRelu", x, {"alpha": slope}))
