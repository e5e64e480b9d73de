"""A network as PyTorch: `model.py`, the source, and `model.pth`, the state that it loads."""

from __future__ import annotations

import os

from porter.formats.registry import save_store
from porter.graph.network import Network

SOURCE, STATE = "model.py", "model.pth"


def write(network: Network, folder: str) -> None:
    """Write `model.py` and `model.pth` into `folder`. Streams the weights.

    Raises:
        GraphError: the graph has operators that porter cannot write as PyTorch.
    """
    from porter.graph.torch_source.emitter import emit
    from porter.io.atomic import OutputGroup

    made = emit(network.model)
    with OutputGroup() as group:
        group.create(os.path.join(folder, SOURCE)).write(made.text.encode())
    save_store(made.state, os.path.join(folder, STATE))
