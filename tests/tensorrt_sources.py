"""Networks that are written as source: one of all layers, one with hostile names, residual blocks; and what their sources build."""

from __future__ import annotations

import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tensorrt_nets import EXAMPLES, weights

from porter.dataclass import field_names, replace
from porter.formats.base import WriteOptions
from porter.formats.registry import save_store
from porter.tensorrt import layers as l
from porter.tensorrt import package
from porter.tensorrt.checking import net_manifest
from porter.tensorrt.layers import Input, Layer, Network
from porter.tensorrt.live import live
from porter.tensorrt.source.output import cpp_files, python_files, weights_of
from porter.tensorrt.walk import walk

HOSTILE = 'a"b\\c\nd??/e{0}%s\té∑\'"""'
"""A name that no literal may end at."""


def known(network: Network) -> Network:
    """The network with the shapes and types of all tensors, as TensorRT works them out."""
    found = package.find()
    read = walk.read(live.build(network, found).network, found)
    return replace(network, shapes=read.shapes, dtypes=read.dtypes)


HALF = ("half precision", "bfloat16")
FED = ("convolution with a kernel of another layer", "deconvolution with a kernel of another layer")
PRINTED = tuple([name for name in EXAMPLES if name not in HALF + FED])
"""Examples that can be written as source: a .wts file holds float32, and the kernels of others are no weights of theirs."""


def one_of_all(names: Iterable[str]) -> Network:
    """Examples of layers beside each other in one network, all names with a number before them."""
    inputs: list[Input] = []
    layers: list[Layer] = []
    outputs: list[str] = []
    for number, name in enumerate(names):
        example = EXAMPLES[name]
        inputs += [replace(given, name=f"{number}/{given.name}") for given in example.inputs]
        outputs += [f"{number}/{name}" for name in example.outputs]
        for layer in example.layers:
            ins = tuple([f"{number}/{i}" if i else "" for i in layer.inputs])
            outs = tuple([f"{number}/{o}" for o in layer.outputs])
            layers.append(Layer(f"{number}/{layer.name}", _renamed(layer.operation, number), ins, outs))
    return known(Network(tuple(inputs), tuple(layers), tuple(outputs)))


def _renamed(operation: l.Operation, number: int) -> l.Operation:
    held = {n: getattr(operation, n) for n in field_names(operation) if isinstance(getattr(operation, n), l.Weights)}
    return replace(operation, **{n: l.Weights(w.tensor.with_spec(name=f"{number}/{w.tensor.name}")) for n, w in held.items()})


