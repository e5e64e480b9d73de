"""What taking a network over produced besides its files: every layer's values, what was cut, folded and assumed."""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass
from porter.graph.caffe.importer import ImportedNet, LayerRecord
from porter.graph.network import Network
from porter.store import TensorStore
from porter.tensor import Json


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written: its name in the folder, and for which target."""

    name: str
    target: str
    nbytes: int


def parameters_of(net: ImportedNet, store: TensorStore | None) -> int:
    """How many values the weights of the layers have that were taken over; None: generated ones."""
    if store is not None:
        left_out = set(net.unused_weights)
        return sum(tensor.size for tensor in store.values() if tensor.attributes.get("caffe.layer") not in left_out)
    import onnx_ir as ir

    return sum(v.const_value.size for v in net.model.graph.initializers.values() if isinstance(v.const_value, ir.LazyTensor))


def layers_json(layers: Sequence[LayerRecord]) -> dict[str, Json]:
    """`layers.json`: every layer in execution order, with the ONNX value that holds each top right after that layer ran."""
    return {"layers": [{"name": r.name, "type": r.type, "tops": dict(r.tops)} for r in layers]}


def report_json(network: Network, source: str, weights: str | None, files: Sequence[WrittenFile]) -> dict[str, Json]:
    """`report.json`: what came in, what came out, and everything that a reader has to know about the way."""
    from porter import __version__

    graph = network.model.graph
    types: dict[str, int] = {}
    for record in network.layers:
        types[record.type] = types.get(record.type, 0) + 1
    return {
        "porter": __version__,
        "source": {"path": source, "kind": network.source, "weights": weights, "generated": network.generated},
        "network": graph.name or "",
        "opset": network.opset,
        "inputs": [{"name": v.name, "shape": shape_of(v)} for v in graph.inputs if v.name not in graph.initializers],
        "outputs": [{"name": v.name, "shape": shape_of(v)} for v in graph.outputs],
        "layers": len(network.layers),
        "types": types,
        "nodes": len(graph),
        "parameters": network.parameters,
        "cut": [{"name": c.name, "type": c.type, "reason": c.reason} for c in network.cut],
        "folded": [{"into": f.into, "nodes": list(f.nodes)} for f in network.folded],
        "vanished": [{"layer": layer, "top": top} for layer, top in network.vanished],
        "preprocessing": [p.to_json() for p in network.preprocessing],
        "assumed": list(network.assumed),
        "unused_weights": list(network.unused_weights),
        "notices": list(network.notices),
        "files": [{"name": f.name, "target": f.target, "bytes": f.nbytes} for f in files],
    }


def shape_of(value: object) -> list[int | str | None] | None:
    """The shape of an input or output: sizes, names of open dimensions, None for what is not known."""
    shape = getattr(value, "shape", None)
    return None if shape is None else [n if isinstance(n, int) else getattr(n, "value", None) for n in shape]
