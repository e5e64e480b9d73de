"""Layers of unknown types, left as nodes of the domain `caffe`."""

from __future__ import annotations

from porter.graph.caffe.layer import Layer


def as_custom_node(layer: Layer) -> None:
    """Refuse what has no known shape: a node of another domain needs one, and only its author knows it."""
    raise layer.error(
        "G035",
        "the shape of what it makes is not known",
        hint="'--custom my_layers.py' can leave it as a node of the domain 'caffe' with a shape that it says",
    )
