"""A network as Caffe's files: `deploy.prototxt`, and `deploy.caffemodel` with the weights."""

from __future__ import annotations

import os

from porter.formats.base import WriteOptions
from porter.formats.registry import save_store
from porter.graph.network import Network
from porter.io.atomic import OutputGroup

NET, WEIGHTS = "deploy.prototxt", "deploy.caffemodel"


def write(network: Network, folder: str) -> tuple[str, ...]:
    """Write both files for BVLC Caffe into `folder`. Streams the weights. What is not as in the graph is returned, a line each.

    Raises:
        GraphError: Caffe has no layers for some of the graph's operators, or the graph leaves the batch open.
    """
    return _write(network, folder, "bvlc")


def write_ssd(network: Network, folder: str) -> tuple[str, ...]:
    """The same for the Caffe of SSD."""
    return _write(network, folder, "ssd")


def write_mobilenet_yolo(network: Network, folder: str) -> tuple[str, ...]:
    """The same for the Caffe of MobileNet-YOLO."""
    return _write(network, folder, "mobilenet-yolo")


def _write(network: Network, folder: str, fork: str) -> tuple[str, ...]:
    from porter.graph.caffe_source.emitter import emit

    made = emit(network.model, fork=fork)
    path = os.path.join(folder, NET)
    with OutputGroup() as group:
        group.create(path).write(made.prototxt.encode("utf-8", "surrogateescape"))
    save_store(made.store, os.path.join(folder, WEIGHTS), "caffe", options=WriteOptions(net=path))
    return tuple([notice.message for notice in made.store.notices])
