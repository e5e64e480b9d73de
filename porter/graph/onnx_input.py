"""An ONNX model as a network to be written as something else. Its values stay in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.errors import GraphError
from porter.graph.caffe.importer import LayerRecord
from porter.graph.network import Network
from porter.graph.onnx_output import without_values
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir


def read(path: str, store: TensorStore) -> Network:
    """The network in an ONNX model; its layers are its nodes. `store`: its weights, read by porter, which checked lengths and paths.

    Raises:
        GraphError: the onnx package cannot read the graph, or finds it broken.
    """
    import onnx_ir as ir

    # What a reader of weights says of the graph that it leaves is not so here.
    notices = tuple([n.message for n in store.notices if n.kind != "note"])
    try:
        _check(path)
        model = ir.load(path)
        # Names that are no UTF-8 come as bytes, and show here.
        without_values(model)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise GraphError("G046", f"the model's graph cannot be read: {said}", path=path) from error
    return Network(model, "onnx", tuple(_layers(model)), parameters=store.size, notices=notices, store=store)


def _check(path: str) -> None:
    """ONNX's own check. It wants a shape of every output, which exporters leave out, and which follows from the rest."""
    import onnx

    try:
        # By its path, since a model may be larger than the memory that Python's reader of messages takes.
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        if "Field 'shape' of 'type' is required" not in str(error):
            raise
        proto = onnx.load(path, load_external_data=False)
        for value in (v for v in proto.graph.output if not v.type.tensor_type.HasField("shape")):
            value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(proto)


def _layers(model: ir.Model) -> list[LayerRecord]:
    return [
        LayerRecord(node.name or f"{node.op_type}_{number}", node.op_type, {v.name or "": v.name or "" for v in node.outputs if v.name})
        for number, node in enumerate(model.graph)
    ]
