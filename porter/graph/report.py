"""What taking a network over produced besides its files: every layer's values, what was cut, folded and assumed."""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass
from porter.graph.caffe.importer import ImportedNet, LayerRecord
from porter.tensor import Json


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written, and for which target."""

    path: str
    target: str
    nbytes: int


def layers_json(layers: Sequence[LayerRecord]) -> dict[str, Json]:
    """`layers.json`: every Caffe layer in execution order, with the ONNX value that holds each top right after that layer ran."""
    return {"layers": [{"name": r.name, "type": r.type, "tops": dict(r.tops)} for r in layers]}


def report_json(net: ImportedNet, source: Sequence[str], files: Sequence[WrittenFile]) -> dict[str, Json]:
    """`report.json`: what came in, what came out, and everything that a reader has to know about the way."""
    graph = net.model.graph
    types: dict[str, int] = {}
    for record in net.layers:
        types[record.type] = types.get(record.type, 0) + 1
    return {
        "source": list(source),
        "network": graph.name,
        "opset": net.opset,
        "inputs": [{"name": v.name, "shape": _shape(v)} for v in graph.inputs],
        "outputs": [{"name": v.name, "shape": _shape(v)} for v in graph.outputs],
        "layers": len(net.layers),
        "types": types,
        "nodes": len(graph),
        "parameters": sum(_size(v) for v in graph.initializers.values()),
        "cut": [{"name": c.name, "type": c.type, "reason": c.reason} for c in net.cut],
        "assumed": list(net.assumed),
        "unused_weights": list(net.unused_weights),
        "files": [{"path": f.path, "target": f.target, "bytes": f.nbytes} for f in files],
    }


def _shape(value: object) -> list[int | str]:
    shape = getattr(value, "shape", None)
    return [n if isinstance(n, int) else str(n) for n in shape] if shape is not None else []


def _size(value: object) -> int:
    import math

    return math.prod(n if isinstance(n, int) else 1 for n in _shape(value))