class Builder:
    """Makes small networks, layer by layer."""

    def __init__(self, *shape: int, data: str = "data") -> None:
        self.inputs = (Input(data, "float32", shape),)
        self.layers: list[Layer] = []

    def add(self, name: str, operation: l.Operation, *inputs: str, output: str | None = None) -> str:
        self.layers.append(Layer(name, operation, inputs, (output or name,)))
        return output or name

    def conv(self, x: str, name: str, inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, bias: bool = True) -> str:
        pad = (size // 2, size // 2)
        kernel = weights(f"{name}.weight", outputs, inputs // groups, size, size)
        held = weights(f"{name}.bias", outputs) if bias else None
        return self.add(name, l.Convolution(kernel, held, (stride, stride), (1, 1), pad, pad, groups), x)

    def batch_norm(self, x: str, name: str, channels: int, epsilon: float = 1e-5) -> str:
        rng = np.random.default_rng(len(self.layers))
        values = rng.random((4, channels)).astype(np.float32) + np.float32(0.5)
        roles = ("weight", "bias", "running_mean", "running_var")
        held = [weights(f"{name}.{role}", channels, values=v) for role, v in zip(roles, values, strict=True)]
        weight, bias, mean, variance = values.astype(np.float64)
        scale = weight / np.sqrt(variance + epsilon)
        shift = bias - mean * scale
        norm = l.BatchNorm(*held, epsilon)
        made = [weights(f"{name}.{role}", channels, values=v.astype(np.float32)) for role, v in (("shift", shift), ("scale", scale))]
        return self.add(name, l.Scale("CHANNEL", *made, batch_norm=norm), x)

    def relu(self, x: str, name: str) -> str:
        return self.add(name, l.Activation("RELU"), x)

    def prelu(self, x: str, name: str, channels: int, rank: int = 4) -> str:
        slope = self.add(f"{name}/slope", l.Constant(weights(f"{name}.slope", 1, channels, *(1,) * (rank - 2))))
        return self.add(name, l.ParametricRelu(), x, slope)

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        matrix = self.add(f"{name}/weight", l.Constant(weights(f"{name}.weight", outputs, inputs)))
        product = self.add(f"{name}/product", l.MatrixMultiply("NONE", "TRANSPOSE"), x, matrix)
        bias = self.add(f"{name}/bias", l.Constant(weights(f"{name}.bias", 1, outputs)))
        return self.add(name, l.Elementwise("SUM"), product, bias)

    def pool(self, x: str, name: str, kind: str = "MAX") -> str:
        return self.add(name, l.Pooling(kind, (2, 2), (2, 2), (0, 0), (0, 0)), x)

    def network(self, *outputs: str) -> Network:
        return known(Network(self.inputs, tuple(self.layers), outputs))


def lenet() -> Network:
    b = Builder(1, 1, 28, 28)
    x = b.pool(b.conv("data", "conv1", 1, 4, 5), "pool1")
    x = b.pool(b.conv(x, "conv2", 4, 8, 5), "pool2")
    x = b.add("flatten", l.Shuffle(shape=(0, -1)), x)
    x = b.linear(b.relu(b.linear(x, "ip1", 392, 16), "relu1"), "ip2", 16, 10)
    return b.network(b.add("prob", l.Softmax(1), x))


def mtcnn() -> Network:
    """With two outputs, and a layer whose name is no identifier."""
    b = Builder(1, 3, 12, 12)
    x = b.pool(b.prelu(b.conv("data", "conv1", 3, 10), "PReLU1", 10), "pool1")
    x = b.prelu(b.conv(x, "conv2", 10, 16), "PReLU2", 16)
    return b.network(b.add("prob1", l.Softmax(1), b.conv(x, "conv4-1", 16, 2, 1)), b.conv(x, "conv4-2", 16, 4, 1))


def residual(blocks: tuple[int, ...] = (3, 2, 2)) -> Network:
    """A small ResNet in Caffe's names; each stage begins with a block of another stride and a projection."""
    b = Builder(2, 3, 32, 32)
    x, channels = b.relu(b.batch_norm(b.conv("data", "conv1", 3, 8, bias=False), "bn_conv1", 8), "conv1_relu"), 8
    for stage, count in enumerate(blocks, 2):
        for number in range(count):
            name, wide, stride = f"{stage}{'abcdef'[number]}", 8 * stage, 2 if number == 0 and stage > 2 else 1
            around = x
            if number == 0:
                around = b.batch_norm(b.conv(x, f"res{name}_branch1", channels, wide, 1, stride, bias=False), f"bn{name}_branch1", wide)
            sizes = ((channels, 4 * stage, 1, stride), (4 * stage, 4 * stage, 3, 1), (4 * stage, wide, 1, 1))
            for part, (inputs, outputs, size, step) in zip("abc", sizes, strict=True):
                x = b.conv(x, f"res{name}_branch2{part}", inputs, outputs, size, step, bias=False)
                x = b.batch_norm(x, f"bn{name}_branch2{part}", outputs)
                x = b.relu(x, f"res{name}_branch2{part}_relu") if part != "c" else x
            x, channels = b.relu(b.add(f"res{name}", l.Elementwise("SUM"), around, x), f"res{name}_relu"), wide
    return b.network(x)


def hostile() -> Network:
    """Every name is `HOSTILE`, and what follows."""
    b = Builder(1, 3, 8, 8, data=HOSTILE)
    held = [w.tensor.with_spec(name="".join(f"{HOSTILE}{r}".split())) for r, w in (("w", weights("w", 4, 3, 1, 1)), ("b", weights("b", 4)))]
    conv = l.Convolution(*[l.Weights(t) for t in held], (1, 1), (1, 1), (0, 0), (0, 0))
    x = b.add(f"{HOSTILE} conv", conv, HOSTILE)
    return b.network(b.relu(x, f"{HOSTILE} relu"))


def write(network: Network, folder: Path, *, cpp: bool = False) -> Path:
    """All files of a network as `porter port` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (cpp_files if cpp else python_files)(network, "a network").items():
        (folder / name).write_text(text)
    save_store(weights_of(network), folder / "net.wts", options=WriteOptions(overwrite=True))
    (folder / "net.json").write_bytes(net_manifest.dumps(net_manifest.document(network, None)))
    return folder


def module(text: str, path: Path = Path("net.py")) -> Any:
    """A source as a module."""
    made = types.ModuleType("net")
    made.__file__ = str(path)
    exec(compile(text, str(path), "exec"), made.__dict__)
    return made


def built(network: Network) -> Network:
    """What the Python source of a network builds, read back."""
    found = package.find()
    builder = found.module.Builder(found.logger)
    definition = builder.create_network(found.creation_flags)
    held = {t.name: t.numpy() for t in weights_of(network).values()}
    module(python_files(network, "a network")["net.py"]).build(definition, held)
    errors = found.log.errors()
    assert errors == []
    return walk.read(definition, found)
