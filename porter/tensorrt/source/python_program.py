"""What surrounds the layers in `net.py`: the loader of the weights, the check, and the program."""

from __future__ import annotations

IMPORTS = """\
import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

try:
    import tensorrt as trt
except ImportError:
    import tensorrt_rtx as trt
"""

NAMED = '''\
{others}def named(layer, name):
    """What a new layer makes, after it got its name: a tensor, or several."""
    if layer is None:
        raise RuntimeError(f"TensorRT refuses the layer {{name!r}}; its log says why")
    layer.name = name
{tensor}    outputs = tuple(layer.get_output(i) for i in range(layer.num_outputs))
    return outputs[0] if len(outputs) == 1 else outputs
'''

TENSOR = """\
    if layer.num_outputs == 1{known}:
        layer.get_output(0).name = {name}
"""

PROGRAM = '''\
def load(path):
    """The tensors of a .wts file: a line each of name, count and values as hexadecimal."""
    found = {}
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\\n") as file:
        total = int(file.readline())
        for number, line in enumerate(file, 2):
            if not line.strip():
                continue
            name, count, *values = line.split(maxsplit=2)
            try:
                data = bytes.fromhex(values[0] if values else "")
            except ValueError as error:
                raise ValueError(f"line {number}, {name!r}: {error}") from error
            if name in found or len(data) != 4 * int(count):
                raise ValueError(f"line {number}, {name!r}: not {count} values")
            found[name] = np.frombuffer(data, ">u4").astype("=u4").view(np.float32)
    if len(found) != total:
        raise ValueError(f"{total} tensors are stated and {len(found)} are there")
    return found


ROLES = {
    "CONVOLUTION": ("IConvolutionLayer", ["kernel", "bias"]),
    "DECONVOLUTION": ("IDeconvolutionLayer", ["kernel", "bias"]),
    "SCALE": ("IScaleLayer", ["shift", "scale", "power"]),
    "CONSTANT": ("IConstantLayer", ["weights"]),
}


def held(layer):
    """The weights that TensorRT holds for a layer, by role, as bytes."""
    kind, roles = ROLES.get(layer.type.name, ("ILayer", []))
    layer.__class__ = getattr(trt, kind)
    found = {role: np.asarray(getattr(layer, role)) for role in roles}
    return {role: values.tobytes() for role, values in found.items() if values.size}


def check(network, weights, manifest, verbose=False):
    """Compare what TensorRT holds with the manifest, and copies with the file: faults."""
    stated = {entry["name"]: entry["weights"] for entry in manifest["layers"]}
    faults = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        there = held(layer)
        expected = {entry["role"]: entry for entry in stated.pop(layer.name, [])}
        wrong = []
        for role in sorted(expected.keys() | there.keys()):
            entry, data = expected.get(role), there.get(role)
            same = entry is not None and data is not None
            same = same and hashlib.sha256(data).hexdigest() == entry["sha256"]
            if same and entry["tensor"] in weights:
                same = weights[entry["tensor"]].tobytes() == data
            if not same:
                wrong.append(f"{layer.name}: {role} is not what it should be")
        faults += wrong
        if verbose:
            verdict = "NOT equal" if wrong else "equal" if there else "-"
            print(f"{layer.name}  {', '.join(there)}  {verdict}")
    return faults + [f"{name}: there is no such layer" for name in stated]


def program(words):
    """Build, read all weights back, compare, and write the engine: 0 equal, 1 not, 2 an error.

    No GPU is needed for that; what kernels round, TF32 and fusion only a GPU shows.
    """
    given = argparse.ArgumentParser(description=program.__doc__)
    given.add_argument("weights", help="the .wts file")
    given.add_argument("-o", dest="engine", help="write the engine")
    given.add_argument("--manifest", default=Path(__file__).with_name("net.json"))
    given.add_argument("-v", dest="verbose", action="store_true", help="a line a layer")
    said = given.parse_args(words)
    try:
        weights = load(said.weights)
        manifest = json.loads(Path(said.manifest).read_text("utf-8"))
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        flags = trt.NetworkDefinitionCreationFlag
        old = int(trt.__version__.split(".")[0]) < 10 and trt.__name__ == "tensorrt"
        flag = flags.EXPLICIT_BATCH if old else flags.STRONGLY_TYPED
        network = builder.create_network(1 << int(flag))
        build(network, weights)
        faults = check(network, weights, manifest, said.verbose)
        if said.engine and not faults:
            engine = builder.build_serialized_network(
                network, builder.create_builder_config()
            )
            if engine is None:
                raise RuntimeError("TensorRT builds no engine; its log says why")
            Path(said.engine).write_bytes(engine)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for fault in faults:
        print(fault)
    verdict = f"NOT equal, {len(faults)} faults" if faults else "equal, bit for bit"
    print(f"{network.num_layers} layers: {verdict}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
'''
