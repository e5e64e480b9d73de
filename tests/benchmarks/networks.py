"""Synthetic weights with the shapes of ResNet-50 and VGG-16, written by torch and by nothing of ours.

    python tests/benchmarks/networks.py resnet50|vgg16 FILE.pth|FILE.caffemodel

A script of its own: a process that has loaded torch passes its peak memory on to those that it starts.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import torch


def resnet50_shapes() -> OrderedDict[str, tuple[int, ...]]:
    """torchvision's names and shapes: 25.6 million values in 320 tensors."""
    shapes: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def batch_norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (64, 3, 7, 7)
    batch_norm("bn1", 64)
    width_in = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), 1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            for n, shape in enumerate([(width, width_in, 1, 1), (width, width, 3, 3), (width * 4, width, 1, 1)], 1):
                shapes[f"{prefix}.conv{n}.weight"] = shape
                batch_norm(f"{prefix}.bn{n}", shape[0])
            if block == 0:
                shapes[f"{prefix}.downsample.0.weight"] = (width * 4, width_in, 1, 1)
                batch_norm(f"{prefix}.downsample.1", width * 4)
            width_in = width * 4
    shapes["fc.weight"], shapes["fc.bias"] = (1000, 2048), (1000,)
    return shapes


def vgg16_shapes() -> OrderedDict[str, tuple[int, ...]]:
    """torchvision's names and shapes: 138 million values in 32 tensors."""
    shapes: OrderedDict[str, tuple[int, ...]] = OrderedDict()
    width_in, index = 3, 0
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            shapes[f"features.{index}.weight"], shapes[f"features.{index}.bias"] = (width, width_in, 3, 3), (width,)
            width_in = width
        index += 2 if width else 1
    for index, shape in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
        shapes[f"classifier.{index}.weight"], shapes[f"classifier.{index}.bias"] = shape, (shape[0],)
    return shapes


NETWORKS = {"resnet50": resnet50_shapes, "vgg16": vgg16_shapes}


def state_dict(network: str) -> OrderedDict[str, torch.Tensor]:
    """Random normal float32 values; `num_batches_tracked` as int64, as torch has it."""
    torch.manual_seed(0)
    values: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, shape in NETWORKS[network]().items():
        counter = name.endswith("num_batches_tracked")
        values[name] = torch.tensor(1000, dtype=torch.int64) if counter else torch.randn(shape) * 0.05
    return values


def write_pth(network: str, path: Path) -> None:
    """The state_dict as `torch.save` writes it."""
    torch.save(state_dict(network), path)


def write_caffemodel(network: str, path: Path) -> None:
    """The same values as a V2 caffemodel with packed floats, put together on the wire by hand."""
    with path.open("wb") as file:
        file.write(_field(1, network.encode()))
        layers: OrderedDict[str, list[torch.Tensor]] = OrderedDict()
        for name, value in state_dict(network).items():
            if value.dtype == torch.float32:
                layers.setdefault(name.rpartition(".")[0], []).append(value)
        for layer, blobs in layers.items():
            kind = {4: b"Convolution", 2: b"InnerProduct"}.get(blobs[0].dim(), b"BatchNorm")
            body = _field(1, layer.encode()) + _field(2, kind)
            for blob in blobs:
                shape = _field(1, b"".join(_varint(n) for n in blob.shape))
                body += _field(7, _field(7, shape) + _field(5, blob.numpy().tobytes()))
            file.write(_field(100, body))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


if __name__ == "__main__":
    network, path = sys.argv[1], Path(sys.argv[2])
    (write_pth if path.suffix == ".pth" else write_caffemodel)(network, path)
