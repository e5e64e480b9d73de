"""The network that the tensors of a weight file belong to, where the file says it: an ONNX model, a Caffe net."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.formats.caffe.layers import NET
from porter.formats.caffe.net import CaffeNet, net_from_prototxt, net_from_tree
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir


def graph_of(store: TensorStore, net: str | None) -> ir.Model | None:
    """The graph over the tensors of `store`, whose values stay in the file; None for a file that holds tensors alone.

    net: the prototxt of a Caffe file; None takes the net that a caffemodel has in itself.

    Raises:
        PorterError: the network cannot be taken over.
    """
    source = store.source
    if source is not None and (source.format, source.dialect) == ("onnx", "model"):
        from porter.graph.onnx_input import read

        return read(source.path, store).model
    caffe = caffe_net(store, net)
    if caffe is None:
        return None
    from porter.graph.caffe.importer import ImportOptions, import_net

    return import_net(caffe, store, ImportOptions()).model


def caffe_net(store: TensorStore, net: str | None) -> CaffeNet | None:
    """The Caffe net of a file: that in the prototxt `net`, else its own; None where it has none.

    Raises:
        FormatError: it is no net.
    """
    if net is not None:
        return net_from_prototxt(net)
    return _from_bytes(store.attachments[NET]) if store.attachments.get(NET) else None


def _from_bytes(data: bytes) -> CaffeNet:
    """A NetParameter as the net that the same text would be. Fields that porter's schema of Caffe lacks are left out."""
    from google.protobuf import text_format

    from porter.formats.caffe.prototxt import parse
    from porter.io.protobuf_messages import message_classes

    message = message_classes("caffe.binpb")["caffe.NetParameter"]()
    message.ParseFromString(bytes(data))
    return net_from_tree(parse(text_format.MessageToString(message)))
