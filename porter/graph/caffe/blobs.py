"""Caffe's blobs while a net is taken over: names that change their value, and memory that several of them share.

A layer whose top is its bottom writes over it. The tops of Split, Reshape and Flatten are their bottom's memory under another
name or shape, so a layer that works in place on one of them changes what later readers of the others see.
Source: BVLC/caffe net.cpp (AppendTop), split_layer.cpp, reshape_layer.cpp, flatten_layer.cpp (ShareData).
"""

from __future__ import annotations

from porter.dataclass import dataclass, field
from porter.graph.builder import GraphBuilder, Named, Shape

MOST_VALUES = 2**31 - 1
"""That a blob can have. Source: BVLC/caffe blob.cpp, Reshape."""


@dataclass(slots=True)
class Memory:
    """What lies in one piece of memory at this point of the net, and in which shapes the graph has it already."""

    content: Named
    views: dict[Shape, Named] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write(self.content)

    def write(self, value: Named) -> None:
        """Put something else there, for all blobs that lie here."""
        self.content = value
        self.views = {tuple(value.shape): value}

    def read(self, builder: GraphBuilder, shape: Shape) -> Named:
        """What lies there, in this shape."""
        if tuple(shape) not in self.views:
            self.views[tuple(shape)] = builder.reshape(self.content, shape)
        return self.views[tuple(shape)]


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob by name: the memory it lies in, and the shape it sees there."""

    name: str
    memory: Memory
    shape: Shape

    def read(self, builder: GraphBuilder) -> Named:
        """The value as it is now, in this blob's shape."""
        return self.memory.read(builder, self.shape)
