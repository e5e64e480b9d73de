"""A piece of a network as a small ONNX model: read, joined of several, and changed. The piece itself is never touched: copies are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

Build = Callable[["ir.Model", Sequence[Any]], Sequence[Any]]
"""Makes nodes (`ir.Node`), in a model, of the values that another one reads; the last one's first output takes the place of that one's."""


def numbers(model: ir.Model, *types: str) -> list[int]:
    """Where the nodes of these operators are in the model's order."""
    return [number for number, node in enumerate(model.graph) if node.op_type in types and node.domain in ("", "ai.onnx")]


def attribute(model: ir.Model, number: int, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    found = model.graph[number].attributes.get(name)
    return default if found is None else found.value


def array(model: ir.Model, number: int, position: int) -> NDArray[Any] | None:
    """The constant that a node reads at this position; None where there is none, or where it is computed."""
    import onnx_ir as ir

    inputs = model.graph[number].inputs
    value = inputs[position] if position < len(inputs) else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def edited(
    model: ir.Model,
    number: int,
    *,
    attributes: Mapping[str, Any] | None = None,
    arrays: Mapping[int, NDArray[Any] | None] | None = None,
    kind: str | None = None,
) -> ir.Model:
    """A copy in which a node has other attributes (None: not that one), reads other constants (by position; None: nothing there).

    kind: the operator that it becomes.
    """
    import onnx_ir as ir

    made = _copy(model)
    node = made.graph[number]
    if kind is not None:
        node.op_type = kind
    for name, value in (attributes or {}).items():
        node.attributes.pop(name, None)
        if value is not None:
            node.attributes.add(ir.convenience.convert_attribute(name, value))
    for position, values in (arrays or {}).items():
        if position >= len(node.inputs):
            node.resize_inputs(position + 1)
        node.replace_input_with(position, None if values is None else held(made, values))
    return made


def rebuilt(model: ir.Model, number: int, build: Build) -> ir.Model:
    """A copy in which other nodes stand in a node's place."""
    import onnx_ir as ir

    made = _copy(model)
    node = made.graph[number]
    nodes = list(build(made, node.inputs))
    made.graph.insert_after(node, nodes)
    old, new = node.outputs[0], nodes[-1].outputs[0]
    new.dtype = old.dtype
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    made.graph.remove(node, safe=True)
    new.name = old.name
    for inner in [v for n in nodes for v in n.outputs if v is not new]:
        inner.name = _free(made)
    return made


def held(model: ir.Model, values: NDArray[Any]) -> ir.Value:
    """A new initialiser of the model."""
    import numpy as np
    import onnx_ir as ir

    name = _free(model)
    kept = np.asarray(values, order="C")
    tensor = ir.tensor(kept, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(kept.shape), const_value=tensor)
    model.graph.initializers.add(value)
    return value


def joined(pieces: Sequence[ir.Model], inputs: Sequence[str], output: str) -> ir.Model | None:
    """The pieces one after the other, each reading what those before it made, as one model that makes `output`.

    inputs: what is given, by name; the model's inputs are those of them that it needs. None where a node holds a graph of its own.
    """
    import onnx_ir as ir

    known: dict[str, ir.Value] = {}
    taken: set[str] = {v.name or "" for piece in pieces for v in (*piece.graph.inputs, *piece.graph.outputs)}
    for piece in pieces:
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for node in piece.graph for a in node.attributes.values()):
            return None
        ends = {v.name or "" for v in piece.graph.outputs}
        local = {v: known.setdefault(v.name or "", ir.Value(name=v.name, type=v.type)) for v in piece.graph.inputs}
        local |= {
            v: ir.Value(name=_apart(v.name, taken), type=v.type, const_value=v.const_value) for v in piece.graph.initializers.values()
        }
        for node in piece.graph:
            outputs = [ir.Value(name=v.name if v.name in ends else _apart(v.name, taken), type=v.type) for v in node.outputs]
            local |= dict(zip(node.outputs, outputs, strict=True))
            read = [None if v is None else local[v] for v in node.inputs]
            ir.Node(node.domain, node.op_type, read, node.attributes.values(), outputs=outputs, name=node.name)
        known |= {v.name or "": local[v] for v in piece.graph.outputs}
    nodes = _behind(known[output], frozenset(inputs))
    used = list(dict.fromkeys(v for node in nodes for v in node.inputs if v is not None))
    graph = ir.Graph(
        [v for v in used if v.name in inputs],
        [known[output]],
        nodes=nodes,
        initializers=[v for v in used if v.const_value is not None],
        opset_imports=dict(pieces[0].graph.opset_imports),
        name="piece",
    )
    return ir.Model(graph, ir_version=pieces[0].ir_version)


def _apart(name: str | None, taken: set[str]) -> str:
    """A name for what is inside a piece: it counts in that piece alone."""
    made, number = name or "value", 0
    while made in taken:
        number += 1
        made = f"{name or 'value'}/{number}"
    taken.add(made)
    return made


def _behind(output: ir.Value, known: frozenset[str]) -> list[ir.Node]:
    """The nodes that make `output`, each after those that it reads from."""
    found: dict[ir.Node, None] = {}
    todo: list[tuple[ir.Value, bool]] = [(output, False)]
    while todo:
        value, ready = todo.pop()
        node = None if value.name in known else value.producer()
        if node is None or node in found:
            continue
        if ready:
            found[node] = None
        else:
            todo.append((value, True))
            todo += [(v, False) for v in node.inputs if v is not None]
    return list(found)


def _copy(model: ir.Model) -> ir.Model:
    """A copy without the shapes inside it, which a change may make wrong."""
    made = model.clone()
    for value in _inner(made):
        value.shape = None
    for value in made.graph.inputs:
        value.shape = None
    made.graph.name = made.graph.name or "piece"
    return made


def _inner(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        yield from node.outputs


def _by_name(model: ir.Model) -> dict[str, ir.Value]:
    return {v.name or "": v for v in (*model.graph.inputs, *model.graph.initializers.values(), *_inner(model))}


def _free(model: ir.Model) -> str:
    taken = _by_name(model)
    number = len(taken)
    while f"changed/{number}" in taken:
        number += 1
    return f"changed/{number}"
