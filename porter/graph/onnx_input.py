"""An ONNX model as a network to be written as something else. Its values stay in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.errors import GraphError
from porter.formats.registry import open_store
from porter.graph.caffe.importer import LayerRecord
from porter.graph.network import Network

if TYPE_CHECKING:
    import onnx_ir as ir


def read(path: str) -> Network:
    """The network in an ONNX model; its layers are its nodes.

    Raises:
        PorterError: the file is broken, or points at data outside its folder; GraphError where only its graph is.
    """
    import onnx_ir as ir

    # porter's own reader goes first: it checks lengths, types and where external data lies.
    with open_store(path, "onnx") as store:
        size = store.size
        notices = tuple([n.message for n in store.notices])
    try:
        model = ir.load(path)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise GraphError("G046", f"the model's graph cannot be read: {said}", path=path) from error
    return Network(model, "onnx", tuple(_layers(model)), parameters=size, notices=notices)


def _layers(model: ir.Model) -> list[LayerRecord]:
    return [
        LayerRecord(node.name or f"{node.op_type}_{number}", node.op_type, {v.name or "": v.name or "" for v in node.outputs if v.name})
        for number, node in enumerate(model.graph)
    ]
