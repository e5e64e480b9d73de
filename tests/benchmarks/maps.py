"""Writes the inputs of the jobs with maps: weight files of shapes that maps are about, and the maps.

    python tests/benchmarks/maps.py FOLDER/NAME     one of FILES or MAPS

Values are random and normal, so that inference has something to go by.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Shape = tuple[int, ...]

WIDTH = 1024
"""Of the encoder's layers."""


def _encoder() -> Iterator[tuple[str, Shape]]:
    """Ten layers of a BERT, named as transformers names them: 160 tensors, 504 MB."""
    dense = {"attention.self.query": (1, 1), "attention.self.key": (1, 1), "attention.self.value": (1, 1)}
    dense |= {"attention.output.dense": (1, 1), "intermediate.dense": (4, 1), "output.dense": (1, 4)}
    for layer in range(10):
        for part, (o, i) in dense.items():
            yield f"encoder.layer.{layer}.{part}.weight", (o * WIDTH, i * WIDTH)
            yield f"encoder.layer.{layer}.{part}.bias", (o * WIDTH,)
        for part, kind in itertools.product(("attention.output", "output"), ("weight", "bias")):
            yield f"encoder.layer.{layer}.{part}.LayerNorm.{kind}", (WIDTH,)


def _kernels() -> Iterator[tuple[str, Shape]]:
    """Convolutions of 512 to 512 channels, 3 by 3: 54 tensors, 510 MB."""
    for stage, layer in itertools.product(range(6), range(9)):
        yield f"stage{stage}.conv{layer}.weight", (512, 512, 3, 3)


def _many() -> Iterator[tuple[str, Shape]]:
    """10,000 small tensors."""
    for names in itertools.product(range(25), range(20), range(5), ("weight", "bias", "mean", "var")):
        yield "m.block{}.layer{}.op{}.{}".format(*names), (4,)


def _resnet() -> Iterator[tuple[str, Shape]]:
    """The convolutions and BatchNorms of ResNet-50, named as torchvision names them: 265 tensors, 94 MB."""
    yield from _normalised("conv1", "bn1", (64, 3, 7, 7))
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        width = 32 << stage
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            yield from _normalised(f"{at}.conv1", f"{at}.bn1", (width, inputs, 1, 1))
            yield from _normalised(f"{at}.conv2", f"{at}.bn2", (width, width, 3, 3))
            yield from _normalised(f"{at}.conv3", f"{at}.bn3", (4 * width, width, 1, 1))
            if block == 0:
                yield from _normalised(f"{at}.downsample.0", f"{at}.downsample.1", (4 * width, inputs, 1, 1))
            inputs = 4 * width


def _normalised(convolution: str, norm: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{convolution}.weight", shape
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{name}", shape[:1]


FILES = {"encoder.safetensors": _encoder, "kernels.safetensors": _kernels, "many.safetensors": _many, "resnet.safetensors": _resnet}


def _fold(convolution: str, norm: str) -> str:
    typed = "".join(c if c != "}" else ":int}" for c in convolution)
    inputs = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
    given = ", ".join([f"weight={typed}.weight", *[f"{label}={norm}.{name}" for label, name in inputs.items()]])
    return f"[{given}] | fold_bn(eps=1e-5) -> [weight={convolution}.weight, bias={convolution}.bias]"


MAPS = {
    "rename.pmap": (
        "encoder.layer.{L:int}.attention.self.{w:query|key|value}.{k}  <-> layers.{L}.attn.{w}.{k}",
        "encoder.layer.{L:int}.attention.output.dense.{k}              <-> layers.{L}.attn.out.{k}",
        "encoder.layer.{L:int}.attention.output.LayerNorm.{k}          <-> layers.{L}.norm1.{k}",
        "encoder.layer.{L:int}.intermediate.dense.{k}                  <-> layers.{L}.mlp.up.{k}",
        "encoder.layer.{L:int}.output.dense.{k}                        <-> layers.{L}.mlp.down.{k}",
        "encoder.layer.{L:int}.output.LayerNorm.{k}                    <-> layers.{L}.norm2.{k}",
    ),
    "turn.pmap": ("{p}.weight : o i h w <-> {p}.kernel : h w i o",),
    "rules.pmap": [
        f"m.block{{b:int}}.layer{i}.op{o}.{{k}} <-> net.{{b}}.x{i}y{o}.{{k}}" for i, o in itertools.product(range(20), range(5))
    ],
    "literal.pmap": [f"{name} <-> net.{name}" for name, _ in _many()],
    "fold.pmap": (
        _fold("conv1", "bn1"),
        _fold("layer{s}.{b}.conv{n}", "layer{s}.{b}.bn{n}"),
        _fold("layer{s}.{b}.downsample.0", "layer{s}.{b}.downsample.1"),
    ),
}


def _write_file(tensors: list[tuple[str, Shape]], path: Path) -> None:
    header, at = {}, 0
    for name, shape in tensors:
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(3)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            values = random.standard_normal(shape, np.float32)
            file.write((abs(values) if name.endswith("running_var") else values).data)


def main(path: Path) -> None:
    """Write what is called like the file."""
    if path.name in MAPS:
        path.write_text("".join([line + "\n" for line in MAPS[path.name]]))
    else:
        _write_file(list(FILES[path.name]()), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
