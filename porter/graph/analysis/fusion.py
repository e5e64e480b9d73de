"""Nodes that one layer of a framework does together: a BatchNormalization and the scale behind it, a product and the bias behind it.

Only where nothing else reads what lies between.
"""

from __future__ import annotations

from porter.dataclass import replace
from porter.graph.analysis.values import Constant, Network, Node, Size, Value


def fuse(network: Network) -> None:
    """Join nodes of `network`, in place."""
    readers = _readers(network)
    gone: set[int] = set()
    joined: dict[int, Node] = {}
    for node in network.nodes:
        if node.domain or id(node) in gone:
            continue
        if node.op_type == "BatchNormalization" and len(node.inputs) == 5 and _is_plain(node, network):
            made, taken = _with_scale(node, network, readers)
        elif node.op_type == "MatMul":
            made, taken = _with_bias(node, network, readers)
        else:
            continue
        if taken:
            # The first node stands where the last one stood: what that reads besides is constant.
            joined[id(node)] = made
            gone.update(id(n) for n in taken)
    network.nodes = [joined.get(id(n), n) for n in network.nodes if id(n) not in gone]


def _readers(network: Network) -> dict[str, list[Node | None]]:
    """The nodes that read each value; None stands for what is no node of this graph."""
    readers: dict[str, list[Node | None]] = {}
    for node in network.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
        for body in node.graphs.values():
            for name in (*body.outputs, *(n for inner in body.nodes for n in inner.inputs)):
                readers.setdefault(name, []).append(None)
    for name in network.outputs:
        readers.setdefault(name, []).append(None)
    for value in network.values.values():
        for element in value.elements or ():
            if isinstance(element, Size):
                for name in element.values():
                    readers.setdefault(name, []).append(None)
    return readers


def _follower(node: Node, op_type: str, network: Network, readers: dict[str, list[Node | None]]) -> tuple[Node, Constant, str] | None:
    """The only reader of what `node` makes, if it is an `op_type` with a constant: it, the constant, and the constant's name."""
    found = readers.get(node.outputs[0], [])
    reader = found[0] if len(found) == 1 else None
    if reader is None or reader.op_type != op_type or reader.domain or len(reader.inputs) != 2 or reader.version < 7:
        return None
    other = reader.inputs[1 - reader.inputs.index(node.outputs[0])]
    constant = network.values[other].constant if other in network.values else None
    return (reader, constant, other) if constant is not None else None


def _is_plain(node: Node, network: Network) -> bool:
    """Whether the scale and the bias change nothing."""
    constants = [network.values[name].constant if name in network.values else None for name in node.inputs[1:3]]
    scale, bias = constants
    return scale is not None and bias is not None and bool((scale.array() == 1).all()) and bool((bias.array() == 0).all())


def _with_scale(node: Node, network: Network, readers: dict[str, list[Node | None]]) -> tuple[Node, list[Node]]:
    x = network.values[node.inputs[0]]
    if x.rank is None or x.rank < 2 or len(node.outputs) != 1:
        return node, []
    channels = x.shape[1] if x.shape is not None else None
    taken: list[Node] = []
    for index, op_type in ((1, "Mul"), (2, "Add")):
        found = _follower(node, op_type, network, readers)
        vector = _by_channel(found[1], x.rank, channels) if found is not None else None
        if found is None or vector is None:
            if index == 1:
                return node, []
            break
        name = f"{found[2]}, for each channel"
        network.values[name] = Value(name, vector.dtype, vector.shape, vector)
        inputs = list(node.inputs)
        inputs[index] = name
        node = replace(node, inputs=tuple(inputs), outputs=found[0].outputs)
        taken.append(found[0])
    return node, taken


def _by_channel(constant: Constant, rank: int, channels: object) -> Constant | None:
    """A constant that lies over the channels and nothing else, as a vector."""
    shape = (1,) * (rank - len(constant.shape)) + constant.shape
    if len(shape) != rank or shape[1] != channels or constant.size != channels:
        return None
    return constant.reshaped((constant.size,))


def _with_bias(node: Node, network: Network, readers: dict[str, list[Node | None]]) -> tuple[Node, list[Node]]:
    weight = network.values[node.inputs[1]].constant if node.inputs[1] in network.values else None
    if weight is None or len(weight.shape) != 2 or not weight.dtype.startswith(("float", "bfloat")):
        return node, []
    found = _follower(node, "Add", network, readers)
    rank = network.values[node.inputs[0]].rank
    if found is None or found[1].shape != (weight.shape[1],) or rank is None or rank < 1:
        return node, []
    return replace(node, inputs=(*node.inputs, found[2]), outputs=found[0].outputs), [found[0]]
