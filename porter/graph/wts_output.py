"""A network's weights as TensorRT's text, `model.wts`, under the names of the PyTorch state; and `model.pmap`, the map to these names."""

from __future__ import annotations

import os

from porter.formats.registry import save_store
from porter.graph.network import Network
from porter.io.atomic import OutputGroup

WEIGHTS, MAP = "model.wts", "model.pmap"


def write(network: Network, folder: str) -> tuple[str, ...]:
    """Write `model.wts`, its sidecar and `model.pmap` into `folder`. Streams; reads the weights once more to prove the map.

    What the map does not make is returned, as a line for the user.

    Raises:
        GraphError: the graph has operators that porter cannot write as PyTorch, so there are no names for its state.
    """
    from porter.graph.torch_source.emitter import emit
    from porter.graph.weights_map import WeightsMap, weights_map
    from porter.mapping.render import dumps

    made = emit(network.model)
    found = weights_map(network.model, made, network.store) if network.store is not None else WeightsMap(made.map, ())
    save_store(made.state, os.path.join(folder, WEIGHTS))
    with OutputGroup() as group:
        group.create(os.path.join(folder, MAP)).write((_heading(network, found.without) + dumps(found.map)).encode())
    if not found.without:
        return ()
    few = ", ".join(found.without[:3]) + (f" and {len(found.without) - 3:,} more" if len(found.without) > 3 else "")
    return (f"{MAP} does not make what is no tensor of the file any more, folded or computed: {few}",)


def _heading(network: Network, without: tuple[str, ...]) -> str:
    of = "the weights that were generated" if network.generated else f"the {'Caffe' if network.source == 'caffe' else 'ONNX'} file"
    lines = [f"# From {of} to model.wts, written by porter."]
    lines += [f"# Not made of the file's tensors alone: {name}" for name in without]
    return "\n".join(lines) + "\n\n"
