"""Caffe's blobs while a net is taken over: names that change their value, and memory that several of them share.

A layer whose top is its bottom writes over it. The tops of Split, Reshape and Flatten are their bottom's memory under another
name or shape, so a layer that works in place on one of them changes what later readers of the others see.
Source: BVLC/caffe net.cpp (AppendTop), split_layer.cpp, reshape_layer.cpp, flatten_layer.cpp (ShareData).
"""

from __future__ import annotations

from porter.dataclass import dataclass
from porter.graph.builder import GraphBuilder, Named, Shape


@dataclass(slots=True)
class Memory:
    """What lies in one piece of memory at this point of the net."""

    content: Named


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob by name: the memory it lies in, and the shape it sees there."""

    name: str
    memory: Memory
    shape: Shape

    def read(self, builder: GraphBuilder) -> Named:
        """The value as it is now, in this blob's shape."""
        return builder.reshape(self.memory.content, self.shape)
