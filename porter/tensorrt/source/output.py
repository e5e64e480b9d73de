"""A network as sources that build it on TensorRT, with the weights as text and the manifest of what TensorRT has to hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from porter.formats.registry import save_store
from porter.graph.network import Network
from porter.io.atomic import OutputGroup
from porter.store import TensorStore
from porter.tensorrt import layers

WEIGHTS, MANIFEST = "net.wts", "net.json"


def write_cpp(network: Network, folder: str) -> tuple[str, ...]:
    """Write `net.cpp`, `net.hpp`, `CMakeLists.txt`, `net.wts`, its sidecar and `net.json` into `folder`. Streams the weights.

    What a user has to know is returned, a line each.

    Raises:
        TensorRTError: TensorRT has no layers for a part of the network; all such parts are named.
    """
    return _written(network, folder, cpp_files)


def write_python(network: Network, folder: str) -> tuple[str, ...]:
    """Write `net.py`, `net.wts`, its sidecar and `net.json` into `folder`; else as `write_cpp`.

    Raises:
        TensorRTError: as for `write_cpp`.
    """
    return _written(network, folder, python_files)


def cpp_files(network: layers.Network, title: str) -> dict[str, str]:
    """The C++ sources of a network, by file name. Reads constants of few values.

    Raises:
        TensorRTError: a layer cannot be written.
    """
    from porter.tensorrt.source.calls import calls_of
    from porter.tensorrt.source.cpp import print_cpp
    from porter.tensorrt.source.cpp_program import CMAKE
    from porter.tensorrt.source.structure import structured

    made = print_cpp(network, structured(calls_of(network).calls, network.outputs), title)
    return {"net.cpp": made.source, "net.hpp": made.header, "CMakeLists.txt": CMAKE}


def python_files(network: layers.Network, title: str) -> dict[str, str]:
    """The Python source of a network, by file name. Else as `cpp_files`.

    Raises:
        TensorRTError: a layer cannot be written.
    """
    from porter.tensorrt.source.calls import calls_of
    from porter.tensorrt.source.python import print_python
    from porter.tensorrt.source.structure import structured

    made = calls_of(network, tensors=True)
    return {"net.py": print_python(network, structured(made.calls, network.outputs), title, made)}


def weights_of(network: layers.Network) -> TensorStore:
    """What `net.wts` holds for the sources of a network, in the shapes that their calls take."""
    from porter.tensorrt.source.calls import calls_of, in_file

    shapes: Mapping[str, tuple[int, ...]] = calls_of(network).shapes
    held = [w.tensor for w in layers.stored(network).values() if in_file(w)]
    return TensorStore([t.with_spec(shape=shapes.get(t.name, t.shape), axes=None) for t in held])


def _written(network: Network, folder: str, files_of: Callable[[layers.Network, str], Mapping[str, str]]) -> tuple[str, ...]:
    from porter.tensorrt.checking import net_manifest
    from porter.tensorrt.lowering.lower import lower

    # The .wts file of such a program holds float32.
    lowered = lower(network.model, codes=False)
    files = {name: text.encode() for name, text in files_of(lowered, network.model.graph.name or "A network").items()}
    files[MANIFEST] = net_manifest.dumps(net_manifest.document(lowered, None))
    with OutputGroup() as group:
        for name, data in files.items():
            group.create(os.path.join(folder, name)).write(data)
    save_store(weights_of(lowered), os.path.join(folder, WEIGHTS))
    return (*lowered.notices, "what a GPU does with the network is not known until it runs: kernels round, TF32, fusion")
