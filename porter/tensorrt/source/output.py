"""A network as sources that build it on TensorRT, with the weights as text and the manifest of what TensorRT has to hold."""

from __future__ import annotations

import os

from porter.formats.registry import save_store
from porter.graph.network import Network
from porter.io.atomic import OutputGroup
from porter.store import TensorStore
from porter.tensorrt import layers
from porter.tensorrt.source.call import Program

WEIGHTS, MANIFEST = "net.wts", "net.json"


def write_cpp(network: Network, folder: str) -> tuple[str, ...]:
    """Write `net.cpp`, `net.hpp`, `CMakeLists.txt`, `net.wts`, its sidecar and `net.json` into `folder`. Streams the weights.

    What a user has to know is returned, a line each.

    Raises:
        TensorRTError: TensorRT has no layers for a part of the network; all such parts are named.
    """
    from porter.tensorrt.source.cpp import print_cpp
    from porter.tensorrt.source.cpp_program import CMAKE

    lowered, program = _program(network)
    made = print_cpp(lowered, program, _title(network))
    return _written(lowered, folder, {"net.cpp": made.source, "net.hpp": made.header, "CMakeLists.txt": CMAKE})


def write_python(network: Network, folder: str) -> tuple[str, ...]:
    """Write `net.py`, `net.wts`, its sidecar and `net.json` into `folder`; else as `write_cpp`.

    Raises:
        TensorRTError: as for `write_cpp`.
    """
    from porter.tensorrt.source.python import print_python

    lowered, program = _program(network)
    return _written(lowered, folder, {"net.py": print_python(lowered, program, _title(network))})


def _title(network: Network) -> str:
    return network.model.graph.name or "A network"


def _program(network: Network) -> tuple[layers.Network, Program]:
    from porter.tensorrt.lowering.lower import lower
    from porter.tensorrt.source.calls import calls_of
    from porter.tensorrt.source.structure import structured

    lowered = lower(network.model)
    return lowered, structured(calls_of(lowered), lowered.outputs)


def _written(lowered: layers.Network, folder: str, texts: dict[str, str]) -> tuple[str, ...]:
    from porter.tensorrt import net_manifest
    from porter.tensorrt.source.calls import in_file

    manifest = net_manifest.dumps(net_manifest.document(lowered, None))
    with OutputGroup() as group:
        for name, data in {**{n: t.encode() for n, t in texts.items()}, MANIFEST: manifest}.items():
            group.create(os.path.join(folder, name)).write(data)
    held = [w.tensor for w in layers.stored(lowered).values() if in_file(w)]
    save_store(TensorStore(held), os.path.join(folder, WEIGHTS))
    return (*lowered.notices, "what a GPU does with the network is not known until it runs: kernels round, TF32, fusion")
